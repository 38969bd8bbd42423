"""Training speed of kzoo's transformers beside keras_nlp and PyTorch, in target tokens per second.

    python -m benchmarks.training                                     # all of it, about 10 minutes
    python -m benchmarks.training --model tiny --precision float32    # one cell of the table
    python -m benchmarks.training --model base --rounds 5 --json training.json

A training step is forward pass, loss, backward pass and Adam, on one batch of fixed shape:

    tiny    4 + 4 layers, D  128, hidden  256, 4 heads, V 10,000, dropout 0.3, batch 256 x 16 tokens
    base    6 + 6 layers, D  512, hidden 2048, 8 heads, V 32,000, dropout 0.1, batch  64 x 32 tokens

    kzoo       zoo.transformer_tiny / transformer_base under `fit`, as they come, with FusedAdam.
    keras_nlp  keras_nlp.layers.TransformerEncoder / TransformerDecoder, SinePositionEncoding and
               a tied ReversibleEmbedding under `fit`, with Keras's Adam; a trial decides
               `jit_compile`.
    torch      torch.nn.Transformer, the embedding tied, fused Adam, torch.autocast for bfloat16.

All three are post-norm, have the same number of parameters, take the padding mask of the source
(all of it real here), ignore label 0, and drop out the same activations: the embedded inputs and
the output of every sublayer. For this, two dropouts are switched off in the peers that kzoo does
not have, which makes them faster: on the attention weights in both, and inside the feed-forward
network in torch. What still differs:

    keras_nlp  no label smoothing: Keras offers none for sparse labels.
    torch      label smoothing includes the padding class.
    kzoo       in mixed_bfloat16 its softmax over the vocabulary stays in bfloat16, and sums up in
               float32; the peers' losses are float32 throughout. It also makes attention weights
               that nobody reads here.

Each peer lives in a process of its own, and only one of them works at a time. They take turns,
round by round; the table shows medians. In the same rounds a fourth process measures what this
machine reaches in a product of two 2048 x 2048 matrices in TensorFlow in the same dtype. Absolute
numbers mean little on a shared machine; the ratios stand.
"""

import argparse
import dataclasses
import importlib.util
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import figures

PRECISIONS = ("float32", "mixed_bfloat16")
GEMM_SIZE = 2048
GEMM_SECONDS = 1.0  # of each measurement of the matrix product
LEARNING_RATE = 1e-4
START_ID, END_ID, FIRST_WORD_ID = 1, 2, 4  # as in kzoo.text


@dataclasses.dataclass(frozen=True)
class Size:
    """A transformer and the batch it is trained on; source and target have one length."""

    layers: int  # in the encoder, and again in the decoder
    units: int
    heads: int
    hidden_units: int
    vocabulary_size: int
    dropout: float
    rows: int  # sentence pairs in a batch
    length: int  # tokens of each sentence

    @property
    def target_tokens(self):
        return self.rows * self.length


SIZES = {
    "tiny": Size(4, 128, 4, 256, 10_000, 0.3, rows=256, length=16),
    "base": Size(6, 512, 8, 2048, 32_000, 0.1, rows=64, length=32),
}


def model_flops(size):
    """FLOPs of the matrix products of one training step.

    A product of an (n, k) and a (k, m) matrix is 2 n k m FLOPs. The backward pass makes two such
    products for each one of the forward pass, hence the factor 3. Softmax, normalisation, dropout
    and Adam do not count, nor does what causal masking could save.
    """
    d = size.units
    feed_forward = 2 * d * size.hidden_units
    attention = 2 * size.length * d  # query times keys, weights times values
    encoder = 4 * d * d + attention + feed_forward  # W_q, W_k, W_v, W_o
    decoder = 2 * (4 * d * d + attention) + feed_forward  # self- and cross-attention
    head = d * size.vocabulary_size
    per_token = size.layers * (encoder + decoder) + head  # source and target have as many tokens
    return 3 * 2 * per_token * size.target_tokens


def batches(size, count=8):
    """Random (source, target, labels), each (count, B, T) int32: nothing that can be learnt."""
    import numpy as np

    rng = np.random.default_rng(1)
    shape = (2, count, size.rows, size.length)
    source, labels = rng.integers(FIRST_WORD_ID, size.vocabulary_size, shape, dtype=np.int32)
    labels[..., -1] = END_ID
    target = np.roll(labels, 1, axis=-1)
    target[..., 0] = START_ID
    return source, target, labels


# Each peer is a function (model name, size, precision, threads, jit) -> (train, facts), where
# `train(steps)` returns the seconds that so many steps took, and `facts()` a dict for the report.


def kzoo_peer(name, size, precision, threads, jit):
    _keras(precision, threads)
    from kzoo import FusedAdam, zoo

    class Vocabulary:
        """All that an untrained model asks of its tokenizer."""

        def vocabulary_size(self):
            return size.vocabulary_size

    vocabulary = Vocabulary()  # one for both sides: all embeddings are tied
    model = getattr(zoo, f"transformer_{name}")(vocabulary, vocabulary, dropout=size.dropout)
    model.compile(FusedAdam(LEARNING_RATE))
    return _fit(model, size), lambda: {"parameters": model.count_params()}


def keras_nlp_peer(name, size, precision, threads, jit):
    keras = _keras(precision, threads)
    import keras_nlp

    embedding = keras_nlp.layers.ReversibleEmbedding(
        size.vocabulary_size,
        size.units,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=size.units**-0.5),
    )

    def embed(ids):
        x = embedding(ids) * size.units**0.5
        x = x + keras_nlp.layers.SinePositionEncoding()(x)
        return keras.layers.Dropout(size.dropout)(x)

    source = keras.Input((size.length,), dtype="int32", name="source")
    target = keras.Input((size.length,), dtype="int32", name="target")
    block = {
        "intermediate_dim": size.hidden_units,
        "num_heads": size.heads,
        "dropout": size.dropout,
    }
    mask = keras.ops.not_equal(source, 0)
    memory = embed(source)
    for _ in range(size.layers):
        layer = keras_nlp.layers.TransformerEncoder(**block)
        layer.build(memory.shape)
        _no_attention_dropout(layer._self_attention_layer)
        memory = layer(memory, padding_mask=mask)
    x = embed(target)
    for _ in range(size.layers):
        layer = keras_nlp.layers.TransformerDecoder(**block)
        layer.build(x.shape, memory.shape)
        _no_attention_dropout(layer._self_attention_layer)
        _no_attention_dropout(layer._cross_attention_layer)
        x = layer(x, memory, encoder_padding_mask=mask)
    model = keras.Model({"source": source, "target": target}, embedding(x, reverse=True))

    def compiled(jit_compile):
        model.compile(
            keras.optimizers.Adam(LEARNING_RATE),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
            jit_compile=jit_compile,
        )
        train = _fit(model, size)
        train(1)  # traces and compiles
        return train

    if jit == "try":
        seconds = {choice: compiled(choice)(1) for choice in (True, False)}
        note = f"a step took {seconds[False]:.2f} s without XLA, {seconds[True]:.2f} s with it; "
        best = min(seconds, key=seconds.get)
    else:
        note, best = "", jit == "on"
    note += f"measured with jit_compile={best}"
    train = compiled(best)
    return train, lambda: {"parameters": model.count_params(), "note": note}


def _no_attention_dropout(attention):
    # keras_nlp has one rate for this and the dropout of the sublayer. Keras reads `_dropout` when
    # it is called, and takes the same path as if the layer had been made with dropout=0.
    if not attention._dropout > 0:
        raise RuntimeError("keras.layers.MultiHeadAttention no longer keeps its rate in _dropout.")
    attention._dropout = 0.0


def torch_peer(name, size, precision, threads, jit):
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)
    torch.manual_seed(1)

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(size.vocabulary_size, size.units)
            nn.init.normal_(self.embedding.weight, std=size.units**-0.5)
            self.register_buffer("positions", _sine_positions(size.length, size.units))
            self.dropout = nn.Dropout(size.dropout)
            self.transformer = nn.Transformer(
                size.units, size.heads, size.layers, size.layers, size.hidden_units, size.dropout,
                batch_first=True,
            )  # fmt: skip
            # Post-norm needs no further normalisation at the end of a stack.
            self.transformer.encoder.norm = self.transformer.decoder.norm = None
            for layer in (*self.transformer.encoder.layers, *self.transformer.decoder.layers):
                layer.dropout = nn.Identity()  # inside the feed-forward network
                layer.self_attn.dropout = 0.0
                if hasattr(layer, "multihead_attn"):
                    layer.multihead_attn.dropout = 0.0
            causal = nn.Transformer.generate_square_subsequent_mask(size.length)
            self.register_buffer("causal", causal == -math.inf)

        def embed(self, ids):
            return self.dropout(self.embedding(ids) * size.units**0.5 + self.positions)

        def forward(self, source, target):
            padding = source == 0
            hidden = self.transformer(
                self.embed(source),
                self.embed(target),
                tgt_mask=self.causal,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
                tgt_is_causal=True,
            )
            return functional.linear(hidden, self.embedding.weight)

    model = Transformer().train()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    data = list(zip(*(torch.from_numpy(x).long() for x in batches(size)), strict=True))
    bfloat16 = precision == "mixed_bfloat16"

    def train(steps):
        start = time.perf_counter()
        for step in range(steps):
            source, target, labels = data[step % len(data)]
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(source, target)
                loss = functional.cross_entropy(
                    logits.flatten(0, 1), labels.flatten(), ignore_index=0, label_smoothing=0.1
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    return train, lambda: {"parameters": sum(p.numel() for p in model.parameters())}


def _sine_positions(length, units):
    import torch

    angles = torch.arange(length)[:, None] * 10_000 ** (-torch.arange(0, units, 2) / units)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def gemm_peer(name, size, precision, threads, jit):
    """Not a peer but the yardstick: a step is one large matrix product in TensorFlow."""
    _keras(precision, threads)
    import tensorflow as tf

    dtype = tf.float32 if precision == "float32" else tf.bfloat16
    a, b = (tf.cast(tf.random.normal((GEMM_SIZE, GEMM_SIZE)), dtype) for _ in range(2))
    product = tf.function(tf.matmul)

    def train(steps):
        start = time.perf_counter()
        for _ in range(steps):
            product(a, b)
        return time.perf_counter() - start

    return train, dict


def _keras(precision, threads):
    """Sets up TensorFlow in a new process; returns keras."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(1)
    return keras


def _fit(model, size):
    """Returns train(steps) -> seconds between begin of the first and end of the last step."""
    import keras
    import tensorflow as tf

    source, target, labels = batches(size)
    dataset = tf.data.Dataset.from_tensor_slices(({"source": source, "target": target}, labels))
    dataset = dataset.cache().repeat().prefetch(2)

    class Clock(keras.callbacks.Callback):
        start = end = None

        def on_train_batch_begin(self, batch, logs=None):
            self.start = self.start or time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.end = time.perf_counter()

    def train(steps):
        clock = Clock()
        model.fit(
            dataset, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0, callbacks=[clock]
        )
        return clock.end - clock.start

    return train


PEERS = {
    "kzoo": kzoo_peer,
    "keras_nlp": keras_nlp_peer,
    "torch": torch_peer,
    "gemm": gemm_peer,
}


def work(connection, log, peer, *arguments):
    """A peer's process: warms up, reports, then trains as many steps as it is told, until None."""
    os.dup2(os.open(log, os.O_WRONLY), 2)  # TensorFlow greets at length
    try:
        train, facts = PEERS[peer](*arguments)
        train(1)  # traces
        connection.send({"step_seconds": train(1), **facts()})
        while (steps := connection.recv()) is not None:
            connection.send(train(steps))
    except Exception:
        connection.send(traceback.format_exc())


class Worker:
    """The parent's end of a peer's process."""

    def __init__(self, peer, *arguments):
        context = multiprocessing.get_context("spawn")  # a fresh interpreter
        self.peer = peer
        self.connection, theirs = context.Pipe()
        self.log = tempfile.NamedTemporaryFile(prefix=f"{peer}_", suffix=".log")  # noqa: SIM115
        arguments = (theirs, self.log.name, peer, *arguments)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.facts = self._receive()

    def train(self, steps):
        self.connection.send(steps)
        return self._receive()

    def close(self):
        self.connection.send(None)
        self.process.join()

    def _receive(self):
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            last_words = self.log.read().decode(errors="replace")[-2000:]
            code = self.process.exitcode
            answer = f"exit code {code} (-9 often means out of memory).\n{last_words}"
        if isinstance(answer, str):
            sys.exit(f"The process of {self.peer} failed: {answer}")
        return answer


def measure_cell(name, size, precision, options, say):
    """Measures all peers in one cell of the table, round by round.

    Returns:
        dict for the JSON file: model, precision, size, model_flops, and for each peer its steps
        per round, seconds of each round, median rate, parameters and note.
    """
    flops = model_flops(size)
    workers, steps = [], {}
    for peer in PEERS:  # one after the other, so that none warms up beside another
        if peer == "torch" and importlib.util.find_spec("torch") is None:
            continue
        worker = Worker(peer, name, size, precision, options.threads, options.jit)
        workers.append(worker)
        step_seconds = worker.facts["step_seconds"]
        wanted = GEMM_SECONDS if peer == "gemm" else options.seconds
        steps[peer] = max(1, round(wanted / step_seconds))
        if options.steps and peer != "gemm":
            steps[peer] = options.steps
        note = f", {worker.facts['note']}" if "note" in worker.facts else ""
        say(f"{name} {precision} {peer}: warm, {step_seconds:.3f} s a step{note}")

    seconds = {worker.peer: [] for worker in workers}
    for number in range(options.rounds):
        for worker in workers:
            seconds[worker.peer].append(worker.train(steps[worker.peer]))
            per_step = seconds[worker.peer][-1] / steps[worker.peer]
            rate = (
                f"{2 * GEMM_SIZE**3 / per_step / 1e9:,.0f} GFLOP/s"
                if worker.peer == "gemm"
                else f"{size.target_tokens / per_step:,.0f} tokens/s"
            )
            say(f"{name} {precision} round {number + 1}/{options.rounds} {worker.peer}: {rate}")
    for worker in workers:
        worker.close()

    result = {
        "model": name,
        "precision": precision,
        "size": dataclasses.asdict(size),
        "model_flops": flops,
        "peers": {},
    }
    for worker in workers:
        step_seconds = statistics.median(seconds[worker.peer]) / steps[worker.peer]
        row = {"steps": steps[worker.peer], "seconds": seconds[worker.peer]}
        row |= {key: worker.facts[key] for key in ("parameters", "note") if key in worker.facts}
        if worker.peer == "gemm":
            result["gemm"] = {**row, "gflops": 2 * GEMM_SIZE**3 / step_seconds / 1e9}
            continue
        row["tokens_per_second"] = size.target_tokens / step_seconds
        row["gflops"] = flops / step_seconds / 1e9
        result["peers"][worker.peer] = row
    return result


def table(found):
    """The table of README.md, out of what `--json` has written."""
    return "\n".join([*_lines(found["cells"]), "", figures.made(found["facts"])])


def _lines(results):
    lines = [
        "| model | precision | kzoo | keras_nlp | torch | kzoo / best peer | kzoo, GFLOP/s |"
        " GEMM, GFLOP/s | share |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        peers = result["peers"]
        rates = {peer: row["tokens_per_second"] for peer, row in peers.items()}
        best = max(rate for peer, rate in rates.items() if peer != "kzoo")
        gemm = result["gemm"]["gflops"]
        cells = [
            result["model"],
            result["precision"],
            *(f"{rates[p]:,.0f}" if p in rates else "-" for p in ("kzoo", "keras_nlp", "torch")),
            f"{rates['kzoo'] / best:.2f}",
            f"{peers['kzoo']['gflops']:,.0f}",
            f"{gemm:,.0f}",
            f"{peers['kzoo']['gflops'] / gemm:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def report(results, facts):
    """Returns the table and what one must know to read it, in Markdown."""
    lines = _lines(results)
    rounds = len(results[0]["gemm"]["seconds"])
    lines += [
        "",
        f"Target tokens per second in training (forward, loss, backward, Adam), median of {rounds} "
        "rounds in which the peers took turns.",
        "GFLOP/s count the matrix products of the model; GEMM is a product of two "
        f"{GEMM_SIZE} x {GEMM_SIZE} matrices in TensorFlow, in the same rounds.",
        "",
    ]
    seen = {}
    for result in results:
        size, peers = result["size"], result["peers"]
        seen.setdefault(result["model"], (size, {row["parameters"] for row in peers.values()}))
    for name, (size, parameters) in seen.items():
        counts = " or ".join(f"{count:,}" for count in sorted(parameters))
        lines.append(
            f"- {name}: {size['layers']} + {size['layers']} layers, D {size['units']}, hidden "
            f"{size['hidden_units']}, {size['heads']} heads, V {size['vocabulary_size']:,}, "
            f"dropout {size['dropout']}, {counts} parameters; batch of {size['rows']} pairs of "
            f"{size['length']} tokens."
        )
    for result in results:
        for peer, row in result["peers"].items():
            if "note" in row:
                lines.append(f"- {peer}, {result['model']} {result['precision']}: {row['note']}.")
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    return "\n".join(lines)


def parse(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", nargs="+", choices=SIZES, default=list(SIZES), help="default: tiny base"
    )
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="default: both"
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="turns of each peer; default 3")
    parser.add_argument("--steps", type=_positive, help="steps of a turn, instead of --seconds")
    parser.add_argument(
        "--seconds", type=_positive, default=5, help="length of a turn, at least a step; default 5"
    )
    parser.add_argument(
        "--rows", type=_positive, help="sentence pairs in a batch; default 256 (tiny), 64 (base)"
    )
    parser.add_argument(
        "--threads",
        type=_positive,
        default=len(os.sched_getaffinity(0)),
        help="of each peer; default: all that this process may use",
    )
    parser.add_argument(
        "--jit",
        choices=("try", "off", "on"),
        default="try",
        help="XLA for keras_nlp; the trial takes a minute for each line of the table",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="save the raw numbers here")
    return parser.parse_args(argv)


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def main(options):
    start = time.perf_counter()

    def say(text):
        print(f"[{time.perf_counter() - start:4.0f} s] {text}", file=sys.stderr, flush=True)

    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    facts = figures.facts("training", "keras-nlp", "torch", threads=options.threads)
    say(f"load average {facts['load average at the start']}")
    results = []
    for name in options.model:
        size = SIZES[name]
        if options.rows:
            size = dataclasses.replace(size, rows=options.rows)
        for precision in options.precision:
            results.append(measure_cell(name, size, precision, options, say))
            figures.write({"facts": facts, "cells": results}, options.json, is_over=False)
    figures.write({"facts": facts, "cells": results}, options.json)
    minutes = (time.perf_counter() - start) / 60
    print(report(results, {**facts, "command": f"{facts['command']} ({minutes:.0f} minutes)"}))
    return results


if __name__ == "__main__":
    main(parse())
