"""Log-mel frames beside librosa, masks that padding never moves, streams."""

import keras
import librosa
import numpy as np
import pytest
import tensorflow as tf

from kzoo import audio
from kzoo.audio import LogMel
from kzoo.layers.speech import ConvSubsampling

RATE = 8000  # W 200, H 80, FFT 256
LENGTHS = [1003, 520, 199, 0]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32") / 7


def clips(padding=0.0):
    samples = noise(len(LENGTHS), max(LENGTHS))
    real = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    return np.where(real, samples, np.float32(padding))


def chirp(rate, seconds=1.0):
    t = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * (100 * t + rate / 5 * t**2))).astype("float32")


@pytest.mark.parametrize(("rate", "num_mels"), [(16_000, 80), (8000, 40), (22_050, 64)])
@pytest.mark.parametrize("sound", [chirp, lambda rate: noise(rate), lambda rate: 0 * noise(rate)])
def test_frames_equal_those_of_librosa(sound, rate, num_mels):
    samples = sound(rate)
    layer = LogMel(rate, num_mels=num_mels, normalize=None)
    frames, mask = layer(samples[None])
    before = (layer.fft_length - layer.window) // 2
    after = layer.fft_length - layer.window - before
    power = librosa.feature.melspectrogram(
        y=np.pad(samples.astype("float64"), (before, after)),
        sr=rate,
        n_fft=layer.fft_length,
        win_length=layer.window,
        hop_length=layer.hop,
        center=False,
        n_mels=num_mels,
    )
    expected = librosa.power_to_db(power, amin=1e-10, top_db=None).T * np.log(10) / 10
    assert mask.numpy().all()
    np.testing.assert_allclose(frames[0], expected, atol=1e-4)


def test_the_filters_equal_those_of_librosa():
    for rate, length, count in ((16_000, 512, 80), (8000, 256, 23), (1500, 64, 5)):
        expected = librosa.filters.mel(sr=rate, n_fft=length, n_mels=count, dtype="float64").T
        np.testing.assert_allclose(audio.mel_filters(rate, length, count), expected, atol=1e-12)


@pytest.mark.parametrize("normalize", ["utterance", "running", "fixed", None])
def test_a_clip_in_a_batch_of_longer_ones_has_the_frames_it_has_alone(normalize):
    layer = LogMel(RATE, num_mels=23, normalize=normalize)
    frames, mask = layer(clips(padding=np.nan), np.array(LENGTHS))
    assert frames.shape == (4, 11, 23)
    assert mask.numpy().sum(1).tolist() == [11, 5, 0, 0]  # 1 + (length - 200) // 80
    for row, length in enumerate(LENGTHS):
        alone, real = layer(clips()[row : row + 1, :length])
        count = mask[row].numpy().sum()
        assert real.numpy().sum() == count
        np.testing.assert_allclose(frames[row, :count], alone[0, :count], atol=1e-5)
        assert not frames[row, count:].numpy().any()
    ragged, ragged_mask = layer(tf.RaggedTensor.from_tensor(clips(), LENGTHS))
    np.testing.assert_array_equal(ragged_mask, mask)
    np.testing.assert_allclose(ragged, frames, atol=1e-5)
    np.testing.assert_array_equal(frames._keras_mask, mask)


STEADY = {
    "silence": lambda t: 0 * t,
    "a constant": lambda t: 0 * t + 0.25,
    "a tone": lambda t: 0.3 * np.sin(2 * np.pi * 440 * t),
    "whole periods a hop": lambda t: 0.3 * np.sin(2 * np.pi * 500 * t),
    "a square wave": lambda t: 0.5 * np.sign(np.sin(2 * np.pi * 100 * t)),
}


@pytest.fixture(scope="module")
def in_graph():
    spec = tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)
    layers = {name: LogMel(RATE, num_mels=23, normalize=name) for name in ("utterance", "running")}
    return {
        name: tf.function(lambda x, n, layer=layer: layer(x, lengths=n)[0], input_signature=spec)
        for name, layer in layers.items()
    }


@pytest.mark.parametrize("sound", STEADY)
@pytest.mark.parametrize("normalize", ["utterance", "running"])
def test_steady_sound_has_the_frames_it_has_alone_whatever_stands_beside_it(
    normalize, sound, in_graph
):
    longest = 9 * RATE + 13
    samples = STEADY[sound](np.arange(longest) / RATE).astype("float32")
    others = noise(7, longest)
    for own in (4000, 3 * RATE + 37):
        alone = in_graph[normalize](samples[None, :own], [own])[0]
        for total, rows in ((own, 5), (longest, 3), (longest, 7)):
            batch, lengths = np.tile(samples[:total], (rows, 1)), np.full(rows, own)
            batch[1], lengths[1] = others[1, :total], total
            lengths[2] = min(total, 1000)
            frames = in_graph[normalize](batch, lengths)
            for row in (0, *range(3, rows)):
                np.testing.assert_allclose(frames[row, : len(alone)], alone, atol=1e-5)
    if sound == "silence" and normalize == "utterance":
        np.testing.assert_allclose(alone, 0, atol=1e-9)


def test_a_steady_stream_has_the_frames_of_the_whole():
    layer = LogMel(RATE, num_mels=23, normalize="running")
    for sound in STEADY.values():
        samples = sound(np.arange(20 * RATE) / RATE).astype("float32")[None]
        state, parts = layer.initial_state(1), []
        for start in range(0, samples.shape[1], 16_000):
            frames, state = layer.step(samples[:, start : start + 16_000], state)
            parts.append(frames)
        np.testing.assert_allclose(np.concatenate(parts, 1), layer(samples)[0], atol=2e-5)


def test_utterance_normalisation_gives_mean_0_and_variance_1():
    frames, mask = LogMel(RATE, num_mels=23)(clips(), np.array(LENGTHS))
    for row in range(2):
        real = frames[row].numpy()[mask[row]]
        np.testing.assert_allclose(real.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(real.std(0), 1, atol=1e-3)


def test_running_normalisation_is_its_equation():
    raw = LogMel(RATE, num_mels=5, normalize=None)(clips()[:1])[0][0].numpy()
    frames = LogMel(RATE, num_mels=5, normalize="running")(clips()[:1])[0][0].numpy()
    for s in range(len(raw)):
        # A hundred frames with mean -10 and variance 16: half of them 4 above, half 4 below.
        seen = np.concatenate([[[-14.0] * 5] * 50, [[-6.0] * 5] * 50, raw[: s + 1]])
        expected = (raw[s] - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-5)
        np.testing.assert_allclose(frames[s], expected, atol=1e-4)


def test_fixed_normalisation_is_the_same_for_every_clip():
    raw, _ = LogMel(RATE, num_mels=5, normalize=None)(clips()[:1])
    frames, _ = LogMel(RATE, num_mels=5, normalize="fixed")(clips()[:1])
    np.testing.assert_allclose(frames, (raw + 10) / 4, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalize", ["running", "fixed", None])
@pytest.mark.parametrize("chunk", [1003, 333, 80, 1])
def test_a_stream_in_chunks_of_any_length_has_the_frames_of_the_whole(chunk, normalize):
    layer = LogMel(RATE, num_mels=23, normalize=normalize)
    samples = noise(3, 1003)
    step, state, parts = tf.function(layer.step, reduce_retracing=True), layer.initial_state(3), []
    for start in range(0, 1003, chunk):
        frames, state = step(tf.constant(samples[:, start : start + chunk]), state)
        parts.append(frames)
        assert state["samples"].shape[1] < layer.window
    whole, _ = layer(samples)
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-4)
    nothing, same = layer.step(samples[:, :0], state)
    assert nothing.shape == (3, 0, 23)
    for name, tensor in state.items():
        np.testing.assert_array_equal(same[name], tensor)


def test_a_stream_of_floats_of_the_size_of_integers_is_refused_but_not_for_a_crackle():
    source = audio.AudioSource(LogMel(RATE, num_mels=23, normalize="running"))
    step = tf.function(source.step, reduce_retracing=True)
    sound = noise(2, 800)
    state = source.initial_state(2)
    expected, _ = step(np.clip(sound, -1, 1), state)
    loud = sound.copy()
    loud[1, :200] *= 1e4  # a crackle
    loud[0, 500] = np.nan
    assert np.isfinite(step(loud, state)[0]).all()
    np.testing.assert_array_equal(step(sound, state)[0], expected)
    step(np.float32([[20_000.0], [0.0]]), state)  # a chunk of one sample
    loud[1] = 2**15 * sound[1]
    for run in (step, source.step):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"(?s)stream: expected floats in \[-1, 1\]"
        ):
            run(loud, state)


def test_an_hour_of_running_statistics_keeps_its_digits():
    layer = LogMel(RATE, num_mels=5, normalize="running")
    number, total, squares = layer._statistics(1)
    hour = 360_000.0
    late = (number + hour, total + 1.5 * hour, squares + 6.25 * hour)  # mean -8.5, variance 4
    frames, _ = layer._normalized_so_far(tf.fill((1, 3, 5), -6.5), *late)
    np.testing.assert_allclose(frames, 1.0, atol=2e-3)


def test_features_are_float32_under_any_policy():
    half = LogMel(RATE, num_mels=23, dtype="mixed_bfloat16")
    frames, _ = half(clips())
    assert frames.dtype == tf.float32
    np.testing.assert_array_equal(frames, LogMel(RATE, num_mels=23)(clips())[0])


def test_log_mel_comes_back_from_its_config():
    layer = LogMel(RATE, 0.02, 0.008, 23, "running")
    copy = LogMel.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(copy(clips())[0], layer(clips())[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hop_seconds": 0.03}, "a hop not longer than a window, .*hop_seconds=0.03"),
        ({"num_mels": 0}, "`num_mels` .* at least 1, .*num_mels=0"),
        ({"rate_hz": 10}, "at least 1, .*rate_hz=10"),
        ({"normalize": "cmvn"}, "`normalize` must be .*got normalize='cmvn'"),
        ({"rate_hz": 8000, "num_mels": 200}, "`num_mels` must leave each filter .*num_mels=200"),
    ],
)
def test_log_mel_refuses_impossible_sizes(arguments, message):
    with pytest.raises(ValueError, match=message):
        LogMel(**arguments)


def test_a_whole_clip_cannot_be_normalised_in_a_stream():
    with pytest.raises(
        ValueError, match='`normalize` must be "running", "fixed" or None to stream'
    ):
        LogMel(RATE, num_mels=23).initial_state(1)


# Speed


def test_a_faster_clip_is_shorter_and_higher():
    tone = np.sin(2 * np.pi * 500 * np.arange(7920) / RATE)
    fast = audio.perturb_speed(tone, 1.1).numpy()
    assert len(fast) == 7200
    expected = np.sin(2 * np.pi * 550 * np.arange(7200) / RATE)
    np.testing.assert_allclose(fast[500:-500], expected[500:-500], atol=1e-3)
    np.testing.assert_array_equal(audio.perturb_speed(tone, 1.0), tone.astype("float32"))
    with pytest.raises(ValueError, match=r"`speed` must be at least 0.001, got speed=0"):
        audio.perturb_speed(tone, 0)


# ConvSubsampling


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("longest", [29, 30, 31, 32])
def test_padding_of_any_length_never_leaks_into_real_steps(factor, longest):
    layer = ConvSubsampling(7, filters=3, factor=factor)
    layer(noise(1, 5, 11))
    layer.set_weights([noise(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    lengths = [*range(20), longest]
    frames = noise(len(lengths), longest, 11)
    mask = np.arange(longest) < np.array(lengths)[:, None]
    y, y_mask = layer(np.where(mask[:, :, None], frames, np.nan), mask)
    assert y.shape == (21, -(-longest // factor), 7)
    np.testing.assert_array_equal(
        y_mask, np.arange(y.shape[1]) < -(-np.array(lengths) // factor)[:, None]
    )
    for row, length in enumerate(lengths):
        alone, alone_mask = layer(frames[row : row + 1, :length])
        assert alone.shape[1] == -(-length // factor)
        assert alone_mask.numpy().all()
        np.testing.assert_allclose(y[row, : alone.shape[1]], alone[0], atol=1e-5)
        assert not y[row, alone.shape[1] :].numpy().any()


@pytest.mark.parametrize("factor", [2, 4])
def test_the_convolutions_are_their_equation(factor):
    layer = ConvSubsampling(7, filters=3, factor=factor)
    frames = noise(2, 9, 6)
    layer(frames)
    layer.set_weights([noise(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    *convolutions, w, b = layer.get_weights()
    x = frames[..., None]
    for kernel, bias, stride in (
        (*convolutions[:2], (2, 2)),
        (*convolutions[2:], (factor // 2, 2)),
    ):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        steps, features = (-(-x.shape[axis] // stride[axis - 1]) for axis in (1, 2))
        y = np.zeros((2, steps, features, 3), "float32")
        for t in range(steps):
            for f in range(features):
                t0, f0 = stride[0] * t, stride[1] * f
                window = padded[:, t0 : t0 + 3, f0 : f0 + 3]
                y[:, t, f] = np.einsum("btfc,tfcd->bd", window, kernel) + bias
        x = np.maximum(y, 0)
    expected = x.reshape(2, x.shape[1], -1) @ w + b
    np.testing.assert_allclose(layer(frames)[0], expected, atol=1e-5)


def test_subsampling_refuses_other_factors():
    with pytest.raises(ValueError, match="`factor` must be 2 or 4, got factor=3"):
        ConvSubsampling(7, factor=3)
    with pytest.raises(ValueError, match="`units` and `filters` must be at least 1, got units=0"):
        ConvSubsampling(0)


# The whole front end, as it is served


class FrontEnd(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.features = LogMel(RATE, num_mels=23)
        self.subsampling = ConvSubsampling(7, filters=3)

    def call(self, contents):
        samples, lengths = audio.decode_batch(contents, RATE)
        return self.subsampling(*self.features(samples, lengths))


def test_from_bytes_to_steps_in_a_session_a_clip_is_the_same_in_any_company(tmp_path):
    front_end = FrontEnd()
    files = [
        tf.audio.encode_wav(noise(length, 1), rate).numpy()
        for length, rate in ((1111, 8000), (9000, 16_000), (150, 8000))
    ]
    expected = [front_end(tf.constant([file])) for file in files]
    archive = keras.export.ExportArchive()
    archive.track(front_end)

    def serve(audio_bytes):
        features, mask = front_end(audio_bytes)
        return {"features": features, "mask": mask}

    archive.add_endpoint("serve", serve, [tf.TensorSpec([None], tf.string, name="audio_bytes")])
    archive.write_out(str(tmp_path / "model"), verbose=False)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        signature = loaded.signature_def["serve"]
        names = {key: info.name for key, info in signature.outputs.items()}
        answer = session.run(names, {signature.inputs["audio_bytes"].name: files})
    assert answer["mask"].sum(1).tolist() == [3, 14, 0]
    for row, (features, mask) in enumerate(expected):
        count = mask.numpy().sum()
        assert answer["mask"][row].sum() == count
        np.testing.assert_allclose(answer["features"][row, :count], features[0, :count], atol=1e-4)
