"""Readers of documents with summaries: what they keep, skip and count, and refuse."""

import gzip
import json
import lzma
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from recipes.data import files, pairs_packages, summaries, summaries_files, summaries_packages
from recipes.data.examples import Pairs
from recipes.data.pairs import split
from recipes.data.summaries import load_summaries


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def rows(pairs):
    return list(zip(pairs.source, pairs.target, strict=True))


def words(number, start=0):
    return " ".join(f"w{index}" for index in range(start, start + number))


def test_reading_summaries_needs_no_tensorflow():
    code = "import recipes.data.summaries, sys; sys.exit('tensorflow' in sys.modules)"
    root = Path(summaries.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


# --- several references --------------------------------------------------------------------------


def test_further_references_stay_with_their_pair_through_a_split():
    pairs = Pairs()
    for number in range(40):
        pairs.add(f"document {number}", f"a {number}", further=[f"b  {number}", " ", "\ud800"])
    assert pairs.skipped == {"blank or broken further answers": 80}
    for part in split(pairs, valid=0.1, test=0.1):
        assert part.references == [
            [f"a {n}", f"b {n}"] for n in (s.split()[1] for s in part.source)
        ]


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", summaries_files.FIELDS)
@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress)])
def test_the_texts_of_a_table_are_found_by_the_usual_keys(keys, ending, pack, tmp_path):
    document, summary = keys
    row = {"id": 7, document: "a long\n text", summary: "short"}
    path = write(tmp_path / f"a.jsonl{ending}", pack(json.dumps(row).encode()))
    assert rows(summaries_files.table(path)) == [("a long text", "short")]
    lines = f'id,{summary},{document}\n7,short,"a long\n text"\n'
    path = write(tmp_path / f"a.csv{ending}", pack(lines.encode()))
    assert rows(summaries_files.table(path)) == [("a long text", "short")]


def test_rows_know_the_lines_where_they_begin(tmp_path):
    content = 'document,summary\n"a b\nc d",e\nf g,h\n'
    assert summaries_files.table(write(tmp_path / "a.csv", content)).lines == [2, 4]


def test_fields_can_be_named_and_are_taken_before_the_usual_ones(tmp_path):
    row = {"text": "no", "title": "no", "abstract": "yes", "claims": ["one thing", "Two!", ""]}
    path = write(tmp_path / "a.jsonl.xz", lzma.compress(json.dumps(row).encode()))
    found = summaries_files.table(path, ("abstract", "claims"))
    assert rows(found) == [("yes", "one thing. Two!")]


def test_refs_are_further_references(tmp_path):
    lines = [
        {"body": "d", "subject": "s", "refs": ["t", "u"]},
        {"body": "e", "subject": "v", "refs": "w"},
        {"body": "f", "subject": "x", "refs": None},
        {"body": "g", "subject": None},
    ]
    path = write(tmp_path / "a.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    found = summaries_files.table(path)
    assert found.references == [["s", "t", "u"], ["v", "w"], ["x"]]
    assert found.skipped == {"empty side": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"body": "d", "titel": "s"}',
            r"a\.jsonl:2: expected one of the pairs of keys doc",
        ),
        ('{"body": 5, "subject": "s"}', r"a\.jsonl:2: expected a text for 'body', got \{'body': 5"),
        ('{"body": "d", "subject": ["s", 5]}', r"a\.jsonl:2: expected a text for 'subject'"),
        ('{"body": "d", "subject": "s", "refs": [5]}', r"a\.jsonl:2: expected a list of texts for"),
        ('{"body": ', r"a\.jsonl:2: expected a JSON object"),
    ],
)
def test_a_broken_row_is_refused_with_path_and_line(line, message, tmp_path):
    path = write(tmp_path / "a.jsonl", f'{{"body": "d", "subject": "s"}}\n{line}\n')
    with pytest.raises(ValueError, match=message):
        summaries_files.table(path)


def test_a_named_field_that_a_row_lacks_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "a,b\nx,y\n")
    with pytest.raises(ValueError, match=r"a\.csv:2: expected a text for 'c'"):
        summaries_files.table(path, ("a", "c"))


# --- stories -------------------------------------------------------------------------------------


def test_a_story_is_its_article_and_its_highlights(tmp_path):
    write(
        tmp_path / "cnn/stories/aa.story",
        "(CNN) -- A cat\n\nsat down.\n\n@highlight\n\nCat sits\n\n@highlight\n\nNobody hurt .\n",
    )
    write(tmp_path / "dm/stories/bb.story", "No summary.\n\n@highlight\n\n")
    found = summaries_files.stories(tmp_path)
    assert rows(found) == [("(CNN) -- A cat sat down.", "Cat sits. Nobody hurt .")]
    assert found.groups == ["aa"]
    assert found.skipped == {"empty side": 1}
    write(tmp_path / "cc.story", "Text only.\n")
    with pytest.raises(ValueError, match=r"cc\.story: expected a line @highlight below the art"):
        summaries_files.stories(tmp_path)


# --- docstrings ----------------------------------------------------------------------------------

MODULE = f'''"""A module that
does two things.

{words(12)}
"""
import missing_package

def f(x):
    """Squares a number.

    ```python
    {words(6)}
    ```

    {words(6, 6)} again.

    Args:
        x: the number, which is not told of above.
    """

class C:
    """Short."""

    async def g(self):
        """Computes things.

        {words(11)}
        """

    def h(self):
        """Computes more things.

        {words(201)}

        Returns
        -------
        nothing.
        """

    def i(self):
        """Squares a number again.

        ```python
        {words(6)}
        ```

        {words(6, 6)} again.
        """
'''
FOUND = [
    (words(12), "A module that does two things."),
    (f"{words(12)} again.", "Squares a number."),
]


def test_docstrings_are_first_paragraphs_and_what_follows_up_to_the_arguments(
    tmp_path, monkeypatch
):
    write(tmp_path / "odd_package/__init__.py", "raise SystemExit  # never imported\n")
    write(tmp_path / "odd_package/inner/a.py", MODULE)
    write(tmp_path / "odd_package/inner/template.py", "{{ name }} = = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = summaries_packages.docstrings("odd_package")
    assert rows(found) == FOUND
    assert found.groups == 2 * ["odd_package/inner"]
    assert found.skipped == {
        "document under 12 words": 2,
        "document over 200 words": 1,
        "repeated": 1,
        "files that are no Python": 1,
    }


def test_docstrings_are_read_from_a_wheel_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "some-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some/a.py", MODULE)
        wheel.writestr("some/a.txt", "no Python")
    assert rows(summaries_packages.docstrings(f"{tmp_path}/some-1-py3-none-any.whl")) == FOUND


@pytest.mark.parametrize("packages", ["no_such_package", "os.path", "../x", "sys"])
def test_a_package_that_is_not_there_is_refused(packages):
    message = f"`packages` must be names of installed packages or paths of wheels, got '{packages}'"
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        summaries_packages.docstrings(packages)


def test_a_file_that_is_no_wheel_is_refused_with_its_path(tmp_path):
    path = write(tmp_path / "a.whl", "no zip")
    with pytest.raises(ValueError, match=r"a\.whl: expected a readable file, got BadZipFile"):
        summaries_packages.docstrings(path)


def test_copies_of_keras_are_in_one_group():
    names = ["keras/src/layers/core/dense.py", "tensorflow/python/keras/layers/core/dense.py"]
    assert {*map(summaries_packages.folder_of, names)} == {"keras/layers/core"}
    assert summaries_packages.folder_of("numpy/lib/a.py") == "numpy/lib"


# --- debian-descriptions -------------------------------------------------------------------------

LISTS = {
    "m_main_binary-amd64_Packages": """\
Package: libcat0
Source: cat-12 (1.2)

Package: catdoc
""",
    "m_main_i18n_Translation-en": f"""\
Package: libcat0
Description-md5: aa
Description-en: library of the cat
 {words(7)}
 .
 {words(8, 7)}

Package: libcat-dev
Description-md5: bb
Description-en: cat again
 {words(15)}

Package: catdoc
Description-md5: cc
Description-en: documents
 {words(16)}

Package: doccat
Description-md5: dd
Description-en: all documents
 {words(14)}
""",
}


def test_debian_descriptions_are_long_ones_with_their_synopses(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path))
    for name, content in LISTS.items():
        write(tmp_path / "debian-descriptions/lists" / name, content)
    found = summaries_packages.debian_descriptions()
    assert rows(found) == [(words(15), "library of the cat")]
    assert found.groups == ["cat"]  # a version of its source package
    assert found.skipped == {
        "repeated": 1,
        "summary under 2 words": 1,
        "document under 15 words": 1,
    }
    assert pairs_packages.debian_lists({"data": "en"}) == tmp_path / "debian-descriptions/lists"


# --- front door ----------------------------------------------------------------------------------


def test_files_given_for_a_split_are_used_as_they_are(tmp_path, capsys):
    train = write(tmp_path / "train.txt", "one\ntwo\n") + "," + write(tmp_path / "t", "1\n2\n")
    valid = write(tmp_path / "valid.csv", "text,title\nthree,3\n")
    splits = load_summaries(train=train, valid=valid)
    assert [rows(part) for part in splits[:2]] == [[("one", "1"), ("two", "2")], [("three", "3")]]
    assert splits.test is None
    assert "test: not given" in capsys.readouterr().err


def test_given_documents_that_are_also_in_train_are_told(tmp_path, capsys):
    train = write(tmp_path / "train.csv", "Text,Title\none,1\ntwo,2\n")
    valid = write(tmp_path / "valid.csv", "text,title\nthree,3\ntwo,II\n")
    load_summaries(train=train, valid=valid)
    said = capsys.readouterr().err
    assert "train: 2 pairs\nvalid: 2 pairs; 1 of the sources are also in train\n" in said


def test_what_is_not_given_is_split_off_by_document(tmp_path):
    lines = [{"text": f"text {number % 30}", "title": f"t {number}"} for number in range(60)]
    path = write(tmp_path / "a.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    splits = load_summaries(path)
    parts = [{*part.source} for part in splits]
    assert sum(map(len, parts)) == 30 and sum(map(len, splits)) == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "a.csv", "train": "a.csv"}, "`data` and `train` must not both be given, got dat"),
        ({"packages": "numpy", "data": "a.csv"}, "`packages` is for data='docstrings', got packag"),
        ({"packages": "numpy", "train": "a.csv"}, "`packages` is for data='docstrings'"),
        ({"source_field": "a"}, "`source_field` and `target_field` must be two different keys, go"),
        (
            {"source_field": "a", "target_field": "b"},
            r"`source_field` and `target_field` need a file \.jsonl or \.csv, got none",
        ),
        ({"data": "a.txt"}, r"`data` must end in \.jsonl or \.csv \(also with .*; got 'a\.txt'"),
        ({"data": "missing"}, r"`data` must be a file, .* or one of \['docstrings', 'debian-desc"),
        ({"train": "a.txt,b.txt"}, r"`train` must be a file, .* no such file: b\.txt"),
        ({"train": "a.txt,a.txt,a.txt"}, "no such file: a third one"),
        ({"train": "empty"}, "empty: expected at least one pair, got 0 pairs"),
        ({"data": "x" * 999}, "no such file: xxx"),
    ],
)
def test_what_cannot_be_read_is_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.csv", "text,title\na,b\n")
    write(tmp_path / "a.txt", "a\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        load_summaries(**arguments)


def test_a_field_of_csv_may_be_a_long_document_and_not_endless(tmp_path, monkeypatch):
    text = "word " * 60_000  # over Python's own limit
    path = tmp_path / "long.csv"
    path.write_text(f"document,summary\n{text},A word.\n")
    assert summaries_files.table(path).source == [text.strip()]
    monkeypatch.setattr(files, "LONGEST_FIELD", 1000)
    with pytest.raises(ValueError, match=r"long\.csv:2: .*field larger than field limit \(1000\)"):
        summaries_files.table(path)
