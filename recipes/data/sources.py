"""Several sources of one run, each with a weight: "homeassistant:2,mine.tsv:1".

    weights("mine.tsv")                        # {"mine.tsv": 1.0}
    weights("homeassistant:2,mine.tsv:1")      # {"homeassistant": 2.0, "mine.tsv": 1.0}

A weight is the share of a pass over the training examples that is read from the source, whatever
the size of the source; `kzoo.batching.weighted_repetitions` says how often each example is read.
"""

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from recipes.data.examples import Clips, Pairs, Words
from recipes.data.files import say

HELP = "or several such places with their weights, as a.tsv:2,b.tsv:1"
Examples = TypeVar("Examples", Pairs, Words, Clips)
_WEIGHTED = re.compile(r"(.+):(\d+(?:\.\d+)?|\.\d+)")


def weights(place: str) -> dict[str, float]:
    """{source: weight} of the sources that a place names; of one without a weight that is 1.

    Raises:
        ValueError: some parts have weights, but not all; a weight is 0; or a source comes twice.
    """
    parts = [part.strip() for part in place.split(",")]
    found = [_WEIGHTED.fullmatch(part) for part in parts]
    if not any(found) or os.path.exists(place):
        return {place: 1.0}
    if not all(found):
        raise ValueError(
            "`data` and `train` must have a weight, digits with or without a point, behind each "
            f"source or behind none, as a.tsv:2,b.tsv:1, got {place!r}."
        )
    weights = {each[1]: float(each[2]) for each in found}
    if len(weights) < len(found) or not all(weights.values()):
        raise ValueError(
            f"`data` and `train` must name each source once, with a positive weight, got {place!r}."
        )
    return weights


def read_each(place: str, read: Callable[[str], Examples]) -> Examples:
    """The examples of all sources that a place names, one source after the other.

    Args:
        place: `--data` or `--train`.
        read: function from one source to its examples.
    """
    names = weights(place)
    if len(names) == 1:
        return read(*names)
    parts = []
    for name in names:
        found = read(name)
        say(f"{name}: {found}")
        parts.append(found.of_source(name))
    return type(parts[0]).joined(parts)


def name_of(place: str) -> str:
    """What the folder of a model is called after its data: the names of their folders."""
    sides = ([each] if os.path.exists(each) else each.split(",") for each in weights(place))
    paths = map(Path, itertools.chain.from_iterable(sides))
    names = [path.parent.name if path.is_file() else path.name for path in paths]
    return "-".join(dict.fromkeys(filter(None, names))) or "mine"


def folder_of(recipe: str, config: Any) -> Path:
    """`--output`, or the recipe's own folder, in which models of other than its default data have
    the name of these behind the recipe's: the next version of a model is one of the same data."""
    place = config.train or config.data
    end = "" if place == type(config).data else f"-{name_of(place)}"
    return Path(config.output or f"saved_models/{recipe}{end}")


def title_of(place: str) -> str:
    """What a card calls the data: their names without folders and endings."""
    return ", ".join(Path(each).stem for each in weights(place))


def licences(known: dict[str, str], data: str, train: str | None) -> str:
    """What a card says of the licences of the data, of which those of named sources are known."""
    if train is not None:
        return "as the data's"
    found = {name: known.get(name, "as the data's") for name in weights(data)}
    if len(found) == 1:
        return "".join(found.values())
    return "; ".join(f"{name}: {licence}" for name, licence in found.items())
