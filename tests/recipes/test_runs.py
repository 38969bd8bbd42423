"""What all runs share: the precision, the examples that fit, the start without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kzoo
from kzoo import text
from recipes import reverse, runs, speech_to_text, translation
from recipes.data import clips, weights
from recipes.runs import processor
from recipes.studies import sampled_softmax

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("flags", "policy", "reason"),
    [
        ("fpu avx512f amx_bf16 avx512_bf16", "mixed_bfloat16", "the CPU has amx_bf16 and avx512_"),
        ("fpu avx512f avx512_bf16", "mixed_bfloat16", "the CPU has avx512_bf16"),
        ("fpu avx512f avx512_vnni", "float32", "the CPU has neither amx_bf16 nor avx512_bf16"),
        ("fpu avx512_bf16x", "float32", "the CPU has neither"),
    ],
)
def test_auto_takes_bfloat16_where_the_cpu_multiplies_in_it_whoever_made_it(
    flags, policy, reason, tmp_path, monkeypatch
):
    core = f"vendor_id\t: AuthenticAMD\nmodel name\t: EPYC 7\nflags\t\t: {flags}\n\n"
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    processor.CPUINFO.write_text(2 * core)
    found = processor.choose_precision("auto")
    assert found.policy == policy and found.reason.startswith(reason)
    assert runs.machine().endswith(" cores, EPYC 7")
    assert processor.choose_precision("float32") == ("float32", "as asked for")


@pytest.mark.parametrize(
    ("bfloat16", "policy"), [(0.002, "mixed_bfloat16"), (0.003, "float32"), (0.08, "float32")]
)
@pytest.mark.parametrize("content", [None, "processor\t: 0\nFeatures\t: fp asimd bf16\n"])
def test_auto_measures_where_the_system_tells_no_flags(
    content, bfloat16, policy, tmp_path, monkeypatch
):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    if content is not None:
        processor.CPUINFO.write_text(content)
    seconds = {"bfloat16": bfloat16, "float32": 0.004}
    monkeypatch.setattr(processor, "product_seconds", seconds.get)
    processor._measured_precision.cache_clear()
    found = processor.choose_precision("auto")
    processor._measured_precision.cache_clear()
    assert found.policy == policy
    assert f"{1000 * bfloat16:.1f} ms in bfloat16 and 4.0 ms in float32, measured" in str(found)


def test_a_product_takes_time():
    assert processor.product_seconds("float32") > 0


def broken(*arguments, **options):
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    raise ValueError("no such units")


def build_translation(monkeypatch):
    tokenizer = text.WordTokenizer.learn(["a b"], 8)
    config = translation.Config(tokenizer="words", precision="mixed_bfloat16")
    translation.build(tokenizer, tokenizer, config)


def build_reverse(monkeypatch):
    tokenizer = text.CharacterTokenizer.learn(["a b"], 8)
    reverse.build(tokenizer, reverse.Config(precision="mixed_bfloat16"))


def build_speech(monkeypatch):
    part = clips.Clips()
    part.rows.append(type("Clip", (), {"text": "a b"})())
    sound = np.zeros(800, np.float32), 8000
    monkeypatch.setattr(
        speech_to_text.clips_audio, "read_all", lambda part: iter([(part.rows[0], sound)])
    )
    config = speech_to_text.Config(init_from=None, precision="mixed_bfloat16")
    speech_to_text.build(part, speech_to_text.settled(config))


def build_study(monkeypatch):
    monkeypatch.setattr(
        processor, "choose_precision", lambda name: processor.Precision("mixed_bfloat16", "told")
    )
    tokenizer = text.WordTokenizer.learn(["a b"], 8)
    sampled_softmax.build([tokenizer] * 2, 3, sampled_softmax.Config())


@pytest.mark.parametrize(
    ("build", "model"),
    [
        (build_translation, "transformer_tiny"),
        (build_reverse, "rnn_luong"),
        (build_speech, "speech_transformer"),
        (build_study, "transformer_tiny"),
    ],
)
def test_a_model_that_cannot_be_built_leaves_the_precision_as_it_was(build, model, monkeypatch):
    before = keras.config.dtype_policy().name
    monkeypatch.setattr(kzoo.zoo, model, broken)
    with pytest.raises(ValueError, match="no such units"):
        build(monkeypatch)
    assert keras.config.dtype_policy().name == before == "float32"


def test_what_the_recipes_know_without_tensorflow_is_what_it_says():
    names = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(weights.APPLICATIONS.split()) == names
    assert speech_to_text.MIN_RATE_HZ == kzoo.audio.MIN_RATE_HZ


STARTS = """
import sys
from recipes import (
    cli, image_captioning, reverse, speech_to_text, summarization, translation
)
from recipes.studies import sampled_softmax
recipes = [
    image_captioning, reverse, speech_to_text, translation, summarization, sampled_softmax
]
calls = [(recipe, words) for recipe in recipes for words in (["--help"], ["--epoch=1"])]
paths = [(recipe, ["--data", "missing.tsv"]) for recipe in recipes if recipe is not reverse]
paths += [(recipe, ["--train", "missing"]) for recipe in recipes[:1] + recipes[2:5]]
for recipe, words in calls + paths:
    sys.argv = ["recipe", *words]
    try:
        cli.run(recipe.main, recipe.Config, recipe.__doc__)
    except SystemExit as stop:
        assert stop.code != 0 or words == ["--help"]
        assert len(words) == 1 or "missing" in str(stop.code), stop.code
    else:
        raise AssertionError((recipe, words))
    heavy = {"tensorflow", "keras", "matplotlib"} & set(sys.modules)
    assert not heavy, (recipe.__name__, words, heavy)
"""


def test_help_a_wrong_flag_and_a_missing_path_are_answered_without_tensorflow(tmp_path):
    """Needs an `import kzoo` that loads nothing before it is used."""
    done = subprocess.run(
        [sys.executable, "-c", STARTS],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "KZOO_CACHE": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not any(tmp_path.iterdir())


def test_answers_come_in_chunks_and_in_order(capsys):
    sizes = []

    def served(some):
        sizes.append(len(some))
        return [f"<{each}>" for each in some]

    answers, seconds = runs.answers_of(served, list("abcde"), "letter", chunk=2)
    assert answers == ["<a>", "<b>", "<c>", "<d>", "<e>"] and sizes == [2, 2, 1] and seconds >= 0
    assert "5/5" in capsys.readouterr().out
    assert runs.answers_of(served, [], "letter", chunk=2)[0] == []
