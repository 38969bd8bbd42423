"""Files of all kinds read as lines, JSON or CSV; caches; progress; what is said on the way."""

import bz2
import codecs
import contextlib
import csv
import gzip
import hashlib
import json
import lzma
import os
import re
import struct
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from kzoo import contents
from kzoo.export.folder import cache_dir as cache_dir  # one place for all downloads

Item = TypeVar("Item")
PARTS = {  # what sources call them
    "train": ("train", "training", "restval"),  # Karpathy's restval is for training
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}
OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
# White space, control characters and those invisible ones that kzoo.text.normalize removes.
BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2060\ufeff]*")
LONGEST_FIELD = 2**24  # characters of a CSV's field; Python's own limit is 2**17, a long article
STDERR = 2
UNREADABLE = (  # what a broken archive raises
    *(OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile),
    *(struct.error, NotImplementedError),
)
UNPARSED = (  # what parsers raise
    *(ValueError, LookupError, ArithmeticError, AssertionError, RuntimeError, csv.Error),
    *(ElementTree.ParseError, SyntaxError),  # the latter of gettext.c2py: 3 < !n
)
COMPRESSED_MARKS = {  # at the beginning of files that were decompressed by nobody, or not enough
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"BZh91AY&SY": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


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


def kept_folder(kind: str, settings: list, write: Callable[[Path], None]) -> Path:
    """The folder of the cache for these settings, which `write` fills if it is missing."""
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32]
    return make_folder(cache_dir() / kind / key, write)


def identity(path: Path) -> tuple[str, int, int]:
    """A file's path, bytes and time of change: what is kept of another one does not go for it."""
    try:
        found = path.stat()
    except OSError:
        return str(path.absolute()), -1, -1  # unreadable, until there is a file
    return str(path.absolute()), found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def parsing(path: str | Path, expected: str, line: int | None = None) -> Iterator[None]:
    """Turns whatever a parser or an archive raises inside into a ValueError with path and line.

    `expected` says what should be there, as "XML". A ValueError that names the path goes through.
    """
    place = path if line is None else f"{path}:{line}"
    try:
        yield
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    except UNPARSED as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        if isinstance(error, ElementTree.ParseError):
            place = f"{path}:{error.position[0]}"
        found = "nested too deep" if isinstance(error, RecursionError) else error
        raise ValueError(f"{place}: expected {expected}, got: {found}") from error


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; False for names that no file can have, too."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # longer than 255 bytes; with a NUL
        return False


def open_compressed(path: str | Path) -> BinaryIO:
    return OPENERS.get(Path(path).suffix, open)(path, "rb")


def plain_suffix(path: str | Path) -> str:
    """The ending of a file's name but for that of its compression."""
    return Path(plain_name(path)).suffix


def plain_name(path: str | Path) -> str:
    """The name of a file without the ending of its compression."""
    return Path(path).name.removesuffix(compression(path))


def compression(path: str | Path) -> str:
    """ ".gz", ".xz" or ".bz2" if a file's name ends in it, else ""."""
    return Path(path).suffix if Path(path).suffix in OPENERS else ""


def lines(path: str | Path, encoding: str = "utf-8") -> Iterator[str]:
    """Lines without their ending. Bytes that do not fit the encoding stay as surrogates, which
    `Pairs.add` counts."""
    with parsing(path, "a readable file"), open_compressed(path) as file:
        for number, line in enumerate(progress(file, f"Reading {path}, line"), start=1):
            if number == 1:
                line = _without_mark(line, path)
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            try:
                yield line.decode(encoding, errors="surrogateescape")
            except UnicodeError as error:  # of codecs that do not know surrogates
                raise ValueError(f"{path}:{number}: expected {encoding}, got: {error}") from error


def _without_mark(line: bytes, path: str | Path) -> bytes:
    """The first line of a file without UTF-8's mark; raises a ValueError if it is not UTF-8's, or
    of no text."""
    for mark, name in COMPRESSED_MARKS.items():
        if line.startswith(mark):
            raise ValueError(
                f"{path}:1: expected text, got what {name} has compressed; files whose names end "
                f"in {', '.join(OPENERS)} are decompressed."
            )
    for mark, name in contents.UNICODE_MARKS.items():
        if line.startswith(mark):
            raise ValueError(f"{path}:1: expected UTF-8, got {name}.")
    halves = line.removesuffix(b"\n")[::2], line.removesuffix(b"\n")[1::2]
    if len(line) > 4 and b"" in [half.strip(b"\0") for half in halves]:  # Latin letters
        raise ValueError(f"{path}:1: expected UTF-8, got UTF-16.")
    return line.removeprefix(codecs.BOM_UTF8)


def rows(path: str | Path) -> Iterator[tuple[str, str]]:
    """(path:line, line) of each line that is not blank."""
    for number, line in enumerate(lines(path), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def json_lines(path: str | Path) -> Iterator[tuple[str, dict]]:
    """(path:line, object) of each line that is not blank."""
    for place, line in rows(path):
        yield place, json_object(place, line)


def json_object(place: str, text: str) -> dict:
    with parsing(place, "a JSON object"):
        row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError(f"{place}: expected a JSON object, got {text[:80]!r}")
    return row


def read_json(path: str | Path) -> object:
    """What a whole file of JSON says."""
    text = "\n".join(lines(path))
    with parsing(path, "a JSON object"):
        return json.loads(text)


def csv_rows(path: str | Path) -> Iterator[tuple[str, dict]]:
    """(path:line where it begins, {column: value}) of each row below the header."""
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader((f"{line}\n" for line in lines(path)), strict=True)
    header, start = None, 1
    while True:
        with parsing(path, "a row of CSV", line=start):
            row = next(reader, None)
        if row is None:
            return
        place, start = f"{path}:{start}", reader.line_num + 1
        if len(row) < 2 and not "".join(row).strip():
            continue
        if header is None:
            header = [(name.strip() and name) or f"column {n}" for n, name in enumerate(row, 1)]
            for name in header:
                if header.count(name) > 1:
                    raise ValueError(
                        f"{place}: expected different names of columns, got {name!r} more than once"
                    )
            continue
        if len(row) != len(header):
            raise ValueError(f"{place}: expected {len(header)} columns, got {str(row)[:80]}")
        yield place, dict(zip(header, row, strict=True))


def metadata_of(folder: str | Path) -> Path | None:
    """The table that lists what a folder holds, as Hugging Face's folders have it."""
    paths = Path(folder, "metadata.jsonl"), Path(folder, "metadata.csv")
    return next((path for path in paths if is_file(path)), None)


def metadata_of_parts(folder: str | Path) -> dict[str, Path]:
    """{part: its table}, where the folders of the parts have one each; the first name counts."""
    return {
        part: path
        for part, names in PARTS.items()
        for name in reversed(names)
        if (path := metadata_of(Path(folder, name)))
    }


def metadata_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(place, row) of each row of a .jsonl or .csv file."""
    return (json_lines if plain_suffix(path) == ".jsonl" else csv_rows)(path)


def text_in(row: dict, keys: Sequence[str], place: str, kinds: tuple[type, ...] = (str,)) -> str:
    """What a row has under the first of some keys, as a text; "" if it has none of them.

    Raises:
        ValueError: it is of none of the `kinds`; True and False are no numbers.
    """
    key = next((key for key in keys if row.get(key) is not None), None)
    if key is not None and type(row[key]) not in kinds:
        rule = "a text or a whole number" if int in kinds else "a text"
        raise ValueError(f"{place}: expected {rule} for {key!r}, got {str(row[key])[:80]}")
    return "" if key is None else str(row[key])


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """{name in lower case, without spaces around it: name}; of equal ones the first."""
    return {str(name).strip().lower(): name for name in reversed(list(names))}


def column_numbers(columns: str | None) -> tuple[int, int] | None:
    """What a flag --columns says: "2,3" -> (2, 3)."""
    if columns is None:
        return None
    found = re.fullmatch(r"\s*([1-9]\d{0,3})\s*,\s*([1-9]\d{0,3})\s*", columns)
    if not found or found[1] == found[2]:
        raise ValueError(
            "`columns` must be two different numbers from 1 on, as 2,3 for the source and the "
            f"target, got {columns!r}."
        )
    return int(found[1]), int(found[2])


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


def refusal(error: Exception) -> str:
    """What an error of TensorFlow's says of a content, without brackets and names of nodes."""
    from kzoo.export.served import reason  # with TensorFlow, which by now is there

    return reason(error)


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
