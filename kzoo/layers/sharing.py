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
