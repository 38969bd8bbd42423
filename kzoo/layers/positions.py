"""Positions: sinusoidal and learned, added to the input; rotary, relative (T5) and ALiBi, used
inside attention.

Axis letters: B batch, T query steps, S memory steps, D features, H heads, d features of a head.
SinusoidalPositions and LearnedPositions add the encoding of positions `start, start + 1, ...` to
their input, so that a decoder can ask for a single step. The others are AttentionPositions: they
rotate queries and keys or add a bias to the scores, and MultiHeadAttention takes any of them.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking


def sinusoidal(positions, depth, interleaved=True):
    """The sinusoidal encoding, sine and cosine interleaved:

        P(p, 2i) = sin(p / 10000^(2i / depth)),    P(p, 2i + 1) = cos(p / 10000^(2i / depth))

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.5. Or in halves, all sines
    before all cosines, as MarianMTModel of transformers has them: the same features in another
    order. Marian and Tensor2Tensor themselves have the rates 10000^(-i / (depth / 2 - 1)).

    Args:
        positions: (T,) int or float.
        depth: int, number of features; with an odd depth there is a sine more than cosines.
        interleaved: bool, or else in halves.

    Returns:
        (T, depth) float32.
    """
    pairs = (depth + 1) // 2
    rates = 10000.0 ** (-2.0 * tf.range(pairs, dtype=tf.float32) / depth)
    angles = tf.cast(positions, tf.float32)[:, None] * rates[None, :]
    if not interleaved:
        return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)[:, :depth]
    both = tf.stack([tf.sin(angles), tf.cos(angles)], axis=-1)  # (T, pairs, 2)
    return tf.reshape(both, (-1, 2 * pairs))[:, :depth]


@keras.saving.register_keras_serializable("kzoo")
class SinusoidalPositions(keras.layers.Layer):
    """x_t + P(start + t), with the sinusoidal P of `sinusoidal`. No weights, any length.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.5.

    Args:
        interleaved: bool, whether sines and cosines take turns, as in the paper, or stand in
            halves, as in MarianMTModel of transformers.

    Call arguments:
        x: (B, T, D) float, dense or ragged; or dense (..., T, D).
        start: int, position of step 0.

    Returns:
        As `x`, dense. The mask of `x` passes through.

    Example:
        >>> kzoo.SinusoidalPositions()(tf.zeros((1, 1, 4))).numpy()
        array([[[0., 1., 0., 1.]]], dtype=float32)
    """

    def __init__(self, interleaved=True, **kwargs):
        super().__init__(**kwargs)
        self.interleaved = bool(interleaved)
        self.supports_masking = True

    def build(self, x_shape):
        pass

    def call(self, x, start=0):
        x, _ = masking.to_dense(x)
        positions = start + tf.range(tf.shape(x)[-2])
        encoding = sinusoidal(positions, x.shape[-1], self.interleaved)
        return x + tf.cast(encoding, x.dtype)

    def compute_output_shape(self, x_shape):
        return x_shape

    def compute_mask(self, x, previous_mask=None):
        return masking.carried_mask(x, previous_mask)

    def get_config(self):
        return {**super().get_config(), "interleaved": self.interleaved}


@keras.saving.register_keras_serializable("kzoo")
class LearnedPositions(keras.layers.Layer):
    """x_t + E[start + t], with a learned table E.

    Gehring et al. (2017), https://arxiv.org/abs/1705.03122, section 3.1. Positions past the end
    of the table get its last row.

    Args:
        max_length: int, number of rows of E.

    Call arguments:
        x: (B, T, D) float, dense or ragged; or dense (..., T, D).
        start: int, position of step 0.

    Returns:
        As `x`, dense. The mask of `x` passes through.

    Raises:
        ValueError: if `max_length` is not positive.

    Example:
        >>> layer = kzoo.LearnedPositions(max_length=5)
        >>> layer(tf.zeros((2, 3, 4)), start=2).shape
        TensorShape([2, 3, 4])
    """

    def __init__(self, max_length, **kwargs):
        super().__init__(**kwargs)
        checks.at_least(1, max_length=max_length)
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
        positions = tf.minimum(start + tf.range(tf.shape(x)[-2]), self.max_length - 1)
        return x + tf.cast(tf.gather(self.table, positions), x.dtype)

    def compute_output_shape(self, x_shape):
        return x_shape

    def compute_mask(self, x, previous_mask=None):
        return masking.carried_mask(x, previous_mask)

    def get_config(self):
        return {**super().get_config(), "max_length": self.max_length}


def rotate(heads, positions, base=10000.0):
    """Turns each pair of features (2i, 2i + 1) of the vector at position p by an angle:

        y_2i     = x_2i cos(p r_i) - x_2i+1 sin(p r_i)
        y_2i+1   = x_2i sin(p r_i) + x_2i+1 cos(p r_i),    r_i = base^(-2i / d)

    The product of two vectors turned so depends on the difference of their positions alone. Su et
    al. (2021), https://arxiv.org/abs/2104.09864, section 3.4.2. Pairs are interleaved, as there.

    Args:
        heads: (..., T, d) float, d even.
        positions: (T,) int or float. Angles are computed in float32 whatever the dtype of `heads`.
        base: float.

    Returns:
        (..., T, d) in the dtype of `heads`.
    """
    pairs = heads.shape[-1] // 2
    rates = base ** (-np.arange(pairs) / pairs)
    angles = tf.cast(positions, tf.float32)[:, None] * rates.astype("float32")  # (T, pairs)
    cosines = tf.repeat(tf.cos(angles), 2, axis=-1)  # (T, d)
    sines = tf.reshape(tf.stack([-tf.sin(angles), tf.sin(angles)], -1), tf.shape(cosines))
    # Each pair back to front. tf.reverse takes a fifth of the time of x[..., ::2], x[..., 1::2].
    shape = tf.shape(heads)
    swapped = tf.reverse(tf.reshape(heads, tf.concat([shape[:-1], [pairs, 2]], 0)), [-1])
    swapped = tf.reshape(swapped, shape)
    return heads * tf.cast(cosines, heads.dtype) + swapped * tf.cast(sines, heads.dtype)


def relative_buckets(distances, num_buckets=32, max_distance=128, bidirectional=True):
    """Returns the bucket of each distance, as T5 has them: n for each direction, m = floor(n / 2):

        bucket(x) = x                                                                  for x < m
        bucket(x) = min(n - 1, m + floor((n - m) log(x / m) / log(max_distance / m)))  above

    If bidirectional, n is num_buckets / 2, x is |distance|, and n is added for distances above 0.
    If not, n is num_buckets and x is max(-distance, 0). Raffel et al. (2020),
    https://arxiv.org/abs/1910.10683, section 2.1, and the code published with it.

    Args:
        distances: int tensor, position in the memory minus position of the query.
        num_buckets: int, of both directions together.
        max_distance: int, from where on all distances fall into the last bucket.
        bidirectional: bool, whether later positions have buckets of their own.

    Returns:
        int32, of the shape of `distances`, in 0 ... num_buckets - 1.
    """
    count = num_buckets // 2 if bidirectional else num_buckets
    exact = count // 2
    wide = count - exact

    def bucket(x):
        if x < exact:
            return x
        # The floor of the quotient of logarithms, from whole numbers: it would hang on a last bit.
        limit = exact**wide
        return exact + sum(x**wide * exact**k >= limit * max_distance**k for k in range(1, wide))

    table = tf.constant([bucket(x) for x in range(max_distance + 1)], tf.int32)
    past = tf.abs(distances) if bidirectional else tf.maximum(-distances, 0)
    buckets = tf.gather(table, tf.minimum(past, max_distance))
    return buckets + count * tf.cast(distances > 0, tf.int32) if bidirectional else buckets


def alibi_slopes(num_heads):
    """Returns the slope of each head: 2^(-8 h / H) for h = 1 ... H, if H is a power of two.

    Otherwise the slopes of the next lower power of two, n, and for the heads that remain every
    second one of those of 2 n, from the first on. Press et al. (2022),
    https://arxiv.org/abs/2108.12409, section 3, and the code published with it.

    Args:
        num_heads: int, H.

    Returns:
        (H,) float32 numpy array.
    """
    n = 2 ** int(math.log2(num_heads))
    slopes = 2.0 ** (-8 * np.arange(1, n + 1) / n)
    more = 2.0 ** (-8 * np.arange(1, 2 * n + 1, 2) / (2 * n))
    return np.concatenate([slopes, more[: num_heads - n]]).astype("float32")


class AttentionPositions(keras.layers.Layer):
    """Positions used inside attention: score(i, j) = rotate(q_i, i) . rotate(k_j, j) + bias(i, j).

    The base class leaves scores as they are; its children override `rotate` or `bias`. Attention
    calls the two with positions of its own, so there is nothing to `call`. All attentions that
    have one such object in common share its weights, as the layers of T5 share one table.
    """

    def attach(self, heads_shape):
        """Builds the layer for an attention, or checks that it was built for such a one.

        Args:
            heads_shape: (B, H, T, d), of which H and d are known.

        Raises:
            ValueError: if it was built for another number of heads.
        """
        if not self.built:
            self.build(heads_shape)
        if heads_shape[1] != self.num_heads:
            raise ValueError(
                f"`positions` serve one number of heads, "
                f"got num_heads={heads_shape[1]} after num_heads={self.num_heads}."
            )

    def build(self, heads_shape):
        self.num_heads = heads_shape[1]

    def rotate(self, heads, positions):
        """Returns queries or keys turned by their positions: (B, H, T, d), (T,) -> (B, H, T, d)."""
        return heads

    def bias(self, query_positions, memory_positions):
        """Returns what is added to the scores: (T,), (S,) -> (H, T, S) float32; or None."""
        return None

    def get_config(self):
        # Without an own get_config, Keras refuses to save a layer that was given a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("kzoo")
class RotaryPositions(AttentionPositions):
    """Rotary positions: score(i, j) = rotate(q_i, i) . rotate(k_j, j), a function of i - j.

    Su et al. (2021), https://arxiv.org/abs/2104.09864, section 3.4.2; the turn is that of
    `kzoo.layers.positions.rotate`. No weights, any length.

    Args:
        base: float above 0; the slowest pair of features turns by about 1 / base for each step.

    Raises:
        ValueError: if `base` is not positive, or if the attention's `key_dim` is odd.

    Example:
        >>> layer = kzoo.MultiHeadAttention(2, key_dim=4, positions=kzoo.RotaryPositions())
        >>> x = tf.ones((1, 3, 8))
        >>> context, weights = layer(x, x, causal=True)
        >>> weights.shape
        TensorShape([1, 2, 3, 3])
    """

    def __init__(self, base=10000.0, **kwargs):
        super().__init__(**kwargs)
        if base <= 0:
            raise ValueError(f"`base` must be greater than 0, got base={base}.")
        self.base = base

    def build(self, heads_shape):
        if heads_shape[-1] % 2:
            raise ValueError(
                f"`key_dim` must be even for RotaryPositions, which turn pairs of features, "
                f"got key_dim={heads_shape[-1]}."
            )
        super().build(heads_shape)

    def rotate(self, heads, positions):
        return rotate(heads, positions, self.base)

    def get_config(self):
        return {**super().get_config(), "base": self.base}


@keras.saving.register_keras_serializable("kzoo")
class RelativePositions(AttentionPositions):
    """Relative positions of T5: score_h(i, j) = q_i . k_j + E[h, bucket(j - i)], E learned.

    Raffel et al. (2020), https://arxiv.org/abs/1910.10683, section 2.1, after Shaw et al. (2018),
    https://arxiv.org/abs/1803.02155; the bucket is that of
    `kzoo.layers.positions.relative_buckets`. E starts at 0. Unlike T5, which moves the factor
    1 / sqrt(key_dim) into its initializers, MultiHeadAttention scales q . k as usual.

    Args:
        num_buckets: int, of both directions together.
        max_distance: int, from where on all distances share a bucket.
        bidirectional: bool. True for an encoder; False for a decoder, which never looks ahead and
            so has all buckets for the past.

    Raises:
        ValueError: if there are too few buckets, an odd number of them for two directions, or
            `max_distance` is so small that no bucket holds more than one distance.

    Example:
        >>> positions = kzoo.RelativePositions(num_buckets=8, max_distance=20)
        >>> layer = kzoo.MultiHeadAttention(num_heads=2, key_dim=4, positions=positions)
        >>> context, weights = layer(tf.ones((1, 3, 8)), tf.ones((1, 5, 8)))
        >>> positions.table.shape
        TensorShape([2, 8])
    """

    def __init__(self, num_buckets=32, max_distance=128, bidirectional=True, **kwargs):
        super().__init__(**kwargs)
        directions = 2 if bidirectional else 1
        if num_buckets < 2 * directions or num_buckets % directions:
            raise ValueError(
                f"`num_buckets` must be at least 2, and even and at least 4 if bidirectional, "
                f"got num_buckets={num_buckets}, bidirectional={bidirectional}."
            )
        exact = num_buckets // directions // 2
        if max_distance <= exact:
            raise ValueError(
                f"`max_distance` must be greater than the {exact} distances of each direction "
                f"that have a bucket of their own, got max_distance={max_distance}."
            )
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def build(self, heads_shape):
        super().build(heads_shape)
        self.table = self.add_weight(
            shape=(self.num_heads, self.num_buckets), initializer="zeros", name="E"
        )

    def bias(self, query_positions, memory_positions):
        distances = memory_positions[None, :] - query_positions[:, None]  # (T, S)
        buckets = relative_buckets(
            distances, self.num_buckets, self.max_distance, self.bidirectional
        )
        # Along axis 1: no transposition, and a dense gradient.
        return tf.gather(tf.cast(self.table, tf.float32), buckets, axis=1)

    def get_config(self):
        return {
            **super().get_config(),
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
        }


@keras.saving.register_keras_serializable("kzoo")
class AlibiPositions(AttentionPositions):
    """Attention with linear biases (ALiBi): score_h(i, j) = q_i . k_j - slope_h |i - j|.

    Press et al. (2022), https://arxiv.org/abs/2108.12409, section 3; the slopes are those of
    `kzoo.layers.positions.alibi_slopes`. The paper has the causal case, j <= i; |i - j| extends it
    to both directions. No weights, any length.

    Example:
        >>> layer = kzoo.MultiHeadAttention(2, key_dim=4, positions=kzoo.AlibiPositions())
        >>> x = tf.ones((1, 3, 8))
        >>> context, weights = layer(x, x, causal=True)
        >>> bool(weights[0, 0, 2, 2] > weights[0, 0, 2, 0])  # near steps count more
        True
    """

    def bias(self, query_positions, memory_positions):
        distances = tf.abs(memory_positions[None, :] - query_positions[:, None])  # (T, S)
        # In float32: float16 ends at 65504, bfloat16 cannot tell a distance of 257 from 256.
        return -alibi_slopes(self.num_heads)[:, None, None] * tf.cast(distances, tf.float32)
