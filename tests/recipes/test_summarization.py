"""Summarization, whole: files in, a SavedModel out that is scored beside its baselines."""

import dataclasses
import itertools
import json
import re
import sys

import numpy as np
import pytest

import kzoo
from recipes import runs, summarization
from recipes.data.examples import Pairs
from recipes.data.splits import Splits
from recipes.runs import summary_scores, training_pairs

ANIMALS = ("cat", "dog", "owl", "fox", "hen")
DEEDS = ("sat", "ran", "slept", "sang", "ate", "hid")


def write_documents(path):
    """Documents of two sentences, of which the second is to be told."""
    lines = []
    for other, animal, deed in itertools.product(ANIMALS, ANIMALS, DEEDS):
        text = f"Once upon a time there was a {other}. Then the {animal} {deed} there. The end."
        lines.append(
            {"body": text, "subject": f"{animal} {deed}", "refs": [f"the {animal} {deed}"]}
        )
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(tmp_path):
    return summarization.Config(
        data=write_documents(tmp_path / "documents.jsonl"),
        model="copying_transformer",
        tokenizer="words",
        vocabulary_size=16,  # fewer than there are words
        batch_tokens=1024,
        epochs=1,
        validation_documents=11,
        warmup_steps=20,
        average=1,
        beam_size=2,
        max_source_tokens=13,
        max_length=9,
        summary_tokens=3,
        no_repeat_ngram=2,
        output=str(tmp_path / "out"),
    )


@pytest.mark.slow
def test_a_run_leaves_a_model_that_is_scored_beside_its_baselines(
    config, tmp_path, monkeypatch, capfd
):
    shown = []  # not asked in a fresh process, which the tests of translation do
    monkeypatch.setattr(runs, "show_answers", lambda path, texts: shown.extend(texts))
    figures = summarization.main(config)
    printed = capfd.readouterr().out
    assert len(shown) == 5
    assert re.search(
        r"train: 13\d pairs, \d+ target tokens; 0 over 9 tokens left out, 13\d cut at 1", printed
    )
    assert "| model | ROUGE-1 | ROUGE-2 | ROUGE-L |\n| --- | --- | --- | --- |\n" in printed
    for name in ("this model", "lead-2", "first sentence", "random sentence"):
        assert re.search(rf"\| {name} \| \d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\] \|", printed)
    assert {f"test ROUGE-{kind}" for kind in "12L"} < {*figures}
    assert {"test novel bigrams", "test copied", "test copied, references"} < {*figures}
    saved = json.loads((tmp_path / "out/1/metrics.json").read_text(encoding="utf-8"))
    score = saved["test ROUGE-L"]
    assert score["signature"].startswith("nrefs:2|") and score["value"] == figures["test ROUGE-L"]
    assert score["interval"][0] <= score["value"] <= score["interval"][1]
    written = {path.name for path in (tmp_path / "out/1").iterdir()}
    assert {"saved_model.pb", "model_card.md", "learning_curve.png", "attention-1.png"} <= written
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "expected_length 3, length_deviation_penalty 1.0, no_repeat_ngram 2" in card
    assert re.search(r"test ROUGE-L \| \d+\.\d\d \[\d+\.\d\d, ", card)
    assert not (tmp_path / "out/.kzoo-run").exists()
    document = "Once upon a time there was a cat. Then the dog ran there. The end."
    answer = kzoo.load(tmp_path / "out").align(document)
    assert len(answer.source_tokens) == 13 + 1  # it is cut, and ended
    assert saved["words of an answer, mean"] == pytest.approx(3, abs=0.5)


def part(documents, summaries, further=()):
    pairs = Pairs()
    for document, summary in zip(documents, summaries, strict=True):
        pairs.add(document, summary, further=further)
    return pairs


def test_scores_stand_beside_those_of_the_baselines():
    train = part(["a b c d. E f.", "g h i j. K l."] * 3, ["a b c d", "g h i"] * 3)
    test = part(["one two three. Four five six."] * 4, ["four five"] * 4, ["one two three"])
    scores = summary_scores.summary_scores(["four five"] * 4, test, train, seed=0)
    assert scores["ROUGE-L"].value == 100
    assert scores["ROUGE-L, first sentence"].value == 100
    assert scores["ROUGE-L, lead-4"].value == pytest.approx(200 * 3 / 7)
    assert scores["ROUGE-L above lead-3"].value == 0  # one of the two best
    assert scores["ROUGE-L above lead-3"].interval == (0, 0)
    assert scores["novel bigrams"].value == 0 and scores["copied"].value == 100
    rows = summary_scores.table(scores).split("\n")
    assert rows[2].startswith("| this model | 100.00 [100.00, 100.00] | 100.00")
    assert [row.split(" | ")[0] for row in rows[3:]] == [
        f"| {name}" for name in ("lead-4", "lead-3", "first sentence", "random sentence")
    ]


def test_the_summaries_of_each_source_have_a_score_of_their_own():
    train = part(["a b c d. E f."] * 3, ["a b c d"] * 3)
    test = part(["one two three. Four."] * 4, ["one two", "one two", "three", "one two"])
    mixed = dataclasses.replace(test, places=["a.csv", "b.csv", "b.csv", "a.csv"])
    answers = ["one two"] * 4
    scores = summary_scores.summary_scores(answers, mixed, train, seed=0)
    found = {name: scores[f"ROUGE-L{name}"].value for name in ("", " a.csv", " b.csv")}
    assert found == {"": 75, " a.csv": 100, " b.csv": 50}
    assert "ROUGE-L " not in summary_scores.summary_scores(answers, test, train, seed=0)
    assert "csv" not in summary_scores.table(scores)


def test_the_better_of_two_leads_is_longer_where_the_summary_comes_later():
    documents = [f"so we say that cat {n} sat on and on and on and on" for n in range(7)]
    train = part(documents, [f"cat {n} sat" for n in range(7)])
    found = summary_scores.baselines(train, ["w " * 20], "rouge", seed=0)
    counts = [len(texts[0].split()) for name, texts in found.items() if "lead" in name]
    assert counts == [3, summary_scores.best_lead(train, "rouge")] and counts[1] > 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"summary_tokens": -1}, "`summary_tokens` must be at least 0"),
        ({"summary_tokens": 64}, "`summary_tokens` must be less than max_length, got summary_t"),
        ({"min_tokens": 64}, "`min_tokens` must be less than max_length, got min_tokens=64, max_l"),
        ({"min_tokens": -1}, "`min_tokens` must be at least 0, got min_tokens=-1"),
        ({"length_deviation_penalty": -1.0}, "`length_deviation_penalty` must be at least 0, got"),
        (
            {"length_deviation_penalty": 0.0, "summary_tokens": 5},
            "`length_deviation_penalty` must be positive with summary_tokens, got length_deviati",
        ),
        ({"sampled": 7}, "`sampled` must be 0 with copying_transformer, got sampled=7"),
        ({"r_drop": 1.0}, "`r_drop` must be 0 with copying_transformer, got r_drop=1.0"),
        (
            {"coverage_weight": 1.0, "model": "rnn_luong"},
            "`coverage_weight` needs a model that copies, pointer_generator or copying_transf",
        ),
        ({"max_source_tokens": 0}, "`max_source_tokens` must be at least 1"),
        ({"no_repeat_ngram": -1}, "`no_repeat_ngram` must be at least 0"),
    ],
)
def test_a_flag_out_of_range_is_refused_before_anything_is_loaded(values, message):
    with pytest.raises(ValueError, match=message):
        summarization.Config(**values)


@pytest.mark.parametrize(
    ("values", "has_head", "options"),
    [
        ({}, False, {}),
        ({"summary_tokens": 5}, False, {"expected_length": 5, "length_deviation_penalty": 1.0}),
        ({"length_deviation_penalty": 0.5}, True, {"length_deviation_penalty": 0.5}),
        (
            {"length_deviation_penalty": 0.5, "summary_tokens": 5},
            False,
            {"expected_length": 5, "length_deviation_penalty": 0.5},
        ),
    ],
)
def test_a_length_is_given_or_learnt(values, has_head, options):
    config = summarization.Config(**values)
    always = {"min_length": 1, "length_normalization": "length"}
    assert config.search_options == options | always
    tokenizer = kzoo.text.WordTokenizer.learn(["a b c d"], 8)
    model = summarization.build(tokenizer, dataclasses.replace(config, model="transformer_tiny"))
    assert (model.length_head is not None) == has_head


@pytest.mark.parametrize("package", ["rouge_score", "matplotlib", "sentencepiece"])
def test_a_missing_package_is_named_before_anything_is_loaded(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs the {package} package: .* kzoo\[recipes\]"):
        summarization.main(summarization.Config(data="missing.csv", tokenizer="subwords"))


def test_long_documents_are_cut_and_long_summaries_left_out(capsys):
    tokenizer = kzoo.text.WordTokenizer.learn(["a b c d e f"], 11)
    model = summarization.build(tokenizer, summarization.Config(model="transformer_tiny"))
    pairs = part(["a b c d e f", "a b", "b c"], ["a", "a b", "a b c"])
    corpus = training_pairs.tokenize(model, pairs, "train", max_length=3, max_source_tokens=4)
    assert corpus.source.row_lengths().numpy().tolist() == [4, 2]
    assert corpus.target.row_lengths().numpy().tolist() == [1, 2]
    expected = "train: 3 pairs, 6 target tokens; 1 over 3 tokens left out, 1 cut at 4 tokens\n"
    assert capsys.readouterr().out.endswith(expected)
    corpus = training_pairs.tokenize(model, pairs, "train", max_length=5)  # as translation does
    assert corpus.source.row_lengths().numpy().tolist() == [2, 2]


def test_a_card_says_how_many_summaries_were_too_long(config, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "fit", lambda *args, **options: None)
    config = dataclasses.replace(config, model="rnn_luong", max_length=4, replace_unknown=False)
    train = part(["a b c d e f", "a b", "b c"], ["a b c d", "a b", "a b c"])
    model = summarization.build(summarization.learn_tokenizer(train, config), config)
    said = summarization.fit(model, Splits(train, train, None), tmp_path / "run", config)
    assert said == "; of them left out: 1 with summaries over 4 tokens"


def test_a_model_that_copies_has_the_words_of_the_source_beyond_its_vocabulary():
    tokenizer = kzoo.text.WordTokenizer.learn(["a b"], 6)
    model = summarization.build(tokenizer, summarization.Config())
    pairs = part(["a zz yy b", "b yy"], ["zz b yy", "xx yy"])
    corpus = training_pairs.tokenize(model, pairs, "train", max_length=9, max_source_tokens=2)
    a, b = tokenizer.tokenize(["a b"]).to_list()[0]
    assert corpus.copy_ids.to_list() == [[a, 6 + 1], [b, 6 + 1]]
    assert corpus.target.to_list() == [[6 + 1, b, 3], [3, 6 + 1]]  # 3 is unknown; yy is cut off


def test_documents_longer_than_a_summary_may_be_are_cut_anew_for_every_batch(tmp_path):
    documents = [f"the cat number {n} sat on the mat and sang" for n in range(20)]
    config = summarization.Config(
        model="transformer_tiny", tokenizer="subwords", subword_sampling=0.5, max_length=9
    )
    tokenizer = kzoo.text.SubwordTokenizer.learn(documents, 60)
    model = summarization.build(tokenizer, config)
    corpus = training_pairs.tokenize(
        model, part(documents, ["cat"] * 20), "train", max_length=9, max_source_tokens=400
    )
    assert corpus.source.row_lengths().numpy().min() > config.max_length
    sampled = training_pairs.sampled_subwords(model, corpus, config, 400)
    batches, _ = training_pairs.make_batches(model, sampled, corpus, tmp_path, config)
    first, second = ([inputs["source"].numpy() for inputs, _ in batches] for _ in range(2))
    planned = corpus.source.flat_values.shape[0] + len(documents)  # with the ends
    assert all(sum(map(np.count_nonzero, each)) > planned for each in (first, second))
    assert not all(map(np.array_equal, first, second))


def test_what_is_beyond_the_cut_does_not_shape_the_vocabulary():
    config = summarization.Config(tokenizer="words", max_source_tokens=2)
    tokenizer = summarization.learn_tokenizer(part(["a b zz"], ["c"]), config)
    assert {"a", "b", "c"} < {*tokenizer.get_vocabulary()}
    assert "zz" not in tokenizer.get_vocabulary()
