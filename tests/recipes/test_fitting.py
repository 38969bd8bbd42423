"""A training whose loss is no number says which files it was reading."""

import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching
from kzoo.training import callbacks
from recipes.runs import fitting, folder

NAMES = [f"clips/{number}.wav" for number in range(50)]


def batches(bad, size):
    """Batches of clips of one frame, of which those at `bad` are no numbers."""
    frames = [np.full((1, 3), np.nan if number in bad else 0.5, "float32") for number in range(50)]
    target = tf.RaggedTensor.from_tensor(tf.ones((50, 1), tf.int32))
    named = batching.frame_batches(frames, target, 2 * size, seed=7, names=NAMES)
    return named.map(lambda inputs, labels: (inputs, inputs["source"][:, 0, :1]))


def train(dataset, run, scores=(1.0,), minutes=1.0):
    scores = iter(scores)
    source = keras.Input((None, 3), name="source")
    rest = keras.Input((None,), name="source_mask"), keras.Input((None,), name="target")
    y = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(source))
    inputs = {"source": source, "source_mask": rest[0], "target": rest[1]}
    model = keras.Model(inputs, y)
    model.compile("sgd", "mse")
    config = SimpleNamespace(
        epochs=9,
        minutes=minutes,
        average=0,
        patience=9,
        warmup_steps=0,
        save_minutes=9.0,
        dry_run=False,
    )
    run.mkdir(exist_ok=True)
    validation = dataset.map(without_names)
    fitting.train(model, dataset, validation, lambda: next(scores, 1.0), run, config, "val_score")


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


class Minutes:
    """A clock whose every look takes a minute."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        self.seconds += 60
        return self.seconds


def test_a_training_that_its_minutes_end_while_the_score_rises_says_so(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(callbacks, "time", Minutes())
    train(batches(set(), 25), tmp_path / "run", [3.0, 11.0, 7.0, 12.5, 14.0, 18.0], minutes=14.5)
    epochs = len((tmp_path / "run/journal.jsonl").read_text().split())
    said = (tmp_path / "run" / folder.RISING).read_text()
    assert said in capsys.readouterr().out
    assert re.fullmatch(
        r"The 14\.5 minutes were over after [3-6] epochs, while val_score still rose: "
        r"(\d+\.\d\d, ){2}\d+\.\d\d in the last ones, \+\d\.\d\d an epoch\.\n",
        said,
    ), (said, epochs)


@pytest.mark.parametrize(
    ("scores", "figures"),
    [
        ([1.0, 2.0], "1.00, 2.00 in the last ones, +1.00 an epoch"),
        ([1.0, 5.0, 2.0, 6.0, 5.5], "2.00, 6.00, 5.50 in the last ones, +0.17 an epoch"),
        ([1.0, 5.0, 2.0, 6.0, 4.0], None),
        ([3.0], None),
        ([3.0, 2.0], None),
        ([1.0, 9.0, 7.0, 8.0, 9.0], None),
    ],
)
def test_a_score_rises_if_one_of_the_last_three_epochs_is_best_and_they_rise_on_the_whole(
    scores, figures, tmp_path, capsys
):
    fitting.say_if_rising(scores, tmp_path, "val_bleu", 30.0)
    said = capsys.readouterr().out
    assert (tmp_path / folder.RISING).exists() == (figures is not None)
    if figures is not None:
        assert f"30 minutes were over after {len(scores)} epochs, while val_bleu still" in said
        assert figures in said
    else:
        assert not said


def test_a_training_that_ends_by_its_epochs_says_nothing_of_minutes(tmp_path):
    train(batches(set(), 25), tmp_path / "run", range(1, 20))
    assert not (tmp_path / "run" / folder.RISING).exists()
