"""Connectionist temporal classification (CTC): what frames say, and the loss.

Graves et al. (2006), https://doi.org/10.1145/1143844.1143891. Each frame names a token or the
blank, and a sequence of names stands for the tokens that are left when repeats and then blanks are
taken away: "aa-ab" for "aab". p(y | x) is the sum over all sequences of names that stand for y.

The blank is id 0, which is padding elsewhere and never a token, so one vocabulary serves CTC and
decoder. Ids 1 and 2, start and end, are classes that a trained model does not use.

Axis letters: B batch, S frames, V vocabulary with the blank, T tokens of a target.
"""

import tensorflow as tf

from kzoo.layers import masking

BLANK_ID = 0


def ctc_loss(labels, logits, mask=None):
    """-log p(labels | x), the sum over all alignments, in nats per row.

    Graves et al. (2006), section 4.1. A row with fewer frames than its labels need, one for each
    and a blank between equal neighbours, has no alignment: its loss is 0 and it is not feasible.

    Args:
        labels: (B, T) int, padded with 0 or ragged, without start and end.
        logits: (B, S, V) float; the softmax is taken in float32.
        mask: (B, S) bool, True = real, or None for all.

    Returns:
        losses: (B,) float32. is_feasible: (B,) bool.

    Example:

    >>> losses, is_feasible = kzoo.ctc_loss([[3], [3]], tf.zeros((2, 2, 4)), [[True, True]] * 2)
    >>> np.exp(-losses).round(4)  # 3 of the 16 alignments: "33", "3-", "-3"
    array([0.1875, 0.1875], dtype=float32)
    """
    labels, _ = masking.to_dense(labels)
    labels = tf.cast(labels, tf.int32)
    logits, mask = with_a_frame(logits, mask)
    frames = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    logits = masking.blank(logits, mask)  # a NaN in the padding would get into the gradient
    lengths = tf.reduce_sum(tf.cast(labels != 0, tf.int32), 1)
    repeats = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != 0)
    needed = lengths + tf.reduce_sum(tf.cast(repeats, tf.int32), 1)
    is_feasible = needed <= frames

    # TensorFlow's kernel wants a row, a label in every row, and the blank behind all labels.
    # Without a row are the batches of replicas that get nothing of the last batch.
    rows = tf.shape(labels)[0]
    more_rows = [0, tf.maximum(1 - rows, 0)]
    is_summed = is_feasible & (lengths > 0)
    padded = tf.pad(labels, [more_rows, [0, 1]])
    only_one = tf.one_hot(0, tf.shape(padded)[1], dtype=tf.int32)
    padded = tf.where(tf.pad(is_summed, [more_rows])[:, None], padded, only_one)
    places = tf.where(padded != 0)
    inputs = tf.pad(tf.roll(logits, -1, axis=2), [more_rows, [0, 0], [0, 0]])
    losses, _ = tf.raw_ops.CTCLoss(
        inputs=tf.transpose(inputs, [1, 0, 2]),
        labels_indices=places,
        labels_values=tf.gather_nd(padded, places) - 1,
        sequence_length=tf.pad(frames, [more_rows]),
        preprocess_collapse_repeated=False,
        ctc_merge_repeated=True,
        ignore_longer_outputs_than_inputs=True,
    )
    blanks = tf.where(mask, tf.nn.log_softmax(logits)[:, :, BLANK_ID], 0.0)
    of_nothing = tf.where(lengths == 0, -tf.reduce_sum(blanks, 1), 0.0)
    return tf.where(is_summed, losses[:rows], of_nothing), is_feasible


def with_a_frame(logits, mask=None):
    """Logits in float32 and their mask; without a frame, one of padding.

    TensorFlow's kernel wants a frame, and a loop without one has no shape.

    Args:
        logits: (B, S, V) float.
        mask: (B, S) bool, True = real, or None for all.

    Returns:
        logits: (B, max(S, 1), V) float32. mask: (B, max(S, 1)) bool.
    """
    logits, mask = masking.to_dense(logits, mask)
    missing = tf.maximum(1 - tf.shape(logits)[1], 0)
    logits = tf.pad(tf.cast(logits, tf.float32), [[0, 0], [0, missing], [0, 0]])
    return logits, tf.pad(mask, [[0, 0], [0, missing]])
