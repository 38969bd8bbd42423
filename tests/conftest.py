"""Quiet, on the CPU, from a fixed seed."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import pytest


def pytest_configure(config):
    # Keras 3.15 saves weights with np.array(variable), which NumPy 2 wants with a `copy` argument.
    ignored = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(1)
