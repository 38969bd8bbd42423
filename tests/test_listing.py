"""`kzoo list`: names, facts and folders; what can be imported; at once."""

import subprocess
import sys

import pytest

from kzoo import __main__ as command
from kzoo.export import manifest


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_MODELS", str(tmp_path / "own"))
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "own"


def fake(path, **facts):
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(bytes(2_600_000))
    stated = {"data": "", "licence": "", "command": "", "time": "", "parameters": 7}
    facts = {"name": "", "task": "translation", "languages": ["en", "de"], **stated, **facts}
    manifest.write(path, manifest.Manifest(**facts))


def rows(shown):
    return {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}


def test_models_with_names_are_listed_with_task_languages_score_size_and_folder(own, capsys):
    score = {"metric": "test BLEU", "name": "BLEU", "value": 23.768, "signature": "tok:13a"}
    fake(own / "scored/3", score=score)
    fake(own.parent / "cache/models/imported/1", languages=[])
    fake(own / "damaged/1")
    (own / "damaged/1/manifest.json").write_text("{")
    command.main(["list"])
    shown = capsys.readouterr()
    table = rows(shown.out)
    scored = ["translation", "en,de", "BLEU", "23.77", "2.6", "MB", str(own / "scored/3")]
    assert table["scored"] == scored
    assert table["imported"][:3] == ["translation", "-", "-"]
    assert "damaged" not in table
    assert "/damaged/1/manifest.json: expected what kzoo wrote there" in shown.err
    assert str(own) in table and str(own.parent / "cache/models") in table  # where it looked


def test_what_can_be_imported_is_listed_with_where_it_comes_from(own, capsys):
    command.main(["list"])
    table = rows(capsys.readouterr().out)
    assert table["whisper-tiny.en"][:4] == ["speech_to_text", "71", "MB", "MIT"]
    assert "pip:" in table["whisper-tiny.en"]
    assert "translation" in table["Helsinki-NLP/opus-mt-*"]
    assert table["openai/whisper-*"][-4:] == ["the", "Hugging", "Face", "hub"]
    with pytest.raises(SystemExit, match="2"):
        command.main(["list", "saved_models"])


def test_the_list_and_the_check_of_a_name_come_without_tensorflow(own):
    fake(own / "tiny/1")
    code = "import sys; from kzoo import __main__; __main__.main(['list']); "
    code += "from kzoo.export import names; print(names.find('tiny')); "
    code += "print(sorted({'tensorflow', 'keras', 'numpy'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.stdout.splitlines()[-2:] == [str(own / "tiny/1"), "[]"], done.stderr
