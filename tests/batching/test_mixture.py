"""Corpora mixed by temperature or weights: shares, rows, and batches within their budget."""

import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching
from kzoo.batching import mixture

SIZES = [113, 11, 37]


@pytest.mark.parametrize("temperature", [1, 2.0, 5.0, 100.0])
def test_shares_are_those_of_the_paper(temperature):
    read = mixture.repetitions(SIZES, temperature) * SIZES
    expected = np.array(SIZES) ** (1 / temperature)
    np.testing.assert_allclose(read / read.sum(), expected / expected.sum())
    assert min(mixture.repetitions(SIZES, temperature)) == 1  # the largest corpus, once


def test_a_pass_reads_every_pair_and_some_of_the_smaller_corpora_once_more():
    times = mixture.repetitions(SIZES, 5)
    draw = mixture.mixed(SIZES, times)
    rng = np.random.default_rng(2)
    rests = set()
    for _ in range(5):
        counts = np.bincount(draw(rng), minlength=sum(SIZES))
        for part, size, factor in zip(
            np.split(counts, np.cumsum(SIZES)[:-1]), SIZES, times, strict=True
        ):
            assert {*part} <= {int(factor), int(factor) + 1}
            assert part.sum() == round((factor - int(factor)) * size) + int(factor) * size
        rests.add(tuple(counts))
    assert len(rests) == 5  # others in each pass
    np.testing.assert_array_equal(mixture.mixed(SIZES, [1] * 3)(rng), np.arange(sum(SIZES)))


def test_mixed_batches_keep_to_their_budget_and_to_their_number():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, sum(SIZES))
    ids = tf.RaggedTensor.from_row_lengths(
        np.repeat(np.arange(sum(SIZES)) + 4, lengths).astype("int32"), lengths
    )
    corpus = batching.Corpus(ids, ids)
    draw = mixture.mixed(SIZES, mixture.repetitions(SIZES, 5))
    dataset = batching.token_batches(corpus, 31, seed=3, draw=draw)
    count, rows = int(dataset.cardinality()), len(draw(rng))
    passes = []
    for _ in range(3):
        batches = [inputs["source"].numpy() for inputs, _ in dataset]
        assert len(batches) == count
        assert all(batch.size <= 31 for batch in batches)
        passes.append(np.sort(np.concatenate([batch[:, 0] for batch in batches]) - 4))
    assert all(abs(len(each) - rows) <= 0.1 * rows for each in passes)
    assert not np.array_equal(passes[0][-37:], passes[1][-37:])  # of the smallest corpora
    again = batching.token_batches(corpus, 31, seed=3, draw=draw)
    for (first, _), (second, _) in zip(
        batching.token_batches(corpus, 31, seed=3, draw=draw), again, strict=True
    ):
        np.testing.assert_array_equal(first["source"], second["source"])


@pytest.mark.parametrize(
    ("sizes", "temperature", "message"),
    [
        ([], 5, "`sizes` must be positive numbers"),
        ([3, 0], 5, "`sizes` must be positive numbers"),
        ([3, 5], 0.5, "`temperature` must be at least 1, got temperature=0.5"),
    ],
)
def test_a_wrong_temperature_or_size_is_refused(sizes, temperature, message):
    with pytest.raises(ValueError, match=message):
        mixture.repetitions(sizes, temperature)


@pytest.mark.parametrize("weights", [[2, 1, 1], [1, 5.5, 0.25], [3, 3, 3]])
def test_weights_are_the_shares_of_a_pass_in_which_every_corpus_is_read(weights):
    times = mixture.weighted_repetitions(SIZES, weights)
    assert min(times) == 1
    drawn = np.bincount(mixture.mixed(SIZES, times)(np.random.default_rng(5)))
    read = [part.sum() for part in np.split(drawn, np.cumsum(SIZES)[:-1])]
    np.testing.assert_allclose(read / np.sum(read), weights / np.sum(weights), atol=0.005)
    assert min(drawn) == 1


@pytest.mark.parametrize("weights", [[2, 1], [2, 0, 1], [2, -1, 1], [2, np.inf, 1], [np.nan] * 3])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match="`weights` must be as many positive numbers as"):
        mixture.weighted_repetitions(SIZES, weights)


def test_times_are_as_many_as_the_corpora():
    with pytest.raises(ValueError, match=r"`times` must be as many as sizes, got times=\[1, 2\]"):
        mixture.mixed(SIZES, [1, 2])
