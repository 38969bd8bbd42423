"""Networks for pictures: EfficientNet-Lite0 beside PyTorch and on photographs, shapes, errors."""

import io
import warnings

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from kzoo import image, torch_file
from kzoo.image import backbones
from kzoo.layers.regions import RegionEncoder
from kzoo.layers.transformer import TransformerEncoder
from recipes.data.weights import efficientnet_lite0_wheel, torch_content

STAGES = [(3, 1, 16, 1), (3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3),
          (5, 2, 192, 4), (3, 1, 320, 1)]  # fmt: skip


@pytest.fixture(scope="module")
def content():
    try:
        return torch_content(efficientnet_lite0_wheel())
    except RuntimeError as error:
        pytest.skip(f"the weights cannot be had: {error}")


@pytest.fixture(scope="module")
def weights(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "lite0.weights.h5"
    backbones.convert_efficientnet_lite0(torch_file.read(content), path)
    return path


@pytest.fixture(scope="module")
def classifier(weights):
    return backbones.efficientnet_lite0(weights=weights, include_top=True)


def in_torch(content, pixels):
    """Logits by PyTorch's own reader and convolutions."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = torch.load(io.BytesIO(content), weights_only=True)

    def convolved(x, name, norm, stride=1, groups=1):
        kernel = tensors[f"{name}.weight"]
        missing = [
            max((-(-size // stride) - 1) * stride + kernel.shape[2] - size, 0)
            for size in (x.shape[3], x.shape[2])
        ]
        x = functional.pad(x, [part for m in missing for part in (m // 2, m - m // 2)])
        x = functional.conv2d(x, kernel, stride=stride, groups=groups)
        statistics = [tensors[f"{norm}.{kind}"] for kind in ("running_mean", "running_var")]
        parameters = [tensors[f"{norm}.{kind}"] for kind in ("weight", "bias")]
        return functional.batch_norm(x, *statistics, *parameters, eps=1e-3)

    x = torch.from_numpy((pixels.transpose(0, 3, 1, 2) - 127) / 128)
    x = functional.relu6(convolved(x, "_conv_stem", "_bn0", 2))
    number = 0
    for _, first_stride, channels, blocks in STAGES:
        for index in range(blocks):
            name, stride = f"_blocks.{number}", 1 if index else first_stride
            y = x
            if f"{name}._expand_conv.weight" in tensors:
                y = functional.relu6(convolved(y, f"{name}._expand_conv", f"{name}._bn0"))
            y = convolved(y, f"{name}._depthwise_conv", f"{name}._bn1", stride, y.shape[1])
            y = convolved(functional.relu6(y), f"{name}._project_conv", f"{name}._bn2")
            x = x + y if index else y
            assert x.shape[1] == channels
            number += 1
    x = functional.relu6(convolved(x, "_conv_head", "_bn1")).mean((2, 3))
    return functional.linear(x, tensors["_fc.weight"], tensors["_fc.bias"]).numpy()


def photograph(name):
    data = pytest.importorskip("skimage.data", reason="photographs come with scikit-image")
    stream = io.BytesIO()
    PIL.Image.fromarray(getattr(data, name)()).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def test_the_logits_are_those_of_pytorch(content, classifier):
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 224, 224, 3)).astype("float32")
    pixels[1] = np.mgrid[:224, :224][0][:, :, None]
    expected = in_torch(content, pixels)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(classifier(pixels), expected, atol=1e-4)


@pytest.mark.parametrize(("name", "label"), [("coffee", 967), ("chelsea", 285)])
def test_a_photograph_of_scikit_image_is_put_into_its_class(classifier, name, label):
    pixels = image.decode_batch([photograph(name)], 224)
    found = tf.nn.softmax(classifier(pixels))[0].numpy()
    assert found.argmax() == label and found.max() > 0.5  # espresso, Egyptian cat


def test_the_features_are_what_the_logits_are_made_from(classifier, weights):
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    features = backbones.efficientnet_lite0(weights=weights)(pixels)
    assert features.shape == (2, 7, 7, 1280)
    logits = classifier.get_layer("logits")(tf.reduce_mean(features, (1, 2)))
    np.testing.assert_allclose(logits, classifier(pixels), atol=1e-4)


def test_weights_that_do_not_fit_are_refused_by_name(content, tmp_path):
    tensors, path = torch_file.read(content), tmp_path / "bad.weights.h5"
    with pytest.raises(ValueError, match=r"got also \['more'\]"):
        backbones.convert_efficientnet_lite0(tensors | {"more": np.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"for \(3, 3, 3, 32\), got \(3, 3, 3, 5\)"):
        tensors["_conv_stem.weight"] = np.zeros((5, 3, 3, 3))
        backbones.convert_efficientnet_lite0(tensors, path)
    del tensors["_conv_stem.weight"]
    with pytest.raises(ValueError, match=r"must hold _conv_stem\.weight, but there is none"):
        backbones.convert_efficientnet_lite0(tensors, path)
    assert not path.exists()


def test_lite0_has_as_many_parameters_as_its_table():
    expected, channels = 27 * 32 + 4 * 32, 32  # the stem; a norm has 4 numbers a channel
    for index, (kernel, _, out, blocks) in enumerate(STAGES):
        for _ in range(blocks):
            inner = channels * (6 if index else 1)
            expected += (channels * inner + 4 * inner) if index else 0
            expected += kernel**2 * inner + 4 * inner + inner * out + 4 * out
            channels = out
    expected += 320 * 1280 + 4 * 1280
    assert backbones.efficientnet_lite0(96).count_params() == expected
    top = backbones.efficientnet_lite0(96, include_top=True)
    assert top.count_params() == expected + 1280 * 1000 + 1000


def test_a_small_resnet_halves_the_sides_and_adds_what_came_in():
    network = backbones.small_resnet(size=48, widths=(5, 7, 11), blocks=2)
    pixels = np.random.default_rng(2).uniform(0, 255, (2, 48, 48, 3)).astype("float32")
    assert network(pixels).shape == (2, 6, 6, 11)
    assert len(network.trainable_weights) == 3 * (1 + 2 * 6 + 2)  # V where the shape changes, twice
    for layer in network.layers:  # without their convolutions, blocks pass on what they got
        if layer.name.endswith("_2_norm"):
            layer.gamma.assign(0 * layer.gamma)
    inner = keras.Model(
        network.input,
        [network.get_layer(f"stage_0_block_{index}_out").output for index in range(2)]
        + [network.get_layer("stem_relu").output],
    )
    first, second, stem = inner(pixels)
    np.testing.assert_allclose(first, stem, rtol=1e-6)
    np.testing.assert_allclose(second, stem, rtol=1e-6)


@pytest.mark.parametrize("name", ["VGG16", "MobileNetV2"])  # normalise by mean, and to [-1, 1]
def test_a_network_of_keras_has_its_own_normalisation_before_it(name):
    network = backbones.application(name, 64, weights=None)
    pixels = np.random.default_rng(3).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    expected = pixels[..., ::-1] - [103.939, 116.779, 123.68] if name == "VGG16" else None
    expected = pixels / 127.5 - 1 if expected is None else expected
    (inner,) = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    np.testing.assert_allclose(network(pixels), inner(expected), rtol=1e-3, atol=1e-4)
    again = keras.Model.from_config(network.get_config())
    again.set_weights(network.get_weights())
    np.testing.assert_allclose(again(pixels), network(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["MobileNetV3Small", "MobileNetV3Large"])
def test_a_network_that_normalises_within_itself_gets_the_pixels_as_they_are(name):
    network = backbones.application(name, 64, weights=None)
    pixels = np.random.default_rng(3).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    (inner,) = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    assert network.name == name.lower() and network.output_shape[1:3] == (2, 2)
    np.testing.assert_allclose(network(pixels), inner(pixels), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["NoNet", "MobileNetV3", "resnet50", "__doc__", ""])
def test_a_network_that_keras_does_not_have_is_refused(name):
    with pytest.raises(ValueError, match=r"must be a network of keras\.applications, got name="):
        backbones.application(name)


# The encoder.


def encoder_of(inner=None):
    return RegionEncoder(backbones.small_resnet(size=24, widths=(3, 5)), inner)


def pictures_of(rows=2):
    random = np.random.default_rng(4)
    return random.uniform(0, 255, (rows, 24, 24, 3)).astype("float32")


def test_every_place_of_the_feature_map_is_a_region_row_by_row():
    encoder = encoder_of()
    memory, memory_mask = encoder(pictures_of())
    features = encoder.backbone(pictures_of())
    assert memory.shape == (2, 36, 5) and memory_mask.numpy().all()
    np.testing.assert_allclose(memory[:, 6 * 2 + 3], features[:, 2, 3], rtol=1e-6)


@pytest.mark.parametrize("is_inner", [False, True])
def test_features_computed_before_give_what_the_pixels_give(is_inner):
    inner = None
    if is_inner:
        inner = TransformerEncoder(keras.layers.Dense(6), 1, num_heads=2, hidden_units=7)
    encoder = encoder_of(inner)
    memory, _ = encoder(pictures_of())
    again, mask = encoder(encoder.regions(pictures_of()))
    np.testing.assert_allclose(again, memory, rtol=1e-5, atol=1e-6)
    alone, _ = encoder(pictures_of()[1:])
    np.testing.assert_allclose(alone, memory[1:], rtol=1e-4, atol=1e-5)  # neighbours
    ragged = tf.RaggedTensor.from_tensor(encoder.regions(pictures_of()), [36, 20])
    part, mask = encoder(ragged)
    assert mask.numpy().sum(1).tolist() == [36, 20]
    assert (part.numpy()[1, 20:] == 0).all()
    np.testing.assert_allclose(part[0], memory[0], rtol=1e-4, atol=1e-5)


def test_a_frozen_backbone_is_not_trained_and_a_config_keeps_it_so():
    encoder = encoder_of()
    assert encoder.trainable_weights
    encoder.backbone.trainable = False
    assert encoder.trainable_weights == []
    again = RegionEncoder.from_config(encoder.get_config())
    assert again.trainable_weights == []
    before = [weight.numpy() for weight in encoder.weights]
    encoder.regions(pictures_of(), training=True)  # a frozen normalisation keeps its statistics
    for weight, value in zip(encoder.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
