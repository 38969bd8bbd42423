"""The warm-up schedule against values worked out by hand."""

import re

import keras
import numpy as np
import pytest

from kzoo.optimizers import InverseSquareRoot


@pytest.mark.parametrize(
    ("step", "share_of_peak"),
    [
        (0, 1 / 4),
        (1, 2 / 4),
        (2, 3 / 4),
        (3, 1),  # n = 4, the end of the warm-up
        (4, (4 / 5) ** 0.5),
        (15, 1 / 2),  # four times as far: half the rate
        (63, 1 / 4),
    ],
)
def test_the_rate_rises_linearly_and_falls_with_the_square_root(step, share_of_peak):
    np.testing.assert_allclose(InverseSquareRoot(0.5, 4)(step), 0.5 * share_of_peak, rtol=1e-6)


def test_it_is_the_schedule_of_the_paper():
    units, warmup = 512, 4000
    schedule = InverseSquareRoot((units * warmup) ** -0.5, warmup)
    for n in (1, 100, 4000, 100_000):
        expected = units**-0.5 * min(n**-0.5, n * warmup**-1.5)  # Vaswani et al., equation 3
        np.testing.assert_allclose(schedule(n - 1), expected, rtol=1e-5)


def test_it_comes_back_from_its_config_and_with_its_optimizer():
    schedule = InverseSquareRoot(peak=0.3, warmup_steps=7)
    assert schedule.get_config() == {"peak": 0.3, "warmup_steps": 7}
    optimizer = keras.optimizers.deserialize(
        keras.optimizers.serialize(keras.optimizers.SGD(schedule))
    )
    optimizer.build([keras.Variable(1.0)])
    optimizer.iterations.assign(13)
    np.testing.assert_allclose(optimizer.learning_rate, schedule(13))


@pytest.mark.parametrize(("peak", "warmup_steps"), [(0, 7), (-0.1, 7), (0.3, 0)])
def test_a_peak_or_warm_up_that_is_not_positive_is_refused(peak, warmup_steps):
    message = (
        "`peak` must be positive and `warmup_steps` at least 1, "
        f"got peak={peak}, warmup_steps={warmup_steps}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        InverseSquareRoot(peak, warmup_steps)
