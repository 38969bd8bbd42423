"""ImageSource: the bytes of a picture -> pixels. N contents, S' regions."""

import keras
import tensorflow as tf

from kzoo import checks, contents
from kzoo.image import decoding


@keras.saving.register_keras_serializable("kzoo")
class ImageSource(keras.layers.Layer):
    """JPEG, PNG, GIF or BMP bytes -> a square of pixels, in the graph: `image.decode_batch`.

    Args:
        size: int, pixels of a side; the size of the model's backbone.

    Call arguments:
        contents: (N,) string.

    Returns:
        (N, size, size, 3) float32 in [0, 255].

    Raises:
        ValueError: `size` is not positive.

    Example:

    >>> source = kzoo.ImageSource(size=32)
    >>> picture = tf.io.encode_png(tf.zeros((20, 40, 3), tf.uint8))
    >>> pixels, is_empty = source.read([picture], longest=1)
    >>> pixels.shape, is_empty.numpy()
    (TensorShape([1, 32, 32, 3]), array([False]))
    """

    content = contents.PICTURE
    is_static = False  # XLA decodes no pictures
    languages = ()  # of answers among which the content chooses
    can_stream = False

    def __init__(self, size=224, **kwargs):
        super().__init__(autocast=False, **kwargs)
        checks.at_least(1, size=size)
        self.size = size
        self.built = True  # there are no weights

    def call(self, contents):
        return decoding.decode_batch(contents, self.size, self.content.longest)

    def read(self, contents, longest):
        """Decodes pictures; none is empty.

        Args:
            contents: (N,) string.
            longest: number, most megapixels of a picture.

        Returns:
            (N, size, size, 3) float32. is_empty: (N,) bool.

        Raises:
            tf.errors.InvalidArgumentError: one is no picture, broken, or larger.
        """
        pixels = decoding.decode_batch(contents, self.size, float(longest))
        return pixels, tf.zeros([tf.shape(pixels)[0]], tf.bool)

    def step_names(self, source, steps, stride):
        """Where each region is in the square, its row and column: "0,0", "0,1", ...

        Args:
            source: (N, size, size, 3), from `read`.
            steps: int tensor, S', a square number.
            stride: int, taken for the contract; a square says by itself how many rows it has.

        Returns:
            (N, S') string.
        """
        side = tf.cast(tf.round(tf.sqrt(tf.cast(steps, tf.float32))), tf.int32)
        places = tf.range(steps)
        rows, columns = tf.strings.as_string(places // side), tf.strings.as_string(places % side)
        names = tf.strings.join([rows, columns], ",")
        return tf.tile(names[None], [tf.shape(source)[0], 1])

    def facts(self, longest):
        """What a model card says of the input: dict."""
        return {
            "source": f"JPEG, PNG, GIF (the first frame) or BMP pictures of at most {longest:g} "
            f"megapixels, fitted into {self.size} x {self.size} pixels with grey borders; "
            "a JPEG or PNG is turned as its EXIF data say, what is transparent lies on white",
        }

    def get_config(self):
        return {**super().get_config(), "size": self.size}
