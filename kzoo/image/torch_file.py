"""Weights out of a `.pth` file of PyTorch's old layout, without torch and without running anything.

Such a file is a row of pickles: a magic number, the protocol, facts of the writing system, the
tensors' names, shapes and places in storages, the storages' keys; then the storages' numbers.
A pickle is a program: it may name any function to be called and change what it names. This reader
knows the instructions and functions that weights need, with its own functions in their place, and
refuses the rest; what is changed are dicts and lists that the file itself has made.
"""

import io
import math
import pickle
from typing import NamedTuple

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


# Protocol 2, which torch writes, and 0; without those that make objects other than dicts and lists.
_INSTRUCTIONS = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.BINPERSID),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BINUNICODE, pickle.UNICODE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.INT, pickle.LONG, pickle.LONG1),
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINFLOAT, pickle.FLOAT),
    *(pickle.TUPLE, pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.GET, pickle.BINGET),
    pickle.LONG_BINGET,
)
_MOST_AXES = 32


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
            _fill(storages[_named(key)].numbers, file)
        if not all(isinstance(each, np.ndarray) for each in tensors.values()):
            raise ValueError("it holds other things than tensors")
    except Exception as error:  # whatever an unpickler trips over
        got = f"got {len(content):,} bytes: {str(error) or type(error).__name__}"
        raise ValueError(f"`content` must be weights in PyTorch's old layout, {got}.") from error
    return dict(tensors)


class _Storage(NamedTuple):
    numbers: np.ndarray  # (n,)


class _Instructions(dict):
    def __missing__(self, code):
        raise pickle.UnpicklingError(f"instruction {code} is not among what weights need")


# The one in Python: the one in C takes the memory that a length or a place announces at once.
class _Unpickler(pickle._Unpickler):
    """Knows tensors and dicts; storages (dict) are made when they are first named."""

    def __init__(self, file, storages, most_bytes):
        super().__init__(file, encoding="utf-8")
        self._storages, self._bytes_left = storages, most_bytes

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return _dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not among what weights need")

    def persistent_load(self, saved_id):
        kind, dtype, key, _, count, view = saved_id
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("it names other things than whole storages")
        if _named(key) not in self._storages:
            self._bytes_left -= count * dtype.itemsize
            if count < 0 or self._bytes_left < 0:
                raise pickle.UnpicklingError(
                    f"a storage of {count} numbers does not fit into the file"
                )
            self._storages[key] = _Storage(np.zeros(count, dtype))
        return self._storages[key]

    def _fill_dict(self, pairs):
        """Sets items of the dict on the stack, (key, value, key, value, ...)."""
        if type(self.stack[-1]) is not dict:
            raise pickle.UnpicklingError("it sets items of other things than dicts")
        self.stack[-1].update(_dict(zip(pairs[::2], pairs[1::2], strict=True)))

    def load_dict(self):
        pairs = self.pop_mark()
        self.append({})
        self._fill_dict(pairs)

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self._fill_dict([key, value])

    def load_setitems(self):
        self._fill_dict(self.pop_mark())

    def load_reduce(self):
        arguments = self.stack.pop()
        if self.stack[-1] not in (_dict, _tensor):
            raise pickle.UnpicklingError("it calls other things than weights need")
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self):
        """Leaves out the attributes of an OrderedDict, among them what versions its layers had."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise pickle.UnpicklingError("it changes other things than dicts")

    dispatch = _Instructions(
        {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _INSTRUCTIONS}
        | {
            pickle.DICT[0]: load_dict,
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
            pickle.REDUCE[0]: load_reduce,
            pickle.BUILD[0]: load_build,
        }
    )


def _named(key):
    """A key if it is a str: of nested tuples each hash takes for ever or ends the process."""
    if not isinstance(key, str):
        raise pickle.UnpicklingError("its keys are not all strings")
    return key


def _dict(pairs=()):
    return {_named(key): value for key, value in pairs}


def _tensor(storage, offset, shape, strides, *_):
    """A view on a storage, whose numbers come later."""
    if not isinstance(storage, _Storage) or len(shape) > _MOST_AXES:
        raise pickle.UnpicklingError("a tensor must have a storage and few axes")
    numbers, count = storage.numbers, math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    is_within = offset >= 0 and min((*shape, *strides), default=0) >= 0 and last < numbers.size
    if count and not (is_within and count <= numbers.size):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} leaves its storage")
    steps = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)


def _fill(storage, file):
    count = int.from_bytes(file.read(8), "little")
    numbers = np.frombuffer(file.read(storage.nbytes), storage.dtype)
    if count != storage.size or numbers.size != storage.size:
        raise ValueError(f"a storage has {numbers.size} of {storage.size} numbers")
    storage[:] = numbers
