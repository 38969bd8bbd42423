"""What masks go in and out: every layer passes on the mask of its first sequence, shortened as it
shortens the sequence. Keras's losses and layers behind it read that mask."""

import numpy as np
import tensorflow as tf
from layer_calls import inputs_of
from layer_table import CASES, every_layer

LENGTHS = {  # real steps of the answer, of two rows: one without padding and one of 2 steps
    "PyramidalEncoder of ids": [3, 1],
    "PyramidalEncoder of features": [2, 1],
    "ConvStem": [3, 1],
    "ConvSubsampling": [2, 1],
    "ConvSubsampling by two": [3, 1],
    "SubsampledEncoder": [3, 1],
    "StreamingEncoder": [2, 1],
    "LengthHead": None,  # it answers with a number
}


@every_layer
def test_the_mask_of_the_first_sequence_goes_on(name):
    values = inputs_of(CASES[name])
    values.pop(CASES[name].mask, None)
    first, x = next(iter(values.items()))
    mask = np.arange(x.shape[1]) < [[x.shape[1]], [2]]
    is_ids = x.ndim == 2
    values[first] = tf.constant(np.where(mask, x, 0) if is_ids else x)
    if not is_ids:
        values[first]._keras_mask = tf.constant(mask)
    answer, *others = tf.nest.flatten(CASES[name].make()(**values))
    found = getattr(answer, "_keras_mask", None)
    expected = LENGTHS.get(name, [x.shape[1], 2])
    if expected is None:
        assert found is None
    else:
        lengths = np.array(expected)[:, None]
        np.testing.assert_array_equal(found, np.arange(answer.shape[1]) < lengths)
    assert all(getattr(other, "_keras_mask", None) is None for other in others)
