"""Multiplicative attention: Luong et al. (2015), global and local.

Axis letters: B batch, T target steps, S source steps, D features, U units, K beams.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking
from kzoo.layers.attention.contract import Attention, dense_inputs
from kzoo.layers.products import inner_products, product


class _MultiplicativeAttention(Attention):
    """Luong's three scores, and the weights they take."""

    def __init__(self, score, units, scale, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        checks.one_of(("dot", "general", "concat"), score=score)
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
        return memory if self.score == "dot" else product(memory, self.memory_kernel)

    def _score(self, query, keys):
        """(B, T, Dq), keys -> (B, T, S)."""
        if self.score == "concat":
            queries = product(query, self.query_kernel)
            compared = tf.tanh(queries[:, :, None, :] + keys[:, None, :, :])  # (B, T, S, U)
            scores = inner_products(compared, tf.cast(self.score_vector, keys.dtype))
        else:
            scores = tf.matmul(query, keys, transpose_b=True)
        if self.scale:
            scores *= tf.cast(self.gain, scores.dtype)
        return scores

    def get_config(self):
        config = {"score": self.score, "units": self.units, "scale": self.scale}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("kzoo")
class LuongAttention(_MultiplicativeAttention):
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
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to 1, padding gets exactly 0, a row
        without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: for an unknown score, for `units` with another score than "concat", for sizes
            that "dot" cannot compare, for inputs without three axes.

    Example:

    >>> attention = kzoo.LuongAttention("general", scale=True)
    >>> mask = tf.constant([[True, True, False]])
    >>> context, weights = attention(tf.ones((1, 4, 5)), tf.ones((1, 3, 2)), memory_mask=mask)
    >>> weights[0, 0].numpy()
    array([0.5, 0.5, 0. ], dtype=float32)
    """

    def __init__(self, score="general", units=None, scale=False, **kwargs):
        super().__init__(score, units, scale, **kwargs)

    def call(self, query, memory, memory_mask=None, keys=None, *, query_mask=None):
        query, memory, memory_mask = dense_inputs(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        return self._attend(query, memory, memory_mask, keys)

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """As `Attention.step`, without looking at the padding again."""
        query, memory = (tf.cast(x, self.compute_dtype) for x in (query, memory))
        return *self._attend(query, memory, memory_mask, keys), state

    def _attend(self, query, memory, memory_mask, keys):
        weights = masking.masked_softmax(self._score(query, keys), memory_mask[:, None, :])
        return tf.matmul(weights, memory), weights


@keras.saving.register_keras_serializable("kzoo")
class LocalAttention(_MultiplicativeAttention):
    """Multiplicative attention to a window of the memory around a place p_t:

        align_tj = softmax(score(q_t, k_j)) over the real steps j with |j - p_t| <= D
        monotonic (local-m):   p_t = t,    weights = align
        predictive (local-p):  p_t = S sigmoid(v_p . tanh(W_p q_t)),
                               weights_tj = align_tj exp(-(j - p_t)^2 / (2 (D / 2)^2))

    Luong et al. (2015), https://arxiv.org/abs/1508.04025, section 3.2, equations 7 to 10. S is
    the row's own length, up to its last real step. As in the paper, the part of a window beyond the
    ends is ignored; a window of "monotonic" that lies wholly behind the last real step is empty.

    Args:
        window: int, D, memory steps on either side of p_t.
        alignment: "predictive" or "monotonic".
        score, units, scale: as in LuongAttention.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged; "dot" needs Dq = Dm.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: from `project(memory)`, if it was called before.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows of "monotonic" sum to 1, those of
        "predictive" to less, outside the window and in the padding they are exactly 0, and a row
        without a real step in its window has zeros. The context carries the query's mask.

    Raises:
        ValueError: if `window` is not positive, `alignment` is unknown, or as in LuongAttention.

    Example:

    >>> attention = kzoo.LocalAttention(window=1, alignment="monotonic", score="dot")
    >>> context, weights = attention(tf.zeros((1, 3, 2)), tf.zeros((1, 4, 2)))
    >>> weights[0].numpy().round(2)
    array([[0.5 , 0.5 , 0.  , 0.  ],
           [0.33, 0.33, 0.33, 0.  ],
           [0.  , 0.33, 0.33, 0.33]], dtype=float32)
    """

    def __init__(
        self,
        window=10,
        alignment="predictive",
        score="general",
        units=None,
        scale=False,
        **kwargs,
    ):
        super().__init__(score, units, scale, **kwargs)
        checks.at_least(1, window=window)
        checks.one_of(("predictive", "monotonic"), alignment=alignment)
        self.window = window
        self.alignment = alignment

    def build(self, query_shape, memory_shape):
        super().build(query_shape, memory_shape)
        size = query_shape[-1]
        if self.alignment == "predictive":
            self.place_kernel = self.add_weight(shape=(size, size), name="W_p")
            self.place_vector = self.add_weight(
                shape=(size, 1), initializer="glorot_uniform", name="v_p"
            )

    def call(self, query, memory, memory_mask=None, keys=None, *, query_mask=None):
        query, memory, memory_mask = dense_inputs(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        return self._attend(query, memory, memory_mask, keys, tf.range(tf.shape(query)[1])[None, :])

    def initial_state(self, memory_mask):
        """Returns (B,) int32 zeros: the number of the target step."""
        return tf.zeros(tf.shape(memory_mask)[:1], tf.int32)

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """As `Attention.step`; the state is (B, K), the number of the target step."""
        query, memory = (tf.cast(x, self.compute_dtype) for x in (query, memory))
        context, weights = self._attend(query, memory, memory_mask, keys, state)
        return context, weights, state + 1

    def _attend(self, query, memory, memory_mask, keys, target_steps):
        places = tf.range(tf.shape(memory)[1])
        # Positions stay in float32: bfloat16 cannot tell step 257 from 256.
        if self.alignment == "monotonic":
            centre = tf.cast(target_steps, tf.float32)[:, :, None]  # (B or 1, T, 1)
        else:
            lengths = tf.reduce_max(tf.where(memory_mask, places + 1, 0), 1)  # 0 for no steps
            lengths = tf.cast(tf.maximum(lengths, 0), tf.float32)[:, None, None]
            share = product(tf.tanh(product(query, self.place_kernel)), self.place_vector)
            centre = lengths * tf.sigmoid(tf.cast(share, tf.float32))  # (B, T, 1)
        distance = tf.cast(places, tf.float32) - centre  # (B or 1, T, S)
        inside = memory_mask[:, None, :] & (tf.abs(distance) <= self.window)
        weights = masking.masked_softmax(self._score(query, keys), inside)
        if self.alignment == "predictive":
            gaussian = tf.exp(-2.0 * tf.square(distance / self.window))
            weights *= tf.cast(gaussian, weights.dtype)
        return tf.matmul(weights, memory), weights

    def get_config(self):
        return {**super().get_config(), "window": self.window, "alignment": self.alignment}
