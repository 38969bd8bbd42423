"""What every search returns, and how its loop writes it down.

Axes: B batch, K beams, L = max_length, S source steps.
"""

import math
from typing import NamedTuple

import tensorflow as tf


class SearchResult(NamedTuple):
    """What a search found, best score first.

    A finished hypothesis has `length + 1` ids, the last one `end_id`. One that filled all L slots
    without an end is ranked with the others by the same formula and has `length == L`. When a row
    has fewer than K hypotheses of non-zero probability, the rest score -inf, with ids and length 0.

    Example:

    >>> kzoo.SearchResult._fields
    ('ids', 'scores', 'log_probs', 'lengths', 'weights', 'step_log_probs')
    """

    ids: tf.Tensor  # (B, K, L) int32: generated tokens, the end included, then 0
    scores: tf.Tensor  # (B, K) float32, by the equation of `beam_search`
    log_probs: tf.Tensor  # (B, K) float32: plain sum over the tokens, the end included
    lengths: tf.Tensor  # (B, K) int32: generated tokens, the end not counted
    weights: tf.Tensor  # (B, K, L, S) float32: attention per generated token, then 0; or S = 0
    step_log_probs: tf.Tensor  # (B, K, L) float32: of each token, then 0; they sum to log_probs.
    # (B, K, 0) from a search by CTC, whose outputs have a probability and their tokens none.


def written(history, here, values):
    """Puts the values (B, K) of a step into its slot, where `here` (L,) is True: (B, K, L)."""
    return tf.where(here, values[:, :, None], history)


def only_used(found):
    """The result of a loop, with 0 in the slots behind each end and in impossible hypotheses.

    Args:
        found: `SearchResult`, where any value may stand in those slots.

    Returns:
        `SearchResult`.
    """
    possible = found.scores > -math.inf
    lengths = tf.where(possible, found.lengths, 0)
    slots = tf.range(tf.shape(found.ids)[2])
    used = possible[:, :, None] & (slots <= lengths[:, :, None])  # (B, K, L), the end included
    return found._replace(
        ids=tf.where(used, found.ids, 0),
        lengths=lengths,
        weights=tf.where(used[..., None], found.weights, 0.0),
        step_log_probs=tf.where(used, found.step_log_probs, 0.0),
    )
