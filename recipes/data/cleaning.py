"""Pairs that harm a training: found, counted, shown with an example, and left out.

    splits = cleaned(splits)                        # train alone; valid and test stay as they are
    report(train, PARALLEL)                         # {"repeated": [3, 17], ...}

The rules are about what a corpus does as a whole, so they need no languages: a pair whose length
ratio is far from the median ratio, or whose script is rare on its side, is likely to be misaligned.
Unicode's names of letters say which script they are of.
"""

from __future__ import annotations

import functools
import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection

from kzoo.metrics.score import normalized
from recipes.data.examples import Pairs
from recipes.data.splits import Splits

LONGEST_RATIO = 3.0  # of lengths, in times of the corpus's median ratio
LEAST_CHARACTERS = 30  # of the longer side: the lengths of short texts say little
LEAST_WORDS = 3  # of a text that is not to be the same on both sides: names are, and short labels
LEAST_LETTERS = 10  # of a text whose script is looked at
COMMON_SCRIPT = 0.2  # the share of the texts of a side that makes a script one of that side
LEAST_RIGHT = 0.1  # the share of letters of such scripts: texts name products in other letters
SHOWN = 48  # characters of a side in the report

_TAG = re.compile(r"<(/?)([A-Za-z][\w:-]*)((?:\s+[\w:-]+=[^<>]*)?)\s*(/?)>")
_ALONE = frozenset({"br", "hr", "img", "p", "li"})  # tags that come without a second one
_PLACEHOLDER = re.compile(
    r"\{\{?\s*\w*\s*\}?\}"  # {}, {name}, {{ name }}
    r"|\$\{?[A-Z_]{2,}\}?"  # $NAME, ${NAME}
    r"|(?<!\d)%(?:\(\w+\)|\d+\$)?[-+0#]*\d*(?:\.\d+)?l{0,2}[sdifuxc@]"  # %s, %(name)s, %1$d, %.2f
)
_PLACE = re.compile(r"(?<=^%)\d+\$")  # of %1$s: an order of the language's own
_PLURAL = re.compile(r"\{\s*\w+\s*,\s*(plural|select|selectordinal)\s*,")  # its forms are words


def repeated(pairs: Pairs) -> list[int]:
    """The same pair as an earlier one."""
    seen, rows = set(), []
    sides = (map(normalized, side) for side in (pairs.source, pairs.target))
    for row, pair in enumerate(zip(*sides, strict=True)):
        if pair in seen:
            rows.append(row)
        seen.add(pair)
    return rows


def same(pairs: Pairs) -> list[int]:
    """Source and target the same, capitals aside, of several words: nobody translated it."""
    return [
        row
        for row, (source, target) in enumerate(zip(pairs.source, pairs.target, strict=True))
        if len(source.split()) >= LEAST_WORDS
        and normalized(source).casefold() == normalized(target).casefold()
    ]


def lengths(pairs: Pairs) -> list[int]:
    """One side far longer than the other, by what is usual here."""
    logs = [
        math.log(len(target) / len(source))
        for source, target in zip(pairs.source, pairs.target, strict=True)
    ]
    usual = statistics.median(logs) if logs else 0.0
    return [
        row
        for row, ratio in enumerate(logs)
        if abs(ratio - usual) > math.log(LONGEST_RATIO)
        and max(len(pairs.source[row]), len(pairs.target[row])) >= LEAST_CHARACTERS
    ]


def longer(pairs: Pairs) -> list[int]:
    """A summary that is longer than its document."""
    both = enumerate(zip(pairs.source, pairs.target, strict=True))
    return [row for row, (source, target) in both if len(target) > len(source)]


def scripts(pairs: Pairs) -> list[int]:
    """A side with hardly a letter of the scripts that are common on that side."""
    rows = set()
    for side in (pairs.source, pairs.target):
        found = [Counter(filter(None, map(_script_of, text))) for text in side]
        main = Counter(max(each, key=each.get) for each in found if each)
        common = [each for each, count in main.items() if count >= COMMON_SCRIPT * main.total()]
        common += [each for each, _ in main.most_common(1)]
        for row, each in enumerate(found):
            letters = each.total()
            if letters >= LEAST_LETTERS:
                right = sum(each[script] for script in common)
                rows.update([row] if right < LEAST_RIGHT * letters else [])
    return sorted(rows)


def markup(pairs: Pairs) -> list[int]:
    """Tags or placeholders that only one side has, or has more of."""
    return [
        row
        for row, (source, target) in enumerate(zip(pairs.source, pairs.target, strict=True))
        if not (_PLURAL.search(source) or _PLURAL.search(target))
        and _marks(source) != _marks(target)
    ]


PARALLEL: dict[str, Callable[[Pairs], list[int]]] = {
    "repeated": repeated,
    "same on both sides": same,
    "lengths differ": lengths,
    "wrong script": scripts,
    "markup differs": markup,
}
SUMMARIES = {
    "repeated": repeated,
    "same on both sides": same,
    "longer than the document": longer,
    "wrong script": scripts,
}
HELP = (
    "leave out training pairs that are repeated, the same on both sides, in a wrong script, of "
    "very different lengths, or whose tags or placeholders differ; prints how many, with examples"
)
SUMMARIES_HELP = (
    "leave out training pairs that are repeated, the same on both sides, in a wrong script, or "
    "whose summary is longer than the document; prints how many, with examples"
)


def report(
    pairs: Pairs, rules: dict[str, Callable[[Pairs], list[int]]] = PARALLEL
) -> dict[str, list[int]]:
    """{rule: rows that it is against}, each row under the first such rule.

    What is usual is looked for in each source apart. A pair of several sources is repeated in the
    later ones.
    """
    parts, rows = pairs.by_place(), pairs.rows_by_place()
    taken: set[int] = set()
    found = {}
    for name, rule in rules.items():
        if rule is repeated:
            against = rule(pairs)
        else:
            against = sorted(rows[place][row] for place in rows for row in rule(parts[place]))
        found[name] = [row for row in against if row not in taken]
        taken.update(found[name])
    return found


def cleaned(
    splits: Splits,
    label: str = "",
    rules: dict[str, Callable[[Pairs], list[int]]] = PARALLEL,
) -> Splits:
    """The splits with the pairs of `train` that keep the rules; prints the report.

    Raises:
        ValueError: none is left.
    """
    pairs = splits.train
    of = f" to {label}" if label else ""
    print(f"Cleaning {len(pairs):,} training pairs{of}", flush=True)
    found = report(pairs, rules)
    out = {row for rows in found.values() for row in rows}
    skipped = pairs.skipped + Counter({name: len(rows) for name, rows in found.items()})
    kept = pairs.chosen((row for row in range(len(pairs)) if row not in out), skipped)
    for name, rows in found.items():
        print(f"  {len(rows):>9,}  {name}{_example(pairs, rows)}")
    print(f"  {len(kept):>9,}  are left", flush=True)
    if not kept:
        raise ValueError(f"`clean` must leave at least one training pair{of}, got none: {kept}.")
    return splits._replace(train=kept)


def _example(pairs: Pairs, rows: Collection[int]) -> str:
    if not rows:
        return ""
    row = min(rows)
    return f", as {_short(pairs.source[row])} -> {_short(pairs.target[row])}"


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…")


def _marks(text: str) -> tuple[Counter[str], Counter[str]]:
    """The names of tags, of which translators may change what else is in them, and placeholders.

    <file> is a tag where something else says so, </file> or an attribute: usages of commands have
    such words, which are translated.
    """
    found = _TAG.findall(text)
    closed = {name for slash, name, _, _ in found if slash}
    tags = (
        f"{slash}{name}"
        for slash, name, attributes, end in found
        if slash or attributes or end or name in closed or name.lower() in _ALONE
    )
    return Counter(tags), Counter(map(_plain, _PLACEHOLDER.findall(text)))


def _plain(placeholder: str) -> str:
    """A placeholder without its place and blanks; %i is %d."""
    plain = _PLACE.sub("", re.sub(r"\s", "", placeholder))
    return plain[:-1] + "d" if plain.startswith("%") and plain.endswith("i") else plain


@functools.cache
def _script_of(character: str) -> str:
    """The script of a letter, "" of what is none; one script for Japanese and Chinese letters."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(unicodedata.normalize("NFKC", character)[0], "").split(" ")[0]
    return {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}.get(name, name)
