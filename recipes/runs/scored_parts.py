"""What is scored: the test part, else the valid one, as a client would send it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from recipes.data import clips_audio, regions
from recipes.data.examples import Clip, Clips, Pictures
from recipes.data.files import progress
from recipes.data.splits import Splits
from recipes.runs.scoring import scored_split


class Sounds(Sequence):
    """What a client sends for each clip, bytes; a file is read when it is asked for, as those of a
    large test set do not fit into memory."""

    def __init__(self, clips: list[Clip]):
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, row):
        clip = self._clips[row]
        return clips_audio.as_sent(clip, *clips_audio.read_audio(clip))


class ScoredClips(NamedTuple):
    """The clips that a model is scored on, as a client would send them."""

    name: str  # of the split
    part: Clips
    sounds: Sounds
    seconds: list[float]


def scored_clips(splits: Splits, longest: float = math.inf) -> ScoredClips:
    """The test clips, else the valid ones; what cannot be read, or is of more seconds than the
    model can hear, is counted as skipped."""
    name, whole = scored_split(splits)
    part = Clips(skipped=Counter(whole.skipped))
    scored = ScoredClips(name, part, Sounds(part.rows), [])
    for clip, found in progress(clips_audio.read_all(whole), f"Reading {name} clip"):
        if found is None:
            scored.part.skipped["unreadable"] += 1
        elif (seconds := len(found[0]) / found[1]) > longest:
            scored.part.skipped[f"over the {longest:g} seconds that the model hears"] += 1
        else:
            scored.part.rows.append(clip)
            scored.seconds.append(seconds)
    if not scored.part.rows:
        raise ValueError(f"{name} must have a clip that can be scored, got {scored.part}.")
    return scored


class ScoredPictures(NamedTuple):
    """The pictures that a model is scored on, and others in a style that it never saw."""

    name: str  # of the part
    part: Pictures
    unseen: Pictures | None  # in another style


def scored_pictures(splits: Splits, unseen: Pictures | None = None) -> ScoredPictures:
    """The test pictures, else the valid ones, that can be read: each is decoded before a training
    depends on it."""
    name, part = scored_split(splits)
    return ScoredPictures(name, regions.keep_rows(part, regions.readable(part.rows)), unseen)
