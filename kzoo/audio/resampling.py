"""Samples at one rate -> samples at another, in the graph. L samples."""

import numpy as np
import tensorflow as tf

# The low-pass filter of `resample`: 32 zero crossings on either side, 80 dB down.
_CROSSINGS, _ROLLOFF, _KAISER_BETA = 32, 0.945, 8.0
_LARGEST_FILTER = 2**22  # numbers in it


def resample(samples, rate, target_rate_hz):
    """Changes the rate of a sound by a windowed sinc: y[j] = sum_i x[i] h(i - j rate / target).

        h(t) = c sinc(c t) kaiser(t / w),  c = 0.945 min(1, target / rate),  w = 32 / min(1, ...)

    The polyphase form of Smith (2002), https://ccrma.stanford.edu/~jos/resample/: rate / target
    is a fraction down / up, so the filters of `up` outputs recur. They make one matrix, applied to
    blocks of the input. Where the fraction in lowest terms would need too large a matrix (16,000
    from 44,101 Hz), the nearest one that does not is taken, off by less than 0.03 %.

    Args:
        samples: (L,) float.
        rate: scalar int or int tensor, samples a second.
        target_rate_hz: scalar int or int tensor.

    Returns:
        (ceil(L target / rate),) float32; `samples` themselves if the rates are equal.
    """
    samples = tf.cast(samples, tf.float32)
    rate, target = tf.cast(rate, tf.int64), tf.cast(target_rate_hz, tf.int64)
    return tf.cond(
        tf.equal(rate, target), lambda: samples, lambda: _filtered(samples, rate, target)
    )


def _filtered(samples, rate, target):
    ratio = tf.cast(rate, tf.float64) / tf.cast(target, tf.float64)
    half_width = tf.cast(tf.math.ceil(_CROSSINGS * tf.maximum(ratio, 1.0)), tf.int64)
    up, down = _fraction(rate, target, half_width)
    # Blocks not shorter than the filter: half of the matrix product is work.
    repeats = -(-2 * half_width // down)
    filters = _filters(repeats, up, down, half_width, ratio)  # (W, outputs of a block)
    block = tf.cast(repeats * down, tf.int32)
    overlap = tf.cast(2 * half_width, tf.int32)
    count = tf.cast(-(-tf.size(samples, tf.int64) * target // rate), tf.int32)
    blocks = -(-count // tf.shape(filters)[1])
    before = overlap // 2
    after = (blocks + 1) * block - before - tf.size(samples)
    # An output of a block reads that block and the beginning of the next one.
    padded = tf.pad(samples, [[before, tf.maximum(after, 0)]])[: (blocks + 1) * block]
    padded = tf.reshape(padded, tf.stack([blocks + 1, block]))
    y = tf.matmul(padded[:-1], filters[:block])
    y += tf.matmul(padded[1:, :overlap], filters[block:])
    return tf.reshape(y, [-1])[:count]


def _fraction(rate, target, half_width):
    """(up, down), down / up = rate / target, or nearly so where the filters would be too many."""
    ups = tf.range(1, 2049, dtype=tf.int64)
    downs = tf.maximum((2 * ups * rate + target) // (2 * target), 1)
    errors = tf.cast(tf.abs(downs * target - ups * rate), tf.float64) / tf.cast(ups, tf.float64)
    fits = ups * (downs + 2 * half_width) <= _LARGEST_FILTER
    best = tf.argmin(tf.where(fits, errors, errors.dtype.max))
    return ups[best], downs[best]


def _filters(repeats, up, down, half_width, ratio):
    """(repeats down + 2 half_width, repeats up): what each output of a block takes of each input.

    Input i and output j are i - j down / up apart: h is needed at multiples of 1 / up alone.
    """
    places = tf.range(repeats * down + 2 * half_width) - half_width
    apart = tf.abs(places[:, None] * up - tf.range(repeats * up) * down)
    distances = tf.cast(tf.range(half_width * up + 1), tf.float64) / tf.cast(up, tf.float64)
    return tf.gather(_h(distances, ratio), tf.minimum(apart, half_width * up))


def _h(t, ratio):
    """The filter at distances (n,) float64 of input samples: (n,) float32, 0 at the last one.

    In float64, or else the rounding of a graph would decide how much of the frequencies that the
    filter stops is left, which normalised features make loud.
    """
    zero, one = tf.zeros([], tf.float64), tf.ones([], tf.float64)
    scale = 1 / tf.maximum(ratio, 1.0)
    cutoff = _ROLLOFF * scale
    angle = np.pi * cutoff * t
    sinc = tf.where(angle < 1e-6, one, tf.sin(angle) / tf.maximum(angle, 1e-6))
    inside = tf.maximum(1 - tf.square(t * scale / _CROSSINGS), 0)
    kaiser = tf.math.bessel_i0(_KAISER_BETA * tf.sqrt(inside)) / np.i0(_KAISER_BETA)
    return tf.cast(tf.where(inside > 0, cutoff * sinc * kaiser, zero), tf.float32)
