"""Models that copy: their loss, their search over words and places, and what they learn."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import text
from kzoo.layers import copying
from kzoo.layers.attention import CoverageAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.copying import Copier
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.recurrent_encoder import PyramidalEncoder, RecurrentEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import CTCModel, Ensemble, Lexicon, Seq2Seq

B, S, T, V, D = 2, 3, 4, 5, 6
SOURCE = np.array([[3, 4, 2], [3, 2, 0]], "int32")
COPY_IDS = np.array([[V, 4, 0], [V, 0, 0]], "int32")  # the word 3 is unknown
TARGET = np.array([[1, V, 4, 3], [1, V, 0, 0]], "int32")
LABELS = np.array([[V, 4, 3, 2], [V, 2, 0, 0]], "int32")
INPUTS = {"source": SOURCE, "target": TARGET, "copy_ids": COPY_IDS}


def make(name, coverage_weight=0.5, label_smoothing=0.0, **options):
    embedding = TokenEmbedding(V, D)
    head = VocabularyHead(V, D, label_smoothing=label_smoothing)
    copier = Copier(coverage_weight)
    if name == "rnn":
        encoder = RecurrentEncoder(embedding, 4, cell="gru")
        decoder = AttentionDecoder(embedding, D, CoverageAttention(5), cell="gru")
    else:
        encoder = TransformerEncoder(embedding, 1, 2, 8)
        decoder = TransformerDecoder(embedding, 1, 2, 8, weights_head=1)
    return Seq2Seq(encoder, decoder, head, copier=copier, **options)


@pytest.fixture(scope="module")
def models():
    made = {}
    for name in ("rnn", "transformer"):
        keras.utils.set_random_seed(3)
        model = made[name] = make(name)
        model(INPUTS)
        rng = np.random.default_rng(3)
        for variable in model.trainable_variables:
            variable.assign_add(0.7 * rng.normal(size=variable.shape).astype("float32"))
    return made


both = pytest.mark.parametrize("name", ["rnn", "transformer"])


def losses(model, inputs, labels, **options):
    return model.compute_loss(y=labels, y_pred=model(inputs), **options)


@both
def test_the_loss_is_the_mean_of_minus_log_p_of_the_labels_and_of_coverage(name, models):
    outputs = models[name](INPUTS)
    assert outputs["logits"].shape == (B, T, V + S)
    log_p = np.take_along_axis(outputs["logits"].numpy(), LABELS[..., None], 2)[..., 0]
    covered = copying.coverage_loss(outputs["weights"]).numpy()
    is_real = LABELS > 0
    expected = (-log_p + 0.5 * covered)[is_real].mean()
    for training in (False, True):
        found = models[name].compute_loss(y=LABELS, y_pred=outputs, training=training)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    models[name].compile("sgd", run_eagerly=True)
    values = models[name].evaluate(INPUTS, LABELS, verbose=0, return_dict=True)
    np.testing.assert_allclose(values["loss"], -log_p[is_real].mean(), rtol=1e-5)
    np.testing.assert_allclose(values["coverage_loss"], covered[is_real].mean(), rtol=1e-5)


@both
def test_the_ids_of_places_are_read_as_unknown_words(name, models):
    known = INPUTS | {"target": np.where(TARGET < V, TARGET, 3)}
    found, expected = (models[name](each)["logits"] for each in (INPUTS, known))
    np.testing.assert_array_equal(found, expected)


@both
def test_padding_is_not_copied_and_ragged_equals_padded(name, models):
    model = models[name]
    expected, loss = model(INPUTS), losses(model, INPUTS, LABELS)
    assert (expected["logits"][1, :, V + 1 :] == -np.inf).numpy().all()
    # Two steps of padding more, with copy ids of garbage where the attention cannot look.
    longer = {key: np.pad(x, [[0, 0], [0, 2]]) for key, x in INPUTS.items()}
    longer["copy_ids"][1, 3:] = V + 1
    found = model(longer)
    np.testing.assert_allclose(found["logits"][:, :T, : V + S], expected["logits"], atol=1e-5)
    np.testing.assert_allclose(
        losses(model, longer, np.pad(LABELS, [[0, 0], [0, 2]])), loss, rtol=1e-5
    )
    lengths = {"source": [3, 2], "target": [4, 2], "copy_ids": [3, 2]}
    ragged = {key: tf.RaggedTensor.from_tensor(x, lengths[key]) for key, x in INPUTS.items()}
    labels = tf.RaggedTensor.from_tensor(LABELS, [4, 2])
    np.testing.assert_allclose(losses(model, ragged, labels), loss, rtol=1e-5)


@both
def test_every_weight_gets_a_gradient(name, models):
    model = models[name]
    with tf.GradientTape() as tape:
        loss = losses(model, INPUTS, LABELS)
    found = tape.gradient(loss, [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


@both
def test_mixed_precision_computes_about_the_same(name, models):
    with_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = make(name)
        half(INPUTS)
    finally:
        keras.config.set_dtype_policy(with_policy)
    half.set_weights(models[name].get_weights())
    outputs = half(INPUTS)
    assert outputs["logits"].dtype == tf.float32
    np.testing.assert_allclose(
        losses(half, INPUTS, LABELS), losses(models[name], INPUTS, LABELS), rtol=0.05
    )
    np.testing.assert_allclose(
        tf.reduce_sum(tf.exp(outputs["logits"]), -1), np.ones((B, T)), atol=1e-5
    )
    found = half.generate(SOURCE, copy_ids=COPY_IDS, beam_size=2, max_length=3)
    assert np.isfinite(found.scores[:, 0]).all()


def every_output(model, row, length):
    """All outputs of one source and their log P, best first: teacher forcing of all prefixes."""
    ids = np.array(list(itertools.product(range(1, V + S), repeat=length)), "int32")
    inputs = {
        "source": SOURCE[[row] * len(ids)],
        "target": np.concatenate([np.ones_like(ids[:, :1]), ids[:, :-1]], 1),
        "copy_ids": COPY_IDS[[row] * len(ids)],
    }
    log_p = np.take_along_axis(model(inputs)["logits"].numpy(), ids[..., None], 2)[..., 0]
    found = {}
    for y, values in zip(ids.tolist(), log_p, strict=True):
        steps = y.index(2) + 1 if 2 in y else length
        found[tuple(y[:steps])] = values[:steps].sum()
    return sorted(((p, y) for y, p in found.items() if p > -np.inf), reverse=True)


@both
def test_a_wide_beam_search_is_exhaustive_over_words_and_places(name, models):
    length, model = 3, models[name]
    specs = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, S), tf.int32)]
    options = {"beam_size": 90, "max_length": length, "length_penalty": 0.0}
    options["allowed"] = np.arange(V) > 0  # a decoder reads no padding
    search = tf.function(lambda x, ids: model.generate(x, copy_ids=ids, **options), specs)
    found = search(SOURCE, COPY_IDS)
    for row in range(B):
        expected = every_output(model, row, length)[:100]
        assert any(id >= V for _, y in expected[:10] for id in y)
        np.testing.assert_allclose(found.log_probs[row, :85], [p for p, _ in expected], atol=1e-4)
        assert (found.log_probs[row, 85:] == -np.inf).numpy().all()
        for k in range(5):
            assert tuple(id for id in found.ids[row, k].numpy() if id) == expected[k][1]
    eager = model.generate(
        SOURCE, copy_ids=COPY_IDS.astype("int64"), beam_size=4, max_length=length
    )
    more = np.pad(COPY_IDS, [[0, 0], [0, 8]])  # more places than steps change nothing
    wider = model.generate(SOURCE, copy_ids=more, beam_size=4, max_length=length)
    np.testing.assert_array_equal(eager.ids, wider.ids)
    np.testing.assert_allclose(eager.scores, wider.scores, atol=1e-5)


def test_sampling_and_what_is_allowed_are_about_words_and_places(models):
    model = models["rnn"]
    found = model.sample(SOURCE, copy_ids=COPY_IDS, num_samples=50, max_length=2, seed=1)
    said = set(found.ids.numpy()[0].ravel())
    assert V in said and said <= {0, 1, 2, 3, 4, V}
    allowed = np.arange(V) < 3
    ragged = tf.RaggedTensor.from_tensor(COPY_IDS)
    for copy_ids in (COPY_IDS, ragged):
        found = model.generate(SOURCE, copy_ids=copy_ids, max_length=3, allowed=allowed)
        assert set(found.ids.numpy().ravel()) <= {0, 1, 2, V}


def test_what_is_suppressed_is_neither_searched_nor_drawn(models, monkeypatch):
    model, often = models["rnn"], 3
    options = {"copy_ids": COPY_IDS, "max_length": 3}
    assert often in model.sample(SOURCE, num_samples=50, seed=1, **options).ids.numpy()
    expected = model.generate(SOURCE, allowed=np.arange(V) != often, **options)
    monkeypatch.setattr(model, "suppressed", (often,))
    found = model.generate(SOURCE, **options)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    drawn = model.sample(SOURCE, num_samples=50, seed=1, **options).ids.numpy()
    assert often not in drawn and V in drawn


def test_an_ensemble_copies(models):
    ensemble = Ensemble([*models.values()])
    options = {"beam_size": 1, "max_length": 1, "length_penalty": 0.0}
    found = ensemble.generate(SOURCE, copy_ids=COPY_IDS, **options)
    p = np.mean([np.exp(model(INPUTS)["logits"][:, 0]) for model in models.values()], 0)
    np.testing.assert_array_equal(found.ids[:, 0, 0], p.argmax(1))
    np.testing.assert_allclose(found.log_probs[:, 0], np.log(p.max(1)), rtol=1e-4)
    plain = Seq2Seq(*(getattr(models["rnn"], part) for part in ("encoder", "decoder", "head")))
    with pytest.raises(ValueError, match="must all have a copier or none of them, got both"):
        Ensemble([models["rnn"], plain])


@both
def test_a_model_comes_back_from_its_file_and_its_config(name, models, tmp_path):
    model = models[name]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(INPUTS)["logits"], model(INPUTS)["logits"], atol=1e-5)
    assert loaded.copier.coverage_weight == 0.5
    assert Seq2Seq.from_config(model.get_config()).get_config().keys() == model.get_config().keys()


def test_what_does_not_go_with_copying_is_refused(models):
    model = models["rnn"]
    parts = {part: getattr(model, part) for part in ("encoder", "decoder", "head", "copier")}
    head = VocabularyHead(V, D, num_sampled=3)
    words = text.WordTokenizer([*text.SPECIAL_TOKENS, "a", "b", "c"])
    lower = text.WordTokenizer([*text.SPECIAL_TOKENS, "a"], lowercase=True)
    characters = text.CharacterTokenizer([*text.SPECIAL_TOKENS, "a"])
    for change, message in (
        ({"head": head}, "`copier` needs the full softmax, got num_sampled=3."),
        ({"ctc_head": VocabularyHead(V, 8)}, "`copier` needs a model without CTC"),
        ({"r_drop": 1.0}, "`copier` needs teacher forcing in one pass, got r_drop=1.0"),
        (
            {"encoder": PyramidalEncoder(TokenEmbedding(V, D), 4, 2)},
            "`copier` needs a memory step for each source token, got stride=2.",
        ),
        (
            {"decoder": keras.layers.Identity()},
            "`copier` needs a decoder that has an `embedding`, got a Identity without.",
        ),
        (
            {"source_tokenizer": characters, "target_tokenizer": words},
            "got a CharacterTokenizer and a WordTokenizer.",
        ),
        (
            {"source_tokenizer": lower, "target_tokenizer": words},
            "got lowercase=True of the source and lowercase=False of the target.",
        ),
        (
            {"source_tokenizer": words, "target_tokenizer": words},
            "got a vocabulary of 7 and vocabulary_size=5.",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            Seq2Seq(**{**parts, **change})
    with pytest.raises(ValueError, match='"source" and "target" and "copy_ids", got'):
        model({"source": SOURCE, "target": TARGET})
    with pytest.raises(ValueError, match="must be those of the source: the Seq2Seq has a copier"):
        model.generate(SOURCE, max_length=2)
    with pytest.raises(ValueError, match="must be None: the CTCModel has no copier"):
        CTCModel(model.encoder, model.head).sample(SOURCE, copy_ids=COPY_IDS)
    with pytest.raises(ValueError, match="`copy_ids` must have the axes"):
        model.generate(SOURCE, copy_ids=COPY_IDS[0], max_length=2)
    with pytest.raises(ValueError, match="`lexicon` must be None for a model that copies"):
        lexicon = Lexicon(np.zeros((V, 1)), 4, V)
        model.generate(SOURCE, copy_ids=COPY_IDS, lexicon=lexicon)
    spec = tf.TensorSpec((None, None), tf.int32)
    with pytest.raises(ValueError, match="known when a graph is made"):
        tf.function(lambda x: model.generate(SOURCE, copy_ids=x)).get_concrete_function(spec)
