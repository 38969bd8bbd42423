"""Greedy and beam search over a step function; this module knows no model.

`search.steps` says what a step function is. Everything is plain TensorFlow with static K and L: it
runs eagerly, in a `tf.function`, in a SavedModel on a stock server, and XLA can compile it.

Axes: B batch, K beams, L = max_length, V vocabulary, S source steps, N rows of a step call, J beams
before a step: 1 before the first, which sees each sentence once, and K later.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from kzoo.search.beams import Beams, Ranking, beam_step, diverse_step, normalized_scores
from kzoo.search.constraints import constrain
from kzoo.search.finished_pool import Pool, apart_step, empty_pool, pooled
from kzoo.search.options import SearchOptions
from kzoo.search.result import SearchResult, only_used, written
from kzoo.search.steps import call_step, checked_start, repeat_rows

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
    allowed_first=None,
    times=None,
    groups=1,
    diversity_penalty=0.0,
    best_only=False,
    normalize=True,
    length_normalization="gnmt",
    finished_apart=False,
    patience=None,
    renormalize=False,
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
    `beam_size >= V ** max_length` and greedy when `beam_size` is 1. Hugging Face's transformers and
    others search as it does with `finished_apart=True, length_normalization="length"`; CTranslate2,
    fairseq with `patience=1.0` beside; so does OpenAI's Whisper, but that it ranks by the mean
    without the end in the length.

    Args:
        step: function, see `search.steps`.
        state: nested structure of tensors with B rows, or `()`.
        start_ids: (B,) int32, the token before the first generated one; not part of the result.
        end_id, beam_size and all others: `search.options.SearchOptions` explains each.

    Returns:
        `SearchResult`: ids (B, K, L), scores, log_probs and lengths (B, K), weights (B, K, L, S).

    Raises:
        ValueError: an option, or what `step` returns, breaks its rule.

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
    options = SearchOptions(
        end_id=end_id, beam_size=beam_size, max_length=max_length, min_length=min_length,
        length_penalty=length_penalty, coverage_penalty=coverage_penalty, source_mask=source_mask,
        expected_length=expected_length, length_deviation_penalty=length_deviation_penalty,
        no_repeat_ngram=no_repeat_ngram, repetition_penalty=repetition_penalty, prefix=prefix,
        allowed=allowed, allowed_first=allowed_first, times=times, groups=groups,
        diversity_penalty=diversity_penalty, best_only=best_only,
        normalize=normalize, length_normalization=length_normalization,
        finished_apart=finished_apart, patience=patience, renormalize=renormalize,
    )  # fmt: skip
    return best_continuations(step, state, start_ids, options)


def greedy_search(step, state, start_ids, *, end_id, max_length, **options):
    """The best next token at each step, until the end: `beam_search` with one beam.

    Without penalties it is the most probable token. With them the end competes by its score, as in
    the beam.

    Args and Raises are those of `beam_search`, but for `beam_size`.

    Returns:
        `SearchResult` with K = 1.

    Example:

    >>> def step(ids, state, position):  # 2 is the end, and follows 3 follows 1
    ...     return 9.0 * tf.one_hot(tf.gather([0, 3, 0, 2], ids), 4), state
    >>> kzoo.greedy_search(step, (), tf.constant([1]), end_id=2, max_length=4).ids.numpy()
    array([[[3, 2, 0, 0]]], dtype=int32)
    """
    options = SearchOptions(end_id=end_id, max_length=max_length, beam_size=1, **options)
    return best_continuations(step, state, start_ids, options)


def best_continuations(step, state, start_ids, options):
    """`beam_search` with its options as one value.

    Args:
        step, state, start_ids: as in `beam_search`.
        options: `SearchOptions`.

    Returns:
        `SearchResult`.
    """
    start_ids, state = checked_start(start_ids, state)
    options = options.of_batch(start_ids)
    advance = _Advance(step, options, tf.shape(start_ids)[0], tf.range(options.max_length))
    found = advance(_before_all_steps(start_ids, state, options))

    def body(before):
        def keep(old, new):
            if not isinstance(new, tf.TensorArray):
                new.set_shape(old.shape)  # reshaping and gathering lose some of it
            return new

        return (tf.nest.map_structure(keep, before, advance(before)),)

    def undecided(found):
        if options.finished_apart:
            return (found.position < options.max_length) & tf.reduce_any(found.pool.is_open)
        is_open = ~found.beams.finished
        if options.best_only:
            penalty = options.length_penalty
            reachable = normalized_scores(
                found.beams.log_probs, options.max_length, penalty, options.length_normalization
            )
            best = tf.where(found.beams.finished, found.beams.scores, -math.inf)
            is_open &= reachable >= tf.reduce_max(best, axis=1, keepdims=True)
        return (found.position < options.max_length) & tf.reduce_any(is_open)

    (found,) = tf.while_loop(undecided, body, (found,))
    return _result(found, options)


class _Found(NamedTuple):
    """What a search knows after some steps."""

    position: tf.Tensor  # int32 scalar: steps done
    beams: Beams
    ids: tf.Tensor  # (B, K, L) int32
    parents: tf.Tensor  # (B, K, L) int32: which beam of the step before each token extends
    step_log_probs: tf.Tensor  # (B, K, L) float32
    weights: tf.TensorArray | None  # L times (B*K, S); None before a step said what S is
    coverage: Any  # (B, K, S) float32: the sums of the weights; () without a coverage penalty
    state: Any  # nested structure of tensors, B*K rows
    pool: Pool | tuple  # the finished hypotheses if they stand apart; else ()


def _before_all_steps(start_ids, state, options):
    """`_Found` with one empty hypothesis a sentence."""
    none = tf.zeros([tf.shape(start_ids)[0], 1], tf.int32)  # (B, 1)
    zero = tf.cast(none, tf.float32)
    history = tf.zeros([tf.shape(start_ids)[0], 1, options.max_length], tf.int32)
    pool = ()
    if options.finished_apart:
        pool = empty_pool(tf.shape(start_ids)[0], options.beam_size, options.max_length)
    return _Found(
        position=tf.constant(0),
        beams=Beams(start_ids[:, None], none, zero, zero, zero, none, none > 0),
        ids=history,
        parents=history,
        step_log_probs=tf.cast(history, tf.float32),
        weights=None,
        coverage=(),
        state=state,
        pool=pool,
    )


class _Advance(NamedTuple):
    """One step of the search as a function, `_Found` -> `_Found`, and what it only reads."""

    step: Callable
    options: SearchOptions
    sentences: tf.Tensor  # int32 scalar, B
    slots: tf.Tensor  # (L,) int32

    def __call__(self, found):
        options, position = self.options, found.position
        size = found.beams.ids.shape[1]  # J
        rows = tf.reshape(found.beams.ids, [-1])
        logits, row_weights, state = call_step(
            self.step, rows, found.state, position, options.end_id
        )
        if found.weights is None:
            found = self._with_weights(found, row_weights)
        repeated = repeat_rows(row_weights, options.beam_size // size)
        weights = found.weights.write(position, repeated)
        coverage, coverage_terms = self._covered(found, row_weights)
        logits, forbidden = constrain(options, logits, found.ids, position)
        pool = ()
        if options.finished_apart:
            beams, ended = self._apart(found, logits, forbidden, coverage_terms)
            histories = self._histories(found, ended)
            pool = pooled(found.pool, ended, histories, beams, position=position, options=options)
        else:
            beams = self._extended(found, logits, forbidden, coverage_terms)
        ids, parents, step_log_probs = self._histories(found, beams)
        if options.beam_size > 1:
            rows = tf.reshape(beams.parents + tf.range(self.sentences)[:, None] * size, [-1])
            state = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), state)
            coverage = tf.nest.map_structure(
                lambda tensor: tf.gather(tensor, beams.parents, batch_dims=1), coverage
            )
        return _Found(
            position=position + 1,
            beams=beams,
            ids=ids,
            parents=parents,
            step_log_probs=step_log_probs,
            weights=weights,
            coverage=coverage,
            state=state,
            pool=pool,
        )

    def _histories(self, found, beams):
        """Ids, parents and step log-probabilities (B, K, L) of beams, this step included."""
        histories = found.ids, found.parents, found.step_log_probs
        if self.options.beam_size > 1:
            histories = (tf.gather(x, beams.parents, batch_dims=1) for x in histories)
        here = self.slots == found.position
        news = beams.ids, beams.parents, beams.step_log_probs
        return tuple(written(x, here, new) for x, new in zip(histories, news, strict=True))

    def _with_weights(self, found, row_weights):
        """Makes room for weights like those of the first step, (B, S)."""
        options, steps = self.options, row_weights.shape[1]
        if options.coverage_penalty and steps == 0:
            raise ValueError(
                "`coverage_penalty` needs a step that returns weights, "
                f"got coverage_penalty={options.coverage_penalty} and none."
            )
        rows = row_weights.shape[0]
        rows = None if rows is None else rows * options.beam_size
        weights = tf.TensorArray(tf.float32, options.max_length, element_shape=(rows, steps))
        coverage = tf.zeros_like(row_weights)[:, None, :] if options.coverage_penalty else ()
        return found._replace(weights=weights, coverage=coverage)

    def _covered(self, found, row_weights):
        """Adds weights (B*J, S) to the sums (B, J, S) of what grows; also the terms (B, J)."""
        if not self.options.coverage_penalty:
            return (), None
        coverage = found.coverage
        weights = tf.reshape(row_weights, tf.shape(coverage))
        coverage = tf.where(found.beams.finished[:, :, None], coverage, coverage + weights)
        terms = _log_coverage(coverage, self.options.source_mask)
        return coverage, self.options.coverage_penalty * terms

    def _rules(self, position, forbidden):
        """What one step of either kind of search is told."""
        options = self.options
        return {
            "end_id": options.end_id,
            "end_allowed": forbidden is not None
            or options.renormalize
            or options.min_length == 0
            or position >= options.min_length,
            "ranking": Ranking(
                options.length_penalty, options.expected_length, options.length_deviation_penalty,
                options.length_normalization,
            ),
            "is_last": position == options.max_length - 1,
            "normalize": options.normalize,
        }  # fmt: skip

    def _apart(self, found, logits, forbidden, coverage_terms):
        """The `Beams` that grow and those that ended."""
        before = found.beams
        return apart_step(
            logits,
            before.log_probs,
            before.lengths,
            before.finished,
            beam_size=self.options.beam_size,
            forbidden=forbidden,
            coverage_terms=coverage_terms,
            **self._rules(found.position, forbidden),
        )

    def _extended(self, found, logits, forbidden, coverage_terms):
        """The best extensions, `Beams`, of the hypotheses that have the logits (B*J, V)."""
        options, before = self.options, found.beams
        if forbidden is not None and options.groups > 1:
            shape = [self.sentences, before.ids.shape[1], logits.shape[1]]
            forbidden = tf.reshape(forbidden, shape)

        def extend_group(logits, hypotheses, token_penalties):
            *before, coverage_terms, forbidden = hypotheses
            if forbidden is not None:
                forbidden = tf.reshape(forbidden, [-1, logits.shape[1]])
            return beam_step(
                logits,
                *before,
                beam_size=options.beam_size // options.groups,
                forbidden=forbidden,
                token_penalties=token_penalties,
                coverage_terms=coverage_terms,
                **self._rules(found.position, forbidden),
            )

        hypotheses = before.log_probs, before.lengths, before.finished, coverage_terms, forbidden
        if options.groups == 1:
            return extend_group(logits, hypotheses, None)
        return diverse_step(
            extend_group,
            logits,
            hypotheses,
            groups=options.groups,
            diversity_penalty=options.diversity_penalty,
        )


def _result(found, options):
    """What the loop found, best first."""
    hypotheses = found.beams, found.ids, found.parents, found.step_log_probs
    if options.finished_apart:
        hypotheses = found.pool[:4]
    if options.groups > 1:  # each group is in order, all of them are not
        _, order = tf.math.top_k(found.beams.scores, options.beam_size)
        hypotheses = tf.nest.map_structure(
            lambda tensor: tf.gather(tensor, order, batch_dims=1), hypotheses
        )
    if options.best_only:
        hypotheses = tf.nest.map_structure(lambda tensor: tensor[:, :1], hypotheses)
    beams, ids, parents, step_log_probs = hypotheses
    weights = found.weights.stack()  # (L, B*K, S), 0 where the loop did not come
    weights = _by_ancestry(weights, parents, options.beam_size)
    return only_used(
        SearchResult(ids, beams.scores, beams.log_probs, beams.lengths, weights, step_log_probs)
    )


def _log_coverage(coverage, source_mask):
    """sum_s log(min(coverage, 1)) over the real source steps: (B, J, S) -> (B, J)."""
    terms = tf.math.log(tf.clip_by_value(coverage, LEAST_COVERAGE, 1.0))
    if source_mask is not None:
        terms = tf.where(source_mask[:, None, :], terms, 0.0)
    return tf.reduce_sum(terms, axis=2)


def _by_ancestry(weights, parents, beam_size):
    """Weights of the beams at each step (L, B*K, S) -> of the final hypotheses (B, K, L, S).

    `parents` (B, K, L): the beam in which each token of a hypothesis was chosen.
    """
    parents = tf.transpose(parents, [2, 0, 1])  # (L, B, K)
    length, sentences, _ = tf.unstack(tf.shape(parents))
    weights = tf.reshape(weights, [length, sentences, beam_size, tf.shape(weights)[2]])
    return tf.transpose(tf.gather(weights, parents, batch_dims=2), [1, 2, 0, 3])
