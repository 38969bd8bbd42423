"""The bytes of a sound -> samples in [-1, 1], in the graph: PCM, floats, mu-law and A-law.

L samples, channels in turn.
"""

import numpy as np
import tensorflow as tf

# Floats that were never divided by the size of integers: this share of a sound that is not
# silent, beyond 12 dB over full scale, and not beyond what integers of 32 bits reach.
_FULL_SCALE, _LARGEST_INTEGER, _SHARE = 4.0, 2.0**32, 0.01
_SOUNDING = 100  # samples of a chunk that tell; of fewer, one crackle would be most


def checked(condition, rule, *values):
    """A context in which everything waits for the check: a raise, even in a session."""
    check = tf.debugging.Assert(condition, [rule, *values])
    return tf.control_dependencies([] if check is None else [check])  # None: it ran eagerly


def bounded(samples):
    """Samples (...) in [-1, 1]: those that are no number become 0, the others are clipped."""
    zero = tf.zeros([], samples.dtype)
    return tf.clip_by_value(tf.where(tf.math.is_nan(samples), zero, samples), zero - 1, zero + 1)


def bounded_floats(samples):
    """Floats of a file as `bounded`, unless they have the size of integers: clipped, speech of
    16-bit size would be a square wave.

    That is so if more than 1 % of the samples that are not 0 lie beyond 4, or more than half do
    and are larger than any integer. A few that are too large, infinite or no number are mended.

    Args:
        samples: (L,) float32 or float64.

    Returns:
        (L,) float32.

    Raises:
        tf.errors.InvalidArgumentError: they have the size of integers.
    """
    size = tf.abs(samples)

    def share(condition):
        sounding = tf.math.count_nonzero(size > 0)
        return tf.math.count_nonzero(condition) / tf.maximum(sounding, 1)

    is_large = size > _FULL_SCALE
    is_sound = (share(is_large & (size <= _LARGEST_INTEGER)) <= _SHARE) & (share(is_large) <= 0.5)
    peak = tf.reduce_max(tf.where(tf.math.is_finite(size), size, tf.zeros_like(size)))
    rule = (
        "decode_wav: expected floats in [-1, 1], got those of the size of integers; divide them by "
        "it, as 32,768 for 16 bits; the peak:"
    )
    with checked(is_sound, rule, peak):
        return tf.cast(bounded(samples), tf.float32)


def bounded_chunk(samples):
    """The next samples of streams as `bounded`, unless more than half of one's have the size of
    integers, of at least 100 that are not 0: a chunk may be short, and all of it a crackle.

    Args:
        samples: (B, C) float32.

    Returns:
        (B, C) float32.

    Raises:
        tf.errors.InvalidArgumentError: a stream's have the size of integers.
    """
    size = tf.abs(samples)
    sounding = tf.math.count_nonzero(size > 0, 1)
    loud = tf.math.count_nonzero(size > _FULL_SCALE, 1)
    is_sound = tf.reduce_all((sounding < _SOUNDING) | (2 * loud <= sounding))
    rule = (
        "stream: expected floats in [-1, 1], got those of the size of integers; divide them by it, "
        "as 32,768 for 16 bits; samples beyond 4 of each stream:"
    )
    with checked(is_sound, rule, loud):
        return bounded(samples)


def decode_pcm(sound, width, is_big, padding):
    """PCM: 8 bits are unsigned, more are signed and stand at the top of their bytes.

    Args:
        sound: (L * width,) uint8.
        width: int tensor, bytes of a sample, 1 to 4.
        is_big: bool tensor, big-endian.
        padding: int tensor, how many of a sample's lowest bytes must be 0.

    Returns:
        (L,) float32.

    Raises:
        tf.errors.InvalidArgumentError: the lowest bytes are not 0.
    """
    rows = _rows(sound, width, is_big)
    rule = (
        "decode_wav: expected zeros in the lowest bytes of samples that are wider than their bits; "
        "bytes of a sample, and those that should be 0:"
    )
    with checked(tf.reduce_all(tf.equal(rows[:, :padding], 0)), rule, width, padding):
        rows = tf.identity(rows)
    branches = _pcm8, _pcm16, _pcm24, _pcm32
    branches = [lambda decode=decode: decode(rows) for decode in branches]
    return tf.switch_case(tf.cast(width - 1, tf.int32), branches)


def decode_floats(sound, width, is_big):
    """Floats of 4 or 8 bytes, as `bounded_floats`; the arguments are those of `decode_pcm`."""
    rows = _rows(sound, width, is_big)
    return tf.cond(
        width == 4,
        lambda: bounded_floats(tf.bitcast(tf.reshape(rows, [-1, 4]), tf.float32)),
        lambda: bounded_floats(tf.bitcast(tf.reshape(rows, [-1, 8]), tf.float64)),
    )


def decode_law(sound, is_mu_law):
    """mu-law or A-law of telephony: (L,) uint8 -> (L,) float32."""
    table = tf.where(is_mu_law, tf.constant(mu_law()), tf.constant(a_law()))
    return tf.gather(table, tf.cast(sound, tf.int32))


def mu_law():
    """The 256 samples of mu-law, ITU-T G.711: (256,) float32.

    Bits are sent inverted: a sign, 3 of a segment s, 4 of a step m. The size is
    (2 m + 33) 2^s - 33, of 8,192.
    """
    sign, segment, step = _parts(np.arange(256) ^ 0xFF)
    size = (2 * step + 33) * 2**segment - 33
    return (np.where(sign, -size, size) / 2**13).astype(np.float32)


def a_law():
    """The 256 samples of A-law, ITU-T G.711: (256,) float32.

    Every second bit is sent inverted. The size is 2 m + 1 in segment 0 and (2 m + 33) 2^(s - 1)
    above, of 4,096; a sign of 1 is positive.
    """
    sign, segment, step = _parts(np.arange(256) ^ 0x55)
    size = np.where(segment == 0, 2 * step + 1, (2 * step + 33) * 2.0 ** (segment - 1))
    return (np.where(sign, size, -size) / 2**12).astype(np.float32)


def _parts(codes):
    return codes >> 7, codes >> 4 & 7, codes & 15


def _rows(sound, width, is_big):
    """(L, width) bytes of each sample, the lowest first."""
    rows = tf.reshape(sound, tf.stack([-1, tf.cast(width, tf.int32)]))
    return tf.cond(is_big, lambda: tf.reverse(rows, [1]), lambda: rows)


def _pcm8(rows):
    return (tf.cast(tf.reshape(rows, [-1]), tf.float32) - 128) / 2**7


def _pcm16(rows):
    return tf.cast(tf.bitcast(tf.reshape(rows, [-1, 2]), tf.int16), tf.float32) / 2**15


def _pcm24(rows):
    return _pcm32(tf.pad(tf.reshape(rows, [-1, 3]), [[0, 0], [1, 0]]))


def _pcm32(rows):
    return tf.cast(tf.bitcast(tf.reshape(rows, [-1, 4]), tf.int32), tf.float32) / 2**31
