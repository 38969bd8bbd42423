"""The recipes, whole: files in, a scored SavedModel out, interrupted and resumed."""

import dataclasses
import itertools
import json
import math
import os
import re
import shlex
import signal
import sys
import tempfile
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import batching, export, plots, text, training
from kzoo.export import folder
from recipes import cli, reverse, runs, summarization, translation
from recipes.data import examples
from recipes.runs import planning, translation_scores
from recipes.studies import sampled_softmax

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
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return translation.Config(
        data=write_pairs(tmp_path / "pairs.tsv"),
        tokenizer="words",
        dropout=0.0,
        batch_tokens=256,
        epochs=3,
        validation_pairs=11,
        warmup_steps=20,
        beam_size=2,
        length_deviation_penalty=0.1,
        max_length=16,
        output="out",  # relative, as people type it
    )


@pytest.mark.slow
def test_an_interrupted_translation_run_goes_on_and_leaves_a_scored_model(
    config, tmp_path, monkeypatch, capfd, interrupted
):
    with pytest.raises(ValueError, match="vocabulary_size"):
        translation.main(dataclasses.replace(config, vocabulary_size=4))  # blocks nothing
    with interrupted(tmp_path / "out/.kzoo-run/checkpoints"):
        translation.main(config)
    interruption = capfd.readouterr().out.split("\nInterrupted. ")[1]
    assert interruption.startswith(
        "The last checkpoint in out/.kzoo-run is of the begin of epoch 2"
    )
    assert ": the same command with --resume goes on from there." in interruption
    with pytest.raises(ValueError, match="holds an interrupted run: go on with it by --resume"):
        translation.main(config)
    starts = []
    token_batches = batching.token_batches

    def recording(corpus, batch_tokens, seed=None, draw=None, start=0):
        starts.append(start)
        return token_batches(corpus, batch_tokens, seed, draw=draw, start=start)

    monkeypatch.setattr(batching, "token_batches", recording)
    resumed = dataclasses.replace(config, resume=True)
    with pytest.raises(ValueError, match=r"`resume` needs the flags of the run before; .*'seed'"):
        translation.main(dataclasses.replace(resumed, seed=7))

    def no_map(*arguments, **options):
        raise ValueError("no such font")

    with monkeypatch.context() as patch:
        patch.setattr(plots, "attention_map", no_map)
        with pytest.warns(UserWarning, match=r"out/1 is whole, .*no such font"):
            figures = translation.main(resumed)
    assert starts[0] > 0  # other batches than those of the epoch that is done
    printed = capfd.readouterr().out
    assert "Epoch 1/3" not in printed.split("Learning a vocabulary")[-1]
    assert "Epoch 2/3" in printed
    assert "A fresh process that imports only tensorflow and tensorflow_text answers" in printed
    assert "->" in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1"]
    written = {path.name for path in (tmp_path / "out/1").iterdir()}
    assert {
        "saved_model.pb",
        "model_card.md",
        "metrics.json",
        "learning_curve.png",
    } <= written
    saved = json.loads((tmp_path / "out/1/metrics.json").read_text(encoding="utf-8"))
    assert set(figures) <= set(saved)
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "nrefs:1" in card and "length_deviation_penalty 0.1" in card
    assert "python -m recipes.translation --data" in card
    assert isinstance(kzoo.load("out")("two red cats"), str)


@pytest.mark.slow
def test_a_run_with_sampled_words_and_candidate_lists_is_scored(config, tmp_path):
    config = dataclasses.replace(config, sampled=5, candidates=6, model="rnn_luong", average=0)
    figures = translation.main(config)
    assert figures["test BLEU"] >= 0
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "--sampled 5 --candidates 6" in card


def test_a_sampled_run_updates_rows_only():
    config = translation.Config(tokenizer="words", sampled=5)
    tokenizer = text.WordTokenizer.learn(["a b c d"], 8)
    model = translation.build(tokenizer, tokenizer, config)
    assert isinstance(model.optimizer, kzoo.LazyAdam)
    assert model.head.num_sampled == 5
    all_of_8 = dataclasses.replace(config, sampled=1000)
    assert translation.build(tokenizer, tokenizer, all_of_8).head.num_sampled == 8
    full = translation.build(tokenizer, tokenizer, dataclasses.replace(config, sampled=0))
    assert isinstance(full.optimizer, kzoo.FusedAdam)
    assert not isinstance(full.optimizer, kzoo.LazyAdam)


@pytest.mark.slow
def test_the_study_of_sampled_classes_trains_all_models_in_turns(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sampled_softmax, "NUMBERS", (3, 0))
    words = np.minimum(np.random.default_rng(1).zipf(1.5, (300, 3)), 20)
    lines = [" ".join(f"w{word}" for word in row) for row in words]
    (tmp_path / "pairs.tsv").write_text("".join(f"{line}\t{line.upper()}\n" for line in lines))
    config = sampled_softmax.Config(
        data=str(tmp_path / "pairs.tsv"),
        minutes=0.01,
        turn_seconds=0.3,
        batch_tokens=256,
        validation_pairs=7,
        output=str(tmp_path / "out"),
    )
    perplexities = sampled_softmax.main(config)
    assert list(perplexities) == [3, 0]
    printed = capsys.readouterr().out.splitlines()[-4:]
    assert printed[0].startswith("| classes | ms a step | steps | perplexity | seconds to perplex")
    assert printed[2].startswith("| 3 |") and printed[3].startswith("| all |")
    result = json.loads((tmp_path / "out/points.json").read_text(encoding="utf-8"))
    assert result["vocabulary"] == 24
    rounds = len(result["points"]) // 2
    assert [point["sampled"] for point in result["points"]] == [3, 0] * rounds
    assert all(point["seconds"] >= 0.6 for point in result["points"][-2:])
    assert (tmp_path / "out/sampled_softmax.png").exists()


@pytest.mark.slow
def test_a_diverged_run_says_so_and_never_counts_as_fitted(config, tmp_path):
    config = dataclasses.replace(config, learning_rate=1e30, warmup_steps=1)
    for resume in (False, True):  # what is left of it has not been fitted either
        with pytest.raises(
            RuntimeError, match=r"diverged in epoch \d: .* gradients .*; remove .*lower --l"
        ):
            translation.main(dataclasses.replace(config, resume=resume))
    assert not (tmp_path / "out/.kzoo-run/fitted").exists()


@pytest.mark.parametrize(
    ("average", "kept"),
    [
        ((51.0, 3.5), 7),  # with the better score
        ((48.0, 1.5), 7),  # with the better loss, and nearly the score
        ((47.0, 1.5), 5),
        ((50.0, 2.0), 5),
        ((math.nan, 1.5), 5),
        ((51.0, math.nan), 5),
    ],
)
def test_the_average_is_taken_for_a_better_score_or_a_better_loss_at_nearly_the_score(
    average, kept, tmp_path
):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.full((1, 1), 7.0)])
    last = training.LastWeights(tmp_path / "last", 2)
    last.set_model(model)
    last.on_epoch_end(0)
    model.set_weights([np.full((1, 1), 5.0)])
    best = training.BestWeights(tmp_path / "best.npz", "val_bleu")
    best.set_model(model)
    best.on_epoch_end(0, {"val_bleu": 50.0})
    judged = iter([(50.0, 2.0), average])
    runs.choose_weights(model, best, last, lambda: next(judged))
    assert model.get_weights()[0] == kept


def test_a_run_removes_its_own_folder_only(config, tmp_path):
    (tmp_path / "out/training").mkdir(parents=True)
    (tmp_path / "out/training/thesis.txt").write_text("mine")
    run = runs.open_run(config, config.folder, "digest")
    assert runs.open_run(config, config.folder, "digest") == run  # nothing to lose
    (run / "notes.txt").write_text("mine")
    for act in (lambda: runs.remove_run(run), lambda: translation.main(config)):
        with pytest.raises(ValueError, match=r"\.kzoo-run must be a folder .* got notes\.txt"):
            act()
    assert (run / "notes.txt").exists()
    (run / "notes.txt").unlink()
    runs.remove_run(run)
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["training", "thesis.txt"]


def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(config, tmp_path):
    run = tmp_path / "out/.kzoo-run"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")  # in its first epoch
    other = folder.try_lock(tmp_path / "out")
    for resume in (False, True):
        with pytest.raises(ValueError, match="`output` out is in use by another run; wait for its"):
            runs.open_run(dataclasses.replace(config, resume=resume), config.folder, "digest")
    assert (run / "config.json").read_text() == "{}"
    os.close(other)
    run = runs.open_run(config, config.folder, "digest")
    assert folder.try_lock(tmp_path / "out") is None
    runs.close_run(run, config)
    os.close(folder.try_lock(tmp_path / "out"))


def test_the_lock_of_a_run_dies_with_its_process(config, tmp_path):
    child = os.fork()
    if child == 0:
        runs.open_run(config, config.folder, "digest")
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (tmp_path / "out/.kzoo-run/config.json").exists()
    runs.close_run(runs.open_run(config, config.folder, "digest"), config)


@pytest.mark.parametrize("parent", ["pairs.tsv", "/proc"])
def test_a_folder_that_cannot_be_written_is_named_before_any_training(parent, config):
    config = dataclasses.replace(config, output=f"{parent}/out")
    with pytest.raises(ValueError, match=f"must be a folder that can be .*got {parent}/out: N"):
        translation.main(config)


def test_a_run_that_died_while_its_first_checkpoint_was_written_begins_anew(config, capsys):
    run = runs.open_run(config, config.folder, "digest")
    (run / "checkpoints").mkdir()
    (run / "checkpoints/part.checkpoint-000000004.npz").write_bytes(b"PK")
    resumed = dataclasses.replace(config, resume=True)
    assert runs.open_run(resumed, config.folder, "digest") == run
    assert "Nothing to resume in out: starting." in capsys.readouterr().out
    assert not (run / "checkpoints").exists()
    (run / "checkpoints").mkdir()
    (run / "checkpoints/checkpoint-000000004.npz").touch()  # within the first epoch
    with pytest.raises(ValueError, match="holds an interrupted run: go on with it by --resume"):
        runs.open_run(config, config.folder, "digest")
    runs.close_run(run, config)


@pytest.mark.slow
def test_a_dry_run_prints_a_plan_and_leaves_nothing(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(kzoo.zoo, "transformer_tiny", kzoo.zoo.transformer_tiny.func)  # the whole
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        translation.main(dataclasses.replace(config, dry_run=True, epochs=20_000, minutes=1.5))
    assert stop.value.code == 0
    said = capsys.readouterr().out
    plan = said[said.index("The plan:") :]
    assert re.search(r"parameters +1,\d{3},\d{3}, of which 1,\d{3},\d{3} are trained", plan)
    assert re.search(r"an epoch +4 steps of [\d,]+ ms, and \d+\.\d s of validation", plan)
    assert re.search(r"making a batch takes \d+\.\d ms, \d+% of a step", plan)
    assert re.search(r"at most 20,000 epochs; --minutes 1.5 ends it in epoch \d", plan)
    minutes = re.search(
        r"minutes +reading (\S+) \+ training 1\.5 \+ export and scores (\S+) = (\S+)", plan
    )
    reading, rest, total = map(float, minutes.groups())
    assert total == pytest.approx(reading + 1.5 + rest, abs=0.2)
    # AutoGraph removes its own files when the process ends.
    passing = re.compile("dry-run|__autograph_generated_file")
    assert sorted(path for path in tmp_path.rglob("*") if not passing.search(str(path))) == before


@pytest.mark.parametrize("flag", ["output", "tensorboard"])
@pytest.mark.parametrize("place", ["file", "file/below", "link", "shut/below"])
def test_a_folder_that_cannot_be_written_is_named_with_its_flag_before_data_are_read(
    flag, place, config, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "shut").mkdir()
    access, shut = os.access, tmp_path / "shut"
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and path != shut)
    monkeypatch.setattr(translation, "load", lambda config: pytest.fail("data were read"))
    message = f"^`{flag}` must be a folder that can be made and written to, got {place}: "
    for dry_run in (False, True):
        with pytest.raises(ValueError, match=message):
            translation.main(dataclasses.replace(config, dry_run=dry_run, **{flag: place}))
    assert not (tmp_path / "out").exists()


def test_a_dry_run_refuses_what_the_run_would_and_makes_nothing(config, tmp_path):
    dry = dataclasses.replace(config, dry_run=True)
    assert runs.open_run(dry, dry.folder, "digest").parent != tmp_path / "out"
    assert not (tmp_path / "out").exists()
    run = runs.open_run(config, config.folder, "digest")
    (run / "journal.jsonl").touch()
    before = sorted((tmp_path / "out").rglob("*"))
    for changes, digest, message in (
        ({}, "digest", "`output` out holds an interrupted run: go on with it by --resume, or remo"),
        ({"resume": True}, "other", "`resume` needs the data of the run before"),
        ({"resume": True, "max_length": 9}, "digest", "`resume` needs the flags of the run before"),
    ):
        with pytest.raises(ValueError, match=message):
            runs.open_run(dataclasses.replace(dry, **changes), dry.folder, digest)
    resumed = dataclasses.replace(dry, resume=True)
    assert runs.open_run(resumed, dry.folder, "digest") != run
    assert sorted((tmp_path / "out").rglob("*")) == before
    runs.close_run(run, config)
    lock = folder.try_lock(tmp_path / "out")
    with pytest.raises(ValueError, match="`output` out is in use by another run"):
        runs.open_run(dry, dry.folder, "digest")
    os.close(lock)
    (tmp_path / "out/.kzoo-run").mkdir()
    (tmp_path / "out/.kzoo-run/mine").touch()
    with pytest.raises(ValueError, match=r"nothing but the files of a run, .* got mine"):
        runs.open_run(dry, dry.folder, "digest")


def stopped_by_ctrl_c(config, parts):
    """The folder of a run that is stopped when these of its parts have a checkpoint."""
    done = training.checkpoints.Position(2, 3, 11, 1.5)
    with pytest.raises(KeyboardInterrupt), runs.opened_run(config, config.folder, "digest") as run:
        for part in parts:
            (run / part).mkdir(parents=True, exist_ok=True)
            training.checkpoints.write_position(run / part / "checkpoints", done)
        raise KeyboardInterrupt  # as while the export is scored
    return run


@pytest.mark.parametrize(
    ("parts", "last"),
    [
        (["first"], "first"),
        (["first", "."], ""),
        (["members/1", "members/9"], "members/9"),
        (["members/9", "members/10"], "members/10"),
    ],
)
def test_ctrl_c_at_any_moment_of_a_run_says_where_its_last_checkpoint_is(
    parts, last, config, capsys
):
    stopped_by_ctrl_c(config, [])
    assert capsys.readouterr().out == "\nInterrupted. No checkpoint yet.\n"
    run = stopped_by_ctrl_c(config, parts)
    assert capsys.readouterr().out == (
        f"\nInterrupted. The last checkpoint in {run / last} is of batch 3 of epoch 3, after 1.5 "
        "minutes: the same command with --resume goes on from there.\n"
    )
    stopped_by_ctrl_c(dataclasses.replace(config, dry_run=True, resume=True), [])
    assert capsys.readouterr().out == ""
    runs.close_run(run, config)


def test_a_card_says_how_many_training_pairs_were_too_long(config, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "fit", lambda *args, **options: None)
    config = dataclasses.replace(config, max_length=3)
    splits = translation.load(config)
    train = splits["de"].train
    model = translation.begin(train, config)
    count = sum(len(source.split()) == 3 for source in train.source)
    said = translation.fit(model, splits, tmp_path / "run", config)
    assert said == f"; of them left out: {count} over 3 tokens" and count > 100
    assert runs.left_out({"unreadable": 1200, "over 7 seconds": 0, "over 3 tokens": 2}) == (
        "; of them left out: 1,200 unreadable, 2 over 3 tokens"
    )
    assert runs.left_out({"over 3 tokens": 0}) == ""


def test_the_command_that_asks_a_model_is_quoted_for_a_shell(capsys):
    runs.say_how_to_ask(Path("my models/it's/1"), "a text")
    command = capsys.readouterr().out.partition("ask it with: ")[2]
    assert shlex.split(command) == ["python", "-m", "kzoo", "my models/it's/1", "a text"]


@pytest.mark.parametrize(
    ("epochs", "minutes", "first", "said"),
    [
        (1, 0.2, 11.0, "at most 1 epoch; --minutes 0.2 ends it in epoch 1"),  # 5 would fit
        (7, 0.2, 5.0, "at most 7 epochs; --minutes 0.2 ends it in epoch 3"),
        (7, 0.2, 13.0, "at most 7 epochs; --minutes 0.2 ends it in epoch 1"),
        (1000, 1.0, 5.0, "at most 1,000 epochs; --minutes 1 ends it in epoch 19"),
        (2, 0.2, 5.0, "at most 2 epochs; --epochs ends it"),
    ],
)
def test_a_plan_says_the_epoch_that_the_minutes_end(epochs, minutes, first, said):
    config = types.SimpleNamespace(epochs=epochs, minutes=minutes)
    assert planning._training(config, first, epoch=3.0) == said


@pytest.mark.slow
def test_an_rnn_learns_to_reverse_strings(tmp_path):
    config = reverse.Config(
        strings=6_000, test_strings=100, longest=6, minutes=4.0, output=str(tmp_path / "out")
    )
    assert reverse.main(config) >= 95
    assert kzoo.load(tmp_path / "out")("kzoo") == "oozk"


def test_reverse_asks_for_no_more_strings_than_there_are():
    with pytest.raises(ValueError, match="`longest` must allow 21,000 different strings"):
        reverse.make_strings(reverse.Config(longest=2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup_steps": 0}, "`warmup_steps` must be at least 1, got warmup_steps=0"),
        ({"average": -1}, "`average` must be at least 0"),
        ({"dropout": 1.0}, r"`dropout` must lie in \[0, 1\), got dropout=1.0"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"sampled": 9000}, "`sampled` must not be above vocabulary_size, got sampled=9000, voca"),
        ({"candidates": 3, "tokenizer": "words"}, "`candidates` must be 0 or at least 4, and"),
        ({"candidates": 99}, "needs words and a model with attention, got candidates=99, tokeniz"),
    ],
)
def test_a_flag_out_of_range_is_refused_before_anything_is_loaded(values, message):
    with pytest.raises(ValueError, match=message):
        translation.Config(**values)


@pytest.mark.parametrize("package", ["sacrebleu", "matplotlib", "sentencepiece"])
def test_a_missing_package_is_named_before_anything_is_loaded(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs the {package} package: .* kzoo\[recipes\]"):
        translation.main(translation.Config(data="missing.tsv"))


def test_maps_are_drawn_of_what_has_tokens_only(tmp_path):
    def align(source):
        tokens = ["x", "</s>"] if "6" in source else []
        weights = np.full((len(tokens), 2), 0.5)
        return export.Alignment("x", ["a", "</s>"], tokens, weights)

    texts = [f"{number} b c d e" for number in range(17)]
    served = types.SimpleNamespace(path=tmp_path, align=align)
    translation.draw(served, {"loss": [2.0, 1.0]}, [examples.Pairs(texts, texts, texts)])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["attention-1.png", "attention-2.png", "learning_curve.png"]


@pytest.mark.parametrize("name", ["epochs", "longest", "strings", "test_strings", "beam_size"])
def test_reverse_refuses_a_number_of_zero(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got {name}=0"):
        reverse.Config(**{name: 0})
    with pytest.raises(ValueError, match="`minutes` must be at least 0"):
        reverse.Config(minutes=-1.0)
    with pytest.raises(ValueError, match="`learning_rate` must be positive"):
        reverse.Config(learning_rate=0.0)


def test_reverse_computes_in_the_precision_asked_for():
    tokenizer = text.CharacterTokenizer.learn(["abc"], 11)
    model = reverse.build(tokenizer, reverse.Config(precision="mixed_bfloat16"))
    assert model.encoder.compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_a_run_is_not_resumed_with_other_data(config, tmp_path):
    run = runs.open_run(config, config.folder, "digest")
    (run / "journal.jsonl").touch()  # as if an epoch were done
    resumed = dataclasses.replace(config, resume=True, minutes=7.0)
    assert runs.open_run(resumed, config.folder, "digest") == run
    with pytest.raises(ValueError, match="`resume` needs the data of the run before"):
        runs.open_run(resumed, config.folder, "other")


def test_a_resumed_run_may_search_otherwise_in_its_export_but_not_in_its_training(config):
    run = runs.open_run(config, config.folder, "digest")
    (run / "journal.jsonl").touch()
    search = {"beam_size": 7, "length_penalty": 1.1}
    resumed = dataclasses.replace(config, resume=True, **search)
    assert runs.open_run(resumed, config.folder, "digest") == run
    with pytest.raises(ValueError, match=r"changed: \{'max_length': \(16, 17\)\}"):
        runs.open_run(dataclasses.replace(resumed, max_length=17), config.folder, "digest")
    runs.remove_run(run)


@pytest.mark.parametrize("part", [".", "members/2"])
def test_a_run_whose_score_still_rose_is_kept_and_gone_on_with(part, config, capsys):
    run = runs.open_run(config, config.folder, "digest")
    (run / part).mkdir(parents=True, exist_ok=True)
    for name in ("journal.jsonl", "fitted"):
        (run / part / name).touch()
    (run / part / "rising.txt").write_text("It still rose.\n")
    runs.close_run(run, config)
    said = capsys.readouterr().out
    assert said.startswith("It still rose.\nThe same command with --resume --minutes 120 goes on")

    resumed = dataclasses.replace(config, resume=True)
    more = dataclasses.replace(resumed, minutes=120.0)
    assert runs.open_run(more, config.folder, "digest") == run
    assert not (run / part / "fitted").exists() and not (run / part / "rising.txt").exists()
    with pytest.raises(ValueError, match="holds an interrupted run: go on with it by --resume"):
        runs.open_run(config, config.folder, "digest")  # it is under way again
    runs.close_run(run, more)
    assert not run.exists()


@pytest.mark.parametrize("resume", [False, True])  # `make demo` a second time
def test_a_run_that_was_kept_makes_way_for_another_one_or_the_same_minutes(resume, config):
    run = runs.open_run(config, config.folder, "digest")
    for name in ("journal.jsonl", "fitted", "rising.txt"):
        (run / name).touch()
    runs.close_run(run, config)
    again = dataclasses.replace(config, resume=resume)
    assert runs.open_run(again, config.folder, "other") == run
    assert not (run / "journal.jsonl").exists()
    runs.remove_run(run)


def test_a_run_that_was_kept_is_not_lost_to_fewer_minutes(config):
    run = runs.open_run(config, config.folder, "digest")
    for name in ("journal.jsonl", "fitted", "rising.txt"):
        (run / name).touch()
    runs.close_run(run, config)
    fewer = dataclasses.replace(config, resume=True, minutes=30.0)
    with pytest.raises(ValueError, match="`minutes` must be above 60 with resume, which the run i"):
        runs.open_run(fewer, config.folder, "digest")
    assert (run / "journal.jsonl").exists()
    runs.remove_run(run)


def test_a_run_that_was_ended_while_it_exported_trains_on_with_more_minutes_alone(config):
    run = runs.open_run(config, config.folder, "digest")
    for name in ("journal.jsonl", "fitted", "rising.txt"):
        (run / name).touch()
    same = dataclasses.replace(config, resume=True)
    assert runs.open_run(same, config.folder, "digest") == run
    assert (run / "fitted").exists()
    more = dataclasses.replace(same, minutes=90.0)
    assert runs.open_run(more, config.folder, "digest") == run
    assert not (run / "fitted").exists() and not (run / "rising.txt").exists()
    for name in ("fitted", "rising.txt"):
        (run / name).touch()  # ended again while it exported
    assert runs.open_run(more, config.folder, "digest") == run
    assert (run / "fitted").exists()
    runs.remove_run(run)


@pytest.mark.parametrize("is_done", [False, True])
def test_a_run_of_another_recipe_is_replaced_if_it_is_done_and_never_gone_on_with(is_done, config):
    other = summarization.Config(output="out")
    run = runs.open_run(other, other.folder, "digest")
    for name in ("journal.jsonl", "fitted", "rising.txt")[: 3 if is_done else 1]:
        (run / name).touch()
    if is_done:
        runs.close_run(run, other)
    message = r"^`resume` needs a run of recipes.translation, but out holds a run of "
    with pytest.raises(ValueError, match=message + "recipes.summarization: choose"):
        runs.open_run(dataclasses.replace(config, resume=True), config.folder, "digest")
    if is_done:
        assert runs.open_run(config, config.folder, "digest") == run
        assert not (run / "journal.jsonl").exists()
    runs.remove_run(run)


def test_a_run_that_was_resumed_with_other_minutes_says_how_to_go_on_and_does(config, capsys):
    run = runs.open_run(dataclasses.replace(config, minutes=120.0), config.folder, "digest")
    for name in ("journal.jsonl", "fitted", "rising.txt"):
        (run / name).touch()
    runs.close_run(run, dataclasses.replace(config, minutes=60.0))
    assert "--resume --minutes 120 goes on" in capsys.readouterr().out
    more = dataclasses.replace(config, resume=True, minutes=120.0)
    assert runs.open_run(more, config.folder, "digest") == run
    assert (run / "journal.jsonl").exists()
    runs.remove_run(run)


@pytest.mark.parametrize("folder", ["first", "."])
def test_a_run_is_resumed_from_the_epochs_of_its_first_model_too(folder, config):
    run = runs.open_run(config, config.folder, "digest")
    (run / folder).mkdir(exist_ok=True)
    (run / folder / "journal.jsonl").touch()
    with pytest.raises(ValueError, match="holds an interrupted run: go on with it by --resume"):
        runs.open_run(config, config.folder, "digest")
    resumed = dataclasses.replace(config, resume=True)
    assert runs.open_run(resumed, config.folder, "digest") == run
    runs.remove_run(run)


def test_a_journal_in_a_foreign_folder_is_no_run(config, tmp_path):
    (tmp_path / "out/.kzoo-run/mine").mkdir(parents=True)
    (tmp_path / "out/.kzoo-run/mine/journal.jsonl").touch()
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"nothing but the files of a run, .* got mine"):
            runs.open_run(dataclasses.replace(config, resume=resume), config.folder, "digest")


def test_training_that_came_to_its_end_is_restored_and_not_gone_on_with(config, tmp_path):
    def train(minutes):
        model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(), "mse")
        batches = tf.data.Dataset.from_tensors((tf.ones((4, 1)), tf.zeros((4, 1)))).repeat(3)
        batches = batches.apply(tf.data.experimental.assert_cardinality(3))
        spent = dataclasses.replace(config, minutes=minutes, epochs=5, patience=99)
        runs.train(model, batches, batches, lambda: 0.0, tmp_path, spent, "val_bleu")
        return model

    first = train(minutes=0)  # ended by the budget, in its first epoch
    assert runs.is_fitted(tmp_path)
    again = train(minutes=9)
    np.testing.assert_array_equal(again.get_weights()[0], first.get_weights()[0])
    assert runs.open_journal(tmp_path).epochs == 1


def test_a_fingerprint_tells_texts_and_parts_apart():
    made = [(["a"], ["b"]), (["b"], ["a"]), (["a", "b"], []), ([], ["a", "b"]), (["a"],)]
    prints = [runs.fingerprint(*parts) for parts in made]
    assert len(set(prints)) == len(made)
    assert prints[0] == runs.fingerprint(["a"], ["b"])


def test_bleu_splits_languages_without_spaces_into_characters(monkeypatch):
    monkeypatch.setattr(
        translation_scores.importlib.util, "find_spec", lambda name: None
    )  # no MeCab
    assert translation_scores.bleu_tokenizer("zh-Hans") == "zh"
    assert translation_scores.bleu_tokenizer("ja") == "char"
    assert translation_scores.bleu_tokenizer("de") == "13a"


def test_the_changed_flags_of_a_config_make_it_again():
    config = translation.Config(data="my pairs.tsv", resume=True, dropout=0.5, minutes=2.0)
    words = shlex.split(" ".join(cli.changed(config)))
    assert cli.parse(translation.Config, words) == config


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
    shown = str(stop.value)
    assert shown.startswith("error: ")
    assert message in shown
    assert not (tmp_path / "saved_models").exists()


@pytest.mark.parametrize(
    ("tokenizer", "text"), [("subwords", 48 * "z"), ("characters", "zzz"), ("words", "z z z")]
)
def test_a_pair_that_is_too_long_in_any_vocabulary_does_not_shape_it(tokenizer, text, capsys):
    train = examples.Pairs()
    train.add(text, text)
    train.add("a", f"{text} b")
    train.add(f"{text} b", "a")
    config = translation.Config(tokenizer=tokenizer, max_length=3)
    kept = translation.learnable(train, config)
    assert (kept.source, kept.target) == ([text], [text])
    assert "2 pairs are too long to shape the vocabulary" in capsys.readouterr().out
    assert translation.learnable(kept, config) == kept
    del train.source[0], train.target[0], train.groups[0]
    assert translation.learnable(train, config) is train  # `tokenize` refuses it


def test_no_piece_of_a_vocabulary_is_longer_than_learnable_expects():
    texts = [64 * letter for letter in "abcdefgh"] * 50 + ["incomprehensibilities " * 9] * 50
    tokenizer = runs.learn_tokenizer("subwords", texts, 200)
    longest = max(map(len, tokenizer.get_vocabulary()))
    assert 8 < longest <= translation.CHARACTERS_OF_A_TOKEN["subwords"]
