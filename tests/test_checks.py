"""Every sentence of `checks`, and that what keeps the rule passes."""

import math

import numpy as np
import pytest

from kzoo import checks


@pytest.mark.parametrize(
    ("check", "good", "bad", "sentence"),
    [
        (lambda v: checks.at_least(2, units=v), 2, 1, "`units` must be at least 2, got units=1."),
        (
            lambda v: checks.at_least(1, a=v, b=3),
            1,
            0,
            "`a` and `b` must be at least 1, got a=0, b=3.",
        ),
        (
            lambda v: checks.integer(0, k=v),
            0,
            0.5,
            "`k` must be an integer of at least 0, got k=0.5.",
        ),
        (
            lambda v: checks.integer(3, k=v),
            3,
            2,
            "`k` must be an integer of at least 3, got k=2.",
        ),
        (lambda v: checks.not_negative(x=v), 0, -1, "`x` must not be negative, got x=-1."),
        (
            lambda v: checks.finite_not_negative(x=v),
            0.0,
            math.inf,
            "`x` must be finite and not negative, got x=inf.",
        ),
        (
            lambda v: checks.finite_positive(x=v),
            0.1,
            math.nan,
            "`x` must be finite and positive, got x=nan.",
        ),
        (lambda v: checks.share(dropout=v), 0.0, 1, "`dropout` must lie in [0, 1), got dropout=1."),
        (lambda v: checks.fraction(w=v), 1, 1.5, "`w` must lie in [0, 1], got w=1.5."),
        (
            lambda v: checks.one_of(("lstm", "gru", "simple"), cell=v),
            "gru",
            "x",
            '`cell` must be "lstm", "gru" or "simple", got cell=\'x\'.',
        ),
        (
            lambda v: checks.require(v, "must divide beam_size", groups=2, beam_size=5),
            True,
            False,
            "`groups` and `beam_size` must divide beam_size, got groups=2, beam_size=5.",
        ),
    ],
)
def test_a_value_that_breaks_a_rule_is_named_with_the_rule(check, good, bad, sentence):
    check(good)
    with pytest.raises(ValueError) as error:
        check(bad)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ([[1, 2], [3]], "`ids` must be an array or a tensor, got a list; rows of unequal"),
        (np.zeros(3), r"`ids` must have the axes \(batch, steps\) at least, got shape \(3,\)."),
    ],
)
def test_a_sequence_has_rows_and_steps(bad, sentence):
    checks.sequence(ids=np.zeros((2, 3)), frames=np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=sentence):
        checks.sequence(ids=bad)
