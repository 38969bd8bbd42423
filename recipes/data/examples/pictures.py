"""Captioned pictures."""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from recipes.data.examples.pairs import Pairs
from recipes.data.examples.rows import below_all, joined_rows
from recipes.data.files import BLANK, is_file, is_utf8, one_line, with_reasons


class Picture(NamedTuple):
    """A picture's file and what people said of it."""

    path: Path  # of a JPEG, PNG, GIF or BMP file
    captions: tuple[str, ...]  # at least one; all are references
    group: str  # what a split must not tear apart; "" means the path
    place: str  # where the picture is listed, for messages
    kind: str = ""  # what scores are given apart for, as "2 objects"; "" is no kind
    source: str = ""  # of several that a run mixes, the one it is from


@dataclass(frozen=True)
class Pictures:
    """Captioned pictures; `len(pictures)` is their number. `skipped` counts what was left out;
    `missing` says of each file that is not there where it is listed."""

    rows: list[Picture] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        captions = sum(len(picture.captions) for picture in self.rows)
        return with_reasons(f"{len(self):,} pictures, {captions:,} captions", self.skipped)

    @property
    def references(self) -> list[list[str]]:
        return [list(picture.captions) for picture in self.rows]

    @property
    def is_exact(self) -> bool:
        """Whether an answer can be right word for word, which is so where pictures have a kind. Of
        several sources all must have some."""
        return {row.source for row in self.rows} == {row.source for row in self.rows if row.kind}

    @property
    def names(self) -> list[str]:
        """The path of each picture below the folder of all, the same on every machine."""
        return below_all([picture.path for picture in self.rows])

    @property
    def pairs(self) -> Pairs:
        """Each caption with the name of its picture, which is also its group."""
        names = [
            name for name, row in zip(self.names, self.rows, strict=True) for _ in row.captions
        ]
        texts = [text for row in self.rows for text in row.captions]
        places = [row.source for row in self.rows for _ in row.captions]
        return Pairs(names, texts, names, further=[()] * len(names), places=places)

    def chosen(self, rows: Iterable[int], skipped: Counter[str]) -> "Pictures":
        """The pictures with the captions of these rows of `pairs`, if any is left."""
        kept, numbers = {*rows}, itertools.count()
        found = Pictures(skipped=Counter(skipped), missing=self.missing)
        for picture in self.rows:
            captions = tuple(text for text in picture.captions if next(numbers) in kept)
            if captions:
                found.rows.append(picture._replace(captions=captions))
            else:
                found.skipped["pictures without a caption"] += 1
        return found

    @classmethod
    def joined(cls, parts: Iterable["Pictures"]) -> "Pictures":
        """All pictures, one part after the other, with what was skipped of each."""
        return joined_rows(cls, parts)

    def of_source(self, name: str) -> "Pictures":
        """The pictures, each from the source of this name."""
        return replace(self, rows=[picture._replace(source=name) for picture in self.rows])

    def add(self, path, captions: Iterable[str], place: str, group="", kind="") -> None:
        """Appends one picture with those of its captions that are texts, or counts why not."""
        if not is_file(path):
            self.skipped["pictures without a file"] += 1
            self.missing.append(f"{place}: expected a picture, but there is no {path}")
            return
        texts = []
        for text in map(one_line, captions):
            if not is_utf8(text):
                self.skipped["captions with invalid UTF-8"] += 1
            elif BLANK.fullmatch(text):
                self.skipped["empty captions"] += 1
            else:
                texts.append(text)
        if texts:
            self.rows.append(Picture(Path(path), tuple(texts), group, place, kind))
        else:
            self.skipped["pictures without a caption"] += 1
