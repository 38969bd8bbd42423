"""A lexicon from alignments, and the candidate list that it makes of a source sentence.

Axis letters: B batch, S source steps, T target steps, R rare words of a list, V vocabulary.
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import contents
from kzoo.layers import masking
from kzoo.layers.head import CandidateLists
from kzoo.models.texts import looked_at
from kzoo.text import SPECIAL_TOKENS

_FIRST_WORD_ID = len(SPECIAL_TOKENS)


class Lexicon:
    """Candidate lists: the words that the answer to a sentence may consist of.

        list(x) = { v < frequent }  union  { t : t is a translation of a word of x }

    Jean et al. (2015), https://arxiv.org/abs/1412.2007, section 3.3. With ids sorted by falling
    frequency the first set is the most frequent words, the special ids among them. A search with a
    lexicon computes the softmax over the list of each sentence alone: its cost does not grow with
    V, and it never answers a rare word that has nothing to do with the source.

    A list has room for so many words beside the frequent ones. A sentence that needs more loses
    those translations first that are the least frequent for their source word.

    Args:
        translations: (source vocabulary, ranks) int array, target ids by falling frequency; 0 for
            none. The rows of the special ids 0 to 3 do not count.
        frequent: int, ids from 0 on that every answer may use; at least the 4 special ones.
        vocabulary_size: int, V, of the target.
        room: int, R, words of a list that are not frequent.

    Raises:
        ValueError: `frequent` is not between 4 and V, an id of `translations` is outside of V, or
            `room` is not positive.

    Example:

    >>> translations = [[0], [0], [0], [0], [8], [9]]  # of the source ids 4 and 5
    >>> lexicon = kzoo.Lexicon(translations, frequent=5, vocabulary_size=10, room=2)
    >>> lexicon.lists([[4, 2], [3, 2]]).ids.numpy()
    array([[0, 1, 2, 3, 4, 8, 0],
           [0, 1, 2, 3, 4, 0, 0]], dtype=int32)
    """

    def __init__(self, translations, frequent, vocabulary_size, room=256):
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
        if room < 1:
            raise ValueError(f"`room` must be at least 1, got room={room}.")
        self.translations = translations.copy()
        self.translations[:_FIRST_WORD_ID] = 0
        self.frequent = frequent
        self.vocabulary_size = vocabulary_size
        self.room = room

    @classmethod
    def learn(cls, model, batches, frequent, translations=10, room=256):
        """Counts what each source word is aligned with in training pairs.

        A target word is aligned with the source word that has the largest attention weight while
        the trained model is made to say it.

        Args:
            model: Seq2Seq with attention over its source ids.
            batches: iterable of `({"source", "target"}, labels)`, as of `batching.token_batches`.
            frequent: int, as above.
            translations: int, most frequent partners of a source word to keep.
            room: int, as above.

        Returns:
            Lexicon.
        """
        sizes = model.source_tokenizer.vocabulary_size(), model.head.vocabulary_size

        @tf.function(reduce_retracing=True, autograph=False)
        def aligned(inputs, labels):
            weights = model(inputs, training=False)["weights"]
            source = tf.cast(inputs["source"], tf.int64)
            words = tf.gather(source, looked_at(weights, source), batch_dims=1)  # (B, T)
            labels = tf.cast(labels, tf.int64)
            pairs = words * sizes[1] + labels
            return tf.boolean_mask(pairs, (labels >= _FIRST_WORD_ID) & (words >= _FIRST_WORD_ID))

        pairs, counts, waiting = np.zeros([0], np.int64), np.zeros([0], np.int64), []
        progress = keras.utils.Progbar(None, unit_name="batch")
        for inputs, labels in batches:
            waiting.append(aligned(inputs, labels).numpy())
            if sum(map(len, waiting)) > len(pairs):  # so that all sorting is n log n
                pairs, counts, waiting = *_added(pairs, counts, waiting), []
            progress.add(1)
        pairs, counts = _added(pairs, counts, waiting)
        table = _most_frequent(pairs, counts, sizes, translations)
        return cls(table, frequent, sizes[1], room)

    def check(self, source_tokenizer, head):
        """Raises ValueError unless the lexicon is for the vocabularies of these."""
        own = sizes = len(self.translations), self.vocabulary_size
        if source_tokenizer is not None:
            if source_tokenizer.content is not contents.TEXT:
                raise ValueError(
                    "`lexicon` needs a model that reads texts, "
                    f"got one that reads {source_tokenizer.content.input_name}."
                )
            sizes = source_tokenizer.vocabulary_size(), head.vocabulary_size
        if own != sizes or self.vocabulary_size != head.vocabulary_size:
            raise ValueError(
                "`lexicon` must be for the vocabularies of the model, got a lexicon for "
                f"{own[0]} source and {own[1]} target ids, but the model has {sizes[0]} and "
                f"{head.vocabulary_size}."
            )

    def lists(self, source):
        """The candidate lists of a batch, each of its own sentence alone.

        Args:
            source: (B, S) int ids.

        Returns:
            `head.CandidateLists` of F = `frequent` words and R = `room` places.
        """
        ranks, source = self.translations.shape[1], masking.as_ids(source)
        # (B, S, ranks)
        found = tf.cast(tf.gather(tf.constant(self.translations), source), tf.int64)
        # Sorted by id, and one id's places by rank; what is not rare comes first, as 0.
        keys = found * ranks + tf.range(ranks, dtype=tf.int64)
        keys = tf.where(found < self.frequent, tf.zeros_like(keys), keys)
        keys = tf.sort(tf.reshape(keys, [tf.shape(found)[0], -1]), axis=1)
        keys = tf.pad(keys, [[0, 0], [1, self.room]])  # at least `room` to choose from
        is_first = keys[:, 1:] // ranks != keys[:, :-1] // ranks
        best_first = tf.where(is_first & (keys[:, 1:] > 0), ranks - keys[:, 1:] % ranks, 0)
        is_kept, places = tf.math.top_k(best_first, self.room)
        rare = tf.gather(keys[:, 1:] // ranks, places, batch_dims=1)
        return CandidateLists(self.frequent, tf.cast(tf.where(is_kept > 0, rare, 0), tf.int32))


def _added(pairs, counts, more):
    """Sorted codes and their counts, with arrays of more codes."""
    more = np.concatenate([np.zeros([0], np.int64), *more])
    pairs, place = np.unique(np.concatenate([pairs, more]), return_inverse=True)
    counts = np.bincount(place, np.concatenate([counts, np.ones_like(more)]), len(pairs))
    return pairs, counts.astype(np.int64)


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
