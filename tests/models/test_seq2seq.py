"""Seq2Seq: the loss against numpy, `fit`, `evaluate`, files, and what it generates."""

import copy
import functools
import gc
import itertools
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    INPUTS,
    LABELS,
    SOURCE,
    TARGET,
    TEXTS,
    TOKENS,
    B,
    D,
    K,
    S,
    T,
    U,
    V,
    built,
    make_rnn,
    make_transformer,
)

from kzoo.layers import sharing
from kzoo.layers.attention import BahdanauAttention, LocationAwareAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.length import LengthHead
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import Ensemble, Seq2Seq
from kzoo.models.generator import looked_at
from kzoo.text import END_ID, START_ID, CharacterTokenizer, SubwordTokenizer, WordTokenizer
from kzoo.training import InverseSquareRoot, LazyAdam, SequenceAccuracy

MAKERS = {"transformer": make_transformer, "rnn": make_rnn}
either_model = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def cross_entropies(model, smoothing=0.0):
    """(B, T) in numpy from the logits."""
    logits = np.array(model(INPUTS)["logits"], "float64")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = np.full((B, T, V), smoothing / (V - 2))
    wanted[:, :, 0] = 0
    np.put_along_axis(wanted, LABELS[:, :, None], 1 - smoothing, -1)
    return -(wanted * log_p).sum(-1)


def loss_of(model, labels=LABELS, **kwargs):
    return float(model.compute_loss(y=labels, y_pred=model(INPUTS), **kwargs))


def ragged(x, lengths=None):
    return tf.RaggedTensor.from_tensor(x, lengths, padding=None if lengths else 0)


def assert_close(actual, expected, rtol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-5)


# Loss


@pytest.mark.parametrize("training", [False, True])
def test_the_loss_is_the_mean_cross_entropy_of_the_real_tokens(training):
    model = built(make_transformer())
    expected = cross_entropies(model)[LABELS != 0].mean()
    assert_close(loss_of(model, training=training), expected)


def test_labels_are_smoothed_in_training_only():
    model = built(make_transformer(label_smoothing=0.3))
    smoothed = cross_entropies(model, smoothing=0.3)[LABELS != 0].mean()
    plain = cross_entropies(model)[LABELS != 0].mean()
    assert abs(smoothed - plain) > 0.01
    assert_close(loss_of(model, training=True), smoothed)
    assert_close(loss_of(model, training=False), plain)


def test_the_loss_ignores_what_the_model_says_where_labels_are_padding():
    model = built(make_transformer())
    outputs = model(INPUTS)
    hidden = tf.where((LABELS != 0)[:, :, None], outputs["hidden"], np.nan)
    loss = model.compute_loss(y=LABELS, y_pred={**outputs, "hidden": hidden})
    assert_close(loss, loss_of(model))


def test_ragged_labels_have_the_loss_of_padded_ones():
    model = built(make_transformer())
    assert_close(loss_of(model, ragged(LABELS, TOKENS)), loss_of(model))


def test_sample_weights_weigh_rows_or_tokens():
    model, real = built(make_transformer()), LABELS != 0
    losses = cross_entropies(model)
    rows = np.array([0.5, 2.0, 3.0], "float32")
    weight = rows[:, None] * real
    assert_close(loss_of(model, sample_weight=rows), (losses * weight).sum() / weight.sum())
    tokens = np.random.default_rng(0).uniform(0, 2, (B, T)).astype("float32")
    weight = tokens * real
    assert_close(loss_of(model, sample_weight=tokens), (losses * weight).sum() / weight.sum())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_dense_weights_may_be_wider_than_the_ragged_labels_of_some_rows(accumulate):
    model = built(make_rnn())
    model.compile("sgd", accumulate=accumulate)
    rows = [row for row in range(B) if row != np.argmax(TOKENS)]
    tokens = [TOKENS[row] for row in rows]
    weight = np.random.default_rng(0).uniform(0, 2, (B, T)).astype("float32")[rows]
    losses = cross_entropies(model)[rows]
    inputs = {"source": ragged(SOURCE[rows]), "target": ragged(TARGET[rows], tokens)}
    loss = model.train_on_batch(inputs, ragged(LABELS[rows], tokens), weight)
    weight = weight * (LABELS[rows] != 0)
    assert_close(loss, (losses * weight).sum() / weight.sum())


@pytest.mark.parametrize("first", ["rows", "tokens"])
def test_weights_of_rows_and_of_tokens_can_follow_each_other(first):
    model = built(make_transformer(), seed=3)
    model.compile(metrics=["accuracy"])
    rows = np.arange(1, B + 1, dtype="float32")
    tokens = np.repeat(rows[:, None], T, axis=1)
    given = [tokens, rows] if first == "tokens" else [rows, tokens]
    found = [model.evaluate(INPUTS, LABELS, 2, sample_weight=each, verbose=0) for each in given]
    assert_close(*found)
    weight = rows[:, None] * (LABELS != 0)
    assert_close(found[0][0], (cross_entropies(model) * weight).sum() / weight.sum())


def test_a_batch_without_a_real_token_has_a_loss_of_zero():
    assert loss_of(built(make_transformer()), np.zeros_like(LABELS)) == 0


def test_a_regularizer_is_minimised_but_not_reported():
    dense = keras.layers.Dense(D, kernel_regularizer=keras.regularizers.L2(0.5))
    model = make_transformer()
    model.encoder = TransformerEncoder(dense, 1, 2, U)
    features = np.random.default_rng(0).normal(size=(B, S, 3)).astype("float32")
    outputs = model({"source": features, "target": TARGET})
    model.own_metrics["loss"].reset_state()
    loss = float(model.compute_loss(y=LABELS, y_pred=outputs))
    reported = float(model.own_metrics["loss"].result())
    assert_close(loss - reported, 0.5 * np.square(dense.kernel).sum())


def test_doubly_stochastic_attention_is_asked_to_look_everywhere_by_real_tokens_alone():
    model = built(make_rnn())
    uneven = Seq2Seq(model.encoder, model.decoder, model.head, doubly_stochastic=0.7)
    outputs = uneven(INPUTS)
    weights, is_step = outputs["weights"].numpy(), outputs["memory_mask"].numpy()
    assert not is_step.all() and (LABELS == 0).any()
    expected = [
        sum((1 - weights[b, LABELS[b] != 0, s].sum()) ** 2 for s in range(S) if is_step[b, s])
        for b in range(B)
    ]
    plain, tokens = loss_of(model), (LABELS != 0).sum()
    assert_close(loss_of(uneven), plain + 0.7 * sum(expected) / tokens)
    assert_close(uneven.own_metrics["loss"].result(), plain)  # not reported
    assert_close(loss_of(uneven, ragged(LABELS, TOKENS)), loss_of(uneven))
    rows = np.array([0.5, 2.0, 3.0], "float32")
    tokens = (rows[:, None] * (LABELS != 0)).sum()
    plain = loss_of(model, sample_weight=rows)
    weighted = plain + 0.7 * (rows * expected).sum() / tokens
    assert_close(loss_of(uneven, sample_weight=rows), weighted)
    assert Seq2Seq.from_config(uneven.get_config()).doubly_stochastic == 0.7
    with pytest.raises(ValueError, match=r"must not be negative, got doubly_stochastic=-1"):
        Seq2Seq(model.encoder, model.decoder, model.head, doubly_stochastic=-1)


# Fit and evaluate


def batches_of(*rows):
    """A dataset of batches of the given rows, each batch cut to its own length."""

    def batch(index):
        keep = max(TOKENS[i] for i in index)
        inputs = {"source": SOURCE[index], "target": TARGET[index, :keep]}
        return inputs, LABELS[index, :keep]

    def batches():
        yield from map(batch, rows)

    ids = tf.TensorSpec((None, None), tf.int64)
    signature = ({"source": ids, "target": ids}, ids)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(rows)))


def test_evaluate_is_the_mean_per_token_however_the_rows_are_batched():
    model = built(make_transformer(label_smoothing=0.3))
    expected = cross_entropies(model)[LABELS != 0].mean()
    model.compile("sgd")
    assert_close(model.evaluate(batches_of([0, 2], [1]), verbose=0), expected)
    unequal = [cross_entropies(model)[rows][LABELS[rows] != 0].mean() for rows in ([0, 2], [1])]
    assert abs(np.mean(unequal) - expected) > 0.01  # the mean of the batches is another
    weights = np.array([0.5, 2.0, 3.0], "float32")
    weight = weights[:, None] * (LABELS != 0)
    found = model.evaluate(INPUTS, LABELS, sample_weight=weights, batch_size=2, verbose=0)
    assert_close(found, (cross_entropies(model) * weight).sum() / weight.sum())


@either_model
def test_fit_lowers_the_loss(make):
    model = make()
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(INPUTS, LABELS, epochs=12, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    assert model.jit_compile is False


@either_model
def test_ragged_batches_train_and_evaluate_as_padded_ones_do(make):
    def data(padded):
        pieces = (SOURCE, TARGET, LABELS)
        if not padded:
            pieces = (ragged(SOURCE), ragged(TARGET, TOKENS), ragged(LABELS, TOKENS))
        source, target, labels = pieces
        return tf.data.Dataset.from_tensors(({"source": source, "target": target}, labels))

    losses = []
    for padded in (True, False):
        keras.utils.set_random_seed(5)
        model = make()
        model.compile(keras.optimizers.SGD(0.1))
        history = model.fit(data(padded), epochs=2, verbose=0, shuffle=False).history["loss"]
        losses.append([*history, model.evaluate(data(padded), verbose=0)])
    assert_close(losses[1], losses[0])


@pytest.mark.parametrize("kind", ["padded batches", "ragged batches", "arrays"])
def test_a_new_model_traces_its_training_step_once(monkeypatch, kind):
    model, traces = make_transformer(), []
    compute_loss = model.compute_loss
    monkeypatch.setattr(
        model, "compute_loss", lambda *a, **k: traces.append(1) or compute_loss(*a, **k)
    )
    model.compile()
    if kind == "arrays":
        model.fit(INPUTS, LABELS, verbose=0)
    else:
        read = ragged if kind == "ragged batches" else tf.constant
        inputs = {name: read(value) for name, value in INPUTS.items()}
        model.fit(tf.data.Dataset.from_tensors((inputs, read(LABELS))), verbose=0, shuffle=False)
    assert traces == [1]


class WithAnAuxiliaryHead(Seq2Seq):
    """It has a layer that only training uses."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) + tf.reduce_sum(
            self.auxiliary(tf.ones((1, 2)))
        )


def test_a_layer_that_only_training_uses_is_trained():
    model = make_rnn()
    parts = model.encoder, model.decoder, model.head
    model = WithAnAuxiliaryHead(*parts)
    model.auxiliary = keras.layers.Dense(1)
    model.compile(keras.optimizers.SGD(0.5))
    model.fit(INPUTS, LABELS, verbose=0)
    assert model.auxiliary.bias.numpy() == [-0.5]


def test_fit_says_that_a_model_must_be_compiled():
    with pytest.raises(ValueError, match=r"must call `compile\(\)` before"):
        make_rnn().fit(INPUTS, LABELS, verbose=0)


def test_an_input_may_be_none():
    data = tf.data.Dataset.from_tensors(({**INPUTS, "source_mask": None}, LABELS))
    model = make_rnn()
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(data, shuffle=False, verbose=0)


def test_a_trained_model_takes_its_graphs_with_it():
    def graphs_after_a_fit():
        model = make_rnn()
        model.compile()
        model.fit(INPUTS, LABELS, verbose=0)
        del model
        gc.collect()
        return sum(issubclass(type(each), tf.Graph) for each in gc.get_objects())

    first = graphs_after_a_fit()  # with the loss's own, which is kept
    assert graphs_after_a_fit() <= first


def test_fit_takes_ragged_tensors_themselves():
    model = built(make_transformer())
    model.compile(keras.optimizers.SGD(0.0))
    inputs = {"source": ragged(SOURCE), "target": ragged(TARGET, TOKENS)}
    labels = ragged(LABELS, TOKENS)
    history = model.fit(inputs, labels, batch_size=B, verbose=0).history["loss"]
    assert_close(history[0], loss_of(model))
    assert_close(model.evaluate(inputs, labels, batch_size=2, verbose=0), loss_of(model))


def make_sampled(sampler, is_tied=True):
    """Batches of Zipf's labels, and a model that samples 5 of 101 classes."""
    size = 101
    embedding = TokenEmbedding(size, D)
    tied = embedding if is_tied else None
    head = VocabularyHead(size, D, tied, num_sampled=5, sampler=sampler, seed=3)
    encoder = RecurrentEncoder(embedding, U, cell="gru")
    decoder = AttentionDecoder(embedding, D, BahdanauAttention(5), cell="gru")
    model = Seq2Seq(encoder, decoder, head)
    model.compile(LazyAdam(InverseSquareRoot(0.01, 3), global_clipnorm=1.0))
    ids = np.minimum(4 + np.random.default_rng(4).zipf(1.5, (6, B, T)), size - 1)
    ids[:, 0, 2:] = 0
    return model, tf.data.Dataset.from_tensor_slices(({"source": ids, "target": ids}, ids))


@pytest.mark.parametrize("sampler", ["log_uniform", "uniform", "learned_unigram"])
def test_sampled_training_stopped_and_resumed_has_the_weights_of_one_without_a_break(
    sampler, tmp_path
):
    whole, data = make_sampled(sampler)
    whole(next(iter(data))[0])
    whole.save_weights(tmp_path / "first.weights.h5")
    whole.fit(data, shuffle=False, verbose=0)

    before, _ = make_sampled(sampler)
    before(next(iter(data))[0])
    before.load_weights(tmp_path / "first.weights.h5")
    before.fit(data.take(2), shuffle=False, verbose=0)
    before.save(tmp_path / "model.keras")
    after = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(after.optimizer, LazyAdam)
    after.fit(data.skip(2), shuffle=False, verbose=0)
    for a, b in zip(whole.weights, after.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(whole.optimizer.variables, after.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fit_samples_classes_and_evaluate_is_about_all():
    model, data = make_sampled("log_uniform", is_tied=False)
    history = model.fit(data, epochs=30, shuffle=False, verbose=0).history["loss"]
    assert history[-1] < history[0]
    (inputs, labels), *_ = data
    log_p = tf.nn.log_softmax(model(inputs)["logits"]).numpy()
    expected = -np.take_along_axis(log_p, labels.numpy()[:, :, None], -1)[labels.numpy() != 0]
    assert_close(model.evaluate(data.take(1), verbose=0), expected.mean())
    assert expected.mean() > history[-1]


def test_compiling_a_sampled_softmax_with_xla_is_refused():
    model, _ = make_sampled("uniform")
    message = (
        "`jit_compile` must be False with a sampled softmax, which XLA cannot compile, "
        "got jit_compile=True, num_sampled=5."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        model.compile(jit_compile=True)


@pytest.mark.parametrize("attention", [BahdanauAttention(3), LocationAwareAttention(3, 2, 3)])
def test_xla_compiles_training_and_validation_on_batches_of_any_size(attention):
    embedding = TokenEmbedding(V, D)
    model = Seq2Seq(
        RecurrentEncoder(TokenEmbedding(V, D), U, cell="simple"),
        AttentionDecoder(embedding, U, attention, cell="simple"),
        VocabularyHead(V, U),
    )
    built(model)
    model.compile("adam")
    expected = model.evaluate(INPUTS, LABELS, 2, verbose=0)
    model.compile("adam", jit_compile=True)
    assert_close(model.evaluate(INPUTS, LABELS, 2, verbose=0), expected)
    model.fit(INPUTS, LABELS, 2, verbose=0)
    assert model.evaluate(INPUTS, LABELS, 2, verbose=0) < expected


def test_compiling_ctc_with_xla_is_refused():
    model = make_transformer()
    model = Seq2Seq(model.encoder, model.decoder, model.head, ctc_head=VocabularyHead(V, D))
    with pytest.raises(ValueError, match="`jit_compile` must be False for a model with CTC"):
        model.compile(jit_compile=True)


def test_weights_of_classes_are_refused_wherever_they_stand():
    model = make_transformer()
    model.compile("adam")
    inputs, labels = {"source": np.ones((2, 3)), "target": np.ones((2, 3))}, np.ones((2, 3))
    message = "`class_weight` must be None: `sample_weight` (B, T) weighs tokens, got class_wei"
    for place in ({"class_weight": {4: 10.0}}, (labels, 2, 1, 0, None, 0.0, None, True, {4: 1.0})):
        arguments, named = ((labels,), place) if isinstance(place, dict) else (place, {})
        with pytest.raises(ValueError, match=re.escape(message)):
            model.fit(inputs, *arguments, **named)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.train_on_batch(inputs, labels, class_weight={4: 10.0})


def test_a_loss_given_to_compile_is_refused():
    message = "`loss` must be None: Seq2Seq has its own, got loss='mse'."
    with pytest.raises(ValueError, match=re.escape(message)):
        make_transformer().compile("sgd", loss="mse")


# Files


@either_model
def test_a_file_gives_back_logits_answers_and_optimizer(make, tmp_path):
    model = make(tokenizer=CharacterTokenizer.learn(TEXTS, vocabulary_size=V))
    model.compile(keras.optimizers.Adam(InverseSquareRoot(0.01, 7)))
    model.fit(INPUTS, LABELS, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(loaded(INPUTS)["logits"], model(INPUTS)["logits"])
    assert loaded.encoder.embedding is loaded.decoder.embedding
    assert loaded.source_tokenizer is loaded.target_tokenizer
    assert len(loaded.weights) == len(model.weights)
    assert loaded.count_params() == model.count_params()
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert int(loaded.optimizer.iterations) == 2
    losses = [each.fit(INPUTS, LABELS, verbose=0).history["loss"] for each in (model, loaded)]
    assert_close(*losses)


def test_a_tied_embedding_is_one_weight_before_and_after_loading(tmp_path):
    model = built(make_transformer())
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        assert each.head.weight is each.encoder.embedding.embeddings
        assert each.head.weight is each.decoder.embedding.embeddings
        assert [tuple(w.shape) for w in each.weights].count((V, D)) == 1


def test_weights_alone_can_be_saved_and_loaded(tmp_path):
    model, other = built(make_transformer()), built(make_transformer(), seed=1)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_close(other(INPUTS)["logits"], model(INPUTS)["logits"])


# Generate


def greedy(model, source, max_length):
    """One row, one token at a time, through the whole model."""
    ids = [START_ID]
    while len(ids) <= max_length:
        outputs = model({"source": source[None], "target": np.array([ids])})
        ids.append(int(np.argmax(outputs["logits"][0, -1])))
        if ids[-1] == END_ID:
            break
    return ids[1:]


def real_ids(row):
    return [int(i) for i in row if i != 0]


@either_model
def test_one_beam_is_the_greedy_search_of_the_whole_model(make):
    model = built(make(), seed=3)
    # Id 0 never is an answer of a trained model; here it could be.
    model.head.call = without_padding(model.head.call)
    result = model.generate(SOURCE, beam_size=1, max_length=5, length_penalty=0.0)
    for row, source in enumerate(SOURCE):
        assert real_ids(result.ids[row, 0]) == greedy(model, source[source != 0], 5)


def without_padding(call):
    def masked(hidden):
        logits = call(hidden)
        return tf.where(tf.range(V) == 0, logits.dtype.min, logits)

    return masked


@either_model
def test_a_log_probability_is_that_of_the_whole_model(make):
    model = built(make())
    result = model.generate(SOURCE, beam_size=K, max_length=T, length_penalty=0.0)
    for k in range(K):
        ids = np.array(result.ids[:, k])
        target = np.concatenate([np.full((B, 1), START_ID), ids[:, :-1]], 1)
        logits = model({"source": SOURCE, "target": target})["logits"]
        log_p = np.take_along_axis(np.array(tf.nn.log_softmax(logits)), ids[:, :, None], -1)
        generated = np.arange(T) < np.array(result.lengths)[:, k, None] + 1
        assert_close((log_p[:, :, 0] * generated).sum(1), result.log_probs[:, k], rtol=1e-4)


@either_model
def test_ids_may_be_of_any_type_of_number(make):
    model = built(make())
    expected = model(INPUTS)["logits"]
    for dtype in ("float32", "float64", "int16", "uint8", "int64"):
        inputs = {name: ids.astype(dtype) for name, ids in INPUTS.items()}
        assert_close(model(inputs)["logits"], expected)
    inputs = {name: ids.astype("float32") for name, ids in INPUTS.items()}
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(inputs, LABELS.astype("float32"), verbose=0).history
    assert_close(history["loss"][0], loss_of(model))
    ids = model.generate(inputs["source"], beam_size=K, max_length=T).ids
    np.testing.assert_array_equal(ids, model.generate(SOURCE, beam_size=K, max_length=T).ids)
    symbolic = {name: keras.Input((None,), name=name) for name in INPUTS}  # of float32
    assert_close(keras.Model(symbolic, model(symbolic)["logits"])(inputs), expected)


@pytest.mark.parametrize("recurrent", [True, False])
def test_float_ids_are_not_cast_to_half_precision_on_their_way(recurrent):
    vocabulary = 307  # bfloat16 cannot tell 300 from 301
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        embedding = TokenEmbedding(vocabulary, D)
        if recurrent:
            encoder = RecurrentEncoder(embedding, units=D)
            decoder = AttentionDecoder(embedding, units=D, attention=BahdanauAttention(5))
        else:
            shape = {"num_layers": 1, "num_heads": 1, "hidden_units": D}
            encoder = TransformerEncoder(embedding, **shape)
            decoder = TransformerDecoder(embedding, **shape)
        model = Seq2Seq(encoder, decoder, VocabularyHead(vocabulary, D))
    finally:
        keras.config.set_dtype_policy("float32")
    ids = np.array([[300, 301, 302, 303, 0]])
    expected = model({"source": ids, "target": ids})["logits"]
    floats = ids.astype("float32")
    np.testing.assert_array_equal(model({"source": floats, "target": floats})["logits"], expected)
    for layer, *memory in ((embedding,), (encoder,), (decoder, encoder(ids)[0])):
        np.testing.assert_array_equal(
            tf.nest.flatten(layer(floats, *memory))[0], tf.nest.flatten(layer(ids, *memory))[0]
        )


@either_model
def test_build_makes_the_weights_that_a_file_brings(make, tmp_path):
    model = built(make())
    model.save_weights(tmp_path / "model.weights.h5")
    again = make()
    again.build({"source": (None, None), "target": (None, None)})
    assert again.built and again.count_params() == model.count_params()
    again.load_weights(tmp_path / "model.weights.h5")
    assert_close(again(INPUTS)["logits"], model(INPUTS)["logits"])
    for shapes in (None, (None, None)):
        unbuilt = make()
        with pytest.raises(ValueError, match=r"`inputs_shape` must be a dict .* got \(?None"):
            unbuilt.build(shapes)
        assert not unbuilt.built


@pytest.mark.parametrize("is_ensemble", [False, True])
def test_a_model_that_only_generated_is_built_and_can_be_saved(is_ensemble, tmp_path):
    model = Ensemble([make_rnn(), make_rnn()]) if is_ensemble else make_rnn()
    expected = model.generate(SOURCE, beam_size=K, max_length=T)
    assert model.built
    model.save(tmp_path / "model.keras")
    found = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        found.generate(SOURCE, beam_size=K, max_length=T).ids, expected.ids
    )


def test_metrics_of_compile_see_the_real_tokens_as_examples():
    model = built(make_rnn())
    weights = np.array([1.0, 0.5, 2.0])
    model.compile(
        keras.optimizers.SGD(0.0),
        metrics=["accuracy", SequenceAccuracy()],
        weighted_metrics={"logits": keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")},
    )
    logits, is_real = model(INPUTS)["logits"].numpy(), LABELS != 0
    right = (logits.argmax(-1) == LABELS)[is_real].mean()
    rank = (logits > np.take_along_axis(logits, LABELS[..., None], 2)).sum(-1)
    token_weights = (np.ones_like(LABELS) * weights[:, None])[is_real]
    top = np.average((rank < 2)[is_real], weights=token_weights)
    # Batches of one row, of which the shortest counts no more than its tokens.
    for found in (
        model.fit(INPUTS, LABELS, sample_weight=weights, batch_size=1, verbose=0).history,
        model.evaluate(INPUTS, LABELS, 2, sample_weight=weights, return_dict=True, verbose=0),
    ):
        found = {name: np.ravel(value)[0] for name, value in found.items()}
        assert set(found) == {"loss", "accuracy", "sequence_accuracy", "top"}
        np.testing.assert_allclose([found["accuracy"], found["sequence_accuracy"]], right)
        np.testing.assert_allclose(found["top"], top, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`metrics` must be .*'logits', got \['weights'\]"):
        model.compile(metrics={"weights": ["accuracy"]})


def test_ragged_rows_may_have_ragged_weights_and_must_have_as_many_steps():
    model = built(make_rnn())
    model.compile(keras.optimizers.SGD(0.0))
    inputs = {"source": ragged(SOURCE), "target": ragged(TARGET, TOKENS)}
    weights = ragged(np.full(LABELS.shape, 0.5, "float32"), TOKENS)
    data = tf.data.Dataset.from_tensors((inputs, ragged(LABELS, TOKENS), weights))
    assert_close(model.fit(data, shuffle=False, verbose=0).history["loss"][0], loss_of(model))
    short = ragged(LABELS, [count - 1 for count in TOKENS])
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many steps as the target"):
        model.evaluate(tf.data.Dataset.from_tensors((inputs, short)), verbose=0)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (
            [SOURCE, TARGET],
            LABELS,
            '`inputs` must be a dict with "source" and "target", got a list',
        ),
        ({"source": SOURCE}, LABELS, r"`inputs` must be a dict .*, got \['source'\]"),
        (
            INPUTS,
            LABELS[:, 1:],
            r"`y` must have as many steps as the target: teacher .*, got 3 and 4 steps",
        ),
        (INPUTS, np.eye(V)[LABELS], r"`y` must be ids .* shape \(None, 4, 11\); of one-hot"),
        (INPUTS, None, "`y` must be the labels, ids .*, got None"),
        (INPUTS | {"source": SOURCE[:, 0]}, LABELS, r"`source` must have the axes .* \(None,\)"),
    ],
)
def test_fit_names_the_argument_that_is_wrong(inputs, labels, message):
    model = make_rnn()
    model.compile("sgd")
    with pytest.raises(ValueError, match=message):
        model.fit(inputs, labels, verbose=0)


def test_what_cannot_be_used_is_named_at_once():
    model = make_rnn()
    for rows in (SOURCE.tolist(), [[3], [4, 5]]):
        for function in (model.generate, model.sample):
            with pytest.raises(ValueError, match=r"`source` must be an array .* got a list; rows"):
                function(rows)
    with pytest.raises(ValueError, match=r"`source` must have the axes .* got shape \(5,\)"):
        model.generate(SOURCE[0])
    with pytest.raises(ValueError, match="needs a model with a `source_tokenizer`, got None"):
        model.text_generator()
    for name in ("FusedAdam", "fusedadam"):
        with pytest.raises(ValueError, match=r"`optimizer` .* pass kzoo.FusedAdam\(learning_rate"):
            model.compile(name)


def test_ids_that_lost_digits_are_refused():
    inputs = {name: tf.cast(ids, tf.bfloat16) for name, ids in INPUTS.items()}
    with pytest.raises(ValueError, match="Ids must be integers, got bfloat16"):
        make_rnn()(inputs)


@either_model
def test_a_graph_of_a_batch_of_known_shape_generates_what_eager_mode_does(make, users_function):
    model = built(make())
    options = {"beam_size": K, "max_length": T}
    source = tf.constant(SOURCE)
    found = users_function(lambda: model.generate(source, **options).ids)()
    np.testing.assert_array_equal(found, model.generate(source, **options).ids)


@either_model
def test_a_graph_of_any_rows_traces_the_step_of_the_decoder_once(make, monkeypatch):
    model = built(make())
    eager = model.generate(SOURCE, beam_size=K, max_length=T)
    traces, step = [], type(model.decoder).step
    monkeypatch.setattr(type(model.decoder), "step", lambda *args: traces.append(1) or step(*args))
    spec = tf.TensorSpec([None, None], tf.int32)
    for search, options in ((model.generate, {"beam_size": K}), (model.sample, {"num_samples": K})):
        del traces[:]
        function = tf.function(functools.partial(search, max_length=T, **options))
        found = function.get_concrete_function(spec)(tf.constant(SOURCE, tf.int32))
        assert len(traces) == 1
        if search == model.generate:
            np.testing.assert_array_equal(found.ids, eager.ids)
            np.testing.assert_allclose(found.scores, eager.scores, rtol=1e-5)


@either_model
def test_a_decoder_of_ones_own_may_branch_in_a_graph(make, monkeypatch, users_function):
    model = built(make())
    expected = model.generate(SOURCE, beam_size=K, max_length=T)
    step = type(model.decoder).step

    def branching(self, ids, *others):
        if tf.reduce_any(ids > 3):
            ids = ids + 0
        return step(self, ids, *others)

    monkeypatch.setattr(type(model.decoder), "step", branching)
    found = users_function(lambda x: model.generate(x, beam_size=K, max_length=T).ids)(SOURCE)
    np.testing.assert_array_equal(found, expected.ids)


def test_export_of_keras_says_what_to_call(tmp_path):
    with pytest.raises(ValueError, match=r"use kzoo\.export\.save\(model, .*1'\)"):
        built(make_rnn()).export(tmp_path / "1")


COPIES = {
    "from_config": lambda model: type(model).from_config(model.get_config()),
    "clone_model": keras.models.clone_model,
    "json": lambda model: keras.models.model_from_json(model.to_json()),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("is_ensemble", [False, True])
def test_a_copy_shares_what_the_model_shares_and_has_its_config(copied, is_ensemble):
    model = built(make_transformer())
    whole = Ensemble([model, built(make_transformer())]) if is_ensemble else model
    again = copied(whole)
    for part in again.models if is_ensemble else [again]:
        assert part.head.tied is part.decoder.embedding is part.encoder.embedding
    again(INPUTS)
    assert again.count_params() == (1 + is_ensemble) * model.count_params()
    if is_ensemble:
        first, second = again.models
        assert first.head.tied is not second.head.tied
    config = json.dumps(whole.get_config())
    assert json.dumps(again.get_config()) == json.dumps(whole.get_config()) == config
    assert str(id(model.head.tied)) not in config


def test_configs_that_were_made_apart_share_nothing():
    serialize = keras.saving.serialize_keras_object
    parts = make_rnn(), make_rnn()
    config = {
        "encoder": serialize(parts[0].encoder),
        "decoder": serialize(parts[1].decoder),
        "head": serialize(parts[1].head),
    }
    again = Seq2Seq.from_config(config)
    assert again.encoder.embedding is not again.decoder.embedding
    config = parts[0].get_config() | {"decoder": serialize(parts[1].decoder)}
    assert Seq2Seq.from_config(config)(INPUTS)["logits"].shape == (B, T, V)


@either_model
def test_what_is_frozen_stays_frozen_in_files_and_copies(make, tmp_path):
    model = make()
    model.encoder.trainable = False
    model.compile("sgd")
    model.fit(INPUTS, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    count = len(model.trainable_variables)
    assert not [v for v in model.encoder.variables if v.trainable]
    copy_ = Seq2Seq.from_config(model.get_config())
    copy_(INPUTS)
    for again in (keras.models.load_model(tmp_path / "model.keras"), copy_):
        assert len(again.trainable_variables) == count
        assert not [v for v in again.encoder.variables if v.trainable]


@either_model
def test_a_part_of_a_layer_that_is_frozen_stays_frozen_in_files_and_copies(make, tmp_path):
    model = make()
    parts = list(model.decoder._flatten_layers(include_self=False))
    for part in parts[2::3]:
        part.trainable = False
    model.build({"source": (None, None), "target": (None, None)})
    expected = [v.trainable for v in model.variables]
    assert len(set(expected)) == 2
    model.save(tmp_path / "model.keras")
    config = model.get_config()
    copy_ = Seq2Seq.from_config(config)
    assert copy_.get_config() == config
    copy_(INPUTS)
    for again in (keras.models.load_model(tmp_path / "model.keras"), copy_):
        assert [v.trainable for v in again.variables] == expected


def test_parts_that_only_build_makes_are_named_where_some_were_frozen():
    config = sharing.serialize(make_rnn().encoder)
    with pytest.warns(UserWarning, match="had 99 layers inside, some of them frozen"):
        sharing.restore({**config, "frozen_parts": [99, 1]})


def test_a_call_that_fails_leaves_a_model_to_build():
    for model in (make_rnn(), Ensemble([make_rnn(), make_transformer()])):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            model({"source": np.zeros((1, 2, 3, 4), "float32"), "target": TARGET})
        assert not model.built
        model.build({"source": (None, None), "target": (None, None)})
        assert model.built and model.has_all_weights


@either_model
def test_start_and_end_may_have_other_ids(make):
    model, renumbered = built(make()), make()
    new_ids = np.array([0, 2, 3, 1, *range(4, V)])  # start 2, end 3
    config = renumbered.get_config() | {"start_id": 2, "end_id": 3}
    renumbered = Seq2Seq.from_config(config)
    renumbered({"source": SOURCE, "target": TARGET})
    for weight, other in zip(model.weights, renumbered.weights, strict=True):
        is_table = weight.shape[0] == V
        other.assign(weight.numpy()[np.argsort(new_ids)] if is_table else weight)
    options = {"beam_size": K, "max_length": T}
    expected = model.generate(SOURCE, **options)
    found = renumbered.generate(new_ids[SOURCE], **options)
    np.testing.assert_array_equal(found.ids, new_ids[expected.ids])
    assert_close(found.scores, expected.scores)
    samples = renumbered.sample(new_ids[SOURCE], max_length=T, seed=1).ids.numpy()
    assert all(3 not in row[row != 0][:-1] for row in samples[:, 0])
    again = Seq2Seq.from_config(renumbered.get_config())
    assert (again.start_id, again.end_id) == (2, 3)
    with pytest.raises(
        ValueError, match="must be an integer of at least 1, got start_id=1, end_id=0"
    ):
        Seq2Seq(model.encoder, model.decoder, model.head, end_id=0)


@either_model
def test_neighbours_and_padding_change_no_answer(make):
    model = built(make())
    options = {"beam_size": 3, "max_length": 7}
    together = model.generate(SOURCE, **options)
    wider = model.generate(np.pad(SOURCE, ((0, 0), (0, 4))), **options)
    from_ragged = model.generate(ragged(SOURCE), **options)
    for other in (wider, from_ragged):
        np.testing.assert_array_equal(other.ids, together.ids)
        assert_close(other.scores, together.scores)
        assert_close(other.weights[..., :S], together.weights)
    for row, source in enumerate(SOURCE):
        alone = model.generate(source[source != 0][None], **options)
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        assert_close(alone.scores[0], together.scores[row])


@either_model
def test_an_empty_source_gives_an_answer_without_nan_and_no_neighbour_another(make):
    model = built(make())
    source = np.array([[0, 0, 0, 0, 0], SOURCE[0]])
    outputs = model({"source": source, "target": TARGET[:2]})
    assert all(np.isfinite(x).all() for x in outputs.values())
    result = model.generate(source, beam_size=K, max_length=T)
    assert np.isfinite(result.scores).all()
    assert np.isfinite(result.weights).all()
    np.testing.assert_array_equal(result.weights[0], np.zeros((K, T, 5)))
    expected = model.generate(SOURCE[:1], beam_size=K, max_length=T)
    np.testing.assert_array_equal(result.ids[1], expected.ids[0])


@either_model
def test_no_sources_give_no_answers(make):
    result = built(make()).generate(np.zeros((0, S), int), beam_size=K, max_length=T)
    assert result.ids.shape == (0, K, T)


@either_model
def test_a_model_in_mixed_bfloat16_trains_and_generates(make):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.Adam(0.01))
    losses = model.fit(INPUTS, LABELS, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model(INPUTS)["logits"].dtype == tf.bfloat16
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    result = model.generate(SOURCE, beam_size=K, max_length=2)
    assert result.scores.dtype == tf.float32
    assert np.isfinite(result.scores).all()


SAMPLED = {"num_samples": 3, "seed": 5, "temperature": 0.7, "top_k": 9, "top_p": 0.95}
EVERY_OPTION = {
    "coverage_penalty": 0.4,
    "expected_length": [3.0, 4.0, 2.0],
    "length_deviation_penalty": 0.3,
    "no_repeat_ngram": 2,
    "repetition_penalty": 1.3,
    "prefix": [[3], [0], [7]],
    "allowed": [True] * (V - 1) + [False],
    "groups": 2,
    "diversity_penalty": 0.5,
    "min_length": 1,
}


@either_model
def test_every_option_of_the_search_keeps_its_promise(make):
    result = built(make()).generate(SOURCE, beam_size=4, max_length=6, **EVERY_OPTION)
    ids = result.ids.numpy()
    assert (ids[0, :, 0] == 3).all() and (ids[2, :, 0] == 7).all() and not (ids == V - 1).any()
    for row, length in zip(ids.reshape(-1, 6), result.lengths.numpy().ravel(), strict=True):
        bigrams = list(itertools.pairwise(row[:length]))
        assert length >= 1 and len(set(bigrams)) == len(bigrams)


@either_model
def test_neighbours_and_padding_change_nothing_with_every_option(make):
    model = built(make())
    options = {"beam_size": 4, "max_length": 6}
    together = model.generate(SOURCE, **options, **EVERY_OPTION)
    wider = model.generate(np.pad(SOURCE, ((0, 0), (0, 4))), **options, **EVERY_OPTION)
    np.testing.assert_array_equal(wider.ids, together.ids)
    assert_close(wider.scores, together.scores)
    for row, source in enumerate(SOURCE):
        own = {name: EVERY_OPTION[name][row : row + 1] for name in ("expected_length", "prefix")}
        alone = model.generate(source[source != 0][None], **options, **(EVERY_OPTION | own))
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        assert_close(alone.scores[0], together.scores[row])


@either_model
def test_the_best_alone_is_the_first_of_all(make):
    model = built(make())
    options = {"beam_size": 4, "max_length": 7}
    for extra in ({}, EVERY_OPTION):
        whole = model.generate(SOURCE, **options, **extra)
        alone = model.generate(SOURCE, best_only=True, **options, **extra)
        np.testing.assert_array_equal(alone.ids, whole.ids[:, :1])
        assert_close(alone.scores, whole.scores[:, :1])


@either_model
def test_the_log_probability_of_a_sample_is_that_of_the_whole_model(make):
    model = built(make())
    result = model.sample(SOURCE, max_length=T, length_penalty=0.0, **SAMPLED)
    assert result.ids.shape == (B, 3, T)
    for k in range(3):
        ids = np.array(result.ids[:, k])
        target = np.concatenate([np.full((B, 1), START_ID), ids[:, :-1]], 1)
        logits = model({"source": SOURCE, "target": target})["logits"]
        log_p = np.take_along_axis(np.array(tf.nn.log_softmax(logits)), ids[:, :, None], -1)
        generated = np.arange(T) < np.array(result.lengths)[:, k, None] + 1
        assert_close((log_p[:, :, 0] * generated).sum(1), result.scores[:, k], rtol=1e-4)
    again = model.sample(SOURCE, max_length=T, length_penalty=0.0, **SAMPLED)
    np.testing.assert_array_equal(again.ids, result.ids)


# Texts


@pytest.fixture(scope="module")
def text_model():
    model = make_rnn(tokenizer=CharacterTokenizer.learn(TEXTS, vocabulary_size=V))
    return built(model)


def test_texts_keep_their_order_and_are_what_generate_gives(text_model):
    tokenizer = text_model.source_tokenizer
    answers = text_model.text_generator(batch_size=4, beam_size=K, max_length=7)(TEXTS)
    assert len(set(answers)) > 1  # else their order could not be seen
    for text, answer in zip(TEXTS, answers, strict=True):
        ids = np.append(tokenizer.tokenize(text), END_ID)[None]
        best = text_model.generate(ids, beam_size=K, max_length=7).ids[0, 0]
        expected = tokenizer.detokenize(best).numpy().decode() if text else ""
        assert answer == expected


def test_a_text_generator_uses_the_weights_of_the_moment(text_model):
    generate = text_model.text_generator(beam_size=1, max_length=7)
    before, weights = generate(TEXTS), text_model.get_weights()
    built(text_model, seed=3)
    assert generate(TEXTS) != before
    text_model.set_weights(weights)
    assert generate(TEXTS) == before


def test_a_text_generator_hands_its_options_on(text_model):
    (prefix,) = text_model.target_tokenizer.tokenize(["fa"]).to_list()
    answers = text_model.text_generator(beam_size=K, max_length=7, prefix=prefix)(TEXTS)
    assert [answer[:2] for answer in answers] == ["fa" if text else "" for text in TEXTS]


def test_a_text_without_a_token_has_an_empty_answer(text_model):
    answers = text_model.text_generator(max_length=7)(["", " ", "\x00", *TEXTS[:1]])
    assert answers[:3] == ["", "", ""] and answers[3]


def test_no_texts_have_no_answers(text_model):
    assert text_model.text_generator()([]) == []


def test_a_text_generator_answers_one_text_with_one_text(text_model):
    generate = text_model.text_generator(beam_size=1, max_length=7)
    assert generate(TEXTS[0]) == generate(TEXTS[0].encode()) == generate(TEXTS[:1])[0]


# Expected lengths.


def with_length_head(make):
    model = make()
    model.length_head = LengthHead()
    return model


@either_model
def test_fit_trains_the_length_head_and_leaves_the_model_as_it_would_be_without(make, tmp_path):
    models = [make(), with_length_head(make)]
    for model in models:
        keras.utils.set_random_seed(3)
        built(model).compile(keras.optimizers.Adam(0.01))
    models[1].length_head.set_weights([np.zeros(models[1].length_head.kernel.shape), np.array(2.0)])
    models[0].set_weights(models[1].get_weights()[:-2])
    losses = [model.fit(INPUTS, LABELS, epochs=40, verbose=0).history["loss"] for model in models]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    for alone, beside in zip(models[0].weights, models[1].weights, strict=False):
        np.testing.assert_allclose(alone, beside, rtol=1e-3, atol=1e-4)
    expected = models[1].search_step(SOURCE, 9).expected_length
    before = np.exp(2.0) * (SOURCE != 0).sum(1)
    lengths = np.array(TOKENS) - (LABELS == END_ID).sum(1)
    assert np.abs(expected - lengths).sum() < 0.9 * np.abs(before - lengths).sum()

    models[1].save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.search_step(SOURCE, 9).expected_length, expected, rtol=1e-5)
    np.testing.assert_allclose(models[1](INPUTS)["length"], expected, rtol=1e-5)


def test_a_search_takes_the_length_that_the_models_head_expects():
    model = built(with_length_head(make_rnn))
    options = {"beam_size": K, "max_length": 9, "length_deviation_penalty": 9.0}
    for ratio in (0.5, 1.5):
        model.length_head.set_weights([np.zeros(model.length_head.kernel.shape), np.log(ratio)])
        expected = ratio * (SOURCE != 0).sum(1)
        found = model.generate(SOURCE, **options)
        given = model.generate(SOURCE, expected_length=expected, **options)
        np.testing.assert_array_equal(found.ids, given.ids)
        assert np.abs(found.lengths[:, 0] - expected).max() <= 1
    for number in (3, 3.0):  # for all
        found, given = (
            model.generate(SOURCE, expected_length=length, **options)
            for length in (number, np.full(len(SOURCE), 3.0))
        )
        np.testing.assert_array_equal(found.ids, given.ids)
    with pytest.raises(ValueError, match="`length_deviation_penalty` needs an `expected_length`"):
        make_rnn().generate(SOURCE, **options)


# Unknown words


def test_an_unknown_word_looks_at_the_word_with_the_largest_weight():
    weights = np.array([[[0.1, 0.2, 0.7, 0.0], [0.3, 0.1, 0.6, 0.0], [0.2, 0.3, 0.5, 0.0]]])
    source = np.array([[5, 6, END_ID, 0]])  # neither the end nor the padding is a word
    np.testing.assert_array_equal(looked_at(tf.constant(weights), source), [[1, 0, 1]])


def test_weights_about_anything_else_than_source_ids_are_refused():
    message = (
        "`replace_unknown` needs a model whose attention weights are about its source ids, "
        "got weights for 2 steps."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        looked_at(tf.zeros([1, 3, 2]), np.array([[5, 6, END_ID, 0]]))


def make_word_model(source_tokenizer=None):
    """A model that answers every source with <unk> only."""
    words = WordTokenizer.learn(["a b c"], 11)
    source_tokenizer = source_tokenizer or words
    sizes = [tokenizer.vocabulary_size() for tokenizer in (source_tokenizer, words)]
    encoder = RecurrentEncoder(TokenEmbedding(sizes[0], D), U, cell="gru")
    decoder = AttentionDecoder(TokenEmbedding(sizes[1], D), D, BahdanauAttention(5), cell="gru")
    model = Seq2Seq(encoder, decoder, VocabularyHead(sizes[1], D), source_tokenizer, words)
    model.generate(tf.constant([[4, END_ID]]), max_length=2)  # makes the weights
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.7 * rng.normal(size=variable.shape).astype("float32"))
    model.head.bias.assign(99 * np.eye(sizes[1])[3])
    return model


def test_a_text_generator_replaces_unknown_words_by_what_they_looked_at():
    model = make_word_model()
    texts = ["Zoé went", "a  Berlin b", "x"]
    options = {"beam_size": 2, "max_length": 3}
    assert model.text_generator(**options)("x") == "⁇ ⁇ ⁇"
    answers = model.text_generator(replace_unknown=True, **options)(texts)
    for source, answer in zip(texts, answers, strict=True):
        ids = model.source_ids(tf.constant([source]), 7)
        weights = model.generate(ids, **options).weights[0, 0].numpy()
        words = source.split()
        assert answer == " ".join(words[step] for step in weights[:, : len(words)].argmax(1))
    assert {"Zoé", "went", "Berlin"} & set(" ".join(answers).split())


def test_replacing_unknown_words_of_subwords_is_refused():
    model = make_word_model(SubwordTokenizer.learn(["a b c"], 11))
    message = "needs two tokenizers of words or two of characters, got a SubwordTok.* and a WordTok"
    with pytest.raises(ValueError, match=message):
        model.text_generator(replace_unknown=True, max_length=3)("a")
