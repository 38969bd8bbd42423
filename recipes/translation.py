"""Translation: from parallel texts to a SavedModel that takes strings and returns strings.

    python -m recipes.translation                                     English to German, UI texts
    python -m recipes.translation --target_language fr --minutes 30
    python -m recipes.translation --data libreoffice-help --model transformer_small
    python -m recipes.translation --train corpus/train --valid corpus/dev --test corpus/test
    python -m recipes.translation --data my_pairs.tsv --source_language en --target_language cs
    python -m recipes.translation --data WikiMatrix.de-en.tsv.gz --columns 2,3 \\
        --source_language de --target_language en
    python -m recipes.translation --tokenizer words --vocabulary_size 60000 --sampled 2048
    python -m recipes.translation --data mine.tsv --init_from Helsinki-NLP/opus-mt-en-de
    python -m recipes.translation --data homeassistant:1,mine.tsv:2 --clean
    python -m recipes.translation --target_language de,fr,it,es --output saved_models/en-many

With several target languages one model learns them all: the tag ">>fr<<" before a source says into
which to translate, and so does the input `language` of the SavedModel.

A run learns a vocabulary, trains with progress bars and validation BLEU, scores the test set with
the exported SavedModel, and leaves in <output>/<version>/ the model, model_card.md, metrics.json,
learning_curve.png and attention maps. Interrupted, it goes on with --resume.
What it reached on which data, with every flag, stands in recipes/README.md.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import kzoo
from kzoo.contents import LANGUAGE_CODE
from recipes import cli, runs
from recipes.cli import flag
from recipes.data import cleaning, examples, sources
from recipes.data.pairs import HOLE
from recipes.data.pairs_languages import load_languages
from recipes.data.splits import Splits
from recipes.runs import from_disk, languages, mixing, training_pairs, translation_scores

CHARACTERS_OF_A_TOKEN = {"subwords": 16, "characters": 1}  # at most: SentencePiece's limit
# Flags that describe a new model; refused with --init_from.
TAKEN = "model", "tokenizer", "vocabulary_size", "sampled", "candidates", "dropout", "norm_first"
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
        "homeassistant, libreoffice-help, debian-descriptions, or a file or Moses prefix; "
        f"{{language}} in a path is the target language; {sources.HELP}",
    )
    source_language: str = flag("en", "code of the language to translate from")
    target_language: str = flag(
        "de", "code of the language to translate into; or of several for one model, as de,fr,it"
    )
    mixing_temperature: float = flag(
        5.0,
        "of several target languages: the share of one of n pairs in a pass goes with "
        "n ** (1 / temperature); 1: as they are",
    )
    train: str | None = flag(
        None, "training pairs, in place of --data: a file, a Moses prefix or two files, a,b"
    )
    valid: str | None = flag(None, "validation pairs; else split off")
    test: str | None = flag(None, "test pairs; else split off, or valid if train and valid are set")
    clean: bool = flag(False, cleaning.HELP)
    on_disk: bool = flag(False, from_disk.HELP)
    columns: str | None = flag(
        None, "of .tsv and .txt files, source and target, counted from 1, as 2,3; none: 1,2"
    )
    model: Literal[
        "rnn_fixed",
        "rnn_bahdanau",
        "rnn_luong",
        "transformer_tiny",
        "transformer_small",
        "transformer_base",
    ] = flag("transformer_tiny", "architecture, see kzoo.zoo")
    init_from: str | None = flag(None, runs.INIT_FROM_HELP)
    freeze: Literal["encoder", "decoder"] | None = flag(None, runs.FREEZE_HELP)
    new_vocabulary: bool = flag(False, runs.NEW_VOCABULARY_HELP)
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
        of_export=True,
    )
    dropout: float | None = flag(None, "share dropped in training; none takes the model's own")
    scheduled_sampling: float = flag(0.0, runs.SCHEDULED_SAMPLING_HELP)
    sampling_decay: Literal["linear", "exponential", "inverse_sigmoid"] = flag(
        "linear", runs.SAMPLING_DECAY_HELP
    )
    sampling_steps: int = flag(5000, runs.SAMPLING_STEPS_HELP)
    r_drop: float = flag(0.0, runs.R_DROP_HELP)
    subword_sampling: float = flag(0.0, runs.SUBWORD_SAMPLING_HELP)
    norm_first: bool = flag(
        True,
        "transformers: pre-norm, faster and steadier on short runs; --no-norm_first: post-norm",
    )
    epochs: int = flag(100, "most passes over the training pairs, or of 1,000 batches of them")
    minutes: float = flag(60.0, "time budget for training; the best weights so far are kept")
    batch_tokens: int = flag(4096, "tokens of a batch on either side, padding included")
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
    validation_pairs: int = flag(
        200, "validation BLEU is measured on this many pairs; the mean of that of each language"
    )
    patience: int = flag(10, "epochs without a better validation BLEU before it stops")
    average: int = flag(5, runs.AVERAGE_HELP)
    beam_size: int = flag(5, "hypotheses that beam search keeps", of_export=True)
    length_penalty: float = flag(0.6, "exponent of the GNMT length penalty", of_export=True)
    length_deviation_penalty: float = flag(
        0.0,
        "per token of deviation from the length that a head, trained beside, expects; 0: no head",
    )
    max_length: int = flag(128, "most tokens of a source or target; longer pairs are left out")
    seed: int = flag(0, "of weights, dropout, order and split")
    output: str | None = flag(
        None, "folder; none takes saved_models/translation-<from>-<to>, and the name of your data"
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
        from_disk.check_on_disk(self)
        for name in ("batch_tokens", "validation_pairs"):
            cli.check(self, name, least=1)
        cli.check(self, "length_deviation_penalty", least=0)
        cli.check(self, "mixing_temperature", least=1)
        codes, is_code = self.target_languages, re.compile(LANGUAGE_CODE).fullmatch
        # One alone may be spelled as `recipes.data.languages` knows it; several become tags.
        if not (all(codes) and (len(codes) == 1 or all(map(is_code, codes)))):
            raise ValueError(
                "`target_language` must be a code, or several with commas between them, each of "
                f"two to four letters, perhaps more after - or _, got {self.target_language!r}."
            )
        if len(self.target_languages) > 1 and self.tokenizer != "subwords":
            raise ValueError(
                "`tokenizer` must be subwords with several target languages, "
                f"got tokenizer={self.tokenizer}, target_language={self.target_language}."
            )
        if self.candidates and (self.candidates < 4 or not self.copies_words):
            raise ValueError(
                "`candidates` must be 0 or at least 4, and needs words and a model with attention, "
                f"got candidates={self.candidates}, tokenizer={self.tokenizer}, "
                f"model={self.model}."
            )

    @property
    def target_languages(self) -> list[str]:
        return [code.strip() for code in self.target_language.split(",")]

    @property
    def copies_words(self) -> bool:
        """Whether attention says which source word a target word comes from."""
        is_own = self.init_from is None  # of another model nobody knows
        return is_own and self.tokenizer == "words" and self.model != "rnn_fixed"

    @property
    def folder(self) -> Path:
        if self.output:
            return Path(self.output)
        codes = "-".join([self.source_language, *self.target_languages])
        folder = sources.folder_of(f"translation-{codes}", self)
        return folder.with_name(folder.name.replace(HOLE, "-".join(self.target_languages)))


def main(config: Config) -> dict[str, float]:
    """Loads, builds, fits, scores, exports; returns the test scores."""
    runs.workers_of(config)  # joins them, before TensorFlow computes
    runs.check_places(config)
    cli.require("sacrebleu", "matplotlib", "langcodes", extra="recipes")
    if config.tokenizer == "subwords":
        cli.require("sentencepiece", extra="recipes")
    splits = load(config)
    seen = (pairs for each in splits.values() for pairs in each[:2])
    sides = (side for pairs in seen for side in (pairs.source, pairs.target))
    on_disk = [from_disk.identity(config)] if config.on_disk else []
    with runs.opened_run(config, config.folder, runs.fingerprint(*sides, *on_disk)) as run:
        runs.seed(config.seed)
        train = examples.Pairs.joined(languages.parts_of(splits, "train").values())
        model = start(train, config) if config.init_from else begin(train, config)
        splits = languages.asked_for(model, splits)
        left_out = fit(model, splits, run, config)
        saved = export_and_score(model, splits, left_out, run, config)
        count = max(1, 5 // len(splits))  # of each language
        texts = [runs.scored_split(each)[1].source for each in splits.values()]
        shown = [each[row] for each in texts for row in runs.spread_rows(count, len(each))]
        runs.show_answers(saved.path, shown)
    runs.say_how_to_ask(saved.path, "a text")
    return runs.scores_of(saved)


def load(config: Config) -> dict[str, Splits]:
    """Training, validation and test pairs of each target language."""
    if config.on_disk:
        return {config.target_language: from_disk.load(config)}
    splits = load_languages(
        config.data,
        source_language=config.source_language,
        target_languages=config.target_languages,
        train=config.train,
        valid=config.valid,
        test=config.test,
        columns=config.columns,
        seed=config.seed,
    )
    if config.clean:
        splits = {code: cleaning.cleaned(each, code) for code, each in splits.items()}
    return splits


def learnable(train: examples.Pairs, config: Config) -> examples.Pairs:
    """The pairs that a vocabulary is learned from: all but those that are too long for training
    with any vocabulary, as a whole page in one line is.

    How many tokens a text has is known only when there is a vocabulary, so pairs that are too long
    with this one alone have shaped it: they are ordinary texts, and would be near the limit.
    """
    limit = config.max_length * CHARACTERS_OF_A_TOKEN.get(config.tokenizer, 1)
    length = len if config.tokenizer in CHARACTERS_OF_A_TOKEN else lambda text: len(text.split())
    both = zip(train.source, train.target, strict=True)
    rows = [row for row, pair in enumerate(both) if max(map(length, pair)) <= limit]
    kept = train.chosen(rows, train.skipped)
    if len(kept) < len(train):
        left_out = len(train) - len(kept)
        print(f"{left_out:,} pairs are too long to shape the vocabulary", flush=True)
    return kept or train  # of none `tokenize` says which flag to change


def learn_tokenizers(
    train: examples.Pairs, config: Config
) -> tuple[kzoo.text.Tokenizer, kzoo.text.Tokenizer]:
    """Subwords: one joint vocabulary. Characters and words: one for each language.

    Of several target languages a source counts once, however many have it; their tags are subwords.
    """
    if config.tokenizer == "subwords":
        codes = config.target_languages if len(config.target_languages) > 1 else ()
        texts = (list(dict.fromkeys(train.source)) if codes else train.source) + train.target
        size = config.vocabulary_size
        return (runs.learn_tokenizer("subwords", texts, size, languages=codes),) * 2
    return tuple(
        runs.learn_tokenizer(config.tokenizer, texts, config.vocabulary_size)
        for texts in (train.source, train.target)
    )


def start(train: examples.Pairs, config: Config) -> kzoo.Seq2Seq:
    """Goes on from a trained model, with its vocabulary or with one of the data."""
    model = runs.start(config, "texts")
    runs.check_length_head(model, config, config.length_deviation_penalty > 0)
    if config.new_vocabulary:
        tokenizers = learn_tokenizers(learnable(train, config), config)
        model = runs.with_vocabulary(model, tokenizers, config)
    return runs.compiled(model, config, runs.RATE)


def begin(train: examples.Pairs, config: Config) -> kzoo.Seq2Seq:
    """Begins with a model of the zoo that knows nothing."""
    return build(*learn_tokenizers(learnable(train, config), config), config)


def build(source_tokenizer, target_tokenizer, config: Config) -> kzoo.Seq2Seq:
    """Builds and compiles the model in the precision asked for."""
    has_head = config.length_deviation_penalty > 0
    return training_pairs.build(source_tokenizer, target_tokenizer, config, length_head=has_head)


def fit(model, splits: dict[str, Splits], run: Path, config: Config) -> str:
    """Trains within the budget and leaves the best weights in the model; returns what the card says
    of examples that were left out."""
    limit, place = config.max_length, config.train or config.data
    train, valid = (languages.parts_of(splits, name) for name in ("train", "valid"))
    valid_corpus, _ = mixing.tokenize(model, valid, "valid", max_length=limit)
    too_long = 0
    if config.on_disk:
        batches = from_disk.make_batches(model, valid_corpus, run, config)  # longer ones are cut
    else:
        options = {"temperature": config.mixing_temperature, "max_length": limit}
        corpus, draw = mixing.mixed(model, train, place, **options)
        too_long = sum(map(len, train.values())) - int(corpus.source.nrows())
        corpus = training_pairs.sampled_subwords(model, corpus, config)
        batches = training_pairs.make_batches(model, corpus, valid_corpus, run, config, draw)
    score = validation_bleu(model, valid, config)
    runs.fit(model, *batches, score, run, config, monitor="val_bleu")
    return runs.left_out({f"over {limit} tokens": too_long})


def validation_bleu(model, valid: dict[str, examples.Pairs], config: Config) -> Callable:
    """The function that measures BLEU of the model, greedily, on some validation pairs of each
    language, and gives the mean."""
    generate = model.text_generator(
        beam_size=1,
        max_length=config.max_length,
        max_source_length=config.max_length,
        replace_unknown=config.replace_unknown and config.copies_words,
    )

    def score_of(code, pairs):
        rows = runs.spread_rows(config.validation_pairs, len(pairs))
        source, target = ([side[row] for row in rows] for side in (pairs.source, pairs.target))
        tokenize = translation_scores.bleu_tokenizer(code)
        return kzoo.metrics.bleu(generate(source), target, tokenize=tokenize, force=True).value

    return lambda: statistics.fmean(score_of(*each) for each in valid.items())


def learn_lexicon(model, splits: dict[str, Splits], config: Config) -> kzoo.Lexicon | None:
    """The candidate lists of --candidates, from the alignments of the training pairs."""
    if not config.candidates:
        return None
    print("Learning a lexicon from the alignments of the training pairs", flush=True)
    train = languages.parts_of(splits, "train")
    corpus, _ = mixing.tokenize(model, train, "train", max_length=config.max_length)
    batches = kzoo.batching.token_batches(corpus, config.batch_tokens)
    frequent = min(config.candidates, model.target_tokenizer.vocabulary_size())
    return kzoo.Lexicon.learn(model, batches, frequent)


def export_and_score(
    model, splits: dict[str, Splits], left_out: str, run: Path, config: Config
) -> kzoo.export.Saved:
    """Writes the SavedModel, scores the test set with it, and draws what there is to see."""
    journal = runs.open_journal(run)
    scored = {code: runs.scored_split(each) for code, each in splits.items()}
    parts = {code: pairs for code, (_, pairs) in scored.items()}
    name = next(iter(scored.values()))[0]

    def evaluate(served):
        texts = examples.Pairs.joined(parts.values()).source
        answers, seconds = runs.answers_of(served, texts, "sentence", chunk=256)
        found = translation_scores.of_languages(name, parts, answers)
        return found | {"sentences a second": round(len(answers) / seconds, 1)}

    train = languages.parts_of(splits, "train")
    trained = from_disk.listed(config) if config.on_disk else languages.listed(train)
    penalty = config.length_deviation_penalty
    saved = kzoo.export.save(
        model,
        kzoo.export.next_version(config.folder),
        precision=runs.export_precision(config.weights),
        beam_size=config.beam_size,
        length_penalty=config.length_penalty,
        max_length=config.max_length,
        max_source_length=config.max_length,
        search_options={"length_deviation_penalty": penalty} if penalty else None,
        replace_unknown=config.replace_unknown and config.copies_words,
        lexicon=learn_lexicon(model, splits, config),
        card={
            "name": f"Translation {config.source_language} to {', '.join(splits)}",
            "data": f"{config.train or config.data}; training: {trained}{left_out}",
            "scored on": f"{name}: {languages.listed(parts)}",
            "licence": sources.licences(LICENCES, config.data, config.train),
        }
        | runs.provenance("translation", config, journal.minutes),
        evaluate=evaluate,
    )
    with runs.drawing(saved.path):
        draw(saved.served, journal.history(), parts.values())
    return saved


def draw(served, history: dict, parts: Iterable[examples.Pairs]) -> None:
    """Writes the learning curve and up to three attention maps, of the languages in turn, beside
    the model."""
    kzoo.plots.learning_curve(history, served.path / "learning_curve.png")
    both = languages.in_turn(list(zip(part.source, part.target, strict=True)) for part in parts)
    worth_a_look = [pair for pair in both if 5 <= len(pair[0].split()) <= 20]
    runs.draw_attention(served, worth_a_look or both)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
