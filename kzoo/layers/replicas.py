"""Sums and means over the replicas of a distribution strategy.

Keras adds up the gradients of the replicas. Of a mean over a batch that has C tokens in all, the
share of each replica is the sum over its own tokens divided by C, not by the number of its own.
"""

import tensorflow as tf


def total(x):
    """The sum of a tensor over all replicas that compute this step; itself without a strategy."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


def mean(x, count):
    """The share of this replica in the mean over all: its sum x / the count of all; 0 of none."""
    return tf.math.divide_no_nan(x, total(count))


def reported(loss, count):
    """What a metric that is a mean is given of the share of a replica: the same on all of them.

    Then each reports the running mean of the whole batches, and so does their sum.
    """
    return total(loss), total(count)


def share(x):
    """The share of this replica in what is no mean over a batch, as a penalty on weights."""
    context = tf.distribute.get_replica_context()
    return x if context is None else x / context.num_replicas_in_sync


def has_workers(strategy):
    """Whether a strategy computes in several processes, as MultiWorkerMirroredStrategy may."""
    cluster = getattr(strategy, "cluster_resolver", None)
    jobs = cluster.cluster_spec().as_dict() if cluster is not None else {}
    return sum(len(jobs.get(job, ())) for job in ("chief", "worker")) > 1
