import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo

V, D = 19, 6


def model_of(dropout, is_recomputed, norm_first, positions):
    keras.utils.set_random_seed(5)
    embedding = kzoo.TokenEmbedding(V, D)
    options = {"num_heads": 2, "hidden_units": 7, "dropout": dropout, "norm_first": norm_first}
    model = kzoo.Seq2Seq(
        kzoo.TransformerEncoder(
            embedding, 3, **options, attention_positions=positions and positions()
        ),
        kzoo.TransformerDecoder(embedding, 2, **options),
        kzoo.VocabularyHead(V, D, tied=embedding),
    )
    model.encoder.recompute = model.decoder.recompute = is_recomputed
    return model


def batch():
    rng = np.random.default_rng(3)
    sides = (
        tf.RaggedTensor.from_row_lengths(rng.integers(4, V, sum(lengths), "int32"), lengths)
        for lengths in ([7, 2, 11], [5, 3, 1])
    )
    return kzoo.batching.teacher_forcing(*sides)


def steps(model):
    """The weights after two steps: what dropout draws, too, goes on as it would."""
    model.compile(keras.optimizers.SGD(0.5))
    model.fit(tf.data.Dataset.from_tensors(batch()).repeat(2), shuffle=False, verbose=0)
    return [*model.get_weights(), *(v.numpy() for v in model.non_trainable_variables)]


@pytest.mark.parametrize("is_recomputed", [False, True])
def test_a_loss_of_keras_knows_the_padding(is_recomputed):
    model = model_of(0.0, is_recomputed, True, None)
    ids = np.array([[4, 5, 6, 0], [7, 8, 0, 0]])
    hidden, _ = model.decoder(ids, tf.ones((2, 3, D)), training=True)
    np.testing.assert_array_equal(hidden._keras_mask, ids != 0)


@pytest.mark.parametrize(
    ("dropout", "norm_first", "positions"),
    [
        (0.0, False, None),
        (0.4, True, None),
        (0.4, False, kzoo.RelativePositions),
    ],
    ids=["plain", "dropout", "relative positions"],
)
def test_recomputed_activations_give_the_same_gradients(dropout, norm_first, positions):
    kept, again = (
        steps(model_of(dropout, is_recomputed, norm_first, positions))
        for is_recomputed in (False, True)
    )
    for a, b in zip(kept, again, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)
