"""Several sources of one run: their weights, their pairs side by side, and what cannot be meant."""

import pytest

from recipes.data import sources
from recipes.data.pairs import load_pairs
from recipes.data.pairs_languages import load_languages
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


def test_the_card_has_the_licence_of_each_source():
    known = {"homeassistant": "Apache-2.0"}
    assert sources.licences(known, "homeassistant", None) == "Apache-2.0"
    assert sources.licences(known, "homeassistant", "mine.tsv") == "as the data's"
    both = sources.licences(known, "homeassistant:1,mine.tsv:2", None)
    assert both == "homeassistant: Apache-2.0; mine.tsv: as the data's"
