"""Attention against a fixed context vector, by the length of the input.

    python -m recipes.studies.fixed_vector                  # phrases to phonemes, CMU dictionary
    python -m recipes.studies.fixed_vector --seeds 5 --epochs 12

Claim (Bahdanau et al., 2015, section 5.2.2): an encoder-decoder that packs its input into one
vector gets worse with its length, and one with attention does not. Three RNNs of one size learn to
pronounce phrases of a few words: `rnn_fixed`, `rnn_bahdanau`, `rnn_luong`. Phrases are learnt in
minutes, where translation takes hours. Measured: the phoneme error rate of held-out words, by the
number of words, beyond those of training too. What came out stands in recipes/README.md.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data.pronunciations import load_pronunciations
from recipes.runs import trials

MODELS = ("rnn_fixed", "rnn_bahdanau", "rnn_luong")
LETTERS = 16  # of a word and the space behind it; longer phrases are left out


@dataclass(frozen=True)
class Config:
    """The flags of the study; `--help` shows them."""

    dictionary: str = flag("cmudict", "what is pronounced: cmudict or a file of recipes.data")
    words: int = flag(4, "most words of a phrase in training; half as many more are tried")
    phrases: int = flag(20_000, "phrases to train on")
    units: int = flag(128, "of embeddings and states")
    epochs: int = flag(4, "passes over the training phrases, for each model")
    batch_tokens: int = flag(3072, "tokens of a batch on either side, padding included")
    learning_rate: float = flag(0.004, "of Adam, at its peak")
    tested: int = flag(200, "held-out phrases of each length that are scored")
    seeds: int = flag(3, "trials of each model")
    output: str = flag("studies/fixed_vector", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in ("words", "phrases", "units", "epochs", "batch_tokens", "tested", "seeds"):
            cli.check(self, name, least=1)
        cli.check_positive(self, "learning_rate")


def main(config: Config) -> trials.Study:
    """Trains each model with each seed; returns the trials."""
    cli.require("matplotlib", "jiwer", extra="recipes")
    splits = load_pronunciations(config.dictionary, stress=False)
    rng = random.Random(0)
    train = trials.phrases(rng, splits.train, config.phrases, range(1, config.words + 1))
    counts = range(1, config.words + max(config.words // 2, 1) + 1)
    held_out = runs.scored_split(splits)[1]
    tests = [trials.phrases(rng, held_out, config.tested, [count]) for count in counts]
    tokenizers = trials.spelling_tokenizers(train)
    corpus = trials.corpus_of(tokenizers, train, LETTERS * config.words)
    study = trials.Study(config, config.output)
    for name, seed in study.missing(MODELS, config.seeds):
        runs.seed(seed)
        model = getattr(kzoo.zoo, name)(*tokenizers, units=config.units)
        trials.train(model, corpus, seed, config)
        rates = []
        for pairs in tests:
            answers = trials.answers_of(model, pairs.source, LETTERS * counts[-1])
            rates.append(kzoo.metrics.phoneme_error_rate(answers, pairs.target).value)
        measured = {"PER, 1 word": rates[0], f"PER, {config.words} words": rates[config.words - 1]}
        measured |= {f"PER, {counts[-1]} words": rates[-1], "parameters": model.count_params()}
        study.add(name, seed, measured | {"words": list(counts), "PER": rates})
        draw(study, config)
    print(table(study))
    return study


def table(study: trials.Trials) -> str:
    """Means and intervals, in Markdown."""
    return study.table([name for name in study.trials[0] if name.startswith("PER, ")])


def draw(study: trials.Study, config: Config) -> None:
    """The phoneme error rate of each model against the words of a phrase."""
    figure, (axes,) = trials.new_axes(6.5, 3.8)
    for name, color in zip(study.names(), trials.COLORS, strict=False):
        counts = study.values(name, "words")[0]
        trials.draw_line(axes, counts, study.values(name, "PER"), name, color)
    axes.axvline(config.words, color="#22303c", lw=0.9, ls=(0, (3, 3)))
    axes.set_xlabel("words of a phrase; the longest in training is dashed")
    axes.set_ylabel("phoneme error rate, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(study.folder / "fixed_vector.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
