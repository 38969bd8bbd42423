"""Passes over a training set, each in an order of its own, from any batch on."""

import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.batching.planning import plan


def planned_batches(
    source_lengths, target_lengths, batch_tokens, gather, seed, pool=100_000, start=0, draw=None
):
    """The dataset of what `gather` makes of the rows of each planned batch.

    Args:
        source_lengths, target_lengths, batch_tokens, pool: as in `plan`.
        gather: function of the rows of a batch, (B,) int64, and the numbers of pass and batch.
        seed, start, draw: as in `token_batches`.
    """

    def planned(rng):
        if draw is None:
            return plan(source_lengths, target_lengths, batch_tokens, rng, pool)
        checks.require(rng is not None, "must not be None with `draw`", seed=seed)
        rows = draw(rng)
        batches = plan(source_lengths[rows], target_lengths[rows], batch_tokens, rng, pool)
        return [rows[batch] for batch in batches]

    return gathered(planned, gather, seed, start)


def gathered(planned, gather, seed, start):
    """The dataset of what `gather` makes of each index array, which `planned` lists for a generator
    of random numbers. `gather` is also given the number of the pass and that in the pass."""

    def lists(number):
        batches = planned(pass_rng(seed, number))
        return [(rows, (number, place)) for place, rows in enumerate(batches)]

    numbered, count = pass_items(lists, start)
    signature = tf.TensorSpec([None], tf.int64), tf.TensorSpec([2], tf.int64)
    dataset = tf.data.Dataset.from_generator(numbered, output_signature=signature)
    dataset = dataset.map(gather, num_parallel_calls=2).prefetch(8)
    return of_length(dataset, count)


def of_length(dataset, count):
    """A dataset that has `count` batches, and nothing that TensorFlow should tune.

    An iterator that ends waits for the tuner: often as long again as it has lived, up to a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).with_options(options)


def pass_rng(seed, number):
    """The numpy Generator of a pass: int, list of int or None -> what is the same in every run."""
    return None if seed is None else np.random.default_rng([*np.ravel(seed).tolist(), number])


def pass_items(lists, start):
    """Passes over data that are drawn anew, from any batch on.

    Every pass has as many items as the first one: where one has more, the last ones are left out,
    and where it has fewer, the first ones come again.

    Args:
        lists: function from the number of a pass to the list of its items.
        start: int, the item to begin with, counted from 0 through all passes.

    Returns:
        items: function of no argument, which gives an iterator of as many items as a pass has. It
            begins where the iterator before ended; one that was not read to its end is repeated.
        count: int, the items of a pass.
    """
    count = len(lists(0))

    def items():
        nonlocal start
        number = None
        for place in range(start, start + count):
            if number != place // count:
                number = place // count
                found = lists(number)
            yield found[place % count % len(found)]
        start += count

    return items, count


def ids_of(ids, rows, number):
    """Some rows of ragged ids, or of what draws other ids at every number."""
    if isinstance(ids, tf.RaggedTensor):
        return tf.gather(ids, rows)
    flat, lengths = tf.numpy_function(ids.draw, [rows, number], [tf.int32, tf.int64])
    flat, lengths = tf.ensure_shape(flat, [None]), tf.ensure_shape(lengths, [None])
    return tf.RaggedTensor.from_row_lengths(flat, lengths)
