"""Subwords: a SentencePiece model in the graph, learnt here. N texts, T tokens, V vocabulary."""

import base64
import binascii
import collections
import hashlib
import io
import re
import tempfile

import keras
import tensorflow as tf
import tensorflow_text
from tensorflow_text.python.ops.sentencepiece_tokenizer import gen_sentencepiece_tokenizer

from kzoo import protos
from kzoo.text.languages import codes_of, language_tag
from kzoo.text.special_ids import (
    END_ID,
    PADDING_ID,
    SPECIAL_TOKENS,
    START_ID,
    UNKNOWN_ID,
    UNKNOWN_TEXT,
)
from kzoo.text.tokenizer import Tokenizer, batches, check_size, check_texts
from kzoo.text.words import normalize


@keras.saving.register_keras_serializable("kzoo")
class SubwordTokenizer(Tokenizer):
    """Subwords that SentencePiece learns: byte-pair encoding or a unigram model.

    Sennrich et al. (2016), https://arxiv.org/abs/1508.07909; Kudo (2018),
    https://arxiv.org/abs/1804.10959. A space is part of the piece that follows it, as "▁".
    Detokenizing restores the normalized text exactly, unless it holds an unknown character or "▁".

    Args:
        proto: bytes of a SentencePiece model whose ids 0..3 are `<pad>`, `<s>`, `</s>`, `<unk>`,
            or their base64 text, as `get_config` writes it.
        lowercase: bool, map texts to lower case first.

    Example:
        >>> texts = ["Two dogs run.", "Two cats run.", "The dogs sleep."]
        >>> tokenizer = kzoo.SubwordTokenizer.learn(texts, vocabulary_size=25)
        >>> tokenizer.detokenize(tokenizer.tokenize(["Two dogs sleep."])).numpy()
        array([b'Two dogs sleep.'], dtype=object)

    Raises:
        ValueError: `proto` is no SentencePiece model or numbers its special pieces otherwise.
    """

    def __init__(self, proto, lowercase=False, name=None):
        super().__init__(lowercase=lowercase, name=name)
        self.proto = decoded_proto(proto)
        self._model = sentencepiece_model(self.proto)
        with tf.init_scope():
            self._size = int(self._model.vocab_size())
        specials = tuple(self.get_vocabulary()[: len(SPECIAL_TOKENS)])
        if specials != SPECIAL_TOKENS:
            raise ValueError(
                f"The first pieces of `proto` must be {SPECIAL_TOKENS}, got {specials}. Train it "
                "with pad_id=0, bos_id=1, eos_id=2, unk_id=3."
            )

    @classmethod
    def learn(
        cls,
        texts,
        vocabulary_size,
        model="bpe",
        lowercase=False,
        character_coverage=1.0,
        languages=(),
    ):
        """Learns the pieces from texts. Needs the sentencepiece package; running does not.

        The same texts in the same order give the same tokenizer. SentencePiece holds its own copy
        of the texts while it learns; kzoo adds the count of each distinct word.

        Args:
            texts: iterable of str, read once; empty ones count for nothing.
            vocabulary_size: int, V, special ids included. Texts that do not yield so many pieces
                give a smaller vocabulary.
            model: "bpe" or "unigram".
            lowercase: bool, map texts to lower case, here and in `tokenize`.
            character_coverage: float, the share of all characters that get a piece of their own.
                1.0 leaves none of the texts' characters unknown; 0.9999 on 29,000 English
                captions loses "6", "(" and ":". Take less for thousands of rare characters.
            languages: codes of target languages, as ("de", "fr"). The tag of each, ">>fr<<" at the
                beginning of a text or after a space, is one token whatever follows it. With
                `lowercase` they are in lower case, too.

        Returns:
            SubwordTokenizer.

        Raises:
            ValueError: no text, `vocabulary_size` below the number of characters to cover, or one
                of `languages` is no code or comes twice.
            ImportError: the sentencepiece package is missing.
        """
        if model not in ("bpe", "unigram"):
            raise ValueError(f'`model` must be "bpe" or "unigram", got {model!r}.')
        check_size(vocabulary_size)
        tags = [f"▁{language_tag(code)}" for code in languages]
        tags = [tag.lower() for tag in tags] if lowercase else tags
        if len(set(tags)) < len(tags):
            raise ValueError(f"`languages` must not name one twice, got {tuple(languages)}.")
        sentencepiece = import_sentencepiece()
        words = collections.Counter()
        written, failed = io.BytesIO(), []

        def sentences():
            try:
                yield from _sentences(texts, lowercase, words)
            except (Exception, KeyboardInterrupt) as error:
                failed.append(error)  # SentencePiece makes a RuntimeError of it
                raise

        rules = tempfile.NamedTemporaryFile("w", suffix=".tsv")  # noqa: SIM115 (closed below)
        # `normalize` has done it all, here and in graph. A rule that never applies, tab to space,
        # since the runtime reports the rule "identity" on stderr whenever a model is loaded.
        rules.write("9\t20\n")
        rules.flush()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=sentences(),
                model_writer=written,
                model_type=model,
                vocab_size=vocabulary_size,
                hard_vocab_limit=False,
                character_coverage=character_coverage,
                normalization_rule_tsv=rules.name,
                max_sentence_length=1 << 30,  # bytes; longer ones would be skipped silently
                num_threads=1,  # float sums in another order could give another vocabulary
                minloglevel=2,  # errors only
                pad_id=PADDING_ID,
                bos_id=START_ID,
                eos_id=END_ID,
                unk_id=UNKNOWN_ID,
                unk_surface=UNKNOWN_TEXT,  # the default has a space on either side
                user_defined_symbols=tags,
            )
        except RuntimeError as error:
            if failed:
                raise failed[0] from None
            check_texts(words)
            raise ValueError(
                "`vocabulary_size` must have room for the 4 special ids, the tags of `languages` "
                "and every character that `character_coverage` keeps, got "
                f"vocabulary_size={vocabulary_size}, character_coverage={character_coverage}, "
                f"languages={languages}. SentencePiece says: {error}"
            ) from error
        finally:
            rules.close()
        check_texts(words)
        return cls(_sorted_by_frequency(written.getvalue(), words, len(tags)), lowercase)

    def vocabulary_size(self):
        return self._size

    def get_vocabulary(self):
        with tf.init_scope():
            pieces = self._model.id_to_string(tf.range(self._size))
            return [piece.decode() for piece in pieces.numpy()]

    @property
    def languages(self):
        return codes_of(self.get_vocabulary())

    @property
    def trackables(self):
        return [self._model]

    def get_config(self):
        return {
            "proto": base64.b64encode(self.proto).decode("ascii"),
            "lowercase": self.lowercase,
            "name": self.name,
        }

    def _encode(self, texts):
        return self._model.tokenize(texts)

    def _decode(self, ids, unknown):
        if unknown is not None:
            raise ValueError(
                "`unknown` needs a tokenizer of words or characters, got a SubwordTokenizer."
            )
        return self._model.detokenize(ids)

    def _pieces(self, ids):
        return self._model.id_to_string(ids)


# In a text they are signs and letters like others, but while it learns, SentencePiece passes over
# them whole: their signs would stay unknown if they stood nowhere else.
_SPECIAL_WORDS = re.compile("<(?=(?:{})>)".format("|".join(t[1:-1] for t in SPECIAL_TOKENS)))


def _sentences(texts, lowercase, words):
    """Yields the normalized texts, and counts their words into `words` on the way."""
    for batch in batches(texts):
        for text in normalize(tf.constant(batch, tf.string), lowercase).numpy():
            # SentencePiece skips texts that hold its own mark for unknown; U+FFFD is no character.
            text = text.decode().replace("▅", " ").replace("\ufffd", " ")
            text = _SPECIAL_WORDS.sub("< ", text)
            words.update(filter(None, text.split(" ")))  # a no-break space is inside a word
            yield text


def _sorted_by_frequency(proto, words, tags):
    """Renumbers the pieces of a SentencePiece model by how often they occur, its `tags` tags last.

    SentencePiece numbers the tags first, then BPE pieces by merge, and puts the single characters
    last, however frequent. Which pieces a text is split into depends on their scores, not on their
    ids.
    """
    tokenizer = sentencepiece_model(proto)
    counts = collections.Counter()
    for batch in batches(words):
        ids = tokenizer.tokenize(tf.constant(batch, tf.string))
        for word, row in zip(batch, ids.to_list(), strict=True):
            for id_ in row:
                counts[id_] += words[word]
    fields = list(protos.fields(proto))
    pieces = [field for number, field in fields if number == 1]  # ModelProto.pieces
    first = len(SPECIAL_TOKENS)
    order = sorted(range(first + tags, len(pieces)), key=lambda id_: (-counts[id_], id_))
    order += range(first, first + tags)
    ranked = [*pieces[:first], *(pieces[id_] for id_ in order)]
    others = [_without_path(field) if n == 3 else field for n, field in fields if n != 1]
    return b"".join([*ranked, *others])


def _without_path(normalizer_spec):
    """Drops NormalizerSpec.normalization_rule_tsv, which differs each time."""
    kept = [field for n, field in protos.fields(protos.content(normalizer_spec)) if n != 6]
    return protos.field(3, b"".join(kept))


class _NamedModel(tf.saved_model.experimental.TrackableResource):
    """A SentencePiece model in memory under a name, so that it outlives the op that made it.

    tensorflow_text's own belongs to its op, which `tf.random.set_seed`, and with it
    `keras.utils.set_random_seed`, throws away: every tokenizer then fails with "Resource ... does
    not exist". TensorFlow names its lookup tables for the same reason. The name is a hash of the
    model, so equal tokenizers share it; it is never freed.
    """

    def __init__(self, proto):
        super().__init__()
        self._proto = proto
        _ = self.resource_handle  # reading makes it

    def _create_resource(self):
        name = f"kzoo_{hashlib.sha256(self._proto).hexdigest()}"
        return gen_sentencepiece_tokenizer.sentencepiece_op(model=self._proto, shared_name=name)


def sentencepiece_model(proto, out_type=tf.int32):
    """tensorflow_text's tokenizer, which gives ids or pieces (tf.string), with a model that stays.

    Raises:
        ValueError: `proto` is no SentencePiece model.
    """
    try:
        with tf.init_scope():  # also when built while a graph is traced
            tokenizer = tensorflow_text.SentencepieceTokenizer(proto, out_type=out_type)
            tokenizer._model_resource = _NamedModel(proto)
            tokenizer.vocab_size()
            return tokenizer
    except tf.errors.OpError as error:
        raise ValueError(
            f"`proto` must be a SentencePiece model, got {len(proto)} bytes beginning "
            f"{proto[:20]!r}."
        ) from error


def decoded_proto(proto):
    """The bytes of a proto that may come as base64 text, as configurations have it."""
    if isinstance(proto, bytes):
        return proto
    try:
        return base64.b64decode(proto, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(
            f"`proto` must be bytes or their base64 text, got {str(proto)[:40]!r}."
        ) from error


def import_sentencepiece():
    """The package that learns; an ImportError says how to install it."""
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            "SubwordTokenizer.learn needs the sentencepiece package: pip install kzoo[recipes]"
        ) from error
    return sentencepiece
