"""Readers of text pairs: what they keep, what they skip and count, what they refuse."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data import packages, pairs, pairs_files, pairs_packages, splits
from recipes.data.examples import Pairs
from recipes.data.files import cache_dir, make_folder, progress
from recipes.data.pairs import load_pairs, split

EN_DE = {"source_language": "en", "target_language": "de"}
BROKEN = b"gr\xfc\xdfe"  # Latin-1, not UTF-8


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def rows(pairs):
    return list(zip(pairs.source, pairs.target, strict=True))


def many(number):
    pairs = Pairs()
    for index in range(number):
        pairs.add(f"source {index}", f"target {index}")
    return pairs


# --- rules of all readers ------------------------------------------------------------------------


def test_reading_data_needs_no_tensorflow():
    code = "import recipes.data.pairs, recipes.cli, sys; sys.exit('tensorflow' in sys.modules)"
    root = Path(packages.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_pairs_say_how_many_they_are_and_what_was_skipped():
    pairs = many(2)
    pairs.add("alone", " \t")
    pairs.add("alone", "\ud800")
    assert len(pairs) == 2
    assert str(pairs) == "2 pairs (skipped: 1 empty side, 1 invalid UTF-8)"


def test_white_space_within_a_text_becomes_one_space():
    pairs = Pairs()
    pairs.add(" a\r\n\n b\t", "c\u00a0d\u2028e")
    assert rows(pairs) == [("a b", "c\u00a0d\u2028e")]


# --- moses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["", " \u00a0", "\u200b", "\ufeff \u00ad", "\x00\x85"])
def test_a_text_of_nothing_visible_is_an_empty_side(blank):
    pairs = Pairs()
    pairs.add("a", blank)
    pairs.add(blank, "a")
    pairs.add(f"a{blank}b", "a\u200b")
    assert (len(pairs), pairs.skipped) == (1, {"empty side": 2})


def test_moses_splits_at_the_newline_only(tmp_path):
    source = write(tmp_path / "a.en", "one\u2028still one\x0b\x85\r\ntwo\n")
    target = write(tmp_path / "a.de", "\ufeffeins\nzwei")
    assert rows(pairs_files.moses(source, target)) == [
        ("one\u2028still one", "eins"),
        ("two", "zwei"),
    ]


@given(st.lists(st.tuples(*2 * [st.from_regex(r"\w[^\s\ud800-\udfff]{0,7}\w", fullmatch=True)])))
def test_moses_gives_back_what_was_written(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("moses")
    paths = [folder / "a.en", folder / "a.de"]
    for path, side in zip(paths, zip(*texts, strict=True), strict=False):
        write(path, "".join(f"{text}\n" for text in side))
    if texts:
        assert rows(pairs_files.moses(*paths)) == texts


@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_moses_reads_compressed_files(tmp_path, ending, pack):
    source = write(tmp_path / f"a.en{ending}", pack(b"one\ntwo\n"))
    target = write(tmp_path / "a.de.bz2", bz2.compress(b"eins\nzwei\n"))
    assert rows(pairs_files.moses(source, target)) == [("one", "eins"), ("two", "zwei")]


def test_moses_counts_what_it_skips(tmp_path):
    source = write(tmp_path / "a.en", b"one\n" + BROKEN + b"\nthree\n\n")
    target = write(tmp_path / "a.de", b"eins\nzwei\n \n\n")
    pairs = pairs_files.moses(source, target)
    assert rows(pairs) == [("one", "eins")]
    assert pairs.skipped == {"invalid UTF-8": 1, "empty side": 2}


def test_moses_refuses_unequal_files_with_both_names_and_counts(tmp_path):
    source = write(tmp_path / "a.en", "one\ntwo\nthree\n")
    target = write(tmp_path / "a.de", "eins\n")
    with pytest.raises(ValueError, match=r"as many lines, got .*a\.en: 3 lines, .*a\.de: 1 lines"):
        pairs_files.moses(source, target)


def test_moses_refuses_empty_files(tmp_path):
    paths = write(tmp_path / "a.en", ""), write(tmp_path / "a.de", "")
    with pytest.raises(ValueError, match=r"a\.en, .*a\.de: expected at least one pair, got 0"):
        pairs_files.moses(*paths)


# --- tsv -----------------------------------------------------------------------------------------


def test_tsv_takes_two_columns_or_a_third_that_is_a_comment(tmp_path):
    path = write(tmp_path / "a.tsv", "Go.\tGeh.\tCC-BY 2.0 (France)\r\nHi.\tHallo!\n\nNo.\t\n")
    pairs = pairs_files.tsv(path)
    assert rows(pairs) == [("Go.", "Geh."), ("Hi.", "Hallo!")]
    assert pairs.skipped == {"empty side": 2}


@pytest.mark.parametrize(
    ("line", "count"), [(b"no tab", 1), (b"a\tb\tc\td", 4), (BROKEN + b" no tab", 1)]
)
def test_tsv_refuses_other_columns_with_path_and_line(tmp_path, line, count):
    path = write(tmp_path / "a.tsv", b"Go.\tGeh.\n" + line)
    with pytest.raises(ValueError, match=rf"a\.tsv:2: expected 2 or 3 columns .* got {count}: '"):
        pairs_files.tsv(path)


def test_utf16_is_refused_by_name(tmp_path):
    path = write(tmp_path / "a.tsv", "Go.\tGeh.\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"a\.tsv:1: expected UTF-8, got UTF-16\."):
        pairs_files.tsv(path)


@pytest.mark.parametrize("ending", [".gz", ".xz", ".bz2"])
def test_a_broken_archive_is_refused_with_its_path(tmp_path, ending):
    path = write(tmp_path / f"a.tsv{ending}", "not packed at all")
    with pytest.raises(ValueError, match=rf"a\.tsv\{ending}: expected a readable file, got \w+"):
        pairs_files.tsv(path)


def test_a_cut_off_archive_is_refused_with_its_path(tmp_path):
    path = write(tmp_path / "a.tsv.gz", gzip.compress(b"Go.\tGeh.\n" * 1000)[:-9])
    with pytest.raises(ValueError, match=r"a\.tsv\.gz: expected a readable file, got EOFError"):
        pairs_files.tsv(path)


# --- jsonl ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"en": "Go.", "de": "Geh.", "id": 7},
        {"id": 7, "translation": {"de": "Geh.", "en": "Go."}},
        {"source": "Go.", "target": "Geh."},
        {"translation": {"source": "Go.", "target": "Geh."}},
    ],
)
def test_jsonl_finds_the_texts_under_the_usual_keys(tmp_path, row):
    path = write(tmp_path / "a.jsonl", json.dumps(row) + "\n")
    assert rows(pairs_files.jsonl(path, "en", "de")) == [("Go.", "Geh.")]


def test_jsonl_counts_what_it_skips(tmp_path):
    lines = [
        b'{"en": "Go.", "de": "Geh."}',
        b"",
        b'{"en": "Go.", "de": null}',
        b'{"en": "Go.", "de": "' + BROKEN + b'"}',
        rb'{"en": "Go.", "de": "\ud800"}',
    ]
    pairs = pairs_files.jsonl(write(tmp_path / "a.jsonl", b"\n".join(lines)), "en", "de")
    assert rows(pairs) == [("Go.", "Geh.")]
    assert pairs.skipped == {"empty side": 2, "invalid UTF-8": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"en": ', "expected a JSON object, got: Expecting value"),
        (
            '{"en": "Go.", "fr": "Va."}',
            "expected an object with texts for 'en' and 'de', or .* got .*fr",
        ),
        ('{"en": "Go.", "de": 7}', "expected an object with texts .* got .*7"),
        ("[7]", r"expected an object with texts .* got '\[7\]'"),
    ],
)
def test_jsonl_refuses_other_lines_with_path_and_line(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", f'{{"en": "Go.", "de": "Geh."}}\n{line}\n')
    with pytest.raises(ValueError, match=rf"a\.jsonl:2: {message}"):
        pairs_files.jsonl(path, "en", "de")


# --- tmx -----------------------------------------------------------------------------------------

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"{namespace}><header srclang="en"/><body>
<tu><tuv xml:lang="en-US"><seg>Click <bpt i="1">&lt;b&gt;</bpt><hi>OK</hi><ept i="1">b</ept>
 now.</seg></tuv><tuv xml:lang="DE"><seg>Jetzt OK klicken.</seg></tuv></tu>
<tu><tuv lang="en"><seg>Yes</seg></tuv><tuv lang="de_AT"><seg>Jo</seg></tuv>
    <tuv lang="de"><seg>Ja</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>No</seg></tuv><tuv xml:lang="fr"><seg>Non</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg/></tuv><tuv xml:lang="de"><seg>Leer</seg></tuv></tu>
</body></tmx>
"""


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://www.lisa.org/tmx14"'])
def test_tmx_reads_text_without_markup_and_matches_languages_loosely(tmp_path, namespace):
    text = TMX.replace("{namespace}", namespace)
    pairs = pairs_files.tmx(write(tmp_path / "a.tmx.gz", gzip.compress(text.encode())), "en", "de")
    assert rows(pairs) == [("Click OK now.", "Jetzt OK klicken."), ("Yes", "Ja")]
    assert pairs.skipped == {"language missing": 1, "empty side": 1}


def test_tmx_keeps_no_unit_that_it_has_read(tmp_path, monkeypatch):
    bodies = []

    def read(file, events):
        for event, element in iterparse(file, events):
            if event == "start" and element.tag == "body":
                bodies.append(element)
            yield event, element

    iterparse = pairs_files.ElementTree.iterparse
    monkeypatch.setattr(pairs_files.ElementTree, "iterparse", read)
    path = write(tmp_path / "a.tmx", TMX.replace("{namespace}", ""))
    assert len(pairs_files.tmx(path, "en", "de")) > 1
    assert len(bodies[0]) == 0


def test_tmx_takes_a_language_without_region_for_one_with_it_but_no_other_region(tmp_path):
    path = write(tmp_path / "a.tmx", TMX.replace("{namespace}", ""))
    assert rows(pairs_files.tmx(path, "en_us", "de-at")) == [
        ("Click OK now.", "Jetzt OK klicken."),
        ("Yes", "Jo"),
    ]
    assert rows(pairs_files.tmx(path, "en-GB", "de")) == [("Yes", "Ja")]


def test_tmx_refuses_a_language_it_does_not_have(tmp_path):
    path = write(tmp_path / "a.tmx", TMX.replace("{namespace}", ""))
    with pytest.raises(ValueError, match=r"`target_language` must be one of \['DE', .* got 'it'"):
        pairs_files.tmx(path, "en", "it")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<tmx>\n<body>\n</tmx>", r"a\.tmx:3: expected XML, got: mismatched tag"),
        (b"<tmx>\n<seg>" + BROKEN + b"</seg></tmx>", r"a\.tmx:2: expected XML, got: not well-form"),
        (b"<tmx></tmx>", r"a\.tmx: expected at least one pair, got 0 pairs"),
    ],
)
def test_tmx_refuses_a_bad_file_with_its_path(tmp_path, content, message):
    path = write(tmp_path / "a.tmx", content)
    with pytest.raises(ValueError, match=message):
        pairs_files.tmx(path, "en", "de")


def test_tmx_refuses_a_broken_archive_with_its_path(tmp_path):
    path = write(tmp_path / "a.tmx.xz", "not packed")
    with pytest.raises(ValueError, match=r"a\.tmx\.xz: expected a readable file, got LZMAError"):
        pairs_files.tmx(path, "en", "de")


# --- po ------------------------------------------------------------------------------------------

PO = r"""# Translators
msgid ""
msgstr ""
"Language: de\n"

#: main.c:7
msgctxt "menu"
msgid "_Open"
msgstr "Ö_ffnen"
msgid ""
"Say \"no\"\n"
"or C:\\new"
msgstr ""
"Sag \"nein\"\n"
"oder C:\\new"

#, c-format
msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d Dateien"

msgid "%d sheep"
msgid_plural "%d sheep"
msgstr[0] "%d 羊"

#, c-format, fuzzy
#| msgid "Old"
msgid "Guess"
msgstr "Vermutung"

#, fuzzy
#~ msgid "Gone"
#~ msgstr "Weg"

msgid "Later"
msgstr ""
msgid "Last"
msgstr "Letzte"
"""


def test_po_reads_entries_escapes_and_plurals_and_counts_the_rest(tmp_path):
    pairs = pairs_files.po(write(tmp_path / "a.po", PO))
    assert rows(pairs) == [
        ("_Open", "Ö_ffnen"),
        ('Say "no" or C:\\new', 'Sag "nein" oder C:\\new'),
        ("%d file", "%d Datei"),
        ("%d files", "%d Dateien"),
        ("%d sheep", "%d 羊"),
        ("Last", "Letzte"),
    ]
    assert pairs.skipped == {"header": 1, "fuzzy": 1, "obsolete": 1, "empty side": 1}


def test_po_skips_the_entry_with_bytes_that_are_not_utf8(tmp_path):
    entries = b'msgid "a"\nmsgstr "' + BROKEN + b'"\n\nmsgid "b"\nmsgstr "B"\n'
    pairs = pairs_files.po(write(tmp_path / "a.po", entries))
    assert rows(pairs) == [("b", "B")]
    assert pairs.skipped == {"invalid UTF-8": 1}


@pytest.mark.parametrize(
    "line", ['msgstr "not closed', "msgstr bare", 'msgid "quote " within"', '"alone"', 'msgstr "x"']
)
def test_po_refuses_other_lines_with_path_and_line(tmp_path, line):
    path = write(tmp_path / "a.po", f"# comment\n{line}\n")
    with pytest.raises(ValueError, match=r'a\.po:2: expected msgid "\.\.\." or msgstr .* got '):
        pairs_files.po(path)


# --- homeassistant -------------------------------------------------------------------------------


def make_wheel(path, components=7):
    """Texts of `components` components in en and de; the first one holds every special case."""
    files = {
        "homeassistant/components/special/translations/en.json": {
            "title": "Add {name}",
            "state": {"on": "On", "off": "Off", "brand": "Zigbee"},
            "empty": " ",
            "only_en": "Only",
            "count": 7,
        },
        "homeassistant/components/special/translations/de.json": {
            "title": "{name} hinzufügen",
            "state": {"on": "An", "off": "Aus", "brand": "Zigbee"},
            "empty": "Leer",
        },
        "homeassistant/components/special/strings.json": {"title": "no translation"},
        "homeassistant/components/special/translations/pt-BR.json": {"title": "Adicionar {name}"},
    }
    for index in range(components - 1):
        folder = f"homeassistant/components/part{index}/translations"
        files[f"{folder}/en.json"] = {"on": "On", "name": f"Name {index}", "a": {"b": f"B {index}"}}
        files[f"{folder}/de.json"] = {
            "on": "An",
            "name": f"Nahme {index}",
            "a": {"b": f"Be {index}"},
        }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, json.dumps(content))
    return path


def test_homeassistant_joins_on_component_and_key_path(tmp_path):
    pairs = pairs_packages.homeassistant_pairs(make_wheel(tmp_path / "a.whl", 2), "en", "de")
    assert rows(pairs) == [
        ("On", "An"),
        ("Name 0", "Nahme 0"),
        ("B 0", "Be 0"),
        ("Add {name}", "{name} hinzufügen"),
        ("Off", "Aus"),
    ]
    assert pairs.groups == ["part0", "part0", "part0", "special", "special"]
    assert pairs.skipped == {
        "repeated": 1,
        "same text on both sides": 1,
        "empty side": 1,
        "not in target": 1,
    }


def test_homeassistant_takes_a_language_code_in_any_case(tmp_path):
    pairs = pairs_packages.homeassistant_pairs(make_wheel(tmp_path / "a.whl"), "en", "pt_br")
    assert rows(pairs) == [("Add {name}", "Adicionar {name}")]


@pytest.mark.parametrize(
    ("codes", "name"), [(("en", "tlh"), "target_language"), (("tlh", "de"), "source_language")]
)
def test_homeassistant_refuses_an_unknown_language_and_lists_the_known(tmp_path, codes, name):
    wheel = make_wheel(tmp_path / "a.whl")
    with pytest.raises(
        ValueError, match=rf"`{name}` must be one of \['de', 'en', 'pt-BR'\], got 'tlh'\."
    ):
        pairs_packages.homeassistant_pairs(wheel, *codes)


def test_homeassistant_refuses_what_is_no_wheel(tmp_path):
    path = write(tmp_path / "a.whl", "an error page")
    with pytest.raises(ValueError, match=r"a\.whl: expected a readable file, got BadZipFile"):
        pairs_packages.homeassistant_pairs(path, "en", "de")


def test_homeassistant_is_downloaded_once_pinned_by_its_hash(cache, monkeypatch, tmp_path):
    commands = []
    content = make_wheel(tmp_path / "a.whl").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(pairs_packages, "HOMEASSISTANT_SHA256", digest)

    def run(command, folder, capture=False):
        commands.append(command)
        name = f"homeassistant-{pairs_packages.HOMEASSISTANT_VERSION}-py3-none-any.whl"
        write(Path(folder, name), content)
        assert pairs_packages.HOMEASSISTANT_SHA256 in Path(folder, "pin.txt").read_text()

    monkeypatch.setattr(packages, "run", run)
    first, second = (
        pairs_packages.homeassistant("en", "de"),
        pairs_packages.homeassistant("en", "de"),
    )
    assert first == second
    assert len(first) == 15
    assert len(commands) == 1
    assert "--require-hashes" in commands[0]
    (wheel,) = cache.iterdir()
    assert wheel.suffix == ".whl"
    write(wheel, content + b"more")
    with pytest.raises(
        ValueError, match=rf"\.whl: expected the SHA-256 {digest}, got .*; remove it"
    ):
        pairs_packages.homeassistant("en", "de")


def test_a_failed_download_says_which_command_failed_and_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match=r"`false -m pip download .* failed with exit code 1"):
        pairs_packages.homeassistant("en", "de")
    assert list(cache.iterdir()) == []


# --- libreoffice-help ----------------------------------------------------------------------------


def make_deb(path, language, pages, data_name="data.tar.xz"):
    """A .deb without control data: an `ar` archive that ends in a compressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, body in pages.items():
            content = f"<html><body>{body}</body></html>".encode()
            member = tarfile.TarInfo(f"./usr/share/libreoffice/help/{language}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    file = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0"), (data_name, buffer.getvalue())):
        file += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        file += b"\n" * (len(content) % 2)
    return write(path, file)


ENGLISH = """<h1 id="h"><a name="x"></a>Date &amp; Time</h1>
<p id="key" class="paragraph">Press <span class="MAC"><span>Cmd</span></span><span
 class="DEFAULT">Ctrl</span>+<em>A</em>
 now.</p><p>no id</p><div class="MAC"><p id="mac">Only here</p></div>
<p id="code" class="code bas">Print x</p><p id="same">OK</p><p id="long">Yes</p><p id="empty"></p>
<p id="only">Only English</p><p id="again">Date &amp; Time</p>"""
GERMAN = """<h1 id="h">Datum &amp; Uhrzeit</h1>
<p id="key"><span class="MAC">Befehl</span><span>Strg</span>+A jetzt drücken.</p>
<p id="code" class="code">Drucke x</p><p id="same">OK</p><p id="long">Ja, und noch viel mehr</p>
<p id="empty"></p><p id="again">Datum &amp; Uhrzeit</p>"""


def test_libreoffice_help_joins_paragraphs_on_file_and_id(tmp_path):
    other = '<p id="h">Second page</p>'
    pages = {"text/swriter/01.html": ENGLISH, "text/a.html": other, "noscript.html": other}
    english = make_deb(tmp_path / "en.deb", "en-US", pages)
    pages = {"text/swriter/01.html": GERMAN, "text/a.html": '<p id="h">Zweite Seite</p>'}
    german = make_deb(tmp_path / "de.deb", "de", pages)
    pairs = pairs_packages.libreoffice_help_pairs(english, german)
    assert rows(pairs) == [
        ("Date & Time", "Datum & Uhrzeit"),
        ("Press Ctrl+A now.", "Strg+A jetzt drücken."),
        ("Second page", "Zweite Seite"),
    ]
    assert pairs.groups == ["swriter/01.html", "swriter/01.html", "a.html"]
    assert pairs.skipped == {
        "same text on both sides": 1,
        "lengths too different": 1,
        "empty side": 1,
        "not in target": 1,
        "repeated": 1,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"an error page", "expected a Debian package with a member data.tar"),
        (b"!<arch>\n", "expected a Debian package with a member data.tar"),
        (None, "expected a readable file, got ReadError"),
    ],
)
def test_libreoffice_help_refuses_what_is_no_package(tmp_path, content, message):
    path = tmp_path / "a.deb"
    if content is None:  # a member data.tar.xz that holds no tar
        header = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{4:<10}`\n".encode()
        content = b"!<arch>\n" + header + b"nope"
    write(path, content)
    with pytest.raises(ValueError, match=rf"a\.deb: {message}"):
        pairs_packages.libreoffice_help_pairs(path, path)


class FakeApt:
    """Stands in for `packages.run`: apt-cache knows the packages after `lists` is there."""

    def __init__(self, lists):
        self.lists, self.commands = lists, []

    def __call__(self, command, folder, capture=False):
        self.commands.append(command[:2])
        if command[1] == "update":
            self.lists = True
        elif command[1] == "search":
            languages = ["common", "de", "en-us"] if self.lists else []
            return "".join(f"libreoffice-help-{code} - help\n" for code in languages)
        else:
            language = command[2].removeprefix("libreoffice-help-")
            pages = {"text/a.html": {"de": GERMAN, "en-us": ENGLISH}[language]}
            make_deb(Path(folder, f"{command[2]}_7.4_all.deb"), language, pages)


@pytest.mark.parametrize("lists", [True, False])
def test_libreoffice_help_is_downloaded_once_with_package_lists_if_missing(monkeypatch, lists):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(packages, "run", FakeApt(lists))
    first, second = (
        pairs_packages.libreoffice_help("en", "DE"),
        pairs_packages.libreoffice_help("en", "de"),
    )
    assert first == second
    assert len(first) == 2
    assert packages.run.commands.count(["apt-get", "download"]) == 2
    assert packages.run.commands.count(["apt-get", "update"]) == (0 if lists else 1)


def test_libreoffice_help_takes_a_language_in_any_spelling(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(packages, "run", FakeApt(lists=True))
    assert pairs_packages.libreoffice_help("EN_us", "deu") == pairs_packages.libreoffice_help(
        "eng", "de_DE"
    )
    assert packages.run.commands.count(["apt-get", "download"]) == 2


def test_libreoffice_help_refuses_an_unknown_language_and_lists_the_known(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(packages, "run", FakeApt(lists=True))
    with pytest.raises(
        ValueError, match=r"`target_language` must be one of \['de', 'en-us'\], got 'xx'\."
    ):
        pairs_packages.libreoffice_help("de", "xx")


def test_libreoffice_help_without_apt_names_the_other_sources(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"needs `apt-get` .*; use another source"):
        pairs_packages.libreoffice_help("en", "de")


# --- split ---------------------------------------------------------------------------------------


def test_split_holds_out_the_shares_and_loses_nothing():
    pairs = many(700)
    parts = split(pairs, valid=0.05, test=0.1, seed=3)
    assert [len(part) for part in parts] == [595, 35, 70]
    assert sorted(text for part in parts for text in part.source) == sorted(pairs.source)
    assert parts == split(pairs, valid=0.05, test=0.1, seed=3)
    assert parts != split(pairs, valid=0.05, test=0.1, seed=5)


def test_split_stays_nearly_the_same_when_data_is_added():
    before = set(split(many(700), valid=0.05, test=0.05).test.source)
    after = set(split(many(707), valid=0.05, test=0.05).test.source)
    assert len(before & after) >= 33


def test_split_holds_out_no_more_than_the_limit(monkeypatch):
    monkeypatch.setattr(splits, "HELD_OUT_PAIRS", 11)
    assert [len(part) for part in split(many(700), valid=0.05, test=0.05)] == [678, 11, 11]


def test_split_leaves_a_group_that_would_dominate_a_held_out_part_in_train():
    pairs = Pairs()
    for group in range(60):
        for number in range(200 if group % 6 == 0 else 7):  # 10 large ones, 50 small ones
            pairs.add(f"{group} {number}", "x", str(group))
    for seed in range(5):
        parts = split(pairs, valid=0.05, test=0.03, seed=seed)
        for part, size in ((parts.valid, 0.05 * 2350), (parts.test, 0.03 * 2350)):
            assert size <= len(part) < size + 7
            assert max(Counter(part.groups).values()) == 7
    parts = split(pairs, valid=0.1, test=0.1)  # more than the small ones have
    assert min(map(len, parts)) >= 235
    assert sum(map(len, parts)) == 2350


@given(st.lists(st.tuples(st.sampled_from("abcdefghijk"), st.sampled_from("xyz")), min_size=3))
def test_split_tears_no_group_apart_and_leaks_no_source(made):
    pairs = Pairs()
    for number, (group, text) in enumerate(made):
        pairs.add(f"{text} {number % 5}", str(number), group)
    pairs.skipped["before"] = 2
    try:
        parts = split(pairs, valid=0.1, test=0.1)
    except ValueError as error:
        assert "at least one pair" in str(error)
        return
    seen = set(parts.train.source)
    assert not seen & set(parts.valid.source) and not seen & set(parts.test.source)
    groups = [set(part.groups) for part in parts]
    assert not groups[0] & groups[1] and not groups[1] & groups[2] and not groups[0] & groups[2]
    dropped = sum(part.skipped["source also in train"] for part in parts)
    assert sum(map(len, parts)) + dropped == len(pairs)
    assert parts.train.skipped == {"before": 2}


def test_split_keeps_repeated_sources_together():
    pairs = Pairs()
    for number in range(110):
        pairs.add(f"source {number % 11}", f"target {number}")
    parts = split(pairs, valid=0.05, test=0.05)
    assert [len(part) for part in parts] == [90, 10, 10]


def test_the_same_text_in_other_bytes_is_no_new_text_to_a_split():
    pairs = Pairs()
    for text in ("Caf\u00e9", "Cafe\u0301", "Caf\u00e9\u200b"):
        pairs.add(text, "a caf\u00e9")
    assert len(set(pairs.groups)) == 1
    pairs = Pairs()
    for number in range(40):
        pairs.add(["Caf\u00e9", "Cafe\u0301"][number % 2], f"{number}", group=f"{number}")
        pairs.add(f"text {number}", f"{number}", group=f"{number}")
    parts = split(pairs, valid=0.2, test=0.2)
    assert not any(text.startswith("Caf") for part in parts[1:] for text in part.source)


def test_split_refuses_data_that_cannot_be_split():
    with pytest.raises(ValueError, match=r"one pair in `train`, got none of 2 pairs in 2 groups"):
        split(many(2), valid=0.05, test=0.05)


# --- load_pairs ----------------------------------------------------------------------------------


def corpus(tmp_path, number=30):
    for name, size in (("train", number), ("val", 3)):
        for code in ("en", "de"):
            lines = "".join(f"{code} {name} {index}\n" for index in range(size))
            write(tmp_path / f"{name}.{code}.gz", gzip.compress(lines.encode()))
    return str(tmp_path / "train"), str(tmp_path / "val")


def test_train_and_valid_prefixes_are_used_as_they_are_without_a_test(tmp_path, capsys):
    train, valid = corpus(tmp_path)
    splits = load_pairs(train=train, valid=valid, **EN_DE)
    assert (len(splits.train), len(splits.valid), splits.test) == (30, 3, None)
    assert rows(splits.valid)[2] == ("en val 2", "de val 2")
    assert capsys.readouterr().err == "train: 30 pairs\nvalid: 3 pairs\ntest: not given\n"


def test_two_files_with_a_comma_are_a_pair(tmp_path):
    train, valid = corpus(tmp_path)
    files = [f"{place}.en.gz,{place}.de.gz" for place in (train, valid)]
    splits = load_pairs(train=files[0], valid=valid, test=files[1], **EN_DE)
    assert len(splits.train) == 30
    assert splits.test == splits.valid


@pytest.mark.parametrize(
    ("given_parts", "sizes"),
    [
        ({}, (36, 2, 2)),
        ({"test": "val"}, (38, 2, 3)),
        ({"valid": "val"}, (38, 3, 2)),
        ({"valid": "val", "test": "val"}, (40, 3, 3)),
    ],
)
def test_what_is_not_given_is_split_off(tmp_path, given_parts, sizes):
    train, _ = corpus(tmp_path, 40)
    paths = {name: str(tmp_path / place) for name, place in given_parts.items()}
    assert tuple(map(len, load_pairs(train, **EN_DE, **paths))) == sizes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "one\teins\ntwo\tzwei\nthree\tdrei\n"),
        ("a.txt", "one\teins\ntwo\tzwei\nthree\tdrei\n"),
        (
            "a.b.jsonl",
            '{"en": "one", "de": "eins"}\n{"en": "2", "de": "2"}\n{"en": "3", "de": "3"}',
        ),
        ("a.po", 'msgid "one"\nmsgstr "eins"\nmsgid "2"\nmsgstr "2"\nmsgid "3"\nmsgstr "3"\n'),
        (
            "a.tmx",
            '<tmx><tu><tuv lang="en"><seg>one</seg></tuv><tuv lang="de"><seg>eins</seg></tuv></tu>'
            '<tu><tuv lang="en"><seg>2</seg></tuv><tuv lang="de"><seg>2</seg></tuv></tu>'
            '<tu><tuv lang="en"><seg>3</seg></tuv><tuv lang="de"><seg>3</seg></tuv></tu></tmx>',
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_by_its_ending(tmp_path, name, content, packed):
    path = tmp_path / (name + ".bz2" * packed)
    write(path, bz2.compress(content.encode()) if packed else content)
    splits = load_pairs(str(path), **EN_DE)
    assert [len(part) for part in splits] == [1, 1, 1]
    assert ("one", "eins") in [row for part in splits for row in rows(part)]


def test_data_beside_train_is_refused_not_ignored():
    with pytest.raises(ValueError, match=r"not both be given, got data='a.tsv', train='b.tsv'"):
        load_pairs("a.tsv", train="b.tsv", **EN_DE)


def test_the_named_source_is_split_by_component(tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path / "a.whl", 23)
    source = {"homeassistant": lambda *codes: pairs_packages.homeassistant_pairs(wheel, *codes)}
    monkeypatch.setattr(pairs, "NAMED_SOURCES", source)
    splits = load_pairs(**EN_DE)
    groups = [set(part.groups) for part in splits]
    assert [len(part) for part in groups] == [19, 2, 2]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 23


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_language": "en"}, r"`target_language` must differ from .*, got \('en', 'en'\)\."),
        ({"data": "wmt"}, r"`data` must be a file, .*'homeassistant', .* got 'wmt'; no .* wmt\.en"),
        (
            {"train": "no/where"},
            r"`train` must .* got 'no/where'; no .* no/where\.en, no/where\.de",
        ),
        ({"train": "train", "valid": "a,b"}, r"`valid` must .* got 'a,b'; no such file: a, b"),
        ({"train": "train", "test": "a,b,c"}, r"`test` must .* two files A,B, got 'a,b,c'"),
        ({"data": "train.en.gz"}, r"`data` must end in \.tsv, .* got 'train\.en\.gz'\."),
    ],
)
def test_bad_arguments_are_refused_by_name(tmp_path, monkeypatch, arguments, message):
    corpus(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_pairs(**{**EN_DE, **arguments})


# --- cache and progress --------------------------------------------------------------------------


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("KZOO_CACHE")
    assert cache_dir() == tmp_path / "xdg/kzoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home/.cache/kzoo"
    assert cache_dir().is_dir()


def test_a_folder_is_made_once_and_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "sub/made"

    def broken(part):
        (part / "half").write_text("")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        make_folder(folder, broken)
    assert list(folder.parent.iterdir()) == []
    assert make_folder(folder, lambda part: (part / "whole").write_text("")) == folder
    assert make_folder(folder, broken) == folder
    assert [path.name for path in folder.parent.rglob("*")] == ["made", "whole"]


def test_of_two_that_make_a_folder_at_once_the_first_ones_stays(tmp_path):
    folder = tmp_path / "made"

    def slow(part):
        (part / "file").write_text("second")
        make_folder(folder, lambda other: (other / "file").write_text("first"))

    assert make_folder(folder, slow) == folder
    assert (folder / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_moved_is_an_error(tmp_path):
    folder = tmp_path / "made"
    with pytest.raises(FileNotFoundError):
        make_folder(folder, lambda part: part.rmdir())


def test_progress_is_shown_to_a_terminal_only(monkeypatch, capsys):
    clock = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert list(progress(range(300), "line")) == list(range(300))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress(range(300), "line")) == list(range(300))
    assert capsys.readouterr().err == "\rline 256\rline 300\n"


# --- debian-descriptions -------------------------------------------------------------------------

PACKAGES = """\
Package: libcat0
Source: cat (1.2)
Architecture: amd64
Description: cat library

Package: catdoc
Version: 3
"""
ENGLISH_DESCRIPTIONS = """\
Package: libcat0
Description-md5: aa
Description-en: library of the cat
 A cat purrs
 all day.
 .
 It sleeps, too.

Package: libcat-dev
Description-md5: bb
Description-en: library of the cat
 Headers only.

Package: catdoc
Description-md5: cc
Description-en: documents
"""
ITALIAN_DESCRIPTIONS = """\
Package: libcat0
Description-md5: aa
Description-it: libreria del gatto
 Un gatto fa le fusa
 tutto il giorno.
 .
 E dorme.

Package: libcat-dev
Description-md5: bb
Description-it: libreria del gatto
 Solo intestazioni.
 .
 Di più.
"""


def write_lists(folder, **languages):
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "debian_main_binary-amd64_Packages", PACKAGES)
    for code, content in languages.items():
        write(folder / f"debian_main_i18n_Translation-{code}", content)


def test_debian_descriptions_are_joined_paragraph_by_paragraph(tmp_path):
    write_lists(tmp_path, en=ENGLISH_DESCRIPTIONS, it=ITALIAN_DESCRIPTIONS)
    pairs = pairs_packages.debian_descriptions_pairs(tmp_path, "en", "it")
    assert rows(pairs) == [
        ("library of the cat", "libreria del gatto"),
        ("A cat purrs all day.", "Un gatto fa le fusa tutto il giorno."),
        ("It sleeps, too.", "E dorme."),
    ]
    assert pairs.groups == ["cat", "cat", "cat"]
    assert pairs.skipped == {"not in target": 3}  # of bb the paragraphs differ in number


def test_debian_descriptions_are_downloaded_once_for_each_language(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    asked = []

    def update(command, folder):
        configuration = Path(command[command.index("-c") + 1]).read_text()
        asked.append(re.findall('"(.*?)"', configuration))
        known = {"en": ENGLISH_DESCRIPTIONS, "it": ITALIAN_DESCRIPTIONS}
        write_lists(folder / "lists", **{c: known[c] for c in asked[-1] if c in known})

    monkeypatch.setattr(packages, "run", update)
    assert len(pairs_packages.debian_descriptions("en", "it")) == 3
    assert len(pairs_packages.debian_descriptions("it", "en")) == 3
    assert len(pairs_packages.debian_descriptions("ENG", "ita")) == 3
    assert asked == [["en"], ["en", "it"]]
    message = "`target_language` must be a language of Debian's descriptions, got 'xx'"
    with pytest.raises(ValueError, match=message):
        pairs_packages.debian_descriptions("en", "xx")


def test_debian_descriptions_without_apt_name_the_other_sources(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r'needs `apt-get` .* use data="homeassistant"'):
        pairs_packages.debian_descriptions("en", "it")
