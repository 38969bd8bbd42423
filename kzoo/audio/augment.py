"""Training clips changed: other speeds, other throats (VTLP), SpecAugment.

Axis letters: B batch, L samples, S frames, F features of a frame.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.audio.log_mel import mel_edges
from kzoo.audio.resampling import resample
from kzoo.layers import masking


def perturb_speed(samples, speed):
    """Plays a sound faster or slower, pitch included: y(t) = x(speed t).

    Ko et al. (2015), Audio Augmentation for Speech Recognition,
    https://www.isca-archive.org/interspeech_2015/ko15_interspeech.html: train on every clip at the
    speeds 0.9, 1.0 and 1.1.

    Args:
        samples: (L,) float.
        speed: float, in thousandths.

    Returns:
        (ceil(L / speed),) float32.

    Raises:
        ValueError: if `speed` is not positive.
    """
    checks.at_least(0.001, speed=speed)
    return resample(samples, round(1000 * speed), 1000)


class _FrameAugment(keras.layers.Layer):
    """A layer that changes frames at random in training, and blanks their padding always."""

    def __init__(self, seed, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, frames, mask=None, training=False):
        frames, mask = masking.to_dense(frames, mask)
        frames = masking.blank(frames, mask)
        return self._changed(frames, mask) if training else frames

    def compute_output_shape(self, frames_shape):
        return frames_shape

    def compute_mask(self, frames, previous_mask=None):
        return masking.carried_mask(frames, previous_mask)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("kzoo")
class VocalTractPerturbation(_FrameAugment):
    """Log-mel frames as a longer or shorter vocal tract would make them, in training only.

    Jaitly and Hinton (2013), Vocal Tract Length Perturbation (VTLP) improves speech recognition:
    for each clip a factor a is drawn from U(lowest, highest), and the feature whose filter is
    centred on f Hz is read, between its neighbours in a straight line, where a filter would be
    centred on

        G(f) = a f                                           if f <= h min(a, 1) / a
               N - (N - h min(a, 1)) (N - f) / (N - h min(a, 1) / a)    above

    with N = rate_hz / 2 and h = 0.6 N, their 4,800 Hz. The paper moves the filters themselves;
    here frames that are there already are read anew, which smooths them a little. Features should
    be normalised, or the tilt of the spectrum moves along.

    Args:
        rate_hz: int, of the samples that the frames were made of.
        lowest, highest: positive floats, of the factor.
        seed: int or None.

    Call arguments:
        frames: (B, S, F) float, dense or ragged.
        mask: (B, S) bool; None means all.

    Returns:
        (B, S, F), zeros where `mask` is False; `frames` unless `training`.

    Raises:
        ValueError: if `rate_hz` or a factor is not positive, the factors are not in order, or F is
            not known.

    Example:

    >>> perturb = kzoo.VocalTractPerturbation(rate_hz=16_000, seed=7)
    >>> perturb(tf.ones((1, 3, 80)), training=True).shape
    TensorShape([1, 3, 80])
    """

    def __init__(self, rate_hz=16_000, lowest=0.9, highest=1.1, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        checks.at_least(1, rate_hz=rate_hz)
        if not 0 < lowest <= highest:
            raise ValueError(
                "`lowest` and `highest` must be positive and in order, "
                f"got lowest={lowest}, highest={highest}."
            )
        self.rate_hz = rate_hz
        self.lowest = lowest
        self.highest = highest

    def _changed(self, frames, mask):
        if frames.shape[2] is None:
            raise ValueError(f"`frames` must have features of a known number, got {frames.shape}.")
        factor = keras.random.uniform(
            (tf.shape(frames)[0],), self.lowest, self.highest, "float32", seed=self.seed_generator
        )
        places = self._places(factor, frames.shape[2])
        shares = tf.nn.relu(1 - tf.abs(places[:, :, None] - tf.range(float(frames.shape[2]))))
        return tf.einsum("bsf,bgf->bsg", frames, tf.cast(shares, frames.dtype))

    def _places(self, factor, size):
        """(B, F) where each feature is read, in features from the first one."""
        nyquist = self.rate_hz / 2
        centres = tf.constant(mel_edges(self.rate_hz, size)[1:-1], tf.float32)
        factor = factor[:, None]
        bend = 0.6 * nyquist * tf.minimum(factor, 1)  # G where the first line ends
        slope = (nyquist - bend) / (nyquist - bend / factor)
        above = nyquist - slope * (nyquist - centres)
        read = tf.where(centres <= bend / factor, factor * centres, above)
        passed = (read[:, :, None] - centres[:-1]) / (centres[1:] - centres[:-1])
        return tf.reduce_sum(tf.clip_by_value(passed, 0, 1), -1)

    def get_config(self):
        return {
            **super().get_config(),
            "rate_hz": self.rate_hz,
            "lowest": self.lowest,
            "highest": self.highest,
        }


@keras.saving.register_keras_serializable("kzoo")
class SpecAugment(_FrameAugment):
    """Blots out bands of features and stretches of frames, in training only.

    Park et al. (2019), https://arxiv.org/abs/1904.08779, section 2, without time warping: for each
    mask a width w is drawn from 0 ... the widest, then a start from 0 ... size - w.

    Args:
        feature_masks: int, how many bands (m_F of the paper).
        feature_width: int, features of the widest band (F of the paper).
        frame_masks: int, how many stretches (m_T).
        frame_width: int, frames of the longest stretch (T).
        frame_share: float in (0, 1], most of a clip's frames that one stretch takes (p).
        fill: "zero", which is the mean of normalised features, or "mean" of the clip.
        seed: int or None.

    Call arguments:
        frames: (B, S, F) float, dense or ragged.
        mask: (B, S) bool; None means all. Stretches lie within the real frames.

    Returns:
        (B, S, F), zeros where `mask` is False; `frames` unless `training`.

    Raises:
        ValueError: if a number is negative, `frame_share` outside (0, 1], or `fill` unknown.

    Example:

    >>> augment = kzoo.SpecAugment(feature_masks=1, feature_width=2, frame_masks=0, seed=7)
    >>> augment(tf.ones((1, 3, 5)), training=True).shape
    TensorShape([1, 3, 5])
    """

    def __init__(
        self,
        feature_masks=2,
        feature_width=27,
        frame_masks=2,
        frame_width=40,
        frame_share=0.2,
        fill="zero",
        seed=None,
        **kwargs,
    ):
        super().__init__(seed, **kwargs)
        if min(feature_masks, feature_width, frame_masks, frame_width) < 0:
            raise ValueError(
                "The numbers and widths of masks must not be negative, "
                f"got feature_masks={feature_masks}, feature_width={feature_width}, "
                f"frame_masks={frame_masks}, frame_width={frame_width}."
            )
        if not 0 < frame_share <= 1:
            raise ValueError(f"`frame_share` must lie in (0, 1], got frame_share={frame_share}.")
        checks.one_of(("zero", "mean"), fill=fill)
        self.feature_masks = feature_masks
        self.feature_width = feature_width
        self.frame_masks = frame_masks
        self.frame_width = frame_width
        self.frame_share = frame_share
        self.fill = fill

    def _changed(self, frames, mask):
        lengths = tf.reduce_sum(tf.cast(mask, tf.float32), 1)
        sizes = tf.fill(tf.shape(lengths), tf.cast(tf.shape(frames)[2], tf.float32))
        longest = tf.minimum(float(self.frame_width), self.frame_share * lengths)
        widest = tf.minimum(float(self.feature_width), sizes)
        features = self._stretches(self.feature_masks, widest, sizes, tf.shape(frames)[2])
        stretches = self._stretches(self.frame_masks, longest, lengths, tf.shape(frames)[1])
        blotted = features[:, None, :] | stretches[:, :, None]
        fill = tf.zeros([], frames.dtype)
        if self.fill == "mean":
            fill = masking.masked_mean(frames, mask)[:, None]
        return masking.blank(tf.where(blotted, fill, frames), mask)

    def _stretches(self, count, widest, sizes, steps):
        """(B, steps) bool, True in `count` random stretches of 0 ... `widest` (B,) of `sizes`."""
        shape = (tf.shape(sizes)[0], count)
        width = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        width = tf.floor(width * (tf.floor(widest[:, None]) + 1))
        start = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        start = tf.floor(start * (sizes[:, None] - width + 1))[:, None]
        place = tf.range(steps, dtype=tf.float32)[:, None]
        return tf.reduce_any((place >= start) & (place < start + width[:, None]), -1)

    def get_config(self):
        return {
            **super().get_config(),
            "feature_masks": self.feature_masks,
            "feature_width": self.feature_width,
            "frame_masks": self.frame_masks,
            "frame_width": self.frame_width,
            "frame_share": self.frame_share,
            "fill": self.fill,
        }
