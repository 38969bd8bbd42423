"""Texts <-> ids: tokenizers in the TensorFlow graph."""

from kzoo.text.subwords import SubwordTokenizer
from kzoo.text.tokenizer import (
    END_ID,
    PADDING_ID,
    SPECIAL_TOKENS,
    START_ID,
    UNKNOWN_ID,
    UNKNOWN_TEXT,
    Tokenizer,
)
from kzoo.text.vocabulary import CharacterTokenizer, WordTokenizer
from kzoo.text.words import join_words, normalize, split_words

__all__ = [
    "END_ID",
    "PADDING_ID",
    "SPECIAL_TOKENS",
    "START_ID",
    "UNKNOWN_ID",
    "UNKNOWN_TEXT",
    "CharacterTokenizer",
    "SubwordTokenizer",
    "Tokenizer",
    "WordTokenizer",
    "join_words",
    "normalize",
    "split_words",
]
