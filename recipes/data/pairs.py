"""Data: one function per source and file format; text pairs for translation.

    named sources   homeassistant, libreoffice_help, debian_descriptions
                    downloaded once, kept in `cache_dir()`
    files           moses, tsv, jsonl, tmx, po           plain or .gz, .xz, .bz2
    front door      load_pairs -> Splits(train, valid, test)

Every reader returns `Pairs` and follows the same rules: a line ends at "\n" only; white space
within a text becomes one space; a pair with an empty side or with bytes that are not UTF-8 is
skipped and counted in `Pairs.skipped`, never silently; a file that breaks its own format is a
`ValueError` with path and line. Pure Python: nothing here imports TensorFlow.
"""

from collections import Counter
from pathlib import Path

from recipes.data.examples import Pairs
from recipes.data.files import OPENERS, say
from recipes.data.pairs_files import jsonl, moses, po, tmx, tsv
from recipes.data.pairs_packages import debian_descriptions, homeassistant, libreoffice_help
from recipes.data.splits import HELD_OUT_SHARE, Splits, hold_out


def load_pairs(
    data: str = "homeassistant",
    *,
    source_language: str,
    target_language: str,
    train: str | None = None,
    valid: str | None = None,
    test: str | None = None,
    seed: int = 0,
) -> Splits:
    """Reads train, valid and test pairs; prints to stderr how many came and were skipped.

    Args:
        data: "homeassistant", "libreoffice-help", "debian-descriptions", or files as for `train`,
            which takes its place.
        source_language, target_language: codes such as "en", "de"; they pick the files of a named
            source, the endings of a Moses prefix, the keys of JSONL, the `xml:lang` of TMX.
        train, valid, test: each a file (.tsv, .txt with tabs, .jsonl, .tmx, .po, also
            compressed), a Moses prefix ("corpus/train" = corpus/train.en and corpus/train.de,
            also compressed), or two such files "a.en.gz,b.de.gz".
        seed: picks the groups that `split` holds out.

    Returns:
        Splits. What was not given is split off by `split`, save that `train` with `valid` but
        without `test` leaves `test` None. Files given for a split are used as they are: Multi30k
        en-de has 29,000 pairs in train and 1,014 in valid, 0 skipped.
    """
    codes = source_language, target_language
    if source_language == target_language:
        raise ValueError(f"`target_language` must differ from `source_language`, got {codes}.")
    if train is not None and data != "homeassistant":
        raise ValueError(
            f"`data` and `train` must not both be given, got data={data!r}, train={train!r}."
        )
    if train is None and data in NAMED_SOURCES:
        whole = NAMED_SOURCES[data](*codes)
    else:
        name, place = ("data", data) if train is None else ("train", train)
        whole = _read(name, place, *codes)
    given = {
        name: _read(name, place, *codes)
        for name, place in (("valid", valid), ("test", test))
        if place is not None
    }
    shares = {name: HELD_OUT_SHARE for name in ("valid", "test") if name not in given}
    if train is not None and valid is not None:
        shares.pop("test", None)
    splits = split(whole, **shares, seed=seed) if shares else Splits(whole, Pairs(), None)
    splits = splits._replace(**given)
    for name, pairs in splits._asdict().items():
        say(f"{name}: {'not given' if pairs is None else pairs}")
    return splits


def split(pairs: Pairs, *, valid: float = 0.0, test: float = 0.0, seed: int = 0) -> Splits:
    """Holds out whole groups: shares of the pairs, but at most `HELD_OUT_PAIRS` (or one group).

    The order is a hash of `seed` and group, so every machine agrees. A group of more pairs than
    `LARGEST_GROUP_SHARE` of a held-out part stays in train, unless the smaller ones do not suffice.
    A held-out pair whose source text also occurs in train is dropped and counted.
    """
    home = hold_out(pairs.groups, valid=valid, test=test, seed=seed)
    parts = {"train": Pairs(skipped=Counter(pairs.skipped)), "valid": Pairs(), "test": Pairs()}
    rows = list(zip(pairs.source, pairs.target, pairs.groups, strict=True))
    trained = {source for source, _, group in rows if group not in home}
    for source, target, group in rows:
        name = home.get(group, "train")
        if name != "train" and source in trained:
            parts[name].skipped["source also in train"] += 1
        else:
            parts[name].add(source, target, group)
    for name, share in (("train", 1.0), ("valid", valid), ("test", test)):
        if share and not parts[name]:
            raise ValueError(
                f"Splitting must leave at least one pair in `{name}`, got none of {len(pairs):,} "
                f"pairs in {len(set(pairs.groups)):,} groups; give `train`, `valid` and `test` "
                "yourself."
            )
    return Splits(**parts)


NAMED_SOURCES = {
    "homeassistant": homeassistant,
    "libreoffice-help": libreoffice_help,
    "debian-descriptions": debian_descriptions,
}


def _read(name: str, place: str, source_language: str, target_language: str) -> Pairs:
    """Reads the files that the argument `name` = `place` means."""
    codes = source_language, target_language
    paths = place.split(",")
    if Path(place).is_file():
        plain = Path(place).with_suffix("") if Path(place).suffix in OPENERS else Path(place)
        match plain.suffix:
            case ".tsv" | ".txt":
                return tsv(place)
            case ".jsonl":
                return jsonl(place, *codes)
            case ".tmx":
                return tmx(place, *codes)
            case ".po":
                return po(place)
        raise ValueError(
            f"`{name}` must end in .tsv, .txt, .jsonl, .tmx or .po (also with .gz, .xz, .bz2), or "
            f"be a Moses prefix or two Moses files A,B; got {place!r}."
        )
    if len(paths) == 1:
        paths = [_moses_file(f"{place}.{code}") for code in codes]
    missing = [path for path in paths if not Path(path).is_file()]
    if missing or len(paths) != 2:
        raise ValueError(
            f"`{name}` must be a file, a Moses prefix, two files A,B"
            + (f" or one of {sorted(NAMED_SOURCES)}" if name == "data" else "")
            + f", got {place!r}; no such file: {', '.join(missing)}"
        )
    return moses(*paths)


def _moses_file(path: str) -> str:
    """`path`, or what there is of it compressed."""
    return next((path + end for end in ("", *OPENERS) if Path(path + end).is_file()), path)
