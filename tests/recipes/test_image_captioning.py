"""The recipe for pictures, whole: pictures in, a scored SavedModel out, interrupted and resumed."""

import dataclasses
import itertools
import json
import re
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import kzoo
from kzoo import export, metrics, plots
from recipes import cli, image_captioning, runs
from recipes.data import captions, examples, pictures, regions
from recipes.data.splits import Splits
from recipes.runs import training_pictures
from recipes.runs.caption_scores import caption_scores, validation_score
from recipes.runs.scored_parts import scored_pictures

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "black": (0, 0, 0)}
SIZE = 32


def draw(folder, count, seed):
    """Squares of two colours with one caption, and those of one colour with three."""
    rng, lines = np.random.default_rng(seed), []
    folder.mkdir(parents=True)
    pairs = list(itertools.permutations(COLOURS, 2))
    for number in range(count):
        left, right = pairs[rng.integers(len(pairs))]
        kind = ("one", "two")[number % 2]
        right = left if kind == "one" else right
        pixels = np.full((SIZE, SIZE + 4, 3), 255, np.uint8)
        for name, start in ((left, 2), (right, 19)):
            top = rng.integers(2, 16)
            pixels[top : top + 12, start : start + 12] = COLOURS[name]
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
        captions = [f"A {left} square, left of a {right} one."]
        if kind == "one":
            captions += [f"Two {left} squares!", f"{left}"]
        line = {"file_name": f"{number}.png", "captions": captions, "kind": kind}
        lines.append(json.dumps(line) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    for seed, (part, count) in enumerate({"train": 34, "validation": 11, "test": 7}.items()):
        draw(tmp_path / "drawn" / part, count, seed)
    return image_captioning.Config(
        data=str(tmp_path / "drawn"),
        image_size=SIZE,
        units=16,
        layers=1,
        batch_size=13,
        epochs=2,
        warmup_steps=5,
        average=2,
        beam_size=2,
        max_length=12,
        output="out",
    )


def without_kinds(folder):
    for path in folder.rglob("metadata.jsonl"):
        path.write_text(path.read_text().replace('"kind"', '"sort"'))


@pytest.mark.slow
def test_an_interrupted_captioning_run_goes_on_and_leaves_a_scored_model(
    config, tmp_path, monkeypatch, capfd, interrupted
):
    config = dataclasses.replace(config, precision="float32")  # as the SavedModel answers
    with interrupted(tmp_path / "out/.kzoo-run/checkpoints"):
        image_captioning.main(config)
    assert "the same command with --resume goes on from there." in capfd.readouterr().out
    resumed = dataclasses.replace(config, resume=True)
    with pytest.raises(ValueError, match=r"`resume` needs the flags of the run before; .*'seed'"):
        image_captioning.main(dataclasses.replace(resumed, seed=7))
    kept, generated = [], []
    save, describe_files = export.save, image_captioning.describe_files

    def recording(model, *args, **options):
        kept.append(model)
        return save(model, *args, **options)

    def describing(*args):
        generated.append(describe_files(*args))
        return generated[-1]

    with monkeypatch.context() as patch:
        patch.setattr(export, "save", recording)
        patch.setattr(image_captioning, "describe_files", describing)
        figures = image_captioning.main(resumed)
    printed = capfd.readouterr().out
    assert "Epoch 1/2" not in printed.split("Learning a vocabulary")[-1]
    assert "A fresh process that imports only tensorflow and tensorflow_text answers" in printed
    assert "->" in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1"]
    written = {path.name for path in (tmp_path / "out/1").iterdir()}
    assert {
        *("saved_model.pb", "model_card.md", "learning_curve.png", "contact_sheet.png"),
        *(f"example-{number}.png" for number in range(1, 6)),
    } <= written
    saved = json.loads((tmp_path / "out/1/metrics.json").read_text(encoding="utf-8"))
    assert (
        {
            *("test BLEU-1", "test BLEU-4", "test CIDEr", "test ROUGE-L", "test exact match"),
            *("test exact match, one", "test exact match, two"),
        }
        <= set(figures)
        <= set(saved)
    )
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "python -m recipes.image_captioning --data" in card
    assert "lower case, no punctuation" in card and "small_resnet" in card
    assert "chose the weights" not in card

    files = [str(tmp_path / f"drawn/test/{number}.png") for number in range(7)]
    served = kzoo.load("out")
    assert served(files) == generated[0][0]
    (model,) = kept
    contents = [(tmp_path / f"drawn/test/{number}.png").read_bytes() for number in range(7)]
    source = model.source_tokenizer(tf.constant(contents))
    found = model.generate(source, beam_size=2, max_length=12, length_penalty=0.6)
    texts = model.target_tokenizer.detokenize(found.ids[:, 0]).numpy()
    assert generated[0][0] == [text.decode() for text in texts]


@pytest.mark.slow
def test_a_frozen_backbone_is_looked_through_once_and_served_whole(config, tmp_path, monkeypatch):
    """A pretrained backbone, here a small one: three captions share a row of features."""
    without_kinds(tmp_path / "drawn")
    seen = []
    extract = regions.extract
    monkeypatch.setattr(regions, "extract", lambda *args: seen.append(extract(*args)) or seen[-1])
    monkeypatch.setattr(
        kzoo.image.backbones, "application",
        lambda name, size: kzoo.image.backbones.small_resnet(size, widths=(3, 5, 7)),
    )  # fmt: skip
    config = dataclasses.replace(
        config, backbone="ResNet50", model="show_attend_tell", layers=2, sampled=5, epochs=1
    )
    figures = image_captioning.main(config)
    assert [found.values.shape for found in seen] == [(34, 16, 7), (11, 16, 7)]
    assert "test exact match, one" not in figures and figures["test CIDEr"] >= 0
    journal = (tmp_path / "out/1/metrics.json").read_text()
    assert "test CIDEr" in journal
    answers = kzoo.load("out")([str(tmp_path / "drawn/test/0.png")])
    assert isinstance(answers[0], str)


@pytest.mark.slow
def test_sources_are_mixed_cleaned_and_scored_apart(config, tmp_path, monkeypatch, capfd):
    """Of features that are kept, of a pretrained backbone, here a small one."""
    monkeypatch.setattr(image_captioning, "show_answers", lambda *_: None)
    monkeypatch.setattr(
        kzoo.image.backbones, "application",
        lambda name, size: kzoo.image.backbones.small_resnet(size, widths=(3, 5, 7)),
    )  # fmt: skip
    draw(tmp_path / "other", 30, 5)
    table = tmp_path / "other/metadata.jsonl"
    table.write_text(table.read_text().replace('"kind"', '"sort"').replace("Two", "<b>Two</b>"))
    table.rename(tmp_path / "other/list.jsonl")
    place = "drawn:1,other/list.jsonl:3"
    changed = {"data": place, "clean": True, "epochs": 1, "backbone": "ResNet50"}
    figures = image_captioning.main(dataclasses.replace(config, **changed))
    printed = capfd.readouterr()
    wrong = int(re.search(r"(\d+)  markup, as 'other/\d+\.png' -> '<b>Two<", printed.out)[1])
    assert 10 <= wrong <= 15  # every second one of 24 for training, by chance
    times = re.search(r"captions of each: drawn 1\.00, other/list\.jsonl (\S+)", printed.out)
    # 24 pictures with one caption at least; those of one colour have two more, of which one goes.
    assert float(times[1]) == pytest.approx(3 * 68 / (24 + wrong), abs=0.01)
    assert {"test CIDEr drawn", "test CIDEr other/list.jsonl"} <= set(figures)
    assert {"test exact match, one", "test exact match, two"} <= set(figures)
    assert "drawn: 34 pictures, 68 captions in train, 11 pictures, " in printed.err
    assert "val_cider" in printed.out  # as not all captions are exact
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "# Image captioning, drawn, list" in card and f"{wrong} markup" in card
    assert "| licence | drawn: as the data's; other/list.jsonl: as the data's |" in card


def test_a_caption_is_from_the_source_of_its_picture(config, tmp_path):
    draw(tmp_path / "other", 30, 5)
    place = f"{config.data}:1,{tmp_path / 'other'}:2"
    train = captions.as_spoken(pictures.load_pictures(place).train)
    model = image_captioning.build(train, dataclasses.replace(config, data=place))
    found = training_pictures.examples(model, train, config, "train")
    counts = [len(row.captions) for row in train.rows]
    assert found.sources == [config.data] * 68 + [str(tmp_path / "other")] * sum(counts[34:])


def test_the_sources_say_how_captions_are_learned_and_what_is_drawn(monkeypatch):
    make = image_captioning.Config
    both = make(data="openmoji:1,openmoji-names:2")
    assert both.is_openmoji and not both.is_spoken
    assert str(both.folder) == "saved_models/captions-openmoji-openmoji-names"
    mixed = make(data="mine/list.jsonl:2,openmoji:1")
    assert mixed.is_spoken and not mixed.is_openmoji
    drawn = examples.Pictures()
    monkeypatch.setattr(pictures, "noto_pictures", lambda seed: drawn)
    assert image_captioning.unseen_style(mixed) is drawn
    assert image_captioning.unseen_style(make(train="openmoji:1,mine:1")) is None
    monkeypatch.setitem(sys.modules, "emoji", None)
    with pytest.raises(ImportError, match="needs the emoji package"):
        image_captioning.main(mixed)


def test_the_pictures_of_each_source_are_scored_apart(config):
    part = pictures.load_pictures(config.data).test
    rows = [row._replace(source="ab"[n % 2]) for n, row in enumerate(part.rows)]
    part = dataclasses.replace(part, rows=rows)
    right = [captions.spoken_caption(row.captions[0]) for row in rows]
    answers = [text if row.source == "a" else "no" for text, row in zip(right, rows, strict=True)]
    scores = caption_scores(answers, part, set(), config.is_spoken)
    own = [row.captions for row in rows if row.source == "a"]
    expected = metrics.cider([text for text in answers if text != "no"], own)
    assert scores["CIDEr a"].value == expected.value > scores["CIDEr"].value
    assert scores["CIDEr b"].value == 0
    assert part.is_exact
    mixed = [row._replace(kind="" if row.source == "b" else row.kind) for row in rows]
    assert not dataclasses.replace(part, rows=mixed).is_exact
    one = [row._replace(kind="" if n else row.kind) for n, row in enumerate(rows[::2])]
    assert dataclasses.replace(part, rows=one).is_exact  # of one source some may lack a kind


def test_a_backbone_with_weights_is_not_trained_unless_asked(config, monkeypatch):
    small = kzoo.image.backbones.small_resnet
    monkeypatch.setattr(
        kzoo.image.backbones, "application", lambda name, size: small(size, widths=(3, 5, 7))
    )
    train = pictures.load_pictures(config.data).train
    for fine_tune in (False, True):
        changed = dataclasses.replace(
            config, backbone="ResNet50", fine_tune=fine_tune, precision="mixed_bfloat16"
        )
        model = image_captioning.build(train, changed)
        assert model.encoder.backbone.trainable == fine_tune
        precision = "bfloat16" if fine_tune else "float32"  # as it is served
        assert model.encoder.backbone.compute_dtype == precision
        assert model.decoder.compute_dtype == "bfloat16"


def test_a_model_that_cannot_be_built_leaves_the_precision_as_it_was(config, monkeypatch):
    before = keras.config.dtype_policy().name

    def broken(*arguments, **options):
        assert keras.config.dtype_policy().name == "mixed_bfloat16" != before
        raise ValueError("no such units")

    monkeypatch.setattr(kzoo.zoo, "captioning_transformer", broken)
    train = pictures.load_pictures(config.data).train
    with pytest.raises(ValueError, match="no such units"):
        image_captioning.build(train, dataclasses.replace(config, precision="mixed_bfloat16"))
    assert keras.config.dtype_policy().name == before


def test_a_sampled_run_updates_rows_only(config):
    train = pictures.load_pictures(config.data).train
    model = image_captioning.build(train, dataclasses.replace(config, sampled=5))
    assert isinstance(model.optimizer, kzoo.LazyAdam)
    assert model.head.num_sampled == 5
    model = image_captioning.build(train, config)
    assert not isinstance(model.optimizer, kzoo.LazyAdam)
    assert model.source_tokenizer.size == SIZE


def test_captions_share_their_picture_and_too_long_ones_are_left_out(config, capsys):
    train = captions.as_spoken(pictures.load_pictures(config.data).train)
    model = image_captioning.build(train, config)
    seen, rows, ids, *_ = training_pictures.examples(model, train, config, "train")
    assert seen.shape == (34, SIZE, SIZE, 3) and seen.dtype == np.uint8
    assert rows.tolist()[:5] == [0, 0, 0, 1, 2] and len(rows) == ids.nrows() == 17 * 4
    shorter = dataclasses.replace(config, max_length=8)  # 8 words and the end are 9
    _, rows, ids, _, left_out = training_pictures.examples(model, train, shorter, "train")
    assert runs.left_out(left_out) == "; of them left out: 34 captions over 8 tokens"
    assert rows.tolist()[:4] == [0, 0, 2, 2]
    assert "train: 34 pictures, 68 captions; 34 over 8 tokens left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="leave at least one caption in train, got max_length=1"):
        training_pictures.examples(model, train, dataclasses.replace(config, max_length=1), "train")


def test_captions_are_spoken_but_for_those_of_openmoji(tmp_path):
    path = tmp_path / "1.png"
    rows = [
        examples.Picture(path, ("A dog, running!", "?!", "It's a dog"), "", "list:1"),
        examples.Picture(path, ("...",), "", "list:2"),
    ]
    found = captions.as_spoken(examples.Pictures(rows))
    assert [row.captions for row in found.rows] == [("a dog running", "it's a dog")]
    assert found.skipped == {"captions without a word": 2, "pictures without a word": 1}
    assert not image_captioning.Config().is_spoken
    assert image_captioning.Config(data="captions.txt").is_spoken
    assert image_captioning.Config(train="openmoji").is_spoken
    assert not image_captioning.Config(data="captions.txt", captions="written").is_spoken
    assert not image_captioning.Config(data="openmoji-of-mine").is_openmoji


@pytest.mark.parametrize("backbone", ["small_resnet", "ResNet50"])
def test_a_bad_picture_is_left_out_and_its_captions_with_it(
    backbone, config, tmp_path, monkeypatch, capfd
):
    small = kzoo.image.backbones.small_resnet
    monkeypatch.setattr(
        kzoo.image.backbones, "application", lambda name, size: small(size, widths=(3, 5, 7))
    )
    config = dataclasses.replace(config, backbone=backbone)
    (tmp_path / "drawn/train/2.png").write_bytes(b"RIFF, a sound and no picture at all")
    train = pictures.load_pictures(config.data).train
    model = image_captioning.build(train, config)
    seen, rows, ids, part, _ = training_pictures.examples(model, train, config, "train")
    assert len(seen) == len(part) == 33 and part.rows == train.rows[:2] + train.rows[3:]
    # Pictures of an even number have three captions, the others one.
    assert rows.tolist()[:8] == [0, 0, 0, 1, 2, 3, 3, 3] and ids.nrows() == 68 - 3
    printed = capfd.readouterr()
    assert "train: 33 pictures, 65 captions (skipped: 1 unreadable pictures); 0" in printed.out
    assert "metadata.jsonl:3: expected a picture in " in printed.err


def test_a_hyphen_within_a_word_stays_in_a_caption():
    said = {
        "A T-shirt - blue-and-white!": "a t-shirt blue-and-white",
        "a 10-year-old, -ish dog's": "a 10-year-old ish dog's",
        "--": "",
    }
    assert {text: captions.spoken_caption(text) for text in said} == said


def test_scores_compare_with_the_captions_as_they_were_read(config):
    read = pictures.load_pictures(config.data)
    part = read.test
    answers = [captions.spoken_caption(row.captions[0]) for row in part.rows]
    scores = caption_scores(answers, part, {"no"}, config.is_spoken)
    assert scores["exact match"].value == scores["exact match, two"].value == 100
    assert scores["BLEU-4"].value == pytest.approx(100) and scores["novel"].value == 100
    hyphen = examples.Pictures([row._replace(captions=("A T-shirt.",)) for row in part.rows])
    scores = caption_scores(["a t shirt"] * len(part), hyphen, {"no"}, config.is_spoken)
    assert scores["BLEU-1"].value == pytest.approx(100 / 3)  # as published scores have it
    written = dataclasses.replace(config, captions="written")
    assert caption_scores(answers, part, {"no"}, written.is_spoken)["exact match"].value < 50


@pytest.mark.parametrize(("has_kinds", "best"), [(True, "val_exact_match"), (False, "val_cider")])
def test_validation_compares_with_the_captions_as_they_were_read(has_kinds, best, config, tmp_path):
    if not has_kinds:
        without_kinds(tmp_path / "drawn")
    valid = pictures.load_pictures(config.data).valid
    rows = valid.rows
    name, measure = validation_score(rows, valid.is_exact, config.is_spoken)
    answers = [captions.spoken_caption(row.captions[0]) for row in rows]
    assert name == best
    expected = 100 if has_kinds else metrics.cider(answers, [r.captions for r in rows]).value
    assert measure(answers).value == expected > 0


def test_a_valid_picture_without_a_word_is_kept_but_not_learned(config, capsys):
    read = pictures.load_pictures(config.data)
    model = image_captioning.build(captions.as_spoken(read.train), config)
    read.valid.rows[1] = read.valid.rows[1]._replace(captions=("...",))
    seen, rows, ids, part, _ = training_pictures.examples(model, read.valid, config, "valid")
    assert "over 12 tokens left out, 1 without a word\n" in capsys.readouterr().out
    assert part == read.valid and len(seen) == 11 and rows.tolist()[:5] == [0, 0, 0, 2, 2]
    (words,) = model.target_tokenizer.detokenize(ids[:1]).numpy()
    assert words.decode() == captions.spoken_caption(part.rows[0].captions[0])


def test_the_pictures_to_be_scored_are_decoded_before_the_training(config, tmp_path, monkeypatch):
    (tmp_path / "drawn/test/5.png").write_bytes(b"RIFF, a sound and no picture at all")
    splits = pictures.load_pictures(config.data)
    name, part, _ = scored_pictures(splits)
    assert name == "test" and part.rows == splits.test.rows[:5] + splits.test.rows[6:]
    assert str(part).endswith("(skipped: 1 unreadable pictures)")
    name, part, _ = scored_pictures(splits._replace(test=None))
    assert name == "valid" and part == splits.valid
    for row in splits.test.rows:
        row.path.write_bytes(b"")
    monkeypatch.setattr(image_captioning, "fit", None)
    with pytest.raises(ValueError, match=r"metadata.jsonl:1: .*none of 7 pictures can be read"):
        image_captioning.main(config)


def test_a_resumed_run_needs_the_captions_and_pictures_of_the_run_before(config, tmp_path):
    config = dataclasses.replace(config, captions="written")
    digest = image_captioning.fingerprint(pictures.load_pictures(config.data))
    run = runs.open_run(config, config.folder, digest)
    (run / "journal.jsonl").touch()  # as if an epoch were done
    metadata = tmp_path / "drawn/train/metadata.jsonl"
    metadata.write_text("\n" + metadata.read_text())  # each is in another line
    assert image_captioning.fingerprint(pictures.load_pictures(config.data)) == digest
    metadata.write_text(metadata.read_text().replace("Two", "2"))
    with pytest.raises(ValueError, match="`resume` needs the data of the run before"):
        image_captioning.main(dataclasses.replace(config, resume=True))


def test_a_plot_that_fails_costs_no_model(config, tmp_path, monkeypatch):
    def no_sheet(*arguments, **options):
        raise ValueError("no such font")

    monkeypatch.setattr(plots, "contact_sheet", no_sheet)
    train = captions.as_spoken(pictures.load_pictures(config.data).train)
    scored = scored_pictures(Splits(train, train, None))
    run = runs.open_run(config, config.folder, "digest")
    (run / "journal.jsonl").write_text('{"epoch": 1, "minutes": 0.1, "loss": 2.0}\n')
    model = image_captioning.build(train, config)
    pixels, *_ = training_pictures.examples(model, train, config, "train")
    model({"source": tf.cast(pixels[:2], tf.float32), "target": tf.constant([[1, 5], [1, 6]])})
    with pytest.warns(UserWarning, match=r"out/1 is whole, but lacks a picture: .*no such font"):
        saved = image_captioning.export_and_score(model, train, "", scored, run, config)
    assert (saved.path / "saved_model.pb").exists() and "valid CIDEr" in runs.scores_of(saved)
    assert "; these pictures also chose the weights" in (saved.path / "model_card.md").read_text()


def test_pictures_to_show_are_drawn_by_the_seed(tmp_path):
    part = examples.Pictures([examples.Picture(tmp_path, ("a",), "", "x")] * 31)
    chosen = image_captioning.chosen_rows(part, 12, seed=3)
    assert chosen == image_captioning.chosen_rows(part, 12, seed=3)
    assert chosen != image_captioning.chosen_rows(part, 12, seed=4)
    assert chosen[:5] == image_captioning.chosen_rows(part, 5, seed=3)
    assert len({*chosen}) == 12 and {*chosen} <= {*range(31)}
    assert len(image_captioning.chosen_rows(part, 50, seed=3)) == 31


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup_steps": 0}, "`warmup_steps` must be at least 1, got warmup_steps=0"),
        ({"average": -1}, "`average` must be at least 0"),
        ({"image_size": 31}, "`image_size` must be at least 32, got image_size=31"),
        ({"units": 0}, "`units` must be at least 1, got units=0"),
        ({"dropout": 1.0}, r"`dropout` must lie in \[0, 1\), got dropout=1.0"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"sampled": 9000}, "`sampled` must not be above vocabulary_size, got sampled=9000, voca"),
        ({"backbone": "resnet"}, "`backbone` must be small_resnet, effic.*, got backbone='resnet'"),
        ({"backbone": "ResNet9"}, "a network of keras.applications, got backbone='ResNet9'"),
        (
            {"model": "show_attend_tell", "layers": 3},
            "`layers` must be left out for show_attend_tell, which has one, got layers=3",
        ),
        ({"fine_tune": True}, "`fine_tune` needs a backbone with weights .* backbone=small_resnet"),
        ({"augment": True, "backbone": "ResNet50"}, "`augment` needs pixels: .*=ResNet50, whose"),
    ],
)
def test_a_flag_out_of_range_is_refused_before_anything_is_loaded(values, message):
    with pytest.raises(ValueError, match=message):
        image_captioning.Config(**values)


def test_a_size_and_a_folder_are_taken_from_what_is_given(tmp_path):
    make = image_captioning.Config
    assert make().size == 96 and make(backbone="efficientnet_lite0").size == 224
    assert make(image_size=128).size == 128
    assert make(augment=True, backbone="ResNet50", fine_tune=True).trains_backbone
    assert str(make().folder) == "saved_models/captions-openmoji"
    (tmp_path / "captions.txt").touch()
    assert make(data=str(tmp_path / "captions.txt")).folder.name == f"captions-{tmp_path.name}"


@pytest.mark.parametrize("package", ["sacrebleu", "matplotlib", "sentencepiece"])
def test_a_missing_package_is_named_before_anything_is_loaded(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    config = image_captioning.Config(data="missing.txt", tokenizer="subwords")
    with pytest.raises(ImportError, match=rf"needs the {package} package: .* kzoo\[recipes\]"):
        image_captioning.main(config)


@pytest.mark.parametrize("package", ["emoji", "resvg_py", "fontTools"])
def test_a_package_that_draws_is_named_before_anything_is_drawn(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"This recipe needs the {package} package: .*recipes\]"):
        image_captioning.main(image_captioning.Config())


def test_the_unseen_style_is_drawn_before_the_training(config, monkeypatch):
    def broken(seed):
        raise ValueError("noto.deb: expected a file NotoColorEmoji.ttf")

    train = pictures.load_pictures(config.data).train
    monkeypatch.setattr(pictures, "load_pictures", lambda *_, **__: Splits(train, train, train))
    monkeypatch.setattr(pictures, "noto_pictures", broken)
    monkeypatch.setattr(image_captioning, "fit", None)
    with pytest.raises(ValueError, match="expected a file NotoColorEmoji"):
        image_captioning.main(dataclasses.replace(config, data="openmoji"))
    scored = scored_pictures(Splits(train, train, None), unseen=train)
    assert scored.unseen is train


def test_bad_input_ends_the_recipe_with_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["image_captioning", "--data", "missing.txt"])
    with pytest.raises(SystemExit) as stop:
        cli.run(image_captioning.main, image_captioning.Config, image_captioning.__doc__)
    assert str(stop.value).startswith("error: ") and "missing.txt" in str(stop.value)
    assert not (tmp_path / "saved_models").exists()


def test_the_scenes_are_also_scored_in_a_style_that_training_has_not_seen(monkeypatch, capsys):
    drawn = examples.Pictures()
    monkeypatch.setattr(pictures, "noto_pictures", lambda seed: drawn)
    assert image_captioning.unseen_style(image_captioning.Config(seed=7)) is drawn
    assert image_captioning.unseen_style(image_captioning.Config(data="folder")) is None

    def without_apt(seed):
        raise RuntimeError("This data needs `apt-get`")

    monkeypatch.setattr(pictures, "noto_pictures", without_apt)
    assert image_captioning.unseen_style(image_captioning.Config()) is None
    assert "Without a score in the style of Noto: This data needs" in capsys.readouterr().out
