"""Checkpoints that survive whatever ends the process, and go on as if it had not.

checkpoints = Checkpoints("run/checkpoints", steps_per_epoch=500, minutes=10)
batches = batching.token_batches(corpus, 4096, seed=7, start=checkpoints.position().batches)
model.fit(batches.repeat(), steps_per_epoch=500, epochs=9, callbacks=[checkpoints, ...])
"""

import json
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from kzoo import checks
from kzoo.training.kept_weights import PART, as_numpy, parsing, read_arrays, write_arrays

_STATE = "state"  # name of what is no variable
_WHOLE = "a whole checkpoint"
_EPOCH_IS_OVER = "the rest of a resumed epoch is done"


class Position(NamedTuple):
    """How far a training has come."""

    epoch: int = 0  # epochs done
    step: int = 0  # batches done of the epoch after them
    batches: int = 0  # in all
    minutes: float = 0.0  # of training

    def __str__(self):
        place = f"batch {self.step:,}" if self.step else "the begin"
        return f"{place} of epoch {self.epoch + 1}, after {self.minutes:.1f} minutes"


class Checkpoints(keras.callbacks.Callback):
    """Saves all that a training needs to go on as if it had never ended, and goes on from there.

    In place of `keras.callbacks.BackupAndRestore`, which writes in place, at the end of epochs
    only, and does not know the random state. A checkpoint holds the model's variables with those
    of dropout and scheduled sampling, the optimizer's, the epoch's metrics, the position in the
    data, and attributes of other callbacks. Each is a file of its own, written beside, to the disk,
    and renamed; the last two are kept. `fit` goes on from the newest whole one. With data that go
    on at `position().batches` it ends with the same weights, bit for bit.

    It must be the first of the callbacks: it then restores after those have begun, and saves when
    they have done with a batch or an epoch.

    Args:
        folder: where to keep the files, for Adam 12 bytes a parameter each.
        steps_per_epoch: int, as that of `fit`.
        minutes: float, between two checkpoints of an epoch; every epoch begins with one, too.
        keep: list of (callback, names of its attributes that JSON can hold).

    Raises:
        ValueError: `steps_per_epoch` or `minutes` is not positive; in `fit`, the checkpoint is of
            another model.
    """

    def __init__(self, folder, steps_per_epoch, minutes=10.0, keep=()):
        super().__init__()
        checks.at_least(1, steps_per_epoch=steps_per_epoch)
        checks.require(minutes > 0, "must be positive", minutes=minutes)
        self.folder = Path(folder)
        self.steps_per_epoch = steps_per_epoch
        self.minutes = minutes
        self.keep = list(keep)
        self._now = Position()
        self._kept = None

    def position(self):
        """Returns the Position of the newest whole checkpoint; all 0 without one."""
        return position(self.folder)

    def on_train_begin(self, logs=None):
        self.model._initial_epoch = None  # Keras keeps that of a `fit` before
        path, found, errors = _newest(self.folder, lambda path: read_arrays(path, _WHOLE))
        self._now = _position(found)
        self._start = self._saved = time.monotonic()
        self._spent = self._now.minutes
        self._is_rest = self._now.step > 0
        self._kept = self._epoch = None
        self._metrics_before = []
        for part in self.folder.glob(f"{PART}*"):
            part.unlink()  # of a process killed while it wrote
        for broken, error in errors:
            print(f"A checkpoint is broken, the one before it is looked at: {error}")
            # Or it would be one of the two that are kept; removed when there is a newer whole one.
            broken.replace(broken.with_name(f"broken.{broken.name}"))
        if found is None:
            return
        self._kept = found
        if not self.model.built:
            raise ValueError(
                f"The model must be built before `fit`, to go on from {path}: call it on a batch."
            )
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._restore("variable", self._variables())
        self.model._initial_epoch = self._now.epoch  # as Keras's own callback goes on
        print(f"Going on from {path}: {self._now}", flush=True)

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def _restore(self, name, variables):
        values = self._values(name)
        self._check_shapes(name, values, variables)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _check_shapes(self, name, values, variables):
        shapes = [tuple(variable.shape) for variable in variables]
        if [value.shape for value in values] != shapes:
            raise ValueError(
                f"{self.folder}: expected a checkpoint of this model, with {len(shapes)} "
                f"{name}s of its shapes, got {len(values)}."
            )

    def _values(self, name):
        return [self._kept[key] for key in sorted(self._kept) if key.startswith(f"{name}-")]

    def on_epoch_begin(self, epoch, logs=None):
        if self._kept is not None:  # other callbacks, and Keras its metrics, have begun anew
            values, variables = self._values("metric"), self.model.metrics_variables
            if self._is_rest and len(values) > len(variables):
                self._metrics_before = values  # those of `compile` come with the first step
            elif self._is_rest:
                self._restore("metric", variables)
            for (callback, _), values in zip(self.keep, self._kept[_STATE]["kept"], strict=True):
                for name, value in values.items():
                    setattr(callback, name, value)
            self._kept, self._offset = None, self._now.step
            return
        self._now = self._now._replace(epoch=epoch, step=0)
        self._is_rest, self._offset = False, 0
        if self._now.batches:
            self._save()

    def on_train_batch_begin(self, batch, logs=None):
        if time.monotonic() - self._saved >= 60 * self.minutes and self._now.step:
            self._save()

    def on_train_batch_end(self, batch, logs=None):
        if self._metrics_before:  # sums and counts, of which the first step made the rest
            values, self._metrics_before = self._metrics_before, []
            self._check_shapes("metric", values, self.model.metrics_variables)
            for variable, value in zip(self.model.metrics_variables, values, strict=True):
                variable.assign(keras.ops.convert_to_numpy(variable) + value)
        step = self._offset + batch + 1
        batches = self._now.batches + step - self._now.step
        self._now = self._now._replace(step=step, batches=batches)
        if self._is_rest and step >= self.steps_per_epoch:
            self.model.stop_training = _EPOCH_IS_OVER

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training == _EPOCH_IS_OVER:  # else another callback ends the training
            self.model.stop_training = False
        self._epoch = epoch

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None
        if self._now.step and self._epoch is not None:
            self._now = self._now._replace(epoch=self._epoch + 1, step=0)
            self._save()

    def spent(self):
        """Returns the minutes of training so far, those before this `fit` included."""
        return self._spent + (time.monotonic() - self._start) / 60

    def _save(self):
        self._now = self._now._replace(minutes=round(self.spent(), 3))
        kept = [{name: getattr(each, name) for name in names} for each, names in self.keep]
        state = json.dumps({"position": self._now, "kept": kept}, default=float).encode()
        arrays = {_STATE: np.frombuffer(state, np.uint8)}
        for name, variables in (
            ("variable", self._variables()),
            ("metric", self.model.metrics_variables if self._now.step else []),
        ):
            arrays |= {f"{name}-{i:06d}": as_numpy(v) for i, v in enumerate(variables)}
        write_arrays(self.folder / f"checkpoint-{self._now.batches:09d}.npz", arrays)
        for old in [*_paths(self.folder)[2:], *self.folder.glob("broken.*")]:
            old.unlink()
        self._saved = time.monotonic()


def position(folder):
    """Returns the Position of the newest whole checkpoint in a folder; all 0 without one."""
    return _position(_newest(Path(folder), _checked)[1])


def write_position(folder, position):
    """Leaves the Position of another process's checkpoint, for data that begin at it, too."""
    state = json.dumps({"position": position, "kept": []}, default=float).encode()
    path = Path(folder) / f"checkpoint-{position.batches:09d}.npz"
    write_arrays(path, {_STATE: np.frombuffer(state, np.uint8)})


def _position(found):
    return Position() if found is None else Position(*found[_STATE]["position"])


def _paths(folder):
    """The checkpoints that are there, newest first."""
    return sorted(folder.glob("checkpoint-*.npz"), reverse=True)


def _newest(folder, read):
    """The path of the newest whole checkpoint, what is read of it, and (path, error) of newer
    ones."""
    errors = []
    for path in _paths(folder):
        try:
            arrays = read(path)
        except ValueError as error:
            errors.append((path, error))
        else:
            return path, {**arrays, _STATE: json.loads(bytes(arrays[_STATE]))}, errors
    return None, None, errors


def _checked(path):
    """The state in a checkpoint whose checksums are all right."""
    with parsing(path, _WHOLE), zipfile.ZipFile(path) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"bad checksum of {broken}")
        with np.load(path) as found:
            return {_STATE: found[_STATE]}
