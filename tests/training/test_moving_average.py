import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo


class Seen(keras.callbacks.Callback):
    """The weight that a callback sees at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(self.model.get_weights()[0].item())


def fitted(epochs=3, wrapped=lambda optimizer: optimizer, **options):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[5.0]])])
    model.compile(wrapped(kzoo.FusedAdam(1.0, **options)), "mse")
    average, seen, after = kzoo.training.MovingAverage(), Seen(), Seen()
    data = tf.data.Dataset.from_tensors((tf.ones((2, 1)), tf.zeros((2, 1))))
    callbacks = [average, seen, average.back, after] if options else [after]
    logs = model.fit(
        data, validation_data=data, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
    ).history
    return seen.found, after.found, logs, model.get_weights()[0].item()


@pytest.mark.parametrize("kind", ["float32", "mixed_float16"])
def test_validation_sees_the_average_and_training_goes_on_from_the_weights(kind):
    def wrapped(optimizer):  # as Keras does in mixed_float16
        scales = keras.optimizers.LossScaleOptimizer
        return scales(optimizer, initial_scale=8.0) if kind == "mixed_float16" else optimizer

    _, weights, _, _ = fitted(wrapped=wrapped)
    seen, after, logs, last = fitted(wrapped=wrapped, use_ema=True, ema_momentum=0.75)
    expected = weights[:1]  # Keras's average begins with the weights after the first step
    for weight in weights[1:]:
        expected.append(0.75 * expected[-1] + 0.25 * weight)
    np.testing.assert_allclose(after, weights, rtol=1e-5)
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    np.testing.assert_allclose(logs["val_loss"], np.square(expected), rtol=1e-5)
    assert last == pytest.approx(expected[-1])  # Keras leaves the average in the model


def test_a_checkpoint_at_the_end_has_the_weights_and_goes_on_from_them(tmp_path):
    def train(epochs):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        model.set_weights([np.array([[5.0]])])
        model.compile(kzoo.FusedAdam(1.0, use_ema=True, ema_momentum=0.75), "mse")
        data = tf.data.Dataset.from_tensors((tf.ones((2, 1)), tf.zeros((2, 1)))).repeat()
        average = kzoo.training.MovingAverage()
        checkpoints = kzoo.training.Checkpoints(tmp_path / str(epochs), steps_per_epoch=1)
        callbacks = [checkpoints, average, average.back]
        options = {"steps_per_epoch": 1, "shuffle": False, "verbose": 0}
        model.fit(data, epochs=3, callbacks=callbacks, **options)
        if epochs > 3:
            model.fit(data, epochs=epochs, callbacks=callbacks, **options)
        return model.get_weights()[0].item()

    _, weights, _, last = fitted(use_ema=True, ema_momentum=0.75)
    assert train(3) == pytest.approx(last)
    (path,) = (tmp_path / "3").glob("checkpoint-*3.npz")
    with np.load(path) as saved:
        assert saved["variable-000000"].item() == pytest.approx(weights[-1])
    assert train(5) == pytest.approx(fitted(use_ema=True, ema_momentum=0.75, epochs=5)[3])


def test_an_optimizer_without_an_average_is_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(kzoo.FusedAdam(1.0), "mse")
    with pytest.raises(ValueError, match="`optimizer` must have use_ema=True"):
        callbacks = [kzoo.training.MovingAverage()]
        model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0, callbacks=callbacks)
