"""Samples -> log-mel frames, whole clips or streams, in the graph.

    samples, lengths = decode_batch(wav_bytes, rate_hz=16_000)   # of `audio.wav`
    frames, mask = LogMel(16_000)(samples, lengths)              # 100 a second

Axis letters: B batch, L samples, S frames, F features of a frame.
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking

_LEAST_POWER = 1e-10  # about the noise of 16-bit samples; librosa's `amin`
# What running normalisation expects before it has heard anything. The means of AN4, FSDD, Asterisk
# and LibriSpeech lie between -11.0 and -10.1, the variances between 12 and 28.
_PRIOR_MEAN, _PRIOR_VARIANCE, _PRIOR_SECONDS = -10.0, 16.0, 1.0
_VARIANCE_FLOOR = 1e-5


def mel_edges(rate_hz, num_mels):
    """Where the filters of `mel_filters` begin, peak and end: filter i at edges i, i + 1, i + 2.

    Evenly spaced on the scale of Slaney (1998), Auditory Toolbox: linear up to 1,000 Hz, 15 mels,
    then logarithmic, 27 mels a factor of 6.4. librosa's default.

    Args:
        rate_hz: int, of the samples. num_mels: int.

    Returns:
        (num_mels + 2,) float64 array in Hz, from 0 to rate_hz / 2.
    """
    highest = rate_hz / 2
    top = highest * 3 / 200 if highest < 1000 else 15 + 27 * np.log(highest / 1000) / np.log(6.4)
    mels = np.linspace(0, top, num_mels + 2)
    return np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))


def mel_filters(rate_hz, fft_length, num_mels):
    """Triangular filters between the edges of `mel_edges`, each with an area of 1 Hz.

    Args:
        rate_hz: int. fft_length: int. num_mels: int.

    Returns:
        (fft_length // 2 + 1, num_mels) float64 array.

    Raises:
        ValueError: if there are so many filters that one holds no frequency of the spectrum.
    """
    edges = mel_edges(rate_hz, num_mels)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    frequencies = np.linspace(0, rate_hz / 2, fft_length // 2 + 1)[:, None]
    rising = (frequencies - lower) / (centre - lower)
    falling = (upper - frequencies) / (upper - centre)
    filters = np.maximum(np.minimum(rising, falling), 0) * 2 / (upper - lower)
    if not filters.any(0).all():
        raise ValueError(
            "`num_mels` must leave each filter a frequency of the spectrum, "
            f"got num_mels={num_mels}, rate_hz={rate_hz}, fft_length={fft_length}."
        )
    return filters


def hann_window(length):
    """The periodic Hann window, (length,) float64; TensorFlow's is another if the length is odd."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def mel_power(windows, filters):
    """|FFT(window)|^2 . filters: windows (B, S, W), in any precision -> (B, S, F) float64.

    In float32 the strongest frequency would drown out those 140 dB below it.
    """
    spectrum = tf.signal.rfft(tf.cast(windows, tf.float64))
    power = tf.math.real(spectrum) ** 2 + tf.math.imag(spectrum) ** 2
    return tf.matmul(power, tf.constant(filters, tf.float64))


def dense_samples(samples, lengths):
    """Samples (B, L), dense or ragged -> dense float32, and the (B,) int32 real ones of each row.

    `lengths` is None for all of a row.
    """
    if isinstance(samples, tf.RaggedTensor):
        lengths = samples.row_lengths() if lengths is None else lengths
        samples = samples.to_tensor()
    if lengths is None:
        lengths = tf.fill([tf.shape(samples)[0]], tf.shape(samples)[1])
    return tf.cast(samples, tf.float32), tf.cast(lengths, tf.int32)


def normalized_utterances(frames, mask):
    """(x - mean) / sqrt(variance + 1e-5), each feature over the real frames of each clip.

    Computed in float64: of steady sound the variance is 0, and a mean that is off by what float32
    rounds, which depends on the padding, would be divided by sqrt(1e-5).

    Args:
        frames: (B, S, F) float32 or float64.
        mask: (B, S) bool, True = real.

    Returns:
        (B, S, F) float32; what stands in the padding is of no meaning.
    """
    frames = tf.cast(frames, tf.float64)
    mean = masking.masked_mean(frames, mask)[:, None]
    variance = masking.masked_mean(tf.square(frames - mean), mask)[:, None]
    return tf.cast((frames - mean) * tf.math.rsqrt(variance + _VARIANCE_FLOOR), tf.float32)


@keras.saving.register_keras_serializable("kzoo")
class LogMel(keras.layers.Layer):
    """Log-mel frames: x_s = ln(max(|FFT(window * samples[s H : s H + W])|^2 . filters, 1e-10)).

    Frame s begins with sample s H: nothing is centred or padded, so that a stream has the frames
    of the whole file. Samples after the last whole window are left. The window is the periodic
    Hann window, filled up with zeros to the next power of two; the filters are `mel_filters`.
    There is no dither and no pre-emphasis. It equals librosa.feature.melspectrogram of the samples
    with (fft_length - W) // 2 zeros before them, `center=False`, `win_length=W`.

    Normalised per feature, over the real frames:
        "utterance": (x - mean) / sqrt(variance + 1e-5) over the whole clip.
        "running": the same over frames 0 ... s, with 1 second of frames of mean -10 and variance 16
            imagined before them: Viikki & Laurila (1998), https://doi.org/10.1016/S0167-6393(98)00033-8,
            for streams.
        "fixed": (x + 10) / 4 whatever the clip: of one word, mean and variance tell which it was.

    Returns float32 whatever the dtype policy. It computes in float64, so that the frames of a clip
    do not depend on those beside it in a batch, however steady the sound is.

    Args:
        rate_hz: int, of the samples.
        window_seconds: float, W = round(rate_hz * window_seconds).
        hop_seconds: float, H, not more than the window.
        num_mels: int, F.
        normalize: "utterance", "running", "fixed" or None.

    Call arguments:
        samples: (B, L) float in [-1, 1], dense or ragged.
        lengths: (B,) int, the real samples of each row; None means all.

    Returns:
        frames: (B, S, F) float32, S = max(1, 1 + (L - W) // H); zeros in the padding.
        mask: (B, S) bool; a row has 1 + (length - W) // H real frames, 0 if it is shorter than W.

    Raises:
        ValueError: if a size is not positive, the hop longer than the window, `normalize` unknown,
            or as `mel_filters`.

    Example:

    >>> samples, lengths = tf.zeros((2, 1040)), tf.constant([1040, 700])
    >>> frames, mask = kzoo.LogMel(rate_hz=16_000)(samples, lengths)
    >>> frames.shape
    TensorShape([2, 5, 80])
    >>> mask.numpy().sum(1)
    array([5, 2])
    """

    def __init__(
        self,
        rate_hz=16_000,
        window_seconds=0.025,
        hop_seconds=0.010,
        num_mels=80,
        normalize="utterance",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.window = round(rate_hz * window_seconds)
        self.hop = round(rate_hz * hop_seconds)
        if self.window < 1 or num_mels < 1 or not 1 <= self.hop <= self.window:
            raise ValueError(
                "`num_mels` and the samples of a hop must be at least 1, and a hop not longer than "
                f"a window, got rate_hz={rate_hz}, window_seconds={window_seconds}, "
                f"hop_seconds={hop_seconds}, num_mels={num_mels}."
            )
        checks.one_of(("utterance", "running", "fixed", None), normalize=normalize)
        self.rate_hz = rate_hz
        self.window_seconds = window_seconds
        self.hop_seconds = hop_seconds
        self.num_mels = num_mels
        self.normalize = normalize
        self.fft_length = 2 ** (self.window - 1).bit_length()
        self.window_weights = hann_window(self.window)
        self.filters = mel_filters(rate_hz, self.fft_length, num_mels)

    def build(self, samples_shape):
        pass  # there are no weights

    def call(self, samples, lengths=None):
        samples, lengths = dense_samples(samples, lengths)
        counts = 1 + (lengths - self.window) // self.hop
        # At least one frame: not everything that follows can do with an axis of 0.
        missing = tf.maximum(self.window - tf.shape(samples)[1], 0)
        frames = self._frames(tf.pad(samples, [[0, 0], [0, missing]]))
        mask = tf.range(tf.shape(frames)[1]) < counts[:, None]
        frames = masking.blank(frames, mask)
        if self.normalize == "utterance":
            frames = normalized_utterances(frames, mask)
        elif self.normalize == "running":
            statistics = self._statistics(tf.shape(frames)[0])
            frames, _ = self._normalized_so_far(frames, *statistics)
        frames = masking.blank(tf.cast(frames, tf.float32), mask)
        return masking.carry_mask(frames, mask), mask

    def _frames(self, samples):
        """(B, L) -> (B, 1 + (L - W) // H, F) float64, normalised if "fixed"; none if L < W."""
        windows = tf.signal.frame(samples, self.window, self.hop)
        windows = tf.cast(windows, tf.float64) * self.window_weights
        # With an `fft_length`, rfft would do that too, but not for no windows.
        windows = tf.pad(windows, [[0, 0], [0, 0], [0, self.fft_length - self.window]])
        frames = tf.math.log(tf.maximum(mel_power(windows, self.filters), _LEAST_POWER))
        if self.normalize == "fixed":
            frames = (frames - _PRIOR_MEAN) * _PRIOR_VARIANCE**-0.5
        return frames

    def _statistics(self, batch_size):
        """What running normalisation knows at first: number, sum and sum of squares of frames.

        Sums are about the prior mean: those of the squares would lose digits otherwise.
        """
        number = tf.fill([batch_size], _PRIOR_SECONDS / self.hop_seconds)
        zeros = tf.zeros((batch_size, self.num_mels))
        return number, zeros, zeros + number[:, None] * _PRIOR_VARIANCE

    def _normalized_so_far(self, frames, number, total, squares):
        """Frames (B, S, F) normalised by all up to each, and the statistics after the last."""
        x = tf.cast(frames, tf.float64) - _PRIOR_MEAN
        number, total, squares = (tf.cast(each, tf.float64) for each in (number, total, squares))
        numbers = number[:, None] + 1 + tf.range(tf.shape(x)[1], dtype=tf.float64)
        totals = total[:, None] + tf.cumsum(x, 1)
        all_squares = squares[:, None] + tf.cumsum(tf.square(x), 1)
        mean = totals / numbers[:, :, None]
        variance = all_squares / numbers[:, :, None] - tf.square(mean)
        statistics = (
            number + tf.cast(tf.shape(x)[1], tf.float64),
            total + tf.reduce_sum(x, 1),
            squares + tf.reduce_sum(tf.square(x), 1),
        )
        normalized = (x - mean) * tf.math.rsqrt(tf.maximum(variance, 0) + _VARIANCE_FLOOR)
        statistics = tuple(tf.cast(each, tf.float32) for each in statistics)
        return tf.cast(normalized, tf.float32), statistics

    def initial_state(self, batch_size):
        """Returns the state of a stream before its first chunk: a dict of tensors of B rows.

        Raises:
            ValueError: if `normalize` is "utterance", which needs the whole clip.
        """
        if self.normalize == "utterance":
            raise ValueError(
                '`normalize` must be "running", "fixed" or None to stream, got "utterance".'
            )
        state = {"samples": tf.zeros((batch_size, 0))}
        if self.normalize == "running":
            names = "number", "sum", "sum_of_squares"
            state |= dict(zip(names, self._statistics(batch_size), strict=True))
        return state

    def step(self, chunk, state):
        """Takes up B streams where the state says: chunks of any length give the whole's frames.

        Args:
            chunk: (B, C) float, the next samples of streams that have had equally many; C may be 0.
            state: as `initial_state` or `step` returned it. "samples" (B, less than W) are those
                that the next frame begins with.

        Returns:
            frames: (B, S, F), those that are complete now; S may be 0. state: dict.
        """
        samples = tf.concat([state["samples"], tf.cast(chunk, tf.float32)], 1)
        frames = self._frames(samples)
        rest = {"samples": samples[:, tf.shape(frames)[1] * self.hop :]}
        if self.normalize != "running":
            return tf.cast(frames, tf.float32), rest
        statistics = state["number"], state["sum"], state["sum_of_squares"]
        frames, (number, total, squares) = self._normalized_so_far(frames, *statistics)
        return frames, rest | {"number": number, "sum": total, "sum_of_squares": squares}

    def compute_mask(self, samples, previous_mask=None):
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "rate_hz": self.rate_hz,
            "window_seconds": self.window_seconds,
            "hop_seconds": self.hop_seconds,
            "num_mels": self.num_mels,
            "normalize": self.normalize,
        }
