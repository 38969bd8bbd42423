"""Parallel texts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace

from kzoo.metrics.score import normalized
from recipes.data.examples.rows import rows_by
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

    @classmethod
    def joined(cls, parts: Iterable["Pairs"]) -> "Pairs":
        """All pairs, one part after the other, with what was skipped of each."""
        parts = list(parts)
        columns = {
            name: [row for part in parts for row in getattr(part, name)] for name in PAIR_COLUMNS
        }
        return cls(**columns, skipped=sum((part.skipped for part in parts), Counter()))

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


def some_pairs(pairs: Pairs, place: object) -> Pairs:
    """The pairs, if there is at least one."""
    if not pairs:
        raise ValueError(f"{place}: expected at least one pair, got {pairs}")
    return pairs
