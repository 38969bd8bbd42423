"""Beam search with finished hypotheses apart, against plain Python and exhaustive enumeration."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Script

from kzoo.search import beam_search

END, SIZE, LONGEST = 2, 5, 5


def reference(script, sentence, beam_size, length_penalty, min_length=0, patience=None):
    """Two lists: hypotheses that grow, and those that ended with log p / tokens ** penalty."""
    growing, ended, is_open, count = [((), 0.0)], [], True, 0
    for step in range(LONGEST):
        candidates = []
        for ids, log_prob in growing:
            for token, value in enumerate(script.log_softmax(sentence, script.code(ids))):
                if token != END or step >= min_length:
                    candidates.append(((*ids, token), log_prob + value))
        candidates = sorted(candidates, key=lambda each: -each[1])[: 2 * beam_size]
        for ids, log_prob in candidates[:beam_size]:
            if is_open and (ids[-1] == END or step == LONGEST - 1):
                ended.append((ids, log_prob, log_prob / len(ids) ** length_penalty))
                count += 1
        ended = sorted(ended, key=lambda each: -each[2])[:beam_size]
        growing = [each for each in candidates if each[0][-1] != END][:beam_size]
        if patience and beam_size > 1:
            is_open &= count < round(patience * beam_size)
        elif len(ended) == beam_size:
            if beam_size == 1:
                break
            is_open &= growing[0][1] / (step + 1) ** length_penalty > ended[-1][2]
    return ended


# Derandomized: two float32 scores may come out in another order than their float64 twins.
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    beam_size=st.integers(1, 4),
    length_penalty=st.sampled_from([0.0, 0.6, 1.0]),
    min_length=st.integers(0, 2),
    patience=st.sampled_from([None, 0.5, 1.0, 2.0]),
)
def test_it_equals_a_search_with_two_lists(seed, beam_size, length_penalty, min_length, patience):
    script = Script(seed, 3, SIZE, LONGEST)
    found = script.search(
        beam_size, end_id=END, length_penalty=length_penalty, min_length=min_length,
        finished_apart=True, length_normalization="length", patience=patience,
    )  # fmt: skip
    for b in range(3):
        expected = reference(script, b, beam_size, length_penalty, min_length, patience)
        for k, (tokens, log_prob, score) in enumerate(expected):
            count = len(tokens)
            assert found.ids[b, k].tolist() == [*tokens, *[0] * (LONGEST - count)]
            assert found.lengths[b, k] == count - (tokens[-1] == END)
            np.testing.assert_allclose(found.scores[b, k], score, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found.log_probs[b, k], log_prob, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found.step_log_probs[b, k].sum(), log_prob, rtol=1e-5)
            for t in range(count):
                row = script.weights[b, script.code(tokens[:t])]
                np.testing.assert_array_equal(found.weights[b, k, t], row)
            assert not found.weights[b, k, count:].any()


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_sentence_has_the_same_answer_alone_and_beside_others(length_penalty):
    options = {
        "end_id": END, "beam_size": 3, "max_length": LONGEST, "length_penalty": length_penalty,
        "finished_apart": True, "length_normalization": "length",
    }  # fmt: skip
    script = Script(7, 11, SIZE, LONGEST)
    together = beam_search(script.step, script.state(), script.start_ids, **options)
    for b in range(11):
        state = {name: rows[b : b + 1] for name, rows in script.state().items()}
        alone = beam_search(script.step, state, [1], **options)
        np.testing.assert_array_equal(alone.ids[0], together.ids[b])
        np.testing.assert_allclose(alone.scores[0], together.scores[b], rtol=1e-6)


def test_the_best_alone_is_the_first_of_all():
    script = Script(3, 11, SIZE, LONGEST)
    for length_penalty in (0.0, 1.0):
        options = {"end_id": END, "length_penalty": length_penalty, "finished_apart": True}
        every = script.search(4, **options)
        best = script.search(4, **options, best_only=True)
        np.testing.assert_array_equal(best.ids[:, 0], every.ids[:, 0])


def test_a_beam_as_wide_as_the_space_finds_the_best_of_all_outputs():
    script = Script(5, 2, 3, 4)
    found = script.search(81, end_id=END, finished_apart=True)
    every = script.search(81, end_id=END)
    np.testing.assert_array_equal(found.ids[:, :10], every.ids[:, :10])


def test_finished_hypotheses_do_not_take_a_place_of_the_beam():
    # The end is the best of the first step; 3 and 4 both go on, and 4 becomes the better one.
    first, then = [0.0, 0.0, 0.5, 0.3, 0.2], {3: [0.0, 0.6, 0.4, 0, 0], 4: [0.0, 0, 1.0, 0, 0]}

    def step(ids, state, position):
        rows = [first if i == 1 else then.get(i, [0, 0, 1.0, 0, 0]) for i in ids.numpy().tolist()]
        return tf.math.log(tf.constant(rows)), state

    options = {"end_id": END, "beam_size": 2, "max_length": 4}
    apart = beam_search(step, (), [1], finished_apart=True, **options)
    assert apart.ids[0, :, :2].numpy().tolist() == [[2, 0], [4, 2]]
    assert beam_search(step, (), [1], **options).ids[0, 1, 0] == 3


def test_a_sentence_without_a_possible_token_scores_minus_infinity():
    def step(ids, state, position):
        return tf.fill([len(ids), SIZE], -np.inf), state

    found = beam_search(
        step, (), [1, 1], end_id=END, beam_size=3, max_length=4, finished_apart=True
    )
    assert np.isneginf(found.scores).all() and not found.ids.numpy().any()


def test_a_text_that_repeats_itself_for_ever_is_not_waited_for_with_patience():
    # The end has probability 0.2 or 0.1; 3 follows itself with 0.9, so its mean log p only rises.
    rows = {1: [0, 0, 0.2, 0.5, 0.3], 3: [0, 0, 0.1, 0.9, 0], 4: [0, 0, 0.9, 0.1, 0]}

    def step(ids, state, position):
        return tf.math.log(tf.constant([rows.get(i, rows[3]) for i in ids.numpy().tolist()])), state

    options = {
        "end_id": END, "beam_size": 2, "max_length": 30, "length_penalty": 1.0,
        "length_normalization": "length", "finished_apart": True,
    }  # fmt: skip
    assert beam_search(step, (), [1], **options).lengths[0, 0] == 30
    found = beam_search(step, (), [1], **options, patience=1.0)
    assert found.ids[0, 0, :3].numpy().tolist() == [4, 2, 0]
