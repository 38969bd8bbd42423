"""Reverse a string of letters: the whole pipeline on a toy task, in about a minute.

    python -m recipes.reverse
    python -m recipes.reverse --model transformer_tiny
    python -m recipes.reverse --model rnn_bahdanau --longest 15 --minutes 3

Measured on 2 cores of an Intel Xeon, 2026-11-22, start to end: exact match 99.8 % in 31 s with
`rnn_luong`, 99.2 % in 83 s with `transformer_tiny`.

The model reads "abc" letter by letter and answers "cba". No test string occurs in training. It is
the smallest proof that masks, attention, loss, search and export fit together.
"""

from __future__ import annotations

import dataclasses
import math
import random
import string
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import kzoo
from recipes import cli, runs
from recipes.cli import flag


@dataclass(frozen=True)
class Config:
    """The flags of the recipe; `--help` shows them."""

    model: Literal[
        "rnn_fixed",
        "rnn_bahdanau",
        "rnn_luong",
        "transformer_tiny",
        "transformer_small",
        "transformer_base",
    ] = flag(
        "rnn_luong", "architecture, see kzoo.zoo; RNNs get 64 units here, transformers 1 layer"
    )
    strings: int = flag(20_000, "strings to train on")
    test_strings: int = flag(500, "strings to test on")
    longest: int = flag(8, "letters of the longest string")
    batch_tokens: int = flag(1024, "tokens of a batch on either side, padding included")
    epochs: int | None = flag(
        None,
        "most passes over the training strings; none: those that read 120,000 of them, for "
        "transformers 600,000",
    )
    minutes: float = flag(1.2, "time budget for training; it also ends when 99.8 % come out right")
    learning_rate: float = flag(3e-3, "peak of the schedule")
    warmup_steps: int = flag(200, "steps to the peak, then decay with 1 / sqrt(step)")
    precision: Literal["auto", "float32", "mixed_bfloat16"] = flag(
        "float32", "auto takes mixed_bfloat16 where the CPU is fast in it: AMX, AVX512-BF16"
    )
    beam_size: int = flag(2, "hypotheses that beam search keeps")
    seed: int = flag(0, "of strings, weights and order")
    output: str | None = flag(None, "folder; none takes saved_models/reverse-<model>")
    dry_run: bool = flag(False, runs.DRY_RUN_HELP)

    def __post_init__(self):
        for name in ("strings", "test_strings", "longest", "batch_tokens"):
            cli.check(self, name, least=1)
        if self.epochs is not None:
            cli.check(self, "epochs", least=1)
        cli.check(self, "warmup_steps", least=1)
        cli.check_beam_size(self)
        cli.check_seed(self)
        cli.check(self, "minutes", least=0)
        cli.check_positive(self, "learning_rate")

    @property
    def is_rnn(self) -> bool:
        return self.model.startswith("rnn")

    @property
    def folder(self) -> Path:
        return Path(self.output or f"saved_models/reverse-{self.model}")


def main(config: Config) -> float:
    """Makes strings, builds, fits, exports, scores; returns the share of exact answers in %."""
    runs.check_writable("output", config.folder)
    strings = make_strings(config)
    test, valid, train = (
        strings[: config.test_strings],
        strings[config.test_strings : 2 * config.test_strings],
        strings[2 * config.test_strings :],
    )
    runs.seed(config.seed)
    model = build(kzoo.text.CharacterTokenizer.learn(train, vocabulary_size=64), config)
    minutes = fit(model, train, valid, config)

    def evaluate(served):
        answers = served(test)
        for source, answer in zip(test[:5], answers, strict=False):
            print(f"{source} -> {answer}")
        print(f"{len(test)} strings never seen:")
        return runs.said({"exact match": kzoo.metrics.exact_match(answers, reverse(test))})

    saved = kzoo.export.save(
        model,
        kzoo.export.next_version(config.folder),
        beam_size=config.beam_size,
        max_length=config.longest + 5,
        card={
            "name": "Reverse",
            "data": f"{len(train):,} random strings of at most {config.longest} letters",
        }
        | runs.provenance("reverse", config, minutes),
        evaluate=evaluate,
        examples=test[:3],
    )
    runs.say_how_to_ask(saved.path, "abc")
    return runs.scores_of(saved)["exact match"]


def make_strings(config: Config) -> list[str]:
    """Different random strings of 1 ... `longest` letters, long ones more often."""
    rng = random.Random(config.seed)
    count = config.strings + 2 * config.test_strings
    made: dict[str, None] = {}
    for _ in range(20 * count):
        length = max(rng.randint(1, config.longest), rng.randint(1, config.longest))
        made["".join(rng.choices(string.ascii_lowercase, k=length))] = None
        if len(made) == count:
            break
    else:
        raise ValueError(
            f"`longest` must allow {count:,} different strings, got longest={config.longest}."
        )
    strings = list(made)
    rng.shuffle(strings)
    return strings


def reverse(strings: list[str]) -> list[str]:
    return [each[::-1] for each in strings]


def build(tokenizer: kzoo.text.CharacterTokenizer, config: Config) -> kzoo.Seq2Seq:
    """Builds and compiles the model in the precision asked for; both sides share the letters."""
    options = {"units": 64} if config.is_rnn else {"num_layers": 1, "norm_first": True}
    with runs.computing_in(config.precision):
        model = getattr(kzoo.zoo, config.model)(
            tokenizer, tokenizer, dropout=0.0, label_smoothing=0.0, **options
        )
    runs.compile_model(model, config.learning_rate, config.warmup_steps, epsilon=1e-7)
    return model


def fit(model: kzoo.Seq2Seq, train: list[str], valid: list[str], config: Config) -> float:
    """Trains until the validation strings come out right or the time is up; returns the minutes."""
    start = time.monotonic()
    read = 120_000 if config.is_rnn else 600_000
    config = dataclasses.replace(config, epochs=config.epochs or math.ceil(read / len(train)))
    corpus = kzoo.batching.Corpus(
        kzoo.batching.tokenize(model.source_tokenizer, train),
        kzoo.batching.tokenize(model.target_tokenizer, reverse(train)),
    )
    generate = model.text_generator(beam_size=1, max_length=config.longest + 5)

    def validation_score():
        score = kzoo.metrics.exact_match(generate(valid), reverse(valid)).value
        model.stop_training |= score >= 99.8
        return score

    batches = kzoo.batching.token_batches(corpus, config.batch_tokens, seed=config.seed)
    if config.dry_run:
        steps = int(batches.cardinality())
        runs.end_dry_run(
            model, batches.repeat(), steps, None, validation_score, config, proof_seconds=2.0
        )
    with tempfile.TemporaryDirectory() as folder:
        best = kzoo.training.BestWeights(Path(folder, "best.npz"), "val_exact_match")
        model.fit(
            batches,
            epochs=config.epochs,
            shuffle=False,  # the dataset shuffles itself
            callbacks=[
                kzoo.training.TimeBudget(config.minutes),
                kzoo.training.ValidationScore("val_exact_match", validation_score),
                best,
            ],
        )
        best.restore(model)
    return (time.monotonic() - start) / 60


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
