"""Keras's `fit` over several workers, in the two places where Keras 3.15 fails: keras #20585.

Keras reduces what a step reports along axis 0, which scalars do not have, and builds a model from
the mean of a batch over the replicas, which masks do not have. A model with this mixin trains under
tf.distribute.MultiWorkerMirroredStrategy, and under MirroredStrategy, as plain Keras models will.
"""

import keras
import tensorflow as tf

from kzoo.layers import replicas

KERAS_FAILS = tuple(map(int, keras.__version__.split(".")[:2])) <= (3, 15)


class DistributedFit:
    """A mixin of keras.Model: `fit` and `evaluate` under any strategy of tf.distribute."""

    def _make_function(self, step_function):
        if KERAS_FAILS and replicas.has_workers(self.distribute_strategy):
            step_function = _reporting_rows(step_function)
        return super()._make_function(step_function)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # From the shapes alone: reading a batch would change the order of a shuffled dataset.
        if self._distribute_strategy is not None and iterator is not None:
            specs = iterator.data_adapter.get_tf_dataset().element_spec
            if not isinstance(specs, tf.distribute.DistributedValues):
                iterator, data_batch = None, specs
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)


def _reporting_rows(step_function):
    """The step, with an axis of one row before each scalar that it reports, to be reduced along."""

    def step(data):
        return tf.nest.map_structure(lambda x: tf.reshape(x, [1]), step_function(data))

    return step


def sharded_by_data(x, strategy):
    """A dataset whose batches all workers read, each of them to take its part of the rows.

    TensorFlow would give each worker some of the files that a dataset reads, where it reads files:
    other batches than those of one process. What the user has set stays.

    Args:
        x: what `fit` is given.
        strategy: tf.distribute.Strategy.
    """
    if not isinstance(x, tf.data.Dataset) or not replicas.has_workers(strategy):
        return x
    policy = tf.data.experimental.AutoShardPolicy
    if x.options().experimental_distribute.auto_shard_policy != policy.AUTO:
        return x
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = policy.DATA
    return x.with_options(options)
