"""Adam in one pass over the weights, Adam for the rows in use, and learning-rate schedules."""

import keras
import tensorflow as tf

from kzoo.layers import replicas


@keras.saving.register_keras_serializable("kzoo")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then decay with the inverse square root of the step:

        rate(n) = peak * min(n / warmup_steps, sqrt(warmup_steps / n)),    n = step + 1

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 5.3, in the form that names the
    highest rate.

    Args:
        peak: float, the rate at the end of the warm-up.
        warmup_steps: int, steps.

    Raises:
        ValueError: if one of them is not positive.

    Example:

    >>> rate = kzoo.InverseSquareRoot(peak=0.1, warmup_steps=4)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 3, 15)]
    [0.025, 0.05, 0.1, 0.05]
    """

    def __init__(self, peak, warmup_steps):
        if peak <= 0 or warmup_steps < 1:
            raise ValueError(
                f"`peak` must be positive and `warmup_steps` at least 1, "
                f"got peak={peak}, warmup_steps={warmup_steps}."
            )
        self.peak = peak
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        n = tf.cast(step, tf.float32) + 1.0
        return self.peak * tf.minimum(n / self.warmup_steps, tf.sqrt(self.warmup_steps / n))

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable("kzoo")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, each weight updated in one pass over memory instead of a dozen:

        m <- m + (1 - beta_1) (g - m),    v <- v + (1 - beta_2) (g^2 - v),
        w <- w - rate sqrt(1 - beta_2^n) / (1 - beta_1^n) m / (sqrt(v) + epsilon),    n = step + 1

    Kingma & Ba (2015), https://arxiv.org/abs/1412.6980, section 2. The same numbers, arguments and
    saved variables; a sparse gradient or `amsgrad` goes Keras's way. Of several replicas the sum of
    the gradients is clipped, as that of one batch would be; Keras clips each before they add up.

    A step whose gradients are not finite, or whose norm is not, is left out: no variable changes,
    `iterations` neither, and `training.FiniteLoss` counts it. Under a strategy of tf.distribute it
    is not.

    Example:

    >>> optimizer = kzoo.FusedAdam(learning_rate=0.1)
    >>> w = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([tf.constant([0.5, -3.0])], [w])
    >>> w.numpy().round(4)
    array([0.9, 2.1], dtype=float32)
    """

    @property
    def _clips(self):
        return bool(self.clipnorm or self.global_clipnorm or self.clipvalue)

    def _clip_gradients(self, grads):
        return self._clipped(replicas.total(grads)) if self._clips else grads

    def _clipped(self, grads):
        return super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        context = tf.distribute.get_replica_context()
        # TensorFlow keeps the gradient of a sum over replicas, and with it the whole graph of a
        # training step, until the process ends: one replica does without.
        if self._clips or (context is not None and context.num_replicas_in_sync == 1):
            return grads_and_vars
        return super()._all_reduce_sum_gradients(grads_and_vars)

    def apply(self, grads, trainable_variables=None):
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        if tf.distribute.has_strategy() or tf.distribute.in_cross_replica_context():
            # Keras merges replicas there, be it one, which no condition can hold.
            super().apply(grads, trainable_variables)
            return
        given = [g for g in grads if g is not None]
        squares = [tf.nn.l2_loss(g.values if isinstance(g, tf.IndexedSlices) else g) for g in given]
        total = tf.add_n([tf.cast(square, tf.float32) for square in squares]) if given else 0.0
        tf.cond(
            tf.math.is_finite(total),
            lambda: _done(super(FusedAdam, self).apply(grads, trainable_variables)),
            lambda: _done(None),
        )

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad or isinstance(gradient, tf.IndexedSlices):
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        n = tf.cast(self.iterations + 1, dtype)
        weight, m, v = (
            (x.value if isinstance(x, keras.Variable) else x).handle
            for x in (variable, self._momentums[index], self._velocities[index])
        )
        tf.raw_ops.ResourceApplyAdam(
            var=weight,
            m=m,
            v=v,
            beta1_power=tf.cast(self.beta_1, dtype) ** n,
            beta2_power=tf.cast(self.beta_2, dtype) ** n,
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


@keras.saving.register_keras_serializable("kzoo")
class LazyAdam(FusedAdam):
    """Adam that updates only the rows which a step has used, where the gradient says which.

    For each row r of a gradient that is tf.IndexedSlices, duplicates summed up to g_r:

        m_r <- m_r + (1 - beta_1) (g_r - m_r),    v_r <- v_r + (1 - beta_2) (g_r^2 - v_r),
        w_r <- w_r - rate sqrt(1 - beta_2^n) / (1 - beta_1^n) m_r / (sqrt(v_r) + epsilon)

    n = step + 1 counts the steps of the optimizer, not those of the row. All other rows stay as
    they are: their m and v do not decay, and their w does not drift on with m. So this is Adam if
    every row has a gradient in every step, and another algorithm if not. A dense gradient is
    updated as by `FusedAdam`. A step costs what the rows in use cost, however many there are.

    `clipnorm`, `global_clipnorm` and `clipvalue` act on the summed rows, and clip as on the dense
    gradient. `weight_decay` and `use_ema` are Keras's own: they are right, but pass over all rows
    in every step. So does keras.optimizers.LossScaleOptimizer, that is "mixed_float16", when it
    looks for numbers that are not finite; "mixed_bfloat16" needs none. The saved variables are
    those of Adam, and a resumed run goes on exactly.

    Args:
        learning_rate and all others: of `keras.optimizers.Adam`, but for those below.

    Raises:
        ValueError: if `amsgrad`, `gradient_accumulation_steps` or `loss_scale_factor` is set; Keras
            would make the gradients dense for them.

    Example:

    >>> optimizer = kzoo.LazyAdam(learning_rate=0.1)
    >>> w = keras.Variable([[1.0], [2.0], [3.0]])
    >>> optimizer.apply([tf.IndexedSlices(tf.constant([[0.5], [0.5]]), [2, 2], [3, 1])], [w])
    >>> w.numpy().round(4).ravel()
    array([1. , 2. , 2.9], dtype=float32)
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in ("amsgrad", "gradient_accumulation_steps", "loss_scale_factor"):
            if getattr(self, name):
                raise ValueError(
                    f"`{name}` must not be set: it makes the gradients of LazyAdam dense, "
                    f"got {name}={getattr(self, name)}."
                )

    def _clipped(self, grads):
        # Keras would add up the squares of duplicates one by one, and makes the gradients dense.
        grads = [_summed(g) if isinstance(g, tf.IndexedSlices) else g for g in grads]
        if self.clipnorm:
            return [tf.clip_by_norm(g, self.clipnorm) for g in grads]
        if self.global_clipnorm:
            return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]
        return [tf.clip_by_value(g, -self.clipvalue, self.clipvalue) for g in grads]

    def update_step(self, gradient, variable, learning_rate):
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        weight, m, v = (
            x.value if isinstance(x, keras.Variable) else x
            for x in (variable, self._momentums[index], self._velocities[index])
        )
        gradient = _summed(gradient)
        rows, g = gradient.indices, tf.cast(gradient.values, dtype)
        beta_1, beta_2, n = (
            tf.cast(x, dtype) for x in (self.beta_1, self.beta_2, self.iterations + 1)
        )
        rate = tf.cast(learning_rate, dtype) * tf.sqrt(1 - beta_2**n) / (1 - beta_1**n)
        m_rows, v_rows = tf.gather(m, rows), tf.gather(v, rows)
        m_rows += (1 - beta_1) * (g - m_rows)
        v_rows += (1 - beta_2) * (tf.square(g) - v_rows)
        step = rate * m_rows / (tf.sqrt(v_rows) + self.epsilon)
        m.scatter_update(tf.IndexedSlices(m_rows, rows))
        v.scatter_update(tf.IndexedSlices(v_rows, rows))
        weight.scatter_sub(tf.IndexedSlices(step, rows))


def _done(nothing):
    """What both branches of a condition return that is about their effects alone."""
    return tf.constant(True)


def _summed(gradient):
    """IndexedSlices with each row once."""
    rows, place = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)
