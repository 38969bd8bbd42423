"""What every attention layer has: checked inputs, `initial_state` and `step`.

Axis letters: B batch, T target steps, S source steps, D features, H heads, K beams.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking


def _check_rank(name, x):
    if x.shape.rank != 3:
        raise ValueError(f"`{name}` must have 3 axes (batch, steps, features), got {x.shape}.")


def dense_query(query, query_mask):
    """Returns the query, dense and checked, with zeros where it is known to be padding."""
    mask = masking.carried_mask(query, query_mask)
    query, _ = masking.to_dense(query)
    _check_rank("query", query)
    return query if mask is None else masking.blank(query, mask)


def dense_memory(memory, memory_mask):
    """Returns the memory, dense and checked, with zeros in the padding, and its mask."""
    if memory_mask is not None and not tf.is_tensor(memory_mask):
        memory_mask = tf.convert_to_tensor(memory_mask)
    if memory_mask is not None and memory_mask.shape.rank != 2:
        raise ValueError(
            f"`memory_mask` must have 2 axes (batch, memory steps), got {memory_mask.shape}."
        )
    memory, memory_mask = masking.to_dense(memory, memory_mask)
    _check_rank("memory", memory)
    if not memory_mask.shape.is_compatible_with(memory.shape[:2]):
        raise ValueError(
            f"`memory_mask` must have the batch and steps of `memory`, {memory.shape[:2]}, "
            f"got {memory_mask.shape}."
        )
    return masking.blank(memory, memory_mask), memory_mask


def dense_inputs(query, query_mask, memory, memory_mask):
    """Returns the query, the memory and its mask, dense and checked, with zeros in the padding."""
    return dense_query(query, query_mask), *dense_memory(memory, memory_mask)


class Attention(keras.layers.Layer):
    """What a decoder that goes step by step needs of every attention layer.

    This is the whole of it for a layer that answers each query by itself. One whose answer
    depends on the step before overrides `initial_state` and `step`.
    """

    def compute_mask(self, query, previous_mask=None):
        """The context carries the query's mask."""
        return masking.carried_mask(query, previous_mask)

    def initial_state(self, memory_mask):
        """Returns the state before step 0: nested tensors with B rows, or () for none.

        Args:
            memory_mask: (B, S) bool.
        """
        return ()

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """Answers the next query of each of K beams.

        Args:
            query: (B, K, Dq) float.
            memory: (B, S, Dm) float, dense, with zeros in the padding.
            memory_mask: (B, S) bool.
            keys: from `project(memory)`.
            state: what `initial_state` or the step before returned, as (B, K, ...).
            training: bool; of use to a layer with noise or dropout.

        Returns:
            context: (B, K, Dm). weights: (B, K, S) or (B, H, K, S). state: for the next step.
        """
        context, weights = self(query, memory, memory_mask=memory_mask, keys=keys)
        return context, weights, state
