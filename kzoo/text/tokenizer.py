"""Tokenizers: strings <-> ids, in the TensorFlow graph. N texts, T tokens, V vocabulary.

`SubwordTokenizer` (SentencePiece), `CharacterTokenizer`, `WordTokenizer` and `SpaceTokenizer` (what
stands between spaces) have one interface:

    tokenizer = SubwordTokenizer.learn(texts, vocabulary_size=8_000)
    ids = tokenizer.tokenize(["Two dogs run."])    # RaggedTensor (1, None) int32
    tokenizer.detokenize(ids)                      # ["Two dogs run."]
    tokenizer.tokens(ids)                          # [["▁Two", "▁dogs", "▁run", "."]]

Ids 0..3 are padding, start, end and unknown; the others are sorted by falling frequency, which
the log-uniform sampler of `kzoo.layers.candidates` relies on. `tokenize` adds no start or end.

All three first `normalize` a text, and detokenizing does not bring back what that takes away. Bytes
that are not UTF-8 become U+FFFD, which is never in a learnt vocabulary, hence unknown.

To export a function that tokenizes, make the tokenizer an attribute of the `tf.Module`, or call
`track(tokenizer)` on the `keras.export.ExportArchive`; both find its tables.
"""

import itertools

import keras
import keras_nlp
import tensorflow as tf

from kzoo import contents
from kzoo.text.special_ids import END_ID, PADDING_ID, SPECIAL_TOKENS, UNKNOWN_ID
from kzoo.text.truncation import beginnings
from kzoo.text.words import normalize

_BATCH_TEXTS = 1024  # texts that go through the graph at once while learning


# keras_nlp's base class is a Keras layer that leaves strings alone and needs neither the
# sentencepiece package nor variables; its own SentencePieceTokenizer is no base for ours, since
# eagerly it runs the Python package and keeps its proto outside get_config.
class Tokenizer(keras_nlp.tokenizers.Tokenizer):
    """What the three tokenizers share; calling the layer is `tokenize`.

    A subclass gives `_encode(texts (N,)) -> ragged ids`, `_decode(ragged ids, unknown) -> texts`,
    `_pieces(ids) -> strings`, all in graph, and `get_vocabulary()`.
    """

    # How an exported model reads texts; `audio.AudioSource` says the same of sounds.
    content = contents.TEXT
    is_static = True  # whether XLA can compile a search on what `read` returns
    adds_end = True  # whether `read` ends a source with the end id
    can_stream = False  # whether it reads live audio
    can_split = False  # whether it has a `split` into whole words or characters
    languages = ()  # codes whose tags, as ">>fr<<" at the beginning of a text, are one token each

    def __init__(self, lowercase=False, name=None):
        super().__init__(name=name, dtype="int32", trainable=False)
        self.lowercase = bool(lowercase)
        self.built = True  # there is nothing to build; a layer that holds an unbuilt one warns

    def tokenize(self, texts):
        """Texts to ids, without start and end.

        Args:
            texts: (N,) string, or () for one text.

        Returns:
            RaggedTensor (N, None) int32, or (T,) int32 for one text.

        Raises:
            ValueError: `texts` is neither a string nor a vector of strings.
        """
        texts = tf.convert_to_tensor(texts, dtype=tf.string)
        if texts.shape.rank not in (0, 1):
            raise ValueError(
                "`texts` must be one string or a vector of strings of known rank, "
                f"got shape {texts.shape}."
            )
        if texts.shape.rank == 0:
            return self._encode(self._normalize(texts)[tf.newaxis]).flat_values
        return self._encode(self._normalize(texts))  # (N, None)

    def _normalize(self, texts):
        return normalize(texts, self.lowercase)

    def detokenize(self, ids, unknown=None):
        """Ids to texts. Padding, start and end are dropped; an unknown id becomes "⁇".

        Args:
            ids: (N, T) integer, dense or ragged, or (T,) for one text.
            unknown: (N, T) or (T,) string, dense as `ids` are, what an unknown id becomes at each
                place instead; or None. Not for subwords.

        Returns:
            (N,) string, or () for one text.

        Raises:
            ValueError: `ids` is neither a vector nor a matrix, or `unknown` is given for subwords.
        """
        ids = _to_ids(ids)
        if ids.shape.rank not in (1, 2):
            raise ValueError(
                f"`ids` must be a vector or a matrix of known rank, got shape {ids.shape}."
            )
        if ids.shape.rank == 1:
            if unknown is not None:
                unknown = tf.convert_to_tensor(unknown)[tf.newaxis]
            return self.detokenize(ids[tf.newaxis], unknown)[0]
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.RaggedTensor.from_tensor(ids)
        ids = ids.with_flat_values(self._unknown_if_outside(ids.flat_values))
        is_text = ids >= UNKNOWN_ID
        if unknown is not None:
            unknown = tf.ragged.boolean_mask(tf.RaggedTensor.from_tensor(unknown), is_text)
        ids = tf.ragged.boolean_mask(ids, is_text)
        return tf.strings.strip(self._decode(ids, unknown))

    def read(self, contents, longest):
        """Tokenizes source texts: at most so many tokens, then the end id.

        Args:
            contents: (N,) string; of each its `beginnings` are read.
            longest: int, most tokens, the end not counted; the rest is cut off.

        Returns:
            (N, S) int32, padded. is_empty: (N,) bool.
        """
        ids = self.tokenize(beginnings(contents, longest))[:, :longest]
        ids = tf.concat([ids, tf.fill([ids.nrows(), 1], END_ID)], 1).to_tensor()
        return ids, ids[:, 0] == END_ID

    def step_names(self, source, steps, stride):
        """The piece of each memory step: (N, S) ids -> (N, S) string."""
        return self.tokens(source)

    def facts(self, longest):
        """What a model card says of the input: dict."""
        return {
            "source vocabulary": f"{self.vocabulary_size():,} entries",
            "source": f"cut after {longest} tokens; an empty text is answered with an empty text",
        }

    def tokens(self, ids):
        """The piece of every id; "" for padding, "<s>", "</s>" and "<unk>" for ids 1 to 3.

        Args:
            ids: integer, dense or ragged, any shape.

        Returns:
            Strings of the same shape, dense or ragged as `ids`.
        """
        ids = _to_ids(ids)
        if isinstance(ids, tf.RaggedTensor):
            return ids.with_flat_values(self.tokens(ids.flat_values))
        pieces = self._pieces(self._unknown_if_outside(ids))
        return tf.where(ids == PADDING_ID, "", pieces)

    def vocabulary_size(self):
        """V: the number of ids, the four special ones included."""
        raise NotImplementedError

    def get_vocabulary(self):
        """The V pieces, list of str, in the order of their ids."""
        raise NotImplementedError

    @property
    def trackables(self):
        """list: the TensorFlow resources (tables, models) that an export has to contain."""
        raise NotImplementedError

    def call(self, texts):
        return self.tokenize(texts)

    def compute_output_spec(self, texts):
        return keras.KerasTensor((*texts.shape, None), dtype="int32", ragged=len(texts.shape) == 1)

    def _unknown_if_outside(self, ids):
        return tf.where((ids >= 0) & (ids < self.vocabulary_size()), ids, UNKNOWN_ID)


def _to_ids(ids):
    ids = tf.ragged.constant(ids) if _is_nested_unevenly(ids) else ids
    ids = ids if isinstance(ids, tf.RaggedTensor) else tf.convert_to_tensor(ids)
    return tf.cast(ids, tf.int32)


def _is_nested_unevenly(ids):
    return (
        isinstance(ids, list | tuple)
        and all(isinstance(row, list | tuple) for row in ids)
        and len({len(row) for row in ids}) > 1
    )


def batches(texts):
    """Yields lists of at most `_BATCH_TEXTS` texts."""
    if isinstance(texts, str | bytes):
        raise ValueError(f"`texts` must be an iterable of strings, got one string: {texts!r}.")
    iterator = iter(texts)
    while batch := list(itertools.islice(iterator, _BATCH_TEXTS)):
        yield batch


def check_size(vocabulary_size):
    """Raises ValueError unless there is room beside the special ids."""
    if vocabulary_size <= len(SPECIAL_TOKENS):
        raise ValueError(
            f"`vocabulary_size` must be above {len(SPECIAL_TOKENS)}, the number of special ids, "
            f"got {vocabulary_size}."
        )


def check_texts(counts):
    """Raises ValueError if there is nothing to learn from."""
    if not counts:
        raise ValueError("`texts` must hold at least one character, got none.")
