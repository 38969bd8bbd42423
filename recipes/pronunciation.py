"""Pronunciation: from a dictionary to a SavedModel that takes words and returns phonemes.

    python -m recipes.pronunciation                                   English, the CMU dictionary
    python -m recipes.pronunciation --no-stress --minutes 120
    python -m recipes.pronunciation --data gruut-nl                   Dutch
    python -m recipes.pronunciation --ensemble 5 --minutes 300        five models that answer as one
    python -m recipes.pronunciation --data dut_train.tsv --valid dut_dev.tsv --test dut_test.tsv
    python -m recipes.pronunciation --train train.dict --valid dev.dict --exclude test_words.txt
    python -m recipes.pronunciation --data names.tsv --init_from pronunciation-en
    python -m recipes.pronunciation --data lexicon.csv --columns 1,3 --no-lowercase
    python -m recipes.pronunciation --data cmudict:2,mine.tsv:1 --clean

A run reads words letter by letter, trains on each of their pronunciations with progress bars and
validation, scores the test words with the exported SavedModel, and leaves in <output>/<version>/
the model, model_card.md, metrics.json, learning_curve.png and attention maps. Interrupted, it goes
on with --resume. What it reached on which data, with every flag, stands in recipes/README.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data import cleaning, sources
from recipes.data.examples import Words
from recipes.data.pronunciations import load_pronunciations
from recipes.data.pronunciations_packages import NAMED
from recipes.data.splits import Splits
from recipes.runs import mixing, training_pairs
from recipes.runs.pronunciation_scores import error_rates, rates_of_sources

# Flags that describe a new model; refused with --init_from.
TAKEN = (
    *("model", "units", "layers", "hidden_units", "dropout", "label_smoothing", "norm_first"),
    *("vocabulary_size", "sampled"),
)
LICENCES = {name: named.licence for name, named in NAMED.items()}
RATE = 1e-3  # the peak of a model that begins with nothing
SHOWN = 3  # words whose best hypotheses the card shows
FIXED_SIZES = ("transformer_tiny", "transformer_small")


@dataclass(frozen=True)
class Config:
    """The flags of the recipe; `--help` shows them."""

    data: str = flag(
        "cmudict",
        "cmudict, gruut-nl (Dutch), or a file: of the form of CMUdict, old or new, or .tsv or "
        f".csv; {sources.HELP}",
    )
    train: str | None = flag(None, "training words, in place of --data")
    valid: str | None = flag(None, "validation words; else split off")
    test: str | None = flag(None, "test words; else split off, or valid if train and valid are set")
    exclude: str | None = flag(
        None, "file of words that are kept out of training and validation, as of a standard test"
    )
    clean: bool = flag(False, cleaning.PRONUNCIATIONS_HELP)
    columns: str | None = flag(
        None, "of tables, words and phonemes, counted from 1, as 1,3; none: 1,2, or by their names"
    )
    stress: bool = flag(
        True, "--no-stress strips the digits from ARPAbet's vowels and the marks of the IPA"
    )
    lowercase: bool = flag(True, "words are read in lower case, in training and by the model")
    model: Literal[
        "pronunciation_transformer",
        "transformer_tiny",
        "transformer_small",
        "rnn_luong",
        "rnn_bahdanau",
    ] = flag("pronunciation_transformer", "architecture, see kzoo.zoo")
    init_from: str | None = flag(None, runs.INIT_FROM_HELP)
    freeze: Literal["encoder", "decoder"] | None = flag(None, runs.FREEZE_HELP)
    new_vocabulary: bool = flag(
        False,
        "with --init_from: letters and phonemes are those of the data; those that the model has, "
        "too, keep their weights",
    )
    ensemble: int = flag(
        1, "models of different seeds, trained one after the other, that answer together"
    )
    units: int | None = flag(None, "size of embeddings and states; none takes the model's own")
    layers: int | None = flag(None, "of the encoder and of the decoder; none: the model's own")
    hidden_units: int | None = flag(
        None, "pronunciation_transformer: of the feed-forward layers; none: the model's own"
    )
    dropout: float | None = flag(None, "share dropped in training; none takes the model's own")
    label_smoothing: float | None = flag(
        None, "share of the probability that the loss spreads; none takes the model's own"
    )
    norm_first: bool = flag(
        True, "transformers: pre-norm, steadier at high rates; --no-norm_first: post-norm"
    )
    vocabulary_size: int = flag(1000, "most letters, and most phonemes, with the 4 special ids")
    sampled: int = flag(0, "classes sampled for the softmax in training; 0: all of them")
    epochs: int = flag(1000, "most passes over the training pronunciations")
    minutes: float = flag(60.0, "time budget for training; an ensemble's models share it")
    batch_tokens: int = flag(4096, "tokens of a batch on either side, padding included")
    learning_rate: float | None = flag(
        None, "peak of the schedule; none: 0.001, and 0.0001 with --init_from"
    )
    warmup_steps: int = flag(1000, "steps to the peak")
    decay: Literal["budget", "inverse_sqrt"] = flag(
        "budget", "budget: linearly to 0 at the end of the minutes or epochs; or 1 / sqrt(step)"
    )
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
    validation_words: int = flag(1000, "validation WER is measured on this many words")
    patience: int = flag(
        1000, "epochs without a better validation WER before it stops; much is learnt at the end"
    )
    average: int = flag(5, runs.AVERAGE_HELP)
    beam_size: int = flag(5, "hypotheses that beam search keeps", of_export=True)
    length_penalty: float = flag(0.6, "exponent of the GNMT length penalty")
    max_length: int = flag(48, "most letters of a word and phonemes; longer ones are left out")
    seed: int = flag(0, "of weights, dropout, order and split")
    output: str | None = flag(
        None, "folder; none takes saved_models/pronunciation, or pronunciation-<name of other data>"
    )
    resume: bool = flag(False, runs.RESUME_HELP)
    save_minutes: float = flag(10.0, runs.SAVE_MINUTES_HELP)
    dry_run: bool = flag(False, runs.DRY_RUN_HELP)
    tensorboard: str | None = flag(None, runs.TENSORBOARD_HELP)
    profile: bool = flag(False, runs.PROFILE_HELP)

    def __post_init__(self):
        cli.check_training(self)
        runs.check_teaching(self)
        runs.check_start(self, taken=TAKEN)
        for name in ("batch_tokens", "validation_words", "ensemble"):
            cli.check(self, name, least=1)
        cli.check_share(self, "label_smoothing")
        for name in ("units", "layers", "hidden_units"):
            cli.check_positive(self, name)
        training_pairs.check_norm_first(self)
        is_fixed, is_rnn = self.model in FIXED_SIZES, self.model.startswith("rnn")
        for name, is_taken in (("units", not is_fixed), ("hidden_units", not (is_fixed or is_rnn))):
            if getattr(self, name) is not None and not is_taken:
                raise ValueError(
                    f"`{name}` must be none for {self.model}, got {name}={getattr(self, name)}."
                )

    @property
    def folder(self) -> Path:
        return sources.folder_of("pronunciation", self)

    @property
    def rate(self) -> float:
        """The peak of the schedule."""
        if self.learning_rate is not None:
            return self.learning_rate
        return RATE if self.init_from is None else runs.RATE

    @property
    def has_schedule(self) -> bool:
        """Whether the rate is a function of the step, not of the budget."""
        return self.decay == "inverse_sqrt"

    @property
    def search(self) -> dict[str, float]:
        """What a model in training and the exported one search with, but for the beam size."""
        return {
            "max_length": self.max_length,
            "max_source_length": self.max_length,
            "length_penalty": self.length_penalty,
        }


def main(config: Config) -> dict[str, float]:
    """Loads, builds, fits, scores, exports; returns the test scores."""
    runs.check_places(config)
    cli.require("jiwer", "matplotlib", extra="recipes")
    splits = load_pronunciations(
        config.data,
        train=config.train,
        valid=config.valid,
        test=config.test,
        exclude=config.exclude,
        columns=config.columns,
        stress=config.stress,
        lowercase=config.lowercase,
        seed=config.seed,
    )
    if config.clean:
        rules = cleaning.PRONUNCIATIONS
        splits = cleaning.cleaned(splits, rules=rules, what="pronunciations")
    parts = (words.pairs for words in splits[:2])
    sides = (side for pairs in parts for side in (pairs.source, pairs.target))
    with runs.opened_run(config, config.folder, runs.fingerprint(*sides)) as run:
        numbers = range(1, config.ensemble + 1)
        trained = [train(number, splits, member(run, number), config) for number in numbers]
        models, left_out = [model for model, _ in trained], trained[0][1]
        saved = export_and_score(models, splits, left_out, run, config)
        words = runs.scored_split(splits)[1].words
        runs.show_answers(saved.path, [words[row] for row in runs.spread_rows(5, len(words))])
    runs.say_how_to_ask(saved.path, "hello")
    return runs.scores_of(saved)


def learn_tokenizers(
    train: Words, config: Config
) -> tuple[kzoo.text.Tokenizer, kzoo.text.Tokenizer]:
    """Of letters and of phonemes."""
    pairs, size = train.pairs, config.vocabulary_size
    return (
        runs.learn_tokenizer("characters", pairs.source, size, lowercase=config.lowercase),
        runs.learn_tokenizer("phonemes", pairs.target, size),
    )


def member(run: Path, number: int) -> Path:
    """The folder of the run of one of the models, from 1 on."""
    folder = run / runs.MEMBERS / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def train(number: int, splits: Splits, run: Path, config: Config) -> tuple[kzoo.Seq2Seq, str]:
    """Trains one of the models within its share of the budget, or loads what is trained already;
    returns it and what `fit` does."""
    if config.ensemble > 1:
        print(f"\nModel {number} of {config.ensemble}", flush=True)
    config = dataclasses.replace(
        config,
        minutes=config.minutes / config.ensemble,
        seed=config.seed + number - 1,
        learning_rate=config.rate,
    )
    runs.seed(config.seed)
    if config.init_from is None:
        model = build(*learn_tokenizers(splits.train, config), config)
    else:
        model = start(splits.train, config)
    return model, fit(model, splits, run, config)


def start(train: Words, config: Config) -> kzoo.Seq2Seq:
    """Goes on from a trained model, with its letters and phonemes or with those of the data."""
    model = runs.start(config, "texts")
    if config.new_vocabulary:
        model = runs.with_vocabulary(model, learn_tokenizers(train, config), config)
    return runs.compiled(model, config, config.rate, has_schedule=config.has_schedule)


def build(source_tokenizer, target_tokenizer, config: Config) -> kzoo.Seq2Seq:
    """Builds and compiles a model in the precision asked for."""
    options = {
        "units": config.units,
        "num_layers": config.layers,
        "hidden_units": config.hidden_units,
        "label_smoothing": config.label_smoothing,
    }
    options = {name: value for name, value in options.items() if value is not None}
    return training_pairs.build(
        source_tokenizer, target_tokenizer, config, has_schedule=config.has_schedule, **options
    )


def fit(model, splits: Splits, run: Path, config: Config) -> str:
    """Trains within the budget and leaves the best weights in the model; returns what the card says
    of examples that were left out."""
    limits, place = {"max_length": config.max_length}, config.train or config.data
    pairs = splits.train.pairs
    train, draw = mixing.mixed(model, {"": pairs}, place, **limits)
    too_long = len(pairs) - int(train.source.nrows())
    once = dataclasses.replace(splits.valid, places={}).pairs  # and not for each source
    valid = training_pairs.tokenize(model, once, "valid", **limits)
    batches, valid_batches = training_pairs.make_batches(model, train, valid, run, config, draw)
    score = validation_score(model, splits.valid, config)
    callbacks = []
    if not config.has_schedule:
        steps = config.epochs * min(int(batches.cardinality()), runs.EPOCH_BATCHES)
        spent = runs.position(run).minutes
        callbacks = [
            kzoo.training.BudgetDecay(
                config.learning_rate, config.warmup_steps, config.minutes, steps, spent
            )
        ]
    runs.fit(model, batches, valid_batches, score, run, config, "val_words_right", callbacks)
    return runs.left_out({f"pronunciations over {config.max_length} tokens": too_long})


def validation_score(model, valid: Words, config: Config) -> Callable[[], float]:
    """The function that measures the share of validation words, in %, that are right by greedy
    search: 100 - WER."""
    generate = model.text_generator(beam_size=1, batch_size=256, **config.search)
    rows = runs.spread_rows(config.validation_words, len(valid))
    words, references = (
        [side[row] for row in rows] for side in (valid.words, valid.all_references)
    )

    def score():
        return 100 - kzoo.metrics.pronunciation_error_rate(generate(words), references).value

    return score


def export_and_score(
    models: list, splits: Splits, left_out: str, run: Path, config: Config
) -> kzoo.export.Saved:
    """Writes the SavedModel, scores the test words with it, and draws what there is to see."""
    journals = [runs.open_journal(member(run, n)) for n in range(1, len(models) + 1)]
    name, part = runs.scored_split(splits)

    def evaluate(served):
        best, seconds = runs.answers_of(served.n_best, part.words, "word", chunk=1024)
        hypotheses = [[text for text, _ in row] for row in best]
        count = config.beam_size
        oracle = kzoo.metrics.best_error_rate(hypotheses, part.references, count)
        answers = [row[0] for row in hypotheses]
        found = error_rates(answers, part) | {f"WER of the best {count}": oracle}
        found |= rates_of_sources(answers, part)
        scores = runs.said({f"{name} {label}": score for label, score in found.items()})
        for number, model in enumerate(models if len(models) > 1 else [], start=1):
            generate = model.text_generator(beam_size=count, batch_size=256, **config.search)
            answers, _ = runs.answers_of(generate, part.words, "word", chunk=2048)
            scores |= runs.said(
                {
                    f"{name} {label}, model {number} alone": score
                    for label, score in error_rates(answers, part).items()
                }
            )
        shown = runs.spread_rows(SHOWN, len(part))
        listed = {f"best of {part.words[row]}": "; ".join(hypotheses[row]) for row in shown}
        return scores | listed | {"words a second": round(len(best) / seconds, 1)}

    saved = kzoo.export.save(
        models[0] if len(models) == 1 else kzoo.Ensemble(models),
        kzoo.export.next_version(config.folder),
        precision=runs.export_precision(config.weights),
        beam_size=config.beam_size,
        **config.search,
        card={
            "name": "Pronunciation",
            "data": f"{config.train or config.data}; training: {splits.train}{left_out}",
            "scored on": f"{name}: {part}",
            "licence": sources.licences(LICENCES, config.data, config.train),
        }
        | runs.provenance("pronunciation", config, sum(journal.minutes for journal in journals)),
        evaluate=evaluate,
    )
    with runs.drawing(saved.path):
        draw(saved.served, [journal.history() for journal in journals], part)
    return saved


def draw(served, histories: list[dict], part: Words) -> None:
    """Writes the learning curve of each model and up to three attention maps beside them."""
    for number, history in enumerate(histories, start=1):
        end = "" if len(histories) == 1 else f"-{number}"
        kzoo.plots.learning_curve(history, served.path / f"learning_curve{end}.png")
    examples = [(word, row[0]) for word, row in part.rows.items()]
    runs.draw_attention(served, [each for each in examples if 6 <= len(each[0]) <= 16] or examples)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
