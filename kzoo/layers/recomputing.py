"""Activations computed again in the backward pass in place of being kept: memory for time.

Chen et al. (2016), https://arxiv.org/abs/1604.06174. Where L blocks keep the activations of all of
their sublayers, L inputs of blocks are kept, and a step has about a third more to compute.
"""

import tensorflow as tf


def recomputed(layer, call, *inputs):
    """A call of a layer in training that keeps its inputs alone, and computes the rest twice.

    The second time dropout draws what it has drawn the first time: the state of its random numbers
    is put back before.

    Args:
        layer: keras.Layer that is built.
        call: function of the inputs that calls the layer; what else it reads, as masks, has no
            gradients.
        *inputs: float tensors.

    Returns:
        What `call` gives.
    """
    states = [v.value for v in layer.variables if v.path.endswith("seed_generator_state")]
    before = [tf.identity(state) for state in states]

    @tf.recompute_grad
    def call_again(*inputs):
        for state, value in zip(states, before, strict=True):
            state.assign(value)
        return call(*inputs)

    return call_again(*inputs)
