"""Forced alignment: beside all alignments, listed; padding, infeasible rows, graphs."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kzoo.ctc import ctc_align


def collapsed(names):
    return [name for name, _ in itertools.groupby(names) if name]


def best_of_all(labels, logits):
    """Lists every sequence of names: (log p, names) of the best that stands for the labels."""
    log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = [
        (sum(log_q[step, name] for step, name in enumerate(names)), names)
        for names in itertools.product(range(logits.shape[1]), repeat=len(logits))
        if collapsed(names) == labels
    ]
    return max(found, default=(-np.inf, None))


def spans(names):
    """[(first, last)] of the tokens among names."""
    found, step = [], 0
    for name, run in itertools.groupby(names):
        length = len(list(run))
        if name:
            found.append((step, step + length - 1))
        step += length
    return found


@pytest.mark.parametrize("labels", [[1], [1, 2], [2, 2], [1, 2, 1], [1, 1, 1], []])
def test_it_is_the_best_of_all_alignments(labels):
    for seed in range(4):
        logits = np.random.default_rng(seed).normal(size=(6, 3)).astype("float32") * 2
        found = ctc_align(tf.constant([labels], tf.int32), logits[None])
        log_p, names = best_of_all(labels, logits)
        np.testing.assert_allclose(found.log_probs, [log_p], rtol=1e-5)
        pairs = zip(found.first[0].numpy(), found.last[0].numpy(), strict=True)
        assert [(int(a), int(b)) for a, b in pairs] == spans(names)


def test_rows_of_a_batch_are_aligned_as_alone_whatever_the_padding_holds():
    labels = [[1, 2, 2], [3, 1], [2]]
    frames = [9, 5, 7]
    logits = np.random.default_rng(0).normal(size=(3, 9, 4)).astype("float32") * 2
    mask = np.arange(9) < np.array(frames)[:, None]
    dirty = np.where(mask[:, :, None], logits, np.nan)
    found = ctc_align(tf.ragged.constant(labels), dirty, mask)
    for row, (ids, length) in enumerate(zip(labels, frames, strict=True)):
        alone = ctc_align([ids], logits[row : row + 1, :length])
        count = len(ids)
        np.testing.assert_array_equal(found.first[row, :count], alone.first[0])
        np.testing.assert_array_equal(found.last[row, :count], alone.last[0])
        assert (found.first[row, count:] == -1).numpy().all()
        assert (found.last[row, count:] == -1).numpy().all()
        np.testing.assert_allclose(found.log_probs[row], alone.log_probs[0], rtol=1e-5)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_row_with_too_few_frames_has_none(steps):
    found = ctc_align([[1, 1]], np.zeros((1, steps, 3), "float32"))
    assert found.log_probs.numpy().tolist() == [-np.inf]
    assert found.first.numpy().tolist() == found.last.numpy().tolist() == [[-1, -1]]


@pytest.mark.parametrize("steps", [0, 6])
def test_it_runs_in_a_graph_of_unknown_shapes(steps):
    signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None, 3])]
    compiled = tf.function(ctc_align, input_signature=signature)
    logits = np.random.default_rng(3).normal(size=(2, steps, 3)).astype("float32")
    for labels in ([[1, 2], [2, 0]], [[1], [1]], np.zeros((2, 0), int)):
        plain, found = ctc_align(labels, logits), compiled(tf.constant(labels, tf.int32), logits)
        for name in ("first", "last", "log_probs"):
            np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_a_long_clip_takes_a_byte_for_each_frame_and_name():
    logits = tf.one_hot([[0, *[1, 2] * 1500, 0]], 3) * 9
    found = tf.function(ctc_align)(tf.constant([[1, 2] * 1500]), logits)
    np.testing.assert_array_equal(found.first[0], np.arange(1, 3001))
    np.testing.assert_array_equal(found.last[0], found.first[0])
