"""Time of each layer, forward and backward, beside its nearest peer in Keras or keras_nlp.

    python -m benchmarks.layers                        # all rows, about five minutes
    python -m benchmarks.layers --only Luong --rounds 9
    python -m benchmarks.layers --json layers.json

Each row is one `tf.function` without XLA, in float32 where it names no other precision, that
computes the layer's output and its gradient for all weights and all inputs, of batch 32, 64 source
and 64 target steps, 256 features, with a padding mask. kzoo and its peer take turns, round by
round, in one process; the table shows medians and how many times as fast kzoo is. Absolute times
mean little on a shared machine.

Peers do the same work where there is one: Keras's AdditiveAttention and Attention project neither
query nor memory, so they get `Dense` layers in front. Where the note says "more work", the peer is
only the nearest: Keras has no layer with that equation. Outputs that only kzoo returns, such as
attention weights, are asked of the peer, too, if it has them. AttentionDecoder, PyramidalEncoder
and FixedContext have no peer; the stacks are their blocks several times.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures

B, T, S, D, H, V = 32, 64, 64, 256, 4, 10_000
HEAD = "| layer | peer | kzoo ms | peer ms | times as fast | note |\n|---|---|--:|--:|--:|---|"


@dataclass(frozen=True)
class Row:
    """A layer of kzoo, its peer, and what both are called with."""

    name: str
    kzoo: Callable  # () -> function of the inputs
    peer_name: str
    peer: Callable
    inputs: str  # names of the arguments: "query memory", "x", "ids"
    note: str = ""
    precision: str = "float32"


def rows():
    import keras
    import keras_nlp
    import tensorflow as tf

    import kzoo
    from kzoo.layers.dropout import Dropout
    from kzoo.layers.normalization import LayerNormalization

    lengths = tf.range(S - B, S) + 1  # each row has other padding
    mask = tf.sequence_mask(lengths, S)
    layers, nlp = keras.layers, keras_nlp.layers

    def attention(layer):
        return lambda query, memory: layer(query, memory, memory_mask=mask)

    def keras_attention(layer, project_query=True, project_memory=True):
        """Keras's attention with the projections that the paper has and Keras has not."""
        query_layer = layers.Dense(D) if project_query else None
        memory_layer = layers.Dense(D, use_bias=False) if project_memory else None

        def call(query, memory):
            q = query_layer(query) if query_layer else query
            k = memory_layer(memory) if memory_layer else memory
            return layer([q, memory, k], mask=[None, mask], return_attention_scores=True)

        return call

    def keras_multi_head(causal=False):
        layer = layers.MultiHeadAttention(H, D // H)
        return lambda x: layer(
            x, x, key_mask=mask, use_causal_mask=causal, return_attention_scores=True
        )

    def keras_grouped(groups):
        layer = layers.GroupQueryAttention(D // H, H, groups)
        return lambda x: layer(x, x, key_mask=mask, return_attention_scores=True)

    def self_attention(layer, causal=False):
        return lambda x: layer(x, x, memory_mask=mask, causal=causal)

    def attention_with(positions):
        return kzoo.MultiHeadAttention(H, D // H, positions=positions)

    def masked(layer):
        return lambda x: layer(x, mask=mask, training=True)

    def training(layer):
        return lambda x: layer(x, training=True)

    def encoder(direction, cell):
        layer = kzoo.RecurrentEncoder(layers.Identity(), D, cell=cell, direction=direction)
        return lambda x: layer(x, source_mask=mask, training=True)

    def keras_rnn(cell, bidirectional=False):
        rnn = {"lstm": layers.LSTM, "gru": layers.GRU, "simple": layers.SimpleRNN}[cell]
        layer = rnn(D, return_sequences=True, return_state=True)
        return masked(layers.Bidirectional(layer) if bidirectional else layer)

    def decoder_block():
        layer = kzoo.TransformerDecoderBlock(H, 4 * D)
        return lambda query, memory: layer(query, memory, memory_mask=mask, training=True)

    def keras_nlp_decoder():
        layer = nlp.TransformerDecoder(4 * D, H)
        return lambda query, memory: layer(query, memory, encoder_padding_mask=mask, training=True)

    def keras_nlp_encoder():
        layer = nlp.TransformerEncoder(4 * D, H)
        return lambda x: layer(x, padding_mask=mask, training=True)

    def encoder_block():
        layer = kzoo.TransformerEncoderBlock(H, 4 * D)
        return lambda x: layer(x, mask=mask, training=True)

    def rotary(layer):
        return lambda x: layer.rotate(tf.reshape(x, (B, H, -1, D // H)), tf.range(S))

    def keras_nlp_rotary():
        layer = nlp.RotaryEmbedding(sequence_axis=2)
        return lambda x: layer(tf.reshape(x, (B, H, -1, D // H)))

    def sine():
        layer = nlp.SinePositionEncoding()
        return lambda x: x + layer(x)

    def learned():
        layer = nlp.PositionEmbedding(S)
        return lambda x: x + layer(x)

    def additive():
        return keras_attention(layers.AdditiveAttention())

    def dot(**options):
        return keras_attention(layers.Attention(), **options)

    ids = "ids"
    both, x = "query memory", "x"
    more = "more work"
    blanks = f"{more}: zeros and no NaN from the padding"
    step_by_step = "more work: one step after the other"
    return [
        Row("BahdanauAttention", lambda: attention(kzoo.BahdanauAttention(D)),
            "2 Dense, AdditiveAttention", additive, both),
        Row("LuongAttention dot", lambda: attention(kzoo.LuongAttention("dot")),
            "Attention", lambda: dot(project_query=False, project_memory=False), both, blanks),
        Row("LuongAttention general", lambda: attention(kzoo.LuongAttention()),
            "Dense, Attention", lambda: dot(project_query=False), both, blanks),
        Row("LuongAttention concat", lambda: attention(kzoo.LuongAttention("concat")),
            "2 Dense, AdditiveAttention", additive, both),
        Row("LocalAttention predictive", lambda: attention(kzoo.LocalAttention()),
            "Dense, Attention", lambda: dot(project_query=False), both,
            f"{more}: places, windows, a Gaussian"),
        Row("LocalAttention monotonic", lambda: attention(kzoo.LocalAttention(10, "monotonic")),
            "Dense, Attention", lambda: dot(project_query=False), both, f"{more}: windows"),
        Row("MonotonicAttention", lambda: attention(kzoo.MonotonicAttention(D)),
            "2 Dense, AdditiveAttention", additive, both, step_by_step),
        Row("LocationAwareAttention", lambda: attention(kzoo.LocationAwareAttention(D, 10, 21)),
            "2 Dense, AdditiveAttention", additive, both, step_by_step),
        Row("MultiHeadAttention", lambda: self_attention(kzoo.MultiHeadAttention(H, D // H)),
            "MultiHeadAttention", keras_multi_head, x),
        Row("MultiHeadAttention causal",
            lambda: self_attention(kzoo.MultiHeadAttention(H, D // H), causal=True),
            "MultiHeadAttention", lambda: keras_multi_head(causal=True), x),
        Row("MultiHeadAttention grouped",
            lambda: self_attention(kzoo.MultiHeadAttention(H, D // H, num_key_value_heads=2)),
            "GroupQueryAttention", lambda: keras_grouped(2), x),
        Row("RelativePositions",
            lambda: self_attention(attention_with(kzoo.RelativePositions())),
            "MultiHeadAttention", keras_multi_head, x, f"{more}: a bias for each distance"),
        Row("AlibiPositions", lambda: self_attention(attention_with(kzoo.AlibiPositions())),
            "MultiHeadAttention", keras_multi_head, x, f"{more}: a bias for each distance"),
        Row("SinusoidalPositions", kzoo.SinusoidalPositions, "SinePositionEncoding", sine, x),
        Row("LearnedPositions", lambda: kzoo.LearnedPositions(S), "PositionEmbedding", learned, x,
            f"{more}: looks each position up, so that one past the table gets its last row"),
        Row("RotaryPositions", lambda: rotary(kzoo.RotaryPositions()),
            "RotaryEmbedding", keras_nlp_rotary, x),
        Row("TokenEmbedding", lambda: kzoo.TokenEmbedding(V, D),
            "Embedding", lambda: layers.Embedding(V, D, mask_zero=True), ids),
        Row("VocabularyHead", lambda: kzoo.VocabularyHead(V, D),
            "Dense", lambda: layers.Dense(V), x,
            "its weight is (V, D), to be tied and to be sampled from"),
        Row("Dropout", lambda: training(Dropout(0.1)),
            "Dropout", lambda: training(layers.Dropout(0.1)), x),
        Row("LayerNormalization", lambda: training(LayerNormalization()),
            "LayerNormalization", lambda: training(layers.LayerNormalization()), x),
        Row("RecurrentEncoder LSTM", lambda: encoder("bidirectional", "lstm"),
            "Bidirectional LSTM", lambda: keras_rnn("lstm", bidirectional=True), x,
            blanks),
        Row("RecurrentEncoder GRU", lambda: encoder("forward", "gru"),
            "GRU", lambda: keras_rnn("gru"), x,
            blanks),
        Row("RecurrentEncoder simple", lambda: encoder("forward", "simple"),
            "SimpleRNN", lambda: keras_rnn("simple"), x,
            blanks),
        Row("StreamingRNN", lambda: masked(kzoo.StreamingRNN(D)),
            "LSTM", lambda: keras_rnn("lstm"), x,
            blanks),
        Row("StatefulRNN", lambda: training(kzoo.StatefulRNN(D)), "LSTM(stateful=True)",
            lambda: training(layers.LSTM(D, return_sequences=True, stateful=True)), x),
        Row("RecurrentEncoder LSTM, mixed_bfloat16", lambda: encoder("bidirectional", "lstm"),
            "Bidirectional LSTM", lambda: keras_rnn("lstm", bidirectional=True), x,
            blanks, "mixed_bfloat16"),
        Row("StreamingRNN, mixed_bfloat16", lambda: masked(kzoo.StreamingRNN(D)),
            "LSTM", lambda: keras_rnn("lstm"), x,
            blanks, "mixed_bfloat16"),
        Row("TransformerEncoderBlock", encoder_block,
            "TransformerEncoder", keras_nlp_encoder, x),
        Row("TransformerDecoderBlock", decoder_block,
            "TransformerDecoder", keras_nlp_decoder, both),
    ]  # fmt: skip


def compiled(call, inputs):
    """Returns a function that runs the layer forward and backward once."""
    import tensorflow as tf

    def floats(outputs):
        return [tf.cast(x, tf.float32) for x in tf.nest.flatten(outputs) if x.dtype.is_floating]

    call(*inputs)  # builds the layers

    @tf.function
    def run(*inputs):
        features = [x for x in inputs if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(features)
            outputs = floats(call(*inputs))
            loss = tf.add_n([tf.reduce_sum(x * x) for x in outputs])
        gradients = tape.gradient(loss, [*features, *tape.watched_variables()])
        # TensorFlow prunes what nobody reads: all of it is returned.
        return outputs, [g for g in gradients if g is not None]

    run(*inputs)
    return lambda: run(*inputs)


def milliseconds(run, least_seconds=0.2):
    """Mean time of a call, over as many calls as `least_seconds` take."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < least_seconds or count < 3:
        run()
        count += 1
    return 1000 * (time.perf_counter() - start) / count


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each side takes")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    inputs = {
        "query memory": [tf.random.normal((B, T, D)), tf.random.normal((B, S, D))],
        "x": [tf.random.normal((B, S, D))],
        "ids": [tf.random.uniform((B, S), 1, V, tf.int32)],
    }
    found = {"facts": figures.facts("layers", "keras-nlp"), "rows": []}
    print(HEAD)
    for row in rows():
        if options.only.lower() not in row.name.lower():
            continue
        keras.config.set_dtype_policy(row.precision)
        calls = [compiled(make(), inputs[row.inputs]) for make in (row.kzoo, row.peer)]
        times = [[milliseconds(call) for call in calls] for _ in range(options.rounds)]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        found["rows"].append(
            {
                "layer": row.name,
                "peer": row.peer_name,
                "kzoo_ms": round(ours, 3),
                "peer_ms": round(theirs, 3),
                "note": row.note,
            }
        )
        print(line(found["rows"][-1]), flush=True)
        figures.write(found, options.json, is_over=False)
    figures.write(found, options.json)


def line(row):
    times = f"{row['kzoo_ms']:.1f} | {row['peer_ms']:.1f} | {row['peer_ms'] / row['kzoo_ms']:.2f}"
    return f"| {row['layer']} | {row['peer']} | {times} | {row['note']} |"


def table(found):
    """The table of README.md, out of what `--json` has written."""
    return "\n".join([HEAD, *map(line, found["rows"]), "", figures.made(found["facts"])])


if __name__ == "__main__":
    main()
