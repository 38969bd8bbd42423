"""Ensemble: what it generates, its files, and its SavedModel."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import INPUTS, SOURCE, TEXTS, V, built, make_rnn, make_transformer

from kzoo import export
from kzoo.layers.length import LengthHead
from kzoo.models import Ensemble
from kzoo.text import END_ID, START_ID, CharacterTokenizer


@pytest.fixture(scope="module")
def ensemble():
    """A recurrent model and a transformer."""
    keras.utils.set_random_seed(5)
    tokenizer = CharacterTokenizer.learn(TEXTS, vocabulary_size=V)
    models = [built(make(tokenizer=tokenizer), seed=2) for make in (make_rnn, make_transformer)]
    return Ensemble(models)


def test_an_ensemble_takes_the_most_probable_token_of_the_mean(ensemble):
    found = ensemble.generate(SOURCE, beam_size=1, max_length=6, length_penalty=0.0)
    for row, source in enumerate(SOURCE):
        ids, log_prob = [START_ID], 0.0
        while len(ids) <= 6 and ids[-1] != END_ID:
            inputs = {"source": source[source != 0][None], "target": np.array([ids])}
            p = np.mean([tf.nn.softmax(x["logits"][0, -1]) for x in ensemble(inputs)], axis=0)
            ids.append(int(np.argmax(p)))
            log_prob += np.log(p[ids[-1]])
        assert found.ids[row, 0, : len(ids) - 1].numpy().tolist() == ids[1:]
        np.testing.assert_allclose(found.log_probs[row, 0], log_prob, rtol=1e-4)


def test_one_model_alone_and_twice_is_the_model(ensemble):
    model = ensemble.models[1]
    expected = model.generate(SOURCE, beam_size=3, max_length=7)
    for models in ([model], [model, model]):
        found = Ensemble(models).generate(SOURCE, beam_size=3, max_length=7)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.weights, expected.weights, atol=1e-5)


def test_an_ensemble_samples(ensemble):
    found = ensemble.sample(SOURCE, num_samples=5, max_length=4, seed=1)
    assert found.ids.shape == (3, 5, 4)
    assert len(np.unique(found.ids.numpy().reshape(15, 4), axis=0)) > 5


def test_a_file_gives_back_the_answers(ensemble, tmp_path):
    ensemble(INPUTS)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    options = {"beam_size": 2, "max_length": 5}
    expected = ensemble.generate(SOURCE, **options)
    np.testing.assert_array_equal(loaded.generate(SOURCE, **options).ids, expected.ids)
    assert loaded.count_params() == sum(model.count_params() for model in ensemble.models)


def test_models_of_other_precisions_expect_their_mean_length():
    models = []
    for precision in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(precision)
        model = make_rnn()
        model.length_head = LengthHead()
        models.append(built(model))
    keras.config.set_dtype_policy("float32")
    lengths = [model.search_step(SOURCE, 9).expected_length for model in models]
    expected = np.mean([tf.cast(each, tf.float32) for each in lengths], axis=0)
    found = Ensemble(models).search_step(SOURCE, 9).expected_length
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_ensemble_is_exported_like_a_model(ensemble, tmp_path):
    options = {"beam_size": 2, "max_length": 7}
    path = export.save(ensemble, tmp_path / "1", signatures=["serving_default"], **options)
    expected = ensemble.text_generator(**options)(TEXTS[:3])
    assert export.load(path)(TEXTS[:3]) == expected


def test_an_ensemble_of_nothing_is_refused():
    with pytest.raises(
        ValueError, match=re.escape("`models` must hold at least one model, got []")
    ):
        Ensemble([])
