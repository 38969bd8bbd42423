"""Connectionist temporal classification (CTC): loss, greedy and prefix beam search, prefix scores.

Graves et al. (2006), https://doi.org/10.1145/1143844.1143891. Each frame names a token or the
blank, and a sequence of names stands for the tokens that are left when repeats and then blanks are
taken away: "aa-ab" for "aab". p(y | x) is the sum over all sequences of names that stand for y.

The blank is id 0, which is padding elsewhere and never a token, so one vocabulary serves CTC and
decoder. Ids 1 and 2, start and end, are classes that a trained model does not use.

Axis letters: B batch, S frames, V vocabulary with the blank, T tokens of a target, K beams,
W tokens that the beams do not share, C tokens that they share, L longest output, M tokens that a
frame makes likely, N rows of a step call.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from kzoo.ctc.loss import BLANK_ID
from kzoo.layers import masking
from kzoo.search import SearchResult
from kzoo.search.beams import normalized_scores
from kzoo.search.steps import check_int, check_not_negative


def ctc_greedy_search(logits, mask=None):
    """The tokens of the best alignment, the best name of each frame.

    Graves et al. (2006), section 3.2, best path decoding: fast, and not always the best tokens.

    Args:
        logits: (B, S, V) float.
        mask: (B, S) bool, True = real, or None for all.

    Returns:
        `SearchResult` with K = 1 and L the most tokens of a row. `log_probs` and `scores` are
        those of the alignment; the weights are 1 at the frame where a token begins.

    Example:

    >>> logits = 9 * tf.one_hot([[1, 1, 0, 1, 2]], 3)  # a repeat, a blank
    >>> kzoo.ctc_greedy_search(logits).ids.numpy()
    array([[[1, 1, 2]]], dtype=int32)
    """
    logits, mask = masking.to_dense(logits, mask)
    log_p = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    names = tf.where(mask, tf.argmax(log_p, 2, tf.int32), BLANK_ID)
    before = tf.pad(names[:, :-1], [[0, 0], [1, 0]])
    begins = (names != BLANK_ID) & (names != before)
    ids = tf.ragged.boolean_mask(names, begins).to_tensor()
    places = tf.where(begins, tf.range(tf.shape(names)[1]), 0)
    frames = tf.ragged.boolean_mask(places, begins).to_tensor()
    log_probs = tf.reduce_sum(tf.where(mask, tf.reduce_max(log_p, 2), 0.0), 1)
    return _result(ids[:, None], frames[:, None], log_probs[:, None], 0.0, tf.shape(names)[1], 1)


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
    check_int("beam_size", beam_size, 1)
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


def ctc_advance(logits, beams, mask=None, window=None):
    """Reads frames: prefix beam search, each frame's K best of all hypotheses it allows.

    With p_b(y) and p_n(y) the probability of all alignments of y so far that end with a blank or
    with its last token e, p = p_b + p_n, and q the probabilities of the frame:

        p_b'(y) = p(y) q(blank),    p_n'(y) = p_n(y) q(e),
        p_n'(y + c) = p(y) q(c),    or p_b(y) q(c) if c = e; what leads to one y is added up.

    Graves (2012), https://doi.org/10.1007/978-3-642-24797-2, section 7.5; Hannun et al. (2014),
    https://arxiv.org/abs/1408.2873, algorithm 1, without a language model. With K hypotheses or
    fewer it is exact. Frames in several calls give what they give in one.

    Args:
        logits: (B, S, V) float; S may be 0.
        beams: `CTCBeams`.
        mask: (B, S) bool, True = real, or None for all. Other frames are not read.
        window: int >= 1, most tokens in which the hypotheses of a stream may differ, or None for no
            such bound. Where one has more, those that begin otherwise than the best are dropped:
            else a doubt at the beginning would hold the beam to the end, and the state would grow.

    Returns:
        `CTCBeams`.

    Raises:
        ValueError: `window` is not positive.
    """
    if window is not None:
        check_int("window", window, 1)
    logits, mask = masking.to_dense(logits, mask)
    log_p = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    sentences = log_p.shape[0]
    # A TensorArray hands out frames without a copy of all of them.
    frames = tf.TensorArray(
        tf.float32, tf.shape(log_p)[1], element_shape=[sentences, log_p.shape[2]]
    )
    frames = frames.unstack(tf.transpose(log_p, [1, 0, 2]))
    real = tf.TensorArray(tf.bool, tf.shape(log_p)[1], element_shape=[sentences])
    real = real.unstack(tf.transpose(mask))
    rows, size = beams.last.shape
    shapes = CTCBeams(
        *[tf.TensorShape([rows, None])] * 2,
        *[tf.TensorShape([rows, size, None])] * 2,
        *[tf.TensorShape([rows, size])] * 3,
        tf.TensorShape([rows]),
    )

    def body(t, beams):
        beams = _advance(frames.read(t), real.read(t), beams, window)
        return t + 1, CTCBeams(*map(tf.ensure_shape, beams, shapes))

    _, beams = tf.while_loop(
        lambda t, _: t < tf.shape(log_p)[1],
        body,
        (0, beams),
        shape_invariants=(tf.TensorShape([]), shapes),
    )
    return beams


def _advance(log_p, is_real, beams, window):
    """One frame: log_p (B, V), is_real (B,), CTCBeams -> CTCBeams."""
    size = beams.last.shape[1]
    either = _log_add(beams.log_blank, beams.log_label)  # (B, K)
    lengths = tf.reduce_sum(tf.cast(beams.ids != 0, tf.int32), 2)

    # Hypothesis i with one token more is hypothesis j: (B, K, K). Dead ones may stand twice.
    longer = lengths[:, None, :] == lengths[:, :, None] + 1
    inside = tf.range(tf.shape(beams.ids)[2]) < lengths[:, :, None]  # (B, K, W)
    differ = (beams.ids[:, :, None] != beams.ids[:, None]) & inside[:, :, None]
    becomes = longer & ~tf.reduce_any(differ, 3) & (either > -math.inf)[:, None]

    # What a hypothesis gets from itself and from one that it extends.
    of_last = tf.gather(log_p, beams.last, batch_dims=1)  # (B, K)
    is_repeat = beams.last[:, :, None] == beams.last[:, None]
    before = tf.where(is_repeat, beams.log_blank[:, :, None], either[:, :, None])
    before = tf.reduce_logsumexp(tf.where(becomes, before, -math.inf), 1)
    of_label = tf.where(beams.last == 0, -math.inf, beams.log_label)
    log_label = _log_add(of_label, before) + of_last
    begins_now = before > of_label  # more likely than where its last token began so far
    log_blank = either + log_p[:, BLANK_ID, None]

    # What it grows into. Of 2K tokens at most K are hypotheses or the last token already, so the K
    # best are among them.
    values, tokens = tf.math.top_k(log_p[:, 1:], min(2 * size, log_p.shape[1] - 1))  # (B, M)
    tokens += 1
    is_repeat = tokens[:, None, :] == beams.last[:, :, None]
    grown = tf.where(is_repeat, beams.log_blank[:, :, None], either[:, :, None])
    grown += values[:, None, :]  # (B, K, M)
    is_there = becomes[..., None] & (beams.last[:, None, :, None] == tokens[:, None, None, :])
    grown = tf.where(tf.reduce_any(is_there, 2), -math.inf, grown)

    candidates = tf.concat(
        [_log_add(log_blank, log_label), tf.reshape(grown, [-1, size * values.shape[1]])], 1
    )
    scores, index = tf.math.top_k(candidates, size)
    grows = index >= size
    parents = tf.where(grows, (index - size) // values.shape[1], index)
    new = tf.gather(tokens, (index - size) % values.shape[1], batch_dims=1)

    def inherited(tensor):
        return tf.gather(tensor, parents, batch_dims=1)

    def written(tokens, here, value):
        tokens = tf.pad(inherited(tokens), [[0, 0], [0, 0], [0, 1]])
        return tf.where(here & is_real[:, None, None], value, tokens)

    parents = tf.where(is_real[:, None], parents, tf.range(size))
    end = inherited(lengths)[:, :, None]
    places = tf.range(tf.shape(beams.ids)[2] + 1)
    is_new = (places == end) & grows[:, :, None]
    is_later = (places == end - 1) & (inherited(begins_now) & ~grows)[:, :, None]

    def read(new, old):
        return tf.where(is_real[:, None], new, old)

    return _shared(
        beams._replace(
            ids=written(beams.ids, is_new, new[:, :, None]),
            frames=written(beams.frames, is_new | is_later, beams.position[:, None, None]),
            last=tf.where(grows & is_real[:, None], new, inherited(beams.last)),
            log_blank=read(tf.where(grows, -math.inf, inherited(log_blank)), beams.log_blank),
            log_label=read(tf.where(grows, scores, inherited(log_label)), beams.log_label),
            position=beams.position + tf.cast(is_real, tf.int32),
        ),
        window,
    )


def _shared(beams, window):
    """Moves the tokens that all hypotheses with some probability begin with to the shared ones."""
    is_alive = _log_add(beams.log_blank, beams.log_label) > -math.inf
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
        length_penalty: float >= 0, of `beams.normalized_scores`; it ranks the K hypotheses.
        steps: int or int scalar tensor, S of the weights; None for all frames read. They are K
            times L times S numbers: 0 where nobody looks at them.
        best_only: bool, whether to return the first hypothesis alone.

    Returns:
        `SearchResult`: `log_probs` is log p(y | x) as far as the beam summed it up; the weights
        are 1 at the frame where a token begins. L is the most tokens of a hypothesis.

    Raises:
        ValueError: `length_penalty` is negative.
    """
    check_not_negative("length_penalty", length_penalty)
    rows, size = tf.shape(beams.last)[0], beams.last.shape[1]
    log_probs = _log_add(beams.log_blank, beams.log_label)
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
    return _result(ids, frames, log_probs, length_penalty, steps, 1 if best_only else size)


def _result(ids, frames, log_probs, length_penalty, steps, count):
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


def ctc_beam_search(
    logits, mask=None, *, beam_size, length_penalty=0.0, window=None, best_only=False
):
    """The K most probable outputs, whatever their alignment: `ctc_advance` over all frames.

    Args:
        logits: (B, S, V) float.
        mask: (B, S) bool, True = real, or None for all.
        beam_size: int >= 1, K.
        length_penalty: float >= 0; ranks the K at the end.
        window: int or None, of `ctc_advance`.
        best_only: bool, whether to return the first hypothesis alone.

    Returns:
        `SearchResult` as of `ctc_result`; no end token among its ids.

    Raises:
        ValueError: `beam_size` or `window` is not positive or `length_penalty` negative.

    Example:

    >>> logits = tf.math.log([[[0.6, 0.4, 1e-9], [0.6, 0.4, 1e-9]]])  # blank, and two tokens
    >>> found = kzoo.ctc_beam_search(logits, beam_size=2)
    >>> found.ids.numpy()  # the best alignment is two blanks, 0.36
    array([[[1],
            [0]]], dtype=int32)
    >>> tf.exp(found.log_probs).numpy().round(2)
    array([[0.64, 0.36]], dtype=float32)
    """
    logits = tf.convert_to_tensor(logits)
    beams = ctc_advance(logits, ctc_beams(tf.shape(logits)[0], beam_size), mask, window)
    return ctc_result(beams, length_penalty, tf.shape(logits)[1], best_only)


def _log_add(a, b):
    """log(exp a + exp b); -inf where both are."""
    high, low = tf.maximum(a, b), tf.minimum(a, b)
    return tf.where(high == -math.inf, high, high + tf.math.log1p(tf.exp(low - high)))
