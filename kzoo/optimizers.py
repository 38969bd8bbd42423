"""Learning-rate schedules."""

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
