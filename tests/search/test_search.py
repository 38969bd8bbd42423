"""Search against exhaustive enumeration, a slow reference beam, and known answers."""

import itertools
import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import SOURCE_STEPS, Script

from kzoo.search import beam_search, greedy_search
from kzoo.search.beams import beam_step, normalized_scores, top_k


def score(log_prob, length, length_penalty):
    return log_prob / ((5 + length) / 6) ** length_penalty


def hypotheses(vocabulary_size, end_id, max_length):
    """All sequences that end with `end_id` or fill `max_length` without it."""
    others = [token for token in range(vocabulary_size) if token != end_id]
    for length in range(max_length):
        for tokens in itertools.product(others, repeat=length):
            yield (*tokens, end_id)
    yield from itertools.product(others, repeat=max_length)


def reference_beam(script, sentence, beam_size, end_id, length_penalty):
    """One pool of `beam_size` hypotheses: every extension of every one is scored and sorted."""
    beams = [((), 0.0, 0)]
    for _ in range(script.max_length):
        candidates = []
        for ids, log_prob, length in beams:
            if ids and ids[-1] == end_id:
                candidates.append((ids, log_prob, length))
                continue
            for token, value in enumerate(script.log_softmax(sentence, script.code(ids))):
                longer = length + (token != end_id)
                candidates.append(((*ids, token), log_prob + value, longer))
        candidates.sort(key=lambda beam: -score(beam[1], beam[2], length_penalty))
        beams = candidates[:beam_size]
    return beams


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocabulary_size=st.integers(2, 4),
    max_length=st.integers(1, 4),
    length_penalty=st.sampled_from([0.0, 0.6, 1.0]),
    impossible=st.sampled_from([0.0, 0.4]),
    data=st.data(),
)
def test_a_beam_as_wide_as_the_space_finds_every_hypothesis_in_order(
    seed, vocabulary_size, max_length, length_penalty, impossible, data
):
    end_id = data.draw(st.integers(0, vocabulary_size - 1))
    min_length = data.draw(st.integers(0, max_length - 1))
    script = Script(seed, 2, vocabulary_size, max_length, impossible)
    ids, scores, log_probs, lengths, weights, step_log_probs = script.search(
        vocabulary_size**max_length,
        end_id=end_id,
        min_length=min_length,
        length_penalty=length_penalty,
    )
    for b in range(2):
        expected = {}
        for tokens in hypotheses(vocabulary_size, end_id, max_length):
            length = len(tokens) - (tokens[-1] == end_id)
            value = script.log_prob(b, tokens)
            if value > -np.inf and (length >= min_length or tokens[-1] != end_id):
                expected[tokens] = value, length, score(value, length, length_penalty)
        best_first = sorted((s for _, _, s in expected.values()), reverse=True)
        count = len(expected)
        np.testing.assert_allclose(scores[b, :count], best_first, rtol=1e-5, atol=1e-5)
        assert np.all(np.isneginf(scores[b, count:])) and np.all(np.isneginf(log_probs[b, count:]))
        assert not ids[b, count:].any() and not lengths[b, count:].any()
        assert not weights[b, count:].any() and not step_log_probs[b, count:].any()
        totals = step_log_probs[b, :count].sum(axis=1)
        np.testing.assert_allclose(totals, log_probs[b, :count], rtol=1e-5, atol=1e-5)

        found = set()
        for k in range(count):
            tokens = tuple(ids[b, k, : lengths[b, k] + 1].tolist())
            value, length, _ = expected[tokens]
            assert lengths[b, k] == length and not ids[b, k, length + 1 :].any()
            np.testing.assert_allclose(log_probs[b, k], value, rtol=1e-5, atol=1e-5)
            found.add(tokens)
            for t in range(max_length):
                row = script.weights[b, script.code(tokens[:t])] if t < len(tokens) else 0
                np.testing.assert_array_equal(weights[b, k, t], row)
        assert len(found) == count


# Derandomized: two float32 scores may come out in another order than their float64 twins.
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    beam_size=st.integers(1, 6),
    length_penalty=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_a_narrow_beam_equals_a_search_that_sorts_every_extension(seed, beam_size, length_penalty):
    script = Script(seed, 2, 5, 4)
    ids, scores, _, _, weights, _ = script.search(
        beam_size, end_id=2, length_penalty=length_penalty
    )
    for b in range(2):
        beams = reference_beam(script, b, beam_size, 2, length_penalty)
        for k, (tokens, log_prob, length) in enumerate(beams[:beam_size]):
            assert ids[b, k, : len(tokens)].tolist() == list(tokens)
            np.testing.assert_allclose(
                scores[b, k], score(log_prob, length, length_penalty), rtol=1e-5, atol=1e-5
            )
            for t in range(len(tokens)):
                np.testing.assert_array_equal(
                    weights[b, k, t], script.weights[b, script.code(tokens[:t])]
                )


@pytest.mark.parametrize("seed", range(5))
def test_greedy_takes_the_most_probable_token_and_equals_a_beam_of_one(seed):
    script = Script(seed, 3, 5, 4)
    found = greedy_search(script.step, script.state(), script.start_ids, end_id=2, max_length=4)
    assert found.ids.shape == (3, 1, 4) and found.weights.shape == (3, 1, 4, SOURCE_STEPS)
    for b in range(3):
        tokens = []
        while len(tokens) < 4 and 2 not in tokens:
            tokens.append(int(np.argmax(script.logits[b, script.code(tokens)])))
        assert found.ids[b, 0, : len(tokens)].numpy().tolist() == tokens
        np.testing.assert_allclose(found.scores[b, 0], script.log_prob(b, tokens), rtol=1e-5)
    for length_penalty in (0.0, 1.0):
        options = {"end_id": 2, "max_length": 4, "length_penalty": length_penalty}
        greedy = greedy_search(script.step, script.state(), script.start_ids, **options)
        for left, right in zip(greedy, script.search(1, **options), strict=True):
            np.testing.assert_array_equal(left, right)


def test_equal_candidates_go_to_the_lower_beam_and_the_lower_id():
    def step(ids, state, position):
        return tf.zeros([len(ids), 3]), state

    found = beam_search(step, (), [1, 1], end_id=2, beam_size=5, max_length=2)
    assert found.ids[0].numpy().tolist() == [[2, 0], [0, 0], [0, 1], [0, 2], [1, 0]]
    np.testing.assert_array_equal(found.ids[0], found.ids[1])


def test_one_step_gives_the_known_answer_of_tensorflow_addons():
    logits = np.full((2, 3, 5), 1e-4, np.float32)
    logits[0, 0, 2], logits[0, 0, 3], logits[0, 1, 3], logits[0, 1, 4] = 1.9, 2.1, 3.1, 0.9
    logits[1, 0, 1], logits[1, 1, 2], logits[1, 2, 2], logits[1, 2, 3] = 0.5, 2.7, 10, 0.2
    beams = beam_step(
        logits.reshape(6, 5),
        tf.nn.log_softmax(tf.ones([2, 3])),
        tf.fill([2, 3], 2),
        tf.zeros([2, 3], tf.bool),
        end_id=0,
        beam_size=3,
        length_penalty=0.6,
    )
    assert beams.ids.numpy().tolist() == [[3, 3, 2], [2, 2, 1]]
    assert beams.parents.numpy().tolist() == [[1, 0, 0], [2, 1, 0]]
    log_probs = [[-1.318522, -1.880748, -2.080748], [-1.098804, -1.336722, -2.330112]]
    np.testing.assert_allclose(beams.log_probs, log_probs, atol=1e-6)
    np.testing.assert_allclose(beams.scores, np.array(log_probs) / 1.188402, atol=1e-6)
    assert np.all(beams.lengths == 3) and not np.any(beams.finished)


def test_the_length_penalty_is_that_of_gnmt():
    for length, length_penalty, penalty in [
        (3, 0.6, 1.188402),
        (10, 1.0, 2.5),
        (20, 0.2, 1.330325),
    ]:
        found = normalized_scores(tf.constant([-2.0]), tf.constant([length]), length_penalty)
        np.testing.assert_allclose(found, [-2 / penalty], rtol=1e-6)
    np.testing.assert_array_equal(normalized_scores(tf.constant([-2.0]), tf.constant([9]), 0.0), -2)


@pytest.mark.parametrize("max_length", [1, 2, 5, 11])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_finished_hypothesis_is_not_extended_by_a_model_that_likes_to_go_on(
    beam_size, max_length
):
    # 0: A, 1: start, 2: end, 3: B. P(end|start)=.5, P(A|start)=.3, P(A|A)=.9, uniform after end.
    table = np.log([[0.9, 0.02, 0.04, 0.04], [0.3, 0.1, 0.5, 0.1], [0.25] * 4, [0.25] * 4])

    def step(ids, state, position):
        return tf.gather(table, ids), state

    found = beam_search(step, (), [1], end_id=2, beam_size=beam_size, max_length=max_length)
    assert found.ids[0, 0].numpy().tolist() == [2] + [0] * (max_length - 1)
    np.testing.assert_allclose(found.scores[0, 0], -0.693147, atol=1e-6)
    assert found.lengths[0, 0] == 0 and found.weights.shape == (1, beam_size, max_length, 0)


def test_the_search_stops_when_all_are_finished_and_ignores_what_follows_an_end():
    # Sentence 0 ends at once, sentence 1 at position 2; finished rows see only NaN.
    positions = []

    def step(ids, state, position):
        positions.append(int(position))
        ends = tf.where(state["sentence"] == 0, 0, 2)
        logits = tf.where((position == ends)[:, None], [-math.inf, 0.0], [0.0, -math.inf])
        return tf.where((position > ends)[:, None], math.nan, logits), state

    state = {"sentence": tf.constant([0, 1])}
    found = beam_search(step, state, [0, 0], end_id=1, beam_size=3, max_length=9)
    assert positions == [0, 1, 2]
    assert found.ids[:, 0, :4].numpy().tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    np.testing.assert_array_equal(found.scores, [[0, -np.inf, -np.inf]] * 2)
    assert found.lengths[:, 0].numpy().tolist() == [0, 2]


def test_a_sentence_without_a_possible_token_scores_minus_infinity():
    def step(ids, state, position):
        return tf.fill([len(ids), 5], -math.inf), state

    found = beam_search(step, (), [1, 1], end_id=2, beam_size=3, max_length=7, length_penalty=0.6)
    assert np.all(np.isneginf(found.scores)) and np.all(np.isneginf(found.log_probs))
    assert not np.any(found.ids) and not np.any(found.lengths)


def test_min_length_forbids_the_end_and_leaves_other_probabilities_alone():
    def step(ids, state, position):
        return tf.math.log([[0.1, 0.9]] * len(ids)), state

    found = greedy_search(step, (), [0], end_id=1, max_length=5, min_length=3)
    assert found.ids[0, 0].numpy().tolist() == [0, 0, 0, 1, 0] and found.lengths[0, 0] == 3
    np.testing.assert_allclose(found.scores[0, 0], 3 * math.log(0.1) + math.log(0.9), rtol=1e-6)


def test_sentences_do_not_influence_each_other():
    script = Script(4, 5, 3, 4)
    options = {"end_id": 2, "beam_size": 3, "max_length": 4, "length_penalty": 0.6}
    whole = beam_search(script.step, script.state(), script.start_ids, **options)
    order = [3, 0, 4, 2, 1]
    state = {name: values[order] for name, values in script.state().items()}
    shuffled = beam_search(script.step, state, script.start_ids, **options)
    for left, right in zip(whole, shuffled, strict=True):
        np.testing.assert_allclose(left.numpy()[order], right, rtol=1e-6)
    for b in range(5):
        state = {name: values[b : b + 1] for name, values in script.state().items()}
        alone = beam_search(script.step, state, script.start_ids[:1], **options)
        for left, right in zip(whole, alone, strict=True):
            np.testing.assert_allclose(left[b : b + 1], right, rtol=1e-6)


def test_the_first_step_sees_each_sentence_once_and_later_ones_its_beams_side_by_side():
    seen = []

    def step(ids, state, position):
        seen.append(state[0].numpy().tolist())
        return tf.zeros([len(ids), 5]), state

    beam_search(step, [np.array([2, 7])], [1, 1], end_id=0, beam_size=3, max_length=2)
    assert seen == [[2, 7], [2, 2, 2, 7, 7, 7]]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_log_probabilities_are_float32_whatever_the_logits(dtype):
    script = Script(1, 2, 5, 3)
    rounded = tf.cast(tf.cast(script.logits, dtype), tf.float32).numpy()

    def step(ids, state, position):
        logits, weights, state = script.step(ids, state, position)
        return tf.cast(logits, dtype), tf.cast(weights, dtype), state

    options = {"end_id": 2, "beam_size": 3, "max_length": 3}
    found = beam_search(step, script.state(), script.start_ids, **options)
    script.logits = rounded
    expected = beam_search(script.step, script.state(), script.start_ids, **options)
    assert found.scores.dtype == found.log_probs.dtype == found.weights.dtype == tf.float32
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=1e-5)


@pytest.mark.parametrize("integer", [np.int64, np.uint8, lambda n: tf.constant(n, tf.int64)])
def test_integers_of_any_kind_are_taken(integer):
    script = Script(seed=3, sentences=2, vocabulary_size=5, max_length=4)
    options = {"end_id": 2, "beam_size": 2, "no_repeat_ngram": 3, "max_length": 4}
    expected = beam_search(script.step, script.state(), script.start_ids, **options)
    is_tensor = tf.is_tensor(integer(1))
    options = {name: n if is_tensor else integer(n) for name, n in options.items()}
    options["max_length"] = integer(4)
    start_ids = tf.cast(script.start_ids, integer(1).dtype)
    found = beam_search(script.step, script.state(), start_ids, prefix=[], **options)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_empty_batch_gives_an_empty_result():
    def step(ids, state, position):
        return tf.zeros([tf.shape(ids)[0], 5]), tf.zeros([tf.shape(ids)[0], 7]), state

    found = beam_search(step, (), tf.zeros([0], tf.int32), end_id=2, beam_size=3, max_length=4)
    assert found.ids.shape == (0, 3, 4) and found.weights.shape == (0, 3, 4, 7)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocabulary_size=st.sampled_from([997, 1000, 1280]),
    distinct=st.sampled_from([3, 1000]),
    k=st.integers(1, 5),
)
def test_the_blockwise_top_k_breaks_ties_like_the_plain_one(seed, vocabulary_size, distinct, k):
    values = np.random.default_rng(seed).integers(0, distinct, (3, vocabulary_size))
    values = np.where(values == 0, -np.inf, values).astype(np.float32)
    for left, right in zip(top_k(values, k), tf.math.top_k(values, k), strict=True):
        np.testing.assert_array_equal(left, right)


class Exported(keras.layers.Layer):
    """A search over a scripted step with memory of dynamic B and S, as an export has it."""

    def __init__(self, beam_size, **options):
        super().__init__()
        self.beam_size = beam_size
        self.options = options
        self.table = self.add_weight(shape=(11, 11), initializer="random_normal", name="table")

    def call(self, memory):
        def step(ids, state, position):
            total, last = state
            beams = tf.shape(ids)[0] // tf.shape(memory)[0]
            total += tf.gather(self.table, ids)
            queries = tf.reshape(total, [-1, beams, 11])
            scores = tf.einsum("bkd,bsd->bks", queries, memory)
            weights = tf.nn.softmax(scores)
            context = tf.einsum("bks,bsd->bkd", weights, memory)
            logits = tf.reshape(context, [-1, 11]) + 9 * tf.gather(self.table, ids)
            logits += tf.where(position == 3, 99 * tf.one_hot(2, 11), 0)  # all end, the loop too
            return logits, tf.reshape(weights, [tf.shape(ids)[0], -1]), (total, last + 1)

        sentences = tf.shape(memory)[0]
        options = dict(self.options)
        if "length_deviation_penalty" in options:
            options["expected_length"] = tf.fill([sentences], 3.0)
        return beam_search(
            step,
            (tf.zeros([sentences, 11]), tf.zeros([sentences], tf.int32)),
            tf.ones([sentences], tf.int32),
            end_id=2,
            beam_size=self.beam_size,
            max_length=6,
            min_length=1,
            length_penalty=0.6,
            **options,
        )._asdict()


@pytest.fixture(scope="module")
def memory():
    return np.random.default_rng(3).normal(size=(3, SOURCE_STEPS, 11)).astype(np.float32)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_graph_serves_every_batch_size_and_needs_neither_weights_nor_state(
    jit_compile,
):
    # 2, the end, follows 0 with .6; start 1 is followed by 0 with .7 and by 2 with .2.
    table = np.log([[0.2, 0.2, 0.6], [0.7, 0.1, 0.2], [0.2, 0.5, 0.3]]).astype(np.float32)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False, jit_compile=jit_compile
    )
    def search(start_ids):
        def step(ids, state, position):
            return tf.gather(table, ids), state

        return beam_search(step, (), start_ids, end_id=2, beam_size=2, max_length=11)

    for sentences in (0, 1, 3):
        found = search(tf.ones([sentences], tf.int32))
        assert found.ids.shape == (sentences, 2, 11)
        assert found.weights.shape == (sentences, 2, 11, 0)
        for b in range(sentences):
            assert found.ids[b, :, :3].numpy().tolist() == [[0, 2, 0], [2, 0, 0]]
            np.testing.assert_allclose(found.scores[b], np.log([0.42, 0.2]), rtol=1e-5)


EVERY_OPTION = {
    "coverage_penalty": 0.3,
    "no_repeat_ngram": 2,
    "repetition_penalty": 1.2,
    "prefix": [3],
    "allowed": [True] * 10 + [False],
    "groups": 2,
    "diversity_penalty": 0.5,
}


@pytest.mark.parametrize(
    "beam_size, options",
    [
        (1, {}),
        (4, {}),
        (4, EVERY_OPTION),
        (4, {"best_only": True, "length_deviation_penalty": 0.1}),
        (4, {"finished_apart": True, "length_normalization": "length", "coverage_penalty": 0.3}),
    ],
    ids=["greedy", "beam", "every option", "best only", "apart"],
)
def test_eager_graph_xla_and_a_session_without_xla_give_the_same(
    beam_size, options, memory, tmp_path
):
    keras.utils.set_random_seed(7)
    layer = Exported(beam_size, **options)
    expected = {name: tensor.numpy() for name, tensor in layer(memory).items()}
    slots = 1 if "best_only" in options else beam_size
    assert expected["ids"].shape == (3, slots, 6) and not expected["ids"][:, :, 4:].any()
    np.testing.assert_allclose(expected["weights"][:, 0].sum(axis=2)[:, :2], 1, rtol=1e-6)
    assert len(np.unique(expected["ids"])) > 3

    signature = [tf.TensorSpec([None, None, 11], tf.float32)]
    for jit_compile in (False, True):
        function = tf.function(
            layer.call, input_signature=signature, autograph=False, jit_compile=jit_compile
        )
        _assert_same(function(memory), expected)

    archive = keras.export.ExportArchive()
    archive.track(layer)
    archive.add_endpoint("serve", layer.call, input_signature=signature)
    archive.write_out(str(tmp_path), verbose=False)
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path))
        graph = meta.graph_def
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        assert len(nodes) > 50 and not [n.op for n in nodes if n.op.startswith("Xla")]
        endpoint = meta.signature_def["serve"]
        (feed,) = (tensor.name for tensor in endpoint.inputs.values())
        fetches = {name: tensor.name for name, tensor in endpoint.outputs.items()}
        _assert_same(session.run(fetches, {feed: memory}), expected)
        alone = {name: tensor[2:] for name, tensor in expected.items()}
        _assert_same(session.run(fetches, {feed: memory[2:]}), alone)


def _assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name in expected:
        if expected[name].dtype == np.int32:
            np.testing.assert_array_equal(found[name], expected[name])
        else:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


def uniform_step(ids, state, position):
    return tf.zeros([len(ids), 5]), state


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"length_normalization": "words"},
            '`length_normalization` must be "gnmt" or "length", got length_normalization=',
        ),
        (
            {"finished_apart": True, "groups": 3},
            "`groups` must be 1 with finished_apart, got groups=3.",
        ),
        (
            {"patience": 1.0},
            "`patience` must be None without finished_apart, got patience=1.0.",
        ),
        (
            {"finished_apart": True, "patience": 0.0},
            "`patience` must be finite and positive, got patience=0.0.",
        ),
        ({"end_id": -1}, "`end_id` must be an integer of at least 0, got end_id=-1."),
        (
            {"end_id": 5},
            "`end_id` must be less than the vocabulary size, got end_id=5, vocabulary size 5.",
        ),
        ({"beam_size": 0}, "`beam_size` must be an integer of at least 1, got beam_size=0."),
        ({"beam_size": 2.5}, "`beam_size` must be an integer of at least 1, got beam_size=2.5."),
        ({"max_length": 0}, "`max_length` must be an integer of at least 1, got max_length=0."),
        (
            {"max_length": True},
            "`max_length` must be an integer of at least 1, got max_length=True.",
        ),
        ({"start_ids": [1.0, 1.0]}, "`start_ids` must be integers, got float32."),
        ({"min_length": -1}, "`min_length` must be an integer of at least 0, got min_length=-1."),
        (
            {"min_length": 7},
            "`min_length` must be less than max_length, got min_length=7, max_length=7.",
        ),
        (
            {"length_penalty": -0.5},
            "`length_penalty` must be finite and not negative, got length_penalty=-0.5.",
        ),
        ({"start_ids": [[1], [1]]}, "`start_ids` must have shape (B,), got shape (2, 1)."),
        (
            {"state": [tf.zeros([3, 2])]},
            "`state` must hold tensors with one row per start id, "
            "got shape (3, 2) for start_ids of shape (2,).",
        ),
        (
            {"state": tf.zeros([])},
            "`state` must hold tensors with one row per start id, "
            "got shape () for start_ids of shape (2,).",
        ),
        (
            {"step": lambda ids, state, position: {"logits": 3}},
            "`step` must return (logits, state) or (logits, weights, state), got {'logits': 3}.",
        ),
        (
            {"step": lambda ids, state, position: (tf.zeros([2, 1, 5]), state)},
            "`step` must return logits (N, V) with a static V, got shape (2, 1, 5).",
        ),
        (
            {"step": lambda ids, state, position: (np.zeros([2, 5]), tf.zeros([2, 3, 7]), state)},
            "`step` must return weights (N, S), got shape (2, 3, 7).",
        ),
        (
            {"step": lambda ids, state, position: (tf.zeros([2, 5]), (ids,))},
            "`step` must return a state built like the one it got.",
        ),
        (
            {
                "state": [tf.zeros([2, 3])],
                "step": lambda ids, state, position: (
                    tf.zeros([2, 5]),
                    [tf.concat([state[0], state[0]], axis=1)],
                ),
            },
            "`step` must return a state of the shapes and dtypes it got, "
            "got (2, 6) float32 for (2, 3) float32.",
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(change, message):
    arguments = {"step": uniform_step, "state": (), "start_ids": [1, 1]}
    arguments |= {"end_id": 2, "beam_size": 3, "max_length": 7} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        beam_search(**arguments)
