"""Dropout: what share is kept, what is drawn again, and when."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.dropout import Dropout

SIZE = (101, 999)  # no multiple of 4 numbers


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_drops_its_share_and_keeps_the_mean(rate, dtype):
    y = Dropout(rate, seed=3, dtype=dtype)(tf.ones(SIZE, dtype), training=True)
    y = tf.cast(y, tf.float64).numpy()
    share = (y == 0).mean()
    deviation = np.sqrt(rate * (1 - rate) / y.size)
    assert abs(share - rate) < 5 * deviation
    kept = y[y != 0]
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=0.004 if dtype == "bfloat16" else 1e-4)
    # Neighbours, which come of one draw of 64 bits, know nothing of each other.
    dropped = (y == 0).ravel()
    for distance in (1, 2, 3, 4):
        both = (dropped[:-distance] & dropped[distance:]).mean()
        assert abs(both - rate**2) < 0.01


def test_the_gradient_is_zero_where_the_number_was_dropped():
    x = tf.random.stateless_normal((8, 9), (0, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = Dropout(0.5, seed=1)(x, training=True)
    np.testing.assert_array_equal(tape.gradient(y, x), np.where(y == 0, 0.0, 2.0))


def test_draws_anew_at_each_call_and_again_from_the_same_seed():
    layer, again = Dropout(0.5, seed=1), Dropout(0.5, seed=1)
    first, second = (layer(tf.ones(SIZE), training=True) for _ in range(2))
    assert (first.numpy() != second.numpy()).any()
    np.testing.assert_array_equal(again(tf.ones(SIZE), training=True), first)
    state = layer.seed_generator.state.numpy()
    third = layer(tf.ones(SIZE), training=True)
    layer.seed_generator.state.assign(state)  # as a checkpoint puts it back
    np.testing.assert_array_equal(layer(tf.ones(SIZE), training=True), third)


def test_leaves_all_as_it_is_out_of_training_and_at_rate_0():
    x = tf.random.stateless_normal((3, 4), (0, 1))
    for layer, training in ((Dropout(0.5), False), (Dropout(0.0), True)):
        np.testing.assert_array_equal(layer(x, training=training), x)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph_with_unknown_sizes(jit_compile):
    layer = Dropout(0.25, seed=2)
    function = tf.function(
        lambda x: layer(x, training=True), [tf.TensorSpec((None, None))], jit_compile=jit_compile
    )
    y = function(tf.ones(SIZE)).numpy()
    assert abs((y == 0).mean() - 0.25) < 0.01 and y.shape == SIZE
    assert (function(tf.ones(SIZE)).numpy() != y).any()


def test_an_infinite_number_that_is_dropped_is_0():
    y = Dropout(0.5, seed=1)(tf.fill((100,), np.inf), training=True).numpy()
    assert set(y) == {0.0, np.inf}


@pytest.mark.parametrize("rate", [1e-6, 1.0])
def test_a_rate_next_to_0_or_1_is_kerass(rate):
    y = Dropout(rate, seed=1)(tf.ones((100,)), training=True)
    np.testing.assert_allclose(y, 1 - round(rate), rtol=1e-4)


def test_is_kerass_layer_for_those_who_look():
    layer = Dropout(0.3, (None, 1), seed=5, name="drop")
    assert isinstance(layer, keras.layers.Dropout)
    again = Dropout.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    y = layer(tf.ones((8, 9)), training=True).numpy()
    assert (y == y[:, :1]).all() and {0.0} < set(y[:, 0])
