"""Files of all kinds read as lines, JSON or CSV; caches; progress; what is said on the way."""

import bz2
import codecs
import csv
import gzip
import json
import lzma
import os
import re
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

Item = TypeVar("Item")
OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
# White space, control characters and those invisible ones that kzoo.text.normalize removes.
BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2060\ufeff]*")
STDERR = 2
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what a broken archive raises


def cache_dir() -> Path:
    """$KZOO_CACHE, else $XDG_CACHE_HOME/kzoo, else ~/.cache/kzoo; made if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("KZOO_CACHE") or Path(base, "kzoo")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """`folder`, which `write` fills if it is missing: whole or not at all.

    Of several processes that make it at once, the first one's stays.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            part = Path(temporary, "part")
            part.mkdir()
            write(part)
            try:
                os.rename(part, folder)
            except OSError:
                if not folder.exists():
                    raise
    return folder


def open_compressed(path: str | Path) -> BinaryIO:
    return OPENERS.get(Path(path).suffix, open)(path, "rb")


def lines(path: str | Path) -> Iterator[str]:
    """Lines without their ending. Bytes that are not UTF-8 stay as surrogates for `Pairs.add`."""
    try:
        with open_compressed(path) as file:
            for number, line in enumerate(progress(file, f"Reading {path}, line")):
                if number == 0:
                    line = line.removeprefix(codecs.BOM_UTF8)
                    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                        raise ValueError(f"{path}:1: expected UTF-8, got UTF-16.")
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="surrogateescape")
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def json_lines(path: str | Path) -> Iterator[tuple[str, dict]]:
    """(path:line, object) of each line that is not empty."""
    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: expected a JSON object, got: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number}: expected a JSON object, got {line[:80]!r}")
        yield f"{path}:{number}", row


def csv_rows(path: str | Path) -> Iterator[tuple[str, dict]]:
    """(path:line where it begins, {column: value}) of each row below the header."""
    reader = csv.reader((f"{line}\n" for line in lines(path)), strict=True)
    header, start = None, 1
    try:
        for row in reader:
            place, start = f"{path}:{start}", reader.line_num + 1
            if not row:
                continue
            if header is None:
                header = row
                continue
            if len(row) != len(header):
                raise ValueError(f"{place}: expected {len(header)} columns, got {str(row)[:80]}")
            yield place, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}:{start}: expected a row of CSV, got: {error}") from error


def with_reasons(kept: str, skipped: Counter[str]) -> str:
    """ "7 pairs", {"empty side": 2} -> "7 pairs (skipped: 2 empty side)"."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
    return kept + (f" (skipped: {reasons})" if reasons else "")


def one_line(text: str) -> str:
    return re.sub(r"[ \t\r\n]+", " ", text).strip()


def is_utf8(text: str) -> bool:
    return re.search("[\ud800-\udfff]", text) is None


def unreadable(path: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: expected a readable file, got {type(error).__name__}: {error}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def progress(items: Iterable[Item], label: str) -> Iterator[Item]:
    """Counts on stderr while `items` pass; silent where nobody watches or it takes no time."""
    shown = start = time.monotonic()
    for number, item in enumerate(items, start=1):
        if number % 256 == 0 and sys.stderr.isatty() and time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            print(f"\r{label} {number:,}", end="", file=sys.stderr, flush=True)
        yield item
    if shown > start:
        print(f"\r{label} {number:,}", file=sys.stderr)
