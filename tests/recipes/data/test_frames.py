"""Features of clips: computed once, kept on disk, counted where there are none."""

import os

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from kzoo.audio import LogMel
from recipes.data import clips_audio, examples, frames

RATE = 8000  # W 200, H 80


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def features():
    return LogMel(RATE, num_mels=23)


@pytest.fixture
def found(tmp_path):
    random, listed = np.random.default_rng(0), examples.Clips()
    for number, seconds in enumerate((0.5, 0.02, 1.5, 0.3)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, random.uniform(-0.5, 0.5, round(seconds * RATE)), RATE, "FLOAT")
        listed.add(path, f"text {number}", "one voice", f"list:{number}")
    return listed


def test_frames_are_those_of_the_layer_without_clips_that_are_too_long_or_short(found, features):
    made = frames.extract(found, features, max_seconds=1.0)
    assert made.rows.tolist() == [0, 3]
    assert str(made) == "2 clips (skipped: 1 over 1 seconds, 1 shorter than a frame)"
    for array, row in zip(made.arrays, made.rows, strict=True):
        samples, _ = clips_audio.read_audio(found.rows[row])
        np.testing.assert_allclose(array, features(samples[None])[0][0], atol=1e-5)


def test_frames_are_computed_once_for_the_same_files_and_settings(found, features, monkeypatch):
    reads = []
    read = clips_audio.read_audio
    monkeypatch.setattr(clips_audio, "read_audio", lambda clip: reads.append(clip) or read(clip))
    first = frames.extract(found, features, max_seconds=2.0)
    assert len(reads) == 4
    again = frames.extract(found, LogMel(RATE, num_mels=23), max_seconds=2.0)
    assert len(reads) == 4
    for one, other in zip(first.arrays, again.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    frames.extract(found, LogMel(RATE, num_mels=23, normalize=None), max_seconds=2.0)
    assert len(reads) == 8
    os.utime(found.rows[0].path, (0, 0))  # another file of the same name
    frames.extract(found, features, max_seconds=2.0)
    assert len(reads) == 12
    monkeypatch.setattr(frames, "FORMAT", frames.FORMAT + 1)
    frames.extract(found, features, max_seconds=2.0)
    assert len(reads) == 16


def test_a_faster_clip_has_fewer_frames(found, features):
    slow, fast = (frames.extract(found, features, 2.0, speed) for speed in (0.9, 1.1))
    assert len(slow.arrays[0]) == 1 + (round(4000 / 0.9) - 200) // 80
    assert len(fast.arrays[0]) == 1 + (round(4000 / 1.1) - 200) // 80


def test_broken_and_empty_files_are_counted_and_the_first_one_is_named(found, features, capsys):
    found.rows[2].path.write_bytes(b"RIFF")
    soundfile.write(found.rows[3].path, [], RATE)
    made = frames.extract(found, features, max_seconds=2.0)
    assert made.rows.tolist() == [0]
    assert made.skipped == {"shorter than a frame": 1, "unreadable": 2}
    said = capsys.readouterr().err
    assert "2 of 4 clips unreadable; the first: list:2: expected an audio file in " in said
    assert frames.extract(found, features, max_seconds=2.0).skipped == made.skipped


def test_a_clip_whose_features_are_no_numbers_is_left_out_by_name(
    found, features, capsys, monkeypatch
):
    layer_call = LogMel.call

    def call(self, samples, lengths=None):
        frames, mask = layer_call(self, samples, lengths)
        return tf.where(tf.shape(samples)[1] == 4000, np.nan, frames), mask

    monkeypatch.setattr(LogMel, "call", call)
    made = frames.extract(found, features, max_seconds=2.0)
    assert made.rows.tolist() == [2, 3]
    assert made.skipped == {"shorter than a frame": 1, "whose features are no numbers": 1}
    assert [len(array) for array in made.arrays] == [148, 28]
    said = capsys.readouterr().err
    assert "1 of 4 clips have features that are no numbers; the first: list:0: " in said
    assert "0.wav" in said


def test_one_broken_sample_of_a_float_file_spoils_nothing(found, features):
    samples, _ = soundfile.read(found.rows[0].path, dtype="float32")
    for broken in (np.nan, np.inf, 1e29):
        samples[1000] = broken
        soundfile.write(found.rows[0].path, samples, RATE, "FLOAT")
        os.utime(found.rows[0].path, ns=(0, abs(hash(broken)) % 10**9))
        made = frames.extract(found, features, max_seconds=1.0)
        assert made.rows.tolist() == [0, 3]
        assert np.abs(made.arrays[0]).max() < 10
    soundfile.write(found.rows[0].path, 19_660 * samples.clip(-1, 1), RATE, "FLOAT")
    made = frames.extract(found, features, max_seconds=1.0)
    assert made.rows.tolist() == [3]
    assert made.skipped["unreadable"] == 1


def test_without_one_readable_file_nothing_is_cached(found, features, cache):
    for clip in found.rows:
        clip.path.write_bytes(b"RIFF")
    message = r"None of 4 clips is readable; the first: list:0: expected an audio file in .*0\.wav"
    with pytest.raises(ValueError, match=message):
        frames.extract(found, features, max_seconds=2.0)
    assert list((cache / "frames").iterdir()) == []


def test_the_room_on_disk_is_said_beforehand(found, features, cache, capsys):
    found.rows[2] = found.rows[2]._replace(start=0.25, stop=0.75)
    frames.extract(found, features, max_seconds=2.0, speed=0.9)
    most = 4 * 23 * ((2.0 + 2.0 + 0.5 + 2.0) / 0.9 * 100 + 4)
    said = capsys.readouterr().err
    assert f"4 clips, speed 0.9: at most {most / 1e6:.1f} MB\n" in said
    (values,) = cache.rglob("values.f32")
    assert values.stat().st_size < most
    assert f"Extracted {values.stat().st_size / 1e6:.1f} MB to {cache}\n" in said
    frames.extract(found, features, max_seconds=np.inf)
    assert "the features of 4 clips\n" in capsys.readouterr().err


def test_no_clip_of_a_fitting_length_is_no_array(found, features):
    made = frames.extract(found, features, max_seconds=0.01)
    assert made.arrays == []
    assert made.skipped == {"over 0.01 seconds": 4}
