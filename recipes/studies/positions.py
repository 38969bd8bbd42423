"""Positions on lengths never trained: sinusoidal, learned, rotary, T5's and ALiBi's biases.

    python -m recipes.studies.positions                     # copies letters
    python -m recipes.studies.positions --task reverse --seeds 5

Claim (Press et al., 2022, https://arxiv.org/abs/2108.12409): what a model knows of positions
decides whether it copes with inputs longer than any it was trained on; sinusoids and learned tables
do not. A small transformer learns to copy or to reverse strings of random letters, with one kind of
positions each, and is tried on longer and longer strings: the share of right letters and of right
strings, for each length. What came out stands in recipes/README.md.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from typing import Literal

import numpy as np

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data import examples
from recipes.runs import trials

KINDS = ("sinusoidal", "learned", "rotary", "t5", "alibi")
NUM_HEADS = 4


@dataclass(frozen=True)
class Config:
    """The flags of the study; `--help` shows them."""

    task: Literal["copy", "reverse"] = flag("copy", "what the model learns to do with the letters")
    strings: int = flag(20_000, "strings to train on; short ones come more than once")
    longest_trained: int = flag(12, "letters of the longest string in training")
    longest_tested: int = flag(24, "letters of the longest string that is tried")
    tested: int = flag(100, "strings of each length that are tried")
    units: int = flag(64, "of the model")
    layers: int = flag(2, "of encoder and decoder each")
    epochs: int = flag(12, "passes over the training strings")
    batch_tokens: int = flag(2048, "tokens of a batch on either side, padding included")
    learning_rate: float = flag(0.002, "of Adam, at its peak")
    seeds: int = flag(3, "trials of each kind")
    output: str | None = flag(None, "folder; none takes studies/positions-<task>")

    def __post_init__(self):
        for name in ("strings", "longest_trained", "tested", "layers", "epochs", "seeds"):
            cli.check(self, name, least=1)
        cli.check(self, "longest_tested", least=self.longest_trained + 1)
        cli.check_positive(self, "learning_rate")
        if self.units % NUM_HEADS:
            raise ValueError(
                f"`units` must be a multiple of {NUM_HEADS} heads, got units={self.units}."
            )


def main(config: Config) -> trials.Study:
    """Trains a model with each kind of positions and each seed; returns the trials."""
    cli.require("matplotlib", extra="recipes")
    tokenizer = kzoo.text.CharacterTokenizer.learn([string.ascii_lowercase], vocabulary_size=40)
    study = trials.Study(config, config.output or f"studies/positions-{config.task}")
    lengths = range(2, config.longest_tested + 1, 2)
    for kind, seed in study.missing(KINDS, config.seeds):
        rng = random.Random(seed)
        pairs = examples.Pairs()
        for source in make_strings(rng, config.strings, range(1, config.longest_trained + 1)):
            pairs.add(source, answer_to(source, config.task), "")
        runs.seed(seed)
        model = build(tokenizer, kind, config)
        corpus = trials.corpus_of((tokenizer,) * 2, pairs, config.longest_trained + 2)
        trials.train(model, corpus, seed, config)
        sources = [text for n in lengths for text in make_strings(rng, config.tested, [n])]
        answers = trials.answers_of(model, sources, config.longest_tested + 6)
        wanted = [answer_to(source, config.task) for source in sources]
        shares = np.reshape(list(map(share_of_right_letters, answers, wanted)), (len(lengths), -1))
        right, letters = 100 * (shares == 1).mean(1), 100 * shares.mean(1)
        known = [length <= config.longest_trained for length in lengths]
        measured = {
            "trained lengths": np.mean(right, where=known),
            "longer": np.mean(right, where=np.logical_not(known)),
            "letters, longer": np.mean(letters, where=np.logical_not(known)),
        }
        measured |= {"lengths": list(lengths), "right": list(right), "letters": list(letters)}
        study.add(kind, seed, measured)
        draw(study, config)
    print(table(study))
    return study


def make_strings(rng: random.Random, count: int, lengths) -> list[str]:
    """Random letters; the lengths are drawn evenly."""
    lengths = list(lengths)
    return [
        "".join(rng.choices(string.ascii_lowercase, k=rng.choice(lengths))) for _ in range(count)
    ]


def answer_to(source: str, task: str) -> str:
    return source if task == "copy" else source[::-1]


def share_of_right_letters(answer: str, wanted: str) -> float:
    """Letters that stand where they should, of the longer of the two."""
    return sum(a == b for a, b in zip(answer, wanted, strict=False)) / max(len(answer), len(wanted))


def build(tokenizer, kind: str, config: Config) -> kzoo.Seq2Seq:
    """A transformer with these positions alone: those that are added or those inside attention."""

    embedding = kzoo.TokenEmbedding(tokenizer.vocabulary_size(), config.units, scale=True)
    shape = {
        "num_layers": config.layers, "num_heads": NUM_HEADS, "hidden_units": 4 * config.units,
        "norm_first": True,
    }  # fmt: skip
    longest = config.longest_tested + 8
    encoder = kzoo.TransformerEncoder(embedding, **shape, **positions_of(kind, longest, True))
    decoder = kzoo.TransformerDecoder(embedding, **shape, **positions_of(kind, longest, False))
    head = kzoo.VocabularyHead(tokenizer.vocabulary_size(), config.units, tied=embedding)
    return kzoo.Seq2Seq(encoder, decoder, head, tokenizer, tokenizer)


def positions_of(kind: str, longest: int, is_encoder: bool) -> dict:
    """The arguments of an encoder or decoder for positions of a kind."""
    added = {
        "sinusoidal": kzoo.SinusoidalPositions,
        "learned": lambda: kzoo.LearnedPositions(longest),
    }
    inside = {
        "rotary": kzoo.RotaryPositions,
        "t5": lambda: kzoo.RelativePositions(bidirectional=is_encoder),
        "alibi": kzoo.AlibiPositions,
    }
    if kind in inside:
        return {"attention_positions": inside[kind]()}
    return {"positions": added[kind]()}


def table(study: trials.Trials) -> str:
    """Means and intervals, in Markdown."""
    return study.table(("trained lengths", "longer", "letters, longer"))


def draw(study: trials.Study, config: Config) -> None:
    """The share of right strings and of right letters against their length."""
    figure, (strings, letters) = trials.new_axes(10, 3.8, 2)
    for kind, color in zip(study.names(), trials.COLORS, strict=False):
        lengths = study.values(kind, "lengths")[0]
        trials.draw_line(strings, lengths, study.values(kind, "right"), kind, color)
        trials.draw_line(letters, lengths, study.values(kind, "letters"), kind, color)
    for axes, what in ((strings, "strings"), (letters, "letters")):
        axes.axvline(config.longest_trained, color="#22303c", lw=0.9, ls=(0, (3, 3)))
        axes.set_xlabel("letters; the longest in training is dashed")
        axes.set_ylabel(f"% right {what}")
        axes.set_ylim(-3, 103)
    strings.legend(frameon=False, fontsize=9)
    figure.savefig(study.folder / "positions.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
