"""Weights stored in bfloat16 answer as those same numbers do in float32."""

import base64
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported import OPTIONS, TEXTS, python, rnn, transformer
from loaders import LOADERS

from kzoo import export, zoo
from kzoo.audio import AudioSource, LogMel
from kzoo.image import ImageSource, backbones
from kzoo.text import CharacterTokenizer

LETTERS = ["a quick brown fox"]


def matrices(model):
    return [weight for weight in model.weights if len(weight.shape) > 1]


def streaming():
    source = AudioSource(LogMel(8000, num_mels=13, normalize="running"))
    return zoo.streaming_ctc(
        source, CharacterTokenizer.learn(LETTERS, 71), units=11, num_layers=2, window=5
    )


def captioning():
    return zoo.captioning_transformer(
        ImageSource(48), CharacterTokenizer.learn(LETTERS, 71),
        backbones.small_resnet(48, widths=(3, 5, 7)),
        units=8, num_layers=1, decoder_layers=1, num_heads=2, hidden_units=11,
    )  # fmt: skip


def of(name):
    """A model, inputs to call it with, inputs of its signatures, options of its export."""
    rng, target = np.random.default_rng(0), tf.constant([[1, 5]])
    if name in ("transformer", "rnn"):
        build, options = {
            "transformer": (transformer, {"signatures": ["serving_default", "serving_xla"]}),
            "rnn": (rnn, {"signatures": ["serving_default", "complete"], "request_batching": {}}),
        }[name]
        return build(), None, TEXTS, OPTIONS | options
    if name == "streaming":
        waves = 0.3 * rng.standard_normal((3, 9_000, 1)).astype("float32")
        contents = [tf.audio.encode_wav(wave, 8000).numpy() for wave in waves]
        inputs = {"source": tf.ones((1, 40, 13)), "target": target}
        return streaming(), inputs, contents, {"beam_size": 2, "max_length": 9}
    pictures = rng.integers(0, 256, (3, 48, 48, 3)).astype("uint8")
    contents = [tf.io.encode_png(picture).numpy() for picture in pictures]
    options = {"signatures": ["serving_default"], "beam_size": 2, "max_length": 9}
    return captioning(), {"source": tf.ones((1, 48, 48, 3)), "target": target}, contents, options


def rounded_to_int8(weight):
    """As `Int8Weight` has it, of the float64 of the weight: the better of two kinds of channels."""
    weight = weight.numpy().astype("float64")
    found = []
    for axis in (weight.ndim - 1, 0):
        others = tuple({*range(weight.ndim)} - {axis})
        scale = np.abs(weight).max(others, keepdims=True) / 127
        scale[scale == 0] = 1
        found.append(np.rint(weight / scale) * scale)
    return min(found, key=lambda each: ((each - weight) ** 2).sum())


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, "bfloat16_weights") for name in ("transformer", "rnn", "streaming", "captioning")),
        *((name, "int8_weights") for name in ("transformer", "captioning")),
    ],
)
def test_stored_in_few_bits_is_computed_in_float32(name, precision, tmp_path):
    keras.utils.set_random_seed(2)
    model, inputs, contents, options = of(name)
    if inputs is not None:
        model(inputs)
    before = model.get_weights()
    stored = export.save(model, tmp_path / "1", precision=precision, **options)
    for now, weight in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, weight)
    for weight in matrices(model):
        in_bfloat16 = tf.cast(tf.cast(weight.value, tf.bfloat16), tf.float32)
        is_int8 = precision == "int8_weights"
        weight.assign(rounded_to_int8(weight) if is_int8 else in_bfloat16)
    rounded = export.save(model, tmp_path / "2", **options)

    kinds = tf.train.load_checkpoint(str(stored / "variables" / "variables"))
    shapes = kinds.get_variable_to_shape_map()
    for variable, kind in kinds.get_variable_to_dtype_map().items():
        if variable.startswith("weights/"):
            is_scale = len(shapes[variable]) > 1 and 1 in shapes[variable] and kind == tf.float32
            few = tf.int8 if precision == "int8_weights" else tf.bfloat16
            assert is_scale or kind == (few if len(shapes[variable]) > 1 else tf.float32), variable
    signatures = [each.served._model.signatures for each in (stored, rounded)]
    assert sorted(signatures[0]) == sorted(signatures[1])
    chunk = {"audio": tf.constant(np.random.default_rng(1).uniform(-1, 1, (3, 4_000)), tf.float32)}
    for each in sorted(signatures[0]):
        given = {model.source_tokenizer.content.input_name: tf.constant(contents)}
        if each == "complete":
            given["prefix"] = tf.constant(["", "A", "S"])
        if each == "stream_begin":
            given = {"rows": tf.constant(3)}
        if each == "stream":
            state = signatures[0]["stream_begin"](rows=tf.constant(3))
            given = chunk | {k: v for k, v in state.items() if k != "rate_hz"}
        found, expected = (some[each](**given) for some in signatures)
        for output, value in expected.items():
            if value.dtype.is_floating:
                np.testing.assert_allclose(found[output], value, rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(found[output], value)
    assert precision in (stored / "model_card.md").read_text()
    if name == "transformer":
        texts = [base64.b64encode(text.encode()).decode() for text in contents]
        ((eager, session),) = python(LOADERS, "text", "", json.dumps(texts), stored)
        assert eager["text"] == session["text"] == stored.served(contents)


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`precision` must be .*bfloat16_weights"):
        export.save(transformer(), tmp_path / "1", precision="int4")
