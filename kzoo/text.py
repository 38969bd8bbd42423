"""Tokenizers: strings <-> ids, in the TensorFlow graph. N texts, T tokens, V vocabulary.

`SubwordTokenizer` (SentencePiece), `CharacterTokenizer` and `WordTokenizer` have one interface:

    tokenizer = SubwordTokenizer.learn(texts, vocabulary_size=8_000)
    ids = tokenizer.tokenize(["Two dogs run."])    # RaggedTensor (1, None) int32
    tokenizer.detokenize(ids)                      # ["Two dogs run."]
    tokenizer.tokens(ids)                          # [["▁Two", "▁dogs", "▁run", "."]]

Ids 0..3 are padding, start, end and unknown; the others are sorted by falling frequency, which
the log-uniform sampler of `layers.candidates` relies on. `tokenize` adds no start or end.

All three first `normalize` a text, and detokenizing does not bring back what that takes away. Bytes
that are not UTF-8 become U+FFFD, which is never in a learnt vocabulary, hence unknown.

To export a function that tokenizes, make the tokenizer an attribute of the `tf.Module`, or call
`track(tokenizer)` on the `keras.export.ExportArchive`; both find its tables.
"""

import base64
import binascii
import collections
import hashlib
import io
import itertools
import tempfile

import keras
import keras_nlp
import tensorflow as tf
import tensorflow_text
from tensorflow_text.python.ops.sentencepiece_tokenizer import gen_sentencepiece_tokenizer

from kzoo import protos

PADDING_ID = 0
START_ID = 1
END_ID = 2
UNKNOWN_ID = 3
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")  # of ids 0..3; SentencePiece's names
UNKNOWN_TEXT = "⁇"  # what `detokenize` writes for UNKNOWN_ID; SentencePiece's default

_INVISIBLE = r"[\x{AD}\x{200B}\x{200E}\x{200F}\x{2060}\x{FEFF}]"
_BATCH_TEXTS = 1024  # texts that go through the graph at once while learning


def normalize(texts, lowercase=False):
    """Valid UTF-8, NFC, single spaces, none at the ends; optionally lower case.

    What a reader can tell apart stays apart (`m²`, `！`, a no-break space), so that every text of
    the training data can also be an answer. Control characters and line breaks count as spaces.
    Invisible characters that a word is the same without are removed: soft hyphen, zero-width space,
    direction marks, byte-order mark.

    Args:
        texts: (N,) or () string, any bytes.
        lowercase: bool, map to lower case as Unicode does ("ß" stays "ß").

    Returns:
        The same shape, string.

    Example:
        >>> normalize(["  Five\\t Cats "], lowercase=True)
        ["five cats"]
    """
    # normalize_utf8 raises on invalid UTF-8, so transcode first.
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    texts = tf.strings.regex_replace(texts, _INVISIBLE, "")
    texts = tensorflow_text.normalize_utf8(texts, "NFC")
    texts = tf.strings.regex_replace(texts, r"[ \p{Zl}\p{Zp}\p{Cc}]+", " ")
    texts = tf.strings.regex_replace(texts, r"^\p{Z}+|\p{Z}+$", "")  # wide ones, too
    return tf.strings.lower(texts, encoding="utf-8") if lowercase else texts


_WORD_LETTER = r"[\p{L}\p{M}\p{N}_\x{200C}\x{200D}]"  # the joiners stand inside Persian, Hindi, ...
_WORD = (
    # letters and digits, joined by ' . & - inside, digits also by , and :, perhaps a last hyphen
    rf"{_WORD_LETTER}+(?:['\x{{2019}}.&\-]{_WORD_LETTER}+|[,:]\p{{N}}+)*-?"
    # or one other sign, with its accents, skin tone and joined signs
    r"|[^\p{Z}](?:[\p{M}\x{1F3FB}-\x{1F3FF}]|\x{200D}[^\p{Z}])*"
)


def split_words(texts):
    """Splits normalized texts into words and signs.

    A word keeps what joins it (`don't`, `example.com`, `R&B`, `well-known`, `Kaffee-`) and a number
    its separators (`1,000.50`, `10:30`); every other sign stands alone. Writing systems without
    spaces are not segmented: use subwords or characters for them.

    Args:
        texts: (N,) string, as `normalize` returns them.

    Returns:
        RaggedTensor (N, None) string.

    Example:
        >>> split_words(["Don't run, dogs!"])
        [["Don't", "run", ",", "dogs", "!"]]
    """
    texts = tf.strings.regex_replace(texts, r"\p{Z}+", " ")  # a no-break space is no sign
    return tf.strings.split(tf.strings.regex_replace(texts, f"({_WORD})", r" \1 "))


def join_words(words):
    """Joins words and signs into texts, the usual way round: the inverse of `split_words`.

    No space before `. , ; : ! ? % )` and the like, none after an opening bracket, none inside a
    pair of double quotes, none around a slash. Where the original was spaced otherwise (`a / b`,
    `5 : 3`, `'single'` quotes, an arrow `->`) this guess is not it.

    Args:
        words: RaggedTensor (N, None) string.

    Returns:
        (N,) string.

    Example:
        >>> join_words(tf.ragged.constant([["(", "Don't", "run", ")", "!"]]))
        ["(Don't run)!"]
    """
    texts = tf.strings.reduce_join(words, separator=" ", axis=-1)
    for pattern, rewrite in (
        (r'" ([^"]*) "', r'"\1"'),
        (r"„ ([^„“”]*) ([“”])", r"„\1\2"),  # German opens low and closes with “
        (r"“ ([^“”]*) ”", r"“\1”"),
        (r"([(\[{¿¡#「\x{FF08}]) ", r"\1"),  # FF08 ... FF1F are the wide ( ) ! , : ; ?
        (r" ([.,;:!?%)\]}°…。、」\x{FF09}\x{FF01}\x{FF0C}\x{FF1A}\x{FF1B}\x{FF1F}])", r"\1"),
        (r" / ", r"/"),
        (r"([$£€]) (\p{N})", r"\1\2"),
    ):
        texts = tf.strings.regex_replace(texts, pattern, rewrite)
    return texts


# keras_nlp's base class is a Keras layer that leaves strings alone and needs neither the
# sentencepiece package nor variables; its own SentencePieceTokenizer is no base for ours, since
# eagerly it runs the Python package and keeps its proto outside get_config.
class Tokenizer(keras_nlp.tokenizers.Tokenizer):
    """What the three tokenizers share; calling the layer is `tokenize`.

    A subclass gives `_encode(texts (N,)) -> ragged ids`, `_decode(ragged ids, unknown) -> texts`,
    `_pieces(ids) -> strings`, all in graph, and `get_vocabulary()`.
    """

    # How an exported model reads texts; `sources.AudioSource` says the same of sounds.
    input_name = "text"
    neutral = b"1, 2, 3."  # the content where nobody gave an example
    longest = 256  # tokens
    is_static = True  # whether XLA can compile a search on what `read` returns
    usage = '"text"', '"text"'  # in a shell and in Python

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
            return self._encode(normalize(texts, self.lowercase)[tf.newaxis]).flat_values
        return self._encode(normalize(texts, self.lowercase))  # (N, None)

    def detokenize(self, ids, unknown=None):
        """Ids to texts. Padding, start and end are dropped; an unknown id becomes "⁇".

        Args:
            ids: (N, T) integer, dense or ragged, or (T,) for one text.
            unknown: (N, T) string, dense as `ids` are, what an unknown id becomes at each place
                instead; or None. Not for subwords.

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
            return self.detokenize(ids[tf.newaxis])[0]
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
            contents: (N,) string.
            longest: int, most tokens, the end not counted; the rest is cut off.

        Returns:
            (N, S) int32, padded. is_empty: (N,) bool.
        """
        ids = self.tokenize(contents)[:, :longest]
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
        self.proto = _decoded_proto(proto)
        try:
            with tf.init_scope():  # also when built while a graph is traced
                self._model = _sentencepiece(self.proto)
                self._size = int(self._model.vocab_size())
        except tf.errors.OpError as error:
            raise ValueError(
                f"`proto` must be a SentencePiece model, got {len(self.proto)} bytes beginning "
                f"{self.proto[:20]!r}."
            ) from error
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

        Returns:
            SubwordTokenizer.

        Raises:
            ValueError: no text, or `vocabulary_size` below the number of characters to cover.
            ImportError: the sentencepiece package is missing.
        """
        if model not in ("bpe", "unigram"):
            raise ValueError(f'`model` must be "bpe" or "unigram", got {model!r}.')
        _check_size(vocabulary_size)
        sentencepiece = _import_sentencepiece()
        words = collections.Counter()
        written = io.BytesIO()
        rules = tempfile.NamedTemporaryFile("w", suffix=".tsv")  # noqa: SIM115 (closed below)
        # `normalize` has done it all, here and in graph. A rule that never applies, tab to space,
        # since the runtime reports the rule "identity" on stderr whenever a model is loaded.
        rules.write("9\t20\n")
        rules.flush()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_sentences(texts, lowercase, words),
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
            )
        except RuntimeError as error:
            _check_texts(words)
            raise ValueError(
                "`vocabulary_size` must have room for the 4 special ids and every character that "
                f"`character_coverage` keeps, got vocabulary_size={vocabulary_size}, "
                f"character_coverage={character_coverage}. SentencePiece says: {error}"
            ) from error
        finally:
            rules.close()
        _check_texts(words)
        return cls(_sorted_by_frequency(written.getvalue(), words), lowercase)

    def vocabulary_size(self):
        return self._size

    def get_vocabulary(self):
        with tf.init_scope():
            pieces = self._model.id_to_string(tf.range(self._size))
            return [piece.decode() for piece in pieces.numpy()]

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


class _TableTokenizer(Tokenizer):
    """A tokenizer whose vocabulary is a list, looked up in two tables."""

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
        _check_size(vocabulary_size)
        counts = collections.Counter()
        for batch in _batches(texts):
            pieces = cls._split(normalize(tf.constant(batch, tf.string), lowercase))
            counts.update(pieces.flat_values.numpy().tolist())
        counts = {piece.decode(): count for piece, count in counts.items()}
        counts = {piece: count for piece, count in counts.items() if "\ufffd" not in piece}
        _check_texts(counts)
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

    def _encode(self, texts):
        pieces = self._split(texts)
        return pieces.with_flat_values(self._ids.lookup(pieces.flat_values))

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


def _batches(texts):
    if isinstance(texts, str | bytes):
        raise ValueError(f"`texts` must be an iterable of strings, got one string: {texts!r}.")
    iterator = iter(texts)
    while batch := list(itertools.islice(iterator, _BATCH_TEXTS)):
        yield batch


def _sentences(texts, lowercase, words):
    """Yields the normalized texts, and counts their words into `words` on the way."""
    for batch in _batches(texts):
        for text in normalize(tf.constant(batch, tf.string), lowercase).numpy():
            # SentencePiece skips texts that hold its own mark for unknown; U+FFFD is no character.
            text = text.decode().replace("▅", " ").replace("\ufffd", " ")
            words.update(filter(None, text.split(" ")))  # a no-break space is inside a word
            yield text


def _sorted_by_frequency(proto, words):
    """Renumbers the pieces of a SentencePiece model by how often they occur.

    SentencePiece numbers BPE pieces by merge and puts the single characters last, however
    frequent. Which pieces a text is split into depends on their scores, not on their ids.
    """
    tokenizer = _sentencepiece(proto)
    counts = collections.Counter()
    for batch in _batches(words):
        ids = tokenizer.tokenize(tf.constant(batch, tf.string))
        for word, row in zip(batch, ids.to_list(), strict=True):
            for id_ in row:
                counts[id_] += words[word]
    fields = list(protos.fields(proto))
    pieces = [field for number, field in fields if number == 1]  # ModelProto.pieces
    order = sorted(range(len(SPECIAL_TOKENS), len(pieces)), key=lambda id_: (-counts[id_], id_))
    ranked = [*pieces[: len(SPECIAL_TOKENS)], *(pieces[id_] for id_ in order)]
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


def _sentencepiece(proto):
    tokenizer = tensorflow_text.SentencepieceTokenizer(proto, out_type=tf.int32)
    tokenizer._model_resource = _NamedModel(proto)
    return tokenizer


def _decoded_proto(proto):
    if isinstance(proto, bytes):
        return proto
    try:
        return base64.b64decode(proto, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(
            f"`proto` must be bytes or their base64 text, got {str(proto)[:40]!r}."
        ) from error


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


def _check_size(vocabulary_size):
    if vocabulary_size <= len(SPECIAL_TOKENS):
        raise ValueError(
            f"`vocabulary_size` must be above {len(SPECIAL_TOKENS)}, the number of special ids, "
            f"got {vocabulary_size}."
        )


def _check_texts(counts):
    if not counts:
        raise ValueError("`texts` must hold at least one character, got none.")


def _import_sentencepiece():
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            "SubwordTokenizer.learn needs the sentencepiece package: pip install kzoo[recipes]"
        ) from error
    return sentencepiece
