"""Documents with summaries out of files: JSONL, CSV, two aligned files, folders of .story files.

The texts of a table's rows are found by their keys, or those that are named; `refs` in JSONL are
further right summaries of the same document, which scores compare with.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from recipes.data import files
from recipes.data.examples import Pairs
from recipes.data.examples import some_pairs as some

FIELDS = (  # of a document and its summary, the first pair of which a row has both
    ("document", "summary"),
    ("article", "highlights"),
    ("body", "subject"),
    ("text", "title"),
)
REFERENCES = "refs"  # the key of further summaries, a list of texts
READERS = {".jsonl": files.json_lines, ".csv": files.csv_rows}  # of what a file's name ends in
HIGHLIGHT = "@highlight"
ENDED = re.compile(r"[.!?\u2026\"')\]]$")


def table(path: str | Path, fields: tuple[str, str] | None = None) -> Pairs:
    """A .jsonl or .csv file, the latter with a header; also .gz, .xz, .bz2.

    Args:
        path: the file.
        fields: the keys of a document and of its summary; None finds one pair of `FIELDS`, in
            capitals or not.

    Raises:
        ValueError: with path and line: a row lacks a field, or has no text there.
    """
    pairs = Pairs()
    read: Callable[[str | Path], Iterable[tuple[str, dict]]] = READERS[files.plain_suffix(path)]
    for place, row in read(path):
        keys = files.plain_names(row)
        found = ((keys[a], keys[b]) for a, b in FIELDS if a in keys and b in keys)
        chosen = fields or next(found, None)
        if chosen is None:
            known = ", ".join(map("/".join, FIELDS))
            raise ValueError(
                f"{place}: expected one of the pairs of keys {known}, got {sorted(row)}; "
                "--source_field and --target_field name others"
            )
        further = row.get(REFERENCES) or []
        texts = [further] if isinstance(further, str) else further
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"{place}: expected a list of texts for {REFERENCES!r}, got {str(further)[:80]!r}"
            )
        document, summary = (_text(row, name, place) for name in chosen)
        line = int(place.rpartition(":")[2])
        pairs.add(document, summary, further=texts, line=line)
    return some(pairs, path)


def _text(row: dict, name: str, place: str) -> str:
    """The text of a field; of a list of texts, as of highlights, it is all of them."""
    value = row.get(name, 0)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return sentences(value)
    if not isinstance(value, str | None):
        raise ValueError(f"{place}: expected a text for {name!r}, got {str(row)[:80]}")
    return value or ""


def sentences(texts: Iterable[str]) -> str:
    """Texts in one, each with a full stop at its end if it has no other sign there."""
    texts = filter(None, map(str.strip, texts))
    return " ".join(text if ENDED.search(text) else f"{text}." for text in texts)


def stories(folder: str | Path) -> Pairs:
    """A folder of `.story` files, as those of CNN and the Daily Mail: an article, and after it
    lines "@highlight" with a sentence of the summary below each.

    Raises:
        ValueError: with path: a file has no highlight.
    """
    pairs = Pairs()
    paths = sorted(Path(folder).rglob("*.story"))
    for path in files.progress(paths, f"Reading {folder}, story"):
        article, *highlights = "\n".join(files.lines(path)).split(HIGHLIGHT)
        if not highlights:
            raise ValueError(f"{path}: expected a line {HIGHLIGHT} below the article, got none")
        pairs.add(article, sentences(highlights), group=path.stem)
    return some(pairs, folder)
