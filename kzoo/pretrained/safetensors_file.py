"""Weights out of safetensors files, one or several with an index beside them."""

import json
from pathlib import Path

import ml_dtypes  # noqa: F401 (gives NumPy bfloat16; TensorFlow and Keras install it)

from kzoo.pretrained.weights import Weights


def read(path):
    """The weights of a safetensors file; each is read when it is asked for.

    Args:
        path: of `model.safetensors`, or of `model.safetensors.index.json`, which names the files
            beside it that hold the parts.

    Returns:
        Weights.

    Raises:
        FileNotFoundError: a file is missing.
        ImportError: the safetensors package is missing.
        ValueError: a file is cut off or none of this format, or lacks what the index promises.
    """
    path = Path(path)
    if not path.name.endswith(".index.json"):
        return Weights(path, _readers(path))
    try:
        places = json.loads(path.read_bytes())["weight_map"]
        files = {name: _readers(path.with_name(Path(name).name)) for name in {*places.values()}}
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} must be an index of safetensors, a JSON object with a weight_map, got {error}."
        ) from error
    for name, file in places.items():
        if name not in files[file]:
            raise ValueError(f"{path.with_name(file)} must hold the weight {name!r}, got none.")
    return Weights(path, {name: files[file][name] for name, file in places.items()})


def _readers(path):
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "safetensors files need the safetensors package: pip install kzoo[pretrained]"
        ) from error
    path.open("rb").close()  # an OSError that names the file
    try:
        file = safetensors.safe_open(path, framework="numpy")
        names = list(file.keys())
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} must be a whole safetensors file, got {path.stat().st_size:,} bytes: {error}."
        ) from error
    return {name: lambda name=name: file.get_tensor(name) for name in names}
