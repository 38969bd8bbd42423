"""Dropout that draws 16 random bits for a number."""

import keras
import tensorflow as tf

_LEVELS = 2**16


@keras.saving.register_keras_serializable("kzoo")
class Dropout(keras.layers.Dropout):
    """Keras's layer with half of its random bits:

        y = keep x / (1 - rate),    keep = 1 with probability 1 - rate, else 0

    Srivastava et al. (2014), https://jmlr.org/papers/v15/srivastava14a.html. Of 64 random bits four
    numbers are decided, where Keras makes a float32 of 32 bits for each; the rate is a multiple of
    2**-16. Arguments and the state of the random numbers are those of Keras's layer, which this is
    with a `noise_shape`, or a rate nearer to 0 or 1 than that.

    Call arguments:
        inputs: float tensor of any shape.
        training: bool; outside of training nothing is dropped.

    Returns:
        As `inputs`.
    """

    def call(self, inputs, training=False):
        dropped = round(self.rate * _LEVELS)
        if not training or not 0 < dropped < _LEVELS or self.noise_shape is not None:
            return super().call(inputs, training=training)
        # Compiled by XLA, random numbers want seeds in int32; Keras folds them in the same way.
        seed = tf.cast(tf.math.floormod(self.seed_generator.next(), tf.int32.max - 1), tf.int32)
        size = tf.size(inputs)
        drawn = tf.random.stateless_uniform([(size + 3) // 4], seed, None, None, tf.uint64)
        bits = tf.reshape(tf.bitcast(drawn, tf.uint16), [-1])[:size]
        keep = tf.reshape(bits, tf.shape(inputs)) >= dropped
        scale = tf.cast(_LEVELS / (_LEVELS - dropped), inputs.dtype)
        return tf.where(keep, inputs * scale, tf.zeros_like(inputs))
