"""Teacher forcing against scheduled sampling, as the prefix grows wrong.

    python -m recipes.studies.exposure                      # words to phonemes, CMU dictionary
    python -m recipes.studies.exposure --rate 0.5 --decay inverse_sigmoid

Claim (Bengio et al., 2015, https://arxiv.org/abs/1506.03099): a model that in training has only
read right words is lost after its first own mistake; one that has read its own words is not, and
answers better. An RNN and a transformer learn to pronounce words, with and without scheduled
sampling. Measured: error rates of their own answers; and how often the next phoneme is wrong when a
share of the phonemes before it, drawn at random, is replaced by others. What came out stands in
recipes/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data.examples import Pairs
from recipes.data.pronunciations import load_pronunciations
from recipes.runs import trials

KINDS = (
    "RNN, teacher forcing",
    "RNN, scheduled sampling",
    "transformer, teacher forcing",
    "transformer, scheduled sampling",
)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5)  # of the phonemes of a prefix that are replaced
AFTER_RIGHT, AFTER_WRONG = "next wrong, %, right prefix", "next wrong, %, 30 % of it wrong"


@dataclass(frozen=True)
class Config:
    """The flags of the study; `--help` shows them."""

    dictionary: str = flag("cmudict", "what is pronounced: cmudict or a file of recipes.data")
    words: int = flag(15_000, "most words to train on")
    rate: float = flag(0.3, "probability of an own word in the end")
    decay: Literal["linear", "exponential", "inverse_sigmoid"] = flag(
        "linear", "how the probability of a right word falls in training"
    )
    units: int = flag(128, "of embeddings and states; a multiple of 4")
    epochs: int = flag(8, "passes over the training words, for each model")
    batch_tokens: int = flag(2048, "tokens of a batch on either side, padding included")
    learning_rate: float = flag(0.003, "of Adam, at its peak")
    tested: int = flag(1000, "held-out words that are scored")
    seeds: int = flag(3, "trials of each model")
    output: str = flag("studies/exposure", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in ("words", "units", "epochs", "batch_tokens", "tested", "seeds"):
            cli.check(self, name, least=1)
        cli.check_positive(self, "learning_rate")
        if not 0 < self.rate <= 1:
            raise ValueError(f"`rate` must lie in (0, 1], got rate={self.rate}.")


def main(config: Config) -> trials.Study:
    """Trains each model with each seed; returns the trials."""
    cli.require("matplotlib", "jiwer", extra="recipes")
    splits = load_pronunciations(config.dictionary, stress=False)
    train, test = first_pairs(splits.train, config.words), splits.test or splits.valid
    words = [test.words[row] for row in runs.spread_rows(config.tested, len(test))]
    references = [test.rows[word] for word in words]
    tokenizers = trials.spelling_tokenizers(train)
    corpus = trials.corpus_of(tokenizers, train, max_length=40)
    steps = config.epochs * int(
        kzoo.batching.token_batches(corpus, config.batch_tokens).cardinality()
    )
    study = trials.Study(config, config.output)
    for kind, seed in study.missing(KINDS, config.seeds):
        runs.seed(seed)
        model = build(tokenizers, kind, steps, seed, config)
        trials.train(model, corpus, seed, config)
        answers = trials.answers_of(model, words, max_length=40)
        right = [row[0] for row in references]
        errors = [next_error(model, words, right, seed, share) for share in SHARES]
        measured = {
            "WER": kzoo.metrics.pronunciation_error_rate(answers, references).value,
            "PER": kzoo.metrics.phoneme_error_rate(answers, references).value,
            AFTER_RIGHT: errors[SHARES.index(0.0)],
            AFTER_WRONG: errors[SHARES.index(0.3)],
        }
        study.add(kind, seed, measured | {"by share": errors})
        draw(study)
    print(table(study))
    return study


def first_pairs(part, count: int) -> Pairs:
    """At most so many words, evenly spaced, with the first pronunciation of each."""
    pairs = Pairs()
    for row in runs.spread_rows(count, len(part)):
        word = part.words[row]
        pairs.add(word, part.rows[word][0], word)
    return pairs


def build(tokenizers, kind: str, steps: int, seed: int, config: Config) -> kzoo.Seq2Seq:
    """An RNN with attention or a transformer; the rate of own words rises for half the steps."""
    options = {"units": config.units, "dropout": 0.1, "label_smoothing": 0.0}
    if kind.startswith("RNN"):
        model = kzoo.zoo.rnn_luong(*tokenizers, **options)
    else:
        options["hidden_units"] = 2 * config.units
        model = kzoo.zoo.pronunciation_transformer(*tokenizers, **options)
    if "scheduled" in kind:
        steps = max(steps // 2, 5)
        model.scheduled_sampling = kzoo.ScheduledSampling(
            config.rate, config.decay, steps, seed=seed
        )
    return model


def next_error(model, words: list[str], right: list[str], seed: int, share: float) -> float:
    """How often, in %, the next phoneme is wrong after a prefix of which a share is wrong.

    The end of a pronunciation counts as a phoneme.
    """
    rng = np.random.default_rng(seed)
    sides = (
        kzoo.batching.tokenize(model.source_tokenizer, words),
        kzoo.batching.tokenize(model.target_tokenizer, right),
    )
    wrong = total = 0
    for start in range(0, len(words), 256):
        inputs, labels = kzoo.batching.teacher_forcing(
            *(side[start : start + 256] for side in sides)
        )
        read = inputs["target"].numpy()
        others = rng.integers(4, model.target_tokenizer.vocabulary_size(), read.shape)
        is_replaced = (rng.random(read.shape) < share) & (read > 2)
        inputs = inputs | {"target": np.where(is_replaced, others, read)}
        best = model.predict_on_batch(inputs)["logits"].argmax(-1)
        is_real = labels.numpy() != 0
        wrong += ((best != labels.numpy()) & is_real).sum()
        total += is_real.sum()
    return 100 * float(wrong / total)


def table(study: trials.Trials) -> str:
    """Means and intervals, in Markdown."""
    return study.table(("WER", "PER", AFTER_RIGHT, AFTER_WRONG))


def draw(study: trials.Study) -> None:
    """WER of each kind, and the error of the next phoneme against the share of wrong ones."""
    figure, (rates, curves) = trials.new_axes(10, 3.8, 2)
    trials.draw_bars(rates, study, "WER")
    shares = [100 * share for share in SHARES]
    for kind, color in zip(study.names(), trials.COLORS, strict=False):
        trials.draw_line(curves, shares, study.values(kind, "by share"), kind, color)
    rates.set_xlabel("WER of the own answers, %")
    curves.set_xlabel("% of the prefix replaced by other phonemes")
    curves.set_ylabel("% of next phonemes wrong")
    curves.legend(frameon=False, fontsize=8)
    figure.savefig(study.folder / "exposure.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
