"""Trainable: what `fit` needs of every model, with the loss built in. B batch, T target steps."""

import functools
import inspect

import keras
import numpy as np
import tensorflow as tf

from kzoo import checks, ctc
from kzoo.layers import masking, replicas, sharing
from kzoo.models.accumulation import accumulated_gradients
from kzoo.models.distributed import DistributedFit, sharded_by_data
from kzoo.models.generator import Generator

_FIT = inspect.signature(keras.Model.fit)


class Trainable(DistributedFit, Generator):
    """A generator with its loss built in.

    A child has `call`, `compute_loss`, `get_config`, `own_metrics`, a dict of metrics by name, and
    `needed_inputs`, the names of what `call` cannot do without.
    """

    def __call__(self, inputs, *args, **kwargs):
        if not isinstance(inputs, dict) or not {*self.needed_inputs} <= {*inputs}:
            found = sorted(inputs) if isinstance(inputs, dict) else f"a {type(inputs).__name__}"
            names = " and ".join(f'"{name}"' for name in self.needed_inputs)
            raise ValueError(f"`inputs` must be a dict with {names}, got {found}.")
        checks.sequence(**{name: inputs[name] for name in self.needed_inputs})
        return super().__call__(inputs, *args, **kwargs)

    def build(self, inputs_shape):
        """Makes the weights. In a call of the model there is nothing to do: its layers make theirs.

        Args:
            inputs_shape: dict of the shapes of the inputs, as {"source": (None, None), "target":
                (None, None)}; of two axes are ids, of more are features or pixels.

        Raises:
            ValueError: there is no such dict, and weights are missing.
        """
        if self._is_in_call or self.has_all_weights:
            return
        if not isinstance(inputs_shape, dict):
            raise ValueError(
                "`inputs_shape` must be a dict of shapes, as {'source': (None, None), 'target': "
                f"(None, None)}}, got {inputs_shape!r}."
            )
        self.compute_output_spec(
            {name: _input_of(name, shape) for name, shape in inputs_shape.items()}
        )

    accumulate = 1  # parts of a batch; `compile` sets it
    trains_ctc = False  # whether the loss has a part of CTC's

    def compile(self, optimizer="adam", loss=None, jit_compile=False, accumulate=1, **kwargs):
        """Like `keras.Model.compile`, with the loss built in and XLA off unless asked for.

        Args:
            accumulate: int, in how many parts a step of `fit` computes the gradients of a batch,
                one after the other: a step has the memory of a part, and the gradients, weighted by
                tokens, of the batch. A sampled softmax draws classes for each part. Rows that CTC
                leaves out, as they are too short for their labels, count for the weight of a part.
            optimizer, loss, jit_compile and all others: as in `keras.Model.compile`.

        Raises:
            ValueError: if a `loss` is given, or the name of one of kzoo's optimizers, or
                `accumulate` is below 1, or above it for several replicas or with `jit_compile`, or
                `jit_compile` meets CTC.
        """
        checks.integer(1, accumulate=accumulate)
        checks.require(
            accumulate == 1 or not jit_compile,
            "do not go together: XLA cannot compile parts of unknown size",
            accumulate=accumulate,
            jit_compile=jit_compile,
        )
        checks.require(
            not (jit_compile and self.trains_ctc),
            "must be False for a model with CTC, which XLA cannot compile",
            jit_compile=jit_compile,
        )
        replicas_in_sync = self.distribute_strategy.num_replicas_in_sync
        checks.require(
            accumulate == 1 or replicas_in_sync == 1,
            "must be 1 under a strategy of several replicas, each of which has a part of the batch",
            accumulate=accumulate,
        )
        self.accumulate = accumulate
        own = {name.lower(): name for name in ("FusedAdam", "LazyAdam")}
        if isinstance(optimizer, str) and optimizer.lower() in own:
            raise ValueError(
                f"`optimizer` must be an optimizer or a name that Keras knows, got {optimizer!r}: "
                f"pass kzoo.{own[optimizer.lower()]}(learning_rate)."
            )
        if loss is not None:
            name = type(self).__name__
            raise ValueError(f"`loss` must be None: {name} has its own, got loss={loss!r}.")
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    @functools.wraps(keras.Model.fit)
    def fit(self, x=None, *args, **kwargs):
        given = _FIT.bind_partial(self, x, *args, **kwargs).arguments
        _check_no_classes(given.get("class_weight"))
        # Keras creates variables while the first step is traced, and TensorFlow then traces that
        # step again. So they are created before, if a symbolic call creates all of them.
        specs = None
        if self.compiled and not self.run_eagerly:
            specs = _specs_of_inputs(x)
        if specs is not None:
            with self.distribute_strategy.scope():
                if not self.has_all_weights:
                    self(tf.nest.map_structure(_symbolic, specs))
                if self.has_all_weights:
                    self.optimizer.build(self.trainable_variables)
        return super().fit(sharded_by_data(x, self.distribute_strategy), *args, **kwargs)

    @functools.wraps(keras.Model.train_on_batch)
    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        _check_no_classes(class_weight)
        return super().train_on_batch(x, y, sample_weight, return_dict=return_dict)

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, x=None, *args, **kwargs):
        return super().evaluate(sharded_by_data(x, self.distribute_strategy), *args, **kwargs)

    def train_step(self, data):
        """One step of `fit`, in parts if `compile` was told so."""
        if self.accumulate == 1:
            return super().train_step(data)
        if not self.has_all_weights:  # of a generator `fit` knew nothing before
            x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.init_scope():
                self(tf.nest.map_structure(lambda x: x if x is None else _symbolic(_spec(x)), x))
        weights = self.trainable_weights
        data = _with_target_and_labels_alike(data)
        gradients = accumulated_gradients(self._tokens_and_gradients, data, self.accumulate)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return self.get_metrics_result()

    def _tokens_and_gradients(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            loss = self.optimizer.scale_loss(loss)  # float16's gradients would be 0; undone later
        self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        tokens = tf.reduce_sum(self.label_weights(y, sample_weight)[1])
        return tokens, tape.gradient(loss, self.trainable_weights)

    @functools.wraps(keras.Model.get_compile_config)
    def get_compile_config(self):
        config = super().get_compile_config()
        return {**config, "accumulate": self.accumulate} if self.accumulate > 1 else config

    def compile_from_config(self, config):
        """Compiles a loaded model; Keras leaves that to a model with its own `compile`."""
        config = dict(config)
        if self.distribute_strategy.num_replicas_in_sync > 1:
            config.pop("accumulate", None)
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def label_weights(self, y, sample_weight=None):
        """Labels (B, T) as a dense tensor and the weight of each: 0 for padding.

        Raises:
            ValueError: there are no labels, or they have other axes.
        """
        if y is None:
            raise ValueError("`y` must be the labels, ids (batch, steps), got None.")
        if len(y.shape) != 2:
            raise ValueError(
                f"`y` must be ids (batch, steps), got shape {tuple(y.shape)}; of one-hot labels "
                "take the argmax."
            )
        labels, real = masking.to_dense(masking.as_ids(y))
        count = tf.cast(real & (labels != 0), tf.float32)
        if sample_weight is not None:
            were_ragged = isinstance(y, tf.RaggedTensor)
            count *= masking.weights_of_steps(sample_weight, labels, were_ragged)
        return labels, count

    def ctc_loss(self, labels, count, logits, mask, passes=1):
        """CTC's loss in nats per token of the rows that it is feasible for; updates the metrics.

        Args:
            labels: (B, T) int, with the end, padded with 0.
            count: (B, T) float32, weight of each label, 0 for padding.
            logits: (B, S, V), of CTC. mask: (B, S) bool.
            passes: int, how often each row is there; "infeasible" counts it once.

        Returns:
            Scalar float32; of several replicas, the share of this one.
        """
        tokens = tf.where(labels == self.end_id, tf.zeros_like(labels), labels)
        losses, is_feasible = ctc.ctc_loss(tokens, logits, mask)
        real = tf.reduce_sum(tf.cast(labels != 0, tf.float32), 1)
        counts = tf.where(is_feasible, tf.reduce_sum(count, 1), 0.0)  # (B,)
        weights = tf.math.divide_no_nan(counts, real)
        total = tf.reduce_sum(counts)
        loss = replicas.mean(tf.reduce_sum(losses * weights), total)
        self.own_metrics["ctc_loss"].update_state(*replicas.reported(loss, total))
        missing = tf.reduce_sum(tf.cast(~is_feasible, tf.float32))
        self.own_metrics["infeasible"].update_state(missing / passes)
        return loss

    def added_losses(self):
        """The sum of what layers and weights add to the loss: their `losses`; a scalar."""
        terms = [tf.cast(term, tf.float32) for term in self.losses]
        return replicas.share(tf.add_n(terms)) if terms else 0.0

    @property
    def metrics(self):
        """Keras's own "loss" weighs each batch by its rows; these weigh it by its tokens."""
        own = list(self.own_metrics.values())
        return [*own, *(m for m in super().metrics if m.name != "loss" and m not in own)]

    @classmethod
    @sharing.once()
    def from_config(cls, config, custom_objects=None):
        config = {
            name: sharing.restore(value) if isinstance(value, dict) else value
            for name, value in config.items()
        }
        return cls(**config)


def _check_no_classes(class_weight):
    """Raises ValueError if there are weights of classes: Keras takes labels (B, T) for one-hot."""
    rule = "must be None: `sample_weight` (B, T) weighs tokens"
    checks.require(class_weight is None, rule, class_weight=class_weight)


def _with_target_and_labels_alike(data):
    """Both dense if one is: rows of a ragged one could be shorter than those of a dense one."""
    x, y, *weight = data if isinstance(data, tuple) else (data, None)
    target = x.get("target") if isinstance(x, dict) else None
    if target is None or isinstance(target, tf.RaggedTensor) == isinstance(y, tf.RaggedTensor):
        return data
    return {**x, "target": masking.padded(target)}, masking.padded(y), *weight


def _specs_of_inputs(x):
    """The TypeSpecs of a model's inputs for `fit(x)`; None if they cannot be seen from outside."""
    if isinstance(x, tf.data.Dataset):
        specs = keras.utils.unpack_x_y_sample_weight(x.element_spec)[0]
    else:
        specs = tf.nest.map_structure(_spec, x)
    known = tf.TensorSpec | tf.RaggedTensorSpec
    return specs if all(isinstance(spec, known) for spec in tf.nest.flatten(specs)) else None


def _spec(x):
    if tf.is_tensor(x):  # ragged ones, too
        return tf.type_spec_from_value(x)
    return tf.TensorSpec(x.shape, x.dtype) if isinstance(x, np.ndarray) else None


def _input_of(name, shape):
    """A symbolic input of this shape: a mask, ids, or features."""
    dtype = "bool" if name.endswith("_mask") else "int32" if len(shape) == 2 else "float32"
    return keras.KerasTensor(tuple(shape), dtype)


def _symbolic(spec):
    shape = (None, *spec.shape[1:]) if spec.shape.rank else spec.shape
    if isinstance(spec, tf.RaggedTensorSpec):
        rank = spec.ragged_rank
        return keras.KerasTensor(shape, spec.dtype.name, ragged=True, ragged_rank=rank)
    return keras.KerasTensor(shape, spec.dtype.name)
