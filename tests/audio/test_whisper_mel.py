import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.audio import WhisperMel


def sounds(*seconds):
    """Chirps with noise, of unequal lengths; the seed is the length."""
    rows = []
    for length in seconds:
        count = round(16_000 * length)
        time = np.arange(count) / 16_000
        noise = np.random.default_rng(count).normal(size=count)
        rows.append((0.3 * np.sin(900 * time**2) + 0.01 * noise).astype(np.float32))
    return rows


@pytest.mark.parametrize("num_mels", [80, 128])
def test_frames_are_those_of_whisper_feature_extractor(num_mels):
    transformers = pytest.importorskip("transformers")
    extract = transformers.WhisperFeatureExtractor(feature_size=num_mels)
    rows = sounds(0.7, 2.003, 30, 31.5)
    expected = extract(rows, sampling_rate=16_000, return_tensors="np").input_features
    frames, mask = WhisperMel(num_mels)(tf.ragged.constant(rows))
    assert frames.shape == (4, 3000, num_mels)
    np.testing.assert_allclose(frames, np.swapaxes(expected, 1, 2), atol=1e-4)
    assert np.all(mask)


def test_a_short_window_has_the_first_frames_of_a_long_one_and_padding_changes_nothing():
    (row,) = sounds(0.31)
    long, _ = WhisperMel(80, 2)(row[None])
    short, mask = WhisperMel(80, 0.5)(row[None])
    # Where it ends, the short one is mirrored: silence here, so that nothing differs.
    np.testing.assert_allclose(short, long[:, :50], atol=1e-6)
    padded = np.full((2, 7000), np.nan, np.float32)
    padded[0, : len(row)] = row
    frames, mask = WhisperMel(80, 0.5)(padded, lengths=[len(row), 0])
    np.testing.assert_allclose(frames[:1], short, atol=1e-6)
    assert mask.numpy().sum(1).tolist() == [50, 0] and not frames[1].numpy().any()


def test_clips_that_are_not_filled_up_have_the_frames_they_last_and_padding_changes_nothing():
    rows = sounds(0.31, 0.5, 0.0001)
    layer = WhisperMel(80, 2, is_filled=False)
    frames, mask = layer(tf.ragged.constant(rows))
    assert mask.numpy().sum(1).tolist() == [32, 50, 2] and frames.shape[1] == 50
    filled, _ = WhisperMel(80, 2)(tf.ragged.constant(rows))
    for row, count in ((0, 30), (1, 49)):  # the last frames of a clip see what stands behind it
        np.testing.assert_allclose(frames[row, :count], filled[row, :count], atol=1e-5)
    padded = np.full((3, 9000), np.nan, np.float32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    again, _ = layer(padded, lengths=[len(row) for row in rows])
    np.testing.assert_allclose(again[:, :50], frames, atol=1e-5)
    alone, _ = layer(rows[0][None])
    np.testing.assert_allclose(alone[0], frames[0, :32], atol=1e-5)
    assert not frames[0, 32:].numpy().any()
    nothing, mask = layer(tf.zeros((2, 0)))
    assert nothing.shape == (2, 2, 80) and not mask.numpy().any()


def test_a_source_of_wav_bytes_takes_it_in_a_graph_and_keeps_it_in_its_config():
    source = kzoo.AudioSource(WhisperMel(80, 0.5))
    source = kzoo.AudioSource.from_config(source.get_config())
    assert source.features.get_config()["clip_seconds"] == 0.5
    assert not source.can_stream
    files = [tf.audio.encode_wav(x[:, None], 16_000) for x in sounds(0.3, 0.4)]
    files.append(tf.audio.encode_wav(tf.zeros((0, 1)), 8_000))
    frames, is_empty = tf.function(source.read)(tf.stack(files), 20.0)
    assert frames.row_lengths().numpy().tolist() == [50, 50, 0]
    assert is_empty.numpy().tolist() == [False, False, True]
    assert "at most 0.5 seconds, as 80 log-mel" in source.facts(60)["source"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"longer than 0\.5 seconds"):
        source.read([tf.audio.encode_wav(tf.zeros((8001, 1)), 16_000)], 20)
    names = source.step_names(frames, 3, 2).numpy().tolist()
    assert names == [[b"0.00", b"0.02", b"0.04"]] * 2 + [[b"", b"", b""]]


def test_it_goes_through_a_keras_file(tmp_path):
    samples = keras.Input((None,))
    model = keras.Model(samples, WhisperMel(80, 0.5)(samples)[0])
    model.save(tmp_path / "mel.keras")
    again = keras.saving.load_model(tmp_path / "mel.keras")
    (row,) = sounds(0.2)
    np.testing.assert_array_equal(again(row[None]), model(row[None]))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_mels": 0}, "`num_mels` must be an integer of at least 1, got num_mels=0."),
        (
            {"clip_seconds": 0.03},
            "`clip_seconds` must be a positive multiple of 0.02, got clip_seconds=0.03.",
        ),
        ({"clip_seconds": 0}, "must be a positive multiple of 0.02, got clip_seconds=0."),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        WhisperMel(**arguments)
