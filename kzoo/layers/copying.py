"""Copying: the pointer-generator and the coverage loss of See et al. (2017).

An answer may hold words of its source that the vocabulary lacks. The ids of a batch are those of V
words and of P places of a source, V + P in all, where the word at place s has the id V + s. The
tensor `copy_ids` says what each step of the source would be copied as: the id of its word in the
target's vocabulary; or V + s, where s is the first place of that word, if it has none; or 0 for
what cannot be copied, as the end and the padding. `text.copying` makes it of texts.

Axis letters: B batch, T target steps, S source steps, P places, D features, V vocabulary, K beams,
N rows of one decoding step.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking
from kzoo.layers.products import inner_products, sizes

LEAST = 1e-30  # of what a logarithm is taken: it stays finite, and so does its gradient


def shares(gate, weights, copy_ids):
    """How likely a word is generated, and how likely each step of the source is copied.

        p_gen = sigmoid(gate)
        generated = p_gen + (1 - p_gen) sum_{s: copy_ids_s = 0} a_s
        copied_s = (1 - p_gen) a_s  where copy_ids_s > 0, else 0

    What looks at a step that cannot be copied counts as generating. So the shares sum to 1 without
    a division by what may be next to nothing, and a source without any word to copy needs no rule.

    Args:
        gate: (B, T) float.
        weights: (B, T, S) float, a; rows sum to 1, or are 0 where there is nothing to attend to.
        copy_ids: (B, S) int.

    Returns:
        log_generated: (B, T). log_gate: (B, T), log(1 - p_gen). attention: (B, T, S), a where
        something can be copied and else 0. All float32.
    """
    gate, weights = tf.cast(gate, tf.float32), tf.cast(weights, tf.float32)
    total = tf.reduce_sum(weights, -1, keepdims=True)
    weights = tf.math.divide_no_nan(weights, total)  # in bfloat16 it is 1 to two digits only
    can = (copy_ids != 0)[:, None, :]
    rest = tf.reduce_sum(tf.where(can, 0.0, weights), -1)
    rest = tf.where(total[..., 0] > 0, rest, 1.0)
    log_gate = tf.math.log_sigmoid(-gate)
    log_rest = log_gate + tf.math.log(tf.maximum(rest, LEAST))
    return _log_add(tf.math.log_sigmoid(gate), log_rest), log_gate, tf.where(can, weights, 0.0)


def log_probabilities(logits, gate, weights, copy_ids):
    """The distribution over the words and the places:

        P(w) = generated softmax(logits)_w + sum_{s: copy_ids_s = w} copied_s

    See et al. (2017), https://arxiv.org/abs/1704.04368, equation 9, with the `shares` above; a
    place is never generated.

    Args:
        logits: (B, T, V) float.
        gate: (B, T) float. weights: (B, T, S) float. copy_ids: (B, P) int, see `columns`.

    Returns:
        (B, T, V + P) float32, -inf for what nothing can say.
    """
    logits, weights = tf.convert_to_tensor(logits), tf.convert_to_tensor(weights)
    copy_ids = tf.convert_to_tensor(copy_ids)
    places = sizes(copy_ids)[1]
    copy_ids = tf.cast(columns(copy_ids, sizes(weights)[2]), tf.int32)
    log_generated, log_gate, attention = shares(gate, weights, copy_ids)
    words = tf.nn.log_softmax(tf.cast(logits, tf.float32)) + log_generated[..., None]
    rows, steps, size = sizes(logits)
    ids = tf.reshape(tf.repeat(copy_ids, steps, axis=0), [-1])  # (B T S)
    owners = tf.repeat(tf.range(rows * steps), sizes(copy_ids)[1])
    copied = tf.scatter_nd(
        tf.stack([owners, ids], 1), tf.reshape(attention, [-1]), [rows * steps, size + places]
    )
    copied = tf.reshape(copied, [rows, steps, size + places])
    is_copied = copied > 0
    log_copied = log_gate[..., None] + tf.math.log(tf.where(is_copied, copied, 1.0))
    # Each branch is finite, and so are the gradients.
    both = tf.where(is_copied[..., :size], _log_add(words, log_copied[..., :size]), words)
    found = tf.where(is_copied[..., size:], log_copied[..., size:], -float("inf"))
    found = tf.concat([both, found], 2)
    found.set_shape([*logits.shape[:2], _sum(logits.shape[2], places)])
    return found


def label_log_probabilities(generated, gate, weights, copy_ids, labels, vocabulary_size):
    """log P of one label a step, without the distribution over all the others.

    A place whose step has no weight at all, or that `copy_ids` does not have, counts as 1e-30
    before the gate: the loss of a label that nothing can say is finite, and teaches the gate alone.

    Args:
        generated: (B, T) float32, log softmax(logits) at the label; of any value for a place.
        gate: (B, T) float. weights: (B, T, S) float. copy_ids: (B, P) int, see `columns`.
        labels: (B, T) int, below V + P.
        vocabulary_size: int, V.

    Returns:
        (B, T) float32.
    """
    weights, labels = tf.convert_to_tensor(weights), tf.convert_to_tensor(labels)
    copy_ids = tf.cast(columns(copy_ids, sizes(weights)[2]), labels.dtype)
    log_generated, log_gate, attention = shares(gate, weights, copy_ids)
    is_there = copy_ids[:, None, :] == labels[:, :, None]
    copied = tf.reduce_sum(tf.where(is_there, attention, 0.0), -1)  # (B, T)
    is_word = labels < vocabulary_size
    log_copied = log_gate + tf.math.log(tf.maximum(copied, LEAST))
    generated = log_generated + tf.where(is_word, generated, 0.0)
    both = tf.where(copied > 0, _log_add(generated, log_copied), generated)
    return tf.where(is_word, both, log_copied)


def coverage_loss(weights):
    """sum_s min(a_ts, c_ts) with the coverage c_t = sum_{t' < t} a_t': against looking twice.

    See et al. (2017), https://arxiv.org/abs/1704.04368, equation 12.

    Args:
        weights: (B, T, S) float, a.

    Returns:
        (B, T) float32 in [0, 1].
    """
    weights = tf.cast(weights, tf.float32)
    return tf.reduce_sum(tf.minimum(weights, tf.cumsum(weights, 1, exclusive=True)), 2)


def columns(copy_ids, steps):
    """Cuts or pads copy ids (B, P) to the steps that the weights are about: (B, S).

    In a search P is static where S may not be, and there are more places than steps.
    """
    copy_ids = tf.convert_to_tensor(copy_ids)
    missing = tf.maximum(steps - sizes(copy_ids)[1], 0)
    return tf.pad(copy_ids, [[0, 0], [0, missing]])[:, :steps]


def _log_add(a, b):
    """log(exp a + exp b) of finite numbers."""
    return a + tf.nn.softplus(b - a)


def _sum(size, places):
    return None if size is None or tf.is_tensor(places) else size + places


@keras.saving.register_keras_serializable("kzoo")
class Copier(keras.layers.Layer):
    """The gate of a pointer-generator, and its settings: p_gen = sigmoid(gate),

        gate_t = w_h . context_t + w_s . hidden_t + w_x . x_t + b

    See et al. (2017), https://arxiv.org/abs/1704.04368, equation 8; `hidden`, which the head reads,
    stands for the state. It makes a `Seq2Seq` copy words of its source.

    Args:
        coverage_weight: float of at least 0, lambda of equation 13: what `coverage_loss` counts in
            the loss. The paper trains without first, and with 1 for the last steps: set the
            attribute and compile again.
        unknown_id: int, the id of unknown words, which a decoder reads in the place of an id that
            its embedding does not have.

    Call arguments:
        hidden: (B, T, D) float.
        context: (B, T, Dm) float, the memory weighed by the attention.
        embedded: (B, T, De) float, x, the embedding of the decoder's input.

    Returns:
        gate: (B, T). It carries the mask of `hidden`.

    Raises:
        ValueError: if `coverage_weight` is negative or `unknown_id` less than 1.

    Example:

    >>> gate = kzoo.Copier()(tf.ones((2, 3, 5)), tf.ones((2, 3, 7)), tf.ones((2, 3, 4)))
    >>> gate.shape
    TensorShape([2, 3])
    """

    def __init__(self, coverage_weight=0.0, unknown_id=3, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        checks.not_negative(coverage_weight=coverage_weight)
        checks.at_least(1, unknown_id=unknown_id)
        self.coverage_weight = coverage_weight
        self.unknown_id = unknown_id

    def build(self, hidden_shape, context_shape, embedded_shape):
        def kernel(name, shape):
            uniform = keras.initializers.VarianceScaling(1.0, "fan_avg", "uniform")
            return self.add_weight(
                shape=(shape[-1],), initializer=uniform, autocast=False, name=name
            )

        self.hidden_kernel = kernel("w_s", hidden_shape)
        self.context_kernel = kernel("w_h", context_shape)
        self.input_kernel = kernel("w_x", embedded_shape)
        self.bias = self.add_weight(shape=(), initializer="zeros", autocast=False, name="b")

    def call(self, hidden, context, embedded):
        def term(x, kernel):
            x, kernel = tf.cast(masking.padded(x), tf.float32), tf.cast(kernel.value, tf.float32)
            return inner_products(x, kernel)

        gate = term(hidden, self.hidden_kernel) + term(context, self.context_kernel)
        gate += term(embedded, self.input_kernel) + tf.cast(self.bias.value, tf.float32)
        return tf.cast(gate, self.compute_dtype)

    def compute_mask(self, hidden, previous_mask=None):
        return masking.carried_mask(hidden, previous_mask)

    def compute_output_shape(self, hidden_shape, context_shape=None, embedded_shape=None):
        return hidden_shape[:-1]

    def loss(self, head, outputs, labels, training=False):
        """-log P of each label, in nats, in float32; see `log_probabilities`.

        In training the head's label smoothing is about the words that are generated:

            (1 - smoothing) (-log P(label)) + smoothing mean_v (-log softmax(logits)_v)

        Args:
            head: VocabularyHead with the full softmax.
            outputs: dict of "hidden" (B, T, D), "gate" (B, T), "weights" (B, T, S) and "copy_ids".
            labels: (B, T) int, below V + P; what label 0 gives is to be masked by the caller.
            training: bool.

        Returns:
            (B, T) float32.
        """
        hidden = tf.reshape(outputs["hidden"], [-1, outputs["hidden"].shape[-1]])
        words = tf.reshape(self.readable(labels, head.vocabulary_size), [-1])
        losses = head.loss(hidden, words, training=training, label_smoothing=0.0)
        found = -label_log_probabilities(
            tf.reshape(-losses, tf.shape(labels)), outputs["gate"], outputs["weights"],
            outputs["copy_ids"], labels, head.vocabulary_size,
        )  # fmt: skip
        if not (training and head.label_smoothing):
            return found
        others = head.other_words_loss(hidden, words, losses)
        others = tf.reshape(others, tf.shape(labels))
        return (1 - head.label_smoothing) * found + head.label_smoothing * others

    def readable(self, ids, vocabulary_size):
        """The ids with the unknown word for those of places: what an embedding has rows for."""
        return tf.where(ids < vocabulary_size, ids, tf.cast(self.unknown_id, ids.dtype))

    def get_config(self):
        config = {"coverage_weight": self.coverage_weight, "unknown_id": self.unknown_id}
        return {**super().get_config(), **config}
