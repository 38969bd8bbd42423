"""Padding, bucketing, token budgets, ragged tensors: what the same epoch costs.

    python -m recipes.studies.padding                       # English to German, UI texts
    python -m recipes.studies.padding --model rnn_luong

Claim: sorting texts of like length into a batch saves the time that padding costs. The same model
trains on the same pairs in five kinds of batches, for a sample of each epoch's steps. All kinds
have about as many real tokens in a batch, so that an epoch has about as many steps. Measured: the
share of padding, steps and seconds of an epoch, real tokens a second. The kinds take turns, so that
whatever else the machine does hits all alike. What came out stands in recipes/README.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.runs import trials

KINDS = (
    "padded to the longest text of all",
    "padded to the longest of the batch",
    "rows in buckets of like length",
    "token budget in buckets",
    "ragged, token budget",
)


@dataclass(frozen=True)
class Config(trials.Translation):
    """The flags of the study; `--help` shows them."""

    model: Literal["transformer_tiny", "rnn_luong"] = flag("transformer_tiny", "see kzoo.zoo")
    turn_steps: int = flag(30, "steps that are timed in each trial, spread over the epoch")
    seeds: int = flag(5, "trials of each kind")
    output: str = flag("studies/padding", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in ("batch_tokens", "turn_steps", "seeds"):
            cli.check(self, name, least=1)


def main(config: Config) -> trials.Study:
    """Times each kind of batches in turn; returns the trials."""
    import keras

    cli.require("matplotlib", "sentencepiece", extra="recipes")
    _, tokenizer, corpus = trials.load_translation(config)
    lengths = [side.row_lengths().numpy() + 1 for side in corpus[:2]]
    study = trials.Study(config, config.output)
    model, step = None, 0
    for kind, seed in study.missing(KINDS, config.seeds):
        if model is None:
            runs.seed(0)
            options = {"norm_first": True} if config.model.startswith("transformer") else {}
            model = getattr(kzoo.zoo, config.model)(tokenizer, tokenizer, **options)
            runs.compile_model(model, 1e-3, None)
        plan = planned(kind, lengths, config, seed)
        rng = np.random.default_rng(seed)
        sample = [plan[i] for i in rng.choice(len(plan), min(config.turn_steps, len(plan)), False)]
        seconds = []

        def timed(begin=None):
            nonlocal step
            step = time.monotonic()

        def done(batch, logs, seconds=seconds):
            seconds.append(time.monotonic() - step)

        clock = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: timed(), on_train_batch_end=done
        )
        batches = dataset(kind, corpus, sample, config)
        model.fit(batches.take(2), shuffle=False, verbose=0)  # compiles
        model.fit(batches, shuffle=False, verbose=0, callbacks=[clock])
        real = sum(int(side[rows].sum()) for side in lengths for rows in sample)
        places = sum(size(kind, side, rows, config) for side in lengths for rows in sample)
        total = sum(int(side.sum()) for side in lengths)
        measured = {
            "padding, %": 100 * (1 - real / places),
            "steps of an epoch": len(plan),
            "seconds of an epoch": sum(seconds) * total / real,
            "real tokens a second": real / sum(seconds),
        }
        study.add(kind, seed, measured)
        draw(study)
    print(table(study))
    return study


def planned(kind: str, lengths, config: Config, seed: int) -> list[np.ndarray]:
    """The rows of each batch of an epoch."""
    rng = np.random.default_rng(seed)
    by_budget = [
        np.asarray(rows) for rows in kzoo.batching.plan(*lengths, config.batch_tokens, rng)
    ]
    if "budget" in kind:
        return by_budget
    count = max(round(np.mean([len(rows) for rows in by_budget])), 1)  # as many steps
    rows = rng.permutation(len(lengths[0]))
    if "buckets" in kind:
        rows = rows[np.argsort(np.maximum(*lengths)[rows], kind="stable")]
    return [rows[start : start + count] for start in range(0, len(rows), count)]


def size(kind: str, lengths: np.ndarray, rows: np.ndarray, config: Config) -> int:
    """Places of a batch on one side, padding included."""
    longest = config.max_length if "of all" in kind else int(lengths[rows].max())
    return longest * len(rows)


def dataset(kind: str, corpus: kzoo.batching.Corpus, plan: list[np.ndarray], config: Config):
    """The batches of a kind."""
    import tensorflow as tf

    def batch(rows):
        inputs, labels = kzoo.batching.teacher_forcing(
            tf.gather(corpus.source, rows), tf.gather(corpus.target, rows)
        )
        if "of all" in kind:
            return tf.nest.map_structure(padded, (inputs, labels))
        if "ragged" in kind:
            return tf.nest.map_structure(
                lambda x: tf.RaggedTensor.from_tensor(x, padding=0), (inputs, labels)
            )
        return inputs, labels

    def padded(x):
        return tf.pad(x, [[0, 0], [0, config.max_length - tf.shape(x)[1]]])

    batches = tf.data.Dataset.from_generator(
        lambda: plan, output_signature=tf.TensorSpec([None], tf.int64)
    )
    batches = batches.map(batch).prefetch(8)
    return batches.apply(tf.data.experimental.assert_cardinality(len(plan)))


def table(study: trials.Trials) -> str:
    """Means and intervals, in Markdown; the time of each trial as a multiple of the last kind's."""
    last = study.values(KINDS[-1], "seconds of an epoch")
    lines = [
        "| | padding, % | seconds of an epoch | times the last row's, each trial |",
        "|--|--:|--:|--:|",
    ]
    for name in study.names():
        cells = []
        for quantity in ("padding, %", "seconds of an epoch"):
            mean, half = trials.mean_and_interval(study.values(name, quantity))
            cells.append(f"{mean:.1f} ± {half:.1f}")
        multiples = study.values(name, "seconds of an epoch") / last
        cells.append(", ".join(f"{value:.1f}" for value in multiples))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(study: trials.Study) -> None:
    """Padding and seconds of an epoch for each kind of batches."""
    figure, (shares, seconds) = trials.new_axes(10, 3.2, 2)
    trials.draw_bars(shares, study, "padding, %")
    trials.draw_bars(seconds, study, "seconds of an epoch")
    seconds.set_yticklabels([])
    figure.savefig(study.folder / "padding.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
