"""Scores of summaries beside an own ROUGE in numpy, and beside values by hand."""

import random
import re
import sys

import numpy as np
import pytest

from kzoo import metrics
from kzoo.metrics import (
    bootstrap_interval,
    copied_share,
    first_sentences,
    lead_words,
    novel_bigrams,
    random_sentences,
    rouge,
    rouge_tokenizer,
    rouge_values,
    split_sentences,
)

HYPOTHESES = ["The cat sat on the mat.", "Dogs run", "nothing here", "", "a b a b a"]
REFERENCES = [
    ["The cat was on the mat", "A cat sat down; the mat was new"],
    "Two dogs run fast",
    ["other words"],
    ["no answer"],
    ["a a b b"],
]


def words(text):
    return re.findall("[a-z0-9]+", text.lower())


def own_f(hypothesis, reference, order):
    """F in percent of n-grams, or of the longest common subsequence where `order` is None."""
    one, other = words(hypothesis), words(reference)
    if order is None:
        table = np.zeros((len(one) + 1, len(other) + 1), int)
        for i, j in np.ndindex(len(one), len(other)):
            equal = one[i] == other[j]
            table[i + 1, j + 1] = (
                table[i, j] + 1 if equal else max(table[i, j + 1], table[i + 1, j])
            )
        common = table[-1, -1]
    else:
        one, other = (
            [tuple(side[start : start + order]) for start in range(len(side) - order + 1)]
            for side in (one, other)
        )
        common = sum(min(one.count(ngram), other.count(ngram)) for ngram in {*one})
    return 200 * common / max(len(one) + len(other), 1)  # 2 P R / (P + R)


@pytest.mark.parametrize(("name", "order"), [("ROUGE-1", 1), ("ROUGE-2", 2), ("ROUGE-L", None)])
def test_rouge_is_the_f_of_the_best_reference(name, order):
    rng = random.Random(3)
    texts = [" ".join(rng.choices("abcde", k=rng.randint(0, 9))) for _ in range(60)]
    hypotheses = HYPOTHESES + texts[:20]
    references = REFERENCES + [list(pair) for pair in zip(texts[20:40], texts[40:], strict=True)]
    rows = metrics.reference_rows(hypotheses, references)
    expected = [
        max(own_f(text, reference, order) for reference in row)
        for text, row in zip(hypotheses, rows, strict=True)
    ]
    np.testing.assert_allclose(rouge_values(hypotheses, references)[name], expected)
    score = rouge(hypotheses, references, resamples=7)[name]
    assert score.value == pytest.approx(np.mean(expected))
    assert score.interval == pytest.approx(bootstrap_interval(expected, resamples=7))
    assert score.signature.startswith("nrefs:var|case:lc|tok:rouge|stem:no|f:mean|bootstrap:7|see")
    assert score.signature.endswith("|version:rouge-score 0.1.2|norm:nfc")


def test_the_interval_is_the_percentiles_of_the_means_of_resampled_documents():
    values = np.random.default_rng(5).gamma(2.0, 10.0, 400)
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std() / 20  # of a normal distribution
    assert low == pytest.approx(values.mean() - error, abs=0.4)
    assert high == pytest.approx(values.mean() + error, abs=0.4)
    assert bootstrap_interval(values) == (low, high) != bootstrap_interval(values, seed=1)
    assert bootstrap_interval([3.0, 3.0]) == (3.0, 3.0)
    assert isinstance(low, float)  # as JSON wants it


def test_a_score_shows_its_interval():
    score = rouge(["a b"], ["a b"])["ROUGE-L"]
    assert str(score).startswith("ROUGE-L 100.00 [100.00, 100.00] (nrefs:1|")
    assert metrics.Score("WER", 7.0, "s").figure == "7.00"


def test_an_unknown_word_is_a_wrong_word():
    right, wrong, unknown = (
        rouge([f"a cat{more}"], ["a cat"])["ROUGE-1"].value for more in ("", " owl", " ⁇")
    )
    assert right == 100 and unknown == wrong < 100


def test_the_stemmer_makes_forms_of_an_english_word_one():
    plain, stemmed = (
        rouge(["cats sleeping"], ["cat sleeps"], stem=stem)["ROUGE-1"] for stem in (False, True)
    )
    assert plain.value == 0 and "stem:no" in plain.signature
    assert stemmed.value == 100 and "stem:porter" in stemmed.signature


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("für alle", "für keine", 50),
        ("猫が、来た", "猫が寝た", 75),
        ("हिन्दी में", "हिन्दी", 200 / 3),  # vowel signs do not part words
        ("кот_спит", "кот спит", 100),
    ],
)
def test_words_of_other_scripts_count_in_unicode(one, other, share):
    assert rouge_tokenizer([one, other]) == "unicode"
    scores = rouge([one], [other], tokenize="unicode")
    assert scores["ROUGE-1"].value == pytest.approx(share)
    assert "tok:unicode" in scores["ROUGE-1"].signature


def test_english_is_counted_as_rouge_does():
    assert rouge_tokenizer(["A café in the middle of the town.", "7 + 5"]) == "rouge"
    assert rouge_tokenizer([]) == "rouge"


def test_texts_that_look_the_same_score_the_same():
    composed, decomposed = "caf\u00e9 noir", "cafe\u0301\u200b  noir"
    for tokenize in ("rouge", "unicode"):
        assert rouge([composed], [decomposed], tokenize=tokenize)["ROUGE-2"].value == 100
        assert copied_share([composed], [decomposed], tokenize).value == 100


def test_novel_bigrams_and_copied_words_are_shares_of_all_summaries():
    documents = ["The cat sat. It slept.", "Dogs run."]
    summaries = ["the cat slept", "dogs run fast away"]
    novel = novel_bigrams(summaries, documents)
    assert novel.value == pytest.approx(100 * 3 / 5)  # cat slept, run fast, fast away
    assert novel.signature == "bigrams:5|case:lc|tok:rouge|norm:nfc"
    copied = copied_share(summaries, documents)
    assert copied.value == pytest.approx(100 * 5 / 7)
    assert copied.signature.startswith("words:7|")
    assert novel_bigrams(["one"], ["two"]).value == 0


def test_baselines_are_taken_from_the_documents():
    documents = ["One two, three. Four  five!", "Six"]
    assert lead_words(documents, 3) == ["One two, three.", "Six"]
    assert first_sentences(documents) == ["One two, three.", "Six"]
    chosen = [random_sentences(documents, seed)[0] for seed in range(20)]
    assert {*chosen} == {"One two, three.", "Four  five!"}
    assert random_sentences(documents, 3) == random_sentences(documents, 3)
    assert random_sentences(documents, 3)[1] == "Six"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It works, e.g. here. Does it?  Yes.", ["It works, e.g. here.", "Does it?", "Yes."]),
        ('He said "no." She left (soon.) 3.5 m.', ['He said "no."', "She left (soon.)", "3.5 m."]),
        ("猫が来た。寝た。", ["猫が来た。", "寝た。"]),
        ("no end", ["no end"]),
        ("  ", [""]),
    ],
)
def test_sentences_end_with_a_mark_and_a_space(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rouge([], []), "`hypotheses` and `references` must be equally many and at least"),
        (lambda: rouge(["a"], ["a"], tokenize="13a"), "`tokenize` must be .*tokenize='13a'"),
        (lambda: rouge(["a"], ["a"], "unicode", True), 'must be False but for "rouge", got stem=T'),
        (lambda: rouge(["a"], ["a"], resamples=0), "`resamples` must be at least 1, got resample"),
        (lambda: bootstrap_interval([]), "`values` must hold at least one number"),
        (lambda: novel_bigrams(["a"], ["a", "b"]), "`hypotheses` and `references` must be equally"),
        (lambda: copied_share(["a"], ["a"], "words"), "`tokenize` must be .*tokenize='words'"),
        (lambda: lead_words(["a"], 0), "`count` must be at least 1, got count=0"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    with pytest.raises(ImportError, match=r"rouge-score package: pip install kzoo\[metrics\]"):
        rouge(["a"], ["a"])
