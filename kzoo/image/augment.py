"""Augmentation of pictures: turned, zoomed, shifted and relit. N pictures."""

import math

import keras
import tensorflow as tf

from kzoo.image.decoding import GREY


@keras.saving.register_keras_serializable("kzoo")
class ImageAugment(keras.layers.Layer):
    """Turns, zooms, shifts, mirrors and relights pictures at random, in training only.

    Each picture gets one affine map about its centre, bilinear, and what comes from outside is
    GREY; then `contrast * (pixel - mean) + mean + 255 brightness`, clipped to [0, 255].

    Args:
        degrees: float, largest angle to either side.
        zoom: float in [0, 1), largest share by which a picture is made larger or smaller.
        shift: float in [0, 1), largest share of the side that it is moved by, each way.
        mirror: bool, whether half of the pictures are mirrored. Not where captions tell left from
            right.
        light: float in [0, 1), largest change of brightness, in shares of 255, and of contrast.
        seed: int or None.

    Call arguments:
        pixels: (B, H, W, 3) float or uint8 in [0, 255]; it computes in float32.

    Returns:
        (B, H, W, 3); `pixels` unless `training`.

    Raises:
        ValueError: `degrees` is negative, or `zoom`, `shift` or `light` is outside [0, 1).

    Example:

    >>> augment = kzoo.ImageAugment(degrees=20, seed=7)
    >>> augment(tf.ones((2, 5, 7, 3)), training=True).shape
    TensorShape([2, 5, 7, 3])
    """

    def __init__(
        self, degrees=5.0, zoom=0.1, shift=0.05, mirror=False, light=0.2, seed=None, **kwargs
    ):
        super().__init__(**{"autocast": False, **kwargs})
        if degrees < 0 or not all(0 <= share < 1 for share in (zoom, shift, light)):
            raise ValueError(
                "`degrees` must not be negative and `zoom`, `shift` and `light` lie in [0, 1), "
                f"got degrees={degrees}, zoom={zoom}, shift={shift}, light={light}."
            )
        self.degrees = degrees
        self.zoom = zoom
        self.shift = shift
        self.mirror = mirror
        self.light = light
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True  # there are no weights

    def call(self, pixels, training=False):
        pixels = tf.convert_to_tensor(pixels)
        if not training:
            return pixels
        rows = tf.shape(pixels)[0]
        size = tf.shape(pixels)[1:3]
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(pixels, tf.float32),
            transforms=self._transforms(rows, tf.cast(size, tf.float32)),
            output_shape=size,
            fill_value=GREY,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )
        moved = tf.ensure_shape(moved, pixels.shape)
        contrast = 1 + self._draw(rows, self.light)[:, None, None, None]
        brightness = self._draw(rows, self.light)[:, None, None, None]
        mean = tf.reduce_mean(moved, (1, 2, 3), keepdims=True)
        lit = tf.clip_by_value(contrast * (moved - mean) + mean + 255 * brightness, 0, 255)
        return tf.cast(lit if pixels.dtype.is_floating else tf.round(lit), pixels.dtype)

    def _draw(self, rows, most):
        """(rows,) float32, uniform in [-most, most]."""
        return keras.random.uniform((rows,), -most, most, "float32", seed=self.seed_generator)

    def _transforms(self, rows, size):
        """(rows, 8) maps of a place in the output to one in the input, as the op has them."""
        angle = self._draw(rows, self.degrees * math.pi / 180)
        scale = 1 / (1 + self._draw(rows, self.zoom))
        sign = tf.ones((rows,))
        if self.mirror:
            sign = tf.where(self._draw(rows, 1.0) < 0, -sign, sign)
        cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
        height, width = (size[0] - 1) / 2, (size[1] - 1) / 2  # the centre
        right = self._draw(rows, self.shift) * size[1] + width
        down = self._draw(rows, self.shift) * size[0] + height
        zero = tf.zeros((rows,))
        return tf.stack(
            [sign * cos, -sign * sin, right - sign * (cos * width - sin * height),
             sin, cos, down - sin * width - cos * height, zero, zero],
            1,
        )  # fmt: skip

    def compute_output_shape(self, pixels_shape):
        return pixels_shape

    def get_config(self):
        return {
            **super().get_config(),
            "degrees": self.degrees,
            "zoom": self.zoom,
            "shift": self.shift,
            "mirror": self.mirror,
            "light": self.light,
            "seed": self.seed,
        }
