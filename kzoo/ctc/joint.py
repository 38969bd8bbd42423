"""Joint CTC/attention decoding: CTC prefix probabilities as a second opinion on each token.

Watanabe et al. (2017), https://doi.org/10.1109/JSTSP.2017.2763455. An attention decoder may skip,
repeat or stop too early; the alignments of CTC can do none of it.

Axis letters: B batch, K beams, N = B*K rows of a step call, S frames, V vocabulary.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from kzoo import checks
from kzoo.ctc.loss import BLANK_ID

LEAST_LOG_PROB = -1e4  # of a token in a frame, so that sums over frames stay finite


def prefix_step(logits, mask, end_id):
    """A step function that searches by CTC alone: the conditional probabilities of CTC's outputs.

        p(v | y) = P(y v) / P(y),    p(end | y) = p(y) / P(y)

    P(y) is the probability of all outputs that begin with y, p(y) that of y itself. They sum to 1
    over all v and the end. Graves (2008), https://mediatum.ub.tum.de/doc/673554, section 7.5.2;
    Watanabe et al. (2017), algorithm 2, here with all frames at once: r_t = q_t (r_t-1 + phi_t),
    the probability of the alignments up to frame t, is a sum over frames with the products of q
    before it divided out, in float64.

    What no alignment allows costs -LEAST_LOG_PROB nats, so it is said only if a prefix is forced
    that has more tokens than there are frames; after such a one all tokens are equally good.

    Args:
        logits: (B, S, V) float, of CTC, with the blank as id 0.
        mask: (B, S) bool, True = real.
        end_id: int, the class that means the end to the search.

    Returns:
        step: step function; its logits are log-probabilities, -inf for the blank. state: what it
        starts from, B rows.
    """
    frames = _frames(logits, mask)

    def fold(tensor):  # (N, ...) -> (B, K, ...)
        shape = tf.shape(tensor)
        beams = shape[0] // tf.maximum(frames.rows, 1)
        return tf.reshape(tensor, tf.concat([[frames.rows, beams], shape[1:]], 0))

    def step(ids, state, position):
        new = _grown(frames, tf.nest.map_structure(fold, state), fold(ids))
        new = {
            name: tf.where(position > 0, tf.reshape(new[name], tf.shape(old)), old)
            for name, old in state.items()
        }
        log_probs = _next_log_probs(frames, tf.nest.map_structure(fold, new), end_id)
        return tf.reshape(log_probs, [-1, log_probs.shape[2]]), new

    return step, _empty_output(frames)


class _Frames(NamedTuple):
    """What the steps of CTC only read."""

    rows: tf.Tensor  # int32 scalar, B
    mask: tf.Tensor  # (B, S) bool
    by_token: tf.Tensor  # (B, V, S) float32, log q; padding is a sure blank
    p_by_token: tf.Tensor  # (B, V, S) float64, q
    blanks: tf.Tensor  # (B, S) float64, log q of the blank


def _frames(logits, mask):
    log_p = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    mask = tf.convert_to_tensor(mask)
    is_blank = tf.range(log_p.shape[2]) == BLANK_ID
    log_p = tf.where(mask[:, :, None], log_p, tf.where(is_blank, 0.0, LEAST_LOG_PROB))
    log_p = tf.maximum(log_p, LEAST_LOG_PROB)
    by_token = tf.transpose(log_p, [0, 2, 1])
    return _Frames(
        rows=tf.shape(log_p)[0],
        mask=mask,
        by_token=by_token,
        p_by_token=tf.exp(tf.cast(by_token, tf.float64)),
        blanks=tf.cast(log_p[:, :, BLANK_ID], tf.float64),
    )


def _empty_output(frames):
    """The state before the first token, B rows."""
    return {
        # Alignments up to each frame that end with a blank, and those with the last token: (B, S).
        "blank": tf.cast(tf.cumsum(frames.blanks, axis=1), tf.float32),
        "label": tf.fill(tf.shape(frames.blanks), -math.inf),
        "last": tf.zeros([frames.rows], tf.int32),
        "prefix": tf.zeros([frames.rows]),  # log P(y)
    }


def _grown(frames, state, ids):
    """The state (B, K, ...) with one token more."""
    is_repeat = (ids == state["last"])[:, :, None]
    q = tf.gather(frames.by_token, ids, batch_dims=1)  # (B, K, S)
    phi = _before(_starts(state, is_repeat), state["last"])
    label = _recurrence(q, phi)
    nothing = tf.fill(tf.shape(label[:, :, :1]), tf.cast(-math.inf, label.dtype))
    blank = _recurrence(frames.blanks[:, None], tf.concat([nothing, label[:, :, :-1]], 2))
    prefix = tf.where(frames.mask[:, None], phi + q, -math.inf)
    return {
        "blank": tf.cast(blank, tf.float32),
        "label": tf.cast(label, tf.float32),
        "last": ids,
        "prefix": tf.reduce_logsumexp(prefix, 2),
    }


def _next_log_probs(frames, state, end_id):
    """log p of each token and of the end after the outputs of a state (B, K, ...): (B, K, V)."""
    last, is_real = state["last"], frames.mask[:, None]
    never = tf.zeros_like(last, tf.bool)[:, :, None]
    other, repeated = (
        _before(_starts(state, is_repeat), last)  # (B, K, S)
        for is_repeat in (never, ~never)
    )
    # log P(y v) = log sum_t exp(other_t + log p_t(v)), as a product of matrices.
    other = tf.cast(tf.where(is_real, other, -math.inf), tf.float64)
    most = tf.maximum(tf.reduce_max(other, 2, keepdims=True), other.dtype.min)
    prefix = tf.matmul(tf.exp(other - most), frames.p_by_token, transpose_b=True)
    prefix = tf.cast(tf.math.log(prefix) + most, tf.float32)  # (B, K, V)
    of_last = tf.gather(frames.by_token, last, batch_dims=1)
    again = tf.reduce_logsumexp(tf.where(is_real, repeated + of_last, -math.inf), 2)
    tokens = tf.range(frames.by_token.shape[1])
    prefix = tf.where(last[:, :, None] == tokens, again[:, :, None], prefix)
    whole = tf.reduce_logsumexp(tf.stack([state["blank"], state["label"]]), 0)
    whole = tf.pad(whole, [[0, 0], [0, 0], [1, 0]])[:, :, -1:]  # no frames: the empty output
    log_probs = tf.where(tokens == end_id, whole, prefix) - state["prefix"][:, :, None]
    log_probs = tf.maximum(log_probs, LEAST_LOG_PROB)
    log_probs = tf.where((state["prefix"] == -math.inf)[:, :, None], 0.0, log_probs)
    return tf.where(tokens == BLANK_ID, -math.inf, log_probs)


def _starts(state, is_repeat):
    """log p of the alignments up to each frame that a token can follow: (B, K, S)."""
    both = tf.reduce_logsumexp(tf.stack([state["blank"], state["label"]]), 0)
    return tf.where(is_repeat, state["blank"], both)


def _before(starts, last):
    """Up to the frame before: (B, K, S). Before the first frame stands the empty output."""
    first = tf.where(last == 0, 0.0, -math.inf)[:, :, None]
    return tf.concat([first, starts], 2)[:, :, :-1]


def _recurrence(q, phi):
    """log r_t, r_t = exp(q_t) (r_t-1 + exp(phi_t)): (B, K, S), float64."""
    q, phi = tf.cast(q, tf.float64), tf.cast(phi, tf.float64)
    total = tf.cumsum(q, axis=2)
    return total + tf.math.cumulative_logsumexp(phi - (total - q), axis=2)


def joint_step(step, state, logits, mask, *, end_id, ctc_weight):
    """Joins a decoder's step with CTC's prefix probabilities.

        log p(v | y) = (1 - ctc_weight) log p_decoder(v | y) + ctc_weight log p_ctc(v | y)

    Watanabe et al. (2017), equation 45: the sum over an output and its end is the weighted mean of
    both log-probabilities. Search with `normalize=False`: these do not sum to 1, and what is
    missing is what the two disagree about.

    Args:
        step: step function of the decoder, see `search.steps`. state: what it starts from, B rows.
        logits: (B, S, V) float, of CTC, with the blank as id 0.
        mask: (B, S) bool, True = real.
        end_id: int.
        ctc_weight: float in [0, 1].

    Returns:
        step: step function with the weights of the decoder's, if it has any; its logits are
        log-probabilities. state: what it starts from, B rows.

    Raises:
        ValueError: `ctc_weight` is outside [0, 1].

    Example:

    >>> def step(ids, state, position):  # a decoder that knows nothing
    ...     return tf.zeros((tf.shape(ids)[0], 4)), state
    >>> logits, mask = 9 * tf.one_hot([[3, 0, 3]], 4), tf.ones((1, 3), tf.bool)  # 3 was said twice
    >>> step, state = kzoo.joint_step(step, (), logits, mask, end_id=2, ctc_weight=0.5)
    >>> start = tf.constant([1])
    >>> found = kzoo.greedy_search(step, state, start, end_id=2, max_length=5, normalize=False)
    >>> found.ids.numpy()
    array([[[3, 3, 2, 0, 0]]], dtype=int32)
    """
    check_ctc_weight(ctc_weight)
    ctc_step, ctc_state = prefix_step(logits, mask, end_id)

    def joined(ids, states, position):
        logits, *weights, state = step(ids, states[0], position)
        log_ctc, ctc_state = ctc_step(ids, states[1], position)
        log_decoder = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        # 0 times -inf is 0 here.
        log_p = tf.math.multiply_no_nan(log_decoder, 1.0 - ctc_weight)
        log_p += tf.math.multiply_no_nan(log_ctc, ctc_weight)
        return log_p, *weights, (state, ctc_state)

    return joined, (state, ctc_state)


def check_ctc_weight(ctc_weight):
    """Raises ValueError unless 0 <= ctc_weight <= 1."""
    checks.fraction(ctc_weight=ctc_weight)
