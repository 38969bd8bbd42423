"""Joint CTC/attention decoding: CTC prefix probabilities as a second opinion on each token.

Watanabe et al. (2017), https://doi.org/10.1109/JSTSP.2017.2763455. An attention decoder may skip,
repeat or stop too early; the alignments of CTC can do none of it.

Axis letters: B batch, K beams, N = B*K rows of a step call, S frames, V vocabulary.
"""

import math

import tensorflow as tf

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
    log_p = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    mask = tf.convert_to_tensor(mask)
    # A frame that is padding is a sure blank.
    is_blank = tf.range(log_p.shape[2]) == BLANK_ID
    log_p = tf.where(mask[:, :, None], log_p, tf.where(is_blank, 0.0, LEAST_LOG_PROB))
    log_p = tf.maximum(log_p, LEAST_LOG_PROB)
    by_token = tf.transpose(log_p, [0, 2, 1])  # (B, V, S)
    p_by_token = tf.exp(tf.cast(by_token, tf.float64))
    blanks = tf.cast(log_p[:, :, BLANK_ID], tf.float64)
    sentences, steps = tf.shape(log_p)[0], tf.shape(log_p)[1]
    state = {
        "blank": tf.cast(tf.cumsum(blanks, axis=1), tf.float32),  # alignments that end with a blank
        "label": tf.fill([sentences, steps], -math.inf),  # ... with the last token
        "last": tf.zeros([sentences], tf.int32),
        "prefix": tf.zeros([sentences]),  # log P(y)
    }

    def fold(tensor):  # (N, ...) -> (B, K, ...)
        shape = tf.shape(tensor)
        beams = shape[0] // tf.maximum(sentences, 1)
        return tf.reshape(tensor, tf.concat([[sentences, beams], shape[1:]], 0))

    def grown(state, ids):
        """The state (B, K, ...) with one token more."""
        is_repeat = (ids == state["last"])[:, :, None]
        q = tf.gather(by_token, ids, batch_dims=1)  # (B, K, S)
        phi = _before(_starts(state, is_repeat), state["last"])
        label = _recurrence(q, phi)
        nothing = tf.fill(tf.shape(label[:, :, :1]), tf.cast(-math.inf, label.dtype))
        blank = _recurrence(blanks[:, None], tf.concat([nothing, label[:, :, :-1]], 2))
        prefix = tf.where(mask[:, None], phi + q, -math.inf)
        return {
            "blank": tf.cast(blank, tf.float32),
            "label": tf.cast(label, tf.float32),
            "last": ids,
            "prefix": tf.reduce_logsumexp(prefix, 2),
        }

    def step(ids, state, position):
        new = grown(tf.nest.map_structure(fold, state), fold(ids))
        new = {
            name: tf.where(position > 0, tf.reshape(new[name], tf.shape(old)), old)
            for name, old in state.items()
        }
        now = tf.nest.map_structure(fold, new)
        never = tf.zeros_like(now["last"], tf.bool)[:, :, None]
        other, repeated = (
            _before(_starts(now, is_repeat), now["last"])  # (B, K, S)
            for is_repeat in (never, ~never)
        )
        # log P(y v) = log sum_t exp(other_t + log p_t(v)), as a product of matrices.
        other = tf.cast(tf.where(mask[:, None], other, -math.inf), tf.float64)
        most = tf.maximum(tf.reduce_max(other, 2, keepdims=True), other.dtype.min)
        prefix = tf.math.log(tf.matmul(tf.exp(other - most), p_by_token, transpose_b=True)) + most
        prefix = tf.cast(prefix, tf.float32)  # (B, K, V)
        of_last = tf.gather(by_token, now["last"], batch_dims=1)
        again = tf.reduce_logsumexp(tf.where(mask[:, None], repeated + of_last, -math.inf), 2)
        tokens = tf.range(log_p.shape[2])
        prefix = tf.where(now["last"][:, :, None] == tokens, again[:, :, None], prefix)
        whole = tf.reduce_logsumexp(tf.stack([now["blank"], now["label"]]), 0)
        whole = tf.pad(whole, [[0, 0], [0, 0], [1, 0]])[:, :, -1:]  # no frames: the empty output
        log_probs = tf.where(tokens == end_id, whole, prefix) - now["prefix"][:, :, None]
        log_probs = tf.maximum(log_probs, LEAST_LOG_PROB)
        log_probs = tf.where((now["prefix"] == -math.inf)[:, :, None], 0.0, log_probs)
        log_probs = tf.where(tokens == BLANK_ID, -math.inf, log_probs)
        return tf.reshape(log_probs, [-1, log_p.shape[2]]), new

    return step, state


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
        step: step function of the decoder, see `steps`. state: what it starts from, B rows.
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
    if not 0 <= ctc_weight <= 1:
        raise ValueError(f"`ctc_weight` must lie in [0, 1], got ctc_weight={ctc_weight}.")
