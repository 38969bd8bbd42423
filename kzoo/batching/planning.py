"""Which examples share a batch: like lengths, within a budget of tokens, frames or the like."""

import numpy as np

from kzoo import checks


def plan(source_lengths, target_lengths, batch_tokens, rng=None, pool=100_000, rows_multiple=8):
    """Groups examples of like length into batches within a token budget.

    Examples are dealt into pools, always the same, so that each epoch has as many batches. A pool
    is sorted by the length of the longer side, which the budget is about, and among these by the
    length of the shorter one; equal ones come in random order. It is cut so that rows times the
    longest sequence, end id included, stay within the budget. The batches are then shuffled.

    Args:
        source_lengths, target_lengths: (N,) int, without start and end.
        batch_tokens: int, most tokens of a batch on either side, padding included; a longer
            example makes a batch of its own.
        rng: numpy Generator, or None for the same batches each time, in order of length.
        pool: int, examples that are sorted together.
        rows_multiple: int; rows are a multiple of it where the budget allows, for regular shapes.

    Returns:
        A list of (B,) index arrays; each example is in exactly one.

    Raises:
        ValueError: if `batch_tokens` is not positive or the lengths differ in number.
    """
    source_lengths = np.asarray(source_lengths) + 1  # the end id
    target_lengths = np.asarray(target_lengths) + 1
    checks.integer(1, batch_tokens=batch_tokens)
    if len(source_lengths) != len(target_lengths):
        raise ValueError(
            f"`source` and `target` must have as many rows, "
            f"got {len(source_lengths)} and {len(target_lengths)}."
        )
    order = np.arange(len(source_lengths))
    if len(order) > pool:
        order = np.random.default_rng(0).permutation(order)
    batches = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        if rng is not None:
            part = rng.permutation(part)
        # lexsort keeps the random order among equals, so that batches differ between epochs.
        longest = np.maximum(source_lengths[part], target_lengths[part])
        surplus = source_lengths[part] - target_lengths[part]
        # Back and forth between long sources and long targets, so that neighbours are alike.
        by_length = np.lexsort((np.where(longest % 2, surplus, -surplus), longest))
        part, longest = part[by_length], longest[by_length]
        first = 0
        while first < len(part):
            widths = longest[first : first + batch_tokens]  # the batch's, if it ends here
            fits = widths * np.arange(1, len(widths) + 1) <= batch_tokens
            rows = max(1, len(fits) if fits.all() else int(np.argmin(fits)))
            if rows > rows_multiple and first + rows < len(part):
                rows -= rows % rows_multiple
            batches.append(part[first : first + rows])
            first += rows
    if rng is not None:
        rng.shuffle(batches)
    return batches


def padding_share(source_lengths, target_lengths, batches):
    """Returns the share of padding among all tokens of the planned batches, in [0, 1]."""
    real = padded = 0
    for lengths in (np.asarray(source_lengths) + 1, np.asarray(target_lengths) + 1):
        real += lengths.sum()
        padded += sum(len(batch) * lengths[batch].max() for batch in batches)
    return float(1 - real / padded) if padded else 0.0
