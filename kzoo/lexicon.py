"""A lexicon from alignments, and the candidate list that it makes of a source sentence.

Axis letters: B batch, S source steps, T target steps, R translations of a word, V vocabulary.
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo.seq2seq import looked_at
from kzoo.text import SPECIAL_TOKENS

_FIRST_WORD_ID = len(SPECIAL_TOKENS)


class Lexicon:
    """Candidate lists: the words that the answer to a sentence may consist of.

        allowed(x) = { v < frequent }  union  { t : t is a translation of a word of x }

    Jean et al. (2015), https://arxiv.org/abs/1412.2007, section 3.3. With ids sorted by falling
    frequency the first set is the most frequent words, the special ids among them. Of a large
    vocabulary it takes away the words that have nothing to do with the source; the search still
    scores all V, so this is about what is answered and not about time.

    Args:
        translations: (source vocabulary, R) int array, target ids; 0 for none.
        frequent: int, ids from 0 on that every answer may use; at least the 4 special ones.
        vocabulary_size: int, V, of the target.

    Raises:
        ValueError: `frequent` is not between 4 and V, or an id of `translations` is outside of it.

    Example:

    >>> translations = [[0], [0], [0], [0], [8], [9]]  # of the source ids 4 and 5
    >>> lexicon = kzoo.Lexicon(translations, frequent=5, vocabulary_size=10)
    >>> tf.where(lexicon.allowed([[4, 2], [3, 2]])[0]).numpy().ravel()
    array([0, 1, 2, 3, 4, 8])
    """

    def __init__(self, translations, frequent, vocabulary_size):
        translations = np.asarray(translations, np.int32)
        if not _FIRST_WORD_ID <= frequent <= vocabulary_size:
            raise ValueError(
                f"`frequent` must lie between {_FIRST_WORD_ID} and vocabulary_size, "
                f"got frequent={frequent}, vocabulary_size={vocabulary_size}."
            )
        in_range = (translations >= 0) & (translations < vocabulary_size)
        if translations.ndim != 2 or not in_range.all():
            raise ValueError(
                "`translations` must be a matrix of ids below vocabulary_size, "
                f"got shape {translations.shape}, vocabulary_size={vocabulary_size}."
            )
        self.translations = translations
        self.frequent = frequent
        self.vocabulary_size = vocabulary_size

    @classmethod
    def learn(cls, model, batches, frequent, translations=10):
        """Counts what each source word is aligned with in training pairs.

        A target word is aligned with the source word that has the largest attention weight while
        the trained model is made to say it.

        Args:
            model: Seq2Seq with attention over its source ids.
            batches: iterable of `({"source", "target"}, labels)`, as of `batching.token_batches`.
            frequent: int, as above.
            translations: int, R, most frequent partners of a source word to keep.

        Returns:
            Lexicon.
        """
        sizes = model.source_tokenizer.vocabulary_size(), model.head.vocabulary_size

        @tf.function(reduce_retracing=True)
        def aligned(inputs, labels):
            weights = model(inputs, training=False)["weights"]
            source = tf.cast(inputs["source"], tf.int64)
            words = tf.gather(source, looked_at(weights, source), batch_dims=1)  # (B, T)
            labels = tf.cast(labels, tf.int64)
            pairs = words * sizes[1] + labels
            return tf.boolean_mask(pairs, (labels >= _FIRST_WORD_ID) & (words >= _FIRST_WORD_ID))

        pairs, counts = np.zeros([0], np.int64), np.zeros([0], np.int64)
        progress = keras.utils.Progbar(None, unit_name="batch")
        for inputs, labels in batches:
            found = aligned(inputs, labels).numpy()
            pairs, place = np.unique(np.concatenate([pairs, found]), return_inverse=True)
            ones = np.ones_like(found)
            counts = np.bincount(place, np.concatenate([counts, ones])).astype(np.int64)
            progress.add(1)
        return cls(_most_frequent(pairs, counts, sizes, translations), frequent, sizes[1])

    def allowed(self, source):
        """The words that the answer to each source may consist of.

        Args:
            source: (B, S) int ids.

        Returns:
            (B, V) bool, for `allowed` of `Seq2Seq.generate`.
        """
        found = tf.gather(tf.constant(self.translations), source)  # (B, S, R)
        rows = tf.shape(found)[0]
        place = tf.zeros_like(found) + tf.range(rows)[:, None, None]
        index = tf.reshape(tf.stack([place, found], -1), [-1, 2])
        ones = tf.ones([tf.size(found)], tf.int32)
        listed = tf.scatter_nd(index, ones, [rows, self.vocabulary_size]) > 0
        return listed | (tf.range(self.vocabulary_size) < self.frequent)


def _most_frequent(pairs, counts, sizes, translations):
    """Codes source * V + target with their counts -> (source vocabulary, R) target ids."""
    source, target = pairs // sizes[1], pairs % sizes[1]
    order = np.lexsort((target, -counts, source))
    source, target = source[order], target[order]
    rank = np.arange(len(source)) - np.searchsorted(source, source)
    table = np.zeros((sizes[0], translations), np.int32)
    kept = rank < translations
    table[source[kept], rank[kept]] = target[kept]
    return table
