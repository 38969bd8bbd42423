"""Padding changes nothing, and a row without a real step gives zeros."""

import numpy as np
from layer_calls import assert_equal, blank, call, floats, inputs_of, real_steps
from layer_table import CASES, MASK, S, V, every_layer, with_a_mask


@every_layer
def test_garbage_in_the_padding_changes_nothing(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    garbage = V - 1 if values[case.padded].ndim == 2 else np.nan
    dirty = values | {case.padded: blank(values[case.padded], garbage)}
    assert_equal(real_steps(case, call(layer, dirty)), real_steps(case, expected))


@with_a_mask
def test_a_row_without_a_real_step_gives_zeros_and_leaves_the_others_alone(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    values[case.mask] = np.stack([MASK[0], np.zeros(S, bool)])
    outputs = floats(call(layer, values))
    for x, y in zip(outputs, expected, strict=True):
        assert np.isfinite(x).all()
        np.testing.assert_allclose(x[0], floats([y])[0][0], atol=1e-5)
        # What has the steps of the padded argument on an axis: memory, masks, attention weights
        # over its steps. A padded query has weights too: its context is what is blanked.
        if S in x.shape[1:] and not (x.ndim == 4 and case.padded == "x"):
            np.testing.assert_array_equal(x[1], np.zeros_like(x[1]))
