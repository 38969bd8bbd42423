"""Forced alignment: when each token was said, by the best alignment that CTC knows.

Axis letters: B batch, S frames, V vocabulary, T tokens, N = 2 T + 1 names: tokens and blanks.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from kzoo.ctc import BLANK_ID
from kzoo.layers import masking


class Alignment(NamedTuple):
    """The frames that name each token of the best alignment."""

    first: tf.Tensor  # (B, T) int32; -1 for padding, and where the row has no alignment
    last: tf.Tensor  # (B, T) int32; the same
    log_probs: tf.Tensor  # (B,) float32, of the alignment; -inf where there is none


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
        `Alignment`.

    Example:

    >>> logits = 9 * tf.one_hot([[0, 4, 4, 0, 5]], 6)
    >>> found = kzoo.ctc_align([[4, 5]], logits)
    >>> found.first.numpy(), found.last.numpy()
    (array([[1, 4]], dtype=int32), array([[2, 4]], dtype=int32))
    """
    labels, _ = masking.to_dense(labels)
    labels = tf.cast(labels, tf.int32)
    logits = tf.cast(logits, tf.float32)
    mask = tf.ones(tf.shape(logits)[:2], tf.bool) if mask is None else tf.convert_to_tensor(mask)
    log_q = tf.nn.log_softmax(masking.blank(logits, mask))
    rows, tokens = tf.unstack(tf.shape(labels))
    blanks = tf.fill([rows, tokens + 1], BLANK_ID)
    names = tf.stack([blanks[:, :-1], labels], 2)
    names = tf.concat([tf.reshape(names, (rows, 2 * tokens)), blanks[:, -1:]], 1)  # (B, N)
    before = tf.pad(names, [[0, 0], [2, 0]])[:, :-2]
    may_skip = (names != BLANK_ID) & (names != before)

    def later(scores, by):
        return tf.pad(scores, [[0, 0], [by, 0]], constant_values=-math.inf)[:, : 2 * tokens + 1]

    def read(state, frame):
        scores, _ = state
        log_q, is_real = frame
        skipped = tf.where(may_skip, later(scores, 2), -math.inf)
        sources = tf.stack([scores, later(scores, 1), skipped], 2)  # (B, N, 3)
        new = tf.reduce_max(sources, 2) + tf.gather(log_q, names, axis=1, batch_dims=1)
        moved = tf.argmax(sources, 2, tf.int32)
        is_real = is_real[:, None]
        return tf.where(is_real, new, scores), tf.where(is_real, moved, 0)

    start = tf.where(tf.range(2 * tokens + 1) == 0, 0.0, -math.inf)  # a blank before all frames
    start = tf.tile(start[None], [rows, 1])
    frames = tf.transpose(log_q, [1, 0, 2]), tf.transpose(mask)
    scores, moves = tf.scan(read, frames, (start, tf.zeros_like(names)))  # (S, B, N)
    scores = tf.concat([start[None], scores], 0)[-1]

    lengths = tf.reduce_sum(tf.cast(labels != 0, tf.int32), 1)
    ends = tf.stack([2 * lengths, tf.maximum(2 * lengths - 1, 0)], 1)  # the last blank, or token
    end_scores = tf.gather(scores, ends, batch_dims=1)
    log_probs = tf.reduce_max(end_scores, 1)
    end = tf.gather(ends, tf.argmax(end_scores, 1), batch_dims=1)

    def retrace(place, moved):
        return place - tf.gather(moved, place, axis=1, batch_dims=1)

    places = tf.scan(retrace, moves, end, reverse=True)  # (S, B), before each frame
    places = tf.transpose(tf.concat([places[1:], end[None]], 0))[:, : tf.shape(mask)[1]]
    places = tf.where(mask & tf.math.is_finite(log_probs)[:, None], places, -1)
    named = places[:, None, :] == 2 * tf.range(tokens)[:, None] + 1  # (B, T, S)
    frame = tf.range(tf.shape(mask)[1])
    last = tf.reduce_max(tf.where(named, frame, -1), 2)
    first = tf.reduce_min(tf.where(named, frame, tf.int32.max), 2)
    return Alignment(tf.where(last < 0, -1, first), tf.maximum(last, -1), log_probs)
