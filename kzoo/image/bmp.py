"""A BMP's pixels, in the graph.

Windows' bitmaps and those of OS/2: 14 bytes with the place of the pixels; a header, at its start
its own size; masks of the channels, if 32 bits have other than the usual ones; a table of colours;
rows from the bottom, or from the top if the height is negative, each filled up to 4 bytes.
TensorFlow's decoder knows no tables, takes each file of 32 bits for blue, green, red, and refuses
one with bytes behind its pixels.

Axis letters: H height, W width.
"""

import tensorflow as tf

from kzoo.image import fields

_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes; 12 is of OS/2, the others begin as that of 40
_USUAL = (0xFF0000, 0xFF00, 0xFF)  # masks of red, green, blue
_BYTES = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)


def decode(content, fits):
    """A BMP of 1, 4 or 8 bits (a table), 24 or 32 -> its pixels; what is transparent lies on white.

    Args:
        content: () string that begins as a BMP.
        fits: function of width and height, () int64 -> the context to decode it in.

    Returns:
        (H, W, 3) uint8.

    Raises:
        tf.errors.InvalidArgumentError: it is not whole, compressed, or as `fits` raises.
    """
    head = fields.octets(content, 0, 70)
    header = fields.number(head, 14, 4)  # bytes
    is_old = header == 12
    old = [fields.number(head, place, 2) for place in (18, 20, 24)]
    sizes = [fields.number(head, 18, 4), fields.signed(fields.number(head, 22, 4))]
    new = [*sizes, fields.number(head, 28, 2), *(fields.number(head, n, 4) for n in (30, 46))]
    of_header = tf.where(is_old, tf.pad(tf.stack(old), [[0, 2]]), tf.stack(new))
    width, height, bits, compression, colours = tf.unstack(of_header, 5)
    is_read = tf.reduce_any(bits == [1, 4, 8, 24, 32]) & tf.reduce_any(header == _HEADERS)
    is_read &= (compression == 0) | ((compression == 3) & (bits == 32))
    rule = "a BMP must have 1, 4, 8, 24 or 32 bits and no compression, got them and its header:"
    start, length = fields.number(head, 10, 4), tf.cast(tf.strings.length(content), tf.int64)
    stride = (width * bits + 31) // 32 * 4
    end = start + stride * tf.abs(height)
    whole = "a BMP must be whole, got bytes and where its pixels begin and end:"
    with (
        fields.checked(is_read, rule, bits, compression, header),
        fits(width, tf.abs(height)),
        fields.checked((start >= 14 + header) & (end <= length), whole, length, start, end),
    ):
        rows = tf.io.decode_raw(tf.strings.substr(content, start, end - start), tf.uint8)
        rows = tf.reshape(rows, (tf.abs(height), stride))
    rows = tf.cond(height > 0, lambda: tf.reverse(rows, [0]), lambda: rows)

    def painted():
        entry = tf.where(is_old, 3, 4)
        room = (start - 14 - header) // tf.cast(entry, tf.int64)
        most = tf.bitwise.left_shift(tf.constant(1, tf.int64), bits)
        count = tf.minimum(room, tf.where(colours == 0, most, tf.minimum(colours, most)))
        return _painted(content, rows, width, bits, 14 + header, count, entry)

    def mixed():
        masks = tf.stack([fields.number(head, place, 4) for place in (54, 58, 62, 66)])
        masks *= [1, 1, 1, tf.cast(header >= 56, tf.int64)]  # a shorter header says no opacity
        usual = [*_USUAL, tf.where(compression == 3, 0xFF000000, 0)]
        is_said = (compression == 3) & (tf.reduce_max(masks) > 0)
        return _mixed(rows, width, bits, tf.where(is_said, masks, usual))

    return tf.cond(bits <= 8, painted, mixed)


def _painted(content, rows, width, bits, start, count, entry):
    """Pixels of 1, 4 or 8 bits in the colours of the table at `start`."""
    table = tf.strings.substr(content, start, count * tf.cast(entry, tf.int64))
    table = tf.reshape(tf.io.decode_raw(table, tf.uint8), (-1, entry))[:, 2::-1]
    shifts = tf.cast(tf.range(8 - bits, -1, -bits), tf.uint8)  # the left pixel is the highest bits
    low = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)
    numbers = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[:, :, None], shifts), low)
    numbers = tf.reshape(numbers, (tf.shape(rows)[0], -1))[:, :width]
    largest = tf.cast(tf.reduce_max(numbers), tf.int64)
    rule = "the colours of a BMP must be in its table, got a colour and how many it has:"
    with fields.checked(largest < count, rule, largest, count):
        return tf.gather(table, tf.cast(numbers, tf.int32))


def _mixed(rows, width, bits, masks):
    """Pixels of 24 or 32 bits, a byte for each channel, where the masks (4,) say."""
    is_place = masks[:, None] == _BYTES
    is_read = tf.reduce_all(tf.reduce_any(is_place, 1) | [False] * 3 + [masks[3] == 0])
    with fields.checked(
        is_read, "the channels of a BMP must be whole bytes, got their masks:", masks
    ):
        size = bits // 8
        pixels = tf.reshape(rows[:, : width * size], (tf.shape(rows, tf.int64)[0], width, size))
    places = tf.argmax(is_place, 1)
    return tf.cond(
        masks[3] > 0,
        lambda: fields.on_white(tf.gather(pixels, places, axis=2)),
        lambda: tf.gather(pixels, places[:3], axis=2),
    )
