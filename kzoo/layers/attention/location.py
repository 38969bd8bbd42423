"""Location-aware attention: Chorowski et al. (2015).

Axis letters: B batch, T target steps, S source steps, D features, U units, K beams.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking
from kzoo.layers.attention.additive import AdditiveAttention
from kzoo.layers.attention.contract import dense_inputs
from kzoo.layers.products import product


@keras.saving.register_keras_serializable("kzoo")
class LocationAwareAttention(AdditiveAttention):
    """Additive attention that knows where it looked at the step before:

        f_t = F * weights_t-1                      (convolution over the memory steps, zero-padded)
        score_tj = v . tanh(W q_t + U k_j + V f_tj + b),    weights_t = softmax(score_t)

    Chorowski et al. (2015), https://arxiv.org/abs/1506.07503, equations 8 and 9. Before the first
    step it looked nowhere: weights_-1 = 0.

    Args:
        units: int, size U of the space where query, memory and location are compared.
        filters: int, number of features of f.
        width: int, memory steps that one filter spans.

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
        ValueError: if a size is not positive or an input does not have three axes.

    Example:

    >>> attention = kzoo.LocationAwareAttention(units=4, filters=2, width=5)
    >>> context, weights = attention(tf.ones((2, 3, 6)), tf.ones((2, 7, 5)))
    >>> context.shape, weights.shape
    (TensorShape([2, 3, 5]), TensorShape([2, 3, 7]))
    """

    def __init__(self, units, filters, width, **kwargs):
        super().__init__(units, normalize=False, **kwargs)
        checks.at_least(1, filters=filters, width=width)
        self.filters = filters
        self.width = width

    def build(self, query_shape, memory_shape):
        super().build(query_shape, memory_shape)
        self.location_filters = self.add_weight(shape=(self.width, 1, self.filters), name="F")
        self.location_kernel = self.add_weight(shape=(self.filters, self.units), name="V")

    def call(self, query, memory, memory_mask=None, keys=None, *, query_mask=None):
        query, memory, memory_mask = dense_inputs(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        queries = tf.transpose(self._project_query(query), (1, 0, 2))  # (T, B, U)
        weights = tf.scan(
            lambda before, now: self._weigh(now[:, None, :], keys, memory_mask, before[:, None, :])[
                :, 0
            ],
            queries,
            self.initial_state(memory_mask),
        )
        weights = tf.cast(tf.transpose(weights, (1, 0, 2)), memory.dtype)
        return tf.matmul(weights, memory), weights

    def initial_state(self, memory_mask):
        """Returns (B, S) float32 zeros: it has looked nowhere."""
        return tf.zeros(tf.shape(memory_mask), tf.float32)

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """As `Attention.step`; the state is (B, K, S), the weights of the step before."""
        state = self._weigh(self._project_query(query), keys, memory_mask, state)
        weights = tf.cast(state, memory.dtype)
        return tf.matmul(weights, memory), weights, state

    def _weigh(self, queries, keys, memory_mask, before):
        """(B, K, U) projected queries, (B, K, S) weights before -> (B, K, S) float32."""
        steps = tf.shape(before)[-1]
        rows = tf.reshape(tf.cast(before, keys.dtype), (-1, steps, 1))
        filters = tf.cast(self.location_filters, keys.dtype)
        location = tf.nn.conv1d(rows, filters, 1, "SAME")  # (B K, S, filters)
        location = product(location, self.location_kernel)
        shape = tf.concat([tf.shape(before), [self.units]], 0)
        scores = self._score(queries, keys, tf.reshape(location, shape))
        return masking.masked_softmax(tf.cast(scores, tf.float32), memory_mask[:, None, :])

    def get_config(self):
        config = {"units": self.units, "filters": self.filters, "width": self.width}
        return {**super().get_config(), **config}
