"""Pairs out of files: the columns and languages that a file names, code in TMX, broken files."""

import bz2
import gzip
import json
import lzma

import pytest

from recipes.data import pairs_files
from recipes.data.pairs import load_pairs

EN_DE = {"source_language": "en", "target_language": "de"}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def rows(pairs):
    return list(zip(pairs.source, pairs.target, strict=True))


# --- tables --------------------------------------------------------------------------------------

TEXTS = [(f"The house number {n}.", f"Das Haus Nummer {n}.") for n in range(12)]


def table(path, row):
    """A line for each of `TEXTS`, of the columns that `row(number, source, target)` gives."""
    lines = ("\t".join(map(str, row(n, *texts))) for n, texts in enumerate(TEXTS))
    return write(path, "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (lambda n, s, t: (1.0512345 + n / 50, s, t), "2,3"),  # WikiMatrix, CCMatrix
        (lambda n, s, t: (f"1.2e-{n}", s, t), "2,3"),
        (lambda n, s, t: (1276 + n, s, t), "2,3"),
        (lambda n, s, t: (f"doc-{n}.txt", s, t), "2,3"),
        (lambda n, s, t: (f"https://example.org/{'a' * n}", s, t), "2,3"),
        (lambda n, s, t: (f"en/{n}/1.xml.gz#{n}", s, t), "2,3"),  # OPUS
        (lambda n, s, t: (s, n / 7, t), "1,3"),
        (lambda n, s, t: ("eng", s, t), "2,3"),
        (lambda n, s, t: (n, n / 7, s), None),
        (lambda n, s, t: ("dev" if n % 6 else "train", s, t), "2,3"),
        (lambda n, s, t: (s, "deu"), None),
        (lambda n, s, t: (n, s), None),
    ],
)
def test_a_column_of_numbers_or_ids_is_refused_with_the_flag_that_helps(tmp_path, row, columns):
    path = table(tmp_path / "a.tsv", row)
    message = r"a\.tsv: expected texts in columns 1 and 2, got in column [12] .* by --columns"
    with pytest.raises(ValueError, match=message):
        load_pairs(path, **EN_DE)
    if columns:
        splits = load_pairs(path, **EN_DE, columns=columns)
        assert sorted(row for part in splits for row in rows(part)) == sorted(TEXTS)


def test_columns_pick_two_of_any_number_in_any_order(tmp_path):
    path = table(tmp_path / "a.txt", lambda n, s, t: (n, "eng", s, n + 100, "deu", t))  # Tatoeba
    with pytest.raises(ValueError, match=r"a\.txt:1: expected 2 or 3 columns .*--columns says wh"):
        pairs_files.tsv(path)
    assert rows(pairs_files.tsv(path, columns=(6, 3))) == [pair[::-1] for pair in TEXTS]
    with pytest.raises(ValueError, match=r"a\.txt:1: expected at least 7 columns, got 6"):
        pairs_files.tsv(path, columns=(7, 3))


def test_texts_may_be_numbers_and_any_columns_can_be_asked_for(tmp_path):
    path = table(tmp_path / "a.tsv", lambda n, s, t: (n, n) if n < 9 else (s, t))
    assert len(pairs_files.tsv(path)) == 12
    path = table(tmp_path / "b.tsv", lambda n, s, t: (n, s) if n < 9 else (s, t))
    assert len(pairs_files.tsv(path)) == 12
    path = table(tmp_path / "c.tsv", lambda n, s, t: (n, s))  # how numbers are spoken, say
    assert len(pairs_files.tsv(path, columns=(1, 2))) == 12


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("en\tde", TEXTS[0]),
        ("deu\teng\n", TEXTS[0][::-1]),
        ("Source\tTarget", TEXTS[0]),
        ("target\tsource", TEXTS[0][::-1]),
        ("\ufeffDE\ten-US", TEXTS[0][::-1]),
        ("de_text\ten_text", TEXTS[0][::-1]),
        ("German\tEnglish", TEXTS[0][::-1]),
        ("Sentence (English)\tsentence (deu)", TEXTS[0]),
        ("source_de\ttarget_en", TEXTS[0][::-1]),
        ("tgt\tsrc", TEXTS[0][::-1]),
    ],
)
def test_a_first_line_that_names_the_languages_says_which_column_is_which(tmp_path, header, found):
    path = write(tmp_path / "a.tsv", f"{header.strip()}\n{TEXTS[0][0]}\t{TEXTS[0][1]}\n")
    pairs = pairs_files.tsv(path, "en", "de")
    assert rows(pairs) == [found]
    assert pairs.skipped == {"header": 1}


def test_the_first_line_that_is_not_blank_may_be_a_header(tmp_path):
    path = write(tmp_path / "a.tsv", "\n \nde\ten\nKatze\tcat\n")
    assert rows(pairs_files.tsv(path, "en", "de")) == [("cat", "Katze")]


def test_a_header_is_no_pair_of_chosen_columns_and_may_contradict_them(tmp_path):
    path = write(tmp_path / "a.tsv", "id\tde\ten\n1\tKatze\tcat\n")
    assert rows(pairs_files.tsv(path, "en", "de", (3, 2))) == [("cat", "Katze")]
    message = r"a\.tsv:1: expected columns for en and de, got \['de', 'en'\]; .* --columns 3,2"
    with pytest.raises(ValueError, match=message):
        pairs_files.tsv(path, "en", "de", (2, 3))
    path = write(tmp_path / "b.tsv", "id\tsrc\tmt\ttgt\n1\tcat\tMaus\tKatze\n")
    assert rows(pairs_files.tsv(path, "en", "de", (2, 4))) == [("cat", "Katze")]


@pytest.mark.parametrize("count", [3, 5])
def test_a_column_of_one_code_is_refused_in_few_rows_and_one_word_is_not(tmp_path, count):
    path = write(tmp_path / "a.tsv", "".join(f"en\t{s}\t{t}\n" for s, t in TEXTS[:count]))
    with pytest.raises(ValueError, match="in column 1 the same in all rows, as 'en'"):
        pairs_files.tsv(path)
    path = write(tmp_path / "b.tsv", "".join(f"Hi there!\t{t}\n" for s, t in TEXTS[:count]))
    assert len(pairs_files.tsv(path)) == count
    path = write(tmp_path / "c.tsv", "Yes, sir\tJa\nYes, sir\tJawohl\nNo way!\tNein\n" * 20)
    assert len(pairs_files.tsv(path)) == 60


SENTENCES = "A cat.\tEine Katze.\nThe dog runs.\tDer Hund rennt.\n"
WORDS = "cane\tperro\ngatto\tgato\n"


@pytest.mark.parametrize(
    ("header", "rest", "is_refused"),
    [
        ("fr\tes", SENTENCES, True),
        ("FR-fr\tSpanish", SENTENCES, True),
        ("French\tSpanish", WORDS, True),
        ("fr_text\tes_text", WORDS, True),
        ("io\tyo", WORDS, False),  # Ido and Yoruba, and "I" in Italian and Spanish
        ("is\tit", SENTENCES + "is\tit\n", False),
        ("fr\tfr", SENTENCES, False),
        ("man\tmon", SENTENCES, False),  # Mandingo and Mon
        ("French\tfranzösisch", WORDS, False),
    ],
)
def test_a_first_line_of_two_languages_that_are_not_asked_for_is_refused_unless_it_is_a_pair(
    header, rest, is_refused, tmp_path
):
    path, count = write(tmp_path / "a.tsv", f"{header}\n{rest}"), rest.count("\n")
    table = [line.split("\t") for line in f"{header}\n{rest}".splitlines()]
    if is_refused:
        message = r"a\.tsv: expected columns for en and de, got names of columns, .*, in the first"
        with pytest.raises(ValueError, match=message):
            pairs_files.tsv(path, "en", "de")
        with pytest.raises(ValueError, match=message):
            pairs_files.check_table(path, table, "en", "de")
    else:
        assert len(pairs_files.tsv(path, "en", "de")) == count + 1
        pairs_files.check_table(path, table, "en", "de")
    assert len(pairs_files.tsv(path, "en", "de", (1, 2))) == count + 1


def test_a_first_line_that_names_other_languages_is_refused(tmp_path):
    path = write(tmp_path / "a.tsv", "en\tfr\nCat\tChat\n")
    with pytest.raises(
        ValueError, match=r"a\.tsv:1: expected columns for en and de, got \['en', 'f"
    ):
        pairs_files.tsv(path, "en", "de")
    path = write(tmp_path / "b.tsv", "id\ten\tde\n7\tCat\tKatze\n8\tDog\n")
    with pytest.raises(ValueError, match=r"b\.tsv:3: expected 3 columns, got 2"):
        pairs_files.tsv(path, "en", "de")


@pytest.mark.parametrize("columns", ["2", "2,2", "0,1", "a,b", "1,2,3", "-1,2", ""])
def test_columns_that_are_none_are_refused(tmp_path, columns):
    path = table(tmp_path / "a.tsv", lambda n, s, t: (s, t))
    with pytest.raises(ValueError, match=r"`columns` must be two different numbers from 1 on"):
        load_pairs(path, **EN_DE, columns=columns)


def test_columns_of_what_has_none_are_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"en": "a", "de": "b"}\n')
    with pytest.raises(ValueError, match=r"`columns` needs a file \.tsv or \.txt, got .*a\.jsonl"):
        load_pairs(path, **EN_DE, columns="1,2")
    with pytest.raises(ValueError, match=r"`columns` needs a file .*, got homeassistant"):
        load_pairs(**EN_DE, columns="1,2")


@pytest.mark.parametrize("tail", ["\n", "\r\n", "\n\n \n", ""])
def test_a_blank_line_at_the_end_ends_no_load(tmp_path, tail):
    assert rows(pairs_files.tsv(write(tmp_path / "a.tsv", "a\tb" + tail))) == [("a", "b")]
    path = write(tmp_path / "a.jsonl", '{"en": "a", "de": "b"}' + tail)
    assert rows(pairs_files.jsonl(path, "en", "de")) == [("a", "b")]
    paths = write(tmp_path / "a.en", "a" + tail), write(tmp_path / "a.de", "b\n")
    assert rows(pairs_files.moses(*paths)) == [("a", "b")]
    assert rows(pairs_files.po(write(tmp_path / "a.po", f'msgid "a"\nmsgstr "b"{tail}'))) == [
        ("a", "b")
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_other_widths_of_unicode_are_refused_by_name(tmp_path, encoding):
    path = write(tmp_path / "a.tsv", "Go.\tGeh.\nHi.\tHallo.\n".encode(encoding))
    with pytest.raises(ValueError, match=r"a\.tsv:1: expected UTF-8, got UTF-(16|32)\."):
        pairs_files.tsv(path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (gzip.compress(b"a\tb\n", mtime=0), "gzip"),
        (lzma.compress(b"a\tb\n"), "xz"),
        (bz2.compress(b"a\tb\n"), "bzip2"),
        (bytes.fromhex("28b52ffd04182100006109620a"), "zstd"),
        (b"PK\x03\x04\x14\0", "zip"),
    ],
)
def test_a_compressed_file_of_another_name_is_refused_with_its_compression(tmp_path, content, name):
    for file, read in (("a.tsv", pairs_files.tsv), ("a.po", pairs_files.po)):
        path = write(tmp_path / file, content)
        with pytest.raises(ValueError, match=rf":1: expected text, got what {name} has compressed"):
            read(path)
    path = write(tmp_path / "a.tsv.gz", gzip.compress(content))
    with pytest.raises(ValueError, match=rf":1: expected text, got what {name} has compressed"):
        pairs_files.tsv(path)


# --- JSONL and Moses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"EN": "cat", "DE": "Katze"},
        {"eng": "cat", "deu": "Katze"},
        {"translation": {"en-US": "cat", "de_DE": "Katze"}},
        {"source": "cat", "target": "Katze", "source_lang": "en", "target_lang": "de-AT"},
        {"source": "Katze", "target": "cat", "source_lang": "deu", "target_lang": "en"},
        {"source": "Katze", "target": "cat", "src_lang": "de", "tgt_lang": "en"},
    ],
)
def test_jsonl_reads_the_languages_that_it_names(tmp_path, row):
    path = write(tmp_path / "a.jsonl", json.dumps(row))
    assert rows(pairs_files.jsonl(path, "en", "de")) == [("cat", "Katze")]


@pytest.mark.parametrize(
    ("row", "is_swapped"),
    [
        ({"source": "a", "target": "b", "target_lang": "de"}, False),
        ({"source": "a", "target": "b", "source_lang": "de"}, True),
        ({"source": "a", "target": "b", "target_language": "eng"}, True),
        ({"source": "a", "target": "b", "source_lang": "German", "target_lang": "English"}, True),
        ({"source": "a", "target": "b", "source_language": "English"}, False),
        ({"source": "a", "target": "b", "source_lang": "auto", "target_lang": "Pig Latin"}, False),
        ({"src": "a", "tgt": "b"}, False),
        ({"src": "a", "trg": "b", "src_lang": "de", "trg_lang": "en"}, True),
        ({"translation": {"source": "a", "target": "b", "source_lang": "de"}}, True),
        ({"translation": {"source": "a", "target": "b"}, "target_lang": "en"}, True),
        ({"source": "a", "target": "b", "target_lang": "fr"}, None),
        ({"source": "a", "target": "b", "source_lang": "French"}, None),
        ({"src": "a", "tgt": "b", "src_lang": "en", "tgt_lang": "en"}, None),
        ({"translation": {"source": "a", "target": "b", "source_lang": "fr"}}, None),
    ],
)
def test_jsonl_reads_one_language_too_wherever_it_stands(tmp_path, row, is_swapped):
    path = write(tmp_path / "a.jsonl", json.dumps(row))
    if is_swapped is None:
        with pytest.raises(ValueError, match=r"a\.jsonl:1: expected 'en' and 'de', got \["):
            pairs_files.jsonl(path, "en", "de")
    else:
        expected = ("b", "a") if is_swapped else ("a", "b")
        assert rows(pairs_files.jsonl(path, "en", "de")) == [expected]


def test_jsonl_in_other_languages_is_refused_with_path_and_line(tmp_path):
    row = {"source": "chat", "target": "Katze", "source_lang": "fr", "target_lang": "de"}
    path = write(tmp_path / "a.jsonl", json.dumps(row))
    with pytest.raises(ValueError, match=r"a\.jsonl:1: expected 'en' and 'de', got \['fr', 'de'\]"):
        pairs_files.jsonl(path, "en", "de")


def test_moses_files_are_found_in_other_spellings_and_refused_the_wrong_way_round(tmp_path):
    write(tmp_path / "corpus.en-de.eng", "cat\n" * 3)
    write(tmp_path / "corpus.en-de.de_DE.gz", gzip.compress(b"Katze\n" * 3))
    prefix = str(tmp_path / "corpus.en-de")
    splits = load_pairs(train=prefix, valid=prefix, **EN_DE)
    assert rows(splits.train)[0] == ("cat", "Katze")
    given = f"{prefix}.de_DE.gz,{prefix}.eng"
    with pytest.raises(
        ValueError, match=r"`train` must name the source's file \(en\) before the t"
    ):
        load_pairs(train=given, valid=prefix, **EN_DE)
    with pytest.raises(
        ValueError, match=r"must differ from `source_language`, got \('de', 'DEU'\)"
    ):
        load_pairs(train=prefix, source_language="de", target_language="DEU")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("b.en", "b.fr"), "files in 'en' and 'de', got 'en' and 'fr'"),
        (("a.en", "b.fr.gz"), "files in 'en' and 'de', got 'en' and 'fr'"),
        (("b.fra.txt", "b.deu.txt"), "files in 'en' and 'de', got 'fra' and 'deu'"),
        (("train.de.txt", "train.en.txt"), r"the source's file \(en\) before the target's \(de\)"),
        (("de.txt", "en.txt"), "the source's file"),
        (("train.de", "train.txt"), "the source's file"),
        (("de-train.txt", "en-train.txt"), "the source's file"),
        (("train_ger.txt.gz", "train_eng.txt"), "the source's file"),
        (("train.en.txt", "train.de.txt"), None),
        (("en.txt", "de.txt"), None),
        (("train.src", "train.tgt"), None),
        (("what-is.txt", "what-was.txt"), None),
        (("it.en", "is.de"), None),
        (("a.en-de.en", "a.en-de.de"), None),
        (("no.en-US.txt", "no.de_AT.txt"), None),
    ],
)
def test_the_names_of_two_files_say_their_languages(tmp_path, names, message):
    pack = {".gz": gzip.compress}
    for name in names:
        write(tmp_path / name, pack.get(name[-3:], bytes)(b"cat\n" * 3))
    train = ",".join(str(tmp_path / name) for name in names)
    if message:
        with pytest.raises(ValueError, match=f"`train` must name {message}"):
            load_pairs(train=train, valid=train, **EN_DE)
    else:
        assert len(load_pairs(train=train, valid=train, **EN_DE).train) == 3


# --- TMX -----------------------------------------------------------------------------------------


def memory(path, segment, encoding="UTF-8"):
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<tmx version="1.4"><body>\n<tu><tuv '
        f'xml:lang="eng"><seg>{segment}</seg></tuv><tuv xml:lang="ger"><seg>Ä</seg></tuv></tu>\n'
        "</body></tmx>"
    )
    try:
        return write(path, text.encode(encoding))
    except LookupError:
        return write(path, text.encode())


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        ('<ph>&lt;img alt="<sub>A cat</sub>"/&gt;</ph> end.', "A cat end."),
        (
            "See<ph>{\\fn <sub>A note</sub> x <sub>and one</sub>}</ph> now.",
            "See A note and one now.",
        ),
        ('One<ph type="lb"/>two<ph type="pb">x</ph>three', "One two three"),
        ("One<ph>&lt;br/&gt;</ph>two", "One two"),
        ("One<ph>&lt;BR/&gt;</ph>two", "One two"),
        ('One<ph type="x-lb"/>two<ph type="LB"/>three<x type="lb"/>four', "One two three four"),
        ("One<ph>\\r\\n</ph>two<ph>\r\n</ph>three<ph>\\t</ph>four", "One two three four"),
        ("One<ph>\t</ph>two<ph>\u00a0</ph>three<ph>&amp;nbsp;</ph>four", "One two three four"),
        (
            '<bpt i="1">&lt;p&gt;</bpt>one<ept i="1">&lt;/p&gt;</ept>'
            '<bpt i="2">&lt;P class="x"&gt;</bpt>two<ept i="2">&lt;/P&gt;</ept>',
            "one two",
        ),
        ("One<ph>&lt;/li&gt;</ph>two<ph>&lt;H1&gt;</ph>three", "One two three"),
        ("o<ph>\\textbf{</ph>n<ph>&lt;pbx&gt;</ph>e<x id='1'/>s<ph>&lt;b&gt;</ph>t", "onest"),
        ('<bpt i="1" type="bold">&lt;b&gt;</bpt>A<hi>B</hi><ept i="1">&lt;/b&gt;</ept>C', "ABC"),
        ('A<it pos="begin">&lt;i&gt;</it>B<ut>x</ut>C', "ABC"),
        ("<ph><sub>a <bpt>b</bpt>c</sub>d</ph>e", "a c e"),
        ("a<!-- b -->c<?d e?>f", "acf"),
    ],
)
def test_native_code_of_a_memory_never_gets_into_the_text(tmp_path, segment, text):
    assert rows(pairs_files.tmx(memory(tmp_path / "a.tmx", segment), "en", "de")) == [(text, "Ä")]


@pytest.mark.parametrize("encoding", ["UTF-16", "ISO-8859-1", "windows-1252"])
def test_a_memory_is_read_in_its_encoding(tmp_path, encoding):
    path = memory(tmp_path / "a.tmx", "Größe", encoding)
    assert rows(pairs_files.tmx(path, "en", "de")) == [("Größe", "Ä")]


BOMB = "".join(f'<!ENTITY x{n} "{10 * f"&x{n - 1};"}">' for n in range(1, 12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<?xml version="1.0" encoding="klingon"?>\n<tmx/>', r"1: expected XML, got: .*encoding"),
        ('<?xml version="1.0" encoding="shift_jis"?>\n<tmx/>', "1: expected XML, got: multi-byte"),
        ("<tmx>\n" + 5000 * "<hi>\n" + 5000 * "</hi>", "201: expected XML, got: 200 elements with"),
        ("<tmx>\n<tu>" + 99999 * "<hi>", "2: expected XML, got: 200 elements within each other"),
        (f'<!DOCTYPE t [<!ENTITY x0 "x">{BOMB}]>\n<tmx>&x11;</tmx>', "2: expected XML, got: limit"),
        ("<tmx>\n<tu>\n", "3: expected XML, got: no element found"),
    ],
)
def test_a_memory_that_means_harm_or_is_broken_is_named_with_its_line(tmp_path, content, message):
    path = write(tmp_path / "a.tmx", content)
    with pytest.raises(ValueError, match=rf"a\.tmx:{message}"):
        pairs_files.tmx(path, "en", "de")


def test_deep_json_is_named_with_its_line(tmp_path):
    for line in (100_000 * "[", 100_000 * '{"en":', '{"en": ' + 5000 * "9" + "}"):
        path = write(tmp_path / "a.jsonl", '{"en": "a", "de": "b"}\n' + line)
        with pytest.raises(ValueError, match=r"a\.jsonl:2: expected a JSON object, got: "):
            pairs_files.jsonl(path, "en", "de")


# --- lines of a file -----------------------------------------------------------------------------


def test_pairs_know_the_lines_they_are_from_through_a_split(tmp_path):
    path = write(tmp_path / "a.tsv", "en\tde\n\na\tA\nb\t\nc\tC\nd\tD\n")
    assert pairs_files.tsv(path, "en", "de").lines == [3, 5, 6]
    splits = load_pairs(path, **EN_DE)
    found = [each for part in splits for each in zip(part.source, part.lines, strict=True)]
    assert sorted(found) == [("a", 3), ("c", 5), ("d", 6)]
    content = '{"en": "a", "de": "A"}\n\n{"en": "b", "de": "B"}\n'
    assert pairs_files.jsonl(write(tmp_path / "a.jsonl", content), "en", "de").lines == [1, 3]
    sides = [write(tmp_path / name, "a\n\nb\n") for name in ("a.en", "a.de")]
    assert pairs_files.moses(*sides).lines == [1, 3]


@pytest.mark.parametrize(
    ("language", "message"),
    [
        (
            'xml:lang="en"',
            r"expected two languages, got: `target_language` must be one of \['e",
        ),
        (
            'xml:lang="fr"',
            r"expected two languages, got: `source_language` must be one of \['f",
        ),
        ("", "expected <tuv> with xml:lang, got none that has it"),
    ],
)
def test_a_memory_without_the_languages_is_named_with_its_path(language, message, tmp_path):
    unit = f"<tuv {language}><seg>a</seg></tuv>"
    path = write(tmp_path / "a.tmx", f"<tmx><body><tu>{unit}</tu></body></tmx>")
    with pytest.raises(ValueError, match=rf"a\.tmx: {message}"):
        pairs_files.tmx(path, "en", "de")
