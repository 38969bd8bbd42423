"""Weights files: as torch reads them, and nothing in them is run."""

import collections
import copy
import io
import pickle
import random
import struct
import time
import zipfile

import numpy as np
import pytest

from kzoo import torch_file

MAGIC = 0x1950A86A20F9469CFC6C
FACTS = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


def test_tensors_of_all_types_shapes_and_strides_are_those_that_torch_wrote():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    whole = torch.randn(5, 7, 3)
    tensors = {
        "whole": whole,
        "a part of the same storage": whole[1:4, ::2],
        "axes in another order": whole.permute(2, 0, 1),
        "half": torch.randn(11).half(),
        "double": torch.randn(2, 3).double(),
        "long": torch.tensor(2**40),
        "int": torch.arange(13, dtype=torch.int32),
        "none": torch.zeros(0, 3),
    }
    stream = io.BytesIO()
    torch.save(tensors, stream, _use_new_zipfile_serialization=False)
    found = torch_file.read(stream.getvalue())
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(found[name], tensor.numpy())
    with pytest.raises(ValueError, match="in PyTorch's old layout"):
        torch_file.read(stream.getvalue()[:-9])


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def file_of(thing, keys=(), end=b""):
    parts = [pickle.dumps(each, protocol=2) for each in (MAGIC, 1001, FACTS, thing, list(keys))]
    return b"".join(parts) + end


@pytest.mark.parametrize("place", [0, 2, 3, 4])
def test_a_function_is_not_called_wherever_the_file_names_it(place, tmp_path):
    mark = tmp_path / "called"
    parts = [MAGIC, 1001, FACTS, {}, []]
    parts[place] = Calls(open, str(mark), "w")
    with pytest.raises(ValueError, match=r"io\.open is not among what weights need"):
        torch_file.read(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    assert not mark.exists()


def storage_file(count, offset, shape, strides, numbers):
    """Opcodes by hand: {"x": _rebuild_tensor_v2(storage, offset, shape, strides)}."""

    def plain(value):  # a pickle without its head and its end
        return pickle.dumps(value, protocol=0)[:-1]

    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n"
        + plain(count) + b"NtQ" + plain(offset) + plain(shape) + plain(strides) + b"tR"
    )  # fmt: skip
    data = np.asarray(numbers, "<f4")
    end = struct.pack("<q", data.size) + data.tobytes()
    head = [pickle.dumps(each, protocol=2) for each in (MAGIC, 1001, FACTS)]
    return b"".join(head) + b"(dS'x'\n" + tensor + b"s." + pickle.dumps(["0"], protocol=2) + end


def test_a_tensor_stays_within_its_storage_and_a_storage_within_the_file():
    numbers = np.arange(6.0)
    found = torch_file.read(storage_file(6, 1, (2, 2), (2, 1), numbers))
    np.testing.assert_array_equal(found["x"], [[1, 2], [3, 4]])
    for offset, shape, strides in ((3, (2, 2), (2, 1)), (-1, (1,), (1,)), (5, (2,), (-1,))):
        with pytest.raises(ValueError, match="leaves its storage"):
            torch_file.read(storage_file(6, offset, shape, strides, numbers))
    with pytest.raises(ValueError, match="does not fit into the file"):
        torch_file.read(storage_file(10**12, 0, (1,), (1,), numbers))
    with pytest.raises(ValueError, match="has 6 of 7 numbers"):
        torch_file.read(storage_file(7, 0, (1,), (1,), numbers))


@pytest.mark.parametrize(
    "content", [b"", b"no weights at all", file_of([1, 2]), file_of({"x": 3}), pickle.dumps(7)]
)
def test_what_holds_no_weights_is_refused(content):
    with pytest.raises(ValueError, match=f"old layout, got {len(content):,} bytes: "):
        torch_file.read(content)


def zip_of(thing, compression=zipfile.ZIP_STORED, **entries):
    """A file of the new layout whose pickle is `thing`, instructions or what is to be pickled."""
    content = thing if isinstance(thing, bytes) else pickle.dumps(thing, protocol=2)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, each in {"data.pkl": content, **entries}.items():
            archive.writestr(f"archive/{name.replace('__', '/')}", each)
    return stream.getvalue()


def test_a_zip_holds_what_torch_wrote_into_it_nested_or_not_and_a_path_will_do(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    whole, path = torch.randn(5, 7, 3), tmp_path / "weights.pt"
    tensors = {
        "whole": whole,
        "a part of the same storage": whole[1:4, ::2],
        "axes in another order": whole.permute(2, 0, 1),
        "half": torch.randn(11).half(),
        "brain": torch.randn(3, 2).bfloat16(),
        "brain, axes in another order": torch.randn(3, 2).bfloat16().T,
        "bool": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
    }
    torch.save(tensors, path)
    for found in (torch_file.read(path), torch_file.read(path.read_bytes())):
        assert list(found) == list(tensors)
        for name, tensor in tensors.items():
            tensor = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
            assert found[name].dtype == tensor.numpy().dtype
            np.testing.assert_array_equal(found[name], tensor.numpy())

    torch.save({"dims": {"mels": 80, "name": "x"}, "state": {"x": whole}}, path)
    found = torch_file.read(path, is_nested=True)
    assert found["dims"] == {"mels": 80, "name": "x"}
    np.testing.assert_array_equal(found["state"]["x"], whole.numpy())
    with pytest.raises(ValueError, match=r"weights.pt must be .* holds other things than tensors"):
        torch_file.read(path)

    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"weights.pt must be weights in PyTorch.s zip"):
        torch_file.read(path)
    with pytest.raises(FileNotFoundError, match=r"nothing.pt"):
        torch_file.read(tmp_path / "nothing.pt")


def test_a_zip_that_means_harm_or_lacks_something_is_refused(tmp_path):
    before, mark = state(), tmp_path / "called"
    shared = {}
    tensor = (
        b"}X\1\0\0\0a" + TENSOR + b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000"
        b"X\x03\0\0\0cpuK\x04tQK\0K\4\x85K\1\x85tRs."
    )
    assert torch_file.read(zip_of(tensor, data__0=b"\0" * 16))["a"].tolist() == [0.0] * 4
    for content, message in (
        (zip_of({}, byteorder=b"big"), "its numbers are big-endian"),
        (zip_of(Calls(open, str(mark), "w")), r"io\.open is not among what weights need"),
        (zip_of({"a": shared, "b": shared}), "holds other things than tensors"),
        (zip_of({"a": [1]}), "holds other things than tensors"),
        (zip_of([]), "it holds other things"),
        (zip_of(tensor), "it has no data/0"),
        (zip_of(tensor, data__0=b"\0" * 12), "a storage has 3 of 4 numbers"),
        (zip_of({}).replace(b"data.pkl", b"data.pkx"), "it has no data.pkl"),
        (zip_of({}, zipfile.ZIP_DEFLATED), "archive/data.pkl is compressed"),
    ):
        with pytest.raises(ValueError, match=f"zip layout, got [0-9,]+ bytes: .*{message}"):
            torch_file.read(content, is_nested=True)
    assert state() == before
    assert not mark.exists()


def program(*instructions):
    """A file whose third pickle, that of the tensors, is these instructions."""
    head = [pickle.dumps(each, protocol=2) for each in (MAGIC, 1001, FACTS)]
    return (
        b"".join(head) + b"\x80\x02" + b"".join(instructions) + b"." + pickle.dumps([], protocol=2)
    )


DICT, TENSOR = b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n"
STATE = b"}X\x0c\0\0\0__defaults__(K\x01K\x02ts"  # {"__defaults__": (1, 2)}
NESTED = b")" + b"\x85" * 200_000  # ((((...))))
DOUBLED = b")" + b"2\x86" * 60  # t = (t, t), 60 times: 2^60 leaves
MEMOED = b")" + b"".join(b"q\x01h\x01\x86" for _ in range(60))
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04NtQ"
HARMFUL = {
    "bytes of 2^40": program(b"\x8e" + (2**40).to_bytes(8, "little")),
    "a str of 2^40": program(b"\x8d" + (2**40).to_bytes(8, "little")),
    "a str of 2^32": program(b"X" + b"\xff" * 4),
    "a number of 2^31": program(b"\x8b" + b"\xff\xff\xff\x7f"),
    "a frame of 2^40": program(b"\x95" + (2**40).to_bytes(8, "little")),
    "a place of 2^32": program(b"}r" + b"\xff" * 4, b"]"),
    "changes the maker of dicts": program(DICT, STATE, b"b"),
    "changes the maker of tensors": program(TENSOR, STATE, b"b"),
    "changes a dtype": program(b"ctorch\nFloatStorage\n", STATE, b"b"),
    "sets an item of a function": program(TENSOR, b"X\1\0\0\0aK\1s"),
    "a new object": program(DICT, b")\x81"),
    "a key that is nested": program(b"}", NESTED, b"K\1s"),
    "a key that is doubled": program(b"}", MEMOED, b"K\1s"),
    "a call with a nested key": program(DICT, b"(", NESTED, b"K\1\x86lp0\n\x85R"),
    "a storage that is doubled": program(MEMOED, b"Q"),
    "a storage with a nested key": program(
        b"(X\x07\0\0\0storagectorch\nFloatStorage\n", NESTED, b"NK\1NtQ"
    ),
    "a tensor of a tensor": program(
        b"}X\1\0\0\0a", TENSOR, b"(", TENSOR, b"(", STORAGE, b"K\0K\4\x85K\0\x85tR",
        b"K\0K\4\x85K\1\x85tRs",
    ),
    "a tensor of more than its storage": program(
        b"}X\1\0\0\0a", TENSOR, b"(", STORAGE, b"K\0J\0\0\0\x40\x85K\0\x85tRs"
    ),
    "a tensor of negative size": program(
        b"}X\1\0\0\0a", TENSOR, b"(", STORAGE, b"K\0J\xf0\xff\xff\xff\x85K\1\x85tRs"
    ),
}  # fmt: skip


def state():
    """What a file must not change."""
    functions = (torch_file._tensor, torch_file._dict, torch_file.read)
    return copy.copy([
        dict(vars(torch_file)), dict(vars(torch_file._Unpickler)), dict(vars(torch_file._Storage)),
        dict(torch_file._Unpickler.dispatch), dict(vars(collections.OrderedDict)),
        dict(pickle._Unpickler.dispatch), dict(torch_file._DTYPES),
        [(f.__defaults__, f.__kwdefaults__, dict(f.__dict__), f.__code__) for f in functions],
        [dtype.metadata for dtype in torch_file._DTYPES.values()],
    ])  # fmt: skip


@pytest.mark.parametrize("name", HARMFUL)
def test_a_file_that_means_harm_is_refused_at_once_and_changes_nothing(name):
    before, start = state(), time.perf_counter()
    with pytest.raises(ValueError, match="`content` must be weights in PyTorch's old layout, got"):
        torch_file.read(HARMFUL[name])
    assert state() == before
    assert time.perf_counter() - start < 5


def test_attributes_of_a_state_dict_are_left_out():
    """torch writes the versions of the layers into such a one."""
    weights = collections.OrderedDict()
    weights._metadata = collections.OrderedDict({"": {"version": 1}})
    assert b"_metadata" in file_of(weights)
    assert torch_file.read(file_of(weights)) == {}


def test_no_mutation_of_a_file_does_more_than_be_refused():
    dice = random.Random(0)
    attributes = collections.OrderedDict({"a": 1})
    attributes.b = {"__defaults__": (1,)}
    whole = [
        storage_file(6, 1, (2, 2), (2, 1), np.arange(6.0)),
        file_of(collections.OrderedDict()),
        file_of(attributes),
        program(TENSOR, b"0", DICT, b")R", STATE, b"b"),
    ]
    codes = [
        code[0] for code in vars(pickle).values() if isinstance(code, bytes) and len(code) == 1
    ]
    before, refused = state(), 0
    for _ in range(2000):
        content = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(content))
            kind = dice.randrange(4)
            if kind == 0:
                content[place] = dice.choice(codes)
            elif kind == 1:
                content[place] ^= 1 << dice.randrange(8)
            elif kind == 2:
                content.insert(place, dice.choice(codes))
            else:
                del content[place : place + dice.randint(1, 9)]
        try:
            torch_file.read(bytes(content))
        except ValueError as error:
            assert str(error).startswith("`content` must be")
            refused += 1
    assert state() == before
    assert refused > 1000
