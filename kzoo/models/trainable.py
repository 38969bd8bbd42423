"""Trainable: what `fit` needs of every model, with the loss built in. B batch, T target steps."""

import keras
import tensorflow as tf

from kzoo import ctc
from kzoo.layers import masking
from kzoo.models.generator import Generator
from kzoo.text import END_ID


class Trainable(Generator):
    """A generator with its loss built in.

    A child has `call`, `compute_loss`, `get_config` and `own_metrics`, a dict of metrics by name.
    """

    def build(self, inputs_shape):
        # Nothing to do: the layers build themselves when they are called.
        pass

    def compile(self, optimizer="adam", loss=None, jit_compile=False, **kwargs):
        """Like `keras.Model.compile`, with the loss built in and XLA off unless asked for.

        Raises:
            ValueError: if a `loss` is given.
        """
        if loss is not None:
            name = type(self).__name__
            raise ValueError(f"`loss` must be None: {name} has its own, got loss={loss!r}.")
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config):
        """Compiles a loaded model; Keras leaves that to a model with its own `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def label_weights(self, y, sample_weight=None):
        """Labels (B, T) as a dense tensor and the weight of each: 0 for padding."""
        labels, real = masking.to_dense(y)
        count = tf.cast(real & (labels != 0), tf.float32)
        if sample_weight is not None:
            weight = tf.cast(sample_weight, tf.float32)
            count *= weight[:, None] if weight.shape.rank == 1 else weight
        return labels, count

    def ctc_loss(self, labels, count, logits, mask):
        """CTC's loss in nats per token of the rows that it is feasible for; updates the metrics.

        Args:
            labels: (B, T) int, with the end, padded with 0.
            count: (B, T) float32, weight of each label, 0 for padding.
            logits: (B, S, V), of CTC. mask: (B, S) bool.

        Returns:
            Scalar float32.
        """
        tokens = tf.where(labels == END_ID, 0, labels)
        losses, is_feasible = ctc.ctc_loss(tokens, logits, mask)
        real = tf.reduce_sum(tf.cast(labels != 0, tf.float32), 1)
        counts = tf.where(is_feasible, tf.reduce_sum(count, 1), 0.0)  # (B,)
        weights = tf.math.divide_no_nan(counts, real)
        total = tf.reduce_sum(counts)
        loss = tf.math.divide_no_nan(tf.reduce_sum(losses * weights), total)
        self.own_metrics["ctc_loss"].update_state(loss, total)
        missing = tf.reduce_sum(tf.cast(~is_feasible, tf.float32))
        self.own_metrics["infeasible"].update_state(missing)
        return loss

    @property
    def metrics(self):
        """Keras's own "loss" weighs each batch by its rows; these weigh it by its tokens."""
        own = list(self.own_metrics.values())
        return [*own, *(m for m in super().metrics if m.name != "loss" and m not in own)]

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {
            name: keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
            for name, value in config.items()
        }
        return cls(**config)
