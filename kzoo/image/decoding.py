"""Picture bytes -> pixels, in the graph: decoding, fitting into a square.

JPEG, PNG, GIF (its first frame) and BMP of any size and colours, as a server gets them: nothing is
looked at but the bytes, and each picture becomes a square of its own, so that neighbours in a batch
change nothing.

Axis letters: N pictures, B batch, H height, W width.
"""

import tensorflow as tf

from kzoo.image import bmp, exif, fields, gif, jpeg, png

GREY = 127.0  # of the border beside a picture that is no square
_SHORTEST = 20  # bytes; no picture is shorter
_KINDS = {"png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF8", "bmp": b"BM", "jpeg": b"\xff\xd8\xff"}


def decode(content, megapixels=64.0):
    """One picture -> its pixels.

    CMYK, greyscale and 16 bits become RGB of 8; what is transparent lies on white. Of an animation
    the first frame counts. A JPEG or PNG is turned as its EXIF data say. A file need not have its
    end mark, but everything before it.

    Args:
        content: () string, the bytes of a JPEG, PNG, GIF or BMP file.
        megapixels: number, most millions of pixels, looked up before anything is decoded.

    Returns:
        (H, W, 3) uint8.

    Raises:
        tf.errors.InvalidArgumentError: it is none of these, larger, or broken.
    """
    content = tf.convert_to_tensor(content, tf.string)
    is_long = tf.strings.length(content) >= _SHORTEST
    is_kind = {
        kind: is_long & tf.equal(tf.strings.substr(content, 0, len(magic)), magic)
        for kind, magic in _KINDS.items()
    }
    most = round(megapixels * 1e6)

    def fits(width, height):
        return fields.checked(
            (width * height >= 1) & (width * height <= most),
            f"a picture must have 1 to {most:,} pixels, got width and height:",
            *(width, height),
        )

    # Each check stands in the branch that it guards: a branch does not wait for what is outside.
    def turned_jpeg():
        return exif.upright(jpeg.decode(content, fits), exif.orientation(content))

    def unknown():
        with fields.checked(
            tf.reduce_any(list(is_kind.values())),
            "expected the bytes of a JPEG, PNG, GIF or BMP picture, got bytes:",
            tf.strings.length(content),
        ):
            return tf.zeros((1, 1, 3), tf.uint8)

    pixels = unknown
    for kind, function in (
        ("jpeg", turned_jpeg),
        ("bmp", lambda: bmp.decode(content, fits)),
        ("gif", lambda: gif.decode(content, fits)),
        ("png", lambda: png.decode(content, fits)),
    ):
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


def _choice(condition, one, other):
    return lambda: tf.cond(condition, one, other)
