"""Keras callbacks that a training run on a budget needs, all of them safe to resume."""

import contextlib
import json
import math
import os
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
        n = int(self.model.optimizer.iterations.numpy()) + 1
        self.model.optimizer.learning_rate = self.rate(n, (time.monotonic() - self.start) / 60)

    def rate(self, n, minutes):
        """The rate of step n, `minutes` after the beginning of this run."""
        spent = (self.spent + minutes) / self.minutes if self.minutes > 0 else 1.0
        left = 1.0 - min(max(spent, (n - 1) / self.steps), 1.0)
        return self.peak * min(1.0, n / self.warmup_steps) * left


class FiniteLoss(keras.callbacks.Callback):
    """Ends `fit` where losses are no finite numbers, and counts the steps that were left out.

    kzoo's optimizers leave out a step whose gradients are not finite. It is then left out of the
    metrics, too, and `fit` goes on, until there are `most` in a row, or a weight that is not
    trained, as a mean of batch normalization, is no finite number. With other optimizers one such
    loss spoils the weights, and `fit` ends, as by `keras.callbacks.TerminateOnNaN`; so it does
    where `compile` has `steps_per_execution` above 1, whose steps have one loss.

    Args:
        most: int, steps left out in a row that end `fit`.

    Attributes:
        step: int, the batch of this `fit`, counted from 0 through all epochs, that ended it, the
            first one of several in a row; None if none did.
        skipped: int, steps that were left out.
        in_a_row: int, steps left out since the last one that was not.
    """

    def __init__(self, most=10):
        super().__init__()
        checks.at_least(1, most=most)
        self.most = most

    def on_train_begin(self, logs=None):
        self.step = None
        self.skipped = 0
        self.in_a_row = self._steps = 0
        self._iterations = self._steps_taken()

    def on_epoch_begin(self, epoch, logs=None):
        self._metrics = self._metric_values()

    def _steps_taken(self):
        """Calls of the optimizer that were not left out, also of one that accumulates gradients or
        scales the loss."""
        optimizer = self.model.optimizer
        return int(getattr(optimizer, "inner_optimizer", optimizer)._iterations.numpy())

    def _metric_values(self):
        """The values by the identity of their variables; None where to read them takes all
        workers."""
        if self.model.distribute_strategy.num_replicas_in_sync > 1:
            return None
        variables = self.model.metrics_variables
        return {id(each): keras.ops.convert_to_numpy(each) for each in variables}

    def _restore_metrics(self):
        for variable in self.model.metrics_variables:
            # Those of `compile` come with the first step.
            value = self._metrics.get(id(variable))
            variable.assign(keras.ops.zeros_like(variable) if value is None else value)

    def on_train_batch_end(self, batch, logs=None):
        before, self._iterations = self._iterations, self._steps_taken()
        if self._iterations == before:
            self.skipped += 1
            self.in_a_row += 1
            if self._metrics is not None:
                self._restore_metrics()
            logs.update({k: float(v) for k, v in self.model.get_metrics_result().items()})
            if self.in_a_row >= self.most or not self._is_whole():
                self._end(self._steps + 1 - self.in_a_row)
        elif not math.isfinite(logs["loss"]):
            self._end(self._steps)
        else:
            self.in_a_row = 0
            self._metrics = self._metric_values()
        self._steps += 1

    def _is_whole(self):
        """Whether the weights that no gradient changes are finite."""
        values = map(keras.ops.convert_to_numpy, self.model.non_trainable_weights)
        return all(np.isfinite(each).all() for each in values if each.dtype.kind == "f")

    def _end(self, step):
        self.step = step if self.step is None else self.step
        self.model.stop_training = True


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
        """Returns the highest value of a name so far, or None; NaN is none."""
        values = (line.get(name) for line in self._lines())
        return max((v for v in values if v is not None and not math.isnan(v)), default=None)

    def rewind(self, epochs, minutes):
        """Forgets what came after so many epochs and minutes, where a run goes on."""
        lines = [json.dumps(line) for line in self._lines() if line["epoch"] <= epochs]
        if self.path.exists():
            part = self.path.with_name(f"{self.path.name}.part")
            part.write_text("".join(f"\n{line}" for line in lines), encoding="utf-8")
            part.replace(self.path)
        self.epochs, self.minutes = epochs, minutes

    def on_train_begin(self, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        minutes = self.minutes + (time.monotonic() - self.start) / 60
        line = {"epoch": epoch + 1, "minutes": round(minutes, 3)}
        line |= {name: float(value) for name, value in logs.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))
            file.flush()
            os.fsync(file.fileno())  # before the checkpoint that counts on it
