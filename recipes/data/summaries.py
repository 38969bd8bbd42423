"""Data: documents and their summaries, for summarization.

    named sources   docstrings, debian-descriptions
    files           .jsonl, .csv    document/summary, article/highlights, body/subject, text/title,
                                    or the fields that are named; `refs`: further summaries
                    two files A,B   Gigaword's: line n of one means line n of the other
                    a folder        CNN's and the Daily Mail's .story files
    front door      load_summaries -> Splits(train, valid, test) of `Pairs`

The rules are those of `pairs`. Pure Python: nothing here imports TensorFlow.
"""

import os

from recipes.data import sources, summaries_files
from recipes.data.examples import Pairs
from recipes.data.files import is_file, plain_suffix
from recipes.data.pairs import completed
from recipes.data.pairs_files import moses
from recipes.data.splits import Splits, chosen_place
from recipes.data.summaries_packages import debian_descriptions, docstrings

DOCSTRINGS, DEBIAN = NAMED_SOURCES = ("docstrings", "debian-descriptions")
PACKAGES = "tensorflow,keras"


def load_summaries(
    data: str = DOCSTRINGS,
    *,
    train: str | None = None,
    valid: str | None = None,
    test: str | None = None,
    packages: str | None = None,
    source_field: str | None = None,
    target_field: str | None = None,
    seed: int = 0,
) -> Splits:
    """Reads train, valid and test documents; prints to stderr how many came and were skipped.

    Args:
        data: "docstrings", "debian-descriptions", or what `train` takes, in whose place it stands.
            Either may name several, with weights: "docstrings:1,mine.jsonl:2".
        train, valid, test: each a file .jsonl or .csv (also .gz, .xz, .bz2), two line-aligned files
            "documents.txt,summaries.txt", or a folder of .story files.
        packages: whose docstrings, as "numpy,scipy" or paths of wheels; None for `PACKAGES`.
        source_field, target_field: keys of a document and its summary in .jsonl and .csv.
        seed: picks the groups that are held out.

    Returns:
        Splits. What was not given is split off, save that `train` with `valid` but without `test`
        leaves `test` None. Held out are whole folders of a Python package, whole source packages of
        Debian, and files' equal documents.

    Raises:
        ValueError: arguments that do not go together; a place that is none of these; or what the
            readers refuse, with path and line.
    """
    name, place = chosen_place(data, train, DOCSTRINGS)
    names = list(sources.weights(place))
    is_named = {each: train is None and each in NAMED_SOURCES for each in names}
    if packages is not None and not is_named.get(DOCSTRINGS):
        raise ValueError(
            f"`packages` is for data={DOCSTRINGS!r}, got packages={packages!r}, "
            f"data={data!r}, train={train!r}."
        )
    places = {"valid": valid, "test": test}
    given = {name: place for name, place in places.items() if place is not None}
    files = [each for each in names if not is_named[each]]
    fields = _fields(source_field, target_field, [*given.values(), *files])

    def read(each):
        if not is_named[each]:
            return _read(name, each, fields)
        return docstrings(packages or PACKAGES) if each == DOCSTRINGS else debian_descriptions()

    whole = sources.read_each(place, read)
    given = {name: _read(name, place, fields) for name, place in given.items()}
    return completed(whole, given, is_train=train is not None, seed=seed)


def _fields(source: str | None, target: str | None, places: list[str]) -> tuple[str, str] | None:
    """The two fields that are named, if there is a file that has fields."""
    if source is None and target is None:
        return None
    if not (source and target) or source == target:
        raise ValueError(
            "`source_field` and `target_field` must be two different keys, "
            f"got source_field={source!r}, target_field={target!r}."
        )
    if not any(plain_suffix(place) in summaries_files.READERS for place in places):
        raise ValueError(
            "`source_field` and `target_field` need a file .jsonl or .csv, "
            f"got {', '.join(places) or 'none'}."
        )
    return source, target


def _read(name: str, place: str, fields: tuple[str, str] | None) -> Pairs:
    """Reads what the argument `name` = `place` means."""
    if os.path.isdir(place):  # False for names that no folder can have, too
        return summaries_files.stories(place)
    if is_file(place):
        if plain_suffix(place) in summaries_files.READERS:
            return summaries_files.table(place, fields)
        raise ValueError(
            f"`{name}` must end in .jsonl or .csv (also with .gz, .xz, .bz2), be two files A,B or "
            f"a folder of .story files; got {place!r}."
        )
    paths = place.split(",")
    missing = [path for path in paths if not is_file(path)]
    if missing or len(paths) != 2:
        raise ValueError(
            f"`{name}` must be a file, two files A,B, a folder"
            + (f" or one of {list(NAMED_SOURCES)}" if name == "data" else "")
            + f", got {place!r}; no such file: {', '.join(missing) or 'a third one'}"
        )
    return moses(*paths)
