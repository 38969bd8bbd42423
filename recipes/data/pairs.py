"""Data: one function per source and file format; text pairs for translation.

    named sources   homeassistant, libreoffice_help, debian_descriptions
                    downloaded once, kept in `cache_dir()`
    files           moses, tsv, jsonl, tmx, po           plain or .gz, .xz, .bz2
                    the languages that a file names are read: sides are swapped, or it is refused
    front door      load_pairs -> Splits(train, valid, test)

Every reader returns `Pairs` and follows the same rules: a line ends at "\n" only; white space
within a text becomes one space; a pair with an empty side or with bytes that are not UTF-8 is
skipped and counted in `Pairs.skipped`, never silently; a file that breaks its own format is a
`ValueError` with path and line. Pure Python: nothing here imports TensorFlow.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kzoo.metrics.score import normalized
from recipes.data import sources
from recipes.data.examples import Pairs
from recipes.data.files import column_numbers, compression, is_file, plain_suffix, say
from recipes.data.languages import doubt, is_code, is_same, language_of, match, match_both
from recipes.data.pairs_files import jsonl, moses, po, tmx, tsv
from recipes.data.pairs_packages import debian_descriptions, homeassistant, libreoffice_help
from recipes.data.splits import (
    Splits,
    also_trained,
    chosen_place,
    filled,
    hold_out,
    missing_shares,
)

TABLES = (".tsv", ".txt")
HOLE = "{language}"  # in a path, where the code of the target language stands
NAMED_SOURCES = {
    "homeassistant": homeassistant,
    "libreoffice-help": libreoffice_help,
    "debian-descriptions": debian_descriptions,
}


def load_pairs(
    data: str = "homeassistant",
    *,
    source_language: str,
    target_language: str,
    train: str | None = None,
    valid: str | None = None,
    test: str | None = None,
    columns: str | None = None,
    seed: int = 0,
) -> Splits:
    """Reads train, valid and test pairs; prints to stderr how many came and were skipped.

    Args:
        data: "homeassistant", "libreoffice-help", "debian-descriptions", or files as for `train`,
            which takes its place. Either may name several, with weights: "homeassistant:2,a.tsv:1".
        source_language, target_language: codes such as "en", "de"; they pick the files of a named
            source, the endings of a Moses prefix, the keys of JSONL, the `xml:lang` of TMX.
        train, valid, test: each a file (.tsv, .txt with tabs, .jsonl, .tmx, .po, also
            compressed), a Moses prefix ("corpus/train" = corpus/train.en and corpus/train.de,
            also compressed), or two such files "a.en.gz,b.de.gz". "{language}" in a path stands for
            the target language.
        columns: of the TSV files, counted from 1: "2,3" is source and target. None takes those that
            a first line names, else the first two.
        seed: picks the groups that `split` holds out.

    Returns:
        Splits. What was not given is split off by `split`, save that `train` with `valid` but
        without `test` leaves `test` None. Files given for a split are used as they are: Multi30k
        en-de has 29,000 pairs in train and 1,014 in valid, 0 skipped.
    """
    places = {"train": train, "valid": valid, "test": test}
    whole, given = read_pairs(data, (source_language, target_language), places, columns)
    return completed(whole, given, is_train=train is not None, seed=seed)


def read_pairs(
    data: str, codes: tuple[str, str], places: dict[str, str | None], columns: str | None
) -> tuple[Pairs, dict[str, Pairs]]:
    """The pairs to train on and to split, and those of "valid" and "test" that `places` has.

    Args:
        data, columns: as in `load_pairs`; the pairs of several sources have their `places`.
        codes: of the source and of the target.
        places: {"train", "valid", "test": file, prefix, two files or None}.
    """
    if is_same(*codes):
        raise ValueError(f"`target_language` must differ from `source_language`, got {codes}.")
    for name, code in zip(("source_language", "target_language"), codes, strict=True):
        if doubted := doubt(code):
            say(f"`{name}`: {doubted}")
    name, place = chosen_place(data, places["train"], "homeassistant")
    held_out = {key: path for key in ("valid", "test") if (path := places[key]) is not None}
    chosen = _chosen_columns(columns, [*sources.weights(place), *held_out.values()])

    def read(name, place):
        if name == "data" and place in NAMED_SOURCES:
            return NAMED_SOURCES[place](*codes)
        return _read(name, place.replace(HOLE, codes[1]), *codes, chosen)

    whole = sources.read_each(place, functools.partial(read, name))
    return whole, {name: read(name, place) for name, place in held_out.items()}


def load_beside(
    train: Pairs,
    codes: tuple[str, str],
    places: dict[str, str],
    known: Callable[[set[str]], set[str]],
) -> Splits:
    """The splits of a sample of the training pairs and of files for "valid" and "test".

    `known` is a function from normalized sources to those of them that the training pairs have.
    """
    given = {name: _read(name, p.replace(HOLE, codes[1]), *codes) for name, p in places.items()}
    trained = known({normalized(text) for part in given.values() for text in part.source})
    for name, part in given.items():
        say(f"{name}: {part}{also_trained(_known(part, trained), 'sources')}")
    return Splits(train, given["valid"], given.get("test"))


def completed(whole: Pairs, given: dict[str, Pairs], *, is_train: bool, seed: int) -> Splits:
    """The splits, of which `given` holds "valid" or "test" or both; says how many pairs each has.

    What is not given is split off `whole`, save for a test beside a `whole` that `is_train` with a
    valid of its own: that stays None. What is given stays as it is; how many of its sources also
    occur in train is said.
    """
    shares = missing_shares(given, is_closed=is_train and "valid" in given)
    has_more = any(shares.values())
    splits = split(whole, **shares, seed=seed) if has_more else Splits(whole, Pairs(), None)
    return with_given(splits, given)


def with_given(splits: Splits, given: dict[str, Pairs], trained: set[str] | None = None) -> Splits:
    """The splits with the `given` ones; says how many pairs each has, and how many of the given
    ones' sources are in train, too, or among `trained`, normalized sources."""
    splits = splits._replace(**given)
    if trained is None:
        trained = set(map(normalized, splits.train.source)) if given else set()
    splits.say({name: _known(part, trained) for name, part in given.items()}, "sources")
    return splits


def _known(pairs: Pairs, trained: set[str]) -> int:
    """How many sources of the pairs are among those `trained`, normalized ones."""
    return sum(normalized(text) in trained for text in pairs.source)


def split(pairs: Pairs, *, valid: float = 0.0, test: float = 0.0, seed: int = 0) -> Splits:
    """Holds out whole groups: shares of the pairs, but at most `HELD_OUT_PAIRS` (or one group).

    The order is a hash of `seed` and group, so every machine agrees. A group of more pairs than
    `LARGEST_GROUP_SHARE` of a held-out part stays in train, unless the smaller ones do not suffice.
    A held-out pair whose source text also occurs in train, be it in other bytes that look the same,
    is dropped and counted.
    """
    home = hold_out(pairs.groups, valid=valid, test=test, seed=seed)
    return at_home(pairs, home, trained_sources(pairs, home), valid=valid, test=test)


def trained_sources(pairs: Pairs, home: dict[str, str]) -> set[str]:
    """The sources, normalized, of the groups that `home` does not hold out."""
    rows = zip(pairs.source, pairs.groups, strict=True)
    return {normalized(source) for source, group in rows if group not in home}


def at_home(
    pairs: Pairs, home: dict[str, str], trained: set[str], *, valid: float, test: float
) -> Splits:
    """Each pair in the part that `home` has for its group, else in train; but none in a held-out
    part whose source is among those `trained`. A part with a share must not be empty."""
    rows = {name: [] for name in Splits._fields}
    skipped = {"train": pairs.skipped, "valid": Counter(), "test": Counter()}
    for row, (source, group) in enumerate(zip(pairs.source, pairs.groups, strict=True)):
        name = home.get(group, "train")
        if name != "train" and normalized(source) in trained:
            skipped[name]["source also in train"] += 1
        else:
            rows[name].append(row)
    parts = {name: pairs.chosen(rows[name], skipped[name]) for name in rows}
    of = f"{len(pairs):,} pairs in {len(set(pairs.groups)):,} groups"
    return filled(parts, valid=valid, test=test, one="pair", of=of)


def _chosen_columns(columns: str | None, places: list[str]) -> tuple[int, int] | None:
    """ "2,3" -> (2, 3), if there is a file that has columns."""
    if columns is None:
        return None
    chosen = column_numbers(columns)
    if not any(plain_suffix(place) in TABLES for place in places):
        raise ValueError(f"`columns` needs a file {' or '.join(TABLES)}, got {', '.join(places)}.")
    return chosen


def _read(
    name: str,
    place: str,
    source_language: str,
    target_language: str,
    columns: tuple[int, int] | None = None,
) -> Pairs:
    """Reads the files that the argument `name` = `place` means."""
    codes = source_language, target_language
    paths = place.split(",")
    if is_file(place):
        match plain_suffix(place):
            case ".tsv" | ".txt":
                return tsv(place, *codes, columns)
            case ".jsonl":
                return jsonl(place, *codes)
            case ".tmx":
                return tmx(place, *codes)
            case ".po":
                return po(place, *codes)
        raise ValueError(
            f"`{name}` must end in .tsv, .txt, .jsonl, .tmx or .po (also with .gz, .xz, .bz2), or "
            f"be a Moses prefix or two Moses files A,B; got {place!r}."
        )
    if len(paths) == 1:
        paths = _moses_files(place, *codes)
    missing = [path for path in paths if not is_file(path)]
    if missing or len(paths) != 2:
        raise ValueError(
            f"`{name}` must be a file, a Moses prefix, two files A,B"
            + (f" or one of {sorted(NAMED_SOURCES)}" if name == "data" else "")
            + f", got {place!r}; no such file: {', '.join(missing)}"
        )
    _check_order(name, paths, codes)
    return moses(*paths)


def _moses_files(prefix: str, *codes: str) -> list[str]:
    """The files of a prefix, also compressed, whose endings are the codes or other spellings."""
    endings = {}
    if Path(prefix).parent.is_dir():
        for path in sorted(Path(prefix).parent.iterdir()):
            if path.name.startswith(f"{Path(prefix).name}.") and is_file(path):
                ending = path.name[len(Path(prefix).name) + 1 :]
                endings.setdefault(ending.removesuffix(compression(path)), str(path))
    found = match_both(endings, *codes)
    return [endings.get(end, f"{prefix}.{code}") for end, code in zip(found, codes, strict=True)]


def _check_order(name: str, paths: list[str], codes: tuple[str, str]) -> None:
    """Raises a ValueError if the names of two files say other languages than those asked for.

    The part in which the names differ says it: a.en and a.de, de.txt and en.txt, a_de.b and a_en.b.
    A part of one name alone may be any word, as "is" or "it" in the name of a text.
    """
    source, target = codes
    for said in _differing_parts(*paths):
        known = [match(codes, part) for part in said]
        if known == [source, target]:
            continue
        if known[0] == target or known[1] == source:
            raise ValueError(
                f"`{name}` must name the source's file ({source}) before the target's ({target}), "
                f"got {','.join(paths)}."
            )
        if all(is_code(part) and len(language_of(part)) == 2 for part in said):  # src, tgt have 3
            raise ValueError(
                f"`{name}` must name files in {source!r} and {target!r}, got {said[0]!r} and "
                f"{said[1]!r} in {','.join(paths)}."
            )


def _differing_parts(*paths: str) -> list[list[str]]:
    """The last parts of two files' names, and the one part that differs, if they are no others."""
    names = [Path(path).name.removesuffix(compression(path)) for path in paths]
    found = [[plain_suffix(path)[1:] for path in paths]]
    for separator in (r"\.", "[._-]"):
        parts = [re.split(separator, name) for name in names]
        if len(parts[0]) == len(parts[1]):
            differ = [[*both] for both in zip(*parts, strict=True) if both[0] != both[1]]
            found += differ if len(differ) == 1 else []
    return [said for said in found if said[0] != said[1]]
