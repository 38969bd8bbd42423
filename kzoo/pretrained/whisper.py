"""Whisper, from the files of Hugging Face, OpenAI and CTranslate2, as a Seq2Seq.

Radford et al. (2022), Robust Speech Recognition via Large-Scale Weak Supervision,
https://arxiv.org/abs/2212.04356. D features, V vocabulary.
"""

from pathlib import Path

import keras
import numpy as np

from kzoo import torch_file
from kzoo.audio import AudioSource, WhisperMel
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.positions import LearnedPositions
from kzoo.layers.speech import ConvStem, SubsampledEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import Seq2Seq
from kzoo.pretrained import ctranslate2_file, hugging_face, translator, whisper_names
from kzoo.pretrained.whisper_vocabulary import not_speech, prompt_names, whisper_vocabulary
from kzoo.text import read_byte_vocabulary

# Of the new rows, padding and unknown: no softmax sees them, and smoothed labels hardly do.
_NEVER = -100.0


def from_hugging_face(folder, language="en", task="transcribe", clip_seconds=None):
    """A Whisper model out of a folder of Hugging Face's transformers.

    The rows of the vocabulary are permuted to kzoo's ids: 0 padding, which is new, 1
    `<|startoftranscript|>`, 2 `<|endoftext|>`, 3 unknown, which is new as well and never comes
    about, then texts and the other special tokens in their order.

    Args:
        folder: of config.json, generation_config.json if there is one, weights, and tokenizer.json
            or vocab.json, merges.txt and added_tokens.json.
        language: str, as "de", what is spoken; the model's `prompt` says so.
        task: "transcribe", or "translate" for English, whatever is spoken.
        clip_seconds: float, of WhisperMel: None for all that the model has positions for, 30.

    Returns:
        Seq2Seq with both tokenizers, built. It writes no times: `<|notimestamps|>` ends its prompt.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, of another architecture or of other sizes.
    """
    folder = Path(folder)
    source = folder / "config.json"
    config = hugging_face.read_json(source)
    sizes = whisper_names.sizes_of_hugging_face(config, source)
    if (folder / "generation_config.json").exists():
        config = config | hugging_face.read_json(folder / "generation_config.json")
    suppressed = _listed(config, "suppress_tokens", "begin_suppress_tokens")
    is_tied = config.get("tie_word_embeddings") is not False
    weights = whisper_names.of_hugging_face(hugging_face.read_weights(folder), is_tied)
    options = config.get("alignment_heads"), language, task, clip_seconds
    return _model(weights, sizes, folder, suppressed, *options)


def from_ctranslate2(folder, language="en", task="transcribe", clip_seconds=None):
    """A Whisper model out of a folder of CTranslate2, in any of its types of weights.

    Args:
        folder: of model.bin, config.json and tokenizer.json.
        language, task, clip_seconds: as in `from_hugging_face`, and so is what is returned.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or of another model.
    """
    folder = Path(folder)
    model = ctranslate2_file.read(folder / "model.bin")
    if model.spec != "WhisperSpec":
        raise ValueError(f"{folder / 'model.bin'} must hold a WhisperSpec, got a {model.spec}.")
    config = hugging_face.read_json(folder / "config.json")
    suppressed = _listed(config, "suppress_ids", "suppress_ids_begin")
    sizes = whisper_names.sizes_of_ctranslate2(model.weights)
    weights = whisper_names.of_ctranslate2(model.weights)
    options = config.get("alignment_heads"), language, task, clip_seconds
    return _model(weights, sizes, folder, suppressed, *options)


def from_openai(path, language="en", task="transcribe", clip_seconds=None):
    """A Whisper model out of OpenAI's .pt file, which has no vocabulary.

    Args:
        path: of the .pt file. Beside it stands its vocabulary: multilingual.tiktoken, or
            gpt2.tiktoken of an English-only model, from the assets of the openai-whisper package;
            or tokenizer.json.
        language, task, clip_seconds: as in `from_hugging_face`, and so is what is returned.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or of another model.
    """
    path = Path(path)
    data = torch_file.read(path, is_nested=True)
    if not {"dims", "model_state_dict"} <= data.keys():
        raise ValueError(f"{path} must hold dims and model_state_dict, got {sorted(data)[:5]}.")
    sizes = whisper_names.sizes_of_openai(data["dims"], path)
    name = "multilingual.tiktoken" if sizes.vocabulary >= 51_865 else "gpt2.tiktoken"
    files = [path.with_name(name), path.with_name("tokenizer.json")]
    files = [file for file in files if file.exists()]
    if not files:
        raise FileNotFoundError(
            f"{path} needs its vocabulary beside it, {name} or tokenizer.json, got neither."
        )
    weights = whisper_names.of_openai(path, data["model_state_dict"])
    return _model(weights, sizes, files[0], (None, None), None, language, task, clip_seconds)


def _listed(config, *names):
    """The ids under each of the names; none where it says null, None where it says nothing."""
    return [(config[name] or ()) if name in config else None for name in names]


def _model(
    weights, sizes, vocabulary_path, suppressed, alignment_heads, language, task, clip_seconds
):
    """Weights under OpenAI's names -> Seq2Seq."""
    vocabulary = whisper_vocabulary(
        read_byte_vocabulary(vocabulary_path), sizes.vocabulary, vocabulary_path, language
    )
    prompt = vocabulary.ids_of(prompt_names(vocabulary, language, task))
    own = not_speech(vocabulary) if None in suppressed else (None, None)
    suppressed, suppressed_first = (
        own[place] if rows is None else vocabulary.ids(rows)
        for place, rows in enumerate(suppressed)
    )
    longest = sizes.source_positions / 50  # two frames of 10 ms make a step
    clip_seconds = longest if clip_seconds is None else clip_seconds
    if clip_seconds > longest:
        raise ValueError(
            f"`clip_seconds` must be at most {longest:g}, got clip_seconds={clip_seconds}."
        )
    encoder, decoder, head = _parts(sizes, _own_heads(alignment_heads, sizes))
    model = Seq2Seq(
        encoder,
        decoder,
        head,
        AudioSource(WhisperMel(sizes.num_mels, clip_seconds)),
        vocabulary.tokenizer,
        prompt=prompt,
        suppressed=suppressed,
        suppressed_first=suppressed_first,
    )
    model.build({"source": (None, None, sizes.num_mels), "target": (None, None)})
    _fill(model, weights, sizes, vocabulary.rows)
    whisper_names.check_all_taken(weights)
    return model


def _own_heads(alignment_heads, sizes):
    """Those of the heads that the decoder has: files of distilled models may name the teacher's."""
    rows = [
        (block, head)
        for block, head in alignment_heads or ()
        if block < sizes.decoder_layers and head < sizes.decoder_heads
    ]
    return rows or None


def _parts(sizes, alignment_heads):
    """Encoder, decoder and head of a model."""
    options = {"norm_first": True, "activation": "gelu"}
    encoder = TransformerEncoder(
        keras.layers.Identity(), sizes.encoder_layers, sizes.encoder_heads, sizes.encoder_hidden,
        positions=LearnedPositions(sizes.source_positions, trainable=False), **options,
    )  # fmt: skip
    embedding = TokenEmbedding(sizes.vocabulary + 2, sizes.units)
    decoder = TransformerDecoder(
        embedding, sizes.decoder_layers, sizes.decoder_heads, sizes.decoder_hidden,
        positions=LearnedPositions(sizes.target_positions), alignment_heads=alignment_heads,
        **options,
    )  # fmt: skip
    head = VocabularyHead(sizes.vocabulary + 2, sizes.units, tied=embedding)
    return SubsampledEncoder(ConvStem(sizes.units), encoder), decoder, head


def _fill(model, weights, sizes, rows):
    """Writes the weights into the parts of a built model."""
    stem, encoder = model.encoder.subsampling, model.encoder.encoder
    for layer, size, name in zip(
        stem.convolutions, (sizes.num_mels, sizes.units), "12", strict=True
    ):
        kernel = weights.take(f"encoder.conv{name}.weight", (sizes.units, size, 3))
        bias = weights.take(f"encoder.conv{name}.bias", (sizes.units,))
        translator.set_dense(layer, kernel.transpose(2, 1, 0), bias)
    shape = (sizes.source_positions, sizes.units)
    encoder.positions.table.assign(weights.take("encoder.positional_embedding", shape))
    _fill_blocks(weights, "encoder", encoder.blocks)
    _norm(weights, "encoder.ln_post", encoder.norm)

    decoder = model.decoder
    shape = (sizes.target_positions, sizes.units)
    decoder.positions.table.assign(weights.take("decoder.positional_embedding", shape))
    table = weights.take("decoder.token_embedding.weight", (sizes.vocabulary, sizes.units))
    whisper_names.check_tied(weights, table)
    is_new = rows < 0
    table = np.where(is_new[:, None], 0, table[rows])
    decoder.embedding.embeddings.assign(table)
    model.head.bias.assign(np.where(is_new, np.float32(_NEVER), np.float32(0)))
    _fill_blocks(weights, "decoder", decoder.blocks)
    _norm(weights, "decoder.ln", decoder.norm)


def _fill_blocks(weights, stack, blocks):
    for place, block in enumerate(blocks):
        name = f"{stack}.blocks.{place}"
        for part, (layer, frame) in zip(
            ("attn", "cross_attn"), translator.attentions(block), strict=False
        ):
            _attention(weights, f"{name}.{part}", layer)
            _norm(weights, f"{name}.{part}_ln", frame.norm)
        _norm(weights, f"{name}.mlp_ln", block.feed_forward_frame.norm)
        feed_forward = block.feed_forward
        for part, layer in zip("02", (feed_forward.widen, feed_forward.narrow), strict=True):
            shape = tuple(layer.kernel.shape)[::-1]
            kernel = weights.take(f"{name}.mlp.{part}.weight", shape).T
            bias = weights.take(f"{name}.mlp.{part}.bias", shape[:1])
            translator.set_dense(layer, kernel, bias)


def _attention(weights, name, layer):
    size = layer.query_kernel.shape[0]

    def linear(part):
        kernel = weights.take(f"{name}.{part}.weight", (size, size)).T
        # Keys have no bias, but CTranslate2 writes one of zeros.
        has_bias = part != "key" or f"{name}.{part}.bias" in weights
        return kernel, weights.take(f"{name}.{part}.bias", (size,)) if has_bias else np.zeros(size)

    translator.set_attention(layer, *map(linear, ("query", "key", "value", "out")))


def _norm(weights, name, layer):
    shape = tuple(layer.gamma.shape)
    gamma, beta = (weights.take(f"{name}.{part}", shape) for part in ("weight", "bias"))
    translator.set_norm(layer, gamma, beta)
