"""Forced alignment: when each token was said, by the best alignment that CTC knows.

Axis letters: B batch, S frames, V vocabulary, T tokens, N = 2 T + 1 names: tokens and blanks.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from kzoo.ctc.loss import BLANK_ID, with_a_frame
from kzoo.layers import masking


class Alignment(NamedTuple):
    """The frames that name each token of the best alignment."""

    first: tf.Tensor  # (B, T) int32; -1 for padding, and where the row has no alignment
    last: tf.Tensor  # (B, T) int32; the same
    log_probs: tf.Tensor  # (B,) float32, of the alignment; -inf where there is none, NaN from NaN


def ctc_align(labels, logits, mask=None):
    """The most probable of all alignments of the labels, by Viterbi's algorithm:

        v_s(n) = q_s(name_n) max(v_(s-1)(n), v_(s-1)(n - 1), v_(s-1)(n - 2))

    over the names "blank, token, blank, token, ..., blank", with q the probabilities of the frame;
    n - 2 only for a token that differs from the one before. Graves et al. (2006),
    https://doi.org/10.1145/1143844.1143891, section 4.1, with the maximum in place of the sum.

    Args:
        labels: (B, T) int, padded with 0 or ragged, without start and end.
        logits: (B, S, V) float; the softmax is taken in float32.
        mask: (B, S) bool, True = real, or None for all.

    Returns:
        `Alignment`. Until it is done, B S N bytes are kept.

    Example:

    >>> logits = 9 * tf.one_hot([[0, 4, 4, 0, 5]], 6)
    >>> found = kzoo.ctc_align([[4, 5]], logits)
    >>> found.first.numpy(), found.last.numpy()
    (array([[1, 4]], dtype=int32), array([[2, 4]], dtype=int32))
    """
    labels, _ = masking.to_dense(labels)
    labels = tf.cast(labels, tf.int32)
    logits, mask = with_a_frame(logits, mask)
    log_q = tf.nn.log_softmax(logits)
    rows, tokens = tf.unstack(tf.shape(labels))
    frames = tf.shape(mask)[1]
    blanks = tf.fill([rows, tokens + 1], BLANK_ID)
    names = tf.stack([blanks[:, :-1], labels], 2)
    names = tf.concat([tf.reshape(names, (rows, 2 * tokens)), blanks[:, -1:]], 1)  # (B, N)
    before = tf.pad(names, [[0, 0], [2, 0]])[:, :-2]
    may_skip = (names != BLANK_ID) & (names != before)

    def later(scores, by):
        return tf.pad(scores, [[0, 0], [by, 0]], constant_values=-math.inf)[:, : 2 * tokens + 1]

    def read(step, scores, moves):
        skipped = tf.where(may_skip, later(scores, 2), -math.inf)
        sources = tf.stack([scores, later(scores, 1), skipped], 2)  # (B, N, 3)
        new = tf.reduce_max(sources, 2) + tf.gather(log_q[:, step], names, axis=1, batch_dims=1)
        is_real = mask[:, step, None]
        moved = tf.where(is_real, tf.argmax(sources, 2, tf.int32), 0)
        scores = tf.where(is_real, new, scores)
        return step + 1, scores, moves.write(step, tf.cast(moved, tf.int8))

    def retrace(step, place, places):
        moved = tf.gather(moves.read(step), place, axis=1, batch_dims=1)
        return step - 1, place - tf.cast(moved, tf.int32), places.write(step, place)

    start = tf.where(tf.range(2 * tokens + 1) == 0, 0.0, -math.inf)  # a blank before all frames
    start = tf.tile(start[None], [rows, 1])
    moves = tf.TensorArray(tf.int8, frames, element_shape=(labels.shape[0], None))
    _, scores, moves = tf.while_loop(lambda step, *_: step < frames, read, (0, start, moves))

    lengths = tf.reduce_sum(tf.cast(labels != 0, tf.int32), 1)
    ends = tf.stack([2 * lengths, tf.maximum(2 * lengths - 1, 0)], 1)  # the last blank, or token
    end_scores = tf.gather(scores, ends, batch_dims=1)
    log_probs = tf.reduce_max(end_scores, 1)
    end = tf.gather(ends, tf.argmax(end_scores, 1), batch_dims=1)

    places = tf.TensorArray(tf.int32, frames, element_shape=(labels.shape[0],))
    state = (frames - 1, end, places)
    _, _, places = tf.while_loop(lambda step, *_: step >= 0, retrace, state)
    places = tf.transpose(places.stack())  # (B, S), where each frame is among the names
    is_token = mask & (places % 2 == 1) & tf.math.is_finite(log_probs)[:, None]
    slots = tf.where(is_token, tf.range(rows)[:, None] * tokens + places // 2, -1)  # -1: nowhere
    times = tf.broadcast_to(tf.range(frames), tf.shape(slots))
    last = tf.math.unsorted_segment_max(times, slots, rows * tokens)
    first = tf.math.unsorted_segment_min(times, slots, rows * tokens)
    first = tf.where(last < 0, -1, first)  # without a frame, the least integer and the greatest
    shape = (rows, tokens)
    return Alignment(tf.reshape(first, shape), tf.reshape(tf.maximum(last, -1), shape), log_probs)
