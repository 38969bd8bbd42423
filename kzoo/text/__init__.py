"""Texts <-> ids: tokenizers in the TensorFlow graph."""

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
