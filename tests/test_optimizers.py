"""The warm-up schedule against values worked out by hand."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.optimizers import FusedAdam, InverseSquareRoot


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


def trained(optimizer, steps=4):
    """A variable after some steps on gradients that are the same for every optimizer."""
    variable = keras.Variable(np.linspace(-1, 1, 15, dtype="float32").reshape(3, 5))
    optimizer.build([variable])
    rng = np.random.default_rng(2)
    for _ in range(steps):
        optimizer.apply([tf.constant(rng.normal(size=(3, 5)), tf.float32)], [variable])
    return variable.numpy()


def test_fused_adam_takes_the_steps_of_adam():
    options = {"beta_2": 0.98, "epsilon": 1e-6, "global_clipnorm": 1.0}
    ours = trained(FusedAdam(InverseSquareRoot(0.1, 3), **options))
    keras_own = trained(keras.optimizers.Adam(InverseSquareRoot(0.1, 3), **options))
    np.testing.assert_allclose(ours, keras_own, atol=1e-6)
    assert np.abs(ours - trained(FusedAdam(0.01), steps=0)).max() > 0.1


def test_fused_adam_with_amsgrad_is_keras_own():
    ours = trained(FusedAdam(0.1, amsgrad=True))
    np.testing.assert_array_equal(ours, trained(keras.optimizers.Adam(0.1, amsgrad=True)))


def test_fused_adam_comes_back_from_its_config():
    config = keras.saving.serialize_keras_object(FusedAdam(0.1, beta_1=0.7))
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, FusedAdam)
    assert again.beta_1 == 0.7
