"""Scheduled sampling: in training, a decoder reads some of its own answers in place of labels.

Axis letters: B batch, T target steps, S source steps, D features, V vocabulary.
"""

import math
import random

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking

DECAYS = ("linear", "exponential", "inverse_sigmoid")
DRAWS = ("greedy", "sample")
LEFT = 0.01  # what is left of the share of labels after `steps`, where the decay has no end


@keras.saving.register_keras_serializable("kzoo")
class ScheduledSampling(keras.layers.Layer):
    """How often a decoder in training reads what the model says instead of the label, and when.

    Teacher forcing has the decoder read right words alone, of which a search has none to give. With
    scheduled sampling each token that it reads is its own with a probability that grows:

        p(own)_i = rate (1 - epsilon_i)        of optimizer step i; 0 is teacher forcing

    epsilon_i falls from 1, which is teacher forcing, towards 0:

        linear:           epsilon_i = max(0, 1 - i / steps)
        exponential:      epsilon_i = k^i
        inverse_sigmoid:  epsilon_i = k / (k + exp(i / k))

    Bengio et al. (2015), https://arxiv.org/abs/1506.03099, section 2.4, whose epsilon_i is the
    probability of the LABEL. With rate=1 it is that here, too. k is such that epsilon_i is 0.01 at
    i = steps. The labels in the loss stay what they are. `evaluate` and `predict` are teacher
    forcing, and do not count as steps; `fit` and `train_on_batch` count.

    What the model says comes from the decoder, which has a method `mixed_ids` for it. An
    AttentionDecoder runs free, so that an own answer comes of the own answers before it. A
    TransformerDecoder reads the labels in a first pass, and the mixture in a second one
    (Mihaylova & Martins 2019, https://arxiv.org/abs/1906.07651); see `layers.own_inputs`. Either
    costs one more forward pass of the decoder, without dropout and without a gradient, and the
    logits of all V words for each token, with a sampled softmax too: the most likely of some
    sampled classes would be the label far too often. The start is always kept, and so is padding.
    What is never read inside a text is no answer: padding, the start and the end.

    Args:
        rate: float in [0, 1], the probability of an own answer in the end.
        decay: "linear", "exponential" or "inverse_sigmoid".
        steps: int, optimizer steps until then, see above; 0 for `rate` from the first step on. At
            least 5 with "inverse_sigmoid", as k must be 1 or more.
        draw: "greedy", the most likely word, or "sample", one drawn from the softmax.
        seed: int, or None for one drawn by Python's `random`, as Keras does it. The same seed makes
            the same choices; it is saved with the weights, as the number of steps is, so that a
            resumed training goes on at the same rate with the same choices.

    Raises:
        ValueError: if `rate` is outside [0, 1], `decay` or `draw` unknown, or `steps` too small.

    Example:

    >>> sampling = kzoo.ScheduledSampling(0.5, decay="linear", steps=100)
    >>> float(sampling.rate_now())
    0.0
    """

    def __init__(self, rate, decay="linear", steps=10_000, draw="greedy", seed=None, **kwargs):
        super().__init__(**kwargs)
        checks.fraction(rate=rate)
        checks.one_of(DECAYS, decay=decay)
        checks.one_of(DRAWS, draw=draw)
        checks.at_least(0, steps=steps)
        if decay == "inverse_sigmoid" and 0 < steps < 5:
            raise ValueError(
                f"`steps` must be 0 or at least 5 with decay='inverse_sigmoid', got steps={steps}."
            )
        self.rate = rate
        self.decay = decay
        self.steps = steps
        self.draw = draw
        self.seed = seed
        # A weight and no keras.random.SeedGenerator, whose state Keras does not save.
        first = [random.randint(1, 10**9) if seed is None else seed, 0]
        self.seed_and_steps = self.add_weight(
            name="seed_and_steps", shape=(2,), initializer=keras.initializers.Constant(first),
            dtype="int64", trainable=False, autocast=False, aggregation="only_first_replica",
        )  # fmt: skip
        self.built = True

    def rate_now(self):
        """The probability of an own answer in the next step of training: scalar float32."""
        step = self.seed_and_steps.value[1]
        return self.rate * (1 - label_share(step, self.decay, self.steps))

    def count_step(self):
        """Counts one step of the optimizer."""
        self.seed_and_steps.assign_add([0, 1])

    def mixed_ids(self, ids, memory, memory_mask, *, decoder, head, never):
        """What the decoder is to read in this step of training.

        Args:
            ids: (B, T) int, dense or ragged, what teacher forcing has it read.
            memory: (B, S, Dm) float. memory_mask: (B, S) bool.
            decoder: layer with `mixed_ids`; built here if it is not.
            head: VocabularyHead, likewise.
            never: tuple of int, ids that are no answers.

        Returns:
            (B, T) int, dense: `ids`, and own answers in the place of some.
        """
        ids, _ = masking.to_dense(masking.as_ids(ids))
        if not decoder.built:
            decoder.build(tuple(ids.shape), tuple(memory.shape))
        if not head.built:
            head.build((None, head.units))
        seed = self._seed_of_replica()
        # By steps: more padding at the end of the texts leaves the choices before it as they are.
        shape = tf.reverse(tf.shape(ids), [0])
        is_own = tf.random.stateless_uniform(shape, tf.random.fold_in(seed, 0)) < self.rate_now()
        is_answer = tf.reduce_all(tf.range(head.vocabulary_size)[:, None] != never, 1)

        def choose(t, labels, hidden):
            logits = tf.cast(head(tf.stop_gradient(hidden)), tf.float32)
            logits = tf.where(is_answer, logits, -math.inf)
            if self.draw == "greedy":
                answers = tf.argmax(logits, -1, labels.dtype)
            else:
                seed_of_step = tf.random.fold_in(seed, t)
                answers = tf.random.stateless_categorical(logits, 1, seed_of_step, labels.dtype)
                answers = answers[:, 0]
            return tf.where(tf.gather(is_own, t) & (labels != 0), answers, labels)

        return tf.ensure_shape(decoder.mixed_ids(ids, memory, memory_mask, choose), ids.shape)

    def _seed_of_replica(self):
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else context.replica_id_in_sync_group
        return tf.random.fold_in(tf.convert_to_tensor(self.seed_and_steps.value), replica)

    def load_own_variables(self, store):
        # Weights of teacher forcing have no such state: it begins anew.
        if len(store.keys()):
            super().load_own_variables(store)

    def get_config(self):
        names = ("rate", "decay", "steps", "draw", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def label_share(step, decay, steps):
    """epsilon_i, the share of labels that teacher forcing keeps where `rate` is 1.

    Args:
        step: int tensor, i: optimizer steps done.
        decay, steps: as in ScheduledSampling.

    Returns:
        Float32 tensor of the shape of `step`, in [0, 1].
    """
    if steps == 0:
        return tf.zeros(tf.shape(step))
    step = tf.cast(step, tf.float32)
    if decay == "linear":
        return tf.maximum(0.0, 1 - step / steps)
    if decay == "exponential":
        return tf.exp(step / steps * math.log(LEFT))
    k = inverse_sigmoid_constant(steps)
    return tf.sigmoid(math.log(k) - step / k)  # = k / (k + exp(i / k)), without an overflow


def inverse_sigmoid_constant(steps):
    """k with k / (k + exp(steps / k)) = 0.01: exp(steps / k) = 99 k; by bisection."""
    low, high = 1e-3, float(steps) + 1
    for _ in range(100):
        k = (low + high) / 2
        low, high = (k, high) if steps / k > math.log((1 / LEFT - 1) * k) else (low, k)
    return k
