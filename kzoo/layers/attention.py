"""Attention: Bahdanau, Luong, multi-head, and none at all (a fixed context).

Axis letters: B batch, T target steps, S source steps, D features, U units, H heads. Every layer is
called as `layer(query, memory, memory_mask) -> (context, weights)`. What depends on the memory
alone is computed once with `keys = layer.project(memory)` and given back as `keys=`.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking, sharing


def _check_rank(name, x):
    if x.shape.rank != 3:
        raise ValueError(f"`{name}` must have 3 axes (batch, steps, features), got {x.shape}.")


def _product(x, kernel, bias=None):
    """x W + b as one (B T, D) product: TensorFlow fuses the bias only into a 2-D MatMul.

    The weights are cast here, since `project` may be called outside Keras's autocast scope.
    """
    y = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), tf.cast(kernel, x.dtype))
    if bias is not None:
        y = tf.nn.bias_add(y, tf.cast(bias, x.dtype))
    return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [kernel.shape[1]]], 0))


def _scores(compared, v):
    """v . x for every x of `compared`: (B, T, S, U) -> (B, T, S).

    tensordot makes it one 2-D product. matvec would broadcast v over the batch, where oneDNN in
    TensorFlow 2.21 writes beyond its memory: wrong numbers or a segmentation fault, by shape.
    """
    return tf.tensordot(compared, v, 1)


@keras.saving.register_keras_serializable("kzoo")
class BahdanauAttention(keras.layers.Layer):
    """Additive attention: score(q, k) = v . tanh(W q + U k + b).

    Bahdanau et al. (2015), https://arxiv.org/abs/1409.0473, appendix A.1.2. With `normalize`, v is
    replaced by g v / |v| (weight normalisation, Salimans & Kingma 2016,
    https://arxiv.org/abs/1602.07868), where the scalar g starts at sqrt(1 / units).

    Args:
        units: int, size U of the space where query and memory are compared.
        normalize: bool, whether v is weight-normalised.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: (B, S, U) from `project(memory)`, if it was called before.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to 1, padding gets exactly 0, a row
        without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: if `units` is not positive or an input does not have three axes.
    """

    def __init__(self, units, normalize=False, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        if units < 1:
            raise ValueError(f"`units` must be at least 1, got units={units}.")
        self.units = units
        self.normalize = normalize

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_weight(shape=(query_shape[-1], self.units), name="W")
        self.memory_kernel = self.add_weight(shape=(memory_shape[-1], self.units), name="U")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="b")
        self.score_vector = self.add_weight(
            shape=(self.units,),
            initializer=keras.initializers.VarianceScaling(1.0, "fan_avg", "uniform"),
            name="v",
        )
        if self.normalize:
            gain = keras.initializers.Constant(self.units**-0.5)
            self.gain = self.add_weight(shape=(), initializer=gain, name="g")

    def project(self, memory):
        """Returns the keys U k, (B, S, U), for `keys=`."""
        memory, _ = masking.to_dense(memory)
        return _product(tf.cast(memory, self.compute_dtype), self.memory_kernel)

    def call(self, query, memory, memory_mask=None, keys=None):
        query, _ = masking.to_dense(query)
        memory, memory_mask = masking.to_dense(memory, memory_mask)
        _check_rank("query", query)
        _check_rank("memory", memory)
        memory = masking.blank(memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        v = tf.cast(self.score_vector, keys.dtype)
        if self.normalize:
            v *= tf.cast(self.gain, v.dtype) / tf.norm(v)
        queries = _product(query, self.query_kernel) + tf.cast(self.bias, query.dtype)
        compared = tf.tanh(queries[:, :, None, :] + keys[:, None, :, :])  # (B, T, S, U)
        scores = _scores(compared, v)  # (B, T, S)
        weights = masking.masked_softmax(scores, memory_mask[:, None, :])
        return tf.matmul(weights, memory), weights

    def get_config(self):
        return {**super().get_config(), "units": self.units, "normalize": self.normalize}


@keras.saving.register_keras_serializable("kzoo")
class LuongAttention(keras.layers.Layer):
    """Multiplicative attention, global. The score is one of

        dot:      score(q, k) = q . k
        general:  score(q, k) = q . W k
        concat:   score(q, k) = v . tanh(W [q; k])

    Luong et al. (2015), https://arxiv.org/abs/1508.04025, section 3.1. With `scale`, the score is
    multiplied by a learned scalar g that starts at 1.

    Args:
        score: "dot", "general" or "concat".
        units: int, size U of the hidden layer of "concat"; None means the size of the query.
        scale: bool, whether the score has a learned factor.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged; "dot" needs Dq = Dm.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: from `project(memory)`, if it was called before.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to 1, padding gets exactly 0, a row
        without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: for an unknown score, for `units` with another score than "concat", for sizes
            that "dot" cannot compare, for inputs without three axes.
    """

    def __init__(self, score="general", units=None, scale=False, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        if score not in ("dot", "general", "concat"):
            raise ValueError(f'`score` must be "dot", "general" or "concat", got score={score!r}.')
        if units is not None and (score != "concat" or units < 1):
            raise ValueError(
                f'`units` must be at least 1 and goes with score="concat" only, '
                f"got units={units}, score={score!r}."
            )
        self.score = score
        self.units = units
        self.scale = scale

    def build(self, query_shape, memory_shape):
        query_size, memory_size = query_shape[-1], memory_shape[-1]
        if self.score == "dot" and query_size != memory_size:
            raise ValueError(
                f'`query` and `memory` must have the same number of features for score="dot", '
                f"got {query_size} and {memory_size}."
            )
        if self.score == "general":
            self.memory_kernel = self.add_weight(shape=(memory_size, query_size), name="W")
        elif self.score == "concat":
            units = self.units or query_size
            # W [q; k] = W_q q + W_k k: the memory's part is computed once.
            self.query_kernel = self.add_weight(shape=(query_size, units), name="W_q")
            self.memory_kernel = self.add_weight(shape=(memory_size, units), name="W_k")
            self.score_vector = self.add_weight(
                shape=(units,),
                initializer=keras.initializers.VarianceScaling(1.0, "fan_avg", "uniform"),
                name="v",
            )
        if self.scale:
            self.gain = self.add_weight(shape=(), initializer="ones", name="g")

    def project(self, memory):
        """Returns the keys, (B, S, Dq) or (B, S, U), for `keys=`."""
        memory, _ = masking.to_dense(memory)
        memory = tf.cast(memory, self.compute_dtype)
        return memory if self.score == "dot" else _product(memory, self.memory_kernel)

    def call(self, query, memory, memory_mask=None, keys=None):
        query, _ = masking.to_dense(query)
        memory, memory_mask = masking.to_dense(memory, memory_mask)
        _check_rank("query", query)
        _check_rank("memory", memory)
        memory = masking.blank(memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        if self.score == "concat":
            queries = _product(query, self.query_kernel)
            compared = tf.tanh(queries[:, :, None, :] + keys[:, None, :, :])  # (B, T, S, U)
            scores = _scores(compared, tf.cast(self.score_vector, keys.dtype))
        else:
            scores = tf.matmul(query, keys, transpose_b=True)  # (B, T, S)
        if self.scale:
            scores *= tf.cast(self.gain, scores.dtype)
        weights = masking.masked_softmax(scores, memory_mask[:, None, :])
        return tf.matmul(weights, memory), weights

    def get_config(self):
        config = {"score": self.score, "units": self.units, "scale": self.scale}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("kzoo")
class FixedContext(keras.layers.Layer):
    """No attention: the context is the memory's first step, whatever the query.

    Over an encoder that reads the source backwards, the first step is its final state: the fixed
    vector of Sutskever et al. (2014), https://arxiv.org/abs/1409.3215, fed to every step as in
    Cho et al. (2014), https://arxiv.org/abs/1406.1078. It has no weights.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged; only its number of steps matters.
        memory: (B, S, Dm) float, dense or ragged.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: ignored; taken so that all attention layers are called alike.

    Returns:
        context: (B, T, Dm). weights: (B, T, S), 1 at step 0 and 0 elsewhere; zeros for a row
        whose step 0 is padding. The context carries the query's mask.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, query_shape, memory_shape):
        pass

    def project(self, memory):
        """Returns the memory: there is nothing to compute ahead."""
        return masking.to_dense(memory)[0]

    def call(self, query, memory, memory_mask=None, keys=None):
        query, _ = masking.to_dense(query)
        memory, memory_mask = masking.to_dense(memory, memory_mask)
        memory = masking.blank(memory, memory_mask)
        first = tf.range(tf.shape(memory)[1])[None, :] == 0
        weights = tf.cast(first & memory_mask, memory.dtype)[:, None, :]  # (B, 1, S)
        weights = tf.repeat(weights, tf.shape(query)[1], axis=1)
        return tf.matmul(weights, memory), weights

    def get_config(self):
        # Without an own get_config, Keras refuses to save a layer that was given a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("kzoo")
class MultiHeadAttention(keras.layers.Layer):
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
        memory_mask: (B, S) bool, or (B, T, S) to differ by query; True = real. Keras fills it in.
        keys: the pair from `project(memory)`, if it was called before.
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
        self.weights_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

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

    def project(self, memory, start=0):
        """Returns keys and values, a pair of (B, Hkv, S, key_dim), for `keys=`.

        `start` is the position of memory step 0, for a decoder that projects step by step: keys
        are rotated here, once.
        """
        memory, _ = masking.to_dense(memory)
        memory = tf.cast(memory, self.compute_dtype)
        both = _product(memory, self.key_value_kernel, self.key_value_bias)
        keys, values = tf.split(both, 2, axis=-1)
        keys = self._split_heads(keys, self.num_key_value_heads)
        if self.positions is not None:
            keys = self.positions.rotate(keys, start + tf.range(tf.shape(memory)[1]))
        return keys, self._split_heads(values, self.num_key_value_heads)

    def call(
        self,
        query,
        memory=None,
        memory_mask=None,
        keys=None,
        causal=False,
        start=0,
        training=False,
    ):
        query, _ = masking.to_dense(query)
        _check_rank("query", query)
        if keys is None:
            memory, memory_mask = masking.to_dense(memory, memory_mask)
            _check_rank("memory", memory)
            if memory_mask.shape.rank == 2:
                memory = masking.blank(memory, memory_mask)
            keys = self.project(memory)
        key_heads, value_heads = keys
        queries = _product(query, self.query_kernel, self.query_bias)
        scores = self._scores(self._split_heads(queries, self.num_heads), key_heads, start)

        mask = None if memory_mask is None else tf.cast(memory_mask, tf.bool)
        if mask is not None:
            mask = mask[:, None, None, :] if mask.shape.rank == 2 else mask[:, None, :, :]
        if causal:
            past = masking.causal_mask(tf.shape(query)[1], tf.shape(key_heads)[2], start)
            mask = past if mask is None else mask & past
        weights = tf.cast(masking.masked_softmax(scores, mask), value_heads.dtype)
        read = self._times(self.weights_dropout(weights, training=training), value_heads)
        read = tf.transpose(read, (0, 2, 1, 3))  # (B, T, H, key_dim)
        shape = (tf.shape(query)[0], tf.shape(query)[1], self.num_heads * self.key_dim)
        return _product(tf.reshape(read, shape), self.output_kernel, self.output_bias), weights

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

    def _split_heads(self, x, num_heads):
        x = tf.reshape(x, (tf.shape(x)[0], tf.shape(x)[1], num_heads, self.key_dim))
        return tf.transpose(x, (0, 2, 1, 3))

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
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "positions"))
