"""A functional model answers the same from a `.keras` file and from a SavedModel.

The model is built once for both, and the SavedModel is read by TensorFlow 2 and by a session.
"""

import keras
import numpy as np
import tensorflow as tf
from layer_calls import assert_equal, call, floats, inputs_of, symbolic_inputs
from layer_table import CASES, every_layer


def functional_model(layer, values):
    inputs = symbolic_inputs(values)
    outputs = tf.nest.flatten(layer(**inputs))
    return keras.Model(inputs, {f"output_{i}": x for i, x in enumerate(outputs)})


@every_layer
def test_a_functional_model_survives_a_file_and_a_saved_model(name, tmp_path):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    model = functional_model(layer, values)
    expected = {key: np.array(x) for key, x in model(values).items()}
    assert_equal(floats(expected.values()), floats(call(layer, values)))

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(floats(loaded(values).values()), floats(expected.values()))

    archive = keras.export.ExportArchive()
    archive.track(model)
    specs = {
        key: tf.TensorSpec((None, None, *x.shape[2:]), x.dtype, name=key)
        for key, x in values.items()
    }
    archive.add_endpoint("serve", model, [specs])
    archive.write_out(str(tmp_path / "saved_model"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    answer = served.serve({key: tf.constant(x) for key, x in values.items()})
    assert_equal(floats(answer[key] for key in expected), floats(expected.values()))
    session = session_answer(tmp_path / "saved_model", values)
    assert_equal([session[key] for key in expected], floats(expected.values()))


def session_answer(path, values):
    """What a SavedModel answers to a TensorFlow 1 session, which is how servers load it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        signature = loaded.signature_def["serve"]
        names = {key: info.name for key, info in signature.outputs.items()}
        return session.run(names, {signature.inputs[k].name: values[k] for k in signature.inputs})
