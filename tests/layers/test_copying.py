"""Copying: the equations of See et al. (2017) in numpy, and the edges of their logarithms."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers import copying
from kzoo.layers.attention import BahdanauAttention, CoverageAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.copying import Copier
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.transformer import TransformerDecoder
from kzoo.layers.vocabulary_loss import vocabulary_cross_entropy

B, T, S, V, D, M = 2, 3, 5, 7, 4, 6
COPY_IDS = np.array([[4, V + 1, 5, V + 1, 0], [V, 6, 0, 0, 0]], "int32")
MASK = np.arange(S) < np.array([[5], [3]])  # the step after the words is the end


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def inputs(seed=0):
    random = np.random.default_rng(seed)
    weights = softmax(random.normal(size=(B, T, S)) + np.where(MASK, 0, -np.inf)[:, None])
    logits, gate = random.normal(size=(B, T, V)), random.normal(size=(B, T))
    return [x.astype("float32") for x in (logits, gate, weights)]


def expected_distribution(logits, gate, weights, copy_ids):
    """Equation 9, word by word; the end's share is generated."""
    p_gen = 1 / (1 + np.exp(-gate))
    vocabulary = softmax(logits)
    p = np.zeros((B, T, V + S))
    for b, t in np.ndindex(B, T):
        uncopied = weights[b, t, copy_ids[b] == 0].sum()
        generated = p_gen[b, t] + (1 - p_gen[b, t]) * uncopied
        p[b, t, :V] = generated * vocabulary[b, t]
        for s in range(S):
            if copy_ids[b, s]:
                p[b, t, copy_ids[b, s]] += (1 - p_gen[b, t]) * weights[b, t, s]
    return p


def test_the_distribution_is_that_of_the_paper_and_sums_to_1_over_words_and_places():
    logits, gate, weights = inputs()
    found = copying.log_probabilities(logits, gate, weights, COPY_IDS).numpy()
    expected = expected_distribution(logits, gate, weights, COPY_IDS)
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, atol=1e-6)
    # Duplicates of a word share the first place; nobody says the places of words with an id.
    said = np.isfinite(found[0, 0])
    assert said[V:].tolist() == [False, True, False, False, False]
    assert said[:V].all()


def test_without_copyable_words_the_distribution_is_the_softmax():
    logits, gate, weights = inputs()
    expected = tf.nn.log_softmax(logits)
    for ids, attention in ((0 * COPY_IDS, weights), (COPY_IDS, 0 * weights)):
        found = copying.log_probabilities(logits, gate - 90, attention, ids)
        np.testing.assert_allclose(found[..., :V], expected, atol=1e-5)
        assert (found[..., V:] == -np.inf).numpy().all()


def test_the_probability_of_a_label_is_that_of_the_distribution():
    logits, gate, weights = inputs()
    whole = copying.log_probabilities(logits, gate, weights, COPY_IDS)
    log_p = tf.nn.log_softmax(logits)
    for label in [*range(1, V), V + 1]:
        labels = np.full((B, T), label)
        generated = tf.gather(log_p, np.minimum(labels, V - 1), batch_dims=2)
        found = copying.label_log_probabilities(
            generated, gate, weights, COPY_IDS, tf.constant(labels), V
        )
        rows = slice(None) if label < V else 0  # row 1 has no such place
        np.testing.assert_allclose(found[rows], whole[rows, :, label], atol=1e-5)


@pytest.mark.parametrize("gate", [-1e4, 0.0, 1e4])
def test_a_label_that_nothing_can_say_has_a_finite_loss_and_gradient(gate):
    weights = inputs()[2]
    hard = tf.constant(np.eye(S, dtype="float32")[[[0] * T] * B])  # looks at the first step alone
    gates = tf.fill([B, T], gate)
    for attention in (tf.constant(weights), hard, 0 * hard):
        labels = tf.constant([[V + 1, V + 4, 4], [V, 6, 1]])
        with tf.GradientTape() as tape:
            tape.watch([gates, attention])
            log_p = tf.fill([B, T], -100.0)
            found = copying.label_log_probabilities(log_p, gates, attention, COPY_IDS, labels, V)
        assert np.isfinite(found).all()
        for gradient in tape.gradient(found, [gates, attention]):
            assert np.isfinite(gradient).all()


def test_the_distribution_has_finite_gradients():
    values = [tf.constant(x) for x in inputs()]
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = copying.log_probabilities(*values, COPY_IDS)
        total = tf.reduce_sum(tf.where(found > -np.inf, found, 0.0))
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(total, values))


def test_copy_ids_are_cut_and_padded_to_the_steps_of_the_weights():
    logits, gate, weights = inputs()
    expected = copying.log_probabilities(logits, gate, weights, COPY_IDS)
    more = np.pad(COPY_IDS, [[0, 0], [0, 2]])
    found = copying.log_probabilities(logits, gate, weights, more)
    np.testing.assert_allclose(found[..., : V + S], expected)
    assert found.shape == (B, T, V + S + 2)
    assert copying.columns(COPY_IDS[:, :2], S).numpy().tolist() == [
        [4, V + 1, 0, 0, 0], [V, 6, 0, 0, 0],
    ]  # fmt: skip


def test_half_precision_weights_make_no_probability_above_1():
    logits, gate, weights = inputs()
    half = tf.cast(weights, tf.bfloat16)
    found = copying.log_probabilities(logits, tf.constant(gate) - 50, half, COPY_IDS)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(found), -1), np.ones((B, T)), atol=1e-5)


def test_the_coverage_loss_is_that_of_the_paper():
    _, _, weights = inputs()
    expected = np.zeros((B, T))
    for b, t in np.ndindex(B, T):
        expected[b, t] = np.minimum(weights[b, t], weights[b, :t].sum(0)).sum()
    np.testing.assert_allclose(copying.coverage_loss(weights), expected, atol=1e-6)
    np.testing.assert_array_equal(copying.coverage_loss(weights)[:, 0], np.zeros(B))


def test_the_gate_is_that_of_the_paper():
    random = np.random.default_rng(0)
    hidden, context, embedded = (random.normal(size=(B, T, d)) for d in (2, 3, 5))
    copier = Copier()
    found = copier(hidden, context, embedded)
    names = ("hidden_kernel", "context_kernel", "input_kernel")
    w_s, w_h, w_x = (np.array(getattr(copier, name)) for name in names)
    copier.bias.assign(0.5)
    expected = context @ w_h + hidden @ w_s + embedded @ w_x
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(copier(hidden, context, embedded), expected + 0.5, atol=1e-5)


def test_smoothing_is_about_the_words_that_are_generated():
    random = np.random.default_rng(0)
    smoothing = 0.2
    head = VocabularyHead(V, D, label_smoothing=smoothing)
    hidden = random.normal(size=(B, T, D)).astype("float32")
    logits, (_, gate, weights) = head(hidden), inputs()
    head.bias.assign(random.normal(size=V))
    logits = head(hidden)
    outputs = {"hidden": hidden, "gate": gate, "weights": weights, "copy_ids": COPY_IDS}
    labels = np.array([[4, V + 1, 2], [5, 6, 3]])
    copier = Copier()
    plain = copier.loss(head, outputs, tf.constant(labels))
    whole = copying.log_probabilities(logits, gate, weights, COPY_IDS)
    np.testing.assert_allclose(plain, -tf.gather(whole, labels, batch_dims=2), atol=1e-5)
    found = copier.loss(head, outputs, tf.constant(labels), training=True)
    for b, t in np.ndindex(B, T):
        word = labels[b, t] if labels[b, t] < V else copier.unknown_id
        log_p = tf.nn.log_softmax(logits[b, t]).numpy()
        others = -np.mean([log_p[v] for v in range(1, V) if v != word])
        expected = (1 - smoothing) * plain[b, t] + smoothing * others
        np.testing.assert_allclose(found[b, t], expected, atol=1e-5)
    # Without anything to copy it is the loss that the head has alone.
    outputs["copy_ids"] = 0 * COPY_IDS
    found = copier.loss(head, outputs, tf.constant(labels[1:].repeat(B, 0)), training=True)
    rows = hidden.reshape(-1, D)
    weight, bias = head.weight.value, head.bias.value
    expected = vocabulary_cross_entropy(
        rows, weight, bias, labels[1:].repeat(B, 0).ravel(), smoothing
    )
    np.testing.assert_allclose(tf.reshape(found, [-1]), expected, atol=1e-5)


def test_coverage_attention_is_the_equation_of_the_paper():
    random = np.random.default_rng(0)
    query = random.normal(size=(B, T, D)).astype("float32")
    memory = random.normal(size=(B, S, M)).astype("float32")
    attention = CoverageAttention(units=3)
    context, weights = attention(query, memory, memory_mask=MASK)
    names = ("query_kernel", "memory_kernel", "coverage_kernel", "score_vector", "bias")
    W, U, w_c, v, b = (np.array(getattr(attention, name)) for name in names)
    coverage = np.zeros((B, S))
    for t in range(T):
        compared = (query[:, t] @ W)[:, None] + memory @ U + coverage[..., None] * w_c + b
        expected = softmax(np.where(MASK, np.tanh(compared) @ v, -np.inf))
        np.testing.assert_allclose(weights[:, t], expected, atol=1e-5)
        np.testing.assert_allclose(
            context[:, t], np.einsum("bs,bsm->bm", expected, memory), atol=1e-5
        )
        coverage += expected
    # The first step has covered nothing: it is that of Bahdanau.
    plain = BahdanauAttention(units=3)
    plain(query, memory)
    plain.set_weights([*attention.get_weights()[:4]])
    np.testing.assert_allclose(plain(query, memory, MASK)[1][:, 0], weights[:, 0], atol=1e-5)


DECODERS = {
    "rnn": lambda: AttentionDecoder(TokenEmbedding(V, D), M, CoverageAttention(3)),
    "transformer": lambda: TransformerDecoder(TokenEmbedding(V, D), 2, 2, 8, weights_head=1),
}


@pytest.mark.parametrize("name", DECODERS)
def test_the_steps_of_a_decoder_that_copies_equal_the_whole(name):
    decoder = DECODERS[name]()
    random = np.random.default_rng(0)
    memory = random.normal(size=(B, S, M)).astype("float32")
    ids = np.array([[1, 4, 5], [1, 6, 3]])
    hidden, weights = decoder(ids, memory, memory_mask=MASK)
    np.testing.assert_array_equal(weights[1, :, 3:], np.zeros((T, 2)))
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones((B, T)), atol=1e-5)
    prepared = decoder.prepare(memory, MASK)
    state = decoder.initial_state(prepared, T)
    for t in range(T):
        found = decoder.step(ids[:, t], state, t, prepared)
        np.testing.assert_allclose(found[0], hidden[:, t], atol=1e-5)
        np.testing.assert_allclose(found[1], weights[:, t], atol=1e-5)
        state = found[2]


def test_one_head_is_one_of_those_whose_mean_is_the_default():
    config = {"num_layers": 1, "num_heads": 2, "hidden_units": 8}
    memory, ids = tf.random.normal((B, S, M)), np.array([[1, 4, 5], [1, 6, 3]])
    mean = TransformerDecoder(TokenEmbedding(V, D), **config)
    expected = mean(ids, memory)[1]
    heads = []
    for head in range(2):
        one = TransformerDecoder(TokenEmbedding(V, D), **config, weights_head=head)
        one(ids, memory)
        one.set_weights(mean.get_weights())
        heads.append(one(ids, memory)[1])
    np.testing.assert_allclose((heads[0] + heads[1]) / 2, expected, atol=1e-6)
    assert np.abs(heads[0] - heads[1]).max() > 1e-4


def test_what_cannot_be_is_refused():
    message = "`coverage_weight` must not be negative, got coverage_weight=-1."
    with pytest.raises(ValueError, match=re.escape(message)):
        Copier(coverage_weight=-1)
    with pytest.raises(ValueError, match="`unknown_id` must be at least 1"):
        Copier(unknown_id=0)
    message = (
        "`weights_head` and `num_heads` must be None or one of the heads, 0 to num_heads - 1, "
        "got weights_head=2, num_heads=2."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        TransformerDecoder(keras.layers.Identity(), 1, 2, 8, weights_head=2)
