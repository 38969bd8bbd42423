"""Callbacks: budgets, scores, the journal, the last weights, and a run that is killed."""

import json
import math
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import training

X, Y = np.arange(12.0).reshape(6, 2), np.arange(6.0)


def make_model(rate=0.001):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    return model


def fit(model, *used, epochs=3, **kwargs):
    return model.fit(X, Y, batch_size=3, epochs=epochs, verbose=0, callbacks=[*used], **kwargs)


class AfterEpoch(keras.callbacks.Callback):
    """Calls a function with the number of each finished epoch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_epoch_end(self, epoch, logs=None):
        self.function(epoch)


# BudgetDecay


def test_the_rate_rises_to_its_peak_and_falls_to_0_with_the_budget_of_time_or_steps():
    decay = training.BudgetDecay(0.8, warmup_steps=4, minutes=10.0, steps=100, spent=1.0)
    # 1 of 10 minutes is spent before, then 4 more; 0, 1 or 80 of 100 steps are done.
    assert decay.rate(n=1, minutes=0.0) == pytest.approx(0.8 * 1 / 4 * 0.9)
    assert decay.rate(n=2, minutes=4.0) == pytest.approx(0.8 * 2 / 4 * 0.5)
    assert decay.rate(n=81, minutes=4.0) == pytest.approx(0.8 * 0.2)
    assert decay.rate(n=101, minutes=4.0) == decay.rate(n=7, minutes=99.0) == 0.0
    assert training.BudgetDecay(0.8, 4, minutes=0.0, steps=5).rate(1, 0.0) == 0.0


def test_the_rate_of_a_budget_is_that_of_each_step_and_goes_on_in_a_resumed_run():
    model, rates = make_model(), []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    for _ in range(2):  # 3 epochs of 2 steps each
        fit(model, training.BudgetDecay(1e-6, 2, minutes=1e9, steps=12), note)
    expected = [min(1, n / 2) * (1 - (n - 1) / 12) for n in range(1, 13)]
    np.testing.assert_allclose(rates, 1e-6 * np.array(expected), rtol=1e-4)


@pytest.mark.parametrize("name", ["peak", "warmup_steps", "steps"])
def test_a_rate_of_a_budget_needs_positive_numbers(name):
    numbers = {"peak": 0.1, "warmup_steps": 1, "minutes": 1.0, "steps": 1}
    with pytest.raises(ValueError, match=f"`{name}`.* must be .*{name}=0"):
        training.BudgetDecay(**numbers | {name: 0})


# TimeBudget


def test_a_spent_budget_ends_training_after_one_batch_and_closes_the_epoch():
    model = make_model()
    history = fit(model, training.TimeBudget(5.0, spent=5.0), validation_data=(X, Y))
    assert int(model.optimizer.iterations) == 1
    assert [len(values) for values in history.history.values()] == [1, 1]  # loss, val_loss


def test_a_budget_ends_training_when_its_time_is_up():
    budget = training.TimeBudget(minutes=60.0)

    def exhaust(epoch):
        if epoch == 1:
            budget.deadline = time.monotonic() - 1

    history = fit(make_model(), budget, AfterEpoch(exhaust), epochs=5)
    assert history.epoch == [0, 1, 2]


# FiniteLoss


def test_training_ends_at_the_first_loss_that_is_no_number_and_knows_the_step():
    finite, seen = training.FiniteLoss(), []
    fit(make_model(), finite, AfterEpoch(seen.append))
    assert finite.step is None
    assert seen == [0, 1, 2]
    y = np.where(np.arange(6) == 4, np.nan, Y)
    model = make_model()
    model.fit(X, Y, batch_size=3, verbose=0)
    history = model.fit(X, y, batch_size=3, epochs=3, verbose=0, shuffle=False, callbacks=[finite])
    assert finite.step == 1
    assert history.epoch == [0]
    fit(make_model(), finite)
    assert finite.step is None


# ValidationScore


def test_a_score_can_be_monitored_by_the_callbacks_after_it(tmp_path):
    scores = iter([5.0, 7.0, 6.0, 3.0, 11.0])
    model, kept = make_model(), []
    history = fit(
        model,
        training.ValidationScore("val_score", lambda: next(scores)),
        AfterEpoch(lambda epoch: kept.append(model.get_weights())),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5",
            monitor="val_score",
            mode="max",
            save_best_only=True,
            save_weights_only=True,
        ),
        keras.callbacks.EarlyStopping("val_score", mode="max", patience=2),
        epochs=5,
    )
    assert history.history["val_score"] == [5.0, 7.0, 6.0, 3.0]
    model.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_array_equal(model.get_weights()[0], kept[1][0])


# Journal


def lines_of(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def test_a_journal_holds_a_line_for_each_epoch(tmp_path):
    path = tmp_path / "journal.jsonl"
    history = fit(make_model(), training.Journal(path), validation_data=(X, Y)).history
    lines = lines_of(path)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert training.Journal(path).history() == history
    minutes = [line["minutes"] for line in lines]
    assert minutes == sorted(minutes)


def test_a_journal_goes_on_where_it_stopped_even_in_half_a_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text(
        '\n{"epoch": 1, "minutes": 1.5, "loss": 3.0}'
        '\n{"epoch": 2, "minutes": 2.5, "loss": 2.0, "val_bleu": 7.0}'
        '\n{"epoch": 3, "minutes": 3.5, "lo'
    )
    journal = training.Journal(path)
    assert journal.minutes == 2.5
    assert journal.epochs == 2
    loss = fit(make_model(), journal, epochs=4, initial_epoch=2).history["loss"]
    resumed = training.Journal(path)
    assert resumed.minutes >= 2.5
    assert resumed.history() == {
        "loss": [3.0, 2.0, *loss],
        "val_bleu": [None, 7.0, None, None],
    }


def test_of_an_epoch_run_twice_the_later_line_counts(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text(
        '{"epoch": 1, "minutes": 1, "loss": 5.0}\n{"epoch": 3, "minutes": 2, "loss": 3.0}\n'
        '{"epoch": 3, "minutes": 4, "loss": 2.0}'
    )
    assert training.Journal(path).history() == {"loss": [5.0, None, 2.0]}


def test_the_best_value_is_the_highest(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text(
        '{"epoch": 1, "minutes": 1, "val_bleu": 5.0}\n{"epoch": 2, "minutes": 2}\n'
        '{"epoch": 3, "minutes": 3, "val_bleu": 3.0}'
    )
    journal = training.Journal(path)
    assert journal.best("val_bleu") == 5.0
    assert journal.best("val_chrf") is None


def test_a_new_journal_is_empty(tmp_path):
    journal = training.Journal(tmp_path / "journal.jsonl")
    assert (journal.minutes, journal.history(), journal.best("loss")) == (0.0, {}, None)


@pytest.mark.parametrize(
    "line",
    [
        b"not a journal",
        b"[1, 2]",
        b"7",
        b'{"minutes": 1.0}',
        b'{"epoch": 2}',
        b'{"epoch": "2", "minutes": 1.0}',
        b'{"epoch": true, "minutes": 1.0}',
        b'{"epoch": 0, "minutes": 1.0}',
        b'{"epoch": 2, "minutes": null}',
        b'{"epoch": 2, "minutes": 1.0, "loss": "x"}',
        b"\x00\x00\x00",
        b'\xff{"epoch": 2, "minutes": 1.0}',
        100_000 * b"[",
        100_000 * b'{"a":',
    ],
)
def test_a_spoilt_journal_is_named_with_its_line(line, tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'\n{"epoch": 1, "minutes": 1.5}\n' + line + b'\n{"epoch": 3, "minutes": 3}')
    with pytest.raises(
        ValueError, match=r"journal\.jsonl:3: expected a JSON object with epoch, min"
    ):
        training.Journal(path)


@pytest.mark.parametrize(
    "line", [b"{", b'{"epo', b'{"epoch": 2', b'{"epoch": 2, "minutes": 1.5, "\xc3']
)
def test_half_a_line_of_a_killed_process_is_passed_over(line, tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'\n{"epoch": 1, "minutes": 1.5}\n' + line)
    assert training.Journal(path).epochs == 1


# LastWeights


def test_weights_of_an_epoch_that_are_cut_or_spoilt_are_named(tmp_path):
    last, path = training.LastWeights(tmp_path, count=2), tmp_path / "epoch-000002.npz"
    np.savez(tmp_path / "epoch-000001.npz", np.ones([2, 3]), np.ones(5))
    np.savez(path, np.ones([2, 3]), np.ones(5))
    assert [array.shape for array in last.average()] == [(2, 3), (5,)]
    whole = path.read_bytes()
    spoilt = [whole[:size] for size in range(0, len(whole), 7)]
    spoilt += [whole[:at] + b"\xff" + whole[at + 1 :] for at in range(30, len(whole) - 22, 11)]
    for content in (*spoilt, b"\x93NUMPY", b"[]"):
        path.write_bytes(content)
        try:
            last.average()
        except ValueError as error:
            assert str(error).startswith(f"{path}: expected the weights of an epoch, got ")
        else:
            assert len(content) == len(whole)  # a byte that nothing depends on
    np.savez(path, np.ones([2, 3]), np.ones(7))
    with pytest.raises(
        ValueError, match=r"epoch-000002\.npz: expected the weights of an epoch, got"
    ):
        last.average()


def test_weights_in_bfloat16_come_back_and_are_averaged(tmp_path):
    layers = [keras.Input([3]), keras.layers.Dense(2, dtype="bfloat16")]
    model = keras.Sequential(layers)
    best, last = training.BestWeights(tmp_path / "a.npz", "x"), training.LastWeights(tmp_path, 2)
    for written in (best, last):
        written.set_model(model)
        written.on_epoch_end(0, {"x": 1.0})
    expected = [np.float32(w) for w in model.get_weights()]
    model.set_weights([0 * w for w in model.get_weights()])
    best.restore(model)
    for mean, weight, value in zip(last.average(), model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(np.float32(weight), value)
        np.testing.assert_array_equal(mean, value)


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    best = training.BestWeights(tmp_path / "best.npz", "x")
    best.set_model(model)
    for value, expected in ((math.nan, None), (-3.0, -3.0), (math.nan, -3.0), (2.0, 2.0)):
        best.on_epoch_end(0, {"x": value})
        assert best.best == expected
    path = tmp_path / "journal.jsonl"
    lines = ({"epoch": n, "minutes": 1.0, "x": x} for n, x in ((1, math.nan), (2, -3.0)))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert training.Journal(path).best("x") == -3.0 and training.Journal(path).best("y") is None


def test_the_last_weights_are_kept_and_averaged(tmp_path):
    model, kept = make_model(), []
    last = training.LastWeights(tmp_path / "last", count=3)
    fit(model, AfterEpoch(lambda epoch: kept.append(model.get_weights())), last, epochs=5)
    assert [path.name for path in last.paths()] == [f"epoch-{epoch:06d}.npz" for epoch in (3, 4, 5)]
    for mean, *values in zip(last.average(), *kept[2:], strict=True):
        np.testing.assert_allclose(mean, np.mean(values, 0), rtol=1e-6)
    model.set_weights(last.average())


def test_a_count_of_zero_keeps_no_weights(tmp_path):
    last = training.LastWeights(tmp_path, count=0)
    fit(make_model(), last)
    assert last.paths() == []


def test_no_weights_have_no_average(tmp_path):
    message = f"`folder` holds no weights of an epoch, got {tmp_path}."
    with pytest.raises(ValueError, match=re.escape(message)):
        training.LastWeights(tmp_path, count=2).average()


def test_a_negative_count_is_refused(tmp_path):
    message = "`count` must not be negative, got count=-1."
    with pytest.raises(ValueError, match=re.escape(message)):
        training.LastWeights(tmp_path, count=-1)


# A run that is killed


def run(folder, epochs, killed_in=None):
    """What recipes.translation wires up, on a small model; may die in an epoch (from 0)."""
    keras.utils.set_random_seed(3)
    model = make_model()
    model.optimizer.build(model.trainable_variables)
    journal = training.Journal(folder / "journal.jsonl")
    last = training.LastWeights(folder / "last", 2)

    class Killer(keras.callbacks.Callback):
        """Dies in the middle of an epoch."""

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == killed_in:
                raise KeyboardInterrupt

    backup = keras.callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=False)
    score = training.ValidationScore("val_score", lambda: float(model.optimizer.iterations))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)
    model.fit(
        data,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[training.TimeBudget(9.0, spent=journal.minutes), score, journal, last, backup,
                   Killer()],
    )  # fmt: skip
    return model, training.Journal(folder / "journal.jsonl"), last


def test_a_killed_run_goes_on_from_the_epoch_before_and_ends_as_if_nothing_had_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    model, journal, last = run(whole, epochs=5)
    with pytest.raises(KeyboardInterrupt):
        run(killed, epochs=5, killed_in=3)
    assert len(lines_of(killed / "journal.jsonl")) == 3
    resumed, resumed_journal, resumed_last = run(killed, epochs=5)
    assert [line["epoch"] for line in lines_of(killed / "journal.jsonl")] == [1, 2, 3, 4, 5]
    assert resumed_journal.history()["val_score"] == [2.0, 4.0, 6.0, 8.0, 10.0]
    losses = [each.history()["loss"] for each in (resumed_journal, journal)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for a, b in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    for a, b in zip(last.average(), resumed_last.average(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_finished_run_that_is_resumed_trains_no_more(tmp_path):
    run(tmp_path, epochs=2)
    model, _, _ = run(tmp_path, epochs=2)
    assert int(model.optimizer.iterations) == 4
    assert len(lines_of(tmp_path / "journal.jsonl")) == 2
