"""Layer normalisation whose gradient takes few passes over memory. N rows, D features."""

import functools

import keras
import tensorflow as tf

from kzoo.layers.products import reshape, sizes


@keras.saving.register_keras_serializable("kzoo")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer with a gradient of its own:

        y = gamma n + beta,    n = (x - mean(x)) / sqrt(var(x) + epsilon)

    Ba et al. (2016), https://arxiv.org/abs/1607.06450, in float32 or float64. With u the gradient
    of y, and g = gamma u,

        dx = (g - mean(g) - n mean(g n)) / sqrt(var(x) + epsilon)
        dgamma = sum over rows of u n,    dbeta = sum over rows of u

    which keeps n and the roots, where differentiating each operation keeps and reads many arrays of
    N times D numbers. Arguments are those of Keras's layer, which this is outside of training, and
    with another axis than the last, or without gamma or beta.

    Call arguments:
        inputs: (..., D) float.
        training: bool.

    Returns:
        (..., D), in the compute dtype.
    """

    def call(self, inputs, training=False):
        is_last = list(self.axis) in ([-1], [len(inputs.shape) - 1])
        if not (training and is_last and self.scale and self.center) or self.rms_scaling:
            return super().call(inputs)
        features = self.gamma.shape[0]
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        normalize = _normalization(features, inputs.dtype, dtype, self.epsilon)
        gamma, beta = (tf.cast(weight, dtype) for weight in (self.gamma, self.beta))
        y = normalize(tf.reshape(inputs, (-1, features)), gamma, beta)
        return tf.cast(reshape(y, sizes(inputs)), self.compute_dtype)


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
            # Sums as matrix products, which on a CPU read an array faster than reductions do.
            mean, ones = gamma[:, None] / features, tf.ones((1, tf.shape(n)[0]), dtype)
            change = upstream * gamma - tf.matmul(upstream, mean) - n * tf.matmul(product, mean)
            sums = tf.matmul(ones, product)[0], tf.matmul(ones, upstream)[0]
            return tf.cast(change * scale, outer), *sums

        return tf.cast(n * gamma + beta, outer), gradient

    weight = tf.TensorSpec((features,), dtype)
    signature = [tf.TensorSpec((None, features), outer), weight, weight]
    return tf.function(tf.custom_gradient(normalized_and_gradient), signature, autograph=False)
