"""Symbolic shape = eager shape, and batches and lengths of one and none."""

import numpy as np
import pytest
import tensorflow as tf
from layer_calls import assert_equal, call, floats, inputs_of, symbolic_inputs
from layer_table import CASES, B, S, T, every_layer


@every_layer
def test_symbolic_and_eager_shapes_agree(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    symbolic = tf.nest.flatten(layer(**symbolic_inputs(values)))
    eager = call(layer, values)
    sizes = {B, T, S}  # None in the symbolic shape
    for x, y in zip(symbolic, eager, strict=True):
        assert len(x.shape) == len(y.shape)
        assert x.dtype == y.dtype.name
        for unknown, known in zip(x.shape, y.shape, strict=True):
            assert unknown == known or (unknown is None and known in sizes)


def cut(values, rows, steps):
    """The first rows and steps of every argument."""
    return {key: x[:rows, :steps] for key, x in values.items()}


@every_layer
@pytest.mark.parametrize(("rows", "steps"), [(1, S), (B, 1), (1, 1), (B, 0)])
def test_one_and_none_are_numbers_of_rows_and_steps_too(name, rows, steps):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    whole = call(layer, values)
    shapes = [x.shape for x in whole]
    small = cut(values, rows, steps)
    compiled = tf.function(lambda values: call(layer, values))
    for outputs in (call(layer, small), compiled(small)):
        for x, shape in zip(outputs, shapes, strict=True):
            assert len(x.shape) == len(shape)
            assert x.shape[0] == rows
            assert np.isfinite(floats([x])[0]).all()
    if steps == S:
        assert_equal(floats(call(layer, small)), [x[:rows] for x in floats(whole)])
