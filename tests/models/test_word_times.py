"""Times of tokens against the plain recursion and numpy."""

import numpy as np
import tensorflow as tf

from kzoo.models import word_times


def by_recursion(costs):
    """The first step of each token, as in a textbook: costs (T, S)."""
    tokens, steps = costs.shape
    sums = np.full((tokens + 1, steps + 1), np.inf)
    sums[0, 0] = 0
    came = {}
    for t in range(1, tokens + 1):
        for s in range(1, steps + 1):
            ways = [(t - 1, s - 1), (t - 1, s), (t, s - 1)]
            came[t, s] = min(ways, key=lambda way: sums[way])
            sums[t, s] = costs[t - 1, s - 1] + sums[came[t, s]]
    place, firsts = (tokens, steps), np.zeros(tokens, int)
    while place != (0, 0):
        firsts[place[0] - 1] = place[1] - 1
        place = came[place]
    return firsts


def test_the_path_is_that_of_the_plain_recursion_and_padding_changes_nothing():
    rng = np.random.default_rng(0)
    counts, steps = np.array([7, 1, 4, 5, 9]), np.array([23, 12, 3, 1, 9])
    costs = rng.normal(size=(5, 9, 23))
    found = word_times.warped(
        tf.constant(costs), tf.constant(counts, tf.int32), tf.constant(steps, tf.int32)
    ).numpy()
    for row, (count, size) in enumerate(zip(counts, steps, strict=True)):
        expected = by_recursion(costs[row, :count, :size])
        assert found[row, :count].tolist() == expected.tolist()
        assert not found[row, count:].any()


def test_the_median_filter_is_numpys_on_a_mirrored_row():
    x = np.random.default_rng(1).normal(size=(2, 2, 3, 12))
    found = word_times.median_filtered(tf.constant(x), tf.constant([12, 9])).numpy()
    for row, size in ((0, 12), (1, 9)):
        padded = np.pad(x[row, ..., :size], [(0, 0), (0, 0), (3, 3)], "reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 7, -1)
        np.testing.assert_allclose(found[row, ..., :size], np.median(windows, -1))


def test_tokens_begin_where_the_heads_look():
    weights = np.full((1, 2, 4, 40), 1e-3)
    for token, step in enumerate((0, 10, 20, 32)):
        weights[0, :, token, step : step + 6] = 1.0
    padded = np.pad(weights, [(0, 0), (0, 0), (0, 2), (0, 5)], constant_values=0.7)
    found = word_times.token_steps(tf.constant(padded), tf.constant([4]), tf.constant([40]))
    assert found.shape == (1, 6) and not found[0, 4:].numpy().any()
    np.testing.assert_allclose(found[0, :4], [0, 10, 20, 32], atol=4)
    alone = word_times.token_steps(tf.constant(weights), tf.constant([4]), tf.constant([40]))
    assert np.array_equal(found[0, :4], alone[0])
