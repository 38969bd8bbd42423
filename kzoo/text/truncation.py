"""Long texts are cut before anything is done with them. Needs TensorFlow alone."""

import tensorflow as tf

_LEAST_BYTES, _BYTES_PER_TOKEN = 1024, 64  # that are read of a text; a token has some five


def beginnings(texts, longest):
    """What is read of texts of which so many tokens are kept: 1,024 bytes, and 64 a token.

    Some of what Unicode asks for takes time by the square of the length, as sorting marks above one
    letter, so that a text is cut before anything is done with it.

    Args:
        texts: (N,) string.
        longest: int, most tokens.

    Returns:
        (N,) string; the last character may be cut in two.
    """
    return tf.strings.substr(texts, 0, _LEAST_BYTES + _BYTES_PER_TOKEN * int(longest))
