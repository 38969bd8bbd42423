"""Times among the tokens, as Whisper writes them: which may come when.

    <|0.00|> He hoped <|1.20|> <|1.20|> there would be stew <|3.00|> end

Axes: N hypotheses, L longest output, V vocabulary.
"""

import math
from typing import NamedTuple

import tensorflow as tf


class Times(NamedTuple):
    """The ids that are times.

    Args:
        first_id: int, of the time 0; all ids from it on are times, 0.02 s apart. The id before it
            is `<|notimestamps|>`, which is never generated.
        latest_at_first: int, the latest time that an output may begin with, in steps of 0.02 s;
            Whisper's is 1 s.
    """

    first_id: int
    latest_at_first: int = 50


def forbidden_by_times(times, end_id, logits, ids, position, others):
    """What the rules of times take away from the next token.

    Radford et al. (2022), https://arxiv.org/abs/2212.04356, section 4.5, and its published code: an
    output begins with a time of at most `latest_at_first`; after text and a time come a time or
    the end, after two times a text; times do not fall, and a part that begins with a time ends
    later; and if all times that are left are together more probable than each other token, it is a
    time.

    Args:
        times: Times. end_id: int.
        logits: (N, V) float.
        ids: (N, L) int32, generated so far: `position` tokens each.
        position: int32 scalar.
        others: (V,) or (N, V) bool, forbidden by other constraints.

    Returns:
        (N, V) bool.
    """
    first = times.first_id  # all before are no times, all from it on are: two slices
    texts, steps = tf.range(first), tf.range(first, logits.shape[1])
    last = tf.gather(ids, tf.maximum(position - 1, 0), axis=1)[:, None]  # (N, 1)
    second_last = tf.gather(ids, tf.maximum(position - 2, 0), axis=1)[:, None]
    after_time = (last >= times.first_id) & (position > 0)
    after_two = after_time & ((second_last >= times.first_id) | (position < 2))
    ends_part = after_time & ~after_two

    is_known = (tf.range(tf.shape(ids)[1]) < position) & (ids >= times.first_id)
    latest = tf.reduce_max(tf.where(is_known, ids, times.first_id - 1), 1, keepdims=True)
    too_early = steps < tf.where(ends_part, latest, latest + 1)
    too_late = (steps > first + times.latest_at_first) & (position == 0)
    no_time = after_two | too_early | too_late  # (N, V - first)
    no_text = (ends_part & (texts != end_id)) | (texts == first - 1) | (position == 0)  # (N, first)

    def possible(forbidden, place):
        return tf.where(forbidden | others[..., place], -math.inf, logits[:, place])

    mass = tf.reduce_logsumexp(
        tf.cast(possible(no_time, slice(first, None)), tf.float32), 1, keepdims=True
    )
    best = tf.cast(tf.reduce_max(possible(no_text, slice(first)), 1, keepdims=True), tf.float32)
    return tf.concat([no_text | (mass > best), no_time], 1)
