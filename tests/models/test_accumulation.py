import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo

V, D, ROWS = 23, 6, 7


def model_of(num_sampled=0, **options):
    keras.utils.set_random_seed(3)
    embedding = kzoo.TokenEmbedding(V, D)
    source = keras.layers.Embedding(V, D, mask_zero=True, embeddings_regularizer="l2")
    # Luong's attention: the gradient of Bahdanau's bias is nearly 0, and Adam steps as far for it.
    return kzoo.Seq2Seq(
        kzoo.RecurrentEncoder(source, D, cell="gru"),
        kzoo.AttentionDecoder(embedding, D, kzoo.LuongAttention(), cell="gru"),
        kzoo.VocabularyHead(V, D, tied=embedding, num_sampled=num_sampled),
        **options,
    )


def batch():
    """Rows of 1 to 9 target steps, so that no two parts have as many tokens."""
    rng = np.random.default_rng(5)
    source, target = (
        tf.RaggedTensor.from_row_lengths(rng.integers(4, V, lengths.sum(), "int32"), lengths)
        for lengths in (rng.integers(1, 12, ROWS), np.array([9, 1, 4, 2, 8, 1, 3]))
    )
    return kzoo.batching.teacher_forcing(source, target)


def trained(optimizer, accumulate, weights=None, **options):
    model = model_of(**options)
    model.compile(optimizer(0.05, global_clipnorm=1.0), accumulate=accumulate)
    inputs, labels = batch()
    data = tf.data.Dataset.from_tensors(
        (inputs, labels) if weights is None else (inputs, labels, weights)
    )
    loss = model.fit(data.repeat(3), shuffle=False, verbose=0).history["loss"]
    return model.get_weights(), loss


@pytest.mark.parametrize("parts", [2, 3, 100])
@pytest.mark.parametrize(
    ("optimizer", "num_sampled"), [(kzoo.FusedAdam, 0), (kzoo.LazyAdam, V)], ids=["dense", "rows"]
)
def test_a_batch_in_parts_trains_as_the_whole_batch_does(optimizer, num_sampled, parts):
    whole, loss = trained(optimizer, 1, num_sampled=num_sampled)
    found, found_loss = trained(optimizer, parts, num_sampled=num_sampled)
    for a, b in zip(whole, found, strict=True):
        np.testing.assert_allclose(b, a, atol=5e-6)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-5)


class Batches(keras.utils.PyDataset):
    """One batch, which nothing is known about before."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return dense_batch()


def dense_batch():
    inputs, labels = batch()
    return {name: ids.numpy() for name, ids in inputs.items()}, labels.numpy()


@pytest.mark.parametrize("has_none", [False, True])
def test_generators_and_single_batches_are_trained_in_parts(has_none):
    found = []
    for accumulate in (1, 3):
        model = model_of()
        model.compile(keras.optimizers.SGD(0.5), accumulate=accumulate)
        model.fit(Batches(), shuffle=False, verbose=0)
        found.append(model.get_weights())
        model = model_of()
        model.compile(keras.optimizers.SGD(0.5), accumulate=accumulate)
        inputs, labels = dense_batch()
        model.train_on_batch(inputs | ({"source_mask": None} if has_none else {}), labels)
        found.append(model.get_weights())
    for weights in found[1:]:
        for a, b in zip(found[0], weights, strict=True):
            np.testing.assert_allclose(b, a, atol=5e-6)


@pytest.mark.parametrize("dense", ["target", "labels"])
def test_a_ragged_target_and_dense_labels_are_cut_alike(dense):
    found = []
    for accumulate in (1, 3):
        model = model_of()
        model.compile("sgd", accumulate=accumulate)
        inputs, labels = dense_batch()
        if dense == "labels":
            inputs["target"] = tf.RaggedTensor.from_tensor(inputs["target"], padding=0)
        else:
            labels = tf.RaggedTensor.from_tensor(labels, padding=0)
        found.append(model.train_on_batch(inputs, labels))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_the_weights_of_rows_count_in_all_parts():
    weights = np.array([0.5, 1, 2, 0, 1, 3, 1], "float32")
    whole, loss = trained(kzoo.FusedAdam, 1, weights)
    found, found_loss = trained(kzoo.FusedAdam, 3, weights)
    for a, b in zip(whole, found, strict=True):
        np.testing.assert_allclose(b, a, atol=5e-6)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-5)


def test_losses_that_float16_scales_train_in_parts_too():
    found = {}
    for parts in (1, 3):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = model_of()
        finally:
            keras.config.set_dtype_policy("float32")
        model.compile(keras.optimizers.SGD(1.0), accumulate=parts)
        assert type(model.optimizer).__name__ == "LossScaleOptimizer"
        model(batch()[0])
        before = model.get_weights()
        model.fit(tf.data.Dataset.from_tensors(batch()), shuffle=False, verbose=0)
        pairs = zip(model.get_weights(), before, strict=True)
        found[parts] = [after - was for after, was in pairs]
    assert max(abs(each).max() for each in found[1]) > 0.01
    for a, b in zip(found[1], found[3], strict=True):
        np.testing.assert_allclose(b, a, atol=0.01)


def test_a_scale_of_the_optimizer_trains_in_parts_too():
    def optimizer(rate, **options):
        return keras.optimizers.SGD(rate, loss_scale_factor=1024.0, **options)

    whole, _ = trained(optimizer, 1)
    found, _ = trained(optimizer, 3)
    for a, b in zip(whole, found, strict=True):
        np.testing.assert_allclose(b, a, atol=5e-6)


def test_xla_and_parts_are_refused_together():
    with pytest.raises(ValueError, match="`accumulate` and `jit_compile` do not go together"):
        model_of().compile(accumulate=2, jit_compile=True)


def test_no_part_is_refused():
    with pytest.raises(ValueError, match="`accumulate` must be an integer of at least 1, got acc"):
        model_of().compile(accumulate=0)
