"""How many classes to sample: number of sampled classes against perplexity and time.

    python -m recipes.studies.sampled_softmax                       # Debian en-it, 60,000 words
    python -m recipes.studies.sampled_softmax --minutes 10 --turn_seconds 60

One model for each number of sampled classes, and one with the full softmax, all with the same
first weights and batches and one constant learning rate: a schedule would count steps, of which the
slow models take few. They take turns of some seconds on the same machine, so that whatever else it
does hits all of them alike, until each has trained for --minutes; only the steps count, neither
compilation nor validation. After each turn the full softmax gives the perplexity of held-out pairs.
Each round goes to points.json and into the picture, so a stopped study keeps what it has. What came
out stands in recipes/README.md.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data.pairs import load_pairs
from recipes.runs import trials

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
        cli.check_seed(self)


def main(config: Config) -> dict[int, float]:
    """Trains in turns; returns the last perplexity of each number of sampled classes."""
    cli.require("matplotlib", extra="recipes")
    splits = load_pairs(
        config.data,
        source_language=config.source_language,
        target_language=config.target_language,
        seed=config.seed,
    )
    tokenizers = [
        kzoo.text.WordTokenizer.learn(side, config.vocabulary_size)
        for side in (splits.train.source, splits.train.target)
    ]
    size = tokenizers[1].vocabulary_size()
    print(f"{len(splits.train):,} pairs, {size:,} target words", flush=True)
    train = trials.corpus_of(tokenizers, splits.train, config.max_length)
    valid = trials.corpus_of(tokenizers, splits.valid, config.max_length, config.validation_pairs)
    valid = kzoo.batching.token_batches(valid, config.batch_tokens)
    numbers = [number for number in NUMBERS if number < size]
    models = {number: build(tokenizers, number, config) for number in numbers}
    turns = {number: Turn(config.turn_seconds) for number in numbers}
    folder, points = Path(config.output), []
    folder.mkdir(parents=True, exist_ok=True)
    while any(turn.seconds < 60 * config.minutes for turn in turns.values()):
        for number, model in models.items():
            turn = turns[number]
            # The same batches for all: the seed knows the turn, not the model.
            seed = [config.seed, len(points) // len(models)]
            batches = kzoo.batching.token_batches(train, config.batch_tokens, seed=seed).repeat()
            model.fit(
                batches,
                steps_per_epoch=10**9,
                shuffle=False,
                verbose=0,
                callbacks=[end_of(turn, model)],
            )
            perplexity = math.exp(model.evaluate(valid, verbose=0))
            point = {"sampled": number, "steps": turn.steps, "seconds": turn.seconds}
            seconds_per_step = turn.seconds / max(turn.counted_steps, 1)
            points.append({**point, "step": seconds_per_step, "perplexity": perplexity})
            print(
                f"{number or 'all':>5} classes: {turn.steps:6,} steps, {turn.seconds:5.0f} s, "
                f"perplexity {perplexity:10.1f}",
                flush=True,
            )
        result = {"vocabulary": size, "machine": runs.machine(), "points": points}
        (folder / "points.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        draw(points, size, folder / "sampled_softmax.png")
    print(table(points))
    return {point["sampled"]: point["perplexity"] for point in points}


def build(tokenizers, number: int, config: Config):
    """The model that samples so many classes; same first weights for all."""
    import tensorflow as tf

    runs.seed(config.seed)
    options = {"num_sampled": number, "label_smoothing": 0.0, "dropout": 0.1}
    if config.model.startswith("transformer"):
        options |= {"num_layers": 1, "norm_first": True}
    with runs.computing_in("auto"):
        model = getattr(kzoo.zoo, config.model)(*tokenizers, **options)
        model({"source": tf.constant([[4, 2]]), "target": tf.constant([[1, 4]])})  # its weights
    runs.compile_model(model, config.learning_rate, None, sampled=number)
    return model


class Turn:
    """Time on the clock of one model; the first step of a turn, which may compile, does not count.

    Attributes:
        steps: int, of all turns. counted_steps: int, those but the first of each turn.
        seconds: float, that the counted ones took.
    """

    def __init__(self, length_seconds: float):
        self.length_seconds = length_seconds
        self.steps, self.counted_steps, self.seconds = 0, 0, 0.0

    def is_over(self, batch: int) -> bool:
        """Counts a step, number `batch` of its turn; whether it was the last one."""
        self.steps += 1
        self.counted_steps += batch > 0
        if batch == 0:
            self.start, self.before = time.monotonic(), self.seconds
        passed = time.monotonic() - self.start
        self.seconds = self.before + passed
        return passed >= self.length_seconds


def end_of(turn: Turn, model):
    """The Keras callback that ends `fit` when the turn is over."""
    import keras

    def on_train_batch_end(batch, logs):
        model.stop_training |= turn.is_over(batch)

    return keras.callbacks.LambdaCallback(on_train_batch_end=on_train_batch_end)


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
