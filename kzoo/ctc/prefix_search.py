"""Connectionist temporal classification: greedy search and prefix beam search.

`ctc.loss` explains frames, names and the blank.

Axis letters: B batch, S frames, V vocabulary with the blank, K beams, W tokens that the beams do
not share, M tokens that a frame makes likely.
"""

import math

import tensorflow as tf

from kzoo import checks
from kzoo.ctc.hypotheses import CTCBeams, best_of, ctc_beams, ctc_result, log_add, with_shared
from kzoo.ctc.loss import BLANK_ID
from kzoo.layers import masking


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
    return best_of(ids[:, None], frames[:, None], log_probs[:, None], 0.0, tf.shape(names)[1], 1)


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
        checks.integer(1, window=window)
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
    lengths = tf.reduce_sum(tf.cast(beams.ids != 0, tf.int32), 2)
    either = log_add(beams.log_blank, beams.log_label)  # (B, K)
    becomes = _extends(beams, lengths, either)
    log_blank, log_label, begins_now = _kept(log_p, beams, becomes, either)
    grown, tokens = _grown(log_p, beams, becomes, either)
    count = tokens.shape[1]  # M

    candidates = tf.concat(
        [log_add(log_blank, log_label), tf.reshape(grown, [-1, size * count])], 1
    )
    scores, index = tf.math.top_k(candidates, size)
    grows = index >= size
    parents = tf.where(grows, (index - size) // count, index)
    new = tf.gather(tokens, (index - size) % count, batch_dims=1)

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

    return with_shared(
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


def _extends(beams, lengths, either):
    """Whether hypothesis i with one token more is hypothesis j: (B, K, K).

    Dead hypotheses, `either` (B, K) of which is -inf, may stand twice.
    """
    longer = lengths[:, None, :] == lengths[:, :, None] + 1
    inside = tf.range(tf.shape(beams.ids)[2]) < lengths[:, :, None]  # (B, K, W)
    differ = (beams.ids[:, :, None] != beams.ids[:, None]) & inside[:, :, None]
    return longer & ~tf.reduce_any(differ, 3) & (either > -math.inf)[:, None]


def _kept(log_p, beams, becomes, either):
    """What a hypothesis gets from itself and from one that it extends; each (B, K).

    Returns:
        log_blank. log_label. begins_now: bool, whether its last token more likely begins here than
        where it began so far.
    """
    of_last = tf.gather(log_p, beams.last, batch_dims=1)  # (B, K)
    is_repeat = beams.last[:, :, None] == beams.last[:, None]
    before = tf.where(is_repeat, beams.log_blank[:, :, None], either[:, :, None])
    before = tf.reduce_logsumexp(tf.where(becomes, before, -math.inf), 1)
    of_label = tf.where(beams.last == 0, -math.inf, beams.log_label)
    return (
        either + log_p[:, BLANK_ID, None],
        log_add(of_label, before) + of_last,
        before > of_label,
    )


def _grown(log_p, beams, becomes, either):
    """What a hypothesis grows into, unless that is a hypothesis already.

    Of 2K tokens at most K are hypotheses or the last token already, so the K best are among them.

    Returns:
        (B, K, M) float32. tokens: (B, M) int32.
    """
    size = beams.last.shape[1]
    values, tokens = tf.math.top_k(log_p[:, 1:], min(2 * size, log_p.shape[1] - 1))  # (B, M)
    tokens += 1
    is_repeat = tokens[:, None, :] == beams.last[:, :, None]
    grown = tf.where(is_repeat, beams.log_blank[:, :, None], either[:, :, None])
    grown += values[:, None, :]  # (B, K, M)
    is_there = becomes[..., None] & (beams.last[:, None, :, None] == tokens[:, None, None, :])
    return tf.where(tf.reduce_any(is_there, 2), -math.inf, grown), tokens


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
    logits, mask = masking.to_dense(logits, mask)
    beams = ctc_advance(logits, ctc_beams(tf.shape(logits)[0], beam_size), mask, window)
    return ctc_result(beams, length_penalty, tf.shape(logits)[1], best_only)
