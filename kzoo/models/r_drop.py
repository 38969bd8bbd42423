"""R-Drop: a model in training is to say the same whatever its dropout leaves out.

Liang et al. (2021), https://arxiv.org/abs/2106.14448, algorithm 1. Pure functions; `Seq2Seq` has
the equation. Axis letters: B batch, T target steps, V vocabulary.
"""

import tensorflow as tf


def two_passes(call, inputs):
    """What a model makes of the same inputs with two dropouts, in one pass of 2 B rows.

    Args:
        call: function, dict of inputs of 2 B rows -> dict of outputs of 2 B rows.
        inputs: dict of tensors of B rows, dense or ragged, or None.

    Returns:
        dict of outputs of B rows, and as "second" a dict of those of the second pass.
    """

    def twice(x):
        return x if x is None else tf.concat([x, x], 0)

    outputs = call({name: twice(x) for name, x in inputs.items()})
    rows = {name: tf.shape(x)[0] // 2 for name, x in outputs.items()}
    first = {name: x[: rows[name]] for name, x in outputs.items()}
    return first | {"second": {name: x[rows[name] :] for name, x in outputs.items()}}


def one_batch(labels, count, outputs):
    """Labels and outputs of both passes as one batch of 2 B rows.

    Args:
        labels: (B, T) int. count: (B, T) float32.
        outputs: dict as `two_passes` returns it.

    Returns:
        labels, count, outputs.
    """
    second = outputs["second"]
    outputs = {name: tf.concat([outputs[name], second[name]], 0) for name in second}
    return tf.concat([labels, labels], 0), tf.concat([count, count], 0), outputs


def divergence(outputs, count):
    """(KL(P1 || P2) + KL(P2 || P1)) / 2 of the words that two passes say, equation 2 of the paper.

    Gradients go to both.

    Args:
        outputs: dict as `two_passes` returns it.
        count: (B, T) float32, weight of each token, 0 for padding.

    Returns:
        (B, T) float32, nats; 0 for padding.
    """
    both = []
    for each in (outputs, outputs["second"]):
        # Before the softmax: what padding says may be anything, and has no gradient.
        logits = tf.where(count[:, :, None] > 0, tf.cast(each["logits"], tf.float32), 0.0)
        both.append(tf.nn.log_softmax(logits))
    first, second = both
    return tf.reduce_sum((tf.exp(first) - tf.exp(second)) * (first - second), -1) / 2
