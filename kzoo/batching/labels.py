"""What a decoder reads under teacher forcing, and what it is to say.

Axis letters: B batch, T target steps, S source steps.
"""

import tensorflow as tf

from kzoo.text.special_ids import END_ID, START_ID


def teacher_forcing(source, target, copy_ids=None, names=None):
    """Turns ragged ids into padded inputs and labels.

    Args:
        source: (B, None) ragged int, without start and end.
        target: (B, None) ragged int, without start and end.
        copy_ids: (B, None) ragged int, one for each source token, or None.
        names: (B,) string, what messages call each pair, or None.

    Returns:
        `({"source": (B, S), "target": (B, T)}, labels (B, T))`, int32: the source and the labels
        end with END_ID, the target begins with START_ID. With `copy_ids`, the inputs have them as
        "copy_ids" (B, S): 0 for the end and the padding; with `names`, these as "name" (B,).
    """
    shifted, labels = decoder_ids(target)
    inputs = {"source": _ended(source).to_tensor(), "target": shifted}
    if copy_ids is not None:
        inputs["copy_ids"] = _ended(copy_ids, 0).to_tensor()
    if names is not None:
        inputs["name"] = names
    return inputs, labels


def decoder_ids(target):
    """What a decoder reads, beginning with START_ID, and what it is to say, ending with END_ID."""
    starts = tf.fill([target.nrows(), 1], tf.constant(START_ID, target.dtype))
    return tf.concat([starts, target], 1).to_tensor(), _ended(target).to_tensor()


def _ended(ids, end=END_ID):
    return tf.concat([ids, tf.fill([ids.nrows(), 1], tf.constant(end, ids.dtype))], 1)
