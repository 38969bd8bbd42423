"""Train, valid and test: whole groups are held out, never rows."""

import hashlib
from collections import Counter
from collections.abc import Container, Mapping
from typing import NamedTuple

from recipes.data.examples import Clips, Pairs, Pictures, Words
from recipes.data.files import say

HELD_OUT_SHARE = 0.05  # of the pairs, for valid and again for test
HELD_OUT_PAIRS = 3000  # at most: more makes scoring slow and hardly more certain
LARGEST_GROUP_SHARE = 0.1  # of a held-out part: two components would be most of the test pairs


class Splits(NamedTuple):
    """`test` is None when the caller gave `train` and `valid` but no `test`: score on `valid`."""

    train: Pairs | Words | Clips | Pictures
    valid: Pairs | Words | Clips | Pictures
    test: Pairs | Words | Clips | Pictures | None

    def say(self, known: Mapping[str, int] | None = None, what: str = "") -> None:
        """Prints to stderr how many examples each part has, and what was skipped; and of how many
        of a part it is `known` that train has them, too, which are called `what`."""
        for name, part in self._asdict().items():
            also = also_trained((known or {}).get(name, 0), what)
            say(f"{name}: {'not given' if part is None else part}{also}")


def also_trained(count: int, what: str) -> str:
    """What is said behind a part, of which so many are in train, too."""
    return f"; {count:,} of the {what} are also in train" if count else ""


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
        name = f"{seed} {group}".encode(errors="surrogatepass")  # a file's name may be any bytes
        return sizes[group] <= largest, hashlib.sha256(name).digest()

    order = sorted(sizes, key=rank)  # held out from the end on
    home = {}
    for name, missing in wanted.items():
        while order and missing > 0:
            group = order.pop()
            home[group] = name
            missing -= sizes[group]
    return home


def split_rows(
    examples: Clips | Pictures,
    groups: list[str],
    *,
    valid: float,
    test: float,
    seed: int,
    one: str,
    place: str = "",
) -> Splits:
    """Holds out whole groups of clips or pictures, as `hold_out` does.

    Args:
        examples: Clips or Pictures, and `groups` the group of each.
        valid, test: shares of the examples.
        seed: picks the groups.
        one, place: what messages call an example, and what is split.
    """
    home = hold_out(groups, valid=valid, test=test, seed=seed)
    parts = {name: type(examples)() for name in Splits._fields}
    parts["train"].skipped.update(examples.skipped)
    for row, group in zip(examples.rows, groups, strict=True):
        parts[home.get(group, "train")].rows.append(row)
    of = f"{len(examples):,} {one}s in {len({*groups}):,} groups"
    return filled(parts, valid=valid, test=test, one=one, of=of, place=place)


def filled(parts: dict, *, valid: float, test: float, one: str, of: str, place: str = "") -> Splits:
    """The parts, if train and those with a share have an example.

    Args:
        parts: {"train", "valid", "test": examples}. valid, test: shares.
        one, of, place: what the message calls an example, all of them, and what is split.

    Raises:
        ValueError: a part is empty.
    """
    for name, share in (("train", 1.0), ("valid", valid), ("test", test)):
        if share and not parts[name]:
            raise ValueError(
                f"Splitting {place + ' ' if place else ''}must leave at least one {one} in "
                f"`{name}`, got none of {of}; as whole groups are held out, give `train`, `valid` "
                "and `test` yourself."
            )
    return Splits(**parts)


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
