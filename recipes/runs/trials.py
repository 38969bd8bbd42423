"""What the studies share: trials of several seeds, kept as they come; intervals, tables, axes.

    study = Study(config, "studies/positions")
    for name, seed in study.missing(NAMES, config.seeds):
        study.add(name, seed, measure(name, seed))          # {"accuracy": 97.1, ...}
    study.table(["accuracy"]);  study.values(name, "accuracy")
    read("studies/positions/trials.json").table(["accuracy"])

Every trial goes to <folder>/trials.json at once, so that a stopped study goes on where it was, also
for more seeds; with other flags it starts anew. Each name has one trial of a seed before any has
the next one, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import random
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import kzoo
from recipes import cli
from recipes.cli import flag
from recipes.data import examples
from recipes.data.pairs import load_pairs
from recipes.runs.building import compile_model, learn_tokenizer, spread_rows
from recipes.runs.processor import machine
from recipes.runs.scoring import scored_split

COLORS = ("#1d6fb8", "#d1495b", "#57a773", "#d99a2b", "#8257a7", "#8fa3b5", "#22303c")
# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
T_QUANTILES = (
    *(12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13),
    *(2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04),
)
_NOT_RESULTS = ("output", "seeds")  # flags that change no trial


@dataclass(frozen=True)
class Translation:
    """The flags of a study that translates; those of its own come behind them."""

    data: str = flag("homeassistant", "a named source or file of recipes.data")
    source_language: str = flag("en", "code of the language to translate from")
    target_language: str = flag("de", "code of the language to translate into")
    vocabulary_size: int = flag(4000, "most subwords of the joint vocabulary")
    batch_tokens: int = flag(2048, "tokens of a batch on either side, padding included")
    max_length: int = flag(64, "most tokens of a source or target; longer pairs are left out")


class Trials:
    """What a study measured.

    Args:
        trials: list of {"name", "seed", "minutes", and what was measured}.
    """

    def __init__(self, trials: list[dict]):
        self.trials = trials

    def values(self, name: str, quantity: str) -> np.ndarray:
        """What the trials of a name measured, (seeds,) or (seeds, ...) float; None is NaN."""
        return np.array(
            [trial[quantity] for trial in self.trials if trial["name"] == name], dtype=float
        )

    def names(self) -> list[str]:
        """The names that have a trial, in the order of the first."""
        return list(dict.fromkeys(trial["name"] for trial in self.trials))

    def table(self, quantities: Iterable[str], digits: int = 1) -> str:
        """The mean of each quantity with its 95 % interval, in Markdown."""
        quantities = list(quantities)
        lines = ["| | " + " | ".join(quantities) + " |", "|--|" + "--:|" * len(quantities)]
        for name in self.names():
            cells = []
            for quantity in quantities:
                mean, half = mean_and_interval(self.values(name, quantity))
                more = "" if np.isnan(half) else f" ± {half:.{digits}f}"
                cells.append(f"{mean:,.{digits}f}{more}")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def read(path: str | Path) -> Trials:
    """The trials of a file that a study wrote."""
    return Trials(json.loads(Path(path).read_text(encoding="utf-8"))["trials"])


class Study(Trials):
    """The trials of a study that goes on, kept on disk as they come.

    Args:
        config: the study's flags.
        folder: where trials.json and the picture are.
    """

    def __init__(self, config: Any, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        flags = dataclasses.asdict(config)
        self.flags = _of_results(flags)
        self.path = self.folder / "trials.json"
        super().__init__([])
        if self.path.exists():
            found = json.loads(self.path.read_text(encoding="utf-8"))
            same = _of_results(found["flags"]) == self.flags
            self.trials = found["trials"] if same else []
            print(f"{self.path}: {'goes on' if same else 'other flags, starts anew'}", flush=True)
        self._start = time.monotonic()

    def missing(self, names: Sequence[str], seeds: int) -> Iterator[tuple[str, int]]:
        """The (name, seed) that have no trial yet, each in its turn."""
        for seed in range(seeds):
            for name in names:
                if not any((trial["name"], trial["seed"]) == (name, seed) for trial in self.trials):
                    print(f"\n{name}, seed {seed}", flush=True)
                    self._start = time.monotonic()
                    yield name, seed

    def add(self, name: str, seed: int, measured: dict[str, Any]) -> None:
        """Keeps what a trial measured, numbers or lists of numbers."""
        minutes = round((time.monotonic() - self._start) / 60, 2)
        self.trials.append({"name": name, "seed": seed, "minutes": minutes, **measured})
        numbers = {k: v for k, v in measured.items() if isinstance(v, int | float)}
        print(", ".join(f"{k} {v:,.4g}" for k, v in numbers.items()), flush=True)
        result = {
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "flags": self.flags,
            "trials": self.trials,
        }
        cli.write_json(result, self.path)


def _of_results(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name not in _NOT_RESULTS}


def mean_and_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over axis 0, and half the 95 % interval of that mean by Student's t; NaN for one."""
    values = np.asarray(values, float)
    count = len(values)
    if count < 2:
        return values.mean(0), np.full(values.shape[1:], np.nan)
    quantile = T_QUANTILES[min(count - 2, len(T_QUANTILES) - 1)]
    return values.mean(0), quantile * values.std(0, ddof=1) / np.sqrt(count)


def corpus_of(
    tokenizers: Sequence, pairs: examples.Pairs, max_length: int, count: int | None = None
) -> kzoo.batching.Corpus:
    """At most `count` pairs, evenly spaced, whose sides have less than `max_length` tokens."""
    import tensorflow as tf

    sides = [
        kzoo.batching.tokenize(tokenizer, texts)
        for tokenizer, texts in zip(tokenizers, (pairs.source, pairs.target), strict=True)
    ]
    lengths = np.maximum(*(side.row_lengths().numpy() for side in sides))
    rows = np.flatnonzero(lengths < max_length)
    rows = rows[spread_rows(len(rows) if count is None else count, len(rows))]
    return kzoo.batching.Corpus(*(tf.gather(side, rows) for side in sides))


def phrases(rng: random.Random, words: Any, count: int, lengths: Sequence[int]) -> examples.Pairs:
    """Pairs of so many words of a dictionary each, with the first pronunciation of each.

    Args:
        rng: what draws words and lengths.
        words: `recipes.data.pronunciations.Words`.
        count: pairs.
        lengths: the numbers of words to choose from.
    """
    entries, pairs = list(words.rows.items()), examples.Pairs()
    for number in range(count):
        chosen = rng.choices(entries, k=rng.choice(lengths))
        spelled, spoken = zip(*((word, row[0]) for word, row in chosen), strict=True)
        pairs.add(" ".join(spelled), " ".join(spoken), str(number))
    return pairs


def spelling_tokenizers(pairs: examples.Pairs) -> tuple[Any, Any]:
    """Of the letters of the sources and the phonemes of the targets."""
    return (
        learn_tokenizer("characters", pairs.source, 1000),
        learn_tokenizer("phonemes", pairs.target, 1000),
    )


def train(model, corpus: kzoo.batching.Corpus, seed: int, config: Any) -> None:
    """Fits for so many passes, the rate rising for a tenth of them.

    Reads the fields `epochs`, `batch_tokens` and `learning_rate`.
    """
    batches = kzoo.batching.token_batches(corpus, config.batch_tokens, seed=seed)
    steps = config.epochs * int(batches.cardinality())
    compile_model(model, config.learning_rate, max(steps // 10, 1))
    model.fit(batches, epochs=config.epochs, shuffle=False, verbose=2)


def by_length(
    lengths: Sequence[int], edges: Sequence[int], score: Callable[[list[int]], float]
) -> list[float | None]:
    """The score of the rows of each length class, edges[i] to edges[i + 1] - 1; None for none."""
    lengths = np.asarray(lengths)
    classes = [
        np.flatnonzero((lengths >= low) & (lengths < high)).tolist()
        for low, high in itertools.pairwise(edges)
    ]
    return [score(rows) if rows else None for rows in classes]


def chrf_by_length(
    answers: Sequence[str], target: Sequence[str], lengths: Sequence[int], edges: Sequence[int]
) -> dict[str, Any]:
    """ "chrF" of all answers, and a list "by length", see `by_length`."""

    def chrf(rows):
        return kzoo.metrics.chrf(*([side[row] for row in rows] for side in (answers, target))).value

    return {"chrF": chrf(range(len(answers))), "by length": by_length(lengths, edges, chrf)}


def length_names(edges: Sequence[int]) -> list[str]:
    """What `by_length` calls its classes: "1-4", "5-9" ..."""
    return [f"{low}-{high - 1}" for low, high in itertools.pairwise(edges)]


def new_axes(width: float, height: float, count: int = 1):
    """A figure of so many inches and its axes, side by side, in the look of `kzoo.plots`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, count))
    for each in axes:
        each.grid(color="#e9edf1")
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_line(axes, xs, values: np.ndarray, label: str, color: str) -> None:
    """The mean of the seeds (seeds, N) over xs, with its interval as a band."""
    mean, half = mean_and_interval(values)
    axes.plot(xs, mean, color=color, marker="o", markersize=3.5, label=label)
    axes.fill_between(xs, mean - half, mean + half, color=color, alpha=0.15, linewidth=0)


def draw_bars(axes, study: Trials, quantity: str) -> None:
    """A bar of a quantity for each name, with its interval."""
    names = study.names()
    for place, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        mean, half = mean_and_interval(study.values(name, quantity))
        axes.barh(place, mean, 0.6, xerr=half, color=color, capsize=3)
    axes.set_yticks(range(len(names)), [textwrap.fill(name, 24) for name in names], size=9)
    axes.invert_yaxis()
    axes.set_xlabel(quantity)


def load_translation(config: Translation) -> tuple[Any, Any, kzoo.batching.Corpus]:
    """Splits of a named source, one subword vocabulary for both sides, and the training corpus.

    The split is the same for all seeds: they vary weights, order and dropout.
    """
    splits = load_pairs(
        config.data,
        source_language=config.source_language,
        target_language=config.target_language,
        seed=0,
    )
    texts = splits.train.source + splits.train.target
    tokenizer = learn_tokenizer("subwords", texts, config.vocabulary_size)
    corpus = corpus_of((tokenizer,) * 2, splits.train, config.max_length)
    print(f"{len(splits.train):,} pairs to train on", flush=True)
    return splits, tokenizer, corpus


def scored_pairs(
    splits: Any, count: int, max_words: int, min_words: int = 1
) -> tuple[list[str], list[str]]:
    """At most so many test pairs, evenly spaced, whose source has so many words."""
    pairs = scored_split(splits)[1]
    words = [len(text.split()) for text in pairs.source]
    rows = [row for row, number in enumerate(words) if min_words <= number <= max_words]
    rows = [rows[i] for i in spread_rows(count, len(rows))]
    return [pairs.source[row] for row in rows], [pairs.target[row] for row in rows]


def answers_of(
    model, texts: Sequence[str], max_length: int, beam_size: int = 1, **options: float
) -> list[str]:
    """What the model answers to each text; `options` are those of `generate`."""
    generate = model.text_generator(
        beam_size=beam_size, max_length=max_length, max_source_length=max_length, **options
    )
    return generate(list(texts))
