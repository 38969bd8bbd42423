"""The bytes of pictures -> pixels, in the graph; the networks that look at them."""

from kzoo.image.augment import ImageAugment
from kzoo.image.decoding import decode, decode_batch, letterbox
from kzoo.image.source import ImageSource

__all__ = ["ImageAugment", "ImageSource", "decode", "decode_batch", "letterbox"]
