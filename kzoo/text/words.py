"""Texts -> normalized texts -> words, and back, in the TensorFlow graph. N texts."""

import tensorflow as tf
import tensorflow_text

INVISIBLE = r"[\x{AD}\x{200B}\x{200E}\x{200F}\x{2060}\x{FEFF}]"


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
    texts = tf.strings.regex_replace(texts, INVISIBLE, "")
    texts = tensorflow_text.normalize_utf8(texts, "NFC")
    texts = tf.strings.regex_replace(texts, r"[ \p{Zl}\p{Zp}\p{Cc}]+", " ")
    texts = tf.strings.regex_replace(texts, r"^\p{Z}+|\p{Z}+$", "")  # wide ones, too
    return tf.strings.lower(texts, encoding="utf-8") if lowercase else texts


_WORD_LETTER = r"[\p{L}\p{M}\p{N}_\x{200C}\x{200D}]"  # the joiners stand inside Persian, Hindi, ...
_WORD = (
    # letters and digits, joined by ' . & - inside, digits also by , and :, perhaps a last hyphen
    rf"{_WORD_LETTER}+(?:['\x{{2019}}.&\-]{_WORD_LETTER}+|[,:]\p{{N}}+)*-?"
    # or a flag, which two letters of its own kind write
    r"|[\x{1F1E6}-\x{1F1FF}]{2}"
    # or one other sign, with its accents, skin tone, joined signs and tags (of the flag of Wales)
    r"|[^\p{Z}](?:[\p{M}\x{1F3FB}-\x{1F3FF}\x{E0020}-\x{E007F}]|\x{200D}[^\p{Z}])*"
)


def split_words(texts):
    """Splits normalized texts into words and signs.

    A word keeps what joins it (`don't`, `example.com`, `R&B`, `well-known`, `Kaffee-`) and a number
    its separators (`1,000.50`, `10:30`); every other sign stands alone, an emoji of several
    characters whole (a flag, a keycap, a family). Writing systems without spaces are not segmented:
    use subwords or characters for them.

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
