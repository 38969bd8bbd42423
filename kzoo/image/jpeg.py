"""A JPEG's pixels, in the graph: few scans, and an end or nothing that is missing before it.

ITU-T T.81, annex B: segments, each a mark of two bytes, 0xFF and a kind, and mostly a length of
two bytes and what it counts. Behind the segment of a scan come its data, in which each 0xFF is
followed by 0 or by the mark of a restart.

Axis letters: H height, W width.
"""

import tensorflow as tf

from kzoo.image import fields

MOST_SCANS = 100  # encoders write 1 to 20; each takes time for every pixel, without data too
_MOST_SEGMENTS = 1000
_SCAN, _END = 0xDA, 0xD9
_END_MARK = b"\xff\xd9"
_OTHER = b"\xaa\x35\xc9" * 30
_OTHER_DATA = _OTHER + b"".join(bytes([0xFF, 0xD0 + n]) + _OTHER for n in range(8))  # and restarts


def decode(content, fits):
    """A JPEG of any colours -> its pixels as they are stored, on whichever side they lie.

    A file that breaks off is refused: the library fills up the picture with grey, and a model would
    learn from that. But one that lacks its end mark alone, which viewers open, is whole. It is told
    by its pixels, which stay the same whatever data follow. Of a progressive one that ends between
    two scans, those that are there count.

    Args:
        content: () string that begins as a JPEG.
        fits: function of width and height, () int64 -> the context to decode it in.

    Returns:
        (H, W, 3) uint8.

    Raises:
        tf.errors.InvalidArgumentError: it breaks off, has too many scans, or as `fits` raises.
    """
    height, width, _ = tf.unstack(tf.cast(tf.image.extract_jpeg_shape(content), tf.int64))
    scans, segments, is_ended = _marks(content)
    rule = (
        f"a JPEG must have at most {MOST_SCANS} scans and {_MOST_SEGMENTS:,} segments, "
        "got, where the count ended:"
    )
    is_short = (scans <= MOST_SCANS) & (segments <= _MOST_SEGMENTS)
    with fits(width, height), fields.checked(is_short, rule, scans, segments):
        return tf.cond(is_ended, lambda: _pixels(content), lambda: _unended(content))


def _pixels(content):
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _unended(content):
    """The pixels of a file without an end mark; zeros at its end are of a disk, not of a writer."""
    content = tf.strings.regex_replace(content, r"\x00+\z", "", replace_global=False)
    is_half = tf.equal(tf.strings.substr(content, -1, 1), b"\xff")  # the end mark's first byte
    length = tf.strings.length(content) - tf.cast(is_half, tf.int32)
    content = tf.strings.substr(content, 0, length)
    pixels = _pixels(tf.strings.join([content, _END_MARK]))
    other = _pixels(tf.strings.join([content, _OTHER_DATA, _END_MARK]))
    rule = "a JPEG must not break off, got bytes without an end:"
    is_whole = tf.reduce_all(pixels == other)
    with fields.checked(is_whole, rule, tf.strings.length(content)):
        return tf.identity(pixels)


def _marks(content):
    """Goes from segment to segment.

    Returns:
        scans, segments: () int64, how many there are, of each one more than is taken at most.
        is_ended: () bool, there is an end mark.
    """
    data = tf.io.decode_raw(tf.strings.join([content, bytes(4)]), tf.uint8)
    kinds = data[1:-3]
    # Not so a 0 or a restart in the data of a scan, nor 0xFF that fills.
    is_mark = (kinds > 0) & (kinds < 0xD0) | (kinds > 0xD7) & (kinds < 0xFF)
    end = tf.size(kinds, tf.int64)
    marks = tf.concat([tf.where((data[:-4] == 0xFF) & is_mark)[:, 0], [end]], 0)

    zero = tf.constant(0, tf.int64)

    def is_going_on(place, scans, segments, is_ended):
        is_short = (scans <= MOST_SCANS) & (segments <= _MOST_SEGMENTS)
        return (place < end) & is_short & ~is_ended

    def step(place, scans, segments, _):
        mark = marks[tf.searchsorted(marks, [place])[0]]
        kind, high, low = (tf.cast(data[mark + more], tf.int64) for more in (1, 2, 3))
        length = tf.where((kind == 0xD8) | (kind == 0x01), zero, 256 * high + low)
        scans += tf.cast(kind == _SCAN, tf.int64)
        return tf.minimum(mark + 2 + length, end), scans, segments + 1, kind == _END

    state = tf.while_loop(is_going_on, step, (zero, zero, zero, tf.constant(False)))
    return state[1:]
