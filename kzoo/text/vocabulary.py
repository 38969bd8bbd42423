"""Tokenizers with a list of pieces: characters, words, what stands between spaces.

N texts, V vocabulary.
"""

import collections

import keras
import tensorflow as tf

from kzoo.text.special_ids import SPECIAL_TOKENS, UNKNOWN_ID, UNKNOWN_TEXT
from kzoo.text.tokenizer import Tokenizer, batches, check_size, check_texts
from kzoo.text.words import join_words, normalize, split_words


class _TableTokenizer(Tokenizer):
    """A tokenizer whose vocabulary is a list, looked up in two tables."""

    can_split = True

    def __init__(self, vocabulary, lowercase=False, name=None):
        super().__init__(lowercase=lowercase, name=name)
        # A tuple: Keras would wrap a list in one that it tracks element by element.
        self._vocabulary = _checked_vocabulary(vocabulary)
        learnt = self._vocabulary[len(SPECIAL_TOKENS) :]  # so the text "<s>" is never the start id
        with tf.init_scope():  # also when built while a graph is traced
            self._ids = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.constant(learnt), tf.range(len(SPECIAL_TOKENS), len(self._vocabulary))
                ),
                default_value=UNKNOWN_ID,
            )
            self._strings = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.range(len(self._vocabulary), dtype=tf.int64), tf.constant(self._vocabulary)
                ),
                default_value=SPECIAL_TOKENS[UNKNOWN_ID],
            )

    @classmethod
    def learn(cls, texts, vocabulary_size, lowercase=False):
        """Takes the most frequent pieces of texts; equally frequent ones in alphabetical order.

        Args:
            texts: iterable of str, read once, in batches.
            vocabulary_size: int, V at most, special ids included; fewer if the texts hold fewer
                different pieces.
            lowercase: bool, map texts to lower case, here and in `tokenize`.

        Returns:
            The tokenizer.

        Raises:
            ValueError: no text, or `vocabulary_size` below 5.
        """
        check_size(vocabulary_size)
        counts = collections.Counter()
        for batch in batches(texts):
            pieces = cls._split(normalize(tf.constant(batch, tf.string), lowercase))
            counts.update(pieces.flat_values.numpy().tolist())
        counts = {piece.decode(): count for piece, count in counts.items()}
        counts = {piece: count for piece, count in counts.items() if "\ufffd" not in piece}
        for name in SPECIAL_TOKENS:  # as a text may hold "<unk>", which stays unknown
            counts.pop(name, None)
        check_texts(counts)
        ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls([*SPECIAL_TOKENS, *ranked[: vocabulary_size - len(SPECIAL_TOKENS)]], lowercase)

    def vocabulary_size(self):
        return len(self._vocabulary)

    def get_vocabulary(self):
        return list(self._vocabulary)

    @property
    def trackables(self):
        return [self._ids, self._strings]

    def get_config(self):
        return {
            "vocabulary": self.get_vocabulary(),
            "lowercase": self.lowercase,
            "name": self.name,
        }

    def split(self, texts):
        """Texts to the strings that `tokenize` looks up, those of unknown words too.

        Args:
            texts: (N,) string.

        Returns:
            RaggedTensor (N, None) string.
        """
        return self._split(normalize(texts, self.lowercase))

    def ids_of(self, pieces):
        """The id of each string that `split` returns, unknown or not: the same shape, int32."""
        return self._ids.lookup(pieces)

    def _encode(self, texts):
        pieces = self._split(texts)
        return pieces.with_flat_values(self.ids_of(pieces.flat_values))

    def _decode(self, ids, unknown):
        flat = ids.flat_values
        unknown = UNKNOWN_TEXT if unknown is None else unknown.flat_values
        return self._join(
            ids.with_flat_values(tf.where(flat == UNKNOWN_ID, unknown, self._pieces(flat)))
        )

    def _pieces(self, ids):
        return self._strings.lookup(tf.cast(ids, tf.int64))


@keras.saving.register_keras_serializable("kzoo")
class CharacterTokenizer(_TableTokenizer):
    """One id per Unicode character (code point), the space included.

    Detokenizing restores the normalized text exactly, unless it holds an unknown character.

    Args:
        vocabulary: list of str: the four special tokens, then single characters.
        lowercase: bool, map texts to lower case first.

    Example:
        >>> tokenizer = kzoo.CharacterTokenizer.learn(["a cat"], vocabulary_size=100)
        >>> tokenizer.get_vocabulary()
        ['<pad>', '<s>', '</s>', '<unk>', 'a', ' ', 'c', 't']
        >>> tokenizer.tokenize("cat").numpy()
        array([6, 4, 7], dtype=int32)

    Raises:
        ValueError: `vocabulary` does not begin with the special tokens, or repeats one.
    """

    @staticmethod
    def _split(texts):
        return tf.strings.unicode_split(texts, "UTF-8")

    @staticmethod
    def _join(characters):
        return tf.strings.reduce_join(characters, axis=-1)


@keras.saving.register_keras_serializable("kzoo")
class WordTokenizer(_TableTokenizer):
    """One id per whole word or sign, as `split_words` takes texts apart.

    Every word outside the vocabulary is unknown, and `detokenize` guesses the spaces around signs
    as `join_words` does: a text comes back exactly only if all its words are known and it is
    spaced as usual.

    Args:
        vocabulary: list of str: the four special tokens, then words and signs.
        lowercase: bool, map texts to lower case first.

    Example:
        >>> tokenizer = kzoo.WordTokenizer.learn(["Stop, dogs!"], vocabulary_size=100)
        >>> tokenizer.detokenize(tokenizer.tokenize("Stop, cats!")).numpy().decode()
        'Stop, ⁇!'

    Raises:
        ValueError: `vocabulary` does not begin with the special tokens, or repeats one.
    """

    _split = staticmethod(split_words)
    _join = staticmethod(join_words)


@keras.saving.register_keras_serializable("kzoo")
class SpaceTokenizer(_TableTokenizer):
    """One id for whatever stands between two spaces: phonemes, or words that are split already.

    Detokenizing restores the normalized text exactly, unless it holds an unknown piece.

    Args:
        vocabulary: list of str: the four special tokens, then pieces without spaces.
        lowercase: bool, map texts to lower case first.

    Example:
        >>> tokenizer = kzoo.SpaceTokenizer.learn(["HH AH0 L OW1"], vocabulary_size=100)
        >>> tokenizer.detokenize(tokenizer.tokenize("L OW1 .")).numpy().decode()
        'L OW1 ⁇'

    Raises:
        ValueError: `vocabulary` does not begin with the special tokens, or repeats one.
    """

    @staticmethod
    def _split(texts):
        return tf.strings.split(texts)

    @staticmethod
    def _join(pieces):
        return tf.strings.reduce_join(pieces, separator=" ", axis=-1)


def _checked_vocabulary(vocabulary):
    vocabulary = tuple(vocabulary)
    if vocabulary[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS or len(vocabulary) == 4:
        raise ValueError(
            f"`vocabulary` must begin with {SPECIAL_TOKENS} and hold more, got {vocabulary[:5]}."
        )
    if len(set(vocabulary)) < len(vocabulary):
        repeated = next(p for p, n in collections.Counter(vocabulary).items() if n > 1)
        raise ValueError(f"`vocabulary` must hold every piece once, got {repeated!r} again.")
    return vocabulary
