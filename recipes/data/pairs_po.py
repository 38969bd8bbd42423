"""Gettext catalogues: charset, language and plural forms as a catalogue's header says them."""

import codecs
import functools
import gettext
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from recipes.data.examples import Pairs, some_pairs
from recipes.data.files import lines, open_compressed, parsing, plain_suffix, say
from recipes.data.languages import is_code, is_same, is_variant, language_of, match

ESCAPES = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))  # others stand for themselves
ESCAPED = re.compile(r"((?:\\[0-7]{1,3}|\\x[0-9a-fA-F]{2})+)|\\(.)")
MANY = range(3, 1000)  # numbers that say which form is the plural in general
PLACEHOLDER = re.compile(  # of printf and Python, of Qt, of Python and ICU
    r"%(?P<name>\(\w+\))?(?:(?P<place>\d+)\$)?[-+#0']*\d*(?:\.\d+)?(?:hh|h|ll|l|q|j|z|t|L)?"
    r"(?P<kind>[diouxXeEfFgGcs])|%L?(?P<qt>n|\d+)|(?P<braces>\{\w*\})"
)
FIRST_WORDS = re.compile(rb'(?m)^(?:\xef\xbb\xbf)?[ \t]*msg(?:id|ctxt)[ \t]*"')  # of entries
SUPERSETS = {"iso8859-1": "cp1252", "iso8859-9": "cp1254"}  # what browsers read in their place
CONTROLS = re.compile("[\x80-\x84\x86-\x9f]")  # in texts that are read in a wrong charset
HEADER_BYTES = 1 << 16
MANY_PAIRS = 20  # from which on equal sides are no chance


class Header(NamedTuple):
    """What the header of a catalogue says: fields by their names in lower case."""

    fields: dict[str, str]
    line: int = 1

    def language(self) -> str:
        return self.fields.get("language", "").split(" ")[0]

    def source_language(self) -> str:
        """The language of the msgid, where a header says it (Poedit, Qt and Lokalise do)."""
        names = "x-source-language", "source-language"
        return next((self.fields[name] for name in names if self.fields.get(name)), "")

    def plural_forms(self, path: str | Path) -> tuple[int, int] | None:
        """The forms of 1 and of most numbers, by `Plural-Forms`; None where a header has none.

        `gettext` of the standard library reads the formula, which is one of C.
        """
        value = self.fields.get("plural-forms", "")
        if not value or "EXPRESSION" in value:  # a template's
            return None
        found = re.search(r"\bplural\s*=\s*([^;]+)", value)
        with parsing(path, "Plural-Forms: nplurals=<number>; plural=<formula>;", self.line):
            if not found or not re.search(r"\bnplurals\s*=\s*\d", value):
                raise ValueError(value[:80])
            form = gettext.c2py(found[1].strip())
            return form(1), Counter(map(form, MANY)).most_common(1)[0][0]


def po(
    path: str | Path, source_language: str | None = None, target_language: str | None = None
) -> Pairs:
    """Gettext catalogue: msgid -> msgstr, or the reverse if its language is the source's.

    A plural entry gives two pairs: msgid with the form for 1, and msgid_plural with the form that
    most numbers have. Fuzzy and obsolete entries are skipped and counted, as is the header.

    Raises:
        ValueError: besides what breaks the format, if the catalogue's language is neither
            `source_language` nor `target_language`.
    """
    encoding, pairs, header = charset(path), Pairs(), None
    for entry, line in _entries(path, encoding):
        if header is None and "msgid" in entry:
            header = Header(_fields(entry) if not entry["msgid"] else {}, line)
            forms = functools.cache(functools.partial(header.plural_forms, path))
            is_swapped = _is_swapped(path, header, source_language, target_language)
        if "reason" in entry or not entry["msgid"]:
            pairs.skipped[entry.get("reason", "header")] += 1
        elif "msgid_plural" not in entry:
            _add(pairs, is_swapped, entry["msgid"], entry.get("msgstr", ""))
        else:
            _add_plural(pairs, is_swapped, entry, forms())
    if codecs.lookup(encoding).name != "utf-8" and "invalid UTF-8" in pairs.skipped:
        pairs.skipped[f"invalid {encoding}"] = pairs.skipped.pop("invalid UTF-8")
    same = sum(map(str.__eq__, pairs.source, pairs.target))
    if len(pairs) >= MANY_PAIRS and same > len(pairs) / 2:  # en_GB.po of an English program
        raise ValueError(
            f"{path}: expected two languages, got the same text on both sides in {same:,} of "
            f"{len(pairs):,} pairs."
        )
    return some_pairs(pairs, path)


def charset(path: str | Path) -> str:
    """The charset of a catalogue's header; UTF-8 where it has none."""
    with parsing(path, "a readable file"), open_compressed(path) as file:
        head = re.sub(rb"(?m)^[ \t]*#.*$", b"", file.read(HEADER_BYTES))
    start, stop, *_ = [*(found.start() for found in FIRST_WORDS.finditer(head)), None, None]
    header = head[start:stop]
    text = re.sub(rb'"[ \t]*\r?\n[ \t]*"', b"", header)
    found = re.search(rb"Content-Type:[^\\\"]*?charset\s*=\s*([^\s;\\\"]+)", text, re.IGNORECASE)
    name = found[1].decode("ascii", errors="replace") if found else "UTF-8"
    if name == "CHARSET":  # a template's
        return "UTF-8"
    try:
        is_known = b'msgid "a\\"'.decode(name, errors="surrogateescape") == 'msgid "a\\"'
    except (LookupError, ValueError):  # with a NUL it is a ValueError
        is_known = False
    if not is_known:
        line = head[: (start or 0) + header.lower().find(b"charset")].count(b"\n") + 1
        raise ValueError(
            f"{path}:{line}: expected a charset that holds ASCII, as UTF-8, got {name!r}."
        )
    return SUPERSETS.get(codecs.lookup(name).name, name)


def _fields(entry: dict[str, str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in entry.get("msgstr", "").split("\n"))
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


def _is_swapped(
    path: str | Path, header: Header, source_language: str | None, target_language: str | None
) -> bool:
    """Whether the msgstr are in the source's language, by the header or else the file's name."""
    if source_language is None or target_language is None:
        return False
    codes = target_language, source_language
    said = header.language() if is_code(header.language()) else ""
    if said and match(codes, said) is None:
        raise ValueError(
            f"{path}:{header.line}: expected a catalogue in {source_language!r} or "
            f"{target_language!r}, got Language: {said}"
        )
    names = [said] if said else _languages_in_name(path)
    found = next((name for name in names if match(codes, name)), None)
    if found is None:
        _check_name(path, codes)
    is_swapped = found is not None and match(codes, found) == source_language
    other = codes[0] if is_swapped else codes[1]
    original = header.source_language()
    if is_swapped and not is_code(original) and _is_variant_of(found, *codes[::-1]):
        raise ValueError(
            f"{path}:{header.line}: expected a catalogue in {target_language!r}, got one in "
            f"{found}, a variant of {source_language!r}; if its msgid are in {target_language!r}, "
            f"add X-Source-Language: {target_language} to its header"
        )
    if is_code(original) and match([other], original) is None:
        raise ValueError(
            f"{path}:{header.line}: expected msgid in {other!r}, got X-Source-Language: {original}"
        )
    reason = f"Language: {said}" if said else "its name" if found else "no language is named"
    translated = source_language if is_swapped else target_language
    say(f"{path}: msgid is taken for {other!r}, msgstr for {translated!r} ({reason})")
    return is_swapped


def _languages_in_name(path: str | Path) -> list[str]:
    """What may be a code in django.de.po, de.po and locale/de/LC_MESSAGES/django.po."""
    path = Path(path)
    stem = path.with_suffix("").stem if plain_suffix(path) != path.suffix else path.stem
    parts = re.split("[._-]", stem)
    names = [stem, "-".join(parts[-2:]), parts[-1]]
    return names + [path.parent.parent.name] * (path.parent.name == "LC_MESSAGES")


def _check_name(path: str | Path, codes: tuple[str, str]) -> None:
    """Raises a ValueError if the name of a file, as fr.po, is another language's.

    Codes of three letters count only where they have one of two (fra): "app" and "log" are some.
    """
    *names, folder = _languages_in_name(path) + [""] * (Path(path).parent.name != "LC_MESSAGES")
    name = names[0].rpartition(".")[2]
    names = [name] if len(language_of(name)) == 2 else []
    if other := next(filter(is_code, [*names, folder]), None):
        raise ValueError(
            f"{path}: expected a catalogue in {codes[1]!r} or {codes[0]!r}, got {other!r} in its "
            "name; a Language: in its header says it better"
        )


def _is_variant_of(code: str, source_language: str, target_language: str) -> bool:
    """Whether a catalogue's code, as en_GB, is the source's with a region or script of its own.

    The msgid are in the source's language then, and hardly in the target's; but they may be if that
    is English, which most programs are written in.
    """
    own = is_variant(code) and not is_same(code, source_language)
    return own and language_of(target_language) != "en"


def _add(pairs: Pairs, is_swapped: bool, msgid: str, msgstr: str) -> None:
    pairs.add(*((msgstr, msgid) if is_swapped else (msgid, msgstr)))


def _add_plural(
    pairs: Pairs, is_swapped: bool, entry: dict[str, str], forms: tuple[int, int] | None
) -> None:
    """Two pairs, or one where both are the same; a pair whose target has a placeholder that its
    source lacks, as "One file" -> "%d Dateien", teaches to invent and is counted instead."""
    texts = {int(key[7:-1]): text for key, text in entry.items() if key.startswith("msgstr[")}
    if forms is None:
        if len(texts) > 2:
            pairs.skipped["plural without Plural-Forms"] += 1
            return
        forms = 0, len(texts) - 1  # as gettext does without a formula
    both = dict.fromkeys(zip((entry["msgid"], entry["msgid_plural"]), forms, strict=True))
    if is_swapped and forms[0] == forms[1]:
        both = [(entry["msgid_plural"], forms[1])]  # one text has no two translations
    for msgid, form in both:
        if form not in texts:
            pairs.skipped["plural form missing"] += 1
            continue
        source, target = (texts[form], msgid) if is_swapped else (msgid, texts[form])
        if target and _placeholders(target) - _placeholders(source):
            pairs.skipped["placeholder in one plural form only"] += 1
        else:
            pairs.add(source, target)


def _placeholders(text: str) -> Counter[str]:
    """How many values a text shows, by their kinds; one with a number or a name counts once."""
    values = set()
    for found in PLACEHOLDER.finditer(text):
        name, place, kind, qt, braces = found.groups()
        is_next = braces == "{}" or (kind and not (name or place))
        values.add(((name, kind, qt, braces), found.start() if is_next else f"${place}"))
    return Counter(kind for kind, _ in values)


def _entries(path: str | Path, encoding: str) -> Iterator[tuple[dict[str, str], int]]:
    """{keyword: text} of each entry and the line where it ends; "reason": why it is skipped."""
    form = re.compile(
        r'(?:(msgctxt|msgid|msgid_plural|msgstr|msgstr\[[0-9]{1,3}\])\s*)?"((?:[^"\\]|\\.)*)"'
    )
    entry, keyword, number = {}, None, 0
    for number, line in enumerate(lines(path, encoding), start=1):
        line = line.strip()
        found = form.fullmatch(line)
        opens = found and found[1] in ("msgctxt", "msgid")
        if "msgid" in entry and (opens or not line or line.startswith("#")):
            yield entry, number - 1
            entry, keyword = {}, None
        if line.startswith("#~"):
            entry = {}  # "fuzzy" may stand above an obsolete entry
            if re.match(r"#~\s*msgid\s", line):
                yield {"reason": "obsolete"}, number
        elif line.startswith("#,") and re.search(r"\bfuzzy\b", line):
            entry["reason"] = "fuzzy"
        elif found and (opens or "msgid" in entry or (keyword == "msgctxt" and not found[1])):
            keyword = found[1] or keyword
            text = found[2]
            if "\\" in text:
                with parsing(path, f"escapes in {encoding}", number):
                    text = ESCAPED.sub(functools.partial(_unescaped, encoding=encoding), text)
            if not text.isascii() and CONTROLS.search(text):
                entry["reason"] = "control characters"
            entry[keyword] = text if found[1] else entry[keyword] + text
        elif line and not line.startswith("#"):
            raise ValueError(
                f'{path}:{number}: expected msgid "..." or msgstr "...", got {line[:80]!r}'
            )
    if "msgid" in entry:
        yield entry, number


def _unescaped(found: re.Match, encoding: str) -> str:
    if found[2]:
        return ESCAPES.get(found[2], found[2])
    codes = re.findall(r"x[0-9a-fA-F]{2}|[0-7]{1,3}", found[1])  # bytes in the catalogue's charset
    values = (int(code[1:], 16) if code[0] == "x" else int(code, 8) & 255 for code in codes)
    return bytes(values).decode(encoding, errors="surrogateescape")
