"""Sampling over a step function, with temperature, top-k and top-p; knows no model.

Axes: B batch, K samples, L = max_length, V vocabulary, S source steps, N rows of a step call.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from kzoo.search.beams import normalized_scores
from kzoo.search.constraints import constrain
from kzoo.search.options import SamplingOptions, SearchOptions
from kzoo.search.result import SearchResult, only_used, written
from kzoo.search.steps import call_step, checked_start, repeat_rows


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
    same_for_rows=False,
    min_length=0,
    length_penalty=0.0,
    no_repeat_ngram=0,
    repetition_penalty=1.0,
    prefix=None,
    allowed=None,
    allowed_first=None,
    times=None,
    normalize=True,
    renormalize=False,
):
    """Independent continuations, drawn token by token from `truncated_logits`.

    Tokens that a constraint forbids are taken away first, so the rest is drawn in proportion to its
    probability. Scores and log-probabilities are those that `beam_search` would give to the same
    tokens: the model's, whatever temperature, `top_k` and `top_p` are.

    Args:
        step, state, start_ids: as in `beam_search`.
        num_samples, temperature, top_k, top_p, seed, same_for_rows:
            `search.options.SamplingOptions` explains each.
        end_id, max_length and all others: `search.options.SearchOptions` explains each.

    Returns:
        `SearchResult`: ids (B, K, L), scores, log_probs and lengths (B, K), weights (B, K, L, S);
        in the order drawn, not by score.

    Raises:
        ValueError: an option, or what `step` returns, breaks its rule.

    Example:

    >>> def step(ids, state, position):  # 2 is the end
    ...     return tf.math.log(tf.repeat([[0.0, 0.0, 0.2, 0.8]], len(ids), axis=0)), state
    >>> found = kzoo.sample(
    ...     step, (), tf.constant([1]), end_id=2, max_length=50, num_samples=1000, seed=3
    ... )
    >>> bool(abs(tf.reduce_mean(tf.cast(found.lengths, tf.float32)) - 4) < 0.5)  # 0.8 / 0.2
    True
    """
    options = SearchOptions(
        end_id=end_id, max_length=max_length, min_length=min_length, length_penalty=length_penalty,
        no_repeat_ngram=no_repeat_ngram, repetition_penalty=repetition_penalty, prefix=prefix,
        allowed=allowed, allowed_first=allowed_first, times=times, normalize=normalize,
        renormalize=renormalize,
    )  # fmt: skip
    choice = SamplingOptions(num_samples, temperature, top_k, top_p, seed, same_for_rows)
    return drawn_continuations(step, state, start_ids, options, choice)


def drawn_continuations(step, state, start_ids, options, choice):
    """`sample` with its options as two values.

    Args:
        step, state, start_ids: as in `beam_search`.
        options: `SearchOptions`; those of beams, groups and coverage do not count.
        choice: `SamplingOptions`.

    Returns:
        `SearchResult`.
    """
    start_ids, state = checked_start(start_ids, state)
    options = options.of_batch(start_ids)
    slots = tf.range(options.max_length)
    advance = _Advance(step, options, choice, choice.seeded(), slots)
    sentences = tf.shape(start_ids)[0]

    def body(before):
        found = advance(before)
        for old, new in zip(before[1:-2], found[1:-2], strict=True):
            new.set_shape(old.shape)
        return (found,)

    def unfinished(found):
        return (found.position < options.max_length) & ~tf.reduce_all(found.finished)

    found = advance.first(start_ids, state, sentences)
    (found,) = tf.while_loop(unfinished, body, (found,))
    weights = found.weights.stack()  # (L, B*K, S)
    shape = [options.max_length, sentences, choice.num_samples, tf.shape(weights)[2]]
    return only_used(
        SearchResult(
            ids=found.ids,
            scores=normalized_scores(found.log_probs, found.lengths, options.length_penalty),
            log_probs=found.log_probs,
            lengths=found.lengths,
            weights=tf.transpose(tf.reshape(weights, shape), [1, 2, 0, 3]),
            step_log_probs=found.step_log_probs,
        )
    )


class _Drawn(NamedTuple):
    """The samples after some steps."""

    position: tf.Tensor  # int32 scalar: steps done
    last: tf.Tensor  # (B, K) int32: the last token, 0 behind an end
    ids: tf.Tensor  # (B, K, L) int32
    log_probs: tf.Tensor  # (B, K) float32
    step_log_probs: tf.Tensor  # (B, K, L) float32
    lengths: tf.Tensor  # (B, K) int32, the end not counted
    finished: tf.Tensor  # (B, K) bool
    weights: tf.TensorArray  # L times (B*K, S)
    state: Any  # nested structure of tensors, B*K rows


class _Advance(NamedTuple):
    """One step of sampling as a function, `_Drawn` -> `_Drawn`, and what it only reads."""

    step: Callable
    options: SearchOptions
    choice: SamplingOptions
    seed: tf.Tensor  # int32 scalar
    slots: tf.Tensor  # (L,) int32

    def first(self, start_ids, state, sentences):
        """The first step, which sees each sentence once: its K samples do not differ yet."""
        position, count = tf.constant(0), self.choice.num_samples
        said = call_step(self.step, start_ids, state, position, self.options.end_id)
        logits, row_weights, state = tf.nest.map_structure(lambda x: repeat_rows(x, count), said)
        none = tf.zeros([sentences, count], tf.int32)
        history = tf.zeros([sentences, count, self.options.max_length], tf.int32)
        zero, zeros = tf.cast(none, tf.float32), tf.cast(history, tf.float32)
        shape = row_weights.shape
        weights = tf.TensorArray(tf.float32, self.options.max_length, element_shape=shape)
        before = _Drawn(position, none, history, zero, zeros, none, none > 0, weights, state)
        return self._with_token(before, logits, row_weights, state)

    def __call__(self, found):
        rows = tf.reshape(found.last, [-1])
        said = call_step(self.step, rows, found.state, found.position, self.options.end_id)
        return self._with_token(found, *said)

    def _with_token(self, found, logits, row_weights, state):
        """The samples with one token more, drawn from logits (B*K, V)."""
        last, values = self._draw(logits, found.ids, found.position)
        shape = tf.shape(found.finished)
        last = tf.where(found.finished, 0, tf.reshape(last, shape))
        values = tf.where(found.finished, 0.0, tf.reshape(values, shape))
        log_probs = found.log_probs + values
        is_dead = log_probs == -math.inf
        finished = found.finished | (last == self.options.end_id) | is_dead
        here = self.slots == found.position
        return _Drawn(
            position=found.position + 1,
            last=last,
            ids=written(found.ids, here, last),
            log_probs=log_probs,
            step_log_probs=written(found.step_log_probs, here, values),
            lengths=found.lengths + tf.cast(~finished, tf.int32),
            finished=finished,
            weights=found.weights.write(found.position, row_weights),
            state=state,
        )

    def _draw(self, logits, ids, position):
        """Next ids (N,) and their log-probabilities (N,), -inf where nothing is possible."""
        options, choice = self.options, self.choice
        logits, forbidden = constrain(options, logits, ids, position)
        logits = tf.cast(logits, tf.float32)
        normalizer = tf.reduce_logsumexp(logits, axis=1) if options.normalize else 0.0
        if forbidden is None:
            is_end = tf.range(logits.shape[1]) == options.end_id
            forbidden = is_end & (position < options.min_length)
        possible = tf.where(forbidden, -math.inf, logits)
        wanted = truncated_logits(
            possible, temperature=choice.temperature, top_k=choice.top_k, top_p=choice.top_p
        )
        # Gumbel-max: argmax(logits - log(-log u)) is distributed as softmax(logits). The tiny u
        # keeps log(0) out; a uniform float32 lies below 1.
        shape = tf.shape(wanted)
        drawn = tf.stack([choice.num_samples, shape[1]]) if choice.same_for_rows else shape
        u = tf.random.stateless_uniform(
            drawn, tf.stack([self.seed, position]), minval=1.2e-38, maxval=1.0
        )
        if choice.same_for_rows:
            u = tf.tile(u, [shape[0] // choice.num_samples, 1])
        next_ids = tf.argmax(wanted - tf.math.log(-tf.math.log(u)), axis=1, output_type=tf.int32)
        values = tf.gather(possible, next_ids, batch_dims=1)
        values = tf.where(values == -math.inf, -math.inf, values - normalizer)
        return next_ids, values
