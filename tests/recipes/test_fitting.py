"""A training whose loss is no number says which files it was reading."""

import dataclasses
import itertools
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching, text, training
from kzoo.training import callbacks, checkpoints, kept_weights
from recipes import reverse, translation
from recipes.runs import fitting, folder

NAMES = [f"clips/{number}.wav" for number in range(50)]


def batches(bad, size):
    """Batches of clips of one frame, of which those at `bad` are no numbers."""
    frames = [np.full((1, 3), np.nan if number in bad else 0.5, "float32") for number in range(50)]
    target = tf.RaggedTensor.from_tensor(tf.ones((50, 1), tf.int32))
    named = batching.frame_batches(frames, target, 2 * size, seed=7, names=NAMES)
    return named.map(lambda inputs, labels: (inputs, inputs["source"][:, 0, :1]))


def train(dataset, run, scores=(1.0,), minutes=1.0, optimizer="sgd", epochs=9, valid=None):
    scores = iter(scores)
    source = keras.Input((None, 3), name="source")
    rest = keras.Input((None,), name="source_mask"), keras.Input((None,), name="target")
    y = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(source))
    inputs = {"source": source, "source_mask": rest[0], "target": rest[1]}
    model = keras.Model(inputs, y)
    model.compile(optimizer, "mse", jit_compile=False)
    config = SimpleNamespace(
        epochs=epochs,
        minutes=minutes,
        average=0,
        patience=9,
        warmup_steps=0,
        save_minutes=9.0,
        dry_run=False,
        tensorboard=None,
    )
    run.mkdir(exist_ok=True)
    validation = (valid or dataset).map(without_names)
    fitting.train(model, dataset, validation, lambda: next(scores, 1.0), run, config, "val_score")


def without_names(inputs, labels):
    return {key: value for key, value in inputs.items() if key != "name"}, labels


def test_a_dry_run_plans_what_a_run_that_goes_on_has_left(tmp_path, capsys):
    config = translation.Config(output=str(tmp_path), minutes=60.0, epochs=9, resume=True)
    assert fitting.what_a_run_has_left(config) is config  # there is no run yet
    done = checkpoints.Position(epoch=2, step=3, batches=23, minutes=55.0)
    checkpoints.write_position(tmp_path / folder.RUN_FOLDER / folder.CHECKPOINTS, done)
    left = fitting.what_a_run_has_left(config)
    assert (left.minutes, left.epochs) == (5.0, 7)
    assert "what is left behind batch 3 of epoch 3, after 55.0 minutes" in capsys.readouterr().out
    begun = dataclasses.replace(config, resume=False)
    assert fitting.what_a_run_has_left(begun) is begun
    toy = reverse.Config()  # which is never gone on with
    assert fitting.what_a_run_has_left(toy) is toy


def test_a_loss_that_is_no_number_names_the_files_of_its_batch(tmp_path):
    message = r"(?s)diverged in epoch 1: the loss is nan; first in the batch of (.*?); remove .*run"
    with pytest.raises(RuntimeError, match=message) as caught:
        train(batches({31}, 5), tmp_path / "run")
    said = str(caught.value)
    assert said.count("clips/") == 5
    assert "clips/31.wav" in said
    assert not (tmp_path / "run/fitted").exists()


def test_of_many_files_the_first_are_named_and_all_are_listed(tmp_path, capsys):
    with pytest.raises(
        RuntimeError, match=r"(clips/\d+.wav, ){7}clips/\d+.wav and 42 more, listed above; remove"
    ):
        train(batches({31}, 50), tmp_path / "run")
    listed = capsys.readouterr().out.partition("The batch:")[2].split()
    assert sorted(listed) == sorted(NAMES)


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


def test_a_batch_without_gradients_is_left_out_and_counted(tmp_path, capsys):
    bad, whole = batches({31}, 5), batches(set(), 5)
    train(bad, tmp_path / "run", optimizer=training.FusedAdam(0.01), valid=whole)
    assert "9 steps were left out: their gradients were no numbers." in capsys.readouterr().out
    assert (tmp_path / "run/fitted").exists()


@pytest.mark.parametrize(("size", "message"), [(1, "10 steps"), (50, "1 steps")])
def test_so_many_in_a_row_or_all_of_an_epoch_end_a_training(size, message, tmp_path):
    bad = set(range(50))
    with pytest.raises(RuntimeError, match=f"diverged in epoch 1: {message} in a row had grad"):
        train(batches(bad, size), tmp_path / "run", optimizer=training.FusedAdam(0.01), epochs=1)
    assert not (tmp_path / "run/fitted").exists()


def test_a_validation_loss_that_no_model_has_is_no_success(tmp_path):
    with pytest.raises(RuntimeError, match=r"diverged in epoch 1: the validation loss is .*e\+"):
        train(batches(set(), 50), tmp_path / "run", optimizer=training.FusedAdam(1e9), epochs=1)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (None, ["'dogs'", "'red cats'"]),
        (["", "a.tsv:12"], ["'red cats'", "a.tsv:12 'dogs'"]),
    ],
)
def test_texts_of_a_batch_are_named_by_their_lines_and_what_they_say(lines, expected):
    tokenizer = text.WordTokenizer.learn(["red cats", "green dogs"], 11)
    corpus = batching.Corpus(*[tokenizer.tokenize(["red cats", "dogs"])] * 2)
    corpus = corpus._replace(names=None if lines is None else tf.constant(lines))
    names = fitting.NamesOfBatches(tokenizer)
    stream = fitting.numbered(batching.token_batches(corpus, 99), 7, names, None)
    assert [*next(iter(stream))[0]] == ["source", "target"]
    assert sorted(names.of(0)) == expected
    assert names.of(None) == []


def test_an_example_that_breaks_in_the_middle_is_said_with_what_is_left(tmp_path):
    def read(source):
        if calls := next(counter) == 45:
            raise ValueError(f"clips/31.wav: expected a WAV file, got {calls}.")
        return source

    counter = itertools.count()
    dataset = batches(set(), 5)
    broken = dataset.map(
        lambda inputs, labels: (
            inputs
            | {
                "source": tf.ensure_shape(
                    tf.numpy_function(read, [inputs["source"]], tf.float32), (None, None, 3)
                )
            },
            labels,
        )
    )
    broken = broken.apply(tf.data.experimental.assert_cardinality(int(dataset.cardinality())))
    message = (
        r"^a batch could not be computed: ValueError: clips/31.wav: expected a WAV file, got "
        r"True\. The last checkpoint in .*run is of the begin of epoch \d, after \d\.\d minutes: "
        r"the same command with --resume goes on from there\.$"
    )  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        train(broken, tmp_path / "run")


def test_a_full_disk_is_said_with_what_is_left(tmp_path, monkeypatch):
    writes = itertools.count()

    def full(number):
        if next(writes) == 6:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_weights.os, "fsync", full)
    with pytest.raises(RuntimeError, match=r"could not be written .*No space left on device\. The"):
        train(batches(set(), 25), tmp_path / "run")
    found = [path.name for path in tmp_path.rglob("*") if path.name.startswith("part.")]
    assert not found


def test_epochs_that_no_checkpoint_knows_are_run_again(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    lines = [f'{{"epoch": {n}, "minutes": {n}.0, "loss": 1.0, "val_score": 9.0}}' for n in (1, 2)]
    (run / "journal.jsonl").write_text("\n".join(lines) + "\n")
    train(batches(set(), 25), run, epochs=3)
    journal = training.Journal(run / "journal.jsonl")
    assert journal.history()["val_score"] == [1.0] * 3
    assert journal.minutes < 1.0
    said = capsys.readouterr().out
    assert said.startswith(f"There is no whole checkpoint in {run}: the training begins anew.")
