"""Flags from a dataclass: what they take, what they refuse, and the JSON beside them."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Optional

import pytest
import tensorflow as tf

from recipes import (
    cli,
    image_captioning,
    pronunciation,
    reverse,
    speech_to_text,
    summarization,
    translation,
)
from recipes.cli import flag, load, parse, save


@dataclass(frozen=True)
class Config:
    data: str = flag("homeassistant", "a named source or a path")
    train: str | None = flag(None, "training pairs")
    model: Literal["luong", "transformer"] = flag("luong", "a name in the zoo")
    epochs: int = flag(3, "passes over the data")
    minutes: Optional[float] = flag(None, "time budget")  # noqa: UP045 (the older spelling)
    dropout: float = flag(0.1, "share of units, 10% is usual")
    beam_size: int = flag(5, "hypotheses kept in the search")
    tie_embeddings: bool = flag(True, "one matrix for embedding and head")
    resume: bool = flag(False, "go on from the last checkpoint")

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"`epochs` must be at least 1, got {self.epochs}.")


@dataclass(frozen=True)
class Required:
    output: str


def test_no_flags_give_the_defaults():
    assert parse(Config, []) == Config()


def test_every_type_is_read_from_its_flag():
    words = "--data=a.tsv --train corpus/train --model transformer --epochs 7 --minutes 2.5"
    words += " --dropout 0 --no-tie_embeddings --resume"
    assert parse(Config, words.split()) == Config(
        data="a.tsv",
        train="corpus/train",
        model="transformer",
        epochs=7,
        minutes=2.5,
        dropout=0.0,
        tie_embeddings=False,
        resume=True,
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--beam-size", "2", "--no-tie-embeddings"],
        ["--beam-size=2", "--no_tie_embeddings"],
        ["--beam_size=2", "--no-tie_embeddings"],
    ],
)
def test_dashes_and_underscores_in_a_flag_mean_the_same(words):
    assert parse(Config, words) == Config(beam_size=2, tie_embeddings=False)


def test_dashes_in_a_value_stay():
    assert parse(Config, ["--data=my-corpus-a.tsv"]).data == "my-corpus-a.tsv"


def test_the_word_none_stands_for_none_where_the_type_allows_it():
    assert parse(Config, ["--minutes", "none", "--train", "None", "--data", "none"]) == Config(
        minutes=None, train=None, data="none"
    )


def test_without_argv_the_words_of_the_process_are_read(monkeypatch):
    monkeypatch.setattr("sys.argv", ["recipe", "--epochs", "11"])
    assert parse(Config).epochs == 11


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "many"], "argument --epochs: must be of type int, got 'many'"),
        (["--epochs", "1.5"], "argument --epochs: must be of type int, got '1.5'"),
        (
            ["--epochs", "99999999999999999999"],
            "--epochs: must be between -2**31 and 2**31 - 1, got '99999999999999999999'",
        ),
        (["--epochs", "-2147483649"], "must be between -2**31 and 2**31 - 1, got '-2147483649'"),
        (["--dropout", "nan"], "argument --dropout: must be of type float and finite, got 'nan'"),
        (["--minutes", "inf"], "--minutes: must be of type float and finite or none, got 'inf'"),
        (["--minutes", "soon"], "--minutes: must be of type float and finite or none, got 'soon'"),
        (["--model", "lstm"], "argument --model: must be one of luong, transformer, got 'lstm'"),
        (["--beam-sise", "2"], "unknown argument '--beam-sise'; did you mean --beam_size?"),
        (["--epoch", "2"], "unknown argument '--epoch'; did you mean --epochs?"),
        (["--zzz"], "unknown argument '--zzz'; see --help"),
        (["--resume=yes"], "argument --resume/--no-resume: ignored explicit argument 'yes'"),
        (["--epochs", "0"], "`epochs` must be at least 1, got 0."),
        (["--data", "jos\udce9"], "--data: must be UTF-8, as a card and a run's folder quote it"),
        (["--epochs"], "argument --epochs: expected one argument"),
    ],
)
def test_a_bad_flag_ends_the_program_with_its_name_and_value(words, message, capsys):
    with pytest.raises(SystemExit) as exit:
        parse(Config, words)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


def test_a_field_without_default_is_a_required_flag(capsys):
    assert parse(Required, ["--output", "here"]) == Required("here")
    with pytest.raises(SystemExit):
        parse(Required, [])
    assert "the following arguments are required: --output" in capsys.readouterr().err


def test_help_shows_the_description_as_it_stands_and_every_default(capsys):
    with pytest.raises(SystemExit) as exit:
        parse(Config, ["--help"], description="Translates.\n\n    python -m recipes.translation\n")
    text = capsys.readouterr().out
    assert exit.value.code == 0
    assert "Translates.\n\n    python -m recipes.translation\n" in text
    words = " ".join(text.split())
    assert "--model {luong,transformer} a name in the zoo (default: luong)" in words
    assert "--minutes FLOAT time budget (default: none)" in words
    assert "share of units, 10% is usual (default: 0.1)" in words
    assert "--tie_embeddings, --no-tie_embeddings" in words


@pytest.mark.parametrize("hint", [list[int], int | str, bool | None, bytes])
def test_a_field_of_another_type_is_refused_by_name(hint):
    made = dataclass(frozen=True)(type("Made", (), {"__annotations__": {"sizes": hint}}))
    with pytest.raises(TypeError, match="Field `sizes` must be bool, int, float, str or Literal"):
        parse(made, [])


def test_a_saved_config_loads_as_itself(tmp_path):
    config = Config(data="größe.tsv", minutes=2.5, tie_embeddings=False, model="transformer")
    save(config, tmp_path / "config.json")
    assert load(Config, tmp_path / "config.json") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_whole_number_in_the_file_is_fine_for_a_float(tmp_path):
    save(replace(Config(), minutes=2), tmp_path / "config.json")
    assert load(Config, tmp_path / "config.json").minutes == 2


def test_a_file_of_an_older_kzoo_lacks_newer_flags_which_have_their_defaults(tmp_path):
    save(replace(Config(), minutes=2), tmp_path / "config.json")
    values = json.loads((tmp_path / "config.json").read_text())
    del values["epochs"], values["recipe"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load(Config, tmp_path / "config.json") == replace(Config(), minutes=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": "7"}, "`epochs` must be of type int, got '7'"),
        ({"epochs": True}, "`epochs` must be of type int, got True"),
        ({"epochs": None}, "`epochs` must be of type int, got None"),
        ({"epochs": 2**31}, r"`epochs` must be between -2\*\*31 and 2\*\*31 - 1, got 2147483648"),
        ({"model": "lstm"}, "`model` must be one of luong, transformer, got 'lstm'"),
        ({"dropout": float("inf")}, "`dropout` must be of type float and finite, got inf"),
        ({"beam": 2, "a": 1}, "expected flags of .*test_cli, got also a, beam$"),
        ({"recipe": "recipes.ship"}, "expected flags of .*test_cli, got those of recipes.ship$"),
    ],
)
def test_a_config_file_that_does_not_fit_is_refused_with_its_path(tmp_path, changes, message):
    path = tmp_path / "config.json"
    save(Config(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=f"config.json: {message}"):
        load(Config, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n"epochs": ', "config.json:2: expected JSON, got: Expecting value"),
        ("[7]", r"config.json: expected an object of flags, got \[7\]"),
    ],
)
def test_a_config_file_that_is_no_object_is_refused_with_its_path(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(Config, path)


@pytest.mark.parametrize(
    "content", [100_000 * b"[", 100_000 * b'{"a":', b'{"a": "\xff"}', b"\xff\xfe"]
)
def test_a_config_that_is_nested_too_deep_or_no_utf8_is_named(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json: expected JSON, got: "):
        load(Config, path)


def test_a_saved_config_says_whose_it_is_also_where_that_is_the_program(tmp_path, monkeypatch):
    save(translation.Config(), tmp_path / "config.json")
    assert cli.recipe_in(tmp_path / "config.json") == "recipes.translation"
    monkeypatch.setattr(translation.Config, "__module__", "__main__")
    monkeypatch.setitem(sys.modules, "__main__", translation)
    assert cli.recipe_of(translation.Config) == "recipes.translation"


@pytest.mark.parametrize("content", ["{", "[7]", "{}"])
def test_a_file_that_names_no_recipe_is_of_none(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    assert cli.recipe_in(tmp_path / "config.json") is None
    assert cli.recipe_in(tmp_path / "missing.json") is None


@pytest.mark.parametrize(
    "recipe",
    [translation, pronunciation, summarization, speech_to_text, image_captioning, reverse],
)
def test_a_seed_and_a_number_of_beams_that_cannot_be_are_refused_by_name(recipe):
    for seed in (-1, 2**31):
        with pytest.raises(ValueError, match=rf"`seed` must lie in \[0, 2.*, got seed={seed}\."):
            recipe.Config(seed=seed)
    with pytest.raises(ValueError, match="`beam_size` must be at most 1,000, got beam_size=1001"):
        recipe.Config(beam_size=1001)
    assert recipe.Config(seed=2**31 - 1, beam_size=1000).beam_size == 1000


def test_flags_of_the_export_are_those_that_no_validation_reads():
    of_all = {"beam_size"}
    assert cli.of_export(translation.Config()) == of_all | {"length_penalty", "candidates"}
    assert cli.of_export(speech_to_text.Config()) == of_all | {"length_penalty"}
    assert cli.of_export(image_captioning.Config()) == of_all | {"length_penalty"}
    assert cli.of_export(pronunciation.Config()) == of_all  # its greedy search has the penalty
    assert cli.of_export(summarization.Config()) == of_all


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), tf.errors.ResourceExhaustedError(None, None, "OOM\n\nx")]
)
def test_what_numbers_and_tensorflow_run_into_ends_a_recipe_with_one_line(error, monkeypatch):
    def main(config):
        raise error

    monkeypatch.setattr(sys, "argv", ["recipe"])
    with pytest.raises(SystemExit, match=r"^error: (too large|OOM)\n\(KZOO_TRACEBACK=1 shows"):
        cli.run(main, Config, "")


def test_errors_of_tensorflow_are_looked_up_without_importing_it(monkeypatch):
    assert cli.tensorflow_errors() == (tf.errors.OpError,)
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert cli.tensorflow_errors() == ()
    assert "tensorflow" not in sys.modules


FAULTS = """
import resource, sys
from recipes import cli

if sys.argv[1] == "keep":
    cli.keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    b"x" * 40_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_kept_unless_the_environment_says_something_of_malloc():
    def faults(argument, **more):
        names = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
        own = {k: v for k, v in os.environ.items() if not k.startswith(names)}
        command = [sys.executable, "-c", FAULTS, argument]
        root = Path(cli.__file__).parents[1]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=own | more)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    if os.cpu_count() > cli._FEW_CORES:
        pytest.skip("of few cores")
    kept, before = faults("keep"), faults("as before")
    assert 4 * kept < before
    assert 4 * kept < faults("keep", MALLOC_ARENA_MAX="4")
