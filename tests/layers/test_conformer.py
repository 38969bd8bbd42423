"""The equations of the Conformer in numpy; what every layer can do is in layers/contract."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers import conformer
from kzoo.layers.conformer import ConformerBlock, ConformerEncoder, ConvolutionModule

B, S, D, WIDTH = 2, 7, 8, 3


def layer_norm(x):
    x = np.asarray(x)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def random_input():
    return np.random.default_rng(0).normal(size=(B, S, D)).astype("float32")


def test_the_convolution_module_is_its_equation():
    module, x = ConvolutionModule(WIDTH), random_input()
    mask = np.arange(S) < np.array([[7], [4]])
    answer = module(x, mask=tf.constant(mask)).numpy()
    w_1, b_1 = (weight.numpy() for weight in module.gate.weights)
    w_2, b_2 = (weight.numpy() for weight in module.mixture.weights)
    values, gates = np.split(x @ w_1 + b_1, 2, axis=-1)
    gated = np.where(mask[..., None], values * sigmoid(gates), 0)
    padded = np.pad(gated, [(0, 0), (1, 1), (0, 0)])
    y = sum(padded[:, i : i + S] * module.kernel.numpy()[i] for i in range(WIDTH))
    y = layer_norm(y)
    np.testing.assert_allclose(answer, (y * sigmoid(y)) @ w_2 + b_2, atol=1e-5)


def test_the_block_is_four_parts_of_which_the_outer_count_half():
    block, x = ConformerBlock(num_heads=2, hidden_units=11, width=WIDTH), random_input()
    answer = block(x)
    y = x + 0.5 * block.feed_forwards[0](layer_norm(x))
    y = y + block.attention(layer_norm(y), layer_norm(y))[0]
    y = y + block.convolution(layer_norm(y))
    y = y + 0.5 * block.feed_forwards[1](layer_norm(y))
    np.testing.assert_allclose(answer, layer_norm(y), atol=1e-5)


def test_the_encoder_knows_the_order_of_its_steps():
    encoder = ConformerEncoder(keras.layers.Dense(D), 1, num_heads=2, hidden_units=11, width=1)
    x = random_input()
    memory, _ = encoder(x)
    backward, _ = encoder(x[:, ::-1].copy())
    assert np.abs(memory - backward[:, ::-1]).max() > 1e-3


def test_wrong_sizes_are_refused_by_name():
    for width in (0, 4):
        with pytest.raises(ValueError, match="`width` must be odd and positive, got width="):
            ConformerBlock(2, 11, width=width)
    with pytest.raises(ValueError, match="must be a multiple of `num_heads`, got 7 features"):
        ConformerBlock(4, 11)(tf.zeros((1, 2, 7)))
    with pytest.raises(ValueError, match="`num_layers` must be at least 1, got num_layers=0"):
        ConformerEncoder(keras.layers.Dense(D), 0, 2, 11)


@pytest.mark.parametrize(
    "sizes", [(2, 7, 5, 3), (3, 1, 2, 31), (2, 290, 4, 31), (1, 0, 3, 5), (2, 9, 3, 1)]
)
def test_features_are_convolved_as_their_equation_says_at_any_length(sizes):
    rows, steps, features, width = sizes
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, steps, features)).astype("float32")
    kernel = random.normal(size=(width, features)).astype("float32")
    padded = np.pad(x, ((0, 0), (width // 2, width // 2), (0, 0)))
    expected = sum(padded[:, k : k + steps] * kernel[k] for k in range(width))
    found = conformer.convolve_features(tf.constant(x), tf.constant(kernel))
    np.testing.assert_allclose(found, expected, atol=1e-4)
