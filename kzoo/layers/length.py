"""Output-length prediction: how many tokens an answer will have, from the memory.

Axis letters: B batch, S source steps, D features.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking


@keras.saving.register_keras_serializable("kzoo")
class LengthHead(keras.layers.Layer):
    """Expected output length: n = S * exp(w . mean(memory) + b), S the number of real steps.

    Poisson regression with the source length as its exposure: the layer learns the logarithm of
    tokens per source step, and predicts S before it has learnt anything. Train it with
    `keras.losses.Poisson()`, n - y log n, the Poisson negative log-likelihood up to a constant, on
    the true lengths y (B,); `beam_search` takes what it returns as `expected_length`.

    Call arguments:
        memory: (B, S, D) float, dense or ragged.
        memory_mask: (B, S) bool, True = real; None means all.
        mask: the same, filled in by Keras when `memory` carries a mask.

    Returns:
        (B,), more than 0. A memory without a real step counts as one step of zeros.

    Example:

    >>> head = kzoo.LengthHead()
    >>> head(tf.ones((2, 7, 3)), memory_mask=tf.sequence_mask([7, 4], 7)).numpy()
    array([7., 4.], dtype=float32)
    >>> model = keras.Sequential([keras.Input((None, 3)), head])
    >>> model.compile(keras.optimizers.Adam(0.1), keras.losses.Poisson())
    >>> history = model.fit(tf.ones((2, 7, 3)), tf.constant([14.0, 14.0]), epochs=50, verbose=0)
    >>> model(tf.ones((2, 7, 3))).numpy().round()
    array([14., 14.], dtype=float32)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True  # takes a mask, and passes none on

    def compute_mask(self, memory, previous_mask=None):
        return None

    def build(self, memory_shape):
        self.kernel = self.add_weight(
            shape=(memory_shape[-1],), initializer="zeros", autocast=False, name="kernel"
        )
        self.bias = self.add_weight(shape=(), initializer="zeros", autocast=False, name="bias")

    def compute_output_shape(self, memory_shape):
        return memory_shape[:1]

    def call(self, memory, memory_mask=None, mask=None):
        memory, mask = masking.to_dense(memory, mask if memory_mask is None else memory_mask)
        mean = masking.masked_mean(tf.cast(memory, tf.float32), mask)
        steps = tf.reduce_sum(tf.cast(mask, tf.float32), 1)
        # An export in bfloat16 has its weights in it.
        kernel, bias = (tf.cast(each.value, tf.float32) for each in (self.kernel, self.bias))
        ratio = tf.exp(tf.linalg.matvec(mean, kernel) + bias)
        return tf.cast(tf.maximum(steps, 1.0) * ratio, self.compute_dtype)

    def get_config(self):
        return super().get_config()  # its own, so that Keras saves any dtype policy
