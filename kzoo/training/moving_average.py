"""The exponential moving average of the weights, which validation sees and checkpoints keep."""

import keras


class MovingAverage(keras.callbacks.Callback):
    """Has validation, and the callbacks after it, see the moving average of the weights.

    Polyak & Juditsky (1992), https://doi.org/10.1137/0330046, with the exponential weights that
    `use_ema` of Keras's optimizers computes. Training goes on from the weights themselves: at the
    end of an epoch they come back with `back`, which stands after all callbacks that score or save.
    `keras.callbacks.SwapEMAWeights` has what is saved, and resumed from, be the average. So has
    `fit` itself, which ends with the average in the model before any callback hears of it; here
    that comes after the callbacks that stand before this one, as `Checkpoints`.

        average = MovingAverage()
        callbacks = [average, ValidationScore(...), BestWeights(...), average.back, ...]

    Attributes:
        back: keras.callbacks.Callback.
    """

    def __init__(self):
        super().__init__()
        self.back = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._swap())

    def on_train_begin(self, logs=None):
        if not self._optimizer().use_ema:
            raise ValueError("`optimizer` must have use_ema=True for a MovingAverage.")
        self._optimizer().finalize_variable_values = lambda variables: None

    def on_train_end(self, logs=None):
        optimizer = self._optimizer()
        del optimizer.finalize_variable_values  # the class has it
        optimizer.finalize_variable_values(self.model.trainable_variables)

    def on_epoch_end(self, epoch, logs=None):
        self._swap()

    def on_test_begin(self, logs=None):
        self._swap()

    def on_test_end(self, logs=None):
        self._swap()

    def _optimizer(self):
        """The one that has the averages: that of mixed_float16 wraps it."""
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def _swap(self):
        optimizer = self._optimizer()
        averages = optimizer._model_variables_moving_average
        for weight, average in zip(optimizer._trainable_variables, averages, strict=True):
            mine = keras.ops.convert_to_numpy(weight)
            weight.assign(keras.ops.convert_to_numpy(average))
            average.assign(mine)
