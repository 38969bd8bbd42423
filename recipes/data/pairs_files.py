"""Parallel texts out of files: Moses, TSV, JSONL, TMX, PO."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from recipes.data.examples import Pairs
from recipes.data.files import UNREADABLE, lines, open_compressed, progress, unreadable
from recipes.data.languages import match, resolve


def moses(source_path: str | Path, target_path: str | Path) -> Pairs:
    """Two files, one text a line; line n of one means line n of the other."""
    pairs, counts = Pairs(), [0, 0]
    for source, target in zip_longest(lines(source_path), lines(target_path)):
        counts[0] += source is not None
        counts[1] += target is not None
        pairs.add(source or "", target or "")
    if counts[0] != counts[1]:
        raise ValueError(
            "A source and its target must have as many lines, "
            f"got {source_path}: {counts[0]:,} lines, {target_path}: {counts[1]:,} lines."
        )
    return some(pairs, f"{source_path}, {target_path}")


def tsv(path: str | Path) -> Pairs:
    """Two columns, or three where the last is a comment (Tatoeba and Anki exports)."""
    pairs = Pairs()
    for number, line in enumerate(lines(path), start=1):
        columns = line.split("\t") if line else ["", ""]
        if len(columns) not in (2, 3):
            raise ValueError(
                f"{path}:{number}: expected 2 or 3 columns with tabs between them, "
                f"got {len(columns)}: {line[:80]!r}"
            )
        pairs.add(*columns[:2])
    return some(pairs, path)


def jsonl(path: str | Path, source_key: str, target_key: str) -> Pairs:
    """An object a line: the two keys, also below "translation", or else "source" and "target"."""
    pairs = Pairs()
    choices = (source_key, target_key), ("source", "target")
    for number, line in enumerate(lines(path), start=1):
        try:
            row = json.loads(line or '{"source": "", "target": ""}')
        except ValueError as error:
            raise ValueError(f"{path}:{number}: expected a JSON object, got: {error}") from error
        row = row if isinstance(row, dict) else {}
        row = row["translation"] if isinstance(row.get("translation"), dict) else row
        texts = next(([row[key] for key in keys] for keys in choices if {*keys} <= {*row}), [])
        if not texts or not all(isinstance(text, str | None) for text in texts):
            raise ValueError(
                f"{path}:{number}: expected an object with texts for {source_key!r} and "
                f"{target_key!r}, or for 'source' and 'target', got {line[:80]!r}"
            )
        pairs.add(*(text or "" for text in texts))
    return some(pairs, path)


def tmx(path: str | Path, source_language: str, target_language: str) -> Pairs:
    """Translation memory. "en" also takes "en-US" and the reverse; an exact match goes first."""
    pairs, languages, inside = Pairs(), set(), []
    try:
        with open_compressed(path) as file:
            events = ElementTree.iterparse(file, events=("start", "end"))
            for event, element in progress(events, f"Reading {path}, XML tag"):
                if event == "start":
                    inside.append(element)
                    continue
                inside.pop()
                if element.tag.rpartition("}")[2] != "tu":
                    continue
                texts = dict(map(_segment, reversed(element.findall("{*}tuv"))))  # first one wins
                languages.update(texts)
                found = [match(texts, code) for code in (source_language, target_language)]
                if None in found:
                    pairs.skipped["language missing"] += 1
                else:
                    pairs.add(*(texts[code] for code in found))
                if inside:
                    inside[-1].remove(element)  # keeps memory flat
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}:{error.position[0]}: expected XML, got: {error}") from error
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if languages:
        resolve(languages, source_language, target_language)
    return some(pairs, path)


def po(path: str | Path) -> Pairs:
    """Gettext catalogue: msgid -> msgstr; a plural entry gives two pairs, msgid -> msgstr[0] and
    msgid_plural -> msgstr[1]. The header, fuzzy and obsolete entries are skipped and counted."""
    pairs = Pairs()
    for entry in _po_entries(path):
        if "reason" in entry or not entry["msgid"]:
            pairs.skipped[entry.get("reason", "header")] += 1
        elif "msgid_plural" not in entry:
            pairs.add(entry["msgid"], entry.get("msgstr", ""))
        else:
            pairs.add(entry["msgid"], entry.get("msgstr[0]", ""))
            if "msgstr[1]" in entry:  # Japanese, for one, has a single form
                pairs.add(entry["msgid_plural"], entry["msgstr[1]"])
    return some(pairs, path)


def _po_entries(path: str | Path) -> Iterator[dict[str, str]]:
    """{keyword: text} for each entry; "reason" says why an entry is to be skipped."""
    form = re.compile(
        r'(?:(msgctxt|msgid|msgid_plural|msgstr|msgstr\[\d+\])\s*)?"((?:[^"\\]|\\.)*)"'
    )
    entry, keyword = {}, None
    for number, line in enumerate(lines(path), start=1):
        line = line.strip()
        found = form.fullmatch(line)
        opens = found and found[1] in ("msgctxt", "msgid")
        if "msgid" in entry and (opens or not line or line.startswith("#")):
            yield entry
            entry, keyword = {}, None
        if line.startswith("#~"):
            entry = {}  # "fuzzy" may stand above an obsolete entry
            if re.match(r"#~\s*msgid\s", line):
                yield {"reason": "obsolete"}
        elif line.startswith("#,") and re.search(r"\bfuzzy\b", line):
            entry["reason"] = "fuzzy"
        elif found and (opens or "msgid" in entry or (keyword == "msgctxt" and not found[1])):
            keyword = found[1] or keyword
            text = re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), found[2])
            entry[keyword] = text if found[1] else entry[keyword] + text
        elif line and not line.startswith("#"):
            raise ValueError(
                f'{path}:{number}: expected msgid "..." or msgstr "...", got {line[:80]!r}'
            )
    if "msgid" in entry:
        yield entry


ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}  # of PO; any other character stands for itself


def _segment(tuv: ElementTree.Element) -> tuple[str, str]:
    """(language, text) of one TMX variant, without the native codes of its markup."""
    language = tuv.get("{http://www.w3.org/XML/1998/namespace}lang") or tuv.get("lang") or ""
    return language, "".join(_plain(tuv.find("{*}seg")))


def _plain(element: ElementTree.Element | None) -> Iterator[str]:
    if element is not None:
        if element.tag.rpartition("}")[2] not in ("bpt", "ept", "ph", "it", "ut"):
            yield element.text or ""
        for child in element:
            yield from _plain(child)
            yield child.tail or ""


def some(pairs: Pairs, place: object) -> Pairs:
    if not pairs:
        raise ValueError(f"{place}: expected at least one pair, got {pairs}")
    return pairs
