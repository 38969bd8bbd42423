"""The named architectures of the papers, assembled from the parts.

Each function takes the two tokenizers and returns an untrained `Seq2Seq`. With one and the same
tokenizer on both sides, source and target share their vocabulary, and so the embedding. Those for
speech take an `AudioSource` as the first and are trained on its frames; those for pictures an
`ImageSource`, and the network of `image.backbones` that looks at them.

Example:

>>> letters = kzoo.CharacterTokenizer.learn(["abc"], vocabulary_size=10)
>>> model = kzoo.zoo.rnn_luong(letters, letters, units=8)
>>> model.compile(kzoo.FusedAdam(0.01))
>>> found = model.generate(letters.tokenize(["ab", "c"]), beam_size=2, max_length=5)
>>> found.ids.shape
TensorShape([2, 2, 5])
"""

import keras

from kzoo.layers.attention import (
    BahdanauAttention,
    CoverageAttention,
    FixedContext,
    LocationAwareAttention,
    LuongAttention,
)
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.conformer import ConformerEncoder
from kzoo.layers.copying import Copier
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.length import LengthHead
from kzoo.layers.positions import LearnedPositions, RotaryPositions
from kzoo.layers.recurrent_encoder import PyramidalEncoder, RecurrentEncoder
from kzoo.layers.regions import RegionEncoder
from kzoo.layers.speech import ConvSubsampling, StreamingEncoder, SubsampledEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import CTCModel, Seq2Seq
from kzoo.text.special_ids import UNKNOWN_ID

__all__ = [
    "captioning_transformer",
    "copying_transformer",
    "listen_attend_spell",
    "pointer_generator",
    "pronunciation_transformer",
    "rnn_bahdanau",
    "rnn_fixed",
    "rnn_luong",
    "show_attend_tell",
    "speech_transformer",
    "streaming_ctc",
    "transformer_base",
    "transformer_small",
    "transformer_tiny",
]


def rnn_fixed(
    source_tokenizer,
    target_tokenizer,
    units=256,
    num_layers=1,
    dropout=0.2,
    label_smoothing=0.0,
    num_sampled=0,
    length_head=False,
):
    """LSTM encoder-decoder with a fixed context vector and no attention.

    Sutskever et al. (2014), https://arxiv.org/abs/1409.3215: the encoder reads the source
    backwards; its final state starts the decoder and, as in Cho et al. (2014),
    https://arxiv.org/abs/1406.1078, is an input of every step.

    Args:
        source_tokenizer, target_tokenizer: of `text`; one object for a joint vocabulary.
        units: int, size of embeddings and states.
        num_layers: int, of the encoder and of the decoder.
        dropout: float in [0, 1).
        label_smoothing: float in [0, 1).
        num_sampled: int, classes of a sampled softmax; 0 for the full one. See `VocabularyHead`.
        length_head: bool, whether the model learns how long an answer is to be. See `LengthHead`.

    Returns:
        Seq2Seq.
    """
    source, target = _embeddings(source_tokenizer, target_tokenizer, units)
    encoder = RecurrentEncoder(
        embedding=source, units=units, num_layers=num_layers, direction="backward", dropout=dropout
    )
    decoder = AttentionDecoder(
        embedding=target, units=units, attention=FixedContext(), num_layers=num_layers,
        attend="before", summary="first", dropout=dropout,
    )  # fmt: skip
    head = _head(target, label_smoothing=label_smoothing, num_sampled=num_sampled)
    return _text_model(
        encoder, decoder, head, source_tokenizer, target_tokenizer, length_head=length_head
    )


def rnn_bahdanau(
    source_tokenizer,
    target_tokenizer,
    units=256,
    num_layers=1,
    dropout=0.2,
    label_smoothing=0.0,
    num_sampled=0,
    length_head=False,
):
    """Bidirectional GRU encoder, GRU decoder with additive attention.

    Bahdanau et al. (2015), https://arxiv.org/abs/1409.0473; the paper has 1,000 units.

    Args and Returns: as in `rnn_fixed`.
    """
    source, target = _embeddings(source_tokenizer, target_tokenizer, units)
    encoder = RecurrentEncoder(
        embedding=source, units=units, num_layers=num_layers, cell="gru", dropout=dropout
    )
    decoder = AttentionDecoder(
        embedding=target, units=units, attention=BahdanauAttention(units=units),
        num_layers=num_layers, cell="gru", attend="before", dropout=dropout,
    )  # fmt: skip
    head = _head(target, label_smoothing=label_smoothing, num_sampled=num_sampled)
    return _text_model(
        encoder, decoder, head, source_tokenizer, target_tokenizer, length_head=length_head
    )


def rnn_luong(
    source_tokenizer,
    target_tokenizer,
    units=256,
    num_layers=1,
    dropout=0.2,
    label_smoothing=0.0,
    num_sampled=0,
    length_head=False,
):
    """Bidirectional LSTM encoder, LSTM decoder with global "general" attention, input feeding.

    Luong et al. (2015), https://arxiv.org/abs/1508.04025; the paper has 4 unidirectional layers
    of 1,000 units.

    Args and Returns: as in `rnn_fixed`.
    """
    source, target = _embeddings(source_tokenizer, target_tokenizer, units)
    encoder = RecurrentEncoder(
        embedding=source, units=units, num_layers=num_layers, dropout=dropout
    )
    decoder = AttentionDecoder(
        embedding=target, units=units, attention=LuongAttention(score="general"),
        num_layers=num_layers, input_feeding=True, dropout=dropout,
    )  # fmt: skip
    head = _head(target, label_smoothing=label_smoothing, num_sampled=num_sampled)
    return _text_model(
        encoder, decoder, head, source_tokenizer, target_tokenizer, length_head=length_head
    )


def transformer_tiny(
    source_tokenizer,
    target_tokenizer,
    num_layers=4,
    dropout=0.3,
    label_smoothing=0.1,
    norm_first=False,
    num_sampled=0,
    length_head=False,
):
    """4 + 4 layers of 128 units, 4 heads, 256 hidden units, all embeddings tied.

    The size that Wu et al. (2021), https://arxiv.org/abs/2105.14462, found best for Multi30k;
    2.6 million parameters with a joint vocabulary of 9,700.

    Args:
        source_tokenizer, target_tokenizer: of `text`; one object for a joint vocabulary.
        num_layers: int, of the encoder and of the decoder.
        dropout: float in [0, 1).
        label_smoothing: float in [0, 1).
        norm_first: bool, pre-norm, which learns faster at first and bears higher rates; the
            papers are post-norm.
        num_sampled: int, classes of a sampled softmax; 0 for the full one. See `VocabularyHead`.
        length_head: bool, whether the model learns how long an answer is to be. See `LengthHead`.

    Returns:
        Seq2Seq.
    """
    return _transformer(
        source_tokenizer, target_tokenizer, units=128, num_layers=num_layers, num_heads=4,
        hidden_units=256, dropout=dropout, label_smoothing=label_smoothing, norm_first=norm_first,
        num_sampled=num_sampled, length_head=length_head,
    )  # fmt: skip


def transformer_small(
    source_tokenizer,
    target_tokenizer,
    num_layers=4,
    dropout=0.2,
    label_smoothing=0.1,
    norm_first=False,
    num_sampled=0,
    length_head=False,
):
    """4 + 4 layers of 256 units, 4 heads, 1,024 hidden units, all embeddings tied.

    Args and Returns: as in `transformer_tiny`.
    """
    return _transformer(
        source_tokenizer, target_tokenizer, units=256, num_layers=num_layers, num_heads=4,
        hidden_units=1024, dropout=dropout, label_smoothing=label_smoothing, norm_first=norm_first,
        num_sampled=num_sampled, length_head=length_head,
    )  # fmt: skip


def transformer_base(
    source_tokenizer,
    target_tokenizer,
    num_layers=6,
    dropout=0.1,
    label_smoothing=0.1,
    norm_first=False,
    num_sampled=0,
    length_head=False,
):
    """6 + 6 layers of 512 units, 8 heads, 2,048 hidden units, all embeddings tied.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, table 3, "base".

    Args and Returns: as in `transformer_tiny`.
    """
    return _transformer(
        source_tokenizer, target_tokenizer, units=512, num_layers=num_layers, num_heads=8,
        hidden_units=2048, dropout=dropout, label_smoothing=label_smoothing, norm_first=norm_first,
        num_sampled=num_sampled, length_head=length_head,
    )  # fmt: skip


def pronunciation_transformer(
    source_tokenizer,
    target_tokenizer,
    units=256,
    num_layers=3,
    num_heads=4,
    hidden_units=512,
    dropout=0.1,
    label_smoothing=0.1,
    norm_first=True,
    num_sampled=0,
    length_head=False,
):
    """Letters to phonemes: 3 + 3 layers of 256 units, 4 heads, 512 hidden units; 4 million weights.

    Yolchuyeva et al. (2019), https://doi.org/10.21437/Interspeech.2019-1954; pre-norm here.

    Args:
        source_tokenizer, target_tokenizer: of `text`, as of characters and of phonemes.
        units, num_heads, hidden_units: int, sizes of encoder and decoder.
        num_layers: int, of the encoder and of the decoder.
        dropout, label_smoothing, norm_first, num_sampled, length_head: as in `transformer_tiny`.

    Returns:
        Seq2Seq.
    """
    return _transformer(
        source_tokenizer, target_tokenizer, units=units, num_layers=num_layers,
        num_heads=num_heads, hidden_units=hidden_units, dropout=dropout,
        label_smoothing=label_smoothing, norm_first=norm_first, num_sampled=num_sampled,
        length_head=length_head,
    )  # fmt: skip


def _transformer(
    source_tokenizer, target_tokenizer, *, units, num_layers, num_heads, hidden_units, dropout,
    label_smoothing, norm_first, num_sampled, length_head, weights_head=None, copier=None,
):  # fmt: skip
    source, target = _embeddings(source_tokenizer, target_tokenizer, units, scale=True)
    shape = {
        "num_layers": num_layers, "num_heads": num_heads, "hidden_units": hidden_units,
        "dropout": dropout, "norm_first": norm_first,
    }  # fmt: skip
    head = _head(
        target, is_tied=True, use_bias=False, label_smoothing=label_smoothing,
        num_sampled=num_sampled,
    )  # fmt: skip
    encoder = TransformerEncoder(embedding=source, **shape)
    decoder = TransformerDecoder(embedding=target, weights_head=weights_head, **shape)
    return _text_model(
        encoder, decoder, head, source_tokenizer, target_tokenizer, length_head=length_head,
        copier=copier,
    )  # fmt: skip


def pointer_generator(
    source_tokenizer,
    target_tokenizer,
    units=256,
    num_layers=1,
    dropout=0.2,
    label_smoothing=0.0,
    coverage_weight=1.0,
    length_head=False,
):
    """Bidirectional LSTM encoder, LSTM decoder that copies words of the source; coverage.

    See et al. (2017), https://arxiv.org/abs/1704.04368, sections 2.2 and 2.3, with input feeding in
    place of the context alone. It is for words, or for characters: then names and numbers that no
    vocabulary has are copied. Of subwords, which have an id for everything, it copies pieces.

    The paper trains without coverage first, and only at the end with it. Here the attention has it
    from the beginning; `model.copier.coverage_weight` and `compile` say when its loss begins.

    Args:
        source_tokenizer, target_tokenizer: of `text`; one object for a joint vocabulary, or two of
            words or of characters.
        units: int, size of embeddings and states.
        num_layers: int, of the encoder and of the decoder.
        dropout: float in [0, 1).
        label_smoothing: float in [0, 1), see `Copier.loss`.
        coverage_weight: float of at least 0, of the loss about coverage. See `Copier`.
        length_head: bool, whether the model learns how long an answer is to be. See `LengthHead`.

    Returns:
        Seq2Seq with a Copier, which never answers with the unknown token.
    """
    source, target = _embeddings(source_tokenizer, target_tokenizer, units)
    encoder = RecurrentEncoder(
        embedding=source, units=units, num_layers=num_layers, dropout=dropout
    )
    decoder = AttentionDecoder(
        embedding=target, units=units, attention=CoverageAttention(units=units),
        num_layers=num_layers, dropout=dropout,
    )  # fmt: skip
    head = _head(target, label_smoothing=label_smoothing, num_sampled=0)
    return _text_model(
        encoder, decoder, head, source_tokenizer, target_tokenizer, length_head=length_head,
        copier=_copier(coverage_weight),
    )  # fmt: skip


def copying_transformer(
    source_tokenizer,
    target_tokenizer,
    units=128,
    num_layers=4,
    num_heads=4,
    hidden_units=256,
    dropout=0.3,
    label_smoothing=0.1,
    norm_first=False,
    coverage_weight=0.0,
    length_head=False,
):
    """`transformer_tiny` that copies words of the source, of any size.

    One head of the last layer's cross-attention says what is copied, as in See et al. (2017),
    https://arxiv.org/abs/1704.04368; coverage is a loss and no part of the attention.
    `transformer_small` has units=256, hidden_units=1024, dropout=0.2.

    Args:
        source_tokenizer, target_tokenizer, label_smoothing, coverage_weight, length_head: as in
            `pointer_generator`.
        units, num_heads, hidden_units: int, sizes of encoder and decoder.
        num_layers: int, of the encoder and of the decoder.
        dropout: float in [0, 1).
        norm_first: bool, pre-norm; see `transformer_tiny`.

    Returns:
        Seq2Seq with a Copier, which never answers with the unknown token.
    """
    return _transformer(
        source_tokenizer, target_tokenizer, units=units, num_layers=num_layers,
        num_heads=num_heads, hidden_units=hidden_units, dropout=dropout,
        label_smoothing=label_smoothing, norm_first=norm_first, num_sampled=0,
        length_head=length_head, weights_head=0, copier=_copier(coverage_weight),
    )  # fmt: skip


def listen_attend_spell(
    source,
    target_tokenizer,
    units=256,
    num_layers=3,
    dropout=0.2,
    label_smoothing=0.1,
    ctc_weight=0.3,
    num_sampled=0,
):
    """Pyramidal bidirectional LSTM, location-aware attention, LSTM decoder; CTC on the memory.

    Chan et al. (2016), https://arxiv.org/abs/1508.01211, with the attention of Chorowski et al.
    (2015), https://arxiv.org/abs/1506.07503, and joint training as in Watanabe et al. (2017),
    https://doi.org/10.1109/JSTSP.2017.2763455. Each layer after the first halves the steps: the
    default makes 25 a second of 100 frames, as CTC needs one for every character.

    Args:
        source: AudioSource.
        target_tokenizer: of `text`.
        units: int, of each direction of the encoder, and of the decoder.
        num_layers: int, of the encoder.
        dropout: float in [0, 1).
        label_smoothing: float in [0, 1), of the decoder's loss.
        ctc_weight: float in [0, 1], of CTC in loss and search; 0 for no CTC.
        num_sampled: int, classes of a sampled softmax of the decoder; 0 for the full one.

    Returns:
        Seq2Seq.
    """
    encoder = PyramidalEncoder(
        embedding=keras.layers.Dense(units), units=units, num_layers=num_layers, dropout=dropout
    )
    embedding = _embedding(target_tokenizer, units)
    decoder = AttentionDecoder(
        embedding=embedding, units=units,
        attention=LocationAwareAttention(units=units, filters=10, width=31),
        attend="before", dropout=dropout,
    )  # fmt: skip
    head = _head(embedding, label_smoothing=label_smoothing, num_sampled=num_sampled)
    ctc_head = _ctc_head(target_tokenizer, 2 * units) if ctc_weight else None
    return Seq2Seq(
        encoder, decoder, head, source, target_tokenizer, ctc_head=ctc_head, ctc_weight=ctc_weight
    )


def speech_transformer(
    source,
    target_tokenizer,
    units=144,
    num_layers=6,
    decoder_layers=2,
    num_heads=4,
    hidden_units=576,
    dropout=0.1,
    label_smoothing=0.1,
    ctc_weight=0.3,
    conformer=True,
    factor=4,
    num_sampled=0,
):
    """Convolutional subsampling, Conformer or transformer encoder, transformer decoder; CTC.

    Dong et al. (2018), https://doi.org/10.1109/ICASSP.2018.8462506, with the encoder of Gulati et
    al. (2020), https://arxiv.org/abs/2005.08100, of the width of their Conformer (S) and fewer
    layers, and joint training as in Watanabe et al. (2017),
    https://doi.org/10.1109/JSTSP.2017.2763455. Pre-norm; rotary positions in the encoder.

    Args:
        source: AudioSource.
        target_tokenizer: of `text`.
        units, num_heads, hidden_units: int, sizes of encoder and decoder.
        num_layers, decoder_layers: int.
        dropout: float in [0, 1).
        label_smoothing: float in [0, 1), of the decoder's loss.
        ctc_weight: float in [0, 1], of CTC in loss and search; 0 for no CTC.
        conformer: bool; False for a transformer encoder.
        factor: 4 or 2, frames that make one step.
        num_sampled: int, classes of a sampled softmax of the decoder; 0 for the full one.

    Returns:
        Seq2Seq.
    """
    features = keras.layers.Identity()  # the subsampling gives `units` already
    shape = {"num_heads": num_heads, "hidden_units": hidden_units, "dropout": dropout}
    if conformer:
        encoder = ConformerEncoder(embedding=features, num_layers=num_layers, **shape)
    else:
        encoder = TransformerEncoder(
            embedding=features, num_layers=num_layers, norm_first=True,
            attention_positions=RotaryPositions(), **shape,
        )  # fmt: skip
    encoder = SubsampledEncoder(
        subsampling=ConvSubsampling(units=units, factor=factor), encoder=encoder
    )
    embedding = _embedding(target_tokenizer, units, scale=True)
    decoder = TransformerDecoder(
        embedding=embedding, num_layers=decoder_layers, norm_first=True, **shape
    )
    head = _head(embedding, is_tied=True, label_smoothing=label_smoothing, num_sampled=num_sampled)
    ctc_head = _ctc_head(target_tokenizer, units) if ctc_weight else None
    return Seq2Seq(
        encoder, decoder, head, source, target_tokenizer, ctc_head=ctc_head, ctc_weight=ctc_weight
    )


def streaming_ctc(
    source, target_tokenizer, units=320, num_layers=3, stride=3, dropout=0.1, window=32
):
    """LSTMs that only look back, and CTC: for live audio, one step in 30 ms.

    Graves et al. (2006), https://doi.org/10.1145/1143844.1143891, with the unidirectional stack and
    the joined frames of Sak et al. (2015), https://arxiv.org/abs/1507.06947.

    Args:
        source: AudioSource; its LogMel normalises by "running", "fixed" or None.
        target_tokenizer: of `text`.
        units: int.
        num_layers: int.
        stride: int, frames that make one step.
        dropout: float in [0, 1).
        window: int, most tokens in which the hypotheses of a search may differ.

    Returns:
        CTCModel.

    Raises:
        ValueError: `source` needs the whole clip for its normalisation.
    """
    if not source.can_stream:
        raise ValueError(
            '`source` must normalise by "running", "fixed" or None for live audio, '
            f"got normalize={source.features.normalize!r}."
        )
    encoder = StreamingEncoder(units=units, num_layers=num_layers, stride=stride, dropout=dropout)
    head = _ctc_head(target_tokenizer, units)
    return CTCModel(encoder, head, source, target_tokenizer, window)


def show_attend_tell(
    source,
    target_tokenizer,
    backbone,
    units=512,
    dropout=0.5,
    label_smoothing=0.0,
    doubly_stochastic=1.0,
    num_sampled=0,
):
    """LSTM decoder with additive attention over the regions of a picture, soft and gated.

    Xu et al. (2015), https://arxiv.org/abs/1502.03044: sections 3.1, 4.2 and 4.2.1; the paper has
    VGG-19 as backbone and 14 x 14 regions.

    Args:
        source: ImageSource, of the backbone's size.
        target_tokenizer: of `text`.
        backbone: keras.Model, see `image.backbones`; `trainable=False` for one that is not
            to be trained.
        units: int, of the decoder, its embedding and its attention.
        dropout: float in [0, 1).
        label_smoothing: float in [0, 1).
        doubly_stochastic: float, see `Seq2Seq`; lambda of the paper.
        num_sampled: int, classes of a sampled softmax; 0 for the full one. See `VocabularyHead`.

    Returns:
        Seq2Seq.

    Raises:
        ValueError: `source` and `backbone` are of different sizes.
    """
    _check_size(source, backbone)
    embedding = _embedding(target_tokenizer, units)
    decoder = AttentionDecoder(
        embedding=embedding, units=units, attention=BahdanauAttention(units=units),
        attend="before", dropout=dropout, gate_context=True,
    )  # fmt: skip
    head = _head(embedding, label_smoothing=label_smoothing, num_sampled=num_sampled)
    return Seq2Seq(
        RegionEncoder(backbone), decoder, head, source, target_tokenizer,
        doubly_stochastic=doubly_stochastic,
    )  # fmt: skip


def captioning_transformer(
    source,
    target_tokenizer,
    backbone,
    units=256,
    num_layers=2,
    decoder_layers=3,
    num_heads=4,
    hidden_units=1024,
    dropout=0.1,
    label_smoothing=0.1,
    num_sampled=0,
):
    """Transformer over the regions of a picture, with a learned position for each; pre-norm, tied.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, on regions as Herdade et al. (2019),
    https://arxiv.org/abs/1906.05963, have it, with a grid in place of detected objects.

    Args:
        source: ImageSource, of the backbone's size.
        target_tokenizer: of `text`.
        backbone: keras.Model, see `image.backbones`; `trainable=False` for one that is not
            to be trained.
        units, num_heads, hidden_units: int, sizes of encoder and decoder.
        num_layers, decoder_layers: int.
        dropout: float in [0, 1).
        label_smoothing: float in [0, 1).
        num_sampled: int, classes of a sampled softmax; 0 for the full one. See `VocabularyHead`.

    Returns:
        Seq2Seq.

    Raises:
        ValueError: `source` and `backbone` are of different sizes.
    """
    _check_size(source, backbone)
    _, rows, columns, _ = backbone.output_shape
    shape = {
        "num_heads": num_heads, "hidden_units": hidden_units, "dropout": dropout,
        "norm_first": True,
    }  # fmt: skip
    encoder = TransformerEncoder(
        embedding=keras.layers.Dense(units), num_layers=num_layers,
        positions=LearnedPositions(rows * columns), **shape,
    )  # fmt: skip
    embedding = _embedding(target_tokenizer, units, scale=True)
    decoder = TransformerDecoder(embedding=embedding, num_layers=decoder_layers, **shape)
    head = _head(embedding, is_tied=True, label_smoothing=label_smoothing, num_sampled=num_sampled)
    return Seq2Seq(RegionEncoder(backbone, encoder), decoder, head, source, target_tokenizer)


def _check_size(source, backbone):
    size = backbone.input_shape[1]
    if source is not None and source.size != size:
        raise ValueError(
            "`source` and `backbone` must be of one size, "
            f"got {source.size} and {size} pixels of a side."
        )


def _text_model(
    encoder, decoder, head, source_tokenizer, target_tokenizer, *, length_head, copier=None
):
    # Lengths are counted in float32: a bfloat16 knows no 257.
    lengths = LengthHead(dtype="float32") if length_head else None
    return Seq2Seq(
        encoder, decoder, head, source_tokenizer, target_tokenizer, length_head=lengths,
        copier=copier,
        # It can copy a word that the vocabulary lacks, so the unknown token is never better.
        suppressed=(UNKNOWN_ID,) if copier else (),
    )  # fmt: skip


def _copier(coverage_weight):
    return Copier(coverage_weight, dtype="float32")  # the gate alone, and all that it is added to


def _head(embedding, *, is_tied=False, use_bias=True, label_smoothing, num_sampled):
    """The head for the words of the target's embedding."""
    return VocabularyHead(
        embedding.vocabulary_size, embedding.units, tied=embedding if is_tied else None,
        use_bias=use_bias, label_smoothing=label_smoothing, num_sampled=num_sampled,
    )  # fmt: skip


def _ctc_head(target_tokenizer, units):
    # CTC adds up log-probabilities of many frames, and the head is small.
    return VocabularyHead(target_tokenizer.vocabulary_size(), units, dtype="float32")


def _embedding(tokenizer, units, scale=False):
    return TokenEmbedding(tokenizer.vocabulary_size(), units, scale)


def _embeddings(source_tokenizer, target_tokenizer, units, scale=False):
    target = _embedding(target_tokenizer, units, scale)
    if source_tokenizer is target_tokenizer:
        return target, target
    return _embedding(source_tokenizer, units, scale), target
