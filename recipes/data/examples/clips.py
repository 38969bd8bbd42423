"""Transcribed clips."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from kzoo.metrics.score import normalized
from recipes.data.examples.pairs import Pairs
from recipes.data.examples.rows import below_all, joined_rows
from recipes.data.files import BLANK, is_file, is_utf8, one_line, with_reasons


class Clip(NamedTuple):
    """A piece of an audio file, and what is said in it."""

    path: Path
    text: str
    group: str  # what a split must not tear apart: the speaker, where the source names one
    place: str  # where the clip is listed, for messages
    start: float = 0.0  # seconds
    stop: float | None = None  # seconds; None is the end
    speaker: str = ""  # "" where the source names none, or has one alone
    source: str = ""  # of several that a run mixes, the one it is from


@dataclass(frozen=True)
class Clips:
    """Transcribed clips; `len(clips)` is their number. `skipped` counts those left out; `missing`
    says of each file that is not there where it is listed."""

    rows: list[Clip] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return with_reasons(f"{len(self):,} clips", self.skipped)

    @property
    def texts(self) -> list[str]:
        return [clip.text for clip in self.rows]

    @property
    def names(self) -> list[str]:
        """The path of each clip below the folder of all, and where in the file it is if it is a
        piece."""
        paths = below_all([clip.path for clip in self.rows])
        return [
            path if (clip.start, clip.stop) == (0, None) else f"{path} {clip.start}-{clip.stop}"
            for path, clip in zip(paths, self.rows, strict=True)
        ]

    @property
    def pairs(self) -> Pairs:
        """Each text with the name of its clip, which is also its group."""
        names, places = self.names, [clip.source for clip in self.rows]
        return Pairs(names, self.texts, names, further=[()] * len(names), places=places)

    def chosen(self, rows: Iterable[int], skipped: Counter[str]) -> "Clips":
        """The clips of these rows; `skipped` counts what was left out of them."""
        return replace(self, rows=[self.rows[row] for row in rows], skipped=Counter(skipped))

    @classmethod
    def joined(cls, parts: Iterable["Clips"]) -> "Clips":
        """All clips, one part after the other, with what was skipped of each."""
        return joined_rows(cls, parts)

    def of_source(self, name: str) -> "Clips":
        """The clips, each from the source of this name."""
        return replace(self, rows=[clip._replace(source=name) for clip in self.rows])

    def add(self, path, text, speaker, place, start=0.0, stop=None, group="") -> None:
        """Appends one clip, or counts why not. No `group` means the speaker, else the text."""
        text = one_line(text)
        if not is_utf8(text):
            self.skipped["invalid UTF-8"] += 1
        elif BLANK.fullmatch(text):
            self.skipped["without a transcript"] += 1
        elif not is_file(path):
            self.skipped["without a file"] += 1
            self.missing.append(f"{place}: expected an audio file, but there is no {path}")
        else:
            group = group or speaker or normalized(text)
            self.rows.append(Clip(Path(path), text, group, place, start, stop, speaker))
