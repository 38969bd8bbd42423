"""Long recordings by one window after the other, against transformers and by hand."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from exported import saved_model

from kzoo import __main__ as command
from kzoo import audio, export
from kzoo.__main__ import main
from kzoo.contents import SOUND
from kzoo.export import recordings, signatures, subtitles, warmup
from kzoo.export.served import Recording, Segment
from kzoo.models import transcription, windows
from kzoo.models.segmenting import segments
from kzoo.models.windows import Doubts
from kzoo.pretrained import whisper

MELS, STEPS = 9, 40  # a window is 80 frames, 0.8 s
BELIEVED = Doubts(1.0, 1.0, temperatures=())
DRAWN = Doubts(1.0, 1.0, log_prob_threshold=-2.0, temperatures=(0.7,))  # mostly
T = 100  # the time 0 of the tests by hand


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A random model of transformers and what is read out of its folder."""
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    torch = pytest.importorskip("torch")
    import whisper_models

    folder = tmp_path_factory.mktemp("whisper")
    names = (
        *("endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "startoflm"),
        *("startofprev", "nospeech", "notimestamps"),
    )
    learnt = whisper_models.learnt_tokenizer(folder, names)
    row = {name: learnt.token_to_id(f"<|{name}|>") for name in names}
    theirs = whisper_models.random_model(
        learnt, STEPS + 1, seed=5, num_mel_bins=MELS, encoder_layers=1, decoder_layers=2,
        encoder_ffn_dim=48, decoder_ffn_dim=48, max_source_positions=STEPS,
        max_target_positions=40, init_std=0.25,
    )  # fmt: skip
    with torch.no_grad():  # now a time, now a text is the most probable token
        theirs.proj_out.weight[-STEPS - 1 :] *= 1.3
        theirs.model.decoder.embed_positions.weight *= 5
    settings = theirs.generation_config
    settings.suppress_tokens = [row[n] for n in names if n not in ("endoftext", "notimestamps")]
    settings.begin_suppress_tokens = [row["endoftext"]]
    settings.no_timestamps_token_id = row["notimestamps"]
    settings.max_initial_timestamp_index = 50
    settings.is_multilingual = True
    settings.lang_to_id = {"<|en|>": row["en"], "<|de|>": row["de"]}
    settings.task_to_id = {name: row[name] for name in ("translate", "transcribe")}
    theirs.save_pretrained(folder)
    return theirs, learnt, whisper.from_hugging_face(folder, language="de", task="translate")


def test_windows_and_segments_are_those_of_transformers(pair):
    import torch

    theirs, learnt, model = pair
    features = model.source_tokenizer.features

    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def ours_of(samples):
        found = transcription.transcribe(
            model, samples, max_length=20, length_penalty=0.0, doubts=BELIEVED
        )
        return found, segments(found, model)

    pairs = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        samples = rng.normal(size=(1, 20_000 + 4_100 * seed)) * rng.uniform(0.01, 0.3)
        samples = tf.constant(samples, tf.float32)
        found, ours = ours_of(samples)
        frames, counts = features.whole(samples)
        with torch.no_grad():
            said = theirs.generate(
                torch.tensor(frames.numpy()[:, : counts[0]].transpose(0, 2, 1)),
                attention_mask=torch.ones((1, int(counts[0])), dtype=torch.long),
                return_timestamps=True, return_segments=True, language="de", task="translate",
                condition_on_prev_tokens=False, max_new_tokens=20, do_sample=False, num_beams=1,
            )["segments"][0]  # fmt: skip
        # Theirs keep parts without words, and say that one without an end ends where it begins.
        first = theirs.generation_config.no_timestamps_token_id + 1
        expected = []
        for part in said:
            text = learnt.decode(part["tokens"].tolist()).strip()
            whole = int((part["tokens"] >= first).sum()) > 1
            if text and float(part["start"]) < counts[0] / 100 - 1e-6:
                expected.append((text.encode(), float(part["end"]), whole))
        assert ours.parts[0].numpy().tolist() == [text for text, _, _ in expected], seed
        for own, (_, end, whole) in zip(ours.ends[0].numpy(), expected, strict=True):
            end = min(end, counts[0] / 100)  # theirs may lie behind the recording
            assert not whole or abs(own - end) < 1e-5, seed
        pairs += len(said) - found.ids.shape[1]
    assert pairs > 0  # some windows have several parts


def test_mean_log_p_and_no_speech_are_those_of_transformers(pair):
    """Of each window, with a softmax over what its rules leave."""
    import torch

    theirs, _, model = pair
    means, silences = [], []
    own_mean, own_doubts = theirs._retrieve_avg_logprobs, theirs._need_fallback

    def mean(*given):
        means.append(float(own_mean(*given)))
        return torch.tensor(means[-1])

    def doubts(*given):
        found = [each.no_speech_prob for each in given[3] if hasattr(each, "no_speech_prob")]
        silences.append(float(found[0][0]))
        return own_doubts(*given)

    samples = tf.random.stateless_normal((1, 30_000), (5, 6)) * 0.1
    frames, counts = model.source_tokenizer.features.whole(samples)
    theirs._retrieve_avg_logprobs, theirs._need_fallback = mean, doubts
    try:
        with torch.no_grad():
            theirs.generate(
                torch.tensor(frames.numpy()[:, : counts[0]].transpose(0, 2, 1)),
                attention_mask=torch.ones((1, int(counts[0])), dtype=torch.long),
                return_timestamps=True, language="de", task="translate", max_new_tokens=20,
                condition_on_prev_tokens=False, do_sample=False, num_beams=1,
                temperature=(0.0,), logprob_threshold=-99.0, no_speech_threshold=1.0,
            )  # fmt: skip
    finally:
        del theirs._retrieve_avg_logprobs, theirs._need_fallback
    found = transcription.transcribe(
        model, samples, max_length=20, length_penalty=0.0, doubts=BELIEVED, word_times=False
    )
    assert len(means) > 2
    np.testing.assert_allclose(found.log_probs[0], means, rtol=1e-4)
    np.testing.assert_allclose(found.no_speech[0], silences, rtol=1e-4)


def test_the_first_step_is_made_once(pair, monkeypatch):
    model = pair[2]
    calls, step = [], model.decoder.step

    def counted(ids, *others):
        calls.append(ids.numpy().tolist())
        return step(ids, *others)

    monkeypatch.setattr(model.decoder, "step", counted)
    source = tf.zeros((2, 2 * STEPS, MELS))
    signs = windows.signs_of(model)
    for prompt in (), (7,), (7, 8, 9):
        calls.clear()
        start, _ = windows.heard(model, source, prompt, signs, 3)
        start.step(start.start_ids, start.state, tf.constant(0))
        assert calls == [[id_, id_] for id_ in (1, *prompt)]


def test_a_window_that_is_not_believed_is_what_sample_draws(pair):
    model = pair[2]
    source = tf.random.stateless_normal((2, 2 * STEPS, MELS), (1, 2))
    options = {"max_length": 6, "beam_size": 1}
    doubts = Doubts(1.0, 1.0, log_prob_threshold=0.0, temperatures=(1.5,))
    answer, _ = windows.answer_to_window(
        model, source, model.prompt, windows.signs_of(model), doubts, 3, options
    )
    drawn = model.sample(source, max_length=6, temperature=1.5, seed=3, same_for_rows=True)
    ids = np.where(np.arange(6) < drawn.lengths[:, 0].numpy()[:, None], drawn.ids[:, 0], 0)
    assert np.array_equal(answer.ids, ids)
    for row, length in enumerate(drawn.lengths[:, 0].numpy()):
        tokens = drawn.ids[row, 0, : length + 1].numpy()
        target = np.array([[1, *tokens[:-1]]])
        logits = model({"source": source[row : row + 1], "target": target})["logits"].numpy()[0]
        logits[:, list(model.suppressed)] = logits[0, list(model.suppressed_first)] = -np.inf
        log_p = tf.nn.log_softmax(logits).numpy()[np.arange(len(tokens)), tokens]
        np.testing.assert_allclose(answer.log_probs[row], log_p.mean(), rtol=1e-4)


def test_doubts_are_checked():
    for wrong in (
        {"no_speech_threshold": 1.1}, {"surely_no_speech_threshold": -0.1},
        {"log_prob_threshold": 0.5}, {"repetition_threshold": 0.9}, {"temperatures": (0.0,)},
    ):  # fmt: skip
        name = next(iter(wrong)).removesuffix("s")
        with pytest.raises(ValueError, match=name):
            Doubts(**wrong)


def test_a_recording_has_a_bounded_number_of_windows(pair):
    """Only the times 0 and 0.02 s are allowed: each window would advance by 2 frames."""
    model = pair[2]
    first = windows.signs_of(model).times.first_id
    allowed = np.zeros(model.head.vocabulary_size, bool)
    allowed[[first, first + 1, 100]] = True
    samples = tf.random.stateless_normal((1, 32_000), (7, 8)) * 0.1
    options = {"max_length": 6, "allowed": allowed, "doubts": BELIEVED, "word_times": False}
    found = tf.function(transcription.transcribe)(model, samples, **options)
    steps = np.diff(found.begins[0].numpy())
    assert (steps[:10] == 2).all()  # as the published decoding would go on
    assert 10 < found.ids.shape[1] <= 11 + 200 / 8  # 200 frames, tenths of 8
    assert set(steps) == {2, 80}
    said = (found.parts >= 0) == (found.ids != 0)
    assert np.array_equal(said.numpy()[0].all(1)[:-1], steps == 80)


def parts_of(ids, span=300, is_over=False):
    ids = tf.constant([ids])
    parts, advance = transcription.closed_parts(
        ids, tf.constant([ids.shape[1]]), [span], T, is_over
    )
    return parts[0].numpy().tolist(), int(advance[0])


def test_a_window_is_cut_at_pairs_of_times():
    assert parts_of([T, 7, 8, T + 9, T + 9, 5]) == ([0, 0, 0, 0, -1, -1], 18)
    # A time alone at the end closes the window.
    assert parts_of([T, 7, T + 9, T + 9, 5, T + 20]) == ([0, 0, 0, 1, 1, 1], 300)
    assert parts_of([T, 7, 8, T + 9]) == ([0, 0, 0, 0], 300)
    assert parts_of([T, 7, 8]) == ([0, 0, 0], 300)
    # Two parts, and the end behind a pair: the next window begins there.
    assert parts_of([T, 7, T + 3, T + 4, 8, T + 9, T + 9]) == ([0, 0, 0, 1, 1, 1, -1], 18)
    assert parts_of([T, 7, T + 200, T + 200], span=100)[1] == 100  # never behind its end
    # Over in any case: what stands behind the last pair is not heard again.
    assert parts_of([T, 7, 8, T + 9, T + 9, 5], is_over=True) == ([0, 0, 0, 0, 1, 1], 300)


def test_padding_of_an_answer_does_not_change_its_parts():
    ids = tf.constant([[T, 7, T + 3, T + 4, 8, 0, 0], [T, 7, 0, 0, 0, 0, 0]])
    parts, advance = transcription.closed_parts(ids, tf.constant([5, 2]), [90, 90], T)
    assert parts.numpy().tolist() == [[0, 0, 0, -1, -1, -1, -1], [0, 0, -1, -1, -1, -1, -1]]
    assert advance.numpy().tolist() == [6, 90]


def test_repetition_counts_how_often_pairs_come():
    ids = tf.constant(
        [[5, 6, 5, 6, 5, 6, 5], [1, 2, 3, 4, 5, 6, 7], [9, 9, 9, 9, 0, 0, 0], [4] * 7]
    )
    found = windows.repetition(ids, tf.constant([7, 7, 4, 1]))
    np.testing.assert_allclose(found, [3, 1, 3, 1])


def test_a_loop_is_seen_through_its_times(pair):
    """What is said again and again has other times each time."""
    ids = tf.constant([[T + n // 2 if n % 2 == 0 else 7 for n in range(20)]])
    texts = tf.ragged.boolean_mask(ids, ids < T).to_tensor()
    assert windows.repetition(texts, tf.constant([10])) > 8


def test_frames_of_rows_with_more_padding_than_a_window(pair):
    features = pair[2].source_tokenizer.features
    samples = tf.random.stateless_normal((1, 100_000), (1, 2))
    frames, counts = features.whole(samples, [1000])
    alone, _ = features.whole(samples[:, :1000])
    assert counts.numpy().tolist() == [7]
    np.testing.assert_allclose(frames[:, :7], alone[:, :7], atol=1e-6)


def test_what_is_drawn_anew_heeds_what_is_allowed(pair):
    model = pair[2]
    samples = tf.random.stateless_normal((1, 6_000), (3, 4)) * 0.1
    allowed = np.ones(model.head.vocabulary_size, bool)
    allowed[10:200] = False
    found = transcription.transcribe(
        model, samples, max_length=6, allowed=allowed, word_times=False,
        doubts=Doubts(1.0, 1.0, log_prob_threshold=0.0, temperatures=(5.0,)),
    ).ids.numpy()  # fmt: skip
    assert allowed[found].all()


def test_silence_is_what_is_surely_none_or_likely_none_and_badly_said():
    doubts = Doubts()
    sums, lengths = tf.constant([[-9.0], [-30.0], [-1.0], [-30.0]]), tf.fill([4, 1], 9)
    means = windows.mean_log_probs(SimpleNamespace(log_probs=sums, lengths=lengths), 20)
    np.testing.assert_allclose(means, sums[:, 0] / 10)
    no_speech = tf.constant([0.7, 0.7, 0.95, 0.5])
    found = windows.is_silent(means, no_speech, doubts)
    assert found.numpy().tolist() == [False, True, True, False]


def test_the_frames_of_a_recording_are_those_of_one_long_window(pair):
    features = pair[2].source_tokenizer.features
    samples = tf.random.stateless_normal((2, 30_000), (1, 2)) * 0.1
    frames, counts = features.whole(samples, [30_000, 16_001])
    assert counts.numpy().tolist() == [188, 101]
    alone, _ = features.whole(samples[1:, :16_001])
    np.testing.assert_allclose(frames[1, :101], alone[0, :101], atol=1e-6)
    assert not frames[1, 101:].numpy().any()
    one_window = audio.WhisperMel(MELS, clip_seconds=3.0)
    np.testing.assert_allclose(frames[0, :188], one_window(samples[:1])[0][0, :188], atol=1e-5)


def test_rows_of_a_batch_do_not_change_each_other(pair):
    model = pair[2]
    samples = tf.random.stateless_normal((2, 20_000), (3, 4)) * 0.1
    options = {"max_length": 6, "doubts": Doubts(1.0, 1.0, temperatures=())}
    both = transcription.transcribe(model, samples, [20_000, 9_000], **options)
    alone = transcription.transcribe(model, samples[1:, :9_000], **options)
    count = alone.ids.shape[1]
    assert np.array_equal(both.ids[1, :count], alone.ids[0])
    assert not both.ids[1, count:].numpy().any() and not both.sizes[1, count:].numpy().any()


def test_what_is_not_believed_is_drawn_anew(pair):
    model = pair[2]
    samples = tf.random.stateless_normal((1, 6_000), (3, 4)) * 0.1
    first, again, other = (
        transcription.transcribe(
            model, samples, max_length=6, seed=seed,
            doubts=Doubts(1.0, 1.0, log_prob_threshold=worst, temperatures=(1.5,)),
        ).ids.numpy()
        for seed, worst in ((1, 0.0), (1, 0.0), (1, -99.0))
    )  # fmt: skip
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="must hear filled windows"):
        transcription.transcribe(object(), tf.zeros((1, 9)))


@pytest.fixture(scope="module")
def exported(pair, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "1"
    names = ["serving_default", "segments"]
    return export.save(
        pair[2],
        path,
        signatures=names,
        beam_size=1,
        max_length=12,
        max_source_length=5,
        doubts=DRAWN,
    ).served


def wav(seconds, seed=0, scale=0.1):
    samples = np.random.default_rng(seed).normal(size=(round(16_000 * seconds), 1)) * scale
    return tf.audio.encode_wav(tf.constant(samples, tf.float32), 16_000).numpy()


def test_an_export_takes_recordings_of_any_length_together(exported):
    contents = [wav(2.1), wav(0.5, 1), wav(0.0), wav(1.4, 2)]
    together = exported(contents)
    assert together == [exported([content])[0] for content in contents]
    assert together[2] == ""
    run = exported._model.signatures["serving_default"]
    assert run(audio_bytes=tf.zeros([0], tf.string))["text"].shape == (0,)
    with pytest.raises(ValueError, match="longer than 5"):
        exported(wav(5.1))


@pytest.mark.parametrize("signature", ["serving_default", "segments"])
def test_a_broken_recording_is_told_before_one_is_transcribed(signature, pair, monkeypatch):
    def never(model, samples, lengths, **options):
        too_soon = tf.debugging.assert_less(lengths, 0, message="it was transcribed")
        with tf.control_dependencies([too_soon]):
            return transcription.transcribe(model, samples, lengths, **options)

    monkeypatch.setattr(recordings, "transcribe", never)
    options = signatures.Options((), 1, 4, 0.6, 5, {}, None, False, None, "float32", DRAWN)
    of_contents = recordings.of_recordings(signatures.Search(pair[2], options))
    run = tf.function(of_contents[signature == "segments"])
    run = run.get_concrete_function(tf.TensorSpec([None], tf.string))
    for contents, told in (
        ([wav(2.1), b"no sound"], "WAV file"),
        ([wav(2.1), wav(5.5)], "longer than 5"),
        ([wav(2.1)], "it was transcribed"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=told):
            run(tf.constant(contents))


def test_short_recordings_of_the_command_line_are_answered_together(
    exported, tmp_path, capsys, monkeypatch
):
    files = []
    for row, seconds in enumerate((0.3, 0.4, 2.1, 0.2, 0.5)):
        files.append(tmp_path / f"{row}.wav")
        files[-1].write_bytes(wav(seconds, row))
    groups, answered = [], command._answers

    def answers(model, texts, args):
        groups.append(len(texts))
        return answered(model, texts, args)

    monkeypatch.setattr(command, "_answers", answers)
    monkeypatch.setattr(command, "_BYTES_AT_ONCE", 30_000)  # 0.9 seconds
    main([str(exported.path), *map(str, files)])
    assert groups == [2, 1, 2]
    assert capsys.readouterr().out == "".join(f"{text}\n" for text in exported(files))


def test_a_c_program_gets_the_same_texts(c_client, exported, tmp_path):
    contents = [wav(2.1), wav(0.5, 1), wav(0.0)]
    files = [tmp_path / f"{n}.wav" for n in range(3)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    graph = saved_model(exported.path).meta_graphs[0]
    signature = graph.signature_def["serving_default"]
    tensors = [signature.inputs["audio_bytes"].name, signature.outputs["text"].name]
    command = [c_client, exported.path, *tensors, "--files", *files]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{answer}\n" for answer in exported(contents))


def test_score_is_the_mean_log_p_of_a_short_and_of_a_long_recording(pair, exported):
    model = pair[2]
    run = exported._model.signatures["serving_default"]
    contents = tf.constant([wav(2.1), wav(0.5, 1), wav(0.0)])
    scores = run(audio_bytes=contents)["score"].numpy()
    samples, lengths = model.source_tokenizer.decode(contents, 5)
    options = {"max_length": 12, "beam_size": 1, "length_penalty": 0.6}
    long = transcription.transcribe(
        model, samples[:1], lengths[:1], word_times=False, doubts=DRAWN, **options
    )
    said = long.ids.numpy()[0].any(1)
    np.testing.assert_allclose(scores[0], long.log_probs.numpy()[0][said].mean(), rtol=1e-4)
    source = model.source_tokenizer(samples[1:2], lengths[1:2])
    signs = windows.signs_of(model)
    short, _ = windows.answer_to_window(model, source, model.prompt, signs, DRAWN, 0, options)
    np.testing.assert_allclose(scores[1], short.log_probs[0], rtol=1e-4)
    assert scores[2] == 0


def test_an_export_has_the_doubts_that_it_was_given(pair, tmp_path):
    saved = export.save(
        pair[2], tmp_path / "1", signatures=["serving_default"], beam_size=1, max_length=4,
        doubts=Doubts(surely_no_speech_threshold=0.0, temperatures=()), examples=[wav(1.1)],
    )  # fmt: skip
    requests = warmup.read(tmp_path / "1")
    assert requests and all(inputs["audio_bytes"][0] == SOUND.neutral for _, inputs in requests)
    assert saved.served([wav(0.5), wav(1.1)]) == ["", ""]
    card = (tmp_path / "1/model_card.md").read_text()
    assert "surely_no_speech_threshold 0.0, log_prob_threshold -1.0" in card
    assert "drawn anew at the temperatures none" in card
    for wrong in (0.6, {}):
        with pytest.raises(ValueError, match="`doubts` must be kzoo"):
            export.save(pair[2], tmp_path / "2", doubts=wrong)


def test_the_text_of_json_is_joined_as_the_model_wrote_it():
    parts = [Segment(0.0, 1.0, text, 0.0, []) for text in ("こんにちは。", "元気?")]
    written = json.loads(subtitles.as_json("a.wav", Recording("こんにちは。元気?", parts)))
    assert written["text"] == "こんにちは。元気?"
    assert [part["text"] for part in written["segments"]] == ["こんにちは。", "元気?"]


def test_segments_have_seconds_and_make_subtitles(exported, tmp_path, capsys):
    parts = exported.segments(wav(2.1))
    assert parts and all(0 <= part.begin <= part.end <= 2.1 + 1e-4 for part in parts)
    assert [part.begin for part in parts] == sorted(part.begin for part in parts)
    assert exported.segments(wav(0.0)) == []
    for part in parts:
        assert "".join(word.text for word in part.words) == part.text.replace(" ", "")
        assert all(word.begin <= word.end <= 2.2 for word in part.words)
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(2.1))
    outputs = []
    for flag in ("--srt", "--vtt", "--json"):
        main([str(exported.path), str(file), flag])
        outputs.append(capsys.readouterr().out)
    assert outputs[0].startswith("1\n00:00:0") and " --> " in outputs[0]
    assert outputs[1].startswith("WEBVTT\n\n00:00:0")
    assert json.loads(outputs[2])["text"] == exported.recordings(wav(2.1)).text
    assert f'"file": "{file}"' in outputs[2] and outputs[2].count("\n") == 1
    with pytest.raises(SystemExit):
        main([str(exported.path), str(file), str(file), "--srt"])
