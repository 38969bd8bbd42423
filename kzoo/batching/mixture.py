"""Several corpora as one training set: how often each of them is read in a pass.

times = repetitions([1600, 100], temperature=2)           # [1., 4.]
times = weighted_repetitions([1600, 100], weights=[2, 1]) # [1., 8.]
draw = mixed([1600, 100], times)                          # for token_batches
"""

import numpy as np

from kzoo import checks


def repetitions(sizes, temperature):
    """How often a pass reads each of several corpora, mixed by temperature.

        p_i ~ n_i^(1/T)

    is the share of corpus i, of n_i pairs, in a pass (Arivazhagan et al. 2019,
    https://arxiv.org/abs/1907.05019, section 3). With T = 1 corpora are read as they are; the
    larger T, the more alike their shares. The largest corpus is read once, which gives
    (max n / n_i)^(1 - 1/T) for the others.

    Args:
        sizes: list of number, n_i.
        temperature: float, T, at least 1.

    Returns:
        (len(sizes),) float array, none below 1.

    Raises:
        ValueError: a size is below 1, or `temperature` is.

    Example:
        >>> repetitions([1600, 100], temperature=2)
        array([1., 4.])
    """
    sizes = _positive(sizes)
    checks.at_least(1, temperature=temperature)
    return (sizes.max() / sizes) ** (1 - 1 / temperature)


def weighted_repetitions(sizes, weights):
    """How often a pass reads each of several corpora, whose shares in the pass are given.

        p_i ~ w_i

    is the share of corpus i in a pass, whatever its size n_i. The corpus that is read least often
    is read once, which gives (w_i / n_i) / min_j (w_j / n_j) for each.

    Args:
        sizes: list of number, n_i.
        weights: list of number, w_i.

    Returns:
        (len(sizes),) float array, none below 1.

    Raises:
        ValueError: a size is below 1, a weight is not positive, or their numbers differ.

    Example:
        >>> weighted_repetitions([1600, 100], weights=[2, 1])
        array([1., 8.])
    """
    sizes, weights = _positive(sizes), np.asarray(weights, float)
    checks.require(
        weights.shape == sizes.shape and weights.min() > 0 and np.isfinite(weights).all(),
        "must be as many positive numbers as there are sizes",
        weights=weights.tolist(),
    )
    rates = weights / sizes
    return rates / rates.min()


def mixed(sizes, times):
    """Draws the rows of passes over several corpora that stand one after the other.

    A corpus that is read 2.4 times is read twice, and 0.4 of its rows, others in each pass, a third
    time.

    Args:
        sizes: list of int, pairs of each corpus.
        times: list of number, how often a pass reads each of them, as `repetitions` gives it.

    Returns:
        Function from a numpy Generator to the (M,) int rows of a pass, M the same in all. It is the
        `draw` of `token_batches`.

    Raises:
        ValueError: the numbers of sizes and times differ.
    """
    checks.require(len(sizes) == len(times), "must be as many as sizes", times=list(times))
    ends = np.cumsum(sizes)

    def draw(rng):
        rows = []
        for end, size, factor in zip(ends, sizes, times, strict=True):
            whole = int(factor)
            some = rng.permutation(size)[: round((factor - whole) * size)]
            rows += [np.tile(np.arange(size), whole) + end - size, some + end - size]
        return np.concatenate(rows)

    return draw


def _positive(sizes):
    sizes = np.asarray(sizes, float)
    checks.require(sizes.size and sizes.min() >= 1, "must be positive numbers", sizes=sizes)
    return sizes
