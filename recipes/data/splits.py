"""Train, valid and test: whole groups are held out, never rows."""

import hashlib
from collections import Counter
from collections.abc import Container
from typing import NamedTuple

from recipes.data.examples import Pairs

HELD_OUT_SHARE = 0.05  # of the pairs, for valid and again for test
HELD_OUT_PAIRS = 3000  # at most: more makes scoring slow and hardly more certain
LARGEST_GROUP_SHARE = 0.1  # of a held-out part: two components would be most of the test pairs


class Splits(NamedTuple):
    """`test` is None when the caller gave `train` and `valid` but no `test`: score on `valid`."""

    train: Pairs
    valid: Pairs
    test: Pairs | None


def hold_out(groups: list[str], *, valid: float, test: float, seed: int) -> dict[str, str]:
    """{group: "valid" or "test"} for the groups that are held out; `split` says which.

    `groups` names the group of each example.
    """
    sizes = Counter(groups)
    wanted = {
        name: min(share * len(groups), HELD_OUT_PAIRS)
        for name, share in (("test", test), ("valid", valid))
        if share > 0
    }
    largest = max(1, LARGEST_GROUP_SHARE * min(wanted.values(), default=0))

    def rank(group):
        return sizes[group] <= largest, hashlib.sha256(f"{seed} {group}".encode()).digest()

    order = sorted(sizes, key=rank)  # held out from the end on
    home = {}
    for name, missing in wanted.items():
        while order and missing > 0:
            group = order.pop()
            home[group] = name
            missing -= sizes[group]
    return home


def chosen_place(data: str, train: str | None, default: str) -> tuple[str, str]:
    """("data" or "train", its value): where the examples to train on come from.

    Raises:
        ValueError: both are given, as `data` is not its `default`.
    """
    if train is None:
        return "data", data
    if data != default:
        raise ValueError(
            f"`data` and `train` must not both be given, got data={data!r}, train={train!r}."
        )
    return "train", train


def missing_shares(
    given: Container[str], share: float = HELD_OUT_SHARE, *, is_closed: bool
) -> dict[str, float]:
    """{"valid", "test": share to hold out}, 0 for what is `given`, and for a test of what
    `is_closed`: train and valid of one's own."""
    shares = {name: 0.0 if name in given else share for name in ("valid", "test")}
    return shares | ({"test": 0.0} if is_closed else {})
