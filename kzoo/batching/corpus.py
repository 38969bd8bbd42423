"""Tokenized pairs in memory."""

from typing import NamedTuple

import tensorflow as tf

from kzoo.text import copying


class Corpus(NamedTuple):
    """Tokenized pairs in memory, 4 bytes a token; or `text.SampledSubwords` in place of either."""

    source: tf.RaggedTensor  # (N, None) int32, without start and end
    target: tf.RaggedTensor  # (N, None) int32
    copy_ids: tf.RaggedTensor | None = None  # (N, None) int32, one for each source token
    names: tf.Tensor | None = None  # (N,) string, what messages call each pair


def tokenize(tokenizer, texts, chunk=10_000):
    """Tokenizes a list of texts, chunk by chunk; returns a RaggedTensor (N, None) int32.

    Raises:
        ValueError: `texts` is a single text.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"`texts` must be a list of texts, got {texts!r}.")
    starts = range(0, max(len(texts), 1), chunk)  # one empty chunk has the dtype of all others
    return tf.concat([tokenizer.tokenize(texts[i : i + chunk]) for i in starts], 0)


def copying_corpus(
    source_tokenizer, target_tokenizer, sources, targets, longest=None, chunk=10_000
):
    """Tokenizes pairs for a model that copies, chunk by chunk.

    A target word that the vocabulary lacks has the id of its place in the source, if it is there:
    `layers.copying` says how. `token_batches` and `teacher_forcing` hand it all on.

    Args:
        source_tokenizer, target_tokenizer: two of words or of characters, or one of subwords.
        sources, targets: lists of N str.
        longest: int, most source tokens; the rest is cut off. None for all.
        chunk: int, pairs at once.

    Returns:
        Corpus with `copy_ids`.

    Raises:
        ValueError: the tokenizers do not go together, or the lists are of different lengths.
    """
    copying.check_copying(source_tokenizer, target_tokenizer)
    if len(sources) != len(targets):
        raise ValueError(
            f"`sources` and `targets` must be equally many, got {len(sources)} and {len(targets)}."
        )
    parts = []
    for i in range(0, max(len(sources), 1), chunk):
        texts = tf.constant(sources[i : i + chunk], tf.string)
        copy_ids, ids = copying.copyable(
            target_tokenizer, texts, tf.constant(targets[i : i + chunk], tf.string), longest
        )
        parts.append((source_tokenizer.tokenize(texts)[:, :longest], ids, copy_ids))
    return Corpus(*(tf.concat(sides, 0) for sides in zip(*parts, strict=True)))
