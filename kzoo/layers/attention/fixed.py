"""No attention: a fixed context vector in the place of an attention layer.

Axis letters: B batch, T target steps, S source steps, D features.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking
from kzoo.layers.attention.contract import Attention, dense_inputs


@keras.saving.register_keras_serializable("kzoo")
class FixedContext(Attention):
    """No attention: the context is the memory's first step, whatever the query.

    Over an encoder that reads the source backwards, the first step is its final state: the fixed
    vector of Sutskever et al. (2014), https://arxiv.org/abs/1409.3215, fed to every step as in
    Cho et al. (2014), https://arxiv.org/abs/1406.1078. It has no weights.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged; only its number of steps matters.
        memory: (B, S, Dm) float, dense or ragged.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: ignored; taken so that all attention layers are called alike.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S), 1 at step 0 and 0 elsewhere; zeros for a row
        whose step 0 is padding. The context carries the query's mask.

    Example:

    >>> context, weights = kzoo.FixedContext()(tf.ones((1, 2, 3)), tf.constant([[[4.0], [5.0]]]))
    >>> context.numpy().ravel()
    array([4., 4.], dtype=float32)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, query_shape, memory_shape):
        pass

    def project(self, memory):
        """Returns the memory: there is nothing to compute ahead."""
        return masking.to_dense(memory)[0]

    def call(self, query, memory, memory_mask=None, keys=None, *, query_mask=None):
        query, memory, memory_mask = dense_inputs(query, query_mask, memory, memory_mask)
        first = tf.range(tf.shape(memory)[1])[None, :] == 0
        weights = tf.cast(first & memory_mask, memory.dtype)[:, None, :]  # (B, 1, S)
        weights = tf.repeat(weights, tf.shape(query)[1], axis=1)
        return tf.matmul(weights, memory), weights

    def get_config(self):
        # Without an own get_config, Keras refuses to save a layer that was given a dtype policy.
        return super().get_config()
