"""Weights on disk, of the best epoch and of the last ones, in files that are written whole or not
at all."""

import contextlib
import math
import os
from pathlib import Path

import keras
import numpy as np

from kzoo import checks

PART = "part."  # begins the name of a file that is being written


def write_arrays(path, arrays):
    """Writes arrays as an .npz file, whole or not at all: beside, to the disk, then renamed.

    Args:
        path: pathlib.Path that ends with ".npz"; a file that is there stays until then.
        arrays: dict of arrays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PART}{path.name}")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # a full disk has its room back
        raise
    with contextlib.suppress(OSError):  # not every system opens folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_arrays(path, expected):
    """Reads what `write_arrays` wrote.

    Args:
        path: pathlib.Path.
        expected: str, what the file should be, for messages.

    Returns:
        dict of arrays.

    Raises:
        ValueError: with the path, if the file is broken, and be it in one bit.
    """
    with parsing(path, expected), path.open("rb") as file, np.load(file) as found:
        return {name: found[name] for name in found.files}  # each has a checksum


@contextlib.contextmanager
def parsing(path, expected):
    """Turns whatever a broken file raises inside into a ValueError with its path."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
        raise ValueError(
            f"{path}: expected {expected}, got {type(error).__name__}: {error}"
        ) from error


class BestWeights(keras.callbacks.Callback):
    """Saves the weights of the epoch with the highest value of a metric, whole or not at all.

    Unlike `keras.callbacks.ModelCheckpoint`, a process killed while it writes, or a full disk,
    leaves the file of the best epoch before.

    Args:
        path: file name that ends with ".npz".
        monitor: str, key in the logs; more is better.
        best: float, the value to beat, if there is one from a run before.
    """

    def __init__(self, path, monitor, best=None):
        super().__init__()
        self.path = Path(path)
        self.monitor = monitor
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        value = logs[self.monitor]
        if self.best is None or value > self.best:
            write_arrays(self.path, _numbered(self.model.get_weights()))
            self.best = None if math.isnan(value) else value  # anything is better than NaN

    def restore(self, model):
        """Puts the saved weights into a model.

        Raises:
            ValueError: with the path, if the file is broken or of another model.
        """
        expected = "weights of this model"
        arrays = read_arrays(self.path, expected)
        try:
            model.set_weights(list(arrays.values()))
        except ValueError as error:
            raise ValueError(f"{self.path}: expected {expected}, got: {error}") from error


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

    def rewind(self, epochs):
        """Removes what came after so many epochs, which a run goes on from."""
        for path in self.paths():
            if int(path.stem.removeprefix("epoch-")) > epochs:
                path.unlink()

    def on_epoch_end(self, epoch, logs=None):
        if not self.count:
            return
        path = self.folder / f"epoch-{epoch + 1:06d}.npz"
        write_arrays(path, _numbered(self.model.get_weights()))
        paths = self.paths()
        for old in paths[: max(len(paths) - self.count, 0)]:
            old.unlink()

    def average(self):
        """Returns the mean of the kept weights, in the order of `model.set_weights`.

        Raises:
            ValueError: if there are none, or one file is broken.
        """
        paths = self.paths()
        if not paths:
            raise ValueError(f"`folder` holds no weights of an epoch, got {self.folder}.")
        mean, expected = None, "the weights of an epoch"
        for path in paths:
            arrays = list(read_arrays(path, expected).values())
            try:
                mean = (
                    arrays if mean is None else [a + b for a, b in zip(mean, arrays, strict=True)]
                )
            except ValueError as error:
                raise ValueError(f"{path}: expected {expected}, got: {error}") from error
        return [array / len(paths) for array in mean]


def _numbered(arrays):
    return {f"{i:06d}": as_numpy(array) for i, array in enumerate(arrays)}


def as_numpy(array):
    """Of a weight, as NumPy's files have it: bfloat16, which they do not know, as float32."""
    value = keras.ops.convert_to_numpy(array)
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value
