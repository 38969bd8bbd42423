"""Scaled dot-product attention with several heads: Vaswani et al. (2017).

Axis letters: B batch, T target steps, S source steps, D features, H heads, K beams.
"""

import functools

import keras
import tensorflow as tf

from kzoo.layers import masking, sharing
from kzoo.layers.attention.contract import Attention, dense_memory, dense_query
from kzoo.layers.dropout import Dropout
from kzoo.layers.products import product_rows, reshape, sizes


@keras.saving.register_keras_serializable("kzoo")
class MultiHeadAttention(Attention):
    """Scaled dot-product attention in H heads, joined by an output projection:

        head_h = softmax(q_h k_h^T / sqrt(key_dim)) v_h,    context = [head_1; ...; head_H] W_o

    with q_h = query W_q, k_h = memory W_k, v_h = memory W_v, all with biases. Vaswani et al.
    (2017), https://arxiv.org/abs/1706.03762, section 3.2. Self-attention is `layer(x, x)`,
    causal self-attention `layer(x, x, causal=True)`, cross-attention `layer(x, memory)`.

    With fewer `num_key_value_heads` than `num_heads`, neighbouring heads form groups that read the
    same keys and values: grouped-query attention, Ainslie et al. (2023),
    https://arxiv.org/abs/2305.13245; with 1 it is the multi-query attention of Shazeer (2019),
    https://arxiv.org/abs/1911.02150. The cache shrinks by H / Hkv; nothing is copied to H heads.

    With `positions`, queries and keys are rotated by their positions or the scores get a bias.
    The memory stands at positions 0 ... S - 1, the query at start ... start + T - 1.

    Args:
        num_heads: int, H.
        key_dim: int, size of each head's queries, keys and values.
        dropout: float in [0, 1), share of attention weights dropped in training.
        num_key_value_heads: int, Hkv, a divisor of `num_heads`; None means `num_heads`.
        positions: RotaryPositions, RelativePositions or AlibiPositions; None for none. Attentions
            that are given the same object share its weights.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; None if `keys` are given.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: the pair from `project(memory)`, if it was called before, of a memory without NaN in
            its padding: such as `masking.blank` leaves none.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.
        attention_mask: (T, S) or (B, T, S) bool, which query may see which memory step, such as
            `masking.window_mask`; both masks must allow it.
        causal: bool, whether step t sees memory steps 0 ... start + t only.
        start: int or scalar tensor, position of query step 0. It counts for `causal` and
            `positions`.

    Returns:
        context: (B, T, Dq). weights: (B, H, T, S), before dropout; rows sum to 1, padding gets
        exactly 0, a row without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: if `num_heads` or `key_dim` is not positive, `dropout` is outside [0, 1),
            `num_key_value_heads` does not divide `num_heads`, `positions` are not for attention or
            do not suit the heads, or an input does not have three axes.

    Example:
        >>> layer = kzoo.MultiHeadAttention(num_heads=2, key_dim=4)
        >>> context, weights = layer(tf.ones((2, 3, 8)), tf.ones((2, 5, 8)))
        >>> context.shape
        TensorShape([2, 3, 8])
        >>> weights.shape
        TensorShape([2, 2, 3, 5])
        >>> near = kzoo.masking.window_mask(3, window=1, memory_length=5)
        >>> _, weights = layer(tf.ones((2, 3, 8)), tf.ones((2, 5, 8)), attention_mask=near)
        >>> weights[0, 0].numpy().round(2)
        array([[0.5 , 0.5 , 0.  , 0.  , 0.  ],
               [0.33, 0.33, 0.33, 0.  , 0.  ],
               [0.  , 0.33, 0.33, 0.33, 0.  ]], dtype=float32)
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        dropout=0.0,
        num_key_value_heads=None,
        positions=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        if num_heads < 1 or key_dim < 1:
            raise ValueError(
                f"`num_heads` and `key_dim` must be at least 1, "
                f"got num_heads={num_heads}, key_dim={key_dim}."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1), got dropout={dropout}.")
        if num_key_value_heads is None:
            num_key_value_heads = num_heads
        if num_key_value_heads < 1 or num_heads % num_key_value_heads:
            raise ValueError(
                f"`num_heads` must be a multiple of `num_key_value_heads`, "
                f"got num_heads={num_heads}, num_key_value_heads={num_key_value_heads}."
            )
        if positions is not None and not hasattr(positions, "rotate"):
            raise ValueError(
                f"`positions` must be for use inside attention, such as RotaryPositions, "
                f"got positions={positions}."
            )
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.dropout = dropout
        self.num_key_value_heads = num_key_value_heads
        self.positions = positions
        self.weights_dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, query_shape, memory_shape=None):
        query_size = query_shape[-1]
        memory_size = query_size if memory_shape is None else memory_shape[-1]
        size = self.num_heads * self.key_dim
        both = 2 * self.num_key_value_heads * self.key_dim
        self.query_kernel = self.add_weight(shape=(query_size, size), name="W_q")
        self.query_bias = self.add_weight(shape=(size,), initializer="zeros", name="b_q")
        # W_k and W_v side by side: one matrix product makes both.
        self.key_value_kernel = self.add_weight(shape=(memory_size, both), name="W_kv")
        self.key_value_bias = self.add_weight(shape=(both,), initializer="zeros", name="b_kv")
        self.output_kernel = self.add_weight(shape=(size, query_size), name="W_o")
        self.output_bias = self.add_weight(shape=(query_size,), initializer="zeros", name="b_o")
        if self.positions is not None:
            self.positions.attach((None, self.num_heads, None, self.key_dim))

    def initial_state(self, memory_mask):
        """Returns ().

        Raises:
            ValueError: with `positions`: a step of `Attention.step` does not say where it stands.
        """
        if self.positions is not None:
            raise ValueError(
                f"`positions` must be None in a decoder that asks step by step, "
                f"got positions={self.positions}."
            )
        return ()

    def project(self, memory, start=0):
        """Returns keys and values, a pair of (B, Hkv, S, key_dim), for `keys=`.

        `start` is the position of memory step 0, for a decoder that projects step by step: keys
        are rotated here, once.
        """
        memory, _ = masking.to_dense(memory)
        memory = tf.cast(memory, self.compute_dtype)
        both = product_rows(memory, self.key_value_kernel, self.key_value_bias)
        keys, values = tf.split(both, 2, axis=-1)
        keys = self._split_heads(keys, memory, self.num_key_value_heads)
        if self.positions is not None:
            keys = self.positions.rotate(keys, start + tf.range(tf.shape(memory)[1]))
        return keys, self._split_heads(values, memory, self.num_key_value_heads)

    def call(
        self,
        query,
        memory=None,
        memory_mask=None,
        keys=None,
        *,
        query_mask=None,
        attention_mask=None,
        causal=False,
        start=0,
        training=False,
    ):
        query = dense_query(query, query_mask)
        if keys is None:
            if memory is None:
                raise ValueError("`memory` or `keys` must be given, got neither.")
            memory, memory_mask = dense_memory(memory, memory_mask)
            keys = self.project(memory)
        key_heads, value_heads = keys
        queries = product_rows(query, self.query_kernel, self.query_bias)
        query_heads = self._split_heads(queries, query, self.num_heads)
        scores = self._scores(query_heads, key_heads, start)

        masks = [] if memory_mask is None else [tf.cast(memory_mask, tf.bool)[:, None, None, :]]
        if attention_mask is not None:
            masks.append(tf.cast(attention_mask, tf.bool)[..., None, :, :])
        if causal:
            masks.append(masking.causal_mask(tf.shape(query)[1], tf.shape(key_heads)[2], start))
        mask = functools.reduce(tf.logical_and, masks) if masks else None
        weights = tf.cast(masking.masked_softmax(scores, mask), value_heads.dtype)
        read = self._times(self.weights_dropout(weights, training=training), value_heads)
        read = tf.transpose(read, (0, 2, 1, 3))  # (B, T, H, key_dim)
        context = product_rows(read, self.output_kernel, self.output_bias)
        return reshape(context, [*sizes(query)[:2], context.shape[-1]]), weights

    def step(self, query, memory, memory_mask, keys, state, training=False):
        context, weights = self(query, memory, memory_mask, keys, training=training)
        return context, weights, state

    def _scores(self, query_heads, key_heads, start):
        """q k^T / sqrt(key_dim) with positions: (B, H, T, S), in float32 if these add a bias."""
        bias = None
        if self.positions is not None:
            query_positions = start + tf.range(tf.shape(query_heads)[2])
            query_heads = self.positions.rotate(query_heads, query_positions)
            bias = self.positions.bias(query_positions, tf.range(tf.shape(key_heads)[2]))
        query_heads *= tf.cast(self.key_dim**-0.5, query_heads.dtype)
        scores = self._times(query_heads, key_heads, transpose_b=True)
        return scores if bias is None else tf.cast(scores, tf.float32) + bias

    def _times(self, heads, shared, transpose_b=False):
        """Products of H heads with the Hkv that their groups share.

        (B, H, T, X) times (B, Hkv, X, Y) -> (B, H, T, Y). The heads of a group are further rows of
        one product, so that nothing of `shared` is copied.
        """
        if self.num_key_value_heads == self.num_heads:
            return tf.matmul(heads, shared, transpose_b=transpose_b)
        batch, _, steps, size = tf.unstack(tf.shape(heads))
        rows = self.num_heads // self.num_key_value_heads * steps
        folded = tf.reshape(heads, (batch, self.num_key_value_heads, rows, size))
        product = tf.matmul(folded, shared, transpose_b=transpose_b)
        return tf.reshape(product, (batch, self.num_heads, steps, tf.shape(product)[-1]))

    def _split_heads(self, rows, x, num_heads):
        """(B T, H key_dim), made from x (B, T, D) -> (B, H, T, key_dim)."""
        heads = reshape(rows, [*sizes(x)[:2], num_heads, self.key_dim])
        return tf.transpose(heads, (0, 2, 1, 3))

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "dropout": self.dropout,
            "num_key_value_heads": self.num_key_value_heads,
            "positions": sharing.serialize(self.positions),
        }

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "positions"))
