"""Versions come and go: the old one answers until the new one is warm, a broken one is reported."""

import asyncio
import os
import shutil
import time

import pytest
from served_folder import DEFAULTS, save_picky

pytest.importorskip("kserve", reason="needs the extra serving")

from kzoo.serving import metrics, protocol, repository
from kzoo.serving.errors import Refused
from kzoo.serving.repository import SavedModels

BROKEN = b"no model"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for version in ("1", "2"):
        save_picky(folder / version, prefix=f"v{version}:")
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """digits/1 and other/1, whole; add(name, version) brings another version."""
    for name in ("digits", "other"):
        shutil.copytree(exported / "1", tmp_path / name / "1")
    return tmp_path


def break_version(folder, name, version):
    path = folder / name / version
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(BROKEN)


def opened(folder, **options):
    models = SavedModels(folder, {**DEFAULTS, **options})
    models.refresh()
    return models


def answer(models, name="digits", version=None):
    body = protocol.v2_request(b'{"inputs": []}', 1)
    tensor = protocol.Tensor("image_bytes", "BYTES", [1], [b"1"])
    asked = body._replace(inputs=[tensor])

    async def use():
        return await models.find(name, version).predict(asked)

    return asyncio.run(use())["text"][0].decode()


def status(models, name, version=None):
    with pytest.raises(Refused) as refused:
        models.find(name, version)
    return refused.value.status


def test_a_new_version_is_taken_and_the_old_one_answers_while_it_is_loaded(
    folder, exported, monkeypatch
):
    models = opened(folder)
    shutil.copytree(exported / "2", folder / "digits" / "2")
    seen = []

    class Watched(repository.SavedModelRuntime):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen.append(answer(models))  # the new one is loaded, and not there yet
            assert status(models, "digits", arguments[1]) == 503

    monkeypatch.setattr(repository, "SavedModelRuntime", Watched)
    assert answer(models) == "v1:1.0"
    models.refresh()
    assert seen == ["v1:1.0"] and answer(models) == "v2:1.0"
    assert models.versions("digits") == ["2"] and status(models, "digits", "1") == 404
    models.refresh()
    assert len(seen) == 1  # what is loaded is not loaded again

    shutil.rmtree(folder / "digits" / "2")
    models.refresh()
    assert answer(models) == "v1:1.0"  # taken back
    shutil.rmtree(folder / "digits")
    models.refresh()
    assert answer(models) == "v1:1.0"  # not left without any


def test_a_broken_version_is_reported_and_the_newest_whole_one_and_others_answer(folder, caplog):
    break_version(folder, "digits", "3")
    break_version(folder, "alone", "1")
    models = opened(folder)
    assert answer(models) == "v1:1.0" and answer(models, "other") == "v1:1.0"
    states = {(row["name"], row["version"]): row for row in models.index()}
    assert states["digits", "1"]["state"] == states["other", "1"]["state"] == "READY"
    assert states["digits", "3"]["state"] == "UNAVAILABLE" and states["digits", "3"]["reason"]
    assert "Couldn't load model 'digits', version 3" in caplog.text
    assert status(models, "alone") == status(models, "digits", "3") == 503
    assert status(models, "alone", "1") == 503 and status(models, "alone", "77") == 404
    assert status(models, "nobody") == 404
    caplog.clear()
    models.refresh()
    assert not caplog.text  # it is not tried again, and again


def test_before_its_turn_a_version_that_is_to_be_loaded_gets_503(folder, exported, monkeypatch):
    shutil.copytree(exported / "2", folder / "digits" / "2")
    labels = {("other", "stable"): "1", ("other", "next"): "2"}
    models = SavedModels(folder, {**DEFAULTS, "labels": labels})
    monkeypatch.setattr(repository, "find_models", None)  # `find` runs in the loop
    for version in (None, "2"):
        assert status(models, "digits", version) == 503
    assert status(models, "other", "stable") == 503
    for name, version in (("digits", "1"), ("other", "next"), ("nobody", None), ("nobody", "1")):
        assert status(models, name, version) == 404


def test_what_is_known_of_broken_versions_goes_with_their_files(folder, monkeypatch, caplog):
    break_version(folder, "digits", "3")
    break_version(folder, "alone", "1")
    models = opened(folder)
    assert len(models._stamps) == len(models._broken) == 2
    with monkeypatch.context() as patch:
        patch.setattr(repository, "find_models", lambda *_: os.listdir(folder / "nothing"))
        models.refresh()
    assert "The folder of the models cannot be read" in caplog.text
    assert status(models, "alone") == 503
    shutil.rmtree(folder / "digits" / "3")
    shutil.rmtree(folder / "alone")
    models.refresh()
    assert [row["state"] for row in models.index()] == ["READY", "READY"]
    assert status(models, "alone") == status(models, "digits", "3") == 404
    assert not models._stamps and ("alone", "1") not in metrics.VERSIONS._metrics


def test_requests_of_a_version_that_was_replaced_are_in_flight_until_they_are_answered(
    folder, exported, monkeypatch
):
    monkeypatch.setattr(repository, "_LAST_SECONDS", 0.05)
    models = opened(folder)
    gauge = metrics.IN_FLIGHT.labels("digits")._value
    before = gauge.get()  # other tests have a model of this name
    old = models.find("digits").runtime
    old._begin()
    shutil.copytree(exported / "2", folder / "digits" / "2")
    models.refresh()
    time.sleep(0.3)  # it is closed by now
    new = models.find("digits").runtime
    assert old._is_closed and new is not old
    assert models.in_flight == gauge.get() - before == 1
    new._begin()
    assert models.in_flight == gauge.get() - before == 2  # of both versions
    old._end()
    assert models.in_flight == gauge.get() - before == 1
    new._end()
    assert models.in_flight == gauge.get() - before == 0


def test_load_tries_a_broken_version_again_and_says_what_is_wrong(folder, exported):
    break_version(folder, "digits", "2")
    break_version(folder, "alone", "1")
    models = opened(folder)
    shutil.rmtree(folder / "digits" / "2")
    shutil.copytree(exported / "2", folder / "digits" / "2")
    asyncio.run(models.load("digits"))
    assert answer(models) == "v2:1.0"
    for name, message, code in (
        ("alone", "no version can be loaded: ", 503),
        ("../digits", "there is no such model", 404),
    ):
        with pytest.raises(Refused, match=message) as refused:
            asyncio.run(models.load(name))
        assert refused.value.status == code


def test_load_takes_files_that_were_replaced_in_place(folder, exported):
    models = opened(folder)
    asyncio.run(models.load("digits"))
    before = models.find("digits")
    asyncio.run(models.load("digits"))
    assert models.find("digits") is before  # nothing has changed
    shutil.rmtree(folder / "digits" / "1")
    shutil.copytree(exported / "2", folder / "digits" / "1")
    models.refresh()
    assert answer(models) == "v1:1.0"  # until it is asked for
    asyncio.run(models.load("digits"))
    assert answer(models) == answer(models, version="1") == "v2:1.0"
    assert metrics.VERSIONS.labels("digits", "1")._value.get() == 1
    (folder / "digits" / "1" / "saved_model.pb").write_bytes(BROKEN)
    shutil.copytree(exported / "1", folder / "digits" / "0")
    for _ in range(2):
        with pytest.raises(Refused, match="so those before still answer") as refused:
            asyncio.run(models.load("digits"))
        assert refused.value.status == 503 and answer(models) == "v2:1.0"
    states = [row["state"] for row in models.index() if row["name"] == "digits"]
    assert states == ["READY"] and metrics.VERSIONS.labels("digits", "1")._value.get() == 1


def test_an_unloaded_model_stays_away_until_it_is_loaded(folder):
    models = opened(folder)
    asyncio.run(models.unload("digits"))
    models.refresh()
    assert status(models, "digits") == status(models, "digits", "1") == 503
    assert answer(models, "other") == "v1:1.0"
    with pytest.raises(Refused):
        asyncio.run(models.unload("digits"))
    asyncio.run(models.load("digits"))
    assert answer(models) == "v1:1.0"


def test_all_versions_and_labels_are_names_of_versions(folder, exported):
    shutil.copytree(exported / "2", folder / "digits" / "2")
    models = opened(folder, versions="all")
    assert [answer(models, version=v) for v in (None, "1", "2")] == ["v2:1.0", "v1:1.0", "v2:1.0"]
    models = opened(folder, labels={("digits", "stable"): "1"})
    assert answer(models, version="stable") == answer(models, version="1") == "v1:1.0"
    assert answer(models) == "v2:1.0" and models.versions("digits") == ["1", "2"]
    assert status(models, "digits", "canary") == status(models, "other", "stable") == 404


def test_while_the_server_shuts_down_there_is_503(folder):
    models = opened(folder)
    models.is_draining = True
    assert status(models, "digits") == 503 and status(models, "nobody") == 404


def test_a_file_that_is_gone_when_it_is_looked_at_counts_for_nothing(tmp_path):
    (tmp_path / "whole").write_bytes(b"123")
    before = repository._stamp(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")  # in the list of the folder, and no file
    assert repository._stamp(tmp_path) == before and before[:2] == (1, 3)
