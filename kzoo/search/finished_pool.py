"""Beam search whose finished hypotheses stand apart: the K beams are all for those that grow.

`beam_search(finished_apart=True)` searches so, as Hugging Face's transformers, fairseq and
CTranslate2 do: models of theirs then give the answers they gave there. The first of them stops when
nothing better is to be expected, the others when enough have finished: see `pooled`. OpenAI's
Whisper keeps all that end before the K-th that grows, and ranks them by the mean log p with the
length without the end, so with several beams it may prefer a longer one.

Axes: B batch, K beams, J beams before a step, L longest output, V vocabulary, C candidates.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from kzoo.search.beams import Beams, Ranking, normalized_scores, possible_logits, top_k


class Pool(NamedTuple):
    """The finished hypotheses of each sentence, best score first."""

    beams: Beams  # each (B, K); a free place scores -inf
    ids: tf.Tensor  # (B, K, L) int32
    parents: tf.Tensor  # (B, K, L) int32: which beam of the step before each token extends
    step_log_probs: tf.Tensor  # (B, K, L) float32
    count: tf.Tensor  # (B,) int32: how many have finished, those without a place counted
    is_open: tf.Tensor  # (B,) bool: whether the search of the sentence goes on


def empty_pool(sentences, beam_size, max_length):
    """`Pool` before the first step, for B sentences."""
    none = tf.zeros([sentences, beam_size], tf.int32)
    zero = tf.cast(none, tf.float32)
    slots = tf.zeros([sentences, beam_size, max_length], tf.int32)
    return Pool(
        Beams(none, none, zero - math.inf, zero - math.inf, zero, none, none == 0),
        slots, slots, tf.cast(slots, tf.float32),
        tf.zeros([sentences], tf.int32), tf.fill([sentences], True),
    )  # fmt: skip


def apart_step(
    logits,
    log_probs,
    lengths,
    finished,
    *,
    end_id,
    beam_size,
    end_allowed=True,
    forbidden=None,
    coverage_terms=None,
    ranking=None,
    is_last=False,
    normalize=True,
):
    """One step: of the best 2 K extensions of J hypotheses, the best K that grow, and the ended.

    Extensions are ranked by log-probability, as all of them have as many tokens; of equal ones the
    lower beam wins, then the lower id. At most K of the 2 K end, one for each hypothesis, so K are
    left to grow. Those that end count if they are among the first K.

    Args:
        finished: (B, J) bool, True for a hypothesis without a possible token.
        logits, log_probs, lengths and all others: as in `beams.beam_step`.

    Returns:
        Two `Beams` (B, K): those that grow, and those that ended here, -inf where fewer did. After
        the last step the first K extensions all end.
    """
    ranking = ranking or Ranking()
    logits, normalizer = possible_logits(logits, forbidden, normalize)
    if end_allowed is not True:  # spares a copy of all logits
        is_end = tf.range(logits.shape[1]) == end_id
        logits = tf.where(is_end & tf.logical_not(end_allowed), -math.inf, logits)

    sentences, beams = tf.shape(log_probs)[0], log_probs.shape[1]
    values, ids = top_k(logits, min(2 * beam_size, logits.shape[1]))  # (B*J, C)
    missing = max(0, -(-2 * beam_size // beams) - values.shape[1])  # a tiny V
    values = tf.pad(values, [[0, 0], [0, missing]], constant_values=-math.inf)
    ids = tf.pad(ids, [[0, 0], [0, missing]], constant_values=end_id)
    is_possible = (values > -math.inf) & ~tf.reshape(finished, [-1, 1])
    values = tf.where(is_possible, values - normalizer, -math.inf)
    candidates = values.shape[1]
    totals = tf.reshape(tf.reshape(log_probs, [-1, 1]) + values, [sentences, beams * candidates])

    totals, best = tf.math.top_k(totals, 2 * beam_size)  # (B, 2 K), the best first
    values, ids = (
        tf.gather(tf.reshape(x, [sentences, beams * candidates]), best, batch_dims=1)
        for x in (values, ids)
    )
    parents = best // candidates
    is_end = tf.equal(ids, end_id)
    lengths = tf.gather(lengths, parents, batch_dims=1) + tf.cast(~is_end, tf.int32)

    def chosen(is_wanted):
        """The best K of the 2 K that are wanted."""
        wanted = tf.where(is_wanted, totals, -math.inf)
        wanted, index = tf.math.top_k(wanted, beam_size)
        rows = (tf.gather(x, index, batch_dims=1) for x in (ids, parents, values, lengths, is_end))
        return (wanted, *rows)

    found, tokens, origins, steps, sizes, _ = chosen(~is_end)
    growing = Beams(tokens, origins, found, found, steps, sizes, found == -math.inf)
    is_first = tf.range(2 * beam_size) < beam_size
    found, tokens, origins, steps, sizes, has_end = chosen(is_first & (is_end | is_last))
    if coverage_terms is not None:
        coverage_terms = tf.gather(coverage_terms, origins, batch_dims=1)
    scores = ranking.scores(
        found[..., None], sizes[..., None], has_end[..., None], True, coverage_terms
    )[..., 0]
    return growing, Beams(tokens, origins, scores, found, steps, sizes, tf.ones_like(has_end))


def pooled(pool, ended, histories, growing, *, position, options):
    """The pool with the hypotheses that ended in a step.

    When a sentence is closed, and takes up no more, is what projects differ in:

    - without `patience`, once K hypotheses have finished and the best that grows is no better than
      the worst of them: by the score that it would have if it ended now. With a `length_penalty` it
      might become better than that; transformers stops there as well.
    - with `patience` p, once round(K p) have finished, whatever grows: first come, first served.
      It is what p = 1 is in fairseq and CTranslate2 (Kasai et al., 2022,
      https://arxiv.org/abs/2204.05424). It matters where scores are means per token: a text that
      repeats itself for ever becomes ever more probable by that measure, and is not waited for.

    With one beam the first end is the answer: greedy search.

    Args:
        pool: `Pool`.
        ended, growing: `Beams`, from `apart_step`.
        histories: ids, parents and step log-probabilities (B, K, L) of `ended`, with its tokens.
        position: int32 scalar, of the step.
        options: `SearchOptions`.

    Returns:
        `Pool`.
    """
    is_open = pool.is_open[:, None]
    ended = ended._replace(scores=tf.where(is_open, ended.scores, -math.inf))
    merged = tf.nest.map_structure(
        lambda old, new: tf.concat([old, new], 1),
        (pool.beams, pool.ids, pool.parents, pool.step_log_probs),
        (ended, *histories),
    )
    count = pool.count + tf.reduce_sum(tf.cast(ended.scores > -math.inf, tf.int32), axis=1)
    scores, best = tf.math.top_k(merged[0].scores, options.beam_size)
    beams, *histories = tf.nest.map_structure(lambda x: tf.gather(x, best, batch_dims=1), merged)
    if options.beam_size == 1:
        still = scores[:, 0] == -math.inf
    elif options.patience is not None:
        still = count < max(1, round(options.beam_size * options.patience))
    else:
        worst = scores[:, 0] if options.best_only and not options.length_penalty else scores[:, -1]
        reachable = normalized_scores(
            growing.log_probs[:, 0], position + 1, options.length_penalty,
            options.length_normalization,
        )  # fmt: skip
        still = reachable > worst
    still &= ~growing.finished[:, 0]
    return Pool(beams, *histories, count, pool.is_open & still)
