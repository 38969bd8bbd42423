"""Additive attention with coverage: See et al. (2017).

Axis letters: B batch, T target steps, S source steps, D features, U units, K beams.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking
from kzoo.layers.attention.additive import AdditiveAttention
from kzoo.layers.attention.contract import dense_inputs


@keras.saving.register_keras_serializable("kzoo")
class CoverageAttention(AdditiveAttention):
    """Additive attention that knows how much it looked at each step so far:

        c_t = sum_{t' < t} weights_t'                                             (coverage)
        score_tj = v . tanh(W q_t + U k_j + w_c c_tj + b),    weights_t = softmax(score_t)

    See et al. (2017), https://arxiv.org/abs/1704.04368, equations 10 and 11. Coverage goes well
    with a loss that makes it matter: `Copier(coverage_weight=1.0)`.

    Args:
        units: int, size U of the space where query, memory and coverage are compared.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: (B, S, U) from `project(memory)`, if it was called before.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to 1, padding gets exactly 0, a row
        without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: if `units` is not positive or an input does not have three axes.

    Example:

    >>> attention = kzoo.CoverageAttention(units=4)
    >>> context, weights = attention(tf.ones((2, 3, 6)), tf.ones((2, 7, 5)))
    >>> context.shape, weights.shape
    (TensorShape([2, 3, 5]), TensorShape([2, 3, 7]))
    """

    def __init__(self, units, **kwargs):
        super().__init__(units, normalize=False, **kwargs)

    def build(self, query_shape, memory_shape):
        super().build(query_shape, memory_shape)
        self.coverage_kernel = self.add_weight(
            shape=(self.units,),
            initializer=keras.initializers.VarianceScaling(1.0, "fan_avg", "uniform"),
            name="w_c",
        )

    def call(self, query, memory, memory_mask=None, keys=None, *, query_mask=None):
        query, memory, memory_mask = dense_inputs(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        queries = tf.transpose(self._project_query(query), (1, 0, 2))  # (T, B, U)
        zeros = self.initial_state(memory_mask)

        def following(before, now):
            coverage = before[0] + before[1]
            weights = self._weigh(now[:, None, :], keys, memory_mask, coverage[:, None, :])
            return coverage, weights[:, 0]

        _, weights = tf.scan(following, queries, (zeros, zeros))
        weights = tf.cast(tf.transpose(weights, (1, 0, 2)), memory.dtype)
        return tf.matmul(weights, memory), weights

    def initial_state(self, memory_mask):
        """Returns (B, S) float32 zeros: nothing is covered."""
        return tf.zeros(tf.shape(memory_mask), tf.float32)

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """As `Attention.step`; the state is (B, K, S), the coverage, in float32 as it is a sum."""
        weights = self._weigh(self._project_query(query), keys, memory_mask, state)
        state += weights
        weights = tf.cast(weights, memory.dtype)
        return tf.matmul(weights, memory), weights, state

    def _weigh(self, queries, keys, memory_mask, coverage):
        """(B, K, U) projected queries, (B, K, S) coverage -> (B, K, S) float32."""
        covered = tf.cast(coverage, keys.dtype)[..., None]  # (B, K, S, 1)
        covered *= tf.cast(self.coverage_kernel, keys.dtype)
        scores = self._score(queries, keys, covered)
        return masking.masked_softmax(tf.cast(scores, tf.float32), memory_mask[:, None, :])

    def get_config(self):
        return {**super().get_config(), "units": self.units}
