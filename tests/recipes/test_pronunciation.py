"""The pronunciation recipe, whole: a dictionary in, a scored SavedModel out."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kzoo import __main__ as command
from kzoo import text
from recipes import cli, pronunciation, runs
from recipes.data.examples import Words
from recipes.data.pronunciations import load_pronunciations
from recipes.pronunciation import Config
from recipes.runs import training_pairs
from recipes.runs.pronunciation_scores import error_rates, rates_of_sources

PLACES = "small.dict", "b.tsv"
SOUNDS = {"a": "AE1", "b": "B", "c": "K", "d": "D", "e": "EH0"}


def dictionary(path):
    words = ["".join(word) for n in (2, 3) for word in itertools.product(SOUNDS, repeat=n)]
    lines = [f"{word}  {' '.join(SOUNDS[letter] for letter in word)}\n" for word in words]
    path.write_text("".join([*lines, "ABC(1)  EY1 B IY0 S IY0\n"]))
    return str(path)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Config(
        data=dictionary(tmp_path / "small.dict"),
        stress=False,
        ensemble=2,
        units=8,
        layers=1,
        hidden_units=12,
        dropout=0.0,
        batch_tokens=128,
        epochs=2,
        validation_words=7,
        warmup_steps=3,
        learning_rate=0.01,
        average=0,
        beam_size=2,
        max_length=8,
        output="out",
    )


def test_a_card_says_how_many_pronunciations_were_too_long(config, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "fit", lambda *args: None)
    config = dataclasses.replace(config, max_length=3, model="rnn_luong", hidden_units=None)
    splits = load_pronunciations(config.data, stress=False)
    model = pronunciation.build(*pronunciation.learn_tokenizers(splits.train, config), config)
    said = pronunciation.fit(model, splits, tmp_path / "run", config)
    count = sum(len(word) == 3 for word in splits.train.pairs.source)
    assert said == f"; of them left out: {count} pronunciations over 3 tokens" and count > 50


@pytest.mark.slow
def test_an_ensemble_goes_on_at_the_model_where_it_was_stopped_and_is_scored(
    config, tmp_path, monkeypatch, capfd, interrupted
):
    shown = []  # by a fresh process, as in the tests of other recipes
    monkeypatch.setattr(runs, "show_answers", lambda path, words: shown.extend(words))
    run = tmp_path / "out/.kzoo-run"
    with interrupted(run / "members/2/checkpoints"):
        pronunciation.main(config)
    assert (run / "members/1/fitted").exists() and not (run / "members/2/fitted").exists()
    with pytest.raises(ValueError, match="holds an interrupted run: go on with it by --resume"):
        pronunciation.main(config)
    capfd.readouterr()
    figures = pronunciation.main(dataclasses.replace(config, resume=True))
    printed = capfd.readouterr().out
    first, second = printed.split("Model 2 of 2")
    assert "Epoch" not in first and "Epoch 1/2" not in second and "Epoch 2/2" in second

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1"]
    names = {path.name for path in (tmp_path / "out/1").iterdir()}
    assert {"learning_curve-1.png", "learning_curve-2.png", "model_card.md"} <= names
    kinds = ("", ", model 1 alone", ", model 2 alone")
    rates = {f"test {rate}{kind}" for rate in ("WER", "PER") for kind in kinds}
    assert set(figures) == rates | {"test WER of the best 2"}
    assert figures["test WER of the best 2"] <= figures["test WER"] <= 100
    metrics = json.loads((tmp_path / "out/1/metrics.json").read_text(encoding="utf-8"))
    assert set(figures) <= set(metrics)
    assert any(name.startswith("best of ") for name in metrics)

    assert 0 < len(shown) <= 5

    command.main(["out", "CAB", "cab", "--n_best"])
    first, second, _ = capfd.readouterr().out.split("\n\n")
    assert first == second and len(first.splitlines()) == 2
    phonemes = {phoneme for line in first.splitlines() for phoneme in line.split("\t")[1].split()}
    assert phonemes <= {"AE", "B", "K", "D", "EH", "EY", "IY", "S"}


@pytest.mark.slow
def test_dictionaries_are_mixed_cleaned_and_scored_apart(config, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(runs, "show_answers", lambda *_: None)
    words = ["".join(word) for word in itertools.product("fgab", repeat=3)]
    sounds = SOUNDS | {"f": "F", "g": "G"}
    lines = [f"{word}\t{' '.join(sounds[letter] for letter in word)}\n" for word in words]
    (tmp_path / "b.tsv").write_text("".join([*lines, "babababa\tB K\n"]))
    changed = {"data": "small.dict:1,b.tsv:3", "clean": True, "ensemble": 1, "epochs": 1}
    figures = pronunciation.main(dataclasses.replace(config, **changed))
    printed = capfd.readouterr().out
    assert "Cleaning " in printed and "1  lengths differ, as 'babababa' -> 'B K'" in printed
    repeated = int(re.search(r"(\d+)  repeated, as '[ab]{3}' -> ", printed)[1])
    assert 0 < repeated <= 2**3  # words of a and b alone are in both
    sizes = [int(re.search(rf"train {name}: (\d+) pairs", printed)[1]) for name in PLACES]
    times = [float(re.search(rf"{name} (\d+\.\d+)", printed)[1]) for name in PLACES]
    assert times[0] == 1 and times[1] * sizes[1] == pytest.approx(3 * sizes[0], rel=0.01)
    assert {f"test {rate} {name}" for rate in ("WER", "PER") for name in PLACES} <= set(figures)
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "| licence | small.dict: as the data's; b.tsv: as the data's |" in card
    assert f"{repeated} repeated, 1 lengths differ" in card


def test_the_words_of_each_source_are_scored_by_all_that_is_listed():
    part = Words()
    for entry in (
        *(("read", "R IY D", "x"), ("read", "R EH D", "y"), ("a", "AH", "x")),
        *(("b", "B IY", "y"), ("c", "S IY", "y")),
    ):
        part.add(*entry)
    scores = rates_of_sources(["R EH D", "EY", "B IY", "S IY"], part)
    values = {name: score.value for name, score in scores.items()}
    assert values == {"WER x": 50, "PER x": 25, "WER y": 0, "PER y": 0}
    assert not rates_of_sources(["AH"], Words({"a": ["AH"]}))


def tokenizers():
    return text.CharacterTokenizer.learn(["abc"], 20), text.SpaceTokenizer.learn(["AH B S"], 20)


@pytest.mark.parametrize("name", ["rnn_luong", "rnn_bahdanau", "transformer_tiny"])
def test_a_model_of_the_zoo_takes_the_flags_that_it_has(name):
    sizes = {} if name in pronunciation.FIXED_SIZES else {"units": 8}
    config = Config(model=name, layers=1, dropout=0.0, label_smoothing=0.2, decay="inverse_sqrt")
    model = pronunciation.build(*tokenizers(), dataclasses.replace(config, **sizes))
    assert model.head.label_smoothing == 0.2
    assert type(model.optimizer._learning_rate).__name__ == "InverseSquareRoot"


def test_the_default_model_has_less_than_5_million_weights_for_english():
    letters = [chr(number) for number in range(ord("a"), ord("a") + 60)]
    source = text.CharacterTokenizer.learn(letters, 100)
    target = text.SpaceTokenizer.learn([f"P{number}" for number in range(70)], 100)
    model = pronunciation.build(source, target, Config())
    model.build({"source": (None, None), "target": (None, None)})
    assert 3.9e6 < model.count_params() < 5e6


def test_training_never_sees_what_is_excluded(config, tmp_path, monkeypatch):
    (tmp_path / "test_words.txt").write_text("ABC\nab\nBAD\n")
    seen = []

    def stop(model, pairs, name, **options):
        seen.extend(pairs.source)
        if name == "valid":
            raise KeyboardInterrupt
        return tokenize(model, pairs, name, **options)

    tokenize = training_pairs.tokenize
    monkeypatch.setattr(training_pairs, "tokenize", stop)
    with pytest.raises(KeyboardInterrupt):
        pronunciation.main(dataclasses.replace(config, exclude="test_words.txt"))
    assert len(seen) > 100 and not {"abc", "ab", "bad"} & set(seen)


def test_scores_say_what_the_training_data_add_for_held_out_words():
    part = Words({"read": ["R IY D"], "a": ["AH"]}, elsewhere={"read": ["R EH D"]})
    scores = error_rates(["R EH D", "AH"], part)
    assert {name: score.value for name, score in scores.items()} == {
        "WER": 50.0,
        "PER": 25.0,
        "WER, what train lists is right too": 0.0,
        "PER, what train lists is right too": 0.0,
    }
    assert list(error_rates(["AH"], Words({"a": ["AH"]}))) == ["WER", "PER"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ensemble": 0}, "`ensemble` must be at least 1, got ensemble=0"),
        ({"validation_words": 0}, "`validation_words` must be at least 1"),
        ({"label_smoothing": 1.0}, r"`label_smoothing` must lie in \[0, 1\), got"),
        ({"layers": 0}, "`layers` must be positive, got layers=0"),
        ({"model": "transformer_tiny", "units": 8}, "`units` must be none for transformer_tiny, g"),
        ({"norm_first": False, "model": "rnn_luong"}, "`norm_first` must be left out for rnn_l"),
        ({"model": "rnn_luong", "hidden_units": 8}, "`hidden_units` must be none for rnn_luong, g"),
    ],
)
def test_a_flag_out_of_range_is_refused_before_anything_is_loaded(values, message):
    with pytest.raises(ValueError, match=message):
        Config(**values)


def test_a_missing_package_is_named_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ImportError, match=r"needs the jiwer package: .* kzoo\[recipes\]"):
        pronunciation.main(Config(data="missing.dict"))


def test_a_run_of_members_is_known_by_the_journal_of_any(config):
    run = runs.open_run(config, config.folder, "digest")
    (pronunciation.member(run, 2) / "journal.jsonl").touch()
    with pytest.raises(ValueError, match="holds an interrupted run: go on with it by --resume"):
        runs.open_run(config, config.folder, "digest")
    runs.remove_run(run)


def test_help_is_shown_at_once_and_without_tensorflow():
    code = (
        "import sys; from recipes import cli, pronunciation as p\n"
        "assert 'tensorflow' not in sys.modules\n"
        "cli.run(p.main, p.Config, p.__doc__)"
    )
    root = Path(cli.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--ensemble 5" in done.stdout and "--exclude" in done.stdout
