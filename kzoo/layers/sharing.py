"""Layers with several owners, as an embedding that encoder, decoder and head have in common."""

import keras


def serialize(layer):
    """Returns the config of a layer, marked so that a loaded model has it once for all owners.

    Keras marks what it meets a second time, but it copies configs and so loses the first mark.

    Args:
        layer: keras.layers.Layer or None.

    Returns:
        dict for `keras.saving.deserialize_keras_object`, or None.
    """
    if layer is None:
        return None
    return {**keras.saving.serialize_keras_object(layer), "shared_object_id": id(layer)}


def deserialize(config, *names):
    """Returns the config of a layer with the layers named in it made from their configs.

    Args:
        config: dict, of the layer that owns them.
        *names: str, arguments that hold what `serialize` returned. One that an older version did
            not write is left out.

    Returns:
        dict, arguments of the constructor.
    """
    nested = {
        name: keras.saving.deserialize_keras_object(config[name])
        for name in names
        if name in config
    }
    return {**config, **nested}
