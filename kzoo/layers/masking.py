"""Masks, masked softmax and mean, ragged <-> dense.

Masks are boolean and True marks what is real. Axis letters: B batch, T target steps,
S source steps, D features. Padding stands at the end of a row. Everything else in kzoo builds on
these functions.

Example:

>>> dense, mask = kzoo.masking.to_dense(tf.ragged.constant([[1.0, 3.0], [5.0]])[..., None])
>>> kzoo.masking.masked_mean(dense, mask).numpy()
array([[2.],
       [5.]], dtype=float32)
"""

import keras
import tensorflow as tf


def to_dense(x, mask=None):
    """Returns a sequence as a padded tensor and its mask, whatever it came as.

    A RaggedTensor becomes its padded form with a mask made from its row lengths. A dense tensor
    is returned as it is, with the mask that was given; without one, ids get their
    `padding_mask` and features a mask of all True.

    Args:
        x: (B, S, ...) dense or ragged in axis 1.
        mask: (B, S) bool, True = real, or None. Combined with the row lengths if `x` is ragged.

    Returns:
        dense: (B, S, ...), zeros in the padding. mask: (B, S) bool.

    Example:

    >>> dense, mask = kzoo.masking.to_dense(tf.ragged.constant([[4, 0, 5], [6]]))
    >>> dense.numpy(), mask.numpy()
    (array([[4, 0, 5],
           [6, 0, 0]], dtype=int32), array([[ True,  True,  True],
           [ True, False, False]]))
    """
    if isinstance(x, tf.RaggedTensor):
        dense = x.to_tensor()
        lengths = x.row_lengths()
        real = tf.sequence_mask(lengths, tf.shape(dense)[1])
        return dense, real if mask is None else real & _dense_mask(mask)
    x = tf.convert_to_tensor(x)
    if mask is None:
        is_ids = x.dtype.is_integer and x.shape.rank == 2
        mask = padding_mask(x) if is_ids else tf.ones(tf.shape(x)[:2], tf.bool)
    return x, _dense_mask(mask)


def padded(x):
    """Returns a RaggedTensor as a tensor with zeros in the padding, and a tensor as it is."""
    return x.to_tensor() if isinstance(x, tf.RaggedTensor) else x


def as_ids(x):
    """Returns ids of any type of number as integers, as keras.layers.Embedding takes them.

    Args:
        x: (B, S) or (B,) ids, dense or ragged: int, or whole numbers in float32 or float64.

    Returns:
        The same in int32, or int64 if `x` is.

    Raises:
        ValueError: the ids are in half precision, which cannot tell large ones apart.
    """
    x = x if isinstance(x, tf.RaggedTensor) else tf.convert_to_tensor(x)
    if x.dtype in (tf.float16, tf.bfloat16):
        raise ValueError(
            f"Ids must be integers, got {x.dtype.name}, which does not hold all numbers above 256. "
            "In mixed precision Keras casts floats so on their way into a layer: give ids as int32."
        )
    return x if x.dtype in (tf.int32, tf.int64) else tf.cast(x, tf.int32)


def _dense_mask(mask):
    if isinstance(mask, tf.RaggedTensor):
        mask = mask.to_tensor(False)
    return tf.cast(mask, tf.bool)


def carried_mask(x, mask=None):
    """Returns the mask for Keras to pass on with what a layer makes of x step by step.

    A layer that turns a RaggedTensor into a padded tensor must say where the padding is, or the
    next layer takes it for real: `compute_mask` of every such layer is this function.

    Args:
        x: (B, S, ...) dense or ragged.
        mask: (B, S) bool that Keras knows of `x`, or None.

    Returns:
        (B, S) bool, or None where nothing is known to be padding. Of a KerasTensor nothing is
        known yet; a functional model comes back when it runs.
    """
    if isinstance(x, tf.RaggedTensor):
        return to_dense(x, mask)[1]
    return mask if mask is None or isinstance(mask, keras.KerasTensor) else _dense_mask(mask)


def carry_mask(x, mask):
    """Gives a tensor its mask for Keras to pass on, and returns it."""
    x._keras_mask = mask
    return x


def to_ragged(dense, mask):
    """Returns the real steps of a padded tensor as a RaggedTensor, the inverse of `to_dense`.

    Args:
        dense: (B, S, ...).
        mask: (B, S) bool, True = real.

    Returns:
        (B, None, ...) RaggedTensor: each row holds its real steps in order.

    Example:

    >>> ids = tf.constant([[4, 5], [6, 0]])
    >>> kzoo.masking.to_ragged(ids, kzoo.masking.padding_mask(ids))
    <tf.RaggedTensor [[4, 5], [6]]>
    """
    return tf.ragged.boolean_mask(dense, mask)


def padding_mask(ids):
    """Returns the mask of token ids: True where the id is not 0, the padding.

    Args:
        ids: (B, S) int.

    Returns:
        (B, S) bool.
    """
    return tf.not_equal(ids, 0)


def causal_mask(length, memory_length=None, start=0):
    """Returns the mask that lets step t look at steps 0 ... start + t of the memory only.

    Args:
        length: int, T.
        memory_length: int, S; None means T.
        start: int, position of step 0.

    Returns:
        (T, S) bool.
    """
    memory_steps = tf.range(length if memory_length is None else memory_length)
    return start + tf.range(length)[:, None] >= memory_steps[None, :]


def window_mask(length, window, memory_length=None):
    """Returns the mask that lets step t look at memory steps t - window ... t + window only.

    Args:
        length: int, T.
        window: int, steps on either side.
        memory_length: int, S; None means T.

    Returns:
        (T, S) bool. `window_mask(...) & causal_mask(...)` looks back alone.

    Raises:
        ValueError: if `window` is negative.

    Example:

    >>> kzoo.masking.window_mask(3, window=1).numpy().astype(int)
    array([[1, 1, 0],
           [1, 1, 1],
           [0, 1, 1]])
    """
    if window < 0:
        raise ValueError(f"`window` must not be negative, got window={window}.")
    memory_steps = tf.range(length if memory_length is None else memory_length)
    return tf.abs(tf.range(length)[:, None] - memory_steps[None, :]) <= window


def masked_softmax(scores, mask):
    """softmax over the last axis among the allowed places; exactly 0 at all others.

    A row in which nothing is allowed gets zeros, not NaN and not a uniform distribution.
    Computed in float32 whatever the dtype, and returned in the dtype of `scores`.

    Args:
        scores: (..., S) float.
        mask: bool, broadcastable to `scores`, True = allowed; or None for all.

    Returns:
        (..., S): rows sum to 1, or to 0 where nothing is allowed.

    Example:

    >>> kzoo.masking.masked_softmax(tf.zeros(4), tf.constant([True, False, True, False])).numpy()
    array([0.5, 0. , 0.5, 0. ], dtype=float32)
    """
    x = tf.cast(scores, tf.float32)
    if mask is None:
        return tf.cast(tf.nn.softmax(x), scores.dtype)
    weights = tf.nn.softmax(tf.where(mask, x, x.dtype.min))
    # exp underflows to exactly 0 beside an allowed place; a row without one is uniform here.
    weights = tf.where(tf.reduce_any(mask, -1, keepdims=True), weights, 0.0)
    return tf.cast(weights, scores.dtype)


def blank(x, mask):
    """Puts zeros into the padding: a weight or gradient of 0 times NaN would still be NaN.

    Args:
        x: (B, S, D) float.
        mask: (B, S) bool, True = real.

    Returns:
        (B, S, D).
    """
    return tf.where(mask[:, :, None], x, tf.zeros([], x.dtype))


def masked_mean(x, mask):
    """Mean over the real steps of axis 1; 0 for a row without any.

    Args:
        x: (B, S, D) float.
        mask: (B, S) bool.

    Returns:
        (B, D).
    """
    x = tf.convert_to_tensor(x)
    values = tf.cast(x, tf.float32) if x.dtype.size < 4 else x  # half the bits stop adding up
    count = tf.reduce_sum(tf.cast(mask, values.dtype), 1)[:, None]
    mean = tf.math.divide_no_nan(tf.reduce_sum(blank(values, mask), 1), count)
    return tf.cast(mean, x.dtype)


def weights_of_steps(sample_weight, labels, were_ragged=False):
    """Weights of rows, or of steps, as (B, T) float32.

    Args:
        sample_weight: (B,), (B, 1) or (B, T), dense or ragged. Keras traces a model that has met
            several of these with a tensor of unknown rank.
        labels: (B, T).
        were_ragged: bool, whether T is the longest row of this batch: dense weights may have more
            columns then, as those of some rows of a larger batch.
    """
    weight = tf.cast(padded(sample_weight), tf.float32)
    if weight.shape.rank is None:
        rows = tf.shape(labels)[0]
        weight = tf.reshape(weight, [rows, tf.size(weight) // tf.maximum(rows, 1)])
    elif weight.shape.rank == 1:
        weight = weight[:, None]
    if were_ragged:
        weight = weight[:, : tf.shape(labels)[1]]
    return tf.broadcast_to(weight, tf.shape(labels))


def at_least_one_step(x, mask):
    """Gives a sequence without any step a masked one: RNNs and convolutions cannot run over none.

    Args:
        x: (B, S, D). mask: (B, S) bool, or None, which stays None.

    Returns:
        x: (B, max(S, 1), D). mask: (B, max(S, 1)), False in a step that was added.
    """
    if mask is not None:
        mask = tf.ensure_shape(mask, x.shape[:2])
    if x.shape[1]:
        return x, mask
    missing = tf.maximum(1 - tf.shape(x)[1], 0)
    steps = None if x.shape[1] is None else 1
    x = tf.ensure_shape(tf.pad(x, [[0, 0], [0, missing], [0, 0]]), (x.shape[0], steps, x.shape[2]))
    if mask is not None:
        mask = tf.ensure_shape(tf.pad(mask, [[0, 0], [0, missing]]), x.shape[:2])
    return x, mask
