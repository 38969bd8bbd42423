"""LengthHead against its equation, and whether it learns a length; layers/contract has more."""

import keras
import numpy as np
import tensorflow as tf

from kzoo.layers.length import LengthHead
from kzoo.search import beam_search

MASK = np.array([[True] * 5, [True] * 2 + [False] * 3, [False] * 5])


def test_the_length_is_the_exponential_of_the_mean_times_the_source_length():
    random = np.random.default_rng(0)
    memory = random.normal(size=(3, 5, 7)).astype("float32")
    head = LengthHead()
    head(memory, memory_mask=MASK)
    kernel, bias = random.normal(size=7).astype("float32"), np.float32(0.3)
    head.set_weights([kernel, bias])
    expected = [
        5 * np.exp(memory[0].mean(0) @ kernel + bias),
        2 * np.exp(memory[1, :2].mean(0) @ kernel + bias),
        np.exp(bias),
    ]
    np.testing.assert_allclose(head(memory, memory_mask=MASK), expected, rtol=1e-5)
    memory[~MASK] = np.nan
    np.testing.assert_allclose(head(memory, memory_mask=MASK), expected, rtol=1e-5)


def test_a_mask_that_keras_carries_is_found():
    ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(11, 3, mask_zero=True)(ids)
    model = keras.Model(ids, LengthHead()(embedded))
    np.testing.assert_allclose(model(np.array([[4, 5, 6, 0], [7, 0, 0, 0]])), [3, 1])


def test_fit_learns_a_length_that_depends_on_what_the_source_says():
    # One kind of step becomes three tokens, the other kind one.
    random = np.random.default_rng(1)
    kinds = np.repeat(random.integers(0, 2, (64, 1)), 6, axis=1)
    memory, lengths = np.eye(2, dtype="float32")[kinds], np.where(kinds[:, 0], 18.0, 6.0)
    model = keras.Sequential([keras.Input((None, 2)), LengthHead()])
    model.compile(keras.optimizers.Adam(0.05), keras.losses.Poisson())
    model.fit(memory, lengths, epochs=100, verbose=0)
    np.testing.assert_allclose(model(memory), lengths, rtol=0.02)


def test_a_search_that_expects_a_length_prefers_answers_that_have_it():
    def step(ids, state, position):  # the end has .4 at every step
        return tf.math.log(tf.repeat([[0.0, 0.35, 0.4, 0.25]], len(ids), axis=0)), state

    options = {"end_id": 2, "beam_size": 4, "max_length": 9}
    expected = LengthHead()(np.ones((2, 5, 3), "float32"), memory_mask=MASK[:2])
    found = beam_search(
        step, (), [1, 1], expected_length=expected, length_deviation_penalty=9.0, **options
    )
    assert found.lengths[:, 0].numpy().tolist() == [5, 2]
    assert beam_search(step, (), [1, 1], **options).lengths[:, 0].numpy().tolist() == [0, 0]


def test_weights_in_bfloat16_as_an_export_has_them_still_count_in_float32():
    head = LengthHead(dtype="bfloat16")
    length = head(tf.ones((2, 3, 5), tf.bfloat16), memory_mask=tf.ones((2, 3), tf.bool))
    assert head.kernel.dtype == "bfloat16"
    np.testing.assert_array_equal(tf.cast(length, tf.float32), [3.0, 3.0])
