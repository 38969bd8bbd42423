"""Pictures and their captions as a model is trained on them.

Axis letters: K pictures, M captions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import kzoo
from recipes.data import captions, regions
from recipes.data.examples import Pictures
from recipes.runs.building import draw_anew, rows_within_limits

if TYPE_CHECKING:
    import tensorflow as tf


class Examples(NamedTuple):
    """What a model trains on or is validated with."""

    seen: np.ndarray  # (K, ...) pixels or features
    rows: np.ndarray  # (M,) for each caption the row of its picture
    ids: tf.RaggedTensor  # (M, None)
    part: Pictures  # of length K
    left_out: dict[str, int]  # {why: pictures or captions that are none of these}

    @property
    def sources(self) -> list[str]:
        """Of each caption, the source that its picture is from."""
        return [self.part.rows[row].source for row in self.rows]


def examples(model, part: Pictures, config, name: str) -> Examples:
    """The pictures that can be read, with those of their captions that are not too long."""
    import tensorflow as tf

    if config.trains_backbone:
        seen, kept = regions.decode(part.rows, model.source_tokenizer.size)
    else:
        seen, kept = regions.extract(part.rows, model.encoder.backbone)
    unreadable = len(part) - len(kept)
    part = regions.keep_rows(part, kept)
    texts = [
        list(filter(None, texts))
        for texts in captions.exact_references(part.rows, config.is_spoken)
    ]
    flat = [caption for row in texts for caption in row]
    blank = sum(len(row.captions) for row in part.rows) - len(flat)
    rows = np.repeat(np.arange(len(part)), [len(row) for row in texts])
    ids = kzoo.batching.tokenize(model.target_tokenizer, flat)
    fits = rows_within_limits(
        ids.row_lengths().numpy(),
        {"max_length": config.max_length},
        name,
        str(part),
        "caption",
        also=f", {blank:,} without a word" if blank else "",
    )
    left_out = {
        "unreadable pictures": unreadable,
        "captions without a word": blank,
        f"captions over {config.max_length} tokens": int((~fits).sum()),
    }
    return Examples(seen, rows[fits], tf.ragged.boolean_mask(ids, fits), part, left_out)


def augmentation(config) -> Callable | None:
    """What turns, zooms, shifts and relights the pictures of a batch anew in every epoch, for
    `runs.fit`; None if nothing does."""
    if not config.augment:
        return None
    augment = kzoo.image.ImageAugment(seed=config.seed)

    def change(number, inputs):
        draw_anew(augment, number)
        return inputs | {"source": augment(inputs["source"], training=True)}

    return change
