"""What a model trains on in place of picture files: computed once, under a progress bar, and kept.

    pixels = decode(pictures.rows, size=96)         # (N, 96, 96, 3) uint8, a view of a file
    features = extract(pictures.rows, backbone)     # (N, R, D) float16, of a backbone not trained

Row n belongs to picture n, however many captions it has. Both are kept in `data.cache_dir()`, under
a hash of the settings and of each file's path, size and time; a run that is broken off leaves
nothing there.

Axis letters: N pictures, R regions, D features.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo import image
from recipes.data import cache_dir, make_folder, say

MEGAPIXELS = 64  # most of a picture; what `ImageSource` takes too
BATCH = 32  # pictures that a backbone sees at once


def decode(rows: Sequence, size: int) -> np.ndarray:
    """The squares of `pictures.Picture`s as `image.decode_batch` makes them, rounded.

    Returns:
        (N, size, size, 3) uint8: 3 x size x size bytes a picture, 28 kB for 96 pixels.

    Raises:
        ValueError: a file that is missing or no picture, naming where it is listed.
    """
    settings = {"pixels": size}

    def batches() -> Iterator[np.ndarray]:
        for pixels in _pixels(rows, size):
            yield np.uint8(np.clip(np.rint(pixels), 0, 255))[None]

    return _kept(rows, settings, (size, size, 3), "uint8", batches, "Decoding")


def extract(rows: Sequence, backbone: keras.Model) -> np.ndarray:
    """What `RegionEncoder.regions` makes of the squares of `pictures.Picture`s, without training.

    Args:
        rows: N Pictures.
        backbone: pixels (B, H, H, 3) -> (B, h, w, D). Another one has features of its own: its
            name, its weights and its size are part of the key.

    Returns:
        (N, h x w, D) float16: of 128 pixels, EfficientNet-Lite0 makes 41 kB a picture.

    Raises:
        ValueError: as `decode`; or a feature is too large for float16.
    """
    size = backbone.input_shape[1]
    _, height, width, depth = backbone.output_shape
    digest = hashlib.sha256()
    for weight in backbone.get_weights():
        digest.update(np.ascontiguousarray(weight))
    settings = {"backbone": backbone.name, "weights": digest.hexdigest(), "size": size}
    settings |= {"shape": [height, width, depth], "dtype": backbone.compute_dtype}

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32)])
    def features_of(pixels):
        return tf.cast(backbone(pixels, training=False), tf.float32)

    def batches() -> Iterator[np.ndarray]:
        for pixels in _stacked(_pixels(rows, size), BATCH):
            features = features_of(pixels).numpy().reshape(len(pixels), height * width, depth)
            if not np.abs(features).max(initial=0) <= np.finfo("float16").max:
                raise ValueError(
                    "`backbone` must give features that float16 can hold, at most 65,504, got "
                    f"{np.abs(features).max()} from {backbone.name}."
                )
            yield features.astype("float16")

    return _kept(rows, settings, (height * width, depth), "float16", batches, "Looking at")


def _kept(rows: Sequence, settings: dict, shape: tuple, dtype: str, batches, verb: str):
    """The array (N, *shape) of this key in the cache, put there first if it is missing."""
    files = [(str(Path(row.path).absolute()), *_identity(row)) for row in rows]
    key = json.dumps([settings, files]).encode()
    folder = cache_dir() / "regions" / hashlib.sha256(key).hexdigest()[:32]

    def write(part):
        size = len(rows) * math.prod(shape) * np.dtype(dtype).itemsize
        say(f"{verb} {len(rows):,} pictures, {size / 1e6:,.0f} MB in {folder.parent}")
        progress = keras.utils.Progbar(len(rows), unit_name="picture")
        with open(part / "values", "wb") as file:
            for batch in batches():
                batch.tofile(file)
                progress.add(len(batch))

    make_folder(folder, write)
    if not len(rows):
        return np.zeros((0, *shape), dtype)  # an empty file cannot be mapped
    return np.memmap(folder / "values", dtype, "r", shape=(len(rows), *shape))


def _identity(row) -> tuple[int, int]:
    try:
        found = os.stat(row.path)
    except OSError as error:
        raise _unreadable(row, error.strerror) from error
    return found.st_size, found.st_mtime_ns


def _pixels(rows: Sequence, size: int) -> Iterator[np.ndarray]:
    """The square (size, size, 3) float32 of each picture, in order."""

    def square(path):
        return image.letterbox(image.decode(tf.io.read_file(path), MEGAPIXELS), size)

    paths = tf.constant([str(row.path) for row in rows], tf.string)
    squares = tf.data.Dataset.from_tensor_slices(paths).map(square, num_parallel_calls=2)
    found = iter(squares.prefetch(2 * BATCH))
    for row in rows:
        try:
            pixels = next(found)
        except tf.errors.OpError as error:  # of this row, as the order is kept
            raise _unreadable(row, str(error.message).split("\n")[0]) from error
        yield pixels.numpy()


def _unreadable(row, reason: str | None) -> ValueError:
    return ValueError(f"{row.place}: expected a picture in {row.path}: {reason}")


def _stacked(arrays: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    batch = []
    for array in arrays:
        batch.append(array)
        if len(batch) == count:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
