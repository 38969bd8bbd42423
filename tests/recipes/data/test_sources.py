"""Several sources of one run: their weights, their pairs side by side, and what cannot be meant."""

import pytest

from recipes import pronunciation
from recipes.data import sources
from recipes.data.pairs import load_pairs
from recipes.data.pairs_languages import load_languages
from recipes.data.pronunciations import load_pronunciations
from recipes.data.summaries import load_summaries

EN_DE = {"source_language": "en", "target_language": "de"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two tables of pairs, of 113 and 37 rows; the working folder."""
    for name, count in (("a", 113), ("b", 37)):
        lines = [f"{name} source {row}\t{name} Ziel {row}\n" for row in range(count)]
        (tmp_path / f"{name}.tsv").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "weights"),
    [
        ("mine.tsv", {"mine.tsv": 1}),
        ("a.en,b.de", {"a.en,b.de": 1}),  # two files of one corpus
        ("a.tsv:2,b.tsv:1", {"a.tsv": 2, "b.tsv": 1}),
        ("homeassistant:0.5, mine.tsv:12", {"homeassistant": 0.5, "mine.tsv": 12}),
        ("mine.tsv:3", {"mine.tsv": 3}),
        ("C:/data/a.tsv:2,b:1", {"C:/data/a.tsv": 2, "b": 1}),
    ],
)
def test_a_number_behind_a_colon_is_a_weight(place, weights):
    assert sources.weights(place) == weights


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        ("a.tsv:2,b.tsv", "a weight.*behind each source or behind none"),
        ("a.tsv:0,b.tsv:1", "each source once, with a positive weight"),
        ("a.tsv:2,a.tsv:1", "each source once, with a positive weight"),
    ],
)
def test_weights_that_do_not_go_together_are_refused(place, rule):
    with pytest.raises(ValueError, match=f"`data` and `train` must .*{rule}.*got '{place}'"):
        sources.weights(place)


def test_a_file_of_such_a_name_is_a_file(folder):
    (folder / "a:2").write_text("x\ty\n")
    assert sources.weights("a:2") == {"a:2": 1}


@pytest.mark.parametrize("argument", ["data", "train"])
def test_pairs_know_their_source_and_are_held_out_of_all_sources(folder, capsys, argument):
    options = {"data": "homeassistant"} | {argument: "b.tsv:2,a.tsv:1"}
    splits = load_pairs(**options, **EN_DE)
    found = splits.train.by_place()
    assert list(found) == ["b.tsv", "a.tsv"]
    for place, pairs in found.items():
        assert all(text.startswith(place[0]) for text in pairs.source + pairs.target)
    assert sum(map(len, splits)) == 113 + 37
    assert "a.tsv: 113 pairs" in capsys.readouterr().err


def test_one_source_has_one_place(folder):
    splits = load_pairs("a.tsv", **EN_DE)
    assert {*splits.train.places} == {""} and list(splits.train.by_place()) == [""]


def test_a_pair_of_one_source_is_not_held_out_of_another(folder):
    (folder / "b.tsv").write_text("".join(f"a source {row}\tanders {row}\n" for row in range(40)))
    splits = load_pairs("a.tsv:1,b.tsv:1", **EN_DE)
    trained = {*splits.train.source}
    assert not trained & {*splits.valid.source, *splits.test.source}


def test_sources_of_several_languages_have_the_code_in_their_paths(folder):
    for code in ("de", "fr"):
        for name in ("a", "b"):
            lines = [f"{name} text {row}\t{name} {code} {row}\n" for row in range(50)]
            (folder / f"{name}.{code}.tsv").write_text("".join(lines))
    place = "a.{language}.tsv:3,b.{language}.tsv:1"
    found = load_languages(place, source_language="en", target_languages=["de", "fr"])
    for code, splits in found.items():
        parts = splits.train.by_place()
        assert list(parts) == ["a.{language}.tsv", "b.{language}.tsv"]
        assert all(f" {code} " in text for text in splits.train.target)


def test_columns_are_those_of_every_table(folder):
    (folder / "c.tsv").write_text(
        "".join(f"{row}\tsource {row}\tZiel {row}\n" for row in range(40))
    )
    with pytest.raises(ValueError, match=r"b\.tsv:1: expected at least 3 columns"):
        load_pairs("c.tsv:1,b.tsv:1", columns="2,3", **EN_DE)


def test_summaries_have_sources_too(folder):
    for name in ("a", "b"):
        rows = [f'{{"text": "{name} text {row}", "title": "{name} {row}"}}\n' for row in range(40)]
        (folder / f"{name}.jsonl").write_text("".join(rows))
    splits = load_summaries("a.jsonl:1,b.jsonl:4")
    assert list(splits.train.by_place()) == ["a.jsonl", "b.jsonl"]
    with pytest.raises(ValueError, match=r"`train` must be a file.*no such file: c\.jsonl"):
        load_summaries(train="a.jsonl:1,c.jsonl:4")


@pytest.fixture
def dictionaries(folder):
    """Of 90 and 40 words; 10 are in both, 5 of them with the same pronunciation."""
    words = [f"{one}{two}{three}" for one in "abcde" for two in "fghij" for three in "klmno"]
    lines = [f"{word} {' '.join(word)}\n" for word in words[:90]]
    (folder / "a.dict").write_text("".join(lines))
    lines = [
        f"{word} {' '.join(word)}{' x' * (row < 5)}\n" for row, word in enumerate(words[80:120])
    ]
    (folder / "b.dict").write_text("".join(lines))
    return words


@pytest.mark.parametrize("argument", ["data", "train"])
def test_a_word_of_two_dictionaries_is_in_one_part_with_all_that_is_listed(
    dictionaries, argument, capsys
):
    splits = load_pronunciations(**{argument: "a.dict:2,b.dict:1"})
    assert "a.dict: 90 words, 90 pronunciations" in capsys.readouterr().err
    rows = {word: row for words in splits for word, row in words.rows.items()}
    assert sum(map(len, splits)) == len(rows) == 120 and {*rows} == {*dictionaries[:120]}
    for word in dictionaries[80:85]:
        assert rows[word] == [" ".join(word), f"{' '.join(word)} x"]
    for word in dictionaries[85:90]:
        assert rows[word] == [" ".join(word)]


def test_pronunciations_keep_the_source_that_lists_them(dictionaries):
    train = load_pronunciations("a.dict:2,b.dict:1").train
    parts = train.pairs.by_place()
    assert list(parts) == ["a.dict", "b.dict"]
    first, second = ({*dictionaries[rows]} & {*train.rows} for rows in (slice(90), slice(80, 120)))
    assert {*parts["a.dict"].source} == first and {*parts["b.dict"].source} == second
    assert not any(text.endswith(" x") for text in parts["a.dict"].target)
    found = train.word_rows_by_place()
    assert {train.words[row] for row in found["b.dict"]} == second
    assert len(found["a.dict"]) == len(first)


def test_held_out_words_are_in_no_dictionary_of_the_training(dictionaries, folder):
    (folder / "valid.dict").write_text(f"{dictionaries[84]} v v\n")
    (folder / "test.dict").write_text(f"{dictionaries[0]} t t\n{dictionaries[119]} t t\n")
    (folder / "words.txt").write_text(f"{dictionaries[88]}\n")
    given = {"valid": "valid.dict", "test": "test.dict", "exclude": "words.txt"}
    splits = load_pronunciations("a.dict:2,b.dict:1", **given)
    held_out = {dictionaries[row] for row in (0, 84, 88, 119)}
    assert not held_out & {*splits.train.rows} and not held_out & {*splits.train.pairs.source}
    assert len(splits.train) == 120 - 4
    word = dictionaries[84]
    assert splits.valid.elsewhere == {word: [" ".join(word), f"{' '.join(word)} x"]}
    assert splits.valid.word_rows_by_place() == {"": [0]}


def test_of_several_dictionaries_the_one_that_is_missing_is_named(dictionaries):
    message = "`data` must be a file, or one of cmudict, gruut-nl, got 'c.dict'"
    with pytest.raises(ValueError, match=message):
        load_pronunciations("a.dict:2,c.dict:1")
    with pytest.raises(ValueError, match="each source once, with a positive weight"):
        load_pronunciations("a.dict:2,a.dict:1")


def test_the_card_has_the_licence_of_each_source():
    known = {"homeassistant": "Apache-2.0"}
    assert sources.licences(known, "homeassistant", None) == "Apache-2.0"
    assert sources.licences(known, "homeassistant", "mine.tsv") == "as the data's"
    both = sources.licences(known, "homeassistant:1,mine.tsv:2", None)
    assert both == "homeassistant: Apache-2.0; mine.tsv: as the data's"


def test_models_of_other_data_than_the_default_have_a_folder_of_their_own(folder):
    def of(**flags):
        return sources.folder_of("pronunciation", pronunciation.Config(**flags)).as_posix()

    assert of() == "saved_models/pronunciation"
    assert of(data="gruut-nl") == "saved_models/pronunciation-gruut-nl"
    assert of(data="gruut-nl:2,cmudict:1") == "saved_models/pronunciation-gruut-nl-cmudict"
    assert of(train="a.tsv") == "saved_models/pronunciation-mine"
    (folder / "words").mkdir()
    (folder / "a.tsv").rename(folder / "words/a.tsv")
    assert of(train="words/a.tsv") == "saved_models/pronunciation-words"
    (folder / "words/b.tsv").touch()
    assert of(train="words/a.tsv,words/b.tsv") == "saved_models/pronunciation-words"
    assert of(data="gruut-nl", output="x") == "x"
