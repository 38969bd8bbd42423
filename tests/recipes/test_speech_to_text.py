"""The recipe for speech, whole: clips in, a scored SavedModel out, interrupted and resumed."""

import dataclasses
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

import kzoo
from kzoo.audio import LogMel
from recipes import runs, speech_to_text
from recipes.data import clips, clips_audio, examples
from recipes.runs import fitting, speech_scores, training_clips
from recipes.runs.scored_parts import scored_clips

RATE = 8000
TONES = {"low": 300, "middle": 900, "high": 2100}


def sound(words, rng):
    t = np.arange(RATE // 5) / RATE
    parts = [np.sin(2 * np.pi * TONES[word] * t) * np.hanning(len(t)) for word in words]
    return np.concatenate(parts) / 2 + rng.normal(size=len(t) * len(words)) / 100


@pytest.fixture
def folder(tmp_path):
    rng, lines = np.random.default_rng(0), ["file_name,text,speaker"]
    for speaker, words in itertools.product(range(12), itertools.product(TONES, repeat=2)):
        name = f"{speaker}-{'-'.join(words)}.wav"
        soundfile.write(tmp_path / name, sound(words, rng), RATE)
        lines.append(f"{name},{' '.join(words).title()}!,{speaker}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    return str(tmp_path)


@pytest.fixture
def config(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    config = speech_to_text.Config(
        data=folder,
        model="streaming_ctc",
        num_mels=20,
        batch_seconds=10.0,
        epochs=2,
        splice_after=2,
        warmup_steps=5,
        speed_perturbation=False,
        average=2,
        max_length=30,
        beam_size=3,
        output="out",
    )
    return speech_to_text.settled(config)


@pytest.mark.slow
def test_an_interrupted_speech_run_goes_on_and_leaves_a_scored_model(
    config, tmp_path, capfd, interrupted
):
    for part in clips.load_clips(config.data):
        part.rows[0].path.write_bytes(b"RIFF")  # broken files do not end a run
    resumed = dataclasses.replace(config, resume=True)
    for folder, options in (("first/", config), ("", resumed)):
        with interrupted(tmp_path / f"out/.kzoo-run/{folder}checkpoints"):
            speech_to_text.main(options)
        printed = capfd.readouterr().out
        assert "the same command with --resume goes on from there." in printed
        assert ("Epoch 1/2" in printed.split("Cutting")[0]) == (folder == "first/")
    with pytest.raises(ValueError, match=r"`resume` needs the flags of the run before; .*'seed'"):
        speech_to_text.main(dataclasses.replace(resumed, seed=7))
    figures = speech_to_text.main(resumed)
    printed = capfd.readouterr().out
    assert "Epoch 1/" not in printed.split("Learning a vocabulary")[-1]
    assert "2 of 2 epochs, " in printed and "Cutting clips at their words" in printed
    assert " pieces of 8 voices, all speeds" in printed
    assert "A fresh process that imports only tensorflow and tensorflow_text answers" in printed
    assert "->" in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1"]
    written = {path.name for path in (tmp_path / "out/1").iterdir()}
    assert {"saved_model.pb", "model_card.md", "learning_curve.png", "example-1.wav"} <= written
    saved = json.loads((tmp_path / "out/1/metrics.json").read_text(encoding="utf-8"))
    assert set(figures) == {"test WER", "test CER", "test exact match"}
    assert set(figures) <= set(saved)
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert "python -m recipes.speech_to_text --data" in card
    assert "version:jiwer" in card
    assert "clips (skipped: 1 unreadable)" in card
    assert isinstance(kzoo.load("out")(str(tmp_path / "0-low-high.wav")), str)


def test_training_clips_are_cleaned_before_a_model_is_built(config, tmp_path, monkeypatch, capsys):
    train = clips.load_clips(config.data).train
    name = train.rows[3].path.name
    listed = (tmp_path / "metadata.csv").read_text().splitlines()
    long = [
        f"{name},{'far too many words ' * 20},9" if row.startswith(name) else row for row in listed
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(long) + "\n")
    seen = []

    def stop(part, config):
        seen.extend(part.texts)
        raise KeyboardInterrupt

    monkeypatch.setattr(speech_to_text, "build", stop)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        speech_to_text.main(dataclasses.replace(config, clean=True, valid=config.data))
    all_texts = clips.load_clips(config.data, valid=config.data).train.texts
    assert sorted(seen) == sorted(text for text in all_texts if "many" not in text)
    said = capsys.readouterr().out
    assert f"1  unlike the seconds, as '{name}' -> 'far too many words far" in said


def test_the_clips_of_each_source_have_a_word_error_rate_of_their_own():
    part = examples.Clips()
    for text, source in (("one two", "a.jsonl"), ("three", "b.jsonl"), ("four five", "a.jsonl")):
        part.rows.append(examples.Clip(Path("x.wav"), text, "", "", source=source))
    answers = ["one two", "tree", "four"]
    scores = speech_scores.transcript_scores(answers, part)
    values = {name: score.value for name, score in scores.items()}
    assert values.pop("CER") == pytest.approx(100 * (1 + 5) / (7 + 5 + 9))
    assert values == {
        "WER": 40,
        "exact match": pytest.approx(100 / 3),
        "WER a.jsonl": 25,
        "WER b.jsonl": 100,
    }
    alone = examples.Clips([clip._replace(source="") for clip in part.rows])
    assert list(speech_scores.transcript_scores(answers, alone)) == ["WER", "CER", "exact match"]


def test_long_clips_are_searched_by_few_and_the_others_as_ever():
    seconds = [20.0] + 33 * [5.0] + [80.0, 1.0]
    batches = speech_scores.clips_at_once(seconds, 10.0)
    assert batches == [[35, *range(1, 32)], [32, 33, 0], [34]]
    assert speech_scores.clips_at_once([], 10.0) == []
    clips = [f"{each:g} s" for each in seconds]
    sizes = []

    def transcribe(some):
        sizes.append(len(some))
        return [f"heard {clip}" for clip in some]

    answers, _ = speech_scores.transcripts(transcribe, clips, seconds, 10.0)
    assert answers == [f"heard {clip}" for clip in clips]
    assert sizes == [32, 3, 1]


@pytest.mark.slow
def test_a_joint_model_is_compared_in_each_search(config, capsys):
    config = dataclasses.replace(config, model="listen_attend_spell", beam_size=2, sampled=5)
    splits = clips.load_clips(config.data)
    built = speech_to_text.build(splits.train, config)
    assert built.head.num_sampled == 5
    assert isinstance(built.optimizer, kzoo.LazyAdam)
    arrays, texts, voices, names, *_ = training_clips.examples(
        built, splits.train, (1.0, 0.9), config, "train"
    )
    assert len(arrays) == len(texts) == len(voices) == 2 * len(splits.train)
    assert names == 2 * [str(row.path) for row in splits.train.rows]
    assert voices == [(row.speaker, speed) for speed in (1.0, 0.9) for row in splits.train.rows]
    assert len(arrays[0]) < len(arrays[len(splits.train)])
    assert texts[0] in {"low low", "low middle", "middle low"} | set(splits.train.texts)
    assert built.source_tokenizer.features.rate_hz == RATE
    small = examples.Clips(splits.valid.rows[:2])
    capsys.readouterr()
    found = speech_scores.compare_searches(built, "valid", small, config)
    assert capsys.readouterr().out.count("2/2") == 4  # the features, and a bar for each search
    labels = [f"valid WER, {name}" for name in ("attention alone", "CTC alone", "joint")]
    assert list(found) == labels
    assert built.ctc_weight == config.ctc_weight


@pytest.mark.parametrize("tokenizer", ["characters", "subwords"])
def test_a_model_of_characters_hands_its_weights_and_the_rest_of_the_minutes_on(
    tokenizer, config, monkeypatch
):
    config = dataclasses.replace(
        config, tokenizer=tokenizer, vocabulary_size=16, minutes=10.0, spec_augment_after=7
    )
    splits = clips.load_clips(config.data)
    model = speech_to_text.build(splits.train, config)
    run = runs.open_run(config, config.folder, "digest")
    trained, seen = [], []

    def train(speller, batches, valid, score, folder, options, monitor, change):
        trained.append((speller, folder, options))
        speller.set_weights([weights + 1 for weights in speller.get_weights()])
        (folder / "journal.jsonl").write_text('{"epoch": 2, "minutes": 3.5, "loss": 2.0}\n')

    def fit(model, batches, valid, score, folder, options, monitor, change):
        seen.append((folder, options, batches))

    def augmentation(batches, features, options, epochs=0):
        seen.append(epochs)

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(runs, "fit", fit)
    monkeypatch.setattr(speech_to_text, "augmentation", augmentation)
    speech_to_text.fit(model, splits, run, config)
    [(speller, folder, options)] = trained
    assert type(speller.target_tokenizer).__name__ == "CharacterTokenizer"
    assert (folder, options.epochs, options.minutes) == (run / runs.FIRST, config.splice_after, 5.0)
    assert options.max_length > len("middle middle")
    learnt, taught = speller.encoder.get_weights(), model.encoder.get_weights()
    for one, other in zip(learnt, taught, strict=True):
        np.testing.assert_array_equal(one, other)
    heads = speller.head.get_weights(), model.head.get_weights()
    is_equal = all(np.array_equal(one, other) for one, other in zip(*heads, strict=True))
    assert is_equal == (tokenizer == "characters")
    assert seen[:2] == [0, config.splice_after]  # epochs before, of whole clips and of spliced
    [(folder, options, _)] = seen[2:]
    assert (folder, options.minutes) == (run, 6.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup_steps": 0}, "`warmup_steps` must be at least 1, got warmup_steps=0"),
        ({"average": -1}, "`average` must be at least 0"),
        ({"dropout": 1.0}, r"`dropout` must lie in \[0, 1\), got dropout=1.0"),
        ({"ctc_weight": 1.5}, r"`ctc_weight` must lie in \[0, 1\], got ctc_weight=1.5"),
        ({"batch_seconds": 0.0}, "`batch_seconds` must be positive, got batch_seconds=0.0"),
        ({"sampled": 501}, "`sampled` must not be above vocabulary_size, got sampled=501"),
        ({"sampled": 9, "model": "streaming_ctc"}, "`sampled` must be 0 for streaming_ctc"),
        (
            {"normalize": "utterance", "model": "streaming_ctc"},
            "`normalize` must be running or fixed for streaming_ctc.*got normalize=utterance",
        ),
        ({"splice_after": 0}, "`splice_after` must be at least 1, got splice_after=0"),
        (
            {"splice_after": 3, "data": "asterisk:1,mine:2"},
            "must name one source with splice_after.*got 'asterisk:1,mine:2'",
        ),
        (
            {"splice_after": 3, "workers": "a:1,b:1", "worker": 0},
            "`splice_after` must be none with several workers.*got splice_after=3",
        ),
        ({"splice_after": 3, "ctc_weight": 0.0}, "`splice_after` needs CTC.*got splice_after=3"),
        ({"spec_augment_after": -1}, "`spec_augment_after` must be at least 0"),
        ({"spec_augment_seconds": 0.0}, "`spec_augment_seconds` must be positive"),
        ({"units": 0}, "`units` must be positive, got units=0"),
        ({"layers": -1}, "`layers` must be positive, got layers=-1"),
        ({"units": 100}, "`units` must be a multiple of 8: 4 heads.*got units=100"),
        ({"rate_hz": 7}, "`rate_hz` must be at least 1000, got rate_hz=7"),
    ],
)
def test_a_flag_out_of_range_is_refused_before_anything_is_loaded(values, message):
    with pytest.raises(ValueError, match=message):
        speech_to_text.Config(**values)


@pytest.mark.parametrize("package", ["soundfile", "jiwer", "matplotlib", "sentencepiece"])
def test_a_missing_package_is_named_before_anything_is_loaded(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs the {package} package: .* kzoo\[recipes\]"):
        speech_to_text.main(speech_to_text.Config(data="missing", tokenizer="subwords"))


def test_clips_that_are_all_too_long_are_refused(config):
    config = dataclasses.replace(config, max_length=3)
    splits = clips.load_clips(config.data)
    model = speech_to_text.build(splits.train, config)
    message = "`max_seconds` and `max_length` must leave at least one clip in train"
    with pytest.raises(ValueError, match=message):
        training_clips.examples(model, splits.train, (1.0,), config, "train")
    config = dataclasses.replace(config, max_seconds=0.1)
    with pytest.raises(ValueError, match=r"; 0 clips \(skipped: \d+ over 0\.1 seconds\)"):
        training_clips.examples(model, splits.train, (1.0,), config, "train")


def test_the_folder_of_a_run_is_named_after_the_data():
    assert str(speech_to_text.Config().folder) == "saved_models/speech-asterisk"
    assert str(speech_to_text.Config(train="x/LibriSpeech").folder).endswith("speech-LibriSpeech")


def test_several_sources_stand_one_after_the_other_at_all_speeds(folder, config):
    rows = Path(folder, "metadata.csv").read_text().splitlines()
    files = [f"{folder}/{row.split(',')[0]}" for row in rows[1:12]]
    lines = [json.dumps({"audio_filepath": file, "text": "low high"}) for file in files]
    Path("mine.jsonl").write_text("\n".join(lines) + "\n")
    place = f"mine.jsonl:1,{folder}:2"
    config = dataclasses.replace(config, data=place, splice_after=None)
    splits = clips.load_clips(place)
    built = speech_to_text.build(splits.train, config)
    found = training_clips.examples(built, splits.train, (1.0, 1.1), config, "train")
    sources = [clip.source for clip in splits.train.rows]
    assert found.sources == 2 * ["mine.jsonl"] * sources.count("mine.jsonl") + [folder] * (
        2 * sources.count(folder)
    )
    assert runs.left_out(found.left_out) == ""
    shorter = dataclasses.replace(config, max_length=9)
    some = training_clips.examples(built, splits.train, (1.0, 1.1), shorter, "train")
    count = len(splits.train) - len(some.frames) // 2
    assert count == sum(len(text) >= 9 for text in splits.train.texts) > 0
    assert runs.left_out(some.left_out) == f"; of them left out: {count} over 9 tokens"
    texts = zip(found.sources, found.texts, strict=True)
    assert all(text == "low high" for source, text in texts if source == "mine.jsonl")
    batches = training_clips.whole_batches(built, found, Path("run"), config)
    read = sum(len(inputs["name"]) for inputs, _ in batches)
    assert read == pytest.approx(3 / 2 * found.sources.count(folder), rel=0.1)


def test_a_clip_is_sent_as_16_bit_wav(config):
    samples, rate = clips_audio.read_audio(clips.load_clips(config.data).train.rows[0])
    content = clips_audio.wav_bytes(samples, rate)
    decoded, decoded_rate = kzoo.audio.decode_wav(content)
    assert decoded_rate == rate == RATE
    np.testing.assert_allclose(decoded, samples, atol=1e-4)


def test_scored_clips_are_read_once_and_counted_if_they_cannot_be(config, monkeypatch):
    splits, reads, read = clips.load_clips(config.data), [], clips_audio.read_audio
    test = splits.test
    test.rows[1].path.write_bytes(b"RIFF")
    monkeypatch.setattr(clips_audio, "read_audio", lambda clip: reads.append(clip) or read(clip))
    scored = scored_clips(splits)
    assert reads == test.rows
    assert scored.name == "test"
    assert scored.part.rows == [test.rows[0], *test.rows[2:]]
    assert scored.part.skipped == {"unreadable": 1}
    assert scored.seconds == [0.4] * (len(test) - 1)
    assert len({*map(len, scored.sounds)}) == 1
    assert len(scored.sounds) == len(test) - 1
    assert scored_clips(splits._replace(test=None)).name == "valid"


def test_the_rate_is_that_of_the_first_clip_that_can_be_read(config):
    train = clips.load_clips(config.data).train
    train.rows[0].path.write_bytes(b"RIFF")
    assert speech_to_text.build(train, config).source_tokenizer.features.rate_hz == RATE


@pytest.mark.parametrize("model", ["streaming_ctc", "listen_attend_spell", "speech_transformer"])
def test_a_model_has_the_size_that_is_asked_for(config, model):
    options = dataclasses.replace(config, model=model, units=24, layers=2)
    made = speech_to_text.build(clips.load_clips(config.data).train, options)
    made({"source": np.zeros((1, 40, 20), "float32"), "target": np.ones((1, 2), "int32")})
    described = json.dumps(made.encoder.get_config())
    assert '"units": 24' in described and '"num_layers": 2' in described
    assert ('"hidden_units": 96' in described) == (model == "speech_transformer")


def augmented(batches, epochs=0, done=0, start=0, **flags):
    """After `done` epochs of another model, with SpecAugment after `epochs`; from a batch on."""
    config = speech_to_text.Config(spec_augment_after=epochs, **flags)
    change = training_clips.augmentation(batches, LogMel(RATE, num_mels=20), config, done)
    return fitting.numbered(batches.skip(start), start, fitting.NamesOfBatches(), change)


def test_every_batch_is_perturbed_anew_but_for_its_padding_and_its_texts():
    random = np.random.default_rng(0)
    mask = np.arange(31) < np.array([31, 13])[:, None]
    source = np.where(mask[:, :, None], random.normal(size=(3, 2, 31, 20)), 0).astype("float32")
    inputs = {"source": source, "source_mask": np.stack([mask] * 3), "target": np.ones((3, 2, 5))}
    batches = tf.data.Dataset.from_tensor_slices((inputs, np.full((3, 2, 5), 7)))
    changed = augmented(batches, vocal_tract_perturbation=True, spec_augment=False)
    found = list(changed.take(6))
    passes = found[:3], found[3:]
    for found, again, (before, labels) in zip(*passes, batches, strict=True):
        np.testing.assert_array_equal(found[1], labels)
        np.testing.assert_array_equal(found[0]["target"], before["target"])
        np.testing.assert_array_equal(found[0]["source_mask"], mask)
        assert not found[0]["source"].numpy()[~mask].any()
        for other in (before, again[0]):
            assert not np.allclose(found[0]["source"], other["source"])


def test_spec_augment_begins_after_some_batches_also_of_a_repeated_dataset():
    inputs = {"source": tf.ones((6, 2, 31, 20)), "source_mask": tf.ones((6, 2, 31), tf.bool)}
    batches = tf.data.Dataset.from_tensor_slices((inputs, tf.zeros((6, 2))))
    changed = [
        bool((inputs["source"].numpy() != 1).any())
        for inputs, _ in augmented(batches, epochs=3, done=2).take(12)
    ]
    assert changed == [False] * 6 + [True] * 6
    late = augmented(batches, epochs=3, done=5)
    assert all((inputs["source"].numpy() != 1).any() for inputs, _ in late.take(6))


def test_a_resumed_run_changes_a_batch_as_an_undisturbed_one_does():
    random = np.random.default_rng(0).normal(size=(5, 2, 31, 20)).astype("float32")
    inputs = {"source": random, "source_mask": tf.ones((5, 2, 31), tf.bool)}
    batches = tf.data.Dataset.from_tensor_slices((inputs, tf.zeros((5, 2))))
    whole = [inputs["source"].numpy() for inputs, _ in augmented(batches, epochs=0).take(5)]
    rest = [inputs["source"].numpy() for inputs, _ in augmented(batches, start=3).take(2)]
    np.testing.assert_array_equal(rest, whole[3:])
    assert not np.array_equal(whole[0], random[0])


def test_flags_say_what_spec_augment_blots_out():
    inputs = {"source": tf.ones((9, 4, 200, 20)), "source_mask": tf.ones((9, 4, 200), tf.bool)}
    batches = tf.data.Dataset.from_tensor_slices((inputs, tf.zeros((9, 4))))
    flags = {"spec_augment_features": 0, "spec_augment_stretches": 3, "spec_augment_seconds": 0.05}
    blotted = np.concatenate(
        [x["source"].numpy() == 0 for x, _ in augmented(batches, **flags).take(9)]
    )
    assert (blotted.all(2) == blotted.any(2)).all()  # no bands
    assert blotted.all(2).sum(1).max() <= 3 * 5
    assert blotted.all(2).sum(1).max() > 5
