"""Seq2Seq -> TensorFlow Lite (LiteRT): kzoo's search on ids.

Axis letters: K beams, L longest output, S longest source.
"""

from pathlib import Path

import keras
import tensorflow as tf

from kzoo.export.engine_card import tflite_card, write_tokenizers
from kzoo.export.folder import written_at_once
from kzoo.export.precision import in_float32
from kzoo.export.preconditions import check_built, check_copies_nothing


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
    signature takes one sentence: `ids` (1, S) int32, the end id behind the last token unless the
    source tokenizer's `adds_end` is False, then 0; S = `max_source_length` + 1. It gives `ids`
    (1, K, L) int32 and `scores` (1, K) float32 as `Seq2Seq.generate` does: equal ids and, but for
    rounding, equal scores in float32.

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
            lacks a tokenizer or weights, or copies words of its source.

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
    check_built(model)
    check_copies_nothing(model, "TensorFlow Lite")
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
        write_tokenizers(folder, model)
        card = tflite_card(path, model, quantization, max_source_length)
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
