"""Image captioning: from pictures with captions to a SavedModel: JPEG bytes in, a sentence out.

    python -m recipes.image_captioning                     scenes of emoji, from the package index
    python -m recipes.image_captioning --data Flickr8k --backbone efficientnet_lite0 --minutes 100
    python -m recipes.image_captioning --data captions.txt --model show_attend_tell --units 512
    python -m recipes.image_captioning --train train.jsonl --valid dev.jsonl --test test.jsonl
    python -m recipes.image_captioning --data my_pictures --backbone efficientnet_lite0 --fine_tune
    python -m recipes.image_captioning --data Flickr8k:1,mine.jsonl:2 --clean

What `--data` takes stands in `recipes.data.pictures.load_pictures`. A network with weights of
ImageNet is only looked through, unless --fine_tune: its features are computed once and kept. A run
learns a vocabulary, trains with progress bars and a validation score, scores the test pictures with
the exported SavedModel, and leaves in <output>/<version>/ the model, model_card.md, metrics.json,
learning_curve.png, pictures of where each word looked and a sheet of test pictures, chosen at
random. Interrupted, it goes on with --resume. What it reached on which data stands in
recipes/README.md.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data import captions, cleaning, pictures, sources, weights
from recipes.data.examples import Pictures
from recipes.data.splits import Splits
from recipes.runs import mixing
from recipes.runs.answering import describer
from recipes.runs.caption_scores import caption_scores, validation_score
from recipes.runs.scored_parts import ScoredPictures, scored_pictures
from recipes.runs.training_pictures import augmentation, examples

if TYPE_CHECKING:
    import keras

FROM_NOTHING = "small_resnet"  # the backbone without weights of ImageNet
WIDTHS = (16, 32, 64, 128)  # its channels: twice as fast as with its own, and enough for drawings
SHEET_PICTURES = 12
# Flags that describe a new model; refused with --init_from.
TAKEN = (
    *("model", "backbone", "fine_tune", "image_size", "tokenizer", "vocabulary_size", "sampled"),
    *("units", "layers", "dropout"),
)
LICENCES = dict.fromkeys(pictures.NAMED_SOURCES, "CC-BY-SA-4.0, OpenMoji")
RATE = 2e-3  # the peak of a model that begins with nothing


@dataclass(frozen=True)
class Config:
    """The flags of the recipe; `--help` shows them."""

    data: str = flag(
        "openmoji",
        f"openmoji, openmoji-names, or a file or folder of captioned pictures; {sources.HELP}",
    )
    train: str | None = flag(None, "training pictures, in place of --data")
    valid: str | None = flag(None, "validation pictures; else split off")
    test: str | None = flag(None, "test pictures; else split off, or valid if train and valid are")
    clean: bool = flag(False, cleaning.CAPTIONS_HELP)
    captions: Literal["spoken", "written"] | None = flag(
        None,
        "how they are learned. spoken: lower case without punctuation; written: as they are; none: "
        "written for openmoji, spoken for the others. Scores compare with captions as they are",
    )
    model: Literal["captioning_transformer", "show_attend_tell"] = flag(
        "captioning_transformer", "architecture, see kzoo.zoo"
    )
    backbone: str = flag(
        FROM_NOTHING,
        "what looks at the pictures: small_resnet, which is trained from nothing, "
        "efficientnet_lite0, or a name of keras.applications, which needs the internet",
    )
    fine_tune: bool = flag(
        False, "train a backbone with weights of ImageNet too; a tenth of the learning rate suits"
    )
    image_size: int | None = flag(
        None, "pixels of a side; none: 96 for small_resnet, 224 for the others"
    )
    augment: bool = flag(
        False, "turn, zoom, shift and relight the training pictures a little; never mirror them"
    )
    init_from: str | None = flag(None, runs.INIT_FROM_HELP)
    freeze: Literal["encoder", "decoder"] | None = flag(None, runs.FREEZE_HELP)
    tokenizer: Literal["words", "subwords", "characters"] = flag("words", "what the model writes")
    vocabulary_size: int = flag(8000, "most entries of the vocabulary")
    sampled: int = flag(
        0, "classes sampled for the softmax in training, for a large vocabulary; 0: all of them"
    )
    units: int = flag(128, "size of the decoder, and of the transformer's encoder")
    layers: int = flag(2, "of the transformer's encoder, and of its decoder")
    dropout: float | None = flag(None, "share dropped in training; none takes the model's own")
    scheduled_sampling: float = flag(0.0, runs.SCHEDULED_SAMPLING_HELP)
    sampling_decay: Literal["linear", "exponential", "inverse_sigmoid"] = flag(
        "linear", runs.SAMPLING_DECAY_HELP
    )
    sampling_steps: int = flag(5000, runs.SAMPLING_STEPS_HELP)
    r_drop: float = flag(0.0, runs.R_DROP_HELP)
    subword_sampling: float = flag(0.0, runs.SUBWORD_SAMPLING_HELP)
    epochs: int = flag(1000, "most passes over the training captions, or of 1,000 batches of them")
    minutes: float = flag(9.0, "time budget for training; the best weights so far are kept")
    batch_size: int = flag(64, "captions of a batch, each with its picture")
    learning_rate: float | None = flag(
        None, "peak of the schedule; none: 0.002, and 0.0001 with --init_from"
    )
    warmup_steps: int = flag(400, "steps to the peak, then decay with 1 / sqrt(step)")
    precision: Literal["auto", "float32", "mixed_bfloat16"] = flag(
        "auto", "auto takes mixed_bfloat16 where the CPU is fast in it: AMX, AVX512-BF16"
    )
    weights: Literal["float32", "bfloat16", "int8"] = flag("float32", runs.WEIGHTS_HELP)
    validation_pictures: int = flag(300, "the validation score is measured on this many pictures")
    patience: int = flag(10, "epochs without a better validation score before it stops")
    average: int = flag(5, runs.AVERAGE_HELP)
    beam_size: int = flag(4, "hypotheses that beam search keeps", of_export=True)
    length_penalty: float = flag(0.6, "exponent of the GNMT length penalty", of_export=True)
    max_length: int = flag(50, "most tokens of a caption; longer ones are left out of training")
    seed: int = flag(
        0, "of weights, dropout, order and split, and of which test pictures are drawn"
    )
    output: str | None = flag(None, "folder; none takes saved_models/captions-<name of the data>")
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
        runs.check_teaching(self)
        runs.check_subword_sampling(self)
        runs.check_start(self, taken=TAKEN)
        for name in ("batch_size", "validation_pictures", "units", "layers"):
            cli.check(self, name, least=1)
        if self.image_size is not None:
            cli.check(self, "image_size", least=32)
        if self.model != "captioning_transformer" and self.layers != type(self).layers:
            raise ValueError(
                f"`layers` must be left out for {self.model}, which has one, got "
                f"layers={self.layers}."
            )
        is_application = weights.is_application(self.backbone)
        if self.backbone not in (FROM_NOTHING, "efficientnet_lite0") and not is_application:
            raise ValueError(
                "`backbone` must be small_resnet, efficientnet_lite0 or a network of "
                f"keras.applications, got backbone={self.backbone!r}."
            )
        if self.fine_tune and self.backbone == FROM_NOTHING:
            raise ValueError(
                "`fine_tune` needs a backbone with weights of ImageNet, got "
                f"backbone={self.backbone}, which is trained in any case."
            )
        if self.augment and not self.trains_backbone:
            raise ValueError(
                "`augment` needs pixels: backbone=small_resnet or fine_tune; got "
                f"backbone={self.backbone}, whose features are computed once."
            )

    @property
    def trains_backbone(self) -> bool:
        return self.fine_tune or self.backbone == FROM_NOTHING  # as with --init_from

    @property
    def source_names(self) -> list[str]:
        return list(sources.weights(self.train or self.data))

    @property
    def is_openmoji(self) -> bool:
        return self.train is None and {*self.source_names} <= {*pictures.NAMED_SOURCES}

    @property
    def is_spoken(self) -> bool:
        return not self.is_openmoji if self.captions is None else self.captions == "spoken"

    @property
    def size(self) -> int:
        return self.image_size or (96 if self.backbone == FROM_NOTHING else 224)

    @property
    def folder(self) -> Path:
        name = sources.name_of(self.train or self.data)
        return Path(self.output or f"saved_models/captions-{name}")


def main(config: Config) -> dict[str, float]:
    """Loads, builds, fits, scores, exports; returns the test scores."""
    runs.workers_of(config)  # joins them, before TensorFlow computes
    runs.check_places(config)
    cli.require("sacrebleu", "matplotlib", extra="recipes")
    if config.tokenizer == "subwords":
        cli.require("sentencepiece", extra="recipes")
    if config.train is None and {*config.source_names} & {*pictures.NAMED_SOURCES}:
        cli.require("emoji", "resvg_py", "fontTools", extra="recipes")
    splits = pictures.load_pictures(
        config.data, train=config.train, valid=config.valid, test=config.test, seed=config.seed
    )
    if config.clean:
        splits = cleaning.cleaned(splits, rules=cleaning.CAPTIONS, what="captions")
    unseen = unseen_style(config)
    if config.is_spoken:
        splits = splits._replace(train=captions.as_spoken(splits.train))
    with runs.opened_run(config, config.folder, fingerprint(splits)) as run:
        scored = scored_pictures(splits, unseen)
        runs.seed(config.seed)
        model = build(splits.train, config) if config.init_from is None else start(config)
        left_out = fit(model, splits, run, config)
        saved = export_and_score(model, splits.train, left_out, scored, run, config)
        show_answers(saved.path, scored.part, config.seed)
    runs.say_how_to_ask(saved.path, "picture.jpg")
    return runs.scores_of(saved)


def fingerprint(splits: Splits) -> str:
    """A hash of the pictures' paths and captions, wherever they are listed."""
    return runs.fingerprint(
        *([f"{row.path} {row.captions}" for row in part.rows] for part in splits[:2])
    )


def build(train: Pictures, config: Config) -> kzoo.Seq2Seq:
    """Learns the vocabulary; builds and compiles the model in the precision asked for."""
    texts = [caption for row in train.rows for caption in row.captions]
    tokenizer = runs.learn_tokenizer(config.tokenizer, texts, config.vocabulary_size)
    options = {"num_sampled": min(config.sampled, tokenizer.vocabulary_size())}
    options |= {} if config.dropout is None else {"dropout": config.dropout}
    options |= {"units": config.units}
    if config.model == "captioning_transformer":
        layers = config.layers
        options |= {"num_layers": layers, "decoder_layers": layers}
        options |= {"hidden_units": 4 * config.units}
    # Features computed once are those of the served model, which computes in float32.
    backbone = None if config.trains_backbone else build_backbone(config)
    with runs.computing_in(config.precision):
        if backbone is None:
            backbone = build_backbone(config)
        source = kzoo.ImageSource(config.size)
        model = getattr(kzoo.zoo, config.model)(source, tokenizer, backbone, **options)
    return runs.compiled(model, config, RATE)


def start(config: Config) -> kzoo.Seq2Seq:
    """Goes on from a trained model, its backbone included."""
    return runs.compiled(runs.start(config, "pictures"), config, runs.RATE)


def build_backbone(config: Config) -> keras.Model:
    """The network that looks at the pictures; one with weights is not trained unless asked."""
    if config.backbone == FROM_NOTHING:
        return kzoo.image.backbones.small_resnet(config.size, WIDTHS)
    if config.backbone == "efficientnet_lite0":
        path = weights.efficientnet_lite0_weights()
        backbone = kzoo.image.backbones.efficientnet_lite0(config.size, path)
    else:
        backbone = kzoo.image.backbones.application(config.backbone, config.size)
    backbone.trainable = config.fine_tune
    return backbone


def fit(model, splits: Splits, run: Path, config: Config) -> str:
    """Trains within the budget and leaves the best weights in the model; returns what the card says
    of examples that were left out."""
    train = examples(model, splits.train, config, "train")
    valid = examples(model, splits.valid, config, "valid")
    ids = runs.segmented(model.target_tokenizer, train.ids, config, [config.seed])
    start = runs.position(run).batches
    dataset = functools.partial(
        kzoo.batching.picture_batches,
        *(train.seen, train.rows, ids, config.batch_size),
        seed=config.seed,
        draw=mixing.draw_sources(train.sources, config.train or config.data, "captions"),
        start=start,
    )
    name = config.init_from or f"{config.model} and {config.backbone}"
    batches = runs.make_weights(model, dataset, name)
    chosen = runs.spread_rows(config.validation_pictures, len(valid.part))
    chosen_pictures = [valid.part.rows[row] for row in chosen]
    describe = describer(model, valid.seen.shape[1:], config.max_length)
    name, measure = validation_score(chosen_pictures, valid.part.is_exact, config.is_spoken)

    def score():
        return measure(describe(valid.seen[chosen])).value

    valid_batches = kzoo.batching.picture_batches(*valid[:3], config.batch_size)
    change = augmentation(config)
    runs.fit(model, batches, valid_batches, score, run, config, monitor=name, change=change)
    return runs.left_out(train.left_out)


def export_and_score(
    model, train: Pictures, left_out: str, scored: ScoredPictures, run: Path, config: Config
) -> kzoo.export.Saved:
    """Writes the SavedModel, scores the test set with it, and draws what there is to see."""
    journal = runs.open_journal(run)
    name, part, unseen = scored
    trained = {caption for row in train.rows for caption in row.captions}

    def evaluate(served):
        answers, seconds = describe_files(served, part)
        found = caption_scores(answers, part, trained, config.is_spoken)
        scores = {f"{name} {label}": score for label, score in found.items()}
        if unseen is not None:
            answers, _ = describe_files(served, unseen)
            exact = captions.exact_references(unseen.rows, config.is_spoken)
            scores["exact match, Noto style"] = kzoo.metrics.exact_match(answers, exact)
        return runs.said(scores) | {"pictures a second": round(len(part) / seconds, 1)}

    saved = kzoo.export.save(
        model,
        kzoo.export.next_version(config.folder),
        precision=runs.export_precision(config.weights),
        beam_size=config.beam_size,
        length_penalty=config.length_penalty,
        max_length=config.max_length,
        card={
            "name": f"Image captioning, {sources.title_of(config.train or config.data)}",
            "data": f"{config.train or config.data}; training: {train}{left_out}",
            "captions": "learned in lower case, no punctuation; scores compare with them as written"
            if config.is_spoken
            else "as written",
            "backbone": config.backbone if config.init_from is None else f"of {config.init_from}",
            "scored on": f"{name}: {part}"
            + ("; these pictures also chose the weights" if name == "valid" else ""),
            "licence": sources.licences(LICENCES, config.data, config.train),
        }
        | runs.provenance("image_captioning", config, journal.minutes),
        evaluate=evaluate,
    )
    with runs.drawing(saved.path):
        draw(saved.served, journal.history(), part, config)
    return saved


def unseen_style(config: Config) -> Pictures | None:
    """The objects of the scenes, one by one, in Noto's drawings, which no training has seen."""
    if config.train is not None or "openmoji" not in config.source_names:
        return None
    try:
        return pictures.noto_pictures(config.seed)
    except RuntimeError as error:
        print(f"Without a score in the style of Noto: {error}")
        return None


def describe_files(served, part: Pictures) -> tuple[list[str], float]:
    """Answers of the SavedModel to the files, and the seconds that they took."""
    return runs.answers_of(served, [row.path for row in part.rows], "picture", chunk=64)


def chosen_rows(part: Pictures, count: int, seed: int) -> list[int]:
    """Rows of pictures to show, at random and not by hand; a smaller `count` gives the first."""
    return np.random.default_rng(seed).permutation(len(part))[:count].tolist()


def draw(served, history: dict, part: Pictures, config: Config) -> None:
    """Writes the learning curve, a sheet of captioned pictures and where the words of three looked
    beside the model."""
    kzoo.plots.learning_curve(history, served.path / "learning_curve.png")
    rows = [part.rows[row] for row in chosen_rows(part, SHEET_PICTURES, config.seed)]
    contents = [row.path.read_bytes() for row in rows]
    seen = kzoo.image.decode_batch(contents, config.size).numpy()
    answers = served(contents)
    exact = captions.exact_references(rows, config.is_spoken)
    right = [text in texts for text, texts in zip(answers, exact, strict=True)]
    kzoo.plots.contact_sheet(
        seen,
        answers,
        [row.captions[0] for row in rows],
        served.path / "contact_sheet.png",
        right=right if part.is_exact else None,
        title=f"{len(rows)} of {len(part):,} pictures at random, seed {config.seed}",
    )
    number = 0
    for pixels, row in zip(seen, rows, strict=True):
        found = served.align(row.path)
        if number == runs.MAPS or not found.text:
            continue
        number += 1
        side = math.isqrt(len(found.source_tokens))
        kzoo.plots.attention_overlay(
            pixels,
            found.weights.reshape(-1, side, side),
            found.target_tokens,
            served.path / f"attention-{number}.png",
            title=f"reference: {row.captions[0]}",
        )


def show_answers(path: Path, part: Pictures, seed: int) -> None:
    """Asks about five pictures in a new process that knows TensorFlow and nothing of kzoo."""
    chosen = [part.rows[row] for row in chosen_rows(part, 5, seed)]
    examples = [
        (row.path.suffix, row.path.read_bytes(), f"{row.path}: {row.captions[0]}") for row in chosen
    ]
    runs.show_files(path, examples, "image_bytes")


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
