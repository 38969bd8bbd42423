"""Batches of captioned pictures, or of features of their regions."""

import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.batching.labels import decoder_ids
from kzoo.batching.passes import gathered, ids_of


def picture_batches(pictures, rows, target, batch_size, seed=None, draw=None, start=0):
    """Makes the dataset of teacher-forcing batches of pictures, or of features of their regions.

    Captions of one picture share it. Batches of features have captions of like length, as in Xu et
    al. (2015), https://arxiv.org/abs/1502.03044, section 4.3. Those of pixels are drawn at random:
    captions of one length are often of one kind, and batch normalization would see nothing else.

    Args:
        pictures: (N, H, W, 3) or (N, R, D) array of numbers, such as a file in memory; only those
            of a batch are read.
        rows: (M,) int, the picture of each caption.
        target: (M, None) ragged int32 ids, without start and end, or `text.SampledSubwords`.
        batch_size: int, captions of a batch; the last one may have fewer.
        seed, draw, start: as in `token_batches`; `draw` gives the captions of a pass.

    Returns:
        tf.data.Dataset of `({"source": (B, H, W, 3) or (B, R, D) float32, "target": (B, T) int32},
        labels (B, T))`; the latter as in `teacher_forcing`.

    Raises:
        ValueError: `batch_size` is not positive or `rows` and `target` differ in number.
    """
    rows = np.asarray(rows, np.int64)
    count = int(target.nrows())
    if batch_size < 1 or len(rows) != count:
        raise ValueError(
            "`batch_size` must be at least 1 and `rows` and `target` of one length, "
            f"got batch_size={batch_size}, {len(rows)} rows and {count} texts."
        )
    checks.require(draw is None or seed is not None, "must not be None with `draw`", seed=seed)
    lengths = target.row_lengths().numpy()

    def planned(rng):
        order = np.arange(count) if draw is None else draw(rng)
        if rng is not None:
            order = rng.permutation(order)
        starts = range(0, len(order), batch_size)
        sizes = [min(batch_size, len(order) - start) for start in starts]
        if pictures.ndim == 3:
            order = order[np.argsort(lengths[order], kind="stable")]
            if rng is not None:
                rng.shuffle(sizes)  # or the longest captions would always have the smallest batch
        batches = np.split(order, np.cumsum(sizes, dtype=int))[:-1]
        if pictures.ndim == 3 and rng is not None:
            rng.shuffle(batches)
        return batches

    def gather(batch, number):
        source = tf.numpy_function(lambda batch: pictures[rows[batch]], [batch], pictures.dtype)
        source = tf.ensure_shape(source, (None, *pictures.shape[1:]))
        shifted, labels = decoder_ids(ids_of(target, batch, number))
        return {"source": tf.cast(source, tf.float32), "target": shifted}, labels

    return gathered(planned, gather, seed, start)
