"""Data: one function per source and file format; text pairs for translation.

    named sources   homeassistant, libreoffice_help, debian_descriptions
                    downloaded once, kept in `cache_dir()`
    files           moses, tsv, jsonl, tmx, po           plain or .gz, .xz, .bz2
    front door      load_pairs -> Splits(train, valid, test)

Every reader returns `Pairs` and follows the same rules: a line ends at "\\n" only; white space
within a text becomes one space; a pair with an empty side or with bytes that are not UTF-8 is
skipped and counted in `Pairs.skipped`, never silently; a file that breaks its own format is a
`ValueError` with path and line. Pure Python: nothing here imports TensorFlow.
"""

import bz2
import codecs
import csv
import gzip
import hashlib
import io
import json
import lzma
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

Item = TypeVar("Item")

HOMEASSISTANT_VERSION = "2026.11.0"  # pinned, so that a score belongs to one known text
HOMEASSISTANT_SHA256 = "7ca5fbde9dea879ac7723949fc84347aac5182e6309c357b2e4973fd391b00f7"
HELD_OUT_SHARE = 0.05  # of the pairs, for valid and again for test
HELD_OUT_PAIRS = 3000  # at most: more makes scoring slow and hardly more certain
LARGEST_GROUP_SHARE = 0.1  # of a held-out part: two components would be most of the test pairs
OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
# White space, control characters and those invisible ones that kzoo.text.normalize removes.
BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2060\ufeff]*")
STDERR = 2
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what a broken archive raises


@dataclass(frozen=True)
class Pairs:
    """Aligned texts: `source[i]` means `target[i]`; `len(pairs)` is their number.

    `groups[i]` is what a split must not tear apart: the component or file of a named source, else
    the source text itself. `skipped` counts what was left out, by reason.
    """

    source: list[str] = field(default_factory=list)
    target: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.source)

    def __str__(self) -> str:
        return with_reasons(f"{len(self):,} pairs", self.skipped)

    def add(self, source: str, target: str, group: str | None = None) -> None:
        """Appends one pair, or counts why not."""
        source, target = one_line(source), one_line(target)
        if not (is_utf8(source) and is_utf8(target)):
            self.skipped["invalid UTF-8"] += 1
        elif BLANK.fullmatch(source) or BLANK.fullmatch(target):
            self.skipped["empty side"] += 1
        else:
            self.source.append(source)
            self.target.append(target)
            self.groups.append(source if group is None else group)


class Splits(NamedTuple):
    """`test` is None when the caller gave `train` and `valid` but no `test`: score on `valid`."""

    train: Pairs
    valid: Pairs
    test: Pairs | None


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


def hold_out(groups: list[str], *, valid: float, test: float, seed: int) -> dict[str, str]:
    """{group: "valid" or "test"} for the groups that are held out; `split` says which.

    `groups` names the group of each example.
    """
    sizes = Counter(groups)
    wanted = {
        name: min(share * len(groups), HELD_OUT_PAIRS)
        for name, share in (("test", test), ("valid", valid))
        if share > 0
    }
    largest = max(1, LARGEST_GROUP_SHARE * min(wanted.values(), default=0))

    def rank(group):
        return sizes[group] <= largest, hashlib.sha256(f"{seed} {group}".encode()).digest()

    order = sorted(sizes, key=rank)  # held out from the end on
    home = {}
    for name, missing in wanted.items():
        while order and missing > 0:
            group = order.pop()
            home[group] = name
            missing -= sizes[group]
    return home


# --- named sources -------------------------------------------------------------------------------


def homeassistant(source_language: str, target_language: str) -> Pairs:
    """User-interface texts of Home Assistant, 64 languages, Apache-2.0, grouped by component.

    pip downloads the wheel (68 MB) and checks its SHA-256; it is never installed. Version
    2026.11.0 has 36,164 pairs en-de and 29,829 en-fr.
    """
    wheel = pypi_wheel("homeassistant", HOMEASSISTANT_VERSION, HOMEASSISTANT_SHA256, "68 MB")
    return homeassistant_pairs(wheel, source_language, target_language)


def pypi_wheel(name: str, version: str, sha256: str, size: str, tag: str = "py3") -> Path:
    """A wheel of the Python package index, kept in `cache_dir()`; checked and never installed."""
    wheel = cache_dir() / f"{name.replace('-', '_')}-{version}-{tag}-none-any.whl"
    if not wheel.exists():
        say(f"Downloading {name} {version} ({size}) to {wheel.parent}")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
        with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
            Path(folder, "pin.txt").write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
            _run([*command, "--ignore-requires-python", "-r", "pin.txt"], folder)
            os.replace(Path(folder, wheel.name), wheel)
    return wheel


def homeassistant_pairs(wheel: str | Path, source_language: str, target_language: str) -> Pairs:
    """Joins `components/*/translations/{language}.json` of a wheel on component and key path."""
    say(f"Reading {wheel}")
    pattern = re.compile(r"homeassistant/components/([^/]+)/translations/([^/]+)\.json")
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = [found for found in map(pattern.fullmatch, sorted(archive.namelist())) if found]
            codes = _resolve({file[2] for file in files}, source_language, target_language)
            texts = {code: {} for code in codes}
            for file in files:
                if file[2] in texts:
                    tree = json.loads(archive.read(file[0]))
                    texts[file[2]].update(_leaves(tree, (file[1],)))
    except (zipfile.BadZipFile, json.JSONDecodeError, *UNREADABLE) as error:
        raise unreadable(wheel, error) from error
    return _join(*(texts[code] for code in codes), wheel)


def libreoffice_help(source_language: str, target_language: str) -> Pairs:
    """LibreOffice's help, Debian packages `libreoffice-help-*`, MPL-2.0, grouped by file.

    "en" means "en-us". Needs `apt-get`, but neither root nor an installed package. Version 7.4.7
    has 35,186 pairs en-de and 33,440 en-fr.
    """
    packages = []
    codes = {"source_language": source_language, "target_language": target_language}
    for name, code in codes.items():
        code = {"en": "en-us"}.get(code.lower(), code.lower())
        pattern = f"libreoffice-help-{code}_*.deb"
        if not any(cache_dir().glob(pattern)):
            _download_help(name, code)
        packages.append(max(cache_dir().glob(pattern)))
    return libreoffice_help_pairs(*packages)


def libreoffice_help_pairs(source_package: str | Path, target_package: str | Path) -> Pairs:
    """Joins the paragraphs of two .deb on (file, id)."""
    source, target = _help_texts(source_package), _help_texts(target_package)
    return _join(source, target, f"{source_package}, {target_package}", ratios=(0.35, 3.0))


def _download_help(name: str, code: str) -> None:
    found, options = _apt_search("^libreoffice-help-")
    languages = set(re.findall(r"^libreoffice-help-(\S+)", found, re.MULTILINE)) - {"common"}
    if code not in languages:
        raise ValueError(f"`{name}` must be one of {sorted(languages)}, got {code!r}.")
    _apt_download(f"libreoffice-help-{code}", options)


def debian_package(name: str) -> Path:
    """The newest .deb of a package in `cache_dir()`, downloaded if there is none.

    Needs `apt-get`, but neither root nor an installed package.
    """
    if not any(cache_dir().glob(f"{name}_*.deb")):
        found, options = _apt_search(f"^{re.escape(name)}$")
        if not found:
            raise RuntimeError(f"`apt-get` knows no package {name}; use files of your own.")
        _apt_download(name, options)
    return max(cache_dir().glob(f"{name}_*.deb"))


def _apt_search(pattern: str) -> tuple[str, list[str]]:
    """The packages whose name matches, and the options with which apt finds them."""
    if shutil.which("apt-get") is None:
        raise RuntimeError(
            "This data needs `apt-get` (Debian or Ubuntu), which is not on the PATH; use another "
            "source or files of your own: see --help."
        )
    folder, options = cache_dir(), ["-oAPT::Sandbox::User=root"]  # _apt may not see our folder
    search = ["apt-cache", "search", "--names-only", pattern]
    if not (found := _run(search, folder, capture=True)):
        say("Fetching Debian's package lists, which this machine lacks")
        lists, cache = folder / "apt/lists", folder / "apt/cache"
        Path(lists, "partial").mkdir(parents=True, exist_ok=True)
        Path(cache, "archives/partial").mkdir(parents=True, exist_ok=True)
        options += [f"-oDir::State::Lists={lists}", f"-oDir::Cache={cache}"]
        _run(["apt-get", "update", *options], folder)
        found = _run([*search, *options], folder, capture=True)
    return found, options


def _apt_download(name: str, options: list[str]) -> None:
    folder = cache_dir()
    say(f"Downloading {name} to {folder}")
    with tempfile.TemporaryDirectory(dir=folder) as part:
        _run(["apt-get", "download", name, *options], part)
        (package,) = Path(part).glob("*.deb")
        os.replace(package, folder / package.name)


def debian_descriptions(source_language: str, target_language: str) -> Pairs:
    """Descriptions of Debian's packages, paragraph by paragraph, grouped by source package.

    The package lists come from the machine's own mirror through `apt-get update` into a private
    folder; that needs neither root nor changes anything else. Debian 12 has 111,137 pairs en-it.
    The texts have the licences of their packages: train on them, but do not pass them on.
    """
    folder = cache_dir() / "debian-descriptions"
    for name, code in (("source_language", source_language), ("target_language", target_language)):
        if not any(folder.glob(f"lists/*_i18n_Translation-{code}")):
            _download_descriptions(folder, name, code)
    return debian_descriptions_pairs(folder / "lists", source_language, target_language)


def debian_descriptions_pairs(
    folder: str | Path, source_language: str, target_language: str
) -> Pairs:
    """Joins the files `*_i18n_Translation-{language}` of apt on (MD5 of the original, paragraph).

    `*_Packages` in the same folder says which source package a package belongs to.
    """
    sources = {}
    for path in sorted(Path(folder).glob("*_Packages")):
        for fields in _control_blocks(path, "Package", "Source"):
            sources[fields["Package"]] = fields.get("Source", fields["Package"]).split(" ")[0]
    source, target = (
        _descriptions(folder, code, sources) for code in (source_language, target_language)
    )
    return _join(source, target, folder, ratios=(0.35, 3.0))


def _download_descriptions(folder: Path, name: str, code: str) -> None:
    if shutil.which("apt-get") is None:
        raise RuntimeError(
            'data="debian-descriptions" needs `apt-get` (Debian or Ubuntu), which is not on the '
            'PATH; use data="homeassistant" or files of your own.'
        )
    for part in ("lists/partial", "cache/archives/partial"):
        Path(folder, part).mkdir(parents=True, exist_ok=True)
    present = {path.name.rpartition("-")[2] for path in folder.glob("lists/*_i18n_Translation-*")}
    wanted = " ".join(f'"{language}";' for language in sorted(present | {code}))
    # Images often set Languages to "none", which only #clear takes back.
    configuration = folder / "apt.conf"
    configuration.write_text(f"#clear Acquire::Languages;\nAcquire::Languages {{ {wanted} }};\n")
    say(f"Fetching Debian's package lists with descriptions in {code!r} to {folder}")
    options = [f"-oDir::State::Lists={folder}/lists", f"-oDir::Cache={folder}/cache"]
    options += ["-oAPT::Sandbox::User=root", "-oAcquire::GzipIndexes=false"]
    _run(["apt-get", "update", "-c", str(configuration), *options], folder)
    if not any(folder.glob(f"lists/*_i18n_Translation-{code}")):
        raise ValueError(f"`{name}` must be a language of Debian's descriptions, got {code!r}.")


def _descriptions(
    folder: str | Path, code: str, sources: dict[str, str]
) -> dict[tuple[str, str, int, int], str]:
    """{(source package, MD5, number of paragraphs, paragraph): text} of one language."""
    texts, description = {}, f"Description-{code}"
    for path in sorted(Path(folder).glob(f"*_i18n_Translation-{code}")):
        for fields in _control_blocks(path, "Package", "Description-md5", description):
            paragraphs = fields.get(description, "").split("\n .\n")
            summary, _, first = paragraphs[0].partition("\n")
            paragraphs = [summary, *filter(None, [first]), *paragraphs[1:]]
            package, md5 = fields["Package"], fields["Description-md5"]
            for number, text in enumerate(paragraphs):
                key = sources.get(package, package), md5, len(paragraphs), number
                texts.setdefault(key, text)
    return texts


def _control_blocks(path: str | Path, *names: str) -> Iterator[dict[str, str]]:
    """The named fields of each block of a Debian control file; lines go on after a space."""
    fields, name = {}, ""
    for line in lines(path):
        if line.startswith(" "):
            if name in fields:
                fields[name] += f"\n{line}"
            continue
        name, _, value = line.partition(":")
        if name in names:
            fields[name] = value.strip()
        elif not line and fields:
            yield fields
            fields = {}
    if fields:
        yield fields


def _help_texts(package: str | Path) -> dict[tuple[str, str], str]:
    """{(file, id): text} of the pages `text/**/*.html` in one package."""
    texts = {}
    try:
        with tarfile.open(fileobj=deb_data(package), mode="r:*") as archive:
            for member in progress(archive, f"Reading {package}, file"):
                _, _, path = member.name.partition("/text/")
                if path.endswith(".html"):
                    parser = _HelpParser()
                    parser.feed(archive.extractfile(member).read().decode())
                    parser.close()
                    for key, pieces in parser.paragraphs:
                        texts.setdefault((path, key), "".join(pieces))
    except (tarfile.TarError, *UNREADABLE, UnicodeDecodeError) as error:
        raise unreadable(package, error) from error
    return texts


def deb_data(package: str | Path) -> BinaryIO:
    """The member data.tar.* of a .deb, which is an `ar` archive: 60-byte headers, even offsets."""
    with open(package, "rb") as file:
        if file.read(8) == b"!<arch>\n":
            while len(header := file.read(60)) == 60:
                size = int(header[48:58])
                if header.startswith(b"data.tar"):
                    return io.BytesIO(file.read(size))
                file.seek(size + size % 2, os.SEEK_CUR)
    raise ValueError(f"{package}: expected a Debian package with a member data.tar.*")


class _HelpParser(HTMLParser):
    """Collects (id, pieces) of p and h1-h6 with an id; no code, nothing that only a Mac shows."""

    def __init__(self):
        super().__init__()
        self.paragraphs = []
        self._tag = None  # tag of the paragraph that takes text now
        self._mac_tag, self._mac_depth = None, 0  # the element to drop, and its nesting

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        if self._mac_depth:
            self._mac_depth += tag == self._mac_tag
        elif "MAC" in classes:
            self._mac_tag, self._mac_depth = tag, 1
        elif re.fullmatch("p|h[1-6]", tag) and attributes.get("id") and "code" not in classes:
            self._tag = tag
            self.paragraphs.append((attributes["id"], []))

    def handle_endtag(self, tag):
        if self._mac_depth:
            self._mac_depth -= tag == self._mac_tag
        elif tag == self._tag:
            self._tag = None

    def handle_data(self, data):
        if self._tag and not self._mac_depth:
            self.paragraphs[-1][1].append(data)


def _leaves(node: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, (*path, key))
    elif isinstance(node, str):
        yield path, node


def _join(
    source: dict, target: dict, place: object, ratios: tuple[float, float] = (0.0, math.inf)
) -> Pairs:
    """Pairs of the keys in both; key[0] is the group. Leaves out and counts what teaches nothing:
    untranslated texts, repeated pairs, target / source lengths that no translation has."""
    pairs, seen = Pairs(), set()
    for key, text in source.items():
        pair = one_line(text), one_line(target.get(key, ""))
        if key not in target:
            pairs.skipped["not in target"] += 1
        elif not all(pair):
            pairs.skipped["empty side"] += 1
        elif pair[0] == pair[1]:
            pairs.skipped["same text on both sides"] += 1
        elif not ratios[0] <= len(pair[1]) / len(pair[0]) <= ratios[1]:
            pairs.skipped["lengths too different"] += 1
        elif pair in seen:
            pairs.skipped["repeated"] += 1
        else:
            seen.add(pair)
            pairs.add(*pair, group=key[0])
    return _some(pairs, place)


# --- file formats --------------------------------------------------------------------------------


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
    return _some(pairs, f"{source_path}, {target_path}")


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
    return _some(pairs, path)


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
    return _some(pairs, path)


def tmx(path: str | Path, source_language: str, target_language: str) -> Pairs:
    """Translation memory. "en" also takes "en-US" and the reverse; an exact match goes first."""
    pairs, languages, inside = Pairs(), set(), []
    try:
        with _open(path) as file:
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
                found = [_match(texts, code) for code in (source_language, target_language)]
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
        _resolve(languages, source_language, target_language)
    return _some(pairs, path)


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
    return _some(pairs, path)


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


def _match(languages: Iterable[str], code: str) -> str | None:
    """The language that is `code`, else the first that only has a region more or less."""
    wanted = code.lower().replace("_", "-")
    names = {language.lower().replace("_", "-"): language for language in sorted(languages)}
    near = (n for n in names if n.startswith(f"{wanted}-") or wanted.startswith(f"{n}-"))
    return names.get(wanted if wanted in names else next(near, ""))


def _resolve(languages: set[str], source_language: str, target_language: str) -> list[str]:
    """The two of `languages` that are meant."""
    codes = {"source_language": source_language, "target_language": target_language}
    for name, code in codes.items():
        if _match(languages, code) is None:
            raise ValueError(f"`{name}` must be one of {sorted(languages)}, got {code!r}.")
    return [_match(languages, code) for code in codes.values()]


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


def _open(path: str | Path) -> BinaryIO:
    return OPENERS.get(Path(path).suffix, open)(path, "rb")


def lines(path: str | Path) -> Iterator[str]:
    """Lines without their ending. Bytes that are not UTF-8 stay as surrogates for `Pairs.add`."""
    try:
        with _open(path) as file:
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


def _some(pairs: Pairs, place: object) -> Pairs:
    if not pairs:
        raise ValueError(f"{place}: expected at least one pair, got {pairs}")
    return pairs


def unreadable(path: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: expected a readable file, got {type(error).__name__}: {error}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _run(command: list[str], folder: str | Path, capture: bool = False) -> str:
    """Runs a package client; what it says goes to stderr, or is returned with `capture`."""
    stdout = subprocess.PIPE if capture else STDERR
    done = subprocess.run(command, cwd=folder, stdout=stdout, text=True)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed with exit code {done.returncode}.")
    return done.stdout or ""


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
