"""Layer normalisation whose gradient takes few passes over memory. N rows, D features."""

import functools

import keras
import tensorflow as tf

from kzoo.layers.products import reshape, sizes


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer over the last axis, with a gradient of its own:

        y = gamma n + beta,    n = (x - mean(x)) / sqrt(var(x) + epsilon)

    Ba et al. (2016), https://arxiv.org/abs/1607.06450, in float32 or float64. With u the gradient
    of y, and g = gamma u,

        dx = (g - mean(g) - n mean(g n)) / sqrt(var(x) + epsilon)
        dgamma = sum over rows of u n,    dbeta = sum over rows of u

    which keeps n alone, where differentiating each operation keeps and reads many such arrays.
    Outside of training it is Keras's layer; weights and names are Keras's, too.

    Args:
        epsilon: float.

    Call arguments:
        inputs: (..., D) float.
        training: bool.

    Returns:
        (..., D), in the compute dtype.
    """

    def __init__(self, epsilon=1e-5, **kwargs):
        super().__init__(epsilon=epsilon, **kwargs)

    def call(self, inputs, training=False):
        if not training:
            return super().call(inputs)
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        normalize = _normalization(inputs.shape[-1], inputs.dtype, dtype, self.epsilon)
        rows = tf.reshape(inputs, (-1, inputs.shape[-1]))
        gamma, beta = (tf.cast(weight, dtype) for weight in (self.gamma, self.beta))
        y = reshape(normalize(rows, gamma, beta), sizes(inputs))
        return tf.cast(y, self.compute_dtype)


@functools.cache
def _normalization(features, outer, dtype, epsilon):
    """The function of (N, D) in the dtype `outer`, gamma and beta; it computes in `dtype`.

    Traced once and kept: as with `vocabulary_loss`, TensorFlow keeps every custom gradient and the
    graph around it.
    """

    def normalized_and_gradient(x, gamma, beta):
        x = tf.cast(x, dtype)
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
        n = centred * scale

        def gradient(upstream):
            upstream = tf.cast(upstream, dtype)
            product = upstream * n
            # Sums as matrix products, which read an array faster than reductions do.
            mean, ones = gamma[:, None] / features, tf.ones((1, tf.shape(n)[0]), dtype)
            change = upstream * gamma - tf.matmul(upstream, mean) - n * tf.matmul(product, mean)
            sums = tf.matmul(ones, product)[0], tf.matmul(ones, upstream)[0]
            return tf.cast(change * scale, outer), *sums

        return tf.cast(n * gamma + beta, outer), gradient

    weight = tf.TensorSpec((features,), dtype)
    signature = [tf.TensorSpec((None, features), outer), weight, weight]
    return tf.function(tf.custom_gradient(normalized_and_gradient), signature, autograph=False)
