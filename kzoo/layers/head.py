"""Token embedding and vocabulary projection: ids -> features -> logits, on one (V, D) weight.

Axis letters: B batch, T target steps, D features, V vocabulary.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking


@keras.saving.register_keras_serializable("kzoo")
class TokenEmbedding(keras.layers.Layer):
    """E[id], the row of each id in a table that VocabularyHead can share.

    Args:
        vocabulary_size: int, V.
        units: int, D.
        scale: bool, whether to multiply by sqrt(D), as Vaswani et al. (2017),
            https://arxiv.org/abs/1706.03762, section 3.4, do where the table is shared.

    Call arguments:
        ids: (B, T) int, dense or ragged.

    Returns:
        (B, T, D), dense; padding ids get a row like all others and are masked later.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(self, vocabulary_size, units, scale=False, **kwargs):
        super().__init__(**kwargs)
        if vocabulary_size < 1 or units < 1:
            raise ValueError(
                f"`vocabulary_size` and `units` must be at least 1, "
                f"got vocabulary_size={vocabulary_size}, units={units}."
            )
        self.vocabulary_size = vocabulary_size
        self.units = units
        self.scale = scale

    def build(self, ids_shape):
        self.embeddings = self.add_weight(
            shape=(self.vocabulary_size, self.units),
            initializer=keras.initializers.RandomNormal(stddev=self.units**-0.5),
            autocast=False,
            name="embeddings",
        )

    def call(self, ids):
        ids, _ = masking.to_dense(ids)
        # Rows are cast after the lookup: casting the table would touch all V rows.
        rows = tf.cast(tf.gather(self.embeddings.value, ids), self.compute_dtype)
        return rows * tf.cast(self.units**0.5, rows.dtype) if self.scale else rows

    def compute_output_shape(self, ids_shape):
        return (*ids_shape, self.units)

    def get_config(self):
        config = {"vocabulary_size": self.vocabulary_size, "units": self.units}
        return {**super().get_config(), **config, "scale": self.scale}


@tf.custom_gradient
def smoothed_cross_entropy(logits, labels, smoothing):
    """Cross-entropy with label smoothing, one pass over the logits and one over their gradient.

        loss = -sum_v q(v) log softmax(z)_v,    q(label) = 1 - smoothing, q(0) = 0,
                                                q(v) = smoothing / (V - 2) for all others

    Szegedy et al. (2016), https://arxiv.org/abs/1512.00567, section 7, with nothing for the
    padding class 0, which never is an answer.

    Args:
        logits: (N, V) float32.
        labels: (N,) int; rows with label 0 are to be masked by the caller.
        smoothing: float in [0, 1), a scalar tensor or number.

    Returns:
        (N,) loss in nats.
    """
    loss, backprop = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
        features=logits, labels=labels
    )
    size = tf.shape(logits)[1]
    other = smoothing / tf.cast(size - 2, logits.dtype)
    # From log-sum-exp(z) - z_y to log-sum-exp(z) - sum_v q(v) z_v, without a one-hot matrix.
    label_logits = tf.gather(logits, labels, batch_dims=1)
    rest = tf.reduce_sum(logits, 1) - label_logits - logits[:, 0]
    loss += smoothing * label_logits - other * rest

    def gradient(upstream):
        # backprop is softmax(z) - onehot(y); d loss / d z = softmax(z) - q.
        spread = backprop - other
        rows = tf.range(tf.shape(labels, tf.int64)[0], dtype=tf.int64)
        labelled = tf.stack([rows, tf.cast(labels, tf.int64)], 1)
        padding = tf.stack([rows, tf.zeros_like(rows)], 1)
        change = tf.fill([2 * tf.size(labels)], other)
        change += tf.concat([tf.fill([tf.size(labels)], smoothing), tf.zeros_like(loss)], 0)
        spread = tf.tensor_scatter_nd_add(spread, tf.concat([labelled, padding], 0), change)
        return spread * upstream[:, None], None, None

    return loss, gradient


@keras.saving.register_keras_serializable("kzoo")
class VocabularyHead(keras.layers.Layer):
    """logits = W h + b, with one row of W for each word of the vocabulary.

    With `tied`, W is the weight of an embedding (Press & Wolf 2017,
    https://arxiv.org/abs/1608.05859).

    Args:
        vocabulary_size: int, V.
        units: int, size D of `hidden`.
        tied: a layer with an `embeddings` weight (V, D) to share, or None for an own weight.
        use_bias: bool, whether b is learned; otherwise it is 0.
        label_smoothing: float in [0, 1), probability mass given to the other words in training.

    Call arguments:
        hidden: (..., D) float.

    Returns:
        logits: (..., V), in the compute dtype.

    Raises:
        ValueError: if a size is not positive, `label_smoothing` is outside [0, 1), or the tied
            weight has another shape.
    """

    def __init__(
        self, vocabulary_size, units, tied=None, use_bias=True, label_smoothing=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        if vocabulary_size < 3 or units < 1:
            raise ValueError(
                f"`vocabulary_size` must be at least 3 and `units` at least 1, "
                f"got vocabulary_size={vocabulary_size}, units={units}."
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"`label_smoothing` must lie in [0, 1), got label_smoothing={label_smoothing}."
            )
        self.vocabulary_size = vocabulary_size
        self.units = units
        self.tied = tied
        self.use_bias = use_bias
        self.label_smoothing = label_smoothing

    def build(self, hidden_shape):
        shape = (self.vocabulary_size, self.units)
        if hidden_shape[-1] != self.units:
            raise ValueError(
                f"`hidden` must have units={self.units} features, got {hidden_shape[-1]}."
            )
        if self.tied is None:
            self.kernel = self.add_weight(shape=shape, name="W")
        else:
            if not self.tied.built:
                self.tied.build((None, None))
            if tuple(self.tied.embeddings.shape) != shape:
                raise ValueError(
                    f"`tied` must have embeddings of shape {shape}, "
                    f"got {tuple(self.tied.embeddings.shape)}."
                )
        if self.use_bias:
            self.bias = self.add_weight(shape=shape[:1], initializer="zeros", name="b")

    @property
    def weight(self):
        """W, (V, D)."""
        return self.kernel if self.tied is None else self.tied.embeddings

    def call(self, hidden):
        rows = tf.reshape(tf.cast(hidden, self.compute_dtype), (-1, self.units))
        logits = tf.matmul(rows, tf.cast(self.weight, rows.dtype), transpose_b=True)
        if self.use_bias:
            logits = tf.nn.bias_add(logits, tf.cast(self.bias, rows.dtype))
        return tf.reshape(logits, tf.concat([tf.shape(hidden)[:-1], [self.vocabulary_size]], 0))

    def loss(self, hidden, labels, training=False):
        """Cross-entropy of each label, in nats, always in float32.

        Args:
            hidden: (N, D) float.
            labels: (N,) int.
            training: bool; labels are smoothed in training only, so that `evaluate` reports the
                true cross-entropy, whose exponential is the perplexity.

        Returns:
            (N,) float32.
        """
        logits = tf.cast(self(hidden), tf.float32)
        if training and self.label_smoothing:
            return smoothed_cross_entropy(logits, labels, self.label_smoothing)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "tied": keras.saving.serialize_keras_object(self.tied),
            "use_bias": self.use_bias,
            "label_smoothing": self.label_smoothing,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["tied"] = keras.saving.deserialize_keras_object(config["tied"])
        return cls(**config)
