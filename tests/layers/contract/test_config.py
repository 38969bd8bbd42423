"""A layer comes back from its config, with its dtype policy and its weights."""

import keras
from layer_calls import assert_equal, call, floats, inputs_of
from layer_table import CASES, every_layer


@every_layer
def test_a_layer_comes_back_from_its_config(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config() == layer.get_config()
    through_keras = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert through_keras.get_config() == layer.get_config()
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


@every_layer
def test_a_layer_frozen_before_it_is_built_stays_frozen(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    layer.trainable = False
    call(layer, values)
    assert not [variable.path for variable in layer.variables if variable.trainable]
