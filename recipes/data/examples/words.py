"""Words with their pronunciations."""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kzoo.metrics.score import normalized
from recipes.data.examples.pairs import Pairs
from recipes.data.files import BLANK, is_utf8, with_reasons


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

    @classmethod
    def joined(cls, parts: Iterable["Words"]) -> "Words":
        """All words with the pronunciations of all parts, each of a source of its own."""
        whole = cls()
        for part in parts:
            whole.skipped.update(part.skipped)
            pairs = part.pairs
            for each in zip(pairs.source, pairs.target, pairs.places, strict=True):
                whole.add(*each)
        return whole

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
