"""One step of training on one device and on two replicas, printed as JSON; run in a process of its
own, as logical devices must be set up before TensorFlow computes anything."""

import json

import keras
import numpy as np
import tensorflow as tf

DEVICES = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], DEVICES)

import kzoo  # noqa: E402

STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])  # two would mix up their messages
V, D, LENGTHS = 11, 6, (5, 3, 2, 1)
RNG = np.random.default_rng(1)


def padded(lengths, low, end=True):
    rows = [[*RNG.integers(low, V, length - 1), 2 if end else 7] for length in lengths]
    return np.array([row + [0] * (max(lengths) - len(row)) for row in rows], "int32")


LABELS = padded(LENGTHS, 3)
INPUTS = {"source": padded((3, 7, 2, 4), 3), "target": np.where(LABELS > 0, np.roll(LABELS, 1), 0)}
INPUTS["target"][:, 0] = 1
FRAMES = RNG.normal(size=(4, 13, 5)).astype("float32")
SOUNDS = {
    "source": FRAMES,
    "source_mask": np.arange(13) < np.array([13, 2, 11, 8])[:, None],
    "target": INPUTS["target"],
}
WEIGHTS = np.array([1.0, 0.5, 2.0, 1.5], "float32")


def seq2seq(num_sampled=0, sampler="log_uniform"):
    embedding = kzoo.TokenEmbedding(V, D)
    head = kzoo.VocabularyHead(
        V, D, tied=embedding, num_sampled=num_sampled, sampler=sampler, label_smoothing=0.0, seed=3
    )
    source = keras.layers.Embedding(V, D, mask_zero=True, embeddings_regularizer="l2")
    return kzoo.Seq2Seq(
        kzoo.RecurrentEncoder(source, D, cell="gru"),
        kzoo.AttentionDecoder(embedding, D, kzoo.BahdanauAttention(4), cell="gru"),
        head,
    )


def sampled():
    return seq2seq(7, "learned_unigram")


def of_own_answers():
    """What is read is always an answer: which rows a replica has makes no difference."""
    model = seq2seq()
    model.scheduled_sampling = kzoo.ScheduledSampling(1.0, steps=0, seed=3)
    return model


def everything_in_the_loss():
    encoder = kzoo.StreamingEncoder(units=D, stride=2)
    decoder = kzoo.AttentionDecoder(
        kzoo.TokenEmbedding(V, D), D, kzoo.BahdanauAttention(4), cell="gru"
    )
    return kzoo.Seq2Seq(
        encoder,
        decoder,
        kzoo.VocabularyHead(V, D, label_smoothing=0.1),
        length_head=kzoo.LengthHead(),
        ctc_head=kzoo.VocabularyHead(V, D),
        doubly_stochastic=0.5,
    )


def ctc_model():
    return kzoo.CTCModel(kzoo.StreamingEncoder(units=D, stride=2), kzoo.VocabularyHead(V, D))


def own_model():
    ids = keras.Input((None,), dtype="int32")
    hidden = keras.layers.Embedding(V, D)(ids)
    return keras.Model(ids, keras.layers.Dense(V, kernel_regularizer="l2")(hidden))


def stateful_model():
    """The second step goes on where the first one ended: each replica keeps its rows' states."""
    ids = keras.Input((None,), dtype="int32")
    hidden = kzoo.StatefulRNN(D)(keras.layers.Embedding(V, D)(ids))
    return keras.Model(ids, keras.layers.Dense(V)(hidden))


def compiled(make, optimizer):
    model = make()
    if isinstance(model, kzoo.Seq2Seq | kzoo.CTCModel):
        model.compile(optimizer())
    else:
        model.compile(
            optimizer(), kzoo.SequenceCrossEntropy(), weighted_metrics=[kzoo.SequenceAccuracy()]
        )
    return model


def steps(model, inputs, labels, weights):
    """The weights after two steps, and what `fit` and `evaluate` report of them.

    Models of kzoo get batches of 3 rows and 1 row: one replica has more, or all.
    """
    size = len(labels) - isinstance(model, kzoo.Seq2Seq | kzoo.CTCModel)
    data = tf.data.Dataset.from_tensors((inputs, labels, weights)).unbatch().batch(size)
    found = model.fit(data.repeat(2), shuffle=False, verbose=0, steps_per_epoch=2).history
    scores = model.evaluate(data, return_dict=True, verbose=0)
    return model.get_weights(), {name: values[0] for name, values in found.items()}, scores


def compare(make, inputs, labels, optimizer):
    one = compiled(make, optimizer)
    if not one.built:
        one(inputs)
    first = one.get_weights()
    with STRATEGY.scope():
        two = compiled(make, optimizer)
        if not two.built:
            two(inputs)
        two.set_weights(first)
    expected = steps(one, inputs, labels, WEIGHTS)
    found = steps(two, inputs, labels, WEIGHTS)
    moved = max(float(abs(a - b).max()) for a, b in zip(first, expected[0], strict=True))
    apart = max(float(abs(a - b).max()) for a, b in zip(expected[0], found[0], strict=True))
    return {"moved": moved, "apart": apart, "expected": expected[1:], "found": found[1:]}


def sgd():
    return keras.optimizers.SGD(0.3)


def main():
    text, sound = (INPUTS, LABELS), (SOUNDS, LABELS)
    cases = {
        "Seq2Seq": (seq2seq, *text, sgd),
        "sampled, with LazyAdam": (sampled, *text, lambda: kzoo.LazyAdam(0.01)),
        "clipped": (seq2seq, *text, lambda: kzoo.FusedAdam(0.01, global_clipnorm=0.1)),
        "clipped, of rows": (sampled, *text, lambda: kzoo.LazyAdam(0.01, global_clipnorm=0.1)),
        "scheduled sampling": (of_own_answers, *text, sgd),
        "every term of the loss": (everything_in_the_loss, *sound, sgd),
        "CTCModel": (ctc_model, *sound, sgd),
        "StatefulRNN": (stateful_model, INPUTS["target"], LABELS, sgd),
        "SequenceCrossEntropy": (own_model, INPUTS["target"], LABELS, sgd),
    }
    for name, case in cases.items():
        print(json.dumps({"name": name, **compare(*case)}), flush=True)


if __name__ == "__main__":
    main()
