"""Constraints: what a search must not generate, and what it must.

A constraint takes candidates away and leaves the probabilities of the others as the model gives
them: nothing is renormalised, so scores stay comparable, unless a search is asked to
(`SearchOptions.renormalize`). The repetition penalty is no constraint
but another softmax. What `prefix` forces is generated whatever the other constraints say.

Axes: B batch, J hypotheses per sentence, N = B*J, P prefix, L longest output, V vocabulary,
W windows of an output.
"""

import functools
import math

import tensorflow as tf

from kzoo.search.times import forbidden_by_times


def constrain(options, logits, ids, position):
    """What the constraints say of the next token.

    Args:
        options: `SearchOptions` of the batch.
        logits: (N, V) float.
        ids: (B, J, L) int32, generated so far: `position` tokens each.
        position: int32 scalar.

    Returns:
        logits: (N, V), float32 if the repetition penalty changed them. With `renormalize` they are
        -inf for what is forbidden, so that no softmax sees it, and log-probabilities are those
        among what is left. forbidden: (N, V) bool; or None with
        `renormalize`, or when no constraint but `min_length` is set, which is left to the caller
        then.

    Raises:
        ValueError: `allowed` or `allowed_first` is not of the vocabulary.
    """
    beams, size = ids.shape[1], logits.shape[1]
    length = tf.shape(ids)[2] if ids.shape[2] is None else ids.shape[2]
    ids = tf.reshape(ids, [-1, length])  # (N, L)
    if options.repetition_penalty != 1:
        logits = penalize_repetition(logits, ids, position, options.repetition_penalty)
    forbidden = []
    if options.allowed is not None:
        forbidden.append(_not_allowed("allowed", options.allowed, beams, size))
    if options.allowed_first is not None:
        not_first = _not_allowed("allowed_first", options.allowed_first, beams, size)
        forbidden.append(not_first & (position == 0))
    if options.no_repeat_ngram:
        forbidden.append(repeating_tokens(ids, position, options.no_repeat_ngram, size))
    is_free = not forbidden and options.prefix is None and options.times is None
    if is_free and not options.renormalize:
        return logits, None

    tokens = tf.range(size)
    forbidden.append((tokens == options.end_id) & (position < options.min_length))
    union = functools.reduce(tf.logical_or, forbidden)  # (V,) or (N, V)
    if options.times is not None:
        union |= forbidden_by_times(options.times, options.end_id, logits, ids, position, union)
    if options.prefix is not None:
        forced = tf.gather(options.prefix, position, axis=1)  # (B,)
        forced = tf.repeat(forced, beams)[:, None]
        union = tf.where(forced != 0, tokens != forced, union)
    union = tf.broadcast_to(union, tf.shape(logits))
    if options.renormalize:
        logits = tf.where(union, -math.inf, tf.cast(logits, tf.float32))
        if not options.normalize:  # log-probabilities, which no softmax sees
            total = tf.reduce_logsumexp(logits, axis=1, keepdims=True)
            logits -= tf.where(tf.math.is_inf(total), 0.0, total)
        return logits, None
    return logits, union


def _not_allowed(name, allowed, beams, size):
    if not allowed.shape[-1:].is_compatible_with([size]):
        raise ValueError(
            f"`{name}` must have one entry per token, "
            f"got shape {allowed.shape} for a vocabulary of {size}."
        )
    return ~allowed if allowed.shape.rank == 1 else tf.repeat(~allowed, beams, axis=0)


def penalize_repetition(logits, ids, position, penalty):
    """Makes generated tokens less likely: logit / penalty if it is positive, else logit * penalty.

    Keskar et al. (2019), https://arxiv.org/abs/1909.05858, section 4.1, divide every logit; a
    negative one would become more likely by that, so here it is multiplied.

    Args:
        logits: (N, V) float.
        ids: (N, L) int32, generated so far: `position` tokens each.
        position: int32 scalar.
        penalty: float > 0; 1 changes nothing.

    Returns:
        (N, V) float32.
    """
    logits = tf.cast(logits, tf.float32)
    generated = tf.range(tf.shape(ids)[1]) < position
    seen = _marked(ids, generated & tf.ones_like(ids, tf.bool), logits.shape[1])
    penalized = tf.where(logits > 0, logits / penalty, logits * penalty)
    return tf.where(seen, penalized, logits)


def repeating_tokens(ids, position, size, vocabulary_size):
    """The tokens that would complete an n-gram a second time.

    Args:
        ids: (N, L) int32, generated so far: `position` tokens each.
        position: int32 scalar.
        size: int >= 1, n.
        vocabulary_size: int, V.

    Returns:
        (N, V) bool.
    """
    windows = tf.maximum(tf.shape(ids)[1] - size + 1, 0)  # W
    last = tf.maximum(position - (size - 1) + tf.range(size - 1), 0)
    last = tf.gather(ids, last, axis=1)  # (N, n - 1)
    complete = tf.range(windows) + size - 1 < position  # (W,)
    same = complete & tf.ones([tf.shape(ids)[0], 1], tf.bool)  # (N, W)
    for place in range(size - 1):
        same &= ids[:, place : place + windows] == last[:, place : place + 1]
    return _marked(ids[:, size - 1 :], same, vocabulary_size)


def _marked(ids, mask, vocabulary_size):
    """(N, W) ids and bool -> (N, V) bool: True for each id where the mask is True."""
    rows, columns = tf.unstack(tf.shape(ids))
    ids = tf.where(mask, ids, vocabulary_size)  # the others go to a column that is cut off
    index = tf.stack([tf.repeat(tf.range(rows)[:, None], columns, axis=1), ids], axis=2)
    none = tf.zeros([rows, vocabulary_size + 1], tf.bool)
    return tf.tensor_scatter_nd_update(none, index, tf.ones_like(ids, tf.bool))[:, :-1]
