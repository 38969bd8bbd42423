"""Batches of features, of speech for example, within a budget of frames."""

import numpy as np
import tensorflow as tf

from kzoo.batching.labels import decoder_ids
from kzoo.batching.passes import ids_of, planned_batches


def frame_batches(
    frames, target, batch_frames, seed=None, pool=100_000, names=None, draw=None, start=0
):
    """Makes the dataset of teacher-forcing batches of features, of speech for example.

    Args:
        frames: sequence of N arrays (S, F) float32, such as a list, or views of a file in memory;
            only those of a batch are read.
        target: (N, None) ragged int32 ids, without start and end, or `text.SampledSubwords`.
        batch_frames: int, most frames of a batch, padding included; as `batch_tokens` of `plan`.
        seed, pool: as in `token_batches`.
        names: list of N str, such as files, or None.
        draw, start: as in `token_batches`.

    Returns:
        tf.data.Dataset of `({"source": (B, S, F) float32, "source_mask": (B, S) bool,
        "target": (B, T) int32}, labels (B, T))`; the latter as in `teacher_forcing`. With `names`,
        the inputs hold those of the batch as "name" (B,) string, too.

    Raises:
        ValueError: as `plan`.
    """
    lengths = np.array([len(each) for each in frames], int)
    size = frames[0].shape[1] if len(frames) else None

    def read(rows):
        return padded([frames[index] for index in rows])

    def gather(rows, number):
        source, mask = tf.numpy_function(read, [rows], [tf.float32, tf.bool])
        source = tf.ensure_shape(source, (None, None, size))
        mask = tf.ensure_shape(mask, (None, None))
        shifted, labels = decoder_ids(ids_of(target, rows, number))
        inputs = {"source": source, "source_mask": mask, "target": shifted}
        return inputs | ({} if names is None else {"name": tf.gather(names, rows)}), labels

    target_lengths = target.row_lengths().numpy()
    return planned_batches(lengths, target_lengths, batch_frames, gather, seed, pool, start, draw)


def padded(frames):
    """Arrays of features in one: list of (S, F) -> source (B, S, F) float32, mask (B, S) bool."""
    lengths = np.array([len(each) for each in frames])
    source = np.zeros((len(frames), lengths.max(), frames[0].shape[1]), np.float32)
    for row, each in zip(source, frames, strict=True):
        row[: len(each)] = each
    return source, np.arange(lengths.max()) < lengths[:, None]
