"""R-Drop: the loss against numpy, what it leaves alone, and `fit`."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import INPUTS, LABELS, D, T, U, V, built

from kzoo.layers.attention import BahdanauAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.length import LengthHead
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import ScheduledSampling, Seq2Seq

REAL = LABELS != 0


def make_transformer(dropout=0.3, **options):
    embedding = TokenEmbedding(V, D, scale=True)
    encoder = TransformerEncoder(embedding, 1, 2, U, dropout=dropout)
    decoder = TransformerDecoder(embedding, 1, 2, U, dropout=dropout)
    return Seq2Seq(encoder, decoder, VocabularyHead(V, D, embedding, use_bias=False), **options)


def make_rnn(**options):
    embedding = TokenEmbedding(V, D)
    decoder = AttentionDecoder(embedding, D, BahdanauAttention(5), cell="gru", dropout=0.3)
    encoder = RecurrentEncoder(embedding, U, cell="gru")
    return Seq2Seq(encoder, decoder, VocabularyHead(V, D), **options)


def log_softmax(logits):
    logits = np.array(logits, "float64")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_the_loss_is_the_equation_of_the_paper():
    model = built(make_transformer(r_drop=3.0))
    outputs = model(INPUTS, training=True)
    one, two = log_softmax(outputs["logits"]), log_softmax(outputs["second"]["logits"])
    assert abs(one - two).max() > 0.1
    nll = -sum(np.take_along_axis(each, LABELS[..., None], -1)[..., 0] for each in (one, two))
    kl = (np.exp(one) * (one - two) + np.exp(two) * (two - one)).sum(-1) / 2
    expected = (nll[REAL] + 3.0 * kl[REAL]).mean() / 2
    loss = model.compute_loss(y=LABELS, y_pred=outputs, training=True)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    reported = float(model.own_metrics["loss"].result())
    assert reported == pytest.approx(nll[REAL].mean() / 2, rel=1e-5)


def test_padding_counts_for_nothing_and_rows_by_their_weight():
    model = built(make_transformer(r_drop=3.0))
    outputs = model(INPUTS, training=True)
    weight = np.array([1.0, 0.0, 2.0], "float32")
    kept = float(model.compute_loss(y=LABELS, y_pred=outputs, sample_weight=weight))

    def spoilt(x):
        return tf.where((REAL & (weight > 0)[:, None])[..., None], x, np.nan)

    names = ("logits", "hidden")
    second = {**outputs["second"], **{name: spoilt(outputs["second"][name]) for name in names}}
    changed = {**outputs, **{name: spoilt(outputs[name]) for name in names}, "second": second}
    found = model.compute_loss(y=LABELS, y_pred=changed, sample_weight=weight)
    assert float(found) == pytest.approx(kept, rel=1e-6)


def test_without_dropout_it_is_the_plain_loss_with_its_gradients():
    plain = built(make_transformer(dropout=0.0))
    model = make_transformer(dropout=0.0, r_drop=5.0)
    model(INPUTS)
    model.set_weights(plain.get_weights())
    found = []
    for each in (plain, model):
        with tf.GradientTape() as tape:
            outputs = each(INPUTS, training=True)
            loss = each.compute_loss(y=LABELS, y_pred=outputs, training=True)
        gradients = tape.gradient(loss, [v.value for v in each.trainable_variables])
        found.append([loss, *map(tf.convert_to_tensor, gradients)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_evaluate_and_the_outputs_of_a_call_have_one_pass():
    model = built(make_transformer(r_drop=5.0))
    assert "second" not in model(INPUTS)
    assert model(INPUTS, training=True)["logits"].shape == (*LABELS.shape, V)
    assert "second" not in make_transformer()(INPUTS, training=True)


def test_it_trains_with_ragged_targets_other_terms_and_metrics_in_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_transformer(r_drop=1.0, length_head=LengthHead(), doubly_stochastic=0.1)
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.Adam(0.05), metrics=["accuracy"])
    rows = {name: tf.RaggedTensor.from_tensor(x, padding=0) for name, x in INPUTS.items()}
    labels = tf.RaggedTensor.from_tensor(LABELS, padding=0)
    data = tf.data.Dataset.from_tensors((rows, labels)).repeat(8)
    history = model.fit(data, epochs=2, shuffle=False, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_rows_that_ctc_leaves_out_count_once():
    model = built(make_rnn(r_drop=1.0, ctc_head=VocabularyHead(V, 2 * U)))
    labels = np.full_like(LABELS, 4)  # repeated letters need a blank between each two
    short = {**INPUTS, "source": INPUTS["source"][:, :2]}
    model.compute_loss(y=labels, y_pred=model(short, training=True), training=True)
    assert float(model.own_metrics["infeasible"].result()) == len(LABELS)
    assert labels.shape[1] == T


def test_a_config_keeps_it_and_what_it_cannot_be_with_is_refused():
    model = make_transformer(r_drop=2.0)
    assert Seq2Seq.from_config(model.get_config()).r_drop == 2.0
    with pytest.raises(ValueError, match=re.escape("`r_drop` must not be negative, got r_drop=-1")):
        make_transformer(r_drop=-1)
    message = "`r_drop` must be 0 with `scheduled_sampling` and with a sampled softmax, got r_drop="
    with pytest.raises(ValueError, match=message):
        make_transformer(r_drop=1.0, scheduled_sampling=ScheduledSampling(0.5))
    with pytest.raises(ValueError, match=message):
        Seq2Seq(model.encoder, model.decoder, VocabularyHead(V, D, num_sampled=5), r_drop=1.0)
