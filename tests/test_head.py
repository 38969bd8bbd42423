"""Token embedding, vocabulary projection and its loss."""

import re

import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.head import TokenEmbedding, VocabularyHead

B, T, D, V = 2, 3, 5, 7
N = 11


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make_head(size=V, units=D, **kwargs):
    head = VocabularyHead(size, units, **kwargs)
    head.build((None, units))
    for index, variable in enumerate(head.trainable_variables):
        variable.assign(random(*variable.shape, seed=index + 1))
    return head


def copying_head(size, **kwargs):
    """A head whose logits are its input."""
    head = VocabularyHead(size, size, **kwargs)
    head.build((None, size))
    head.kernel.assign(np.eye(size))
    return head


def naive_loss(logits, labels, smoothing):
    """-sum_v q(v) log softmax(z)_v with q written out."""
    size = logits.shape[1]
    q = np.full(logits.shape, smoothing / (size - 2), np.float32)
    q[np.arange(len(labels)), labels] = 1 - smoothing
    q[:, 0] = 0
    return -tf.reduce_sum(q * tf.nn.log_softmax(logits), 1)


def test_an_embedding_is_the_row_of_each_id():
    layer = TokenEmbedding(V, D)
    ids = np.array([[1, 6, 0], [2, 2, 5]])
    np.testing.assert_array_equal(layer(ids), layer.embeddings.numpy()[ids])


def test_a_scaled_embedding_is_sqrt_units_times_the_row():
    layer = TokenEmbedding(V, D, scale=True)
    ids = np.array([[1, 6, 0]])
    np.testing.assert_allclose(layer(ids), D**0.5 * layer.embeddings.numpy()[ids], rtol=1e-6)


def test_the_gradient_of_an_embedding_touches_only_the_rows_it_used():
    layer = TokenEmbedding(V, D)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(np.array([[1, 6, 1]])))
    gradient = tape.gradient(loss, layer.embeddings.value)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, [1, 6, 1])


def test_logits_are_w_h_plus_b():
    head = make_head()
    hidden = random(B, T, D)
    expected = hidden @ head.kernel.numpy().T + head.bias.numpy()
    np.testing.assert_allclose(head(hidden), expected, atol=1e-5)


def test_without_a_bias_logits_are_w_h():
    head = make_head(use_bias=False)
    hidden = random(B, T, D)
    np.testing.assert_allclose(head(hidden), hidden @ head.kernel.numpy().T, atol=1e-5)
    assert len(head.weights) == 1


def test_one_step_of_logits_equals_the_whole():
    head = make_head()
    hidden = random(B, T, D)
    np.testing.assert_allclose(head(hidden[:, 1]), head(hidden)[:, 1], atol=1e-6)


def test_a_tied_head_has_the_weight_of_the_embedding_and_no_own():
    embedding = TokenEmbedding(V, D)
    head = VocabularyHead(V, D, tied=embedding, use_bias=False)
    hidden = random(B, T, D)
    head(hidden)
    assert head.weight is embedding.embeddings
    assert len(head.trainable_variables) == 1
    embedding.embeddings.assign(random(V, D, seed=3))
    np.testing.assert_allclose(head(hidden), hidden @ random(V, D, seed=3).T, atol=1e-5)


def test_a_tied_weight_learns_from_both_of_its_uses():
    embedding = TokenEmbedding(V, D)
    head = VocabularyHead(V, D, tied=embedding, label_smoothing=0.1)
    with tf.GradientTape() as tape:
        hidden = embedding(np.array([[1, 2]]))[0]
        loss = tf.reduce_sum(head.loss(hidden, np.array([3, 4]), training=True))
    gradient = tf.convert_to_tensor(tape.gradient(loss, embedding.embeddings.value))
    table = tf.Variable(embedding.embeddings.numpy())
    with tf.GradientTape() as tape:
        logits = tf.matmul(tf.gather(table, [1, 2]), table, transpose_b=True)
        loss = tf.reduce_sum(naive_loss(logits, [3, 4], 0.1))
    expected = tf.convert_to_tensor(tape.gradient(loss, table))
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_equal_logits_over_5_classes_cost_log_5(training):
    head = copying_head(5)
    logits = np.stack([np.full(5, i + 0.5, np.float32) for i in range(3)])
    losses = head.loss(logits, np.array([1, 2, 4]), training=training)
    np.testing.assert_allclose(losses, [1.60944] * 3, atol=1e-5)


def test_smoothing_by_04_over_5_classes_gives_the_known_row():
    head = copying_head(5, label_smoothing=0.4)
    logits = tf.Variable(random(1, 5))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(head.loss(logits, np.array([2]), training=True))
    q = tf.nn.softmax(logits) - tape.gradient(loss, logits)  # d loss / d z = softmax(z) - q
    np.testing.assert_allclose(q, [[0, 0.1333, 0.6, 0.1333, 0.1333]], atol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("use_bias", [False, True])
def test_the_loss_and_its_gradients_are_those_of_the_written_out_form(smoothing, use_bias):
    head = make_head(label_smoothing=smoothing, use_bias=use_bias)
    hidden, labels = tf.Variable(3 * random(N, D)), np.arange(N) % (V - 1) + 1
    upstream = random(N, seed=5)

    def run(loss):
        with tf.GradientTape() as tape:
            losses = loss()
            total = tf.reduce_sum(losses * upstream)
        return losses, tape.gradient(total, [hidden, *head.trainable_variables])

    losses, gradients = run(lambda: head.loss(hidden, labels, training=True))
    expected, expected_gradients = run(lambda: naive_loss(head(hidden), labels, smoothing))
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_evaluation_reports_the_plain_cross_entropy():
    head = make_head(label_smoothing=0.4)
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1
    log_p = tf.nn.log_softmax(head(hidden)).numpy()
    np.testing.assert_allclose(head.loss(hidden, labels), -log_p[np.arange(N), labels], rtol=1e-5)


def test_a_masked_row_of_label_0_sends_no_gradient():
    head = make_head(label_smoothing=0.1)
    hidden = tf.Variable(random(2, D))
    with tf.GradientTape() as tape:
        losses = head.loss(hidden, np.array([0, 3]), training=True)
        loss = tf.reduce_sum(tf.where([False, True], losses, 0.0))
    gradient = tape.gradient(loss, hidden).numpy()
    np.testing.assert_array_equal(gradient[0], np.zeros(D))
    assert np.abs(gradient[1]).max() > 0


def test_an_improbable_label_has_a_finite_loss_and_the_true_gradient():
    head = copying_head(5, label_smoothing=0.1)
    logits = tf.Variable([[0.0, 200.0, -200.0, 0.0, 0.0]])
    with tf.GradientTape(persistent=True) as tape:
        loss = head.loss(logits, np.array([2]), training=True)
        expected = naive_loss(logits, [2], 0.1)
    assert np.isfinite(loss).all()
    np.testing.assert_allclose(
        tape.gradient(loss, logits), tape.gradient(expected, logits), atol=1e-6
    )


@pytest.mark.parametrize("training", [False, True])
def test_the_loss_of_a_bfloat16_head_is_float32_and_close(training):
    head = make_head(label_smoothing=0.1)
    half = make_head(label_smoothing=0.1, dtype="mixed_bfloat16")
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1
    losses = half.loss(hidden, labels, training=training)
    assert half(hidden).dtype == tf.bfloat16
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, head.loss(hidden, labels, training=training), atol=0.1)


@pytest.mark.parametrize(
    ("message", "make_layer"),
    [
        (
            "`vocabulary_size` and `units` must be at least 1, got vocabulary_size=0, units=5.",
            lambda: TokenEmbedding(0, D),
        ),
        (
            "`vocabulary_size` must be at least 3 and `units` at least 1, "
            "got vocabulary_size=2, units=5.",
            lambda: VocabularyHead(2, D),
        ),
        (
            "`vocabulary_size` must be at least 3 and `units` at least 1, "
            "got vocabulary_size=7, units=0.",
            lambda: VocabularyHead(V, 0),
        ),
        (
            "`label_smoothing` must lie in [0, 1), got label_smoothing=1.0.",
            lambda: VocabularyHead(V, D, label_smoothing=1.0),
        ),
        (
            "`hidden` must have units=5 features, got 3.",
            lambda: VocabularyHead(V, D)(random(B, 3)),
        ),
        (
            "`tied` must have embeddings of shape (7, 5), got (11, 5).",
            lambda: VocabularyHead(V, D, tied=TokenEmbedding(11, D))(random(B, D)),
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(message, make_layer):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_layer()
