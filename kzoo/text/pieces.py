"""SentencePiece with a vocabulary of its own beside it, as Marian has. N texts, V vocabulary."""

import base64
import re

import keras
import tensorflow as tf

from kzoo.text.languages import codes_of
from kzoo.text.special_ids import PADDING_ID, SPECIAL_TOKENS, UNKNOWN_ID, UNKNOWN_TEXT
from kzoo.text.subwords import decoded_proto, sentencepiece_model
from kzoo.text.tokenizer import Tokenizer
from kzoo.text.truncation import beginnings

_SPACE = "▁"
_LANGUAGE = r"(?s)^(>>.*?<<)"  # at the beginning of a text
_ENDS = r"^[\s\p{Z}\x{85}\x{1C}-\x{1F}]+|[\s\p{Z}\x{85}\x{1C}-\x{1F}]+$"
_FOREIGN = frozenset(f"<{name}>" for name in SPECIAL_TOKENS)  # `translator.kzoo_vocabulary`
_BYTE = re.compile("<0x([0-9A-F]{2})>")  # how SentencePiece writes a character without a piece


@keras.saving.register_keras_serializable("kzoo")
class PieceTokenizer(Tokenizer):
    """Subwords of a SentencePiece model, numbered by a list of pieces.

    Marian's models, Tiedemann & Thottingal (2020), https://aclanthology.org/2020.eamt-1.61, have a
    SentencePiece model for each language and one vocabulary for both: a piece that the vocabulary
    lacks is unknown. A text may begin with a language, ">>fra<<", which is one token.

    The ids are those of transformers' MarianTokenizer in another order: 0 to 3 are padding, start,
    end and unknown. Like it, this tokenizer normalizes as the SentencePiece model says and no more:
    MarianTokenizer has Moses' normalizer of punctuation (from sacremoses, where that is installed)
    in a method of its own, `normalize`, and does not call it on what it tokenizes. Other than
    there, the text "</s>" is text and no end.

    Args:
        proto: bytes of a SentencePiece model, or their base64 text, as `get_config` writes it.
        vocabulary: list of str: the four special tokens, then pieces and languages.
        has_languages: bool, whether ">>fra<<" at the beginning of a text is a token.
        adds_end: bool, whether `read` ends a source with the end id, as Marian's models want it;
            those of OpenNMT, and so of Argos Translate, do not.

    Raises:
        ValueError: `proto` is no SentencePiece model, or `vocabulary` does not begin with the
            special tokens, or repeats a piece.

    Example:
        >>> subwords = kzoo.SubwordTokenizer.learn(["two dogs run", "two cats run"], 22)
        >>> pieces = [*subwords.get_vocabulary(), ">>fra<<"]
        >>> tokenizer = kzoo.PieceTokenizer(subwords.proto, pieces)
        >>> tokenizer.tokens(tokenizer.tokenize(">>fra<< two dogs"))[0].numpy()
        b'>>fra<<'
        >>> tokenizer.detokenize(tokenizer.tokenize("two dogs run")).numpy()
        b'two dogs run'
    """

    def __init__(self, proto, vocabulary, has_languages=True, adds_end=True, name=None):
        super().__init__(name=name)
        self.proto = decoded_proto(proto)
        # A tuple: Keras would wrap a list in one that it tracks element by element.
        self._vocabulary = _checked(vocabulary)
        self.has_languages = bool(has_languages)
        self.adds_end = bool(adds_end)
        self._model = sentencepiece_model(self.proto, tf.string)
        first = len(SPECIAL_TOKENS)
        with tf.init_scope():  # also when built while a graph is traced
            self._ids = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.constant(self._vocabulary[first:]), tf.range(first, len(self._vocabulary))
                ),
                default_value=UNKNOWN_ID,
            )
            self._names, self._texts = (
                tf.lookup.StaticHashTable(
                    tf.lookup.KeyValueTensorInitializer(
                        tf.range(len(self._vocabulary), dtype=tf.int64), tf.constant(strings)
                    ),
                    default_value=SPECIAL_TOKENS[UNKNOWN_ID],
                )
                for strings in (self._vocabulary, _as_text(self._vocabulary))
            )

    def vocabulary_size(self):
        return len(self._vocabulary)

    def get_vocabulary(self):
        return list(self._vocabulary)

    @property
    def languages(self):
        return codes_of(self._vocabulary) if self.has_languages else ()

    @property
    def trackables(self):
        return [self._model, self._ids, self._names, self._texts]

    def get_config(self):
        return {
            "proto": base64.b64encode(self.proto).decode("ascii"),
            "vocabulary": self.get_vocabulary(),
            "has_languages": self.has_languages,
            "adds_end": self.adds_end,
            "name": self.name,
        }

    def read(self, contents, longest):
        if self.adds_end:
            return super().read(contents, longest)
        ids = self.tokenize(beginnings(contents, longest))[:, :longest]
        is_empty = tf.equal(ids.row_lengths(), 0)
        # One step more than needed, so that there is one if all texts are empty.
        padding = tf.fill([ids.nrows(), 1], PADDING_ID)
        return tf.concat([ids, padding], 1).to_tensor(), is_empty

    def _normalize(self, texts):
        # SentencePiece does the rest, but would take bytes that are not UTF-8 otherwise each time.
        return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")

    def _encode(self, texts):
        if not self.has_languages:
            return self._ids_of(self._model.tokenize(texts))
        rest = tf.strings.regex_replace(texts, _LANGUAGE, "", replace_global=False)
        size = tf.strings.length(texts) - tf.strings.length(rest)
        languages = tf.strings.substr(texts, tf.zeros_like(size), size)
        languages = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(languages, size > 0), tf.cast(size > 0, tf.int64)
        )
        return self._ids_of(tf.concat([languages, self._model.tokenize(rest)], 1))

    def _ids_of(self, pieces):
        return pieces.with_flat_values(self._ids.lookup(pieces.flat_values))

    def _decode(self, ids, unknown):
        if unknown is not None:
            raise ValueError(
                "`unknown` needs a tokenizer of words or characters, got a PieceTokenizer."
            )
        texts = self._texts.lookup(tf.cast(ids.flat_values, tf.int64))
        texts = tf.strings.reduce_join(ids.with_flat_values(texts), axis=-1)
        # The bytes of a character may have been cut off.
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        return tf.strings.regex_replace(texts, _ENDS, "")

    def _pieces(self, ids):
        return self._names.lookup(tf.cast(ids, tf.int64))


def _checked(vocabulary):
    vocabulary = tuple(vocabulary)
    first = vocabulary[: len(SPECIAL_TOKENS)]
    if first != SPECIAL_TOKENS or len(vocabulary) == len(SPECIAL_TOKENS):
        raise ValueError(
            f"`vocabulary` must begin with {SPECIAL_TOKENS} and go on, "
            f"got {len(vocabulary)} entries beginning {vocabulary[:5]}."
        )
    if len(set(vocabulary)) < len(vocabulary):
        twice = next(v for n, v in enumerate(vocabulary) if v in vocabulary[:n])
        raise ValueError(f"`vocabulary` must not repeat a piece, got {twice!r} twice.")
    return vocabulary


def _as_text(vocabulary):
    """What each piece is in a text, bytes."""
    texts = [piece.replace(_SPACE, " ").encode() for piece in vocabulary]
    for place, piece in enumerate(vocabulary):
        if found := _BYTE.fullmatch(piece):
            texts[place] = bytes([int(found[1], 16)])
        elif piece in _FOREIGN:
            texts[place] = b""
    texts[UNKNOWN_ID] = UNKNOWN_TEXT.encode()
    return texts
