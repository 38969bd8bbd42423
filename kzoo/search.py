"""Greedy and beam search over a step function; this module knows no model.

    step(ids (N,), state, position) -> (logits (N, V), state)
                                    or (logits (N, V), weights (N, S), state)

`ids` are the tokens of the step before (`start_ids` at first), `position` is an int32 scalar, 0
for the first generated token. The first call has N = B rows, every later one N = B*K, with beam k
of sentence b in row b*K + k. `state` is any structure of tensors with N rows, `()` included; it
must keep its structure, dtypes and shapes; in a graph an axis of unknown size may grow, as that
of a cache. The search repeats its rows and reorders them when
beams change places, so a step should close over whatever it only reads.

Everything is plain TensorFlow with static K and L: it runs eagerly, in a `tf.function`, in a
SavedModel on a stock server, and XLA can compile it.

Axes: B batch, K beams, L = max_length, V vocabulary, S source steps, N rows of a step call, J beams
before a step, C candidates per beam.
"""

import functools
import math
import numbers
from typing import NamedTuple

import tensorflow as tf


class SearchResult(NamedTuple):
    """What a search found, best score first.

    A finished hypothesis has `length + 1` ids, the last one `end_id`. One that filled all L slots
    without an end is ranked with the others by the same formula and has `length == L`. When a row
    has fewer than K hypotheses of non-zero probability, the rest score -inf, with ids and length 0.

    Example:

    >>> kzoo.SearchResult._fields
    ('ids', 'scores', 'log_probs', 'lengths', 'weights')
    """

    ids: tf.Tensor  # (B, K, L) int32: generated tokens, the end included, then 0
    scores: tf.Tensor  # (B, K) float32: log_probs / ((5 + length) / 6) ** length_penalty
    log_probs: tf.Tensor  # (B, K) float32: plain sum over the tokens, the end included
    lengths: tf.Tensor  # (B, K) int32: generated tokens, the end not counted
    weights: tf.Tensor  # (B, K, L, S) float32: attention per generated token, then 0; or S = 0


class Beams(NamedTuple):
    """The hypotheses after one step, best score first; each (B, K)."""

    ids: tf.Tensor  # int32: the last token; 0 where the hypothesis was finished before
    parents: tf.Tensor  # int32 in [0, J): which hypothesis of the step before it extends
    scores: tf.Tensor  # float32
    log_probs: tf.Tensor  # float32
    lengths: tf.Tensor  # int32, the end not counted
    finished: tf.Tensor  # bool: has its end token, or has probability 0


def normalized_scores(log_probs, lengths, length_penalty):
    """Length-normalised score: log_prob / ((5 + length) / 6) ** length_penalty.

    Wu et al. (2016), https://arxiv.org/abs/1609.08144, equation 14.

    Args:
        log_probs: float32 tensor of any shape.
        lengths: int32 tensor of the same shape, tokens without the end token.
        length_penalty: float; 0 ranks by log-probability, 1 almost by the mean per token.

    Returns:
        float32 tensor of the same shape.
    """
    if length_penalty == 0:
        return log_probs
    return log_probs / ((5.0 + tf.cast(lengths, tf.float32)) / 6.0) ** length_penalty


def beam_step(
    logits, log_probs, lengths, finished, *, end_id, beam_size, length_penalty=0.0, end_allowed=True
):
    """One step: the best K of all one-token extensions of J hypotheses.

        log p(y, v) = log p(y) + log softmax(logits(y))[v]

    A finished hypothesis is frozen: its only extension is padding at no cost, so it keeps its score
    and competes for a slot with the others. Candidates are ranked by `normalized_scores`; of equal
    ones the lower beam wins, then the lower id.

    Args:
        logits: (B*J, V) float, -inf for impossible tokens; the softmax is taken in float32.
        log_probs: (B, J) float32.
        lengths: (B, J) int32, tokens without the end token.
        finished: (B, J) bool.
        end_id: int.
        beam_size: int, K; J is 1 for the first step and K later.
        length_penalty: float >= 0.
        end_allowed: bool or bool scalar tensor. A forbidden end is no candidate; the other
            tokens keep their probabilities.

    Returns:
        `Beams`.
    """
    sentences, beams = tf.shape(log_probs)[0], log_probs.shape[1]
    logits = tf.cast(logits, tf.float32)
    normalizer = tf.reduce_logsumexp(logits, axis=1, keepdims=True)  # (B*J, 1)

    # Without the end, the K best tokens of a hypothesis are those with the K best logits, as all
    # make it equally long. The end makes it shorter, which no length penalty favours, so it is
    # among the first K + 1 logits or not wanted.
    values, ids = _top_k(logits, min(beam_size + 1, logits.shape[1]))
    missing = max(0, -(-beam_size // beams) - values.shape[1])  # K > J*V: a tiny vocabulary
    values = tf.pad(values, [[0, 0], [0, missing]], constant_values=-math.inf)  # (B*J, C)
    ids = tf.pad(ids, [[0, 0], [0, missing]])

    is_end = tf.equal(ids, end_id)
    impossible = (values == -math.inf) | (is_end & tf.logical_not(end_allowed))
    values = tf.where(impossible, -math.inf, values - normalizer)  # -inf - -inf would be NaN

    frozen = tf.reshape(finished, [-1, 1])
    padding = [0.0] + [-math.inf] * (values.shape[1] - 1)
    values = tf.where(frozen, padding, values)
    ids = tf.where(frozen, 0, ids)
    is_finished = frozen | is_end
    lengths = tf.reshape(lengths, [-1, 1]) + tf.cast(~is_finished, tf.int32)
    log_probs = tf.reshape(log_probs, [-1, 1]) + values
    scores = normalized_scores(log_probs, lengths, length_penalty)

    candidates = values.shape[1]
    merged = [sentences, beams * candidates]
    scores, index = tf.math.top_k(tf.reshape(scores, merged), beam_size)

    def chosen(values):
        return tf.gather(tf.reshape(values, merged), index, batch_dims=1)

    return Beams(
        ids=chosen(ids),
        parents=index // candidates,
        scores=scores,
        log_probs=chosen(log_probs),
        lengths=chosen(lengths),
        finished=chosen(is_finished) | (scores == -math.inf),
    )


def beam_search(
    step,
    state,
    start_ids,
    *,
    end_id,
    beam_size,
    max_length,
    min_length=0,
    length_penalty=0.0,
):
    """The K best continuations: argmax over y of log p(y) / ((5 + |y|) / 6) ** length_penalty.

    Finished hypotheses stay in the K slots with the score they have; the search ends when all K of
    every sentence are finished, or at `max_length`. It is exhaustive when
    `beam_size >= V ** max_length`, and greedy when `beam_size` is 1.

    Args:
        step: function, see the top of this module.
        state: nested structure of tensors with B rows, or `()`.
        start_ids: (B,) int32, the token before the first generated one; not part of the result.
        end_id: int in [0, V).
        beam_size: int >= 1, K.
        max_length: int >= 1, L: most tokens generated, the end token included. Or an int scalar
            tensor; if it comes from a shape, XLA can compile it.
        min_length: int in [0, max_length): fewest tokens before the end token.
        length_penalty: float >= 0; larger favours longer hypotheses.

    Returns:
        `SearchResult`: ids (B, K, L), scores, log_probs and lengths (B, K), weights (B, K, L, S).

    Raises:
        ValueError: an argument, or what `step` returns, breaks one of the rules above.

    Example:

    >>> p = tf.constant([[0, 0, 0.6, 0.4], [0, 0, 0, 1], [0, 0, 0.1, 0.9], [0, 0, 0.2, 0.8]])
    >>> def step(ids, state, position):  # a Markov chain: 2 is the end, each row a token before
    ...     return tf.math.log(tf.gather(p, ids)), state
    >>> found = kzoo.beam_search(step, (), tf.constant([0]), end_id=2, beam_size=2, max_length=3)
    >>> found.ids.numpy()
    array([[[2, 0, 0],
            [3, 3, 3]]], dtype=int32)
    >>> tf.exp(found.log_probs).numpy().round(3)
    array([[0.6  , 0.256]], dtype=float32)
    """
    _check_options(end_id, beam_size, max_length, min_length, length_penalty)
    start_ids, state = _checked_tensors(start_ids, state)
    sentences = tf.shape(start_ids)[0]
    slots = tf.range(max_length)
    extend = functools.partial(
        beam_step, end_id=end_id, beam_size=beam_size, length_penalty=length_penalty
    )

    def written(history, values, position):
        return tf.where(slots == position, values[:, :, None], history)

    def body(position, beams, ids, parents, weights, state):
        rows = tf.reshape(beams.ids, [-1])
        logits, row_weights, state = _call(step, rows, state, position, end_id)
        weights = weights.write(position, row_weights)
        before = beams.log_probs, beams.lengths, beams.finished
        beams = extend(logits, *before, end_allowed=position >= min_length)
        if beam_size > 1:
            rows = tf.reshape(beams.parents + tf.range(sentences)[:, None] * beam_size, [-1])
            state = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), state)
            ids = tf.gather(ids, beams.parents, batch_dims=1)
            parents = tf.gather(parents, beams.parents, batch_dims=1)
        ids = written(ids, beams.ids, position)
        parents = written(parents, beams.parents, position)
        return position + 1, beams, ids, parents, weights, state

    def same_shapes(*before):
        def keep(old, new):
            if not isinstance(new, tf.TensorArray):
                new.set_shape(old.shape)  # reshaping and gathering lose some of it
            return new

        return tf.nest.map_structure(keep, before, body(*before))

    def unfinished(position, beams, *_):
        return (position < max_length) & ~tf.reduce_all(beams.finished)

    # The first step sees each sentence once: its K beams do not differ yet.
    position = tf.constant(0)
    logits, row_weights, state = _call(step, start_ids, state, position, end_id)
    none = tf.zeros([sentences, 1], tf.int32)
    beams = extend(
        logits, tf.cast(none, tf.float32), none, none > 0, end_allowed=position >= min_length
    )
    state = tf.nest.map_structure(lambda tensor: _repeat_rows(tensor, beam_size), state)
    history = tf.zeros([sentences, beam_size, max_length], tf.int32)
    row_weights = _repeat_rows(row_weights, beam_size)  # (B*K, S)
    weights = tf.TensorArray(tf.float32, max_length, element_shape=row_weights.shape)
    weights = weights.write(position, row_weights)
    ids = written(history, beams.ids, position)
    _, beams, ids, parents, weights, _ = tf.while_loop(
        unfinished, same_shapes, (position + 1, beams, ids, history, weights, state)
    )

    possible = beams.scores > -math.inf
    lengths = tf.where(possible, beams.lengths, 0)
    used = possible[:, :, None] & (slots <= lengths[:, :, None])  # (B, K, L), the end included
    weights = _by_ancestry(weights.stack(), parents)  # 0 where the loop did not come
    return SearchResult(
        ids=tf.where(used, ids, 0),
        scores=beams.scores,
        log_probs=beams.log_probs,
        lengths=lengths,
        weights=tf.where(used[..., None], weights, 0.0),
    )


def greedy_search(step, state, start_ids, *, end_id, max_length, min_length=0, length_penalty=0.0):
    """The best next token at each step, until the end: `beam_search` with one beam.

    With `length_penalty=0` it is the most probable token. Otherwise the end competes by its
    normalised score, as in the beam.

    Args and Raises are those of `beam_search`.

    Returns:
        `SearchResult` with K = 1.

    Example:

    >>> def step(ids, state, position):  # 2 is the end, and follows 3 follows 1
    ...     return 9.0 * tf.one_hot(tf.gather([0, 3, 0, 2], ids), 4), state
    >>> kzoo.greedy_search(step, (), tf.constant([1]), end_id=2, max_length=4).ids.numpy()
    array([[[3, 2, 0, 0]]], dtype=int32)
    """
    return beam_search(
        step,
        state,
        start_ids,
        end_id=end_id,
        beam_size=1,
        max_length=max_length,
        min_length=min_length,
        length_penalty=length_penalty,
    )


def _check_options(end_id, beam_size, max_length, min_length, length_penalty):
    _check_int("end_id", end_id, 0)
    _check_int("beam_size", beam_size, 1)
    if not tf.is_tensor(max_length):
        _check_int("max_length", max_length, 1)
    _check_int("min_length", min_length, 0)
    if not tf.is_tensor(max_length) and min_length >= max_length:
        raise ValueError(
            "`min_length` must be less than max_length, "
            f"got min_length={min_length}, max_length={max_length}."
        )
    if not 0 <= length_penalty < math.inf:
        raise ValueError(
            "`length_penalty` must be finite and not negative, "
            f"got length_penalty={length_penalty}."
        )


def _checked_tensors(start_ids, state):
    start_ids = tf.convert_to_tensor(start_ids, tf.int32)
    if start_ids.shape.rank != 1:
        raise ValueError(f"`start_ids` must have shape (B,), got shape {start_ids.shape}.")
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    for tensor in tf.nest.flatten(state):
        if tensor.shape.rank == 0 or not tensor.shape[:1].is_compatible_with(start_ids.shape):
            raise ValueError(
                "`state` must hold tensors with one row per start id, "
                f"got shape {tensor.shape} for start_ids of shape {start_ids.shape}."
            )
    return start_ids, state


def _check_int(name, value, least):
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}, got {name}={value!r}.")


def _call(step, ids, state, position, end_id):
    """Calls `step`; returns logits (N, V), float32 weights (N, S) and a state like the one given.

    A step without weights has S = 0.
    """
    result = step(ids, state, position)
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        raise ValueError(
            f"`step` must return (logits, state) or (logits, weights, state), got {result!r}."
        )
    logits, *weights, new_state = result
    logits = tf.convert_to_tensor(logits)
    if logits.shape.rank != 2 or logits.shape[1] is None:
        raise ValueError(
            f"`step` must return logits (N, V) with a static V, got shape {logits.shape}."
        )
    if end_id >= logits.shape[1]:
        raise ValueError(
            "`end_id` must be less than the vocabulary size, "
            f"got end_id={end_id}, vocabulary size {logits.shape[1]}."
        )
    try:
        tf.nest.assert_same_structure(state, new_state, check_types=False)
    except ValueError as error:
        raise ValueError(f"`step` must return a state built like the one it got. {error}") from None
    new_state = [tf.convert_to_tensor(tensor) for tensor in tf.nest.flatten(new_state)]
    for old, new in zip(tf.nest.flatten(state), new_state, strict=True):
        if new.dtype != old.dtype or not new.shape.is_compatible_with(old.shape):
            raise ValueError(
                "`step` must return a state of the shapes and dtypes it got, "
                f"got {new.shape} {new.dtype.name} for {old.shape} {old.dtype.name}."
            )
        new.set_shape(old.shape)  # a step may lose static shapes, the loop may not
    new_state = tf.nest.pack_sequence_as(state, new_state)
    weights = tf.cast(weights[0], tf.float32) if weights else tf.zeros([tf.shape(ids)[0], 0])
    if weights.shape.rank != 2:
        raise ValueError(f"`step` must return weights (N, S), got shape {weights.shape}.")
    return logits, weights, new_state


def _by_ancestry(weights, parents):
    """Weights of the beams at each step (L, B*K, S) -> of the final hypotheses (B, K, L, S).

    `parents` (B, K, L): the beam in which each token of a hypothesis was chosen.
    """
    parents = tf.transpose(parents, [2, 0, 1])  # (L, B, K)
    weights = tf.reshape(weights, tf.concat([tf.shape(parents), tf.shape(weights)[2:]], 0))
    return tf.transpose(tf.gather(weights, parents, batch_dims=2), [1, 2, 0, 3])


def _top_k(values, k):
    """`tf.math.top_k` of (N, V), the same to the last tie, faster for a large V.

    The k largest values lie in the k blocks with the largest maxima, and a maximum is a vectorized
    pass where a selection is not. A V without a divisor that makes fair blocks goes the slow way.
    """
    size = next(size for size in range(64, 0, -1) if values.shape[1] % size == 0)
    count = values.shape[1] // size
    if size < 8 or count < 4 * k:
        return tf.math.top_k(values, k)
    rows = tf.shape(values)[0]
    blocks = tf.reshape(values, [rows, count, size])
    _, best = tf.math.top_k(tf.reduce_max(blocks, axis=2), k)
    best = tf.sort(best, axis=1)  # of equal values the lower id comes first
    values = tf.reshape(tf.gather(blocks, best, batch_dims=1), [rows, k * size])
    values, index = tf.math.top_k(values, k)
    return values, tf.gather(best, index // size, batch_dims=1) * size + index % size


def _repeat_rows(tensor, times):
    """(B, ...) -> (B*times, ...), row b in rows b*times to b*times + times - 1."""
    if times == 1:
        return tensor
    rows = tensor.shape[0]
    repeated = tf.repeat(tensor, times, axis=0)
    repeated.set_shape([None if rows is None else rows * times, *tensor.shape[1:]])
    return repeated
