"""A run that goes on from a trained model: the flags `--init_from`, `--freeze`, `--new_vocabulary`.

    model = start(config, "texts")      # with its own tokenizers and architecture

A recipe's config has the fields `init_from`, `freeze`, `learning_rate` and `precision`; one that
can learn a new vocabulary also `new_vocabulary`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import kzoo
from kzoo.export import manifest, names
from recipes.runs.processor import computing_in

INIT_FROM_HELP = (
    "go on from a trained model, with its tokenizers and architecture: a SavedModel of kzoo, a "
    ".keras file, a name of `kzoo list`, or what kzoo.pretrained.load takes, as "
    "Helsinki-NLP/opus-mt-en-de; none: from nothing"
)
FREEZE_HELP = "with --init_from: a part that is left as it is"
NEW_VOCABULARY_HELP = (
    "with --init_from: learn a vocabulary from the data; words that the model's own has, too, keep "
    "their weights"
)
CARD, NOT_STATED = "model_card.md", "not stated"
BEGUN_FROM = "begun from"  # row of a card
READS = {"text": "texts", "audio_bytes": "WAV files", "image_bytes": "pictures"}
RATE = 1e-4  # the peak where a run goes on from a trained model and no rate is given


def check_start(config: Any, *, taken: tuple[str, ...]) -> None:
    """Raises a ValueError if a flag says what the model of --init_from has already.

    Args:
        taken: names of the flags that describe a model from nothing.
    """
    if config.init_from is None:
        for name in ("freeze", "new_vocabulary"):
            if value := getattr(config, name, None):
                raise ValueError(f"`{name}` needs init_from, got {name}={value}.")
        return
    if getattr(config, "new_vocabulary", False):
        taken = tuple(name for name in taken if name not in ("tokenizer", "vocabulary_size"))
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in taken:
        if (value := getattr(config, name)) != defaults[name]:
            raise ValueError(
                f"`{name}` must be left out with init_from, as that model has its own, "
                f"got {name}={value}."
            )


def start(config: Any, kind: str) -> Any:
    """Loads the model of --init_from, and freezes what --freeze names.

    Args:
        kind: what the recipe's model reads, "texts", "WAV files" or "pictures".

    Raises:
        ValueError: the model reads something else or writes no texts, or has no such part.
    """
    print(f"Starting from {config.init_from}", flush=True)
    with computing_in(config.precision):
        model = kzoo.pretrained.load(config.init_from, getattr(config, "language", None))
    for side in ("source", "target"):
        if getattr(model, f"{side}_tokenizer", None) is None:
            raise ValueError(
                f"`init_from` must have a {side} tokenizer, and {config.init_from} has none."
            )
    reads = READS[model.source_tokenizer.content.input_name]
    if reads != kind:
        raise ValueError(
            f"`init_from` must be a model that reads {kind}, got {config.init_from}, which reads "
            f"{reads}."
        )
    if not getattr(model.source_tokenizer, "adds_end", True):
        raise ValueError(
            f"`init_from` must read sources with an end token, as batches have them, and "
            f"{config.init_from} reads them without."
        )
    if isinstance(model, kzoo.Ensemble):
        raise ValueError(
            f"`init_from` must be one model, got {config.init_from}, an ensemble of several."
        )
    return freeze(model, config)


def begun_from(name: str) -> str:
    """What a card says of the model of --init_from: its name and, where its folder has them, its
    licence and the model that it was itself begun from."""
    from kzoo.export import card  # with TensorFlow

    try:
        folder = names.find(name)
    except (OSError, ValueError):
        return name  # a file, or another project's model: nothing stands beside it
    facts = {}
    if (folder / CARD).is_file():
        facts = card.facts_of((folder / CARD).read_text(encoding="utf-8"))
    if (folder / manifest.FILE).is_file():
        facts["licence"] = manifest.read(folder).licence
    licence, before = facts.get("licence", NOT_STATED), facts.get(BEGUN_FROM)
    said = name if licence == NOT_STATED else f"{name}, licence: {licence}"
    return f"{said}; itself begun from {before}" if before else said


def freeze(model: Any, config: Any) -> Any:
    """The model with all of it trainable, but for the part of --freeze."""
    model.trainable = True
    if config.freeze is not None:
        part = getattr(model, config.freeze, None)
        if part is None:
            raise ValueError(f"`freeze` must be a part of the model, got freeze={config.freeze}.")
        part.trainable = False
    return model


def check_length_head(model: Any, config: Any, is_wanted: bool) -> None:
    """Raises a ValueError if a search wants to know a length that the model does not expect."""
    if is_wanted and model.length_head is None:
        raise ValueError(
            "`length_deviation_penalty` needs a model with a length head, "
            f"got length_deviation_penalty={config.length_deviation_penalty}, "
            f"init_from={config.init_from}."
        )


def with_vocabulary(model: Any, tokenizers: tuple, config: Any) -> Any:
    """The model for the vocabulary of the data, of --new_vocabulary. What is frozen is all of a
    part but its embedding, which has rows of new words."""
    model = freeze(kzoo.pretrained.with_vocabulary(model, *tokenizers), config)
    part = getattr(model, config.freeze or "", None)
    embedding = getattr(part, "embedding", None)
    if isinstance(embedding, kzoo.TokenEmbedding):
        part.trainable = True
        for layer in part._flatten_layers(include_self=False, recursive=False):
            layer.trainable = layer is embedding
    return model
