"""Seq2Seq -> CTranslate2, an engine with a search of its own.

    export.to_ctranslate2(model, "ctranslate2_models/en-de", quantization="int8")

Axis letters: H heads, Hkv heads of keys and values.
"""

import importlib
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.export.engine_card import ctranslate2_card, write_tokenizers
from kzoo.export.folder import written_at_once
from kzoo.export.precision import in_float32
from kzoo.export.preconditions import check_built, check_copies_nothing
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.positions import LearnedPositions, RotaryPositions, SinusoidalPositions
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models.seq2seq import Seq2Seq
from kzoo.text import SPECIAL_TOKENS, UNKNOWN_ID

OWN_FILE = "kzoo.json"
_LONGEST = 2048  # rows of the table of positions; CTranslate2 cuts sources at 1,024 by itself
ACTIVATIONS = {  # keras.activations' names -> CTranslate2's
    "relu": "RELU",
    "gelu": "GELU",
    "silu": "SWISH",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}


def to_ctranslate2(model, path, quantization=None):
    """Writes a transformer as a model folder of CTranslate2, a C++ engine for CPUs and GPUs.

    Klein et al. (2020), https://aclanthology.org/2020.ngt-1.25; the format is that of the
    installed ctranslate2 package. Pre- and post-norm, tied and own weights, one vocabulary or two,
    sinusoidal, learned and rotary positions are mapped exactly: in float32 CTranslate2 gives every
    translation the log-probability that kzoo gives it. Grouped queries become ordinary heads with
    equal keys and values.

    CTranslate2 searches otherwise: finished hypotheses do not take a slot of the beam, an empty
    output is forbidden and its probability shared out unless `min_decoding_length=0`, and
    `length_penalty=a` divides by length ** a at the end, where kzoo divides by
    ((5 + length) / 6) ** a in each step. With `min_decoding_length=0, length_penalty=0` greedy
    outputs are those of kzoo with `length_penalty=0`; of a trained model's beam outputs hardly
    any differ. `python -m benchmarks.engines` measures both. On an AMD CPU without VNNI its sums of
    int8 saturate and are wrong, unless CT2_USE_MKL=1 is set in the environment.

    | file | content |
    |---|---|
    | `model.bin`, `config.json`, `*_vocabulary.json` | what ctranslate2.Translator loads |
    | `source.spm`, `target.spm` | SentencePiece models, of subwords and pieces |
    | `source.json`, `target.json` | configuration, of any other tokenizer |
    | `kzoo.json` | both tokenizers and what `kzoo.pretrained.load` reads more |
    | `README.md` | how to translate with it |

    Positions end at 2,047: CTranslate2 raises an error for longer texts. Everything is written to
    a hidden folder beside `path` and renamed at the end: there is a whole model or none.

    Args:
        model: Seq2Seq of TransformerEncoder, TransformerDecoder and VocabularyHead on
            TokenEmbeddings, with both tokenizers, its weights built.
        path: str or path that does not exist yet.
        quantization: None for float32, or one of CTranslate2's: "int8", "int8_float32",
            "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16" (needs torch),
            "float32".

    Returns:
        pathlib.Path, the folder written.

    Raises:
        FileExistsError: `path` exists.
        ImportError: the ctranslate2 package is missing.
        ValueError: CTranslate2 has no such quantization, or `model` has parts that it cannot
            express, such as a copier or a prompt, or lacks a tokenizer or weights.

    Example:

    >>> export.to_ctranslate2(model, "ctranslate2_models/en-de", "int8")  # doctest: +SKIP
    PosixPath('ctranslate2_models/en-de')
    """
    path = Path(path)
    ctranslate2 = _import_ctranslate2()
    types = ctranslate2.specs.model_spec.ACCEPTED_MODEL_TYPES
    if quantization is not None and quantization not in types:
        raise ValueError(
            f"`quantization` must be None or one of {', '.join(types)}, got {quantization!r}."
        )
    check_built(model)
    check_copies_nothing(model, "CTranslate2")
    for name in ("prompt", "suppressed_first"):
        value = tuple(getattr(model, name))
        checks.require(not value, "must be empty for CTranslate2", **{name: value})
    _check_parts(model)
    if not isinstance(model, Seq2Seq):  # an ensemble has the parts of its first model
        raise ValueError(f"`model` must be a Seq2Seq, got {type(model).__name__}.")
    with in_float32(model):
        spec = _specification(ctranslate2, model)
    spec.validate()
    spec.optimize(quantization=quantization)
    with written_at_once(path) as folder:
        folder.mkdir()
        spec.save(str(folder))
        write_tokenizers(folder, model)
        (folder / OWN_FILE).write_text(json.dumps(_own(model)), encoding="utf-8")
        card = ctranslate2_card(path, model, quantization, ctranslate2.__version__)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return path


def _own(model):
    """What CTranslate2 does not keep of a model."""
    return {
        "source_tokenizer": keras.saving.serialize_keras_object(model.source_tokenizer),
        "target_tokenizer": keras.saving.serialize_keras_object(model.target_tokenizer),
        "suppressed": list(model.suppressed),
    }


def _import_ctranslate2():
    try:
        return importlib.import_module("ctranslate2")
    except ImportError as error:
        raise ImportError(
            "to_ctranslate2 needs the ctranslate2 package: pip install kzoo[ctranslate2]"
        ) from error


def _check_parts(model):
    expected = {
        "encoder": TransformerEncoder,
        "decoder": TransformerDecoder,
        "head": VocabularyHead,
    }
    for name, kind in expected.items():
        part = getattr(model, name)
        if not isinstance(part, kind):
            raise ValueError(
                f"`model` must be a transformer, as CTranslate2 has no other: its {name} must be "
                f"a {kind.__name__}, got {type(part).__name__}."
            )
    for name in ("encoder", "decoder"):
        _check_stack(name, getattr(model, name))


def _check_stack(name, stack):
    if not isinstance(stack.embedding, TokenEmbedding):
        raise ValueError(
            f"The {name}'s `embedding` must be a TokenEmbedding for CTranslate2, "
            f"got {type(stack.embedding).__name__}."
        )
    if _activation(stack) not in ACTIVATIONS:
        raise ValueError(
            f"The {name}'s `activation` must be one of {', '.join(ACTIVATIONS)} for CTranslate2, "
            f"got activation={stack.activation!r}."
        )
    inside = stack.attention_positions
    if inside is None and isinstance(stack.positions, SinusoidalPositions | LearnedPositions):
        return
    if not isinstance(inside, RotaryPositions) or stack.positions is not None:
        raise ValueError(
            f"The {name} must have sinusoidal, learned or rotary positions, one kind of them, for "
            f"CTranslate2, got positions={stack.positions}, attention_positions={inside}."
        )


def _activation(stack):
    return stack.blocks[0].feed_forward.widen.activation.__name__


def _specification(ctranslate2, model):
    """What CTranslate2 calls a spec: the structure of the model with its weights, in numpy."""
    specs = ctranslate2.specs.transformer_spec
    encoder = _stack_spec(ctranslate2, specs.TransformerEncoderSpec, model.encoder)
    # As in kzoo, the alignment is the last layer's cross-attention: of the first head (1), which
    # guided alignment teaches, else the mean of all heads (0).
    decoder = _stack_spec(
        ctranslate2, specs.TransformerDecoderSpec, model.decoder,
        alignment_heads=int(model.decoder.weights_head == 0),
    )  # fmt: skip
    _set_embedding(encoder, encoder.embeddings[0], model.encoder)
    _set_embedding(decoder, decoder.embeddings, model.decoder)
    for layer, block in zip(encoder.layer, model.encoder.blocks, strict=True):
        _set_attention(layer.self_attention, block.attention, block.attention_frame)
        _set_feed_forward(layer.ffn, block)
    for layer, block in zip(decoder.layer, model.decoder.blocks, strict=True):
        _set_attention(layer.self_attention, block.self_attention, block.self_frame)
        _set_attention(layer.attention, block.cross_attention, block.cross_frame)
        _set_feed_forward(layer.ffn, block)
    decoder.projection.weight = _array(model.head.weight)
    if model.head.use_bias:
        decoder.projection.bias = _array(model.head.bias)

    spec = specs.TransformerSpec(encoder, decoder)
    spec.register_source_vocabulary(model.source_tokenizer.get_vocabulary())
    vocabulary = model.target_tokenizer.get_vocabulary()
    spec.register_target_vocabulary(vocabulary)
    spec.config.bos_token = spec.config.decoder_start_token = vocabulary[model.start_id]
    spec.config.eos_token = vocabulary[model.end_id]
    spec.config.unk_token = SPECIAL_TOKENS[UNKNOWN_ID]
    spec.config.add_source_eos = model.source_tokenizer.adds_end
    spec.config.layer_norm_epsilon = model.encoder.blocks[0].feed_forward_frame.norm.epsilon
    return spec


def _stack_spec(ctranslate2, make, stack, **options):
    activations = ctranslate2.specs.common_spec.Activation
    rotary = stack.attention_positions
    if rotary is not None:  # 0 turns all features of a head, in pairs (2i, 2i + 1)
        options |= {"rotary_dim": 0, "rotary_interleave": True, "rotary_base": rotary.base}
    spec = make(
        stack.num_layers,
        stack.num_heads,
        pre_norm=stack.norm_first,
        activation=activations[ACTIVATIONS[_activation(stack)]],
        **options,
    )
    if stack.norm_first:
        _set_norm(spec.layer_norm, stack.norm)
    return spec


def _set_embedding(stack_spec, spec, stack):
    spec.weight = _array(stack.embedding.embeddings)
    stack_spec.scale_embeddings = stack.embedding.scale
    if stack.positions is not None:
        zeros = tf.zeros((1, _LONGEST, stack.embedding.units))
        stack_spec.position_encodings.encodings = np.array(stack.positions(zeros)[0], "float32")


def _set_attention(spec, attention, frame):
    """In kzoo W is (inputs, outputs) and W_k, W_v are one; here rows are outputs."""
    query = _array(attention.query_kernel).T, _array(attention.query_bias)
    both = (
        _all_heads(attention, _array(attention.key_value_kernel)).T,
        _all_heads(attention, _array(attention.key_value_bias)),
    )
    *projections, output = spec.linear
    if len(projections) == 1:  # self-attention: queries, keys and values in one product
        both = tuple(np.concatenate(pair) for pair in zip(query, both, strict=True))
    else:
        projections[0].weight, projections[0].bias = query
    projections[-1].weight, projections[-1].bias = both
    output.weight, output.bias = _array(attention.output_kernel).T, _array(attention.output_bias)
    _set_norm(spec.layer_norm, frame.norm)


def _all_heads(attention, keys_values):
    """(..., 2 Hkv key_dim) -> (..., 2 H key_dim): each group's keys and values for all its heads.

    CTranslate2 has groups in self-attention only, and there it makes the same copies in each step.
    """
    groups = attention.num_heads // attention.num_key_value_heads
    heads = keys_values.reshape(*keys_values.shape[:-1], -1, attention.key_dim)
    return np.repeat(heads, groups, axis=-2).reshape(*keys_values.shape[:-1], -1)


def _set_feed_forward(spec, block):
    for linear, dense in (
        (spec.linear_0, block.feed_forward.widen),
        (spec.linear_1, block.feed_forward.narrow),
    ):
        linear.weight, linear.bias = _array(dense.kernel).T, _array(dense.bias)
    _set_norm(spec.layer_norm, block.feed_forward_frame.norm)


def _set_norm(spec, norm):
    spec.gamma, spec.beta = _array(norm.gamma), _array(norm.beta)


def _array(weight):
    return weight.value.numpy().astype("float32")
