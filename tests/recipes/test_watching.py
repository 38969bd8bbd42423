"""What TensorBoard is given of a run."""

import keras
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

import kzoo
from kzoo import batching, text
from recipes import translation
from recipes.runs import fitting, watching


@pytest.fixture(scope="module")
def tokenizer():
    return text.WordTokenizer.learn(["red cats", "two green dogs"], 11)


@pytest.fixture
def batches(tokenizer):
    ids = tokenizer.tokenize(["red cats", "two green dogs", "dogs", "cats", "two"])
    return batching.token_batches(batching.Corpus(ids, ids), 99)


def values_of(folder):
    """{tag: [value of each step]} of the files in a folder."""
    found = {}
    for record in tf.data.TFRecordDataset([str(path) for path in folder.iterdir()]):
        for value in event_pb2.Event.FromString(record.numpy()).summary.value:
            found.setdefault(value.tag, []).append(tf.make_ndarray(value.tensor))
    return found


def test_losses_rate_answers_and_attention_of_every_epoch_are_written(tokenizer, batches, tmp_path):
    model = kzoo.zoo.transformer_tiny(tokenizer, tokenizer, num_layers=1)
    model.compile(kzoo.FusedAdam(0.25))
    board = watching.Board(tmp_path, batches, 5)
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[board]).history
    found = values_of(tmp_path)
    assert [float(value) for value in found["loss"]] == pytest.approx(history["loss"])
    assert [float(value) for value in found["learning_rate"]] == [0.25, 0.25]
    rows = found["answers"][1].item().decode().splitlines()
    assert rows[0] == "| answer | reference |" and len(rows) == 2 + watching.ROWS
    references = {row.split(" | ")[-1].removesuffix(" |") for row in rows[2:]}
    assert references < {"red cats", "two green dogs", "dogs", "cats", "two"}
    width, height, *pictures = found["attention"][1]
    assert len(pictures) == watching.ROWS
    for picture in pictures:
        assert tf.io.decode_png(picture).shape == (int(height), int(width), 1)
    assert int(width) in (8 * 3, 8 * 4) and 8 <= int(height) <= 8 * 5


def test_answers_of_a_model_that_copies_are_written(tokenizer, tmp_path):
    texts = ["red cats", "blue cats"]
    corpus = batching.copying_corpus(tokenizer, tokenizer, texts, texts)
    model = kzoo.zoo.copying_transformer(tokenizer, tokenizer, num_layers=1)
    model.compile(kzoo.FusedAdam(0.01))
    batches = batching.token_batches(corpus, 99)
    board = watching.Board(tmp_path, batches, 4)
    model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[board])
    rows = values_of(tmp_path)["answers"][0].item().decode().splitlines()
    assert len(rows) == 2 + len(texts) and any("red cats |" in row for row in rows)


def test_a_profile_is_of_some_batches(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(tf.profiler.experimental, "start", lambda folder: calls.append("start"))
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: calls.append("stop"))
    for batches, expected in ((20, []), (25, ["start", "stop"]), (45, ["start", "stop"])):
        calls.clear()
        profile = watching.Profile(tmp_path)
        for batch in range(batches):
            profile.on_train_batch_begin(batch)
        profile.on_train_end()
        assert calls == expected


def test_callbacks_are_there_if_a_flag_asks_for_them(batches, tmp_path):
    assert fitting.watching(translation.Config(), batches) == []
    config = translation.Config(tensorboard=str(tmp_path), profile=True)
    run = tmp_path / "out" / fitting.RUN_FOLDER
    found = fitting.watching(config, batches, run)
    assert found[0].folder == tmp_path
    assert fitting.watching(config, batches, run / "first")[0].folder == tmp_path / "first"
    assert [type(each) for each in found] == [watching.Board, watching.Profile]
    assert all(isinstance(each, keras.callbacks.Callback) for each in found)
    with pytest.raises(ValueError, match="`profile` needs tensorboard, got profile=True, tensor"):
        translation.Config(profile=True)
