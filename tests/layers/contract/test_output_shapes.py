"""Layers that keep a sequence's shape say so before they are called, as wrappers of Keras ask."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_calls import call, inputs_of
from layer_table import CASES

NAMES = [
    *("SinusoidalPositions", "LearnedPositions", "TokenEmbedding", "VocabularyHead", "LengthHead"),
    "Copier",
    *("Residual", "FeedForward", "TransformerEncoderBlock", "TransformerDecoderBlock"),
    *("ConformerBlock", "SpecAugment", "VocalTractPerturbation"),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_shape_is_known_before_a_call(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    values.pop(CASES[name].mask, None)
    found = layer.compute_output_shape(*(x.shape for x in values.values()))
    found = [found] if name != "TransformerDecoderBlock" else found
    assert list(found) == [tuple(x.shape) for x in call(layer, values)]


@pytest.mark.parametrize("name", ["TransformerEncoderBlock", "FeedForward", "SinusoidalPositions"])
def test_a_layer_can_be_distributed_over_time(name):
    layer = CASES[name].make()
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype("float32")
    found = keras.layers.TimeDistributed(layer)(x)
    np.testing.assert_allclose(found[:, 1], layer(x[:, 1]), atol=1e-5)


@pytest.mark.parametrize("name", ["SinusoidalPositions", "LearnedPositions"])
def test_positions_are_those_of_the_last_axis_but_one(name):
    layer = CASES[name].make()
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype("float32")
    np.testing.assert_allclose(layer(x)[:, 1], layer(tf.constant(x[:, 1])), atol=1e-6)


def test_a_decoder_block_without_a_memory_is_one_of_a_language_model():
    block = CASES["TransformerDecoderBlock"].make()
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    y, weights = block(x)
    assert weights.shape == (2, block.num_heads, 5, 0)
    # Causal self-attention and the feed-forward network are all there is.
    np.testing.assert_allclose(block(x[:, :3])[0], y[:, :3], atol=1e-5)
    z = block.self_frame.enter(x)
    expected = block.self_frame(x, block.self_attention(z, z, causal=True)[0])
    z = block.feed_forward_frame.enter(expected)
    expected = block.feed_forward_frame(expected, block.feed_forward(z))
    np.testing.assert_allclose(y, expected, atol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block(x)[0] ** 2)
    assert all(g is not None for g in tape.gradient(loss, block.trainable_variables))
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, block(inputs)[0])
    np.testing.assert_allclose(model(x), y, atol=1e-5)
