"""Texts <-> ids: tokenizers in the TensorFlow graph."""

from typing import TYPE_CHECKING

from kzoo import imports

if TYPE_CHECKING:
    from kzoo.text.byte_files import ByteVocabulary, permutation, read_byte_vocabulary
    from kzoo.text.bytes import ByteTokenizer, byte_alphabet, byte_words
    from kzoo.text.languages import in_language, language_tag
    from kzoo.text.pieces import PieceTokenizer
    from kzoo.text.special_ids import (
        END_ID,
        PADDING_ID,
        SPECIAL_TOKENS,
        START_ID,
        UNKNOWN_ID,
        UNKNOWN_TEXT,
    )
    from kzoo.text.subword_sampling import SampledSubwords
    from kzoo.text.subwords import SubwordTokenizer
    from kzoo.text.tokenizer import Tokenizer
    from kzoo.text.vocabulary import CharacterTokenizer, SpaceTokenizer, WordTokenizer
    from kzoo.text.words import join_words, normalize, split_words

__all__, __getattr__, __dir__ = imports.face(__name__)
