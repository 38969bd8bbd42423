"""Additive attention: Bahdanau et al. (2015).

Axis letters: B batch, T target steps, S source steps, D features, U units.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking
from kzoo.layers.attention.contract import Attention, dense_inputs
from kzoo.layers.products import inner_products, product


class AdditiveAttention(Attention):
    """score(q, k) = v . tanh(W q + U k + b), and the weights it takes."""

    def __init__(self, units, normalize, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        checks.at_least(1, units=units)
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
        return product(tf.cast(memory, self.compute_dtype), self.memory_kernel)

    def _project_query(self, query):
        query = tf.cast(query, self.compute_dtype)
        return product(query, self.query_kernel, self.bias)  # (B, T, U)

    def _score(self, queries, keys, more=0.0):
        """v . tanh(queries + keys + more): (B, T, U), (B, S, U), (B, T, S, U) -> (B, T, S)."""
        v = tf.cast(self.score_vector, keys.dtype)
        if self.normalize:
            v *= tf.cast(self.gain, v.dtype) / tf.norm(v)
        compared = tf.tanh(queries[:, :, None, :] + keys[:, None, :, :] + more)
        return inner_products(compared, v)


@keras.saving.register_keras_serializable("kzoo")
class BahdanauAttention(AdditiveAttention):
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
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to 1, padding gets exactly 0, a row
        without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: if `units` is not positive or an input does not have three axes.

    Example:

    >>> attention = kzoo.BahdanauAttention(units=4)
    >>> memory = tf.ragged.constant([[[1.0, 2.0]] * 3, [[3.0, 4.0]]], ragged_rank=1)
    >>> context, weights = attention(tf.ones((2, 5, 6)), memory)
    >>> context.shape, weights[1, 0].numpy().round(4)
    (TensorShape([2, 5, 2]), array([1., 0., 0.], dtype=float32))
    """

    def __init__(self, units, normalize=False, **kwargs):
        super().__init__(units, normalize, **kwargs)

    def call(self, query, memory, memory_mask=None, keys=None, *, query_mask=None):
        query, memory, memory_mask = dense_inputs(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        return self._attend(query, memory, memory_mask, keys)

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """As `Attention.step`, without looking at the padding again."""
        memory = tf.cast(memory, self.compute_dtype)
        return *self._attend(query, memory, memory_mask, keys), state

    def _attend(self, query, memory, memory_mask, keys):
        scores = self._score(self._project_query(query), keys)
        weights = masking.masked_softmax(scores, memory_mask[:, None, :])
        return tf.matmul(weights, memory), weights

    def get_config(self):
        return {**super().get_config(), "units": self.units, "normalize": self.normalize}
