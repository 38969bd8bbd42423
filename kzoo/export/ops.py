"""The ops that kzoo's SavedModels run and TensorFlow alone does not have."""

import functools
import importlib.util
from pathlib import Path

import tensorflow as tf


@functools.cache
def register():
    """Registers the ops of tensorflow_text, as importing it does; but that imports Keras, too."""
    (package,) = importlib.util.find_spec("tensorflow_text").submodule_search_locations
    for library in sorted(Path(package, "python", "ops").glob("*.so")):
        tf.load_op_library(str(library))
