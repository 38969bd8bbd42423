"""Batches of like length out of any dataset of pairs of texts, made by operations of graphs alone.

Such a dataset can be read from any place that tf.data reads, and a tf.data service can make it on
other machines. `token_batches` plans a pass ahead, with less padding, and can be resumed.

Axis letters: B batch, T target steps, S source steps.
"""

import tensorflow as tf

from kzoo import checks
from kzoo.batching.labels import teacher_forcing

_NARROWEST = 8  # most tokens of a side in the first bucket, end included
_GROWTH = 1.1  # from bucket to bucket
_CHUNK = 256  # pairs that are tokenized together


def bucketed_batches(pairs, source_tokenizer, target_tokenizer, batch_tokens, *, max_length):
    """Makes the dataset of teacher-forcing batches for `fit` out of a dataset of pairs.

    A pair waits in the bucket of its length, that of the longer side, until there are enough of
    them for a batch, in the order in which they come: shuffle `pairs` for another order in each
    pass. The longer sides of a bucket are of 1 to 8 tokens, or differ by at most a ninth of the
    longest, so most of the padding is where the sides of a pair differ in length. The last batch of
    each bucket may have fewer pairs. Pairs with a side that has no token are left out.

    Args:
        pairs: tf.data.Dataset of (source, target), () string each.
        source_tokenizer, target_tokenizer: of `kzoo.text`.
        batch_tokens: int, most tokens of a batch on either side, padding and end included; a longer
            pair makes a batch of its own.
        max_length: int, most tokens of a text; of longer ones the rest is cut off.

    Returns:
        tf.data.Dataset of `({"source": (B, S), "target": (B, T)}, labels (B, T))` as in
        `teacher_forcing`. Its number of batches is unknown: `repeat` it, and give `fit`
        `steps_per_epoch`. It has no "copy_ids", which models that copy need.

    Raises:
        ValueError: `pairs` holds something else, or a number is below 1.

    Example:
        >>> letters = kzoo.CharacterTokenizer.learn(["abc"], vocabulary_size=10)
        >>> pairs = tf.data.Dataset.from_tensor_slices((["ab", "c", "b"], ["ba", "c", "b"]))
        >>> batches = bucketed_batches(pairs, letters, letters, batch_tokens=16, max_length=9)
        >>> [inputs["source"].shape.as_list() for inputs, _ in batches]
        [[2, 3], [1, 2]]
    """
    checks.integer(1, batch_tokens=batch_tokens, max_length=max_length)
    batch_tokens, max_length = int(batch_tokens), int(max_length)
    spec = getattr(pairs, "element_spec", type(pairs))
    sides = spec if isinstance(spec, tuple) else ()
    is_text = [(each.dtype, each.shape) == (tf.string, ()) for each in sides]
    checks.require(
        is_text == [True, True],
        "must be a dataset of (source, target), one string each",
        pairs=spec,
    )
    widths = tf.constant(_widths(max_length + 1), tf.int64)

    def tokenize(source, target):
        both = source_tokenizer.tokenize(source), target_tokenizer.tokenize(target)
        return tuple(ids[:, :max_length] for ids in both)

    def has_tokens(source, target):
        return tf.size(source) > 0 and tf.size(target) > 0

    def bucket(source, target):
        width = tf.maximum(tf.size(source, tf.int64), tf.size(target, tf.int64)) + 1  # the end
        return tf.searchsorted(widths, width[tf.newaxis], out_type=tf.int64)[0]

    def rows(number):
        return tf.maximum(batch_tokens // tf.gather(widths, number), 1)

    ids = pairs.batch(_CHUNK).map(tokenize, num_parallel_calls=2).unbatch().filter(has_tokens)
    grouped = ids.group_by_window(
        bucket, lambda number, window: window.ragged_batch(rows(number)), window_size_func=rows
    )
    return grouped.map(teacher_forcing, num_parallel_calls=2).prefetch(8)


def _widths(widest):
    """Most tokens of a side in each bucket: list of int, the last one `widest`."""
    widths = [_NARROWEST]
    while widths[-1] < widest:
        widths.append(max(int(_GROWTH * widths[-1]), widths[-1] + 1))
    return [*widths[:-1], max(widest, _NARROWEST)]
