"""Parallel texts out of packages: Home Assistant, LibreOffice's help, Debian's descriptions."""

import json
import math
import re
import shutil
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from recipes.data import packages
from recipes.data.examples import Pairs
from recipes.data.files import cache_dir, lines, one_line, parsing, say
from recipes.data.languages import is_same, locale_of, match, resolve
from recipes.data.packages import apt_download, apt_search, deb_files, newest_deb, pypi_wheel
from recipes.data.pairs_files import some

HOMEASSISTANT_VERSION = "2026.11.0"  # pinned, so that a score belongs to one known text
HOMEASSISTANT_SHA256 = "7ca5fbde9dea879ac7723949fc84347aac5182e6309c357b2e4973fd391b00f7"


def homeassistant(source_language: str, target_language: str) -> Pairs:
    """User-interface texts of Home Assistant, 64 languages, Apache-2.0, grouped by component.

    pip downloads the wheel (68 MB) and checks its SHA-256; it is never installed. Version
    2026.11.0 has 36,164 pairs en-de and 29,829 en-fr.
    """
    wheel = pypi_wheel("homeassistant", HOMEASSISTANT_VERSION, HOMEASSISTANT_SHA256, "68 MB")
    return homeassistant_pairs(wheel, source_language, target_language)


def homeassistant_pairs(wheel: str | Path, source_language: str, target_language: str) -> Pairs:
    """Joins `components/*/translations/{language}.json` of a wheel on component and key path."""
    say(f"Reading {wheel}")
    pattern = re.compile(r"homeassistant/components/([^/]+)/translations/([^/]+)\.json")
    with parsing(wheel, "a wheel"), zipfile.ZipFile(wheel) as archive:
        files = [found for found in map(pattern.fullmatch, sorted(archive.namelist())) if found]
        languages = {file[2] for file in files}
    codes = resolve(languages, source_language, target_language)
    texts = {code: {} for code in codes}
    with parsing(wheel, "a wheel"), zipfile.ZipFile(wheel) as archive:
        for file in files:
            if file[2] in texts:
                with parsing(f"{wheel}, {file[0]}", "JSON"):
                    tree = json.loads(archive.read(file[0]))
                    texts[file[2]].update(_leaves(tree, (file[1],)))
    return _join(*(texts[code] for code in codes), wheel)


def libreoffice_help(source_language: str, target_language: str) -> Pairs:
    """LibreOffice's help, Debian packages `libreoffice-help-*`, MPL-2.0, grouped by file.

    "en" means "en-us". Needs `apt-get`, but neither root nor an installed package. Version 7.4.7
    has 35,186 pairs en-de and 33,440 en-fr.
    """
    codes = {"source_language": source_language, "target_language": target_language}
    names = [f"libreoffice-help-{_help_language(name, code)}" for name, code in codes.items()]
    return libreoffice_help_pairs(*map(newest_deb, names))


def libreoffice_help_pairs(source_package: str | Path, target_package: str | Path) -> Pairs:
    """Joins the paragraphs of two .deb on (file, id)."""
    source, target = _help_texts(source_package), _help_texts(target_package)
    return _join(source, target, f"{source_package}, {target_package}", ratios=(0.35, 3.0))


def _help_language(name: str, code: str) -> str:
    """The ending of the package in a language, which is downloaded if it is not in the cache."""
    wanted = "en-us" if is_same(code, "en") else code
    packages = (path.name.partition("_")[0] for path in cache_dir().glob("libreoffice-help-*.deb"))
    cached = sorted(package.removeprefix("libreoffice-help-") for package in packages)
    if language := next((each for each in cached if is_same(each, wanted)), None):
        return language
    found, options = apt_search("^libreoffice-help-")
    languages = set(re.findall(r"^libreoffice-help-(\S+)", found, re.MULTILINE)) - {"common"}
    language = match(languages, wanted)
    if language is None:
        raise ValueError(f"`{name}` must be one of {sorted(languages)}, got {code!r}.")
    if language not in cached:
        apt_download(f"libreoffice-help-{language}", options)
    return language


def debian_descriptions(source_language: str, target_language: str) -> Pairs:
    """Descriptions of Debian's packages, paragraph by paragraph, grouped by source package.

    The package lists come from the machine's own mirror through `apt-get update` into a private
    folder; that needs neither root nor changes anything else. Debian 12 has 111,137 pairs en-it.
    The texts have the licences of their packages: train on them, but do not pass them on.
    """
    codes = map(locale_of, (source_language, target_language))
    codes = dict(zip(("source_language", "target_language"), codes, strict=True))
    return debian_descriptions_pairs(debian_lists(codes), *codes.values())


def debian_lists(codes: dict[str, str]) -> Path:
    """The folder of apt's lists with descriptions in the languages {name of an argument: code};
    what it lacks is downloaded."""
    folder = cache_dir() / "debian-descriptions"
    for name, code in codes.items():
        if not any(folder.glob(f"lists/*_i18n_Translation-{code}")):
            _download_descriptions(folder, name, code)
    return folder / "lists"


def debian_descriptions_pairs(
    folder: str | Path, source_language: str, target_language: str
) -> Pairs:
    """Joins the files `*_i18n_Translation-{language}` of apt on (MD5 of the original, paragraph).

    `*_Packages` in the same folder says which source package a package belongs to.
    """
    source, target = (
        _numbered_paragraphs(folder, code) for code in (source_language, target_language)
    )
    return _join(source, target, folder, ratios=(0.35, 3.0))


def _download_descriptions(folder: Path, name: str, code: str) -> None:
    if shutil.which("apt-get") is None:
        raise RuntimeError(
            'data="debian-descriptions" needs `apt-get` (Debian or Ubuntu), which is not on the '
            'PATH; use data="homeassistant", for summaries data="docstrings", or files of your own.'
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
    packages.run(["apt-get", "update", "-c", str(configuration), *options], folder)
    if not any(folder.glob(f"lists/*_i18n_Translation-{code}")):
        raise ValueError(f"`{name}` must be a language of Debian's descriptions, got {code!r}.")


def debian_paragraphs(folder: str | Path, code: str) -> Iterator[tuple[str, str, list[str]]]:
    """(source package, MD5 of the original, paragraphs) of each description in one language; the
    first paragraph is the synopsis."""
    sources, description = {}, f"Description-{code}"
    for path in sorted(Path(folder).glob("*_Packages")):
        for fields in _control_blocks(path, "Package", "Source"):
            sources[fields["Package"]] = fields.get("Source", fields["Package"]).split(" ")[0]
    for path in sorted(Path(folder).glob(f"*_i18n_Translation-{code}")):
        for fields in _control_blocks(path, "Package", "Description-md5", description):
            paragraphs = fields.get(description, "").split("\n .\n")
            summary, _, first = paragraphs[0].partition("\n")
            paragraphs = [summary, *filter(None, [first]), *paragraphs[1:]]
            package, md5 = fields["Package"], fields["Description-md5"]
            yield sources.get(package, package), md5, paragraphs


def _numbered_paragraphs(folder: str | Path, code: str) -> dict[tuple[str, str, int, int], str]:
    """{(source package, MD5, number of paragraphs, paragraph): text} of one language."""
    texts = {}
    for source, md5, paragraphs in debian_paragraphs(folder, code):
        for number, text in enumerate(paragraphs):
            texts.setdefault((source, md5, len(paragraphs), number), text)
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
    for name, content in deb_files(package, r"/text/.*\.html$"):
        path = name.partition("/text/")[2]
        parser = _HelpParser()
        with parsing(f"{package}, {path}", "a page of HTML in UTF-8"):
            parser.feed(content.decode())
            parser.close()
        for key, pieces in parser.paragraphs:
            texts.setdefault((path, key), "".join(pieces))
    return texts


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
    return some(pairs, place)
