"""One of several workers, or one process alone, that trains an epoch and prints each batch's loss.

    python tests/workers.py "127.0.0.1:2345,127.0.0.1:2346" 0      python tests/workers.py "" 0

Each is a process of its own, as a strategy of several workers is set up before TensorFlow computes.
"""

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import kzoo
from kzoo import batching

V, D, ROWS = 37, 6, 40


class Losses(keras.callbacks.Callback):
    """What `fit` reports after each batch."""

    def on_train_begin(self, logs=None):
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(logs["loss"]))


def seq2seq(num_sampled=0, sampler="uniform"):
    embedding = kzoo.TokenEmbedding(V, D)
    return kzoo.Seq2Seq(
        kzoo.TransformerEncoder(embedding, num_layers=1, num_heads=2, hidden_units=7, dropout=0.0),
        kzoo.TransformerDecoder(embedding, num_layers=1, num_heads=2, hidden_units=7, dropout=0.0),
        kzoo.VocabularyHead(V, D, tied=embedding, num_sampled=num_sampled, sampler=sampler, seed=3),
    )


def batches():
    """Of rows of unequal lengths, in an order that a seed decides; one batch has a single row."""
    rng = np.random.default_rng(1)
    source, target = (
        tf.RaggedTensor.from_row_lengths(rng.integers(4, V, lengths.sum(), "int32"), lengths)
        for lengths in (rng.integers(1, 13, ROWS), np.append(rng.integers(1, 11, ROWS - 1), 60))
    )
    return kzoo.batching.token_batches(kzoo.batching.Corpus(source, target), 50, seed=5)


def batches_on_disk(folder):
    """Of a file that each process has for itself."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(list("abcdefg"), n)) for n in rng.integers(1, 13, ROWS)]
    path = Path(folder, "pairs.tsv")
    path.write_text("".join(f"{text}\t{text.upper()}\n" for text in texts))
    sides = texts, [text.upper() for text in texts]
    tokenizers = [kzoo.WordTokenizer.learn(side, vocabulary_size=V) for side in sides]
    pairs = batching.PairsOnDisk(path)
    return batching.disk_batches(pairs, *tokenizers, 50, max_length=40, seed=5)


def trained(strategy, callbacks, optimizer, data=None, **options):
    """Losses of all batches of an epoch, the validation loss, and the sum of the weights."""
    keras.utils.set_random_seed(7)
    with strategy.scope():
        model = seq2seq(**options)
        model.compile(optimizer(0.01, global_clipnorm=0.5))
    losses, data = Losses(), batches() if data is None else data
    found = model.fit(
        data, validation_data=data, shuffle=False, verbose=0, callbacks=[losses, *callbacks]
    )
    weights = sum(float(np.abs(weight).sum()) for weight in model.get_weights())
    return {"losses": losses.found, "valid": found.history["val_loss"][0], "weights": weights}


def plain_keras_fails(strategy):
    """What ends `fit` of a model that is none of kzoo's; None if nothing does."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensors((tf.ones((4, 3)), tf.ones((4, 1))))
    try:
        model.fit(data, verbose=0, shuffle=False)
    except ValueError as error:
        return str(error)
    return None


def main(addresses, index):
    workers = kzoo.training.distribution.join(addresses, index) if addresses else None
    strategy = workers.strategy if workers else tf.distribute.get_strategy()
    callbacks = [kzoo.training.OneDecision(workers)] if workers else []
    found = {
        "full": trained(strategy, callbacks, kzoo.FusedAdam),
        "sampled": trained(strategy, callbacks, kzoo.LazyAdam, num_sampled=11),
        "learned": trained(
            strategy, callbacks, kzoo.LazyAdam, num_sampled=11, sampler="learned_unigram"
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        on_disk = batches_on_disk(folder)
        found["on disk"] = trained(strategy, callbacks, kzoo.FusedAdam, on_disk)
    if workers:
        said = workers.bytes_from_chief(b"the chief's" if workers.is_chief else b"")
        found["said"] = said.decode()
        found["keras"] = plain_keras_fails(strategy)
    print(json.dumps(found), flush=True)
    if len(sys.argv) > 3:  # until it is killed
        with workers.together():
            with strategy.scope():
                model = seq2seq()
                model.compile(kzoo.FusedAdam(0.01))
            data = batches().repeat()
            model.fit(data, epochs=10**9, steps_per_epoch=10, shuffle=False, verbose=0)
    elif workers:
        workers.leave()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
