"""Extractive targets: the run of words that is nearest to a summary."""

import itertools
import random
import re
from collections import Counter

import pytest

from recipes.data import spans
from recipes.data.examples import Pairs
from recipes.data.splits import Splits


def f1(run, summary):
    a, b = (Counter(re.findall(r"\w+", text.lower())) for text in (run, summary))
    return 2 * (a & b).total() / max(a.total() + b.total(), 1)


def test_no_other_run_is_nearer():
    rng, known = random.Random(3), ["One", "two,", "THREE.", "four", "five-six", "SEVEN", "eight"]
    for _ in range(40):
        words = [rng.choice(known) for _ in range(17)]
        summary = " ".join(rng.choices(words, k=3)).lower()
        runs = [
            " ".join(words[start:end])
            for start, end in itertools.combinations(range(len(words) + 1), 2)
            if spans.LEAST <= end - start <= spans.MOST
        ]
        found = spans.nearest_run(" ".join(words), summary)
        assert found in runs
        assert f1(found, summary) == pytest.approx(max(f1(run, summary) for run in runs))


def test_the_first_of_equals_is_taken_and_none_if_none_is_near():
    document = "a meeting on Monday morning, then b c d, a meeting on Monday"
    assert spans.nearest_run(document, "Meeting on MONDAY!") == "a meeting on Monday"
    assert spans.nearest_run(document, "something else altogether") is None
    assert spans.nearest_run("too short here", "too short here") is None
    assert spans.nearest_run("", "") is None
    assert spans.nearest_run("x " * spans.READ + "far away from here", "far away from here") is None


def test_only_training_summaries_are_replaced(capsys):
    train, valid = Pairs(), Pairs()
    train.add("Dear all, please see the new price list of today", "New price list", "g", place="a")
    train.add("one two three four five six seven eight nine ten", "nothing of it", "h")
    valid.add("Dear all, please see the new price list of today", "New price list", "i")
    train.skipped["empty side"] = 2
    splits = spans.extractive(Splits(train, valid, None))
    assert splits.train.target == [
        "the new price list",
        "one two three four five six seven eight nine",
    ]
    assert (splits.train.source, splits.train.groups) == (train.source, ["g", "h"])
    assert splits.train.places == ["a", ""] and splits.train.skipped == {"empty side": 2}
    assert splits.valid is valid
    assert "2 summaries are runs of 4 to 9 words" in capsys.readouterr().out
