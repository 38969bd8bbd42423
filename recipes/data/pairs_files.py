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
from recipes.data.languages import code_of, is_code, language_of, match_both, resolve
from recipes.data.pairs_po import po as po

NO_TEXT = re.compile(  # a number, an address, a word with a digit in it, as ids have
    r"[-+]?[\d.,]+(?:[eE][-+]?\d+)?%?|[a-z]+://\S+|(?=\S*\d)[\w./:#@-]+", re.ASCII
)
NO_TEXT_SHARE = 0.9  # of the rows: a column with more is none of texts
LABEL = re.compile(r"[\w.-]{1,20}", re.ASCII)  # of a part of a corpus, as train, europarl-v7
MOST_LABELS = 10
LONGEST_CODE = 10  # zh-Hant-TW
SIDES = {"src": "source", "tgt": "target", "trg": "target"}  # other words for them
ABOUT_TEXTS = re.compile(r"\b(?:text|sentence|lang|language|source|target|src|tgt|trg)s?\b")
TEXT_KEYS = (("source", "target"), ("src", "tgt"), ("src", "trg"))  # of JSONL
LANGUAGE_KEYS = (  # of JSONL, for a source and a target
    ("source_language", "source_lang", "src_lang"),
    ("target_language", "target_lang", "tgt_lang", "trg_lang"),
)
CODES = ("bpt", "ept", "ph", "it", "ut", "x", "bx", "ex")  # elements that hold native code
BREAKS = ("lb", "pb", "cb", "br")  # types of code between two words: ends of line, page, column
BREAK = re.compile(  # native code that parts words: blocks of HTML, escapes, RTF, white space
    r"\s*</?(?:br|hr|p|div|ul|ol|li|dl|dt|dd|table|tr|td|th|h[1-6]|blockquote|pre)\b"
    r"|\s*\\(?:[nrt]|par|line|tab)(?![a-z])|\s*&(?:nbsp|#160|#xa0);|[\r\n]|\s+\Z",
    re.IGNORECASE,
)
DEEPEST = 200  # elements within each other; segments have a handful


def moses(source_path: str | Path, target_path: str | Path) -> Pairs:
    """Two files, one text a line; line n of one means line n of the other. Blank lines at the end
    of one alone are none."""
    pairs, counts, is_even = Pairs(), [0, 0], True
    both = zip_longest(lines(source_path), lines(target_path))
    for number, (source, target) in enumerate(both, start=1):
        counts[0] += source is not None
        counts[1] += target is not None
        if None in (source, target):
            is_even = is_even and not (source or target or "").strip()
            pairs.skipped["blank line at the end"] += 1
        else:
            pairs.add(source, target, line=number)
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
    line that names both languages, or "source" and "target", says it, too, and is never a pair.

    Raises:
        ValueError: besides what breaks the format, if a column is of numbers or ids, where the
            other one is not, or if the first row names two other languages, and `columns` is None.
    """
    pairs, rows, numbers, codes = Pairs(), [], [], (source_language, target_language)
    chosen, width, is_first = columns, None, True
    for number, line in enumerate(lines(path), start=1):
        if not line.strip(" \r"):
            pairs.skipped["empty side"] += 1
            continue
        cells = line.split("\t")
        if is_first:
            is_first, named = False, _named_columns(cells, columns, f"{path}:{number}", *codes)
            if named is not None:
                chosen, width = columns or named, len(cells)
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
        rows.append(cells if chosen is None else [cells[column - 1] for column in chosen])
        numbers.append(number)
    if chosen is None:
        _check_texts(rows, path)
        _check_no_header(rows, path, *codes)
    for row, number in zip(rows, numbers, strict=True):
        pairs.add(*row[:2], line=number)
    return some(pairs, path)


def check_table(path: str | Path, some_rows: Sequence[Sequence[str]], *codes: str) -> None:
    """Raises a ValueError unless the first line of a file is a pair of texts, not names of columns,
    and the first two columns of some of its rows are texts."""
    line = next(lines(path), "")
    cells = line.split("\t")
    if _named_columns(cells, None, f"{path}:1", *codes) is not None:
        raise ValueError(f"{path}:1: expected a pair of texts, got names of columns: {line[:80]!r}")
    if len(cells) not in (2, 3):
        raise ValueError(
            f"{path}:1: expected 2 or 3 columns with tabs between them, got {len(cells)}: "
            f"{line[:80]!r}"
        )
    _check_texts(some_rows, path)
    _check_no_header(some_rows, path, *codes)


def _check_no_header(rows: Sequence[Sequence[str]], path: str | Path, *codes: str | None) -> None:
    """Raises a ValueError if the first row names two languages, neither of which is asked for.

    It is a pair if it comes again. Two codes above a list of words are one, too: "io" and "yo".
    """
    if not rows or None in codes:
        return
    first = [cell.strip() for cell in rows[0][:2]]
    known = [_named_language(cell) for cell in first]
    if None in known or not _are_two_languages(*known):
        return
    texts = [row for row in rows[1:] if " " in row[0].strip()]
    is_word_list = 2 * len(texts) < len(rows[1:])
    is_again = any([cell.strip() for cell in row[:2]] == first for row in rows[1:])
    if is_again or (is_word_list and all(len(cell) == 2 for cell in first)):
        return
    raise ValueError(
        f"{path}: expected columns for {codes[0]} and {codes[1]}, got names of columns, {first}, "
        "in the first line; if that is a pair, put it below another one"
    )


def _are_two_languages(code: str, other: str) -> bool:
    """Whether two codes are of different languages that have codes of two letters, as those of
    corpora have: among the thousands of three letters are many words."""
    languages = [language_of(code), language_of(other)]
    return languages[0] != languages[1] and all(len(language) == 2 for language in languages)


def _named_columns(
    cells: list[str], columns: tuple[int, int] | None, place: str, *codes: str | None
) -> tuple[int, int] | None:
    """The columns, counted from 1, that a first line names: by both languages, else by "source" and
    "target". Of a file whose columns are chosen only these are looked at."""
    numbers = columns or range(1, len(cells) + 1)
    names = {number: cells[number - 1].strip() for number in numbers if number <= len(cells)}
    sides = {SIDES.get(name.lower(), name.lower()): number for number, name in names.items()}
    if {"source", "target"} <= {*sides}:
        return sides["source"], sides["target"]
    if None in codes:
        return None
    known = {number: _named_language(name) for number, name in names.items()}
    known = {code: number for number, code in reversed(known.items()) if code}
    found = match_both(known, *codes)
    if None not in found:
        named = known[found[0]], known[found[1]]
        if columns and named != columns:
            raise ValueError(
                f"{place}: expected columns for {codes[0]} and {codes[1]}, got "
                f"{[*names.values()]}; the other way round it is --columns {named[0]},{named[1]}"
            )
        return named
    if any(found) and 1 < len(known) == len(names):
        raise ValueError(
            f"{place}: expected columns for {codes[0]} and {codes[1]}, got {[*names.values()]}"
        )
    return None


def _named_language(cell: str) -> str | None:
    """The code of the language that a header's cell names, as de, German, de_text, text (de)."""
    if len(cell) <= LONGEST_CODE and is_code(cell):
        return cell
    words = ABOUT_TEXTS.sub(" ", re.sub(r"[\W_]+", " ", cell.lower())).split()
    return code_of(words[0]) if len(words) == 1 and len(words[0]) <= LONGEST_CODE else None


def _check_texts(rows: Sequence[Sequence[str]], path: str | Path) -> None:
    """Raises a ValueError if one of the first two columns holds numbers or ids, where another one
    does not, or the same or one of a few labels in all of many rows."""
    kinds = [[bool(NO_TEXT.fullmatch(text.strip())) for text in row] for row in rows]
    for column in (0, 1):
        odd = sum(kind[column] and not all(kind) for kind in kinds)
        values = {row[column] for row in rows}
        others = len({row[1 - column] for row in rows})
        if rows and odd > NO_TEXT_SHARE * len(rows):
            what = f"numbers or ids in {odd / len(rows):.0%} of the rows"
        elif len(values) == 1 < others and len(rows) >= (3 if is_code(*values) else 10):
            what = "the same in all rows"
        elif (
            len(values) <= min(MOST_LABELS, len(rows) / 5)
            and others > len(rows) / 2
            and all(map(LABEL.fullmatch, values))
        ):
            what = f"{len(values)} different labels in {len(rows):,} rows"
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
        pairs.add(*(text or "" for text in texts), line=number)
    return some(pairs, path)


def _json_texts(row: dict, source_key: str, target_key: str, place: str) -> list:
    """The source and the target of a row; empty if there are none."""
    inner = row["translation"] if isinstance(row.get("translation"), dict) else row
    codes = [source_key, target_key]
    if {*codes} <= {*inner}:
        return [inner[key] for key in codes]
    if keys := next((keys for keys in TEXT_KEYS if {*keys} <= {*inner}), None):
        texts = [inner[key] for key in keys]
        said = [_said_language(inner | row, names) for names in LANGUAGE_KEYS]
        known = [*filter(None, said)]
        found = match_both({*known}, *codes)
        if len(known) > len([*filter(None, found)]):
            raise ValueError(f"{place}: expected {codes[0]!r} and {codes[1]!r}, got {known}")
        is_swapped = any(one and one == other for one, other in zip(said, found[::-1], strict=True))
        return texts[::-1] if is_swapped else texts
    found = match_both([key for key in inner if isinstance(inner[key], str | None)], *codes)
    return [] if None in found else [inner[key] for key in found]


def _said_language(row: dict, names: Sequence[str]) -> str | None:
    """The code that one of the keys of a row holds; other values, as "auto", say nothing."""
    values = (row[name] for name in names if isinstance(row.get(name), str))
    return next(filter(None, map(code_of, values)), None)


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
    if languages == {""}:
        raise ValueError(f"{path}: expected <tuv> with xml:lang, got none that has it")
    if languages:
        with parsing(path, "two languages"):
            resolve(languages - {""}, source_language, target_language)
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
    is_native = element.tag.rpartition("}")[2] in CODES
    text = element.text or ""
    if not is_native:
        yield text
    elif element.get("type", "").lower().removeprefix("x-") in BREAKS or BREAK.match(text):
        yield " "
    for child in element:
        if not is_native:
            yield from _plain(child)
            yield child.tail or ""
        elif child.tag.rpartition("}")[2] == "sub":
            yield from (" ", *_plain(child), " ")
