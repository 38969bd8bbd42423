"""Activations kept or computed again (`--recompute`): memory and time of a step on long inputs.

    python -m benchmarks.recomputing                       # 6 + 6 layers, 8 sources of 512 tokens
    python -m benchmarks.recomputing --layers 12 --tokens 1024

Each way has a process of its own. What a step adds is the most memory of the process, less what was
resident before the first step.
"""

import argparse
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import figures
from benchmarks.memory import resident_megabytes

VOCABULARY, UNITS, ROWS, TARGET_TOKENS, STEPS = 30, 256, 8, 64, 5


def measure(layers, tokens, recompute):
    """Megabytes that steps add, and seconds of one."""
    import keras
    import tensorflow as tf

    import kzoo

    keras.utils.set_random_seed(0)
    embedding = kzoo.TokenEmbedding(VOCABULARY, UNITS)
    shape = {"num_layers": layers, "num_heads": 4, "hidden_units": 4 * UNITS, "dropout": 0.1}
    encoder = kzoo.TransformerEncoder(embedding, **shape)
    decoder = kzoo.TransformerDecoder(embedding, **shape)
    head = kzoo.VocabularyHead(VOCABULARY, UNITS, tied=embedding)
    encoder.recompute = decoder.recompute = recompute
    model = kzoo.Seq2Seq(encoder, decoder, head)
    model.compile(kzoo.FusedAdam(1e-4))
    source = tf.random.uniform((ROWS, tokens), 4, VOCABULARY, tf.int32, seed=1)
    target = tf.random.uniform((ROWS, TARGET_TOKENS), 4, VOCABULARY, tf.int32, seed=2)
    ragged = (tf.RaggedTensor.from_tensor(ids) for ids in (source, target))
    batch = kzoo.batching.teacher_forcing(*ragged)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    model(batch[0])
    before = resident_megabytes()
    model.fit(dataset, steps_per_epoch=1, shuffle=False, verbose=0)
    begin = time.monotonic()
    model.fit(dataset, steps_per_epoch=STEPS, shuffle=False, verbose=0)
    seconds = (time.monotonic() - begin) / STEPS
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return most - before, seconds


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recomputing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layers", type=int, default=6, help="of encoder and of decoder")
    parser.add_argument("--tokens", type=int, default=512, help="of each of 8 sources")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found = {"facts": figures.facts("recomputing"), "rows": []}
    for recompute in (False, True):
        with ProcessPoolExecutor(1, context) as pool:
            done = pool.submit(measure, options.layers, options.tokens, recompute)
            megabytes, seconds = done.result()
        row = {"recompute": recompute, "megabytes": megabytes, "seconds": seconds}
        found["rows"].append(row)
        figures.write(found, options.json, is_over=False)
    figures.write(found, options.json)
    print(table(found))


def table(found):
    """The table of README.md, out of what `--json` has written."""
    kept = found["rows"][0]
    rows = [
        [
            "computed again" if row["recompute"] else "kept",
            f"{row['megabytes']:,.0f}",
            f"{1000 * row['seconds']:,.0f}",
            f"{row['megabytes'] / kept['megabytes']:.2f}",
            f"{row['seconds'] / kept['seconds']:.2f}",
        ]
        for row in found["rows"]
    ]
    header = ["activations", ">MB added by steps", ">ms a step", ">memory / kept", ">time / kept"]
    return figures.table(header, rows, found["facts"])


if __name__ == "__main__":
    main()
