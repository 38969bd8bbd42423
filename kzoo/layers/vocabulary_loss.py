"""The cross-entropy over a vocabulary, full and sampled: pure functions.

Axis letters: N rows, D features, V vocabulary, C sampled classes.
"""

import functools

import tensorflow as tf

LOGITS_AT_ONCE = 2**25  # of a full softmax over a large vocabulary: 128 MB in float32


def vocabulary_cross_entropy(hidden, weight, bias, labels, smoothing=0.0):
    """Cross-entropy of softmax(W h + b) with label smoothing, touching (N, V) as little as can be.

        loss = -sum_v q(v) log softmax(z)_v,  z = W h + b,  q(label) = 1 - smoothing,  q(0) = 0,
                                              q(v) = smoothing / (V - 2) for all other v

    Szegedy et al. (2016), https://arxiv.org/abs/1512.00567, section 7, with nothing for the
    padding class 0, which never is an answer. The only arrays of N times V numbers are z and its
    softmax p, in the dtype of `hidden`. The gradient is d loss / d z = p - q; what q adds to the
    gradients of h, W and b is computed from the few rows it is about.

    Args:
        hidden: (N, D) float.
        weight: (V, D) of the same dtype.
        bias: (V,) of the same dtype.
        labels: (N,) int; rows with label 0 are to be masked by the caller.
        smoothing: float in [0, 1).

    Returns:
        (N,) float32, nats.
    """
    size, features = weight.shape
    cross_entropy = _cross_entropy(size, features, hidden.dtype, float(smoothing))
    losses = cross_entropy(hidden, weight, bias, tf.cast(labels, tf.int64))
    return tf.ensure_shape(losses, hidden.shape[:1])


@functools.cache
def _cross_entropy(size, features, dtype, smoothing):
    """`vocabulary_cross_entropy` for weights (V, D), a function that is traced once and kept.

    TensorFlow keeps every custom gradient for ever, and the graph around it. That graph is the loss
    alone here; without a function of its own it would be the whole training step of each model.
    """
    other = smoothing / max(size - 2, 1)  # q(v) of all v but the label and the padding
    label = 1.0 - smoothing - other  # what the label has more than the others

    def losses_and_gradient(hidden, weight, bias, labels):
        logits = tf.nn.bias_add(tf.matmul(hidden, weight, transpose_b=True), bias)
        p = tf.nn.softmax(logits)
        label_logits, label_p = (
            tf.cast(tf.gather(x, labels, batch_dims=1), tf.float32) for x in (logits, p)
        )
        if logits.dtype == tf.float16:  # in which p_y is 0 from 17 nats on
            log_normalizer = tf.reduce_logsumexp(tf.cast(logits, tf.float32), axis=1)
        else:
            # log-sum-exp z = z_y - log p_y, without a pass over z. p_y has the exponent range of
            # float32, so only the reported value saturates, at 87 nats, and never the gradient.
            log_normalizer = label_logits - tf.math.log(tf.maximum(label_p, 1.2e-38))
        h, label_rows, total_row, padding_row = (
            tf.cast(x, tf.float32)
            for x in (hidden, tf.gather(weight, labels), tf.reduce_sum(weight, 0), weight[0])
        )
        loss = log_normalizer - label * label_logits
        if smoothing:
            other_logits = tf.linalg.matvec(h, total_row - padding_row)
            other_logits += tf.reduce_sum(tf.cast(bias[1:], tf.float32))
            loss -= other * other_logits

        def gradient(upstream):
            scale = tf.cast(upstream[:, None], hidden.dtype)
            expected = tf.cast(tf.matmul(p, weight), tf.float32)  # sum_v p(v) W_v
            wanted = label * label_rows + other * (total_row - padding_row)  # sum_v q(v) W_v
            hidden_gradient = upstream[:, None] * (expected - wanted)
            scaled = hidden * scale
            weight_gradient = tf.cast(tf.matmul(p, scaled, transpose_a=True), tf.float32)
            bias_gradient = tf.cast(tf.matmul(p, scale, transpose_a=True)[:, 0], tf.float32)
            at_label = labels[:, None]
            change = tf.cast(scaled, tf.float32)
            weight_gradient = tf.tensor_scatter_nd_sub(weight_gradient, at_label, label * change)
            bias_gradient = tf.tensor_scatter_nd_sub(bias_gradient, at_label, label * upstream)
            if smoothing:
                rest = tf.cast(tf.range(size) > 0, tf.float32) * other
                weight_gradient -= rest[:, None] * tf.reduce_sum(change, 0)
                bias_gradient -= rest * tf.reduce_sum(upstream)
            return (
                tf.cast(hidden_gradient, hidden.dtype),
                tf.cast(weight_gradient, weight.dtype),
                tf.cast(bias_gradient, bias.dtype),
                None,
            )

        return loss, gradient

    shapes = ((None, features), dtype), ((size, features), dtype), ((size,), dtype)
    signature = [tf.TensorSpec(*spec) for spec in (*shapes, ((None,), tf.int64))]
    return tf.function(tf.custom_gradient(losses_and_gradient), signature, autograph=False)


def other_words_cross_entropy(hidden, weight, bias, labels, losses):
    """What label smoothing adds: the mean of -log softmax(W h + b)_v over all v but label and 0.

    With log Z = -log p(label) + z_label it is linear in what is known, and takes no (N, V).

    Args:
        hidden: (N, D) float. weight: (V, D), V above 2. bias: (V,). labels: (N,) int, not 0.
        losses: (N,) float32, -log p(label).

    Returns:
        (N,) float32, nats.
    """
    hidden, weight, bias = (tf.cast(x, tf.float32) for x in (hidden, weight, bias))
    label_logits = tf.reduce_sum(hidden * tf.gather(weight, labels), 1) + tf.gather(bias, labels)
    total = tf.linalg.matvec(hidden, tf.reduce_sum(weight[1:], 0)) + tf.reduce_sum(bias[1:])
    return losses + label_logits - (total - label_logits) / (weight.shape[0] - 2)


def sampled_cross_entropy(hidden, weight, bias, labels, candidates, smoothing=0.0):
    """`tf.nn.sampled_softmax_loss` over candidates that the whole batch shares, with smoothing.

        loss = log(exp a(y) + sum_{s != y} exp a(s)) - a(y)  +  smooth,    a(v) = z_v - log Q(v)
        smooth = smoothing / (V - 2) sum_{s != 0} (z_y - z_s) / Q(s)

    with z = W h + b, label y, candidates s and Q how often each was to be expected among them:
    Jean et al. (2015), https://arxiv.org/abs/1412.2007, section 3.2, with log Q taken off the label
    too. Then e^z / sum e^z is what minimises the loss for every Q: where the labels come from the
    model's own distribution, its gradient is 0 on average, as that of the full loss is. A candidate
    that is the label ("accidental hit") counts for nothing in the sum. The second term has the
    expectation of what smoothing adds to the full loss. With all classes as candidates and Q = 1
    the loss is `vocabulary_cross_entropy`.

    The gradients of W and b are tf.IndexedSlices of the rows in use; the table is never copied or
    cast. All is computed in float32: in bfloat16, TensorFlow's loss of a row with an accidental hit
    is NaN.

    Args:
        hidden: (N, D) float.
        weight: (V, D) float variable or tensor; its rows are cast to float32.
        bias: (V,) float variable or tensor, or None for 0.
        labels: (N,) int; rows with label 0 are to be masked by the caller.
        candidates: `candidates.Candidates`.
        smoothing: float in [0, 1).

    Returns:
        (N,) float32, nats.
    """
    hidden, labels = tf.cast(hidden, tf.float32), tf.cast(labels, tf.int64)
    size = weight.shape[0]
    bias = tf.zeros([size]) if bias is None else bias
    losses = tf.nn.sampled_softmax_loss(
        weights=weight,
        biases=bias,
        labels=labels[:, None],
        inputs=hidden,
        num_sampled=tf.size(candidates.ids),
        num_classes=size,
        sampled_values=(
            candidates.ids, candidates.label_expected[:, None], candidates.expected,
        ),
    )  # fmt: skip
    if smoothing:
        share = tf.where(candidates.ids == 0, 0.0, 1 / candidates.expected)
        share *= smoothing / max(size - 2, 1)  # (C,), the padding gets nothing
        losses += _smoothing_term(hidden, weight, bias, labels, candidates.ids, share)
    return losses


def _smoothing_term(hidden, weight, bias, labels, ids, share):
    """sum_s share(s) (z_y - z_s) for each label y: (N,)."""

    def rows(table, ids):
        return tf.cast(tf.gather(table, ids), tf.float32)

    total = tf.reduce_sum(share)
    mean_row = tf.linalg.matvec(rows(weight, ids), share, transpose_a=True)  # (D,)
    wanted = total * rows(weight, labels) - mean_row  # (N, D)
    wanted_bias = total * rows(bias, labels) - tf.reduce_sum(share * rows(bias, ids))
    return tf.reduce_sum(hidden * wanted, 1) + wanted_bias
