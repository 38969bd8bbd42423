"""kzoo's own SavedModels -> Keras models, to be trained further.

model = pretrained.load("saved_models/en-de")
"""

import itertools
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo.export.folder import of_saved_model
from kzoo.export.keras_model import FILE
from kzoo.export.precision import in_policy


def from_saved_model(path):
    """The model that `export.save` wrote, with its weights and tokenizers, not compiled.

    It computes in the global dtype policy, whatever it was trained or exported in. Weights of an
    export in bfloat16 or int8 come back as the float32 numbers that they are.

    Args:
        path: str or path of a SavedModel, or of a folder of versions, of which the highest counts.

    Returns:
        Seq2Seq, CTCModel or Ensemble.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: it is no SavedModel of kzoo, it was written before kzoo wrote `model.json`, a
            layer of it is not known here, or variables are missing or of another shape.
    """
    folder = of_saved_model(path)
    file = folder / FILE
    if not file.is_file():
        raise ValueError(
            f"{folder} must hold {FILE}, which says how to make the Keras model again, and has "
            "none: it was not written by kzoo.export.save, or by an older one."
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        serialized, shapes, places = (content[n] for n in ("model", "weights", "variables"))
        scales = content.get("scales", [None] * len(places))  # older files have none
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected what kzoo.export.save writes, got {error}") from error
    try:
        model = keras.saving.deserialize_keras_object(
            in_policy(keras.config.dtype_policy().name, serialized)
        )
        build = serialized.get("build_config")
        if build and not model.built:
            model.build_from_config(build)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: cannot make the model: {error}") from error
    _check_weights(file, model, shapes)
    _assign(folder, model, places, scales)
    return model


def _check_weights(file, model, shapes):
    """Raises ValueError unless the model has the weights that the file lists."""
    found = [list(weight.shape) for weight in model.weights]
    if found != [shape for _, shape in shapes]:
        pairs = enumerate(zip(shapes, found, strict=False))
        odd = next((n for n, ((_, a), b) in pairs if a != b), min(len(shapes), len(found)))
        raise ValueError(
            f"{file}: the model must have {len(shapes)} weights of the shapes listed, "
            f"got {len(found)}; the first that differs has number {odd}."
        )


def _assign(folder, model, places, scales):
    """Sets the weights to the variables of the SavedModel."""
    reader = tf.train.load_checkpoint(str(Path(folder, "variables", "variables")))
    weights = model.weights

    def read(number):
        name = f"weights/{number}/.ATTRIBUTES/VARIABLE_VALUE"
        if not reader.has_tensor(name):
            raise ValueError(f"{folder}: the variable of {weights[place].path} is missing.")
        return np.asarray(reader.get_tensor(name)).astype("float32")

    for number, (place, scale) in enumerate(itertools.zip_longest(places, scales)):
        if place is None:
            continue
        value = read(number) * (1 if scale is None else read(scale))
        if value.shape != tuple(weights[place].shape):
            raise ValueError(
                f"{folder}: {weights[place].path} must have shape {tuple(weights[place].shape)}, "
                f"got {value.shape}."
            )
        weights[place].assign(value)
