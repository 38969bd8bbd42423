"""What CTC has heard so far: the hypotheses of a prefix search, as state and as an answer.

Axis letters: B batch, S frames, K beams, W tokens that the beams do not share, C tokens that they
share, L longest output.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from kzoo import checks
from kzoo.search import SearchResult
from kzoo.search.beams import normalized_scores


class CTCBeams(NamedTuple):
    """The hypotheses of a prefix beam search after some frames, best first; all that it keeps.

    A hypothesis is what all of them share and then its own tokens, both padded with 0. `ctc_beams`
    makes the first, `ctc_advance` the next, `ctc_result` an answer.
    """

    shared_ids: tf.Tensor  # (B, C) int32
    shared_frames: tf.Tensor  # (B, C) int32: where each token begins
    ids: tf.Tensor  # (B, K, W) int32
    frames: tf.Tensor  # (B, K, W) int32
    last: tf.Tensor  # (B, K) int32: the last token, 0 before the first
    log_blank: tf.Tensor  # (B, K) float32: log p of the alignments that end with a blank
    log_label: tf.Tensor  # (B, K) float32: of those that end with the last token
    position: tf.Tensor  # (B,) int32: frames read


def ctc_beams(rows, beam_size):
    """Returns the `CTCBeams` before the first frame: the empty hypothesis, with probability 1.

    Args:
        rows: int or int scalar tensor, B.
        beam_size: int >= 1, K.

    Raises:
        ValueError: `beam_size` is not positive.
    """
    checks.integer(1, beam_size=beam_size)
    impossible = tf.fill([rows, beam_size], -math.inf)
    is_first = tf.range(beam_size) == 0
    return CTCBeams(
        shared_ids=tf.zeros([rows, 0], tf.int32),
        shared_frames=tf.zeros([rows, 0], tf.int32),
        ids=tf.zeros([rows, beam_size, 0], tf.int32),
        frames=tf.zeros([rows, beam_size, 0], tf.int32),
        last=tf.zeros([rows, beam_size], tf.int32),
        log_blank=tf.where(is_first, 0.0, impossible),
        log_label=impossible,
        position=tf.zeros([rows], tf.int32),
    )


def with_shared(beams, window):
    """Moves the tokens that all hypotheses with some probability begin with to the shared ones."""
    is_alive = log_add(beams.log_blank, beams.log_label) > -math.inf
    ids = tf.where(is_alive[:, :, None], beams.ids, 0)
    if window is not None:
        fits = tf.reduce_sum(tf.cast(ids != 0, tf.int32), 2) <= window  # (B, K)
        is_alive &= tf.reduce_all(fits, 1, keepdims=True) | (ids[:, :, 0] == ids[:, :1, 0])
        ids = tf.where(is_alive[:, :, None], ids, 0)
    agree = (ids == ids[:, :1]) | ~is_alive[:, :, None]
    agree = tf.reduce_all(agree, 1) & (ids[:, 0] != 0)  # (B, W); the best one is alive
    count = tf.reduce_sum(tf.math.cumprod(tf.cast(agree, tf.int32), axis=1), 1)  # (B,)
    old = tf.reduce_sum(tf.cast(beams.shared_ids != 0, tf.int32), 1)
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(ids != 0, tf.int32), 2) - count[:, None])
    longest = tf.maximum(longest, 0)
    total = tf.maximum(tf.reduce_max(old + count), 0)  # of no rows it is the least int32
    return beams._replace(
        shared_ids=_joined(beams.shared_ids, old, ids[:, 0], total, count),
        shared_frames=_joined(beams.shared_frames, old, beams.frames[:, 0], total, count),
        ids=_from(ids, count, longest),
        frames=_from(beams.frames, count, longest),
        log_blank=tf.where(is_alive, beams.log_blank, -math.inf),
        log_label=tf.where(is_alive, beams.log_label, -math.inf),
    )


def _joined(first, lengths, second, width, count):
    """(B, C), (B,) lengths and (B, W) of which `count` (B,) follow -> (B, width), then 0."""
    places = tf.range(width)
    behind = places - lengths[:, None]
    following = tf.gather(
        tf.pad(second, [[0, 0], [0, 1]]),
        tf.clip_by_value(behind, 0, tf.shape(second)[1]),
        batch_dims=1,
    )
    first = tf.pad(first, [[0, 0], [0, tf.maximum(width - tf.shape(first)[1], 0)]])[:, :width]
    following = tf.where(behind < count[:, None], following, 0)
    return tf.where(behind < 0, first, following)


def _from(tokens, start, width):
    """(B, K, W) from place `start` (B,) on -> (B, K, width)."""
    places = start[:, None] + tf.range(width)
    end = tf.shape(tokens)[2]
    padded = tf.pad(tokens, [[0, 0], [0, 0], [0, 1]])
    return tf.gather(padded, tf.minimum(places, end), axis=2, batch_dims=1)


def ctc_result(beams, length_penalty=0.0, steps=None, best_only=False):
    """The hypotheses as the result of a search, best score first.

    Args:
        beams: `CTCBeams`.
        length_penalty: float >= 0, of `search.beams.normalized_scores`; it ranks the K hypotheses.
        steps: int or int scalar tensor, S of the weights; None for all frames read. They are K
            times L times S numbers: 0 where nobody looks at them.
        best_only: bool, whether to return the first hypothesis alone.

    Returns:
        `SearchResult`: `log_probs` is log p(y | x) as far as the beam summed it up; the weights
        are 1 at the frame where a token begins. L is the most tokens of a hypothesis.

    Raises:
        ValueError: `length_penalty` is negative.
    """
    checks.finite_not_negative(length_penalty=length_penalty)
    rows, size = tf.shape(beams.last)[0], beams.last.shape[1]
    log_probs = log_add(beams.log_blank, beams.log_label)
    lengths = tf.reduce_sum(tf.cast(beams.ids != 0, tf.int32), 2)
    shared = tf.reduce_sum(tf.cast(beams.shared_ids != 0, tf.int32), 1)
    width = tf.maximum(tf.reduce_max(shared[:, None] + lengths), 0)

    def whole(first, second):
        first = tf.repeat(first, size, axis=0)
        second = tf.reshape(second, [rows * size, tf.shape(second)[2]])
        count = tf.reshape(lengths, [-1])
        joined = _joined(first, tf.repeat(shared, size), second, width, count)
        return tf.reshape(joined, [rows, size, width])

    ids, frames = whole(beams.shared_ids, beams.ids), whole(beams.shared_frames, beams.frames)
    steps = tf.maximum(tf.reduce_max(beams.position), 0) if steps is None else steps
    return best_of(ids, frames, log_probs, length_penalty, steps, 1 if best_only else size)


def best_of(ids, frames, log_probs, length_penalty, steps, count):
    """(B, K, L) ids and frames, (B, K) log_probs -> SearchResult of the best `count`."""
    is_possible = log_probs > -math.inf
    ids = tf.where(is_possible[:, :, None], ids, 0)
    lengths = tf.reduce_sum(tf.cast(ids != 0, tf.int32), 2)
    scores = normalized_scores(log_probs, lengths, length_penalty)
    scores, order = tf.math.top_k(scores, count)
    ids, frames, log_probs, lengths = (
        tf.gather(x, order, batch_dims=1) for x in (ids, frames, log_probs, lengths)
    )
    begins = tf.range(steps) == frames[..., None]
    weights = tf.cast(begins & (ids != 0)[..., None], tf.float32)
    # An output has a probability, its tokens have none: they can stand in many places.
    no_steps = scores[:, :, None][:, :, 1:]
    return SearchResult(ids, scores, log_probs, lengths, weights, no_steps)


def log_add(a, b):
    """log(exp a + exp b); -inf where both are."""
    high, low = tf.maximum(a, b), tf.minimum(a, b)
    return tf.where(high == -math.inf, high, high + tf.math.log1p(tf.exp(low - high)))
