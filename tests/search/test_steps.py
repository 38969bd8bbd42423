"""Several step functions as one."""

import re

import numpy as np
import pytest
import tensorflow as tf
from scripted import SOURCE_STEPS, Script

from kzoo.search import beam_search, ensemble_step, greedy_search

V, L = 5, 4


def together(scripts):
    """A script whose table is the mean of the scripts' probabilities."""
    mean = Script(0, 3, V, L)
    p = [np.exp(x.logits) / np.exp(x.logits).sum(-1, keepdims=True) for x in scripts]
    with np.errstate(divide="ignore"):
        mean.logits = np.log(np.mean(p, axis=0, dtype=np.float64)).astype(np.float32)
    mean.weights = np.mean([x.weights for x in scripts], axis=0)
    return mean


@pytest.mark.parametrize("impossible", [0.0, 0.3])
def test_an_ensemble_has_the_mean_of_the_probabilities_and_of_the_weights(impossible):
    scripts = [Script(seed, 3, V, L, impossible) for seed in (1, 2, 3)]
    for script in scripts:
        script.logits[:, :, 0] = 0  # never are all tokens impossible
    step = ensemble_step([script.step for script in scripts])
    state = tuple(script.state() for script in scripts)
    options = {"end_id": 2, "beam_size": 3, "max_length": L, "length_penalty": 0.6}
    found = beam_search(step, state, scripts[0].start_ids, **options)
    for left, right in zip(found, together(scripts).run(beam_search, **options), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_a_model_with_itself_is_that_model():
    script = Script(4, 3, V, L)
    step = ensemble_step([script.step, script.step])
    state = (script.state(), script.state())
    found = greedy_search(step, state, script.start_ids, end_id=1, max_length=L)
    for left, right in zip(found, script.search(1), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def logits_step(logits, *weights):
    return lambda ids, state, position: (tf.constant(logits), *weights, state)


def test_weights_that_do_not_fit_are_left_out():
    logits = [[0.0, 1.0]]
    fitting, other = tf.ones([1, SOURCE_STEPS]), tf.ones([1, 3])
    for weights, count in (
        ([(fitting,), (fitting,)], 3),
        ([(fitting,), (other,)], 2),
        ([(), (fitting,)], 2),
        ([(), ()], 2),
    ):
        step = ensemble_step([logits_step(logits, *each) for each in weights])
        assert len(step([1], ((), ()), 0)) == count


def test_a_step_without_any_possible_token_adds_nothing():
    step = ensemble_step([logits_step([[-np.inf, -np.inf]]), logits_step([[0.0, 0.0]])])
    np.testing.assert_allclose(tf.exp(step([1], ((), ()), 0)[0]), [[0.25, 0.25]], rtol=1e-6)


def test_a_bad_ensemble_is_refused():
    with pytest.raises(ValueError, match=re.escape("`steps` must hold at least one")):
        ensemble_step([])
    step = ensemble_step([logits_step([[0.0, 1.0]]), logits_step([[0.0, 1.0, 2.0]])])
    message = "`steps` must have one vocabulary, got the sizes [2, 3]."
    with pytest.raises(ValueError, match=re.escape(message)):
        step([1], ((), ()), 0)
