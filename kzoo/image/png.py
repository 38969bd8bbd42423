"""A PNG's pixels, in the graph.

https://www.w3.org/TR/png-3/: a signature, then chunks: a length of four bytes, a name of four, data
and a checksum. Only those that hold pixels are given to TensorFlow: libpng would unpack 8 MB of
compressed text for each 8 kB, and wants an end.

Axis letters: H height, W width.
"""

from typing import NamedTuple

import tensorflow as tf

from kzoo.image import exif, fields

_MOST_CHUNKS = 30_000  # encoders write one for each 8 kB or more
_HEAD = 33  # bytes of the signature and the first chunk, IHDR
_MOST_BYTES = 3 * 256  # of a palette; opacities are fewer
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


def decode(content, fits):
    """A PNG of any kind -> its pixels; what is transparent lies on white, 16 bits become 8.

    It is turned as the EXIF data say in its chunk eXIf, as browsers and Pillow's `exif_transpose`
    turn it. It need not have an end, but all pixels.

    Args:
        content: () string that begins as a PNG.
        fits: function of width and height, () int64 -> the context to decode it in.

    Returns:
        (H, W, 3) uint8.

    Raises:
        tf.errors.InvalidArgumentError: it breaks off, has too many chunks, or as `fits` raises.
    """
    head = fields.octets(content, 0, _HEAD)
    width, height = (fields.number(head, place, 4, big=True) for place in (16, 20))
    name = head[12:16]  # not as a string: it may be no UTF-8, which no message can quote
    found = _chunks(content)
    rule = f"a PNG must begin with IHDR and have at most {_MOST_CHUNKS:,} chunks, got:"
    is_png = tf.reduce_all(name == tf.constant(list(b"IHDR"), name.dtype)) & (
        found.count <= _MOST_CHUNKS
    )
    with fields.checked(is_png, rule, name, found.count), fits(width, height):
        begin = tf.strings.substr(content, 0, _HEAD)
        data = tf.strings.substr(content, found.begin, found.end - found.begin)
        plain = tf.strings.join([begin, found.colours, data, _END])
    pixels = tf.cond(
        found.has_opacities | (head[25] == 4) | (head[25] == 6),
        lambda: fields.on_white(tf.io.decode_png(plain, channels=4)),
        lambda: tf.io.decode_png(plain, channels=3),
    )
    return exif.upright(pixels, exif.orientation_of(found.exif))


class _Chunks(NamedTuple):
    """What is found of the chunks behind the first."""

    count: tf.Tensor  # () int64, how many there are, one more than is taken at most
    place: tf.Tensor  # () int64, where the next one begins
    colours: tf.Tensor  # () string, the chunks PLTE and tRNS
    has_opacities: tf.Tensor  # () bool, there is a tRNS
    begin: tf.Tensor  # () int64, where the pixels begin and end, chunks IDAT in a row; first 0
    end: tf.Tensor
    exif: tf.Tensor  # () string, the data of the first chunk eXIf


def _chunks(content):
    """Goes from chunk to chunk, to the end or where the file breaks off: _Chunks."""
    length = tf.cast(tf.strings.length(content), tf.int64)

    def is_going_on(*found):
        found = _Chunks(*found)
        return (found.place + 12 <= length) & (found.count <= _MOST_CHUNKS)

    def step(*found):
        found = _Chunks(*found)
        place = found.place
        size = fields.number(fields.octets(content, place, 4), 0, 4, big=True)
        name = tf.strings.substr(content, place + 4, 4)
        following = place + 12 + size
        is_whole = following <= length
        is_pixels = tf.equal(name, b"IDAT") & is_whole
        is_first, is_next = is_pixels & (found.begin == 0), is_pixels & (found.end == place)
        is_small = is_whole & (size <= _MOST_BYTES) & (found.begin == 0)
        is_opacities = tf.equal(name, b"tRNS") & is_small
        is_colours = is_opacities | (tf.equal(name, b"PLTE") & is_small)
        is_exif = tf.equal(name, b"eXIf") & is_whole & tf.equal(found.exif, "")
        is_end = tf.equal(name, b"IEND")
        return _Chunks(
            count=found.count + 1,
            place=tf.where(is_end, length, following),
            colours=tf.strings.join([found.colours, _part(content, place, 12 + size, is_colours)]),
            has_opacities=found.has_opacities | is_opacities,
            begin=tf.where(is_first, place, found.begin),
            end=tf.where(is_first | is_next, following, found.end),
            exif=tf.strings.join([found.exif, _part(content, place + 8, size, is_exif)]),
        )

    zero, head = tf.constant(0, tf.int64), tf.constant(_HEAD, tf.int64)
    start = _Chunks(zero, head, tf.constant(""), tf.constant(False), zero, zero, tf.constant(""))
    return tf.while_loop(is_going_on, step, start)


def _part(content, place, size, is_wanted):
    """A part of the content if it is wanted, else an empty string."""
    return tf.strings.substr(content, place, tf.where(is_wanted, size, 0))
