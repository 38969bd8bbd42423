"""The readers of weights: what other packages wrote comes back, and damage is said."""

import json
import struct

import numpy as np
import pytest

from kzoo.pretrained import ctranslate2_file, hugging_face, safetensors_file
from kzoo.pretrained.weights import Weights

pytest.importorskip("safetensors")


def test_weights_say_which_file_lacks_what_and_what_was_left():
    arrays = {"a": np.ones((2, 3), "float16"), "b": np.arange(5)}
    weights = Weights("x/model.bin", {n: lambda a=a: a for n, a in arrays.items()})
    assert weights.take("a", (2, None)).dtype == np.float32
    assert weights["b"].dtype == arrays["b"].dtype
    assert weights.left() == ["b"]
    assert "c" not in weights
    assert len(weights) == 2
    with pytest.raises(ValueError, match=r"x/model.bin must hold the weight 'c', got none"):
        weights.take("c")
    with pytest.raises(ValueError, match=r"'a' must have the shape \(3, 2\), got \(2, 3\)"):
        weights.take("a", (3, 2))
    with pytest.raises(ValueError, match=r"'a' must have the shape \(6,\), got \(2, 3\)"):
        weights.take("a", (6,))


def test_a_folder_of_transformers_is_read_in_each_of_its_four_layouts(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    parts = (
        {"a": torch.randn(2, 3).bfloat16(), "b": torch.randn(5).half()},
        {"c": torch.randn(7), "d": torch.arange(11)},
    )
    whole = {name: tensor for part in parts for name, tensor in part.items()}
    index = {"weight_map": {name: f"{n}.part" for n, part in enumerate(parts) for name in part}}
    for kind, save in (("model.safetensors", save_file), ("pytorch_model.bin", torch.save)):
        for name in (kind, f"{kind}.index.json"):
            folder = tmp_path / name
            folder.mkdir()
            if name == kind:
                save(whole, folder / name)
            else:
                (folder / name).write_text(json.dumps(index))
                for n, part in enumerate(parts):
                    save(part, folder / f"{n}.part")
            found = hugging_face.read_weights(folder)
            assert {*found} == {*whole}
            for key, tensor in whole.items():
                expected = tensor.float() if tensor.is_floating_point() else tensor
                assert found[key].dtype == expected.numpy().dtype
                np.testing.assert_array_equal(found[key], expected.numpy())


def test_a_missing_or_damaged_file_of_a_folder_is_named(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(FileNotFoundError, match=r"must hold model.safetensors or"):
        hugging_face.read_weights(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones(3, "float32")}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"model.safetensors must be a whole safe"):
        hugging_face.read_weights(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text("[]")
    with pytest.raises(ValueError, match="must be an index of safetensors"):
        safetensors_file.read(index)
    index.write_text(json.dumps({"weight_map": {"a": "part"}}))
    with pytest.raises(FileNotFoundError, match="part"):
        safetensors_file.read(index)
    save_file({"b": np.ones(3, "float32")}, tmp_path / "part")
    with pytest.raises(ValueError, match="part must hold the weight 'a', got none"):
        safetensors_file.read(index)


def test_a_model_of_ctranslate2_comes_back_whatever_the_precision(tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")

    def built():
        dice = np.random.default_rng(0)

        def fill(layer, name, value):
            if value is None:
                shape = (3, 5) if name.endswith("weight") else (5,)
                setattr(layer, name.split("/")[-1], dice.normal(size=shape).astype("float32"))

        spec = ctranslate2.specs.transformer_spec.TransformerSpec.from_config((1, 1), 2)
        spec._visit(fill)
        spec.decoder.projection.weight = spec.decoder.embeddings.weight
        ctranslate2.specs.model_spec.LayerSpec.validate(spec)
        return spec

    spec = built()
    expected = {name: value.numpy() for name, value in spec.variables().items()}
    for quantization, within in (
        (None, 0), ("float16", 2e-3), ("bfloat16", 2e-2), ("int16", 4e-3), ("int8", 2e-2),
    ):  # fmt: skip
        if quantization == "bfloat16":
            pytest.importorskip("torch")
        spec, path = built(), tmp_path / "model.bin"
        spec.optimize(quantization)
        spec._serialize(path)
        name, revision, weights = ctranslate2_file.read(path)
        assert (name, revision) == (spec.name, spec.revision)
        assert {*weights} == {*expected}
        for key, value in expected.items():
            np.testing.assert_allclose(weights[key], value, atol=within * 3, rtol=within)
        if quantization is None:
            assert all(weights[key].dtype == value.dtype for key, value in expected.items())

    content = path.read_bytes()
    for end in (0, 3, 20, 100, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=rf"must be a whole .* got {end:,} bytes: it e"):
            ctranslate2_file.read(path)
    for bad, message in (
        (content + b"\0", "bytes follow its end"),
        (struct.pack("<I", 7) + content[4:], "its version is 7"),
        (b"\xff" * 1000, "its version is"),
    ):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=message):
            ctranslate2_file.read(path)


def test_files_of_before_version_4_say_the_size_of_a_number_and_not_its_type(tmp_path):
    def string(text):
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    path = tmp_path / "model.bin"
    path.write_bytes(
        struct.pack("<I", 3) + string("TransformerSpec") + struct.pack("<II", 2, 2)
        + string("a/weight") + struct.pack("<BIIBI", 2, 1, 3, 1, 3) + bytes([2, 4, 255])
        + string("a/weight_scale") + struct.pack("<BIBI", 1, 1, 4, 1) + struct.pack("<f", 2.0)
        + struct.pack("<I", 1) + string("b/weight") + string("a/weight")
    )  # fmt: skip
    spec, revision, weights = ctranslate2_file.read(path)
    assert (spec, revision, list(weights)) == ("TransformerSpec", 2, ["a/weight", "b/weight"])
    np.testing.assert_array_equal(weights["b/weight"], [[1.0, 2.0, -0.5]])
