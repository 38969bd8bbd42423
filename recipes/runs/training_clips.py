"""Clips as a model is trained on them: at several speeds, changed anew for each epoch, or spliced.

    found = examples(model, splits.train, SPEEDS, config, "train")
    batches = whole_batches(model, found, run, config)           # as they were said
    batches = spliced_batches(model, pieces, found.voices, run, config)      # put together anew
    runs.fit(model, batches, ..., change=augmentation(batches, features, config))

Axis letters: S frames, F features.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import kzoo
from recipes.data.examples import Clips
from recipes.data.frames import extract
from recipes.runs import mixing
from recipes.runs.building import draw_anew, make_weights, rows_within_limits
from recipes.runs.fitting import EPOCH_BATCHES
from recipes.runs.folder import position
from recipes.runs.subword_sampling import segmented

if TYPE_CHECKING:
    import tensorflow as tf

SPEEDS = (1.0, 0.9, 1.1)


class Examples(NamedTuple):
    """Clips as a model is trained on them, at one speed or several."""

    frames: list[np.ndarray]  # (S, F) each
    texts: list[str]
    voices: list[tuple[str, float]]  # the speaker, and the speed
    names: list[str]  # of the files, for messages
    sources: list[str]  # of several that a run mixes, in whose order the clips stand
    left_out: dict[str, int]  # {why: clips of the part that are none of these}


def examples(model, part: Clips, speeds, config, name: str) -> Examples:
    """The clips at each speed, without those that are too long."""
    features = model.source_tokenizer.features
    found = [extract(part, features, config.max_seconds, speed) for speed in speeds]
    arrays = [array for each in found for array in each.arrays]
    rows = np.concatenate([each.rows for each in found])
    texts = [part.rows[row].text for row in rows]
    speed = np.repeat(speeds, [len(each.rows) for each in found]).tolist()
    voices = [(part.rows[row].speaker, each) for row, each in zip(rows, speed, strict=True)]
    seconds = sum(map(len, arrays)) * features.hop_seconds
    fits = rows_within_limits(
        kzoo.batching.tokenize(model.target_tokenizer, texts).row_lengths().numpy(),
        {"max_seconds": config.max_seconds, "max_length": config.max_length},
        name,
        f"{found[0]}, {seconds / 60:.1f} minutes at all speeds",
        "clip",
    )
    names = [str(part.rows[row].path) for row in rows]
    sources = [part.rows[row].source for row in rows]
    places = {source: place for place, source in enumerate(dict.fromkeys(sources))}
    kept = sorted(np.flatnonzero(fits), key=lambda row: places[sources[row]])
    columns = arrays, texts, voices, names, sources
    too_long = int((~fits[: len(found[0].rows)]).sum())  # at the first speed, as at all
    left_out = found[0].skipped | {f"over {config.max_length} tokens": too_long}
    return Examples(*([each[row] for row in kept] for each in columns), left_out)


def whole_batches(model, train: Examples, run: Path, config) -> tf.data.Dataset:
    """The batches of the clips as they were said; makes the weights of the model, too."""
    ids = kzoo.batching.tokenize(model.target_tokenizer, train.texts)
    dataset = functools.partial(
        kzoo.batching.frame_batches,
        train.frames,
        segmented(model.target_tokenizer, ids, config, [config.seed]),
        batch_frames(model.source_tokenizer.features, config),
        seed=config.seed,
        names=list(map(os.fsencode, train.names)),  # of any bytes
        draw=mixing.draw_sources(train.sources, config.train or config.data),
        start=position(run).batches,
    )
    return make_weights(model, dataset, config.init_from or config.model)


def spliced_batches(
    model, pieces: list[list[kzoo.training.splice.Piece]], voices: list, run: Path, config
) -> tf.data.Dataset:
    """The batches of clips that are put together anew for every epoch."""
    features = model.source_tokenizer.features
    batches = kzoo.training.splice.spliced_batches(
        pieces,
        voices,
        model.target_tokenizer,
        batch_frames(features, config),
        normalize=features.normalize == "utterance",
        seed=config.seed,
        start=position(run).batches,
    )
    print(f"{int(batches.cardinality()):,} batches of spliced clips")
    return batches


def augmentation(
    batches: tf.data.Dataset, features: kzoo.audio.LogMel, config, epochs: int = 0
) -> Callable:
    """What changes the inputs of a batch anew in every epoch, for `runs.fit`.

    `epochs` are those of the model of characters before.
    """
    import tensorflow as tf

    steps = min(int(batches.cardinality()), EPOCH_BATCHES)
    first = steps * (config.spec_augment_after - epochs)  # batch that SpecAugment blots
    # Streams of their own.
    seeds = np.random.SeedSequence([config.seed, epochs]).generate_state(2).tolist()
    perturb = kzoo.audio.VocalTractPerturbation(features.rate_hz, seed=seeds[0])
    blot = kzoo.audio.SpecAugment(
        feature_width=config.spec_augment_features,
        frame_masks=config.spec_augment_stretches,
        frame_width=round(config.spec_augment_seconds / features.hop_seconds),
        seed=seeds[1],
    )

    def change(number, inputs):
        source = inputs["source"]
        options = {"mask": inputs["source_mask"], "training": True}
        for layer in (perturb, blot):
            draw_anew(layer, number)
        if config.vocal_tract_perturbation:
            source = perturb(source, **options)
        if config.spec_augment:
            source = tf.cond(number >= first, lambda: blot(source, **options), lambda: source)
        return inputs | {"source": source}

    return change


def batch_frames(features: kzoo.audio.LogMel, config) -> int:
    return round(config.batch_seconds / features.hop_seconds)
