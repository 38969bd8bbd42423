import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kzoo import metrics, text
from kzoo.metrics import Score, bleu, character_error_rate, chrf, exact_match, word_error_rate

HYPOTHESIS = "the cat sat on the mat today"
REFERENCE = "the cat sat on a mat today"


def test_bleu_of_identical_texts_is_100():
    texts = ["The cat sat down.", "Two dogs run on the beach."]
    assert bleu(texts, texts).value == pytest.approx(100)


def test_bleu_is_the_geometric_mean_of_the_ngram_precisions():
    # 6 of 7 words, 4 of 6 pairs, 2 of 5 triples, 1 of 4 quadruples; equal lengths.
    by_hand = 100 * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** (1 / 4)
    assert bleu([HYPOTHESIS], [REFERENCE]).value == pytest.approx(by_hand)


def test_bleu_counts_ngrams_over_the_whole_corpus_not_the_mean_of_sentences():
    texts = ["a b c d e", HYPOTHESIS]
    by_hand = 100 * (11 / 12 * 8 / 10 * 5 / 8 * 3 / 6) ** (1 / 4)
    assert bleu(texts, ["a b c d e", REFERENCE]).value == pytest.approx(by_hand)


def test_bleu_punishes_short_texts_by_the_brevity_penalty():
    by_hand = 100 * 2.718281828459045 ** (1 - 7 / 5)
    assert bleu(["a b c d e"], ["a b c d e f g"]).value == pytest.approx(by_hand)


def test_the_signature_of_bleu_tells_references_case_tokenizer_and_version():
    signature = bleu([HYPOTHESIS], [REFERENCE]).signature
    assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")
    signature = bleu([HYPOTHESIS], [REFERENCE], lowercase=True, tokenize="none").signature
    assert "case:lc" in signature and "tok:none" in signature


def test_lower_case_makes_capitals_equal():
    assert bleu([HYPOTHESIS.upper()], [HYPOTHESIS]).value < 1
    assert bleu([HYPOTHESIS.upper()], [HYPOTHESIS], lowercase=True).value == pytest.approx(100)


def test_several_references_are_matched_to_their_own_hypothesis():
    hypotheses = ["one two three four five", "six seven eight nine ten"]
    references = [["x", hypotheses[0]], [hypotheses[1], "y"]]
    score = bleu(hypotheses, references)
    assert score.value == pytest.approx(100)
    assert "nrefs:2" in score.signature
    assert bleu(hypotheses, references[::-1]).value < 1


def test_hypotheses_may_have_different_numbers_of_references():
    hypotheses = ["one two three four five", "six seven eight nine ten"]
    score = bleu(hypotheses, [hypotheses[0], ["x", "y", hypotheses[1]]])
    assert score.value == pytest.approx(100)
    assert "nrefs:var" in score.signature


def test_bleu_of_a_lower_order_leaves_out_the_longer_ngrams():
    by_hand = 100 * (6 / 7 * 4 / 6) ** (1 / 2)
    score = bleu([HYPOTHESIS], [REFERENCE], order=2)
    assert score.value == pytest.approx(by_hand)
    assert (score.name, bleu([HYPOTHESIS], [REFERENCE]).name) == ("BLEU-2", "BLEU")
    with pytest.raises(ValueError, match="`order` must be at least 1, got order=0"):
        bleu([HYPOTHESIS], [REFERENCE], order=0)


def test_force_silences_the_warning_that_texts_look_tokenized(caplog):
    texts = ["so tokenized ."] * 101
    bleu(texts, texts, force=True)
    assert not caplog.records
    bleu(texts, texts)
    assert "forgot to detokenize" in caplog.text


def test_chrf_is_the_f_score_of_mean_precision_and_mean_recall():
    # "thecat" against "thecatsat": every n-gram is right, (7 - n) of the (10 - n) are found.
    recall = sum((7 - n) / (10 - n) for n in range(1, 7)) / 6
    score = chrf(["the cat"], ["the cat sat"])
    assert score.value == pytest.approx(100 * 5 * recall / (4 + recall))
    assert score.name == "chrF2"
    assert "nc:6|nw:0" in score.signature


def test_chrf_with_word_order_2_is_called_chrf_plus_plus():
    score = chrf(["the cat"], ["the cat"], word_order=2)
    assert (score.name, round(score.value)) == ("chrF2++", 100)
    assert "nw:2" in score.signature


def test_exact_match_is_the_percentage_of_equal_strings():
    score = exact_match(["a b", "c", "D"], ["a b", ["d", "c"], "d"])
    assert score.value == pytest.approx(100 * 2 / 3)
    assert score.signature == "nrefs:var|case:mixed|norm:nfc"
    assert exact_match(["a"], [["a", "b"]]).signature == "nrefs:2|case:mixed|norm:nfc"


def test_a_score_prints_name_value_and_signature():
    assert str(Score("BLEU", 35.1249, "nrefs:1|case:mixed")) == "BLEU 35.12 (nrefs:1|case:mixed)"


# As people's files have them, beside what a model that knows the text answers.
WRITTEN = {
    "decomposed": unicodedata.normalize("NFD", "Müde Bären träumen über Öfen süß."),
    "zero-width space": "Müde Bären\u200b träumen über Öfen süß.",
    "soft hyphen": "Mü\u00adde Bären träu\u00admen über Öfen süß.",
    "byte-order mark": "\ufeffMüde Bären träumen über Öfen süß.",
    "direction marks": "\u200eMüde Bären\u200f träumen über Öfen süß.",
    "spaces": " Müde  Bären\tträumen\r\nüber Öfen süß.\u00a0",
    "hidden between a letter and its accent": "Mu\u200b\u0308de Bären träumen über Öfen süß.",
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_references_are_normalized_as_answers_are(written):
    answer = "Müde Bären träumen über Öfen süß."
    for name in ("bleu", "chrf", "exact_match", "caption_bleu", "rouge_l"):
        score = getattr(metrics, name)([answer, "x"], [[written, "a"], "x"])
        assert score.value == pytest.approx(100), name
        assert "|norm:nfc" in score.signature
    for name in ("word_error_rate", "character_error_rate"):
        score = getattr(metrics, name)([answer], [written])
        assert score.value == 0 and score.signature.endswith("|norm:nfc")
    other = "two dogs sleep here"
    for one, two in ((answer, written), (written, answer)):
        perfect = metrics.cider([one, other], [two, other])
        assert perfect.value == pytest.approx(1000) and "|norm:nfc" in perfect.signature
    assert metrics.distinct_captions([answer, written]).value == 50
    assert metrics.novel_captions([answer], [written]).value == 0


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=12))
@example("\u1100\u1161\u200b\u0301 \u2028\u0085a\u3000")
def test_scores_normalize_texts_as_the_models_do(written):
    assert metrics.score.normalized(written) == text.normalize(written).numpy().decode()


EVERY = [bleu, chrf, exact_match, word_error_rate, character_error_rate]


@pytest.mark.parametrize("metric", EVERY)
def test_every_metric_refuses_lists_that_are_empty_or_unequal(metric):
    with pytest.raises(ValueError, match="got 0 hypotheses, 0 references"):
        metric([], [])
    with pytest.raises(ValueError, match="got 2 hypotheses, 3 references"):
        metric(["a", "b"], ["a", "b", "c"])
    with pytest.raises(ValueError, match="got none for number 1 of 2"):
        metric(["a", "b"], ["a", []])
    with pytest.raises(ValueError, match="`references` must be a list of strings, got one string"):
        metric(["a"], "a")


def test_without_sacrebleu_the_error_tells_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"pip install kzoo\[metrics\]"):
        bleu(["a"], ["a"])


def edits(one, other):
    """Levenshtein's distance, row by row."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    return row[-1]


def test_error_rates_are_edits_over_the_length_of_the_references():
    hypotheses = ["the cat sat on mat", "", "one  two", "a dog dog"]
    references = ["the cat sat on the mat", "hm", "one two", "dog"]
    by_words = sum(edits(h.split(), r.split()) for h, r in zip(hypotheses, references, strict=True))
    score = word_error_rate(hypotheses, references)
    assert score.value == pytest.approx(100 * by_words / 10)
    assert score.signature.startswith("words:10|sub:0|del:2|ins:2|version:jiwer 4.")
    hypotheses[2] = "one two"  # white space is one space
    by_chars = sum(map(edits, hypotheses, references))
    score = character_error_rate(hypotheses, references)
    assert score.value == pytest.approx(100 * by_chars / len("".join(references)))
    assert (score.name, score.signature.split("|")[0]) == ("CER", "chars:34")


def test_error_rates_heed_case_and_may_exceed_100():
    assert word_error_rate(["A b c"], ["a"]).value == 300
    assert word_error_rate(["", "x"], ["", "x"]).value == 0


def test_error_rates_want_one_reference_for_each_text_and_a_word_in_one():
    with pytest.raises(ValueError, match="`references` must hold one text for every hypothesis"):
        word_error_rate(["a"], [["a", "b"]])
    with pytest.raises(ValueError, match="`references` must hold at least one word, got none"):
        character_error_rate(["a"], [" "])


def test_without_jiwer_the_error_tells_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    for metric in (word_error_rate, character_error_rate):
        with pytest.raises(ImportError, match=r"jiwer package: pip install kzoo\[metrics\]"):
            metric(["a"], ["a"])
