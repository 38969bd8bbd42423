"""Candidate sampling against its equations: what is drawn, and how often it is expected."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import text
from kzoo.layers import candidates
from kzoo.layers.candidates import (
    DISTRIBUTIONS,
    CandidateSampler,
    draws_for,
    log_uniform_probability,
)
from kzoo.layers.head import VocabularyHead

V, N = 11, 7
LABELS = np.array([4, 5, 4, 9, 2, 0, 0])

every_distribution = pytest.mark.parametrize("distribution", DISTRIBUTIONS)


def make_sampler(distribution, size=V, num_sampled=5, seed=3, counts=None):
    sampler = CandidateSampler(size, num_sampled, distribution, seed)
    sampler.build((None,))
    if distribution == "learned_unigram":
        sampler.counts.assign(np.arange(1, size + 1) if counts is None else counts)
    return sampler


def repeated(sampler, times):
    """Inclusion (R, V) of all classes in many draws, and their expected counts (V,).

    Without labels the learned unigram learns nothing but its number of draws, which is put back.
    """
    size = sampler.vocabulary_size
    is_learned = sampler.distribution == "learned_unigram"

    @tf.function(autograph=True)
    def draw():
        marks = tf.TensorArray(tf.float32, times)
        for number in tf.range(times):
            ids = sampler(tf.zeros([0], tf.int64)).ids[:, None]
            row = tf.scatter_nd(ids, tf.ones_like(ids[:, 0], tf.float32), [size])
            marks = marks.write(number, row)
            if is_learned:
                sampler.learned_draws.assign(float(sampler.draws))
        return marks.stack()

    expected = sampler._expected(tf.range(size, dtype=tf.int64), float(sampler.draws))
    return draw().numpy(), expected.numpy()


def test_the_log_uniform_probabilities_are_those_of_tensorflow_and_sum_to_1():
    p = log_uniform_probability(np.arange(V), V).numpy()
    np.testing.assert_allclose(p.sum(), 1)
    _, theirs, _ = tf.random.log_uniform_candidate_sampler(
        np.arange(V)[:, None], 1, num_sampled=1, unique=False, range_max=V
    )
    np.testing.assert_allclose(theirs[:, 0], p, rtol=1e-6)


@pytest.mark.parametrize("num_sampled", [1, 5, 10])
def test_fewer_draws_would_not_give_as_many_distinct_classes(num_sampled):
    p = log_uniform_probability(np.arange(V), V).numpy()
    draws = draws_for(p, num_sampled)
    assert (1 - np.exp(-draws * p)).sum() >= num_sampled
    assert (1 - np.exp(-(draws - 1) * p)).sum() < num_sampled


@every_distribution
def test_candidates_are_distinct_classes_and_on_average_as_many_as_asked_for(distribution):
    sampler = make_sampler(distribution, size=503, num_sampled=101)
    for _ in range(20):  # the learned unigram finds its number of draws
        sampler(LABELS)
    found = [sampler(LABELS).ids.numpy() for _ in range(50)]
    for ids in found:
        assert len(set(ids)) == len(ids)
        assert ids.min() >= 0
        assert ids.max() < 503
    assert abs(np.mean([len(ids) for ids in found]) - 101) < 3


@every_distribution
def test_a_class_is_among_the_candidates_as_often_as_expected(distribution):
    sampler = make_sampler(distribution)
    marks, expected = repeated(sampler, 4000)
    bound = 4.5 * np.sqrt(expected * (1 - expected) / len(marks))  # 4.5 standard errors
    assert (np.abs(marks.mean(0) - expected) < bound).all()


@every_distribution
def test_classes_become_candidates_independently_of_one_another(distribution):
    marks, _ = repeated(make_sampler(distribution), 4000)
    correlation = np.corrcoef(marks.T)[~np.eye(V, dtype=bool)]
    assert np.abs(correlation).max() < 4.5 / 4000**0.5


@every_distribution
def test_a_sum_over_candidates_divided_by_q_has_the_sum_over_all_as_expectation(distribution):
    sampler = make_sampler(distribution)
    marks, expected = repeated(sampler, 4000)
    f = np.exp(np.random.default_rng(1).normal(size=V))
    estimates = (marks * f / expected).sum(1)
    bound = 4.5 * estimates.std() / len(marks) ** 0.5  # 4.5 standard errors
    assert abs(estimates.mean() - f.sum()) < bound < 0.1 * f.sum()


@every_distribution
def test_labels_get_the_expected_count_of_their_class(distribution):
    sampler = make_sampler(distribution)
    everything = sampler._expected(tf.range(V), float(sampler.draws)).numpy()
    found = sampler(LABELS)
    np.testing.assert_array_equal(found.label_expected, everything[LABELS])
    np.testing.assert_array_equal(found.expected, everything[found.ids.numpy()])


def test_the_expected_count_is_the_chance_of_any_of_the_draws():
    sampler = make_sampler("log_uniform")
    p = np.log((np.arange(V) + 2) / (np.arange(V) + 1)) / np.log(V + 1)
    expected = sampler._expected(tf.range(V), 3.0)
    np.testing.assert_allclose(expected, 1 - np.exp(-3 * p), rtol=1e-6)


def test_the_learned_unigram_counts_labels_without_padding_from_1_on():
    sampler = make_sampler("learned_unigram", counts=np.ones(V))
    sampler(LABELS)
    sampler(LABELS[:1])
    np.testing.assert_array_equal(sampler.counts, [1, 1, 2, 1, 4, 2, 1, 1, 1, 2, 1])
    p = sampler.counts.numpy() / 17
    np.testing.assert_allclose(sampler._expected(tf.range(V), 3.0), 1 - np.exp(-3 * p), rtol=1e-6)


def test_as_many_samples_as_classes_are_all_classes_each_expected_once():
    found = CandidateSampler(V, V)(LABELS)
    np.testing.assert_array_equal(found.ids, np.arange(V))
    np.testing.assert_array_equal(found.expected, np.ones(V))
    np.testing.assert_array_equal(found.label_expected, np.ones(N))


@every_distribution
def test_a_seed_says_what_is_drawn(distribution):
    def draws(seed):
        sampler = make_sampler(distribution, size=101, num_sampled=7, seed=seed)
        return [sampler(LABELS).ids.numpy().tolist() for _ in range(3)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(5)
    assert len({tuple(ids) for ids in draws(3)}) == 3


@every_distribution
def test_saved_with_a_model_it_goes_on_where_it_was(distribution, tmp_path):
    def model(seed):
        sampler = make_sampler(
            distribution, size=101, num_sampled=7, seed=seed, counts=np.ones(101)
        )
        built = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        built.sampler = sampler
        return built

    first, second = model(3), model(5)
    for _ in range(3):
        first.sampler(LABELS)
    first.save_weights(tmp_path / "some.weights.h5")
    second.load_weights(tmp_path / "some.weights.h5")
    for _ in range(3):
        np.testing.assert_array_equal(first.sampler(LABELS).ids, second.sampler(LABELS).ids)


def zipf_labels(size, count=400):
    p = 1 / np.arange(2, size - 2)
    return np.random.default_rng(1).choice(np.arange(4, size), count, p=p / p.sum())


@pytest.mark.parametrize("order", ["sorted", "shuffled", "reversed"])
def test_ids_that_are_not_sorted_by_frequency_are_refused(order, monkeypatch):
    monkeypatch.setattr(candidates, "ORDER_LABELS", 1000)
    size = 211
    renumbered = np.arange(size)
    if order == "shuffled":
        renumbered[4:] = np.random.default_rng(2).permutation(renumbered[4:])
    elif order == "reversed":
        renumbered[4:] = renumbered[4:][::-1]
    labels = renumbered[zipf_labels(size)]
    sampler = CandidateSampler(size, 5)
    draw = tf.function(sampler)
    for _ in range(2):
        draw(labels)  # 800 labels are no evidence yet
    if order == "sorted":
        draw(labels)
        count, excess = sampler.order.numpy()
        assert count == 1200  # enough to be judged by
        assert excess < 0
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="needs ids sorted by falling freq"):
        draw(labels)


def test_special_ids_and_padding_are_no_evidence_of_an_order():
    sampler = CandidateSampler(V, 5)
    sampler(np.array([0, 0, 1, 2, 3, 3]))
    np.testing.assert_array_equal(sampler.order, [0, 0])


@pytest.mark.parametrize("distribution", ["uniform", "learned_unigram"])
def test_the_other_distributions_take_ids_in_any_order(distribution, monkeypatch):
    monkeypatch.setattr(candidates, "ORDER_LABELS", 10)
    sampler = make_sampler(distribution)
    for _ in range(3):
        found = sampler(np.full([N], V - 1))
        assert found.ids.shape[0] > 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="needs ids sorted by falling freq"):
        for _ in range(3):  # 21 labels that the log-uniform distribution does refuse
            make_sampler("log_uniform")(np.full([2 * N], V - 1))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (
            "`num_sampled` must lie between 1 and vocabulary_size, "
            "got num_sampled=0, vocabulary_size=11.",
            (V, 0),
        ),
        (
            "`num_sampled` must lie between 1 and vocabulary_size, "
            "got num_sampled=12, vocabulary_size=11.",
            (V, 12),
        ),
        (
            "`distribution` must be one of ('log_uniform', 'uniform', 'learned_unigram'), "
            "got 'zipf'.",
            (V, 5, "zipf"),
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(message, arguments):
    with pytest.raises(ValueError, match=re.escape(message)):
        CandidateSampler(*arguments)


def test_a_small_vocabulary_is_judged_by_its_words_alone(monkeypatch):
    monkeypatch.setattr(candidates, "ORDER_LABELS", 1000)
    line = "the quick brown fox jumps over the lazy dog and then sleeps in the shade of a tree"
    letters = text.CharacterTokenizer.learn([line], 40)
    labels = np.resize(letters.tokenize([line]).numpy()[0], 2000)
    CandidateSampler(letters.vocabulary_size(), 5)(labels)
    reverse = letters.vocabulary_size() + 3 - labels
    with pytest.raises(tf.errors.InvalidArgumentError, match="needs ids sorted by falling freq"):
        CandidateSampler(letters.vocabulary_size(), 5)(reverse)


@every_distribution
def test_weights_of_a_full_softmax_leave_the_sampler_at_its_beginning(distribution, tmp_path):
    full, sampled = (
        VocabularyHead(11, 3, num_sampled=number, sampler=distribution, seed=1) for number in (0, 5)
    )
    for head in (full, sampled):
        head.build((None, 3))
    keras.Sequential([keras.Input((3,)), full]).save_weights(tmp_path / "full.weights.h5")
    keras.Sequential([keras.Input((3,)), sampled]).load_weights(tmp_path / "full.weights.h5")
    np.testing.assert_array_equal(full.kernel, sampled.kernel)
    assert sampled.candidate_sampler.seed_and_calls.numpy().tolist() == [1, 0]


@pytest.fixture(scope="module")
def two_replicas():
    script = """
import numpy as np, tensorflow as tf
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, 2 * [tf.config.LogicalDeviceConfiguration()])
from kzoo.layers.candidates import DISTRIBUTIONS, CandidateSampler
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for distribution in DISTRIBUTIONS:
    with strategy.scope():
        sampler = CandidateSampler(101, 7, distribution, seed=3)
        sampler.build((None,))
    draw = tf.function(lambda: strategy.run(sampler, [tf.constant([5, 6, 7, 0])]).ids)
    drawn = [strategy.experimental_local_results(draw()) for _ in range(40)]
    assert all((a.numpy() == b.numpy()).all() for a, b in drawn), "replicas differ"
    different = len({tuple(a.numpy()) for a, _ in drawn})
    print(distribution, sampler.seed_and_calls.numpy().tolist(), different)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split(" ", 1) for line in done.stdout.splitlines()]


def test_replicas_of_a_strategy_draw_the_same_and_other_classes_at_each_step(two_replicas):
    assert two_replicas == [[name, "[3, 40] 40"] for name in candidates.DISTRIBUTIONS]
