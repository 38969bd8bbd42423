"""What a layer of the table is called with, and what of its answer counts."""

import keras
import numpy as np
import tensorflow as tf
from layer_table import MASK, B, S, V


def inputs_of(case, seed=0):
    """Random arguments with zeros in the padding, and the mask if the layer takes one."""
    random = np.random.default_rng(seed)
    values = {}
    for name, (steps, features) in case.arguments.items():
        if features is None:
            values[name] = random.integers(1, V, (B, steps)).astype("int32")
        else:
            values[name] = random.normal(size=(B, steps, features)).astype("float32")
    values[case.padded] = blank(values[case.padded], 0)
    if case.mask:
        values[case.mask] = MASK
    return values


def blank(x, padding):
    mask = MASK if x.ndim == 2 else MASK[:, :, None]
    return np.where(mask, x, padding).astype(x.dtype)


def call(layer, values, **kwargs):
    return tf.nest.flatten(layer(**values, **kwargs))


def floats(outputs):
    return [tf.cast(x, tf.float32).numpy() for x in outputs]


def real_steps(case, outputs):
    """Outputs without the steps that are padding, where a layer leaves those as they fall."""
    return [x[MASK] if case.aligned and x.shape[:2] == (B, S) else x for x in floats(outputs)]


def assert_equal(actual, expected, atol=1e-5):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def symbolic_inputs(values):
    return {
        name: keras.Input((None, *x.shape[2:]), dtype=x.dtype.name, name=name)
        for name, x in values.items()
    }
