"""Weights out of `model.bin`, the file of CTranslate2.

After a version come the name of the specification with its revision, variables (name, shape, type,
data) and aliases (a name and that of the variable it stands for). All numbers are little-endian;
Klein et al. (2020), https://aclanthology.org/2020.ngt-1.25, and `specs/model_spec.py` of the
ctranslate2 package, which is not needed here.
"""

import math
import struct
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from kzoo.pretrained.weights import Weights

_VERSIONS = range(2, 7)  # of the file; 6 since CTranslate2 2.0
_TYPES = ("<f4", "i1", "<i2", "<i4", "<f2", ml_dtypes.bfloat16)
_TYPE_OF_BYTES = {4: "<f4", 2: "<i2", 1: "i1"}  # files before version 4 have sizes for types
_SCALE = "_scale"  # of what is quantized: `weight` has `weight_scale`


class ModelBin(NamedTuple):
    """What a `model.bin` holds.

    Args:
        spec: str, as "TransformerSpec" or "WhisperSpec".
        revision: int, of the specification.
        weights: Weights, aliases and dequantized variables included, scales left out.
    """

    spec: str
    revision: int
    weights: Weights


def read(path):
    """The variables of a model; each is read when it is asked for.

    Quantized ones come back as float32: int8 / scale of its row, int16 / scale of all.

    Args:
        path: of `model.bin`.

    Returns:
        ModelBin.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is cut off, none of this format, or of a type or version unknown here.
    """
    path = Path(path)
    path.open("rb").close()  # an OSError that names the file
    size = path.stat().st_size
    try:
        content = np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
        spec, revision, variables = _parse(_Cursor(content))
    except (ValueError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} must be a whole model.bin of CTranslate2, got {size:,} bytes: {error}."
        ) from error
    readers = {
        name: lambda name=name: _dequantized(variables[name], variables.get(name + _SCALE))
        for name in variables
        if not (name.endswith(_SCALE) and name.removesuffix(_SCALE) in variables)
    }
    return ModelBin(spec, revision, Weights(path, readers))


class _Cursor:
    def __init__(self, content):
        self._content, self._place = content, 0

    def bytes(self, count):
        part = self._content[self._place : self._place + count]
        if part.size != count:
            raise ValueError(f"it ends where {count:,} bytes should follow byte {self._place:,}")
        self._place += count
        return part

    def number(self, code):
        code = f"<{code}"
        return struct.unpack(code, self.bytes(struct.calcsize(code)).tobytes())[0]

    def string(self):
        return self.bytes(self.number("H")).tobytes().removesuffix(b"\0").decode()

    def is_at_end(self):
        return self._place == self._content.size


def _parse(cursor):
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise ValueError(f"its version is {version}, known are 2 to 6")
    spec, revision = cursor.string(), cursor.number("I")
    variables = dict(_variable(cursor, version) for _ in range(cursor.number("I")))
    if version >= 3:
        for _ in range(cursor.number("I")):
            alias, name = cursor.string(), cursor.string()
            if name not in variables:
                raise ValueError(f"{alias} stands for {name!r}, which it does not hold")
            variables[alias] = variables[name]
            if name + _SCALE in variables:
                variables.setdefault(alias + _SCALE, variables[name + _SCALE])
    if not cursor.is_at_end():
        raise ValueError("bytes follow its end")
    return spec, revision, variables


def _variable(cursor, version):
    """(name, array), a view on the file."""
    name = cursor.string()
    shape = [cursor.number("I") for _ in range(cursor.number("B"))]
    code = cursor.number("B")
    if version >= 4:
        if code >= len(_TYPES):
            raise ValueError(f"{name} is of type {code}, known are 0 to {len(_TYPES) - 1}")
        dtype = np.dtype(_TYPES[code])
        num_bytes = cursor.number("I")
    else:
        dtype = np.dtype(_TYPE_OF_BYTES[code])
        num_bytes = cursor.number("I") * code
    if num_bytes != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} of shape {shape} and type {dtype} has {num_bytes:,} bytes")
    return name, cursor.bytes(num_bytes).view(dtype).reshape(shape)


def _dequantized(array, scale):
    """(rows, ...) / (rows,) or / ()."""
    if scale is None:
        return array
    scale = np.asarray(scale, np.float32)
    return array.astype(np.float32) / scale.reshape(scale.shape + (1,) * (array.ndim - scale.ndim))
