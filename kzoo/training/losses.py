"""Loss and metric for sequences of labels, padded or ragged, in any Keras model.

Axis letters: B batch, T steps, V classes. `Seq2Seq` has its own loss; these are for models of your
own, where Keras's SparseCategoricalCrossentropy refuses ragged labels and counts the padding.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking, replicas


def _dense_labels(labels, predictions, sample_weight, ignore_class):
    """Returns labels and the weight of each step, both (B, T), T as long as the predictions."""
    mask = None
    if not isinstance(labels, tf.RaggedTensor):
        labels = tf.cast(labels, tf.int32)
        if ignore_class is None:
            mask = getattr(predictions, "_keras_mask", None)
    predictions = tf.convert_to_tensor(predictions)
    if labels.shape.rank != 2 or predictions.shape.rank != 3:
        raise ValueError(
            f"`y_true` must have 2 axes (batch, steps) and `y_pred` 3 (batch, steps, classes), "
            f"got {labels.shape} and {predictions.shape}."
        )
    were_ragged = isinstance(labels, tf.RaggedTensor)
    if were_ragged:
        labels, real = masking.to_dense(labels)
    else:
        real = tf.ones_like(labels, tf.bool) if ignore_class is None else labels != ignore_class
    steps, room = labels.shape[1], predictions.shape[1]
    if steps is not None and room is not None and steps > room:
        raise ValueError(f"`y_true` must be no longer than `y_pred`, got {steps} and {room} steps.")
    if mask is not None:
        real &= mask[:, : tf.shape(labels)[1]]
    labels, weight = tf.where(real, labels, 0), tf.cast(real, tf.float32)
    if sample_weight is not None:
        weight *= masking.weights_of_steps(sample_weight, labels, were_ragged)
    # Ragged predictions were padded to the longest row of the input, labels to that of the labels.
    missing = [[0, 0], [0, tf.shape(predictions)[1] - tf.shape(labels)[1]]]
    return tf.pad(tf.cast(labels, tf.int32), missing), tf.pad(weight, missing)


@keras.saving.register_keras_serializable("kzoo")
class SequenceCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy in nats per real step:

        sum_bt weight_bt (-log softmax(logits_bt)[label_bt]) / sum_bt weight_bt

    Real are the steps of ragged labels; in dense ones, those with another label than
    `ignore_class` or, if that is None, those that the Keras mask of the predictions calls real.
    Without any real step the loss is 0. Under a distribution strategy each replica gets its share
    in the mean over the steps of all, as Keras adds up their gradients.

    Args:
        from_logits: bool; False for probabilities.
        ignore_class: int, the label of padding in dense labels. None if every label is a class of
            its own, as 0 for "no name" is in tagging.
        reduction: "sum_over_batch_size", as Keras calls it, for the mean above; "sum"; or "none",
            as None, for the loss of each step, 0 for padding.

    Call arguments:
        y_true: (B, T) int, dense or ragged.
        y_pred: (B, T, V) float, T at least as long as the labels.
        sample_weight: None, (B,) or (B, T), dense or ragged.

    Returns:
        Scalar float32; without reduction (B, T).

    Raises:
        ValueError: if the labels or predictions have other axes, or the labels are longer.

    Example:

    >>> loss = kzoo.SequenceCrossEntropy()
    >>> labels = tf.ragged.constant([[1, 0, 2], [3]])
    >>> round(float(loss(labels, tf.zeros((2, 3, 5)))), 4)  # log 5
    1.6094
    """

    def __init__(self, from_logits=True, name="sequence_cross_entropy", ignore_class=0, **kwargs):
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits
        self.ignore_class = ignore_class

    def __call__(self, y_true, y_pred, sample_weight=None):
        labels, weight = _dense_labels(y_true, y_pred, sample_weight, self.ignore_class)
        y_pred = tf.cast(y_pred, tf.float32)
        # Before the loss: the gradient of 0 times NaN is NaN.
        y_pred = tf.where(weight[:, :, None] > 0, y_pred, 1.0)
        losses = keras.ops.sparse_categorical_crossentropy(
            labels, y_pred, from_logits=self.from_logits
        )
        losses = tf.where(weight > 0, losses * weight, 0.0)
        if self.reduction in (None, "none"):
            return losses
        if self.reduction == "sum":
            return tf.reduce_sum(losses)
        return replicas.mean(tf.reduce_sum(losses), tf.reduce_sum(weight))

    def call(self, y_true, y_pred):
        return self(y_true, y_pred)

    def get_config(self):
        own = {"from_logits": self.from_logits, "ignore_class": self.ignore_class}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("kzoo")
class SequenceAccuracy(keras.metrics.Mean):
    """Share of real steps whose highest score stands at their label.

    Args:
        ignore_class: int or None, as of SequenceCrossEntropy.

    Call arguments: as of SequenceCrossEntropy; or single steps, labels (N,) and scores (N, V), as
        Seq2Seq gives them to its metrics.

    Example:

    >>> accuracy = kzoo.SequenceAccuracy()
    >>> accuracy.update_state(tf.ragged.constant([[1, 0], [3]]), tf.one_hot([[1, 2], [3, 3]], 5))
    >>> round(float(accuracy.result()), 4)
    0.6667
    """

    def __init__(self, name="sequence_accuracy", ignore_class=0, **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore_class = ignore_class

    def update_state(self, y_true, y_pred, sample_weight=None):
        if len(y_pred.shape) == 2:
            y_true, y_pred = y_true[:, None], y_pred[:, None]
        labels, weight = _dense_labels(y_true, y_pred, sample_weight, self.ignore_class)
        right = tf.argmax(y_pred, -1, tf.int32) == labels
        # One value a step: of rows, Keras takes means first, and those of short batches count more.
        right, weight = tf.reshape(right, [-1]), tf.reshape(weight, [-1])
        super().update_state(tf.cast(right, tf.float32), sample_weight=weight)

    def get_config(self):
        return {**super().get_config(), "ignore_class": self.ignore_class}
