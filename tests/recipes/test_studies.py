"""Each study runs whole, on data of a few lines, keeps its trials and draws them."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from recipes import cli, studies
from recipes.runs import trials
from recipes.studies import (
    alignment,
    beam_width,
    exposure,
    fixed_vector,
    length,
    padding,
    positions,
    stateful,
    transformer_or_rnn,
)

STUDIES = {
    "fixed_vector": (
        fixed_vector,
        {"words": 2, "phrases": 20, "units": 8, "epochs": 1, "tested": 3},
        {"MODELS": ("rnn_fixed",)},
    ),
    "transformer_or_rnn": (
        transformer_or_rnn,
        {"vocabulary_size": 40, "minutes": 0.01, "test_pairs": 5},
        {"MODELS": ("rnn_luong",), "ALONE": 2},
    ),
    "positions": (
        positions,
        {
            "strings": 40, "longest_trained": 3, "longest_tested": 5, "tested": 2, "units": 8,
            "layers": 1, "epochs": 1,
        },
        {"KINDS": ("t5",)},
    ),
    "beam_width": (
        beam_width,
        {"vocabulary_size": 40, "epochs": 1, "test_pairs": 5, "least_words": 2},
        {"WIDTHS": (3,)},
    ),
    "length": (
        length,
        {"vocabulary_size": 40, "epochs": 1, "test_pairs": 5, "least_words": 2, "beam_size": 2},
        {"WAYS": ("length head", "told the length")},
    ),
    "padding": (
        padding,
        {"vocabulary_size": 40, "model": "rnn_luong", "turn_steps": 2, "batch_tokens": 64},
        {"KINDS": ("padded to the longest text of all", "ragged, token budget")},
    ),
    "alignment": (
        alignment,
        {
            "vocabulary_size": 40, "words": 2, "phrases": 20, "units": 8, "window": 2, "epochs": 1,
            "translation_epochs": 1, "tested": 3,
        },
        {"KINDS": ("local-p",)},
    ),
    "exposure": (
        exposure,
        {"words": 40, "units": 8, "epochs": 1, "batch_tokens": 128, "tested": 3},
        {"KINDS": ("transformer, scheduled sampling",)},
    ),
    "stateful": (
        stateful,
        {"characters": 300, "held_out": 60, "rows": 2, "steps": 5, "units": 8, "epochs": 1},
        {"KINDS": ("stateful",)},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Flags for a table of sentences and for a dictionary."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = {" ".join(f"w{word}" for word in rng.integers(9, size=4)) for _ in range(150)}
    pairs = [f"{row}\t{row[::-1]}\n" for row in sorted(rows)]
    (folder / "pairs.tsv").write_text("".join(pairs), encoding="utf-8")
    letters = ["".join(rng.choice(list("abcde"), 4)) for _ in range(80)]
    entries = [f"{word.upper()}  {' '.join(word.upper())}\n" for word in sorted(set(letters))]
    (folder / "words.dict").write_text("".join(entries), encoding="utf-8")
    return {"data": str(folder / "pairs.tsv"), "dictionary": str(folder / "words.dict")}


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_keeps_its_trials_and_draws_them(name, data, tmp_path, monkeypatch, capsys):
    study, flags, fewer = STUDIES[name]
    for constant, value in fewer.items():
        monkeypatch.setattr(study, constant, value)
    fields = study.Config.__dataclass_fields__
    flags = flags | {key: value for key, value in data.items() if key in fields}
    config = study.Config(**flags, seeds=1, output=str(tmp_path))
    study.main(config)
    assert "| |" in (printed := capsys.readouterr().out) or "| beam size |" in printed
    assert len(list(tmp_path.glob("*.png"))) == 1
    kept = json.loads((tmp_path / "trials.json").read_text(encoding="utf-8"))
    names = next((v for v in fewer.values() if isinstance(v[0], str)), ("model",))
    assert [trial["name"] for trial in kept["trials"]] == list(names)
    assert kept["machine"] and kept["date"] and "output" not in kept["flags"]


def test_a_stopped_study_goes_on_and_other_flags_start_anew(tmp_path):
    config = fixed_vector.Config(seeds=2)
    study = trials.Study(config, tmp_path)
    for name, seed in study.missing("ab", 2):
        if (name, seed) == ("a", 1):
            break
        study.add(name, seed, {"chrF": 10.0 + seed, "by length": [1.0, None]})
    again = trials.Study(fixed_vector.Config(seeds=2, output="elsewhere"), tmp_path)
    assert list(again.missing("ab", 2)) == [("a", 1), ("b", 1)]
    assert np.isnan(again.values("b", "by length")[0, 1])
    more = trials.Study(fixed_vector.Config(seeds=3), tmp_path)
    assert list(more.missing("a", 3)) == [("a", 1), ("a", 2)]
    assert trials.Study(fixed_vector.Config(units=7), tmp_path).trials == []


@pytest.mark.parametrize("path", sorted(Path(studies.__path__[0]).glob("[a-z]*.py")))
def test_the_commands_of_a_docstring_are_commands(path):
    module = importlib.import_module(f"recipes.studies.{path.stem}")
    commands = re.findall(rf"python -m {re.escape(module.__name__)}\b([^#\n]*)", module.__doc__)
    assert len(commands) == 2
    for words in commands:
        cli.parse(module.Config, words.split())


def test_the_interval_is_that_of_students_t():
    stats = pytest.importorskip("scipy.stats")
    for count in (2, 3, 5, 10, 11, 15, 31):
        values = np.random.default_rng(count).normal(size=(count, 3))
        mean, half = trials.mean_and_interval(values)
        low, high = stats.t.interval(0.95, count - 1, mean, stats.sem(values))
        np.testing.assert_allclose(mean - half, low, atol=2e-2)
        np.testing.assert_allclose(mean + half, high, atol=2e-2)
    assert np.isnan(trials.mean_and_interval(np.ones((1,)))[1])


def test_scores_by_length_leave_empty_classes_out():
    found = trials.by_length([1, 2, 5, 9], (1, 3, 4, 6), lambda rows: float(sum(rows)))
    assert found == [1.0, None, 2.0]
    assert trials.length_names((1, 3, 4, 6)) == ["1-2", "3-3", "4-5"]
