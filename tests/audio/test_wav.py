"""WAV bytes: every format as other programs write it, broken files, other rates."""

import functools
import io

import numpy as np
import pytest
import scipy.signal
import soundfile
import tensorflow as tf
from wav_files import LAW, REFUSED, TAKEN, chunk, fmt, riff, written

import kzoo
from kzoo.audio import decode_batch, decode_wav, resample, samples

InvalidArgument = tf.errors.InvalidArgumentError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape)


THREE = np.array([1, -2, 30_000], "<i2")


@functools.cache
def graph():
    return tf.function(decode_wav, input_signature=[tf.TensorSpec([], tf.string)])


def decoded(contents):
    samples, rate = graph()(contents)
    assert samples.dtype == tf.float32
    assert rate.dtype == tf.int32
    return samples.numpy(), int(rate)


@pytest.mark.parametrize("container", ["WAV", "WAVEX"])  # the latter is WAVE_FORMAT_EXTENSIBLE
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_format_is_read_as_libsndfile_reads_it(subtype, channels, container):
    contents = written(noise(53, channels), 22_050, subtype, container)
    expected, _ = soundfile.read(io.BytesIO(contents), dtype="float32", always_2d=True)
    samples, rate = decoded(contents)
    assert rate == 22_050
    np.testing.assert_allclose(samples, expected.mean(1), atol=1e-7)
    np.testing.assert_allclose(decode_wav(contents)[0], samples)  # eager, too


def test_the_loudest_samples_lie_within_one():
    values = np.array([-(2**15), 2**15 - 1], "<i2")
    samples, _ = decoded(riff(chunk(b"fmt ", fmt()), chunk(b"data", values.tobytes())))
    np.testing.assert_array_equal(samples, [-1, 1 - 2.0**-15])


def test_floats_that_are_no_number_or_too_large_are_mended():
    values = np.array([np.nan, 3, -np.inf, 0.25], "<f4")
    contents = riff(chunk(b"fmt ", fmt(tag=3, bits=32)), chunk(b"data", values.tobytes()))
    np.testing.assert_array_equal(decoded(contents)[0], [0, 1, -1, 0.25])


def test_six_channels_are_averaged():
    values = np.arange(12, dtype="<i2").reshape(2, 6)
    contents = riff(chunk(b"fmt ", fmt(channels=6)), chunk(b"data", values.tobytes()))
    np.testing.assert_allclose(decoded(contents)[0] * 2**15, values.mean(1))


def test_chunks_around_the_sound_are_passed_over():
    contents = riff(
        chunk(b"LIST", b"INFOISFT\x05\0\0\0kzoo\0"),
        chunk(b"odd ", b"123"),
        chunk(b"fmt ", fmt() + b"\0\0"),
        chunk(b"data", THREE.tobytes()),
        chunk(b"id3 ", b"12345678"),
    )
    np.testing.assert_array_equal(decoded(contents)[0] * 2**15, THREE)


def test_a_chunk_of_odd_size_without_its_padding_is_passed_over():
    odd = chunk(b"LIST", b"INFOx")
    assert len(odd) == 14  # as the format wants it
    contents = riff(chunk(b"fmt ", fmt()), odd[:13], chunk(b"data", THREE.tobytes()))
    np.testing.assert_array_equal(decoded(contents)[0] * 2**15, THREE)


@pytest.mark.parametrize(
    ("data_size", "riff_size"),
    [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (0, 36), (0, 0xFFFFFFFF), (0x7FFFF000, 0x7FFFF024), (7, 42)],
)
def test_a_header_written_before_the_length_was_known_means_all_the_rest(data_size, riff_size):
    sound = THREE.tobytes() + b"\x01"  # cut within a sample
    contents = riff(chunk(b"fmt ", fmt()), chunk(b"data", sound, data_size), size=riff_size)
    np.testing.assert_array_equal(decoded(contents)[0][:3] * 2**15, THREE)


def test_no_samples_are_an_answer():
    empty = riff(chunk(b"fmt ", fmt()), chunk(b"data", b""))
    assert decoded(empty)[0].shape == (0,)
    listed = riff(chunk(b"fmt ", fmt()), chunk(b"data", b""), chunk(b"LIST", b"INFO"))
    assert decoded(listed)[0].shape == (0,)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "expected the bytes of a WAV file"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(99), r"expected the bytes .*255\D+216\D+255"),
        (b"RIFF\x24\0\0\0AVI " + bytes(99), "expected the bytes of a WAV file"),
        (riff(), "expected a fmt chunk"),
        (riff(chunk(b"fmt ", fmt()))[:30], "expected a fmt chunk"),
        (riff(chunk(b"fmt ", fmt())), "expected a data chunk"),
        (riff(chunk(b"data", THREE.tobytes())), "expected a fmt chunk"),
        (riff(chunk(b"fmt ", fmt(tag=2, bits=4)), chunk(b"data", b"1")), r"expected PCM .*\D2\D+4"),
        (riff(chunk(b"fmt ", fmt(bits=64)), chunk(b"data", bytes(8))), r"expected PCM .*\D1\D+64"),
        (
            riff(chunk(b"fmt ", fmt(channels=0)), chunk(b"data", b"")),
            r"expected channels.*\D0\D+16000",
        ),
        (
            riff(chunk(b"fmt ", fmt(rate=0)), chunk(b"data", b"")),
            r".*rate of 1000 to .*\D1\D+0\D+2",
        ),
        (
            riff(chunk(b"fmt ", fmt(rate=2**31 - 1)), chunk(b"data", b"")),
            ".*rate of 1000 to 384000",
        ),
        (riff(*[chunk(b"junk", b"")] * 2000, chunk(b"fmt ", fmt())), "expected a fmt chunk"),
    ],
)
def test_what_is_no_sound_is_an_invalid_argument_that_says_why(contents, message):
    with pytest.raises(InvalidArgument, match=f"(?s)decode_wav: {message}"):
        decoded(contents)
    with pytest.raises(InvalidArgument, match=f"(?s)decode_wav: {message}"):
        decode_wav(contents)


@pytest.mark.parametrize(
    ("rate", "target"),
    [
        (8000, 16_000),
        (44_100, 16_000),
        (96_000, 16_000),
        (11_025, 16_000),
        (48_000, 22_050),
        (9, 10),
    ],
)
def test_a_sine_stays_a_sine_at_any_rational_ratio(rate, target):
    hertz = 0.13 * min(rate, target)
    x = np.sin(2 * np.pi * hertz * np.arange(9973) / rate)
    y = resample(x, rate, target).numpy()
    assert len(y) == -(-len(x) * target // rate)
    inner = slice(len(y) // 8, -len(y) // 8)
    expected = np.sin(2 * np.pi * hertz * np.arange(len(y)) / target)
    np.testing.assert_allclose(y[inner], expected[inner], atol=1e-4)


def test_a_rate_without_a_small_fraction_is_met_nearly():
    for rate in (44_101, 192_001, 15_999):
        x = np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate)
        y = resample(x, rate, 16_000).numpy()
        assert len(y) == 32_000
        spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y)), 2**21))
        found = spectrum.argmax() * 16_000 / 2**21
        assert abs(found / 1000 - 1) < 3e-4


def test_band_limited_noise_is_resampled_as_scipy_does():
    x = scipy.signal.firwin(101, 0.25)  # what both filters let through
    x = np.convolve(noise(7919), x, "same")
    for rate, target in ((16_000, 8000), (16_000, 44_100)):
        factor = np.gcd(rate, target)
        window = scipy.signal.firwin(
            64 * max(rate, target) // factor + 1, factor / max(rate, target), window=("kaiser", 8.0)
        )
        expected = scipy.signal.resample_poly(x, target // factor, rate // factor, window=window)
        y = resample(x, rate, target).numpy()
        np.testing.assert_allclose(y[200:-200], expected[200:-200], atol=1e-3)


def test_what_the_lower_rate_cannot_hold_is_filtered_out():
    x = np.sin(2 * np.pi * 9000 * np.arange(44_100) / 44_100)
    y = resample(x, 44_100, 16_000).numpy()
    assert np.abs(y[1000:-1000]).max() < 2e-4


def test_an_equal_rate_changes_nothing_and_no_samples_stay_none():
    x = noise(11).astype("float32")
    np.testing.assert_array_equal(resample(x, 8000, 8000), x)
    assert resample(x[:0], 8000, 16_000).shape == (0,)
    assert resample(x[:1], 8000, 16_000).shape == (2,)


CLIPS = [
    written(noise(800, 2), 8000, "PCM_U8"),
    written(noise(801), 16_000, "FLOAT"),
    written(noise(4410, 2, seed=1), 44_100, "PCM_24"),
    written(noise(0), 16_000),
]


class Decoder(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="audio")])
    def __call__(self, audio):
        samples, lengths = decode_batch(audio, 16_000, max_seconds=2.0)
        return {"samples": samples, "lengths": lengths}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("decoder"))
    decoder = Decoder()
    tf.saved_model.save(decoder, path, signatures=decoder.__call__)
    return path


@pytest.fixture(scope="module")
def serve(saved):
    """The exported decoder in a TensorFlow 1 session, which is how servers load it."""
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], saved)
    signature = loaded.signature_def["serving_default"]
    names = {key: info.name for key, info in signature.outputs.items()}
    fed = signature.inputs["audio"].name
    yield lambda clips: session.run(names, {fed: clips})
    session.close()


@pytest.mark.parametrize("count", [0, 1, 7, 64])
def test_a_session_decodes_batches_of_any_size_as_each_clip_alone(count, serve):
    clips = [CLIPS[i % len(CLIPS)] for i in range(count)]
    answer = serve(clips)
    alone = [resample(*decode_wav(clip), 16_000).numpy() for clip in CLIPS]
    assert answer["lengths"].tolist() == [len(alone[i % len(CLIPS)]) for i in range(count)]
    assert answer["samples"].shape == (count, max(answer["lengths"], default=0))
    for i, row in enumerate(answer["samples"]):
        expected = alone[i % len(CLIPS)]
        np.testing.assert_allclose(row[: len(expected)], expected, atol=1e-6)
        assert not row[len(expected) :].any()


def test_a_session_decodes_every_kind_of_file_in_one_batch(serve):
    files = [contents for contents, _ in TAKEN.values()]
    answer = serve(files)
    for row, contents in enumerate(files):
        expected = resample(*graph()(contents), 16_000)
        assert answer["lengths"][row] == len(expected)
        np.testing.assert_allclose(answer["samples"][row, : len(expected)], expected, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_a_session_refuses_what_python_refuses(name, serve):
    contents, message = REFUSED[name]
    with pytest.raises(InvalidArgument, match=f"(?s)decode_wav: .*{message}"):
        serve([CLIPS[0], contents])


@pytest.mark.parametrize(("tag", "law"), [(7, samples.mu_law), (6, samples.a_law)])
def test_the_laws_of_telephony_are_the_tables_of_their_inverse(tag, law):
    """Steps and signs as ITU-T G.711 lists them, without our code: what encodes to itself."""
    table = law()
    contents = riff(chunk(b"fmt ", fmt(tag, bits=8)), chunk(b"data", bytes(LAW)))
    np.testing.assert_array_equal(decoded(contents)[0], table)
    coded = written(table, subtype="ULAW" if tag == 7 else "ALAW")[-256:]
    again = np.frombuffer(coded, np.uint8)
    # Of mu-law's two zeros an encoder writes one.
    assert (again == LAW).sum() >= 255
    np.testing.assert_array_equal(table[again], table)
    assert max(table) == {7: 32_124, 6: 32_256}[tag] / 2**15


def test_a_bad_clip_fails_its_batch_and_the_session_lives_on(serve):
    for bad, message in ((b"\xff\xd8", "WAV file"), (CLIPS[2][:40], "data chunk")):
        with pytest.raises(InvalidArgument, match=message):
            serve([CLIPS[0], bad])
        assert serve(CLIPS)["lengths"].tolist() == [1600, 801, 1600, 0]


def test_a_file_over_the_limit_is_refused_before_it_is_resampled(serve):
    assert serve([written(np.zeros(16_000), 8000)])["lengths"] == [32_000]
    with pytest.raises(InvalidArgument, match=r"must not be longer than 2.0 seconds.*2\.01"):
        serve([written(np.zeros(16_080), 8000)])


def test_minutes_of_96_khz_stereo_are_an_answer():
    steps = 17_280_000  # more than float32 can count, and times the rate more than int32 can
    contents = riff(
        chunk(b"fmt ", fmt(channels=2, rate=96_000, bits=8)), chunk(b"data", bytes(2 * steps))
    )
    samples, lengths = kzoo.audio.decode_batch([contents], 16_000)
    assert lengths.numpy().tolist() == [2_880_000]
    np.testing.assert_allclose(samples[0, 1000:-1000:1000], -1, atol=1e-3)
