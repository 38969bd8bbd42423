"""Layers with several owners, as an embedding that encoder, decoder and head have in common.

A config marks such a layer with a number, so that what is made of the config has it once:

    @sharing.numbered()
    def get_config(self):
        return {**super().get_config(), "embedding": sharing.serialize(self.embedding), ...}

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "embedding", ...))
"""

import contextlib

import keras
from keras.src.backend.common import global_state
from keras.src.saving.serialization_lib import ObjectSharingScope

_SAVED, _LOADED = "shared_objects/id_to_config_map", "shared_objects/id_to_obj_map"  # of Keras
_NUMBERED = "kzoo/numbered_layers"


@contextlib.contextmanager
def numbered():
    """What is serialized inside is numbered as it is met: the same model, the same config.

    Needed where several layers are serialized, whose numbers must differ. The outermost counts.
    """
    if global_state.get_global_attribute(_NUMBERED) is not None:
        yield
        return
    global_state.set_global_attribute(_NUMBERED, [])
    try:
        yield
    finally:
        global_state.set_global_attribute(_NUMBERED, None)


@contextlib.contextmanager
def once():
    """What is made inside of configs with the same mark is one object; Keras does so in files."""
    if global_state.get_global_attribute(_LOADED) is not None:
        yield
    else:
        with ObjectSharingScope():
            yield


@numbered()
def serialize(layer):
    """Returns the config of a layer, marked so that a loaded model has it once for all owners.

    Keras marks what it meets a second time, but it copies configs and so loses the first mark.
    While it writes a file, its own marks stand in the configs of its own layers, and so in ours.

    Args:
        layer: keras.layers.Layer or None.

    Returns:
        dict for `keras.saving.deserialize_keras_object`, or None.
    """
    if layer is None:
        return None
    if global_state.get_global_attribute(_SAVED) is not None:
        mark = id(layer)
    else:
        met = global_state.get_global_attribute(_NUMBERED)
        if not any(each is layer for each in met):
            met.append(layer)
        mark = next(number for number, each in enumerate(met) if each is layer)
    return {**keras.saving.serialize_keras_object(layer), "shared_object_id": mark}


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
