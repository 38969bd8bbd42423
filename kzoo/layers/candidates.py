"""Candidate sampling: the few classes that a sampled softmax looks at.

Axis letters: N labels of a batch, C candidates, V vocabulary.
"""

import math
import random
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kzoo.layers import replicas

DISTRIBUTIONS = ("log_uniform", "uniform", "learned_unigram")
SPECIAL_IDS = 4  # padding, start, end, unknown: not sorted with the words
ORDER_LABELS = 10_000  # words seen before the order of the ids is judged


class Candidates(NamedTuple):
    """Classes that were drawn, and how often each class was to be expected among them."""

    ids: tf.Tensor  # (C,) int64, distinct
    expected: tf.Tensor  # (C,) float32, in (0, 1]
    label_expected: tf.Tensor  # (N,) float32, of the labels, drawn or not


def log_uniform_probability(ids, vocabulary_size):
    """p(v) = log((v + 2) / (v + 1)) / log(V + 1): Zipf's law for ids by falling frequency.

    Args:
        ids: int tensor or array.
        vocabulary_size: int, V.

    Returns:
        float64 tensor of the same shape.
    """
    return tf.math.log1p(1 / (tf.cast(ids, tf.float64) + 1)) / math.log(vocabulary_size + 1)


def draws_for(probability, num_sampled):
    """The fewest draws, on average, that give so many distinct classes on average.

        T = min { t : sum_v 1 - exp(-t p(v)) >= num_sampled }

    Args:
        probability: (V,) float array, its sum 1.
        num_sampled: int, less than V.

    Returns:
        int, T.
    """
    probability = np.asarray(probability, np.float64)

    def distinct(draws):
        return -np.expm1(-draws * probability).sum()

    low, high = 0, num_sampled
    while distinct(high) < num_sampled:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if distinct(middle) < num_sampled else (low, middle)
    return high


@keras.saving.register_keras_serializable("kzoo")
class CandidateSampler(keras.layers.Layer):
    """Distinct classes drawn at random for one batch, with their expected counts.

        Q(v) = 1 - exp(-T p(v))        Poisson(T) draws from p; a class drawn twice counts once
        log_uniform:      p(v) = log((v + 2) / (v + 1)) / log(V + 1)
        uniform:          p(v) = 1 / V
        learned_unigram:  p(v) = (1 + count(v)) / (V + sum_u count(u)), counts of earlier labels

    A Poisson number of draws makes each class a candidate with probability Q(v), whichever others
    are: the sum over the candidates of f(v) / Q(v) has the expectation sum_v f(v) for every f. T is
    such that `num_sampled` distinct classes come out on average; the learned unigram corrects it
    after each draw, and is the only one to pass over V numbers, its counts. (The samplers of
    TensorFlow draw until there are `num_sampled`, so that Q is approximate, and when training is
    resumed their random state and counts are lost. Here both are saved with the weights.)

    The log-uniform distribution is right for ids that are sorted by falling frequency, and is
    refused for others: once 10,000 labels have been seen, it must explain them better than
    the uniform one, or the batch ends with an error. The special ids 0 to 3 do not count in this.
    An order near that of frequency passes too, as that of first appearance.

    Under a distribution strategy every replica draws the same classes, and the labels of all count.

    Args:
        vocabulary_size: int, V.
        num_sampled: int, distinct classes on average; V takes all of them, each with Q = 1.
        distribution: "log_uniform", "uniform" or "learned_unigram".
        seed: int, or None for one drawn by Python's `random`, as Keras does it.

    Call arguments:
        labels: (N,) int; 0 is padding and counts for nothing.

    Returns:
        `Candidates`: ids (C,), expected (C,), label_expected (N,).

    Raises:
        ValueError: `num_sampled` or `distribution` is none of these.
        tf.errors.InvalidArgumentError: in a call, the labels say that ids are not sorted.
    """

    def __init__(
        self, vocabulary_size, num_sampled, distribution="log_uniform", seed=None, **kwargs
    ):
        super().__init__(**kwargs)
        if not 1 <= num_sampled <= vocabulary_size:
            raise ValueError(
                "`num_sampled` must lie between 1 and vocabulary_size, "
                f"got num_sampled={num_sampled}, vocabulary_size={vocabulary_size}."
            )
        if distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"`distribution` must be one of {DISTRIBUTIONS}, got {distribution!r}."
            )
        self.vocabulary_size = vocabulary_size
        self.num_sampled = num_sampled
        self.distribution = distribution
        self.seed = seed

    def build(self, labels_shape):
        size = self.vocabulary_size
        if self.num_sampled == size:
            return
        # A weight and no keras.random.SeedGenerator, whose state Keras does not save.
        seed = random.randint(1, 10**9) if self.seed is None else self.seed
        first = keras.initializers.Constant([seed, 0])
        self.seed_and_calls = self._add_state("seed_and_calls", (2,), first, "int64")
        probability = np.full([size], 1 / size)
        if self.distribution == "log_uniform":
            with tf.init_scope():  # also when built while a graph is traced
                probability = log_uniform_probability(np.arange(size), size).numpy()
            self.order = self._add_state("order", (2,), "zeros", "float32")  # labels, excess
        self.draws = draws_for(probability, self.num_sampled)
        if self.distribution == "learned_unigram":
            self.counts = self._add_state("counts", (size,), "ones", "int32")
            first = keras.initializers.Constant(self.draws)
            self.learned_draws = self._add_state("draws", (), first, "float32")

    def _add_state(self, name, shape, initializer, dtype):
        return self.add_weight(
            shape=shape, initializer=initializer, dtype=dtype, trainable=False, autocast=False,
            aggregation="only_first_replica", name=name,
        )  # fmt: skip

    def call(self, labels):
        size = self.vocabulary_size
        labels = tf.cast(labels, tf.int64)
        if self.num_sampled == size:
            ones = tf.ones([size])
            return Candidates(tf.range(size, dtype=tf.int64), ones, tf.gather(ones, labels))
        is_learned = self.distribution == "learned_unigram"
        draws = tf.convert_to_tensor(self.learned_draws.value if is_learned else float(self.draws))
        seed, calls = tf.unstack(self.seed_and_calls.value)
        self.seed_and_calls.assign_add([0, 1])
        count_seed, seed = ([seed, 2 * calls + i] for i in range(2))
        count = tf.random.stateless_poisson((), count_seed, tf.cast(draws, tf.float64), tf.int32)
        # In float64: a float32 has too few values for the many rare classes.
        u = tf.random.stateless_uniform((count,), seed, dtype=tf.float64)
        if self.distribution == "log_uniform":
            drawn = tf.exp(u * math.log(size + 1)) - 1
        elif self.distribution == "uniform":
            drawn = u * size
        else:
            ends = tf.cumsum(tf.cast(self.counts.value, tf.float64))
            drawn = tf.searchsorted(ends, u * ends[-1], side="right")
        ids = tf.unique(tf.minimum(tf.cast(drawn, tf.int64), size - 1)).y
        result = Candidates(ids, self._expected(ids, draws), self._expected(labels, draws))
        if self.distribution == "log_uniform":
            self._check_order(labels)
        elif is_learned:
            self._learn(labels, draws, tf.size(ids))
        return result

    def _expected(self, ids, draws):
        """Q of the ids, float32."""
        size = self.vocabulary_size
        if self.distribution == "log_uniform":
            probability = log_uniform_probability(ids, size)
        elif self.distribution == "uniform":
            probability = tf.fill(tf.shape(ids), tf.constant(1 / size, tf.float64))
        else:
            counts = self.counts.value
            total = tf.reduce_sum(tf.cast(counts, tf.float64))
            probability = tf.cast(tf.gather(counts, ids), tf.float64) / total
        expected = -tf.math.expm1(-tf.cast(draws, tf.float64) * probability)
        return tf.cast(expected, tf.float32)

    def _check_order(self, labels):
        """Adds up what the log-uniform costs more nats than the uniform; it must be below 0."""
        size = self.vocabulary_size
        if size <= SPECIAL_IDS:  # no words
            return
        is_word = tf.cast(labels >= SPECIAL_IDS, tf.float64)
        # Of both distributions among words: the special ids have half of a small vocabulary's mass.
        words = math.log1p(-math.log(SPECIAL_IDS + 1) / math.log(size + 1))
        excess = words - tf.math.log(log_uniform_probability(labels, size))
        excess -= math.log(size - SPECIAL_IDS)
        seen = tf.stack([tf.reduce_sum(is_word), tf.reduce_sum(is_word * excess)])
        self.order.assign_add(replicas.total(tf.cast(seen, tf.float32)))
        count, total = tf.unstack(self.order.value)
        tf.debugging.Assert(
            (count < ORDER_LABELS) | (total < 0),
            [
                "The log-uniform sampler needs ids sorted by falling frequency, but to these "
                "labels even equal probabilities are closer. Sort the vocabulary, as the `learn` "
                "of kzoo's tokenizers does, or give the VocabularyHead sampler='learned_unigram' "
                "or 'uniform'. "
                "Labels seen, mean excess in nats:",
                count,
                total / count,
            ],
        )

    def _learn(self, labels, draws, distinct):
        real = tf.cast(tf.boolean_mask(labels, labels != 0), tf.int32)
        size = self.vocabulary_size
        found = tf.math.bincount(real, minlength=size, maxlength=size)
        self.counts.assign_add(replicas.total(found))
        draws *= self.num_sampled / tf.cast(tf.maximum(distinct, 1), tf.float32)
        most = float(max(8 * self.vocabulary_size, self.draws))
        self.learned_draws.assign(tf.clip_by_value(draws, self.num_sampled, most))

    def load_own_variables(self, store):
        # Weights of a full softmax have no state of a sampler: it begins anew.
        if len(store.keys()):
            super().load_own_variables(store)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "num_sampled": self.num_sampled,
            "distribution": self.distribution,
            "seed": self.seed,
        }
