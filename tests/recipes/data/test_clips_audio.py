"""What is trained on is what is served: one table of WAV files through both paths."""

import io
import tracemalloc

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from wav_files import REFUSED, TAKEN, chunk, fmt, riff, written

import kzoo
from kzoo.audio import AudioSource, LogMel
from recipes.data import clips_audio, examples, frames
from recipes.data.clips_audio import as_sent, read_audio

RATE = 16_000


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def served(content):
    return kzoo.audio.decode_wav(content)


@pytest.fixture
def clip(tmp_path):
    """Makes a clip of the bytes of a file."""

    def of(content, start=0.0, stop=None, name="a.wav"):
        (tmp_path / name).write_bytes(content)
        return examples.Clip(tmp_path / name, "x", "x", "list:7", start, stop)

    return of


@pytest.mark.parametrize("name", TAKEN)
def test_a_wav_file_is_trained_on_as_it_is_served_and_as_libsndfile_reads_it(name, clip):
    content, expected = TAKEN[name]
    samples, rate = served(content)
    np.testing.assert_allclose(samples, expected, atol=2e-7)
    trained, trained_rate = read_audio(clip(content))
    np.testing.assert_array_equal(trained, samples)
    assert trained.dtype == np.float32
    assert trained_rate == rate.numpy()


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_server_refuses_training_refuses_by_name(name, clip):
    content, message = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s)decode_wav: .*{message}"):
        served(content)
    with pytest.raises(
        ValueError, match=rf"list:7: expected an audio file in .*a\.wav: .*{message}"
    ):
        read_audio(clip(content))


def test_a_wav_file_behind_another_header_is_refused_as_the_server_does(clip):
    content = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + written(np.zeros(100), RATE)
    assert soundfile.info(clip(content).path).frames == 100  # libsndfile takes it
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected the bytes of a WAV file"):
        served(content)
    with pytest.raises(ValueError, match=r"list:7: .*a\.wav: a WAV file must begin with RIFF"):
        read_audio(clip(content))


@pytest.mark.parametrize("kind", ["AIFF", "AU", "W64", "FLAC"])
def test_what_is_no_wav_file_is_not_trained_on_under_that_name(clip, kind):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(100), RATE, format=kind)
    with pytest.raises(ValueError, match=r"list:7: .*a\.wav: a WAV file must begin with RIFF"):
        read_audio(clip(file.getvalue()))


def test_the_seconds_of_clips_are_those_of_their_sound_without_reading_it(clip, monkeypatch):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(4000), 8000, format="FLAC")
    sound = written(np.zeros(2 * RATE), RATE)
    rows = [
        clip(sound),
        clip(sound, 0.5, 1.75, "b.wav"),
        clip(sound, 1.5, 9.0, "c.wav"),  # the file ends before
        clip(file.getvalue(), 0.25, name="d.flac"),
        clip(b"RIFF", name="e.wav"),
        clip(b"no sound", name="f.mp3"),
    ]
    seconds = clips_audio.seconds_of(examples.Clips(rows))
    assert seconds == {
        "a.wav": 2,
        "b.wav 0.5-1.75": 1.25,
        "c.wav 1.5-9.0": 0.5,
        "d.flac 0.25-None": 0.25,
    }


def test_a_segment_is_read_without_the_rest_of_its_file(clip):
    content = written(np.random.default_rng(0).uniform(-0.9, 0.9, (8000, 2)), RATE, "PCM_24")
    whole, _ = read_audio(clip(content))
    for start, stop, expected in (
        (0.1, 0.25, whole[1600:4000]),
        (0.3, None, whole[4800:]),
        (0.4, 9.0, whole[6400:]),
    ):
        np.testing.assert_array_equal(read_audio(clip(content, start, stop))[0], expected)
    with pytest.raises(ValueError, match=r"list:7: expected sound in .* from second 0.5, got none"):
        read_audio(clip(content, 0.5, 0.6))


def test_an_hour_in_a_file_costs_a_segment_its_own_bytes(clip, monkeypatch):
    header = riff(chunk(b"fmt ", fmt()), chunk(b"data", b"", 3600 * RATE * 2))
    long = clip(header, 3599.0, 3599.5)
    with long.path.open("r+b") as file:
        file.truncate(len(header) + 3600 * RATE * 2)  # zeros that take no room on disk
    tracemalloc.start()
    samples, _ = read_audio(long)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000  # of 115 million bytes
    tracemalloc.stop()
    assert len(samples) == RATE / 2


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3", "AIFF"])
def test_the_samples_of_other_formats_lie_within_one(form, clip):
    file = io.BytesIO()
    square = np.sign(np.sin(np.arange(8000) / 20))
    square = square[:, None] * [1.0, 0.5]
    soundfile.write(file, square, RATE, format=form, subtype="FLOAT" if form == "AIFF" else None)
    samples, _ = read_audio(clip(file.getvalue(), name="a"))
    assert np.abs(samples).max() <= 1
    if form == "AIFF":
        np.testing.assert_allclose(samples, square.mean(1), atol=1e-7)
        loud = io.BytesIO()
        soundfile.write(loud, 2.0**15 * square, RATE, format=form, subtype="FLOAT")
        with pytest.raises(ValueError, match=r"list:7: .*expected floats in \[-1, 1\].*32768"):
            read_audio(clip(loud.getvalue(), name="a"))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_piece_of_an_mp3_is_that_of_the_whole(rate, clip):
    file = io.BytesIO()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(10 * rate) / rate)
    soundfile.write(file, tone, rate, format="MP3")
    whole, _ = read_audio(clip(file.getvalue(), name="a.mp3"))
    for start in (0.0, 0.1, 2.0, 5.0, 7.5):
        piece, _ = read_audio(clip(file.getvalue(), start, start + 1.0, name="a.mp3"))
        begin = round(start * rate)
        np.testing.assert_allclose(piece, whole[begin : begin + rate], atol=1e-4)


def test_a_length_that_cannot_be_is_named(clip):
    file = io.BytesIO()
    soundfile.write(file, np.linspace(-0.9, 0.9, 8000), RATE, format="FLAC")
    content = bytearray(file.getvalue())
    content[21] &= 0xF0  # STREAMINFO: 36 bits of the number of samples; 0 is for unknown
    content[22:26] = bytes(4)
    good, bad = clip(file.getvalue(), name="a.flac"), clip(bytes(content), name="b.flac")
    with pytest.raises(ValueError, match=r"list:7: .*its header says 9,2.* samples; write it anew"):
        read_audio(bad)
    both = examples.Clips([good, bad])
    assert [found is None for _, found in clips_audio.read_all(both)] == [False, True]
    assert clips_audio.seconds_of(both) == {"a.flac": 0.5}


def test_a_wav_file_is_scored_as_it_is_and_what_else_there_is_as_16_bits(clip):
    for subtype in ("ULAW", "FLOAT"):
        content = written(np.linspace(-0.9, 0.9, 8000), RATE, subtype)
        whole = clip(content)
        assert as_sent(whole, *read_audio(whole)) == content
    part = clip(content, 0.1, 0.3)
    flac = io.BytesIO()
    soundfile.write(flac, np.linspace(-0.9, 0.9, 8000), RATE, format="FLAC")
    for other in (part, clip(flac.getvalue(), name="a.flac")):
        samples, rate = read_audio(other)
        sent, sent_rate = served(as_sent(other, samples, rate))
        np.testing.assert_allclose(sent, samples, atol=2**-15)
        assert sent_rate == rate
        assert len(samples) in (3200, 8000)
    assert as_sent(part, *read_audio(part)) != content


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_sound_is_resampled_in_an_optimized_graph_as_without(rate):
    """What differs at all, features make loud where the filter leaves next to nothing."""
    x = np.random.default_rng(0).uniform(-0.9, 0.9, 9973).astype("float32")
    in_graph = tf.function(lambda x: kzoo.audio.resample(x, rate, RATE))
    np.testing.assert_allclose(in_graph(x), kzoo.audio.resample(x, rate, RATE), rtol=0, atol=1e-9)


def test_features_are_cached_as_the_source_of_a_model_reads_them(clip, monkeypatch, tmp_path):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    sound = np.random.default_rng(0).normal(0, 0.3, 20_000)
    sound[[100, 7000]] = 1.5, 1e29
    contents = [
        written(sound, 44_100, "FLOAT"),
        written(np.clip(sound, -1, 1), 8000, "ULAW"),
        written(sound / 10, RATE, "PCM_16", endian="BIG"),
    ]
    features = LogMel(RATE, num_mels=23)
    clips = examples.Clips()
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(content)
        clips.add(path, "x", "one voice", f"list:{number}")
    source = AudioSource(features)
    read = tf.function(
        lambda wavs: source.read(wavs, 60)[0], input_signature=[tf.TensorSpec([None], tf.string)]
    )
    answer = read(contents)
    for row, array in enumerate(frames.extract(clips, features, 60.0).arrays):
        np.testing.assert_allclose(array, answer[row], atol=1e-4)
