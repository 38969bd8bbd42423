"""Summarization: from documents and their summaries to a SavedModel from texts to short texts.

    python -m recipes.summarization                          docstrings of TensorFlow and Keras
    python -m recipes.summarization --packages numpy,scipy
    python -m recipes.summarization --data debian-descriptions --model pointer_generator
    python -m recipes.summarization --data a.csv --source_field abstract --target_field title
    python -m recipes.summarization --train train.jsonl.xz --valid dev.jsonl.xz
    python -m recipes.summarization --train train.article.txt,train.title.txt
    python -m recipes.summarization --data cnn/stories --max_length 128
    python -m recipes.summarization --summary_tokens 8
    python -m recipes.summarization --data mine.csv --extractive

A run learns a vocabulary, trains with progress bars and validation ROUGE-L, scores the test set
with the exported SavedModel beside what the first words of a document score, and leaves in
<output>/<version>/ the model, model_card.md, metrics.json, learning_curve.png and attention maps.
Interrupted, it goes on with --resume. What it reached on which data, with every flag, stands in
recipes/README.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data import cleaning, sources, spans, summaries
from recipes.data.examples import Pairs
from recipes.data.splits import Splits
from recipes.data.summaries import load_summaries
from recipes.runs import mixing, training_pairs
from recipes.runs.summary_scores import summary_scores, table

LICENCES = {  # of the named sources
    summaries.DOCSTRINGS: "the packages' own; that of TensorFlow and Keras is Apache-2.0",
    summaries.DEBIAN: "the packages' own, mixed; not to be passed on",
}
SHOWN_CHARACTERS = 600  # of a document that is shown at the end


# Flags that describe a new model; refused with --init_from.
TAKEN = (
    *("model", "tokenizer", "vocabulary_size", "coverage_weight", "sampled", "dropout"),
    "norm_first",
)


@dataclass(frozen=True)
class Config:
    """The flags of the recipe; `--help` shows them."""

    data: str = flag(
        summaries.DOCSTRINGS,
        "docstrings, debian-descriptions, or a file .jsonl or .csv, two files a,b, or a folder of "
        f".story files; {sources.HELP}",
    )
    train: str | None = flag(None, "training documents, in place of --data")
    valid: str | None = flag(None, "validation documents; else split off")
    test: str | None = flag(
        None, "test documents; else split off, or valid if train and valid are set"
    )
    clean: bool = flag(False, cleaning.SUMMARIES_HELP)
    extractive: bool = flag(False, spans.HELP)
    packages: str | None = flag(
        None, f"of docstrings: installed packages, or wheels; none: {summaries.PACKAGES}"
    )
    source_field: str | None = flag(
        None, "key of a document in .jsonl and .csv; none: document, article, body or text"
    )
    target_field: str | None = flag(
        None, "key of a summary; none: summary, highlights, subject or title"
    )
    model: Literal[
        "copying_transformer",
        "pointer_generator",
        "transformer_tiny",
        "transformer_small",
        "rnn_bahdanau",
        "rnn_luong",
    ] = flag("copying_transformer", "architecture, see kzoo.zoo; the first two copy words")
    init_from: str | None = flag(None, runs.INIT_FROM_HELP)
    freeze: Literal["encoder", "decoder"] | None = flag(None, runs.FREEZE_HELP)
    new_vocabulary: bool = flag(False, runs.NEW_VOCABULARY_HELP)
    tokenizer: Literal["words", "subwords"] = flag(
        "words", "one vocabulary for documents and summaries; of words, unknown ones are copied"
    )
    coverage_weight: float | None = flag(
        None, "models that copy: what looking at a word twice costs; none takes the model's own"
    )
    vocabulary_size: int = flag(8000, "most entries of the vocabulary")
    sampled: int = flag(
        0, "classes sampled for the softmax in training, for a large vocabulary; 0: all of them"
    )
    replace_unknown: bool = flag(
        True,
        "words, of a model that does not copy: an unknown word is answered by the source word it "
        "looked at most",
    )
    dropout: float | None = flag(None, "share dropped in training; none takes the model's own")
    norm_first: bool = flag(
        True,
        "transformers: pre-norm, faster and steadier on short runs; --no-norm_first: post-norm",
    )
    epochs: int = flag(100, "most passes over the training documents, or of 1,000 batches of them")
    minutes: float = flag(60.0, "time budget for training; the best weights so far are kept")
    batch_tokens: int = flag(8192, "tokens of a batch on either side, padding included")
    accumulate: int = flag(1, runs.ACCUMULATE_HELP)
    ema: float = flag(0.0, runs.EMA_HELP)
    recompute: bool = flag(False, runs.RECOMPUTE_HELP)
    learning_rate: float | None = flag(
        None,
        "peak of the schedule; none: 0.5 / sqrt(units x warmup_steps), for RNNs 0.001, and 0.0001 "
        "with --init_from",
    )
    warmup_steps: int = flag(1000, "steps to the peak, then decay with 1 / sqrt(step)")
    precision: Literal["auto", "float32", "mixed_bfloat16"] = flag(
        "auto", "auto takes mixed_bfloat16 where the CPU is fast in it: AMX, AVX512-BF16"
    )
    weights: Literal["float32", "bfloat16", "int8"] = flag("float32", runs.WEIGHTS_HELP)
    scheduled_sampling: float = flag(0.0, runs.SCHEDULED_SAMPLING_HELP)
    sampling_decay: Literal["linear", "exponential", "inverse_sigmoid"] = flag(
        "linear", runs.SAMPLING_DECAY_HELP
    )
    sampling_steps: int = flag(5000, runs.SAMPLING_STEPS_HELP)
    r_drop: float = flag(0.0, runs.R_DROP_HELP)
    subword_sampling: float = flag(0.0, runs.SUBWORD_SAMPLING_HELP)
    validation_documents: int = flag(200, "validation ROUGE-L is measured on this many documents")
    patience: int = flag(10, "epochs without a better validation ROUGE-L before it stops")
    average: int = flag(5, runs.AVERAGE_HELP)
    beam_size: int = flag(5, "hypotheses that beam search keeps", of_export=True)
    length_penalty: float = flag(1.0, "exponent of the length that log p is divided by")
    length_normalization: Literal["length", "gnmt"] = flag(
        "length",
        "what that length is: the tokens of the summary, or (5 + tokens) / 6, which is nearly the "
        "same for all short summaries, so that the shortest win",
    )
    min_tokens: int = flag(1, "fewest tokens of a summary, the end not counted")
    summary_tokens: int = flag(
        0, "tokens that a summary is to have, about; 0: as many as it likes, or as a head expects"
    )
    length_deviation_penalty: float | None = flag(
        None,
        "per token of deviation from summary_tokens or, without, from the length that a head, "
        "trained beside, expects; none: 1 with summary_tokens, else 0, no head",
    )
    no_repeat_ngram: int = flag(
        0, "no n-gram of so many tokens twice in a summary; 0: no such rule"
    )
    max_source_tokens: int = flag(400, "tokens that are read of a document; the rest is cut off")
    max_length: int = flag(64, "most tokens of a summary; longer ones are left out in training")
    seed: int = flag(0, "of weights, dropout, order, split and bootstrap")
    output: str | None = flag(
        None, "folder; none takes saved_models/summarization, or summarization-<name of other data>"
    )
    resume: bool = flag(False, runs.RESUME_HELP)
    save_minutes: float = flag(10.0, runs.SAVE_MINUTES_HELP)
    dry_run: bool = flag(False, runs.DRY_RUN_HELP)
    tensorboard: str | None = flag(None, runs.TENSORBOARD_HELP)
    profile: bool = flag(False, runs.PROFILE_HELP)
    workers: str | None = flag(None, runs.WORKERS_HELP)
    worker: int | None = flag(None, runs.WORKER_HELP)

    def __post_init__(self):
        cli.check_training(self)
        runs.check_workers(self)
        runs.check_scaling(self)
        runs.check_teaching(self)
        runs.check_subword_sampling(self)
        runs.check_start(self, taken=TAKEN)
        training_pairs.check_norm_first(self)
        if self.init_from is None:
            training_pairs.check_copying(self)
        for name in ("batch_tokens", "validation_documents", "max_source_tokens"):
            cli.check(self, name, least=1)
        for name in ("summary_tokens", "no_repeat_ngram", "min_tokens"):
            cli.check(self, name, least=0)
        penalty = self.length_deviation_penalty
        if penalty is not None and (penalty < 0 or (self.summary_tokens and not penalty)):
            rule = "positive with summary_tokens" if self.summary_tokens else "at least 0"
            raise ValueError(
                f"`length_deviation_penalty` must be {rule}, got length_deviation_penalty="
                f"{penalty}, summary_tokens={self.summary_tokens}."
            )
        for name in ("summary_tokens", "min_tokens"):
            if (value := getattr(self, name)) >= self.max_length:
                raise ValueError(
                    f"`{name}` must be less than max_length, "
                    f"got {name}={value}, max_length={self.max_length}."
                )

    @property
    def folder(self) -> Path:
        return sources.folder_of("summarization", self)

    @property
    def deviation_penalty(self) -> float:
        """Per token of deviation from the expected length."""
        if self.length_deviation_penalty is None:
            return float(self.summary_tokens > 0)
        return self.length_deviation_penalty

    @property
    def has_length_head(self) -> bool:
        """Whether the model learns how long a summary is to be."""
        return self.deviation_penalty > 0 and not self.summary_tokens

    @property
    def search(self) -> dict:
        """What a model in training and the exported one search with, but for the beam size."""
        is_word = self.tokenizer == "words" and self.model not in training_pairs.COPYING
        is_own = self.init_from is None  # of another model nobody knows
        return {
            "max_length": self.max_length,
            "max_source_length": self.max_source_tokens,
            "length_penalty": self.length_penalty,
            "replace_unknown": self.replace_unknown and is_word and is_own,
        }

    @property
    def search_options(self) -> dict:
        """Further options of the search, those that are not 0."""
        options = {
            "expected_length": self.summary_tokens,
            "length_deviation_penalty": self.deviation_penalty,
            "no_repeat_ngram": self.no_repeat_ngram,
            "min_length": self.min_tokens,
            "length_normalization": self.length_normalization,
        }
        return {name: value for name, value in options.items() if value}


def main(config: Config) -> dict[str, float]:
    """Loads, builds, fits, scores, exports; returns the test scores."""
    runs.workers_of(config)  # joins them, before TensorFlow computes
    runs.check_places(config)
    cli.require("rouge_score", "matplotlib", extra="recipes")
    if config.tokenizer == "subwords":
        cli.require("sentencepiece", extra="recipes")
    splits = load_summaries(
        config.data,
        train=config.train,
        valid=config.valid,
        test=config.test,
        packages=config.packages,
        source_field=config.source_field,
        target_field=config.target_field,
        seed=config.seed,
    )
    if config.clean:
        splits = cleaning.cleaned(splits, rules=cleaning.SUMMARIES)
    summaries = splits.train  # as people wrote them
    if config.extractive:
        splits = spans.extractive(splits)
    sides = (side for pairs in splits[:2] for side in (pairs.source, pairs.target))
    with runs.opened_run(config, config.folder, runs.fingerprint(*sides)) as run:
        runs.seed(config.seed)
        if config.init_from is None:
            model = build(learn_tokenizer(splits.train, config), config)
        else:
            model = start(splits.train, config)
        left_out = fit(model, splits, run, config)
        saved = export_and_score(model, splits, summaries, left_out, run, config)
        runs.show_answers(saved.path, shown_documents(runs.scored_split(splits)[1]))
    runs.say_how_to_ask(saved.path, "a text")
    return runs.scores_of(saved)


def learn_tokenizer(train: Pairs, config: Config) -> kzoo.text.Tokenizer:
    """One for both sides, of what is read of the documents, and of the summaries."""
    limit = config.max_source_tokens  # a word is at least a token
    read = [" ".join(text.split()[:limit]) for text in train.source]
    return runs.learn_tokenizer(config.tokenizer, read + train.target, config.vocabulary_size)


def start(train: Pairs, config: Config) -> kzoo.Seq2Seq:
    """Goes on from a trained model, with its vocabulary or with one of the data."""
    model = runs.start(config, "texts")
    runs.check_length_head(model, config, config.has_length_head)
    if config.new_vocabulary:
        model = runs.with_vocabulary(model, (learn_tokenizer(train, config),) * 2, config)
    return runs.compiled(model, config, runs.RATE)


def build(tokenizer: kzoo.text.Tokenizer, config: Config) -> kzoo.Seq2Seq:
    """Builds and compiles the model in the precision asked for."""
    options = {"length_head": config.has_length_head}
    if config.coverage_weight is not None:
        options["coverage_weight"] = config.coverage_weight
    return training_pairs.build(tokenizer, tokenizer, config, **options)


def fit(model, splits: Splits, run: Path, config: Config) -> str:
    """Trains within the budget and leaves the best weights in the model; returns what the card says
    of examples that were left out."""
    limits = {"max_length": config.max_length, "max_source_tokens": config.max_source_tokens}
    place = config.train or config.data
    train, draw = mixing.mixed(model, {"": splits.train}, place, **limits)
    too_long = len(splits.train) - int(train.source.nrows())
    valid = training_pairs.tokenize(model, splits.valid, "valid", **limits)
    train = training_pairs.sampled_subwords(model, train, config, config.max_source_tokens)
    batches, valid_batches = training_pairs.make_batches(model, train, valid, run, config, draw)
    score = validation_rouge(model, splits.valid, config)
    runs.fit(model, batches, valid_batches, score, run, config, monitor="val_rouge_l")
    return runs.left_out({f"with summaries over {config.max_length} tokens": too_long})


def validation_rouge(model, valid: Pairs, config: Config) -> Callable[[], float]:
    """The function that measures ROUGE-L of the model, greedily, on some validation documents."""
    generate = model.text_generator(beam_size=1, **config.search, **config.search_options)
    rows = runs.spread_rows(config.validation_documents, len(valid))
    documents, references = (
        [side[row] for row in rows] for side in (valid.source, valid.references)
    )
    tokenize = kzoo.metrics.rouge_tokenizer(valid.target)

    def score():
        values = kzoo.metrics.rouge_values(generate(documents), references, tokenize)
        return float(values["ROUGE-L"].mean())

    return score


def export_and_score(
    model, splits: Splits, summaries: Pairs, left_out: str, run: Path, config: Config
) -> kzoo.export.Saved:
    """Writes the SavedModel, scores the test set with it, and draws what there is to see.
    `summaries` are those of the training as people wrote them, which baselines are like."""
    journal = runs.open_journal(run)
    name, part = runs.scored_split(splits)

    def evaluate(served):
        answers, seconds = runs.answers_of(served, part.source, "document", chunk=256)
        scores = summary_scores(answers, part, summaries, config.seed)
        print(f"\n{table(scores)}\n", flush=True)
        return runs.said({f"{name} {label}": score for label, score in scores.items()}) | {
            "words of an answer, mean": mean_words(answers),
            "words of a reference, mean": mean_words(part.target),
            "documents a second": round(len(answers) / seconds, 1),
        }

    saved = kzoo.export.save(
        model,
        kzoo.export.next_version(config.folder),
        precision=runs.export_precision(config.weights),
        beam_size=config.beam_size,
        search_options=config.search_options,
        **config.search,
        card={
            "name": "Summarization",
            "data": f"{config.train or config.data}; training: {splits.train}{left_out}",
            "scored on": f"{name}: {part}",
            "licence": sources.licences(LICENCES, config.data, config.train),
        }
        | runs.provenance("summarization", config, journal.minutes),
        evaluate=evaluate,
    )
    with runs.drawing(saved.path):
        draw(saved.served, journal.history(), part)
    return saved


def mean_words(texts: list[str]) -> float:
    return round(statistics.mean(len(text.split()) for text in texts), 2)


def shown_documents(part: Pairs) -> list[str]:
    """Five documents over the whole set, cut to what one reads at a glance."""
    rows = runs.spread_rows(5, len(part))
    return [part.source[row][:SHOWN_CHARACTERS] for row in rows]


def draw(served, history: dict, part: Pairs) -> None:
    """Writes the learning curve and up to three attention maps beside the model."""
    kzoo.plots.learning_curve(history, served.path / "learning_curve.png")
    both = list(zip(part.source, part.target, strict=True))
    worth_a_look = [pair for pair in both if 10 <= len(pair[0].split()) <= 40]
    runs.draw_attention(served, worth_a_look or both)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
