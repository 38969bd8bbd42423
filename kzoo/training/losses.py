"""Loss and metric for sequences of labels, padded or ragged, in any Keras model.

Axis letters: B batch, T steps, V classes. `Seq2Seq` has its own loss; these are for models of your
own, where Keras's SparseCategoricalCrossentropy refuses ragged labels and counts the padding.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking, replicas


def _dense_labels(labels, predictions, sample_weight):
    """Returns labels and the weight of each step, both (B, T), T as long as the predictions."""
    if not isinstance(labels, tf.RaggedTensor):
        labels = tf.cast(labels, tf.int32)  # of other dtypes the zeros would not be padding
    predictions = tf.convert_to_tensor(predictions)
    if labels.shape.rank != 2 or predictions.shape.rank != 3:
        raise ValueError(
            f"`y_true` must have 2 axes (batch, steps) and `y_pred` 3 (batch, steps, classes), "
            f"got {labels.shape} and {predictions.shape}."
        )
    labels, mask = masking.to_dense(labels)
    steps, room = labels.shape[1], predictions.shape[1]
    if steps is not None and room is not None and steps > room:
        raise ValueError(f"`y_true` must be no longer than `y_pred`, got {steps} and {room} steps.")
    weight = tf.cast(mask, tf.float32)
    if sample_weight is not None:
        sample_weight = tf.cast(masking.to_dense(sample_weight)[0], tf.float32)
        weight *= sample_weight[:, None] if sample_weight.shape.rank == 1 else sample_weight
    # Ragged predictions were padded to the longest row of the input, labels to that of the labels.
    missing = [[0, 0], [0, tf.shape(predictions)[1] - tf.shape(labels)[1]]]
    return tf.pad(tf.cast(labels, tf.int32), missing), tf.pad(weight, missing)


@keras.saving.register_keras_serializable("kzoo")
class SequenceCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy in nats per real step:

        sum_bt weight_bt (-log softmax(logits_bt)[label_bt]) / sum_bt weight_bt

    Real are the steps of ragged labels; in dense ones, those with another label than 0. Without
    any real step the loss is 0. Under a distribution strategy each replica gets its share in the
    mean over the steps of all, as Keras adds up their gradients.

    Args:
        from_logits: bool; False for probabilities.

    Call arguments:
        y_true: (B, T) int, dense or ragged.
        y_pred: (B, T, V) float, T at least as long as the labels.
        sample_weight: None, (B,) or (B, T), dense or ragged.

    Returns:
        Scalar float32.

    Raises:
        ValueError: if the labels or predictions have other axes, or the labels are longer.

    Example:

    >>> loss = kzoo.SequenceCrossEntropy()
    >>> labels = tf.ragged.constant([[1, 0, 2], [3]])
    >>> round(float(loss(labels, tf.zeros((2, 3, 5)))), 4)  # log 5
    1.6094
    """

    def __init__(self, from_logits=True, name="sequence_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_pred = tf.cast(y_pred, tf.float32)
        labels, weight = _dense_labels(y_true, y_pred, sample_weight)
        # Before the loss: the gradient of 0 times NaN is NaN.
        y_pred = tf.where(weight[:, :, None] > 0, y_pred, 1.0)
        losses = keras.ops.sparse_categorical_crossentropy(
            labels, y_pred, from_logits=self.from_logits
        )
        losses = tf.where(weight > 0, losses * weight, 0.0)
        return replicas.mean(tf.reduce_sum(losses), tf.reduce_sum(weight))

    def call(self, y_true, y_pred):
        return self(y_true, y_pred)

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


@keras.saving.register_keras_serializable("kzoo")
class SequenceAccuracy(keras.metrics.Mean):
    """Share of real steps whose highest score stands at their label.

    Call arguments: as of SequenceCrossEntropy.

    Example:

    >>> accuracy = kzoo.SequenceAccuracy()
    >>> accuracy.update_state(tf.ragged.constant([[1, 0], [3]]), tf.one_hot([[1, 2], [3, 3]], 5))
    >>> round(float(accuracy.result()), 4)
    0.6667
    """

    def __init__(self, name="sequence_accuracy", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, weight = _dense_labels(y_true, y_pred, sample_weight)
        right = tf.argmax(y_pred, -1, tf.int32) == labels
        super().update_state(tf.cast(right, tf.float32), sample_weight=weight)
