"""A training that was ended by whatever goes on, and ends as if nothing had been."""

import json
import math
import os
import resource
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import training
from kzoo.training import checkpoints, kept_weights

STEPS, EPOCHS = 5, 3
X = np.random.default_rng(1).normal(size=(STEPS * EPOCHS, 7, 3)).astype("float32")


class Killed(Exception):
    pass


class Killer(keras.callbacks.Callback):
    """Ends a training after so many batches, or in a validation."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Killed

    def on_test_begin(self, logs=None):
        if self.left == 0.5:
            raise Killed


def make_model(optimizer=None):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(11, "relu"), keras.layers.Dropout(0.4), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input([3]), *layers])
    model.compile(optimizer or training.FusedAdam(0.01), "mse", jit_compile=False)
    return model


def train(folder, *others, minutes=1e-9, model=None, x=X, finite=None):
    """Trains with data that go on where the newest checkpoint was; returns the model and losses."""
    model = model or make_model()
    stopping = keras.callbacks.EarlyStopping("loss", patience=9)
    found = training.Checkpoints(folder, STEPS, minutes, keep=[(stopping, ["wait", "best"])])
    history = model.fit(
        tf.data.Dataset.from_tensor_slices((x, x[:, :, :1])).skip(found.position().batches),
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        validation_data=(X[0], X[0, :, :1]),
        callbacks=[found, finite or training.FiniteLoss(), stopping, *others],
    )
    return model, history.history["loss"], stopping


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(tmp_path_factory.mktemp("undisturbed") / "checkpoints")


def assert_equal(ended, undisturbed):
    for value, expected in zip(ended[0].variables, undisturbed[0].variables, strict=True):
        np.testing.assert_array_equal(value, expected)
    for one, other in zip(ended[0].optimizer.variables, undisturbed[0].optimizer.variables,
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    assert ended[1] == undisturbed[1][-len(ended[1]) :]  # of whole epochs, whose half was restored
    assert ended[2].best == undisturbed[2].best and ended[2].wait == undisturbed[2].wait


@pytest.mark.parametrize("batches", [1, 2, 4, 5, 6, 9, 10, 15])
def test_a_training_killed_after_any_batch_ends_with_the_same_weights(
    batches, tmp_path, undisturbed
):
    with pytest.raises(Killed):
        train(tmp_path, Killer(batches))
    assert checkpoints.position(tmp_path).batches == batches - 1
    assert_equal(train(tmp_path), undisturbed)


def test_a_training_killed_at_every_batch_ends_with_the_same_weights(tmp_path, undisturbed):
    for _ in range(STEPS * EPOCHS - 1):
        with pytest.raises(Killed):
            train(tmp_path, Killer(2))
    assert_equal(train(tmp_path), undisturbed)
    assert len(list(tmp_path.iterdir())) == 2


def test_metrics_of_compile_go_on_within_an_epoch(tmp_path):
    def run(folder, *others):
        model, found = make_model(), []
        model.compile(training.FusedAdam(0.01), "mse", metrics=["mae"], jit_compile=False)
        seen = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: found.append((logs["loss"], logs["mae"]))
        )
        train(folder, *others, seen, model=model)
        return found

    whole = run(tmp_path / "whole")
    for batches in (1, 3, 8):
        with pytest.raises(Killed):
            run(tmp_path / str(batches), Killer(batches))
        found = run(tmp_path / str(batches))
        np.testing.assert_allclose(found, whole[-len(found) :], rtol=1e-6)
        assert len(found) == (3 if batches < STEPS else 2)


def test_a_checkpoint_with_other_metrics_is_refused(tmp_path):
    model = make_model()
    model.compile(training.FusedAdam(0.01), "mse", metrics=["mae", "mape"], jit_compile=False)
    with pytest.raises(Killed):
        train(tmp_path, Killer(3), model=model)
    model = make_model()
    model.compile(training.FusedAdam(0.01), "mse", metrics=["mae"], jit_compile=False)
    with pytest.raises(ValueError, match="expected a checkpoint of this model, with 4 metrics of"):
        train(tmp_path, model=model)


def test_another_fit_of_the_model_begins_at_its_own_first_epoch(tmp_path):
    train(tmp_path / "a")
    model, found = make_model(), training.Checkpoints(tmp_path / "a", STEPS)
    data = tf.data.Dataset.from_tensor_slices((X, X[:, :, :1]))
    options = {"steps_per_epoch": STEPS, "epochs": EPOCHS, "verbose": 0, "shuffle": False}
    assert model.fit(data.repeat(), callbacks=[found], **options).epoch == []  # it was done
    assert len(model.fit(X[0], X[0, :, :1], epochs=2, verbose=0).epoch) == 2
    other = training.Checkpoints(tmp_path / "b", len(X))
    fitted = model.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=[other])
    assert len(fitted.epoch) == 2


def test_a_model_that_is_not_built_cannot_go_on(tmp_path):
    train(tmp_path)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(training.FusedAdam(0.01), "mse")
    with pytest.raises(ValueError, match="The model must be built before `fit`, to go on from"):
        train(tmp_path, model=model)


def test_a_checkpoint_is_written_when_its_minutes_are_over_and_at_the_end_of_an_epoch(tmp_path):
    names = []

    def look(epoch, logs):
        names.append(sorted(path.name for path in tmp_path.iterdir()))

    train(tmp_path, keras.callbacks.LambdaCallback(on_epoch_end=look), minutes=60.0)
    assert names == [[], ["checkpoint-000000005.npz"],
                     [f"checkpoint-{n:09d}.npz" for n in (5, 10)]]  # fmt: skip
    assert checkpoints.position(tmp_path)[:3] == (3, 0, 15)


@pytest.mark.parametrize("spoil", [
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: content[:-1],
    lambda content: content[:400] + bytes(8) + content[408:],
    lambda content: b"\x89HDF" + content[4:],
])  # fmt: skip
def test_a_spoilt_checkpoint_is_said_and_the_one_before_taken(spoil, tmp_path, undisturbed, capsys):
    with pytest.raises(Killed):
        train(tmp_path, Killer(9))
    path = max(tmp_path.iterdir())
    path.write_bytes(spoil(path.read_bytes()))
    assert checkpoints.position(tmp_path).batches == 7
    there = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: there.append(path.exists())
    )
    assert_equal(train(tmp_path, look), undisturbed)
    assert not there[0]  # or it would be one of the two that are kept
    assert not [*tmp_path.glob("broken.*")]  # there are newer ones
    said = capsys.readouterr().out
    assert f"is broken, the one before it is looked at: {path}: expected a whole check" in said
    assert "checkpoint-000000007.npz: batch 2 of epoch 2, after " in said


def test_without_a_whole_checkpoint_a_training_begins_anew(tmp_path, undisturbed):
    with pytest.raises(Killed):
        train(tmp_path, Killer(9))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert_equal(train(tmp_path), undisturbed)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path)
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="expected a checkpoint of this model, with 4 variables"):
        train(tmp_path, model=model)


@pytest.mark.parametrize("values", [{"steps_per_epoch": 0}, {"minutes": 0.0}])
def test_numbers_of_checkpoints_must_be_positive(values, tmp_path):
    ((name, value),) = values.items()
    with pytest.raises(ValueError, match=f"`{name}` must be .*got {name}={value}"):
        training.Checkpoints(tmp_path, **{"steps_per_epoch": 5} | values)


def test_a_file_is_written_beside_and_the_one_before_survives_a_process_that_dies(tmp_path):
    """In a fork, as only a process of its own can be killed."""
    path = tmp_path / "best.npz"
    kept_weights.write_arrays(path, {"a": np.arange(3)})
    child = os.fork()
    if child == 0:
        os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
        kept_weights.write_arrays(path, {"a": np.arange(5)})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert sorted(each.name for each in tmp_path.iterdir()) == ["best.npz", "part.best.npz"]
    assert kept_weights.read_arrays(path, "arrays")["a"].tolist() == [0, 1, 2]


@pytest.fixture
def small_files():
    """Files of this process end at 4,000 bytes: writing more fails, as on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("write", [
    lambda path, model: kept_weights.write_arrays(path, {"a": np.ones(2000)}),
    lambda path, model: training.BestWeights(path, "loss"),
])  # fmt: skip
def test_what_finds_no_room_raises_and_leaves_what_was_there(write, tmp_path, small_files):
    path = tmp_path / "best.npz"
    kept_weights.write_arrays(path, {"a": np.arange(3)})
    model = keras.Sequential([keras.Input([30]), keras.layers.Dense(70)])
    with pytest.raises(OSError):
        written = write(path, model)
        written.set_model(model)
        written.on_epoch_end(0, {"loss": 1.0})
    assert [each.name for each in tmp_path.iterdir()] == ["best.npz"]
    assert kept_weights.read_arrays(path, "arrays")["a"].tolist() == [0, 1, 2]


# Steps left out


def spoilt(*numbers):
    x = X.copy()
    x[list(numbers), 2, 1] = np.nan
    return x


def test_a_step_without_a_finite_gradient_changes_nothing_and_is_counted(tmp_path):
    finite, weights = training.FiniteLoss(), []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: weights.append(
            [np.copy(v) for v in (*model.weights, *model.optimizer.variables)]
        )
    )
    model = make_model()
    _, losses, _ = train(tmp_path, keep, model=model, x=spoilt(6, 8), finite=finite)
    assert finite.skipped == 2 and finite.step is None
    assert all(map(math.isfinite, losses))
    assert int(model.optimizer.iterations) == STEPS * EPOCHS - 2
    for number in range(1, STEPS * EPOCHS):
        is_equal = all(map(np.array_equal, weights[number], weights[number - 1]))
        assert is_equal == (number in (6, 8))


def test_steps_that_only_add_up_gradients_are_not_left_out(tmp_path):
    finite = training.FiniteLoss(most=2)
    model = make_model(training.FusedAdam(0.01, gradient_accumulation_steps=4))
    _, losses, _ = train(tmp_path, model=model, finite=finite)
    assert finite.skipped == 0 and len(losses) == EPOCHS


def test_the_first_step_may_be_left_out_of_metrics_that_come_with_it(tmp_path):
    model, finite = make_model(), training.FiniteLoss()
    model.compile(training.FusedAdam(0.01), "mse", metrics=["mae"], jit_compile=False)
    found = []
    seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: found.append(logs))
    train(tmp_path, seen, model=model, x=spoilt(0), finite=finite)
    assert finite.skipped == 1 and all(math.isfinite(logs["mae"]) for logs in found)


def test_a_loss_left_out_is_not_in_the_mean_of_its_epoch(tmp_path):
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    model.compile(training.FusedAdam(1e-9), "mse", jit_compile=False)
    whole = train(tmp_path / "a", model=model, x=X)[1]
    rest = train(tmp_path / "b", model=model, x=spoilt(7))[1]
    batches = [float(model.evaluate(x, x[:, :1], verbose=0)) for x in X]
    np.testing.assert_allclose(whole[1], np.mean(batches[5:10]), rtol=1e-4)
    np.testing.assert_allclose(rest[1], np.mean([*batches[5:7], *batches[8:10]]), rtol=1e-4)


def test_so_many_in_a_row_end_the_training_and_the_first_is_known(tmp_path):
    finite = training.FiniteLoss(most=3)
    model, losses, _ = train(tmp_path, x=spoilt(1, 2, 6, 7, 8, 9), finite=finite)
    assert finite.step == 6 and finite.skipped == 5
    assert len(losses) == 2
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_mean_of_batch_normalization_that_is_spoilt_ends_the_training(tmp_path):
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile(training.LazyAdam(0.01), "mse", jit_compile=False)
    finite = training.FiniteLoss(most=3)
    train(tmp_path, x=spoilt(6), model=model, finite=finite)
    assert finite.step == 6 and finite.skipped == 1


def test_a_count_of_steps_in_a_row_must_be_positive():
    with pytest.raises(ValueError, match="`most` must be at least 1, got most=0"):
        training.FiniteLoss(most=0)


def test_a_journal_and_the_last_weights_forget_what_is_run_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(
        json.dumps({"epoch": n, "minutes": n / 2, "loss": 9.0 - n}) + "\n" for n in (1, 2, 3)
    ))  # fmt: skip
    journal = training.Journal(path)
    journal.rewind(2, 0.75)
    assert (journal.epochs, journal.minutes) == (2, 0.75)
    assert training.Journal(path).history() == {"loss": [8.0, 7.0]}
    last = training.LastWeights(tmp_path, 3)
    last.set_model(make_model())
    for epoch in range(3):
        last.on_epoch_end(epoch)
    last.rewind(2)
    assert [each.name for each in last.paths()] == ["epoch-000001.npz", "epoch-000002.npz"]


def test_batches_are_counted_when_several_are_a_call(tmp_path):
    model = make_model()
    model.steps_per_execution = 5
    train(tmp_path, model=model)
    assert checkpoints.position(tmp_path)[:3] == (3, 0, 15)
