"""The bytes of pictures -> pixels, in the graph; the networks that look at them.

Example:

>>> picture = tf.io.encode_png(tf.zeros((20, 40, 3), tf.uint8))
>>> kzoo.image.decode_batch([picture], size=32).shape
TensorShape([1, 32, 32, 3])
"""

from kzoo.image.augment import ImageAugment
from kzoo.image.decoding import decode, decode_batch, letterbox
from kzoo.image.source import ImageSource

__all__ = ["ImageAugment", "ImageSource", "decode", "decode_batch", "letterbox"]
