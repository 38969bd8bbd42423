"""Translation of pairs that stay on disk: what is read, trained on and refused."""

import dataclasses
import gzip
from types import SimpleNamespace

import numpy as np
import pytest

import kzoo
from recipes import runs, translation
from recipes.runs import from_disk

WORDS = {"one": "eins", "two": "zwei", "red": "rot", "green": "grün", "cat": "Katze"}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, count in (("train", 301), ("dev", 11)):
        rows = [rng.choice(list(WORDS), rng.integers(1, 6)) for _ in range(count)]
        lines = [f"{' '.join(row)}\t{' '.join(map(WORDS.get, row))}\n" for row in rows]
        (tmp_path / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    with (tmp_path / "train.tsv").open("ab") as file:
        file.write(b"no pair\n\xff\xfe\tgr\xfc\xdfe\n")
    return translation.Config(
        train="train.tsv",
        valid="dev.tsv",
        on_disk=True,
        model="rnn_bahdanau",
        vocabulary_size=40,
        batch_tokens=200,
        epochs=2,
        learning_rate=0.003,
        validation_pairs=3,
        warmup_steps=5,
        average=0,
        max_length=24,
    )


def test_a_vocabulary_is_that_of_a_sample_and_a_model_is_trained_on_all(
    config, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(from_disk, "SAMPLE", 100)
    config = dataclasses.replace(config, batch_tokens=100, accumulate=2)
    (splits,) = translation.load(config).values()
    assert len(splits.train) == 99 and splits.train.skipped == {"invalid UTF-8": 1}
    assert len(splits.valid) == 11 and splits.test is None
    said = "302 pairs (skipped: 1 without two sides)"
    assert f"train: {said}; the vocabulary is that of 99" in capsys.readouterr().out
    assert from_disk.listed(config) == said
    run = tmp_path / "run"
    runs.seed(0)
    model = translation.begin(splits.train, config)
    translation.fit(model, {"de": splits}, run, config)
    losses = runs.open_journal(run).history()["loss"]
    assert len(losses) == 2 and losses[1] < losses[0]
    ids = kzoo.batching.tokenize(model.source_tokenizer, ["one"])
    corpus = kzoo.batching.Corpus(ids, ids)
    batches, _ = from_disk.make_batches(model, corpus, run, config)
    read = list(batches)
    sizes = [labels.shape for _, labels in read]
    lines = {name for inputs, _ in read for name in inputs["name"].numpy()}
    assert lines == {f"train.tsv:{line}".encode() for line in range(1, 302)}
    assert sum(rows for rows, _ in sizes) == 301  # without the bytes that are no text
    assert model.accumulate == 2 and max(map(np.prod, sizes)) > 150  # of two parts


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"valid": None}, "`on_disk` needs one target language, one file for train, and valid"),
        ({"train": None}, "`on_disk` needs one target language.*train=None"),
        ({"target_language": "de,fr"}, "`on_disk` needs one target language.*=de,fr, train="),
        ({"train": "a.tsv:1,b.tsv:2"}, "`on_disk` needs .*train=a.tsv:1,b.tsv:2"),
        ({"data": "x.tsv"}, "`data` and `train` must not both be given, got data='x.tsv'"),
        ({"clean": True}, "`clean` must not be given with on_disk, got clean=True"),
        ({"columns": "2,3"}, "`columns` must not be given with on_disk, got columns=2,3"),
        ({"subword_sampling": 0.1}, "`subword_sampling` must not be given with on_disk, got"),
    ],
)
def test_a_flag_that_does_not_go_with_pairs_on_disk_is_refused(config, flags, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **flags)


@pytest.mark.parametrize("name", ["train.tsv.gz", "train.jsonl", "train", "no.tsv"])
def test_a_file_that_has_no_plain_lines_is_refused(config, name):
    message = rf"`train` must be a file that ends in .tsv or .txt with on_disk, got '{name}'"
    with pytest.raises(ValueError, match=message):
        translation.load(dataclasses.replace(config, train=name))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"de\ten\nHallo Welt\tHello world\n", "train.tsv:1: expected a pair of texts, got names"),
        (b"1\tHello\t2\tHallo\n", "train.tsv:1: expected 2 or 3 columns.*got 4"),
        ("one\teins\n".encode("utf-16"), "train.tsv:1: expected UTF-8, got UTF-16"),
        (b"".join(b"%d\tHallo %d\n" % (i, i) for i in range(20)), "expected texts in columns 1"),
    ],
)
def test_a_file_is_read_as_it_would_be_in_memory_or_refused(config, tmp_path, content, message):
    (tmp_path / "train.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        translation.load(config)


def test_held_out_sources_are_looked_for_in_the_whole_file(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(from_disk, "SAMPLE", 3)
    rows = "once more\tx\none  cafe\u0301\tx\nnew\tx\n"
    (tmp_path / "dev.tsv").write_text(rows, encoding="utf-8")
    with (tmp_path / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("once more\ty\none caf\u00e9\tz\n")
    translation.load(config)
    assert "valid: 3 pairs; 2 of the sources are also in train\n" in capsys.readouterr().err


def test_the_code_of_the_target_language_may_stand_in_the_paths(config, tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").rename(tmp_path / f"{name}.de.tsv")
    places = {"train": "train.{language}.tsv", "valid": "dev.{language}.tsv"}
    moved = dataclasses.replace(config, **places)
    (splits,) = translation.load(moved).values()
    assert (len(splits.train), len(splits.valid)) == (301, 11)
    before = from_disk.identity(moved)
    with (tmp_path / "train.de.tsv").open("a") as file:
        file.write("one\teins\n")
    assert from_disk.identity(moved) != before


def test_a_model_of_several_languages_is_refused(config):
    model = SimpleNamespace(source_tokenizer=SimpleNamespace(languages=("de", "fr")))
    with pytest.raises(ValueError, match="`init_from` must be a model of one target language"):
        from_disk.make_batches(model, None, None, config)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "has none$"),
        (b"\n \n\r\n", "has none$"),
        (b"no tab\n", "has none$"),
        (gzip.compress(b"a\tb\n"), r":1: expected text, got what gzip has compressed; files whose"),
        ("a\tb\n".encode("utf-16"), ":1: expected UTF-8, got UTF-16"),
    ],
    ids=["empty", "blank", "no tab", "gzip", "UTF-16"],
)
def test_a_file_without_pairs_or_of_bytes_is_named_with_its_flag(config, tmp_path, content, found):
    (tmp_path / "odd.tsv").write_bytes(content)
    message = rf"`train` must have lines of a source, .* with on_disk: .*odd\.tsv ?{found}"
    with pytest.raises(ValueError, match=message):
        translation.load(dataclasses.replace(config, train=str(tmp_path / "odd.tsv")))
