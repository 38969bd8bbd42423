"""Languages and sources of a training: how often a pass reads each, and the rows of each."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from kzoo import text
from recipes.data.examples import Pairs
from recipes.runs import mixing, translation_scores

LETTERS = text.CharacterTokenizer.learn(["abcd 0123456789"], 30)
MODEL = SimpleNamespace(source_tokenizer=LETTERS, target_tokenizer=LETTERS, copies=False)


def pairs_of(place, letter, count):
    pairs = Pairs()
    for row in range(count):
        pairs.add(f"{letter} {row}", f"{letter}{letter} {row}", place=place)
    return pairs


def drawn_shares(corpus, draw, letters):
    """The share of each first letter among the sources that a pass draws."""
    rows = draw(np.random.default_rng(3))
    first = np.array([ids[0] for ids in corpus.source.to_list()])[rows]
    ids = [LETTERS(letter)[0].numpy() for letter in letters]
    return [float((first == each).mean()) for each in ids]


def test_a_pass_reads_as_much_of_a_source_as_its_weight_says(capsys):
    train = Pairs.joined([pairs_of("x.tsv", "a", 110), pairs_of("y.tsv", "b", 20)])
    corpus, draw = mixing.mixed(MODEL, {"de": train}, "x.tsv:1,y.tsv:3", max_length=10)
    np.testing.assert_allclose(drawn_shares(corpus, draw, "ab"), [1 / 4, 3 / 4], atol=0.005)
    assert {*draw(np.random.default_rng(0))} == {*range(130)}
    printed = capsys.readouterr().out
    assert "train x.tsv: 110 pairs" in printed
    assert "Times that a pass reads the pairs of each: x.tsv 1.00, y.tsv 16.50" in printed


def test_languages_are_mixed_by_temperature_and_their_sources_by_weight(capsys):
    parts = {
        "de": Pairs.joined([pairs_of("x", "a", 70), pairs_of("y", "b", 30)]),
        "fr": Pairs.joined([pairs_of("x", "c", 10), pairs_of("y", "d", 30)]),
    }
    corpus, draw = mixing.mixed(MODEL, parts, "x:1,y:1", temperature=1, max_length=10)
    # A pass reads 70 + 70 of one and 30 + 30 of the other language.
    np.testing.assert_allclose(drawn_shares(corpus, draw, "abcd"), [0.35, 0.35, 0.15, 0.15], 0.01)
    corpus, draw = mixing.mixed(MODEL, parts, "x:1,y:1", temperature=1e6, max_length=10)
    np.testing.assert_allclose(drawn_shares(corpus, draw, "abcd"), [0.25] * 4, 0.01)
    assert "de x 1.00, de y 2.33, fr x 7.00, fr y 2.33" in capsys.readouterr().out


def test_a_pass_that_would_be_far_too_long_is_refused():
    train = Pairs.joined([pairs_of("x", "a", 400), pairs_of("y", "b", 3)])
    with pytest.raises(
        ValueError, match="would have 40,400 examples of 403, and may have 100 times"
    ):
        mixing.mixed(MODEL, {"de": train}, "x:1,y:100", max_length=10)


def test_one_corpus_alone_is_read_as_it_is():
    corpus, draw = mixing.mixed(MODEL, {"de": pairs_of("", "a", 7)}, "x.tsv", max_length=10)
    assert draw is None and corpus.source.nrows() == 7


def test_pairs_are_named_by_file_and_line_where_they_are_known():
    pairs = Pairs()
    pairs.add("a far too long source", "b", line=3)
    pairs.add("a", "b", line=7)
    pairs.add("c", "d")
    corpus, _ = mixing.mixed(MODEL, {"de": pairs}, "x/train.{language}.tsv:1", max_length=10)
    assert corpus.names.numpy().tolist() == [b"x/train.de.tsv:7", b""]
    train = Pairs.joined(
        [pairs_of("x", "a", 1), dataclasses.replace(pairs, places=["a/y.tsv"] * 3)]
    )
    corpus, _ = mixing.mixed(MODEL, {"de": train}, "x:1,a/y.tsv:1", max_length=10)
    assert corpus.names.numpy().tolist() == [b"", b"a/y.tsv:7", b""]
    corpus, _ = mixing.mixed(MODEL, {"de": pairs}, "a/b.en,a/b.de", max_length=10)
    assert corpus.names.numpy().tolist() == [b"a/b.en:7", b""]
    corpus, _ = mixing.mixed(MODEL, {"de": pairs_of("", "a", 7)}, "x.tsv", max_length=10)
    assert corpus.names is None


def test_a_source_of_which_nothing_is_left_is_named():
    parts = {"de": pairs_of("x", "a", 7), "fr": pairs_of("y", "a", 7)}
    with pytest.raises(ValueError, match="leave something to train on, got none of de y, fr x"):
        mixing.mixed(MODEL, parts, "x:1,y:2", max_length=10)


def test_clips_are_drawn_by_the_weights_of_their_sources(capsys):
    draw = mixing.draw_sources(["y"] * 30 + ["x"] * 10, "x:2,y:3")
    rows = draw(np.random.default_rng(0))
    assert {*rows} == {*range(40)} and sum(rows < 30) == 30 and sum(rows >= 30) == 20
    assert "Times that a pass reads the clips of each: y 1.00, x 2.00" in capsys.readouterr().out
    mixing.draw_sources(["y"] * 3 + ["x"] * 7, "x:2,y:1", "captions")
    assert "Times that a pass reads the captions of each: y 1.17, x 1.00" in capsys.readouterr().out
    assert mixing.draw_sources([""] * 40, "y") is None
    with pytest.raises(ValueError, match=r"leave something to train on, got none of x\."):
        mixing.draw_sources(["y"] * 30, "y:3,x:2")


def test_the_answers_to_each_source_are_scored_apart():
    pairs = Pairs.joined([pairs_of("x", "a", 3), pairs_of("y", "b", 5)])
    answers = [*pairs.target[:3], *["wrong"] * 5]
    scores = translation_scores.of_languages("test", {"de": pairs}, answers)
    assert scores["test chrF2 x"].value == 100 > scores["test chrF2"].value
    assert scores["test chrF2"].value > scores["test chrF2 y"].value
