"""A gradient reaches every weight."""

import numpy as np
import tensorflow as tf
from layer_calls import call, inputs_of
from layer_table import CASES, every_layer


@every_layer
def test_every_weight_gets_a_gradient(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            outputs = call(layer, values, training=True) if layer.weights else call(layer, values)
            # Fourth powers: the squares of normalised outputs have a constant sum.
            loss = tf.add_n([tf.reduce_sum(x**4) for x in outputs if x.dtype.is_floating])
        return tape.gradient(loss, [variable.value for variable in layer.trainable_variables])

    call(layer, values)
    found = gradients()
    for variable, gradient in zip(layer.trainable_variables, found, strict=True):
        assert gradient is not None, variable.path
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path
