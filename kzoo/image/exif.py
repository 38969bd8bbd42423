"""Which side of a JPEG or PNG is up: the orientation in its EXIF data, read in the graph.

Cameras write the pixels as the sensor lay and beside them how it was held. EXIF 2.3, sections 4.5.2
and 4.6.4: a segment APP1 holds "Exif", two zeros and a TIFF file, in whose first directory, of
entries of 12 bytes, the tag 274 has a number from 1, upright, to 8. In a PNG the TIFF file is a
chunk eXIf, https://www.w3.org/TR/png-3/, section 11.3.4.5; browsers and Pillow's `exif_transpose`
turn both.
"""

import tensorflow as tf

_SEARCHED = 65536  # bytes; the segment is to be the first of a file, its directory at its start
_MARK = b"Exif\x00\x00"
_MOST_ENTRIES, _MOST_SEGMENTS = 500, 1000
_APP1, _SCAN = 0xE1, 0xDA
_TAG, _SHORT = 274, 3


def orientation(content):
    """Reads how a JPEG is to be turned.

    Args:
        content: () string, the bytes of a file.

    Returns:
        () int64 in 1 ... 8, for `upright`; 1 if the file does not say in its first 64 kB and before
        its pixels, or says something else.
    """
    data = _start(content)
    end = tf.size(data) - 4 - len(_MARK)

    def is_going_on(place, tiff):
        return (place < end) & (tiff == 0)

    def step(place, _):
        first, kind, high, low = (tf.cast(data[place + n], tf.int32) for n in range(4))
        is_segment = (first == 0xFF) & (kind != _SCAN)  # behind it come the pixels
        is_exif = (kind == _APP1) & tf.reduce_all(data[place + 4 : place + 10] == list(_MARK))
        # A mark without a length: of the start, of a restart; 0xFF before a mark fills.
        is_bare = (kind == 0x01) | (kind >= 0xD0) & (kind <= 0xD8)
        size = tf.where(kind == 0xFF, 1, tf.where(is_bare, 2, 2 + 256 * high + low))
        found = tf.where(is_segment & is_exif, place + 4 + len(_MARK), 0)
        return tf.where(is_segment, place + size, end), found

    places = tf.constant(0), tf.constant(0)
    _, tiff = tf.while_loop(is_going_on, step, places, maximum_iterations=_MOST_SEGMENTS)
    return tf.where(tiff > 0, _of_tiff(data, tiff), 1)


def orientation_of(tiff):
    """As `orientation`, of the bytes of a TIFF file, () string; 1 if they are none.

    Some writers put "Exif" and two zeros before it in a PNG, too.
    """
    is_marked = tf.equal(tf.strings.substr(tiff, 0, len(_MARK)), _MARK)
    tiff = tf.strings.substr(tiff, tf.where(is_marked, len(_MARK), 0), _SEARCHED)
    return _of_tiff(_start(tiff), tf.constant(0))


def _start(content):
    """The first bytes, (n,) uint8, and some zeros."""
    head = tf.strings.substr(content, 0, _SEARCHED)
    return tf.pad(tf.io.decode_raw(head, tf.uint8), [[0, 5 + len(_MARK)]])


def _of_tiff(data, tiff):
    """The orientation in a TIFF file that begins at the place `tiff`; 1 if there is none."""

    def at(places):
        """The bytes at these places; zeros behind the end."""
        return tf.cast(tf.gather(data, tf.minimum(places, tf.size(data) - 1)), tf.int64)

    begins = at(tiff + tf.range(4))
    is_big = tf.reduce_all(begins == list(b"MM\0*"))
    is_tiff = is_big | tf.reduce_all(begins == list(b"II*\0"))

    def number(places, count):
        """Numbers of `count` bytes, in the file's order."""
        parts = at(places[..., None] + tf.range(count))
        powers = tf.constant([256**place for place in range(count)], tf.int64)
        return tf.reduce_sum(parts * tf.where(is_big, powers[::-1], powers), -1)

    directory = tiff + tf.cast(tf.minimum(number(tiff + 4, 4), _SEARCHED), tf.int32)
    count = tf.cast(tf.minimum(number(directory, 2), _MOST_ENTRIES), tf.int32)
    entries = directory + 2 + 12 * tf.range(count)
    is_wanted = (number(entries, 2) == _TAG) & (number(entries + 2, 2) == _SHORT)
    found = tf.reduce_max(tf.where(is_wanted, number(entries + 8, 2), 0))
    return tf.where(is_tiff & (found >= 1) & (found <= 8), found, 1)


def upright(pixels, side):
    """Turns and mirrors a picture.

    Args:
        pixels: (H, W, C).
        side: () int64, an `orientation`: where the first row and column of the picture are to be; 1
            top left, 2 top right, 3 bottom right, 4 bottom left; 5, 6, 7, 8 the same with the row
            at the left, right, right, left.

    Returns:
        (H, W, C), or (W, H, C) if `side` is above 4.
    """

    def turned():
        x = tf.cond(side > 4, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
        is_upside_down = tf.reduce_any(side == [3, 4, 7, 8])
        x = tf.cond(is_upside_down, lambda: tf.reverse(x, [0]), lambda: x)
        is_mirrored = tf.reduce_any(side == [2, 3, 6, 7])
        return tf.cond(is_mirrored, lambda: tf.reverse(x, [1]), lambda: x)

    return tf.cond(side > 1, turned, lambda: pixels)
