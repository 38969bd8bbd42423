"""How many classes to sample: number of sampled classes against perplexity and time.

    python -m recipes.studies.sampled_softmax                       # Debian en-it, 60,000 words
    python -m recipes.studies.sampled_softmax --minutes 10 --turn_seconds 60

One model for each number of sampled classes, and one with the full softmax, all with the same
first weights and batches and one constant learning rate: a schedule would count steps, of which the
slow models take few. They take turns of some seconds on the same machine, so that whatever else it
does hits all of them alike, until each has trained for --minutes; only the steps count, neither
compilation nor validation. After each turn the full softmax gives the perplexity of held-out pairs.
Each round goes to points.json and into the picture, so a stopped study keeps what it has. What came
out stands in the README.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from kzoo import batching, text, training, zoo
from recipes import cli
from recipes.cli import flag
from recipes.data import examples
from recipes.data.pairs import load_pairs

NUMBERS = (16, 128, 1024, 8192, 0)  # of sampled classes; 0 is the full softmax
COLORS = ("#8fa3b5", "#57a773", "#1d6fb8", "#d99a2b", "#d1495b")


@dataclass(frozen=True)
class Config:
    """The flags of the study; `--help` shows them."""

    data: str = flag("debian-descriptions", "a named source or file of recipes.data")
    source_language: str = flag("en", "code of the language to translate from")
    target_language: str = flag("it", "code of the language to translate into")
    vocabulary_size: int = flag(60_000, "most words of a vocabulary")
    model: Literal["transformer_tiny", "rnn_luong"] = flag("transformer_tiny", "see kzoo.zoo")
    minutes: float = flag(1.1, "training time of each model")
    turn_seconds: float = flag(11.0, "length of a turn")
    batch_tokens: int = flag(2048, "tokens of a batch on either side, padding included")
    max_length: int = flag(60, "most tokens of a source or target; longer pairs are left out")
    validation_pairs: int = flag(200, "held-out pairs that give the perplexity")
    learning_rate: float = flag(0.001, "of Adam, constant")
    seed: int = flag(0, "of weights, order and split")
    output: str = flag("studies/sampled_softmax", "folder for points.json and the picture")

    def __post_init__(self):
        for name in ("vocabulary_size", "batch_tokens", "validation_pairs"):
            cli.check(self, name, least=1)
        for name in ("minutes", "turn_seconds", "learning_rate"):
            cli.check_positive(self, name)


def main(config: Config) -> dict[int, float]:
    """Trains in turns; returns the last perplexity of each number of sampled classes."""
    cli.require("matplotlib", extra="recipes")
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    splits = load_pairs(
        config.data,
        source_language=config.source_language,
        target_language=config.target_language,
        seed=config.seed,
    )
    tokenizers = [
        text.WordTokenizer.learn(side, config.vocabulary_size)
        for side in (splits.train.source, splits.train.target)
    ]
    size = tokenizers[1].vocabulary_size()
    print(f"{len(splits.train):,} pairs, {size:,} target words", flush=True)
    train = tokenize(tokenizers, splits.train, config, len(splits.train))
    valid = tokenize(tokenizers, splits.valid, config, config.validation_pairs)
    valid = batching.token_batches(valid, config.batch_tokens)
    numbers = [number for number in NUMBERS if number < size]
    models = {number: build(tokenizers, number, config) for number in numbers}
    turns = {number: Turn(config.turn_seconds) for number in numbers}
    points = []
    while any(turn.seconds < 60 * config.minutes for turn in turns.values()):
        for number, model in models.items():
            turn = turns[number]
            # The same batches for all: the seed knows the turn, not the model.
            seed = [config.seed, len(points) // len(models)]
            batches = batching.token_batches(train, config.batch_tokens, seed=seed).repeat()
            model.fit(batches, steps_per_epoch=10**9, shuffle=False, verbose=0, callbacks=[turn])
            perplexity = math.exp(model.evaluate(valid, verbose=0))
            point = {"sampled": number, "steps": turn.steps, "seconds": turn.seconds}
            seconds_per_step = turn.seconds / max(turn.counted_steps, 1)
            points.append({**point, "step": seconds_per_step, "perplexity": perplexity})
            print(
                f"{number or 'all':>5} classes: {turn.steps:6,} steps, {turn.seconds:5.0f} s, "
                f"perplexity {perplexity:10.1f}",
                flush=True,
            )
        result = {"vocabulary": size, "machine": cli.machine(), "points": points}
        (folder / "points.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        draw(points, size, folder / "sampled_softmax.png")
    print(table(points))
    return {point["sampled"]: point["perplexity"] for point in points}


def tokenize(tokenizers, pairs: examples.Pairs, config: Config, count: int) -> batching.Corpus:
    """At most so many pairs, evenly spaced, of at most `max_length` tokens."""
    sides = [
        batching.tokenize(tokenizer, texts)
        for tokenizer, texts in zip(tokenizers, (pairs.source, pairs.target), strict=True)
    ]
    lengths = np.maximum(*(side.row_lengths().numpy() for side in sides))
    rows = np.flatnonzero(lengths < config.max_length)
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    return batching.Corpus(*(tf.gather(side, rows) for side in sides))


def build(tokenizers, number: int, config: Config):
    """The model that samples so many classes; same first weights for all."""
    keras.utils.set_random_seed(config.seed)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(cli.precision("auto"))
    options = {"num_sampled": number, "label_smoothing": 0.0, "dropout": 0.1}
    if config.model.startswith("transformer"):
        options |= {"num_layers": 1, "norm_first": True}
    model = getattr(zoo, config.model)(*tokenizers, **options)
    model({"source": tf.constant([[4, 2]]), "target": tf.constant([[1, 4]])})  # makes the weights
    keras.config.set_dtype_policy(policy)
    adam = training.LazyAdam if number else training.FusedAdam
    model.compile(adam(config.learning_rate, beta_2=0.98, epsilon=1e-9, global_clipnorm=1.0))
    return model


class Turn(keras.callbacks.Callback):
    """Ends `fit` after some seconds; the first step of a turn, which may compile, does not count.

    Attributes:
        steps: int, of all turns. counted_steps: int, those but the first of each turn.
        seconds: float, that the counted ones took.
    """

    def __init__(self, length_seconds: float):
        super().__init__()
        self.length_seconds = length_seconds
        self.steps, self.counted_steps, self.seconds = 0, 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.counted_steps += batch > 0
        if batch == 0:
            self.start, self.before = time.monotonic(), self.seconds
        passed = time.monotonic() - self.start
        self.seconds = self.before + passed
        if passed >= self.length_seconds:
            self.model.stop_training = True


def table(points: list[dict]) -> str:
    """What each number of classes cost and brought, in Markdown.

    The last column is the time to a perplexity that all of them reached.
    """
    last = {point["sampled"]: point for point in points}
    reached = math.ceil(max(point["perplexity"] for point in last.values()))
    lines = [
        f"| classes | ms a step | steps | perplexity | seconds to perplexity {reached:,} |",
        "|--:|--:|--:|--:|--:|",
    ]
    for number, end in last.items():
        seconds = min(
            point["seconds"]
            for point in points
            if point["sampled"] == number and point["perplexity"] <= reached
        )
        name = f"{number:,}" if number else "all"
        lines.append(
            f"| {name} | {1000 * end['step']:,.0f} | {end['steps']:,} | {end['perplexity']:,.0f} "
            f"| {seconds:,.0f} |"
        )
    return "\n".join(lines)


def draw(points: list[dict], size: int, path: Path) -> None:
    """Perplexity against training time, and what each number costs and brings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    curves, ends = figure.subplots(1, 2)
    numbers = list(dict.fromkeys(point["sampled"] for point in points))
    for number, color in zip(numbers, COLORS, strict=False):
        own = [point for point in points if point["sampled"] == number]
        label = f"{number:,} of {size:,}" if number else f"all {size:,}"
        xs, ys = zip(*((p["seconds"] / 60, p["perplexity"]) for p in own), strict=True)
        curves.plot(xs, ys, color=color, marker="o", markersize=3, label=label)
    curves.set_yscale("log")
    curves.set_xlabel("minutes of training")
    curves.set_ylabel("validation perplexity, full softmax")
    curves.legend(frameon=False, fontsize=8, title="classes in a step")
    last = {point["sampled"]: point for point in points}
    names = [f"{number:,}" if number else "all" for number in numbers]
    ends.plot(names, [last[n]["perplexity"] for n in numbers], color=COLORS[2], marker="o")
    ends.set_ylabel("perplexity at the end", color=COLORS[2])
    ends.set_xlabel("classes in a step")
    ends.set_ylim(bottom=0)
    rates = ends.twinx()
    milliseconds = [1000 * last[n]["step"] for n in numbers]
    rates.plot(names, milliseconds, color=COLORS[4], marker="s", ls="--")
    rates.set_ylabel("ms a step", color=COLORS[4])
    rates.set_ylim(bottom=0)
    for axes in (curves, ends):
        axes.grid(color="#e9edf1")
        axes.spines["top"].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
