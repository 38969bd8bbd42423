"""Beam width 1 to 64 against quality, length and time.

    python -m recipes.studies.beam_width                    # English to German, UI texts
    python -m recipes.studies.beam_width --epochs 8 --length_penalty 0.6

Claims: a wider beam finds answers of higher probability, and so better ones (the textbook); beyond
some width answers get shorter and worse ("the beam search curse", Koehn and Knowles, 2017, section
3.6; Stahlberg and Byrne, 2019), unless the score is divided by the length. One model for each seed
answers the same held-out texts with every width, ranked by log p and by log p over the length
penalty of GNMT. What came out stands in recipes/README.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.runs import trials

RANKINGS = ("log p", "by length")
WIDTHS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Config(trials.Translation):
    """The flags of the study; `--help` shows them."""

    epochs: int = flag(4, "passes over the training pairs, for each model")
    learning_rate: float = flag(0.003, "of Adam, at its peak")
    length_penalty: float = flag(1.0, "exponent of GNMT's penalty where length counts")
    test_pairs: int = flag(250, "held-out pairs that are scored")
    least_words: int = flag(4, "words of the shortest source: one-word texts need no search")
    seeds: int = flag(3, "models that are trained")
    output: str = flag("studies/beam_width", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in ("epochs", "batch_tokens", "test_pairs", "least_words", "seeds"):
            cli.check(self, name, least=1)
        cli.check_positive(self, "learning_rate")
        cli.check_positive(self, "length_penalty")


def main(config: Config) -> trials.Study:
    """Trains a model with each seed and tries all widths; returns the trials."""
    cli.require("matplotlib", "sacrebleu", "sentencepiece", extra="recipes")
    splits, tokenizer, corpus = trials.load_translation(config)
    source, target = trials.scored_pairs(
        splits, config.test_pairs, max_words=40, min_words=config.least_words
    )
    words = sum(len(text.split()) for text in target)
    study = trials.Study(config, config.output)
    rankings = dict(zip(RANKINGS, (0.0, config.length_penalty), strict=True))
    for _, seed in study.missing(("model",), config.seeds):
        runs.seed(seed)
        model = kzoo.zoo.transformer_tiny(tokenizer, tokenizer, norm_first=True, dropout=0.1)
        trials.train(model, corpus, seed, config)
        measured = {}
        for ranking, penalty in rankings.items():
            rows = [try_width(model, width, penalty, source, target, words, config)
                    for width in WIDTHS]  # fmt: skip
            for quantity in rows[0]:
                measured[f"{ranking}: {quantity}"] = [row[quantity] for row in rows]
        study.add("model", seed, measured)
        draw(study)
    print(table(study))
    return study


def try_width(model, width, penalty, source, target, words, config: Config) -> dict[str, float]:
    """What a beam so wide brings and costs."""
    generate = model.text_generator(
        beam_size=width, max_length=config.max_length, max_source_length=config.max_length,
        length_penalty=penalty, batch_size=16,
    )  # fmt: skip
    generate(source)  # compiles
    start = time.monotonic()
    answers = generate(source)
    seconds = time.monotonic() - start
    found = {
        "BLEU": kzoo.metrics.bleu(answers, target).value,
        "chrF": kzoo.metrics.chrf(answers, target).value,
        "words, % of the reference": 100 * sum(len(text.split()) for text in answers) / words,
        "empty answers, %": 100 * sum(not text for text in answers) / len(answers),
        "ms a text": 1000 * seconds / len(source),
    }
    print(f"beam {width}, length penalty {penalty}: " + ", ".join(
        f"{name} {value:.1f}" for name, value in found.items()
    ), flush=True)  # fmt: skip
    return found


def table(study: trials.Trials) -> str:
    """A row for each width, in Markdown: the mean over the seeds, BLEU with its interval."""
    lines = ["| beam size | " + " | ".join(
        f"{ranking}: {quantity}" for ranking in RANKINGS for quantity in ("BLEU", "length, %")
    ) + " | ms a text |", "|--:|" + "--:|" * (2 * len(RANKINGS) + 1)]  # fmt: skip
    for place, width in enumerate(WIDTHS):
        cells = []
        for ranking in RANKINGS:
            bleu, half = trials.mean_and_interval(study.values("model", f"{ranking}: BLEU"))
            words = study.values("model", f"{ranking}: words, % of the reference").mean(0)
            cells += [f"{bleu[place]:.1f} ± {half[place]:.1f}", f"{words[place]:.0f}"]
        time = study.values("model", "log p: ms a text").mean(0)[place]
        lines.append(f"| {width} | " + " | ".join(cells) + f" | {time:.0f} |")
    return "\n".join(lines)


def draw(study: trials.Study) -> None:
    """BLEU, length and time against the width of the beam."""
    figure, (quality, length, cost) = trials.new_axes(12, 3.6, 3)
    names = [str(width) for width in WIDTHS]
    for ranking, color in zip(RANKINGS, trials.COLORS, strict=False):
        label = {"log p": "by log p", "by length": "with a length penalty"}[ranking]
        for axes, quantity in ((quality, "BLEU"), (length, "words, % of the reference")):
            values = study.values("model", f"{ranking}: {quantity}")
            trials.draw_line(axes, names, values, label, color)
    values = study.values("model", "log p: ms a text")
    trials.draw_line(cost, names, values, "time", trials.COLORS[2])
    quality.set_ylabel("BLEU")
    length.set_ylabel("words, % of the reference")
    cost.set_ylabel("ms a text, 16 at a time")
    quality.legend(frameon=False, fontsize=9)
    for axes in (quality, length, cost):
        axes.set_xlabel("beam size")
    figure.savefig(study.folder / "beam_width.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
