"""What a copier changes in a model: its outputs, its step, what it asks of the other parts.

Axis letters: B batch, T target steps, S source steps, D features, V vocabulary, K beams, P places,
N rows of one decoding step.
"""

import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking
from kzoo.layers.copying import log_probabilities
from kzoo.text.copying import check_copying


def check_copier(model):
    """Raises ValueError unless the parts of a Seq2Seq go with its copier."""
    head, stride = model.head, getattr(model.encoder, "stride", 1)
    needs = "`copier` needs"
    if head.num_sampled:
        raise ValueError(f"{needs} the full softmax, got num_sampled={head.num_sampled}.")
    if model.r_drop or model.scheduled_sampling is not None:
        raise ValueError(
            f"{needs} teacher forcing in one pass, got r_drop={model.r_drop}, "
            f"scheduled_sampling={model.scheduled_sampling}."
        )
    if model.ctc_head is not None:
        raise ValueError(f"{needs} a model without CTC, got ctc_head={model.ctc_head.name}.")
    if stride != 1:
        raise ValueError(f"{needs} a memory step for each source token, got stride={stride}.")
    if not hasattr(model.decoder, "embedding"):
        name = type(model.decoder).__name__
        raise ValueError(f"{needs} a decoder that has an `embedding`, got a {name} without.")
    tokenizers = model.source_tokenizer, model.target_tokenizer
    if None in tokenizers:
        return
    check_copying(*tokenizers)
    if (size := model.target_tokenizer.vocabulary_size()) != head.vocabulary_size:
        raise ValueError(
            f"{needs} a head of just the target's words, got a vocabulary of {size} and "
            f"vocabulary_size={head.vocabulary_size}."
        )


def with_copies(model, outputs, ids, memory, copy_ids):
    """Outputs with the gate, and with log P of words and places as their logits.

    Args:
        model: Seq2Seq with a copier.
        outputs: dict of "logits" (B, T, V), "weights" (B, T, S) and "hidden" (B, T, D).
        ids: (B, T) int, which the decoder has read.
        memory: (B, S, Dm), zeros in the padding. copy_ids: (B, P) int.

    Returns:
        dict of the same and "gate" (B, T) and "copy_ids"; its "logits" are (B, T, V + P).
    """
    context = tf.matmul(tf.cast(outputs["weights"], memory.dtype), memory)
    gate = model.copier(outputs["hidden"], context, model.decoder.embedding(ids))
    logits = log_probabilities(outputs["logits"], gate, outputs["weights"], copy_ids)
    return outputs | {"logits": logits, "gate": gate, "copy_ids": copy_ids}


def copying_step(model, prepared, memory, copy_ids):
    """The step function of a search over V words and P places.

    Args:
        model: Seq2Seq with a copier.
        prepared: from the decoder's `prepare`.
        memory: (B, S, Dm), zeros in the padding. copy_ids: (B, P) int.

    Returns:
        A step function, see `search.steps`; its logits are log P.

    Raises:
        ValueError: P is not known ahead.
    """
    copy_ids = masking.to_dense(masking.as_ids(copy_ids))[0]
    if copy_ids.shape[1] is None:
        raise ValueError(
            "`copy_ids` must have a number of columns that is known when a graph is made, "
            f"got shape {copy_ids.shape}: pad them with 0 to as many as a source may have."
        )
    rows, size = tf.shape(memory)[0], model.head.vocabulary_size

    def by_source(x):
        """(N, ...) -> (B, K, ...), the K beams of a source side by side."""
        folded = tf.reshape(x, tf.concat([[rows, -1], tf.shape(x)[1:]], 0))
        return tf.ensure_shape(folded, (None, None, *x.shape[1:]))

    def step(ids, state, position):
        ids = model.copier.readable(ids, size)
        hidden, weights, state = model.decoder.step(ids, state, position, prepared)
        found = {"logits": model.head(hidden), "weights": weights, "hidden": hidden}
        found = {name: by_source(x) for name, x in found.items()}
        found = with_copies(model, found, by_source(ids), memory, copy_ids)
        return tf.reshape(found["logits"], [-1, size + copy_ids.shape[1]]), weights, state

    return step


def search_options(model, copy_ids, allowed):
    """What a model's `search_step` is told of copying, and what is allowed of words and places.

    Args:
        model: Generator.
        copy_ids: (B, P) int or None. allowed: (V,) or (B, V) bool or None.

    Returns:
        dict of arguments. allowed: (V + P,) or (B, V + P) bool or None.

    Raises:
        ValueError: there are `copy_ids` for a model that does not copy, or none for one that does.
    """
    name = type(model).__name__
    if not model.copies:
        checks.require(
            copy_ids is None, f"must be None: the {name} has no copier", copy_ids=copy_ids
        )
        return {}, allowed
    if copy_ids is None:
        raise ValueError(
            f"`copy_ids` must be those of the source: the {name} has a copier, got None."
        )
    checks.sequence(copy_ids=copy_ids)
    copy_ids = masking.padded(masking.as_ids(copy_ids))
    if allowed is not None:
        allowed = tf.convert_to_tensor(allowed)
        places = copy_ids.shape[1] or tf.shape(copy_ids)[1]
        rows = [[0, 0]] * (allowed.shape.rank - 1)
        allowed = tf.pad(allowed, [*rows, [0, places]], constant_values=True)
    return {"copy_ids": copy_ids}, allowed
