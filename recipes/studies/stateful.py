"""Stateful against stateless RNN on long streams, and what textbooks say of it.

    python -m recipes.studies.stateful                      # characters of UI texts
    python -m recipes.studies.stateful --steps 10 --seeds 5

Claims of textbooks, each tried here: a stateful RNN remembers across batches, which helps on long
streams; it needs batch size 1; it cannot take streams of different length; it cannot be split over
devices. A character model reads the texts of each component of a program as one long stream, in
chunks, and says the next character: bits a character on streams it has never seen, and how they
fall within a chunk. What came out stands in recipes/README.md.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np

import kzoo
from recipes import cli, runs
from recipes.cli import flag
from recipes.data.pairs import load_pairs
from recipes.runs import trials

KINDS = (
    "stateless", "stateful", "stateful, 1 row", "stateful, two devices", "stateless, chunks x 8"
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The flags of the study; `--help` shows them."""

    data: str = flag("homeassistant", "a named source of recipes.data, whose first side is read")
    target_language: str = flag("de", "code of the language of the other side")
    characters: int = flag(600_000, "of the training streams")
    held_out: int = flag(40_000, "characters of the streams that are scored")
    rows: int = flag(16, "streams that are read side by side; 1 where a kind says so")
    steps: int = flag(25, "characters of a chunk, how far a gradient goes back")
    units: int = flag(128, "of the LSTM")
    epochs: int = flag(3, "passes over the training streams")
    learning_rate: float = flag(0.004, "of Adam")
    seeds: int = flag(3, "trials of each kind")
    output: str = flag("studies/stateful", "folder for trials.json and the picture")

    def __post_init__(self):
        for name in ("characters", "held_out", "steps", "units", "epochs", "seeds"):
            cli.check(self, name, least=1)
        cli.check(self, "rows", least=2)
        cli.check_positive(self, "learning_rate")


def main(config: Config) -> trials.Study:
    """Trains each kind with each seed; returns the trials."""
    cli.require("matplotlib", extra="recipes")
    strategy = two_processors()
    train, held_out, size = load_streams(config)
    lengths = sorted(len(x) for x, _ in train)
    print(f"{len(train)} streams of {lengths[0]:,} to {lengths[-1]:,} characters", flush=True)
    study = trials.Study(config, config.output)
    kinds = [kind for kind in KINDS if strategy is not None or "two devices" not in kind]
    for kind, seed in study.missing(kinds, config.seeds):
        rows, steps = shape_of(kind, config)
        runs.seed(seed)
        model = build(size, config, strategy if "two" in kind else None)
        data = batches(train, rows, steps, kind)
        # As many updates for all, so that only the state and the rows differ.
        updates = config.epochs * sum(lengths) // (config.rows * config.steps)
        model.fit(data.repeat(), steps_per_epoch=updates, shuffle=False, verbose=2)
        alone = build(size, config)
        alone.set_weights(model.get_weights())
        curve, mean = bits_by_place(alone, batches(held_out, config.rows, steps, kind))
        measured = {
            "bits a character": mean,
            "characters read, thousands": updates * rows * steps / 1000,
        }
        study.add(kind, seed, measured | {"by place": curve[: config.steps].tolist()})
        draw(study)
    print(table(study))
    return study


def shape_of(kind: str, config: Config) -> tuple[int, int]:
    """Rows and steps of a chunk."""
    if "1 row" in kind:
        return 1, config.steps
    if "x 8" in kind:
        return max(config.rows // 8, 1), 8 * config.steps
    return config.rows, config.steps


def load_streams(config: Config) -> tuple[list, list, int]:
    """Training and held-out streams, ids of characters and of those that follow; their number."""
    splits = load_pairs(
        config.data, source_language="en", target_language=config.target_language, seed=0
    )
    texts = [joined(splits.train, config.characters), joined(splits.valid, config.held_out)]
    letters = sorted({letter for text in texts[0] for letter in text})
    ids = {letter: number for number, letter in enumerate(letters, start=1)}  # 0 is unknown

    def stream(text):
        line = np.array([ids.get(letter, 0) for letter in text], "int32")
        return line[:-1], line[1:]

    train, held_out = ([stream(text) for text in part] for part in texts)
    return train, held_out, len(ids) + 1


def joined(pairs, most: int) -> list[str]:
    """The sources of each component in one text, until there are so many characters."""
    groups: dict[str, list[str]] = {}
    for text, group in zip(pairs.source, pairs.groups, strict=True):
        groups.setdefault(group, []).append(text)
    texts, left = [], most
    for lines in groups.values():
        text = "\n".join(lines)[:left]
        if len(text) > 1:
            texts.append(text)
            left -= len(text)
        if left <= 1:
            break
    return texts


def batches(streams: list, rows: int, steps: int, kind: str):
    """Chunks of streams side by side; a stateless model starts anew with each chunk.

    What is bool becomes 0 or 1: under a strategy `fit` of Keras 3.15 asks for its mean.
    """
    import tensorflow as tf

    def as_numbers(inputs, target, weight):
        reset, mask = (tf.cast(inputs[name], tf.float32) for name in ("reset", "mask"))
        reset = reset if kind.startswith("stateful") else tf.ones_like(reset)
        return inputs | {"reset": reset, "mask": mask}, target, weight

    return kzoo.batching.stream_chunks(streams, rows, steps).map(as_numbers)


def build(size: int, config: Config, strategy=None):
    """Embedding, stateful LSTM, softmax; on the devices of a strategy if there is one."""
    import keras

    with strategy.scope() if strategy else contextlib.nullcontext():
        x = keras.Input((None,), dtype="int32", name="x")
        reset = keras.Input((), name="reset")
        mask = keras.Input((None,), name="mask")
        y = keras.layers.Embedding(size, 32)(x)
        y = kzoo.StatefulRNN(config.units)(y, reset=reset, mask=mask)
        logits = keras.layers.Dense(size)(y)
        model = keras.Model({"x": x, "reset": reset, "mask": mask}, logits)
        model.compile(
            keras.optimizers.Adam(config.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    return model


def bits_by_place(model, data) -> tuple[np.ndarray, float]:
    """Bits a character at each place of a chunk, (steps,), and of all characters."""
    import tensorflow as tf

    bits, counts = 0.0, 0.0
    for inputs, target, weight in data:
        logits = model(inputs, training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits).numpy()
        bits += (loss * weight.numpy()).sum(0) / math.log(2)
        counts += weight.numpy().sum(0)
    return bits / np.where(counts > 0, counts, np.nan), float(bits.sum() / counts.sum())


def two_processors():
    """A strategy of two logical processors, each of which has half the rows of a batch."""
    import tensorflow as tf

    processor = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            processor, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    except RuntimeError:  # TensorFlow runs already, as in a test
        print("one device only: TensorFlow was running before the study", flush=True)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else None


def table(study: trials.Trials) -> str:
    """Means and intervals, in Markdown."""
    return study.table(("bits a character", "characters read, thousands", "minutes"), digits=2)


def draw(study: trials.Study) -> None:
    """Bits a character of each kind, and at each place of a chunk."""
    figure, (totals, places) = trials.new_axes(10, 3.8, 2)
    trials.draw_bars(totals, study, "bits a character")
    for kind, color in zip(study.names(), trials.COLORS, strict=False):
        curve = study.values(kind, "by place")
        trials.draw_line(places, range(1, curve.shape[1] + 1), curve, kind, color)
    totals.set_xlabel("bits a character, streams never seen")
    places.set_xlabel("place in the chunk")
    places.set_ylabel("bits a character")
    places.legend(frameon=False, fontsize=8)
    figure.savefig(study.folder / "stateful.png", dpi=150)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
