"""One step of beam search: the candidates, their ranking, and the beams that come of it.

Axes: B batch, K beams, V vocabulary, J beams before a step, N = B*J, C candidates per beam, G beams
per group.
"""

import math
from typing import NamedTuple

import tensorflow as tf


class Beams(NamedTuple):
    """The hypotheses after one step, best score first; each (B, K)."""

    ids: tf.Tensor  # int32: the last token; 0 where the hypothesis was finished before
    parents: tf.Tensor  # int32 in [0, J): which hypothesis of the step before it extends
    scores: tf.Tensor  # float32
    log_probs: tf.Tensor  # float32
    step_log_probs: tf.Tensor  # float32: of the last token; 0 where the hypothesis was finished
    lengths: tf.Tensor  # int32, the end not counted
    finished: tf.Tensor  # bool: has its end token, or has probability 0


def normalized_scores(log_probs, lengths, length_penalty, normalization="gnmt", has_end=False):
    """Length-normalised score.

        "gnmt":   log_prob / ((5 + length) / 6) ** length_penalty
        "length": log_prob / (tokens, the end included) ** length_penalty

    The first is Wu et al. (2016), https://arxiv.org/abs/1609.08144, equation 14; with the second
    and 1 a score is the mean per token, as in Hugging Face's transformers and fairseq.

    Args:
        log_probs: float32 tensor of any shape.
        lengths: int32 tensor of the same shape, tokens without the end token.
        length_penalty: float; 0 ranks by log-probability.
        normalization: one of `options.NORMALIZATIONS`.
        has_end: bool or bool tensor of the same shape, whether there is an end token to count.

    Returns:
        float32 tensor of the same shape.
    """
    if length_penalty == 0:
        return log_probs
    lengths = tf.cast(lengths, tf.float32)
    if normalization == "gnmt":
        return log_probs / ((5.0 + lengths) / 6.0) ** length_penalty
    tokens = tf.maximum(lengths + tf.cast(has_end, tf.float32), 1.0)
    return log_probs / tokens**length_penalty


class Ranking(NamedTuple):
    """What hypotheses are ranked by; see `beam_search`."""

    length_penalty: float = 0.0
    expected_length: tf.Tensor | None = None  # (B,) float32
    length_deviation_penalty: float = 0.0
    normalization: str = "gnmt"

    def scores(self, log_probs, lengths, has_end, is_last, coverage_terms=None):
        """Scores of candidates.

        Args:
            log_probs: (B, J, C) float32.
            lengths: (B, J, C) int32.
            has_end: (B, J, C) bool, True where the hypothesis has its end.
            is_last: bool or bool scalar tensor, whether no other will grow either.
            coverage_terms: (B, J) float32, or None.

        Returns:
            (B, J, C) float32.
        """
        scores = normalized_scores(
            log_probs, lengths, self.length_penalty, self.normalization, has_end
        )
        if coverage_terms is not None:
            scores += coverage_terms[:, :, None]
        if self.expected_length is not None:
            excess = tf.cast(lengths, tf.float32) - self.expected_length[:, None, None]
            # One that still grows is not too short yet.
            deviation = tf.where(has_end | is_last, tf.abs(excess), tf.nn.relu(excess))
            scores -= self.length_deviation_penalty * deviation
        return scores


def possible_logits(logits, forbidden, normalize):
    """Logits (N, V), float32, -inf where they are forbidden, and the logarithm of the sum of all.

    The latter, (N, 1), is 0 for log-probabilities; it is about what is forbidden, too.
    """
    logits = tf.cast(logits, tf.float32)
    normalizer = tf.reduce_logsumexp(logits, axis=1, keepdims=True) if normalize else 0.0
    if forbidden is not None:
        logits = tf.where(forbidden, -math.inf, logits)
    return logits, normalizer


def beam_step(
    logits,
    log_probs,
    lengths,
    finished,
    *,
    end_id,
    beam_size,
    length_penalty=0.0,
    end_allowed=True,
    forbidden=None,
    token_penalties=None,
    coverage_terms=None,
    ranking=None,
    is_last=False,
    normalize=True,
):
    """One step: the best K of all one-token extensions of J hypotheses.

        log p(y, v) = log p(y) + log softmax(logits(y))[v]

    A finished hypothesis is frozen: its only extension is padding at no cost, so it keeps its score
    and competes for a slot with the others. Candidates are ranked by score; of equal ones the lower
    beam wins, then the lower id.

    Args:
        logits: (B*J, V) float, -inf for impossible tokens; the softmax is taken in float32.
        log_probs: (B, J) float32.
        lengths: (B, J) int32, tokens without the end token.
        finished: (B, J) bool.
        end_id: int.
        beam_size: int, K; J is 1 for the first step and K later.
        length_penalty: float >= 0; of no effect beside a `ranking`.
        end_allowed: bool or bool scalar tensor. A forbidden end is no candidate; the other
            tokens keep their probabilities.
        forbidden: (B*J, V) bool, tokens that are no candidates, or None.
        token_penalties: (B*J, V) float32 or None: less log-probability in the choice of candidates,
            not in what is returned.
        coverage_terms: (B, J) float32 or None, part of the score of all extensions.
        ranking: `Ranking`, or None for the length penalty alone.
        is_last: bool or bool scalar tensor, whether no further step follows.
        normalize: bool, whether to take the softmax; without, logits are log-probabilities.

    Returns:
        `Beams`.
    """
    ranking = ranking or Ranking(length_penalty)
    logits, normalizer = possible_logits(logits, forbidden, normalize)

    values, penalties, ids = _candidates(
        logits, token_penalties, beam_size, end_id, ranking.expected_length is not None
    )
    missing = max(0, -(-beam_size // log_probs.shape[1]) - values.shape[1])  # K > J*V: a tiny V
    values = tf.pad(values, [[0, 0], [0, missing]], constant_values=-math.inf)  # (B*J, C)
    ids = tf.pad(ids, [[0, 0], [0, missing]])

    is_end = tf.equal(ids, end_id)
    impossible = (values == -math.inf) | (is_end & tf.logical_not(end_allowed))
    values = tf.where(impossible, -math.inf, values - normalizer)  # -inf - -inf would be NaN

    frozen = tf.reshape(finished, [-1, 1])
    padding = [0.0] + [-math.inf] * (values.shape[1] - 1)
    values = tf.where(frozen, padding, values)
    ids = tf.where(frozen, 0, ids)
    if penalties is not None:
        penalties = tf.pad(tf.where(frozen, 0.0, penalties), [[0, 0], [0, missing]])
    extensions = values, penalties, ids, frozen | is_end
    return _best(
        extensions, log_probs, lengths, ranking, coverage_terms, beam_size=beam_size,
        is_last=is_last,
    )  # fmt: skip


def _best(extensions, log_probs, lengths, ranking, coverage_terms, *, beam_size, is_last):
    """The best K of C extensions of each of J hypotheses.

    Args:
        extensions: log-probabilities, penalties or None, ids, and bool whether the hypothesis is
            finished then; each (B*J, C).
        log_probs, lengths: (B, J), of the hypotheses.
        ranking, coverage_terms, beam_size, is_last: as in `beam_step`.

    Returns:
        `Beams`.
    """
    values, penalties, ids, is_finished = extensions
    candidates = values.shape[1]
    sentences, beams = tf.shape(log_probs)[0], log_probs.shape[1]
    lengths = tf.reshape(lengths, [-1, 1]) + tf.cast(~is_finished, tf.int32)
    log_probs = tf.reshape(log_probs, [-1, 1]) + values
    merged = [sentences, beams * candidates]

    def scored(log_probs):
        by_beam = [
            tf.reshape(x, [sentences, beams, candidates]) for x in (log_probs, lengths, is_finished)
        ]
        return tf.reshape(ranking.scores(*by_beam, is_last, coverage_terms), merged)

    def chosen(values):
        return tf.gather(tf.reshape(values, merged), index, batch_dims=1)

    scores = scored(log_probs)
    if penalties is None:
        scores, index = tf.math.top_k(scores, beam_size)
    else:
        _, index = tf.math.top_k(scored(log_probs - penalties), beam_size)
        scores = chosen(scores)
    return Beams(
        ids=chosen(ids),
        parents=index // candidates,
        scores=scores,
        log_probs=chosen(log_probs),
        step_log_probs=chosen(values),
        lengths=chosen(lengths),
        finished=chosen(is_finished) | (scores == -math.inf),
    )


def _candidates(logits, penalties, beam_size, end_id, end_apart):
    """The tokens of each hypothesis that can be among the best K: logits, penalties and ids (N, C).

    Without the end, the K best tokens of a hypothesis are those with the K best logits, as all make
    it equally long. The end makes it shorter, which no length penalty favours, so it is among the
    first K + 1 logits or not wanted. An expected length may favour it: then it is one more
    candidate (`end_apart`).
    """
    wanted = logits if penalties is None else logits - penalties
    if end_apart:
        is_end = tf.range(logits.shape[1]) == end_id
        _, ids = top_k(tf.where(is_end, -math.inf, wanted), min(beam_size, logits.shape[1]))
        ids = tf.where(ids == end_id, -1, ids)  # forbidden tokens may be as unlikely as the end
        values = tf.gather(logits, tf.maximum(ids, 0), batch_dims=1)
        values = tf.where(ids < 0, -math.inf, values)
        ids = tf.pad(tf.maximum(ids, 0), [[0, 0], [0, 1]], constant_values=end_id)
        values = tf.concat([values, logits[:, end_id, None]], axis=1)
    else:
        values, ids = top_k(wanted, min(beam_size + 1, logits.shape[1]))
        if penalties is not None:
            values = tf.gather(logits, ids, batch_dims=1)
    if penalties is not None:
        penalties = tf.gather(penalties, ids, batch_dims=1)
    return values, penalties, ids


def diverse_step(extend, logits, hypotheses, *, groups, diversity_penalty):
    """One step of diverse beam search: each group avoids the tokens the groups before it took.

        log p(y, v) - diversity_penalty * (number of hypotheses of earlier groups that end in v)

    ranks the candidates of a group: Hamming diversity, Vijayakumar et al. (2018),
    https://arxiv.org/abs/1610.02424, section 4. Scores and log-probabilities stay those of the
    model. The hypotheses of group g are beams g*G to g*G + G - 1.

    Args:
        extend: function `extend(logits, hypotheses, token_penalties) -> Beams` for one group.
        logits: (B*J, V) float.
        hypotheses: tuple of tensors (B, J, ...) or None; J is 1 or a multiple of `groups`.
        groups: int.
        diversity_penalty: float >= 0.

    Returns:
        `Beams` of all groups.
    """
    sentences, beams = tf.shape(hypotheses[0])[0], hypotheses[0].shape[1]
    size, vocabulary_size = max(1, beams // groups), logits.shape[1]
    logits = tf.reshape(logits, [sentences, beams, vocabulary_size])
    taken = tf.zeros([sentences, vocabulary_size + 1])
    found = []
    for group in range(groups):
        first = group * size if beams > 1 else 0

        def part(tensor, first=first):
            return None if tensor is None else tensor[:, first : first + size]

        penalties = diversity_penalty * tf.repeat(taken[:, :-1], size, axis=0)
        rows = tf.reshape(part(logits), [-1, vocabulary_size])
        beam = extend(rows, tuple(part(x) for x in hypotheses), penalties)
        # Id 0 of a hypothesis that was finished before is no token.
        was_finished = tf.gather(part(hypotheses[2]), beam.parents, batch_dims=1)
        ids = tf.where(was_finished | (beam.scores == -math.inf), vocabulary_size, beam.ids)
        taken += tf.reduce_sum(tf.one_hot(ids, vocabulary_size + 1), axis=1)
        found.append(beam._replace(parents=beam.parents + first))
    return Beams(*(tf.concat(parts, axis=1) for parts in zip(*found, strict=True)))


def top_k(values, k):
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
