"""model.json beside a SavedModel: what the Keras model is made of, to train it further.

The weights stand in the SavedModel once, in the order that `variables` says; `pretrained.exported`
reads them. A server does not look at the file.
"""

import json

import keras

FILE = "model.json"


def write(folder, model, variables):
    """Writes the configuration of a model, with its tokenizers, unless Keras cannot serialize it.

    Args:
        folder: pathlib.Path of the SavedModel.
        model: keras.Model.
        variables: of each variable `weights/0`, `weights/1`, ... of the SavedModel, which of
            `model.weights` it is, None for none, and the number of the variable that it has to be
            multiplied with, None for none.
    """
    try:
        serialized = keras.saving.serialize_keras_object(model)
        content = {
            "keras": keras.__version__,
            "model": {k: v for k, v in serialized.items() if k != "compile_config"},
            "weights": [[weight.path, list(weight.shape)] for weight in model.weights],
            "variables": [place for place, _ in variables],
            "scales": [scale for _, scale in variables],
        }
        text = json.dumps(content, ensure_ascii=False)
    except (NotImplementedError, TypeError):  # a user's layer that does not say what it is made of
        return
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
