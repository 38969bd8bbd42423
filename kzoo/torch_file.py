"""Weights out of PyTorch's files, without torch and without running anything.

A file of the old layout is a row of pickles: a magic number, the protocol, facts of the writing
system, the tensors' names, shapes and places in storages, the storages' keys; then the storages'
numbers. A file of the new layout is a zip: `data.pkl` has the tensors' names, shapes and places,
`data/KEY` the numbers of one storage, `byteorder` their order.

A pickle is a program: it may name any function to be called and change what it names. This reader
knows the instructions and functions that weights need, with its own functions in their place, and
refuses the rest; what is changed are dicts and lists that the file itself has made.
"""

import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "BFloat16Storage": np.dtype("V2"),  # NumPy has no such numbers: they become float32
}
_ZIP = b"PK\x03\x04"
_PLAIN = (str, int, float, bool, type(None))

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
_DEEPEST = 8  # dicts in dicts


def read(content, is_nested=False):
    """The tensors of a state dict.

    Args:
        content: bytes of the file; or its path: of a zip only what is looked at is then read.
        is_nested: bool, whether dicts and plain values may stand beside the tensors, as in
            {"dims": {"n_mels": 80}, "state": {"bias": tensor}}.

    Returns:
        dict of name -> numpy array, bfloat16 as float32; if nested, also of plain values and dicts.

    Raises:
        ValueError: the bytes are not such a file, or it holds more than weights.
    """
    is_path = isinstance(content, str | Path)
    subject = f"{content}" if is_path else "`content`"
    if is_path:
        Path(content).open("rb").close()  # an OSError that names the file
        content = np.memmap(content, np.uint8, "r") if Path(content).stat().st_size else b""
    is_zip = bytes(content[: len(_ZIP)]) == _ZIP
    try:
        tensors = _read_zip(content) if is_zip else _read_old(bytes(content))
        return _weights(tensors, is_nested)
    except Exception as error:  # whatever an unpickler trips over
        layout = "zip layout" if is_zip else "old layout"
        got = f"got {len(content):,} bytes: {str(error) or type(error).__name__}"
        raise ValueError(f"{subject} must be weights in PyTorch's {layout}, {got}.") from error


def _read_old(content):
    file = io.BytesIO(content)
    storages, bytes_left = {}, len(content)

    def empty(dtype, key, count):
        nonlocal bytes_left
        bytes_left -= count * dtype.itemsize
        if count < 0 or bytes_left < 0:
            raise pickle.UnpicklingError(f"a storage of {count} numbers does not fit into the file")
        return np.zeros(count, dtype)

    def load():
        return _Unpickler(file, storages, empty).load()

    if load() != _MAGIC:
        raise ValueError("it does not begin with the magic number")
    _, facts, tensors, keys = (load() for _ in range(4))
    if not facts["little_endian"]:
        raise ValueError("its numbers are big-endian")
    for key in keys:
        _fill(storages[_named(key)].numbers, file)
    return tensors


def _read_zip(content):
    """The storages are views on `content`, which torch does not compress."""
    buffer = np.frombuffer(content, np.uint8)
    with zipfile.ZipFile(_Buffer(buffer)) as archive:
        names = archive.namelist()
        folder = next((n.split("/")[0] for n in names if n.split("/")[1:] == ["data.pkl"]), "")

        def bytes_of(name):
            if f"{folder}/{name}" not in names:
                raise ValueError(f"it has no {name}")
            return _stored(buffer, archive.getinfo(f"{folder}/{name}"))

        if f"{folder}/byteorder" in names and bytes_of("byteorder").tobytes() != b"little":
            raise ValueError("its numbers are big-endian")

        def numbers(dtype, key, count):
            found = bytes_of(f"data/{key}")
            if count * dtype.itemsize != found.size:
                raise ValueError(f"a storage has {found.size // dtype.itemsize} of {count} numbers")
            return found.view(dtype)

        return _Unpickler(io.BytesIO(bytes_of("data.pkl").tobytes()), {}, numbers).load()


class _Buffer(io.RawIOBase):
    """An array of bytes as a file: a memory map is not read into memory."""

    def __init__(self, buffer):
        super().__init__()
        self._buffer, self._place = buffer, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._place

    def seek(self, offset, whence=io.SEEK_SET):
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._buffer)}
        self._place = max(start[whence] + offset, 0)
        return self._place

    def readinto(self, target):
        part = self._buffer[self._place : self._place + len(target)]
        memoryview(target)[: part.size] = part
        self._place += part.size
        return part.size


def _stored(buffer, entry):
    """The bytes of an entry of a zip, (n,) uint8, where they stand."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    # The local header, 30 bytes, ends with the lengths of the name and the extra field behind it.
    head = buffer[entry.header_offset : entry.header_offset + 30]
    start = entry.header_offset + 30 + sum(int(n) for n in head[26:30].view("<u2"))
    found = buffer[start : start + entry.file_size]
    if found.size != entry.file_size:
        raise ValueError(f"{entry.filename} has {found.size} of {entry.file_size} bytes")
    return found


def _weights(value, is_nested):
    if not is_nested and not all(isinstance(each, np.ndarray) for each in value.values()):
        raise ValueError("it holds other things than tensors")
    seen = set()

    def plain(value, depth):
        if isinstance(value, np.ndarray):
            return _as_float32(value) if value.dtype.kind == "V" else value
        if isinstance(value, dict) and depth < _DEEPEST and id(value) not in seen:
            seen.add(id(value))  # a dict in many places at once would take for ever
            return {key: plain(each, depth + 1) for key, each in value.items()}
        if depth and isinstance(value, _PLAIN):
            return value
        raise ValueError("it holds other things than tensors, plain values and dicts of them")

    return plain(value, 0)


def _as_float32(bits):
    """bfloat16, the upper half of a float32."""
    return (bits.view("<u2").astype(np.uint32) << 16).view(np.float32)


class _Storage(NamedTuple):
    numbers: np.ndarray  # (n,)


class _Instructions(dict):
    def __missing__(self, code):
        raise pickle.UnpicklingError(f"instruction {code} is not among what weights need")


# The one in Python: the one in C takes the memory that a length or a place announces at once.
class _Unpickler(pickle._Unpickler):
    """Knows tensors and dicts; `numbers(dtype, key, count)` makes a storage when first named."""

    def __init__(self, file, storages, numbers):
        super().__init__(file, encoding="utf-8")
        self._storages, self._numbers = storages, numbers

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return _dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not among what weights need")

    def persistent_load(self, saved_id):
        kind, dtype, key, _, count, *view = saved_id
        if kind != "storage" or view not in ([], [None]) or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("it names other things than whole storages")
        if _named(key) not in self._storages:
            self._storages[key] = _Storage(self._numbers(dtype, key, count))
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
