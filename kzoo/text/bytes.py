"""Byte-level BPE in the graph, as GPT-2 and Whisper have it.

N texts, W words, M symbols, V vocabulary.

A text is cut into words, its bytes are the first symbols, and neighbours are merged by rank; every
text has ids and no id is unknown. `text.byte_files` reads the files of such vocabularies.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.text.special_ids import SPECIAL_TOKENS, UNKNOWN_ID
from kzoo.text.tokenizer import Tokenizer, check_size

# What no valid UTF-8 holds: it stands between the words while they are cut.
_CUT = b"\xff"
# The White_Space of Unicode; \s of RE2 is about ASCII.
_SPACE = r"\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
# The last space before something else belongs to what follows, and is cut off first: RE2 has no
# lookahead for GPT-2's \s+(?!\S).
_LAST_SPACE = rf"([{_SPACE}][^{_SPACE}])"
_WORD = (
    r"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+"
    rf"| ?[^{_SPACE}\p{{L}}\p{{N}}]+|[{_SPACE}]+)"
)  # fmt: skip
_NO_RANK = 2**31 - 1


def byte_alphabet():
    """GPT-2's sign for each byte: the printable ones of Latin-1 for themselves, the others, which a
    file of words could not hold, for U+0100, U+0101, ...

    Returns:
        list of 256 str.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def byte_words(texts):
    """Cuts texts into GPT-2's words, in core ops:

        's|'t|'re|'ve|'m|'ll|'d| ?letters+| ?digits+| ?others+|spaces before no other sign|spaces

    Radford et al. (2019), Language Models are Unsupervised Multitask Learners, section 2.2, and its
    published code. Letters and digits are those of Unicode 15.

    Args:
        texts: (N,) string, valid UTF-8.

    Returns:
        RaggedTensor (N, None) string; joined, they are the text.
    """
    cut = tf.strings.regex_replace(texts, _LAST_SPACE, _CUT + rb"\1")
    cut = tf.strings.regex_replace(cut, _WORD, rb"\1" + _CUT)
    words = tf.strings.split(cut, _CUT)
    return tf.ragged.boolean_mask(words, words != "")


@keras.saving.register_keras_serializable("kzoo")
class ByteTokenizer(Tokenizer):
    """Byte-level byte-pair encoding: merges[0] first wherever it occurs, then merges[1], ...

    Sennrich et al. (2016), https://arxiv.org/abs/1508.07909, on the bytes of UTF-8: Radford et al.
    (2019), section 2.2. Texts are not normalized, but for bytes that are not UTF-8, which become
    U+FFFD. Any ids give a text: what is no UTF-8, as half a character at a cut, becomes U+FFFD.

    The rows of a published vocabulary are permuted to kzoo's ids: 0 padding, 1 start, 2 end, 3
    unknown, then the pieces of texts in their order, then its other special tokens (languages,
    tasks, times) in theirs; `text.byte_files.permutation` says which row comes from where.

    Args:
        vocabulary: list of V str, or they joined by line breaks: "<pad>", "<s>", "</s>", "<unk>",
            the pieces in the signs of `byte_alphabet`, then special tokens.
        merges: list of str such as "Ġ t", or they joined by line breaks; the first ones first.
        first_special: int, the first id that is no text, as none behind it; None for V.
        leading_space: bool, whether a text that begins otherwise gets a space before it, as
            Whisper's texts had in training. Detokenizing takes spaces around a text away.
        lowercase: bool, map texts to lower case first.

    Raises:
        ValueError: the special tokens are not the first, a piece occurs twice or holds a sign that
            stands for no byte, or a merge is not of pieces.

    Example:
        >>> vocabulary = ["<pad>", "<s>", "</s>", "<unk>", *kzoo.text.byte_alphabet(), "hi", "hip"]
        >>> tokenizer = kzoo.ByteTokenizer(vocabulary, ["h i", "hi p"])
        >>> tokenizer.tokens(tokenizer.tokenize("hip hi")).numpy()
        array([b'hip', b'\\xc4\\xa0', b'hi'], dtype=object)
    """

    def __init__(
        self,
        vocabulary,
        merges,
        first_special=None,
        leading_space=False,
        lowercase=False,
        name=None,
    ):
        super().__init__(lowercase=lowercase, name=name)
        vocabulary = _lines(vocabulary)
        check_size(len(vocabulary))
        self.first_special = len(vocabulary) if first_special is None else first_special
        self.leading_space = leading_space
        checks.require(
            len(SPECIAL_TOKENS) <= self.first_special <= len(vocabulary),
            "must lie between 4 and the size of the vocabulary",
            first_special=first_special,
            size=len(vocabulary),
        )
        if tuple(vocabulary[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise ValueError(
                f"The first pieces of `vocabulary` must be {SPECIAL_TOKENS}, "
                f"got {vocabulary[: len(SPECIAL_TOKENS)]}."
            )
        # Joined: Keras would track each of 50,000 elements of a list or a tuple, in seconds.
        merges, self._size = _lines(merges), len(vocabulary)
        self._vocabulary, self._merges = "\n".join(vocabulary), "\n".join(merges)
        ids = _ids_of(vocabulary)
        meanings = _meanings(vocabulary, self.first_special)
        pairs, merged = _pairs(merges, ids)
        with tf.init_scope():  # also when built while a graph is traced
            self._strings = _table(range(len(meanings)), vocabulary, "<unk>")
            self._bytes = _table(range(len(meanings)), meanings, "")
            self._ranks = _table(pairs, range(len(pairs)), _NO_RANK)
            self._merged = _table(range(len(merged)), merged, UNKNOWN_ID)
        self._of_byte = [ids.get(sign, UNKNOWN_ID) for sign in byte_alphabet()]

    def tokenize(self, texts):
        texts = tf.convert_to_tensor(texts, dtype=tf.string)
        if texts.shape.rank == 0:
            return self.tokenize(texts[tf.newaxis]).flat_values
        if texts.shape.rank != 1:
            raise ValueError(
                "`texts` must be one string or a vector of strings of known rank, "
                f"got shape {texts.shape}."
            )
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        texts = tf.strings.lower(texts, encoding="utf-8") if self.lowercase else texts
        if self.leading_space:
            texts = tf.strings.regex_replace(texts, rf"^([^{_SPACE}])", r" \1")
        return self._encode(texts)

    def vocabulary_size(self):
        return self._size

    def get_vocabulary(self):
        return self._vocabulary.split("\n")

    @property
    def trackables(self):
        return [self._strings, self._bytes, self._ranks, self._merged]

    def ids_of(self, pieces):
        """The id of each piece, special tokens too: list of str -> list of int.

        Raises:
            ValueError: the vocabulary lacks one.
        """
        places = {piece: place for place, piece in enumerate(self.get_vocabulary())}
        for piece in pieces:
            if piece not in places:
                raise ValueError(f"`pieces` must be in the vocabulary, got {piece!r}.")
        return [places[piece] for piece in pieces]

    def bytes_of(self, ids):
        """The bytes that each id stands for, "" for a special one: string of the shape of `ids`."""
        return self._bytes.lookup(tf.cast(ids, tf.int64))

    def decode(self, ids):
        """Ids (N, None), ragged, to texts (N,) with the spaces around them; see `detokenize`."""
        pieces = ids.with_flat_values(self.bytes_of(ids.flat_values))
        texts = tf.strings.reduce_join(pieces, axis=1)
        return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")

    def get_config(self):
        return {
            "vocabulary": self._vocabulary,
            "merges": self._merges,
            "first_special": self.first_special,
            "leading_space": self.leading_space,
            "lowercase": self.lowercase,
            "name": self.name,
        }

    def _encode(self, texts):
        words = byte_words(texts)
        different, which = tf.unique(words.flat_values)
        ids = tf.gather(self._merged_symbols(different), which)  # (W, None)
        ids = tf.RaggedTensor.from_nested_row_splits(
            ids.flat_values, [words.row_splits, ids.row_splits]
        )
        return ids.merge_dims(1, 2)

    def _merged_symbols(self, words):
        """(W,) string -> (W, None) ids: one merge of each word at a time, wherever it occurs."""
        symbols = tf.strings.bytes_split(words)
        codes = tf.io.decode_raw(symbols.flat_values, tf.uint8)
        ids = tf.gather(self._of_byte, tf.cast(tf.reshape(codes, [-1]), tf.int32))
        count = symbols.nrows()

        def merge(ids, rows, ranks):
            best = tf.math.unsorted_segment_min(ranks, rows, count)
            is_first = (ranks != _NO_RANK) & (ranks == tf.gather(best, rows))
            is_first = _not_overlapping(is_first)
            merged = self._merged.lookup(tf.cast(tf.where(is_first, ranks, 0), tf.int64))
            ids = tf.where(is_first, merged, ids)
            is_second = tf.concat([[False], is_first[:-1]], 0)[: tf.size(ids)]
            ids, rows = ids[~is_second], rows[~is_second]
            return ids, rows, self._ranks_of_pairs(ids, rows)

        rows = tf.cast(symbols.value_rowids(), tf.int32)
        ids, rows, _ = tf.while_loop(
            lambda ids, rows, ranks: tf.reduce_any(ranks != _NO_RANK),
            merge,
            (ids, rows, self._ranks_of_pairs(ids, rows)),
            shape_invariants=(tf.TensorShape([None]),) * 3,
        )
        return tf.RaggedTensor.from_value_rowids(ids, tf.cast(rows, tf.int64), count)

    def _ranks_of_pairs(self, ids, rows):
        """(M,): the rank of each symbol with the next one of its word."""
        after = tf.concat([ids[1:], ids[:1]], 0)
        same = tf.concat(
            [rows[1:] == rows[:-1], tf.zeros([tf.minimum(tf.size(rows), 1)], tf.bool)], 0
        )
        pairs = tf.cast(ids, tf.int64) * self._size + tf.cast(after, tf.int64)
        return tf.where(same, self._ranks.lookup(pairs), _NO_RANK)

    def _decode(self, ids, unknown):
        if unknown is not None:
            raise ValueError(
                "`unknown` needs a tokenizer of words or characters, got a ByteTokenizer."
            )
        return self.decode(ids)

    def _pieces(self, ids):
        return self._strings.lookup(tf.cast(ids, tf.int64))


def _not_overlapping(is_first):
    """Of neighbours that could all be merged, as in "aaa", the first, the third, ...: (M,) bool."""
    place = tf.range(tf.size(is_first))
    others = tf.concat([[-1], place[~is_first]], 0)
    before = tf.gather(others, tf.cumsum(tf.cast(~is_first, tf.int32)))  # the last that is not
    return is_first & ((place - before) % 2 == 1)


def _lines(value):
    return value.split("\n") if isinstance(value, str) and value else list(value)


def _table(keys, values, default):
    keys, values = list(keys) or [-1], list(values) or [default]
    dtype = tf.string if isinstance(values[0], str | bytes) else tf.int32
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(keys, tf.int64), tf.constant(values, dtype)
        ),
        default_value=tf.constant(default, dtype),
    )


def _ids_of(vocabulary):
    """Piece -> id of what texts may hold."""
    ids = {}
    for id_, piece in enumerate(vocabulary):
        if piece in ids:
            raise ValueError(
                f"`vocabulary` must hold each piece once, got {piece!r} at {ids[piece]} and {id_}."
            )
        ids[piece] = id_
    return ids


def _meanings(vocabulary, first_special):
    """The bytes of each piece; none of special ones."""
    code = {sign: byte for byte, sign in enumerate(byte_alphabet())}
    meanings = [b""] * len(vocabulary)
    for id_ in range(len(SPECIAL_TOKENS), first_special):
        try:
            meanings[id_] = bytes(code[sign] for sign in vocabulary[id_])
        except KeyError:
            raise ValueError(
                "`vocabulary` must be in the signs of `byte_alphabet` before `first_special`, "
                f"got {vocabulary[id_]!r} at {id_}."
            ) from None
    return meanings


def _pairs(merges, ids):
    """Merges -> what names their pairs, in one number each, and what they give, by rank."""
    pairs, merged = {}, []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= ids.keys():
            raise ValueError(f"`merges` must be of pieces of the vocabulary, got {merge!r}.")
        pair = ids[left] * len(ids) + ids[right]
        if pair not in pairs:
            pairs[pair] = len(pairs)
            merged.append(ids[left + right])
    return pairs, merged
