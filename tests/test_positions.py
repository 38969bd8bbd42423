"""Sinusoidal and learned positions."""

import re

import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.positions import LearnedPositions, SinusoidalPositions, sinusoidal

B, T, D = 2, 5, 7


def test_sinusoidal_has_the_known_values_at_positions_0_and_3():
    encoding = sinusoidal([0, 3], 6)
    known = [[0, 1, 0, 1, 0, 1], [0.14112, -0.98999, 0.13880, 0.99032, 0.00646, 0.99998]]
    np.testing.assert_allclose(encoding, known, atol=1e-5)


@pytest.mark.parametrize("depth", [6, 7])
def test_sinusoidal_equals_its_equation_at_even_and_odd_depth(depth):
    positions = np.array([0, 2, 11])
    expected = np.zeros((3, depth))
    for feature in range(depth):
        angle = positions / 10000 ** ((feature - feature % 2) / depth)
        expected[:, feature] = np.cos(angle) if feature % 2 else np.sin(angle)
    np.testing.assert_allclose(sinusoidal(positions, depth), expected, atol=1e-6)


def test_sinusoidal_positions_are_added_to_the_input():
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    y = SinusoidalPositions()(x)
    np.testing.assert_allclose(y - x, np.stack([sinusoidal(np.arange(T), D)] * B), atol=1e-6)


def test_learned_positions_are_the_rows_of_the_table():
    layer = LearnedPositions(11)
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    y = layer(x, start=3)
    np.testing.assert_allclose(y - x, np.stack([layer.table[3 : 3 + T]] * B), atol=1e-6)


def test_learned_positions_past_the_table_get_its_last_row():
    layer = LearnedPositions(3)
    y = layer(np.zeros((B, T, D), "float32"))
    np.testing.assert_array_equal(y[0], layer.table.numpy()[[0, 1, 2, 2, 2]])


@pytest.mark.parametrize("layer", [SinusoidalPositions(), LearnedPositions(11)])
def test_single_steps_with_start_equal_the_whole(layer):
    x = tf.random.normal((B, T, D))
    whole = layer(x)
    steps = [layer(x[:, t : t + 1], start=tf.constant(t)) for t in range(T)]
    np.testing.assert_allclose(tf.concat(steps, 1), whole, atol=1e-6)


def test_a_table_without_rows_is_refused():
    with pytest.raises(
        ValueError, match=re.escape("`max_length` must be at least 1, got max_length=0.")
    ):
        LearnedPositions(0)
