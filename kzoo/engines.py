"""Seq2Seq -> the model formats of other engines: CTranslate2 and TensorFlow Lite (LiteRT).

    export.to_ctranslate2(model, "ctranslate2_models/en-de", quantization="int8")
    export.to_tflite(model, "tflite_models/en-de", beam_size=4)

CTranslate2 has a search of its own and shares p(y | x) with kzoo; TensorFlow Lite runs kzoo's
search. Both leave texts to the caller: tokens or ids in, tokens or ids out.

Axis letters: K beams, L longest output, S longest source, H heads, Hkv heads of keys and values.
"""

import contextlib
import importlib
import json
import shutil
import uuid
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.positions import LearnedPositions, RotaryPositions, SinusoidalPositions
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.precision import in_float32
from kzoo.text import END_ID, SPECIAL_TOKENS, START_ID, UNKNOWN_ID, SubwordTokenizer

_LONGEST = 2048  # rows of the table of positions; CTranslate2 cuts sources at 1,024 by itself
_ACTIVATIONS = {  # keras.activations' names -> CTranslate2's
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
    any differ. `python -m benchmarks.engines` measures both.

    | file | content |
    |---|---|
    | `model.bin`, `config.json`, `*_vocabulary.json` | what ctranslate2.Translator loads |
    | `source.spm`, `target.spm` | SentencePiece models, of a SubwordTokenizer |
    | `source.json`, `target.json` | configuration, of any other tokenizer |
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
            express, or lacks a tokenizer or weights.

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
    _check_model(model)
    _check_parts(model)
    spec = _specification(ctranslate2, model)
    spec.validate()
    spec.optimize(quantization=quantization)
    with written_at_once(path) as folder:
        folder.mkdir()
        spec.save(str(folder))
        _write_tokenizers(folder, model)
        card = _ctranslate2_card(path, model, quantization, ctranslate2.__version__)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return path


def to_tflite(
    model,
    path,
    quantization=None,
    *,
    beam_size=4,
    max_length=128,
    length_penalty=0.6,
    max_source_length=64,
):
    """Writes encoder, decoder and the whole search as one TensorFlow Lite model.

    Any Seq2Seq on token ids, transformer or RNN. `model.tflite` holds operators of TensorFlow Lite
    alone, none of TensorFlow, so the interpreter of ai_edge_litert runs it without TensorFlow. Its
    signature takes one sentence: `ids` (1, S) int32, the end id behind the last token, then 0;
    S = `max_source_length` + 1. It gives `ids` (1, K, L) int32 and `scores` (1, K) float32 as
    `Seq2Seq.generate` does: equal ids and, but for rounding, equal scores in float32.

    The shapes are static, and the first sentence costs as much as the longest. Beside
    `model.tflite` are the tokenizers and the README.md that `to_ctranslate2` writes, too.

    Args:
        model: Seq2Seq with both tokenizers, its weights built.
        path: str or path that does not exist yet, of the folder.
        quantization: None for float32; "float16", which is half as large and computes in float32;
            or "int8": matrices of 8 bits, activations quantized on the fly.
        beam_size, max_length, length_penalty: of `Seq2Seq.generate`.
        max_source_length: int, most tokens of a source, the end not counted.

    Returns:
        pathlib.Path, the folder written.

    Raises:
        FileExistsError: `path` exists.
        ValueError: there is no such `quantization`, `max_source_length` is not positive, or `model`
            lacks a tokenizer or weights.

    Example:

    >>> export.to_tflite(model, "tflite_models/en-de")  # doctest: +SKIP
    PosixPath('tflite_models/en-de')
    """
    path = Path(path)
    if quantization not in (None, "float16", "int8"):
        raise ValueError(f'`quantization` must be None, "float16" or "int8", got {quantization!r}.')
    if max_source_length < 1:
        raise ValueError(
            f"`max_source_length` must be at least 1, got max_source_length={max_source_length}."
        )
    _check_model(model)
    with written_at_once(path) as folder:
        module = _SearchOnIds(
            model, beam_size=beam_size, max_length=max_length, length_penalty=length_penalty
        )
        function = module.search.get_concrete_function(
            tf.TensorSpec((1, max_source_length + 1), tf.int32, name="ids")
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
        if quantization:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        converted = converter.convert()
        folder.mkdir()
        (folder / "model.tflite").write_bytes(converted)
        _write_tokenizers(folder, model)
        card = _tflite_card(path, model, quantization, max_source_length)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return path


class _SearchOnIds(tf.Module):
    """ids -> ids, scores, with the weights as constants: the converter knows no variables in loops.

    Computes in float32, however the model was trained.
    """

    def __init__(self, model, **options):
        super().__init__()
        constants = [(variable, variable.value.numpy()) for variable in model.variables]

        def search(ids):
            mapping = [(variable, tf.constant(value)) for variable, value in constants]
            with in_float32(model), keras.StatelessScope(state_mapping=mapping):
                found = model.generate(ids, **options, static_shapes=True)
            return {"ids": found.ids, "scores": found.scores}

        self.search = tf.function(search, autograph=False)


@contextlib.contextmanager
def written_at_once(path):
    """Yields a hidden folder beside `path`, and renames it to `path` unless an exception came.

    Args:
        path: pathlib.Path.

    Raises:
        FileExistsError: `path` exists.
    """
    if path.exists():
        raise FileExistsError(f"`path` must not exist yet, got {str(path)!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield folder
        folder.rename(path)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _import_ctranslate2():
    try:
        return importlib.import_module("ctranslate2")
    except ImportError as error:
        raise ImportError(
            "to_ctranslate2 needs the ctranslate2 package: pip install kzoo[ctranslate2]"
        ) from error


def _check_model(model):
    for name in ("source_tokenizer", "target_tokenizer"):
        if getattr(model, name, None) is None:
            raise ValueError(f"`model` must have a {name}: without it nobody can use the export.")
    for name in ("encoder", "decoder", "head"):
        if not getattr(model, name).built:
            raise ValueError(
                f"`model` must be built, but its {name} has no weights yet: "
                "fit it, call it or load its weights first."
            )


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
    if _activation(stack) not in _ACTIVATIONS:
        raise ValueError(
            f"The {name}'s `activation` must be one of {', '.join(_ACTIVATIONS)} for CTranslate2, "
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
    # As in kzoo, the alignment is the last layer's cross-attention, the mean of all heads (0).
    decoder = _stack_spec(
        ctranslate2, specs.TransformerDecoderSpec, model.decoder, alignment_heads=0
    )
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
    spec.register_target_vocabulary(model.target_tokenizer.get_vocabulary())
    spec.config.bos_token = spec.config.decoder_start_token = SPECIAL_TOKENS[START_ID]
    spec.config.eos_token = SPECIAL_TOKENS[END_ID]
    spec.config.unk_token = SPECIAL_TOKENS[UNKNOWN_ID]
    spec.config.add_source_eos = True
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
        activation=activations[_ACTIVATIONS[_activation(stack)]],
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


def _write_tokenizers(folder, model):
    for side in ("source", "target"):
        tokenizer = getattr(model, f"{side}_tokenizer")
        if isinstance(tokenizer, SubwordTokenizer):
            (folder / f"{side}.spm").write_bytes(tokenizer.proto)
        else:
            config = json.dumps(tokenizer.get_config(), indent=2, ensure_ascii=False)
            (folder / f"{side}.json").write_text(config + "\n", encoding="utf-8")


def _ctranslate2_card(path, model, quantization, version):
    source, target = model.source_tokenizer, model.target_tokenizer
    if isinstance(source, SubwordTokenizer):
        tokens = f"source.encode({_text(source)}, out_type=str)"
    else:
        tokens = 'source.tokens(source.tokenize("text")).numpy().astype(str).tolist()'
    if isinstance(target, SubwordTokenizer):
        text = "target.decode(found.hypotheses[0])"
    else:
        ids = "[target.get_vocabulary().index(token) for token in found.hypotheses[0]]"
        text = f"target.detokenize({ids}).numpy().decode()"
    return _CARD.format(
        **_facts(path, model, quantization),
        format=f"CTranslate2, written with ctranslate2 {version}",
        lines=f"""\
import ctranslate2
    translator = ctranslate2.Translator(folder)
    found = translator.translate_batch(
        [{tokens}], beam_size=4, length_penalty=0, min_decoding_length=0)[0]
    print({text})""",
        remarks="CTranslate2 adds the end token to the source by itself. Its search and its "
        "`length_penalty` differ from kzoo's:\nsee `kzoo.export.to_ctranslate2`.",
    )


def _tflite_card(path, model, quantization, max_source_length):
    source, target = model.source_tokenizer, model.target_tokenizer
    if isinstance(source, SubwordTokenizer):
        ids = f"source.encode({_text(source)})"
    else:
        ids = 'source.tokenize("text").numpy().tolist()'
    if isinstance(target, SubwordTokenizer):
        text = "target.decode(best)"
    else:
        text = "target.detokenize(best).numpy().decode()"
    return _CARD.format(
        **_facts(path, model, quantization),
        format=f"TensorFlow Lite (LiteRT), written with TensorFlow {tf.__version__}",
        lines=f"""\
import numpy
    from ai_edge_litert.interpreter import Interpreter  # or tf.lite.Interpreter
    search = Interpreter(f"{{folder}}/model.tflite").get_signature_runner()
    ids = [*{ids}[:{max_source_length}], {END_ID}]
    ids += [0] * ({max_source_length + 1} - len(ids))
    found = search(ids=numpy.array([ids], "int32"))
    best = [i for i in found["ids"][0, 0].tolist() if i > {END_ID}]
    print({text})""",
        remarks="The search is kzoo's; its options are fixed in the model.",
    )


def _facts(path, model, quantization):
    """What both cards say."""
    modules, lines = set(), []
    for side in ("source", "target"):
        tokenizer = getattr(model, f"{side}_tokenizer")
        if isinstance(tokenizer, SubwordTokenizer):
            modules |= {"sentencepiece"}
            load = f'sentencepiece.SentencePieceProcessor(f"{{folder}}/{side}.spm")'
        else:
            modules |= {"json", "kzoo", "pathlib"}
            lines.append(f'config = pathlib.Path(folder, "{side}.json").read_text("utf-8")')
            load = f"kzoo.{type(tokenizer).__name__}(**json.loads(config))"
        lines.append(f"{side} = {load}")
    return {
        "name": path.name,
        "path": path,
        "parameters": model.count_params(),
        "source_size": model.source_tokenizer.vocabulary_size(),
        "target_size": model.target_tokenizer.vocabulary_size(),
        "quantization": quantization or "none, float32",
        "tokenizers": "\n    ".join([f"import {', '.join(sorted(modules))}", *lines]),
    }


def _text(tokenizer):
    return '"text".lower()' if tokenizer.lowercase else '"text"'


_CARD = """\
# {name}

A kzoo model in the format of {format}.
{parameters:,} parameters; vocabulary: {source_size:,} source, {target_size:,} target;
quantization: {quantization}.

    folder = "{path}"
    {tokenizers}
    {lines}

{remarks}

kzoo brings texts into Unicode's NFC and takes out invisible characters before it tokenizes; do the
same if yours can have them.
"""
