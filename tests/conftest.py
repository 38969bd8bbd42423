"""Quiet, on the CPU, from a fixed seed."""

import contextlib
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import pytest
import tensorflow as tf

from kzoo import training

# TensorFlow's optimizer of graphs takes a third of the time of a small graph that runs once. The
# contract of the layers, recipes, sessions, servers and all fresh processes have it.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True, scope="module")
def fresh_tensorflow():
    """A file begins with TensorFlow's seed, and without the kernels and graphs of those before."""
    gc.collect()
    tf.random.set_seed(1)


@pytest.fixture(autouse=True)
def seed(monkeypatch):
    """Of Keras, NumPy and Python. TensorFlow's own, for ops with a state, is set once a file: that
    drops the kernels of all ops, and with new ones eager tests took half as long again."""
    with monkeypatch.context() as patch:
        patch.setattr(tf.random, "set_seed", lambda seed: None)
        keras.utils.set_random_seed(1)


@pytest.fixture(scope="module")
def optimized_graphs():
    """Graphs run as users run them: with TensorFlow's optimizer of graphs."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture
def interrupted(monkeypatch):
    """`with interrupted(path)`: Ctrl-C in the first batch after a backup is written there."""

    @contextlib.contextmanager
    def interrupt(backup):
        def on_train_batch_end(self, batch, logs=None):
            if backup.exists():
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(training.TimeBudget, "on_train_batch_end", on_train_batch_end)
            with pytest.raises(KeyboardInterrupt):
                yield

    return interrupt
