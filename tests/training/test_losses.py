"""Loss and metric of sequences against numpy, padded and ragged, and through `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.embedding import TokenEmbedding
from kzoo.training import SequenceAccuracy, SequenceCrossEntropy

B, T, V = 2, 5, 7
LENGTHS = [5, 3]
LABELS = np.array([[1, 6, 2, 3, 1], [4, 5, 1, 0, 0]])
LOGITS = np.random.default_rng(0).normal(size=(B, T, V)).astype("float32")
WEIGHTS = np.array([[1, 2, 0, 1, 3], [2, 1, 1, 5, 5]], "float32")


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def expected(weights):
    pairs = [(b, t) for b in range(B) for t in range(LENGTHS[b])]
    losses = [-log_softmax(LOGITS[b, t])[LABELS[b, t]] for b, t in pairs]
    return np.average(losses, weights=[weights[b, t] for b, t in pairs])


def ragged(x):
    return tf.RaggedTensor.from_tensor(x, LENGTHS)


@pytest.mark.parametrize("form", [tf.constant, ragged])
def test_the_loss_is_the_mean_over_real_steps(form):
    loss = SequenceCrossEntropy()
    np.testing.assert_allclose(loss(form(LABELS), LOGITS), expected(np.ones((B, T))), rtol=1e-6)
    np.testing.assert_allclose(
        loss(form(LABELS), LOGITS, form(WEIGHTS)), expected(WEIGHTS), rtol=1e-6
    )
    rows = np.array([2.0, 3.0])
    np.testing.assert_allclose(
        loss(form(LABELS), LOGITS, rows), expected(np.repeat(rows[:, None], T, 1)), rtol=1e-6
    )


def test_the_loss_takes_probabilities():
    probabilities = np.exp(log_softmax(LOGITS))
    loss = SequenceCrossEntropy(from_logits=False)
    np.testing.assert_allclose(loss(LABELS, probabilities), expected(np.ones((B, T))), rtol=1e-5)


def test_predictions_may_be_longer_than_the_labels_and_wild_beyond_them():
    longer = np.concatenate([LOGITS, np.full((B, 2, V), np.nan, "float32")], 1)
    loss = SequenceCrossEntropy()
    np.testing.assert_allclose(loss(ragged(LABELS), longer), loss(LABELS, LOGITS), rtol=1e-6)
    wild = tf.constant(longer)
    with tf.GradientTape() as tape:
        tape.watch(wild)
        value = loss(ragged(LABELS), wild)
    gradient = tape.gradient(value, wild).numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1, 3:], np.zeros((4, V)))


def test_zeros_of_any_dtype_are_padding():
    loss = SequenceCrossEntropy()
    np.testing.assert_allclose(loss(LABELS.astype("float32"), LOGITS), loss(LABELS, LOGITS))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:, :, None], r"`y_true` must have 2 axes .* got \(2, 5, 1\) and \(2, 5, 7\)."),
        (LABELS[:, 0], r"`y_true` must have 2 axes .* got \(2,\) and \(2, 5, 7\)."),
        (np.pad(LABELS, ((0, 0), (0, 1))), "no longer than `y_pred`, got 6 and 5 steps."),
    ],
)
def test_labels_of_another_shape_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        SequenceCrossEntropy()(labels, LOGITS)


@pytest.mark.parametrize("form", [tf.constant, ragged])
def test_the_reduction_is_heeded(form):
    losses = WEIGHTS * -np.take_along_axis(log_softmax(LOGITS), LABELS[..., None], 2)[..., 0]
    losses *= np.arange(T) < np.array(LENGTHS)[:, None]
    arguments = form(LABELS), LOGITS, form(WEIGHTS)
    for reduction in (None, "none"):
        found = SequenceCrossEntropy(reduction=reduction)(*arguments)
        np.testing.assert_allclose(found, losses, rtol=1e-5)
    total = SequenceCrossEntropy(reduction="sum")(*arguments)
    np.testing.assert_allclose(total, losses.sum(), rtol=1e-6)
    for reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight"):
        found = SequenceCrossEntropy(reduction=reduction)(*arguments)
        np.testing.assert_allclose(found, expected(WEIGHTS), rtol=1e-6)


def test_a_label_0_is_a_class_if_none_is_to_be_ignored():
    logits = tf.constant(LOGITS)
    logits._keras_mask = tf.constant(np.arange(T) < np.array(LENGTHS)[:, None])
    labels = np.where(LABELS == 1, 0, LABELS)  # the tag of no name
    pairs = [(b, t) for b in range(B) for t in range(LENGTHS[b])]
    losses = [-log_softmax(LOGITS[b, t])[labels[b, t]] for b, t in pairs]
    loss, accuracy = (each(ignore_class=None) for each in (SequenceCrossEntropy, SequenceAccuracy))
    np.testing.assert_allclose(loss(labels, logits), np.mean(losses), rtol=1e-6)
    accuracy.update_state(labels, logits)
    right = [LOGITS[b, t].argmax() == labels[b, t] for b, t in pairs]
    np.testing.assert_allclose(accuracy.result(), np.mean(right))
    # Without a mask all steps count, but for those that a weight of 0 takes out.
    weight = (np.arange(T) < np.array(LENGTHS)[:, None]).astype("float32")
    np.testing.assert_allclose(loss(labels, LOGITS, weight), np.mean(losses), rtol=1e-6)
    for each in (loss, accuracy):
        assert type(each).from_config(each.get_config()).ignore_class is None


def test_another_label_can_be_the_padding():
    labels = np.where(np.arange(T) < np.array(LENGTHS)[:, None], LABELS, -1)
    loss = SequenceCrossEntropy(ignore_class=-1)
    np.testing.assert_allclose(loss(labels, LOGITS), expected(np.ones((B, T))), rtol=1e-6)


def test_the_loss_of_no_real_step_is_zero():
    assert SequenceCrossEntropy()(np.zeros((B, T), "int32"), LOGITS) == 0


@pytest.mark.parametrize("form", [tf.constant, ragged])
def test_accuracy_counts_real_steps_only(form):
    accuracy = SequenceAccuracy()
    accuracy.update_state(form(LABELS), LOGITS)
    real = np.arange(T) < np.array(LENGTHS)[:, None]
    right = (LOGITS.argmax(-1) == LABELS)[real]
    np.testing.assert_allclose(accuracy.result(), right.mean(), rtol=1e-6)


def test_accuracy_is_a_mean_over_the_steps_of_all_batches():
    accuracy = SequenceAccuracy()
    accuracy.update_state(np.full((1, 9), 3), tf.one_hot(np.full((1, 9), 3), V))  # 9 right
    accuracy.update_state(np.array([[4]]), tf.one_hot([[3]], V))  # 1 wrong
    np.testing.assert_allclose(accuracy.result(), 0.9)


def test_ragged_weights_beside_ragged_labels_go_through_fit():
    inputs = keras.Input((None,), dtype="int32", ragged=True)
    model = keras.Model(inputs, keras.layers.Dense(V)(TokenEmbedding(V, 11)(inputs)))
    model.compile("sgd", SequenceCrossEntropy(), weighted_metrics=[SequenceAccuracy()])
    row = tuple(map(ragged, (LABELS, LABELS, WEIGHTS)))
    logits = model(row[0])
    found = model.evaluate(tf.data.Dataset.from_tensors(row), return_dict=True, verbose=0)
    np.testing.assert_allclose(found["loss"], SequenceCrossEntropy()(row[1], logits, row[2]))
    history = model.fit(tf.data.Dataset.from_tensors(row), shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], found["loss"], rtol=1e-6)


def test_a_model_with_ragged_inputs_and_ragged_targets_learns_through_fit():
    inputs = keras.Input((None,), dtype="int32", ragged=True)
    model = keras.Model(inputs, keras.layers.Dense(V)(TokenEmbedding(V, 11)(inputs)))
    loss, accuracy = SequenceCrossEntropy(), SequenceAccuracy()
    model.compile(keras.optimizers.Adam(0.1), loss=loss, metrics=[accuracy])
    data = tf.data.Dataset.from_tensors((ragged(LABELS), ragged((LABELS + 1) % V))).repeat(40)
    history = model.fit(data, epochs=2, shuffle=False, verbose=0)
    assert history.history["sequence_accuracy"][1] == 1
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
