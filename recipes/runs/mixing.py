"""Several languages and several sources of a training: how often a pass reads each of them.

    corpus, draw = mixed(model, {"de": train}, "homeassistant:2,mine.tsv:1", max_length=128)
    batches = make_batches(model, corpus, valid, run, config, draw)
    draw = draw_sources(sources, "an4.jsonl:2,mine.jsonl:1", "clips")

A corpus is the pairs of one language out of one source. With one corpus alone `draw` is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

import kzoo
from recipes.data.examples import Pairs
from recipes.data.pairs import HOLE
from recipes.data.sources import weights
from recipes.runs import training_pairs

LONGEST_PASS = 100  # in times of all examples


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
    if len(shares) > 1:
        wanted = [(code, source) for code in parts for source in shares]
        check_left({" ".join(each).strip(): each in found for each in wanted})
    labels = [
        " ".join([code] * (len(parts) > 1) + [source] * (len(shares) > 1)) for code, source in found
    ]
    files = [_file(source or next(iter(shares)), code) for code, source in found]
    corpus, sizes = tokenize(
        model, dict(zip(labels, found.values(), strict=True)), "train", files, **limits
    )
    if len(found) == 1:
        return corpus, None
    times = repetitions(dict(zip(found, sizes, strict=True)), shares, temperature)
    say_times(labels, times, "pairs")
    return corpus, drawn(sizes, times)


def draw_sources(sources: list[str], place: str, what: str = "clips") -> Callable | None:
    """What draws the rows of a pass over examples by the weights of their sources, which stand one
    after the other; None for a single one.

    Args:
        sources: of each example.
        place: `--data` or `--train`, with the weights.
        what: the name of the examples in what is printed.
    """
    shares = weights(place)
    if len(shares) == 1:
        return None
    counts = Counter(sources)  # in the order in which they stand
    check_left({each: each in counts for each in shares})
    sizes = list(counts.values())
    times = kzoo.batching.weighted_repetitions(sizes, [shares[each] for each in counts])
    say_times(counts, times, what)
    return drawn(sizes, times)


def drawn(sizes: list[int], times: Sequence[float]) -> Callable:
    """What draws the rows of a pass, which must not be far longer than all corpora together."""
    rows, most = float(np.dot(sizes, times)), LONGEST_PASS * sum(sizes)
    if rows > most:
        raise ValueError(
            "`data` and `train` must have weights nearer to the sizes of the sources: a pass that "
            f"reads each once would have {rows:,.0f} examples of {sum(sizes):,}, and may have "
            f"{LONGEST_PASS} times as many."
        )
    return kzoo.batching.mixed(sizes, times)


def check_left(found: dict[str, bool]) -> None:
    """Raises a ValueError that names the corpora of which nothing is `found` to train on."""
    if missing := [name for name, is_there in found.items() if not is_there]:
        raise ValueError(
            "`data` and `train` must name sources that leave something to train on, got none of "
            f"{', '.join(missing)}."
        )


def say_times(labels: Iterable[str], times: Iterable[float], what: str) -> None:
    """Prints how often a pass reads what there is of each label."""
    said = (f"{label} {each:.2f}" for label, each in zip(labels, times, strict=True))
    print(f"Times that a pass reads the {what} of each: {', '.join(said)}", flush=True)


def tokenize(
    model, parts: dict[str, Pairs], name: str, files: Sequence[str] | None = None, **limits: int
) -> tuple[kzoo.batching.Corpus, list[int]]:
    """The corpora of all parts, one after the other, and how many pairs each has.

    With the name of the file of each part the pairs have names, if any has a known line.
    """
    import tensorflow as tf

    if files is None or not any(any(pairs.lines) for pairs in parts.values()):
        files = [None] * len(parts)
    corpora = [
        training_pairs.tokenize(
            model, pairs, name if len(parts) == 1 else f"{name} {label}", file=file, **limits
        )
        for (label, pairs), file in zip(parts.items(), files, strict=True)
    ]
    sizes = [int(corpus.source.nrows()) for corpus in corpora]
    sides = (None if each[0] is None else tf.concat(each, 0) for each in zip(*corpora, strict=True))
    return kzoo.batching.Corpus(*sides), sizes


def _file(place: str, code: str) -> str:
    """What messages call the file of a place; of two Moses files it is the first."""
    return place.replace(HOLE, code).split(",")[0]


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
        factors = kzoo.batching.weighted_repetitions(list(own.values()), own_shares)
        times |= zip(own, factors, strict=True)
        read[code] = float(np.dot(list(own.values()), factors))
    factors = kzoo.batching.repetitions(list(read.values()), temperature)
    of_language = dict(zip(read, factors, strict=True))
    return [float(times[key] * of_language[key[0]]) for key in sizes]
