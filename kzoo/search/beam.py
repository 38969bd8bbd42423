"""Greedy and beam search over a step function; this module knows no model.

`steps` says what a step function is. Everything is plain TensorFlow with static K and L: it runs
eagerly, in a `tf.function`, in a SavedModel on a stock server, and XLA can compile it.

Axes: B batch, K beams, L = max_length, V vocabulary, S source steps, N rows of a step call, J beams
before a step.
"""

import math

import tensorflow as tf

from kzoo.search.beams import Ranking, beam_step, diverse_step, normalized_scores
from kzoo.search.constraints import checked_constraints, constrain
from kzoo.search.result import SearchResult
from kzoo.search.steps import (
    call_step,
    check_int,
    check_not_negative,
    check_rows,
    checked_start,
    repeat_rows,
)

LEAST_COVERAGE = 1e-6  # of a source step that no token looked at: its logarithm stays finite


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
    coverage_penalty=0.0,
    source_mask=None,
    expected_length=None,
    length_deviation_penalty=0.0,
    no_repeat_ngram=0,
    repetition_penalty=1.0,
    prefix=None,
    allowed=None,
    groups=1,
    diversity_penalty=0.0,
    best_only=False,
    normalize=True,
):
    """The K best continuations: argmax over y of the score

        log p(y) / ((5 + |y|) / 6) ** length_penalty
          + coverage_penalty * sum_s log(min(sum_t weights[t, s], 1))
          - length_deviation_penalty * abs(|y| - expected_length)

    The first two terms are Wu et al. (2016), https://arxiv.org/abs/1609.08144, equation 14. A
    source step that no token looked at counts as 1e-6 in the second. A hypothesis that still grows
    pays for its length only what is above `expected_length`.

    Finished hypotheses stay in the K slots with the score they have; the search ends when all K of
    every sentence are finished, or at `max_length`. It is exhaustive when
    `beam_size >= V ** max_length` and greedy when `beam_size` is 1.

    `min_length`, `allowed` and `no_repeat_ngram` take tokens away and leave the probabilities of
    the others as they are: nothing is renormalised. What `prefix` forces is generated whatever
    those three say, at the log-probability that the model gives it. A sentence for which the
    constraints leave nothing scores -inf.

    Args:
        step: function, see `steps`.
        state: nested structure of tensors with B rows, or `()`.
        start_ids: (B,) int32, the token before the first generated one; not part of the result.
        end_id: int in [0, V).
        beam_size: int >= 1, K.
        max_length: int >= 1, L: most tokens generated, the end token included. Or an int scalar
            tensor; if it comes from a shape, XLA can compile it.
        min_length: int in [0, max_length): fewest tokens before the end token.
        length_penalty: float >= 0; larger favours longer hypotheses.
        coverage_penalty: float >= 0; larger favours hypotheses that looked at all of the source.
            The step must return weights.
        source_mask: (B, S) bool, True = real: the source steps to cover; None for all.
        expected_length: (B,) float, tokens without the end, or None; see `LengthHead`.
        length_deviation_penalty: float >= 0, per token of deviation from `expected_length`.
        no_repeat_ngram: int >= 0, n: no n-gram occurs twice in a hypothesis; 0 for no such rule.
        repetition_penalty: float > 0: logits of tokens already in the hypothesis are divided by it
            if positive and multiplied if negative, before the softmax. Keskar et al. (2019),
            https://arxiv.org/abs/1909.05858, section 4.1.
        prefix: (B, P) int, padded with 0 or ragged, or (P,) for all sentences: the tokens that a
            hypothesis begins with, part of the result. 0 leaves a place free.
        allowed: (V,) or (B, V) bool, False for tokens never to be generated; the end is a token.
        groups: int that divides K: diverse beam search (`diverse_step`) in as many groups.
        diversity_penalty: float >= 0, between groups.
        best_only: bool, whether the first hypothesis is wanted alone. Then K = 1 in the result, and
            the search also ends when no unfinished hypothesis can become better than the best
            finished one: log-probabilities only fall, so it scores at most
            log p / ((5 + L) / 6) ** length_penalty.
        normalize: bool, whether to take the softmax of the step's logits. Without, they are
            log-probabilities as they are, even where these sum to less than 1: see
            `joint.joint_step`.

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
    _check_options(
        end_id, beam_size, max_length, length_penalty, coverage_penalty, length_deviation_penalty,
        groups, diversity_penalty,
    )  # fmt: skip
    start_ids, state = checked_start(start_ids, state)
    sentences = tf.shape(start_ids)[0]
    constraints = checked_constraints(
        start_ids, end_id=end_id, max_length=max_length, min_length=min_length,
        no_repeat_ngram=no_repeat_ngram, repetition_penalty=repetition_penalty,
        prefix=prefix, allowed=allowed,
    )  # fmt: skip
    if expected_length is not None:
        expected_length = _checked_expected_length(expected_length, start_ids)
    ranking = Ranking(length_penalty, expected_length, length_deviation_penalty)
    slots = tf.range(max_length)

    def extend(logits, beams, coverage_terms, ids, position):
        """One step of all groups; `ids` (B, J, L) are the tokens so far."""
        logits, forbidden = constrain(constraints, logits, ids, position)
        if forbidden is not None and groups > 1:
            forbidden = tf.reshape(forbidden, [sentences, ids.shape[1], logits.shape[1]])

        def extend_group(logits, hypotheses, token_penalties):
            *before, coverage_terms, forbidden = hypotheses
            if forbidden is not None:
                forbidden = tf.reshape(forbidden, [-1, logits.shape[1]])
            return beam_step(
                logits,
                *before,
                end_id=end_id,
                beam_size=beam_size // groups,
                end_allowed=True if forbidden is not None else position >= min_length,
                forbidden=forbidden,
                token_penalties=token_penalties,
                coverage_terms=coverage_terms,
                ranking=ranking,
                is_last=position == max_length - 1,
                normalize=normalize,
            )

        hypotheses = (*beams, coverage_terms, forbidden)
        if groups == 1:
            return extend_group(logits, hypotheses, None)
        return diverse_step(
            extend_group, logits, hypotheses, groups=groups, diversity_penalty=diversity_penalty
        )

    def covered(coverage, row_weights, finished):
        """Adds weights (B*J, S) to the sums (B, J, S) of what grows; also the terms (B, J)."""
        if not coverage_penalty:
            return (), None
        weights = tf.reshape(row_weights, tf.shape(coverage))
        coverage = tf.where(finished[:, :, None], coverage, coverage + weights)
        return coverage, coverage_penalty * _log_coverage(coverage, source_mask)

    def written(history, values, position):
        return tf.where(slots == position, values[:, :, None], history)

    def body(position, beams, ids, parents, step_log_probs, weights, coverage, state):
        rows = tf.reshape(beams.ids, [-1])
        logits, row_weights, state = call_step(step, rows, state, position, end_id)
        weights = weights.write(position, row_weights)
        coverage, terms = covered(coverage, row_weights, beams.finished)
        before = beams.log_probs, beams.lengths, beams.finished
        beams = extend(logits, before, terms, ids, position)
        if beam_size > 1:
            rows = tf.reshape(beams.parents + tf.range(sentences)[:, None] * beam_size, [-1])
            state = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), state)
            ids, parents, step_log_probs, coverage = tf.nest.map_structure(
                lambda tensor: tf.gather(tensor, beams.parents, batch_dims=1),
                (ids, parents, step_log_probs, coverage),
            )
        ids = written(ids, beams.ids, position)
        parents = written(parents, beams.parents, position)
        step_log_probs = written(step_log_probs, beams.step_log_probs, position)
        return position + 1, beams, ids, parents, step_log_probs, weights, coverage, state

    def same_shapes(*before):
        def keep(old, new):
            if not isinstance(new, tf.TensorArray):
                new.set_shape(old.shape)  # reshaping and gathering lose some of it
            return new

        return tf.nest.map_structure(keep, before, body(*before))

    def undecided(position, beams, *_):
        is_open = ~beams.finished
        if best_only:
            reachable = normalized_scores(beams.log_probs, max_length, length_penalty)
            best = tf.where(beams.finished, beams.scores, -math.inf)
            is_open &= reachable >= tf.reduce_max(best, axis=1, keepdims=True)
        return (position < max_length) & tf.reduce_any(is_open)

    # The first step sees each sentence once: its K beams do not differ yet.
    position = tf.constant(0)
    logits, row_weights, state = call_step(step, start_ids, state, position, end_id)
    if coverage_penalty and row_weights.shape[1] == 0:
        raise ValueError(
            "`coverage_penalty` needs a step that returns weights, "
            f"got coverage_penalty={coverage_penalty} and none."
        )
    none = tf.zeros([sentences, 1], tf.int32)
    coverage, terms = covered(tf.zeros_like(row_weights)[:, None, :], row_weights, none > 0)
    before = tf.cast(none, tf.float32), none, none > 0
    no_ids = tf.zeros([sentences, 1, max_length], tf.int32)
    beams = extend(logits, before, terms, no_ids, position)
    state, coverage = tf.nest.map_structure(
        lambda tensor: repeat_rows(tensor, beam_size), (state, coverage)
    )
    if coverage_penalty:
        coverage = tf.reshape(coverage, [sentences, beam_size, tf.shape(row_weights)[1]])
    history = tf.zeros([sentences, beam_size, max_length], tf.int32)
    row_weights = repeat_rows(row_weights, beam_size)  # (B*K, S)
    weights = tf.TensorArray(tf.float32, max_length, element_shape=row_weights.shape)
    weights = weights.write(position, row_weights)
    ids = written(history, beams.ids, position)
    step_log_probs = written(tf.cast(history, tf.float32), beams.step_log_probs, position)
    _, beams, ids, parents, step_log_probs, weights, _, _ = tf.while_loop(
        undecided,
        same_shapes,
        (position + 1, beams, ids, history, step_log_probs, weights, coverage, state),
    )

    if groups > 1:  # each group is in order, all of them are not
        _, order = tf.math.top_k(beams.scores, beam_size)
        beams, ids, parents, step_log_probs = tf.nest.map_structure(
            lambda tensor: tf.gather(tensor, order, batch_dims=1),
            (beams, ids, parents, step_log_probs),
        )
    if best_only:
        beams, ids, parents, step_log_probs = tf.nest.map_structure(
            lambda tensor: tensor[:, :1], (beams, ids, parents, step_log_probs)
        )
    possible = beams.scores > -math.inf
    lengths = tf.where(possible, beams.lengths, 0)
    used = possible[:, :, None] & (slots <= lengths[:, :, None])  # (B, K, L), the end included
    weights = _by_ancestry(weights.stack(), parents, beam_size)  # 0 where the loop did not come
    return SearchResult(
        ids=tf.where(used, ids, 0),
        scores=beams.scores,
        log_probs=beams.log_probs,
        lengths=lengths,
        weights=tf.where(used[..., None], weights, 0.0),
        step_log_probs=tf.where(used, step_log_probs, 0.0),
    )


def greedy_search(
    step,
    state,
    start_ids,
    *,
    end_id,
    max_length,
    min_length=0,
    length_penalty=0.0,
    coverage_penalty=0.0,
    source_mask=None,
    expected_length=None,
    length_deviation_penalty=0.0,
    no_repeat_ngram=0,
    repetition_penalty=1.0,
    prefix=None,
    allowed=None,
    normalize=True,
):
    """The best next token at each step, until the end: `beam_search` with one beam.

    Without penalties it is the most probable token. With them the end competes by its score, as in
    the beam.

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
        coverage_penalty=coverage_penalty,
        source_mask=source_mask,
        expected_length=expected_length,
        length_deviation_penalty=length_deviation_penalty,
        no_repeat_ngram=no_repeat_ngram,
        repetition_penalty=repetition_penalty,
        prefix=prefix,
        allowed=allowed,
        normalize=normalize,
    )


def _check_options(
    end_id, beam_size, max_length, length_penalty, coverage_penalty, length_deviation_penalty,
    groups, diversity_penalty,
):  # fmt: skip
    check_int("end_id", end_id, 0)
    check_int("beam_size", beam_size, 1)
    if not tf.is_tensor(max_length):
        check_int("max_length", max_length, 1)
    check_not_negative("length_penalty", length_penalty)
    check_not_negative("coverage_penalty", coverage_penalty)
    check_not_negative("length_deviation_penalty", length_deviation_penalty)
    check_int("groups", groups, 1)
    if beam_size % groups:
        raise ValueError(
            f"`groups` must divide beam_size, got groups={groups}, beam_size={beam_size}."
        )
    check_not_negative("diversity_penalty", diversity_penalty)


def _checked_expected_length(expected_length, start_ids):
    expected_length = tf.convert_to_tensor(expected_length)
    if expected_length.shape.rank != 1:
        raise ValueError(
            f"`expected_length` must have shape (B,), got shape {expected_length.shape}."
        )
    check_rows("expected_length", expected_length, start_ids)
    return tf.cast(expected_length, tf.float32)


def _log_coverage(coverage, source_mask):
    """sum_s log(min(coverage, 1)) over the real source steps: (B, J, S) -> (B, J)."""
    terms = tf.math.log(tf.clip_by_value(coverage, LEAST_COVERAGE, 1.0))
    if source_mask is not None:
        terms = tf.where(tf.convert_to_tensor(source_mask)[:, None, :], terms, 0.0)
    return tf.reduce_sum(terms, axis=2)


def _by_ancestry(weights, parents, beam_size):
    """Weights of the beams at each step (L, B*K, S) -> of the final hypotheses (B, K, L, S).

    `parents` (B, K, L): the beam in which each token of a hypothesis was chosen.
    """
    parents = tf.transpose(parents, [2, 0, 1])  # (L, B, K)
    length, sentences, _ = tf.unstack(tf.shape(parents))
    weights = tf.reshape(weights, [length, sentences, beam_size, tf.shape(weights)[2]])
    return tf.transpose(tf.gather(weights, parents, batch_dims=2), [1, 2, 0, 3])
