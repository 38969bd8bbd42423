"""SpecAugment and vocal tract perturbation: what they change, and what they leave alone."""

import numpy as np
import pytest
import tensorflow as tf

from kzoo.audio import SpecAugment, VocalTractPerturbation, mel_edges

RATE = 8_000


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32") / 7


# SpecAugment


def test_spec_augment_does_nothing_outside_training():
    frames = noise(2, 7, 5)
    np.testing.assert_array_equal(SpecAugment()(frames), frames)


def test_spec_augment_blots_out_whole_bands_and_stretches_within_the_widths():
    layer = SpecAugment(1, 3, 1, 5, frame_share=0.4, seed=7)
    steps, features = 11, 13
    lengths = [11, 10, 6, 0]
    mask = np.arange(steps) < np.array(lengths)[:, None]
    widths = set()
    for _ in range(200):
        y = layer(np.ones((4, steps, features), "float32"), mask, training=True).numpy()
        assert not y[~mask].any()
        for row, length in zip(y, lengths, strict=True):
            real = row[:length]
            bands, stretches = ~real.any(0), ~real.any(1)
            assert length == 0 or stretches.sum() <= min(5, 0.4 * length)
            assert length == 0 or bands.sum() <= 3
            # Every zero is of a band or a stretch, and each of them is in one piece.
            np.testing.assert_array_equal(real == 0, bands | stretches[:, None])
            for blotted in (bands, stretches):
                assert (
                    length == 0
                    or np.diff(blotted.astype(int), prepend=0, append=0).clip(0).sum() <= 1
                )
            widths.add((length, int(stretches.sum())))
    assert {(11, n) for n in range(5)} | {(6, n) for n in range(3)} <= widths


def test_spec_augment_fills_with_the_mean_of_the_clip():
    frames = noise(2, 7, 5) + 3
    mask = np.arange(7) < [[7], [4]]
    layer = SpecAugment(0, 0, 1, 7, frame_share=1.0, fill="mean", seed=1)
    y = layer(np.where(mask[:, :, None], frames, np.nan), mask, training=True).numpy()
    changed = ~np.isclose(y, frames).all(-1) & mask
    assert changed.any()
    for row in range(2):
        mean = frames[row][mask[row]].mean(0)
        for step in np.flatnonzero(changed[row]):
            np.testing.assert_allclose(y[row, step], mean, atol=1e-5)


def test_the_seed_of_spec_augment_brings_its_masks_back():
    frames = noise(3, 17, 19)
    first, again, other = (
        SpecAugment(seed=seed)(frames, training=True).numpy() for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_width": -1}, "must not be negative, .*frame_width=-1"),
        ({"frame_share": 0}, r"`frame_share` must lie in \(0, 1\], got frame_share=0"),
        ({"fill": "noise"}, "`fill` must be .*got fill='noise'"),
    ],
)
def test_spec_augment_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpecAugment(**arguments)


# VocalTractPerturbation


def read_at(frames, factor, rate_hz):
    """The paper's G, feature by feature."""
    nyquist, centres = rate_hz / 2, mel_edges(rate_hz, frames.shape[-1])[1:-1]
    corner = 0.6 * nyquist * min(factor, 1)
    places = [
        factor * f
        if f <= corner / factor
        else nyquist - (nyquist - corner) * (nyquist - f) / (nyquist - corner / factor)
        for f in centres
    ]
    return np.stack([np.interp(places, centres, frame) for frame in frames])


@pytest.mark.parametrize("factor", [0.6, 0.9, 1.0, 1.07, 1.5])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_a_vocal_tract_moves_every_feature_to_where_the_paper_says(factor, rate_hz):
    frames = noise(1, 3, 23)
    layer = VocalTractPerturbation(rate_hz, lowest=factor, highest=factor)
    y = layer(frames, training=True).numpy()
    np.testing.assert_allclose(y[0], read_at(frames[0], factor, rate_hz), atol=1e-4)


def test_each_clip_has_a_vocal_tract_of_its_own_for_all_its_frames():
    mask = np.arange(5) < [[5], [2]]
    frames = np.repeat(np.repeat(noise(1, 1, 23), 5, 1), 2, 0)
    layer = VocalTractPerturbation(RATE, seed=3)
    y = layer(np.where(mask[:, :, None], frames, np.nan), mask, training=True).numpy()
    assert (y[0] == y[0, :1]).all()
    assert (y[1, :2] == y[1, :1]).all()
    assert not y[1, 2:].any()
    assert not np.allclose(y[0, 0], y[1, 0])
    np.testing.assert_array_equal(layer(frames), frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate_hz": 0}, "`rate_hz` must be at least 1, got rate_hz=0"),
        ({"lowest": 1.1, "highest": 0.9}, "in order.*got lowest=1.1, highest=0.9"),
        ({"lowest": 0.0}, "must be positive.*got lowest=0.0"),
    ],
)
def test_vocal_tract_perturbation_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        VocalTractPerturbation(**arguments)


def test_the_number_of_features_must_be_known():
    perturb = tf.function(
        lambda x: VocalTractPerturbation()(x, training=True),
        input_signature=[tf.TensorSpec((None, None, None))],
    )
    with pytest.raises(ValueError, match="`frames` must have features of a known number"):
        perturb(noise(1, 2, 3))
