"""Runs that go on from a trained model."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
import soundfile

import kzoo
from kzoo.export import manifest
from recipes import image_captioning, pronunciation, runs, speech_to_text, translation
from recipes.data import examples
from recipes.runs import starting

SOURCE = ["one red cat", "two red dogs", "three green dogs", "one green cat"] * 11
TARGET = ["eine rote Katze", "zwei rote Hunde", "drei grüne Hunde", "eine grüne Katze"] * 11


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A .keras file of a model that knows the first three pairs."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("trained")
    tokenizers = [kzoo.WordTokenizer.learn(side[:3], 30) for side in (SOURCE, TARGET)]
    model = kzoo.zoo.pronunciation_transformer(*tokenizers, units=16, num_layers=1)
    corpus = kzoo.batching.Corpus(
        *(
            kzoo.batching.tokenize(t, side[:3])
            for t, side in zip(tokenizers, (SOURCE, TARGET), strict=True)
        )
    )
    model.compile("adam")
    model.fit(kzoo.batching.token_batches(corpus, 64), shuffle=False, verbose=0)
    model.save(folder / "model.keras")
    return folder / "model.keras"


@pytest.fixture
def config(tmp_path, trained):
    rows = (f"{source}\t{target}\n" for source, target in zip(SOURCE, TARGET, strict=True))
    (tmp_path / "pairs.tsv").write_text("".join(rows), encoding="utf-8")
    return translation.Config(
        data=str(tmp_path / "pairs.tsv"), init_from=str(trained), epochs=1, average=0,
        warmup_steps=1, validation_pairs=3, beam_size=2, max_length=8, batch_tokens=128,
        output=str(tmp_path / "out"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """The folder of a random Whisper of transformers that hears windows of a second."""
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    pytest.importorskip("torch")
    import whisper_models

    folder = tmp_path_factory.mktemp("whisper")
    names = "endoftext", "startoftranscript", "nospeech", "notimestamps"
    learnt = whisper_models.learnt_tokenizer(folder, names)
    model = whisper_models.random_model(
        learnt, 51, seed=1, num_mel_bins=80, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=16, decoder_ffn_dim=16, max_source_positions=50, max_target_positions=40,
    )  # fmt: skip
    model.generation_config.no_timestamps_token_id = learnt.token_to_id("<|notimestamps|>")
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_whisper_goes_on_with_clips_as_long_as_they_are_and_leaves_out_what_it_cannot_hear(
    whisper, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    rng, lines = np.random.default_rng(0), []
    for number in range(12):
        # Played slower, 0.95 s is too long for the window of a second.
        seconds = {0: 0.95, 10: 1.2}.get(number, 0.3 + number / 40)
        name = f"{number}.wav"
        soundfile.write(name, rng.normal(size=round(16_000 * seconds)) / 9, 16_000)
        line = {"audio_filepath": name, "text": ["it is", "the end"][number % 2]}
        lines.append(json.dumps(line | {"duration": seconds}) + "\n")
    parts = {"train": lines[:8], "valid": lines[8:10], "test": lines[10:]}
    for part, own in parts.items():
        (tmp_path / f"{part}.jsonl").write_text("".join(own))
    config = speech_to_text.Config(
        **{part: f"{part}.jsonl" for part in parts},
        init_from=str(whisper), epochs=1, average=0, warmup_steps=1, beam_size=2, max_length=9,
        batch_seconds=2.0, precision="mixed_bfloat16", output="out",
    )  # fmt: skip
    figures = speech_to_text.main(config)
    printed = capfd.readouterr().out
    assert "1 over 0.9 seconds" in printed  # of the training
    said = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "1 clips (skipped: 1 over the 1 seconds that the model hears)" in said
    assert set(figures) == {"test WER", "test CER", "test exact match"}
    assert not kzoo.pretrained.load("out").source_tokenizer.features.is_filled
    assert isinstance(kzoo.load("out")("11.wav"), str)


@pytest.mark.slow
def test_a_translation_run_goes_on_from_a_file_and_leaves_its_frozen_encoder_alone(
    config, trained, tmp_path, capfd
):
    translation.main(dataclasses.replace(config, freeze="encoder"))
    printed = capfd.readouterr().out
    assert f"Starting from {trained}" in printed and "Learning a vocabulary" not in printed
    before = keras.models.load_model(trained)
    after = kzoo.pretrained.load(tmp_path / "out")
    for old, new in zip(before.encoder.weights, after.encoder.weights, strict=True):
        np.testing.assert_array_equal(new, old)
    assert any(
        np.any(np.array(old) != np.array(new))
        for old, new in zip(before.decoder.weights, after.decoder.weights, strict=True)
    )
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "--init_from" in card and f"| begun from | {trained} |\n" in card


def saved_model(folder, licence, begun_from=None):
    """A folder with as much of a SavedModel as a card's row needs."""
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    rows = {"licence": licence, "begun from": begun_from}
    table = "".join(f"| {key} | {value} |\n" for key, value in rows.items() if value)
    (folder / "model_card.md").write_text(f"# X\n\n|  |  |\n| --- | --- |\n{table}")
    return folder


def test_a_card_names_the_model_that_a_run_began_with_and_its_licence(tmp_path, config):
    assert starting.begun_from("Helsinki-NLP/opus-mt-en-de") == "Helsinki-NLP/opus-mt-en-de"
    assert starting.begun_from("mine.keras") == "mine.keras"
    place = saved_model(tmp_path / "a/1", "CC-BY-SA-4.0")
    assert starting.begun_from(str(tmp_path / "a")) == f"{tmp_path}/a, licence: CC-BY-SA-4.0"
    manifest.write(place, manifest.Manifest("a", "x", [], "x", "MIT, of A", "x", "x", 7))
    assert starting.begun_from(str(place)) == f"{place}, licence: MIT, of A"
    place = saved_model(tmp_path / "b/1", "not stated", "whisper-tiny.en, licence: MIT")
    expected = f"{place}; itself begun from whisper-tiny.en, licence: MIT"
    assert starting.begun_from(str(place)) == expected
    config = dataclasses.replace(config, init_from=str(place))
    assert runs.provenance("translation", config, 1.5)["begun from"] == expected
    config = dataclasses.replace(config, init_from=None)
    assert "begun from" not in runs.provenance("translation", config, 1.5)


def test_a_pronouncing_model_goes_on_with_its_own_letters_or_with_those_of_the_data(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tokenizers = [
        runs.learn_tokenizer(kind, texts, 30)
        for kind, texts in (("characters", ["ab", "ba"]), ("phonemes", ["EY B", "B EY"]))
    ]
    model = kzoo.zoo.rnn_luong(*tokenizers, units=8)
    model({"source": np.array([[4, 2]]), "target": np.array([[1, 4]])})
    model.save("model.keras")
    words = examples.Words()
    words.add("abc", "EY B IY")
    config = pronunciation.Config(init_from="model.keras", freeze="decoder")
    assert config.rate == runs.RATE
    kept = pronunciation.start(words, config)
    for weight, other in zip(kept.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    assert kept.encoder.trainable and not kept.decoder.trainable
    new = pronunciation.start(words, dataclasses.replace(config, new_vocabulary=True))
    before, after = (each.target_tokenizer.get_vocabulary() for each in (model, new))
    assert "IY" in after and "IY" not in before
    learnt = {id(weight) for weight in new.trainable_weights}
    (embedding,) = new.decoder.embedding.weights
    frozen = [each for each in new.decoder.weights if each is not embedding]
    assert id(embedding) in learnt and not learnt & {*map(id, frozen)}
    tables = [np.array(each.decoder.embedding.weights[0]) for each in (model, new)]
    np.testing.assert_array_equal(tables[0][before.index("EY")], tables[1][after.index("EY")])


def test_a_captioning_model_goes_on_with_its_own_pictures_words_and_backbone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = kzoo.WordTokenizer.learn(["a red cat"], 20)
    backbone = kzoo.image.backbones.small_resnet(32, (4, 4, 8, 8))
    options = {"units": 8, "num_layers": 1, "decoder_layers": 1, "hidden_units": 8}
    source = kzoo.ImageSource(32)
    model = kzoo.zoo.captioning_transformer(source, tokenizer, backbone, **options)
    model({"source": np.zeros((1, 32, 32, 3), np.uint8), "target": np.array([[1, 4]])})
    model.save("model.keras")
    again = image_captioning.start(image_captioning.Config(init_from="model.keras"))
    for weight, other in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    assert again.source_tokenizer.size == 32 and again.encoder.backbone.trainable
    frozen = image_captioning.Config(init_from="model.keras", freeze="encoder")
    assert not image_captioning.start(frozen).encoder.backbone.trainable


def test_a_new_vocabulary_has_the_words_of_the_data(config):
    config = dataclasses.replace(config, new_vocabulary=True, tokenizer="words")
    pairs = translation.examples.Pairs()
    for row in zip(SOURCE, TARGET, SOURCE, strict=True):
        pairs.add(*row)
    model = translation.start(pairs, config)
    assert "Katze" in model.target_tokenizer.get_vocabulary()


@pytest.mark.parametrize(
    "recipe, flags, message",
    [
        (translation, {"freeze": "encoder"}, "`freeze` needs init_from, got freeze=encoder."),
        (translation, {"new_vocabulary": True}, "`new_vocabulary` needs init_from"),
        (
            translation,
            {"init_from": "x", "model": "rnn_luong"},
            "`model` must be left out with init_from, as that model has its own, got "
            "model=rnn_luong.",
        ),
        (translation, {"init_from": "x", "vocabulary_size": 9}, "`vocabulary_size` must be left"),
        (speech_to_text, {"init_from": "x", "num_mels": 40}, "`num_mels` must be left out with"),
        (speech_to_text, {"init_from": None, "freeze": "encoder"}, "`freeze` needs init_from"),
        (pronunciation, {"new_vocabulary": True}, "`new_vocabulary` needs init_from"),
        (pronunciation, {"init_from": "x", "units": 9}, "`units` must be left out with"),
        (image_captioning, {"freeze": "encoder"}, "`freeze` needs init_from"),
        (image_captioning, {"init_from": "x", "image_size": 64}, "`image_size` must be left out"),
    ],
)
def test_a_flag_that_the_model_answers_already_is_refused(recipe, flags, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe.Config(**flags)


@pytest.mark.parametrize(
    "flags, init_from, minutes",
    [
        ({}, "whisper-tiny.en", 8),
        ({"freeze": "encoder", "minutes": 3.0}, "whisper-tiny.en", 3),
        ({"init_from": None}, None, 60),
        ({"model": "speech_transformer"}, None, 60),
        ({"num_mels": 40}, None, 60),
        ({"data": "asterisk-fr"}, None, 60),
        ({"train": "my_clips", "valid": "others"}, None, 60),
        ({"data": "my_clips", "init_from": "mine"}, "mine", 8),
    ],
)
def test_english_prompts_go_on_from_whisper_unless_a_flag_describes_a_new_model(
    flags, init_from, minutes
):
    config = speech_to_text.settled(speech_to_text.Config(**flags))
    assert (config.init_from, config.minutes) == (init_from, minutes)
    assert config.warmup_steps == (500 if init_from is None else 100)
    assert config.model == (
        (flags.get("model") or "speech_transformer") if init_from is None else None
    )


def test_a_model_of_another_kind_is_refused(config, trained):
    with pytest.raises(ValueError, match=r"a model that reads WAV files, got .* texts"):
        speech_to_text.start(speech_to_text.Config(init_from=str(trained)))
    with pytest.raises(ValueError, match="`length_deviation_penalty` needs a model with a length"):
        translation.start(None, dataclasses.replace(config, length_deviation_penalty=0.1))
