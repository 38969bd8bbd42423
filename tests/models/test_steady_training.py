import resource

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo

V, D, ROWS = 31, 6, 300


class Noted(keras.callbacks.Callback):
    """What a function says at the end of each epoch."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.found = []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(self.function())


class Traced(kzoo.Seq2Seq):
    """Counts how often Python runs the loss: once for each trace of a step."""

    traces = 0

    def compute_loss(self, *args, **kwargs):
        self.traces += 1
        return super().compute_loss(*args, **kwargs)


def model_of(accumulate=1):
    embedding = kzoo.TokenEmbedding(V, D)
    model = Traced(
        kzoo.TransformerEncoder(embedding, 1, num_heads=2, hidden_units=7, dropout=0.1),
        kzoo.TransformerDecoder(embedding, 1, num_heads=2, hidden_units=7, dropout=0.1),
        kzoo.VocabularyHead(V, D, tied=embedding),
    )
    model.compile(kzoo.FusedAdam(0.01), accumulate=accumulate)
    return model


def corpus():
    """Pairs of 1 to 40 tokens, whose sides are about as long, as in translation."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 40, ROWS)
    others = np.maximum(lengths + rng.integers(-3, 4, ROWS), 1)
    sides = (
        tf.RaggedTensor.from_row_lengths(rng.integers(4, V, each.sum(), "int32"), each)
        for each in (lengths, others)
    )
    return kzoo.batching.Corpus(*sides)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_no_step_is_traced_again_after_the_first_epoch(accumulate):
    model = model_of(accumulate)
    data = kzoo.batching.token_batches(corpus(), 300, seed=1)
    noted = Noted(lambda: model.traces)
    model.fit(
        data, validation_data=data.take(3), epochs=4, shuffle=False, verbose=0, callbacks=[noted]
    )
    assert noted.found[0] <= 3  # of training, of its shapes, and of evaluation
    assert noted.found == noted.found[:1] * 4


def test_buckets_of_length_leave_less_than_a_tenth_of_padding():
    lengths = [side.row_lengths().numpy() for side in corpus()[:2]]
    planned = kzoo.batching.plan(*lengths, 300, np.random.default_rng(1))
    assert kzoo.batching.padding_share(*lengths, planned) < 0.1


@pytest.mark.slow
def test_memory_stays_flat_over_many_steps():
    model = model_of()
    data = kzoo.batching.token_batches(corpus(), 100, seed=1).repeat()
    noted = Noted(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    model.fit(data, steps_per_epoch=200, epochs=6, shuffle=False, verbose=0, callbacks=[noted])
    assert noted.found[-1] - noted.found[2] < 10  # megabytes, the most ever, in 600 steps
