"""Token embedding and vocabulary projection: ids -> features -> logits, on one (V, D) weight.

Axis letters: B batch, T target steps, N labels, C candidates, D features, V vocabulary.
"""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

from kzoo.layers import masking
from kzoo.layers.candidates import DISTRIBUTIONS, CandidateSampler

LOGITS_AT_ONCE = 2**25  # of a full softmax over a large vocabulary: 128 MB in float32


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
        (B, T, D), dense. It carries the mask of the ids for Keras, as that of
        keras.layers.Embedding(mask_zero=True) does; padding ids get a row like all others.

    Raises:
        ValueError: if a size is not positive.

    Example:

    >>> embedding = kzoo.TokenEmbedding(vocabulary_size=10, units=4)
    >>> embedding(tf.ragged.constant([[4, 5, 2], [6, 2]])).shape
    TensorShape([2, 3, 4])
    """

    def __init__(self, vocabulary_size, units, scale=False, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
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

    def compute_mask(self, ids, previous_mask=None):
        if isinstance(ids, keras.KerasTensor):
            return previous_mask  # found when the functional model runs
        return masking.to_dense(ids, previous_mask)[1]

    def compute_output_shape(self, ids_shape):
        return (*ids_shape, self.units)

    def get_config(self):
        config = {"vocabulary_size": self.vocabulary_size, "units": self.units}
        return {**super().get_config(), **config, "scale": self.scale}


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
    size = weight.shape[0]
    other = smoothing / max(size - 2, 1)  # q(v) of all v but the label and the padding
    label = 1.0 - smoothing - other  # what the label has more than the others

    @tf.custom_gradient
    def cross_entropy(hidden, weight, bias):
        logits = tf.nn.bias_add(tf.matmul(hidden, weight, transpose_b=True), bias)
        p = tf.nn.softmax(logits)
        # log-sum-exp z = z_y - log p_y, without a pass over z. p_y has the exponent range of
        # float32, so only the reported value saturates, at 87 nats, and never the gradient.
        label_logits, label_p = (
            tf.cast(tf.gather(x, labels, batch_dims=1), tf.float32) for x in (logits, p)
        )
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
            at_label = tf.cast(labels[:, None], tf.int64)
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
            )

        return loss, gradient

    return cross_entropy(hidden, weight, bias)


def sampled_cross_entropy(hidden, weight, bias, labels, candidates, smoothing=0.0):
    """Cross-entropy of the label among a few candidates, which the whole batch has in common.

        loss = log(exp a(y) + sum_{s != y} exp a(s)) - a(y)  +  smooth,    a(v) = z_v - log Q(v)
        smooth = smoothing / (V - 2) sum_{s != 0} (z_y - z_s) / Q(s)

    with z = W h + b, label y, candidates s and Q how often each was to be expected among them:
    Jean et al. (2015), https://arxiv.org/abs/1412.2007, section 3.2, with log Q taken off the label
    too, as in `tf.nn.sampled_softmax_loss`. Then e^z / sum e^z is what minimises it for every Q:
    where the labels come from the model's own distribution, its gradient is 0 on average, as that
    of the full loss is. A candidate that is the label ("accidental hit") counts for nothing in the
    sum. The second term has the expectation of what smoothing adds to the full loss. With all
    classes as candidates and Q = 1 it is `vocabulary_cross_entropy`.

    The gradients of W and b are tf.IndexedSlices of N + C rows; the table is never copied or cast.

    Args:
        hidden: (N, D) float.
        weight: (V, D) float variable or tensor; its rows are cast to the dtype of `hidden`.
        bias: (V,) float variable or tensor, or None for 0.
        labels: (N,) int; rows with label 0 are to be masked by the caller.
        candidates: `candidates.Candidates`.
        smoothing: float in [0, 1).

    Returns:
        (N,) float32, nats.
    """

    def rows(ids):
        return tf.cast(tf.gather(weight, ids), hidden.dtype)

    def biases(ids):
        return tf.zeros(tf.shape(ids)) if bias is None else tf.cast(tf.gather(bias, ids), "float32")

    labels = tf.cast(labels, tf.int64)
    h = tf.cast(hidden, tf.float32)
    label_logits = tf.reduce_sum(h * tf.cast(rows(labels), tf.float32), 1) + biases(labels)
    candidate_rows, candidate_biases = rows(candidates.ids), biases(candidates.ids)
    products = tf.cast(tf.matmul(hidden, candidate_rows, transpose_b=True), tf.float32)  # (N, C)
    adjusted = products + (candidate_biases - tf.math.log(candidates.expected))
    is_hit = candidates.ids == labels[:, None]
    adjusted = tf.where(is_hit, tf.float32.min, adjusted)
    label_adjusted = label_logits - tf.math.log(candidates.label_expected)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.zeros_like(labels), tf.concat([label_adjusted[:, None], adjusted], 1)
    )
    if smoothing:
        share = tf.where(candidates.ids == 0, 0.0, 1 / candidates.expected)
        share *= smoothing / max(weight.shape[0] - 2, 1)  # (C,), the padding gets nothing
        mean_row = tf.linalg.matvec(tf.cast(candidate_rows, tf.float32), share, transpose_a=True)
        others = tf.linalg.matvec(h, mean_row) + tf.reduce_sum(share * candidate_biases)
        losses += label_logits * tf.reduce_sum(share) - others
    return losses


class CandidateLists(NamedTuple):
    """The words that the answers to a batch of sentences may consist of; C = F + R of each.

    Args:
        frequent: int, F: the ids below it are on every list.
        rare: (B, R) int, further ids of each sentence, each at most once; 0 for none.
    """

    frequent: int
    rare: tf.Tensor

    @property
    def ids(self):
        """(B, C), the id of each place on the lists."""
        frequent = tf.broadcast_to(
            tf.range(self.frequent, dtype=self.rare.dtype), [tf.shape(self.rare)[0], self.frequent]
        )
        return tf.concat([frequent, self.rare], 1)


@keras.saving.register_keras_serializable("kzoo")
class VocabularyHead(keras.layers.Layer):
    """logits = W h + b, with one row of W for each word of the vocabulary.

    With `tied`, W is the weight of an embedding (Press & Wolf 2017,
    https://arxiv.org/abs/1608.05859). With `num_sampled`, a training step looks at so many rows of
    W and at those of its labels (`sampled_cross_entropy`), and its cost does not grow with V if the
    optimizer updates rows, as `LazyAdam` does. Evaluation, prediction and export always are about
    all V. XLA cannot compile the sampled loss.

    Args:
        vocabulary_size: int, V.
        units: int, size D of `hidden`.
        tied: TokenEmbedding whose table to share, or None for an own weight.
        use_bias: bool, whether b is learned; otherwise it is 0.
        label_smoothing: float in [0, 1), probability mass given to the other words in training.
        num_sampled: int, classes sampled for a batch; 0 for the full softmax.
        sampler: "log_uniform" (ids sorted by falling frequency, checked), "uniform" or
            "learned_unigram" (counts the labels); see `candidates.CandidateSampler`.
        seed: int of the sampler, or None for a random one.

    Call arguments:
        hidden: (..., D) float.

    Returns:
        logits: (..., V), in the compute dtype.

    Raises:
        ValueError: if a size is not positive, `label_smoothing` is outside [0, 1), the tied weight
            has another shape, `num_sampled` is above V, `sampler` is none of these, or labels are
            to be smoothed with the learned unigram: its expected counts of rare words fall with
            the number of labels seen, and what smoothing divides by them grows without bound.

    Example:

    >>> embedding = kzoo.TokenEmbedding(vocabulary_size=10, units=4)
    >>> head = kzoo.VocabularyHead(10, 4, tied=embedding)
    >>> head(tf.ones((2, 3, 4))).shape
    TensorShape([2, 3, 10])
    """

    def __init__(
        self,
        vocabulary_size,
        units,
        tied=None,
        use_bias=True,
        label_smoothing=0.0,
        num_sampled=0,
        sampler="log_uniform",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        if vocabulary_size < 3 or units < 1:
            raise ValueError(
                f"`vocabulary_size` must be at least 3 and `units` at least 1, "
                f"got vocabulary_size={vocabulary_size}, units={units}."
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"`label_smoothing` must lie in [0, 1), got label_smoothing={label_smoothing}."
            )
        if not 0 <= num_sampled <= vocabulary_size:
            raise ValueError(
                "`num_sampled` must lie between 0 and vocabulary_size, "
                f"got num_sampled={num_sampled}, vocabulary_size={vocabulary_size}."
            )
        if sampler not in DISTRIBUTIONS:
            raise ValueError(f"`sampler` must be one of {DISTRIBUTIONS}, got {sampler!r}.")
        if num_sampled and label_smoothing and sampler == "learned_unigram":
            raise ValueError(
                "`label_smoothing` must be 0 with sampler='learned_unigram', "
                f"got label_smoothing={label_smoothing}."
            )
        self.vocabulary_size = vocabulary_size
        self.units = units
        self.tied = tied
        self.use_bias = use_bias
        self.label_smoothing = label_smoothing
        self.num_sampled = num_sampled
        self.sampler = sampler
        self.seed = seed
        self.candidate_sampler = None
        if num_sampled:
            self.candidate_sampler = CandidateSampler(
                vocabulary_size, num_sampled, sampler, seed, dtype="float32"
            )

    def build(self, hidden_shape):
        shape = (self.vocabulary_size, self.units)
        if hidden_shape[-1] != self.units:
            raise ValueError(
                f"`hidden` must have units={self.units} features, got {hidden_shape[-1]}."
            )
        if self.tied is None:
            # Cast where it is used: a scope that casts variables would cast all V rows.
            self.kernel = self.add_weight(shape=shape, autocast=False, name="W")
        else:
            if not self.tied.built:
                self.tied.build((None, None))
            if tuple(self.tied.embeddings.shape) != shape:
                raise ValueError(
                    f"`tied` must have embeddings of shape {shape}, "
                    f"got {tuple(self.tied.embeddings.shape)}."
                )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=shape[:1], initializer="zeros", autocast=False, name="b"
            )
        if self.num_sampled:
            self.candidate_sampler.build((None,))

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

    def restricted(self, lists):
        """The head for the words on the lists alone, whose rows of W are gathered once.

        Args:
            lists: CandidateLists.

        Returns:
            A function from hidden (N, D), K rows for each sentence, to logits (N, C): -inf where a
            list has no word.
        """
        dtype, ids = self.compute_dtype, lists.rare
        shared = tf.cast(self.weight.value[: lists.frequent], dtype)  # (F, D)
        own = tf.cast(tf.gather(self.weight.value, ids), dtype)  # (B, R, D)
        none = tf.where(ids == 0, -math.inf, 0.0)[:, None, :]
        if self.use_bias:
            shared_bias = tf.cast(self.bias.value[: lists.frequent], dtype)
            own_bias = tf.cast(tf.gather(self.bias.value, ids)[:, None, :] + none, dtype)
        else:
            shared_bias, own_bias = tf.zeros([lists.frequent], dtype), tf.cast(none, dtype)

        def logits(hidden):
            hidden = tf.cast(hidden, dtype)
            frequent = tf.matmul(hidden, shared, transpose_b=True) + shared_bias
            by_sentence = tf.reshape(hidden, [tf.shape(ids)[0], -1, self.units])  # (B, K, D)
            rare = tf.matmul(by_sentence, own, transpose_b=True) + own_bias
            return tf.concat([frequent, tf.reshape(rare, [-1, ids.shape[1]])], 1)

        return logits

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
        if not training:
            return self._full_loss(hidden, labels)
        if not self.built:
            self.build(hidden.shape)
        hidden = tf.cast(hidden, self.compute_dtype)
        bias = self.bias.value if self.use_bias else None
        if self.num_sampled:
            return sampled_cross_entropy(
                hidden, self.weight.value, bias, labels, self.candidate_sampler(labels),
                self.label_smoothing,
            )  # fmt: skip
        weight = tf.cast(self.weight, hidden.dtype)
        bias = tf.zeros([self.vocabulary_size]) if bias is None else bias
        return vocabulary_cross_entropy(
            hidden, weight, tf.cast(bias, hidden.dtype), labels, self.label_smoothing
        )

    def _full_loss(self, hidden, labels):
        """Some rows at a time, as the logits of a whole batch may not fit into memory."""
        rows = max(LOGITS_AT_ONCE // self.vocabulary_size, 1)

        def losses_from(start):
            logits = tf.cast(self(hidden[start : start + rows]), tf.float32)
            part = labels[start : start + rows]
            return tf.nn.sparse_softmax_cross_entropy_with_logits(part, logits)

        count = hidden.shape[0]
        if count is not None:
            return tf.concat([losses_from(start) for start in range(0, max(count, 1), rows)], 0)
        return tf.while_loop(
            lambda start, losses: start < tf.shape(hidden)[0],
            lambda start, losses: (start + rows, tf.concat([losses, losses_from(start)], 0)),
            (0, tf.zeros([0])),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
            parallel_iterations=1,
        )[1]

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "tied": keras.saving.serialize_keras_object(self.tied),
            "use_bias": self.use_bias,
            "label_smoothing": self.label_smoothing,
            "num_sampled": self.num_sampled,
            "sampler": self.sampler,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["tied"] = keras.saving.deserialize_keras_object(config["tied"])
        return cls(**config)
