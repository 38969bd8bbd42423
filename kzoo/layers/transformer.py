"""Transformer: residual blocks, encoder, decoder with a cache of keys and values.

Vaswani et al. (2017), https://arxiv.org/abs/1706.03762. Axis letters: B batch, T target steps,
S source steps, D features, H heads, N rows of a decoding step (B or B times beams), L length of
the cache.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking, sharing
from kzoo.layers.attention import MultiHeadAttention
from kzoo.layers.positions import SinusoidalPositions


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
        x: (B, T, D) what the sublayer was given, before `enter`.
        y: (B, T, D) what the sublayer returned.

    Returns:
        (B, T, D).
    """

    def __init__(self, dropout=0.0, norm_first=False, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.norm_first = norm_first
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, x_shape, y_shape=None):
        self.norm.build(x_shape)

    def enter(self, x):
        """Returns what the sublayer is given."""
        return self.norm(x) if self.norm_first else x

    def call(self, x, y, training=False):
        z = x + self.dropout(y, training=training)
        return z if self.norm_first else self.norm(z)

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
        if hidden_units < 1:
            raise ValueError(f"`hidden_units` must be at least 1, got hidden_units={hidden_units}.")
        self.hidden_units = hidden_units
        self.activation = activation
        self.widen = keras.layers.Dense(hidden_units, activation, dtype=self.dtype_policy)

    def build(self, x_shape):
        self.narrow = keras.layers.Dense(x_shape[-1], dtype=self.dtype_policy)
        self.widen.build(x_shape)
        self.narrow.build((*x_shape[:-1], self.hidden_units))

    def call(self, x):
        # One (B T, D) product: with three axes TensorFlow would not fuse bias and activation.
        rows = tf.reshape(x, (-1, x.shape[-1]))
        return tf.reshape(self.narrow(self.widen(rows)), tf.shape(x))

    def get_config(self):
        config = {"hidden_units": self.hidden_units, "activation": self.activation}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("kzoo")
class TransformerEncoderBlock(keras.layers.Layer):
    """Self-attention, then a feed-forward network, each in a residual frame.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.1.

    Args:
        num_heads: int; the size of the heads is D / num_heads.
        hidden_units: int, size of the feed-forward network's hidden layer.
        dropout: float in [0, 1), on the output of each sublayer.
        norm_first: bool, pre-norm instead of post-norm.
        activation: of the feed-forward network.

    Call arguments:
        x: (B, S, D) float, dense or ragged.
        mask: (B, S) bool, True = real.

    Returns:
        (B, S, D), dense. The mask passes through.

    Raises:
        ValueError: if D is not a multiple of `num_heads`.
    """

    def __init__(
        self,
        num_heads,
        hidden_units,
        dropout=0.0,
        norm_first=False,
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = num_heads
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.norm_first = norm_first
        self.activation = activation
        dtype = self.dtype_policy
        self.attention_frame = Residual(dropout, norm_first, dtype=dtype)
        self.feed_forward = FeedForward(hidden_units, activation, dtype=dtype)
        self.feed_forward_frame = Residual(dropout, norm_first, dtype=dtype)

    def build(self, x_shape):
        key_dim = _key_dim(x_shape[-1], self.num_heads)
        self.attention = MultiHeadAttention(self.num_heads, key_dim, dtype=self.dtype_policy)
        self.attention.build(x_shape, x_shape)
        self.attention_frame.build(x_shape)
        self.feed_forward.build(x_shape)
        self.feed_forward_frame.build(x_shape)

    def call(self, x, mask=None, training=False):
        x, mask = masking.to_dense(x, mask)
        x = masking.blank(x, mask)
        y = self.attention_frame.enter(x)
        y, _ = self.attention(y, memory_mask=mask, keys=self.attention.project(y))
        x = self.attention_frame(x, y, training=training)
        y = self.feed_forward(self.feed_forward_frame.enter(x))
        return self.feed_forward_frame(x, y, training=training)

    def get_config(self):
        return {**super().get_config(), **_block_config(self)}


@keras.saving.register_keras_serializable("kzoo")
class TransformerDecoderBlock(keras.layers.Layer):
    """Causal self-attention, cross-attention, feed-forward network, each in a residual frame.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.1.

    Args:
        num_heads, hidden_units, dropout, norm_first, activation: as in TransformerEncoderBlock.

    Call arguments:
        x: (B, T, D) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; None if `keys` are given.
        memory_mask: (B, S) bool, True = real.
        keys: from `project(memory)`.

    Returns:
        y: (B, T, D). weights: (B, H, T, S) of the cross-attention.

    Raises:
        ValueError: if D is not a multiple of `num_heads`.
    """

    def __init__(
        self,
        num_heads,
        hidden_units,
        dropout=0.0,
        norm_first=False,
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = num_heads
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.norm_first = norm_first
        self.activation = activation
        dtype = self.dtype_policy
        self.self_frame = Residual(dropout, norm_first, dtype=dtype)
        self.cross_frame = Residual(dropout, norm_first, dtype=dtype)
        self.feed_forward = FeedForward(hidden_units, activation, dtype=dtype)
        self.feed_forward_frame = Residual(dropout, norm_first, dtype=dtype)

    def build(self, x_shape, memory_shape=None):
        key_dim = _key_dim(x_shape[-1], self.num_heads)
        dtype = self.dtype_policy
        self.self_attention = MultiHeadAttention(self.num_heads, key_dim, dtype=dtype)
        self.cross_attention = MultiHeadAttention(self.num_heads, key_dim, dtype=dtype)
        self.self_attention.build(x_shape, x_shape)
        self.cross_attention.build(x_shape, memory_shape or x_shape)
        for layer in (self.self_frame, self.cross_frame, self.feed_forward_frame):
            layer.build(x_shape)
        self.feed_forward.build(x_shape)

    def project(self, memory):
        """Returns the cross-attention's keys and values, a pair of (B, H, S, D / H)."""
        return self.cross_attention.project(memory)

    def call(self, x, memory=None, memory_mask=None, keys=None, training=False):
        x, _ = masking.to_dense(x)
        if keys is None:
            memory, memory_mask = masking.to_dense(memory, memory_mask)
        y = self.self_frame.enter(x)
        y, _ = self.self_attention(y, keys=self.self_attention.project(y), causal=True)
        x = self.self_frame(x, y, training=training)
        y, weights = self.cross_attention(
            self.cross_frame.enter(x), memory, memory_mask=memory_mask, keys=keys
        )
        x = self.cross_frame(x, y, training=training)
        y = self.feed_forward(self.feed_forward_frame.enter(x))
        return self.feed_forward_frame(x, y, training=training), weights

    def step(self, x, cache, position, keys, memory_mask):
        """One step against the cached keys and values of the steps before.

        Args:
            x: (N, D) float.
            cache: pair of (N, H, L, D / H), keys and values of the self-attention.
            position: scalar int32.
            keys: from `project(memory)`, B rows.
            memory_mask: (B, S) bool.

        Returns:
            y: (N, D). weights: (N, H, S). cache: with this step's keys and values filled in.
        """
        rows = tf.shape(memory_mask)[0]
        x = x[:, None, :]
        y = self.self_frame.enter(x)
        slots = tf.range(tf.shape(cache[0])[2])
        here = (slots == position)[None, None, :, None]
        # where, not a slice update, which would be an XLA-only op in a SavedModel.
        cache = tuple(
            tf.where(here, new, old)
            for new, old in zip(self.self_attention.project(y), cache, strict=True)
        )
        y, _ = self.self_attention(y, memory_mask=(slots <= position)[None, :], keys=cache)
        x = self.self_frame(x, y)
        # The K beams of a source are K queries to one memory, which is never copied.
        y = self.cross_frame.enter(x)
        y = tf.reshape(y, (rows, -1, y.shape[-1]))  # (B, K, D)
        y, weights = self.cross_attention(y, memory_mask=memory_mask, keys=keys)
        x = self.cross_frame(x, tf.reshape(y, tf.shape(x)))
        y = self.feed_forward(self.feed_forward_frame.enter(x))
        x = self.feed_forward_frame(x, y)
        weights = tf.transpose(weights, (0, 2, 1, 3))  # (B, K, H, S)
        weights = tf.reshape(weights, (-1, self.num_heads, tf.shape(memory_mask)[1]))
        return x[:, 0], weights, cache

    def get_config(self):
        return {**super().get_config(), **_block_config(self)}


@keras.saving.register_keras_serializable("kzoo")
class TransformerEncoder(keras.layers.Layer):
    """Embedding, positions, dropout, and a stack of TransformerEncoderBlocks.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762. A pre-norm stack ends with a layer
    normalisation.

    Args:
        embedding: layer, source (B, S) or (B, S, F) -> (B, S, D), such as TokenEmbedding.
        num_layers: int.
        num_heads, hidden_units, norm_first, activation: of the blocks.
        dropout: float in [0, 1), on the embedded input and on each sublayer.
        positions: layer that adds positions; None means SinusoidalPositions.

    Call arguments:
        source: (B, S) int ids or (B, S, F) float, dense or ragged.
        source_mask: (B, S) bool; None means `source != 0` for ids and all True for features.
        mask: the same, filled in by Keras when `source` is the only tensor argument and carries
            a mask.

    Returns:
        memory: (B, S, D). memory_mask: (B, S).

    Raises:
        ValueError: if `num_layers` is not positive or D is not a multiple of `num_heads`.
    """

    def __init__(
        self,
        embedding,
        num_layers,
        num_heads,
        hidden_units,
        dropout=0.0,
        norm_first=False,
        activation="relu",
        positions=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        _init_stack(
            self, TransformerEncoderBlock, embedding, num_layers, num_heads, hidden_units,
            dropout, norm_first, activation, positions,
        )  # fmt: skip

    def build(self, source_shape):
        shape = _build_input(self, source_shape)
        for block in self.blocks:
            block.build(shape)

    def call(self, source, source_mask=None, mask=None, training=False):
        source, mask = masking.to_dense(source, mask if source_mask is None else source_mask)
        if source.dtype.is_floating:
            source = masking.blank(source, mask)
        x = self.positions(self.embedding(source))
        x = self.input_dropout(x, training=training)
        for block in self.blocks:
            x = block(x, mask=mask, training=training)
        return (self.norm(x) if self.norm_first else x), mask

    def get_config(self):
        return {**super().get_config(), **_stack_config(self)}

    @classmethod
    def from_config(cls, config):
        return cls(**_stack_from_config(config))


@keras.saving.register_keras_serializable("kzoo")
class TransformerDecoder(keras.layers.Layer):
    """Embedding, positions, dropout, and a stack of TransformerDecoderBlocks.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762. A pre-norm stack ends with a layer
    normalisation. The weights are the last block's cross-attention, averaged over its heads.

    Args:
        embedding: layer, ids (B, T) -> (B, T, D).
        num_layers, num_heads, hidden_units, dropout, norm_first, activation, positions: as in
            TransformerEncoder.

    Call arguments:
        ids: (B, T) int, dense or ragged; teacher forcing: step t sees ids 0 ... t.
        memory: (B, S, Dm) float, dense or ragged.
        memory_mask: (B, S) bool, True = real.

    Returns:
        hidden: (B, T, D). weights: (B, T, S).

    Raises:
        ValueError: if `num_layers` is not positive or D is not a multiple of `num_heads`.
    """

    def __init__(
        self,
        embedding,
        num_layers,
        num_heads,
        hidden_units,
        dropout=0.0,
        norm_first=False,
        activation="relu",
        positions=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        _init_stack(
            self, TransformerDecoderBlock, embedding, num_layers, num_heads, hidden_units,
            dropout, norm_first, activation, positions,
        )  # fmt: skip

    def build(self, ids_shape, memory_shape):
        shape = _build_input(self, ids_shape)
        for block in self.blocks:
            block.build(shape, memory_shape)

    def call(self, ids, memory, memory_mask=None, training=False):
        ids, _ = masking.to_dense(ids)
        prepared = self.prepare(memory, memory_mask)
        x = self.positions(self.embedding(ids))
        x = self.input_dropout(x, training=training)
        for block, keys in zip(self.blocks, prepared["keys"], strict=True):
            x, weights = block(x, memory_mask=prepared["mask"], keys=keys, training=training)
        return (self.norm(x) if self.norm_first else x), tf.reduce_mean(weights, 1)

    def prepare(self, memory, memory_mask=None):
        """Returns what all steps read: the memory's mask and each block's keys and values."""
        memory, memory_mask = masking.to_dense(memory, memory_mask)
        memory = masking.blank(memory, memory_mask)
        return {"mask": memory_mask, "keys": [block.project(memory) for block in self.blocks]}

    def initial_state(self, prepared, max_length):
        """Returns the empty cache: for each block a pair of (B, H, max_length, D / H)."""
        rows = tf.shape(prepared["mask"])[0]

        def empty(block):
            attention = block.self_attention
            shape = (rows, attention.num_heads, max_length, attention.key_dim)
            return tf.zeros(shape, self.compute_dtype), tf.zeros(shape, self.compute_dtype)

        return [empty(block) for block in self.blocks]

    def step(self, ids, state, position, prepared):
        """One step of decoding.

        Args:
            ids: (N,) int, the token before; N = B or B times beams.
            state: from `initial_state` or the step before, N rows.
            position: scalar int32, from 0.
            prepared: from `prepare`, B rows.

        Returns:
            hidden: (N, D). weights: (N, S). state: the next.
        """
        x = self.positions(self.embedding(ids[:, None]), start=position)[:, 0]
        new_state = []
        for block, cache, keys in zip(self.blocks, state, prepared["keys"], strict=True):
            x, weights, cache = block.step(x, cache, position, keys, prepared["mask"])
            new_state.append(cache)
        return (self.norm(x) if self.norm_first else x), tf.reduce_mean(weights, 1), new_state

    def get_config(self):
        return {**super().get_config(), **_stack_config(self)}

    @classmethod
    def from_config(cls, config):
        return cls(**_stack_from_config(config))


def _key_dim(units, num_heads):
    if units % num_heads:
        raise ValueError(
            f"The number of features must be a multiple of `num_heads`, "
            f"got {units} features, num_heads={num_heads}."
        )
    return units // num_heads


def _block_config(block):
    names = ("num_heads", "hidden_units", "dropout", "norm_first", "activation")
    return {name: getattr(block, name) for name in names}


def _init_stack(
    stack, block_class, embedding, num_layers, num_heads, hidden_units,
    dropout, norm_first, activation, positions,
):  # fmt: skip
    if num_layers < 1:
        raise ValueError(f"`num_layers` must be at least 1, got num_layers={num_layers}.")
    dtype = stack.dtype_policy
    stack.embedding = embedding
    stack.num_layers = num_layers
    stack.num_heads = num_heads
    stack.hidden_units = hidden_units
    stack.dropout = dropout
    stack.norm_first = norm_first
    stack.activation = activation
    stack.positions = positions or SinusoidalPositions(dtype=dtype)
    stack.input_dropout = keras.layers.Dropout(dropout, dtype=dtype)
    stack.blocks = [
        block_class(num_heads, hidden_units, dropout, norm_first, activation, dtype=dtype)
        for _ in range(num_layers)
    ]
    if norm_first:
        stack.norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype)


def _build_input(stack, source_shape):
    # Another owner, or Keras while it loads a model, may have built these two.
    if not stack.embedding.built:
        stack.embedding.build(source_shape)
    shape = stack.embedding.compute_output_shape(source_shape)
    if not stack.positions.built:
        stack.positions.build(shape)
    if stack.norm_first:
        stack.norm.build(shape)
    return shape


def _stack_config(stack):
    return {
        "embedding": sharing.serialize(stack.embedding),
        "num_layers": stack.num_layers,
        **_block_config(stack),
        "positions": sharing.serialize(stack.positions),
    }


def _stack_from_config(config):
    config = dict(config)
    for name in ("embedding", "positions"):
        config[name] = keras.saving.deserialize_keras_object(config[name])
    return config
