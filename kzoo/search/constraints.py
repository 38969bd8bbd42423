"""Constraints: what a search must not generate, and what it must.

A constraint takes candidates away and leaves the probabilities of the others as the model gives
them: nothing is renormalised, so scores stay comparable. The repetition penalty is no constraint
but another softmax. What `prefix` forces is generated whatever the other constraints say.

Axes: B batch, J hypotheses per sentence, N = B*J, P prefix, L longest output, V vocabulary,
W windows of an output.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from kzoo.search.steps import check_int, check_rows


class Constraints(NamedTuple):
    """Checked constraints; see `search.beam_search` for what each one does."""

    end_id: int
    min_length: int
    no_repeat_ngram: int  # n, 0 for none
    repetition_penalty: float  # 1 for none
    prefix: tf.Tensor | None  # (B, L) int32, 0 = free
    allowed: tf.Tensor | None  # (V,) or (B, V) bool


def checked_constraints(
    start_ids,
    *,
    end_id,
    max_length,
    min_length=0,
    no_repeat_ngram=0,
    repetition_penalty=1.0,
    prefix=None,
    allowed=None,
):
    """Checks the constraints of a search.

    Args:
        start_ids: (B,) int32.
        end_id, max_length, min_length, no_repeat_ngram, repetition_penalty, prefix, allowed: as in
            `search.beam_search`.

    Returns:
        `Constraints`.

    Raises:
        ValueError: an argument breaks its rule.
    """
    check_int("end_id", end_id, 0)
    is_known = not tf.is_tensor(max_length)
    if is_known:
        check_int("max_length", max_length, 1)
    check_int("min_length", min_length, 0)
    check_int("no_repeat_ngram", no_repeat_ngram, 0)
    if is_known and min_length >= max_length:
        raise ValueError(
            "`min_length` must be less than max_length, "
            f"got min_length={min_length}, max_length={max_length}."
        )
    if not 0 < repetition_penalty < math.inf:
        raise ValueError(
            "`repetition_penalty` must be finite and positive, "
            f"got repetition_penalty={repetition_penalty}."
        )
    if prefix is not None:
        prefix = _checked_prefix(prefix, start_ids, max_length)
    if allowed is not None:
        allowed = tf.convert_to_tensor(allowed)
        if allowed.dtype != tf.bool or allowed.shape.rank not in (1, 2):
            raise ValueError(
                "`allowed` must be bool of shape (V,) or (B, V), "
                f"got {allowed.dtype.name} of shape {allowed.shape}."
            )
        if allowed.shape.rank == 2:
            check_rows("allowed", allowed, start_ids)
    return Constraints(end_id, min_length, no_repeat_ngram, repetition_penalty, prefix, allowed)


def _checked_prefix(prefix, start_ids, max_length):
    """(P,), (B, P) or ragged -> (B, L) int32, padded with 0."""
    if isinstance(prefix, tf.RaggedTensor):
        prefix = prefix.to_tensor()
    prefix = tf.convert_to_tensor(prefix)
    if not prefix.dtype.is_integer or prefix.shape.rank not in (1, 2):
        raise ValueError(
            "`prefix` must hold integer ids of shape (P,) or (B, P), "
            f"got {prefix.dtype.name} of shape {prefix.shape}."
        )
    is_known = not tf.is_tensor(max_length) and prefix.shape[-1] is not None
    if is_known and prefix.shape[-1] > max_length:
        raise ValueError(
            "`prefix` must not be longer than max_length, "
            f"got shape {prefix.shape}, max_length={max_length}."
        )
    prefix = tf.cast(prefix, tf.int32)
    if prefix.shape.rank == 1:
        prefix = tf.repeat(prefix[None, :], tf.shape(start_ids)[0], axis=0)
    else:
        check_rows("prefix", prefix, start_ids)
    prefix = prefix[:, :max_length]
    prefix = tf.pad(prefix, [[0, 0], [0, max_length - tf.shape(prefix)[1]]])
    return tf.ensure_shape(prefix, [None, tf.get_static_value(max_length)])


def constrain(constraints, logits, ids, position):
    """What the constraints say of the next token.

    Args:
        constraints: `Constraints`.
        logits: (N, V) float.
        ids: (B, J, L) int32, generated so far: `position` tokens each.
        position: int32 scalar.

    Returns:
        logits: (N, V), float32 if the repetition penalty changed them. forbidden: (N, V) bool, or
        None when no constraint but `min_length` is set; that one is left to the caller then.

    Raises:
        ValueError: `allowed` is not of the vocabulary.
    """
    beams, size = ids.shape[1], logits.shape[1]
    length = tf.shape(ids)[2] if ids.shape[2] is None else ids.shape[2]
    ids = tf.reshape(ids, [-1, length])  # (N, L)
    if constraints.repetition_penalty != 1:
        logits = penalize_repetition(logits, ids, position, constraints.repetition_penalty)
    forbidden = []
    if constraints.allowed is not None:
        forbidden.append(_not_allowed(constraints.allowed, beams, size))
    if constraints.no_repeat_ngram:
        forbidden.append(repeating_tokens(ids, position, constraints.no_repeat_ngram, size))
    if not forbidden and constraints.prefix is None:
        return logits, None

    tokens = tf.range(size)
    forbidden.append((tokens == constraints.end_id) & (position < constraints.min_length))
    union = tf.zeros(tf.shape(logits), tf.bool)
    for each in forbidden:
        union |= each
    if constraints.prefix is not None:
        forced = tf.gather(constraints.prefix, position, axis=1)  # (B,)
        forced = tf.repeat(forced, beams)[:, None]
        union = tf.where(forced != 0, tokens != forced, union)
    return logits, tf.ensure_shape(union, [None, size])


def _not_allowed(allowed, beams, size):
    if not allowed.shape[-1:].is_compatible_with([size]):
        raise ValueError(
            "`allowed` must have one entry per token, "
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
