"""Positional encodings: sinusoidal and learned.

Axis letters: B batch, T steps, D features. Both layers add the encoding of positions
`start, start + 1, ...` to their input, so that a decoder can ask for a single step.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking


def sinusoidal(positions, depth):
    """The sinusoidal encoding, sine and cosine interleaved:

        P(p, 2i) = sin(p / 10000^(2i / depth)),    P(p, 2i + 1) = cos(p / 10000^(2i / depth))

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.5.

    Args:
        positions: (T,) int or float.
        depth: int, number of features; with an odd depth the last one is a sine.

    Returns:
        (T, depth) float32.
    """
    pairs = (depth + 1) // 2
    rates = 10000.0 ** (-2.0 * tf.range(pairs, dtype=tf.float32) / depth)
    angles = tf.cast(positions, tf.float32)[:, None] * rates[None, :]
    interleaved = tf.stack([tf.sin(angles), tf.cos(angles)], axis=-1)  # (T, pairs, 2)
    return tf.reshape(interleaved, (-1, 2 * pairs))[:, :depth]


@keras.saving.register_keras_serializable("kzoo")
class SinusoidalPositions(keras.layers.Layer):
    """x_t + P(start + t), with the sinusoidal P of `sinusoidal`. No weights, any length.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.5.

    Call arguments:
        x: (B, T, D) float, dense or ragged.
        start: int, position of step 0.

    Returns:
        (B, T, D). The mask of `x` passes through.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, x_shape):
        pass

    def call(self, x, start=0):
        x, _ = masking.to_dense(x)
        encoding = sinusoidal(start + tf.range(tf.shape(x)[1]), x.shape[-1])
        return x + tf.cast(encoding, x.dtype)

    def get_config(self):
        # Without an own get_config, Keras refuses to save a layer that was given a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("kzoo")
class LearnedPositions(keras.layers.Layer):
    """x_t + E[start + t], with a learned table E.

    Gehring et al. (2017), https://arxiv.org/abs/1705.03122, section 3.1. Positions past the end
    of the table get its last row.

    Args:
        max_length: int, number of rows of E.

    Call arguments:
        x: (B, T, D) float, dense or ragged.
        start: int, position of step 0.

    Returns:
        (B, T, D). The mask of `x` passes through.

    Raises:
        ValueError: if `max_length` is not positive.
    """

    def __init__(self, max_length, **kwargs):
        super().__init__(**kwargs)
        if max_length < 1:
            raise ValueError(f"`max_length` must be at least 1, got max_length={max_length}.")
        self.max_length = max_length
        self.supports_masking = True

    def build(self, x_shape):
        self.table = self.add_weight(
            shape=(self.max_length, x_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="positions",
        )

    def call(self, x, start=0):
        x, _ = masking.to_dense(x)
        positions = tf.minimum(start + tf.range(tf.shape(x)[1]), self.max_length - 1)
        return x + tf.cast(tf.gather(self.table, positions), x.dtype)

    def get_config(self):
        return {**super().get_config(), "max_length": self.max_length}
