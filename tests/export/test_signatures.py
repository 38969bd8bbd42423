"""Speech models as they are served: WAV bytes in, texts out; live audio, state in, state out."""

import base64
import io
import json
import struct
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported import python, saved_model
from loaders import LOADERS

from kzoo import export, zoo
from kzoo.__main__ import main
from kzoo.audio import AudioSource, LogMel
from kzoo.export import warmup
from kzoo.models import Ensemble
from kzoo.text import CharacterTokenizer

RATE_HZ, BEAMS, LONGEST = 8000, 3, 19
OPTIONS = {"beam_size": BEAMS, "max_length": LONGEST, "length_penalty": 0.0}


def built(model):
    """Random weights, large enough that every sound has an answer of its own."""
    model({"source": tf.ones((1, 40, 13)), "target": tf.constant([[1, 5]])})
    for weight in model.weights:
        if weight.shape.rank == 2 and "lstm" not in weight.path:
            weight.assign(2.5 * weight)
    return model


def make(name, normalize="utterance", **options):
    keras.utils.set_random_seed(6)
    letters = CharacterTokenizer.learn(["a quick brown fox"], 71)
    source = AudioSource(LogMel(RATE_HZ, num_mels=13, normalize=normalize))
    return built(getattr(zoo, name)(source, letters, **options))


@pytest.fixture(scope="module")
def models():
    return {
        "las": make("listen_attend_spell", units=7),
        "conformer": make("speech_transformer", units=8, num_layers=1, decoder_layers=1),
        "streaming": make("streaming_ctc", "running", units=11, num_layers=2, window=5),
    }


@pytest.fixture(scope="module")
def paths(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    (folder / "clip.wav").write_bytes(WAVS[1])
    examples = {"streaming": [folder / "clip.wav"]}
    return {
        name: export.save(
            model, folder / name / "1", examples=examples.get(name, ()), **OPTIONS
        ).path
        for name, model in models.items()
    }


@pytest.fixture(scope="module")
def served(paths):
    return {name: export.load(path) for name, path in paths.items()}


each_model = pytest.mark.parametrize("name", ["las", "conformer", "streaming"])


def sound(seconds, seed=0):
    """Tones that change every tenth of a second, as 16-bit samples would hold them."""
    random = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitches = random.uniform(100, 3000, 1000)[(10 * times).astype(int)]
    samples = 0.5 * np.sin(2 * np.pi * pitches * times) * random.uniform(0.2, 1, times.shape)
    return (np.round(samples * 2**15) / 2**15).astype("float32")


def wav(samples, rate_hz=RATE_HZ):
    samples = np.asarray(samples, np.float32).reshape(-1, 1)
    return tf.audio.encode_wav(samples, rate_hz).numpy()


SOUNDS = [sound(1.1, 1), sound(0.7, 2), sound(2.3, 3)]
WAVS = [wav(samples) for samples in SOUNDS]


@each_model
def test_the_signatures_take_bytes_and_have_the_promised_outputs(paths, name):
    found = dict(saved_model(paths[name]).meta_graphs[0].signature_def)
    found.pop("__saved_model_init_op")
    outputs = {
        "serving_default": {"text", "score"},
        "n_best": {"text", "score", "log_prob"},
        "align": {"text", "source_tokens", "target_tokens", "alignment"},
    }
    if name == "streaming":
        others = {"stream", "stream_begin"}
    else:
        others = {"complete"}
        assert set(found["complete"].inputs) == {"audio_bytes", "prefix"}
    assert found.keys() == outputs.keys() | others
    for signature, names in outputs.items():
        ((argument, info),) = found[signature].inputs.items()
        assert (argument, tf.as_dtype(info.dtype)) == ("audio_bytes", tf.string)
        assert set(found[signature].outputs) == names


@each_model
def test_no_op_needs_xla_or_python(paths, name):
    graph = saved_model(paths[name]).meta_graphs[0].graph_def
    ops = {node.op for f in graph.library.function for node in f.node_def}
    assert "While" in ops and "MatMul" in ops
    assert not [op for op in ops if op.startswith("Xla") or "PyFunc" in op or "Dataset" in op]


def test_a_fresh_process_and_a_session_answer_as_the_model_does(paths, served):
    contents = json.dumps([base64.b64encode(content).decode() for content in WAVS])
    names = ["conformer", "streaming"]
    answers = python(LOADERS, "audio_bytes", "no sound", contents, *(paths[n] for n in names))
    for name, loaded in zip(names, answers, strict=True):
        best = [pairs[0] for pairs in served[name].n_best(WAVS)]
        for outputs in loaded:
            assert outputs["text"] == [answer for answer, _ in best]
            np.testing.assert_allclose(outputs["score"], [score for _, score in best], rtol=1e-4)
        assert "expected the bytes of a WAV file" in loaded[1]["error"]


@each_model
def test_the_graph_computes_what_generate_does_and_neighbours_change_nothing(models, served, name):
    model, together = models[name], served[name].n_best(WAVS)
    for content, pairs in zip(WAVS, together, strict=True):
        source, _ = model.source_tokenizer.read([content], 60)
        found = model.generate(source, **OPTIONS)
        expected = model.target_tokenizer.detokenize(found.ids[0]).numpy()
        assert [answer for answer, _ in pairs] == [answer.decode() for answer in expected]
        np.testing.assert_allclose([score for _, score in pairs], found.scores[0], rtol=1e-4)
    assert len({pairs[0][0] for pairs in together}) == len(WAVS)  # or this would show nothing


@each_model
def test_alignments_tell_the_second_a_token_looked_at(served, name):
    seconds_per_step = 0.03 if name == "streaming" else 0.04
    for samples, found in zip(SOUNDS, served[name].align(WAVS), strict=True):
        frames = 1 + (len(samples) - 200) // 80
        steps = frames // 3 if name == "streaming" else -(-frames // 4)
        begins = [float(token) for token in found.source_tokens]
        # A group that is not whole has a time, but nothing is ever said there.
        assert len(begins) in (steps, steps + 1)
        np.testing.assert_allclose(np.diff(begins), seconds_per_step, atol=0.011)
        assert found.weights.shape == (len(found.target_tokens), len(begins))
        np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)


def test_what_a_ctc_model_names_begins_later_from_token_to_token(served):
    for found in served["streaming"].align(WAVS):
        assert (np.diff(found.weights.argmax(1)) > 0).all()


# Whatever comes in.


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data


def raw_wav(tag, channels, rate_hz, bits, data):
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits)
    body = b"WAVE" + chunk(b"fmt ", form) + chunk(b"data", data)
    return chunk(b"RIFF", body)


@each_model
def test_odd_sounds_get_a_sane_answer(served, name):
    ask = served[name]
    assert ask(wav(np.zeros(0))) == ""  # no sound
    assert ask(wav(np.zeros(150))) == ""  # less than a frame
    assert ask.n_best(wav(np.zeros(0))) == [("", 0.0)]
    assert isinstance(ask(wav(np.zeros(RATE_HZ))), str)  # silence
    stereo = np.random.default_rng(0).normal(0, 0.1, (96_000, 2)).astype("<f4").tobytes()
    assert isinstance(ask(raw_wav(3, 2, 96_000, 32, stereo)), str)
    assert isinstance(ask(WAVS[0][:5000]), str)  # cut short
    assert ask([]) == []


@each_model
def test_what_is_no_sound_is_refused_by_name_and_the_model_lives_on(served, name, tmp_path):
    (tmp_path / "picture.wav").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(99))
    (tmp_path / "good.wav").write_bytes(WAVS[0])
    answer = served[name](tmp_path / "good.wav")
    assert answer == served[name](WAVS[0])
    with pytest.raises(
        ValueError, match=r"picture\.wav was refused: .*expected the bytes of a WAV"
    ):
        served[name]([tmp_path / "good.wav", str(tmp_path / "picture.wav")])
    with pytest.raises(ValueError, match=r"20 bytes was refused: .*expected a fmt chunk"):
        served[name](WAVS[0][:20])
    with pytest.raises(FileNotFoundError):
        served[name](tmp_path / "nowhere.wav")
    with pytest.raises(ValueError, match="The path of a file must not be empty"):
        served[name]("")
    with pytest.raises(ValueError, match="`contents` must be a path or bytes of a WAV file"):
        served[name]([3])
    run = served[name]._model.signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected the bytes of a WAV file"):
        run(audio_bytes=tf.constant([WAVS[0], b"\xff\xd8\xff"]))
    assert served[name](tmp_path / "good.wav") == answer


def test_ten_minutes_are_refused_where_sixty_seconds_are_allowed(served):
    long = wav(np.tile(sound(10.0), 60))
    with pytest.raises(ValueError, match=r"must not be longer than 60\.0 seconds, got seconds"):
        served["las"](long)


# Live audio.


def transcribed(model, samples, size):
    state, texts = None, []
    for start in range(0, len(samples), size):
        text, state = model.stream(samples[start : start + size], state)
        texts.append(text)
    return texts


@pytest.mark.parametrize("milliseconds", [10, 100, 1000])
def test_chunks_give_the_text_of_the_whole_file(served, milliseconds):
    model = served["streaming"]
    assert model.rate_hz == RATE_HZ
    for samples, content in zip(SOUNDS[:2], WAVS, strict=False):
        texts = transcribed(model, samples, milliseconds * RATE_HZ // 1000)
        assert texts[-1] == model(content) != ""


def test_chunks_of_any_size_and_of_none_may_follow_each_other(served):
    samples, state = SOUNDS[0], None
    sizes = np.random.default_rng(0).integers(0, 900, 60)
    for part in np.split(samples, np.cumsum(sizes)):
        text, state = served["streaming"].stream(part, state)
    assert text == served["streaming"](WAVS[0])


def test_fifty_clients_in_turn_never_mix(served):
    model = served["streaming"]
    clips = [sound(0.5 + 0.01 * i, seed=i) for i in range(50)]
    expected = model([wav(samples) for samples in clips])
    assert len(set(expected)) > 25
    states, texts = [None] * 50, [None] * 50
    order = np.random.default_rng(1)
    for start in range(0, 8000, 1600):
        for i in order.permutation(50):
            texts[i], states[i] = model.stream(clips[i][start : start + 1600], states[i])
    assert texts == expected


def test_streams_of_one_call_have_a_row_each(served):
    model, clips = served["streaming"], np.stack([sound(0.6, 1), sound(0.6, 2), sound(0.6, 3)])
    state = None
    for part in np.split(clips, [1000, 3300], axis=1):
        texts, state = model.stream(part, state)
    assert texts == model([wav(samples) for samples in clips])


def test_a_session_streams_with_the_state_fed_and_fetched(paths, served):
    samples = SOUNDS[1]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(paths["streaming"]))
        begin, stream = (graph.signature_def[name] for name in ("stream_begin", "stream"))
        outputs = {name: info.name for name, info in begin.outputs.items()}
        state = session.run(outputs, {begin.inputs["rows"].name: 1})
        assert state.pop("rate_hz") == RATE_HZ
        assert set(stream.inputs) == {"audio", *state}
        for part in np.array_split(samples, 7):
            feed = {stream.inputs[name].name: value for name, value in state.items()}
            feed[stream.inputs["audio"].name] = part[None]
            outputs = {name: info.name for name, info in stream.outputs.items()}
            state = session.run(outputs, feed)
            text = state.pop("text")[0].decode()
            state.pop("score")
    assert text == served["streaming"](wav(samples))


def test_the_state_of_a_long_stream_does_not_grow_but_for_its_text(served):
    model, state, sizes = served["streaming"], None, []
    for _ in range(6):
        text, state = model.stream(SOUNDS[2], state)
        sizes.append(sum(tf.size(x).numpy() for name, x in state.items() if "shared" not in name))
    assert max(sizes) - min(sizes) < 1000 and len(text) > 20


def test_samples_that_are_no_number_or_too_large_do_not_end_a_stream(served):
    model, state = served["streaming"], None
    clean, broken = np.zeros(800, "f"), np.zeros(800, "f")
    clean[100], broken[100], broken[300] = 1.0, 7.0, np.nan
    texts = []
    for part in (clean, broken):
        text, state = model.stream(part)
        text, state = model.stream(SOUNDS[2], state)
        texts.append(text)
    assert texts[0] == texts[1] != ""


def test_a_whole_file_has_as_many_tokens_as_its_stream(models, served, tmp_path):
    samples, model = np.concatenate(SOUNDS), models["streaming"]
    options = {**OPTIONS, "signatures": ["serving_default"], "max_length": None}
    saved = export.save(model, tmp_path / "1", **options)
    text, _ = served["streaming"].stream(samples)
    assert saved.served(wav(samples)) == text and len(text) > LONGEST
    assert served["streaming"](wav(samples)) == text[:LONGEST]


def test_an_ensemble_of_ctc_models_has_a_limit_of_tokens(models, tmp_path):
    ensemble = Ensemble([models["streaming"]] * 2)
    saved = export.save(ensemble, tmp_path / "1", signatures=["serving_default"], beam_size=2)
    assert "at most 128 tokens" in (saved.path / "model_card.md").read_text("utf-8")
    assert isinstance(saved.served(WAVS[1]), str)


def test_what_is_no_next_chunk_of_a_stream_is_refused(served):
    model = served["streaming"]
    _, state = model.stream(SOUNDS[0])
    with pytest.raises(ValueError, match=r"`samples` was refused: .*integers"):
        model.stream((SOUNDS[0] * 32767).astype("int16"))
    with pytest.raises(ValueError, match="`state` must be of as many streams as `samples`, 2, got"):
        model.stream(np.stack([SOUNDS[0]] * 2), state)
    for wrong in ({}, {"frames": 0}, 3):
        with pytest.raises(ValueError, match="`state` must be what `stream` returned before, got"):
            model.stream(SOUNDS[0], wrong)


def test_a_model_for_live_audio_wants_a_source_that_can_stream():
    with pytest.raises(ValueError, match='`source` must normalise by "running", "fixed"'):
        make("streaming_ctc", "utterance")


def test_streaming_is_refused_where_it_cannot_be(served):
    assert served["las"].rate_hz is None
    with pytest.raises(ValueError, match=r"`stream` needs a model of live audio, but .* is none"):
        served["las"].stream(SOUNDS[0])
    with pytest.raises(ValueError, match=r"`samples` must have shape \(C,\) or \(N, C\)"):
        served["streaming"].stream(np.zeros((1, 2, 3)))


def test_the_card_says_how_to_ask_and_what_was_answered(paths, served):
    card = (paths["streaming"] / "model_card.md").read_text("utf-8")
    file = paths["streaming"].parents[1] / "clip.wav"
    assert f"| {file} | {served['streaming'](file)} |" in card
    assert "file.wav" in card and "at most 60 seconds" in card
    assert f"-r {RATE_HZ} -t raw | python -m kzoo {paths['streaming']} --live" in card
    assert "serving_xla" not in card and "complete" not in card


def test_warm_up_requests_are_sounds(paths):
    for path, content in (
        (paths["streaming"], WAVS[1]),
        (paths["las"], AudioSource.content.neutral),
    ):
        requests = warmup.read(path)
        names = {name for name, _ in requests} - {"complete"}
        assert names == {"serving_default", "n_best", "align"}
        assert all(set(inputs["audio_bytes"]) == {content} for _, inputs in requests)


# The command line.


def pcm(samples):
    return np.round(samples * 2**15).astype("<i2").tobytes()


@pytest.fixture
def standard_input(monkeypatch):
    def feed(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return feed


def test_the_command_answers_wav_files_and_lists_of_them(
    paths, served, tmp_path, capsys, standard_input
):
    files = [tmp_path / f"{i}.wav" for i in range(3)]
    for file, content in zip(files, WAVS, strict=True):
        file.write_bytes(content)
    (tmp_path / "list.txt").write_text(f"{files[2]}\n{files[0]}\n")
    standard_input(f"{files[1]}\n".encode())
    main([str(paths["las"]), str(files[0]), str(tmp_path / "list.txt"), "-"])
    expected = served["las"]([WAVS[i] for i in (0, 2, 0, 1)])
    assert capsys.readouterr().out.splitlines() == expected


def test_the_command_says_which_file_is_no_sound_or_missing(paths, tmp_path, capsys):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    for name, message in (("bad.wav", "bad.wav was refused"), ("no.wav", "No such file")):
        with pytest.raises(SystemExit) as caught:
            main([str(paths["las"]), str(tmp_path / name)])
        assert caught.value.code == 2 and message in capsys.readouterr().err


def test_the_command_transcribes_live_audio(paths, served, capsys, standard_input):
    standard_input(pcm(SOUNDS[0]) + b"\0")  # half a sample is cut off
    main([str(paths["streaming"]), "--live"])
    assert capsys.readouterr().out == served["streaming"](WAVS[0]) + "\n"
    standard_input(b"")
    main([str(paths["streaming"]), "--live"])
    assert capsys.readouterr().out == "\n"
    with pytest.raises(SystemExit):
        main([str(paths["las"]), "--live"])
    assert "`--live` needs a model of live audio, as kzoo.zoo." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(paths["streaming"]), "--live", "clip.wav"])
    assert "`--live` reads the standard input, not clip.wav" in capsys.readouterr().err


def test_ctrl_c_ends_live_audio_with_its_text(paths, served, capsys, monkeypatch):
    class Recording(io.BytesIO):
        def read(self, size):
            if data := super().read(size):
                return data
            raise KeyboardInterrupt

    sound = Recording(pcm(SOUNDS[0]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(sound))
    main([str(paths["streaming"]), "--live"])
    shown = capsys.readouterr()
    assert shown.out == served["streaming"](WAVS[0]) + "\n"
    assert f"Listening: 16-bit samples, 1 channel, {RATE_HZ:,} Hz." in shown.err
