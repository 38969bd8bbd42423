"""Scores of captions beside values by hand, a slow implementation, and the COCO evaluation's."""

import math
import random

import pytest

from kzoo import metrics
from kzoo.metrics import caption_bleu, cider, distinct_captions, novel_captions, rouge_l
from kzoo.metrics.captions import tokens

HYPOTHESES = [
    "A brown dog runs across the grass.",
    "two men ride bikes on the street",
    "a child plays in the water",
    "a man is standing",
]
REFERENCES = [
    [
        "a brown dog is running across green grass",
        "A dog runs through the grass .",
        "the brown dog plays outside",
    ],
    ["Two men are riding bikes.", "two cyclists ride down the street together"],
    [
        "a child is playing in the water",
        "a small boy splashes in the sea",
        "a boy plays in water, near a dog",
    ],
    "a tall man stands near a red car",
]
ROWS = metrics.reference_rows(HYPOTHESES, REFERENCES)
EVERY = [caption_bleu, rouge_l, cider]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog, red!", "a dog red"),
        ("The dog\u2019s ball; they don't", "the dog 's ball they do n't"),
        ("a T-shirt - 'so' \"it\" went", "a t-shirt so it went"),
        ("we'll 've_x I'd dogs' o'clock 3.5 end.", "we 'll ve_x i 'd dogs o'clock 3.5 end"),
        ("a ⁇, ⁇⁇ dog⁇", "a ⁇ ⁇ ⁇ dog ⁇"),
        ("Black & white, R&B", "black & white r & b"),
        ("10,000 dogs, 1,234,567.5 and a,b or 3, 4", "10,000 dogs 1,234,567.5 and a b or 3 4"),
        (" ... ", ""),
        ("एक लड़की, ผู้หญิง। می‌خواهم", "एक लड़की ผู้หญิง می‌خواهم"),
        ("犬が走る。", "犬 が 走 る"),
    ],
)
def test_tokens_are_lower_case_words_without_punctuation(text, words):
    assert tokens(text) == words.split()


def test_an_unknown_word_counts_as_a_wrong_one():
    for metric in (rouge_l, lambda *texts: caption_bleu(*texts, order=1)):
        right, wrong, unknown = (
            metric([f"a dog{word} runs"], ["a dog runs"]).value for word in ("", " owl", " ⁇")
        )
        assert right == pytest.approx(100) and unknown == wrong < 100


def test_tokenized_captions_have_the_same_tokens():
    assert tokens("The dog 's ball , red .") == tokens("the dog's ball, red")


@pytest.mark.parametrize("order", [1, 2, 3])
def test_bleu_of_captions_is_that_of_the_coco_evaluation(order):
    # pycocoevalcap 1.2 on the same texts, tokenized; it adds small constants.
    expected = {1: 74.0670715, 2: 55.9895033, 3: 32.1302134}[order]
    score = caption_bleu(HYPOTHESES, REFERENCES, order)
    assert score.value == pytest.approx(expected, abs=1e-4)
    assert score.name == f"BLEU-{order}"
    assert score.signature.startswith("nrefs:var|case:lc|eff:no|tok:caption|smooth:exp|version:2.")


def test_bleu_1_is_the_clipped_share_of_words_and_the_brevity_penalty():
    # "the" counts once, as no reference has two; the nearest reference has 5 words.
    score = caption_bleu(["the the cat"], [["the cat sat down here", "a b c d e f g"]], 1)
    assert score.value == pytest.approx(100 * math.exp(1 - 5 / 3) * 2 / 3)


def test_rouge_l_is_that_of_the_coco_evaluation():
    score = rouge_l(HYPOTHESES, REFERENCES)
    assert score.value == pytest.approx(61.0285604, abs=1e-6)  # pycocoevalcap 1.2
    assert score.signature.startswith("nrefs:var|case:lc|tok:caption|beta:1.2|version:kzoo ")


def test_rouge_l_takes_the_best_precision_and_the_best_recall_of_all_references():
    # 3 of 5 words in order in a reference of 7, 2 of 5 in one of 2.
    precision, recall = 3 / 5, 2 / 2
    by_hand = 100 * 2.44 * precision * recall / (recall + 1.44 * precision)
    score = rouge_l(["a b x c y"], [["a p b q r s c", "a c"]])
    assert score.value == pytest.approx(by_hand)
    assert rouge_l(["a b", ""], ["c d", "e"]).value == 0


def slow_cider(hypotheses, rows):
    """Vedantam et al. (2015), equations 2, 4 and 5, with plain counts; vectors over all n-grams."""

    def grams(text, n):
        words = tokens(text)
        return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]

    total = 0
    for hypothesis, row in zip(hypotheses, rows, strict=True):
        for n in (1, 2, 3, 4):
            texts = [hypothesis, *(text for each in rows for text in each)]
            space = sorted({gram for text in texts for gram in grams(text, n)})
            documents = [
                sum(any(gram in grams(text, n) for text in each) for each in rows) for gram in space
            ]

            def vector(text, n=n, space=space, documents=documents):
                return [
                    grams(text, n).count(gram) * math.log(len(rows) / max(1, document))
                    for gram, document in zip(space, documents, strict=True)
                ]

            own = vector(hypothesis)
            for text in row:
                other = vector(text)
                dot = sum(min(a, b) * b for a, b in zip(own, other, strict=True))
                norms = math.sqrt(sum(a * a for a in own) * sum(b * b for b in other))
                apart = len(tokens(hypothesis)) - len(tokens(text))
                penalty = math.exp(-(apart**2) / (2 * 36))
                total += 10 * penalty * dot / norms / 4 / len(row) if norms else 0
    return 100 * total / len(hypotheses)


def test_cider_is_that_of_the_coco_evaluation_and_of_a_slow_one():
    score = cider(HYPOTHESES, REFERENCES)
    assert score.value == pytest.approx(173.0471946, abs=1e-6)  # pycocoevalcap 1.2
    assert score.value == pytest.approx(slow_cider(HYPOTHESES, ROWS))
    assert "nrefs:var|case:lc|tok:caption|n:4|sigma:6|df:references|version:kzoo " in str(score)


@pytest.mark.parametrize("seed", range(5))
def test_cider_of_random_texts_is_the_slow_one(seed):
    rng = random.Random(seed)

    def text():
        return " ".join(rng.choice("abcde") for _ in range(rng.randrange(9)))

    hypotheses = [text() for _ in range(7)]
    rows = [[text() for _ in range(rng.randint(1, 3))] for _ in hypotheses]
    assert cider(hypotheses, rows).value == pytest.approx(slow_cider(hypotheses, rows))


def test_cider_of_equal_texts_is_1000_and_what_stands_everywhere_counts_nothing():
    texts = ["a b c d", "e f g h"]
    assert cider(texts, texts).value == pytest.approx(1000)
    assert cider(["a b", "c d"], [["a b"], ["a b"]]).value == 0
    assert cider(["a b c d"], ["a b c d"]).value == 0  # of one row all n-grams stand everywhere


def test_cider_clips_repeated_words_and_punishes_other_lengths():
    references = ["a b c d", "x"]
    # One of two texts scores, by unigrams alone: cosines of (1, 0, 0, 0) and (5, 0, 0, 0) clipped.
    short = 500 * math.exp(-(3**2) / 72) / 4 * 1 / (1 * 2)
    assert cider(["a", "y"], references).value == pytest.approx(short)
    repeated = 500 * math.exp(-(1**2) / 72) / 4 * 1 / (5 * 2)
    assert cider(["a a a a a", "y"], references).value == pytest.approx(repeated)


def test_distinct_and_novel_captions_are_compared_as_tokens():
    texts = ["A dog.", "a dog", "a cat", "an owl"]
    score = distinct_captions(texts)
    assert (score.name, score.value) == ("distinct", 75)
    assert score.signature == "texts:4|case:lc|tok:caption|norm:nfc"
    score = novel_captions(texts, iter(["A DOG", "two owls"]))
    assert (score.name, score.value) == ("novel", 50)
    assert score.signature == "texts:4|case:lc|tok:caption|norm:nfc"


@pytest.mark.parametrize("metric", EVERY)
def test_every_metric_refuses_lists_that_are_empty_or_unequal(metric):
    with pytest.raises(ValueError, match="got 0 hypotheses, 0 references"):
        metric([], [])
    with pytest.raises(ValueError, match="got 2 hypotheses, 3 references"):
        metric(["a", "b"], ["a", "b", "c"])
    with pytest.raises(ValueError, match="got none for number 1 of 2"):
        metric(["a", "b"], ["a", []])


def test_shares_of_no_captions_are_refused():
    with pytest.raises(ValueError, match="at least one, got 0 hypotheses"):
        distinct_captions([])
    with pytest.raises(ValueError, match="`hypotheses` must be a list of strings, got one string"):
        novel_captions("a", ["a"])
