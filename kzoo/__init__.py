"""kzoo: a sequence-to-sequence model zoo for Keras 3 on TensorFlow."""

from typing import TYPE_CHECKING

from kzoo import imports

if TYPE_CHECKING:
    from kzoo import audio, image, zoo
    from kzoo.audio import AudioSource, LogMel, SpecAugment, VocalTractPerturbation, WhisperMel
    from kzoo.ctc import ctc_align, ctc_beam_search, ctc_greedy_search, ctc_loss, joint_step
    from kzoo.export import load
    from kzoo.image import ImageAugment, ImageSource, backbones
    from kzoo.layers import masking
    from kzoo.layers.attention import (
        BahdanauAttention,
        CoverageAttention,
        FixedContext,
        LocalAttention,
        LocationAwareAttention,
        LuongAttention,
        MonotonicAttention,
        MultiHeadAttention,
    )
    from kzoo.layers.attention_decoder import AttentionDecoder
    from kzoo.layers.conformer import ConformerBlock, ConformerEncoder
    from kzoo.layers.copying import Copier
    from kzoo.layers.embedding import TokenEmbedding
    from kzoo.layers.head import VocabularyHead
    from kzoo.layers.length import LengthHead
    from kzoo.layers.positions import (
        AlibiPositions,
        LearnedPositions,
        RelativePositions,
        RotaryPositions,
        SinusoidalPositions,
    )
    from kzoo.layers.recurrent_encoder import PyramidalEncoder, RecurrentEncoder
    from kzoo.layers.regions import RegionEncoder
    from kzoo.layers.speech import ConvStem, ConvSubsampling, StreamingEncoder, SubsampledEncoder
    from kzoo.layers.streaming import StatefulRNN, StreamingRNN
    from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
    from kzoo.layers.transformer_block import TransformerDecoderBlock, TransformerEncoderBlock
    from kzoo.models import CTCModel, Ensemble, Lexicon, ScheduledSampling, Seq2Seq
    from kzoo.search import SearchResult, beam_search, ensemble_step, greedy_search, sample
    from kzoo.text import (
        ByteTokenizer,
        CharacterTokenizer,
        PieceTokenizer,
        SpaceTokenizer,
        SubwordTokenizer,
        WordTokenizer,
    )
    from kzoo.training import (
        FusedAdam,
        InverseSquareRoot,
        LazyAdam,
        SequenceAccuracy,
        SequenceCrossEntropy,
        splice,
    )

__all__, __getattr__, __dir__ = imports.face(__name__)


def _load_layers():
    """Every module with a class that `.keras` files name."""
    for name in __all__:
        __getattr__(name)


imports.when_keras_is_there(_load_layers)
