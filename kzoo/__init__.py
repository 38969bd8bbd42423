"""kzoo: a sequence-to-sequence model zoo for Keras 3 on TensorFlow."""

import os
import sys

if sys.argv[:1] == ["-m"]:  # Python's, while it looks for `python -m kzoo`: answers, no log
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kzoo import audio, backbones, image, splice, zoo
from kzoo.alignment import ctc_align
from kzoo.audio import ConvSubsampling, LogMel
from kzoo.augment import SpecAugment, VocalTractPerturbation
from kzoo.ctc import ctc_beam_search, ctc_greedy_search, ctc_loss
from kzoo.ensemble import Ensemble
from kzoo.export import load
from kzoo.framewise import CTCModel
from kzoo.image import ImageAugment
from kzoo.joint import joint_step
from kzoo.layers import masking
from kzoo.layers.attention import (
    BahdanauAttention,
    FixedContext,
    LocalAttention,
    LocationAwareAttention,
    LuongAttention,
    MonotonicAttention,
    MultiHeadAttention,
)
from kzoo.layers.conformer import ConformerBlock, ConformerEncoder
from kzoo.layers.head import TokenEmbedding, VocabularyHead
from kzoo.layers.length import LengthHead
from kzoo.layers.positions import (
    AlibiPositions,
    LearnedPositions,
    RelativePositions,
    RotaryPositions,
    SinusoidalPositions,
)
from kzoo.layers.recurrent import AttentionDecoder, PyramidalEncoder, RecurrentEncoder
from kzoo.layers.regions import RegionEncoder
from kzoo.layers.speech import StreamingEncoder, SubsampledEncoder
from kzoo.layers.streaming import StatefulRNN, StreamingRNN
from kzoo.layers.transformer import (
    TransformerDecoder,
    TransformerDecoderBlock,
    TransformerEncoder,
    TransformerEncoderBlock,
)
from kzoo.lexicon import Lexicon
from kzoo.losses import SequenceAccuracy, SequenceCrossEntropy
from kzoo.optimizers import FusedAdam, InverseSquareRoot, LazyAdam
from kzoo.sampling import sample
from kzoo.search import SearchResult, beam_search, greedy_search
from kzoo.seq2seq import Seq2Seq
from kzoo.sources import AudioSource, ImageSource
from kzoo.steps import ensemble_step
from kzoo.text import CharacterTokenizer, SubwordTokenizer, WordTokenizer

__all__ = [
    "AlibiPositions",
    "AttentionDecoder",
    "AudioSource",
    "BahdanauAttention",
    "CTCModel",
    "CharacterTokenizer",
    "ConformerBlock",
    "ConformerEncoder",
    "ConvSubsampling",
    "Ensemble",
    "FixedContext",
    "FusedAdam",
    "ImageAugment",
    "ImageSource",
    "InverseSquareRoot",
    "LazyAdam",
    "LearnedPositions",
    "LengthHead",
    "Lexicon",
    "LocalAttention",
    "LocationAwareAttention",
    "LogMel",
    "LuongAttention",
    "MonotonicAttention",
    "MultiHeadAttention",
    "PyramidalEncoder",
    "RecurrentEncoder",
    "RegionEncoder",
    "RelativePositions",
    "RotaryPositions",
    "SearchResult",
    "Seq2Seq",
    "SequenceAccuracy",
    "SequenceCrossEntropy",
    "SinusoidalPositions",
    "SpecAugment",
    "StatefulRNN",
    "StreamingEncoder",
    "StreamingRNN",
    "SubsampledEncoder",
    "SubwordTokenizer",
    "TokenEmbedding",
    "TransformerDecoder",
    "TransformerDecoderBlock",
    "TransformerEncoder",
    "TransformerEncoderBlock",
    "VocabularyHead",
    "VocalTractPerturbation",
    "WordTokenizer",
    "audio",
    "backbones",
    "beam_search",
    "ctc_align",
    "ctc_beam_search",
    "ctc_greedy_search",
    "ctc_loss",
    "ensemble_step",
    "greedy_search",
    "image",
    "joint_step",
    "load",
    "masking",
    "sample",
    "splice",
    "zoo",
]
