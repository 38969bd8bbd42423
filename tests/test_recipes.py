"""The recipes, whole: files in, a scored SavedModel out, interrupted and resumed."""

import dataclasses
import itertools
import json

import pytest

import kzoo
from recipes import cli, reverse, translation

WORDS = {
    "one": "eins",
    "two": "zwei",
    "three": "drei",
    "red": "rote",
    "green": "grüne",
    "cats": "Katzen",
    "dogs": "Hunde",
}


def write_pairs(path, repeats=1):
    sources = [" ".join(words) for n in (2, 3) for words in itertools.permutations(WORDS, n)]
    lines = [f"{s}\t{' '.join(WORDS[w] for w in s.split())}\n" for s in sources]
    path.write_text("".join(lines * repeats), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(tmp_path):
    return translation.Config(
        data=write_pairs(tmp_path / "pairs.tsv"),
        model="transformer_tiny",
        tokenizer="words",
        dropout=0.0,
        batch_tokens=256,
        epochs=1,
        validation_pairs=11,
        warmup_steps=20,
        beam_size=2,
        max_length=16,
        output=str(tmp_path / "out"),
    )


@pytest.mark.slow
def test_a_translation_run_leaves_a_scored_model_and_an_interrupted_one_goes_on(
    config, tmp_path, monkeypatch, capfd
):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(translation, "export_and_score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            translation.main(config)
    with pytest.raises(ValueError, match="holds an interrupted run: go on with it by --resume"):
        translation.main(config)
    resumed = dataclasses.replace(config, epochs=3, resume=True)
    with pytest.raises(ValueError, match=r"`resume` needs the flags of the run before; .*'seed'"):
        translation.main(dataclasses.replace(resumed, seed=7))

    figures = translation.main(resumed)
    printed = capfd.readouterr().out
    assert "Epoch 1/3" not in printed.split("Epoch 2/3")[-1]
    assert "A fresh process with tensorflow and tensorflow_text only answers" in printed
    assert "->" in printed
    folder = tmp_path / "out"
    assert [path.name for path in folder.iterdir()] == ["1"]
    written = {path.name for path in (folder / "1").iterdir()}
    assert {
        "saved_model.pb",
        "model_card.md",
        "metrics.json",
        "learning_curve.png",
        "attention-1.png",
    } <= written
    saved = json.loads((folder / "1" / "metrics.json").read_text(encoding="utf-8"))
    assert set(figures) <= set(saved)
    card = (folder / "1" / "model_card.md").read_text(encoding="utf-8")
    assert "nrefs:1" in card
    assert "python -m recipes.translation" in card
    assert isinstance(kzoo.load(folder)("two red cats"), str)


@pytest.mark.slow
def test_an_rnn_learns_to_reverse_strings(tmp_path):
    config = reverse.Config(
        strings=6_000, test_strings=100, longest=6, minutes=4.0, output=str(tmp_path / "out")
    )
    assert reverse.main(config) >= 95
    assert kzoo.load(tmp_path / "out")("kzoo") == "oozk"


def test_reverse_asks_for_no_more_strings_than_there_are():
    with pytest.raises(ValueError, match="`longest` must allow 20,700 different strings"):
        reverse.make_strings(reverse.Config(longest=2))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "missing.tsv"], "missing.tsv"),
        (["--train", "left.en,left.de"], "as many lines"),
        (["--train", "empty.tsv"], "empty.tsv"),
        (["--target_language", "en"], "target_language"),
    ],
)
def test_bad_input_ends_a_recipe_with_one_line(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "left.en").write_text("a\nb\n")
    (tmp_path / "left.de").write_text("a\n")
    (tmp_path / "empty.tsv").write_text("")
    monkeypatch.setattr("sys.argv", ["translation", *flags])
    with pytest.raises(SystemExit) as stop:
        cli.run(translation.main, translation.Config, translation.__doc__)
    text = str(stop.value)
    assert text.startswith("error: ")
    assert message in text
    assert not (tmp_path / "saved_models").exists()
