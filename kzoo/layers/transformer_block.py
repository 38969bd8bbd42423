"""One layer of a transformer, and the caches that its steps read.

Axis letters: B batch, T target steps, S source steps, D features, H heads, K beams, L cache length.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking, sharing
from kzoo.layers.attention import MultiHeadAttention
from kzoo.layers.dropout import Dropout
from kzoo.layers.normalization import LayerNormalization
from kzoo.layers.products import reshape, sizes


class FixedCache(NamedTuple):
    """Keys and values of all steps that may come, each (N, Hkv, L, D / H), as XLA needs them."""

    keys: tf.Tensor
    values: tf.Tensor
    has_future = True  # a step must not look at what stands behind its position

    def with_step(self, keys, values, position):
        """Writes the keys and values (N, Hkv, 1, D / H) of one step."""
        here = (tf.range(tf.shape(self.keys)[2]) == position)[None, None, :, None]
        # where, not a slice update, which would be an XLA-only op in a SavedModel.
        return FixedCache(tf.where(here, keys, self.keys), tf.where(here, values, self.values))


class GrowingCache(NamedTuple):
    """Keys and values of the steps so far, each (N, Hkv, position, D / H).

    Attention, copies and the search's reordering cost what was generated, not what might be.
    """

    keys: tf.Tensor
    values: tf.Tensor
    has_future = False

    def with_step(self, keys, values, position):
        """Appends the keys and values (N, Hkv, 1, D / H) of one step."""
        return GrowingCache(tf.concat([self.keys, keys], 2), tf.concat([self.values, values], 2))


@keras.saving.register_keras_serializable("kzoo")
class Residual(keras.layers.Layer):
    """The frame of a sublayer f: residual connection, dropout and layer normalisation.

        post-norm: norm(x + dropout(f(x)))            Vaswani et al. (2017), section 5.4
        pre-norm:  x + dropout(f(norm(x)))            Xiong et al. (2020), https://arxiv.org/abs/2002.04745

    A block calls `y = f(frame.enter(x))` and then `frame(x, y)`.

    Args:
        dropout: float in [0, 1).
        norm_first: bool, pre-norm instead of post-norm.

    Call arguments:
        x: (B, T, D) what the sublayer was given, before `enter`; dense or ragged, and so is y.
        y: (B, T, D) what the sublayer returned.

    Returns:
        (B, T, D).
    """

    def __init__(self, dropout=0.0, norm_first=False, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.norm_first = norm_first
        self.norm = LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, x_shape, y_shape=None):
        self.norm.build(x_shape)

    def enter(self, x):
        """Returns what the sublayer is given."""
        return self.norm(x) if self.norm_first else x

    def call(self, x, y, training=False):
        z = masking.padded(x) + self.dropout(masking.padded(y), training=training)
        return z if self.norm_first else self.norm(z)

    def compute_mask(self, x, previous_mask=None):
        return masking.carried_mask(x, previous_mask)

    def compute_output_shape(self, x_shape, y_shape=None):
        return x_shape

    def get_config(self):
        config = {"dropout": self.dropout.rate, "norm_first": self.norm_first}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("kzoo")
class FeedForward(keras.layers.Layer):
    """Position-wise feed-forward network: W_2 relu(W_1 x + b_1) + b_2.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.3.

    Args:
        hidden_units: int, size of the hidden layer.
        activation: name of the hidden layer's activation.

    Call arguments:
        x: (B, T, D) float.

    Returns:
        (B, T, D).
    """

    def __init__(self, hidden_units, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        checks.at_least(1, hidden_units=hidden_units)
        self.hidden_units = hidden_units
        self.activation = activation
        self.widen = keras.layers.Dense(hidden_units, activation, dtype=self.dtype_policy)

    def build(self, x_shape):
        # A layer that is made here must hear of `trainable = False` that was said before.
        self.narrow = keras.layers.Dense(
            x_shape[-1], dtype=self.dtype_policy, trainable=self.trainable
        )
        self.widen.build(x_shape)
        self.narrow.build((*x_shape[:-1], self.hidden_units))

    def compute_output_shape(self, x_shape):
        return x_shape

    def call(self, x):
        x = masking.padded(x)
        # One (B T, D) product: with three axes TensorFlow would not fuse bias and activation.
        rows = tf.reshape(x, (-1, x.shape[-1]))
        return reshape(self.narrow(self.widen(rows)), sizes(x))

    def compute_mask(self, x, previous_mask=None):
        return masking.carried_mask(x, previous_mask)

    def get_config(self):
        config = {"hidden_units": self.hidden_units, "activation": self.activation}
        return {**super().get_config(), **config}


class _Block(keras.layers.Layer):
    """What the blocks of encoder and decoder have in common: arguments and feed-forward network.

    Its children add the frames of their attentions: `_add_attention_frames`.
    """

    def __init__(
        self,
        num_heads,
        hidden_units,
        dropout=0.0,
        norm_first=False,
        activation="relu",
        num_key_value_heads=None,
        attention_positions=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = num_heads
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.norm_first = norm_first
        self.activation = activation
        self.num_key_value_heads = num_key_value_heads
        self.attention_positions = attention_positions
        self._add_attention_frames()
        self.feed_forward = FeedForward(hidden_units, activation, dtype=self.dtype_policy)
        self.feed_forward_frame = self._frame()

    def compute_mask(self, x, previous_mask=None):
        return masking.carried_mask(x, previous_mask)

    def _frame(self):
        return Residual(self.dropout, self.norm_first, dtype=self.dtype_policy)

    def _attention(self, features, positions=None):
        if features % self.num_heads:
            raise ValueError(
                f"The number of features must be a multiple of `num_heads`, "
                f"got {features} features, num_heads={self.num_heads}."
            )
        return MultiHeadAttention(
            self.num_heads,
            features // self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            positions=positions,
            dtype=self.dtype_policy,
            trainable=self.trainable,
        )

    def _feed(self, x, training=False):
        """The last sublayer."""
        y = self.feed_forward(self.feed_forward_frame.enter(x))
        return self.feed_forward_frame(x, y, training=training)

    def get_config(self):
        return {**super().get_config(), **block_config(self)}

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "attention_positions"))


@keras.saving.register_keras_serializable("kzoo")
class TransformerEncoderBlock(_Block):
    """Self-attention, then a feed-forward network, each in a residual frame.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.1.

    Args:
        num_heads: int; the size of the heads is D / num_heads.
        hidden_units: int, size of the feed-forward network's hidden layer.
        dropout: float in [0, 1), on the output of each sublayer.
        norm_first: bool, pre-norm instead of post-norm.
        activation: of the feed-forward network.
        num_key_value_heads: int, of MultiHeadAttention; None means `num_heads`.
        attention_positions: positions of the self-attention, such as RotaryPositions; None for
            none.

    Call arguments:
        x: (B, S, D) float, dense or ragged.
        mask: (B, S) bool, True = real.

    Returns:
        (B, S, D), dense, zeros in the padding. The mask passes through.

    Raises:
        ValueError: if D is not a multiple of `num_heads`, or for what MultiHeadAttention refuses.

    Example:
        >>> block = kzoo.TransformerEncoderBlock(num_heads=2, hidden_units=16)
        >>> block(tf.ones((2, 5, 8))).shape
        TensorShape([2, 5, 8])
    """

    def _add_attention_frames(self):
        self.attention_frame = self._frame()

    def build(self, x_shape):
        self.attention = self._attention(x_shape[-1], self.attention_positions)
        self.attention.build(x_shape, x_shape)
        for layer in (self.attention_frame, self.feed_forward, self.feed_forward_frame):
            layer.build(x_shape)

    def compute_output_shape(self, x_shape):
        return x_shape

    def call(self, x, mask=None, training=False):
        x, mask = masking.to_dense(x, mask)
        x = masking.blank(x, mask)
        y = self.attention_frame.enter(x)
        y, _ = self.attention(y, memory_mask=mask, keys=self.attention.project(y))
        x = self.attention_frame(x, y, training=training)
        return masking.blank(self._feed(x, training=training), mask)


@keras.saving.register_keras_serializable("kzoo")
class TransformerDecoderBlock(_Block):
    """Causal self-attention, cross-attention, feed-forward network, each in a residual frame.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.1. Both attentions have
    `num_key_value_heads`; the cross-attention has no positions.

    Args:
        num_heads, hidden_units, dropout, norm_first, activation, num_key_value_heads,
            attention_positions: as in TransformerEncoderBlock.

    Call arguments:
        x: (B, T, D) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; None if `keys` are given. Without both there is
            no cross-attention: a block of a language model.
        memory_mask: (B, S) bool, True = real.
        keys: from `project(memory)`.
        x_mask: (B, T) bool, True = real. Keras fills it in from `x`.

    Returns:
        y: (B, T, D), zeros in padding that is known. weights: (B, H, T, S) of the cross-attention;
            S = 0 without a memory.

    Raises:
        ValueError: if D is not a multiple of `num_heads`, or for what MultiHeadAttention refuses.

    Example:
        >>> block = kzoo.TransformerDecoderBlock(num_heads=2, hidden_units=16)
        >>> y, weights = block(tf.ones((2, 3, 8)), tf.ones((2, 5, 7)))
        >>> y.shape
        TensorShape([2, 3, 8])
    """

    def _add_attention_frames(self):
        self.self_frame = self._frame()
        self.cross_frame = self._frame()

    def build(self, x_shape, memory_shape=None):
        self.self_attention = self._attention(x_shape[-1], self.attention_positions)
        self.cross_attention = self._attention(x_shape[-1])
        self.self_attention.build(x_shape, x_shape)
        if memory_shape is not None:
            self.cross_attention.build(x_shape, memory_shape)
            self.cross_frame.build(x_shape)
        for layer in (self.self_frame, self.feed_forward, self.feed_forward_frame):
            layer.build(x_shape)

    def compute_output_shape(self, x_shape, memory_shape=None):
        steps = 0 if memory_shape is None else memory_shape[1]
        return x_shape, (x_shape[0], self.num_heads, x_shape[1], steps)

    def project(self, memory):
        """Returns the cross-attention's keys and values, a pair of (B, Hkv, S, D / H)."""
        return self.cross_attention.project(memory)

    def call(self, x, memory=None, memory_mask=None, keys=None, x_mask=None, training=False):
        mask = masking.carried_mask(x, x_mask)
        x, _ = masking.to_dense(x)
        x = x if mask is None else masking.blank(x, mask)
        if memory is not None:
            memory, memory_mask = masking.to_dense(memory, memory_mask)
        y = self.self_frame.enter(x)
        y, _ = self.self_attention(
            y, memory_mask=mask, keys=self.self_attention.project(y), causal=True
        )
        x = self.self_frame(x, y, training=training)
        if memory is None and keys is None:
            weights = tf.zeros((*sizes(x)[:1], self.num_heads, *sizes(x)[1:2], 0), x.dtype)
        else:
            y, weights = self.cross_attention(
                self.cross_frame.enter(x), memory, memory_mask=memory_mask, keys=keys
            )
            x = self.cross_frame(x, y, training=training)
        y = self._feed(x, training=training)
        return (y if mask is None else masking.blank(y, mask)), weights

    def empty_cache(self, rows, length, dtype):
        """Returns the cache before the first step: FixedCache, or GrowingCache without a length."""
        heads, size = self.self_attention.num_key_value_heads, self.self_attention.key_dim
        if length is not None:
            empty = tf.zeros((rows, heads, length, size), dtype)
            return FixedCache(empty, empty)
        # A loop in a graph must not know the length of the growing one to be 0.
        empty = tf.zeros((rows, heads, 0, size), dtype)
        empty = tf.compat.v1.placeholder_with_default(empty, (None, heads, None, size))
        return GrowingCache(empty, empty)

    def step(self, x, cache, position, keys, memory_mask):
        """One step against the cached keys and values of the steps before.

        Args:
            x: (N, D) float.
            cache: FixedCache or GrowingCache, keys and values of the self-attention.
            position: scalar int32.
            keys: from `project(memory)`, B rows.
            memory_mask: (B, S) bool.

        Returns:
            y: (N, D). weights: (N, H, S). cache: with this step's keys and values filled in.
        """
        rows = tf.shape(memory_mask)[0]
        x = x[:, None, :]
        y = self.self_frame.enter(x)
        cache = cache.with_step(*self.self_attention.project(y, position), position)
        y, _ = self.self_attention(y, keys=tuple(cache), causal=cache.has_future, start=position)
        x = self.self_frame(x, y)
        # The K beams of a source are K queries to one memory, which is never copied.
        y = self.cross_frame.enter(x)
        y = tf.reshape(y, (rows, -1, y.shape[-1]))  # (B, K, D)
        y, weights = self.cross_attention(y, memory_mask=memory_mask, keys=keys)
        x = self._feed(self.cross_frame(x, reshape(y, sizes(x))))
        weights = tf.transpose(weights, (0, 2, 1, 3))  # (B, K, H, S)
        shape = (tf.shape(x)[0], self.num_heads, tf.shape(memory_mask)[1])
        return x[:, 0], tf.reshape(weights, shape), cache


def block_config(layer):
    """The arguments that a stack hands on to its blocks."""
    names = (
        "num_heads", "hidden_units", "dropout", "norm_first", "activation", "num_key_value_heads",
    )  # fmt: skip
    positions = sharing.serialize(layer.attention_positions)
    return {name: getattr(layer, name) for name in names} | {"attention_positions": positions}
