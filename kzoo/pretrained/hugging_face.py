"""Folders of Hugging Face's transformers: configuration, weights, vocabulary."""

import json
from pathlib import Path

from kzoo import torch_file
from kzoo.pretrained import safetensors_file
from kzoo.pretrained.weights import Weights

# In the order in which they are preferred; an index names several files.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def read_json(path):
    """What a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    path = Path(path)
    try:
        return json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} must hold JSON: {error}.") from error


def read_weights(folder):
    """The weights of a model, from safetensors or PyTorch's files, one or several.

    Args:
        folder: of `model.safetensors`, `pytorch_model.bin`, or an index of one of these.

    Returns:
        Weights, floats as float32.

    Raises:
        FileNotFoundError: there is none of these, or a file of an index is missing.
        ImportError: the safetensors package is missing and needed.
        ValueError: a file is damaged or holds other things than weights.
    """
    folder = Path(folder)
    name = next((name for name in _WEIGHTS if (folder / name).exists()), None)
    if name is None:
        raise FileNotFoundError(f"{folder} must hold {_WEIGHTS[0]} or {_WEIGHTS[2]}, got neither.")
    if "safetensors" in name:
        return safetensors_file.read(folder / name)
    paths = [folder / name]
    if name.endswith(".index.json"):
        index = read_json(folder / name)
        paths = [folder / Path(part).name for part in sorted({*index["weight_map"].values()})]
    tensors = {key: array for path in paths for key, array in torch_file.read(path).items()}
    return Weights(
        folder / name, {key: lambda array=array: array for key, array in tensors.items()}
    )
