"""Training on two workers beside one process, in target tokens a second under `fit`.

    python -m benchmarks.workers                                # about 5 minutes
    python -m benchmarks.workers --model base --steps 3

The same model and the same batch of `benchmarks.training` in four ways, one after the other:

    one core      one process on one core
    two cores     one process on two cores, two threads
    two workers   two processes of one core each on loopback, tf.distribute's
                  MultiWorkerMirroredStrategy: each has half of the batch, gradients are added up
    two halves    two such processes that know nothing of each other, each with half of the batch:
                  what two workers take more than this is lost to communication.

Each of them is a new process in every round; the table has medians.
"""

import argparse
import dataclasses
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import figures
from benchmarks.training import LEARNING_RATE, SIZES, batches

WARM_STEPS = 2


def measure(name, rows, cores, steps, addresses=None, index=None):
    """In a process of its own: prints the seconds of a step as JSON."""
    os.sched_setaffinity(0, cores)
    import keras
    import tensorflow as tf

    import kzoo

    tf.config.threading.set_intra_op_parallelism_threads(len(cores))
    workers = kzoo.training.distribution.join(addresses, index) if addresses else None
    strategy = workers.strategy if workers else tf.distribute.get_strategy()
    size = dataclasses.replace(SIZES[name], rows=rows)

    class Vocabulary:
        """All that an untrained model asks of its tokenizer."""

        def vocabulary_size(self):
            return size.vocabulary_size

    class Clock(keras.callbacks.Callback):
        """The times at which batches ended."""

        def on_train_begin(self, logs=None):
            self.times = []

        def on_train_batch_end(self, batch, logs=None):
            self.times.append(time.perf_counter())

    vocabulary, clock = Vocabulary(), Clock()
    with strategy.scope():
        make = getattr(kzoo.zoo, f"transformer_{name}")
        model = make(vocabulary, vocabulary, dropout=size.dropout)
        model.compile(kzoo.FusedAdam(LEARNING_RATE))
    source, target, labels = batches(size)
    data = tf.data.Dataset.from_tensor_slices(({"source": source, "target": target}, labels))
    model.fit(
        data.cache().repeat().prefetch(2), steps_per_epoch=WARM_STEPS + steps, shuffle=False,
        verbose=0, callbacks=[clock],
    )  # fmt: skip
    times = clock.times[WARM_STEPS - 1 :]
    seconds = [b - a for a, b in itertools.pairwise(times)]
    print(json.dumps(statistics.median(seconds)), flush=True)
    if workers:
        workers.leave()


def run(*processes):
    """Starts processes of `measure` side by side; the seconds of a step of the slowest."""
    command = [sys.executable, "-m", "benchmarks.workers", "--measure"]
    running = [
        subprocess.Popen(
            [*command, json.dumps(each)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for each in processes
    ]
    seconds = []
    for process in running:
        answer, error = process.communicate()
        numbers = [line for line in answer.splitlines() if line[:1].isdigit()]
        if process.returncode or not numbers:
            sys.exit(f"A process failed: {error[-3000:]}")
        seconds.append(float(numbers[-1]))
    return max(seconds)


def free_addresses():
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other))


def ways(name, rows, steps, cores):
    """{way: its processes} for one round."""
    case = {"name": name, "rows": rows, "steps": steps}
    addresses = free_addresses()
    return {
        "one core": [case | {"cores": cores[:1]}],
        "two cores": [case | {"cores": cores}],
        "two workers": [
            case | {"cores": [core], "addresses": addresses, "index": index}
            for index, core in enumerate(cores)
        ],
        "two halves": [case | {"cores": [core], "rows": rows // 2} for core in cores],
    }


def table(found):
    """The table of README.md, out of what `--json` has written."""
    rows = []
    for case in found["cases"]:
        seconds = {way: statistics.median(each) for way, each in case["seconds"].items()}
        alone, both, two, halves = (
            seconds[way] for way in ("one core", "two cores", "two workers", "two halves")
        )
        rates = (f"{case['tokens'] / each:,.0f}" for each in (alone, both, two))
        rows.append(
            [case["model"], *rates, f"{alone / two:.2f}", f"{max(1 - halves / two, 0.0):.0%}"]
        )
    header = ["model", ">one process, one core", ">one process, two cores"]
    header += [">two workers of one core", ">two workers / one core", ">lost to communication"]
    return figures.table(header, rows, found["facts"])


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=SIZES, default="tiny")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of a round; default 12")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.measure:
        measure(**json.loads(options.measure))
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("Two workers need two cores.")
    size, seconds = SIZES[options.model], {}
    case = {"model": options.model, "tokens": size.rows * size.length, "seconds": seconds}
    found = {"facts": figures.facts("workers"), "cases": [case]}
    for number in range(options.rounds):
        for way, processes in ways(options.model, size.rows, options.steps, cores).items():
            seconds.setdefault(way, []).append(run(*processes))
            said = f"round {number + 1}/{options.rounds} {way}: {seconds[way][-1]:.3f} s a step"
            print(said, file=sys.stderr, flush=True)
            figures.write(found, options.json, is_over=False)
    figures.write(found, options.json)
    print(table(found))


if __name__ == "__main__":
    main()
