"""Live audio on one core: latency of a chunk and real-time factor of the `stream` signature.

    python -m benchmarks.streaming                                  # zoo.streaming_ctc, untrained
    python -m benchmarks.streaming --model saved_models/speech      # a trained one, on --wav
    python -m benchmarks.streaming --clients 8                      # rows of one call

The state goes through the client in every call, as it does on a server. The latency is the time
from the last sample of a chunk to the text with it: median, 99th percentile. The real-time factor
is seconds of the core for a second of audio, of each client: processor time, which other work on
the machine does not add to as it does to the latency. The untrained model has the sizes of the
default and hears noise.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks import figures

SECONDS = 20  # of audio in each run
CHUNKS_MS = (10, 20, 100, 1000)


def untrained(folder):
    """Exports the default streaming model with random weights; returns its path."""
    import tensorflow as tf

    import kzoo
    from kzoo import export, zoo

    letters = kzoo.CharacterTokenizer.learn(["abcdefghijklmnopqrstuvwxyz '"], 32)
    source = kzoo.AudioSource(kzoo.LogMel(normalize="running"))
    model = zoo.streaming_ctc(source, letters)
    model({"source": tf.ones((1, 40, 80))})
    model.head.kernel.assign(10 * model.head.kernel)  # or no frame would prefer a letter
    return export.save(model, Path(folder) / "1")


def measure(model, samples, chunk, clients):
    """Seconds of each call of `stream`, of the processor in all, and the first client's text."""
    import numpy as np

    rows = np.repeat(samples[None], clients, axis=0)
    seconds, state, used = [], None, time.process_time()
    for start in range(0, rows.shape[1], chunk):
        before = time.perf_counter()
        texts, state = model.stream(rows[:, start : start + chunk], state)
        seconds.append(time.perf_counter() - before)
    return seconds, time.process_time() - used, texts[0]


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a SavedModel with the signature `stream`")
    parser.add_argument("--wav", help="a WAV file, repeated to 20 seconds; else noise")
    parser.add_argument("--clients", type=int, default=1, help="streams in one call")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    found = {"facts": figures.facts("streaming", threads=1), "clients": args.clients, "rows": []}
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    import numpy as np
    import tensorflow as tf

    from kzoo import export
    from kzoo.audio import decode_batch

    with tempfile.TemporaryDirectory() as folder:
        model = export.load(args.model or untrained(folder))
        size = SECONDS * model.rate_hz
        samples = np.random.default_rng(0).normal(0, 0.1, size)
        if args.wav:
            wav = tf.constant([Path(args.wav).read_bytes()])
            samples = np.resize(decode_batch(wav, model.rate_hz)[0][0], size)
        for chunk_ms in CHUNKS_MS:
            chunk = chunk_ms * model.rate_hz // 1000
            measure(model, samples[: 5 * chunk], chunk, args.clients)  # warm
            seconds, used, text = measure(model, samples, chunk, args.clients)
            found["rows"].append(
                {
                    "chunk_ms": chunk_ms,
                    "latency_ms": 1000 * float(np.median(seconds)),
                    "latency_ms_99": 1000 * float(np.percentile(seconds, 99)),
                    "real_time_factor": used / SECONDS / args.clients,
                    "letters": len(text),
                }
            )
            figures.write(found, args.json, is_over=False)
    figures.write(found, args.json)
    print(table(found))


def table(found):
    """The table of deploy/README.md, out of what `--json` has written."""
    rows = [
        [
            row["chunk_ms"],
            f"{row['latency_ms']:.2f}",
            f"{row['latency_ms_99']:.2f}",
            f"{row['real_time_factor']:.4f}",
        ]
        for row in found["rows"]
    ]
    header = [">chunk, ms", ">latency, ms: median", ">99 %", ">real-time factor"]
    return figures.table(header, rows, found["facts"])


if __name__ == "__main__":
    main()
