"""Sampling over a step function, with temperature, top-k and top-p; knows no model.

Axes: B batch, K samples, L = max_length, V vocabulary, S source steps, N rows of a step call.
"""

import math
import numbers

import tensorflow as tf

from kzoo.search.beams import normalized_scores
from kzoo.search.constraints import checked_constraints, constrain
from kzoo.search.result import SearchResult
from kzoo.search.steps import call_step, check_int, check_not_negative, checked_start, repeat_rows


def truncated_logits(logits, *, temperature=1.0, top_k=0, top_p=1.0):
    """Logits of the distribution to sample from: -inf for what is cut off.

        q(v) proportional to p(v) ** (1 / temperature), on a subset of the vocabulary

    `top_k`, Fan et al. (2018), https://arxiv.org/abs/1805.04833, section 5.1, keeps the k most
    probable tokens. `top_p`, Holtzman et al. (2020), https://arxiv.org/abs/1904.09751, section 3.1,
    keeps the smallest set of most probable tokens with at least the probability p in what
    temperature and `top_k` left. Tokens as probable as the last one kept are kept too.

    Args:
        logits: (N, V) float.
        temperature: float > 0.
        top_k: int >= 0; 0 for all.
        top_p: float in (0, 1].

    Returns:
        (N, V) float32.
    """
    logits = tf.cast(logits, tf.float32) / temperature
    size = logits.shape[1]
    if 0 < top_k < size:
        least = tf.math.top_k(logits, top_k).values[:, -1:]
        logits = tf.where(logits < least, -math.inf, logits)
    if top_p < 1:
        best_first = tf.sort(logits, axis=1, direction="DESCENDING")
        before = tf.cumsum(tf.nn.softmax(best_first), axis=1, exclusive=True)
        kept = tf.where((before < top_p) & (best_first > -math.inf), best_first, math.inf)
        logits = tf.where(logits < tf.reduce_min(kept, axis=1, keepdims=True), -math.inf, logits)
    return logits


def sample(
    step,
    state,
    start_ids,
    *,
    end_id,
    max_length,
    num_samples=1,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    seed=None,
    min_length=0,
    length_penalty=0.0,
    no_repeat_ngram=0,
    repetition_penalty=1.0,
    prefix=None,
    allowed=None,
):
    """Independent continuations, drawn token by token from `truncated_logits`.

    Tokens that a constraint forbids are taken away first, so the rest is drawn in proportion to its
    probability. Scores and log-probabilities are those that `beam_search` would give to the same
    tokens: the model's, whatever temperature, `top_k` and `top_p` are.

    Args:
        step, state, start_ids, end_id, max_length, min_length, length_penalty, no_repeat_ngram,
            repetition_penalty, prefix, allowed: as in `beam_search`.
        num_samples: int >= 1, K, drawn with replacement: equal ones occur.
        temperature: float > 0; below 1 the probable tokens become more probable.
        top_k: int >= 0, most tokens to choose from; 0 for all.
        top_p: float in (0, 1], probability of the tokens to choose from.
        seed: int or int32 scalar: the same seed, the same samples; None for others at every call.

    Returns:
        `SearchResult`: ids (B, K, L), scores, log_probs and lengths (B, K), weights (B, K, L, S);
        in the order drawn, not by score.

    Raises:
        ValueError: an argument, or what `step` returns, breaks one of the rules above.

    Example:

    >>> def step(ids, state, position):  # 2 is the end
    ...     return tf.math.log(tf.repeat([[0.0, 0.0, 0.2, 0.8]], len(ids), axis=0)), state
    >>> found = kzoo.sample(
    ...     step, (), tf.constant([1]), end_id=2, max_length=50, num_samples=1000, seed=3
    ... )
    >>> bool(abs(tf.reduce_mean(tf.cast(found.lengths, tf.float32)) - 4) < 0.5)  # 0.8 / 0.2
    True
    """
    _check_options(num_samples, temperature, top_k, top_p, seed)
    check_not_negative("length_penalty", length_penalty)
    start_ids, state = checked_start(start_ids, state)
    sentences = tf.shape(start_ids)[0]
    constraints = checked_constraints(
        start_ids, end_id=end_id, max_length=max_length, min_length=min_length,
        no_repeat_ngram=no_repeat_ngram, repetition_penalty=repetition_penalty,
        prefix=prefix, allowed=allowed,
    )  # fmt: skip
    if seed is None:
        seed = tf.random.uniform([], maxval=tf.int32.max, dtype=tf.int32)
    seed = tf.cast(seed, tf.int32)
    slots = tf.range(max_length)

    def draw(logits, ids, position):
        """Next ids (N,) and their log-probabilities (N,), -inf where nothing is possible."""
        logits, forbidden = constrain(constraints, logits, ids, position)
        logits = tf.cast(logits, tf.float32)
        normalizer = tf.reduce_logsumexp(logits, axis=1)
        if forbidden is None:
            is_end = tf.range(logits.shape[1]) == end_id
            forbidden = is_end & (position < min_length)
        possible = tf.where(forbidden, -math.inf, logits)
        wanted = truncated_logits(possible, temperature=temperature, top_k=top_k, top_p=top_p)
        # Gumbel-max: argmax(logits - log(-log u)) is distributed as softmax(logits). The tiny u
        # keeps log(0) out; a uniform float32 lies below 1.
        u = tf.random.stateless_uniform(
            tf.shape(wanted), tf.stack([seed, position]), minval=1.2e-38, maxval=1.0
        )
        next_ids = tf.argmax(wanted - tf.math.log(-tf.math.log(u)), axis=1, output_type=tf.int32)
        values = tf.gather(possible, next_ids, batch_dims=1)
        values = tf.where(values == -math.inf, -math.inf, values - normalizer)
        return next_ids, values

    def advance(logits, position, ids, log_probs, step_log_probs, lengths, finished):
        last, values = draw(logits, ids, position)
        shape = tf.shape(finished)
        last = tf.where(finished, 0, tf.reshape(last, shape))
        values = tf.where(finished, 0.0, tf.reshape(values, shape))
        log_probs += values
        step_log_probs = tf.where(slots == position, values[:, :, None], step_log_probs)
        is_dead = log_probs == -math.inf
        is_finished = finished | (last == end_id) | is_dead
        lengths += tf.cast(~is_finished, tf.int32)
        ids = tf.where(slots == position, last[:, :, None], ids)
        return position + 1, ids, log_probs, step_log_probs, lengths, is_finished

    def body(position, ids, log_probs, step_log_probs, lengths, finished, weights, state):
        last = tf.reshape(tf.gather(ids, position - 1, axis=2), [-1])
        logits, row_weights, state = call_step(step, last, state, position, end_id)
        weights = weights.write(position, row_weights)
        before = ids, log_probs, step_log_probs, lengths, finished
        found = advance(logits, position, *before)
        for old, new in zip(before, found[1:], strict=True):
            new.set_shape(old.shape)
        return *found, weights, state

    def unfinished(position, ids, log_probs, step_log_probs, lengths, finished, *_):
        return (position < max_length) & ~tf.reduce_all(finished)

    # The first step sees each sentence once: its K samples do not differ yet.
    position = tf.constant(0)
    logits, row_weights, state = call_step(step, start_ids, state, position, end_id)
    logits, row_weights = (repeat_rows(x, num_samples) for x in (logits, row_weights))
    state = tf.nest.map_structure(lambda tensor: repeat_rows(tensor, num_samples), state)
    weights = tf.TensorArray(tf.float32, max_length, element_shape=row_weights.shape)
    weights = weights.write(position, row_weights)
    none = tf.zeros([sentences, num_samples], tf.int32)
    found = advance(
        logits,
        position,
        tf.zeros([sentences, num_samples, max_length], tf.int32),
        tf.cast(none, tf.float32),
        tf.zeros([sentences, num_samples, max_length]),
        none,
        none > 0,
    )
    _, ids, log_probs, step_log_probs, lengths, _, weights, _ = tf.while_loop(
        unfinished, body, (*found, weights, state)
    )

    possible = log_probs > -math.inf
    lengths = tf.where(possible, lengths, 0)
    used = possible[:, :, None] & (slots <= lengths[:, :, None])
    weights = weights.stack()  # (L, B*K, S)
    weights = tf.reshape(weights, [max_length, sentences, num_samples, tf.shape(weights)[2]])
    weights = tf.transpose(weights, [1, 2, 0, 3])
    return SearchResult(
        ids=tf.where(used, ids, 0),
        scores=normalized_scores(log_probs, lengths, length_penalty),
        log_probs=log_probs,
        lengths=lengths,
        weights=tf.where(used[..., None], weights, 0.0),
        step_log_probs=tf.where(used, step_log_probs, 0.0),
    )


def _check_options(num_samples, temperature, top_k, top_p, seed):
    check_int("num_samples", num_samples, 1)
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"`temperature` must be finite and positive, got temperature={temperature}."
        )
    check_int("top_k", top_k, 0)
    if not 0 < top_p <= 1:
        raise ValueError(f"`top_p` must lie in (0, 1], got top_p={top_p}.")
    if not (seed is None or isinstance(seed, numbers.Integral) or tf.is_tensor(seed)):
        raise ValueError(f"`seed` must be None, an int or an int32 scalar, got seed={seed!r}.")
