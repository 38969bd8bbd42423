"""Batches of pairs of texts within a budget of tokens."""

import tensorflow as tf

from kzoo.batching.labels import teacher_forcing
from kzoo.batching.passes import ids_of, planned_batches


def token_batches(corpus, batch_tokens, seed=None, pool=100_000, draw=None, start=0):
    """Makes the dataset of teacher-forcing batches for `fit`.

    Each pass over a shuffled dataset has an order of its own, which `seed` and the number of the
    pass decide; one that was not read to its end is begun again. What is read ahead counts as read:
    give `fit` a dataset that nothing else has looked into. The dataset knows its number of
    batches, so `fit` shows a proper progress bar.

    Args:
        corpus: `Corpus`.
        batch_tokens, pool: as in `plan`.
        seed: int or list of int to shuffle, None to keep one fixed order.
        draw: function from a numpy Generator to the (M,) rows of a pass, as `mixed` gives
            it; None for all rows, each once. Needs a seed.
        start: int, the batch that the dataset begins with, counted from 0 through all passes, where
            a resumed training goes on. Each pass has all batches, and then ends within an order.

    Returns:
        tf.data.Dataset of `({"source", "target"}, labels)` as in `teacher_forcing`. With names in
        the corpus, the inputs hold those of the batch as "name" (B,), too.
    """
    *ids, names = corpus

    def gather(rows, number):
        sides = (None if side is None else ids_of(side, rows, number) for side in ids)
        return teacher_forcing(*sides, None if names is None else tf.gather(names, rows))

    lengths = corpus.source.row_lengths().numpy(), corpus.target.row_lengths().numpy()
    return planned_batches(*lengths, batch_tokens, gather, seed, pool, start, draw)
