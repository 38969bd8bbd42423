"""When to stop: the end token alone, a length penalty, or a head that expects the length.

    python -m recipes.studies.length                        # English to German, UI texts
    python -m recipes.studies.length --seeds 5 --beam_size 16

Claim (of textbooks): a model needs to be told how long its answer is to be. Against it: it learns
to write the end token (Sutskever et al., 2014), and search needs at most a penalty (Wu et al. 2016,
https://arxiv.org/abs/1609.08144, section 7). One model for each seed, trained with a length head,
answers the same held-out texts in four ways; in the fourth it is told the length of the reference,
which no one knows, to show what is to be had. What came out stands in recipes/README.md.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.runs import trials

WAYS = ("end token alone", "length penalty", "length head", "told the length")
EDGES = (1, 4, 7, 10, 14, 19, 30)  # words of a reference, the first of each class


@dataclass(frozen=True)
class Config(trials.Translation):
    """The flags of the study; `--help` shows them."""

    epochs: int = flag(4, "passes over the training pairs, for each model")
    learning_rate: float = flag(0.003, "of Adam, at its peak")
    beam_size: int = flag(8, "hypotheses that beam search keeps")
    length_penalty: float = flag(1.0, "exponent of GNMT's penalty")
    length_deviation_penalty: float = flag(0.3, "per token of deviation from the expected length")
    test_pairs: int = flag(500, "held-out pairs that are scored")
    least_words: int = flag(4, "words of the shortest source")
    seeds: int = flag(3, "models that are trained")
    output: str = flag("studies/length", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in ("epochs", "batch_tokens", "test_pairs", "least_words", "seeds"):
            cli.check(self, name, least=1)
        cli.check_beam_size(self)
        for name in ("learning_rate", "length_penalty", "length_deviation_penalty"):
            cli.check_positive(self, name)


def main(config: Config) -> trials.Study:
    """Trains a model with each seed and stops its answers in each way; returns the trials."""
    cli.require("matplotlib", "sacrebleu", "sentencepiece", extra="recipes")
    splits, tokenizer, corpus = trials.load_translation(config)
    source, target = trials.scored_pairs(
        splits, config.test_pairs, max_words=40, min_words=config.least_words
    )
    wanted = np.array([len(text.split()) for text in target])
    study = trials.Study(config, config.output)
    models = {}
    for way, seed in study.missing(WAYS, config.seeds):
        if seed not in models:
            models = {seed: trained(corpus, tokenizer, seed, config)}
        answers = answers_of(models[seed], way, source, target, config)
        lengths = np.array([len(text.split()) for text in answers])
        measured = {
            "BLEU": kzoo.metrics.bleu(answers, target).value,
            "chrF": kzoo.metrics.chrf(answers, target).value,
            "words, % of the reference": 100 * lengths.sum() / wanted.sum(),
            "words off": float(np.abs(lengths - wanted).mean()),
        }
        by_length = trials.by_length(wanted, EDGES, lambda rows, n=lengths: n[rows].mean())
        study.add(way, seed, measured | {"by length": by_length})
        draw(study)
    print(table(study))
    return study


def trained(corpus, tokenizer, seed: int, config: Config) -> kzoo.Seq2Seq:
    """The model of a seed."""
    runs.seed(seed)
    model = kzoo.zoo.transformer_tiny(
        tokenizer, tokenizer, norm_first=True, dropout=0.1, length_head=True
    )
    trials.train(model, corpus, seed, config)
    return model


def answers_of(model, way: str, source: list[str], target: list[str], config: Config) -> list[str]:
    """The answers that stop in one way."""
    options = {
        "end token alone": {"length_penalty": 0.0},
        "length penalty": {"length_penalty": config.length_penalty},
        "length head": {
            "length_penalty": 0.0, "length_deviation_penalty": config.length_deviation_penalty
        },
    }  # fmt: skip
    if way in options:
        return trials.answers_of(model, source, config.max_length, config.beam_size, **options[way])
    return told_answers(model, source, target, config)


def told_answers(model, source, target, config: Config) -> list[str]:
    """The answers of a model that is told how many tokens the reference has."""
    import tensorflow as tf

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.float32)],
        autograph=False,
    )
    def told(texts, lengths):
        found = model.generate(
            model.source_ids(texts, config.max_length), beam_size=config.beam_size,
            max_length=config.max_length, length_penalty=0.0, expected_length=lengths,
            length_deviation_penalty=config.length_deviation_penalty, best_only=True,
        )  # fmt: skip
        return model.target_texts(found.ids[:, 0])

    lengths = tf.cast(model.target_tokenizer.tokenize(target).row_lengths(), tf.float32)
    answers = []
    for row in range(0, len(source), 32):
        found = told(source[row : row + 32], lengths[row : row + 32])
        answers += [text.decode() for text in found.numpy()]
    return answers


def table(study: trials.Trials) -> str:
    """Means and intervals, in Markdown."""
    return study.table(("BLEU", "chrF", "words, % of the reference", "words off"))


def draw(study: trials.Study) -> None:
    """Length of the answers against that of the references, and BLEU."""
    figure, (lengths, quality) = trials.new_axes(10, 3.8, 2)
    names = trials.length_names(EDGES)
    for way, color in zip(study.names(), trials.COLORS, strict=False):
        trials.draw_line(lengths, names, study.values(way, "by length"), way, color)
    trials.draw_bars(quality, study, "BLEU")
    lengths.plot(names, [(low + high - 1) / 2 for low, high in itertools.pairwise(EDGES)],
                 color="#22303c", lw=0.9, ls=(0, (3, 3)), label="middle of the class")  # fmt: skip
    lengths.set_xlabel("words of the reference")
    lengths.set_ylabel("words of the answer, mean")
    lengths.legend(frameon=False, fontsize=9)
    figure.savefig(study.folder / "length.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
