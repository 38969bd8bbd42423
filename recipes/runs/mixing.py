"""Training pairs of several languages and several sources: how often a pass reads each of them.

    corpus, draw = mixed(model, {"de": train}, "homeassistant:2,mine.tsv:1", max_length=128)
    batches = make_batches(model, corpus, valid, run, config, draw)

A corpus is the pairs of one language out of one source. With one corpus alone `draw` is None.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import kzoo
from recipes.data.examples import Pairs
from recipes.data.sources import weights
from recipes.runs import training_pairs


def mixed(
    model, parts: dict[str, Pairs], place: str, *, temperature: float = 1.0, **limits: int
) -> tuple[kzoo.batching.Corpus, Callable | None]:
    """The training corpora one after the other, and what draws the rows of a pass.

    Args:
        model: with the tokenizers.
        parts: {language: training pairs}; the key of one alone may be any.
        place: `--data` or `--train`, with the weights of the sources.
        temperature: by which languages are mixed.
        **limits: as in `training_pairs.tokenize`.
    """
    shares = weights(place)
    found = {
        (code, source): some
        for code, pairs in parts.items()
        for source, some in pairs.by_place().items()
    }
    if len(shares) > 1 and len(found) < len(shares) * len(parts):
        missing = [
            f"{code} {each}" for code in parts for each in shares if (code, each) not in found
        ]
        raise ValueError(
            "`data` and `train` must name sources that leave pairs to train on, got none of "
            f"{', '.join(missing)}."
        )
    labels = [
        " ".join([code] * (len(parts) > 1) + [source] * (len(shares) > 1)) for code, source in found
    ]
    corpus, sizes = tokenize(
        model, dict(zip(labels, found.values(), strict=True)), "train", **limits
    )
    if len(found) == 1:
        return corpus, None
    times = repetitions(dict(zip(found, sizes, strict=True)), shares, temperature)
    said = (f"{label} {each:.2f}" for label, each in zip(labels, times, strict=True))
    print(f"Times that a pass reads the pairs of each: {', '.join(said)}", flush=True)
    return corpus, kzoo.mixture.mixed(sizes, times)


def tokenize(
    model, parts: dict[str, Pairs], name: str, **limits: int
) -> tuple[kzoo.batching.Corpus, list[int]]:
    """The corpora of all parts, one after the other, and how many pairs each has."""
    import tensorflow as tf

    corpora = [
        training_pairs.tokenize(
            model, pairs, name if len(parts) == 1 else f"{name} {label}", **limits
        )
        for label, pairs in parts.items()
    ]
    sizes = [int(corpus.source.nrows()) for corpus in corpora]
    sides = (None if each[0] is None else tf.concat(each, 0) for each in zip(*corpora, strict=True))
    return kzoo.batching.Corpus(*sides), sizes


def repetitions(
    sizes: dict[tuple[str, str], int], shares: dict[str, float], temperature: float
) -> list[float]:
    """How often a pass reads each corpus: the sources of a language by their weights, and the
    languages, with what is read of them then, by the temperature.

    Args:
        sizes: {(language, source): pairs}.
        shares: {source: weight}; of a language with one source the weight changes nothing.
    """
    times, read = {}, {}
    for code in dict.fromkeys(code for code, _ in sizes):
        own = {key: size for key, size in sizes.items() if key[0] == code}
        own_shares = [shares.get(source, 1.0) for _, source in own]
        factors = kzoo.mixture.weighted_repetitions(list(own.values()), own_shares)
        times |= zip(own, factors, strict=True)
        read[code] = float(np.dot(list(own.values()), factors))
    factors = kzoo.mixture.repetitions(list(read.values()), temperature)
    of_language = dict(zip(read, factors, strict=True))
    return [float(times[key] * of_language[key[0]]) for key in sizes]
