"""Words and their phonemes out of files: dictionaries as CMUdict, tables, lists of words.

Each reader yields (word, pronunciation), one entry after the other.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from recipes.data.files import csv_rows, lines, plain_names, plain_suffix, rows

Entry = tuple[str, str]
VARIANT = re.compile(r"(.+)\(\d+\)")  # word(2): the second pronunciation, or with (1) in old files
COMMENT = re.compile(r";;;|#(?:[#\s]|$)")  # begins a line; "#HASH-MARK" and ";SEMI-COLON" are words
WORD_NAMES = ("word", "words", "grapheme", "graphemes", "orthography", "spelling")
PHONEME_NAMES = (
    *("pronunciation", "pronunciations", "phoneme", "phonemes", "phones", "transcription", "ipa"),
)


def entries(path: str | Path, columns: tuple[int, int] | None = None) -> Iterator[Entry]:
    """Those of a file: a table if its name ends in .tsv or .csv or `columns` are chosen, else a
    dictionary."""
    if plain_suffix(path) == ".csv":
        return csv_entries(path, columns)
    if plain_suffix(path) == ".tsv" or columns:
        return table_entries(path, columns)
    return dictionary_entries(lines(path), path)


def dictionary_entries(found: Iterable[str], path: str | Path) -> Iterator[Entry]:
    """A word and its phonemes a line, white space between them, as in all versions of CMUdict.

    `WORD(1)` and `word(2)` are further pronunciations of a word. Lines that begin with ";;;" or
    "# " are comments, and so is the end of a line from " #" on. Lines that are not UTF-8 are in
    Latin-1.

    Args:
        found: the lines, bytes that are not UTF-8 as surrogates. path: for messages.

    Raises:
        ValueError: a line without phonemes, or with numbers in their place.
    """
    for number, line in enumerate(found, start=1):
        line = _decoded(line)
        if not line.strip() or COMMENT.match(line):
            continue
        word, pronunciation = _parted(line)
        phonemes = re.sub(r"(?:^|\s)#.*", "", pronunciation).split()
        place = f"{path}:{number}"
        if not phonemes or not word:
            raise ValueError(f"{place}: expected a word and its phonemes, got {line[:80]!r}")
        if numbers := [each for each in phonemes if re.fullmatch(r"\d*\.\d+", each)]:
            raise ValueError(
                f"{place}: expected phonemes after the word, got the number {numbers[0]}; "
                "--columns says in which columns a table has words and phonemes"
            )
        yield without_variant(word), " ".join(phonemes)


def table_entries(path: str | Path, columns: tuple[int, int] | None) -> Iterator[Entry]:
    """Columns with tabs between them: a word, then phonemes with spaces between them; or the two
    columns, counted from 1, of any number. A first line of names, as "word", is passed over."""
    for index, (place, line) in enumerate(rows(path)):
        cells = line.split("\t")
        if len(cells) < max(columns or (2,)):
            raise ValueError(
                f"{place}: expected at least {max(columns or (2,))} columns with tabs between "
                f"them, got {len(cells)}: {line[:80]!r}"
            )
        if columns is None and len(cells) > 2:
            raise ValueError(
                f"{place}: expected 2 columns with a tab between them, got {len(cells)}: "
                f"{line[:80]!r}; --columns says which two are meant"
            )
        word, pronunciation = (cells[column - 1].strip() for column in columns or (1, 2))
        is_header = word.lower() in WORD_NAMES and pronunciation.lower() in PHONEME_NAMES
        if not (index == 0 and is_header):
            yield without_variant(word), pronunciation


def csv_entries(path: str | Path, columns: tuple[int, int] | None) -> Iterator[Entry]:
    """The columns of a CSV file whose names, in its first line, mean words and phonemes, or those
    that are chosen."""
    for place, row in csv_rows(path):
        names = list(row)
        if columns is None:
            known = [_first_of(WORD_NAMES, names), _first_of(PHONEME_NAMES, names)]
        else:
            known = [names[column - 1] if column <= len(names) else None for column in columns]
        if None in known:
            wanted = f"at least {max(columns)} columns" if columns else "columns for words"
            also = "" if columns else ", as word, and phonemes, as pronunciation"
            raise ValueError(
                f"{place}: expected {wanted}{also}, got {names}"
                + ("" if columns else "; --columns says which two are meant")
            )
        yield without_variant(row[known[0]].strip()), row[known[1]]


def listed_words(path: str | Path, columns: tuple[int, int] | None = None) -> set[str]:
    """The words of a list, one a line, or of a dictionary or table: of the first of the `columns`
    that are chosen, else of the one that a .csv names, else of the first one.

    Where a line has spaces, both its beginning and the whole of it are words: whether it is a word
    with a space or one with phonemes behind it, the word is among the two.
    """
    column = columns[0] - 1 if columns else 0
    found = set()
    for cells in _csv_cells(path, columns) if plain_suffix(path) == ".csv" else _cells(path):
        whole = cells[column if column < len(cells) else 0].strip()
        found |= {without_variant(whole), without_variant(whole.split()[0] if whole else "")}
    if not (found := found - {""}):
        raise ValueError(f"{path}: expected at least one word, got none")
    return found


def _cells(path: str | Path) -> Iterator[list[str]]:
    """What stands between the tabs of each line that is no comment."""
    for _, line in rows(path):
        line = _decoded(line)
        if not COMMENT.match(line):
            yield line.split("\t")


def _csv_cells(path: str | Path, columns: tuple[int, int] | None) -> Iterator[list[str]]:
    """The cells of each row of a CSV file, the first row too, as a list may have no header; without
    `columns`, those under a name for words come first."""
    for index, (_, row) in enumerate(csv_rows(path)):
        named = None if columns else _first_of(WORD_NAMES, list(row))
        if index == 0 and named is None:
            yield list(row)
        yield list(row.values()) if named is None else [row[named]]


def without_variant(word: str) -> str:
    """ "word(2)" -> "word"."""
    mark = VARIANT.fullmatch(word)
    return mark[1] if mark else word


def _decoded(line: str) -> str:
    """A line as it is, or from Latin-1 if it is not UTF-8, which surrogates show."""
    line = line.encode("utf-8", "surrogateescape")
    try:
        return line.decode()
    except UnicodeError:
        return line.decode("latin-1")


def _parted(line: str) -> Entry:
    """What stands before the first tab, else before the first white space, and what after it."""
    if "\t" in line:
        word, _, rest = line.partition("\t")
        return word.strip(), rest
    word, *rest = line.split(maxsplit=1)
    return word, "".join(rest)


def _first_of(wanted: tuple[str, ...], names: list[str]) -> str | None:
    known = plain_names(names)
    return next((known[name] for name in wanted if name in known), None)
