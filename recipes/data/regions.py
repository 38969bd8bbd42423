"""What a model trains on in place of picture files: computed once, under a progress bar, and kept.

    found = decode(pictures.rows, size=96)          # values (K, 96, 96, 3) uint8, a view of a file
    found = extract(pictures.rows, backbone)        # values (K, R, D) float16, of one not trained
    pictures.rows[found.rows[7]].captions           # those of found.values[7]

A picture has one row, however many captions it has; one that cannot be read has none and is said on
stderr. Both are kept in `files.cache_dir()`, under a hash of the settings and of each file's path,
size and time; a run that is broken off leaves nothing there.

Axis letters: N pictures, K of them that can be read, R regions, D features.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import kzoo
from recipes.data.examples import Pictures
from recipes.data.files import cache_dir, identity, kept_folder, refusal, say

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

FORMAT = 3  # of what is cached; to be raised with every change to what is computed and written
MEGAPIXELS = 64  # most of a picture; what `ImageSource` takes too
BATCH = 32  # pictures that a backbone sees at once


class Readable(NamedTuple):
    """What was computed of the pictures that can be read."""

    values: np.ndarray  # (K, ...)
    rows: np.ndarray  # (K,) int, for each value the row of its picture


def readable(rows: Sequence) -> list[int]:
    """The rows of `pictures.Picture`s that can be decoded; of the others the first is named.

    Raises:
        ValueError: no picture can be read, naming where the first is listed.
    """
    import tensorflow as tf

    reasons = {}
    for row, found in enumerate(_mapped(rows, lambda pixels: tf.shape(pixels))):
        if isinstance(found, str):
            reasons[row] = found
    _report(rows, reasons)
    return [row for row in range(len(rows)) if row not in reasons]


def decode(rows: Sequence, size: int) -> Readable:
    """The squares of `pictures.Picture`s as `image.decode_batch` makes them, rounded.

    Returns:
        Readable, values (K, size, size, 3) uint8: 3 x size x size bytes a picture, 28 kB for 96
        pixels.

    Raises:
        ValueError: no picture can be read, naming where the first is listed.
    """
    settings = {"pixels": size}

    def batches(reasons: dict) -> Iterator[np.ndarray]:
        for pixels in _pixels(rows, size, reasons):
            yield np.uint8(np.clip(np.rint(pixels), 0, 255))[None]

    return _kept(rows, settings, (size, size, 3), "uint8", batches, "Decoding")


def extract(rows: Sequence, backbone: keras.Model) -> Readable:
    """What `RegionEncoder.regions` makes of the squares of `pictures.Picture`s, without training.

    Args:
        rows: N Pictures.
        backbone: pixels (B, H, H, 3) -> (B, h, w, D). Another one has features of its own: its
            layers and its weights are part of the key.

    Returns:
        Readable, values (K, h x w, D) float16: of 128 pixels, EfficientNet-Lite0 makes 41 kB a
        picture.

    Raises:
        ValueError: as `decode`; or a feature is too large for float16.
    """
    import tensorflow as tf

    size = backbone.input_shape[1]
    _, height, width, depth = backbone.output_shape
    digest = hashlib.sha256(backbone.to_json().encode())
    for weight in backbone.get_weights():
        digest.update(np.ascontiguousarray(weight))
    settings = {"backbone": backbone.name, "layers and weights": digest.hexdigest()}

    @tf.function(
        input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32)], autograph=False
    )
    def features_of(pixels):
        return tf.cast(backbone(pixels, training=False), tf.float32)

    def batches(reasons: dict) -> Iterator[np.ndarray]:
        for pixels in _stacked(_pixels(rows, size, reasons), BATCH):
            features = features_of(pixels).numpy().reshape(len(pixels), height * width, depth)
            if not np.abs(features).max(initial=0) <= np.finfo("float16").max:
                raise ValueError(
                    "`backbone` must give features that float16 can hold, at most 65,504, got "
                    f"{np.abs(features).max()} from {backbone.name}."
                )
            yield features.astype("float16")

    return _kept(rows, settings, (height * width, depth), "float16", batches, "Looking at")


def _kept(
    rows: Sequence, settings: dict, shape: tuple, dtype: str, batches: Callable, verb: str
) -> Readable:
    """The values (K, *shape) of this key in the cache, put there first if they are missing.

    `batches({})` yields them and fills {row: why it cannot be read}, which is kept beside them.
    """
    import keras

    def write(part):
        size = len(rows) * math.prod(shape) * np.dtype(dtype).itemsize
        say(f"{verb} {len(rows):,} pictures, {size / 1e6:,.0f} MB in {cache_dir() / 'regions'}")
        progress = keras.utils.Progbar(len(rows), unit_name="picture")
        reasons, count = {}, 0
        with open(part / "values", "wb") as file:
            for batch in batches(reasons):
                batch.tofile(file)
                count += len(batch)
                progress.update(count + len(reasons))
        if len(reasons) == len(rows):
            _report(rows, reasons)  # raises: nothing is kept
        (part / "unreadable.json").write_text(json.dumps([*reasons.items()]), encoding="utf-8")

    pictures = [identity(Path(row.path)) for row in rows]
    folder = kept_folder("regions", [FORMAT, MEGAPIXELS, settings, pictures], write)
    reasons = dict(json.loads((folder / "unreadable.json").read_text(encoding="utf-8")))
    _report(rows, reasons)
    kept = np.array([row for row in range(len(rows)) if row not in reasons], int)
    if not len(kept):
        return Readable(np.zeros((0, *shape), dtype), kept)  # an empty file cannot be mapped
    return Readable(np.memmap(folder / "values", dtype, "r", shape=(len(kept), *shape)), kept)


def _pixels(rows: Sequence, size: int, reasons: dict) -> Iterator[np.ndarray]:
    """The square (size, size, 3) float32 of each picture that can be read, in order."""
    squares = _mapped(rows, lambda pixels: kzoo.image.letterbox(pixels, size))
    for row, found in enumerate(squares):
        if isinstance(found, str):
            reasons[row] = found
        else:
            yield found.numpy()


def _mapped(rows: Sequence, function: Callable) -> Iterator[tf.Tensor | str]:
    """`function` of the pixels of each picture in order, or why it cannot be read."""
    waiting = collections.deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # TensorFlow lets go of Python's lock
        for row in rows:
            if len(waiting) == 2 * BATCH:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_read, row.path, function))
        while waiting:
            yield waiting.popleft().result()


def _read(path: Path, function: Callable) -> tf.Tensor | str:
    import tensorflow as tf

    try:
        return function(_decoder()(os.fsencode(path)))
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        return refusal(error)


@functools.cache
def _decoder() -> Callable:
    """The function from a path, bytes, to pixels, traced once a process: that takes seconds.

    In the graph of a `tf.data.Dataset` it would be made ready anew for every iterator.
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decoded(path):
        return kzoo.image.decode(tf.io.read_file(path), MEGAPIXELS)

    return decoded


def _report(rows: Sequence, reasons: dict[int, str]) -> None:
    """Says how many pictures cannot be read, and why the first; raises if it is all of them."""
    if not reasons:
        return
    first = rows[min(reasons)]
    why = f"{first.place}: expected a picture in {first.path}: {reasons[min(reasons)]}"
    if len(reasons) == len(rows):
        raise ValueError(f"{why} (and none of {len(rows):,} pictures can be read)")
    say(f"Left out: {len(reasons):,} of {len(rows):,} pictures cannot be read, the first is {why}")


def _stacked(arrays: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    batch = []
    for array in arrays:
        batch.append(array)
        if len(batch) == count:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def keep_rows(part: Pictures, kept: Sequence[int]) -> Pictures:
    """The pictures of these rows; the others are counted as unreadable."""
    found = Pictures([part.rows[row] for row in kept], Counter(part.skipped))
    if len(found) < len(part):
        found.skipped["unreadable pictures"] += len(part) - len(found)
    return found
