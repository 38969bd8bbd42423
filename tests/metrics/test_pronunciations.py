"""Error rates of pronunciations, counted by hand and by an edit distance of our own."""

import random

import pytest

from kzoo import metrics
from kzoo.metrics import best_error_rate, phoneme_error_rate, pronunciation_error_rate

REFERENCES = [["R IY D", "R EH D"], ["K AH T"], ["L AY V", "L IH V", "L AY V Z"]]


def test_a_word_is_right_if_any_of_its_pronunciations_is():
    score = pronunciation_error_rate(["R EH D", "K AE T", "L IH"], REFERENCES)
    assert score.value == pytest.approx(200 / 3)
    assert str(score) == "WER 66.67 (words:3|nrefs:var|best:1|case:mixed|norm:nfc)"
    assert pronunciation_error_rate([" R  IY D "], ["R IY D"]).value == 0


def test_an_oracle_looks_at_the_best_hypotheses_of_each_word():
    hypotheses = [["R AY D", "R EH D"], ["K AE T"], []]
    values = [best_error_rate(hypotheses, REFERENCES, best).value for best in (1, 2, 3)]
    assert values == pytest.approx([100, 200 / 3, 200 / 3])
    assert "best:2" in best_error_rate(hypotheses, REFERENCES, 2).signature
    with pytest.raises(ValueError, match="`best` must be at least 1, got best=0"):
        best_error_rate(hypotheses, REFERENCES, 0)


def test_phonemes_are_counted_against_the_nearest_pronunciation():
    # 0 of 3; 1 substituted of 3; 1 inserted, from L AY V Z 1 too, which is longer: 1 of 4.
    score = phoneme_error_rate(["R EH D", "K AE T", "L AY V S"], REFERENCES)
    assert score.value == pytest.approx(100 * 2 / 10)
    assert score.signature.startswith("phonemes:10|sub:2|del:0|ins:0|nrefs:var|ref:nearest|")
    nothing = phoneme_error_rate(["", "K AH T", "L AY V"], REFERENCES)
    assert nothing.signature.startswith("phonemes:9|sub:0|del:3|ins:0|")


def edit_distance(one, other):
    row = list(range(len(other) + 1))
    for number, each in enumerate(one, start=1):
        before, row = row, [number]
        for index, its in enumerate(other):
            row.append(min(before[index] + (each != its), before[index + 1] + 1, row[-1] + 1))
    return row[-1]


def test_the_phoneme_error_rate_is_that_of_an_independent_edit_distance():
    rng = random.Random(1)

    def text(least):
        return " ".join(rng.choices("ABCD", k=rng.randint(least, 7)))

    hypotheses = [text(0) for _ in range(200)]
    references = [[text(1) for _ in range(rng.randint(1, 3))] for _ in hypotheses]
    errors = length = 0
    for hypothesis, row in zip(hypotheses, references, strict=True):
        found = [
            (edit_distance(hypothesis.split(), each.split()), -len(each.split())) for each in row
        ]
        errors += min(found)[0]
        length -= min(found)[1]
    assert phoneme_error_rate(hypotheses, references).value == pytest.approx(100 * errors / length)


@pytest.mark.parametrize("name", ["pronunciation_error_rate", "phoneme_error_rate"])
def test_texts_that_cannot_be_compared_are_refused(name):
    score = getattr(metrics, name)
    with pytest.raises(ValueError, match="must be equally many and at least one, got 1 hyp"):
        score(["a"], [])
    with pytest.raises(ValueError, match="`hypotheses` must be a list of strings, got one string"):
        score("a", ["a"])
    with pytest.raises(ValueError, match="`references` must hold at least one text for every hyp"):
        score(["a", "b"], [["a"], []])


def test_an_empty_reference_has_no_phoneme_error_rate():
    with pytest.raises(ValueError, match="`references` must hold at least one phoneme each"):
        phoneme_error_rate(["a", "b"], [["a"], ["b", " "]])
