"""The gradients of a large batch, computed in parts: memory holds the activations of one part.

Axis letters: B rows of a batch.
"""

import tensorflow as tf


def accumulated_gradients(gradients_of, data, parts):
    """The sum of the gradients of parts of a batch, weighted by their tokens, over all tokens.

        g = sum_i tokens_i g_i / sum_i tokens_i

    That is the gradient of the mean over the tokens of the whole batch. The gradients of rows stay
    tf.IndexedSlices, for `LazyAdam`.

    Args:
        gradients_of: function from some rows of `data` to (tokens, a list of gradients of the mean
            over these tokens). It is traced once.
        data: nested tensors of B rows, dense or ragged, or None.
        parts: int, most parts; of fewer rows there are fewer.

    Returns:
        The list of gradients: tensors, tf.IndexedSlices, or None.
    """
    first = next(each for each in tf.nest.flatten(data) if each is not None)
    is_ragged = isinstance(first, tf.RaggedTensor)
    rows = tf.cast(first.nrows(), tf.int32) if is_ragged else tf.shape(first)[0]
    of_part = tf.maximum((rows + parts - 1) // parts, 1)
    count = tf.maximum((rows + of_part - 1) // of_part, 1)

    def part(i):
        begin = i * of_part
        return tf.nest.map_structure(lambda x: x if x is None else x[begin : begin + of_part], data)

    @tf.function(autograph=False)
    def weighted(i):
        tokens, gradients = gradients_of(part(i))
        return tokens, [g if g is None else _scaled(g, tokens) for g in gradients]

    computed = weighted.get_concrete_function(tf.TensorSpec([], tf.int32))
    known = computed.structured_outputs[1]
    sums = [_empty(g, count) for g in known if g is not None]

    def add(i, tokens, sums):
        more, gradients = computed(i)
        gradients = [g for g in gradients if g is not None]
        return i + 1, tokens + more, [_added(s, g, i) for s, g in zip(sums, gradients, strict=True)]

    _, tokens, sums = tf.while_loop(
        lambda i, tokens, sums: i < count, add, (0, 0.0, sums), parallel_iterations=1
    )
    sums, scale = iter(sums), tf.math.divide_no_nan(1.0, tokens)
    return [g if g is None else _scaled(_whole(next(sums), g), scale) for g in known]


def _scaled(gradient, factor):
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(factor, gradient.values.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(factor, gradient.dtype)


def _empty(gradient, count):
    """What the gradients of parts are added to: zeros, or arrays of indices and of values."""
    if isinstance(gradient, tf.IndexedSlices):
        return [
            tf.TensorArray(each.dtype, count, infer_shape=False, element_shape=each.shape)
            for each in (gradient.indices, gradient.values)
        ]
    return tf.zeros(gradient.shape, gradient.dtype)


def _added(total, gradient, i):
    if isinstance(gradient, tf.IndexedSlices):
        indices, values = total
        return [indices.write(i, gradient.indices), values.write(i, gradient.values)]
    return total + gradient


def _whole(total, gradient):
    if isinstance(gradient, tf.IndexedSlices):
        indices, values = (each.concat() for each in total)
        return tf.IndexedSlices(
            values, indices, tf.constant(gradient.shape.as_list(), indices.dtype)
        )
    return total
