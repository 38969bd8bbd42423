"""Log-mel frames of clips: computed once under a progress bar, then read from disk.

found = extract(clips, LogMel(16_000), max_seconds=15.0)
found.arrays[7]                      # (S, F), a view of the file
clips.rows[found.rows[7]].text       # its transcript
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

import kzoo
from recipes.data.clips_audio import read_all
from recipes.data.examples import Clips
from recipes.data.files import cache_dir, identity, kept_folder, say, with_reasons

FORMAT = 2  # of what is cached; to be raised with every change to what is computed and written
TOO_LONG, UNREADABLE, NOT_FINITE = -1, -2, -3  # in place of a number of frames


class Frames(NamedTuple):
    """What a training needs of clips, without those too long, too short or unreadable."""

    arrays: list[np.ndarray]  # (S, F) float32 each
    rows: np.ndarray  # for each array the row of its clip
    skipped: Counter[str]

    def __str__(self) -> str:
        return with_reasons(f"{len(self.arrays):,} clips", self.skipped)


def extract(
    clips: Clips, features: kzoo.audio.LogMel, max_seconds: float, speed: float = 1.0
) -> Frames:
    """The frames of all clips, played `speed` times as fast.

    They are kept in `files.cache_dir()`, under a hash of the settings and of each file's path, size
    and time, 4 bytes a number: 32 kB a second with 80 features. What cannot be read is left out
    until its file changes.

    Raises:
        ValueError: no clip can be read.
    """
    settings = features.get_config() | {"name": "", "dtype": ""}
    sounds = [(*identity(clip.path), clip.start, clip.stop) for clip in clips.rows]
    folder = kept_folder(
        "frames", [FORMAT, settings, max_seconds, speed, sounds],
        lambda part: _write(part, clips, features, max_seconds, speed),
    )  # fmt: skip
    counts = np.load(folder / "counts.npy")
    lengths = np.maximum(counts, 0)
    shape = (lengths.sum(), features.num_mels)
    values = np.memmap(folder / "values.f32", np.float32, "r", shape=shape) if shape[0] else None
    ends = np.cumsum(lengths)
    rows = np.flatnonzero(counts > 0)
    skipped = Counter(
        {
            f"over {max_seconds:g} seconds": int((counts == TOO_LONG).sum()),
            "shorter than a frame": int((counts == 0).sum()),
            "unreadable": int((counts == UNREADABLE).sum()),
            "whose features are no numbers": int((counts == NOT_FINITE).sum()),
        }
    )
    arrays = [values[ends[row] - lengths[row] : ends[row]] for row in rows]
    return Frames(arrays, rows, +skipped)


def _write(
    folder: Path, clips: Clips, features: kzoo.audio.LogMel, max_seconds: float, speed: float
) -> None:
    import keras
    import tensorflow as tf

    signature = [tf.TensorSpec([None]), tf.TensorSpec([], tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def frames_of(samples, rate):
        samples = kzoo.audio.resample(
            kzoo.audio.perturb_speed(samples, speed), rate, features.rate_hz
        )
        frames, mask = features(samples[None])
        return tf.boolean_mask(frames, mask)

    most = _most_bytes(clips, features, max_seconds, speed)
    say(
        f"Extracting the features of {len(clips):,} clips"
        + (f", speed {speed:g}" if speed != 1 else "")
        + (f": at most {most / 1e6:,.1f} MB" if most < math.inf else "")
    )
    progress = keras.utils.Progbar(len(clips), unit_name="clip")
    counts, not_finite = [], []
    with open(folder / "values.f32", "wb") as file:
        for clip, sound in read_all(clips):
            if sound is None:
                counts.append(UNREADABLE)
            elif len(sound[0]) > max_seconds * sound[1]:
                counts.append(TOO_LONG)
            else:
                frames = frames_of(*sound).numpy()
                is_finite = np.isfinite(frames).all()  # or one clip would spoil all weights
                counts.append(len(frames) if is_finite else NOT_FINITE)
                if is_finite:
                    frames.tofile(file)
                else:
                    not_finite.append(clip)
            progress.update(len(counts))
        if not_finite:
            say(
                f"{len(not_finite):,} of {len(clips):,} clips have features that are no numbers; "
                f"the first: {not_finite[0].place}: {not_finite[0].path}"
            )
        say(f"Extracted {file.tell() / 1e6:,.1f} MB to {cache_dir()}")
    np.save(folder / "counts.npy", np.array(counts, int))


def _most_bytes(
    clips: Clips, features: kzoo.audio.LogMel, max_seconds: float, speed: float
) -> float:
    """What the frames take on disk at most; infinite where nothing limits a clip."""
    limits = (math.inf if clip.stop is None else clip.stop - clip.start for clip in clips.rows)
    seconds = sum(min(max_seconds, limit) for limit in limits) / speed
    return 4 * features.num_mels * (seconds * features.rate_hz / features.hop + len(clips))
