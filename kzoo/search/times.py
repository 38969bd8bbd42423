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
        others: (N, V) bool, forbidden by other constraints.

    Returns:
        (N, V) bool.
    """
    tokens = tf.range(logits.shape[1])
    is_time = tokens >= times.first_id
    last = tf.gather(ids, tf.maximum(position - 1, 0), axis=1)[:, None]  # (N, 1)
    second_last = tf.gather(ids, tf.maximum(position - 2, 0), axis=1)[:, None]
    after_time = (last >= times.first_id) & (position > 0)
    after_two = after_time & ((second_last >= times.first_id) | (position < 2))
    ends_part = after_time & ~after_two

    is_known = (tf.range(tf.shape(ids)[1]) < position) & (ids >= times.first_id)
    latest = tf.reduce_max(tf.where(is_known, ids, times.first_id - 1), 1, keepdims=True)
    too_early = tokens < tf.where(ends_part, latest, latest + 1)
    not_first = ~is_time | (tokens > times.first_id + times.latest_at_first)
    forbidden = (
        (after_two & is_time)
        | (ends_part & ~is_time & (tokens != end_id))
        | (is_time & too_early)
        | (not_first & (position == 0))
        | (tokens == times.first_id - 1)
    )
    possible = tf.where(forbidden | others, -math.inf, tf.cast(logits, tf.float32))
    mass = tf.reduce_logsumexp(tf.where(is_time, possible, -math.inf), 1, keepdims=True)
    best = tf.reduce_max(tf.where(is_time, -math.inf, possible), 1, keepdims=True)
    return forbidden | (~is_time & (mass > best))
