"""Training from a file of pairs that is larger than what a process may hold: memory and first step.

    python -m benchmarks.pairs_on_disk                   # two million generated pairs, 200 MB
    python -m benchmarks.pairs_on_disk --pairs 20000 --steps 5000 --batch_tokens 256   # is it flat?

Measured are the seconds until the first step is done, counted from when the libraries are there,
without making the file and learning the vocabulary; the most memory of the process; and what is
resident after each tenth of the steps. Each size of batches has a process of its own.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import figures
from benchmarks.memory import resident_megabytes


def write_pairs(path, count):
    """Writes random words, and the same words the other way round in capitals."""
    rng = np.random.default_rng(1)
    words = np.array(
        ["".join(rng.choice(list("aeioulmnrst"), rng.integers(2, 9))) for _ in range(5000)]
    )
    with path.open("w", encoding="utf-8") as file:
        for begin in range(0, count, 10_000):
            rows = min(10_000, count - begin)
            lengths = rng.integers(3, 15, rows)
            places = np.minimum(rng.zipf(1.3, lengths.sum()) - 1, len(words) - 1)
            for chosen in np.split(words[places], np.cumsum(lengths)[:-1]):
                text = " ".join(chosen)
                file.write(f"{text}\t{' '.join(reversed(text.upper().split()))}\n")


def measure(path, batch_tokens, steps):
    """One training, in a process of its own."""
    import keras

    import kzoo
    from kzoo.batching import PairsOnDisk, disk_batches

    pairs = PairsOnDisk(path)
    sample = pairs.texts(np.arange(0, len(pairs), max(len(pairs) // 2_000, 1)))
    sample = [text.decode() for side in sample for text in side]
    tokenizer = kzoo.SubwordTokenizer.learn(sample, vocabulary_size=4000)
    begin, processor = time.monotonic(), time.process_time()
    pairs = PairsOnDisk(path)
    batches = disk_batches(pairs, tokenizer, tokenizer, batch_tokens, max_length=64, seed=1)
    model = kzoo.zoo.transformer_tiny(tokenizer, tokenizer)
    model.compile(kzoo.FusedAdam(1e-3))
    times, resident = [], []

    def note(batch, logs):
        times.append((time.monotonic(), time.process_time()))
        if (batch + 1) % max(steps // 10, 1) == 0:
            resident.append(resident_megabytes())

    model.fit(
        batches.repeat(), steps_per_epoch=steps, shuffle=False, verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)],
    )  # fmt: skip
    first, busy = (now - then for now, then in zip(times[0], (begin, processor), strict=True))
    return {
        "pairs": len(pairs),
        "file_megabytes": path.stat().st_size / 1e6,
        "batch_tokens": batch_tokens,
        "batches": int(batches.cardinality()),
        "most_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "first_step_seconds": first,
        "first_step_processor_seconds": busy,
        "resident_megabytes": resident,  # after each tenth of the steps
    }


def table(found):
    """The table of README.md, out of what `--json` has written. A MB is 2**20 bytes in memory."""
    rows = [
        [
            f"{row['pairs']:,}",
            f"{row['batch_tokens']:,}",
            f"{row['batches']:,}",
            f"{row['first_step_seconds']:.1f}",
            f"{row['first_step_processor_seconds']:.1f}",
            f"{row['most_megabytes']:,.0f}",
            " ".join(f"{each:,.0f}" for each in row["resident_megabytes"]),
        ]
        for row in found["rows"]
    ]
    header = [">pairs", ">tokens of a batch", ">batches", ">first step, s", ">of the processor, s"]
    header += [">most MB resident", "MB after each tenth of the steps"]
    return figures.table(header, rows, found["facts"])


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pairs_on_disk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch_tokens", type=int, nargs="+", default=[2048, 1024])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    found = {"facts": figures.facts("pairs_on_disk"), "rows": []}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.tsv"
        write_pairs(path, options.pairs)
        for batch_tokens in options.batch_tokens:
            with ProcessPoolExecutor(1, context) as pool:
                row = pool.submit(measure, path, batch_tokens, options.steps).result()
            found["rows"].append(row)
            figures.write(found, options.json, is_over=False)
    figures.write(found, options.json)
    print(table(found))


if __name__ == "__main__":
    main()
