"""WAV bytes -> samples at one rate, in the graph: core ops of TensorFlow only, so it is served.

Axis letters: N clips, L samples of the longest clip.
"""

from typing import NamedTuple

import tensorflow as tf

from kzoo.audio.resampling import resample
from kzoo.audio.samples import checked, decode_floats, decode_law, decode_pcm

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 384_000  # what sound hardware has; others would cost gigabytes
_MOST_CHUNKS = 1000  # of a file, before its sound: a hostile one has millions
_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE  # format tags
_FMT, _DATA, _DS64 = (int.from_bytes(name, "little") for name in (b"fmt ", b"data", b"ds64"))
_LITTLE, _BIG = (b"RIFF", b"RF64", b"BW64"), b"RIFX"  # RF64 and BW64: beyond 4 GB
MAGIC = (*_LITTLE, _BIG)  # what a WAV file begins with
# What a subformat ends with whose first 4 bytes are a format tag: Microsoft's, and Ambisonics'.
_SUBFORMATS = tuple(map(bytes.fromhex, ("800000aa00389b71", "8644c8c1ca000000")))
_UNKNOWN = 0xFFFFFFFF  # a size that stands elsewhere, or nowhere


class Layout(NamedTuple):
    """Where the sound of a file is, and how it is written: scalar tensors, int64 and bool."""

    tag: tf.Tensor  # of the format
    channels: tf.Tensor
    rate_hz: tf.Tensor
    width: tf.Tensor  # bytes of a sample
    padding: tf.Tensor  # of these, those that must be 0
    is_big: tf.Tensor  # big-endian
    start: tf.Tensor  # byte where the sound begins
    length: tf.Tensor  # bytes of whole samples of all channels


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
        with checked(seconds <= max_seconds, rule, seconds):
            return resample(tf.identity(samples), rate, rate_hz)

    ragged = tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0)
    rows = tf.map_fn(decode, tf.convert_to_tensor(contents), fn_output_signature=ragged)
    return rows.to_tensor(), tf.cast(rows.row_lengths(), tf.int32)


def decode_wav(contents):
    """Decodes one WAV file: PCM of up to 32 bits, floats of 32 or 64 bits, mu-law or A-law.

    Channels are averaged. Chunks other than the format and the sound are passed over. A size that
    is wrong because the file was streamed (more than there is, as 2^32 - 1, or 0 if that of the
    whole file is wrong too) means: all the rest.
    A file cut short gives what there is of it. Floats that are no number count as 0, and those
    outside [-1, 1] are clipped; a file of floats of the size of integers is refused.

    Args:
        contents: scalar string, the bytes of a RIFF, RIFX (big-endian), RF64 or BW64 file.

    Returns:
        samples: (L,) float32 in [-1, 1]; L may be 0. rate: scalar int32, samples a second.

    Raises:
        tf.errors.InvalidArgumentError: no WAV file, no whole format chunk, no data chunk, a
            format that is not in this list, or floats of the size of integers.
    """
    data = tf.io.decode_raw(contents, tf.uint8)
    layout = layout_of(data, tf.size(data, tf.int64))
    sound = data[layout.start : layout.start + layout.length]
    return decode_sound(sound, layout), tf.cast(layout.rate_hz, tf.int32)


def layout_of(head, size):
    """Reads the header of a file.

    Args:
        head: (n,) uint8, its bytes, or those until the sound begins at least.
        size: scalar int64, how many bytes the file has.

    Returns:
        Layout.

    Raises:
        tf.errors.InvalidArgumentError: as `decode_wav`.
    """
    head, is_big = _checked_magic(head)
    form, form_size, start, length = _chunks(head, size, is_big)
    with checked(
        (form > 0) & (form_size >= 16) & (form + 16 <= tf.size(head, tf.int64)),
        "decode_wav: expected a fmt chunk of 16 bytes before the sound; number of bytes:",
        size,
    ):
        tag, channels = _number(head, form, 2, is_big), _number(head, form + 2, 2, is_big)
        rate, block = _number(head, form + 4, 4, is_big), _number(head, form + 12, 2, is_big)
        bits = _number(head, form + 14, 2, is_big)
    with checked(start > 0, "decode_wav: expected a data chunk; number of bytes:", size):
        tag = tf.where(tag == _EXTENSIBLE, _subformat(head, form, form_size, is_big), tag)
    with checked(
        (channels > 0) & (rate >= MIN_RATE_HZ) & (rate <= MAX_RATE_HZ),
        f"decode_wav: expected channels and a rate of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz; channels, "
        "rate, bytes of all channels:",
        *(channels, rate, block),
    ):
        width, padding = _width(tag, bits, block, tf.maximum(channels, 1))
    is_law = (tag == _MU_LAW) | (tag == _A_LAW)
    is_pcm = (tag == _PCM) & (width >= 1) & (width <= 4)
    is_float = (tag == _FLOAT) & ((width == 4) | (width == 8))
    with checked(
        is_pcm | is_float | is_law,
        "decode_wav: expected PCM of 8, 16, 24 or 32 bits, floats of 32 or 64 bits, mu-law or "
        "A-law (ffmpeg -c:a pcm_s16le makes PCM of others); format tag and bits:",
        *(tag, bits),
    ):
        length -= length % tf.maximum(channels * width, 1)
    return Layout(tag, channels, rate, width, padding, is_big, start, length)


def decode_sound(sound, layout):
    """Samples (L,) float32, channels averaged, of the bytes (L * channels * width,) uint8."""
    width, is_big = layout.width, layout.is_big
    decoders = (
        lambda: decode_pcm(sound, width, is_big, layout.padding),
        lambda: decode_floats(sound, width, is_big),
        lambda: decode_law(sound, layout.tag == _MU_LAW),
    )
    kind = tf.where(layout.tag == _PCM, 0, tf.where(layout.tag == _FLOAT, 1, 2))
    samples = tf.switch_case(kind, decoders)
    channels = tf.cast(layout.channels, tf.int32)
    return tf.reduce_mean(tf.reshape(samples, tf.stack([-1, channels])), 1)


def _checked_magic(data):
    """The bytes, once they are known to be those of a WAV file, and whether it is big-endian."""
    head = _bytes(data, 0, 12)
    is_little = tf.reduce_any(tf.reduce_all(head[:4] == _uint8(*_LITTLE), 1))
    is_big = tf.reduce_all(head[:4] == _uint8(_BIG)[0])
    is_wave = (is_little | is_big) & tf.reduce_all(head[8:] == _uint8(b"WAVE")[0])
    rule = "decode_wav: expected the bytes of a WAV file, RIFF....WAVE; number of bytes and first:"
    with checked(is_wave, rule, tf.size(data), head[:4]):
        return tf.identity(data), tf.identity(is_big)


def _uint8(*rows):
    return tf.constant([list(row) for row in rows], tf.uint8)


def _subformat(data, form, form_size, is_big):
    """The format tag of an extensible format, or its own where there is none that is known."""
    end = _bytes(data, form + 32, 8)
    is_known = tf.reduce_any(tf.reduce_all(end == _uint8(*_SUBFORMATS), 1)) & (form_size >= 40)
    return tf.where(is_known, _number(data, form + 24, 4, is_big), _EXTENSIBLE)


def _width(tag, bits, block, channels):
    """(bytes of a sample, those that must be 0), by the bits, which writers have right.

    Only PCM may have more bytes than its bits need: 12 in 16, or 24 in 32. Its samples stand at
    the top. Where they do not, other programs mean other things by it, and `decode_pcm` refuses.
    """
    needed = (bits + 7) // 8
    held = block // channels
    is_wider = (tag == _PCM) & (block == channels * held) & (held > needed)
    width = tf.where(is_wider | (needed == 0), held, needed)
    width = tf.where((tag == _MU_LAW) | (tag == _A_LAW), tf.ones_like(width), width)
    return width, tf.where(is_wider & (needed > 0), held - needed, 0)


def _bytes(data, start, count):
    """`count` bytes from `start` on, zeros after the end."""
    part = data[start : start + count]
    return tf.ensure_shape(tf.pad(part, [[0, count - tf.size(part)]]), [count])


def _number(data, start, count, is_big=False):
    """The unsigned number of `count` bytes, int64; of 8 bytes, 2^63 and more are negative."""
    return tf.reduce_sum(tf.cast(_bytes(data, start, count), tf.int64) * _powers(count, is_big))


def _powers(count, is_big):
    """What each of `count` bytes counts for."""
    powers = tf.constant([256**i for i in range(count)], tf.int64)
    return tf.where(is_big, powers[::-1], powers)


def _chunks(head, size, is_big):
    """(start of the format, its size, start of the sound, bytes of sound), int64.

    A start is -1 for a missing chunk, or one that begins behind `head`.
    """
    powers = _powers(4, False), _powers(4, is_big)
    missing = tf.constant(-1, tf.int64)
    zero = tf.constant(0, tf.int64)

    def searching(place, form, form_size, sizes, start, length):
        return (start < 0) & (place + 8 <= tf.size(head, tf.int64))

    def next_chunk(place, form, form_size, sizes, start, length):
        begin = tf.cast(_bytes(head, place, 8), tf.int64)
        name = tf.reduce_sum(begin[:4] * powers[0])
        count = tf.reduce_sum(begin[4:] * powers[1])
        form = tf.where(name == _FMT, place + 8, form)
        form_size = tf.where(name == _FMT, count, form_size)
        sizes = tf.where(name == _DS64, place + 8, sizes)
        start = tf.where(name == _DATA, place + 8, start)
        length = tf.where(name == _DATA, count, length)
        place += 8 + count
        # Chunks begin at even places, after a byte 0, which some recorders leave out.
        place += tf.where(_bytes(head, place, 1)[0] == 0, count % 2, 0)
        return place, form, form_size, sizes, start, length

    _, form, form_size, sizes, start, length = tf.while_loop(
        searching,
        next_chunk,
        (tf.constant(12, tf.int64), missing, zero, missing, missing, zero),
        maximum_iterations=_MOST_CHUNKS,
    )
    riff = _number(head, 4, 4, is_big)
    # Of RF64 the sizes of the file and of its sound stand in a chunk of their own, in 8 bytes.
    riff = tf.where((riff == _UNKNOWN) & (sizes > 0), _number(head, sizes, 8), riff)
    length = tf.where((length == _UNKNOWN) & (sizes > 0), _number(head, sizes + 8, 8), length)
    riff_end = riff + 8
    unfinished = (length == 0) & ((riff_end <= start) | (riff_end > size))
    rest = size - start
    is_all = unfinished | (length < 0)
    return form, form_size, start, tf.where(is_all, rest, tf.minimum(length, rest))
