"""Runs are trained and scored as users run them: with TensorFlow's optimizer of graphs."""

import pytest
import tensorflow as tf


@pytest.fixture(autouse=True, scope="package")
def optimized_graphs():
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
