"""Keras callbacks that a training run on a budget needs, all of them safe to resume."""

import contextlib
import json
import math
import time
from pathlib import Path

import keras
import numpy as np

from kzoo import checks


class TimeBudget(keras.callbacks.Callback):
    """Ends `fit` after some minutes, at the end of a batch; the epoch is closed as usual.

    Args:
        minutes: float.
        spent: float, minutes of the budget that earlier, interrupted runs have used.

    Attributes:
        is_over: bool, whether it was this that ended `fit`.
    """

    def __init__(self, minutes, spent=0.0):
        super().__init__()
        self.minutes = minutes
        self.spent = spent
        self.is_over = False

    def on_train_begin(self, logs=None):
        self.is_over = False
        self.deadline = time.monotonic() + 60 * (self.minutes - self.spent)

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() > self.deadline:
            self.is_over = True
            self.model.stop_training = True


class BudgetDecay(keras.callbacks.Callback):
    """Learning rate that rises to a peak and falls to 0 as the budget of a run is used up:

        rate = peak min(1, n / warmup_steps) (1 - max(minutes spent / minutes, (n - 1) / steps))

    n is the number of the step, counted from 1. How many steps a budget of time will have need not
    be known, and a resumed run goes on where it was.

    Args:
        peak: float.
        warmup_steps: int.
        minutes: float, of training in all, as in `TimeBudget`.
        steps: int, most steps in all.
        spent: float, minutes that earlier, interrupted runs have used.

    Raises:
        ValueError: `peak` is not positive, or `warmup_steps` or `steps` is below 1.
    """

    def __init__(self, peak, warmup_steps, minutes, steps, spent=0.0):
        super().__init__()
        checks.require(peak > 0, "must be positive", peak=peak)
        checks.at_least(1, warmup_steps=warmup_steps, steps=steps)
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.minutes = minutes
        self.steps = steps
        self.spent = spent

    def on_train_begin(self, logs=None):
        self.start = time.monotonic()

    def on_train_batch_begin(self, batch, logs=None):
        n = int(self.model.optimizer.iterations) + 1
        self.model.optimizer.learning_rate = self.rate(n, (time.monotonic() - self.start) / 60)

    def rate(self, n, minutes):
        """The rate of step n, `minutes` after the beginning of this run."""
        spent = (self.spent + minutes) / self.minutes if self.minutes > 0 else 1.0
        left = 1.0 - min(max(spent, (n - 1) / self.steps), 1.0)
        return self.peak * min(1.0, n / self.warmup_steps) * left


class FiniteLoss(keras.callbacks.Callback):
    """Ends `fit` at a loss that is no finite number, as `keras.callbacks.TerminateOnNaN`.

    Attributes:
        step: int, the batch of this `fit`, counted from 0 through all epochs, with which the loss
            was no finite number first; None while all are.
    """

    def on_train_begin(self, logs=None):
        self.step = None
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        if self.step is None and not math.isfinite(logs["loss"]):
            self.step = self._steps
            self.model.stop_training = True
        self._steps += 1


class ValidationScore(keras.callbacks.Callback):
    """Adds a score to the logs at the end of each epoch; callbacks after it can monitor it.

    Args:
        name: str, key in the logs, such as "val_bleu".
        function: called without arguments, returns a float.
    """

    def __init__(self, name, function):
        super().__init__()
        self.name = name
        self.function = function

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.function()


JOURNAL_START = b'{"epoch": '


def _is_epoch(value):
    """Whether a JSON value is a line of a journal."""
    if not isinstance(value, dict) or type(value.get("epoch")) is not int or value["epoch"] < 1:
        return False
    numbers = [each for name, each in value.items() if each is not None or name == "minutes"]
    return "minutes" in value and all(type(each) in (int, float) for each in numbers)


class Journal(keras.callbacks.Callback):
    """Appends each epoch's logs and minutes as one JSON line, so that a resumed run goes on in it.

    Args:
        path: file; what it holds already is kept.

    Attributes:
        minutes: float, spent by the runs before.
        epochs: int, done by the runs before.

    Raises:
        ValueError: with path and line, if the file holds what no journal has.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)
        self.minutes = max((line["minutes"] for line in self._lines()), default=0.0)
        self.epochs = max((line["epoch"] for line in self._lines()), default=0)

    def _lines(self):
        if not self.path.exists():
            return []
        lines = []
        for number, line in enumerate(self.path.read_bytes().split(b"\n"), start=1):
            value = None
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(line)
            if _is_epoch(value):
                lines.append(value)
            elif value is not None or not JOURNAL_START.startswith(line[: len(JOURNAL_START)]):
                raise ValueError(
                    f"{self.path}:{number}: expected a JSON object with epoch, minutes and other "
                    f"numbers, got {line[:80]!r}."
                )  # but half a line is of a killed process; that epoch is run again
        return lines

    def history(self):
        """Returns {name: a value for each epoch, None where there is none}."""
        epochs = {line["epoch"]: line for line in self._lines()}  # a repeated epoch: the last
        names = dict.fromkeys(name for line in epochs.values() for name in line)
        return {
            name: [epochs.get(epoch, {}).get(name) for epoch in range(1, max(epochs) + 1)]
            for name in names
            if name not in ("epoch", "minutes")
        }

    def best(self, name):
        """Returns the highest value of a name so far, or None."""
        values = [line[name] for line in self._lines() if line.get(name) is not None]
        return max(values, default=None)

    def on_train_begin(self, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        minutes = self.minutes + (time.monotonic() - self.start) / 60
        line = {"epoch": epoch + 1, "minutes": round(minutes, 3)}
        line |= {name: float(value) for name, value in logs.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))


class BestWeights(keras.callbacks.Callback):
    """Saves the weights of the epoch with the highest value of a metric, whole or not at all.

    Unlike `keras.callbacks.ModelCheckpoint`, a process killed while it writes leaves the file of
    the best epoch before.

    Args:
        path: file name that ends with ".weights.h5".
        monitor: str, key in the logs; more is better.
        best: float, the value to beat, if there is one from a run before.
    """

    def __init__(self, path, monitor, best=None):
        super().__init__()
        self.path = Path(path)
        self.monitor = monitor
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        if self.best is None or logs[self.monitor] > self.best:
            part = self.path.with_name(f"part.{self.path.name}")
            self.model.save_weights(part, overwrite=True)
            part.replace(self.path)
            self.best = logs[self.monitor]


class LastWeights(keras.callbacks.Callback):
    """Keeps the weights of the last epochs on disk, to be averaged after training.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 6.1, averages the last
    checkpoints.

    Args:
        folder: where to keep them, 4 bytes a parameter and epoch.
        count: int, how many epochs; 0 keeps nothing.

    Raises:
        ValueError: if `count` is negative.
    """

    def __init__(self, folder, count):
        super().__init__()
        checks.not_negative(count=count)
        self.folder = Path(folder)
        self.count = count

    def paths(self):
        """Returns the files there are, oldest first."""
        return sorted(self.folder.glob("epoch-*.npz"))

    def on_epoch_end(self, epoch, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch-{epoch + 1:06d}.npz"
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, *self.model.get_weights())
        part.replace(path)
        paths = self.paths()
        for old in paths[: max(len(paths) - self.count, 0)]:
            old.unlink()

    def average(self):
        """Returns the mean of the kept weights, in the order of `model.set_weights`.

        Raises:
            ValueError: if there are none, or one file is broken.
        """
        mean = None
        paths = self.paths()
        if not paths:
            raise ValueError(f"`folder` holds no weights of an epoch, got {self.folder}.")
        for path in paths:
            try:
                with path.open("rb") as file, np.load(file) as found:
                    arrays = [found[name] for name in found.files]
                mean = (
                    arrays if mean is None else [a + b for a, b in zip(mean, arrays, strict=True)]
                )
            except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
                raise ValueError(
                    f"{path}: expected the weights of an epoch, got {type(error).__name__}: {error}"
                ) from error
        return [array / len(paths) for array in mean]
