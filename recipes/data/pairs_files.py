"""Parallel texts out of files: Moses, TSV, JSONL, TMX, PO."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from recipes.data.examples import Pairs
from recipes.data.examples import some_pairs as some
from recipes.data.files import lines, open_compressed, parsing, progress
from recipes.data.languages import is_code, match_both, resolve
from recipes.data.pairs_po import po as po

NO_TEXT = re.compile(  # a number, an address, a word with a digit in it, as ids have
    r"[-+]?[\d.,]+(?:[eE][-+]?\d+)?%?|[a-z]+://\S+|(?=\S*\d)[\w./:#@-]+", re.ASCII
)
NO_TEXT_SHARE = 0.9  # of the rows: a column with more is none of texts
LONGEST_CODE = 10  # zh-Hant-TW
LANGUAGE_KEYS = (  # of JSONL, for a source and a target
    ("source_language", "source_lang", "src_lang"),
    ("target_language", "target_lang", "tgt_lang", "trg_lang"),
)
CODES = ("bpt", "ept", "ph", "it", "ut")  # elements of TMX that hold native code
BREAKS = ("lb", "pb", "cb")  # types of code between two words: ends of line, page, column
DEEPEST = 200  # elements within each other; segments have a handful


def moses(source_path: str | Path, target_path: str | Path) -> Pairs:
    """Two files, one text a line; line n of one means line n of the other. Blank lines at the end
    of one alone are none."""
    pairs, counts, is_even = Pairs(), [0, 0], True
    for source, target in zip_longest(lines(source_path), lines(target_path)):
        counts[0] += source is not None
        counts[1] += target is not None
        if None in (source, target):
            is_even = is_even and not (source or target or "").strip()
            pairs.skipped["blank line at the end"] += 1
        else:
            pairs.add(source, target)
    if not is_even:
        raise ValueError(
            "A source and its target must have as many lines, "
            f"got {source_path}: {counts[0]:,} lines, {target_path}: {counts[1]:,} lines."
        )
    return some(pairs, f"{source_path}, {target_path}")


def tsv(
    path: str | Path,
    source_language: str | None = None,
    target_language: str | None = None,
    columns: tuple[int, int] | None = None,
) -> Pairs:
    """Two columns, or three where the last is a comment (Tatoeba and Anki exports).

    `columns`, counted from 1, are those of the source and of the target among any number. A first
    line that names both languages, or "source" and "target", says it, too.

    Raises:
        ValueError: besides what breaks the format, if a column is of numbers or ids, where the
            other one is not, and `columns` is None.
    """
    pairs, rows = Pairs(), []
    chosen, width = columns, None
    for number, line in enumerate(lines(path), start=1):
        if not line.strip(" \r"):
            pairs.skipped["empty side"] += 1
            continue
        cells = line.split("\t")
        if number == 1 and chosen is None:
            chosen = _named_columns(cells, path, source_language, target_language)
            if chosen is not None:
                width = len(cells)
                pairs.skipped["header"] += 1
                continue
        if width is not None and len(cells) != width:
            raise ValueError(
                f"{path}:{number}: expected {width} columns, got {len(cells)}: {line[:80]!r}"
            )
        if chosen is None and len(cells) not in (2, 3):
            raise ValueError(
                f"{path}:{number}: expected 2 or 3 columns with tabs between them, "
                f"got {len(cells)}: {line[:80]!r}; --columns says which two are meant"
            )
        if chosen is not None and len(cells) < max(chosen):
            raise ValueError(
                f"{path}:{number}: expected at least {max(chosen)} columns, got {len(cells)}: "
                f"{line[:80]!r}"
            )
        rows.append(tuple(cells[column - 1] for column in chosen or (1, 2)))
    if chosen is None:
        _check_texts(rows, path)
    for row in rows:
        pairs.add(*row)
    return some(pairs, path)


def _named_columns(
    cells: list[str], path: str | Path, *codes: str | None
) -> tuple[int, int] | None:
    """The columns, counted from 1, that a first line names: by both languages, else by "source" and
    "target"."""
    names = [cell.strip() for cell in cells]
    lower = [name.lower() for name in names]
    if {"source", "target"} <= {*lower}:
        return lower.index("source") + 1, lower.index("target") + 1
    if None in codes:
        return None
    known = [name for name in names if len(name) <= LONGEST_CODE and is_code(name)]
    found = match_both(known, *codes)
    if None not in found:
        return names.index(found[0]) + 1, names.index(found[1]) + 1
    if any(found) and 1 < len(known) == len(names):
        raise ValueError(f"{path}:1: expected columns for {codes[0]} and {codes[1]}, got {names}")
    return None


def _check_texts(rows: Sequence[tuple[str, str]], path: str | Path) -> None:
    """Raises a ValueError if one of two columns holds numbers or ids, where the other does not, or
    the same in all of many rows."""
    kinds = [[bool(NO_TEXT.fullmatch(text.strip())) for text in row] for row in rows]
    for column in (0, 1):
        odd = sum(kind[column] and not kind[1 - column] for kind in kinds)
        values = {row[column] for row in rows}
        if rows and odd > NO_TEXT_SHARE * len(rows):
            what = f"numbers or ids in {odd / len(rows):.0%} of the rows"
        elif len(rows) >= 10 and len(values) == 1 and len({row[1 - column] for row in rows}) > 1:
            what = "the same in all rows"
        else:
            continue
        raise ValueError(
            f"{path}: expected texts in columns 1 and 2, got in column {column + 1} {what}, as "
            f"{rows[0][column][:40]!r}; say which two are meant by --columns, as --columns 2,3 "
            "(or 1,2 if it is these)."
        )


def jsonl(path: str | Path, source_key: str, target_key: str) -> Pairs:
    """An object a line: the two keys, also below "translation" or in another spelling of the codes,
    or else "source" and "target"; if it names their languages beside, in the order asked for."""
    pairs = Pairs()
    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            pairs.skipped["empty side"] += 1
            continue
        place = f"{path}:{number}"
        with parsing(place, "a JSON object"):
            row = json.loads(line)
        row = row if isinstance(row, dict) else {}
        texts = _json_texts(row, source_key, target_key, place)
        if not texts or not all(isinstance(text, str | None) for text in texts):
            raise ValueError(
                f"{place}: expected an object with texts for {source_key!r} and "
                f"{target_key!r}, or for 'source' and 'target', got {line[:80]!r}"
            )
        pairs.add(*(text or "" for text in texts))
    return some(pairs, path)


def _json_texts(row: dict, source_key: str, target_key: str, place: str) -> list:
    """The source and the target of a row; empty if there are none."""
    inner = row["translation"] if isinstance(row.get("translation"), dict) else row
    codes = [source_key, target_key]
    if {*codes} <= {*inner}:
        return [inner[key] for key in codes]
    if {"source", "target"} <= {*inner}:
        said = [
            next((row[k] for k in keys if isinstance(row.get(k), str)), None)
            for keys in LANGUAGE_KEYS
        ]
        texts = [inner["source"], inner["target"]]
        if None in said:
            return texts
        found = match_both({*said}, *codes)
        if None in found:
            raise ValueError(f"{place}: expected {codes[0]!r} and {codes[1]!r}, got {said}")
        return texts if found == said else texts[::-1]
    found = match_both([key for key in inner if isinstance(inner[key], str | None)], *codes)
    return [] if None in found else [inner[key] for key in found]


def tmx(path: str | Path, source_language: str, target_language: str) -> Pairs:
    """Translation memory. "en" also takes "en-US" and the reverse; an exact match goes first."""
    pairs, languages, inside = Pairs(), set(), []
    for event, element in _tags(path):
        if event == "start":
            inside.append(element)
            continue
        inside.pop()
        if element.tag.rpartition("}")[2] != "tu":
            continue
        texts = dict(map(_segment, reversed(element.findall("{*}tuv"))))  # first one wins
        languages.update(texts)
        found = match_both(texts, source_language, target_language)
        if None in found:
            pairs.skipped["language missing"] += 1
        else:
            pairs.add(*(texts[code] for code in found))
        if inside:
            inside[-1].remove(element)  # keeps memory flat
    if languages:
        resolve(languages, source_language, target_language)
    return some(pairs, path)


def _tags(path: str | Path) -> Iterator[tuple[str, ElementTree.Element]]:
    """(event, element) at the start and the end of each element of an XML file."""
    depth = 0
    with parsing(path, "XML"), open_compressed(path) as file:
        counted = _Lines(file)
        events = ElementTree.iterparse(counted, events=("start", "end"))
        try:
            for event, element in progress(events, f"Reading {path}, XML tag"):
                depth += 1 if event == "start" else -1
                if depth > DEEPEST:
                    raise ValueError(f"{DEEPEST} elements within each other")
                yield event, element
        except (LookupError, ValueError) as error:  # an unknown encoding; too deep
            raise ValueError(f"{path}:{counted.number}: expected XML, got: {error}") from error


class _Lines:
    """Gives a file to a parser line by line, so that `number` is the line where it is."""

    def __init__(self, file: BinaryIO):
        self.file, self.number, self._is_ended = file, 1, False

    def read(self, size: int) -> bytes:
        part = self.file.readline(size)
        self.number += self._is_ended
        self._is_ended = part.endswith(b"\n")
        return part


def _segment(tuv: ElementTree.Element) -> tuple[str, str]:
    """(language, text) of one TMX variant, without the native codes of its markup."""
    language = tuv.get("{http://www.w3.org/XML/1998/namespace}lang") or tuv.get("lang") or ""
    return language, "".join(_plain(tuv.find("{*}seg")))


def _plain(element: ElementTree.Element | None) -> Iterator[str]:
    """The text of a segment. Native code goes, but for breaks, which are spaces, and for <sub>,
    which is text within it, as the title of a picture."""
    if element is None:
        return
    is_code = element.tag.rpartition("}")[2] in CODES
    text = element.text or ""
    if not is_code:
        yield text
    elif element.get("type") in BREAKS or re.match(r"\s*<br\b|\s*\\n|\n", text):
        yield " "
    for child in element:
        if not is_code:
            yield from _plain(child)
            yield child.tail or ""
        elif child.tag.rpartition("}")[2] == "sub":
            yield from (" ", *_plain(child), " ")
