"""Masks, masked softmax and mean, and ragged <-> dense."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.layers import masking

B, S, D = 3, 5, 7
LENGTHS = [5, 0, 2]
MASK = np.arange(S) < np.array(LENGTHS)[:, None]

row_lengths = st.lists(st.integers(0, 5), min_size=1, max_size=4)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_a_dense_tensor_of_features_stays_as_it_is_and_is_all_real():
    x = random(B, S, D)
    dense, mask = masking.to_dense(x)
    np.testing.assert_array_equal(dense, x)
    np.testing.assert_array_equal(mask, np.ones((B, S), bool))
    assert mask.dtype == tf.bool


def test_dense_ids_are_real_where_they_are_not_0():
    ids = np.array([[3, 4, 0], [5, 0, 0]])
    dense, mask = masking.to_dense(ids)
    np.testing.assert_array_equal(dense, ids)
    np.testing.assert_array_equal(mask, ids != 0)


def test_a_given_mask_says_more_about_ids_than_their_zeros():
    _, mask = masking.to_dense(np.array([[3, 0, 4]]), [[True, True, False]])
    np.testing.assert_array_equal(mask, [[True, True, False]])


def test_a_dense_tensor_keeps_its_mask_whatever_its_type():
    for given_mask in (MASK, MASK.astype("int32"), MASK.astype("float32")):
        _, mask = masking.to_dense(random(B, S, D), given_mask)
        np.testing.assert_array_equal(mask, MASK)
        assert mask.dtype == tf.bool


def test_a_ragged_tensor_becomes_zeros_and_false_in_the_padding():
    x = random(B, S, D)
    dense, mask = masking.to_dense(tf.RaggedTensor.from_tensor(x, LENGTHS))
    np.testing.assert_array_equal(mask, MASK)
    np.testing.assert_array_equal(dense, np.where(MASK[:, :, None], x, 0))


def test_a_ragged_mask_is_combined_with_the_row_lengths():
    x = tf.RaggedTensor.from_tensor(random(B, S, D), LENGTHS)
    given_mask = tf.ragged.constant([[True, False, True, True, True], [], [False, True]])
    _, mask = masking.to_dense(x, given_mask)
    np.testing.assert_array_equal(mask, MASK & given_mask.to_tensor(False).numpy())


def test_a_dense_mask_is_combined_with_the_row_lengths():
    x = tf.RaggedTensor.from_tensor(random(B, S, D), LENGTHS)
    given_mask = np.arange(S) != np.array([1, 2, 0])[:, None]
    _, mask = masking.to_dense(x, given_mask)
    np.testing.assert_array_equal(mask, MASK & given_mask)


@settings(max_examples=30, deadline=None)
@given(row_lengths)
def test_ragged_to_dense_and_back_changes_nothing(lengths):
    x = tf.RaggedTensor.from_row_lengths(random(sum(lengths), D), lengths)
    back = masking.to_ragged(*masking.to_dense(x))
    np.testing.assert_array_equal(back.row_lengths(), lengths)
    np.testing.assert_array_equal(back.flat_values, x.flat_values)


@settings(max_examples=30, deadline=None)
@given(row_lengths)
def test_dense_ids_to_ragged_and_back_change_nothing(lengths):
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.where(mask, 1 + np.arange(mask.size).reshape(mask.shape), 0)
    dense, real = masking.to_dense(masking.to_ragged(ids, mask))
    np.testing.assert_array_equal(dense, ids)
    np.testing.assert_array_equal(real, mask)


def test_to_ragged_leaves_out_holes_in_the_middle():
    ragged = masking.to_ragged([[4, 5, 6]], [[True, False, True]])
    assert ragged.to_list() == [[4, 6]]


def test_only_id_0_is_padding():
    mask = masking.padding_mask([[1, 0, 2], [0, 0, 3]])
    np.testing.assert_array_equal(mask, [[True, False, True], [False, False, True]])


def test_a_step_sees_itself_and_the_past():
    np.testing.assert_array_equal(masking.causal_mask(5), np.tri(5, dtype=bool))
    np.testing.assert_array_equal(masking.causal_mask(3, 7), np.tri(3, 7, dtype=bool))


def test_masked_softmax_is_the_softmax_of_the_allowed_places():
    scores = random(B, S)
    weights = masking.masked_softmax(scores, MASK).numpy()
    for row, length in enumerate(LENGTHS):
        e = np.exp(scores[row, :length])
        np.testing.assert_allclose(weights[row, :length], e / e.sum(), rtol=1e-5)


def test_masked_softmax_is_exactly_zero_in_padding_and_empty_rows():
    scores = np.where(MASK, random(B, S), np.nan)
    weights = masking.masked_softmax(scores, MASK).numpy()
    np.testing.assert_array_equal(weights[~MASK], 0)
    np.testing.assert_allclose(weights.sum(1), [1, 0, 1], rtol=1e-6)


def test_masked_softmax_has_no_nan_in_its_gradient():
    scores = tf.constant(np.where(MASK, random(B, S), np.nan))
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss = tf.reduce_sum(masking.masked_softmax(scores, MASK) ** 2)
    gradient = tape.gradient(loss, scores).numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[~MASK], 0)


def test_masked_softmax_without_a_mask_is_softmax():
    scores = random(B, S)
    np.testing.assert_allclose(
        masking.masked_softmax(scores, None), tf.nn.softmax(scores), rtol=1e-6
    )


def test_masked_softmax_stands_huge_scores():
    weights = masking.masked_softmax(tf.constant([[1e30, 0.0, -1e30]]), [[True, True, True]])
    np.testing.assert_array_equal(weights, [[1, 0, 0]])


def test_masked_softmax_keeps_the_half_precision_of_the_scores():
    weights = masking.masked_softmax(tf.cast(random(B, S), tf.bfloat16), MASK)
    assert weights.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.reduce_sum(tf.cast(weights, tf.float32), 1), [1, 0, 1], rtol=0.01)


def test_masked_mean_is_the_mean_of_the_real_steps():
    x = random(B, S, D)
    mean = masking.masked_mean(np.where(MASK[:, :, None], x, np.nan), MASK)
    expected = [x[0].mean(0), np.zeros(D), x[2, :2].mean(0)]
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_masked_mean_of_a_long_row_is_right_in_half_the_bits(dtype):
    steps = 3001  # bfloat16 cannot count beyond 256, float16 beyond 2,048
    x = tf.ones((1, steps, D), dtype)
    mean = masking.masked_mean(x, tf.ones((1, steps), tf.bool))
    assert mean.dtype == dtype
    np.testing.assert_allclose(tf.cast(mean, tf.float32), np.ones((1, D)), rtol=0.01)


def test_blank_keeps_nan_in_the_padding_out_of_result_and_gradient():
    x = tf.constant(np.where(MASK[:, :, None], np.ones((*MASK.shape, 2)), np.nan), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        blanked = masking.blank(x, MASK)
        total = tf.reduce_sum(blanked**2)
    np.testing.assert_array_equal(blanked, np.repeat(MASK[:, :, None], 2, axis=2))
    np.testing.assert_array_equal(tape.gradient(total, x), 2.0 * blanked)
