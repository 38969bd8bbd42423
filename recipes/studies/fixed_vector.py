"""Attention against a fixed context vector, by sentence length.

    python -m recipes.studies.fixed_vector                  # English to German, UI texts
    python -m recipes.studies.fixed_vector --seeds 5 --epochs 12

Claim (Bahdanau et al., 2015, section 5.2.2): an encoder-decoder that packs the sentence into one
vector gets worse with its length, and one with attention does not. Three RNNs of one size translate
the same held-out sentences: `rnn_fixed`, `rnn_bahdanau`, `rnn_luong`; chrF says how well, for each
class of sentence length. What came out stands in recipes/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.runs import trials

MODELS = ("rnn_fixed", "rnn_bahdanau", "rnn_luong")
EDGES = (1, 3, 5, 8, 12, 17, 26)  # words of a source, the first of each class


@dataclass(frozen=True)
class Config(trials.Translation):
    """The flags of the study; `--help` shows them."""

    units: int = flag(128, "of embeddings and states")
    epochs: int = flag(6, "passes over the training pairs, for each model")
    learning_rate: float = flag(0.004, "of Adam, at its peak")
    test_pairs: int = flag(1500, "held-out pairs that are scored")
    seeds: int = flag(3, "trials of each model")
    output: str = flag("studies/fixed_vector", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in ("units", "epochs", "batch_tokens", "test_pairs", "seeds"):
            cli.check(self, name, least=1)
        cli.check_positive(self, "learning_rate")


def main(config: Config) -> trials.Study:
    """Trains each model with each seed; returns the trials."""
    cli.require("matplotlib", "sacrebleu", "sentencepiece", extra="recipes")
    splits, tokenizer, corpus = trials.load_translation(config)
    source, target = trials.scored_pairs(splits, config.test_pairs, EDGES[-1] - 1)
    words = [len(text.split()) for text in source]
    study = trials.Study(config, config.output)
    for name, seed in study.missing(MODELS, config.seeds):
        runs.seed(seed)
        model = getattr(kzoo.zoo, name)(tokenizer, tokenizer, units=config.units)
        trials.train(model, corpus, seed, config)
        answers = trials.answers_of(model, source, config.max_length)
        measured = trials.chrf_by_length(answers, target, words, EDGES)
        study.add(name, seed, measured | {"parameters": model.count_params()})
        draw(study)
    print(study.table(("chrF", "parameters", "minutes")))
    return study


def draw(study: trials.Study) -> None:
    """chrF of each model against the length of the source."""
    figure, (axes,) = trials.new_axes(6.5, 3.8)
    names = trials.length_names(EDGES)
    for name, color in zip(study.names(), trials.COLORS, strict=False):
        trials.draw_line(axes, names, study.values(name, "by length"), name, color)
    axes.set_xlabel("words of the source")
    axes.set_ylabel("chrF2 on held-out texts")
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(study.folder / "fixed_vector.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
