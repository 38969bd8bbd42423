"""Numbers in the bytes of a file, and checks that what follows waits for, in the graph."""

import tensorflow as tf


def checked(condition, rule, *values):
    """A context in which everything waits for the check: a raise, even in a session.

    Args:
        condition: () bool. rule: str. values: tensors that the message ends with.

    Raises:
        tf.errors.InvalidArgumentError: where the context is entered or what is in it computed.
    """
    check = tf.debugging.Assert(condition, [rule, *values])
    return tf.control_dependencies([] if check is None else [check])  # None: it ran eagerly


def octets(content, start=0, count=-1):
    """The bytes of a string from `start`, as many as there are: (n,) int64, zeros up to `count`."""
    part = tf.strings.substr(content, start, count)
    if count > 0:
        part = tf.strings.substr(tf.strings.join([part, bytes(count)]), 0, count)
    return tf.cast(tf.io.decode_raw(part, tf.uint8), tf.int64)


def number(head, start, count, big=False):
    """The number in `count` bytes of `head` (int64) from `start`; little-endian unless `big`."""
    powers = [256**place for place in range(count)]
    return tf.reduce_sum(head[start : start + count] * (powers[::-1] if big else powers))


def signed(number):
    """A number of 4 bytes as one from -2^31 on."""
    return tf.where(number >= 2**31, number - 2**32, number)


def on_white(pixels):
    """RGBA (H, W, 4) uint8 -> RGB (H, W, 3) uint8, on white."""
    # Of 8 bits the blend and its rounding fit into 16, half of what floats take.
    opacity = tf.cast(pixels[:, :, 3:], tf.uint16)
    blend = tf.cast(pixels[:, :, :3], tf.uint16) * opacity + 255 * (255 - opacity)
    return tf.cast((blend + 127) // 255, tf.uint8)
