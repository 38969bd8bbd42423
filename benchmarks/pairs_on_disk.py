"""Training from a file of pairs that is larger than what a process may hold: memory and first step.

    python -m benchmarks.pairs_on_disk                   # two million generated pairs, 200 MB
    python -m benchmarks.pairs_on_disk --pairs 20000 --steps 5000 --batch_tokens 256   # is it flat?

Prints the seconds until the first step is done, counted from when the libraries are there, without
making the file and learning the vocabulary; the most memory of the process; and what is resident
after each tenth of the steps.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

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


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pairs_on_disk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch_tokens", type=int, default=2048)
    options = parser.parse_args()
    import keras

    import kzoo
    from kzoo.batching import PairsOnDisk, disk_batches

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.tsv"
        write_pairs(path, options.pairs)
        sample = PairsOnDisk(path).texts(
            np.arange(0, options.pairs, max(options.pairs // 2_000, 1))
        )
        sample = [text.decode() for side in sample for text in side]
        tokenizer = kzoo.SubwordTokenizer.learn(sample, vocabulary_size=4000)
        begin, processor = time.monotonic(), time.process_time()
        pairs = PairsOnDisk(path)
        batches = disk_batches(
            pairs, tokenizer, tokenizer, options.batch_tokens, max_length=64, seed=1
        )
        model = kzoo.zoo.transformer_tiny(tokenizer, tokenizer)
        model.compile(kzoo.FusedAdam(1e-3))
        times, resident = [], []

        def note(batch, logs):
            times.append((time.monotonic(), time.process_time()))
            if (batch + 1) % max(options.steps // 10, 1) == 0:
                resident.append(resident_megabytes())

        model.fit(
            batches.repeat(), steps_per_epoch=options.steps, shuffle=False, verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)],
        )  # fmt: skip
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        first, busy = (now - then for now, then in zip(times[0], (begin, processor), strict=True))
        print(
            f"{len(pairs):,} pairs, {path.stat().st_size / 1e6:,.0f} MB; "
            f"{int(batches.cardinality()):,} batches; first step after {first:.1f} s "
            f"({busy:.1f} s of processor time); {options.steps} steps; "
            f"at most {megabytes:,.0f} MB resident"
        )
        print(f"MB after each tenth: {' '.join(f'{each:,.0f}' for each in resident)}")


if __name__ == "__main__":
    main()
