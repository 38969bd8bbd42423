"""Every option of the search, alone and with the others, against a slow search in numpy."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import SOURCE_STEPS, Script

from kzoo.search import beam_search, greedy_search, sample

V, L, END = 5, 5, 2


def next_tokens(script, sentence, ids, **options):
    """log p of each token that the constraints leave, in float64: {token: value}."""
    logits = script.logits[sentence, script.code(ids)].astype(np.float64)
    penalty = options.get("repetition_penalty", 1.0)
    for token in set(ids):
        logits[token] *= penalty if logits[token] < 0 else 1 / penalty
    log_p = logits - np.logaddexp.reduce(logits)
    prefix = [*options.get("prefix", np.zeros((2, 0), int))[sentence]]
    if len(ids) < len(prefix) and prefix[len(ids)]:
        return {prefix[len(ids)]: log_p[prefix[len(ids)]]}
    n = options.get("no_repeat_ngram", 0)
    grams = {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)} if n else set()
    allowed = np.broadcast_to(options.get("allowed", True), (2, V))[sentence]
    return {
        token: value
        for token, value in enumerate(log_p)
        if allowed[token]
        and not (token == END and len(ids) < options.get("min_length", 0))
        and not (n and (*ids, token)[len(ids) + 1 - n :] in grams and len(ids) + 1 >= n)
    }


def score_of(script, sentence, ids, log_prob, **options):
    """The equation of `beam_search`, from the tokens alone."""
    length = len(ids) - (END in ids)
    score = log_prob / ((5 + length) / 6) ** options.get("length_penalty", 0.0)
    if options.get("coverage_penalty", 0.0):
        rows = [script.weights[sentence, script.code(ids[:t])] for t in range(len(ids))]
        terms = np.log(np.clip(np.sum(rows, axis=0, dtype=np.float64), 1e-6, 1))
        score += options["coverage_penalty"] * terms[options["source_mask"][sentence]].sum()
    if "expected_length" in options:
        excess = length - options["expected_length"][sentence]
        is_final = END in ids or len(ids) == L
        deviation = abs(excess) if is_final else max(excess, 0)
        score -= options["length_deviation_penalty"] * deviation
    return score


def slow_search(script, sentence, beam_size, groups=1, diversity_penalty=0.0, **options):
    """All extensions of all hypotheses, sorted: [(ids, log_prob, score)], best first."""
    found = [[((), 0.0)]] * groups
    for _ in range(L):
        taken = []
        for group, hypotheses in enumerate(found):
            candidates = []
            for ids, log_prob in hypotheses:
                if END in ids:
                    candidates.append((ids, log_prob, log_prob))
                    continue
                for token, value in next_tokens(script, sentence, ids, **options).items():
                    wanted = log_prob + value - diversity_penalty * taken.count(token)
                    candidates.append(((*ids, token), log_prob + value, wanted))
            candidates.sort(
                key=lambda each: -score_of(script, sentence, each[0], each[2], **options)
            )
            before = {ids for ids, _ in hypotheses}
            found[group] = [each[:2] for each in candidates[: beam_size // groups]]
            taken += [ids[-1] for ids, _ in found[group] if ids not in before]
    flat = [
        (ids, log_prob, score_of(script, sentence, ids, log_prob, **options))
        for hypotheses in found
        for ids, log_prob in hypotheses
    ]
    return sorted(flat, key=lambda each: -each[2])


def assert_same(script, beam_size, **options):
    found = script.search(beam_size, end_id=END, **options)
    for b in range(2):
        expected = slow_search(script, b, beam_size, **options)
        for k, (ids, log_prob, score) in enumerate(expected):
            length = len(ids) - (END in ids)
            assert found.ids[b, k].tolist() == [*ids, *[0] * (L - len(ids))], (b, k)
            assert found.lengths[b, k] == length
            np.testing.assert_allclose(found.log_probs[b, k], log_prob, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found.scores[b, k], score, rtol=1e-4, atol=1e-5)
            steps = [
                next_tokens(script, b, ids[:t], **options)[token] for t, token in enumerate(ids)
            ]
            steps += [0] * (L - len(ids))
            np.testing.assert_allclose(found.step_log_probs[b, k], steps, rtol=1e-4, atol=1e-5)
            for t in range(len(ids)):
                row = script.weights[b, script.code(ids[:t])]
                np.testing.assert_array_equal(found.weights[b, k, t], row)
        assert np.isneginf(found.scores[b, len(expected) :]).all()
        assert not found.ids[b, len(expected) :].any()
    return found


MASK = np.array([[True] * 7, [True] * 4 + [False] * 3])
PREFIX = np.array([[3, 0, 4], [1, 2, 0]])  # a free place in the first, an end in the second
ALLOWED = np.array([[True, True, True, False, True], [True, False, True, True, True]])
EXPECTED = np.array([2.5, 4.0], np.float32)
OPTIONS = {
    "min_length": {"min_length": 2},
    "length_penalty": {"length_penalty": 0.6},
    "coverage_penalty": {"coverage_penalty": 0.7, "source_mask": MASK},
    "expected_length": {"expected_length": EXPECTED, "length_deviation_penalty": 2.0},
    "no_repeat_ngram 1": {"no_repeat_ngram": 1},
    "no_repeat_ngram 2": {"no_repeat_ngram": 2},
    "repetition_penalty": {"repetition_penalty": 1.7},
    "prefix": {"prefix": PREFIX},
    "allowed": {"allowed": ALLOWED},
}


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_does_what_a_slow_search_does_with_it(name, beam_size):
    changed = 0
    for seed in range(4):
        script = Script(seed, 2, V, L)
        script.weights /= 3
        found = assert_same(script, beam_size, **OPTIONS[name])
        changed += np.any(found.ids != script.search(beam_size, end_id=END).ids)
    assert changed or beam_size == 1  # some options choose among hypotheses, not tokens


# Derandomized: two float32 scores may come out in another order than their float64 twins.
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.sets(st.sampled_from(sorted(OPTIONS)), min_size=2),
    slots=st.sampled_from([(1, 1), (2, 1), (4, 1), (2, 2), (4, 2), (6, 3)]),
    diversity_penalty=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_options_together_do_what_a_slow_search_does_with_them(
    seed, names, slots, diversity_penalty
):
    script = Script(seed, 2, V, L)
    script.weights /= 3
    options = {key: value for name in sorted(names) for key, value in OPTIONS[name].items()}
    beam_size, groups = slots
    if groups > 1:
        options |= {"groups": groups, "diversity_penalty": diversity_penalty}
    found = assert_same(script, beam_size, **options)
    best = script.search(beam_size, end_id=END, best_only=True, **options)
    for whole, alone in zip(found, best, strict=True):
        np.testing.assert_array_equal(alone, whole[:, :1])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.sets(st.sampled_from(sorted(set(OPTIONS) - {"no_repeat_ngram 1"}))),
)
def test_a_beam_as_wide_as_the_space_finds_the_best_of_all(seed, names):
    script = Script(seed, 2, V, 3)
    options = {key: value for name in sorted(names) for key, value in OPTIONS[name].items()}
    found = script.search(V**3, end_id=END, **options)
    for beam_size in (1, 2, 7):
        narrow = script.search(beam_size, end_id=END, **options)
        assert np.all(narrow.scores[:, 0] <= found.scores[:, 0] + 1e-5)
    best = script.search(V**3, end_id=END, best_only=True, **options)
    np.testing.assert_array_equal(best.ids, found.ids[:, :1])


def test_greedy_takes_every_option_of_a_beam_of_one():
    script = Script(3, 2, V, L)
    for name, options in OPTIONS.items():
        greedy = script.run(greedy_search, end_id=END, **options)
        for left, right in zip(greedy, script.search(1, end_id=END, **options), strict=True):
            np.testing.assert_array_equal(left, right, err_msg=name)


def test_a_prefix_may_be_ragged_or_one_for_all():
    script = Script(5, 2, V, L)
    padded = script.search(3, end_id=END, prefix=[[3, 4, 1], [4, 0, 0]])
    ragged = script.search(3, end_id=END, prefix=tf.ragged.constant([[3, 4, 1], [4]]))
    np.testing.assert_array_equal(ragged.ids, padded.ids)
    assert (padded.ids[0, :, :3] == [3, 4, 1]).all() and (padded.ids[1, :, 0] == 4).all()
    np.testing.assert_array_equal(
        script.search(3, end_id=END, prefix=[3, 4]).ids,
        script.search(3, end_id=END, prefix=[[3, 4], [3, 4]]).ids,
    )


def test_a_whole_answer_as_prefix_is_scored_and_not_searched():
    script = Script(6, 2, V, L)
    found = script.search(3, end_id=END, prefix=[[3, 1, END], [4, 4, 4]], allowed=[True] * V)
    assert found.ids[0].tolist() == [[3, 1, END, 0, 0], [0] * L, [0] * L]
    np.testing.assert_allclose(found.log_probs[0, 0], script.log_prob(0, (3, 1, END)), rtol=1e-5)
    assert np.isneginf(found.scores[0, 1:]).all() and np.isfinite(found.scores[1]).all()


def test_what_is_forced_is_exempt_from_the_other_constraints():
    script = Script(7, 2, V, L)
    forbidding = {"no_repeat_ngram": 1, "allowed": [True, True, True, False, True]}
    found = script.search(2, end_id=END, prefix=[3, 3], min_length=1, **forbidding)
    assert (found.ids[:, :, :2] == 3).all() and not (found.ids[:, :, 2:] == 3).any()
    for renormalize in (False, True):  # alone, what is forced has probability 1
        ended = script.search(2, end_id=END, prefix=[3, END], min_length=3, renormalize=renormalize)
        assert (ended.ids[:, 0, :2] == [3, END]).all()
        assert np.isfinite(ended.scores[:, 0]).all()
    np.testing.assert_allclose(ended.log_probs[:, 0], 0, atol=1e-6)


def test_a_sentence_without_an_allowed_token_scores_minus_infinity_alone():
    script = Script(8, 2, V, L)
    allowed = np.array([[False] * V, [True] * V])
    found = script.search(3, end_id=END, allowed=allowed)
    assert np.isneginf(found.scores[0]).all() and not found.ids[0].any()
    np.testing.assert_array_equal(found.ids[1], script.search(3, end_id=END).ids[1])


def test_allowed_and_no_repeat_ngram_renormalise_nothing():
    def step(ids, state, position):
        return tf.math.log([[0.1, 0.2, 0.3, 0.4]] * len(ids)), state

    found = greedy_search(
        step, (), [0], end_id=0, max_length=3, allowed=[True, True, True, False], no_repeat_ngram=1
    )
    assert found.ids[0, 0].numpy().tolist() == [2, 1, 0]
    np.testing.assert_allclose(found.log_probs[0, 0], math.log(0.3 * 0.2 * 0.1), rtol=1e-6)


def test_the_best_alone_ends_the_search_when_nothing_can_overtake_it():
    # The end has .6 at first; what goes on has .4 at most, for ever.
    positions = []

    def step(ids, state, position):
        positions.append(int(position))
        first = tf.math.log([[0.0, 0.4, 0.6]])
        return tf.repeat(first if position == 0 else [[0.0, 9.0, 0.0]], len(ids), axis=0), state

    options = {"end_id": 2, "beam_size": 3, "max_length": 9}
    found = beam_search(step, (), [0], best_only=True, **options)
    assert positions == [0] and found.ids.shape == (1, 1, 9)
    np.testing.assert_allclose(found.scores, [[math.log(0.6)]], rtol=1e-6)

    # Normalised by the length, .4 could still win within 9 steps, and does.
    options["length_penalty"] = 1.0
    positions.clear()
    long = beam_search(step, (), [0], best_only=True, **options)
    assert positions == list(range(9)) and long.lengths[0, 0] == 9


def test_sentences_that_are_decided_wait_unchanged_for_the_others():
    script = Script(9, 2, V, L)
    script.logits[0, 1, END] = 20.0
    found = script.search(4, end_id=END, best_only=True)
    np.testing.assert_array_equal(found.ids, script.search(4, end_id=END).ids[:, :1])
    assert found.lengths[0, 0] == 0 and found.lengths[1, 0] > 0


def test_groups_without_a_penalty_are_the_same_search_twice_and_with_one_they_differ():
    script = Script(10, 2, V, L)
    plain = script.search(2, end_id=END)
    twice = script.search(4, end_id=END, groups=2)
    np.testing.assert_array_equal(twice.ids[:, ::2], plain.ids)
    np.testing.assert_array_equal(twice.ids[:, 1::2], plain.ids)
    diverse = script.search(4, end_id=END, groups=2, diversity_penalty=5.0)
    assert all(len({tuple(ids) for ids in row}) > 2 for row in diverse.ids.tolist())
    np.testing.assert_array_equal(diverse.ids[:, 0], plain.ids[:, 0])  # the first group's


def test_padding_in_the_source_is_not_to_be_covered():
    script = Script(11, 2, V, L)
    mask = np.arange(SOURCE_STEPS) < 4
    short = script.search(3, end_id=END, coverage_penalty=0.5, source_mask=np.array([mask, mask]))
    script.weights[:, :, 4:] = np.nan
    dirty = script.search(3, end_id=END, coverage_penalty=0.5, source_mask=np.array([mask, mask]))
    np.testing.assert_array_equal(short.scores, dirty.scores)
    assert np.isfinite(short.scores).all()


def uniform_step(ids, state, position):
    return tf.zeros([len(ids), 5]), state


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"coverage_penalty": -1},
            "`coverage_penalty` must be finite and not negative, got coverage_penalty=-1.",
        ),
        (
            {"coverage_penalty": 0.2},
            "`coverage_penalty` needs a step that returns weights, got coverage_penalty=0.2",
        ),
        (
            {"length_deviation_penalty": math.inf},
            "`length_deviation_penalty` must be finite and not negative, "
            "got length_deviation_penalty=inf.",
        ),
        ({"expected_length": 3.0}, "`expected_length` must have shape (B,), got shape ()."),
        (
            {"no_repeat_ngram": -1},
            "`no_repeat_ngram` must be an integer of at least 0, got no_repeat_ngram=-1.",
        ),
        (
            {"repetition_penalty": 0},
            "`repetition_penalty` must be finite and positive, got repetition_penalty=0.",
        ),
        (
            {"prefix": [[1.5]]},
            "`prefix` must hold integer ids of shape (P,) or (B, P), got float32 of shape (1, 1).",
        ),
        (
            {"prefix": [[1] * 8]},
            "`prefix` must not be longer than max_length, got shape (1, 8), max_length=7.",
        ),
        (
            {"prefix": [[1]] * 3},
            "`prefix` must have one row per start id, got shape (3, 1) for start_ids of shape (2,)",
        ),
        (
            {"coverage_penalty": 0.3, "source_mask": [[1, 1], [1, 0]]},
            "`source_mask` must be bool of shape (B, S), got int32 of shape (2, 2).",
        ),
        (
            {"allowed": [1, 0, 1, 1, 1]},
            "`allowed` must be bool of shape (V,) or (B, V), got int32 of shape (5,).",
        ),
        (
            {"allowed": [True] * 4},
            "`allowed` must have one entry per token, got shape (4,) for a vocabulary of 5.",
        ),
        (
            {"allowed": [[True] * 5] * 3},
            "`allowed` must have one row per start id, got shape (3, 5) for start_ids of shape",
        ),
        (
            {"expected_length": [3.0]},
            "`expected_length` must have one row per start id, got shape (1,) for start_ids of",
        ),
        ({"groups": 0}, "`groups` must be an integer of at least 1, got groups=0."),
        ({"groups": 2}, "`groups` must divide beam_size, got groups=2, beam_size=3."),
        (
            {"diversity_penalty": -1.0},
            "`diversity_penalty` must be finite and not negative, got diversity_penalty=-1.0.",
        ),
    ],
)
def test_a_bad_option_is_named_with_its_rule_and_value(change, message):
    options = {"end_id": 2, "beam_size": 3, "max_length": 7} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        beam_search(uniform_step, (), [1, 1], **options)


def test_renormalized_probabilities_are_a_softmax_over_what_is_left():
    """Of beams, of beams that end apart, and of samples, token by token."""
    rng = np.random.default_rng(4)
    table = rng.normal(size=(7, 7)).astype("float32")
    allowed = np.array([False, False, True, True, False, True, True])

    def step(ids, state, position):
        return tf.gather(tf.constant(table), ids), state

    options = {
        "end_id": 2, "max_length": 5, "min_length": 2, "allowed": allowed, "no_repeat_ngram": 1,
        "renormalize": True,
    }  # fmt: skip
    start = tf.constant([1, 4])

    def log_step(ids, state, position):
        return tf.nn.log_softmax(step(ids, state, position)[0]), state

    found = [
        beam_search(step, (), start, beam_size=3, **options),
        beam_search(log_step, (), start, beam_size=3, normalize=False, **options),
        sample(log_step, (), start, num_samples=9, seed=1, normalize=False, **options),
        beam_search(step, (), start, beam_size=3, finished_apart=True, **options),
        sample(step, (), start, num_samples=9, seed=1, **options),
    ]
    for result in found:
        for row, first in enumerate([1, 4]):
            for beam, length in enumerate(result.lengths[row].numpy()):
                ids = result.ids[row, beam].numpy()
                expected, last, left = [], first, allowed.copy()
                for place, id_ in enumerate(ids[: length + 1]):
                    logits = np.where(left, table[last], -np.inf)
                    if place < 2:
                        logits[2] = -np.inf
                    log_p = logits - np.log(np.exp(logits).sum())
                    expected.append(log_p[id_])
                    left[id_], last = False, id_
                np.testing.assert_allclose(
                    result.step_log_probs[row, beam, : len(expected)], expected, atol=1e-5
                )
                total = result.log_probs[row, beam]
                np.testing.assert_allclose(total, np.sum(expected), atol=1e-5)
