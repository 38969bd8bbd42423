"""Prompts, and the ids that a model never gives: what stands beside the weights of a model.

Axis letters: B batch, T target steps, P ids of a prompt, V vocabulary.
"""

import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking


def check_prompt(model):
    """Raises ValueError unless the ids of a Seq2Seq's prompt and of what it never gives are ids of
    its vocabulary, and go with the other parts."""
    size = model.head.vocabulary_size
    for name in ("prompt", "suppressed", "suppressed_first"):
        ids = getattr(model, name)
        is_met = all(isinstance(id_, int) and 0 <= id_ < size for id_ in ids)
        checks.require(is_met, f"must hold ids below {size}, the vocabulary's size", **{name: ids})
    others = {
        "copier": model.copier,
        "ctc_head": model.ctc_head,
        "scheduled_sampling": model.scheduled_sampling,
    }
    for name, other in others.items():
        if other is not None and model.prompt:
            raise ValueError(f"`prompt` must be empty with a `{name}`, got prompt={model.prompt}.")
    if model.copier is not None and model.suppressed_first:
        raise ValueError(
            "`suppressed_first` must be empty with a `copier`, got "
            f"suppressed_first={model.suppressed_first}."
        )


def with_prompt(target, prompt):
    """What the decoder reads: start, prompt, then the rest of the target.

    Args:
        target: (B, T) int, dense or ragged. prompt: tuple of P ids.

    Returns:
        (B, T + P) int, dense.
    """
    ids, _ = masking.to_dense(masking.as_ids(target))
    row = tf.constant([prompt], ids.dtype)
    return tf.concat([ids[:, :1], tf.repeat(row, tf.shape(ids)[0], axis=0), ids[:, 1:]], 1)


def prompt_rows(prompt, rows):
    """A prompt of a search as (B, P) int32.

    Args:
        prompt: sequence of P ids, or (P,) or (B, P) int. rows: int tensor, B.

    Raises:
        ValueError: it has another shape or type.
    """
    prompt = tf.convert_to_tensor(prompt, None if len(prompt) else tf.int32)
    if not prompt.dtype.is_integer or prompt.shape.rank not in (1, 2):
        raise ValueError(
            "`prompt` must hold integer ids of shape (P,) or (B, P), "
            f"got {prompt.dtype.name} of shape {prompt.shape}."
        )
    prompt = tf.cast(prompt, tf.int32)
    return tf.repeat(prompt[None], rows, axis=0) if prompt.shape.rank == 1 else prompt


def after_prompt(step, state, start_ids, prompt):
    """What a search begins with once the decoder has read start and prompt, but for the last id.

    Args:
        step: function, see `search.steps`. state: before any step, B rows.
        start_ids: (B,) int32. prompt: (B, P) int32.

    Returns:
        step: the same, its position 0 behind the prompt. state: B rows. ids: (B,), to be read next.
    """
    count = tf.shape(prompt)[1]
    ids = tf.concat([start_ids[:, None], prompt], 1)

    def read(position, before):
        *_, after = step(ids[:, position], before, position)

        def keep(old, new):
            new.set_shape(old.shape)  # reshaping and gathering lose some of it
            return new

        return position + 1, tf.nest.map_structure(keep, before, after)

    _, state = tf.while_loop(lambda position, _: position < count, read, (tf.constant(0), state))
    return lambda ids, state, position: step(ids, state, position + count), state, ids[:, count]


def permitted(model, suppressed, allowed=None):
    """What a search may give: (V,) or (B, V) bool, or None for all.

    Args:
        model: has a `head`. suppressed: tuple of ids. allowed: bool of these shapes, or None.
    """
    if not suppressed:
        return allowed
    size = model.head.vocabulary_size
    is_free = tf.reduce_all(tf.range(size)[:, None] != tf.constant(suppressed), 1)
    return is_free if allowed is None else tf.logical_and(allowed, is_free)
