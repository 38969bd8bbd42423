"""Ragged = padded."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_calls import assert_equal, call, inputs_of, real_steps
from layer_table import CASES, LENGTHS, MASK, B, D, T, U, embed, of_ragged_input

from kzoo.layers.attention import BahdanauAttention
from kzoo.layers.positions import SinusoidalPositions


@of_ragged_input
def test_ragged_equals_padded(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    ragged = {key: x for key, x in values.items() if key != case.mask}
    ragged[case.padded] = tf.RaggedTensor.from_tensor(values[case.padded], LENGTHS)
    assert_equal(real_steps(case, call(layer, ragged)), real_steps(case, expected))


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.ragged and c.padded != "memory"])
def test_what_becomes_of_a_ragged_input_carries_its_mask_for_keras(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    ragged = {key: x for key, x in values.items() if key != case.mask}
    ragged[case.padded] = tf.RaggedTensor.from_tensor(values[case.padded], LENGTHS)
    first, *others = call(layer, ragged)
    masks = [x for x in others if x.dtype == tf.bool]  # an encoder returns the mask, too
    np.testing.assert_array_equal(first._keras_mask, masks[0] if masks else MASK)


def test_attention_finds_the_padding_of_ids_through_embedding_and_positions():
    embedding, positions, attention = embed(), SinusoidalPositions(), BahdanauAttention(U)
    ids = keras.Input((None,), dtype="int32", ragged=True)
    query = keras.Input((T, D))
    _, weights = attention(query, positions(embedding(ids)))
    model = keras.Model([query, ids], weights)
    sources = tf.ragged.constant([[4, 5, 6, 7, 8], [9, 3, 2]], dtype=tf.int32)
    found = model([tf.ones((B, T, D)), sources])
    np.testing.assert_array_equal(found[1, :, 3:], np.zeros((T, 2)))
    np.testing.assert_allclose(model([tf.ones((B, T, D)), sources.to_tensor()]), found, atol=1e-6)


@of_ragged_input
def test_a_functional_model_takes_a_ragged_input(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    given = {key: tf.constant(x) for key, x in values.items() if key != case.mask}
    inputs = {
        key: keras.Input(
            (None, *x.shape[2:]), dtype=x.dtype.name, name=key, ragged=key == case.padded
        )
        for key, x in given.items()
    }
    outputs = tf.nest.flatten(layer(**inputs))
    model = keras.Model(inputs, {f"output_{i}": x for i, x in enumerate(outputs)})
    given[case.padded] = tf.RaggedTensor.from_tensor(values[case.padded], LENGTHS)
    answer = tf.function(model)(given)
    assert_equal(real_steps(case, answer.values()), real_steps(case, expected))
