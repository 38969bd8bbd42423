"""kzoo: a sequence-to-sequence model zoo for Keras 3 on TensorFlow."""

import os
import sys

if sys.argv[:1] == ["-m"]:  # Python's, while it looks for `python -m kzoo`: answers, no log
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kzoo import zoo
from kzoo.export import load
from kzoo.layers.attention import (
    BahdanauAttention,
    FixedContext,
    LuongAttention,
    MultiHeadAttention,
)
from kzoo.layers.head import TokenEmbedding, VocabularyHead
from kzoo.layers.positions import LearnedPositions, SinusoidalPositions
from kzoo.layers.recurrent import AttentionDecoder, RecurrentEncoder
from kzoo.layers.transformer import (
    TransformerDecoder,
    TransformerDecoderBlock,
    TransformerEncoder,
    TransformerEncoderBlock,
)
from kzoo.optimizers import FusedAdam, InverseSquareRoot
from kzoo.search import SearchResult, beam_search, greedy_search
from kzoo.seq2seq import Seq2Seq
from kzoo.text import CharacterTokenizer, SubwordTokenizer, WordTokenizer

__all__ = [
    "AttentionDecoder",
    "BahdanauAttention",
    "CharacterTokenizer",
    "FixedContext",
    "FusedAdam",
    "InverseSquareRoot",
    "LearnedPositions",
    "LuongAttention",
    "MultiHeadAttention",
    "RecurrentEncoder",
    "SearchResult",
    "Seq2Seq",
    "SinusoidalPositions",
    "SubwordTokenizer",
    "TokenEmbedding",
    "TransformerDecoder",
    "TransformerDecoderBlock",
    "TransformerEncoder",
    "TransformerEncoderBlock",
    "VocabularyHead",
    "WordTokenizer",
    "beam_search",
    "greedy_search",
    "load",
    "zoo",
]
