"""Samples -> the log-mel frames that Whisper reads, a window of fixed length, in the graph.

Axis letters: B batch, L samples, S frames, F features of a frame.
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.audio.log_mel import dense_samples, hann_window, mel_filters, mel_power
from kzoo.layers import masking

_RATE_HZ, _FFT, _HOP = 16_000, 400, 160
_LEAST_POWER = 1e-10
_RANGE = 8.0  # decades below the loudest that are kept apart


@keras.saving.register_keras_serializable("kzoo")
class WhisperMel(keras.layers.Layer):
    """Log-mel frames of a window of sound, as Whisper reads them:

        m_s = log10(max(|FFT(window * samples[s H - 200 : s H + 200])|^2 . filters, 1e-10))
        x_s = (max(m_s, max m - 8) + 4) / 4

    Radford et al. (2022), https://arxiv.org/abs/2212.04356, section 2.2: 16 kHz, windows of 25 ms,
    H = 10 ms, `mel_filters`. Frames are centred, the window of sound is mirrored at its ends, and
    the maximum is over all of it. Clips are filled up with silence, which is NOT padding: the mask
    of a clip is True to the end of the window, as Whisper has heard the silence in training. Only
    a row without any sample has no real frame.

    Returns float32 whatever the dtype policy, computed in float64.

    Args:
        num_mels: int, F: 80, or 128 for `large-v3` and `turbo`.
        clip_seconds: float: clips are filled up to so much and cut there; `AudioSource.read`
            refuses longer ones. The released weights want 30. A whole number of 0.02 s.
        is_filled: bool. False for a model that is trained further, on short clips: nothing is
            filled up, a clip has as many frames as it lasts, and costs no more than that. The
            frames of its last 12 ms then see silence behind it, and the maximum is over the clip.

    Call arguments:
        samples: (B, L) float in [-1, 1], dense or ragged.
        lengths: (B,) int, the real samples of each row; None means all.

    Returns:
        frames: (B, S, F) float32, S = 100 clip_seconds. mask: (B, S) bool. If not filled, S is that
        of the longest row, an even number, and zeros stand behind the frames of a row.

    Raises:
        ValueError: if a size is not positive, or the window no multiple of 0.02 s.

    Example:

    >>> samples, lengths = tf.zeros((2, 1040)), tf.constant([1040, 0])
    >>> frames, mask = kzoo.WhisperMel(clip_seconds=0.5)(samples, lengths)
    >>> frames.shape
    TensorShape([2, 50, 80])
    >>> mask.numpy().sum(1)
    array([50,  0])
    """

    rate_hz, hop, hop_seconds = _RATE_HZ, _HOP, _HOP / _RATE_HZ
    normalize = "utterance"  # of the whole window: live audio cannot have it

    def __init__(self, num_mels=80, clip_seconds=30.0, is_filled=True, **kwargs):
        super().__init__(autocast=False, **kwargs)
        checks.integer(1, num_mels=num_mels)
        frames = round(clip_seconds * _RATE_HZ / _HOP)
        checks.require(
            frames >= 2 and frames % 2 == 0 and abs(frames * _HOP / _RATE_HZ - clip_seconds) < 1e-6,
            "must be a positive multiple of 0.02",
            clip_seconds=clip_seconds,
        )
        self.num_mels = num_mels
        self.clip_seconds = clip_seconds
        self.is_filled = is_filled
        self.num_frames = frames
        self.window_weights = hann_window(_FFT)
        self.filters = mel_filters(_RATE_HZ, _FFT, num_mels)

    def build(self, samples_shape):
        pass  # there are no weights

    def call(self, samples, lengths=None):
        samples, lengths = dense_samples(samples, lengths)
        samples = samples[:, : self.num_frames * _HOP]
        is_real = tf.range(tf.shape(samples)[1]) < lengths[:, None]
        samples = tf.where(is_real, samples, 0.0)
        if not self.is_filled:
            return self._unfilled(samples, tf.minimum(lengths, self.num_frames * _HOP))
        size = self.num_frames * _HOP
        samples = tf.pad(samples, [[0, 0], [0, size - tf.shape(samples)[1]]])
        samples = tf.pad(samples, [[0, 0], [_FFT // 2, _FFT // 2]], "REFLECT")
        # The frame behind the last hop is left, as Whisper does.
        decades = self._decades(samples)[:, : self.num_frames]
        frames = _scaled(decades, tf.reduce_max(decades, [1, 2], keepdims=True))
        frames = tf.ensure_shape(frames, [None, self.num_frames, self.num_mels])
        mask = tf.repeat((lengths > 0)[:, None], self.num_frames, axis=1)
        return masking.carry_mask(masking.blank(frames, mask), mask), mask

    def _unfilled(self, samples, lengths):
        """Frames and mask of clips (B, L) as they are, zeros behind their lengths."""
        counts = 2 * -(-lengths // (2 * _HOP))  # even, as two frames make a step
        most = tf.maximum(tf.reduce_max(counts), 2)
        behind = most * _HOP + _FFT // 2 - tf.shape(samples)[1]
        samples = tf.pad(samples, [[0, 0], [0, tf.maximum(behind, 0)]])
        samples = tf.pad(samples, [[0, 0], [_FFT // 2, 0]], "REFLECT")
        decades = self._decades(samples)[:, :most]
        mask = tf.range(most) < counts[:, None]
        real = tf.where(mask[:, :, None], decades, np.log10(_LEAST_POWER))
        frames = _scaled(decades, tf.reduce_max(real, [1, 2], keepdims=True))
        return masking.carry_mask(masking.blank(frames, mask), mask), mask

    def whole(self, samples, lengths=None):
        """The frames of recordings of any length, for one window after the other.

        They are scaled by the loudest frame of the recording, silence stands behind it, and it is
        read in pieces of a window, so that little more is in memory than samples and frames.

        Args:
            samples: (B, L) float in [-1, 1], dense or ragged. lengths: (B,) int, or None for all.

        Returns:
            frames: (B, S, F) float32, 0 behind the last one of a row. counts: (B,) int32, the
            frames of each row: one for each 10 ms that it has begun.
        """
        samples, lengths = dense_samples(samples, lengths)
        is_real = tf.range(tf.shape(samples)[1]) < lengths[:, None]
        samples = tf.where(is_real, samples, 0.0)
        counts = -(-lengths // _HOP)
        pieces = tf.maximum(-(-tf.reduce_max(counts) // self.num_frames), 1)
        size = self.num_frames * _HOP
        behind = pieces * size + _FFT // 2 - tf.shape(samples)[1]
        samples = tf.pad(samples, [[0, 0], [0, tf.maximum(behind, 0)]])
        samples = tf.pad(samples, [[0, 0], [_FFT // 2, 0]], "REFLECT")

        def decades(piece):
            begin = piece * size
            found = self._decades(samples[:, begin : begin + size + _FFT - _HOP])
            found = tf.ensure_shape(found, [None, self.num_frames, self.num_mels])
            return tf.cast(found, tf.float32)

        spec = tf.TensorSpec([None, self.num_frames, self.num_mels], tf.float32)
        found = tf.map_fn(decades, tf.range(pieces), fn_output_signature=spec)
        found = tf.reshape(
            tf.transpose(found, [1, 0, 2, 3]), [-1, pieces * self.num_frames, self.num_mels]
        )
        is_real = tf.range(tf.shape(found)[1]) < counts[:, None]
        known = tf.where(is_real[:, :, None], found, np.log10(_LEAST_POWER))
        scaled = _scaled(known, tf.reduce_max(known, [1, 2], keepdims=True))
        return masking.blank(scaled, is_real), counts

    def _decades(self, samples):
        """(B, L) -> (B, 1 + (L - 400) // H, F) float64, the logarithms of the power."""
        windows = tf.signal.frame(samples, _FFT, _HOP)
        mels = mel_power(tf.cast(windows, tf.float64) * self.window_weights, self.filters)
        return tf.math.log(tf.maximum(mels, _LEAST_POWER)) / np.log(10.0)

    def compute_mask(self, samples, previous_mask=None):
        return None

    def get_config(self):
        names = "num_mels", "clip_seconds", "is_filled"
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _scaled(decades, loudest):
    """(max(m, loudest - 8) + 4) / 4, float32."""
    return tf.cast((tf.maximum(decades, loudest - _RANGE) + 4) / 4, tf.float32)
