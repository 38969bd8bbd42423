"""Adam in one pass over the weights, and learning-rate schedules."""

import keras
import tensorflow as tf


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
    saved variables; a sparse gradient or `amsgrad` goes Keras's way.

    Example:

    >>> optimizer = kzoo.FusedAdam(learning_rate=0.1)
    >>> w = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([tf.constant([0.5, -3.0])], [w])
    >>> w.numpy().round(4)
    array([0.9, 2.1], dtype=float32)
    """

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
