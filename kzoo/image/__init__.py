"""The bytes of pictures -> pixels, in the graph; the networks that look at them."""

__all__ = ["ImageAugment", "ImageSource", "decode", "decode_batch", "letterbox"]
