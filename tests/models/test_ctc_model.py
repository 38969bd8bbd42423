"""CTCModel, and Seq2Seq with a CTC head: losses, searches, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import ctc, zoo
from kzoo.audio import AudioSource, LogMel
from kzoo.layers.head import CandidateLists, VocabularyHead
from kzoo.layers.speech import StreamingEncoder
from kzoo.models import CTCModel
from kzoo.text import END_ID, START_ID, CharacterTokenizer

LENGTHS, F, V = [41, 26, 5], 5, 11
LABELS = tf.constant([[7, 7, 4, 9, 2], [5, 6, 2, 0, 0], [8, 8, 8, 2, 0]])  # the last needs 5 steps


def batch(seed=0):
    """Ragged frames and teacher forcing; the third target does not fit its frames."""
    x = np.random.default_rng(seed).normal(size=(3, max(LENGTHS), F)).astype("float32")
    frames = tf.RaggedTensor.from_tensor(x, LENGTHS)
    target = tf.concat([tf.fill([3, 1], START_ID), LABELS[:, :-1]], 1)
    return {"source": frames, "target": tf.where(target == END_ID, 0, target)}, LABELS


def ctc_model(**options):
    return CTCModel(StreamingEncoder(8, stride=2), VocabularyHead(V, 8), **options)


def joint_models():
    letters = CharacterTokenizer.learn(["abcdefghij"], V)
    source = AudioSource(LogMel(8000, num_mels=F))
    return {
        "las": zoo.listen_attend_spell(source, letters, units=6, ctc_weight=0.4),
        "conformer": zoo.speech_transformer(
            source, letters, 8, 1, 1, num_heads=2, hidden_units=13, ctc_weight=0.4
        ),
        "transformer": zoo.speech_transformer(
            source, letters, 8, 1, 1, num_heads=2, hidden_units=13, conformer=False, factor=2
        ),
    }


def without_end(labels):
    return tf.where(labels == END_ID, 0, labels)


def test_the_loss_is_nats_per_token_of_the_rows_that_can_be_aligned():
    model, (x, y) = ctc_model(), batch()
    model.compile(keras.optimizers.SGD(0.0))
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    outputs = model(x)
    losses, is_feasible = ctc.ctc_loss(
        without_end(y), outputs["ctc_logits"], outputs["memory_mask"]
    )
    assert is_feasible.numpy().tolist() == [True, True, False]
    np.testing.assert_allclose(found["loss"], sum(losses[:2]) / (5 + 3), rtol=1e-5)
    assert found["infeasible"] == 1
    weighted = model.compute_loss(y=y, y_pred=outputs, sample_weight=[1.0, 0.5, 1.0])
    np.testing.assert_allclose(weighted, (losses[0] + 0.5 * losses[1]) / (5 + 1.5), rtol=1e-5)


def test_labels_of_ctc_may_be_of_any_type_and_end_with_an_id_of_their_own():
    model, (x, y) = ctc_model(), batch()
    model.compile(keras.optimizers.SGD(0.0))
    expected = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    for dtype in ("int64", "uint8", "float32"):
        found = model.evaluate(x, y.numpy().astype(dtype), verbose=0, return_dict=True)["loss"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    config = model.get_config() | {"end_id": 3}
    renumbered = CTCModel.from_config(config)
    renumbered(x)
    renumbered.set_weights(model.get_weights())
    renumbered.compile(keras.optimizers.SGD(0.0))
    ends = tf.where(y == END_ID, 3, y)
    found = renumbered.evaluate(x, ends, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="`metrics` must be None: no step of CTC has one label"):
        model.compile(metrics=["accuracy"])


@pytest.mark.parametrize("name", ["las", "conformer"])
def test_the_joint_loss_is_the_weighted_mean_of_both(name):
    model, (x, y) = joint_models()[name], batch()
    model.compile(keras.optimizers.SGD(0.0))
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    expected = 0.6 * found["attention_loss"] + 0.4 * found["ctc_loss"]
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    outputs = model(x)
    losses, _ = ctc.ctc_loss(without_end(y), outputs["ctc_logits"], outputs["memory_mask"])
    rows = [0, 1] if name == "las" or found["infeasible"] else [0, 1, 2]
    tokens = tf.reduce_sum(tf.cast(y != 0, tf.float32), 1).numpy()
    expected = losses.numpy()[rows].sum() / tokens[rows].sum()
    np.testing.assert_allclose(found["ctc_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["las", "conformer"])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.4])
def test_the_score_of_an_answer_is_the_weighted_mean_of_both_log_probabilities(name, ctc_weight):
    model, (x, _) = joint_models()[name], batch()
    model(x)
    for weight in model.weights:
        if weight.shape.rank == 2:
            weight.assign(2 * weight)
    model.ctc_weight = ctc_weight
    found = model.generate(x["source"], beam_size=5, max_length=7, length_penalty=0.0)
    for row, length in enumerate(LENGTHS[:2]):
        source = x["source"][row : row + 1, :length]
        for k in range(2):
            ids = [int(i) for i in found.ids[row, k] if i]
            if ids[-1] != END_ID:
                continue  # was cut off: CTC's part is about a prefix
            outputs = model({"source": source, "target": tf.constant([[START_ID, *ids[:-1]]])})
            log_p = tf.nn.log_softmax(outputs["logits"])[0]
            of_decoder = sum(log_p[t, i] for t, i in enumerate(ids))
            losses, is_feasible = ctc.ctc_loss(
                tf.constant([[*ids[:-1], 0]]), outputs["ctc_logits"], outputs["memory_mask"]
            )
            expected = (1 - ctc_weight) * of_decoder - ctc_weight * losses[0]
            assert is_feasible[0] or ctc_weight == 0
            np.testing.assert_allclose(found.log_probs[row, k], expected, rtol=1e-3, atol=1e-3)


def scores_by_ids(found):
    """{(row, ids): score} of the possible hypotheses."""
    return {
        (row, *ids): score
        for row, (all_ids, scores) in enumerate(
            zip(found.ids.numpy().tolist(), found.scores.numpy(), strict=True)
        )
        for ids, score in zip(all_ids, scores, strict=True)
        if score > -np.inf
    }


@pytest.mark.parametrize("ctc_weight", [None, 0.0, 1.0])
def test_samples_and_beam_give_the_same_text_the_same_score(ctc_weight):
    model, (x, _) = joint_models()["las"], batch()
    source = x["source"][:2, :9]  # so short that a beam can hold all of one token
    options = {"max_length": 2, "ctc_weight": ctc_weight}
    beam = scores_by_ids(model.generate(source, beam_size=V * V, **options))
    drawn = scores_by_ids(model.sample(source, num_samples=30, seed=1, **options))
    assert set(drawn) <= set(beam) and len(drawn) > 5
    for key, score in drawn.items():
        np.testing.assert_allclose(score, beam[key], rtol=1e-4, atol=1e-4)
    assert model.ctc_weight == 0.4


def test_the_weight_of_ctc_is_an_option_of_a_search_and_nothing_is_set_on_the_model():
    model, (x, _) = joint_models()["las"], batch()
    model(x)
    for weight in model.weights:
        if weight.shape.rank == 2:
            weight.assign(2 * weight)
    options = {"beam_size": 3, "max_length": 7}
    found = {w: model.generate(x["source"], ctc_weight=w, **options) for w in (None, 0.0, 0.4, 1.0)}
    np.testing.assert_array_equal(found[None].scores, found[0.4].scores)
    assert np.abs(found[0.0].scores - found[1.0].scores).min() > 1e-3
    assert model.ctc_weight == 0.4
    for weight in (0.0, 1.0):
        model.ctc_weight = weight
        expected = model.generate(x["source"], **options)
        np.testing.assert_array_equal(found[weight].ids, expected.ids)
        np.testing.assert_allclose(found[weight].scores, expected.scores, rtol=1e-6)


def test_a_weight_of_ctc_for_a_model_without_both_is_refused():
    model, (x, _) = joint_models()["las"], batch()
    plain = kzoo.Seq2Seq(model.encoder, model.decoder, model.head)
    for each in (plain, kzoo.Ensemble([plain])):
        with pytest.raises(ValueError, match=r"`ctc_weight` must be None .*got ctc_weight=0.5"):
            each.generate(x["source"], max_length=2, ctc_weight=0.5)
    with pytest.raises(ValueError, match=r"`ctc_weight` must be None .*got ctc_weight=1.0"):
        ctc_model().sample(x["source"], max_length=2, ctc_weight=1.0)
    with pytest.raises(ValueError, match=r"`ctc_weight` must lie in \[0, 1\], got ctc_weight=1.5"):
        model.generate(x["source"], max_length=2, ctc_weight=1.5)


def test_an_encoder_of_a_users_own_is_told_what_to_state():
    model = CTCModel(keras.layers.Dense(8), VocabularyHead(V, 8))
    message = r"`encoder` must state its `stride`: .*got Dense without"
    with pytest.raises(ValueError, match=message):
        model.encoder_stride  # noqa: B018


@pytest.mark.parametrize("name", ["las", "conformer", "transformer"])
def test_a_clip_among_longer_ones_is_transcribed_as_alone(name):
    model, (x, _) = joint_models()[name], batch()
    options = {"beam_size": 3, "max_length": 7}
    together = model.generate(x["source"], **options)
    dense = x["source"].to_tensor()
    for row, length in enumerate(LENGTHS):
        alone = model.generate(dense[row : row + 1, :length], **options)
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-5)


def test_frames_may_come_ragged_or_dense_with_their_mask():
    model, (x, y) = joint_models()["conformer"], batch()
    model.compile(keras.optimizers.SGD(0.0))
    dense, mask = kzoo.masking.to_dense(x["source"])
    ragged = model.evaluate(x, y, verbose=0, return_dict=True)
    padded = model.evaluate(
        {**x, "source": dense, "source_mask": mask}, y, verbose=0, return_dict=True
    )
    for key, value in ragged.items():
        np.testing.assert_allclose(padded[key], value, rtol=1e-5)


def test_a_joint_model_survives_a_file(tmp_path):
    model, (x, _) = joint_models()["conformer"], batch()
    expected = model(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.ctc_weight == 0.4
    found = loaded(x)
    for key in ("logits", "ctc_logits"):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-5)


def test_a_ctc_model_survives_a_file_and_trains_on(tmp_path):
    model, (x, y) = ctc_model(window=7), batch()
    model.compile(keras.optimizers.Adam(1e-2))
    first = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.window == 7
    again = loaded.evaluate(x, y, verbose=0, return_dict=True)
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    for key, value in expected.items():
        np.testing.assert_allclose(again[key], value, rtol=1e-5)
    assert loaded.fit(x, y, verbose=0).history["loss"][0] < first[0]


def test_ctc_generates_by_prefix_beam_search_and_cuts_at_max_length():
    model, (x, _) = ctc_model(window=3), batch()
    outputs = model(x)
    expected = ctc.ctc_beam_search(
        outputs["ctc_logits"], outputs["memory_mask"], beam_size=4, window=3
    )
    found = model.generate(x["source"], beam_size=4)
    np.testing.assert_array_equal(found.ids, expected.ids)
    best = model.generate(x["source"], beam_size=4, best_only=True, max_length=2)
    np.testing.assert_array_equal(best.ids, expected.ids[:, :1, :2])
    assert best.lengths.numpy().max() <= 2 and best.weights.shape[:3] == best.ids.shape


def test_ctc_models_sample_and_join_ensembles():
    models, (x, _) = [ctc_model(), ctc_model()], batch()
    drawn = models[0].sample(x["source"], num_samples=3, max_length=30, seed=5)
    assert drawn.ids.shape == (3, 3, 30) and (drawn.ids.numpy() != 1).any()
    one = kzoo.Ensemble(models[:1]).generate(x["source"], beam_size=60, max_length=9)
    both = kzoo.Ensemble(models).generate(x["source"], beam_size=2, max_length=9)
    assert (both.log_probs.numpy()[:, 0] < 0).all()
    outputs = models[0](x)
    ids = [int(i) for i in one.ids[2, 0] if i > 2]  # two steps: all of its outputs are found
    losses, _ = ctc.ctc_loss(
        tf.constant([[*ids, 0]]), outputs["ctc_logits"][2:], outputs["memory_mask"][2:]
    )
    np.testing.assert_allclose(one.log_probs[2, 0], -losses[0], rtol=1e-4)


def test_wrong_arguments_are_refused_by_name():
    model = joint_models()["las"]
    parts = model.encoder, model.decoder, model.head
    with pytest.raises(ValueError, match=r"`ctc_weight` must lie in \[0, 1\], got ctc_weight=2"):
        kzoo.Seq2Seq(*parts, ctc_head=model.ctc_head, ctc_weight=2)
    with pytest.raises(ValueError, match="`loss` must be None: CTCModel has its own"):
        ctc_model().compile(loss="mse")
    lists = CandidateLists(4, tf.constant([[5]]))
    message = "`lexicon` needs a search without CTC: set `ctc_weight` to 0, got ctc_weight=0.4."
    with pytest.raises(ValueError, match=message):
        model.search_step(tf.zeros((1, 24, 5)), 3, lists)
    with pytest.raises(ValueError, match="`lexicon` needs a model with a decoder, got one of CTC"):
        ctc_model().search_step(tf.zeros((1, 24, 5)), 3, lists)
    assert not ctc_model().can_stream and ctc_model(source_tokenizer=AudioSource(LogMel(
        normalize="running"))).can_stream  # fmt: skip


@pytest.mark.slow
def test_a_ctc_model_learns_which_frames_say_what():
    random = np.random.default_rng(0)
    names = [random.integers(4, V, random.integers(2, 6)) for _ in range(64)]
    frames = [np.repeat(np.eye(V)[ids], 6, axis=0) + random.normal(0, 0.1, (6 * len(ids), V))
              for ids in names]  # fmt: skip
    frames = tf.ragged.constant(frames, ragged_rank=1, dtype=tf.float32)
    labels = tf.ragged.constant(names, dtype=tf.int32).to_tensor()
    model = CTCModel(StreamingEncoder(24, stride=2), VocabularyHead(V, 24))
    model.compile(kzoo.FusedAdam(0.02))
    history = model.fit({"source": frames}, labels, epochs=40, batch_size=64, verbose=0).history
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    found = model.generate(frames[:8], beam_size=4, best_only=True)
    expected = [[int(i) for i in ids] for ids in names[:8]]
    right = [[int(i) for i in found.ids[row, 0] if i] == expected[row] for row in range(8)]
    assert sum(right) >= 5
