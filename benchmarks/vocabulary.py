"""What a training step costs as the vocabulary grows: seconds and peak memory.

    python -m benchmarks.vocabulary                              # all 24 cells, about 15 minutes
    python -m benchmarks.vocabulary --units 256 --json vocabulary.json    # half of them
    python -m benchmarks.vocabulary --json vocabulary.json --plot vocabulary.png

A step is `fit` on one batch of 128 pairs of 16 tokens: forward pass, loss, backward pass and
optimizer of a transformer with 1 + 1 layers of D units, 4 heads and D hidden units, pre-norm,
without dropout, one embedding for source, target and head, in float32. V and D vary, and

    full + Adam          the full softmax; keras.optimizers.Adam
    sampled + Adam       1,024 classes sampled log-uniformly; keras.optimizers.Adam, which makes the
                         gradient of the table dense and updates every row
    sampled + LazyAdam   the same sample; kzoo.LazyAdam

Ids follow Zipf's law, p(v) ~ 1 / (v + 10), over all V words; every batch has other ones. Each cell
is a process of its own, so that its peak resident memory is its own; Python and TensorFlow
are about 0.6 GB of it. Seconds are medians of single steps after two that do not count. With --json
each cell is on disk when it is measured, and is not measured again.

The sampled loss calls `tf.nn.sampled_softmax_loss`. Against the same equation written out by hand
(before commit 93c7250), V = 10,000, D = 256, LazyAdam, no smoothing, both in turns in one process:
373 and 374 ms of processor time a step (medians of 22, 2 cores of a Xeon with AVX-512, 2026).
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import figures

SIZES = (10_000, 50_000, 100_000, 200_000)
UNITS = (256, 512)
METHODS = ("full + Adam", "sampled + Adam", "sampled + LazyAdam")
ROWS, LENGTH, NUM_SAMPLED = 128, 16, 1024
LEAST_STEPS, LEAST_SECONDS = 3, 6.0  # of the steps that count
COLORS = {"full + Adam": "#d1495b", "sampled + Adam": "#8fa3b5", "sampled + LazyAdam": "#1d6fb8"}


def measure(method, size, units):
    """One cell, in this process: dict with the seconds of each step and the peak memory."""
    import keras
    import numpy as np
    import tensorflow as tf

    import kzoo

    tf.config.threading.set_intra_op_parallelism_threads(os.cpu_count())
    keras.utils.set_random_seed(1)
    embedding = kzoo.TokenEmbedding(size, units, scale=True)
    shape = {"num_layers": 1, "num_heads": 4, "hidden_units": units, "norm_first": True}
    head = kzoo.VocabularyHead(
        size,
        units,
        tied=embedding,
        use_bias=False,
        num_sampled=0 if method.startswith("full") else NUM_SAMPLED,
    )
    model = kzoo.Seq2Seq(
        kzoo.TransformerEncoder(embedding, **shape),
        kzoo.TransformerDecoder(embedding, **shape),
        head,
    )
    optimizer = kzoo.LazyAdam if method.endswith("LazyAdam") else keras.optimizers.Adam
    model.compile(optimizer(1e-4))

    p = 1 / np.arange(14, size + 10)
    ends = np.cumsum(p / p.sum())
    rng = np.random.default_rng(1)

    def batch(_):
        ids = 4 + np.searchsorted(ends, rng.random((2, ROWS, LENGTH)))
        source, labels = np.minimum(ids, size - 1).astype(np.int32)
        target = np.roll(labels, 1, axis=1)
        target[:, 0] = 1
        return {"source": source, "target": target}, labels

    class Clock(keras.callbacks.Callback):
        """Takes the time of each step, and ends `fit` when there are enough."""

        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_train_batch_begin(self, batch, logs=None):
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.seconds.append(time.perf_counter() - self.start)
            counted = self.seconds[2:]
            if len(counted) >= LEAST_STEPS and sum(counted) >= LEAST_SECONDS:
                self.model.stop_training = True

    batches = [batch(number) for number in range(50)]
    inputs = {name: np.stack([x[name] for x, _ in batches]) for name in ("source", "target")}
    data = tf.data.Dataset.from_tensor_slices((inputs, np.stack([y for _, y in batches])))
    clock = Clock()
    model.fit(
        data.repeat().prefetch(2), steps_per_epoch=10_000, shuffle=False, verbose=0,
        callbacks=[clock],
    )  # fmt: skip
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": clock.seconds[2:], "peak_gb": kilobytes * 1024 / 1e9}


def measure_apart(method, size, units):
    """One cell, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.vocabulary", "--cell", method, str(size)]
    done = subprocess.run([*command, str(units)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{method}, V = {size:,}, D = {units} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(found):
    """The table of README.md, out of what `--json` has written."""
    cells = by_key(found)
    medians = {key: 1000 * statistics.median(cell["seconds"]) for key, cell in cells.items()}
    rows = []
    for units, size in itertools.product(UNITS, SIZES):
        keys = [(method, size, units) for method in METHODS]
        if not {*keys} <= {*cells}:
            continue
        figures_of = [f"{medians[key]:,.0f}, {cells[key]['peak_gb']:.1f}" for key in keys]
        full, _, lazy = keys
        first = ("sampled + LazyAdam", SIZES[0], units)
        growth = f"{medians[lazy] / medians[first]:.2f}" if first in medians else "-"
        ratio = f"{medians[full] / medians[lazy]:.1f}"
        rows.append([units, f"{size:,}", *figures_of, ratio, growth])
    header = [">D", ">V", *(f">{method}: ms, GB" for method in METHODS)]
    header += [">times as fast as full", f">LazyAdam / at V = {SIZES[0]:,}"]
    made = dict.fromkeys(figures.made(cell["facts"]) for cell in found["cells"])
    return "\n\n".join([figures.table(header, rows), *made])


def by_key(found):
    """{(method, V, D): cell}"""
    return {(cell["method"], cell["V"], cell["D"]): cell for cell in found["cells"]}


def draw(cells, path):
    """Step time and peak memory against V."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for method in METHODS:
        for units, line in zip(UNITS, ("--", "-"), strict=True):
            sizes = [size for size in SIZES if (method, size, units) in cells]
            if not sizes:
                continue
            own = [cells[method, size, units] for size in sizes]
            style = {"color": COLORS[method], "ls": line, "marker": "o", "markersize": 4}
            label = f"{method}, D = {units}"
            seconds = [statistics.median(cell["seconds"]) for cell in own]
            panels[0].plot(sizes, seconds, label=label, **style)
            panels[1].plot(sizes, [cell["peak_gb"] for cell in own], label=label, **style)
    panels[0].set_yscale("log")
    panels[0].set_yticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
    panels[0].minorticks_off()
    panels[0].set_ylabel("seconds a step")
    panels[1].set_ylabel("peak memory, GB")
    panels[1].set_ylim(bottom=0)
    for axes in panels:
        axes.set_xlabel("vocabulary size")
        axes.set_xticks(SIZES, [f"{size // 1000}k" for size in SIZES])
        axes.grid(color="#e9edf1")
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, choices=UNITS, help="measure this D only")
    parser.add_argument("--json", type=Path, help="file that keeps the cells")
    parser.add_argument("--plot", type=Path, help="picture to write")
    parser.add_argument("--cell", nargs=3, metavar=("METHOD", "V", "D"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        method, size, units = options.cell
        print(json.dumps(measure(method, int(size), int(units))))
        return
    facts, found = figures.facts("vocabulary"), {"cells": []}
    if options.json and options.json.exists():
        found = json.loads(options.json.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or "cells" not in found:
            sys.exit(f"{options.json} is not a file that this script has written.")
    wanted = [
        (method, size, units)
        for units, size, method in itertools.product(UNITS, SIZES, METHODS)
        if options.units in (None, units) and (method, size, units) not in by_key(found)
    ]
    for number, key in enumerate(wanted, start=1):
        cell = measure_apart(*key)
        key_of_cell = dict(zip(("method", "V", "D"), key, strict=True))
        found["cells"].append({**key_of_cell, **cell, "facts": facts})
        figures.write(found, options.json)
        print(
            f"{number}/{len(wanted)} {key[0]}, V = {key[1]:,}, D = {key[2]}: "
            f"{1000 * statistics.median(cell['seconds']):,.0f} ms, {cell['peak_gb']:.1f} GB",
            file=sys.stderr,
            flush=True,
        )
    print(table(found))
    if options.plot:
        draw(by_key(found), options.plot)


if __name__ == "__main__":
    main()
