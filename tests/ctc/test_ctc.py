"""CTC against the enumeration of all alignments, and PyTorch's loss."""

from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf
from alignments import enumerated, log_softmax, random_logits
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo import ctc

B, S, V = 2, 5, 4


def outputs(found, row):
    """The possible hypotheses of a row: [(ids, log_prob)]."""
    return [
        (tuple(int(i) for i in ids if i), float(log_prob))
        for ids, log_prob in zip(found.ids[row], found.log_probs[row], strict=True)
        if log_prob > -np.inf
    ]


# The loss.


@pytest.mark.parametrize("labels", [(), (1,), (3, 1), (2, 2), (1, 1, 1), (1, 2, 1, 3, 2)])
def test_the_loss_is_the_sum_over_all_alignments(labels):
    logits = random_logits(0, 1, S, V)
    padded = tf.constant([[*labels, 0, 0]], tf.int32)
    losses, is_feasible = ctc.ctc_loss(padded, logits)
    assert is_feasible.numpy().tolist() == [True]
    np.testing.assert_allclose(losses, [-enumerated(logits[0])[labels]], rtol=1e-5)


def test_an_output_that_needs_more_frames_than_there_are_is_not_feasible_and_costs_nothing():
    logits = tf.Variable(random_logits(0, 4, S, V))
    labels = tf.ragged.constant([[1, 1, 1, 1], [1, 1, 1], [1, 2, 3, 1, 2, 3], []], dtype=tf.int32)
    mask = tf.sequence_mask([5, 5, 5, 0], S)
    with tf.GradientTape() as tape:
        losses, is_feasible = ctc.ctc_loss(labels, logits, mask)
    gradient = tape.gradient(losses, logits).numpy()
    assert is_feasible.numpy().tolist() == [False, True, False, True]
    assert losses.numpy()[[0, 2, 3]].tolist() == [0, 0, 0]
    assert np.isfinite(gradient).all() and gradient[1].any()
    assert not gradient[[0, 2, 3]].any()


@pytest.mark.parametrize("garbage", [7.0, np.nan, np.inf])
def test_frames_that_are_padding_change_neither_loss_nor_gradient(garbage):
    whole = random_logits(0, B, S, V)
    mask = np.arange(S) < np.array([[4], [3]])
    labels = [[1, 1, 3], [2, 0, 0]]
    dirty = tf.Variable(np.where(mask[..., None], whole, garbage).astype("float32"))
    with tf.GradientTape() as tape:
        losses, _ = ctc.ctc_loss(labels, dirty, mask)
    gradient = tape.gradient(losses, dirty).numpy()
    for row, frames in enumerate([4, 3]):
        alone = tf.Variable(whole[row : row + 1, :frames])
        with tf.GradientTape() as tape:
            loss, _ = ctc.ctc_loss(labels[row : row + 1], alone)
        np.testing.assert_allclose(losses[row], loss[0], rtol=1e-6)
        np.testing.assert_allclose(
            gradient[row, :frames], tape.gradient(loss, alone)[0], rtol=1e-4, atol=1e-6
        )
        assert not gradient[row, frames:].any()


def test_loss_and_gradient_equal_those_of_pytorch():
    torch = pytest.importorskip("torch")
    frames, tokens = [29, 23, 17], [11, 7, 0]
    random = np.random.default_rng(1)
    values = random_logits(1, 3, 29, 13)
    labels = random.integers(1, 13, (3, 11)) * (np.arange(11) < np.array(tokens)[:, None])
    labels[0, 1] = labels[0, 0]  # a repeat
    logits = tf.Variable(values)
    with tf.GradientTape() as tape:
        losses, _ = ctc.ctc_loss(labels, logits, tf.sequence_mask(frames, 29))
    peer = torch.tensor(values, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        peer.log_softmax(2).transpose(0, 1), torch.tensor(labels), torch.tensor(frames),
        torch.tensor(tokens), blank=0, reduction="none",
    )  # fmt: skip
    expected.sum().backward()
    np.testing.assert_allclose(losses, expected.detach(), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(losses, logits), peer.grad, atol=2e-5)


# The searches.


def test_greedy_search_collapses_the_best_name_of_each_frame():
    names = [[1, 1, 0, 1, 2, 2], [0, 3, 3, 0, 0, 1]]
    logits = 9 * tf.one_hot(names, V)
    found = ctc.ctc_greedy_search(logits, tf.sequence_mask([6, 5], 6))
    assert found.ids.numpy().tolist() == [[[1, 1, 2]], [[3, 0, 0]]]
    assert found.lengths.numpy().tolist() == [[3], [1]]
    assert found.weights.numpy().argmax(-1)[0, 0].tolist() == [0, 3, 4]
    best = log_softmax(logits).max(-1)
    np.testing.assert_allclose(found.log_probs[:, 0], [best[0].sum(), best[1, :5].sum()], atol=1e-5)


def test_ragged_logits_are_searched_as_padded_ones():
    logits = np.random.default_rng(1).normal(size=(2, S, V)).astype("float32")
    mask = np.arange(S) < np.array([[S], [S - 2]])
    for search in (ctc.ctc_greedy_search, lambda *x: ctc.ctc_beam_search(*x, beam_size=3)):
        found, expected = search(tf.ragged.boolean_mask(logits, mask)), search(logits, mask)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=1e-5)


def test_no_frames_and_no_rows_give_empty_outputs():
    for search in (ctc.ctc_greedy_search, lambda *x: ctc.ctc_beam_search(*x, beam_size=3)):
        found = search(tf.zeros((2, 0, V)))
        assert not found.lengths.numpy().any() and found.log_probs.numpy()[:, 0].tolist() == [0, 0]
        assert search(tf.zeros((0, S, V))).ids.shape[0] == 0
        found = search(tf.zeros((1, S, V)), tf.zeros((1, S), tf.bool))
        assert not found.ids.numpy().any() and found.log_probs.numpy()[0, 0] == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 5),
    size=st.integers(2, 4),
    scale=st.sampled_from([0.3, 2.0, 9.0]),
)
def test_a_beam_as_wide_as_the_space_finds_every_output_with_its_probability(
    seed, steps, size, scale
):
    logits = random_logits(seed, B, steps, size, scale=scale)
    wide = sum((size - 1) ** length for length in range(steps + 1))
    found = ctc.ctc_beam_search(logits, beam_size=wide)
    for row in range(B):
        expected = enumerated(logits[row])
        answers = outputs(found, row)
        assert len(answers) == len(expected)
        for ids, log_prob in answers:
            np.testing.assert_allclose(log_prob, expected[ids], rtol=1e-4, atol=1e-4)
        log_probs = [log_prob for _, log_prob in answers]
        assert log_probs == sorted(log_probs, reverse=True)


def reference_beam(log_p, beam_size):
    """Prefix beam search in dictionaries: prefix -> [p_blank, p_label]."""
    beams = {(): [1.0, 0.0]}
    for q in np.exp(log_p):
        new = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, label) in beams.items():
            new[prefix][0] += (blank + label) * q[0]
            if prefix:
                new[prefix][1] += label * q[prefix[-1]]
            for token in range(1, len(q)):
                is_repeat = prefix and token == prefix[-1]
                new[(*prefix, token)][1] += (blank if is_repeat else blank + label) * q[token]
        beams = dict(sorted(new.items(), key=lambda pair: -sum(pair[1]))[:beam_size])
    return [(prefix, np.log(sum(p))) for prefix, p in beams.items()]


@tf.function(reduce_retracing=True)
def search(logits, mask, beam_size):
    return ctc.ctc_beam_search(logits, mask, beam_size=beam_size)


@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_narrow_beam_does_what_a_slow_one_in_dictionaries_does(beam_size):
    logits = np.concatenate([random_logits(i, 1, 17, 7, scale=s) for i, s in enumerate((1, 2, 4))])
    found = search(logits, tf.ones((3, 17), tf.bool), beam_size)
    for row in range(3):
        expected = reference_beam(log_softmax(logits[row]), beam_size)
        answers = outputs(found, row)
        assert [ids for ids, _ in answers] == [ids for ids, _ in expected]
        np.testing.assert_allclose(
            [log_prob for _, log_prob in answers], [p for _, p in expected], rtol=1e-4
        )


def test_a_row_in_a_batch_of_longer_ones_is_answered_as_alone():
    logits = random_logits(3, 3, 17, 7)
    lengths = [17, 11, 5]
    mask = tf.sequence_mask(lengths, 17)
    together = search(logits, mask, 5)
    for row, length in enumerate(lengths):
        alone = search(logits[row : row + 1, :length], mask[row : row + 1, :length], 5)
        assert [ids for ids, _ in outputs(alone, 0)] == [ids for ids, _ in outputs(together, row)]
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-5)
        longest = alone.weights.shape[2]
        np.testing.assert_array_equal(alone.weights[0], together.weights[row, :, :longest, :length])


@tf.function(reduce_retracing=True)
def advance(logits, beams):
    return ctc.ctc_advance(logits, beams, window=3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(0, 9), min_size=1, max_size=7))
def test_chunks_of_any_size_give_what_the_whole_gives(seed, sizes):
    logits = random_logits(seed, 2, sum(sizes), 5, scale=1.0)
    beams = ctc.ctc_beams(2, 3)
    for chunk in tf.split(logits, sizes, axis=1):
        beams = advance(chunk, beams)
    whole = advance(logits, ctc.ctc_beams(2, 3))
    for part, expected in zip(beams, whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5)


def test_a_window_bounds_in_how_many_tokens_hypotheses_may_differ():
    names = np.tile([1, 2, 0], 40)
    logits = 9 * tf.one_hot([names], V)
    logits += 7 * tf.one_hot([[3] + 119 * [V]], V)  # a doubt at the beginning
    free, bound = (
        tf.function(ctc.ctc_advance)(logits, ctc.ctc_beams(1, 4), window=window)
        for window in (None, 5)
    )
    assert free.shared_ids.shape[1] == 0 and free.ids.shape[2] == 80
    assert bound.shared_ids.shape[1] >= 75 and bound.ids.shape[2] <= 5
    for beams in (free, bound):
        best = ctc.ctc_result(beams)
        assert best.ids.numpy()[0, 0].tolist() == [1, 2] * 40
        assert best.weights.numpy()[0, 0].argmax(-1).tolist() == np.flatnonzero(names).tolist()
    one = ctc.ctc_beam_search(9 * tf.one_hot([[1, 0, 2, 0, 0]], V), beam_size=4, window=1)
    assert one.ids.numpy()[0, 0, :2].tolist() == [1, 2] and one.lengths.numpy()[0, 0] == 2


def test_a_length_penalty_ranks_the_hypotheses_by_the_mean_over_their_tokens():
    logits = random_logits(5, 1, 9, V)
    plain = ctc.ctc_beam_search(logits, beam_size=7)
    ranked = ctc.ctc_beam_search(logits, beam_size=7, length_penalty=2.0)
    expected = plain.log_probs[0] / ((5 + tf.cast(plain.lengths[0], tf.float32)) / 6) ** 2
    np.testing.assert_allclose(ranked.scores[0], np.sort(expected)[::-1], rtol=1e-5)
    assert sorted(outputs(plain, 0)) == sorted(outputs(ranked, 0))


def test_without_any_frame_only_the_empty_target_is_feasible():
    losses, is_feasible = ctc.ctc_loss([[3], [0]], tf.zeros((2, 0, V)))
    assert losses.numpy().tolist() == [0, 0] and is_feasible.numpy().tolist() == [False, True]


def test_the_best_hypothesis_alone_is_the_first_of_all():
    logits = random_logits(5, 3, 7, V)
    one, all_of_them = (
        ctc.ctc_beam_search(logits, beam_size=4, best_only=best_only) for best_only in (True, False)
    )
    for best, every in zip(one, all_of_them, strict=True):
        np.testing.assert_array_equal(best, every[:, :1])


def test_wrong_options_are_refused_by_name():
    with pytest.raises(ValueError, match="`beam_size` must be an integer of at least 1"):
        ctc.ctc_beam_search(tf.zeros((1, 2, 3)), beam_size=0)
    with pytest.raises(ValueError, match="`window` must be an integer of at least 1"):
        ctc.ctc_beam_search(tf.zeros((1, 2, 3)), beam_size=1, window=0)
    with pytest.raises(ValueError, match="`length_penalty` must be finite and not negative"):
        ctc.ctc_beam_search(tf.zeros((1, 2, 3)), beam_size=1, length_penalty=-1.0)
