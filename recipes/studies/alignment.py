"""Global against local and monotonic attention: on long monotonic inputs, and on translation.

    python -m recipes.studies.alignment                     # phrases to phonemes; UI texts en-de
    python -m recipes.studies.alignment --words 5 --window 6

Claims: attention to a window beats attention to all (Luong et al., 2015, table 4: local-p is better
than global by 0.9 BLEU); where the answer runs along the input, an attention that only goes forward
does as well (Raffel et al., 2017, https://arxiv.org/abs/1704.00784). One RNN with four kinds of
attention learns to pronounce phrases of words of the CMU dictionary, where input and output run in
parallel, and to translate, where they do not. Measured: PER, chrF, and PER of phrases longer than
any in training. What came out stands in recipes/README.md.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import Any

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data.pronunciations import load_pronunciations
from recipes.runs import trials

KINDS = ("global", "local-m", "local-p", "monotonic")


@dataclass(frozen=True)
class Config(trials.Translation):
    """The flags of the study; `--help` shows them."""

    dictionary: str = flag("cmudict", "what is pronounced: cmudict or a file of recipes.data")
    words: int = flag(3, "words of a phrase in training; it is also tried on twice as many")
    phrases: int = flag(20_000, "phrases to train on")
    units: int = flag(96, "of embeddings and states")
    window: int = flag(5, "memory steps on either side of the place that local attention looks at")
    epochs: int = flag(3, "passes over the training phrases, for each model")
    translation_epochs: int = flag(8, "passes over the pairs of texts, for each model")
    batch_tokens: int = flag(3072, "tokens of a batch of phrases on either side, with padding")
    translation_batch_tokens: int = flag(1536, "the same of a batch of texts")
    learning_rate: float = flag(0.004, "of Adam, at its peak")
    tested: int = flag(500, "held-out examples of each task that are scored")
    seeds: int = flag(3, "trials of each model")
    output: str = flag("studies/alignment", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in (
            *("words", "phrases", "units", "window", "tested", "seeds"),
            *("epochs", "translation_epochs", "batch_tokens", "translation_batch_tokens"),
        ):
            cli.check(self, name, least=1)
        cli.check_positive(self, "learning_rate")


def main(config: Config) -> trials.Study:
    """Trains each model on both tasks with each seed; returns the trials."""
    cli.require("matplotlib", "sacrebleu", "jiwer", "sentencepiece", extra="recipes")
    tasks = [
        (*pronouncing(config), config),
        (
            *translating(config),
            dataclasses.replace(
                config,
                epochs=config.translation_epochs,
                batch_tokens=config.translation_batch_tokens,
            ),
        ),
    ]
    study = trials.Study(config, config.output)
    for kind, seed in study.missing(KINDS, config.seeds):
        measured: dict[str, Any] = {}
        for tokenizers, corpus, score, budget in tasks:
            runs.seed(seed)
            model = build(tokenizers, kind, config)
            trials.train(model, corpus, seed, budget)
            measured |= score(model)
        study.add(kind, seed, measured)
        draw(study)
    print(table(study))
    return study


def pronouncing(config: Config):
    """Tokenizers, corpus and score of the task of pronouncing phrases."""
    splits = load_pronunciations(config.dictionary, stress=False)
    rng, words = random.Random(0), config.words
    train = trials.phrases(rng, splits.train, config.phrases, [words])
    held_out = runs.scored_split(splits)[1]
    tests = {
        "PER": trials.phrases(rng, held_out, config.tested, [words]),
        "PER, twice as long": trials.phrases(rng, held_out, config.tested, [2 * words]),
    }
    tokenizers = trials.spelling_tokenizers(train)
    longest = 40 * config.words

    def score(model):
        return {
            name: kzoo.metrics.phoneme_error_rate(
                trials.answers_of(model, pairs.source, 2 * longest), pairs.target
            ).value
            for name, pairs in tests.items()
        }

    return tokenizers, trials.corpus_of(tokenizers, train, longest), score


def translating(config: Config):
    """Tokenizers, corpus and score of translation."""
    splits, tokenizer, corpus = trials.load_translation(config)
    source, target = trials.scored_pairs(splits, config.tested, max_words=40, min_words=3)

    def score(model):
        answers = trials.answers_of(model, source, config.max_length)
        return {"chrF": kzoo.metrics.chrf(answers, target).value}

    return (tokenizer,) * 2, corpus, score


def build(tokenizers, kind: str, config: Config) -> kzoo.Seq2Seq:
    """The RNN with one kind of attention, all else being equal."""
    units, window = config.units, config.window
    attention = {
        "global": lambda: kzoo.LuongAttention(score="general"),
        "local-m": lambda: kzoo.LocalAttention(window, alignment="monotonic"),
        "local-p": lambda: kzoo.LocalAttention(window, alignment="predictive"),
        # Two steps of the memory for a step of the answer at first: both are about as long.
        "monotonic": lambda: kzoo.MonotonicAttention(units, score_bias=0.0),
    }[kind]()
    sizes = [tokenizer.vocabulary_size() for tokenizer in tokenizers]
    source, target = (kzoo.TokenEmbedding(size, units) for size in sizes)
    return kzoo.Seq2Seq(
        kzoo.RecurrentEncoder(source, units=units, dropout=0.1),
        kzoo.AttentionDecoder(target, units=units, attention=attention, dropout=0.1),
        kzoo.VocabularyHead(sizes[1], units),
        *tokenizers,
    )


def table(study: trials.Trials) -> str:
    """Means and intervals, in Markdown."""
    return study.table(("PER", "PER, twice as long", "chrF"))


def draw(study: trials.Study) -> None:
    """Error rates and chrF of each kind of attention."""
    figure, panels = trials.new_axes(12, 3.2, 3)
    for axes, quantity in zip(panels, ("PER", "PER, twice as long", "chrF"), strict=True):
        trials.draw_bars(axes, study, quantity)
    figure.savefig(study.folder / "alignment.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
