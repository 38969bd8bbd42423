"""ScheduledSampling: the decay against numpy, what decoders read, `fit`, files and resumption."""

import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import INPUTS, LABELS, SOURCE, TARGET, D, T, U, V, built

from kzoo.layers.attention import BahdanauAttention, LocationAwareAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import ScheduledSampling, Seq2Seq
from kzoo.models.scheduled_sampling import inverse_sigmoid_constant, label_share
from kzoo.training import LazyAdam

ALWAYS = {"rate": 1.0, "steps": 0, "seed": 5}


def make_transformer(sampling, dropout=0.0, num_sampled=0, **options):
    embedding = TokenEmbedding(V, D, scale=True)
    head = VocabularyHead(V, D, embedding, num_sampled=num_sampled, sampler="uniform", seed=3)
    encoder = TransformerEncoder(embedding, 1, 2, U)
    decoder = TransformerDecoder(embedding, 1, 2, U, dropout=dropout)
    return Seq2Seq(encoder, decoder, head, scheduled_sampling=sampling, **options)


def make_rnn(sampling, dropout=0.0, num_sampled=0, **options):
    embedding = TokenEmbedding(V, D)
    head = VocabularyHead(V, D, embedding, num_sampled=num_sampled, sampler="uniform", seed=3)
    encoder = RecurrentEncoder(embedding, U, cell="gru")
    decoder = AttentionDecoder(
        embedding, D, LocationAwareAttention(5, 3, 3), num_layers=2, cell="gru", dropout=dropout
    )
    return Seq2Seq(encoder, decoder, head, scheduled_sampling=sampling, **options)


MAKERS = {"transformer": make_transformer, "rnn": make_rnn}
either_model = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def ragged(x):
    return tf.RaggedTensor.from_tensor(tf.constant(x, tf.int32), padding=0)


def read(model, inputs=INPUTS):
    """What the decoder reads in this step of training, (B, T)."""
    memory, memory_mask, *_ = model.encoder(inputs["source"])
    return model.scheduled_sampling.mixed_ids(
        inputs["target"], memory, memory_mask, decoder=model.decoder, head=model.head,
        never=(0, model.start_id, model.end_id),
    ).numpy()  # fmt: skip


def loss_and_gradients(model, inputs=INPUTS, labels=LABELS):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(y=labels, y_pred=model(inputs, training=True), training=True)
    return float(loss), tape.gradient(loss, [v.value for v in model.trainable_variables])


# The decay


def test_the_decays_are_those_of_the_paper():
    i = np.array([0, 1, 7, 50, 100, 101, 1000])
    np.testing.assert_allclose(label_share(i, "linear", 100), np.maximum(0, 1 - i / 100), atol=1e-6)
    k = 0.01 ** (1 / 100)
    np.testing.assert_allclose(label_share(i, "exponential", 100), k**i, atol=1e-6)
    k = inverse_sigmoid_constant(100)
    with np.errstate(over="ignore"):
        expected = k / (k + np.exp(i / k))
    np.testing.assert_allclose(label_share(i, "inverse_sigmoid", 100), expected, atol=1e-6)
    assert expected[4] == pytest.approx(0.01)
    np.testing.assert_array_equal(label_share(i, "exponential", 0), np.zeros(len(i)))


@pytest.mark.parametrize("steps", [5, 13, 10_000, 1_000_000])
def test_the_constant_of_the_inverse_sigmoid_is_at_least_one_and_ends_at_one_percent(steps):
    k = inverse_sigmoid_constant(steps)
    assert k >= 1
    assert k / (k + math.exp(steps / k)) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.5}, "`rate` must lie in [0, 1], got rate=1.5."),
        ({"rate": 1.0, "decay": "cubic"}, "\"inverse_sigmoid\", got decay='cubic'."),
        ({"rate": 1.0, "draw": "beam"}, '`draw` must be "greedy" or "sample", got draw=\'beam\'.'),
        ({"rate": 1.0, "steps": -1}, "`steps` must be at least 0, got steps=-1."),
        (
            {"rate": 1.0, "decay": "inverse_sigmoid", "steps": 4},
            "`steps` must be 0 or at least 5 with decay='inverse_sigmoid', got steps=4.",
        ),
    ],
)
def test_what_cannot_be_scheduled_is_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ScheduledSampling(**arguments)


def test_a_decoder_without_mixed_ids_is_refused():
    message = (
        "`scheduled_sampling` needs a decoder with `mixed_ids`, as those of kzoo, got a Dense."
    )
    encoder = TransformerEncoder(TokenEmbedding(V, D), 1, 2, U)
    with pytest.raises(ValueError, match=re.escape(message)):
        Seq2Seq(
            encoder,
            keras.layers.Dense(3),
            VocabularyHead(V, D),
            scheduled_sampling=ScheduledSampling(0.5),
        )


# What the decoder reads


@either_model
def test_at_rate_0_loss_and_gradients_are_exactly_those_of_teacher_forcing(make):
    forced = built(make(None))
    sampled = make(ScheduledSampling(0.0))
    sampled(INPUTS)
    sampled.set_weights([*forced.get_weights(), np.array([1, 0])])
    expected, found = loss_and_gradients(forced), loss_and_gradients(sampled)
    assert found[0] == expected[0]
    for a, b in zip(expected[1], found[1], strict=True):
        np.testing.assert_array_equal(tf.convert_to_tensor(a), tf.convert_to_tensor(b))


def test_at_rate_1_an_rnn_reads_its_own_greedy_answer():
    model = built(make_rnn(ScheduledSampling(**ALWAYS), dropout=0.5))
    # No end before that of the labels, and neither padding nor start, which no label is either.
    allowed = np.arange(V) > 2
    found = model.generate(SOURCE, beam_size=1, max_length=T, min_length=T - 1, allowed=allowed)
    answers = np.concatenate([TARGET[:, :1], found.ids[:, 0, :-1]], 1)
    assert (answers != TARGET).any()
    np.testing.assert_array_equal(read(model), np.where(TARGET == 0, 0, answers))
    with_answers = {**INPUTS, "target": np.where(TARGET == 0, 0, answers)}
    model.decoder.embedding_dropout.rate = model.decoder.hidden_dropout.rate = 0.0
    expected = model.compute_loss(y=LABELS, y_pred=model(with_answers), training=False)
    assert loss_and_gradients(model)[0] == pytest.approx(float(expected), rel=1e-6)


def test_at_rate_1_a_transformer_reads_what_it_says_to_the_labels():
    model = built(make_transformer(ScheduledSampling(**ALWAYS), dropout=0.5))
    logits = model(INPUTS)["logits"].numpy()
    logits[:, :, :3] = -np.inf
    answers = np.concatenate([TARGET[:, :1], logits.argmax(-1)[:, :-1]], 1)
    assert (answers != TARGET).any()
    np.testing.assert_array_equal(read(model), np.where(TARGET == 0, 0, answers))


@either_model
@pytest.mark.parametrize("draw", ["greedy", "sample"])
def test_padding_and_ragged_targets_change_nothing(make, draw):
    model = built(make(ScheduledSampling(0.5, steps=0, seed=8, draw=draw)))
    expected, _ = loss_and_gradients(model)
    mixed = read(model)
    assert (mixed != TARGET).any()
    assert (mixed == TARGET)[TARGET == 1].all()
    assert ((mixed == 0) == (TARGET == 0)).all()
    assert not np.isin(mixed[:, 1:][TARGET[:, 1:] != 0], [0, 1, 2]).any()
    wide = {**INPUTS, "target": np.pad(TARGET, ((0, 0), (0, 3)))}
    np.testing.assert_array_equal(read(model, wide), np.pad(mixed, ((0, 0), (0, 3))))
    wide_labels = np.pad(LABELS, ((0, 0), (0, 3)))
    assert loss_and_gradients(model, wide, wide_labels)[0] == pytest.approx(expected, rel=1e-6)
    rows = {"source": ragged(SOURCE), "target": ragged(TARGET)}
    np.testing.assert_array_equal(read(model, rows), mixed)
    found, _ = loss_and_gradients(model, rows, ragged(LABELS))
    assert found == pytest.approx(expected, rel=1e-6)


@either_model
def test_the_share_of_own_answers_is_the_rate(make):
    sampling = ScheduledSampling(0.8, decay="linear", steps=10, seed=1)
    for _ in range(5):
        sampling.count_step()
    assert float(sampling.rate_now()) == pytest.approx(0.4)
    # Labels that no answer is: id 3 is the only word that the model never says.
    ids = np.full((40, 50), 3)
    model = built(make(sampling))
    model.head.bias.assign(tf.where(tf.range(V) == 3, -1e4, 0.0))
    mixed = read(model, {"source": np.repeat(SOURCE[:1], 40, 0), "target": ids})
    assert (mixed[:, 0] == 3).all()
    assert (mixed[:, 1:] != 3).mean() == pytest.approx(0.4, abs=0.05)


def test_a_sample_has_the_probabilities_of_the_softmax():
    model = built(make_transformer(ScheduledSampling(**ALWAYS, draw="sample")))
    count = 4000
    inputs = {"source": np.repeat(SOURCE[:1], count, 0), "target": np.array([[1, 4]] * count)}
    logits = model({name: x[:1] for name, x in inputs.items()})["logits"][0, 0].numpy()
    p = np.where(np.arange(V) > 2, np.exp(logits - logits.max()), 0)
    found = np.bincount(read(model, inputs)[:, 1], minlength=V) / count
    np.testing.assert_allclose(found, p / p.sum(), atol=0.03)


def test_texts_without_a_step_and_of_the_start_alone_stay_what_they_are():
    for make in MAKERS.values():
        model = built(make(ScheduledSampling(**ALWAYS)))
        for target in (TARGET[:, :1], TARGET[:, :0]):
            np.testing.assert_array_equal(read(model, {**INPUTS, "target": target}), target)


# Training


def batches(padded=True):
    inputs, labels = dict(INPUTS), LABELS
    if not padded:
        inputs, labels = {k: ragged(v) for k, v in INPUTS.items()}, ragged(LABELS)
    return tf.data.Dataset.from_tensors((inputs, labels)).repeat(6)


VARIANTS = {
    "ragged, a sampled softmax, several steps at once": {
        "padded": False,
        "num_sampled": 7,
        "optimizer": lambda: LazyAdam(0.05),
        "compile": {"steps_per_execution": 3},
    },
    "mixed precision": {"policy": "mixed_bfloat16"},
}


@either_model
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_it_trains_and_counts_the_steps_of_fit_alone(make, variant):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(variant.get("policy", "float32"))
    try:
        sampling = ScheduledSampling(0.5, steps=4, seed=2)
        model = make(sampling, num_sampled=variant.get("num_sampled", 0))
    finally:
        keras.config.set_dtype_policy(before)
    optimizer = variant.get("optimizer", lambda: keras.optimizers.Adam(0.05))()
    model.compile(optimizer, **variant.get("compile", {}))
    data = batches(variant.get("padded", True))
    history = model.fit(data, epochs=2, shuffle=False, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert int(sampling.seed_and_steps[1]) == 12
    at = model.evaluate(data.take(1), verbose=0)
    model.predict(data.take(1), verbose=0)
    assert int(sampling.seed_and_steps[1]) == 12
    forced = model.compute_loss(y=LABELS, y_pred=model(INPUTS), training=False)
    assert at == pytest.approx(float(forced), rel=2e-2 if "policy" in variant else 1e-5)


def test_a_resumed_run_goes_on_at_the_same_rate_with_the_same_choices(tmp_path):
    def new():
        model = make_transformer(ScheduledSampling(0.9, "inverse_sigmoid", steps=5, seed=3))
        model.compile(keras.optimizers.Adam(0.05), run_eagerly=True)
        model(INPUTS)
        return model

    whole = new()
    whole.save_weights(tmp_path / "first.weights.h5")
    whole.fit(batches(), shuffle=False, verbose=0)

    part = new()
    part.load_weights(tmp_path / "first.weights.h5")
    part.fit(batches().take(2), shuffle=False, verbose=0)
    part.save(tmp_path / "model.keras")
    resumed = keras.models.load_model(tmp_path / "model.keras")
    assert resumed.scheduled_sampling.get_config() == part.scheduled_sampling.get_config()
    resumed.run_eagerly = True
    resumed.fit(batches().take(4), shuffle=False, verbose=0)
    assert int(resumed.scheduled_sampling.seed_and_steps[1]) == 6
    for a, b in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_backup_brings_the_steps_back(tmp_path):
    class Stopped(Exception):
        pass

    def stop(epoch, logs):
        if epoch == 1:
            raise Stopped

    def fit(model, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        data = batches().take(2)
        model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=[backup, *callbacks])

    sampling = [ScheduledSampling(0.9, steps=50, seed=3) for _ in range(2)]
    first, second = (make_transformer(each) for each in sampling)
    for model in (first, second):
        model.compile(keras.optimizers.Adam(0.05), run_eagerly=True)
        model(INPUTS)
    with pytest.raises(Stopped):
        fit(first, keras.callbacks.LambdaCallback(on_epoch_begin=stop))
    fit(second)
    assert int(sampling[1].seed_and_steps[1]) == 6  # of which `first` has done 2


def test_weights_of_teacher_forcing_are_taken_up(tmp_path):
    forced = built(make_rnn(None))
    forced.save_weights(tmp_path / "forced.weights.h5")
    sampled = make_rnn(ScheduledSampling(0.5, seed=9))
    sampled(INPUTS)
    sampled.load_weights(tmp_path / "forced.weights.h5")
    np.testing.assert_array_equal(sampled(INPUTS)["logits"], forced(INPUTS)["logits"])
    np.testing.assert_array_equal(sampled.scheduled_sampling.seed_and_steps, [9, 0])


def test_it_repeats_with_a_seed_and_every_step_has_choices_of_its_own():
    one, two = (built(make_rnn(ScheduledSampling(0.5, steps=0, seed=6))) for _ in range(2))
    two.set_weights(one.get_weights())
    found = []
    for model in (one, two, one):
        found.append(read(model))
        model.scheduled_sampling.count_step()
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[2] != found[0]).any()


def test_the_attention_may_be_any():
    decoder = AttentionDecoder(TokenEmbedding(V, D), D, BahdanauAttention(5), attend="before")
    encoder = RecurrentEncoder(TokenEmbedding(V, D), U)
    sampling = ScheduledSampling(**ALWAYS)
    model = Seq2Seq(encoder, decoder, VocabularyHead(V, D), scheduled_sampling=sampling)
    loss, gradients = loss_and_gradients(built(model))
    assert math.isfinite(loss)
    assert all(gradient is not None for gradient in gradients)
