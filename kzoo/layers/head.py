"""Token embedding and vocabulary projection: ids -> features -> logits, on one (V, D) weight.

Axis letters: B batch, T target steps, N labels, C candidates, D features, V vocabulary.
"""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking, sharing
from kzoo.layers.candidates import DISTRIBUTIONS, CandidateSampler
from kzoo.layers.vocabulary_loss import (
    LOGITS_AT_ONCE,
    other_words_cross_entropy,
    sampled_cross_entropy,
    vocabulary_cross_entropy,
)


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
            "learned_unigram" (counts the labels); see `layers.candidates.CandidateSampler`.
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
        checks.share(label_smoothing=label_smoothing)
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

    def compute_output_shape(self, hidden_shape):
        return (*hidden_shape[:-1], self.vocabulary_size)

    @property
    def weight(self):
        """W, (V, D)."""
        return self.kernel if self.tied is None else self.tied.embeddings

    def call(self, hidden):
        return self.read_once()(masking.padded(hidden))

    def compute_mask(self, hidden, previous_mask=None):
        return masking.carried_mask(hidden, previous_mask)

    def read_once(self):
        """The head as a function from hidden (..., D) to logits (..., V), for a search.

        W is read here and not at each step: TensorFlow copies all of a variable that `tf.gather`
        looks into, as an embedding does, at every read.
        """
        weight = tf.cast(self.weight, self.compute_dtype)
        bias = tf.cast(self.bias, self.compute_dtype) if self.use_bias else None

        def logits(hidden):
            rows = tf.reshape(tf.cast(hidden, self.compute_dtype), (-1, self.units))
            found = tf.matmul(rows, weight, transpose_b=True)
            if bias is not None:
                found = tf.nn.bias_add(found, bias)
            shape = tf.concat([tf.shape(hidden)[:-1], [self.vocabulary_size]], 0)
            return tf.reshape(found, shape)

        return logits

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
            own_bias = tf.cast(tf.gather(self.bias.value, ids)[:, None, :], dtype)
            own_bias += tf.cast(none, dtype)
        else:
            shared_bias, own_bias = tf.zeros([lists.frequent], dtype), tf.cast(none, dtype)

        def logits(hidden):
            hidden = tf.cast(hidden, dtype)
            frequent = tf.matmul(hidden, shared, transpose_b=True) + shared_bias
            by_sentence = tf.reshape(hidden, [tf.shape(ids)[0], -1, self.units])  # (B, K, D)
            rare = tf.matmul(by_sentence, own, transpose_b=True) + own_bias
            return tf.concat([frequent, tf.reshape(rare, [-1, ids.shape[1]])], 1)

        return logits

    def loss(self, hidden, labels, training=False, label_smoothing=None):
        """Cross-entropy of each label, in nats, always in float32.

        Args:
            hidden: (N, D) float.
            labels: (N,) int.
            training: bool; labels are smoothed in training only, so that `evaluate` reports the
                true cross-entropy, whose exponential is the perplexity.
            label_smoothing: float in the place of the head's own, or None.

        Returns:
            (N,) float32.
        """
        if not training:
            return self._full_loss(hidden, labels)
        smoothing = self.label_smoothing if label_smoothing is None else label_smoothing
        if not self.built:
            self.build(hidden.shape)
        hidden = tf.cast(hidden, self.compute_dtype)
        bias = self.bias.value if self.use_bias else None
        if self.num_sampled:
            return sampled_cross_entropy(
                hidden, self.weight.value, bias, labels, self.candidate_sampler(labels),
                smoothing,
            )  # fmt: skip
        weight = tf.cast(self.weight, hidden.dtype)
        bias = tf.zeros([self.vocabulary_size]) if bias is None else bias
        return vocabulary_cross_entropy(
            hidden, weight, tf.cast(bias, hidden.dtype), labels, smoothing
        )

    def other_words_loss(self, hidden, labels, losses):
        """What label smoothing adds to `losses`; see `other_words_cross_entropy`. (N,) float32."""
        bias = self.bias.value if self.use_bias else tf.zeros([self.vocabulary_size])
        weight = self.weight.value
        return other_words_cross_entropy(hidden, weight, bias, labels, losses)

    def _full_loss(self, hidden, labels):
        """Some rows at a time, as the logits of a whole batch may not fit into memory."""
        rows = max(LOGITS_AT_ONCE // self.vocabulary_size, 1)
        hidden, labels = tf.convert_to_tensor(hidden), tf.cast(labels, tf.int64)

        def losses_of(hidden, labels):
            logits = tf.cast(self(hidden), tf.float32)
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

        count = hidden.shape[0]
        if count is not None:
            starts = range(0, max(count, 1), rows)
            parts = [slice(start, start + rows) for start in starts]
            return tf.concat([losses_of(hidden[part], labels[part]) for part in parts], 0)
        count = tf.shape(hidden)[0]
        size = tf.minimum(rows, count)

        def add(start, losses):
            # The last part goes over some rows twice: XLA compiles no loop whose shapes change.
            some = tf.minimum(start, count - size) + tf.range(size)
            found = losses_of(tf.gather(hidden, some), tf.gather(labels, some))
            return start + rows, tf.tensor_scatter_nd_update(losses, some[:, None], found)

        start, losses = tf.constant(0), tf.zeros([count])
        return tf.while_loop(
            lambda start, _: start < count, add, (start, losses), parallel_iterations=1
        )[1]

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "tied": sharing.serialize(self.tied),
            "use_bias": self.use_bias,
            "label_smoothing": self.label_smoothing,
            "num_sampled": self.num_sampled,
            "sampler": self.sampler,
            "seed": self.seed,
        }

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "tied"))
