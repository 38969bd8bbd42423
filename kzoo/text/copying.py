"""Which words of a source an answer can copy, from texts to ids and back: for `layers.copying`.

The ids of a copying model are those of the V words of the target's vocabulary, and V + s for the
word at place s of the source. A word that the target's vocabulary has is copied as its own id; any
other as V + s, where s is the first place of the same word. All is done in the TensorFlow graph.

Axis letters: N texts, S source steps, T target steps, V vocabulary, P places, L longest output.
"""

import tensorflow as tf

from kzoo.text.special_ids import UNKNOWN_ID, UNKNOWN_TEXT
from kzoo.text.truncation import beginnings


def check_copying(source_tokenizer, target_tokenizer):
    """Raises ValueError unless words of the sources of the one can be those of the other's texts.

    Either both are of words or both of characters, with a vocabulary each or one for both, or they
    are of subwords, whose pieces are copied as they are, with one vocabulary. They must agree on
    lower case, or a word of the source would not be found among those of the target.
    """
    both = source_tokenizer, target_tokenizer
    if source_tokenizer is target_tokenizer:
        return
    kinds = [type(each) for each in both]
    is_one_kind = kinds[0] is kinds[1] and hasattr(kinds[0], "can_split")
    if is_one_kind and not kinds[0].can_split:
        is_one_kind = source_tokenizer.get_vocabulary() == target_tokenizer.get_vocabulary()
    if not is_one_kind:
        names = " and a ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            "Copying needs two tokenizers of words, two of characters, or one vocabulary of "
            f"subwords for source and target, got a {names}."
        )
    cases = [each.lowercase for each in both]
    if cases[0] != cases[1]:
        raise ValueError(
            "Copying needs tokenizers that agree on lower case, "
            f"got lowercase={cases[0]} of the source and lowercase={cases[1]} of the target."
        )


def copyable(tokenizer, sources, targets=None, longest=None):
    """What can be copied of each source, and the targets with what is copied in them.

    Args:
        tokenizer: of the target.
        sources: (N,) string.
        targets: (N,) string, or None for none.
        longest: int, most source tokens; the rest cannot be copied. None for all.

    Returns:
        copy_ids: RaggedTensor (N, None) int32, one for each source token, without the end; 0 for
        what cannot be copied. ids: RaggedTensor (N, None) int32, of the targets, without the end:
        a word that the vocabulary lacks is V + s if the source has it, else unknown.
    """
    sources = tf.convert_to_tensor(sources, tf.string)
    sources = sources if longest is None else beginnings(sources, longest)
    targets = tf.zeros_like(sources) if targets is None else tf.convert_to_tensor(targets)
    if not tokenizer.can_split:
        # Every piece of a text has an id. One that is unknown all the same is nothing to copy.
        copied, ids = tokenizer.tokenize(sources)[:, :longest], tokenizer.tokenize(targets)
        return copied.with_flat_values(_known_or(copied.flat_values, 0)), ids
    source, target = tokenizer.split(sources)[:, :longest], tokenizer.split(targets)
    words = tf.concat([source, target], 1)
    places = first_places(words).flat_values
    lengths = tf.gather(source.row_lengths(), words.value_rowids())
    places = tf.where(tf.cast(places, tf.int64) < lengths, places, -1)
    ids = tokenizer.ids_of(words.flat_values)
    size = tokenizer.vocabulary_size()
    ids = _known_or(ids, tf.where(places < 0, UNKNOWN_ID, size + places))
    is_source = tf.ragged.range(words.row_lengths()).flat_values < lengths
    return (
        source.with_flat_values(tf.boolean_mask(ids, is_source)),
        target.with_flat_values(tf.boolean_mask(ids, ~is_source)),
    )


def first_places(words):
    """Where in its row each word stands first: RaggedTensor (N, None) string -> int32.

    No word is compared with each other, as a table of all pairs would: the cost is that of a sort.

    Example:
        >>> first_places(tf.ragged.constant([["a", "b", "a"], ["b"]]))
        [[0, 1, 0], [0]]
    """
    rows, number = words.value_rowids(), tf.unique(words.flat_values, tf.int64).idx
    keys = rows * tf.size(number, tf.int64) + number
    unique = tf.unique(keys)
    places = tf.ragged.range(words.row_lengths()).flat_values
    firsts = tf.math.unsorted_segment_min(places, unique.idx, tf.size(unique.y))
    return words.with_flat_values(tf.cast(tf.gather(firsts, unique.idx), tf.int32))


def copied_words(tokenizer, ids, sources, unknown=None):
    """The word of each id that is a place of its source.

    Args:
        tokenizer: of the target, of words or characters.
        ids: (N, L) int32.
        sources: (N,) string.
        unknown: (N, L) string, what stands for all other ids; None for "⁇".

    Returns:
        (N, L) string, for `tokenizer.detokenize(ids, unknown=...)`.
    """
    places = tf.convert_to_tensor(ids) - tokenizer.vocabulary_size()
    words = padded_words(tokenizer, sources, places)
    is_place = (places >= 0) & (places < tf.shape(words)[1])
    copied = tf.gather(words, tf.where(is_place, places, 0), batch_dims=1)
    return tf.where(is_place, copied, UNKNOWN_TEXT if unknown is None else unknown)


def padded_words(tokenizer, texts, places):
    """The words of texts (N,) as far as the highest of some `places`, and "" behind them: (N, S)
    string, with one at least."""
    words = tokenizer.split(texts)
    if places.shape.num_elements() != 0:
        highest = tf.reduce_max(tf.concat([[-1], tf.reshape(places, [-1])], 0))
        words = words[:, : tf.cast(highest, tf.int32) + 1]
    return tf.concat([words, tf.fill([words.nrows(), 1], "")], 1).to_tensor()


def room(longest, vocabulary_size):
    """P for sources of at most so many tokens, the end not counted: a search wants it static.

    V + P is a multiple of 64, which lets a search find the best words fast.
    """
    return longest + 1 + -(longest + 1 + vocabulary_size) % 64


def _known_or(ids, others):
    return tf.where(ids == UNKNOWN_ID, others, ids)
