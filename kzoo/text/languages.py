"""Target languages of one model: the tag ">>fr<<" before a source says which one is wanted.

Johnson et al. (2017), https://aclanthology.org/Q17-1024; the tags are spelled as in OPUS-MT. N
texts.
"""

import re

import tensorflow as tf

from kzoo.contents import LANGUAGE_CODE
from kzoo.text.words import INVISIBLE

_SPACES = rf"(?:[\s\p{{Z}}\p{{Cc}}]|{INVISIBLE})*"
_BEFORE = f"^{_SPACES}>>{LANGUAGE_CODE}<<"


def language_tag(code):
    """The tag of a language: "fr" -> ">>fr<<".

    Raises:
        ValueError: `code` is no code of a language.
    """
    if not isinstance(code, str) or not re.fullmatch(LANGUAGE_CODE, code):
        raise ValueError(
            "`code` must be a language's: two to four letters, perhaps more after - or _, "
            f"got {code!r}."
        )
    return f">>{code}<<"


def codes_of(pieces):
    """The codes of those pieces of a vocabulary that are tags, in their order.

    Returns:
        tuple of at least two str; empty for a single one too, as there is nothing to choose.
    """
    found = [re.fullmatch(f"▁?>>({LANGUAGE_CODE})<<", piece) for piece in pieces]
    codes = tuple(piece[1] for piece in found if piece)
    return codes if len(codes) > 1 else ()


def in_language(texts, language, codes):
    """Writes the tag of a language before each text, in graph.

    Args:
        texts: (N,) string; each may begin with a tag.
        language: string, one code, or (N,), one for each text. It takes the place of a tag that
            the text begins with. Where it is "", that tag counts; and without one, the first code.
        codes: tuple of str, those that the model knows.

    Returns:
        (N,) string. A text with nothing beside a tag is "".

    Raises:
        tf.errors.InvalidArgumentError: a language is none of `codes`, or there are neither one nor
            N.

    Example:
        >>> texts = tf.constant(["Hello.", ">>it<< Hello."])
        >>> in_language(texts, "", ("de", "fr", "it")).numpy()
        array([b'>>de<< Hello.', b'>>it<< Hello.'], dtype=object)
        >>> in_language(texts, "fr", ("de", "fr", "it")).numpy()
        array([b'>>fr<< Hello.', b'>>fr<< Hello.'], dtype=object)
    """
    language = tf.reshape(language, [-1])
    count, rows = tf.size(language), tf.size(texts)
    rule = "`language` must be one, or one for each text."
    fits = tf.debugging.Assert((count == 1) | (count == rows), [rule])
    with tf.control_dependencies([fits]):
        language = tf.broadcast_to(language, [rows])
    # By its length, since a text that is not UTF-8 matches no pattern as a whole.
    rest = tf.strings.regex_replace(texts, _BEFORE, "", replace_global=False)
    size = tf.strings.length(texts) - tf.strings.length(rest)
    before = tf.strings.substr(texts, tf.zeros_like(size), size)
    written = tf.strings.regex_replace(before, "(?s)^.*>>|<<$", "")
    code = tf.where(written == "", codes[0], written)
    code = tf.where(language == "", code, language)
    is_known = tf.reduce_any(code[:, None] == tf.constant(codes), 1)
    rule = f"`language` must be one of {', '.join(codes)}, got "
    unknown = tf.strings.reduce_join(tf.boolean_mask(code, ~is_known), separator=", ")
    known = tf.debugging.Assert(tf.reduce_all(is_known), [tf.strings.join([rule, unknown, "."])])
    with tf.control_dependencies([known]):
        rest = tf.strings.regex_replace(rest, f"^{_SPACES}", "")
    return tf.where(rest == "", "", tf.strings.join([">>", code, "<< ", rest]))
