"""Recurrent cells and stacks of them, which encoders, decoder and streams are made of.

Axis letters: B batch, S source steps, D features, U units. The recurrences and their weights are
those of Keras's layers, for x_t and h_(t-1):

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
from kzoo.layers.products import sizes
from kzoo.layers.scan import StepProducts, scan

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


def cell_products(cell, known):
    """What a cell adds up in a step, for `next_states`, or in each step of a `scan`.

    With features of x_t that become known in the loop alone, the first of the products wants them
    before h_(t-1).

    Args:
        cell: cell of `CELLS`, built.
        known: (..., D) float, the features of x_t that are known before the loop: the first ones,
            all or none.

    Returns:
        list of StepProducts: W x_t + R h_(t-1) + b; for "gru" W x_t + b and R h_(t-1) + b'.
    """
    size, kernel, of_state = known.shape[-1], cell.kernel, cell.recurrent_kernel
    rest = [kernel[size:]] if kernel.shape[0] > size else []
    from_known = StepProducts.from_known
    if not isinstance(cell, CELLS["gru"]):
        return [from_known(known, kernel[:size], cell.bias, [*rest, of_state])]
    bias, state_bias = tf.unstack(cell.bias)
    return [
        from_known(known, kernel[:size], bias, rest),
        from_known(known[..., :0], of_state[:0], state_bias, [of_state]),
    ]


def next_states(cell, products, inputs, states):
    """h_t and, for "lstm", c_t; what follows the products is computed in float32 at least.

    Args:
        cell: cell of `CELLS`. products: from `cell_products`, for one step.
        inputs: list of (B, D), the features of x_t that were not known before the loop.
        states: tuple of (B, U): h_(t-1) and, for "lstm", c_(t-1).

    Returns:
        tuple like `states`.
    """
    dtype = states[0].dtype
    precise = keras.backend.result_type(dtype.name, "float32")
    h, *carried = (tf.cast(state, precise) for state in states)
    if isinstance(cell, CELLS["gru"]):
        from_input, from_state = products
        x_z, x_r, x_n = tf.split(tf.cast(from_input(*inputs), precise), 3, -1)
        h_z, h_r, h_n = tf.split(tf.cast(from_state(states[0]), precise), 3, -1)
        z = tf.sigmoid(x_z + h_z)
        n = tf.tanh(x_n + tf.sigmoid(x_r + h_r) * h_n)
        new = [z * h + (1 - z) * n]
    else:
        y = tf.cast(products[0](*inputs, states[0]), precise)
        if isinstance(cell, CELLS["lstm"]):
            i, f, g, o = tf.split(y, 4, -1)
            c = tf.sigmoid(f) * carried[0] + tf.sigmoid(i) * tf.tanh(g)
            new = [tf.sigmoid(o) * tf.tanh(c), c]
        else:
            new = [tf.tanh(y)]
    new = [tf.cast(state, dtype) for state in new]
    for state, before in zip(new, states, strict=True):
        state.set_shape(before.shape)  # a loop wants to know as much of both
    return tuple(new)


def run_rnn(rnn, x, mask, states=None, training=False):
    """Runs a layer of `make_rnn` over all steps: its weights, without its loop.

    Args:
        rnn: layer, built.
        x: (B, S, D), with at least one step. mask: (B, S) bool, or None if all steps are real.
        states: tuple of (B, U), those of the forward direction first, or None for zeros.

    Returns:
        y: (B, S, U), of both directions (B, S, 2U), in the order of x; anything at a masked step.
        states: tuple of (B, U), which a masked step leaves as they are.

    Raises:
        ValueError: if x has other features than the layer was built for.
    """
    is_bidirectional = isinstance(rnn, keras.layers.Bidirectional)
    layers = [rnn.forward_layer, rnn.backward_layer] if is_bidirectional else [rnn]
    features = layers[0].cell.kernel.shape[0]
    if x.shape[-1] not in (None, features):
        raise ValueError(
            f"The layer was built for {features} features in a step, got {x.shape[-1]}."
        )
    x = tf.transpose(tf.cast(x, rnn.compute_dtype), (1, 0, 2))
    x.set_shape((None, None, features))
    mask = None if mask is None else tf.transpose(mask)[:, :, None]
    count = len(tf.nest.flatten(layers[0].cell.state_size))
    if states is None:
        zeros = tf.zeros((sizes(x)[1], layers[0].units), x.dtype)
        states = (zeros,) * count * len(layers)
    states = tuple(tf.cast(state, x.dtype) for state in states)
    ys, final_states = [], ()
    for index, layer in enumerate(layers):
        before = states[index * count : (index + 1) * count]
        y, final = _run_direction(layer, x, mask, before, training)
        ys.append(y)
        final_states += final
    y = tf.concat(ys, -1) if is_bidirectional else ys[0]
    return tf.transpose(y, (1, 0, 2)), final_states


def _run_direction(rnn, x, mask, states, training):
    """`run_rnn` for one direction, x (S, B, D) and a mask (S, B, 1): y is (S, B, U)."""

    def one_step(t, products, states):
        new = next_states(rnn.cell, products, [], states)
        if mask is not None:
            new = tf.nest.map_structure(lambda new, old: tf.where(mask[t], new, old), new, states)
        return [new[0]], new

    products = cell_products(rnn.cell, x)
    (y,), states = scan(one_step, products, states, 1, rnn.go_backwards, training)
    y.set_shape((*x.shape[:2], rnn.units))
    return y, states


def _has_gpu():
    return bool(tf.config.list_logical_devices("GPU"))


def _run_in_keras(rnn, x, mask, states=None, training=False):
    """`run_rnn` by the layer itself, which has cuDNN on GPUs."""
    states = None if states is None else list(states)
    y, *states = rnn(x, initial_state=states, mask=mask, training=training)
    backward = getattr(rnn, "go_backwards", False)
    return tf.reverse(y, [1]) if backward else y, tuple(states)


def _run_by_cudnn(rnn, x, mask, states, training):
    """`run_rnn` by the layer of Keras where cuDNN can, for rows with padding behind at least one
    step; its ops are for GPUs alone, so that what is not training, as an export, is without."""
    if mask is None:
        return _run_in_keras(rnn, x, None, states, training)
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    is_right = mask == tf.sequence_mask(lengths, tf.shape(mask)[1])
    return tf.cond(
        tf.reduce_all(is_right) & tf.reduce_all(lengths > 0),
        lambda: _run_in_keras(rnn, x, mask, states, training),
        lambda: run_rnn(rnn, x, mask, states, training),
    )


def run_stack(rnns, dropout, x, mask, states=None, training=False):
    """x^1 = RNN^1(x), x^l = x^(l-1) + RNN^l(x^(l-1)): a residual stack, each input with dropout.

    Args:
        rnns: list of L layers from `make_rnn`. dropout: Dropout.
        x: (B, S, D) with at least one step. mask: (B, S) bool, or None if all steps are real.
        states: for each layer a tuple of (B, U), or None for zeros.

    Returns:
        x^L: (B, S, U). final_states: like `states`; a masked step keeps what was before it.
    """
    run = _run_by_cudnn if training and _has_gpu() else run_rnn
    final_states = []
    for index, rnn in enumerate(rnns):
        before = None if states is None else states[index]
        y, final = run(rnn, dropout(x, training=training), mask, before, training)
        x = x + y if index else y
        final_states.append(final)
    return x, tuple(final_states)
