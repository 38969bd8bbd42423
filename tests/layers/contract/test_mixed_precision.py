"""Half precision computes close to float32, and its weights stay float32."""

import keras
import pytest
import tensorflow as tf
from layer_calls import assert_equal, call, floats, inputs_of
from layer_table import CASES, every_layer


@every_layer
@pytest.mark.parametrize("half_type", ["bfloat16", "float16"])
def test_mixed_precision_gives_numbers_close_to_float32(name, half_type):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    keras.config.set_dtype_policy(f"mixed_{half_type}")
    try:
        half = case.make()
        outputs = call(half, values)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(layer.get_weights())
    outputs = call(half, values)
    for x, y in zip(outputs, expected, strict=True):
        assert x.dtype == (tf.as_dtype(half_type) if y.dtype.is_floating else y.dtype)
    assert all(variable.dtype == "float32" for variable in half.trainable_variables)
    assert_equal(floats(outputs), floats(expected), atol=0.1)
