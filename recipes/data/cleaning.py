"""Examples that harm a training: found, counted, shown with an example, and left out.

    splits = cleaned(splits)                        # train alone; valid and test stay as they are
    splits = cleaned(splits, rules=CAPTIONS, what="captions")
    report(train, PARALLEL)                         # {"repeated": [3, 17], ...}

The rules are about what a corpus does as a whole, so they need no languages: a pair whose length
ratio is far from the median ratio, or whose script is rare on its side, is likely to be misaligned.
Unicode's names of letters say which script they are of. Every kind of examples is looked at as
`Pairs`; the rules themselves stand in `cleaning_rules`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from recipes.data.cleaning_rules import (
    Rule,
    lengths,
    lone_phonemes,
    long_captions,
    longer,
    markup,
    of_many_pictures,
    phonemes,
    repeated,
    same,
    scripts,
    tags,
    text_scripts,
    unlike_seconds,
    word_scripts,
    wordless,
)
from recipes.data.examples import Pairs
from recipes.data.splits import Splits

SHOWN = 48  # characters of a side in the report

PARALLEL: dict[str, Rule] = {
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
PRONUNCIATIONS = {
    "repeated": repeated,
    "lengths differ": phonemes,
    "wrong script": word_scripts,
    "a phoneme of no other entry": lone_phonemes,
}
CAPTIONS = {
    "repeated": repeated,
    "without a word": wordless,
    "markup": tags,
    "wrong script": text_scripts,
    "far too long": long_captions,
    "of very many pictures": of_many_pictures,
}
CLIPS = {"repeated": repeated, "wrong script": text_scripts}  # and that of `clip_rules`
OF_ALL_SOURCES = repeated, lone_phonemes  # rules that look at all sources at once
HELP = (
    "leave out training pairs that are repeated, the same on both sides, in a wrong script, of "
    "very different lengths, or whose tags or placeholders differ; prints how many, with examples"
)
SUMMARIES_HELP = (
    "leave out training pairs that are repeated, the same on both sides, in a wrong script, or "
    "whose summary is longer than the document; prints how many, with examples"
)
PRONUNCIATIONS_HELP = (
    "leave out training pronunciations that are repeated in another source, of words in a wrong "
    "script, of far more or fewer phonemes than such words have, or with a phoneme that no other "
    "entry of a large dictionary has; prints how many, with examples"
)
CAPTIONS_HELP = (
    "leave out training captions that are repeated, without a word, in a wrong script, far too "
    "long, of very many pictures, or that have tags; prints how many, with examples"
)
CLIPS_HELP = (
    "leave out training clips that are repeated, whose text is in a wrong script, or far longer or "
    "shorter than what is said here in so many seconds; prints how many, with examples"
)


def clip_rules(seconds: dict[str, float]) -> dict[str, Rule]:
    """The rules for clips, of which `clips_audio.seconds_of` gives the seconds."""
    return CLIPS | {"unlike the seconds": unlike_seconds(seconds)}


def report(pairs: Pairs, rules: dict[str, Rule] = PARALLEL) -> dict[str, list[int]]:
    """{rule: rows that it is against}, each row under the first such rule.

    What is usual is looked for in each source apart. A pair of several sources is repeated in the
    later ones, and a phoneme of several sources counts in all of them.
    """
    parts, rows = pairs.by_place(), pairs.rows_by_place()
    taken: set[int] = set()
    found = {}
    for name, rule in rules.items():
        if rule in OF_ALL_SOURCES:
            against = rule(pairs)
        else:
            against = sorted(rows[place][row] for place in rows for row in rule(parts[place]))
        found[name] = [row for row in against if row not in taken]
        taken.update(found[name])
    return found


def cleaned(
    splits: Splits, label: str = "", rules: dict[str, Rule] = PARALLEL, what: str = "pairs"
) -> Splits:
    """The splits with what keeps the rules in `train`; prints the report.

    Args:
        splits: of `Pairs`, or of other examples that have `pairs` and `chosen`.
        label: the target language, if there are several.
        rules: as in `report`.
        what: the name of the examples in what is printed.

    Raises:
        ValueError: none is left.
    """
    train: Any = splits.train
    pairs = train.pairs
    of = f" to {label}" if label else ""
    print(f"Cleaning {len(pairs):,} training {what}{of}", flush=True)
    found = report(pairs, rules)
    out = {row for rows in found.values() for row in rows}
    skipped = train.skipped + Counter({name: len(rows) for name, rows in found.items()})
    kept = train.chosen((row for row in range(len(pairs)) if row not in out), skipped)
    for name, rows in found.items():
        print(f"  {len(rows):>9,}  {name}{_example(pairs, rows, is_named=pairs is not train)}")
    print(f"  {len(pairs) - len(out):>9,}  are left", flush=True)
    if not kept:
        one = what.removesuffix("s")
        raise ValueError(f"`clean` must leave at least one training {one}{of}, got none: {kept}.")
    return splits._replace(train=kept)


def _example(pairs: Pairs, rows: Collection[int], *, is_named: bool) -> str:
    """The first pair of the rows: of a long text the beginning, of a long name the end."""
    if not rows:
        return ""
    source, target = pairs.source[min(rows)], pairs.target[min(rows)]
    if len(source) > SHOWN:
        source = f"…{source[1 - SHOWN :]}" if is_named else f"{source[: SHOWN - 1]}…"
    if len(target) > SHOWN:
        target = f"{target[: SHOWN - 1]}…"
    return f", as {source!r} -> {target!r}"
