"""Sizes, reshape and matrix products that TensorFlow fuses: for layers whose steps are small.

Axis letters: B batch, T target steps, S source steps, D features, U units.
"""

import tensorflow as tf


def sizes(x):
    """The shape of x as a list: ints where a graph knows them, scalar tensors elsewhere."""
    if x.shape.is_fully_defined():
        return list(x.shape)
    dynamic = tf.unstack(tf.shape(x))  # one op for all axes; a slice of each takes four
    return [d if size is None else size for d, size in zip(dynamic, x.shape, strict=True)]


def reshape(x, shape):
    """`tf.reshape` to a list like that of `sizes`, without ops that compute one unknown size.

    A step of decoding is so small that such ops took a good part of its time.
    """
    shape = list(shape)
    unknown = [axis for axis, size in enumerate(shape) if tf.is_tensor(size)]
    if len(unknown) == 1 and 0 not in [size for size in shape if not tf.is_tensor(size)]:
        shape[unknown[0]] = -1
    return tf.reshape(x, shape)


def product(x, kernel, bias=None):
    """x W + b as one (B T, D) product: TensorFlow fuses the bias only into a 2-D MatMul.

    The weights are cast here, since `project` may be called outside Keras's autocast scope.
    """
    x = tf.convert_to_tensor(x)
    return reshape(product_rows(x, kernel, bias), [*sizes(x)[:-1], kernel.shape[1]])


def product_rows(x, kernel, bias=None):
    """x W + b for every step: (B, T, D) -> (B T, U)."""
    y = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), tf.cast(kernel, x.dtype))
    return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, x.dtype))


def inner_products(compared, v):
    """v . x for every x of `compared`: (..., U) -> (...).

    It is one 2-D product. matvec would broadcast v over the batch, where oneDNN in TensorFlow 2.21
    writes beyond its memory: wrong numbers or a segmentation fault, by shape. XLA cannot compile
    the gradient of tensordot in a loop.
    """
    rows = tf.matmul(tf.reshape(compared, (-1, v.shape[0])), v[:, None])
    return reshape(rows, sizes(compared)[:-1])
