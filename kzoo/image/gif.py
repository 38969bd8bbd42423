r"""The first frame of a GIF on its canvas, in the graph.

GIF89a, https://www.w3.org/Graphics/GIF/spec-gif89a.txt: a header with the size of the canvas and
perhaps a table of colours; blocks, some before the first picture; a picture with its place on the
canvas, perhaps a table of its own, and its data in parts of 1 to 255 bytes, each after its length.

TensorFlow decodes all frames, into the size of the largest, and makes black what is transparent. So
the first frame's data get a file of their own, in whose table each colour is its number, and the
colours are looked up here. A regular expression finds where blocks end, as a loop would take a step
for each 255 bytes. RE2 reads UTF-8: it gets each byte as the character of that number.

Axis letters: H height, W width of the canvas; h, w of the frame.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kzoo.image import fields

_TABLE = 3 * 256  # bytes of the largest
_NUMBERS = np.repeat(np.arange(256, dtype=np.uint8), 3)  # a table of colours that are numbers
_WHITE = np.uint8(255)


def _parts():
    """What matches a length k from 1 to 255 and k bytes, as often as they come."""
    part = r"\xff"
    for length in range(254, 0, -1):  # one more byte for each length that is greater
        part = rf"(?:{part}[\x00-\xff]|\x{length:02x})"
    return rf"(?:{part}[\x00-\xff])*"


_PARTS = rf"\A{_parts()}"
_WINDOW = 65536  # bytes that are searched at once; more than a part
_MOST_EXTENSIONS = 200


class _Frame(NamedTuple):
    """The first frame as the file has it."""

    place: tuple  # left, top, w, h: () int64
    size: tf.Tensor  # () string, w and h as they are written
    data: tf.Tensor  # () string: the size of the first code, parts
    is_whole: tf.Tensor  # () bool: the data do not break off
    is_interlaced: tf.Tensor  # () bool
    table: tf.Tensor  # (256, 3) int64
    colours: tf.Tensor  # () int64, how many the table has
    transparent: tf.Tensor  # () int64, a colour, or -1


def decode(content, fits):
    """The first frame of a GIF on its canvas; white is what is transparent.

    What the frame leaves free has the transparent colour, or the first one if none is transparent.

    Args:
        content: () string that begins as a GIF.
        fits: function of the canvas's width and height, () int64 -> the context to decode it in.

    Returns:
        (H, W, 3) uint8. The canvas is as large as the header says, or larger if the frame is.

    Raises:
        tf.errors.InvalidArgumentError: the first frame is not whole, or as `fits` raises.
    """
    head = fields.octets(content, 0, 13 + _TABLE)
    frame = _first_frame(content, head)
    left, top, width, height = frame.place
    canvas_width = tf.maximum(fields.number(head, 6, 2), left + width)
    canvas_height = tf.maximum(fields.number(head, 8, 2), top + height)
    rule = "a GIF must have a whole first frame, got bytes in all and of its data:"
    lengths = tf.strings.length(content), tf.strings.length(frame.data)
    with fields.checked(frame.is_whole, rule, *lengths), fits(canvas_width, canvas_height):
        numbers = _numbers(frame)
    hidden = tf.cast(tf.maximum(frame.transparent, 0), tf.uint8)  # 0 is in each table
    largest = tf.reduce_max(tf.where(numbers == hidden, tf.zeros_like(numbers), numbers))
    rule = "the colours of a GIF must be in its table, got a colour and how many it has:"
    with fields.checked(tf.cast(largest, tf.int64) < frame.colours, rule, largest, frame.colours):
        is_transparent = tf.range(256, dtype=tf.int64)[:, None] == frame.transparent
        table = tf.where(is_transparent, _WHITE, tf.cast(frame.table, tf.uint8))
        shown = tf.gather(table, tf.cast(numbers, tf.int32))
    margins = [[top, canvas_height - top - height], [left, canvas_width - left - width]]
    is_free = tf.pad(tf.zeros_like(numbers, tf.bool), margins, constant_values=True)
    free = table[tf.maximum(tf.cast(frame.transparent, tf.int32), 0)]
    return tf.where(is_free[:, :, None], free, tf.pad(shown, [*margins, [0, 0]]))


def _first_frame(content, head):
    length = tf.cast(tf.strings.length(content), tf.int64)
    start, control = _extensions(content, tf.minimum(13 + _table_bytes(head[10]), length))
    own = fields.octets(content, start, 10 + _TABLE)
    data = tf.minimum(start + 10 + _table_bytes(own[9]), length)
    parts = tf.minimum(data + 1, length)
    end = _behind_parts(content, _behind_equal_parts(content, parts))
    left, top, width, height = (fields.number(own, place, 2) for place in (1, 3, 5, 7))
    is_ended = fields.octets(content, end, 1)[0] == 0  # by an empty part, or by the file
    numbered = tf.constant(_NUMBERS.reshape(256, 3), tf.int64)  # for what has no table, greys
    table, colours = _table(head[10], head[13:], numbered, 256)
    table, colours = _table(own[9], own[10:], table, colours)
    return _Frame(
        place=(left, top, width, height),
        size=tf.strings.substr(
            tf.strings.join([tf.strings.substr(content, start, 9), bytes(9)]), 5, 4
        ),
        data=tf.strings.substr(content, data, end - data),
        is_whole=(own[0] == ord(",")) & (width * height > 0) & (end > parts) & is_ended,
        is_interlaced=own[9] // 64 % 2 == 1,
        table=table,
        colours=colours,
        transparent=tf.where(control[0] % 2 == 1, control[3], -1),
    )


def _extensions(content, place):
    """Where the blocks end that begin at `place`; the last control block's data, (4,) int64."""

    def is_going_on(place, count, _):
        return (fields.octets(content, place, 1)[0] == ord("!")) & (count < _MOST_EXTENSIONS)

    def step(place, count, control):
        found = fields.octets(content, place, 7)  # "!", the kind, the length of the first part
        end = _behind_parts(content, place + 2)
        control = tf.where(tf.reduce_all(found[1:3] == [0xF9, 4]), found[3:], control)
        return tf.minimum(end + 1, length), count + 1, control

    length = tf.cast(tf.strings.length(content), tf.int64)
    state = place, 0, tf.zeros([4], tf.int64)
    place, _, control = tf.while_loop(is_going_on, step, state)
    return place, control


def _behind_equal_parts(content, place):
    """Where parts end that are as long as that at `place`, as nearly all are: a shortcut."""
    octets = tf.io.decode_raw(tf.strings.substr(content, place, -1), tf.uint8)
    length = fields.octets(content, place, 1)[0]
    is_other = tf.concat([octets[:: length + 1] != tf.cast(length, tf.uint8), [True]], 0)
    count = tf.minimum(tf.argmax(is_other), tf.size(octets, tf.int64) // (length + 1))
    return place + tf.where(length == 0, length, count * (length + 1))


def _behind_parts(content, place):
    """Where the parts end that begin at `place`; where one begins that is not whole."""

    def step(place, _):
        window = tf.strings.substr(content, place, _WINDOW)
        latin = tf.strings.unicode_transcode(window, "ISO-8859-1", "UTF-8")
        rest = tf.strings.regex_replace(latin, _PARTS, "", replace_global=False)
        rest = tf.strings.length(rest, unit="UTF8_CHAR")
        taken = tf.cast(tf.strings.length(window) - rest, tf.int64)
        return place + taken, (taken > 0) & (rest < 256)

    place = tf.minimum(place, tf.cast(tf.strings.length(content), tf.int64))
    return tf.while_loop(lambda _, is_going_on: is_going_on, step, (place, True))[0]


def _table_bytes(flags):
    """How many bytes of colours a byte of flags announces."""
    return tf.where(flags >= 128, 6 * tf.bitwise.left_shift(tf.constant(1, tf.int64), flags % 8), 0)


def _table(flags, octets, table, colours):
    """The table (256, 3) that `flags` announce and its number of colours, or those given."""
    is_there = flags >= 128
    return (
        tf.where(is_there, tf.reshape(octets, (256, 3)), table),
        tf.where(is_there, _table_bytes(flags) // 3, colours),
    )


def _numbers(frame):
    """The numbers of the frame's colours, (h, w) uint8."""
    rows = tf.where(frame.is_interlaced, b"\x40", b"\0")  # no table
    header = [b"GIF89a", frame.size, b"\xf7\0\0", _NUMBERS.tobytes()]  # with a table of 256
    file = [*header, b",\0\0\0\0", frame.size, rows, frame.data, b"\0;"]
    return tf.io.decode_gif(tf.strings.join(file))[0, :, :, 0]
