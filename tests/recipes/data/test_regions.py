"""Pixels and features of picture files: computed once, kept on disk, as the model has them."""

import io
import os
import re
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from picture_files import REFUSED, VARIANTS

from kzoo import image, zoo
from kzoo.image import ImageSource, backbones
from kzoo.text import WordTokenizer
from recipes.data import files, regions

SIZE = 48


class Row(NamedTuple):
    path: Path
    place: str


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def rows(tmp_path):
    found, random = [], np.random.default_rng(0)
    kinds = (("JPEG", 60, 80), ("PNG", 90, 40), ("BMP", 33, 36), ("GIF", 12, 16), ("PNG", 3, 4))
    for number, (kind, height, width) in enumerate(kinds):
        patches = random.uniform(0, 255, (3, 4, 3))
        pixels = np.uint8(np.kron(patches, np.ones((height // 3, width // 4, 1))))
        path = tmp_path / f"{number}.{kind.lower()}"
        PIL.Image.fromarray(pixels).save(path, kind)
        found.append(Row(path, f"list:{number}"))
    return found


@pytest.fixture
def backbone():
    keras.utils.set_random_seed(1)
    network = backbones.small_resnet(SIZE, widths=(3, 5, 7))
    network.trainable = False
    return network


def squares(rows):
    return image.decode_batch([row.path.read_bytes() for row in rows], SIZE)


def test_pixels_are_those_that_the_served_model_sees_but_for_rounding(rows):
    pixels, found = regions.decode(rows, SIZE)
    assert found.tolist() == [0, 1, 2, 3, 4]
    assert pixels.dtype == np.uint8 and pixels.shape == (5, SIZE, SIZE, 3)
    np.testing.assert_allclose(pixels, squares(rows), atol=0.51)


def test_training_and_serving_have_equal_pixels_and_refusals_of_every_kind_of_file(tmp_path):
    """`_mapped` is what `decode`, `extract` and `readable` train on."""
    spec = tf.TensorSpec([], tf.string)
    serve = tf.function(image.decode, input_signature=[spec], autograph=False)
    contents = [*VARIANTS.values(), *(content for content, _ in REFUSED.values())]
    rows = [Row(tmp_path / str(number), f"list:{number}") for number in range(len(contents))]
    for row, content in zip(rows, contents, strict=True):
        row.path.write_bytes(content)
    refused = 0
    for trained, content in zip(regions._mapped(rows, lambda x: x), contents, strict=True):
        if isinstance(trained, str):
            refused += 1
            with pytest.raises(tf.errors.InvalidArgumentError) as error:
                serve(tf.constant(content))
            assert trained == files.refusal(error.value)
        else:
            np.testing.assert_array_equal(trained, serve(tf.constant(content)))
    assert refused == len(REFUSED)


def test_features_are_those_of_the_backbone(rows, backbone, monkeypatch):
    monkeypatch.setattr(regions, "BATCH", 2)  # 2, 2 and 1
    features = regions.extract(rows, backbone).values
    assert features.dtype == np.float16 and features.shape == (5, 36, 7)
    expected = backbone(squares(rows)).numpy().reshape(5, 36, 7)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["show_attend_tell", "captioning_transformer"])
def test_a_model_answers_to_features_as_to_the_pictures_that_they_are_of(name, rows, backbone):
    words = WordTokenizer.learn(["a frog above a mango"], 11)
    model = getattr(zoo, name)(ImageSource(SIZE), words, backbone, units=8)
    target = tf.constant([[1, 4, 5, 6]] * 5)
    served = model({"source": squares(rows), "target": target})["logits"]
    features = tf.cast(regions.extract(rows, backbone).values, tf.float32)
    trained = model({"source": features, "target": target})["logits"]
    np.testing.assert_allclose(trained, served, atol=5e-3)


def test_both_are_computed_once_for_the_same_files_and_settings(rows, backbone, monkeypatch):
    reads = []
    pixels = regions._pixels
    monkeypatch.setattr(regions, "_pixels", lambda *args: reads.append(args) or pixels(*args))
    first = regions.extract(rows, backbone).values
    again = regions.extract(rows, backbone).values
    np.testing.assert_array_equal(first, again)
    assert len(reads) == 1
    regions.decode(rows, SIZE)
    regions.decode(rows, SIZE)
    assert len(reads) == 2
    regions.decode(rows, 32)
    regions.decode(rows[1:], SIZE)
    assert len(reads) == 4
    backbone.layers[2].set_weights([weight + 1 for weight in backbone.layers[2].get_weights()])
    assert np.abs(regions.extract(rows, backbone).values - first).max() > 0
    os.utime(rows[0].path, (0, 0))  # another file of the same name
    regions.extract(rows, backbone)
    assert len(reads) == 6
    monkeypatch.setattr(regions, "FORMAT", 0)
    regions.extract(rows, backbone)
    assert len(reads) == 7


def test_two_networks_of_equal_weights_have_features_of_their_own(rows):
    def features(scale):
        pixels = keras.Input((SIZE, SIZE, 3))
        scaled = keras.layers.Rescaling(scale, name="scale")(pixels)
        return regions.extract(rows, keras.Model(pixels, scaled, name="network")).values

    np.testing.assert_allclose(features(0.5), 5 * features(0.1), rtol=2e-3, atol=1e-3)


def not_a_picture(kind):
    stream = io.BytesIO()
    PIL.Image.new("RGB", (99, 99)).save(stream, "JPEG")
    return {"sound": b"RIFF and a sound", "truncated": stream.getvalue()[:300], "empty": b""}[kind]


@pytest.mark.parametrize("kind", ["sound", "truncated", "empty", "missing"])
def test_what_is_no_picture_is_left_out_and_said_each_time(kind, rows, backbone, capfd):
    whole = regions.extract(rows, backbone).values
    for row in (1, 3):
        rows[row].path.unlink()
        if kind != "missing":
            rows[row].path.write_bytes(not_a_picture(kind))
    capfd.readouterr()
    for _ in range(2):  # computed and kept
        for compute in (
            lambda: regions.decode(rows, SIZE),
            lambda: regions.extract(rows, backbone),
        ):
            values, kept = compute()
            assert kept.tolist() == [0, 2, 4] and len(values) == 3
            said = capfd.readouterr().err
            assert "Left out: 2 of 5 pictures cannot be read, the first is list:1: exp" in said
            assert re.search(r"expected a picture in .*1\.png: \S", said)
            assert "{{" not in said and "Iterator" not in said
    np.testing.assert_allclose(values, whole[[0, 2, 4]], rtol=1e-3, atol=1e-3)
    assert regions.readable(rows) == [0, 2, 4]
    assert "Left out: 2 of 5 pictures" in capfd.readouterr().err


def test_a_picture_whose_refusal_quotes_what_is_no_text_is_left_out(rows, tmp_path, capfd):
    content = bytearray(rows[1].path.read_bytes())
    content[12] = 0xC9  # where the name of the first chunk begins
    bad = rows[1]._replace(path=tmp_path / "bad.png")
    bad.path.write_bytes(content)
    assert regions.readable([*rows[:2], bad]) == [0, 1]
    assert "bad.png: a PNG must begin with IHDR" in capfd.readouterr().err


def test_a_picture_is_read_again_when_its_file_has_changed(rows):
    content = rows[1].path.read_bytes()
    rows[1].path.write_bytes(b"")
    assert len(regions.decode(rows, SIZE).values) == 4
    rows[1].path.write_bytes(content)
    assert len(regions.decode(rows, SIZE).values) == 5


def test_where_no_picture_can_be_read_the_first_is_named_and_nothing_is_kept(rows, backbone, cache):
    for row in rows:
        row.path.write_bytes(b"RIFF and a sound")
    message = r"list:0: expected a picture in .*0\.jpeg: \S.*none of 5 pictures can be read"
    for compute in (
        lambda: regions.decode(rows, SIZE),
        lambda: regions.extract(rows, backbone),
        lambda: regions.readable(rows),
    ):
        with pytest.raises(ValueError, match=message):
            compute()
    assert list((cache / "regions").iterdir()) == []


def test_features_too_large_for_their_numbers_are_refused(rows):
    pixels = keras.Input((SIZE, SIZE, 3))
    network = keras.Model(pixels, keras.layers.Rescaling(1e6)(pixels), name="loud")
    with pytest.raises(ValueError, match=r"float16 can hold, at most 65,504, got \d+\.0 from loud"):
        regions.extract(rows, network)


def test_no_pictures_make_no_rows(backbone):
    assert regions.decode([], SIZE).values.shape == (0, SIZE, SIZE, 3)
    assert regions.extract([], backbone).values.shape == (0, 36, 7)
    assert regions.readable([]) == []
