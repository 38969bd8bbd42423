"""The precision that an exported model computes in, and that its weights are stored in."""

import contextlib
import json
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

PRECISIONS = ("float32", "bfloat16_weights", "int8_weights", "bfloat16")


@contextlib.contextmanager
def computing_in(precision, model):
    """Yields what to trace for an export: a copy `to_bfloat16`, or the model `in_float32`."""
    if precision == "bfloat16":
        yield to_bfloat16(model)
        return
    with in_float32(model):
        yield model


class Bfloat16Weight:
    """A weight rounded to bfloat16: half the room."""

    scale = None

    def __init__(self, weight):
        self.value = tf.Variable(tf.cast(weight.value, tf.bfloat16), trainable=False)

    def read(self):
        return tf.cast(self.value, tf.float32)


class Int8Weight:
    """A weight rounded to int8, in steps of its own for each channel: a quarter of the room.

        stored = round(w / scale), scale = max |w| / 127 over a channel

    A channel is an entry of the last axis, as of a kernel's output, or of the first, as of an
    embedding's word: whichever of the two is rounded less.
    """

    def __init__(self, weight):
        weight = weight.numpy()
        found = [_rounded(weight, axis) for axis in (weight.ndim - 1, 0)]
        stored, scale = min(found, key=lambda each: np.square(each[0] * each[1] - weight).sum())
        self.value = tf.Variable(stored.astype("int8"), trainable=False)
        self.scale = tf.Variable(scale, trainable=False)

    def read(self):
        return tf.cast(self.value, tf.float32) * self.scale


def _rounded(weight, axis):
    """Whole numbers from -127 to 127, and the scale (1, ..., C, ..., 1) of the channels."""
    others = tuple(each for each in range(weight.ndim) if each != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)
    return np.round(weight / np.where(scale == 0, 1, scale)), scale


class StoredWeights:
    """Matrices and kernels of a model in few bits, for a graph that computes with them in float32.

    Vectors (biases, scales) stay as they are: they are few. A call holds what it reads in float32
    beside what is stored: it is less room on disk, not in memory.

    Args:
        model: keras.Model, its weights built.
        kind: Bfloat16Weight or Int8Weight.

    Attributes:
        pairs: list of (Keras variable, what it is stored as).
    """

    def __init__(self, model, kind):
        self.pairs = [
            (weight, kind(weight))
            for weight in model.weights
            if len(weight.shape) > 1 and weight.dtype == "float32"
        ]

    def read_in(self, function):
        """`function`, traced with the stored weights in the place of the model's.

        A graph reads those it uses once in a call, before any of its loops. Every function that
        becomes a graph of its own needs it: what one has read is not there in another.
        """

        def reading(*args, **kwargs):
            read = [(weight, stored.read()) for weight, stored in self.pairs]
            with keras.StatelessScope(state_mapping=read):
                return function(*args, **kwargs)

        return reading


STORED = {"bfloat16_weights": Bfloat16Weight, "int8_weights": Int8Weight}


@contextlib.contextmanager
def in_float32(model):
    """Lets all layers compute in float32 for a while; the weights are float32 in any case."""
    policies = {
        layer: layer.dtype_policy
        for layer in model._flatten_layers()
        if layer.compute_dtype in ("bfloat16", "float16")
    }
    try:
        for layer in policies:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in policies.items():
            layer.dtype_policy = policy


def to_bfloat16(model):
    """A copy of a model whose weights and sums are bfloat16: half the memory, on AMX faster.

    `mixed_bfloat16`, for training, has float32 weights that every step casts; here nothing is cast.

    Args:
        model: keras.Model, its weights built.

    Returns:
        keras.Model, not compiled.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, changed = Path(folder, "given.keras"), Path(folder, "bfloat16.keras")
        model.save(given)
        with zipfile.ZipFile(given) as old, zipfile.ZipFile(changed, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name == "config.json":
                    content = json.dumps(in_policy("bfloat16", json.loads(content)))
                new.writestr(name, content)
        return keras.saving.load_model(changed, compile=False)


def in_policy(name, config):
    """A serialized object with another name in every dtype policy."""
    if isinstance(config, list):
        return [in_policy(name, each) for each in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {**config["config"], "name": name}}
    return {key: in_policy(name, value) for key, value in config.items()}
