"""The precision that an exported model computes in, however it was trained."""

import contextlib
import json
import tempfile
import zipfile
from pathlib import Path

import keras


@contextlib.contextmanager
def computing_in(precision, model):
    """Yields what to trace for an export: a copy `to_bfloat16`, or the model `in_float32`."""
    if precision == "bfloat16":
        yield to_bfloat16(model)
        return
    with in_float32(model):
        yield model


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
