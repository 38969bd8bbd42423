"""What recipes train on: parallel texts, words with phonemes, clips, captioned pictures."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import NamedTuple

from kzoo.metrics.score import normalized
from recipes.data import files
from recipes.data.files import BLANK, is_utf8, one_line, with_reasons


@dataclass(frozen=True)
class Pairs:
    """Aligned texts: `source[i]` means `target[i]`; `len(pairs)` is their number.

    `groups[i]` is what a split must not tear apart: the component or file of a named source, else
    the source text itself, normalized. `skipped` counts what was left out, by reason. `further[i]`
    are other right answers than `target[i]`, which scores compare with; training leaves them aside.
    `places[i]` is which one of several sources the pair is from, "" where there is one alone.
    `lines[i]` is the line of its file, 0 where that is not known.
    """

    source: list[str] = field(default_factory=list)
    target: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    further: list[tuple[str, ...]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list, compare=False)

    def __post_init__(self):
        for column, unknown in ((self.places, ""), (self.lines, 0)):
            if not column:
                column.extend([unknown] * len(self.source))

    def __len__(self) -> int:
        return len(self.source)

    def __str__(self) -> str:
        return with_reasons(f"{len(self):,} pairs", self.skipped)

    def chosen(self, rows: Iterable[int], skipped: Counter[str]) -> "Pairs":
        """The pairs of these rows; `skipped` counts what was left out of them."""
        rows = list(rows)
        columns = {name: [getattr(self, name)[row] for row in rows] for name in PAIR_COLUMNS}
        return Pairs(**columns, skipped=Counter(skipped))

    def rows_by_place(self) -> dict[str, list[int]]:
        """{place: the rows of its pairs}."""
        return rows_by(self.places)

    def by_place(self) -> dict[str, "Pairs"]:
        """{place: its pairs}, without the counts of what was skipped."""
        return {place: self.chosen(some, Counter()) for place, some in self.rows_by_place().items()}

    @property
    def pairs(self) -> "Pairs":
        """These pairs; words, clips and pictures have such a property, too, for `cleaning`."""
        return self

    def of_source(self, name: str) -> "Pairs":
        """The pairs, each from the source of this name."""
        return replace(self, places=[name] * len(self))

    @property
    def references(self) -> list[list[str]]:
        """All right answers to each source, `target` first."""
        return [[text, *more] for text, more in zip(self.target, self.further, strict=True)]

    def add(
        self,
        source: str,
        target: str,
        group: str | None = None,
        further: Iterable[str] = (),
        place: str = "",
        line: int = 0,
    ) -> None:
        """Appends one pair, or counts why not; so with each of the `further` answers."""
        source, target = one_line(source), one_line(target)
        if not (is_utf8(source) and is_utf8(target)):
            self.skipped["invalid UTF-8"] += 1
        elif BLANK.fullmatch(source) or BLANK.fullmatch(target):
            self.skipped["empty side"] += 1
        else:
            self.source.append(source)
            self.target.append(target)
            self.groups.append(normalized(source) if group is None else group)
            self.places.append(place)
            self.lines.append(line)
            answers = list(map(one_line, further))
            kept = [text for text in answers if is_utf8(text) and not BLANK.fullmatch(text)]
            self.further.append(tuple(kept))
            if len(kept) < len(answers):
                self.skipped["blank or broken further answers"] += len(answers) - len(kept)


PAIR_COLUMNS = [each.name for each in fields(Pairs) if each.name != "skipped"]


def together(parts: Iterable[Pairs]) -> Pairs:
    """All pairs, one part after the other, with what was skipped of each."""
    parts = list(parts)
    columns = {
        name: [row for part in parts for row in getattr(part, name)] for name in PAIR_COLUMNS
    }
    return Pairs(**columns, skipped=sum((part.skipped for part in parts), Counter()))


def some_pairs(pairs: Pairs, place: object) -> Pairs:
    """The pairs, if there is at least one."""
    if not pairs:
        raise ValueError(f"{place}: expected at least one pair, got {pairs}")
    return pairs


@dataclass(frozen=True)
class Words:
    """Words with their pronunciations; `len(words)` is the number of words.

    `rows` has the pronunciations of each word, phonemes with a space between them, in the order in
    which they are listed. `elsewhere` has those that the training data list for a word that is held
    out. `skipped` counts what was left out, by reason. `places` names, where a run mixes several
    sources, those that list a pronunciation of a word, also of words that are in another part.
    """

    rows: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: dict[str, list[str]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    places: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        count = sum(map(len, self.rows.values()))
        return with_reasons(f"{len(self):,} words, {count:,} pronunciations", self.skipped)

    @property
    def words(self) -> list[str]:
        return list(self.rows)

    @property
    def references(self) -> list[list[str]]:
        return list(self.rows.values())

    @property
    def all_references(self) -> list[list[str]]:
        """Those of each word, and those that the training data list for it."""
        return [[*row, *self.elsewhere.get(word, ())] for word, row in self.rows.items()]

    @property
    def pairs(self) -> Pairs:
        """Each pronunciation with its word, once for each source that lists it."""
        pairs = Pairs()
        for word, row in self.rows.items():
            for pronunciation in row:
                for place in self.places.get((word, pronunciation), ("",)):
                    pairs.add(word, pronunciation, word, place=place)
        return pairs

    def chosen(self, rows: Iterable[int], skipped: Counter[str]) -> "Words":
        """The words with the pronunciations of these rows of `pairs`."""
        words, pairs = Words(elsewhere=self.elsewhere, skipped=Counter(skipped)), self.pairs
        for row in rows:
            words.add(pairs.source[row], pairs.target[row], pairs.places[row])
        return words

    def of_source(self, name: str) -> "Words":
        """The words, with all pronunciations from the source of this name."""
        listed = ((word, each) for word, row in self.rows.items() for each in row)
        return replace(self, places={each: [name] for each in listed})

    def word_rows_by_place(self) -> dict[str, list[int]]:
        """{source: the rows of the words of which it lists a pronunciation}."""
        rows: dict[str, list[int]] = {}
        for row, (word, pronunciations) in enumerate(self.rows.items()):
            listed = (self.places.get((word, each), ("",)) for each in pronunciations)
            for place in dict.fromkeys(itertools.chain.from_iterable(listed)):
                rows.setdefault(place, []).append(row)
        return rows

    def add(self, word: str, pronunciation: str, place: str = "") -> None:
        """Appends one pronunciation to those of the word, or counts why not. One that the word has
        from another `place` is known to be from both."""
        if not (is_utf8(word) and is_utf8(pronunciation)):
            self.skipped["invalid UTF-8"] += 1
            return
        word, pronunciation = normalized(word), normalized(pronunciation)
        if BLANK.fullmatch(word) or BLANK.fullmatch(pronunciation):
            self.skipped["empty side"] += 1
            return
        is_known = pronunciation in self.rows.get(word, ())
        if is_known and place in self.places.get((word, pronunciation), ("",)):
            self.skipped["listed twice"] += 1
            return
        if not is_known:
            self.rows.setdefault(word, []).append(pronunciation)
        if place:
            self.places.setdefault((word, pronunciation), []).append(place)


def rows_by(names: Iterable[str]) -> dict[str, list[int]]:
    """{name: the rows where it stands}, in the order in which the names come."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return rows


def words_together(parts: Iterable[Words]) -> Words:
    """All words with the pronunciations of all parts, each of which is of a source of its own."""
    whole = Words()
    for part in parts:
        whole.skipped.update(part.skipped)
        pairs = part.pairs
        for each in zip(pairs.source, pairs.target, pairs.places, strict=True):
            whole.add(*each)
    return whole


VARIATION_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # marks of emoji, never heard


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
        return files.with_reasons(f"{len(self):,} clips", self.skipped)

    @property
    def texts(self) -> list[str]:
        return [clip.text for clip in self.rows]

    @property
    def names(self) -> list[str]:
        """The path of each clip below the folder of all, and where in the file it is if it is a
        piece."""
        paths = _below_all([clip.path for clip in self.rows])
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

    def of_source(self, name: str) -> "Clips":
        """The clips, each from the source of this name."""
        return replace(self, rows=[clip._replace(source=name) for clip in self.rows])

    def add(self, path, text, speaker, place, start=0.0, stop=None, group="") -> None:
        """Appends one clip, or counts why not. No `group` means the speaker, else the text."""
        text = files.one_line(text)
        if not files.is_utf8(text):
            self.skipped["invalid UTF-8"] += 1
        elif files.BLANK.fullmatch(text):
            self.skipped["without a transcript"] += 1
        elif not files.is_file(path):
            self.skipped["without a file"] += 1
            self.missing.append(f"{place}: expected an audio file, but there is no {path}")
        else:
            group = group or speaker or text
            self.rows.append(Clip(Path(path), text, group, place, start, stop, speaker))


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
        return files.with_reasons(f"{len(self):,} pictures, {captions:,} captions", self.skipped)

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
        return _below_all([picture.path for picture in self.rows])

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

    def of_source(self, name: str) -> "Pictures":
        """The pictures, each from the source of this name."""
        return replace(self, rows=[picture._replace(source=name) for picture in self.rows])

    def add(self, path, captions: Iterable[str], place: str, group="", kind="") -> None:
        """Appends one picture with those of its captions that are texts, or counts why not."""
        if not files.is_file(path):
            self.skipped["pictures without a file"] += 1
            self.missing.append(f"{place}: expected a picture, but there is no {path}")
            return
        texts = []
        for text in map(files.one_line, captions):
            if not files.is_utf8(text):
                self.skipped["captions with invalid UTF-8"] += 1
            elif files.BLANK.fullmatch(text):
                self.skipped["empty captions"] += 1
            else:
                texts.append(text)
        if texts:
            self.rows.append(Picture(Path(path), tuple(texts), group, place, kind))
        else:
            self.skipped["pictures without a caption"] += 1


def rows_together(parts: Iterable[Clips] | Iterable[Pictures]) -> Clips | Pictures:
    """All clips, or all pictures, one part after the other, with what was skipped of each."""
    first, *others = parts
    whole = type(first)([*first.rows], Counter(first.skipped), [*first.missing])
    for part in others:
        whole.rows.extend(part.rows)
        whole.skipped.update(part.skipped)
        whole.missing.extend(part.missing)
    return whole


def _below_all(paths: list[Path]) -> list[str]:
    """Each path below the folder that all are in."""
    paths = [path.absolute() for path in paths]
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [path.relative_to(root).as_posix() for path in paths]
