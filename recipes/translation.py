"""Translation: from parallel texts to a SavedModel that takes strings and returns strings.

    python -m recipes.translation                                     English to German, UI texts
    python -m recipes.translation --target_language fr --minutes 30
    python -m recipes.translation --data libreoffice-help --model transformer_small
    python -m recipes.translation --train corpus/train --valid corpus/dev --test corpus/test
    python -m recipes.translation --data my_pairs.tsv --source_language en --target_language cs
    python -m recipes.translation --tokenizer words --vocabulary_size 60000 --sampled 2048

A run learns a vocabulary, trains with progress bars and validation BLEU, scores the test set with
the exported SavedModel, and leaves in <output>/<version>/ the model, model_card.md, metrics.json,
learning_curve.png and attention maps. Interrupted, it goes on with --resume.
What it reached on which data, with every flag, stands in the README under Results.
"""

import functools
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

import kzoo
from kzoo import batching, export, metrics, plots, text, training, zoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data import examples
from recipes.data.pairs import load_pairs
from recipes.data.splits import Splits

# What sacrebleu takes for languages without spaces; "13a", its default, for all others.
BLEU_TOKENIZERS = {"zh": "zh", "ja": "char", "th": "char"}
LICENCES = {  # of the named sources
    "homeassistant": "Apache-2.0",
    "libreoffice-help": "MPL-2.0",
    "debian-descriptions": "the packages' own, mixed; not to be passed on",
}


@dataclass(frozen=True)
class Config:
    """The flags of the recipe; `--help` shows them."""

    data: str = flag(
        "homeassistant",
        "homeassistant, libreoffice-help, debian-descriptions, or a file or Moses prefix",
    )
    source_language: str = flag("en", "code of the language to translate from")
    target_language: str = flag("de", "code of the language to translate into")
    train: str | None = flag(
        None, "training pairs, in place of --data: a file, a Moses prefix or two files, a,b"
    )
    valid: str | None = flag(None, "validation pairs; else split off")
    test: str | None = flag(None, "test pairs; else split off, or valid if train and valid are set")
    model: Literal[
        "rnn_fixed",
        "rnn_bahdanau",
        "rnn_luong",
        "transformer_tiny",
        "transformer_small",
        "transformer_base",
    ] = flag("transformer_tiny", "architecture, see kzoo.zoo")
    tokenizer: Literal["subwords", "characters", "words"] = flag(
        "subwords", "subwords share one vocabulary between both languages"
    )
    vocabulary_size: int = flag(8000, "most entries of a vocabulary")
    sampled: int = flag(
        0, "classes sampled for the softmax in training, for a large vocabulary; 0: all of them"
    )
    replace_unknown: bool = flag(
        True, "words: an unknown word is answered by the source word it looked at most"
    )
    candidates: int = flag(
        0,
        "words: answers consist of so many most frequent words, and of those that were aligned "
        "with a word of the source in training; 0: of all words",
    )
    dropout: float | None = flag(None, "share dropped in training; none takes the model's own")
    norm_first: bool = flag(
        True,
        "transformers: pre-norm, faster and steadier on short runs; --no-norm_first: post-norm",
    )
    epochs: int = flag(100, "most passes over the training pairs, or of 1,000 batches of them")
    minutes: float = flag(60.0, "time budget for training; the best weights so far are kept")
    batch_tokens: int = flag(4096, "tokens of a batch on either side, padding included")
    learning_rate: float | None = flag(
        None, "peak of the schedule; none: 0.5 / sqrt(units x warmup_steps) or, for RNNs, 0.001"
    )
    warmup_steps: int = flag(1000, "steps to the peak, then decay with 1 / sqrt(step)")
    precision: Literal["auto", "float32", "mixed_bfloat16"] = flag(
        "auto", "auto takes mixed_bfloat16 where the CPU multiplies matrices in it (AMX)"
    )
    validation_pairs: int = flag(200, "validation BLEU is measured on this many pairs")
    patience: int = flag(10, "epochs without a better validation BLEU before it stops")
    average: int = flag(5, runs.AVERAGE_HELP)
    beam_size: int = flag(5, "hypotheses that beam search keeps")
    length_penalty: float = flag(0.6, "exponent of the GNMT length penalty")
    length_deviation_penalty: float = flag(
        0.0,
        "per token of deviation from the length that a head, trained beside, expects; 0: no head",
    )
    max_length: int = flag(128, "most tokens of a source or target; longer pairs are left out")
    seed: int = flag(0, "of weights, dropout, order and split")
    output: str | None = flag(None, "folder; none takes saved_models/translation-<from>-<to>")
    resume: bool = flag(False, "go on with the interrupted run in the output folder")

    def __post_init__(self):
        cli.check_training(self)
        for name in ("batch_tokens", "validation_pairs"):
            cli.check(self, name, least=1)
        cli.check(self, "length_deviation_penalty", least=0)
        if self.candidates and (self.candidates < 4 or not self.copies_words):
            raise ValueError(
                "`candidates` must be 0 or at least 4, and needs words and a model with attention, "
                f"got candidates={self.candidates}, tokenizer={self.tokenizer}, "
                f"model={self.model}."
            )

    @property
    def bleu_tokenizer(self) -> str:
        return BLEU_TOKENIZERS.get(self.target_language.replace("_", "-").split("-")[0], "13a")

    @property
    def copies_words(self) -> bool:
        """Whether attention says which source word a target word comes from."""
        return self.tokenizer == "words" and self.model != "rnn_fixed"

    @property
    def folder(self) -> Path:
        pair = f"translation-{self.source_language}-{self.target_language}"
        return Path(self.output or f"saved_models/{pair}")


def main(config: Config) -> dict[str, float]:
    """Loads, builds, fits, scores, exports; returns the test scores."""
    cli.require("sacrebleu", "matplotlib", extra="recipes")
    if config.tokenizer == "subwords":
        cli.require("sentencepiece", extra="recipes")
    keras.utils.set_random_seed(config.seed)
    splits = load_pairs(
        config.data,
        source_language=config.source_language,
        target_language=config.target_language,
        train=config.train,
        valid=config.valid,
        test=config.test,
        seed=config.seed,
    )
    sides = (side for pairs in splits[:2] for side in (pairs.source, pairs.target))
    run = runs.open_run(config, config.folder, runs.fingerprint(*sides))
    source_tokenizer, target_tokenizer = learn_tokenizers(splits.train, config)
    model = build(source_tokenizer, target_tokenizer, config)
    fit(model, splits, run, config)
    path, scores = export_and_score(model, splits, run, config)
    texts = (splits.test or splits.valid).source
    runs.show_answers(path, texts[:: math.ceil(len(texts) / 5)])
    runs.remove_run(run)
    print(f"{path} is a SavedModel; ask it with: python -m kzoo {path} 'a text'")
    return scores


def learn_tokenizers(
    train: examples.Pairs, config: Config
) -> tuple[text.Tokenizer, text.Tokenizer]:
    """Subwords: one joint vocabulary. Characters and words: one for each language."""
    print(f"Learning a vocabulary of {config.tokenizer} from {2 * len(train):,} texts", flush=True)
    if config.tokenizer == "subwords":
        both = text.SubwordTokenizer.learn(train.source + train.target, config.vocabulary_size)
        return both, both
    tokenizer = text.WordTokenizer if config.tokenizer == "words" else text.CharacterTokenizer
    return (
        tokenizer.learn(train.source, config.vocabulary_size),
        tokenizer.learn(train.target, config.vocabulary_size),
    )


def build(source_tokenizer, target_tokenizer, config: Config) -> kzoo.Seq2Seq:
    """Builds and compiles the model in the precision asked for."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(cli.precision(config.precision))
    is_rnn = config.model.startswith("rnn")
    options = {} if is_rnn else {"norm_first": config.norm_first}
    options |= {} if config.dropout is None else {"dropout": config.dropout}
    options |= {"num_sampled": min(config.sampled, target_tokenizer.vocabulary_size())}
    model = getattr(zoo, config.model)(source_tokenizer, target_tokenizer, **options)
    if config.length_deviation_penalty:
        model.length_head = kzoo.LengthHead(dtype="float32")
    keras.config.set_dtype_policy(policy)
    rate = config.learning_rate
    if rate is None:
        rate = 1e-3 if is_rnn else 0.5 * (model.head.units * config.warmup_steps) ** -0.5
    schedule = training.InverseSquareRoot(rate, config.warmup_steps)
    adam = training.LazyAdam if config.sampled else training.FusedAdam
    model.compile(adam(schedule, beta_2=0.98, epsilon=1e-9, global_clipnorm=1.0))
    return model


def tokenize(model, pairs: examples.Pairs, max_length: int, name: str) -> batching.Corpus:
    """Tokenizes pairs and leaves out, with a count, those longer than `max_length` tokens."""
    source = batching.tokenize(model.source_tokenizer, pairs.source)
    target = batching.tokenize(model.target_tokenizer, pairs.target)
    fits = tf.maximum(source.row_lengths(), target.row_lengths()) < max_length
    corpus = batching.Corpus(
        tf.ragged.boolean_mask(source, fits), tf.ragged.boolean_mask(target, fits)
    )
    tokens = int(corpus.target.row_lengths().numpy().sum())
    left_out = len(pairs) - int(corpus.source.nrows())
    print(f"{name}: {tokens:,} target tokens; {left_out:,} pairs over {max_length} tokens left out")
    if left_out == len(pairs):
        raise ValueError(
            f"`max_length` must leave at least one pair in {name}, got max_length={max_length}."
        )
    return corpus


def fit(model, splits: Splits, run: Path, config: Config) -> None:
    """Trains within the budget and leaves the best weights in the model."""
    train = tokenize(model, splits.train, config.max_length, "train")
    valid = tokenize(model, splits.valid, config.max_length, "valid")
    journal = runs.open_journal(run)
    # With the epochs done in the seed, a resumed run does not repeat the first ones' batches.
    seed = [config.seed, journal.epochs]
    batches = batching.token_batches(train, config.batch_tokens, seed=seed)
    steps = int(batches.cardinality())
    lengths = train.source.row_lengths().numpy(), train.target.row_lengths().numpy()
    planned = batching.plan(*lengths, config.batch_tokens, np.random.default_rng(seed))
    print(f"{steps:,} batches, {batching.padding_share(*lengths, planned):.1%} of them padding")

    # Makes the weights, which a backup is restored into; all logits of a batch may be gigabytes.
    model({name: ids[:1] for name, ids in next(iter(batches))[0].items()})
    model.optimizer.build(model.trainable_variables)
    print(f"{config.model}: {model.count_params():,} parameters")

    generate = model.text_generator(
        beam_size=1,
        max_length=config.max_length,
        max_source_length=config.max_length,
        replace_unknown=config.replace_unknown and config.copies_words,
    )
    # Evenly spaced, since the pairs of a component or file stand together.
    count = min(config.validation_pairs, len(splits.valid))
    rows = np.linspace(0, len(splits.valid) - 1, count).astype(int)
    source, target = (
        [side[i] for i in rows] for side in (splits.valid.source, splits.valid.target)
    )

    def validation_bleu():
        answers = generate(source)
        return metrics.bleu(answers, target, tokenize=config.bleu_tokenizer, force=True).value

    valid_batches = batching.token_batches(valid, config.batch_tokens)
    runs.fit(model, batches, valid_batches, validation_bleu, run, config, monitor="val_bleu")


def learn_lexicon(model, train: examples.Pairs, config: Config) -> kzoo.Lexicon | None:
    """The candidate lists of --candidates, from the alignments of the training pairs."""
    if not config.candidates:
        return None
    print("Learning a lexicon from the alignments of the training pairs", flush=True)
    batches = batching.token_batches(
        tokenize(model, train, config.max_length, "train"), config.batch_tokens
    )
    frequent = min(config.candidates, model.target_tokenizer.vocabulary_size())
    return kzoo.Lexicon.learn(model, batches, frequent)


def export_and_score(model, splits: Splits, run: Path, config: Config):
    """Writes the SavedModel, scores the test set with it, and draws what there is to see."""
    journal = runs.open_journal(run)
    name, pairs = ("valid", splits.valid) if splits.test is None else ("test", splits.test)
    figures = {}
    bleu = functools.partial(metrics.bleu, tokenize=config.bleu_tokenizer)

    def evaluate(served):
        start = time.monotonic()
        answers = translate(served, pairs.source)
        seconds = time.monotonic() - start
        scores = {
            f"{name} BLEU": bleu(answers, pairs.target),
            f"{name} BLEU, lower case": bleu(answers, pairs.target, lowercase=True),
            f"{name} chrF2": metrics.chrf(answers, pairs.target),
        }
        for score in scores.values():
            print(f"{name}: {score}")
        figures.update({label: score.value for label, score in scores.items()})
        return scores | {"sentences a second": round(len(answers) / seconds, 1)}

    penalty = config.length_deviation_penalty
    length_options = {"length_deviation_penalty": penalty} if penalty else None
    path = export.save(
        model,
        export.next_version(config.folder),
        beam_size=config.beam_size,
        length_penalty=config.length_penalty,
        max_length=config.max_length,
        max_source_length=config.max_length,
        search_options=length_options,
        replace_unknown=config.replace_unknown and config.copies_words,
        lexicon=learn_lexicon(model, splits.train, config),
        card={
            "name": f"Translation {config.source_language} to {config.target_language}",
            "data": f"{config.train or config.data}; training: {splits.train}",
            "scored on": f"{name}: {pairs}",
            "licence": LICENCES.get(config.data if config.train is None else "", "as the data's"),
            "command": "python -m recipes.translation " + " ".join(cli.changed(config)),
            "time": f"{journal.minutes:.1f} minutes of training",
            "machine": cli.machine(),
        },
        evaluate=evaluate,
    )
    try:
        draw(export.load(path), journal.history(), pairs)
    except Exception as error:  # a picture is not worth a finished training
        warnings.warn(f"{path} is whole, but lacks a picture: {error!r}", stacklevel=2)
    return path, figures


def draw(served, history: dict, pairs: examples.Pairs) -> None:
    """Writes the learning curve and up to three attention maps beside the model."""
    plots.learning_curve(history, served.path / "learning_curve.png")
    worth_a_look = [
        row for row, source in enumerate(pairs.source) if 5 <= len(source.split()) <= 20
    ]
    number = 0
    for row in (worth_a_look or range(len(pairs)))[:20]:
        drawn = served.align(pairs.source[row])
        if not any(drawn.source_tokens) or not any(drawn.target_tokens):
            continue  # nothing was read or said
        number += 1
        plots.attention_map(
            drawn.weights,
            drawn.source_tokens,
            drawn.target_tokens,
            served.path / f"attention-{number}.png",
            title=f"reference: {pairs.target[row]}",
        )
        if number == 3:
            break


def translate(served, texts: list[str], chunk: int = 256) -> list[str]:
    """Answers of the SavedModel, under a progress bar."""
    progress = keras.utils.Progbar(len(texts), unit_name="sentence")
    answers = []
    for start in range(0, len(texts), chunk):
        answers += served(texts[start : start + chunk])
        progress.update(len(answers))
    return answers


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
