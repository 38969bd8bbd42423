"""Weights out of a `.pth` file of PyTorch's old layout, without torch and without running anything.

Such a file is a row of pickles: a magic number, the protocol, facts of the writing system, the
tensors' names, shapes and places in storages, the storages' keys; then the storages' numbers.
A pickle may name any function to be called; this reader knows those that weights need, its own
ones in their place, and refuses the rest.
"""

import collections
import io
import math
import pickle

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


def read(content):
    """The tensors of a state dict.

    Args:
        content: bytes of the file.

    Returns:
        dict of name -> numpy array.

    Raises:
        ValueError: the bytes are not such a file, or it holds more than weights.
    """
    file = io.BytesIO(content)
    storages = {}
    try:
        if _Unpickler(file, storages, len(content)).load() != _MAGIC:
            raise ValueError("it does not begin with the magic number")
        _, facts, tensors, keys = (
            _Unpickler(file, storages, len(content)).load() for _ in range(4)
        )
        if not facts["little_endian"]:
            raise ValueError("its numbers are big-endian")
        for key in keys:
            _fill(storages[key], file)
        if not all(isinstance(each, np.ndarray) for each in tensors.values()):
            raise ValueError("it holds other things than tensors")
    except (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, EOFError,
            AttributeError, OverflowError) as error:  # fmt: skip
        got = f"got {len(content):,} bytes: {error}"
        raise ValueError(f"`content` must be weights in PyTorch's old layout, {got}.") from error
    return dict(tensors)


class _Unpickler(pickle.Unpickler):
    """Knows tensors and dicts; storages (dict) are made when they are first named."""

    def __init__(self, file, storages, most_bytes):
        super().__init__(file, encoding="utf-8")
        self._storages, self._most_bytes = storages, most_bytes

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not among what weights need")

    def persistent_load(self, saved_id):
        kind, dtype, key, _, count, view = saved_id
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"expected a whole storage, got {saved_id}")
        if not 0 <= count * dtype.itemsize <= self._most_bytes:
            raise pickle.UnpicklingError(f"a storage of {count} numbers does not fit into the file")
        return self._storages.setdefault(key, np.zeros(count, dtype))


def _tensor(storage, offset, shape, strides, *_):
    """A view on a storage, whose numbers come later."""
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    is_within = offset >= 0 and min(strides, default=0) >= 0 and last < storage.size
    if not is_within and math.prod(shape):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} leaves its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _fill(storage, file):
    count = int.from_bytes(file.read(8), "little")
    numbers = np.frombuffer(file.read(storage.nbytes), storage.dtype)
    if count != storage.size or numbers.size != storage.size:
        raise ValueError(f"a storage has {numbers.size} of {storage.size} numbers")
    storage[:] = numbers
