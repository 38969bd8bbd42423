"""One table of all public layers: how each is made, what it is called with, what of that is padded.

The contract in tests/layers/contract/ holds for every row of it.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest

from kzoo.audio import SpecAugment, VocalTractPerturbation
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
from kzoo.layers.speech import ConvStem, ConvSubsampling, StreamingEncoder, SubsampledEncoder
from kzoo.layers.streaming import StreamingRNN
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.layers.transformer_block import (
    FeedForward,
    Residual,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)

B, T, S, D, M, U, V = 2, 3, 5, 6, 7, 11, 13
LENGTHS = [5, 3]
MASK = np.arange(S) < np.array(LENGTHS)[:, None]

# The arguments of a layer: name -> steps and features; no features means ids.
QUERY, MEMORY = {"query": (T, D)}, {"memory": (S, M)}
ATTEND = QUERY | MEMORY
DECODE = {"ids": (T, None)} | MEMORY


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, what it is called with, and which of that has padding."""

    make: Callable
    arguments: dict
    padded: str  # name of the argument with padding
    mask: str | None = None  # name of the argument that says where; None: nothing to mask
    aligned: bool = False  # whether outputs have the steps of `padded`: only real ones count
    ragged: bool = True


def embed():
    return TokenEmbedding(V, D)


CASES = {
    "BahdanauAttention": Case(lambda: BahdanauAttention(U), ATTEND, "memory", "memory_mask"),
    "BahdanauAttention normalized": Case(
        lambda: BahdanauAttention(U, normalize=True), ATTEND, "memory", "memory_mask"
    ),
    "LuongAttention dot": Case(
        lambda: LuongAttention("dot"),
        {"query": (T, M), "memory": (S, M)},
        "memory",
        "memory_mask",
    ),
    "LuongAttention general": Case(
        lambda: LuongAttention("general", scale=True), ATTEND, "memory", "memory_mask"
    ),
    "LuongAttention concat": Case(
        lambda: LuongAttention("concat", units=U), ATTEND, "memory", "memory_mask"
    ),
    "LocalAttention predictive": Case(
        lambda: LocalAttention(2, scale=True), ATTEND, "memory", "memory_mask"
    ),
    "LocalAttention monotonic": Case(
        lambda: LocalAttention(2, "monotonic", "concat", units=U), ATTEND, "memory", "memory_mask"
    ),
    "MonotonicAttention parallel": Case(
        lambda: MonotonicAttention(U, score_bias=0.0), ATTEND, "memory", "memory_mask"
    ),
    "MonotonicAttention recursive": Case(
        lambda: MonotonicAttention(U, "recursive", score_bias=0.0), ATTEND, "memory", "memory_mask"
    ),
    "LocationAwareAttention": Case(
        lambda: LocationAwareAttention(U, filters=2, width=3), ATTEND, "memory", "memory_mask"
    ),
    "CoverageAttention": Case(lambda: CoverageAttention(U), ATTEND, "memory", "memory_mask"),
    "FixedContext": Case(FixedContext, ATTEND, "memory", "memory_mask"),
    "MultiHeadAttention": Case(
        lambda: MultiHeadAttention(2, 5, dropout=0.1), ATTEND, "memory", "memory_mask"
    ),
    "MultiHeadAttention rotary": Case(
        lambda: MultiHeadAttention(3, 4, positions=RotaryPositions()),
        ATTEND,
        "memory",
        "memory_mask",
    ),
    "MultiHeadAttention relative": Case(
        lambda: MultiHeadAttention(2, 5, positions=RelativePositions(8, max_distance=4)),
        ATTEND,
        "memory",
        "memory_mask",
    ),
    "MultiHeadAttention ALiBi, grouped": Case(
        lambda: MultiHeadAttention(6, 4, num_key_value_heads=2, positions=AlibiPositions()),
        ATTEND,
        "memory",
        "memory_mask",
    ),
    "SinusoidalPositions": Case(SinusoidalPositions, {"x": (S, M)}, "x", aligned=True),
    "LearnedPositions": Case(lambda: LearnedPositions(S), {"x": (S, M)}, "x", aligned=True),
    "TokenEmbedding": Case(
        lambda: TokenEmbedding(V, D, scale=True), {"ids": (S, None)}, "ids", aligned=True
    ),
    "VocabularyHead": Case(
        lambda: VocabularyHead(V, M), {"hidden": (S, M)}, "hidden", aligned=True
    ),
    "VocabularyHead tied": Case(
        lambda: VocabularyHead(V, D, tied=embed()),
        {"hidden": (S, D)},
        "hidden",
        aligned=True,
    ),
    "VocabularyHead sampled": Case(
        lambda: VocabularyHead(V, M, num_sampled=5),
        {"hidden": (S, M)},
        "hidden",
        aligned=True,
    ),
    "Copier": Case(
        Copier,
        {"hidden": (S, M), "context": (S, D), "embedded": (S, U)},
        "hidden",
        aligned=True,
    ),
    "LengthHead": Case(LengthHead, MEMORY, "memory", "memory_mask"),
    "RecurrentEncoder of ids": Case(
        lambda: RecurrentEncoder(embed(), U, num_layers=2, dropout=0.1),
        {"source": (S, None)},
        "source",
        "source_mask",
    ),
    "RecurrentEncoder of features": Case(
        lambda: RecurrentEncoder(keras.layers.Dense(D), U, cell="gru", direction="backward"),
        {"source": (S, M)},
        "source",
        "source_mask",
    ),
    "RecurrentEncoder simple": Case(
        lambda: RecurrentEncoder(embed(), U, cell="simple", direction="forward"),
        {"source": (S, None)},
        "source",
        "source_mask",
    ),
    "PyramidalEncoder of ids": Case(
        lambda: PyramidalEncoder(embed(), U, num_layers=2, dropout=0.1),
        {"source": (S, None)},
        "source",
        "source_mask",
    ),
    "PyramidalEncoder of features": Case(
        lambda: PyramidalEncoder(keras.layers.Dense(D), U, num_layers=2, cell="gru", factor=3),
        {"source": (S, M)},
        "source",
        "source_mask",
    ),
    # StatefulRNN answers a second call otherwise than the first: it is in test_streaming.
    "StreamingRNN": Case(
        lambda: StreamingRNN(U, num_layers=2, dropout=0.1), {"x": (S, M)}, "x", "mask"
    ),
    "StreamingRNN simple": Case(lambda: StreamingRNN(U, cell="simple"), {"x": (S, M)}, "x", "mask"),
    "ConvStem": Case(lambda: ConvStem(U), {"frames": (S, M)}, "frames", "mask"),
    "ConvSubsampling": Case(
        lambda: ConvSubsampling(U, filters=3), {"frames": (S, M)}, "frames", "mask"
    ),
    "ConvSubsampling by two": Case(
        lambda: ConvSubsampling(U, filters=3, factor=2), {"frames": (S, M)}, "frames", "mask"
    ),
    "SpecAugment": Case(SpecAugment, {"frames": (S, M)}, "frames", "mask", aligned=True),
    "VocalTractPerturbation": Case(
        VocalTractPerturbation, {"frames": (S, M)}, "frames", "mask", aligned=True
    ),
    "AttentionDecoder before": Case(
        lambda: AttentionDecoder(
            embed(), U, BahdanauAttention(5), num_layers=2, cell="gru", attend="before", dropout=0.1
        ),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder gated": Case(
        lambda: AttentionDecoder(
            embed(), U, BahdanauAttention(5), attend="before", gate_context=True
        ),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder after": Case(
        lambda: AttentionDecoder(embed(), U, LuongAttention()), DECODE, "memory", "memory_mask"
    ),
    "AttentionDecoder with location-aware attention": Case(
        lambda: AttentionDecoder(embed(), U, LocationAwareAttention(5, filters=2, width=3)),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder with coverage": Case(
        lambda: AttentionDecoder(embed(), U, CoverageAttention(5)), DECODE, "memory", "memory_mask"
    ),
    "AttentionDecoder with monotonic attention": Case(
        lambda: AttentionDecoder(embed(), U, MonotonicAttention(5, score_bias=0.0)),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder simple": Case(
        lambda: AttentionDecoder(embed(), U, LuongAttention(), cell="simple"),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder without attention": Case(
        lambda: AttentionDecoder(embed(), U, FixedContext(), attend="before", summary="first"),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "Residual": Case(
        lambda: Residual(0.1),
        {"x": (S, D), "y": (S, D)},
        "y",
        aligned=True,
        ragged=False,  # both are, or none
    ),
    "FeedForward": Case(lambda: FeedForward(U), {"x": (S, D)}, "x", aligned=True),
    "TransformerEncoderBlock": Case(
        lambda: TransformerEncoderBlock(2, U, dropout=0.1), {"x": (S, D)}, "x", "mask", aligned=True
    ),
    "TransformerDecoderBlock": Case(
        lambda: TransformerDecoderBlock(2, U, norm_first=True),
        {"x": (T, D)} | MEMORY,
        "memory",
        "memory_mask",
    ),
    "TransformerEncoderBlock rotary": Case(
        lambda: TransformerEncoderBlock(3, U, attention_positions=RotaryPositions()),
        {"x": (S, D)},
        "x",
        "mask",
        aligned=True,
    ),
    "TransformerDecoderBlock relative, grouped": Case(
        lambda: TransformerDecoderBlock(
            2,
            U,
            num_key_value_heads=1,
            attention_positions=RelativePositions(4, max_distance=5, bidirectional=False),
        ),
        {"x": (T, D)} | MEMORY,
        "memory",
        "memory_mask",
    ),
    "TransformerDecoderBlock with padded steps": Case(
        lambda: TransformerDecoderBlock(2, U),
        {"x": (S, D)} | MEMORY,
        "x",
        "x_mask",
        aligned=True,
    ),
    "TransformerEncoder": Case(
        lambda: TransformerEncoder(embed(), 2, 2, U, dropout=0.1, norm_first=True),
        {"source": (S, None)},
        "source",
        "source_mask",
        aligned=True,
    ),
    "TransformerEncoder relative, grouped": Case(
        lambda: TransformerEncoder(
            embed(),
            2,
            2,
            U,
            num_key_value_heads=1,
            attention_positions=RelativePositions(8, max_distance=5),
        ),
        {"source": (S, None)},
        "source",
        "source_mask",
        aligned=True,
    ),
    "ConformerBlock": Case(
        lambda: ConformerBlock(3, U, width=3, dropout=0.1, attention_positions=RotaryPositions()),
        {"x": (S, 2 * D)},
        "x",
        "mask",
        aligned=True,
    ),
    "ConformerEncoder": Case(
        lambda: ConformerEncoder(keras.layers.Dense(8), 2, 2, U, width=3, dropout=0.1),
        {"source": (S, M)},
        "source",
        "source_mask",
        aligned=True,
    ),
    "SubsampledEncoder": Case(
        lambda: SubsampledEncoder(
            ConvSubsampling(D, filters=3, factor=2),
            TransformerEncoder(keras.layers.Identity(), 1, 2, U, dropout=0.1),
        ),
        {"source": (S, M)},
        "source",
        "source_mask",
    ),
    "StreamingEncoder": Case(
        lambda: StreamingEncoder(U, num_layers=2, stride=2, dropout=0.1),
        {"source": (S, M)},
        "source",
        "source_mask",
    ),
    "TransformerDecoder": Case(
        lambda: TransformerDecoder(embed(), 2, 2, U), DECODE, "memory", "memory_mask"
    ),
    "TransformerDecoder with one head's weights": Case(
        lambda: TransformerDecoder(embed(), 2, 2, U, weights_head=1),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "TransformerDecoder rotary, grouped": Case(
        lambda: TransformerDecoder(
            embed(), 2, 3, U, num_key_value_heads=1, attention_positions=RotaryPositions()
        ),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "TransformerDecoder relative": Case(
        lambda: TransformerDecoder(
            embed(),
            2,
            2,
            U,
            positions=LearnedPositions(T),
            attention_positions=RelativePositions(4, max_distance=5, bidirectional=False),
        ),
        DECODE,
        "memory",
        "memory_mask",
    ),
}
every_layer = pytest.mark.parametrize("name", CASES)
of_ragged_input = pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.ragged])
with_a_mask = pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.mask])
