"""The ops that kzoo's SavedModels run and TensorFlow alone does not have."""

import functools
import importlib.util
from pathlib import Path

import tensorflow as tf

# Of an op that refuses its input. Its message may quote the input's bytes, and TensorFlow raises
# UnicodeDecodeError where they are not UTF-8.
REFUSALS = (tf.errors.InvalidArgumentError, UnicodeDecodeError)


@functools.cache
def register():
    """Registers the ops of tensorflow_text, as importing it does; but that imports Keras, too."""
    (package,) = importlib.util.find_spec("tensorflow_text").submodule_search_locations
    for library in sorted(Path(package, "python", "ops").glob("*.so")):
        tf.load_op_library(str(library))
