"""CTC prefix probabilities and joint search against the enumeration of all outputs."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from alignments import enumerated, log_softmax, random_logits
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Script

from kzoo import ctc
from kzoo.search import beam_search, greedy_search

END, B, V = 2, 3, 4  # ids: 0 blank, 1 and 3 tokens, 2 the end


def ctc_logits(seed, steps, scale=2.0, rows=B):
    """Random, with nothing for the class of the end, which no target of CTC holds."""
    logits = random_logits(seed, rows, steps, V, scale=scale)
    logits[:, :, END] = -1e9
    return logits


def prefix_log_prob(outputs, prefix):
    """log of the probability of all outputs that begin so."""
    values = [p for ids, p in outputs.items() if ids[: len(prefix)] == prefix]
    return np.logaddexp.reduce(values) if values else -np.inf


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 5), scale=st.sampled_from([0.5, 4.0]))
def test_each_step_gives_the_conditional_probabilities_of_the_prefix(seed, steps, scale):
    logits = ctc_logits(seed, steps, scale)
    lengths = [steps, max(steps - 1, 0), steps // 2]
    step, state = ctc.prefix_step(logits, tf.sequence_mask(lengths, steps), END)
    outputs = [
        enumerated(row[:n]) if n else {(): 0.0} for row, n in zip(logits, lengths, strict=True)
    ]
    path = np.random.default_rng(seed).choice([1, 3], (4, B))
    before = np.ones(B, np.int32)
    for position in range(4):
        log_p, state = step(tf.constant(before, tf.int32), state, position)
        for row in range(B):
            y = tuple(int(i) for i in path[:position, row])
            whole = prefix_log_prob(outputs[row], y)
            if whole == -np.inf:  # no opinion
                assert log_p[row].numpy().tolist() == [-np.inf] + [0.0] * (V - 1)
                continue
            expected = [-np.inf] * V
            for token in (1, 3):
                expected[token] = prefix_log_prob(outputs[row], (*y, token)) - whole
            expected[END] = outputs[row].get(y, -np.inf) - whole
            actual = np.where(log_p[row] < -1e3, -np.inf, log_p[row])  # a token nobody names
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(np.exp(actual).sum(), 1, rtol=1e-4)
        before = path[position]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
def test_the_best_joint_hypothesis_is_that_of_the_enumeration(ctc_weight):
    longest, steps = 4, 5
    script, logits = Script(7, B, V, longest), ctc_logits(7, steps)
    script.logits[:, :, :2] -= 1e9 * np.array([1, 0])  # no decoder says the blank
    lengths = [5, 4, 2]
    step, state = ctc.joint_step(
        script.step,
        script.state(),
        logits,
        tf.sequence_mask(lengths, steps),
        end_id=END,
        ctc_weight=ctc_weight,
    )
    found = beam_search(
        step, state, script.start_ids, end_id=END, beam_size=V**longest, max_length=longest,
        normalize=False,
    )  # fmt: skip
    for row in range(B):
        outputs = enumerated(logits[row, : lengths[row]])
        expected = {}
        for length in range(longest):
            for y in itertools.product((1, 3), repeat=length):
                log_prob = (1 - ctc_weight) * script.log_prob(row, (*y, END))
                if ctc_weight:
                    log_prob += ctc_weight * outputs.get(y, -np.inf)
                if log_prob > -1e3:
                    expected[(*y, END)] = log_prob
        hypotheses = {
            tuple(int(i) for i in ids if i): float(log_prob)
            for ids, log_prob in zip(found.ids[row], found.log_probs[row], strict=True)
            if log_prob > -1e3 and END in ids
        }
        assert hypotheses.keys() == expected.keys() and len(expected) > 1
        assert max(hypotheses, key=hypotheses.get) == max(expected, key=expected.get)
        for y, log_prob in hypotheses.items():
            np.testing.assert_allclose(log_prob, expected[y], rtol=1e-3, atol=1e-3)


def test_ctc_ends_an_output_that_the_decoder_would_never_end():
    def babble(ids, state, position):
        return tf.tile([[-1e9, 5.0, 0.0, 4.0]], [tf.shape(ids)[0], 1]), state

    logits = 9 * tf.one_hot([[1, 0, 3, 0, 1]], V)
    step, state = ctc.joint_step(
        babble, (), logits, tf.ones((1, 5), tf.bool), end_id=END, ctc_weight=0.5
    )
    start = tf.constant([1])
    alone = greedy_search(babble, (), start, end_id=END, max_length=9)
    found = greedy_search(step, state, start, end_id=END, max_length=9, normalize=False)
    assert alone.ids.numpy()[0, 0].tolist() == [1] * 9
    assert found.ids.numpy()[0, 0].tolist() == [1, 3, 1, 2, 0, 0, 0, 0, 0]


def test_a_clip_among_longer_ones_is_answered_as_alone_in_a_graph():
    lengths, steps = [11, 7, 3], 11
    logits = random_logits(3, B, steps, V)

    @tf.function(input_signature=[tf.TensorSpec([None, None, V]), tf.TensorSpec([None], tf.int32)])
    def answer(logits, lengths):
        mask = tf.sequence_mask(lengths, tf.shape(logits)[1])
        step, state = ctc.prefix_step(logits, mask, END)
        start = tf.fill([tf.shape(logits)[0]], 1)
        return beam_search(step, state, start, end_id=END, beam_size=3, max_length=9)

    together = answer(logits, lengths)
    for row, length in enumerate(lengths):
        alone = answer(logits[row : row + 1, :length], [length])
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4)


def test_long_clips_keep_their_precision():
    steps = 1500
    logits = random_logits(2, 1, steps, V, scale=5.0)
    step, state = ctc.prefix_step(logits, tf.ones((1, steps), tf.bool), END)
    log_p = log_softmax(logits[0])
    label, blank = np.full(steps, -np.inf), np.cumsum(log_p[:, 0])
    last, ids = 0, [1, 1, 3]
    before = np.array([1])
    for position in range(4):
        found, state = step(tf.constant(before, tf.int32), state, position)
        if position == 3:
            break
        token = ids[position]
        starts = blank if token == last else np.logaddexp(blank, label)
        phi = np.concatenate([[0.0 if position == 0 else -np.inf], starts[:-1]])
        new_label, new_blank = np.full(steps, -np.inf), np.full(steps, -np.inf)
        a = b = -np.inf
        for t in range(steps):
            b, a = np.logaddexp(b, a) + log_p[t, 0], np.logaddexp(a, phi[t]) + log_p[t, token]
            new_label[t], new_blank[t] = a, b
        label, blank, last = new_label, new_blank, token
        prefix = np.logaddexp.reduce(phi + log_p[:, token])
        before = np.array([token])
    np.testing.assert_allclose(state["label"][0], label, rtol=1e-5)
    np.testing.assert_allclose(state["blank"][0], blank, rtol=1e-5)
    expected = np.logaddexp(label[-1], blank[-1]) - prefix
    np.testing.assert_allclose(found[0, END], expected, rtol=1e-4)


def test_a_prefix_of_more_tokens_than_frames_is_answered_all_the_same():
    def babble(ids, state, position):
        return tf.tile([[-1e9, 2.0, 1.0, 0.0]], [tf.shape(ids)[0], 1]), state

    logits = 9 * tf.one_hot([[1, 3]], V)
    step, state = ctc.joint_step(
        babble, (), logits, tf.ones((1, 2), tf.bool), end_id=END, ctc_weight=0.5
    )
    found = beam_search(
        step, state, tf.constant([1]), end_id=END, beam_size=2, max_length=5, normalize=False,
        prefix=[3, 1, 1],
    )  # fmt: skip
    assert found.ids.numpy()[0, 0, :3].tolist() == [3, 1, 1]
    assert np.isfinite(found.scores[0, 0])


def test_no_frames_can_only_be_the_empty_output():
    step, state = ctc.prefix_step(tf.zeros((2, 0, V)), tf.zeros((2, 0), tf.bool), END)
    found = greedy_search(
        step, state, tf.constant([1, 1]), end_id=END, max_length=3, normalize=False
    )
    assert found.ids.numpy().tolist() == [[[END, 0, 0]]] * 2
    assert found.log_probs.numpy().tolist() == [[0.0]] * 2


def test_a_weight_outside_its_range_is_refused():
    for ctc_weight in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"`ctc_weight` must lie in \[0, 1\], got ctc_weight="):
            ctc.joint_step(None, (), None, None, end_id=END, ctc_weight=ctc_weight)
