"""Names and manifests: where a name is looked for, what it stands for, what is checked."""

import json

import pytest

from kzoo.export import manifest, names


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three places, none of which exists yet; the current folder is another one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/setup.cfg").touch()
    monkeypatch.setattr(names, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.setenv("KZOO_MODELS", str(tmp_path / "own"))
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return [tmp_path / "checkout/saved_models", tmp_path / "own", tmp_path / "cache/models"]


def fake(folder, version=1, is_listed=True):
    """What looks like a SavedModel as long as nobody loads it; its version."""
    path = folder / str(version)
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "variables/variables.index").write_bytes(b"weights")
    if is_listed:
        facts = ["data", "BSD", "python -m recipes.x", "2.0 minutes of training", 11]
        manifest.write(path, manifest.Manifest(folder.name, "translation", ["en"], *facts))
    return path


def test_the_places_are_the_checkout_own_models_and_the_cache_in_this_order(places, monkeypatch):
    assert names.places() == places
    assert not places[2].parent.exists()  # looking makes nothing
    for place in reversed(places):
        path = fake(place / "tiny")
        assert names.find("tiny") == path
    monkeypatch.setattr(names, "CHECKOUT", places[1])  # as installed from a wheel: no setup.cfg
    monkeypatch.delenv("KZOO_MODELS")
    assert names.places() == places[2:]


def test_a_path_that_exists_is_meant_before_a_name(places, tmp_path):
    fake(places[0] / "tiny")
    here = fake(tmp_path / "here/tiny", is_listed=False)
    assert names.find("tiny").resolve() == here
    (here / "saved_model.pb").unlink()
    with pytest.raises(ValueError, match=r"'tiny' holds no saved_model\.pb"):
        names.find("tiny")


def test_a_name_stands_for_the_highest_version_with_a_manifest(places):
    fake(places[0] / "tiny", 2)
    fake(places[0] / "tiny", 10)
    assert names.find("tiny") == places[0] / "tiny/10"
    fake(places[0] / "tiny", 11, is_listed=False)
    assert names.find("tiny") == places[0] / "tiny/10"
    assert names.named() == {"tiny": places[0] / "tiny/10"}


def test_a_name_that_is_not_there_is_said_with_the_places_and_with_near_ones(places):
    fake(places[1] / "pronunciation-en")
    fake(places[2] / "whisper-tiny.en")
    with pytest.raises(FileNotFoundError) as error:
        names.find("pronuncation-en")
    said = str(error.value)
    assert said.startswith("'pronuncation-en' does not exist, neither as a path nor as a name in ")
    assert all(str(place) in said for place in places)
    assert "Did you mean pronunciation-en? `kzoo list` shows all names" in said
    fake(places[0] / "demo", is_listed=False)
    with pytest.raises(FileNotFoundError, match=r"/demo has no manifest\.json, so .* by its path"):
        names.find("demo")
    for path in ("no/tiny", "./tiny", ".tiny", "tiny/"):
        with pytest.raises(FileNotFoundError, match="`path` must be a SavedModel"):
            names.find(path)


def test_of_a_named_model_a_changed_a_missing_and_an_extra_file_are_named(places):
    path = fake(places[0] / "tiny")
    assert manifest.check(path) == manifest.read(path)
    weights = path / "variables/variables.index"
    weights.write_bytes(b"Weights")
    with pytest.raises(ValueError, match=r"/variables/variables\.index has changed: .* SHA-256 9a"):
        names.find("tiny")
    assert names.find(path) == path  # a path is not checked
    weights.unlink()
    with pytest.raises(ValueError, match=r"/variables/variables\.index is missing"):
        names.find("tiny")
    weights.write_bytes(b"weights")
    (path / "extra").touch()
    with pytest.raises(ValueError, match=r"/1/extra is not listed in manifest\.json, so"):
        names.find("tiny")
    (path / "extra").unlink()
    (path / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", ".ipynb_checkpoints/card.md"):  # which desktops leave
        (path / name).touch()
    assert names.find("tiny") == path
    (path / "saved_model.pb").unlink()
    with pytest.raises(ValueError, match=r"/saved_model\.pb is missing, but manifest\.json lists"):
        names.find("tiny")


@pytest.mark.parametrize("text", ["{", "[1]", '{"name": "x"}', '{"nonsense": 3}', b"\xff"])
def test_a_damaged_manifest_is_named(places, text):
    path = fake(places[0] / "tiny") / "manifest.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"manifest\.json: expected what kzoo wrote there, got "):
        names.find("tiny")


def test_a_manifest_is_what_was_written_and_files_without_a_hash_are_none(places):
    path = fake(places[0] / "tiny")
    facts = manifest.read(path)
    assert (facts.name, facts.languages, facts.parameters) == ("tiny", ["en"], 11)
    assert list(facts.files) == ["saved_model.pb", "variables/variables.index"]
    assert manifest.size_bytes(path) == 12 + (path / "manifest.json").stat().st_size
    content = json.loads((path / "manifest.json").read_text()) | {"files": None}
    (path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="got files=None"):
        manifest.read(path)
