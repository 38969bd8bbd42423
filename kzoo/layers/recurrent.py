"""Recurrent cells and stacks of them, which encoders, decoder and streams are made of.

Axis letters: B batch, S source steps, D features, U units. The recurrences themselves are those of
Keras, for x_t and h_(t-1):

    simple: h_t = tanh(W x_t + R h_(t-1) + b), Elman (1990),
        https://doi.org/10.1207/s15516709cog1402_1
    lstm: i, f, o = sigmoid(W x_t + R h_(t-1) + b), g = tanh(W x_t + R h_(t-1) + b), each with
        its own W, R, b; c_t = f * c_(t-1) + i * g, h_t = o * tanh(c_t). Hochreiter & Schmidhuber
        (1997), https://doi.org/10.1162/neco.1997.9.8.1735, with the forget gate f of Gers et al.
        (2000), https://doi.org/10.1162/089976600300015015
    gru: z, r = sigmoid(W x_t + R h_(t-1) + b), n = tanh(W x_t + b + r * (R h_(t-1) + b')),
        h_t = z * h_(t-1) + (1 - z) * n. Cho et al. (2014), https://arxiv.org/abs/1406.1078, with
        the reset gate after the product.
"""

import keras
import tensorflow as tf

from kzoo import checks

_RNNS = {
    "lstm": keras.layers.LSTM,
    "gru": keras.layers.GRU,
    "simple": keras.layers.SimpleRNN,
}
CELLS = {
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
    "simple": keras.layers.SimpleRNNCell,
}


def num_states(cell):
    """Returns how many tensors the state of a cell has: h, and c for "lstm"."""
    return 2 if cell == "lstm" else 1


def check_arguments(units, num_layers, cell, dropout):
    """Raises a ValueError that names what is wrong with the size of a stack."""
    checks.at_least(1, units=units, num_layers=num_layers)
    checks.one_of(tuple(CELLS), cell=cell)
    checks.share(dropout=dropout)


@keras.saving.register_keras_serializable("kzoo")
class Float32Orthogonal(keras.initializers.Orthogonal):
    """Orthogonal matrices for weights of a dtype which TensorFlow cannot factorize in: bfloat16."""

    def __call__(self, shape, dtype=None):
        return tf.cast(super().__call__(shape, "float32"), dtype)


def recurrent_initializers(policy):
    """Keyword arguments of Keras's cells and layers for weights of a dtype policy."""
    if policy.variable_dtype == "bfloat16":
        return {"recurrent_initializer": Float32Orthogonal()}
    return {}


def make_rnn(cell, units, policy, direction="forward"):
    """Returns Keras's layer of a cell, which gives (y, *states)."""
    rnn = _RNNS[cell](
        units,
        return_sequences=True,
        return_state=True,
        go_backwards=direction == "backward",
        dtype=policy,
        **recurrent_initializers(policy),
    )
    if direction == "bidirectional":
        return keras.layers.Bidirectional(rnn, dtype=policy)
    return rnn


def run_stack(rnns, dropout, x, mask, states=None, backward=False, training=False):
    """x^1 = RNN^1(x), x^l = x^(l-1) + RNN^l(x^(l-1)): a residual stack, each input with dropout.

    Args:
        rnns: list of L layers from `make_rnn`. dropout: Dropout.
        x: (B, S, D) with at least one step. mask: (B, S) bool, or None if all steps are real.
        states: for each layer a tuple of (B, U), or None for zeros.
        backward: bool, whether the layers read from the end; x^l stands in source order.

    Returns:
        x^L: (B, S, U). final_states: like `states`; a masked step keeps what was before it.
    """
    final_states = []
    for index, rnn in enumerate(rnns):
        y, *final = rnn(
            dropout(x, training=training),
            initial_state=None if states is None else list(states[index]),
            mask=mask,
            training=training,
        )
        if backward:
            y = tf.reverse(y, [1])
        x = x + y if index else y
        final_states.append(tuple(final))
    return x, tuple(final_states)
