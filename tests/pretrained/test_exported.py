"""A SavedModel of kzoo becomes the Keras model again that it was written from."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import pretrained
from kzoo.export import manifest
from kzoo.pretrained import exported

TEXTS = ["two dogs run", "three cats sleep", "a red bird sings"]
SOURCE = tf.constant([[4, 5, 6, 2], [7, 8, 2, 0]])


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    words = kzoo.WordTokenizer.learn(TEXTS, 20)
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = kzoo.zoo.rnn_luong(words, words, units=8)
    finally:
        keras.config.set_dtype_policy(policy)
    model({"source": SOURCE, "target": tf.constant([[1, 4], [1, 5]])})
    model.encoder.trainable = False
    return model


@pytest.fixture(scope="module", params=["float32", "bfloat16_weights", "int8_weights", "bfloat16"])
def folder(request, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "luong"
    kzoo.export.save(
        model, folder / "1", signatures=["serving_default"], max_length=7,
        precision=request.param,
    )  # fmt: skip
    return folder


def test_the_weights_and_the_texts_are_those_of_before(model, folder):
    again = exported.from_saved_model(folder)
    rounds = "bfloat16" in str(folder)
    for old, new in zip(model.weights, again.weights, strict=True):
        expected = tf.cast(tf.cast(old, tf.bfloat16), tf.float32) if rounds else old.value
        if "int8" in str(folder) and len(old.shape) > 1:
            step = np.abs(old).max() / 127
            np.testing.assert_allclose(new, old, atol=step / 2 + 1e-7)
            assert len(np.unique(new)) > 2
        else:
            np.testing.assert_array_equal(new, expected)
    assert again.compute_dtype == "float32" and again.encoder.compute_dtype == "float32"
    assert not again.encoder.trainable and again.decoder.trainable
    assert again.source_tokenizer is again.target_tokenizer
    options = {"beam_size": 4, "max_length": 7, "max_source_length": 256, "length_penalty": 0.6}
    if not rounds:
        served = kzoo.load(folder)
        assert again.text_generator(**options)(TEXTS) == served(TEXTS)


def test_a_model_of_the_zoo_is_loaded_by_its_name_and_its_files_are_checked(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("KZOO_MODELS", str(tmp_path))
    path = tmp_path / "tiny-luong/1"
    shutil.copytree(folder / "1", path)
    facts = ["data", "BSD", "python -m recipes.x", "2.0 minutes of training", 11]
    manifest.write(path, manifest.Manifest("tiny-luong", "translation", ["en"], *facts))
    again, expected = (pretrained.load(each) for each in ("tiny-luong", folder))
    for weight, other in zip(again.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    (path / "model_card.md").write_text("not the one of the manifest")
    with pytest.raises(ValueError, match=r"model_card\.md has changed"):
        pretrained.load("tiny-luong")


def test_it_trains_further(folder):
    again = exported.from_saved_model(folder)
    again.compile("sgd")
    history = again.fit({"source": SOURCE, "target": SOURCE}, SOURCE, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_what_cannot_be_made_again_is_refused_with_its_file(model, tmp_path):
    kzoo.export.save(model, tmp_path / "1", signatures=["serving_default"], max_length=5)
    file = tmp_path / "1/model.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    nobody = {**content["model"], "class_name": "Nobody", "registered_name": "kzoo>Nobody"}
    for change, message in (
        (None, f"{tmp_path / '1'} must hold model.json"),
        ("{", f"{file}: expected what kzoo.export.save writes"),
        ({"model": nobody}, f"{file}: cannot make the model"),
        ({"weights": content["weights"][:-1]}, f"{file}: the model must have"),
        ({"variables": [*(None for _ in content["variables"]), 0]}, "is missing"),
        ({"variables": content["variables"][::-1]}, "must have shape"),
    ):
        if change is None:
            file.rename(tmp_path / "elsewhere")
        else:
            is_text = isinstance(change, str)
            file.write_text(change if is_text else json.dumps(content | change), encoding="utf-8")
        with pytest.raises(ValueError, match=re.escape(message)):
            exported.from_saved_model(tmp_path / "1")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        exported.from_saved_model(tmp_path / "nowhere")
