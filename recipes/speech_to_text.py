"""Speech to text: from transcribed clips to a SavedModel that takes WAV bytes and returns words.

    python -m recipes.speech_to_text                       telephone prompts, from Debian
    python -m recipes.speech_to_text --data an4/train.jsonl --minutes 90
    python -m recipes.speech_to_text --data LibriSpeech/train-clean-100 --tokenizer subwords
    python -m recipes.speech_to_text --train cv/train.tsv --valid cv/dev.tsv --test cv/test.tsv
    python -m recipes.speech_to_text --data my_clips --model streaming_ctc
    python -m recipes.speech_to_text --data my_clips --init_from whisper-tiny.en
    python -m recipes.speech_to_text --data an4/train.jsonl:1,my_clips:2 --clean

`--data` takes NeMo manifests (.jsonl), Common Voice tables (.tsv) and folders: LJSpeech,
LibriSpeech, Kaldi, audiofolder (metadata.csv or .jsonl), FSDD or Speech Commands names. A run
computes log-mel features once, learns a vocabulary, trains with progress bars and validation
WER, scores the test clips with the exported SavedModel, and leaves in <output>/<version>/ the
model, model_card.md, metrics.json, learning_curve.png and attention maps. Interrupted, it goes on
with --resume. What it reached on which data stands in recipes/README.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data import cleaning, clips, clips_audio, sources
from recipes.data.examples import Clips
from recipes.data.splits import Splits
from recipes.runs.answering import transcriber
from recipes.runs.scored_parts import ScoredClips, scored_clips
from recipes.runs.speech_scores import compare_searches, transcript_scores, transcripts
from recipes.runs.training_clips import (
    SPEEDS,
    Examples,
    augmentation,
    batch_frames,
    examples,
    spliced_batches,
    whole_batches,
)

if TYPE_CHECKING:
    import tensorflow as tf

MONITOR = "val_word_accuracy"
# Flags that describe a new model; refused with --init_from.
TAKEN = (
    *("model", "tokenizer", "vocabulary_size", "sampled", "rate_hz", "num_mels", "normalize"),
    *("units", "layers", "dropout", "ctc_weight", "splice_after"),
)
AUTO, WHISPER = "auto", "whisper-tiny.en"
# What flags that are none stand for.
FROM_NOTHING = {
    "model": "speech_transformer",
    **{"minutes": 60.0, "learning_rate": 1e-3, "warmup_steps": 500, "spec_augment_after": 10},
}
FROM_TRAINED = {
    **{"minutes": 8.0, "learning_rate": 3e-5, "warmup_steps": 100, "spec_augment_after": 2},
}
LICENCES = dict.fromkeys(  # of the named sources
    ("asterisk", *(f"asterisk-{code}" for code in ("es", "fr", "it", "ru"))), "CC-BY-SA-3.0"
)
MIN_RATE_HZ = 1000  # kzoo.audio.MIN_RATE_HZ, which TensorFlow comes with


@dataclass(frozen=True)
class Config:
    """The flags of the recipe; `--help` shows them."""

    data: str = flag(
        "asterisk",
        f"asterisk (also asterisk-es, -fr, -it, -ru), a manifest or folder; {sources.HELP}",
    )
    train: str | None = flag(None, "training clips, in place of --data: a manifest or a folder")
    valid: str | None = flag(None, "validation clips; else speakers are split off")
    test: str | None = flag(None, "test clips; else split off, or valid if train and valid are set")
    clean: bool = flag(False, cleaning.CLIPS_HELP)
    transcripts: Literal["spoken", "written"] = flag(
        "spoken", "spoken: lower case without punctuation; written: as they are"
    )
    model: Literal["speech_transformer", "listen_attend_spell", "streaming_ctc"] | None = flag(
        None,
        "architecture of a model that begins with nothing, see kzoo.zoo; none: speech_transformer",
    )
    init_from: str | None = flag(
        AUTO,
        f"{runs.INIT_FROM_HELP}; auto: {WHISPER} for the English prompts of Asterisk, unless "
        "--model is given or another flag of a new model differs from its default; else none",
    )
    language: str | None = flag(
        None, "what is spoken, as de, for --init_from a Whisper of many languages; none: English"
    )
    freeze: Literal["encoder", "decoder"] | None = flag(None, runs.FREEZE_HELP)
    tokenizer: Literal["characters", "subwords"] = flag("characters", "what the model writes")
    vocabulary_size: int = flag(500, "most entries of the vocabulary")
    sampled: int = flag(
        0, "classes sampled for the decoder's softmax, for a large vocabulary; 0: all of them"
    )
    rate_hz: int | None = flag(
        None, "samples a second that all audio is brought to; none: the first clip's, but <= 16,000"
    )
    num_mels: int = flag(80, "features of a frame")
    normalize: Literal["utterance", "running", "fixed"] | None = flag(
        None,
        "features by the mean and variance of each clip, of it so far, or of speech in general; "
        "none: utterance, and running for streaming_ctc",
    )
    units: int | None = flag(
        None, "size of states; of the transformer, a multiple of 8; none takes the model's own"
    )
    layers: int | None = flag(None, "of the encoder; none takes the model's own")
    dropout: float | None = flag(None, "share dropped in training; none takes the model's own")
    scheduled_sampling: float = flag(0.0, runs.SCHEDULED_SAMPLING_HELP)
    sampling_decay: Literal["linear", "exponential", "inverse_sigmoid"] = flag(
        "linear", runs.SAMPLING_DECAY_HELP
    )
    sampling_steps: int = flag(5000, runs.SAMPLING_STEPS_HELP)
    r_drop: float = flag(0.0, runs.R_DROP_HELP)
    subword_sampling: float = flag(0.0, runs.SUBWORD_SAMPLING_HELP)
    ctc_weight: float = flag(
        0.5, "of CTC in loss and search; 0: attention alone; streaming_ctc is CTC alone"
    )
    speed_perturbation: bool = flag(True, "train on every clip at the speeds 0.9, 1.0 and 1.1")
    vocal_tract_perturbation: bool = flag(
        False, "train on every clip as if shorter and longer throats had said it"
    )
    spec_augment: bool = flag(True, "blot out bands and stretches of the training features")
    spec_augment_features: int = flag(27, "features of the widest of two bands")
    spec_augment_stretches: int = flag(2, "how many stretches of time are blotted out")
    spec_augment_seconds: float = flag(
        0.4,
        "the longest of these; short where words do not tell of their neighbours, as in spelling",
    )
    spec_augment_after: int | None = flag(
        None,
        "epochs before that: what is said when is learnt sooner from whole features; none: 10, or "
        "2 if the model has been trained",
    )
    splice_after: int | None = flag(
        None,
        "epochs of a model of characters first, in half of the minutes at most; then clips are cut "
        "where it hears their words, which spaces divide, and put together anew, so that few texts "
        "are not learnt by heart; none: never",
    )
    epochs: int = flag(
        1000,
        "most passes over the training clips, or of 1,000 batches of them, besides --splice_after",
    )
    minutes: float | None = flag(
        None,
        "time budget for all training; the best weights so far are kept; none: 60, or 8 if the "
        "model has been trained",
    )
    batch_seconds: float = flag(40.0, "seconds of audio in a batch, padding included")
    learning_rate: float | None = flag(
        None, "peak of the schedule; none: 0.001, or 0.00003 if the model has been trained"
    )
    warmup_steps: int | None = flag(
        None,
        "steps to the peak, then decay with 1 / sqrt(step); none: 500, or 100 if the model has "
        "been trained",
    )
    precision: Literal["auto", "float32", "mixed_bfloat16"] = flag(
        "auto", "auto takes mixed_bfloat16 where the CPU is fast in it: AMX, AVX512-BF16"
    )
    weights: Literal["float32", "bfloat16", "int8"] = flag("float32", runs.WEIGHTS_HELP)
    validation_clips: int = flag(200, "validation WER is measured on this many clips")
    patience: int = flag(30, "epochs without a better validation WER before it stops")
    average: int = flag(5, runs.AVERAGE_HELP)
    beam_size: int = flag(8, "hypotheses that beam search keeps", of_export=True)
    length_penalty: float = flag(0.0, "exponent of the GNMT length penalty", of_export=True)
    max_seconds: float = flag(15.0, "longer clips are left out of training and validation")
    max_length: int = flag(250, "most tokens of a transcript; longer ones are left out")
    seed: int = flag(0, "of weights, dropout, order and split")
    output: str | None = flag(None, "folder; none takes saved_models/speech-<name of the data>")
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
        runs.check_teaching(self, has_decoder=self.model != "streaming_ctc")
        runs.check_subword_sampling(self)
        if self.language is not None and self.init_from in (None, AUTO):
            raise ValueError(
                "`language` needs init_from, a Whisper of many languages, got "
                f"language={self.language}, init_from={self.init_from}."
            )
        if self.init_from != AUTO:
            runs.check_start(self, taken=TAKEN)
        for name in ("num_mels", "validation_clips"):
            cli.check(self, name, least=1)
        for name in ("spec_augment_after", "spec_augment_features", "spec_augment_stretches"):
            cli.check(self, name, least=0)
        for name in ("units", "layers"):
            cli.check_positive(self, name)
        if self.units is not None and self.units % 8 and self.has_heads:
            raise ValueError(
                f"`units` must be a multiple of 8: 4 heads of an even size, got units={self.units}."
            )
        if self.splice_after is not None:
            cli.check(self, "splice_after", least=1)
            if self.subword_sampling:
                raise ValueError(
                    "`subword_sampling` must be 0 with splice_after, "
                    f"got subword_sampling={self.subword_sampling}."
                )
            if len(sources.weights(self.train or self.data)) > 1:
                raise ValueError(
                    "`data` and `train` must name one source with splice_after, which mixes all "
                    f"voices, got {self.train or self.data!r}."
                )
            if runs.addresses_of(self):
                raise ValueError(
                    "`splice_after` must be none with several workers, which know the run of one "
                    f"model, got splice_after={self.splice_after}."
                )
            if self.ctc_weight == 0 and self.model != "streaming_ctc":
                raise ValueError(
                    "`splice_after` needs CTC, which finds the words, "
                    f"got splice_after={self.splice_after}, ctc_weight=0."
                )
        if self.sampled and self.model == "streaming_ctc":
            raise ValueError(
                "`sampled` must be 0 for streaming_ctc, as CTC looks at all classes, "
                f"got sampled={self.sampled}."
            )
        if self.normalize == "utterance" and self.model == "streaming_ctc":
            raise ValueError(
                "`normalize` must be running or fixed for streaming_ctc, which never hears a whole "
                "clip, got normalize=utterance."
            )
        if not 0 <= self.ctc_weight <= 1:
            raise ValueError(f"`ctc_weight` must lie in [0, 1], got ctc_weight={self.ctc_weight}.")
        for name in ("batch_seconds", "max_seconds", "spec_augment_seconds"):
            cli.check_positive(self, name)
        if self.rate_hz is not None and self.rate_hz < MIN_RATE_HZ:
            raise ValueError(
                f"`rate_hz` must be at least {MIN_RATE_HZ}, got rate_hz={self.rate_hz}."
            )

    @property
    def has_heads(self) -> bool:
        """Whether a new model is the transformer."""
        return self.model in (None, "speech_transformer")

    @property
    def folder(self) -> Path:
        name = sources.name_of(self.train or self.data)
        return Path(self.output or f"saved_models/speech-{name}")


def main(config: Config) -> dict[str, float]:
    """Loads, builds, fits, scores, exports; returns the test scores."""
    runs.workers_of(config)  # joins them, before TensorFlow computes
    runs.check_places(config)
    config = settled(config)
    cli.require("soundfile", "jiwer", "matplotlib", extra="recipes")
    if config.tokenizer == "subwords":
        cli.require("sentencepiece", extra="recipes")
    splits = clips.load_clips(
        config.data,
        train=config.train,
        valid=config.valid,
        test=config.test,
        transcripts=config.transcripts,
        seed=config.seed,
    )
    if config.clean:
        rules = cleaning.clip_rules(clips_audio.seconds_of(splits.train))
        splits = cleaning.cleaned(splits, rules=rules, what="clips")
    names = ([str(row) for row in part.rows] for part in splits[:2])
    with runs.opened_run(config, config.folder, runs.fingerprint(*names)) as run:
        runs.seed(config.seed)
        model = start(config) if config.init_from else build(splits.train, config)
        # Each is read before a training depends on it.
        scored = scored_clips(splits, model.source_tokenizer.clip_seconds)
        left_out = fit(model, splits, run, config)
        saved = export_and_score(model, splits.train, left_out, scored, run, config)
        show_answers(saved.path, scored)
    runs.say_how_to_ask(saved.path, "file.wav")
    return runs.scores_of(saved)


def settled(config: Config) -> Config:
    """The flags, with what --init_from auto and those that are none stand for."""
    init_from = config.init_from
    if init_from == AUTO:
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        is_new = any(getattr(config, name) != defaults[name] for name in TAKEN)
        is_english = config.train is None and config.data == defaults["data"]
        init_from = WHISPER if is_english and not is_new else None
    meant = FROM_NOTHING if init_from is None else FROM_TRAINED
    meant = {name: value for name, value in meant.items() if getattr(config, name) is None}
    return dataclasses.replace(config, init_from=init_from, **meant)


def start(config: Config) -> kzoo.Seq2Seq | kzoo.CTCModel:
    """Goes on from a trained model; one of Whisper's hears clips as long as they are from now on,
    not filled up to 30 seconds."""
    model = runs.start(config, "WAV files")
    heard = model.source_tokenizer.features
    if isinstance(heard, kzoo.WhisperMel):
        heard.is_filled = False
    return runs.compiled(model, config, FROM_TRAINED["learning_rate"])


def build(train: Clips, config: Config) -> kzoo.Seq2Seq | kzoo.CTCModel:
    """Learns the vocabulary; builds and compiles the model in the precision asked for."""
    tokenizer = runs.learn_tokenizer(config.tokenizer, train.texts, config.vocabulary_size)
    streams = config.model == "streaming_ctc"
    rates = (found[1] for _, found in clips_audio.read_all(train) if found)
    features = kzoo.audio.LogMel(
        config.rate_hz or min(next(rates), 16_000),
        num_mels=config.num_mels,
        normalize=config.normalize or ("running" if streams else "utterance"),
    )
    options = {}
    if not streams:
        sampled = min(config.sampled, tokenizer.vocabulary_size())
        options = {"ctc_weight": config.ctc_weight, "num_sampled": sampled}
    sizes = {"units": config.units, "num_layers": config.layers, "dropout": config.dropout}
    if config.has_heads and config.units:
        sizes["hidden_units"] = 4 * config.units
    options |= {name: size for name, size in sizes.items() if size is not None}
    with runs.computing_in(config.precision):
        source = kzoo.AudioSource(features)
        model = getattr(kzoo.zoo, config.model)(source, tokenizer, **options)
    return runs.compiled(model, config, FROM_NOTHING["learning_rate"])


def fit(model, splits: Splits, run: Path, config: Config) -> str:
    """Trains within the budget and leaves the best weights in the model; returns what the card says
    of examples that were left out."""
    speeds = SPEEDS if config.speed_perturbation else (1.0,)
    longest = model.source_tokenizer.clip_seconds * min(speeds)  # slower is longer
    config = dataclasses.replace(config, max_seconds=min(config.max_seconds, longest))
    train = examples(model, splits.train, speeds, config, "train")
    valid = examples(model, splits.valid, (1.0,), config, "valid")
    batches, epochs = whole_batches(model, train, run, config), 0
    is_spliced = config.splice_after is not None and not config.dry_run  # no other step then
    if is_spliced and not runs.is_fitted(run):
        pieces = spelled_pieces(model, splits, train, valid, run / runs.FIRST, config)
        batches, epochs = (
            spliced_batches(model, pieces, train.voices, run, config),
            config.splice_after,
        )
        spent = runs.open_journal(run / runs.FIRST).minutes
        config = dataclasses.replace(config, minutes=max(config.minutes - spent, 0))
    change = augmentation(batches, model.source_tokenizer.features, config, epochs)
    checked = validation(model, valid, config)
    runs.fit(model, batches, *checked, run, config, MONITOR, change=change)
    return runs.left_out(train.left_out)


def validation(
    model, valid: Examples, config: Config
) -> tuple[tf.data.Dataset, Callable[[], float]]:
    """Batches for the loss, and the function that measures the share of right words."""
    chosen = runs.spread_rows(config.validation_clips, len(valid.frames))
    references = [valid.texts[row] for row in chosen]
    transcribe = transcriber(model, config.max_length)

    def word_accuracy():
        answers = transcribe([valid.frames[row] for row in chosen])
        return 100 - kzoo.metrics.word_error_rate(answers, references).value

    ids = kzoo.batching.tokenize(model.target_tokenizer, valid.texts)
    size = batch_frames(model.source_tokenizer.features, config)
    return kzoo.batching.frame_batches(valid.frames, ids, size), word_accuracy


def spelled_pieces(
    model, splits: Splits, train: Examples, valid: Examples, run: Path, config: Config
) -> list[list[kzoo.training.splice.Piece]]:
    """Trains a model of characters, hands its weights on, and cuts clips where it hears words.

    What is said when, it finds out sooner than a model of words does, which takes its encoder.
    """
    is_like_model = config.tokenizer == "characters"
    config = dataclasses.replace(
        config,
        tokenizer="characters",
        max_length=max(map(len, train.texts)) + 1,
        minutes=config.minutes / 2,
        epochs=config.splice_after,
        patience=config.splice_after,
        average=1,
    )
    print(f"First, {config.splice_after} epochs of a model of characters, to find the words")
    speller = build(splits.train, config)
    run.mkdir(exist_ok=True)
    batches = whole_batches(speller, train, run, config)
    change = augmentation(batches, speller.source_tokenizer.features, config)
    checked = validation(speller, valid, config)
    runs.train(speller, batches, *checked, run, config, MONITOR, change=change)
    learnt, taught = (speller, model) if is_like_model else (speller.encoder, model.encoder)
    taught.set_weights(learnt.get_weights())
    done = runs.open_journal(run)
    print(
        f"{done.epochs} of {config.splice_after} epochs, {done.minutes:.1f} minutes. "
        "Cutting clips at their words"
    )
    ids = kzoo.batching.tokenize(speller.target_tokenizer, train.texts)
    pieces = kzoo.training.splice.word_pieces(speller, train.frames, ids, train.texts, verbose=1)
    cut = sum(len(own) > 1 for own in pieces)
    words, voices = sum(map(len, pieces)), len(set(train.voices))
    print(
        f"{cut:,} of {len(pieces):,} clips were cut; "
        f"{words:,} pieces of {voices:,} voices, all speeds"
    )
    return pieces


def export_and_score(
    model, train: Clips, left_out: str, scored: ScoredClips, run: Path, config: Config
) -> kzoo.export.Saved:
    """Writes the SavedModel, scores the test set with it, and draws what there is to see."""
    journal = runs.open_journal(run)
    minutes = journal.minutes + runs.open_journal(run / runs.FIRST).minutes
    name, part, sounds, seconds = scored

    def evaluate(served):
        answers, spent = transcripts(served, sounds, seconds, config.max_seconds)
        found = transcript_scores(answers, part)
        scores = {f"{name} {label}": score for label, score in found.items()}
        return runs.said(scores) | {"seconds of audio a second": round(sum(seconds) / spent, 1)}

    saved = kzoo.export.save(
        model,
        kzoo.export.next_version(config.folder),
        precision=runs.export_precision(config.weights),
        beam_size=config.beam_size,
        length_penalty=config.length_penalty,
        max_length=None if isinstance(model, kzoo.CTCModel) else config.max_length,
        max_source_length=math.ceil(max(config.max_seconds, *seconds)),
        metrics=compare_searches(model, name, part, config),
        card={
            "name": f"Speech to text, {sources.title_of(config.train or config.data)}",
            "data": f"{config.train or config.data}; training: {train}{left_out}",
            "scored on": f"{name}: {part}",
            "licence": sources.licences(LICENCES, config.data, config.train),
        }
        | runs.provenance("speech_to_text", config, minutes),
        evaluate=evaluate,
    )
    with runs.drawing(saved.path):
        draw(saved.served, journal.history(), part, sounds)
    return saved


def draw(served, history: dict, part: Clips, sounds: Sequence[bytes]) -> None:
    """Writes the learning curve and up to three attention maps beside the model."""
    told = {k: v for k, v in history.items() if "infeasible" not in k or any(v)}  # mostly all 0
    kzoo.plots.learning_curve(told, served.path / "learning_curve.png")
    texts = part.texts
    worth_a_look = [row for row, text in enumerate(texts) if 3 <= len(text.split()) <= 12]
    looked_at = worth_a_look or range(len(texts))
    runs.draw_attention(served, ((sounds[row], texts[row]) for row in looked_at))


def show_answers(path: Path, scored: ScoredClips) -> None:
    """Transcribes five clips in a new process that knows TensorFlow and nothing of kzoo."""
    rows = runs.spread_rows(5, len(scored.part))
    examples = [
        (".wav", scored.sounds[row], f"{clip.path}: {clip.text}")
        for row, clip in ((row, scored.part.rows[row]) for row in rows)
    ]
    runs.show_files(path, examples, "audio_bytes")


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
