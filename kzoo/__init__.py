"""kzoo: a sequence-to-sequence model zoo for Keras 3 on TensorFlow."""

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
from kzoo.layers.recurrent import AttentionDecoder, PyramidalEncoder, RecurrentEncoder
from kzoo.layers.streaming import StatefulRNN, StreamingRNN
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
    "PyramidalEncoder",
    "RecurrentEncoder",
    "SearchResult",
    "Seq2Seq",
    "SinusoidalPositions",
    "StatefulRNN",
    "StreamingRNN",
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
