"""Texts: what stands around the ids of a model, contents before them and texts behind them.

All is done in the TensorFlow graph, for servers. Axis letters: N contents, S source steps, L
longest output, K outputs of a source, P places.
"""

import keras
import tensorflow as tf

from kzoo.text import END_ID, UNKNOWN_ID, copying


class Texts(keras.Model):
    """What reads contents and writes texts, with the tokenizers of a model.

    A child has `source_tokenizer`, `target_tokenizer` and `encoder_stride`.
    """

    copies = False  # whether answers may hold ids of places of the source, see `layers.copying`

    def source_ids(self, texts, max_source_length):
        """Tokenizes source texts in graph: at most so many tokens, then the end id.

        Args:
            texts: (N,) string.
            max_source_length: int, most tokens, the end not counted; the rest is cut off.

        Returns:
            (N, S) int32, padded.
        """
        return self.source_tokenizer.read(texts, max_source_length)[0]

    def read_source(self, contents, longest):
        """What `generate` takes of contents, read in graph.

        Args:
            contents: (N,) string: texts, or the bytes of sounds or pictures.
            longest: most of a source; the rest is cut off.

        Returns:
            dict of "source", and "copy_ids" (N, P) for a model that copies. is_empty: (N,) bool.
        """
        source, is_empty = self.source_tokenizer.read(contents, longest)
        if not self.copies:
            return {"source": source}, is_empty
        copy_ids, _ = copying.copyable(self.target_tokenizer, contents, longest=longest)
        places = copying.room(int(longest), self.target_tokenizer.vocabulary_size())
        return {"source": source, "copy_ids": copy_ids.to_tensor(shape=(None, places))}, is_empty

    def target_texts(self, ids, source_texts=None, steps=None):
        """Target ids to texts in graph; unknown words can be replaced by source words.

        Jean et al. (2015), https://arxiv.org/abs/1412.2007, section 4.1, and Luong et al. (2015),
        https://arxiv.org/abs/1410.8206: what a model without a word for it looked at is most often
        a name or a number, which is the same in both languages. A model that copies knows better:
        its ids of places become the words there.

        Args:
            ids: (N, L) int32, or (N, K, L), K outputs of each source.
            source_texts: (N,) string, or None to write "⁇" for an unknown or copied word.
            steps: int32 of the shape of `ids`, the source step of each id, see `looked_at`; None to
                write "⁇" for an unknown word. Both tokenizers must be of words, or both of
                characters.

        Returns:
            (N,) or (N, K) string.

        Raises:
            ValueError: there are `steps`, and a tokenizer is of subwords, or they are of different
                kinds.
        """
        unknown = None
        if steps is not None:
            unknown = self._looked_at_words(ids, source_texts, steps)
        if self.copies and source_texts is not None and self.target_tokenizer.can_split:
            unknown = copying.copied_words(self.target_tokenizer, ids, source_texts, unknown)
        rows, unknown = (
            x if x is None or ids.shape.rank == 2 else tf.reshape(x, [-1, tf.shape(ids)[-1]])
            for x in (ids, unknown)
        )
        texts = self.target_tokenizer.detokenize(rows, unknown=unknown)
        return tf.ensure_shape(tf.reshape(texts, tf.shape(ids)[:-1]), ids.shape[:-1])

    def _looked_at_words(self, ids, source_texts, steps):
        kinds = [type(each) for each in (self.source_tokenizer, self.target_tokenizer)]
        if kinds[0] is not kinds[1] or not kinds[0].can_split:
            names = " and a ".join(kind.__name__ for kind in kinds)
            raise ValueError(
                "`replace_unknown` needs two tokenizers of words or two of characters, "
                f"got a {names}."
            )
        steps = tf.where(ids == UNKNOWN_ID, steps, 0)
        words = copying.padded_words(self.source_tokenizer, source_texts, steps)
        return tf.gather(words, steps, batch_dims=1)

    def target_ids(self, texts, source_texts, longest=None):
        """Target texts to ids, without the end; what their sources have of them is copied.

        Args:
            texts, source_texts: (N,) string.
            longest: int, most tokens that are read of a source, as in `read_source`: words behind
                them are unknown. None for all.

        Returns:
            RaggedTensor (N, None) int32.
        """
        if not self.copies:
            return self.target_tokenizer.tokenize(texts)
        return copying.copyable(self.target_tokenizer, source_texts, texts, longest)[1]

    def target_tokens(self, ids, source_texts):
        """The piece of each target id, with the words that were copied: (N, L) -> (N, L) string."""
        tokens = self.target_tokenizer.tokens(ids)
        if not (self.copies and self.target_tokenizer.can_split):
            return tokens
        return copying.copied_words(self.target_tokenizer, ids, source_texts, tokens)

    def source_tokens(self, source, steps, contents):
        """The name of each memory step, (N, S) string; a model that copies knows unknown words."""
        names = self.source_tokenizer.step_names(source, steps, self.encoder_stride)
        if not (self.copies and self.target_tokenizer.can_split):
            return names
        size = self.target_tokenizer.vocabulary_size()
        places = size + tf.range(tf.shape(source)[1])
        ids = tf.where(source == UNKNOWN_ID, places, 0)
        return copying.copied_words(self.target_tokenizer, ids, contents, names)


def looked_at(weights, source):
    """The source word with the largest attention weight, for each target step.

    Args:
        weights: (N, L, S) float32, or (N, K, L, S).
        source: (N, S) ids; the end and the padding are no words.

    Returns:
        (N, L) or (N, K, L) int32.

    Raises:
        ValueError: the weights are not about the source ids, as those of a model without attention.
    """
    if not weights.shape[-1:].is_compatible_with(source.shape[1:]):
        raise ValueError(
            "`replace_unknown` needs a model whose attention weights are about its source ids, "
            f"got weights for {weights.shape[-1]} steps."
        )
    is_word = (source != END_ID) & (source != 0)
    for _ in weights.shape[1:-1]:
        is_word = is_word[:, None]
    return tf.argmax(tf.where(is_word, weights, -1.0), -1, tf.int32)
