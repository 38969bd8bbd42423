"""`kzoo import`: a folder of transformers becomes a SavedModel that answers; help; refusals."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest

import kzoo
from kzoo import __main__ as kzoo_main
from kzoo.export import manifest
from kzoo.pretrained import command, downloads

pytest.importorskip("transformers")


def test_a_folder_becomes_a_saved_model_with_a_card_that_answers_by_itself(tmp_path, capsys):
    import marian_models

    (tmp_path / "opus").mkdir()
    marian_models.write(tmp_path / "opus", encoder_layers=1, decoder_layers=1)
    folder = tmp_path / "saved"
    kzoo_main.main(
        ["import", str(tmp_path / "opus"), str(folder), "--max_length", "5", "--beam_size", "2"]
    )
    shown = capsys.readouterr()
    assert shown.out.startswith(">>fra<< Hello! -> ")
    assert "[####] Asking it in a fresh process" in shown.err
    card = (folder / "1" / "model_card.md").read_text()
    for line in ("| imported from | ", "length penalty 1.0, finished_apart True", ">>fra<< Hello!"):
        assert line in card
    signatures = json.loads((folder / "1" / "metrics.json").read_text())
    assert isinstance(signatures, dict)
    served = kzoo.load(folder)
    assert served([">>fra<< Hello!"])[0] == shown.out.removeprefix(">>fra<< Hello! -> ").strip()
    assert served.align("Two men").text == served("Two men")


def test_flags_for_speech_teach_the_defaults_of_doubts(capsys):
    with pytest.raises(SystemExit):
        command.parsed(["--help"])
    shown = " ".join(capsys.readouterr().out.split()).partition(" for speech: ")[2]
    for field in dataclasses.fields(kzoo.models.Doubts):
        default = field.default if field.name != "temperatures" else "0.2 0.4 0.6 0.8 1.0"
        about = shown.partition(f"--{field.name} ")[2]
        assert f"default: {default}" in about.partition(" --")[0] + about.partition(" --")[2][:90]
    args = command.parsed(["x", "y", "--temperatures", "--log_prob_threshold=-inf"])
    assert (args.temperatures, args.log_prob_threshold) == ([], -math.inf)


def test_flags_for_speech_are_refused_with_a_reason(tmp_path, capsys):
    import marian_models

    (tmp_path / "opus").mkdir()
    marian_models.write(tmp_path / "opus", encoder_layers=1, decoder_layers=1)
    words = ["import", str(tmp_path / "opus"), str(tmp_path / "saved"), "--no_speech_threshold"]
    for value, message in (
        ("0.5", "`--no_speech_threshold` must be left out for"),
        ("1.5", "`no_speech_threshold` and `surely_no_speech_threshold` must lie in"),
    ):
        with pytest.raises(SystemExit):
            kzoo_main.main([*words, value])
        assert message in capsys.readouterr().err
        assert not (tmp_path / "saved").exists()


def test_a_name_without_a_folder_is_imported_into_the_cache_and_asked_by_its_name(
    tmp_path, capsys, monkeypatch
):
    import marian_models

    (tmp_path / "opus").mkdir()
    marian_models.write(tmp_path / "opus", encoder_layers=1, decoder_layers=1)
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KZOO_MODELS", str(tmp_path / "own"))
    monkeypatch.setattr(
        downloads, "fetch", lambda name: downloads.Found(tmp_path / "opus", name, None, "CC-BY")
    )
    words = ["import", "Owner/opus-mt-en-fr", "--max_length", "5", "--beam_size", "2"]
    kzoo_main.main(words)
    shown = capsys.readouterr()
    assert "Ask it: kzoo opus-mt-en-fr" in shown.err
    path = tmp_path / "cache/models/opus-mt-en-fr/1"
    assert "| command | kzoo import Owner/opus-mt-en-fr |" in (path / "model_card.md").read_text()
    facts = manifest.check(path)
    assert (facts.name, facts.task, facts.licence) == ("opus-mt-en-fr", "translation", "CC-BY")
    served = kzoo.load("opus-mt-en-fr")
    ((sample, answer),) = facts.answers.items()
    assert shown.out == f"{sample} -> {answer}\n" and served(sample) == answer

    words[1] = "Another/opus-mt-en-fr"
    with pytest.raises(SystemExit, match="2"):
        kzoo_main.main(words)
    said = f"the name opus-mt-en-fr stands for {path}, got Another/opus-mt-en-fr alone"
    assert said in capsys.readouterr().err
    words[1] = "Owner/opus-mt-en-fr"
    (tmp_path / "own/opus-mt-en-fr").mkdir(parents=True)
    path.rename(tmp_path / "own/opus-mt-en-fr/1")
    with pytest.raises(SystemExit, match="2"):
        kzoo_main.main(words)
    assert f"stands for {tmp_path / 'own/opus-mt-en-fr/1'}" in capsys.readouterr().err


def test_a_path_is_imported_into_a_folder_that_is_said(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        kzoo_main.main(["import", str(tmp_path)])
    assert f"FOLDER must be given for what is no name: {tmp_path}" in capsys.readouterr().err


def test_help_comes_without_tensorflow_and_teaches():
    code = "import sys; from kzoo.__main__ import main\ntry: main(['import', '--help'])\n"
    code += "except SystemExit: print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.stdout.endswith("False\n")
    for words in ("kzoo import whisper-tiny.en", "Argos", ">>fra<<", "--precision"):
        assert words in done.stdout


def test_what_cannot_be_imported_is_said_in_one_line_and_nothing_is_written(tmp_path, capsys):
    (tmp_path / "bart").mkdir()
    (tmp_path / "bart" / "config.json").write_text('{"model_type": "bart"}')
    with pytest.raises(SystemExit, match="2"):
        kzoo_main.main(["import", str(tmp_path / "bart"), str(tmp_path / "saved")])
    assert "must be 'marian' or 'whisper', got 'bart'" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "saved").exists()
    with pytest.raises(SystemExit, match="2"):
        kzoo_main.main(["import", "x", "y", "--beam_size", "0"])
    assert "`--beam_size` must be at least 1, got 0" in capsys.readouterr().err
