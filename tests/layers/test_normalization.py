"""Layer normalisation against PyTorch's, and its gradient against differences in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.dropout import Dropout
from kzoo.layers.normalization import LayerNormalization

SHAPE = (3, 5, 7)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    x, upstream = (rng.normal(size=SHAPE).astype("float32") for _ in range(2))
    gamma, beta = (rng.normal(size=SHAPE[-1:]).astype("float32") for _ in range(2))
    return 3 * x + 2, gamma, beta, upstream


def layer_of(gamma, beta, dtype="float32"):
    layer = LayerNormalization(epsilon=1e-5, dtype=dtype)
    layer.build((None, len(gamma)))
    layer.set_weights([gamma, beta])
    return layer


def step(layer, x, upstream, training=True):
    """The output, and the gradients of x, gamma and beta."""
    x = tf.cast(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
    weights = [weight.value for weight in layer.trainable_weights]
    return y, *tape.gradient(y, [x, *weights], tf.cast(upstream, y.dtype))


def test_equals_pytorch(arrays):
    torch = pytest.importorskip("torch")
    x, gamma, beta, upstream = arrays
    inputs = [torch.tensor(each, requires_grad=True) for each in (x, gamma, beta)]
    y = torch.nn.functional.layer_norm(inputs[0], SHAPE[-1:], *inputs[1:], eps=1e-5)
    y.backward(torch.tensor(upstream))
    expected = [y.detach(), *(each.grad for each in inputs)]
    for ours, theirs in zip(step(layer_of(gamma, beta), x, upstream), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "bfloat16", "mixed_bfloat16", "mixed_float16"]
)
def test_equals_kerass_layer_and_gradient(arrays, dtype):
    x, gamma, beta, upstream = arrays
    ours = step(layer_of(gamma, beta, dtype), x, upstream)
    other = keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype)
    other.build((None, SHAPE[-1]))
    other.set_weights([gamma, beta])
    tolerance = {"float32": 1e-5, "float64": 1e-12}.get(dtype, 0.02)
    for own, expected in zip(ours, step(other, x, upstream), strict=True):
        assert own.dtype == expected.dtype
        own, expected = (tf.cast(each, tf.float64) for each in (own, expected))
        np.testing.assert_allclose(own, expected, rtol=tolerance, atol=tolerance)


def test_numbers_far_from_zero_keep_their_digits(arrays):
    x, gamma, beta, upstream = arrays
    wide = x.astype("float64") + 1000
    centred = wide - wide.mean(-1, keepdims=True)
    expected = gamma * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + beta
    y = step(layer_of(gamma, beta), x + 1000, upstream)[0]
    np.testing.assert_allclose(y, expected, atol=1e-3)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph_with_unknown_sizes_and_out_of_training(arrays, jit_compile):
    x, gamma, beta, upstream = arrays
    layer = layer_of(gamma, beta)
    spec = tf.TensorSpec((None, None, SHAPE[-1]))
    function = tf.function(
        lambda x, upstream: step(layer, x, upstream), [spec, spec], jit_compile=jit_compile
    )
    eager = step(layer, x, upstream)
    for found in (function(x, upstream), step(layer, x, upstream, training=False)):
        for each, expected in zip(found, eager, strict=True):
            np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-5)


def test_a_single_feature_and_no_row():
    layer = layer_of(np.ones(1, "float32"), np.full(1, 2, "float32"))
    y, gradient, *_ = step(layer, np.array([[5.0]]), np.ones((1, 1)))
    assert y.numpy() == 2 and gradient.numpy() == 0
    assert step(layer, np.zeros((0, 4, 1)), np.zeros((0, 4, 1)))[0].shape == (0, 4, 1)


@pytest.mark.parametrize(
    "options", [{"axis": 1}, {"axis": [1, 2]}, {"scale": False}, {"center": False}, {"axis": 2}]
)
def test_other_arguments_mean_what_they_mean_to_keras(arrays, options):
    x, *_, upstream = arrays
    layers = LayerNormalization(**options), keras.layers.LayerNormalization(**options)
    for layer in layers:
        layer.build(SHAPE)
    ours, theirs = (step(layer, x, upstream) for layer in layers)
    for own, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-5)


def test_a_frozen_layer_and_a_saved_functional_model(arrays, tmp_path):
    x, gamma, beta, upstream = arrays
    layer = layer_of(gamma, beta)
    layer.trainable = False
    np.testing.assert_allclose(
        step(layer, x, upstream)[1], step(layer_of(gamma, beta), x, upstream)[1], rtol=1e-6
    )
    inputs = keras.Input(SHAPE[1:])
    model = keras.Model(inputs, Dropout(0.5, seed=1)(layer(inputs)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [type(each) for each in loaded.layers[1:]] == [LayerNormalization, Dropout]
    np.testing.assert_array_equal(loaded(x), model(x))
    np.testing.assert_array_equal(loaded(x, training=True), model(x, training=True))
