"""Gettext catalogues against polib and the standard library's gettext, which read them, too."""

import gettext
import gzip
import io
import re

import polib
import pytest

from recipes.data import pairs_po
from recipes.data.pairs import load_pairs

# The Plural-Forms of GNU gettext's manual and of CLDR, and a form for each index; "#" is for %d.
PLURALS = {
    "sl": (
        "nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0);",
        ["# datotek", "# datoteka", "# datoteki", "# datoteke"],
    ),
    "ar": (
        "nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : "
        "n%100>=11 ? 4 : 5;",
        ["لا ملفات", "ملف واحد", "ملفان", "# ملفات", "# ملفا", "# ملف"],
    ),
    "he": (
        "nplurals=4; plural=(n == 1) ? 0 : ((n == 2) ? 1 : ((n > 10 && n % 10 == 0) ? 2 : 3));",
        ["קובץ #", "שני קבצים", "# קובץ", "# קבצים"],
    ),
    "cy": (
        "nplurals=4; plural=(n==1) ? 0 : (n==2) ? 1 : (n != 8 && n != 11) ? 2 : 3;",
        ["# ffeil", "# ffeil-ddau", "# o ffeiliau", "# ffeil-wyth"],
    ),
    "ru": (
        "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || "
        "n%100>=20) ? 1 : 2);",
        ["# файл", "# файла", "# файлов"],
    ),
    "fr": ("nplurals=2; plural=(n > 1);", ["# fichier", "# fichiers"]),
    "lv": (
        "nplurals=3; plural=(n%10==0 || (n%100>=11 && n%100<=19) ? 0 : n%10==1 ? 1 : 2);",
        ["# failu", "# fails", "# faili"],
    ),
    "ja": ("nplurals=1; plural=0;", ["# 個のファイル"]),
}
COMMON = {"sl": 0, "ar": 4, "he": 3, "cy": 2, "ru": 2, "fr": 1, "lv": 2, "ja": 0}  # of most numbers


def catalogue(path, entries="", charset="UTF-8", **fields):
    """A catalogue with a header of such fields; `Plural_Forms` is Plural-Forms."""
    fields = {"Content-Type": f"text/plain; charset={charset}"} | fields
    lines = "".join(f'"{name.replace("_", "-")}: {value}\\n"\n' for name, value in fields.items())
    try:
        content = f'msgid ""\nmsgstr ""\n{lines}\n{entries}'.encode(charset)
    except LookupError:
        content = f'msgid ""\nmsgstr ""\n{lines}\n{entries}'.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def rows(pairs):
    return list(zip(pairs.source, pairs.target, strict=True))


def plural(forms, msgid="%d file", msgid_plural="%d files"):
    texts = [f'msgstr[{n}] "{text.replace("#", "%d")}"\n' for n, text in enumerate(forms)]
    return f'msgid "{msgid}"\nmsgid_plural "{msgid_plural}"\n' + "".join(texts)


@pytest.mark.parametrize("language", PLURALS)
def test_a_plural_entry_pairs_the_forms_that_gettext_gives_for_one_and_for_most(tmp_path, language):
    formula, forms = PLURALS[language]
    path = catalogue(tmp_path / "a.po", plural(forms), Language=language, Plural_Forms=formula)
    compiled = gettext.GNUTranslations(io.BytesIO(polib.pofile(path).to_binary()))
    one = compiled.ngettext("%d file", "%d files", 1)
    numbers = [compiled.ngettext("%d file", "%d files", n) for n in range(3, 1000)]
    many = max(forms, key=lambda form: numbers.count(form.replace("#", "%d"))).replace("#", "%d")
    assert many == forms[COMMON[language]].replace("#", "%d")
    assert rows(pairs_po.po(path, "en", language)) == [("%d file", one), ("%d files", many)]


def test_a_form_with_a_placeholder_that_its_source_lacks_is_counted(tmp_path):
    formula, forms = PLURALS["ru"]
    entries = plural(forms, msgid="One file") + "\n" + plural(["#1$d x"], "A", "%d x")
    path = catalogue(tmp_path / "a.po", entries, Plural_Forms=formula)
    pairs = pairs_po.po(path, "en", "ru")
    assert rows(pairs) == [("%d files", "%d файлов")]
    assert pairs.skipped["placeholder in one plural form only"] == 2
    assert pairs.skipped["plural form missing"] == 1
    formula, forms = PLURALS["ar"]
    path = catalogue(tmp_path / "ar.po", plural(forms), Plural_Forms=formula, Language="ar")
    assert rows(pairs_po.po(path, "ar", "en")) == [("%d ملفا", "%d files")]


@pytest.mark.parametrize("value", ["", "nplurals=INTEGER; plural=EXPRESSION;"])
def test_without_a_formula_two_forms_are_singular_and_plural_and_more_are_counted(tmp_path, value):
    fields = {"Plural_Forms": value} if value else {}
    entries = plural(["# Datei", "# Dateien"]) + "\n" + plural(["a", "b", "c"], "x", "y")
    pairs = pairs_po.po(catalogue(tmp_path / "a.po", entries, **fields), "en", "de")
    assert rows(pairs) == [("%d file", "%d Datei"), ("%d files", "%d Dateien")]
    assert pairs.skipped["plural without Plural-Forms"] == 1


@pytest.mark.parametrize(
    "formula",
    [
        "nplurals=2; plural=n != 1 ? ;",
        "plural=n",
        "nplurals=2; plural=n/0;",
        "nplurals=2; plural=3<!n;",
        "nplurals=2; plural=__import__('os');",
        "nplurals=2; plural=" + 400 * "(" + "n" + 400 * ")" + ";",
    ],
)
def test_a_formula_that_is_none_is_refused_with_path_and_line(tmp_path, formula):
    path = catalogue(tmp_path / "a.po", plural(["# a", "# b"]), Plural_Forms=formula)
    with pytest.raises(ValueError, match=r"a\.po:4: expected Plural-Forms: nplurals=<number>; pl"):
        pairs_po.po(path, "en", "de")


@pytest.mark.parametrize(
    "formula",
    [
        "plural=(n != 1); nplurals=2;",
        "nplurals=2; plural=(n != 1);;",
        "nplurals = 2 ; plural = (n != 1) ; // x",
        "nplurals=2; plural=n != 1",
    ],
)
def test_a_formula_is_read_as_loosely_as_gettext_does(tmp_path, formula):
    entries = plural(["# Datei", "# Dateien"])
    pairs = pairs_po.po(catalogue(tmp_path / "a.po", entries, Plural_Forms=formula), "en", "de")
    assert rows(pairs) == [("%d file", "%d Datei"), ("%d files", "%d Dateien")]


def test_a_formula_that_nothing_needs_is_not_read(tmp_path):
    path = catalogue(tmp_path / "a.po", ENTRY, Plural_Forms="nplurals=2; plural=odd;")
    assert rows(pairs_po.po(path, "en", "de")) == EN_DE


@pytest.mark.parametrize(
    ("msgid_plural", "form", "is_kept"),
    [
        ("%1$s a", "%1$s x %1$s", True),
        ("%s of %s", "%2$s/%1$s", True),
        ("%s a", "%s x %s", False),
        ("%'d a", "%d x", True),
        ("a", "%'d x", False),
        ("a", "%n x", False),
        ("%n a", "%Ln x", True),
        ("%L1 a", "%1 x", True),
        ("{n} a", "{n} x {n}", True),
        ("{} a", "{} x {}", False),
    ],
)
def test_a_placeholder_is_one_of_printf_qt_python_or_icu(tmp_path, msgid_plural, form, is_kept):
    path = catalogue(tmp_path / "a.po", plural(["x", form], "a", msgid_plural))
    pairs = pairs_po.po(path, "en", "de")
    assert rows(pairs) == [("a", "x"), (msgid_plural, form)][: 1 + is_kept]


def test_a_form_with_a_number_of_many_digits_is_refused_with_path_and_line(tmp_path):
    entries = f'msgid "a"\nmsgid_plural "b"\nmsgstr[{5000 * "9"}] "c"\n'
    with pytest.raises(ValueError, match=r"a\.po:7: expected msgid .* or msgstr"):
        pairs_po.po(catalogue(tmp_path / "a.po", entries), "en", "de")


ENTRY = 'msgid "cat"\nmsgstr "Katze"\n'
EN_DE, DE_EN = [("cat", "Katze")], [("Katze", "cat")]


@pytest.mark.parametrize(
    ("codes", "fields", "expected"),
    [
        (("en", "de"), {"Language": "de"}, EN_DE),
        (("de", "en"), {"Language": "de"}, DE_EN),
        (("de", "en"), {"Language": "deu"}, DE_EN),
        (("GER", "en-US"), {"Language": "de_AT.UTF-8"}, DE_EN),
        (("en", "de"), {"Language": "en", "X-Source-Language": "de"}, DE_EN),
        (("de", "en"), {"Language": "de", "X-Source-Language": "en_GB"}, DE_EN),
        (("en", "de"), {"Language": ""}, EN_DE),
        (("de", "en"), {}, EN_DE),
        (("de", "en"), {"Language": "LL"}, EN_DE),  # a template's
    ],
)
def test_the_language_of_the_header_says_which_side_is_the_source(
    tmp_path, capsys, codes, fields, expected
):
    path = catalogue(tmp_path / "a.po", ENTRY, **fields)
    assert rows(pairs_po.po(path, *codes)) == expected
    first, second = codes if expected == EN_DE else codes[::-1]
    said = f"a.po: msgid is taken for {first!r}, msgstr for {second!r}"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["de.po", "de.po.gz", "django.de.po", "app_de_AT.po", "app-de.po", "de/LC_MESSAGES/a.po"],
)
def test_without_a_header_the_name_of_the_file_says_its_language(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = ENTRY.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    assert rows(pairs_po.po(path, "de", "en")) == DE_EN
    assert rows(pairs_po.po(path, "en", "de")) == EN_DE


def test_a_catalogue_in_another_language_is_refused_by_name(tmp_path):
    path = catalogue(tmp_path / "a.po", ENTRY, Language="fr")
    message = r"a\.po:4: expected a catalogue in 'en' or 'de', got Language: fr"
    with pytest.raises(ValueError, match=message):
        load_pairs(path, source_language="en", target_language="de")
    path = catalogue(tmp_path / "b.po", ENTRY, **{"Language": "de", "X-Source-Language": "fr"})
    with pytest.raises(ValueError, match=r"b\.po:5: expected msgid in 'en', got X-Source-.*: fr"):
        pairs_po.po(path, "en", "de")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("fr.po", "fr"),
        ("pt_BR.po.gz", "pt_BR"),
        ("fra.po", "fra"),
        ("django.fr.po", "fr"),
        ("locale/fr/LC_MESSAGES/d.po", "fr"),
        ("locale/ast/LC_MESSAGES/d.po", "ast"),
    ],
)
def test_another_language_in_the_name_is_refused_by_name(tmp_path, name, found):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    path = catalogue(tmp_path / name, ENTRY)
    message = rf"po.*: expected a catalogue in 'en' or 'de', got '{found}' in its name"
    with pytest.raises(ValueError, match=message):
        pairs_po.po(path, "en", "de")
    assert rows(pairs_po.po(catalogue(tmp_path / name, ENTRY, Language="de"), "en", "de")) == EN_DE


@pytest.mark.parametrize("name", ["app.po", "log.po", "messages.po", "check_in.po", "my.app.po"])
def test_a_word_that_could_be_a_code_is_no_language(tmp_path, name):
    assert rows(pairs_po.po(catalogue(tmp_path / name, ENTRY), "en", "de")) == EN_DE


@pytest.mark.parametrize(
    ("name", "fields"),
    [("a.po", {"Language": "en_GB"}), ("a.po", {"Language": "en@latin"}), ("en_GB.po", {})],
)
def test_a_variant_of_the_source_is_no_translation_of_the_target(tmp_path, name, fields):
    path = catalogue(tmp_path / name, 'msgid "color"\nmsgstr "colour"\n', **fields)
    with pytest.raises(
        ValueError, match=r"po:\d: expected a catalogue in 'de', got one in en.*, a "
    ):
        pairs_po.po(path, "en", "de")
    path = catalogue(tmp_path / name, ENTRY, **fields | {"X-Source-Language": "de"})
    assert rows(pairs_po.po(path, "en", "de")) == DE_EN


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("ISO-8859-1", "Größe"),
        ("windows-1252", "„Größe“"),
        ("ISO-8859-2", "Řeka"),
        ("KOI8-R", "Размер"),
        ("EUC-JP", "大きさ"),
        ("Shift_JIS", "ソース表示"),  # bytes of a backslash within
        ("ISO-2022-JP", "大きさ"),
        ("GB2312", "大小"),
        ("GBK", "開乗"),
        ("BIG5", "功能許"),  # again
        ("EUC-KR", "크기"),
        ("utf8", "Größe"),
    ],
)
def test_a_catalogue_is_read_in_the_charset_of_its_header(tmp_path, charset, text):
    entries = f'msgid "size"\nmsgstr ""\n"{text}"\n'
    path = catalogue(tmp_path / "a.po", entries, charset)
    assert [entry.msgstr for entry in polib.pofile(path)] == [text]
    assert rows(pairs_po.po(path, "en", "xx")) == [("size", text)]


def test_a_header_may_be_fuzzy_and_its_charset_on_two_lines(tmp_path):
    path = tmp_path / "a.po"
    header = '# Titel: Größe\n#, fuzzy\nmsgid ""\nmsgstr "Content-Type: text/plain; "\n"charset='
    path.write_bytes(f'{header}latin1\\n"\n\nmsgid "size"\nmsgstr "Größe"\n'.encode("latin-1"))
    pairs = pairs_po.po(path, "en", "de")
    assert rows(pairs) == [("size", "Größe")]
    assert pairs.skipped == {"fuzzy": 1}


@pytest.mark.parametrize(
    "comment", ["# msgid of X", "# Content-Type: text/plain; charset=KOI8-R", '#~ msgid "x"', ""]
)
@pytest.mark.parametrize(("charset", "text"), [("ISO-2022-JP", "猫です"), ("UTF-8", "Größe")])
def test_a_comment_says_nothing_about_the_charset(tmp_path, comment, charset, text):
    path = catalogue(tmp_path / "a.po", f'msgid "cat"\nmsgstr "{text}"\n', charset)
    content = (tmp_path / "a.po").read_bytes()
    (tmp_path / "a.po").write_bytes(f"{comment}\n".encode() + content)
    assert rows(pairs_po.po(path, "en", "xx")) == [("cat", text)]


def test_a_catalogue_in_windows_1252_that_says_latin_1_is_read_as_browsers_do(tmp_path):
    path = catalogue(tmp_path / "a.po", charset="ISO-8859-1")
    with open(path, "ab") as file:
        file.write('msgid "a"\nmsgstr "„Größe“ …"\n'.encode("cp1252"))
    assert rows(pairs_po.po(path, "en", "de")) == [("a", "„Größe“ …")]
    path = catalogue(tmp_path / "b.po", ENTRY + '\nmsgid "a"\nmsgstr "b\x93"\n', "ISO-8859-15")
    pairs = pairs_po.po(path, "en", "de")
    assert rows(pairs) == EN_DE
    assert pairs.skipped["control characters"] == 1


@pytest.mark.parametrize(
    "charset", ["klingon", "UTF-16", "UTF\0-8", "hex", "cp037", "undefined", "idna", "punycode"]
)
def test_a_charset_that_cannot_be_is_refused_by_name(tmp_path, charset):
    path = tmp_path / "a.po"
    header = f'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={charset}\\n"\n\n'
    path.write_text(header + ENTRY)
    with pytest.raises(
        ValueError, match=rf"a\.po:3: expected a charset .*, got {re.escape(repr(charset))}"
    ):
        pairs_po.po(path, "en", "de")


def test_bytes_that_do_not_fit_the_charset_are_counted_or_named(tmp_path):
    path = tmp_path / "a.po"
    for charset, bad in (("EUC-JP", b"\xff\xff"), ("ascii", b"\xfc")):
        catalogue(path, ENTRY, charset)
        path.write_bytes(path.read_bytes() + b'\nmsgid "x"\nmsgstr "' + bad + b'"\n')
        pairs = pairs_po.po(path, "en", "de")
        assert rows(pairs) == EN_DE
        assert pairs.skipped[f"invalid {charset}"] == 1
    catalogue(path, ENTRY, "ISO-2022-JP")
    path.write_bytes(path.read_bytes() + b'\nmsgid "x"\nmsgstr "\x1b$B\x00\x01"\n')
    with pytest.raises(ValueError, match=r"a\.po:9: expected ISO-2022-JP, got: "):
        pairs_po.po(path, "en", "de")


def test_escapes_are_those_of_gettext(tmp_path):
    entries = r'msgid "a\tb\"c\\d\x41\102"' + "\n" + r'msgstr "\303\274\n\r\v\q"' + "\n"
    pairs = pairs_po.po(catalogue(tmp_path / "a.po", entries), "en", "de")
    assert rows(pairs) == [('a b"c\\dAB', "ü \vq")]


def test_polib_reads_the_same_entries(tmp_path):
    entries = (
        '#| msgid "old"\n#| msgid_plural "olds"\nmsgctxt "menu"\nmsgid "Open"\nmsgstr "Öffnen"\n\n'
        'msgid "Open"\nmsgstr "Offen"\n#, fuzzy\nmsgid "a"\nmsgstr "b"\n\n#~ msgid "x"\n'
        '#~ msgstr "y"\n\nmsgid ""\n"two "\n"lines"\nmsgstr ""\n"zwei\\n"\n"Zeilen"\n'
    )
    path = catalogue(tmp_path / "a.po", entries.replace("\n", "\r\n"), Language="de")
    expected = [
        (entry.msgid, entry.msgstr.replace("\n", " "))
        for entry in polib.pofile(path)
        if not entry.obsolete and not entry.fuzzy
    ]
    assert rows(pairs_po.po(path, "en", "de")) == expected


def test_a_catalogue_of_the_same_text_on_both_sides_is_no_translation(tmp_path):
    entries = "\n".join(f'msgid "word {n}"\nmsgstr "word {n}"\n' for n in range(20))
    path = catalogue(tmp_path / "en.po", entries, Language="de")
    with pytest.raises(
        ValueError, match=r"en\.po: expected two languages, got the same .* in 20 of"
    ):
        pairs_po.po(path, "en", "de")
