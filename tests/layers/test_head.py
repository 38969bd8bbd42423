"""Token embedding, vocabulary projection and its loss."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers import candidates
from kzoo.layers import head as head_module
from kzoo.layers.candidates import Candidates
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.vocabulary_loss import sampled_cross_entropy

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
def test_the_loss_of_a_label_is_the_true_one_in_float16_however_improbable(training):
    head = copying_head(5, dtype="mixed_float16")
    losses = head.loss(tf.constant([[20.0, 0.0, 0.0, -30.0, 0.0]]), [3], training=training)
    np.testing.assert_allclose(losses, [50.0], rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_the_loss_of_a_bfloat16_head_is_float32_and_close(training):
    head = make_head(label_smoothing=0.1)
    half = make_head(label_smoothing=0.1, dtype="mixed_bfloat16")
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1
    losses = half.loss(hidden, labels, training=training)
    assert half(hidden).dtype == tf.bfloat16
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, head.loss(hidden, labels, training=training), atol=0.1)


@pytest.mark.parametrize("rows", [1, 3, 4, N])
@pytest.mark.parametrize("is_known", [True, False])
def test_the_loss_of_evaluation_and_its_gradient_are_the_same_in_parts(is_known, rows, monkeypatch):
    head = make_head()
    hidden, labels = tf.constant(random(N, D)), tf.constant(np.arange(N) % (V - 1) + 1)

    def run(hidden, labels):
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            losses = head.loss(hidden, labels)
        return losses, *tape.gradient(losses, [hidden, *head.trainable_variables])

    whole = run(hidden, labels)
    monkeypatch.setattr(head_module, "LOGITS_AT_ONCE", rows * V)
    if not is_known:  # how many rows there are
        unknown = [tf.TensorSpec([None, D]), tf.TensorSpec([None], tf.int64)]
        run = tf.function(run, input_signature=unknown)
    for found, expected in zip(run(hidden, labels), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert run(hidden[:0], labels[:0])[0].shape == (0,)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("training", [False, True])
def test_labels_of_every_type_have_the_same_loss(training, dtype):
    head = make_head()
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1
    losses = head.loss(hidden, labels.astype(dtype), training=training)
    np.testing.assert_array_equal(losses, head.loss(hidden, labels, training=training))


@pytest.mark.parametrize("size", [3, 4, 5])
def test_a_vocabulary_of_hardly_a_word_is_sampled(size):
    losses = make_head(size, num_sampled=2).loss(random(N, D), np.ones(N, int), training=True)
    assert np.isfinite(losses).all()


def make_candidates(ids, expected, labels):
    """Candidates by hand: `expected` of every class."""
    expected = np.asarray(expected, np.float32)
    return Candidates(tf.constant(ids, tf.int64), expected[ids], expected[labels])


@pytest.mark.parametrize("use_bias", [False, True])
def test_the_sampled_loss_is_that_of_tensorflow(use_bias):
    head = make_head(use_bias=use_bias)
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1  # candidates 2 and 5 are hits
    sampled = make_candidates([5, 0, 2], np.linspace(0.2, 0.9, V), labels)
    bias = head.bias if use_bias else None
    losses = sampled_cross_entropy(hidden, head.kernel.value, bias, labels, sampled)
    expected = tf.nn.sampled_softmax_loss(
        head.kernel.value,
        bias if use_bias else tf.zeros([V]),
        labels[:, None],
        hidden,
        num_sampled=3,
        num_classes=V,
        sampled_values=(sampled.ids, sampled.label_expected[:, None], sampled.expected),
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)


def test_the_sampled_loss_is_finite_in_bfloat16_where_candidates_are_labels():
    head = make_head()
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1
    sampled = make_candidates([5, 0, 2], np.linspace(0.2, 0.9, V), labels)
    weights = (head.kernel.value, head.bias.value, labels, sampled)
    losses = sampled_cross_entropy(tf.cast(hidden, tf.bfloat16), *weights)
    np.testing.assert_allclose(losses, sampled_cross_entropy(hidden, *weights), atol=0.05)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_sampled_loss_calls_the_function_of_tensorflow(smoothing, monkeypatch):
    calls = []
    theirs = tf.nn.sampled_softmax_loss
    monkeypatch.setattr(
        tf.nn, "sampled_softmax_loss", lambda **given: calls.append(given) or theirs(**given)
    )
    head = make_head(num_sampled=5, seed=7, label_smoothing=smoothing)
    head.loss(random(N, D), np.arange(N) % (V - 1) + 1, training=True)
    (given,) = calls
    assert given["weights"] is head.kernel.value  # and no copy


def loss_and_gradients(head, hidden, labels, upstream):
    with tf.GradientTape() as tape:
        losses = head.loss(hidden, labels, training=True)
        total = tf.reduce_sum(losses * upstream)
    gradients = tape.gradient(total, [hidden, *head.trainable_variables])
    return losses, [tf.convert_to_tensor(gradient) for gradient in gradients]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("is_tied", [False, True])
def test_with_all_classes_sampled_loss_and_gradients_are_the_full_ones(
    smoothing, use_bias, is_tied
):
    options = {"label_smoothing": smoothing, "use_bias": use_bias}
    heads = [
        VocabularyHead(V, D, tied=TokenEmbedding(V, D) if is_tied else None, **options, **sampling)
        for sampling in ({}, {"num_sampled": V})
    ]
    for head in heads:
        head.build((None, D))
        for index, variable in enumerate(head.trainable_variables):
            variable.assign(random(*variable.shape, seed=index + 1))
    hidden, labels = tf.Variable(3 * random(N, D)), np.arange(N) % (V - 1) + 1
    upstream = random(N, seed=5)
    full, sampled = (loss_and_gradients(head, hidden, labels, upstream) for head in heads)
    np.testing.assert_allclose(sampled[0], full[0], rtol=1e-5, atol=1e-5)
    for a, b in zip(sampled[1], full[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def repeat(function, shape, times):
    """Results of many calls, (R, *shape), in one graph."""

    @tf.function(autograph=True)
    def run():
        results = tf.TensorArray(tf.float32, times, element_shape=shape)
        for number in tf.range(times):
            results = results.write(number, function())
        return results.stack()

    return run().numpy()


def sampled_gradients(head, hidden, times, correction=True):
    """d loss / d b, the mean of N labels drawn from the model's own softmax, R times: (R, V)."""
    logits = head(hidden)
    tf.random.set_seed(1)  # of the labels

    def gradient():
        labels = tf.random.categorical(logits, 1)[:, 0]
        sampled = head.candidate_sampler(labels)
        if not correction:
            sampled = Candidates(sampled.ids, *(tf.ones_like(q) for q in sampled[1:]))
        with tf.GradientTape() as tape:
            losses = sampled_cross_entropy(
                hidden, head.kernel.value, head.bias.value, labels, sampled
            )
            loss = tf.reduce_mean(losses)
        return tf.convert_to_tensor(tape.gradient(loss, head.bias.value))

    return repeat(gradient, (V,), times)


@pytest.mark.parametrize("sampler", ["log_uniform", "uniform", "learned_unigram"])
def test_the_expected_gradient_is_0_where_that_of_the_full_loss_is(sampler, monkeypatch):
    monkeypatch.setattr(candidates, "ORDER_LABELS", 10**9)  # these labels have no order
    head = make_head(num_sampled=3, sampler=sampler, seed=7)
    gradients = sampled_gradients(head, random(101, D), 2000)
    error = gradients.std(0) / len(gradients) ** 0.5
    assert (np.abs(gradients.mean(0)) < 4.5 * error).all()  # 4.5 standard errors
    assert error.max() < 0.002


def test_without_the_correction_by_log_q_it_is_not():
    head = make_head(num_sampled=3, seed=7)
    gradients = sampled_gradients(head, random(101, D), 50, correction=False)
    assert np.abs(gradients.mean(0)).max() > 0.03


@pytest.mark.parametrize("sampler", ["log_uniform", "uniform"])
def test_what_smoothing_adds_has_the_expectation_of_the_full_loss(sampler, monkeypatch):
    monkeypatch.setattr(candidates, "ORDER_LABELS", 10**9)  # these labels have no order
    head = make_head(num_sampled=3, sampler=sampler, seed=7)
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1

    def added():
        sampled = head.candidate_sampler(tf.constant(labels))
        plain, smoothed = (
            sampled_cross_entropy(
                hidden, head.kernel.value, head.bias.value, labels, sampled, smoothing
            )
            for smoothing in (0.0, 0.3)
        )
        return smoothed - plain

    samples = repeat(added, (N,), 2000)
    logits = head(hidden)
    expected = naive_loss(logits, labels, 0.3) - naive_loss(logits, labels, 0.0)
    bound = 4.5 * samples.std(0) / len(samples) ** 0.5
    assert (np.abs(samples.mean(0) - expected) < bound).all()


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("is_tied", [False, True])
def test_the_gradient_of_a_sampled_loss_is_about_the_rows_it_used(dtype, is_tied):
    embedding = TokenEmbedding(503, D, dtype=dtype)
    head = VocabularyHead(
        503, D, tied=embedding if is_tied else None, num_sampled=5, seed=7, dtype=dtype
    )
    labels = np.array([3, 401, 5])

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            hidden = embedding(labels)[None][0]
            loss = tf.reduce_sum(head.loss(hidden, labels, training=True))
        used = tape.gradient(loss, [head.weight.value, head.bias.value])
        for gradient in used:
            assert isinstance(gradient, tf.IndexedSlices)
        return used

    head.build((None, D))
    for gradient in gradients():
        assert gradient.values.dtype == tf.float32
        assert set(labels) < set(gradient.indices.numpy())
        assert len(set(gradient.indices.numpy())) < 25
    whole = [(503, D), (D, 503)]
    operations = gradients.get_concrete_function().graph.get_operations()
    touched = {tuple(t.shape) for op in operations for t in op.outputs if t.shape.rank == 2}
    assert not touched & set(whole)  # nothing of the size of the table is ever made


def test_evaluation_and_logits_of_a_sampled_head_are_about_all_classes():
    head, sampled = make_head(), make_head(num_sampled=3)
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1
    np.testing.assert_array_equal(sampled(hidden), head(hidden))
    np.testing.assert_array_equal(sampled.loss(hidden, labels), head.loss(hidden, labels))


def test_the_sampled_loss_of_a_bfloat16_head_is_float32_and_close():
    head = make_head(num_sampled=5, seed=7, label_smoothing=0.1)
    half = make_head(num_sampled=5, seed=7, label_smoothing=0.1, dtype="mixed_bfloat16")
    hidden, labels = random(N, D), np.arange(N) % (V - 1) + 1
    losses = half.loss(hidden, labels, training=True)
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, head.loss(hidden, labels, training=True), atol=0.1)


def test_a_head_of_one_seed_repeats_its_losses_and_comes_back_from_its_config():
    head = VocabularyHead(503, D, num_sampled=5, sampler="uniform", seed=7)
    config = keras.saving.serialize_keras_object(head)
    again = keras.saving.deserialize_keras_object(config)
    assert (again.num_sampled, again.sampler, again.seed) == (5, "uniform", 7)
    hidden, labels = random(N, D), np.arange(N) + 4
    head.build((None, D))
    again.build((None, D))
    again.kernel.assign(head.kernel)
    first, second = head.loss(hidden, labels, True), head.loss(hidden, labels, True)
    np.testing.assert_array_equal(again.loss(hidden, labels, True), first)
    assert np.abs(second - first).max() > 1e-3  # another sample


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
            "`num_sampled` must lie between 0 and vocabulary_size, "
            "got num_sampled=8, vocabulary_size=7.",
            lambda: VocabularyHead(V, D, num_sampled=8),
        ),
        (
            "`num_sampled` must lie between 0 and vocabulary_size, "
            "got num_sampled=-1, vocabulary_size=7.",
            lambda: VocabularyHead(V, D, num_sampled=-1),
        ),
        (
            "`sampler` must be one of ('log_uniform', 'uniform', 'learned_unigram'), got 'zipf'.",
            lambda: VocabularyHead(V, D, sampler="zipf"),
        ),
        (
            "`label_smoothing` must be 0 with sampler='learned_unigram', got label_smoothing=0.1.",
            lambda: VocabularyHead(
                V, D, num_sampled=3, sampler="learned_unigram", label_smoothing=0.1
            ),
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
