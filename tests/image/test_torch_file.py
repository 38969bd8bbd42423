"""Weights files: as torch reads them, and nothing in them is run."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from kzoo.image import torch_file

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


def test_the_new_layout_a_zip_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(ValueError, match="in PyTorch's old layout"):
        torch_file.read(stream.getvalue())
