"""A layer comes back from its config, with its dtype policy and its weights."""

import keras
from layer_calls import assert_equal, call, floats, inputs_of
from layer_table import CASES, every_layer


def stripped(config):
    """A config without the names that Keras counts up and the marks of shared layers."""
    if isinstance(config, dict):
        return {k: stripped(v) for k, v in config.items() if k != "shared_object_id"}
    return config


@every_layer
def test_a_layer_comes_back_from_its_config(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    copy = type(layer).from_config(layer.get_config())
    assert stripped(copy.get_config()) == stripped(layer.get_config())
    through_keras = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert stripped(through_keras.get_config()) == stripped(layer.get_config())
    call(layer, values)
    call(copy, values)
    shapes = [variable.shape for variable in layer.weights]
    assert [variable.shape for variable in copy.weights] == shapes
    copy.set_weights(layer.get_weights())
    assert_equal(floats(call(copy, values)), floats(call(layer, values)))


@every_layer
def test_a_layer_given_a_dtype_policy_can_be_saved(name):
    layer = CASES[name].make()
    policy = keras.DTypePolicy("mixed_bfloat16")
    arguments = {**layer.get_config(), "dtype": policy}
    copy = type(layer).from_config(arguments)
    config = keras.saving.serialize_keras_object(copy)["config"]
    assert config["dtype"] == keras.saving.serialize_keras_object(policy)
