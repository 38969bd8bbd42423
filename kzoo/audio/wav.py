"""WAV bytes -> samples at one rate, in the graph: core ops of TensorFlow only, so it is served.

Axis letters: N clips, L samples of the longest clip.
"""

import tensorflow as tf

from kzoo.audio.resampling import resample

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 384_000  # what sound hardware has; others would cost gigabytes
_MOST_CHUNKS = 1000  # of a file, before its sound: a hostile one has millions
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # format tags
_FMT, _DATA = (int.from_bytes(name, "little") for name in (b"fmt ", b"data"))


def decode_batch(contents, rate_hz, max_seconds=600.0):
    """Decodes WAV files of any rates and lengths into one padded batch.

    Args:
        contents: (N,) string, the bytes of WAV files as `decode_wav` takes them.
        rate_hz: int, the rate that all are resampled to.
        max_seconds: float, a longer file is refused: a batch takes the memory of N times the
            longest.

    Returns:
        samples: (N, L) float32, zeros after the end of a clip. lengths: (N,) int32.

    Raises:
        tf.errors.InvalidArgumentError: as `decode_wav`, or a file is too long.

    Example:

    >>> wav = tf.audio.encode_wav(tf.zeros((80, 1)), sample_rate=8000)
    >>> samples, lengths = kzoo.audio.decode_batch([wav, wav], rate_hz=16_000)
    >>> samples.shape, lengths.numpy()
    (TensorShape([2, 160]), array([160, 160], dtype=int32))
    """

    def decode(content):
        samples, rate = decode_wav(content)
        seconds = tf.size(samples) / rate
        rule = f"decode_batch: a file must not be longer than {max_seconds} seconds, got seconds:"
        with _checked(seconds <= max_seconds, rule, seconds):
            return resample(tf.identity(samples), rate, rate_hz)

    ragged = tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0)
    rows = tf.map_fn(decode, tf.convert_to_tensor(contents), fn_output_signature=ragged)
    return rows.to_tensor(), tf.cast(rows.row_lengths(), tf.int32)


def decode_wav(contents):
    """Decodes one WAV file: PCM of 8, 16, 24 or 32 bits, or floats of 32 or 64 bits.

    Channels are averaged. Chunks other than the format and the sound are passed over. A size that
    is wrong because the file was streamed (more than there is, as 2^32 - 1, or 0 if that of the
    whole file is wrong too) means: all the rest.
    A file cut short gives what there is of it. Samples that are no number count as 0, and those
    outside [-1, 1] are clipped.

    Args:
        contents: scalar string, the bytes of a RIFF file.

    Returns:
        samples: (L,) float32 in [-1, 1]; L may be 0. rate: scalar int32, samples a second.

    Raises:
        tf.errors.InvalidArgumentError: no WAV file, no whole format chunk, no data chunk, or a
            format that is not in this list.
    """
    data = tf.io.decode_raw(contents, tf.uint8)
    head = _bytes(data, 0, 12)
    begin = tf.constant([list(b"RIFF"), list(b"RF64")], tf.uint8)  # the latter beyond 4 GB
    is_riff = tf.reduce_any(tf.reduce_all(head[:4] == begin, 1))
    is_wave = is_riff & tf.reduce_all(head[8:] == tf.constant(list(b"WAVE"), tf.uint8))
    rule = "decode_wav: expected the bytes of a WAV file, RIFF....WAVE; number of bytes and first:"
    with _checked(is_wave, rule, tf.size(data), head[:4]):
        data = tf.identity(data)
    form, start, length = _chunks(data)
    end = start + length
    with _checked(
        (form > 0) & (form + 16 <= tf.size(data, tf.int64)),
        "decode_wav: expected a fmt chunk of 16 bytes before the sound; number of bytes:",
        tf.size(data),
    ):
        tag, channels = _number(data, form, 2), _number(data, form + 2, 2)
        rate, block = _number(data, form + 4, 4), _number(data, form + 12, 2)
    with _checked(start > 0, "decode_wav: expected a data chunk; number of bytes:", tf.size(data)):
        # The subformat of an extensible format begins with the tag.
        tag = tf.where(tag == _EXTENSIBLE, _number(data, form + 24, 2), tag)
        width = block // tf.maximum(channels, 1)
    with _checked(
        (channels > 0)
        & (block == channels * width)
        & (rate >= MIN_RATE_HZ)
        & (rate <= MAX_RATE_HZ),
        f"decode_wav: expected channels, a rate of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz and a whole "
        "number of bytes a sample; channels, rate, bytes of all channels:",
        *(channels, rate, block),
    ):
        is_pcm = (tag == _PCM) & (width >= 1) & (width <= 4)
        is_float = (tag == _FLOAT) & ((width == 4) | (width == 8))
    with _checked(
        is_pcm | is_float,
        "decode_wav: expected PCM of 8, 16, 24 or 32 bits or floats of 32 or 64 bits; format tag "
        "and bits:",
        *(tag, 8 * width),
    ):
        sound = data[start : end - length % block]
    kind = tf.cast(tf.where(is_pcm, width - 1, 3 + width // 4), tf.int32)  # into _DECODERS
    branches = [lambda decode=decode: decode(sound) for decode in _DECODERS]
    samples = tf.reshape(tf.switch_case(kind, branches), [-1])
    samples = tf.reduce_mean(tf.reshape(samples, tf.stack([-1, tf.cast(channels, tf.int32)])), 1)
    return samples, tf.cast(rate, tf.int32)


def _checked(condition, rule, *values):
    """A context in which everything waits for the check: a raise, even in a session."""
    check = tf.debugging.Assert(condition, [rule, *values])
    return tf.control_dependencies([] if check is None else [check])  # None: it ran eagerly


def _bytes(data, start, count):
    """`count` bytes from `start` on, zeros after the end."""
    part = data[start : start + count]
    return tf.ensure_shape(tf.pad(part, [[0, count - tf.size(part)]]), [count])


def _number(data, start, count):
    """The little-endian unsigned number of `count` bytes, int64."""
    powers = tf.constant([256**i for i in range(count)], tf.int64)
    return tf.reduce_sum(tf.cast(_bytes(data, start, count), tf.int64) * powers)


def _chunks(data):
    """(start of the format, start of the sound, bytes of sound), int64; -1 for a missing chunk."""
    size = tf.size(data, tf.int64)
    missing = tf.constant(-1, tf.int64)

    def searching(place, form, start, length):
        return (start < 0) & (place + 8 <= size)

    def next_chunk(place, form, start, length):
        name, count = _number(data, place, 4), _number(data, place + 4, 4)
        form = tf.where(name == _FMT, place + 8, form)
        start = tf.where(name == _DATA, place + 8, start)
        length = tf.where(name == _DATA, count, length)
        place += 8 + count
        # Chunks begin at even places, after a byte 0, which some recorders leave out.
        place += tf.where(_number(data, place, 1) == 0, count % 2, 0)
        return place, form, start, length

    _, form, start, length = tf.while_loop(
        searching,
        next_chunk,
        (tf.constant(12, tf.int64), missing, missing, tf.constant(0, tf.int64)),
        maximum_iterations=_MOST_CHUNKS,
    )
    riff_end = _number(data, 4, 4) + 8
    unfinished = (length == 0) & ((riff_end <= start) | (riff_end > size))
    rest = size - start
    return form, start, tf.where(unfinished, rest, tf.minimum(length, rest))


def _pcm8(sound):
    return (tf.cast(sound, tf.float32) - 128) / 2**7


def _pcm16(sound):
    return tf.cast(tf.bitcast(tf.reshape(sound, [-1, 2]), tf.int16), tf.float32) / 2**15


def _pcm24(sound):
    return _pcm32(tf.pad(tf.reshape(sound, [-1, 3]), [[0, 0], [1, 0]]))


def _pcm32(sound):
    return tf.cast(tf.bitcast(tf.reshape(sound, [-1, 4]), tf.int32), tf.float32) / 2**31


def _float32(sound):
    return bounded(tf.bitcast(tf.reshape(sound, [-1, 4]), tf.float32))


def _float64(sound):
    return tf.cast(bounded(tf.bitcast(tf.reshape(sound, [-1, 8]), tf.float64)), tf.float32)


def bounded(samples):
    """Samples (...) in [-1, 1]: those that are no number become 0, the others are clipped."""
    zero = tf.zeros([], samples.dtype)
    return tf.clip_by_value(tf.where(tf.math.is_nan(samples), zero, samples), zero - 1, zero + 1)


_DECODERS = (_pcm8, _pcm16, _pcm24, _pcm32, _float32, _float64)
