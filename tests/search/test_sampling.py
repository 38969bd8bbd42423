"""Sampling: what is cut off against numpy, and the frequency of samples against their probability.

A frequency of n independent samples lies within 4.5 standard deviations, sqrt(p (1 - p) / n), of
its p in all but 7 of a million cases. The seeds are fixed: a test passes always or never.
"""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Script

from kzoo.search import beam_search, sample
from kzoo.search.sampling import truncated_logits

V, L, END, N = 3, 3, 2, 20_000


def softmax(logits):
    exp = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def slow_truncation(p, top_k, top_p):
    """The tokens kept of one distribution, most probable first."""
    order = np.argsort(-p)
    order = order[: top_k or len(p)]
    order = order[p[order] > 0]
    kept, total = [], p[order].sum()
    for token in order:
        if top_p < 1 and sum(p[kept]) / total >= top_p:
            break
        kept.append(int(token))
    return kept


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.integers(0, 9),
    top_p=st.sampled_from([0.01, 0.5, 0.9, 1.0]),
    impossible=st.booleans(),
)
def test_temperature_top_k_and_top_p_leave_what_numpy_leaves(
    seed, temperature, top_k, top_p, impossible
):
    logits = np.random.default_rng(seed).normal(0, 2, (5, 7)).astype(np.float32)
    if impossible:
        logits[:, 3] = -np.inf
    found = truncated_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p).numpy()
    for row, values in zip(logits, found, strict=True):
        kept = slow_truncation(softmax(row / temperature), top_k, top_p)
        assert set(np.flatnonzero(values > -np.inf)) == set(kept)
        np.testing.assert_allclose(values[kept], row[kept] / temperature, rtol=1e-6)


def test_equal_tokens_are_kept_or_cut_off_together():
    logits = np.log([[0.3, 0.3, 0.3, 0.1]])
    for options in ({"top_k": 1}, {"top_p": 0.2}):
        kept = truncated_logits(logits, **options).numpy()[0] > -np.inf
        assert kept.tolist() == [True, True, True, False]


def answers(vocabulary_size, max_length):
    others = [token for token in range(vocabulary_size) if token != END]
    for length in range(max_length):
        for tokens in itertools.product(others, repeat=length):
            yield (*tokens, END)
    yield from itertools.product(others, repeat=max_length)


OPTIONS = {
    "plain": {},
    "temperature": {"temperature": 0.5},
    "top_k": {"top_k": 2},
    "top_p": {"top_p": 0.8},
    "min_length": {"min_length": 1},
    "allowed": {"allowed": [False, True, True]},
    "no_repeat_ngram": {"no_repeat_ngram": 2},
    "repetition_penalty": {"repetition_penalty": 2.0},
    "prefix": {"prefix": [1]},
    "all": {"temperature": 1.5, "top_p": 0.9, "min_length": 1, "repetition_penalty": 1.3},
}


def next_p(script, sentence, ids, **options):
    """The model's probabilities, and those that a token is drawn with."""
    logits = script.logits[sentence, script.code(ids)].astype(np.float64)
    penalty = options.get("repetition_penalty", 1.0)
    for token in set(ids):
        logits[token] *= penalty if logits[token] < 0 else 1 / penalty
    possible = np.where(options.get("allowed", [True] * V), logits, -np.inf)
    if len(ids) < options.get("min_length", 0):
        possible[END] = -np.inf
    if options.get("no_repeat_ngram") == 2 and len(ids) == 2 and ids[0] == ids[1]:
        possible[ids[0]] = -np.inf
    prefix = options.get("prefix", [])
    if len(ids) < len(prefix):
        possible = np.where(np.arange(V) == prefix[len(ids)], logits, -np.inf)
    q = softmax(possible / options.get("temperature", 1.0))
    kept = slow_truncation(q, options.get("top_k", 0), options.get("top_p", 1.0))
    drawn = np.zeros(V)
    drawn[kept] = q[kept] / q[kept].sum()
    return softmax(logits), drawn


@pytest.mark.parametrize("name", OPTIONS)
def test_answers_come_as_often_as_their_probability_says(name):
    options = OPTIONS[name]
    script = Script(1, 2, V, L)
    script.logits /= 2
    found = script.run(sample, end_id=END, num_samples=N, seed=5, **options)
    for b in range(2):
        counts = Counter()
        for ids, length in zip(found.ids[b].tolist(), found.lengths[b].tolist(), strict=True):
            counts[tuple(ids[: length + 1])] += 1
        total = 0.0
        for tokens in answers(V, L):
            model_p = drawn_p = 1.0
            steps = np.zeros(L)
            for t, token in enumerate(tokens):
                model, drawn = next_p(script, b, tokens[:t], **options)
                steps[t] = np.log(model[token])
                model_p, drawn_p = model_p * model[token], drawn_p * drawn[token]
            bound = 4.5 * math.sqrt(drawn_p * (1 - drawn_p) / N)
            assert abs(counts[tokens] / N - drawn_p) <= bound, tokens
            total += drawn_p
            if counts[tokens]:
                k = found.ids[b].tolist().index([*tokens, *[0] * (L - len(tokens))])
                np.testing.assert_allclose(found.log_probs[b, k], math.log(model_p), rtol=1e-4)
                np.testing.assert_allclose(found.step_log_probs[b, k], steps, rtol=1e-4)
                for t in range(L):
                    row = script.weights[b, script.code(tokens[:t])] if t < len(tokens) else 0
                    np.testing.assert_array_equal(found.weights[b, k, t], row)
        assert total == pytest.approx(1)


def test_samples_are_independent_of_each_other_and_of_the_step():
    # Pairs of neighbours, in the batch, among the samples and in time, are equal with p = 1/4.
    def step(ids, state, position):
        return tf.zeros([len(ids), 5]), state

    found = sample(
        step, (), [0] * 7, end_id=4, min_length=6, max_length=7, num_samples=2000, seed=1
    )
    ids = found.ids.numpy()[:, :, :6]  # of 4 tokens, as the end is not among them
    for left, right in (
        (ids[1:], ids[:-1]),
        (ids[:, 1:], ids[:, :-1]),
        (ids[:, :, 1:], ids[:, :, :-1]),
    ):
        bound = 4.5 * math.sqrt(0.25 * 0.75 / left.size)
        assert abs(np.mean(left == right) - 0.25) <= bound


def test_a_seed_gives_the_same_samples_and_no_seed_others_every_time():
    script = Script(2, 2, 7, 5)

    @tf.function(autograph=False)
    def run(seed=None):
        return sample(
            script.step, script.state(), script.start_ids, end_id=1, max_length=5,
            num_samples=11, seed=seed,
        ).ids  # fmt: skip

    np.testing.assert_array_equal(run(tf.constant(3)), run(tf.constant(3)))
    np.testing.assert_array_equal(run(3), script.run(sample, num_samples=11, seed=3).ids)
    assert np.any(run(tf.constant(3)) != run(tf.constant(4)))
    assert np.any(run() != run())


def test_almost_no_temperature_is_greedy_and_scores_are_those_of_a_beam():
    script = Script(3, 2, 5, 4)
    options = {"end_id": END, "length_penalty": 0.6}
    greedy = script.search(1, **options)
    for choice in ({"temperature": 1e-3}, {"top_k": 1}, {"top_p": 1e-6}):
        found = script.run(sample, num_samples=3, seed=0, **choice, **options)
        for left, right in zip(found, greedy, strict=True):
            expected = np.repeat(right, 3, axis=1)
            np.testing.assert_allclose(left, expected, rtol=1e-5)


def test_log_probabilities_that_do_not_sum_to_one_are_scored_as_they_are_by_beam_and_samples():
    table = np.log([[0.1, 0.2, 0.3, 0.1]]).astype(np.float32)  # as joint CTC/attention has them

    def step(ids, state, position):
        return tf.repeat(table, len(ids), axis=0), state

    options = {"end_id": END, "max_length": 2, "normalize": False}
    beam = beam_search(step, (), [1], beam_size=16, **options)
    drawn = sample(step, (), [1], num_samples=50, seed=0, **options)
    scores = {
        tuple(ids): score
        for ids, score in zip(beam.ids[0].numpy().tolist(), beam.scores[0].numpy(), strict=True)
    }
    for ids, score in zip(drawn.ids[0].numpy().tolist(), drawn.scores[0].numpy(), strict=True):
        np.testing.assert_allclose(score, scores[tuple(ids)], rtol=1e-5)
    assert scores[(2, 0)] == pytest.approx(math.log(0.3), rel=1e-5)


def test_a_sentence_without_a_possible_token_scores_minus_infinity_alone():
    script = Script(4, 2, 5, 4)
    allowed = np.array([[False] * 5, [True] * 5])
    found = script.run(sample, num_samples=3, seed=0, allowed=allowed)
    assert np.isneginf(found.scores[0]).all() and not found.ids[0].any()
    assert np.isfinite(found.scores[1]).all() and not found.lengths[0].any()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_graph_samples_for_every_batch_size(jit_compile):
    table = np.log(np.full((11, 11), 1 / 11)).astype(np.float32)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False, jit_compile=jit_compile
    )
    def run(start_ids):
        def step(ids, state, position):
            return tf.gather(table, ids), state

        return sample(
            step, (), start_ids, end_id=2, max_length=7, num_samples=5, top_k=9, top_p=0.9,
            no_repeat_ngram=2, repetition_penalty=1.2, prefix=[3],
        )  # fmt: skip

    for sentences in (0, 1, 3):
        found = run(tf.ones([sentences], tf.int32))
        assert found.ids.shape == (sentences, 5, 7) and found.weights.shape[3] == 0
        assert np.all(found.ids[:, :, 0] == 3)
    operations = [node.op for node in run.get_concrete_function().graph.as_graph_def().node]
    assert jit_compile or not [name for name in operations if name.startswith("Xla")]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_samples": 0}, "`num_samples` must be an integer of at least 1, got num_samples=0."),
        ({"temperature": 0.0}, "`temperature` must be finite and positive, got temperature=0.0."),
        ({"top_k": -1}, "`top_k` must be an integer of at least 0, got top_k=-1."),
        ({"top_p": 0.0}, "`top_p` must lie in (0, 1], got top_p=0.0."),
        ({"top_p": 1.1}, "`top_p` must lie in (0, 1], got top_p=1.1."),
        ({"seed": 0.5}, "`seed` must be None, an int or an int32 scalar, got seed=0.5."),
        (
            {"length_penalty": -1},
            "`length_penalty` must be finite and not negative, got length_penalty=-1.",
        ),
        (
            {"min_length": 4},
            "`min_length` must be less than max_length, got min_length=4, max_length=4.",
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(change, message):
    script = Script(0, 2, 5, 4)
    with pytest.raises(ValueError, match=re.escape(message)):
        script.run(sample, **change)


def test_rows_that_draw_alike_do_not_depend_on_each_other():
    logits = tf.random.stateless_normal((3, 9), (1, 2))

    def drawn(rows, **options):
        def step(ids, state, position):
            return tf.gather(state, tf.range(tf.shape(ids)[0])), state

        start = tf.ones([len(rows)], tf.int32)
        return sample(
            step, tf.gather(logits, rows), start, end_id=2, max_length=8, num_samples=2, seed=4,
            **options,
        ).ids.numpy()  # fmt: skip

    alike = drawn([0, 1, 2], same_for_rows=True)
    for row in range(3):
        assert np.array_equal(alike[row], drawn([row], same_for_rows=True)[0])
    assert not np.array_equal(alike[0, 0], alike[0, 1])  # samples of a row differ
    assert not np.array_equal(drawn([0, 1, 2])[1:], alike[1:])
