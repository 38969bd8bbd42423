"""Layers with several owners, as an embedding that encoder, decoder and head have in common.

A config marks such a layer, so that what is made of the config has it once:

    @sharing.numbered
    def get_config(self):
        return {**super().get_config(), "embedding": sharing.serialize(self.embedding), ...}

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "embedding", ...))
"""

import contextlib
import functools
import warnings

import keras
from keras.src.backend.common import global_state
from keras.src.saving.serialization_lib import ObjectSharingScope

_SAVED, _LOADED = "shared_objects/id_to_config_map", "shared_objects/id_to_obj_map"  # of Keras
_NUMBERED = "kzoo/numbered_layers"


@contextlib.contextmanager
def _numbering(owner):
    """Layers serialized inside are numbered as they are met, under the outermost owner's name."""
    if global_state.get_global_attribute(_NUMBERED) is not None:
        yield
        return
    global_state.set_global_attribute(_NUMBERED, (owner, []))
    try:
        yield
    finally:
        global_state.set_global_attribute(_NUMBERED, None)


def numbered(get_config):
    """Makes a `get_config` mark the layers that it serializes, the same model in the same way."""

    @functools.wraps(get_config)
    def marking(self):
        with _numbering(self.name):
            return get_config(self)

    return marking


@contextlib.contextmanager
def once():
    """What is made inside of configs with the same mark is one object; Keras does so in files."""
    if global_state.get_global_attribute(_LOADED) is not None:
        yield
    else:
        with ObjectSharingScope():
            yield


def serialize(layer):
    """Returns the config of a layer, marked so that a loaded model has it once for all owners.

    Keras marks what it meets a second time, but it copies configs and so loses the first mark.
    While it writes a file, its own marks stand in the configs of its own layers, and so in ours.
    Else a mark has the names of the outermost owner and of the layer: configs that were made apart
    may stand in one model.

    Keras keeps `trainable` of a layer with its arguments, and so only of layers that are arguments
    of others. "frozen_parts" has how many layers are inside of this one, and which are frozen.

    Args:
        layer: keras.layers.Layer, a tokenizer or a source, or None.

    Returns:
        dict for `restore`, or None.
    """
    if layer is None:
        return None
    with _numbering(layer.name):
        if global_state.get_global_attribute(_SAVED) is not None:
            mark = id(layer)
        else:
            owner, met = global_state.get_global_attribute(_NUMBERED)
            if not any(each is layer for each in met):
                met.append(layer)
            number = next(number for number, each in enumerate(met) if each is layer)
            mark = f"{owner}/{layer.name}/{number}"
        config = {**keras.saving.serialize_keras_object(layer), "shared_object_id": mark}
        parts = _parts(layer)
        frozen = [number for number, part in enumerate(parts) if not part.trainable]
        return {**config, "frozen_parts": [len(parts), *frozen]} if frozen else config


def restore(config):
    """Returns the layer that `serialize` gave the config of, frozen where it was."""
    layer = keras.saving.deserialize_keras_object(config)
    if isinstance(config, dict) and "frozen_parts" in config:
        count, *frozen = config["frozen_parts"]
        parts = _parts(layer)
        if len(parts) != count:
            warnings.warn(
                f"{layer.name} had {count} layers inside, some of them frozen, and has "
                f"{len(parts)} now: freeze them anew. Make the layers in `__init__`, not in "
                "`build`.",
                stacklevel=2,
            )
            return layer
        for number in frozen:
            parts[number].trainable = False
    return layer


def _parts(layer):
    """The layers inside of a layer, in the order in which it owns them; of what is none, none."""
    is_layer = isinstance(layer, keras.layers.Layer)
    return list(layer._flatten_layers(include_self=False)) if is_layer else []


def deserialize(config, *names):
    """Returns the config of a layer with the layers named in it made from their configs.

    Args:
        config: dict, of the layer that owns them.
        *names: str, arguments that hold what `serialize` returned. One that an older version did
            not write is left out.

    Returns:
        dict, arguments of the constructor.
    """
    nested = {name: restore(config[name]) for name in names if name in config}
    return {**config, **nested}
