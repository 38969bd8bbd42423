"""Picture bytes -> pixels, in the graph: decoding, fitting into a square.

JPEG, PNG, GIF (its first frame) and BMP of any size and colours, as a server gets them: nothing is
looked at but the bytes, and each picture becomes a square of its own, so that neighbours in a batch
change nothing.

Axis letters: N pictures, B batch, H height, W width.
"""

import tensorflow as tf

from kzoo.image import exif

GREY = 127.0  # of the border beside a picture that is no square
_SHORTEST = 32  # bytes; no picture is shorter, and the sizes stand in them
_KINDS = {"png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF8", "bmp": b"BM", "jpeg": b"\xff\xd8\xff"}
# A chunk that makes colours of a PNG transparent: its length of 1 to 256, its name. What looks like
# it in other chunks is blended to no effect.
_TRNS = r"\C*\x00\x00(\x00\C|\x01\x00)tRNS\C*"


def decode(content, megapixels=64.0):
    """One picture -> its pixels.

    CMYK and greyscale become RGB; what is transparent in a PNG lies on white. Of an animation the
    first frame counts. A JPEG is turned as its EXIF data say.

    Args:
        content: () string, the bytes of a JPEG, PNG, GIF or BMP file.
        megapixels: number, most millions of pixels, looked up before anything is decoded.

    Returns:
        (H, W, 3) uint8.

    Raises:
        tf.errors.InvalidArgumentError: it is none of these, larger, or broken.
    """
    content = tf.convert_to_tensor(content, tf.string)
    head = tf.strings.substr(content, 0, _SHORTEST)
    is_long = tf.strings.length(content) >= _SHORTEST
    is_kind = {
        kind: is_long & tf.equal(tf.strings.substr(head, 0, len(magic)), magic)
        for kind, magic in _KINDS.items()
    }
    head = tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int64)
    most = round(megapixels * 1e6)

    def fits(width, height):
        return _checked(
            (width * height >= 1) & (width * height <= most),
            f"a picture must have 1 to {most:,} pixels, got width and height:",
            *(width, height),
        )

    # Each check stands in the branch that it guards: a branch does not wait for what is outside.
    def png():
        with fits(_number(head, 16, 4, big=True), _number(head, 20, 4, big=True)):
            return tf.cond(
                (head[25] == 4) | (head[25] == 6) | tf.strings.regex_full_match(content, _TRNS),
                lambda: _on_white(tf.io.decode_png(content, channels=4)),
                lambda: tf.io.decode_png(content, channels=3),
            )

    def gif():
        with fits(_number(head, 6, 2), _number(head, 8, 2)):
            return tf.io.decode_image(content, channels=3, expand_animations=False)

    def bmp():  # its height is negative where its rows come from the top
        with fits(_number(head, 18, 4), tf.abs(_signed(_number(head, 22, 4)))):
            return _decode_bmp(content, head)

    def jpeg():
        height, width, _ = tf.unstack(tf.cast(tf.image.extract_jpeg_shape(content), tf.int64))
        with fits(width, height):
            pixels = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
            return exif.upright(pixels, exif.orientation(content))

    def unknown():
        with _checked(
            tf.reduce_any(list(is_kind.values())),
            "expected the bytes of a JPEG, PNG, GIF or BMP picture, got bytes:",
            tf.strings.length(content),
        ):
            return tf.zeros((1, 1, 3), tf.uint8)

    pixels = unknown
    for kind, function in (("jpeg", jpeg), ("bmp", bmp), ("gif", gif), ("png", png)):
        pixels = _choice(is_kind[kind], function, pixels)
    pixels = pixels()
    pixels.set_shape((None, None, 3))
    return pixels


def letterbox(pixels, size):
    """Scales a picture to fit into a square, its aspect kept, between borders of GREY.

    Args:
        pixels: (H, W, 3), at least one pixel.
        size: int, of the square.

    Returns:
        (size, size, 3) float32 in [0, 255]. What is 1 or more pixels wide stays so.
    """
    shape = tf.shape(pixels)[:2]
    scale = size / tf.reduce_max(shape)
    fitted = tf.cast(tf.round(tf.cast(shape, tf.float64) * scale), tf.int32)
    fitted = tf.maximum(fitted, 1)
    scaled = tf.image.resize(pixels, fitted, antialias=True)
    before = (size - fitted) // 2
    margins = tf.stack([before, size - fitted - before], 1)  # of height and width
    squared = tf.pad(scaled, tf.pad(margins, [[0, 1], [0, 0]]), constant_values=GREY)
    return tf.ensure_shape(squared, (size, size, 3))


def decode_batch(contents, size, megapixels=64.0):
    """Pictures -> squares; `letterbox(decode(content))` of each.

    Args:
        contents: (N,) string. size: int. megapixels: number, see `decode`.

    Returns:
        (N, size, size, 3) float32 in [0, 255].

    Raises:
        tf.errors.InvalidArgumentError: as `decode`.
    """
    return tf.map_fn(
        lambda content: letterbox(decode(content, megapixels), size),
        tf.convert_to_tensor(contents, tf.string),
        fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
    )


def _checked(condition, rule, *values):
    """A context in which everything waits for the check: a raise, even in a session."""
    check = tf.debugging.Assert(condition, [rule, *values])
    return tf.control_dependencies([] if check is None else [check])  # None: it ran eagerly


def _choice(condition, one, other):
    return lambda: tf.cond(condition, one, other)


def _number(head, start, count, big=False):
    """The number in `count` bytes of `head` (int64) from `start`; little-endian unless `big`."""
    powers = [256**place for place in range(count)]
    return tf.reduce_sum(head[start : start + count] * (powers[::-1] if big else powers))


def _signed(number):
    return tf.where(number >= 2**31, number - 2**32, number)


def _on_white(pixels):
    """RGBA (H, W, 4) uint8 -> RGB (H, W, 3) uint8, on white."""
    # Of 8 bits the blend and its rounding fit into 16, half of what floats take.
    opacity = tf.cast(pixels[:, :, 3:], tf.uint16)
    blend = tf.cast(pixels[:, :, :3], tf.uint16) * opacity + 255 * (255 - opacity)
    return tf.cast((blend + 127) // 255, tf.uint8)


def _decode_bmp(content, head):
    """BMP of 8 (a palette), 24 or 32 bits -> (H, W, 3) uint8; the opacity of 32 is not used."""
    bits, compression = _number(head, 28, 2), head[30]
    is_read = tf.reduce_any(bits == [8, 24, 32]) & ((compression == 0) | (compression == 3))
    with _checked(
        is_read,
        "a BMP must have 8, 24 or 32 bits and no compression, got bits and compression:",
        *(bits, compression),
    ):
        pixels = tf.io.decode_bmp(content)
    begin = tf.cast(14 + _number(head, 14, 4), tf.int32)
    end = tf.cast(_number(head, 10, 4), tf.int32)

    def painted():
        palette = tf.io.decode_raw(tf.strings.substr(content, begin, end - begin), tf.uint8)
        return tf.gather(tf.reshape(palette, (-1, 4))[:, 2::-1], tf.cast(pixels[:, :, 0], tf.int32))

    return tf.cond(bits == 8, painted, lambda: pixels[:, :, :3])
