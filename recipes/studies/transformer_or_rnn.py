"""Transformer against RNN: tokens a second in training and in search, quality by length.

    python -m recipes.studies.transformer_or_rnn            # English to German, UI texts
    python -m recipes.studies.transformer_or_rnn --minutes 5 --seeds 5

Claim (Vaswani et al., 2017): a transformer trains faster than an RNN, as its steps do not wait for
each other, and translates better. Both get the same minutes of training, not the same passes, and
about as many parameters. Measured: target tokens a second in training, in greedy search one text at
a time and 64 at a time, and chrF by the length of the source. What came out stands in
recipes/README.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.runs import trials

EDGES = (1, 3, 5, 8, 12, 17, 26)  # words of a source, the first of each class
MODELS = ("rnn_luong", "transformer_tiny")
RATES = {"rnn_luong": 0.003, "transformer_tiny": 0.003}  # of Adam, at its peak
ALONE = 40  # texts that are answered one at a time


@dataclass(frozen=True)
class Config(trials.Translation):
    """The flags of the study; `--help` shows them."""

    minutes: float = flag(4.0, "training of each trial")
    warmup_steps: int = flag(200, "steps to the peak, then decay with 1 / sqrt(step)")
    test_pairs: int = flag(1000, "held-out pairs that are scored")
    seeds: int = flag(3, "trials of each model")
    output: str = flag("studies/transformer_or_rnn", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in ("batch_tokens", "warmup_steps", "test_pairs", "seeds"):
            cli.check(self, name, least=1)
        cli.check_positive(self, "minutes")


def main(config: Config) -> trials.Study:
    """Trains each model with each seed for the same time; returns the trials."""
    cli.require("matplotlib", "sacrebleu", "sentencepiece", extra="recipes")
    splits, tokenizer, corpus = trials.load_translation(config)
    source, target = trials.scored_pairs(splits, config.test_pairs, EDGES[-1] - 1)
    words = [len(text.split()) for text in source]
    study = trials.Study(config, config.output)
    for name, seed in study.missing(MODELS, config.seeds):
        runs.seed(seed)
        model = build(name, tokenizer)
        measured = fit(model, name, corpus, seed, config)
        measured["parameters"] = model.count_params()
        generate = model.text_generator(
            beam_size=1, max_length=config.max_length, max_source_length=config.max_length
        )
        for label, texts in (("one at a time", source[:ALONE]), ("64 at a time", source)):
            measured[f"tokens/s, {label}"] = search_rate(
                generate, texts, 1 if texts is not source else 64, tokenizer
            )
        scores = trials.chrf_by_length(generate(source), target, words, EDGES)
        study.add(name, seed, measured | scores)
        draw(study)
    print(table(study))
    return study


def build(name: str, tokenizer) -> kzoo.Seq2Seq:
    """The model, the RNN with so many units that it has about as many parameters."""
    options = {"units": 160} if name == "rnn_luong" else {"norm_first": True, "dropout": 0.1}
    return getattr(kzoo.zoo, name)(tokenizer, tokenizer, label_smoothing=0.1, **options)


def fit(model, name: str, corpus, seed: int, config: Config) -> dict[str, float]:
    """Trains for so many minutes, the compilation of the step not counted; passes and speed."""
    import keras

    batches = kzoo.batching.token_batches(corpus, config.batch_tokens, seed=seed)
    runs.compile_model(model, RATES[name], config.warmup_steps)
    model.fit(batches.take(2), shuffle=False, verbose=0)  # compiles
    start, steps = time.monotonic(), 0

    def stop_in_time(batch, logs):
        nonlocal steps
        steps += 1
        model.stop_training |= time.monotonic() - start >= 60 * config.minutes

    in_time = keras.callbacks.LambdaCallback(on_train_batch_end=stop_in_time)
    total = 10**6
    model.fit(
        batches.repeat(), steps_per_epoch=total, shuffle=False, verbose=0, callbacks=[in_time]
    )
    passes = steps / int(batches.cardinality())
    tokens = passes * int(corpus.target.row_lengths().numpy().sum())
    return {"passes": passes, "tokens/s, training": tokens / (time.monotonic() - start)}


def search_rate(generate, texts: list[str], at_once: int, tokenizer) -> float:
    """Tokens that greedy search writes in a second, after a first answer that compiles it."""
    generate(texts[:at_once])
    start, tokens = time.monotonic(), 0
    for row in range(0, len(texts), at_once):
        answers = generate(texts[row : row + at_once])
        tokens += int(tokenizer.tokenize(answers).row_lengths().numpy().sum()) + len(answers)
    return tokens / (time.monotonic() - start)


def table(study: trials.Trials) -> str:
    """Means and intervals, in Markdown."""
    quantities = (
        "parameters", "tokens/s, training", "tokens/s, one at a time", "tokens/s, 64 at a time",
        "passes", "chrF",
    )  # fmt: skip
    return study.table(quantities)


def draw(study: trials.Study) -> None:
    """chrF against the length of the source, and tokens a second."""
    figure, (quality, speed) = trials.new_axes(10, 3.8, 2)
    names = trials.length_names(EDGES)
    kinds = ("training", "one at a time", "64 at a time")
    models = study.names()
    for place, (name, color) in enumerate(zip(models, trials.COLORS, strict=False)):
        trials.draw_line(quality, names, study.values(name, "by length"), name, color)
        rates = [trials.mean_and_interval(study.values(name, f"tokens/s, {k}")) for k in kinds]
        means, halves = zip(*rates, strict=True)
        xs = [x + 0.4 * (place - 0.5) for x in range(len(kinds))]
        speed.bar(xs, means, 0.38, yerr=halves, color=color, label=name, capsize=3)
    quality.set_xlabel("words of the source")
    quality.set_ylabel("chrF2 on held-out texts")
    quality.legend(frameon=False, fontsize=9)
    speed.set_xticks(
        range(len(kinds)), ["training", "search,\none at a time", "search,\n64 at once"]
    )
    speed.set_yscale("log")
    speed.set_ylabel("target tokens a second")
    figure.savefig(study.folder / "transformer_or_rnn.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
