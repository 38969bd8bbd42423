"""A training whose loss is no number says which files it was reading."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching
from recipes.runs import fitting

NAMES = [f"clips/{number}.wav" for number in range(50)]


def batches(bad, size):
    """Batches of clips of one frame, of which those at `bad` are no numbers."""
    frames = [np.full((1, 3), np.nan if number in bad else 0.5, "float32") for number in range(50)]
    target = tf.RaggedTensor.from_tensor(tf.ones((50, 1), tf.int32))
    named = batching.frame_batches(frames, target, 2 * size, seed=7, names=NAMES)
    return named.map(lambda inputs, labels: (inputs, inputs["source"][:, 0, :1]))


def train(dataset, run):
    source = keras.Input((None, 3), name="source")
    rest = keras.Input((None,), name="source_mask"), keras.Input((None,), name="target")
    y = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(source))
    inputs = {"source": source, "source_mask": rest[0], "target": rest[1]}
    model = keras.Model(inputs, y)
    model.compile("sgd", "mse")
    config = SimpleNamespace(epochs=9, minutes=1.0, average=0, patience=9, warmup_steps=0)
    run.mkdir()
    fitting.train(model, dataset, dataset.map(without_names), lambda: 1.0, run, config, "val_score")


def without_names(inputs, labels):
    return {key: value for key, value in inputs.items() if key != "name"}, labels


def test_a_loss_that_is_no_number_names_the_files_of_its_batch(tmp_path):
    message = r"(?s)diverged in epoch 1: the loss is nan; first in the batch of (.*?); remove .*run"
    with pytest.raises(RuntimeError, match=message) as caught:
        train(batches({31}, 5), tmp_path / "run")
    said = str(caught.value)
    assert said.count("clips/") == 5
    assert "clips/31.wav" in said
    assert not (tmp_path / "run/fitted").exists()


def test_of_many_files_the_first_are_named(tmp_path):
    with pytest.raises(
        RuntimeError, match=r"(clips/\d+.wav, ){7}clips/\d+.wav and 42 more; remove"
    ):
        train(batches({31}, 50), tmp_path / "run")


def test_a_training_of_named_batches_ends_as_any_other(tmp_path):
    dataset = batches(set(), 5)
    names = [name.decode() for inputs, _ in dataset for name in inputs["name"].numpy()]
    assert sorted(names) == sorted(NAMES)
    train(dataset, tmp_path / "run")
    assert (tmp_path / "run/fitted").exists()
