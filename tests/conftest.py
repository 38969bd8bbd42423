"""Quiet, on the CPU, from a fixed seed."""

import contextlib
import functools
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import pytest
import tensorflow as tf

from kzoo import training

# TensorFlow's optimizer of graphs takes a third of the time of a small graph that runs once. The
# contract of the layers, recipes, sessions, servers and all fresh processes have it.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# AutoGraph rewrites every function that a `tf.function` reaches, a fifth of the time of many tests,
# and finds nothing to rewrite in kzoo. The same tests as above have it.
with_autograph = tf.function
tf.function = functools.partial(with_autograph, autograph=False)


@pytest.fixture(autouse=True, scope="module")
def fresh_tensorflow():
    """A file begins with TensorFlow's seed, and without the kernels and graphs of those before."""
    gc.collect()
    gc.freeze()  # a collection no longer looks through what the files before have left
    tf.random.set_seed(1)


@pytest.fixture(autouse=True)
def seed(monkeypatch):
    """Of Keras, NumPy and Python. TensorFlow's own, for ops with a state, is set once a file: that
    drops the kernels of all ops, and with new ones eager tests took half as long again."""
    with monkeypatch.context() as patch:
        patch.setattr(tf.random, "set_seed", lambda seed: None)
        keras.utils.set_random_seed(1)


@pytest.fixture
def users_function():
    """`tf.function` as users have it, with AutoGraph."""
    return with_autograph


@pytest.fixture(scope="module")
def graphs_of_users():
    """Functions are made and run as users do it: with AutoGraph and TensorFlow's optimizer."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "function", with_autograph)
        yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture
def interrupted(monkeypatch):
    """`with interrupted(folder)`: Ctrl-C in the first batch after a checkpoint is written there."""

    @contextlib.contextmanager
    def interrupt(folder):
        def on_train_batch_end(self, batch, logs=None):
            if any(folder.glob("checkpoint-*.npz")):
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(training.TimeBudget, "on_train_batch_end", on_train_batch_end)
            with pytest.raises(KeyboardInterrupt):
                yield

    return interrupt


@pytest.fixture(scope="session")
def c_client(tmp_path_factory):
    """The path of tests/c_client.c as a program."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the wheel's libraries are .so")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    program = tmp_path_factory.mktemp("c_client") / "c_client"
    source, library = Path(__file__).parent / "c_client.c", tf.sysconfig.get_lib()
    subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", str(source), "-o", str(program),
         f"-I{tf.sysconfig.get_include()}", f"-L{library}", f"-Wl,-rpath,{library}",
         "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"],
        check=True,
    )  # fmt: skip
    return program
