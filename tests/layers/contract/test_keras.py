"""Keras's own test of layers: configs, attributes, building, symbolic and eager calls, precisions.

Its training step is left out: it knows layers of one input only, and test_gradients has all."""

from keras.src import testing
from layer_calls import inputs_of
from layer_table import CASES, every_layer


class KerasTest(testing.TestCase):
    def runTest(self):
        pass  # unittest wants one


@every_layer
def test_keras_finds_no_fault(name):
    case = CASES[name]

    def make(dtype=None):
        layer = case.make()
        return layer if dtype is None else layer.from_config({**layer.get_config(), "dtype": dtype})

    values = {key: x for key, x in inputs_of(case).items() if key != case.mask}
    shapes = {f"{key}_shape": x.shape for key, x in values.items()}
    dtypes = {f"{key}_shape": x.dtype.name for key, x in values.items()}
    if len(values) == 1:
        (shapes,), (dtypes,) = shapes.values(), dtypes.values()
    KerasTest().run_layer_test(
        make, {}, input_shape=shapes, input_dtype=dtypes, run_training_check=False
    )
