"""Numbers that nobody has in a vocabulary come out of a trained model, and of its SavedModel."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching, export, text, zoo

WORDS = ["the", "bill", "of", "paid", "dogs", "is", "dollars", "we", "they", "here"]
MODELS = {
    "pointer_generator": {"units": 24},
    "copying_transformer": {
        "units": 24, "num_layers": 1, "num_heads": 2, "hidden_units": 32, "norm_first": True,
    },
}  # fmt: skip


def sentences(seed, count, longest):
    """Words with one number among them, and "paid" with that number."""
    random = np.random.default_rng(seed)
    sources, targets = [], []
    for _ in range(count):
        words = list(random.choice(WORDS, random.integers(2, longest)))
        number = str(random.integers(1_000, 10_000_000))
        words.insert(random.integers(len(words) + 1), number)
        sources.append(" ".join(words))
        targets.append(f"paid {number}")
    return sources, targets


def trained(name):
    keras.utils.set_random_seed(1)
    sources, targets = sentences(0, 400, 7)
    tokenizers = text.WordTokenizer.learn(WORDS, 20), text.WordTokenizer.learn(["paid the"], 20)
    model = getattr(zoo, name)(*tokenizers, dropout=0.0, **MODELS[name])
    model.compile(keras.optimizers.Adam(0.01))
    corpus = batching.copying_corpus(*tokenizers, sources, targets)
    batches = batching.token_batches(corpus, 400, seed=0)
    model.fit(batches, epochs=12, shuffle=False, verbose=0)
    return model


NEW = sentences(7, 20, 12)  # longer sources than in training, other numbers


def assert_copied(answers):
    right = [answer == target for answer, target in zip(answers, NEW[1], strict=True)]
    assert np.mean(right) >= 0.8, list(zip(NEW[0], answers, strict=True))


def test_a_transformer_copies_numbers_that_it_has_never_seen():
    generate = trained("copying_transformer").text_generator(
        beam_size=1, max_length=4, max_source_length=15
    )
    assert_copied(generate(NEW[0]))


@pytest.fixture(scope="module")
def model():
    return trained("pointer_generator")


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("copying") / "1"
    return export.save(
        model, path, beam_size=2, max_length=4, max_source_length=15, length_penalty=0.0
    ).served


def test_a_saved_model_answers_with_the_words_themselves(served):
    answers = served(NEW[0])
    assert_copied(answers)
    assert [best[0][0] for best in served.n_best(NEW[0])] == answers
    assert served(["", "of 987654321 dogs dogs"]) == ["", "paid 987654321"]
    # More tokens than `max_source_length`: the rest is cut off.
    assert served("of 4711 " + "dogs " * 30) == "paid 4711"
    card = (served.path / "model_card.md").read_text(encoding="utf-8")
    assert "words of the source are copied" in card


def test_a_session_and_xla_answer_the_same(served):
    texts = NEW[0][:3]
    expected = served(texts)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(served.path))
        for name in ("serving_default", "serving_xla"):
            signature = loaded.signature_def[name]
            feed = {signature.inputs["text"].name: texts}
            found = session.run(signature.outputs["text"].name, feed)
            assert [answer.decode() for answer in found] == expected, name


def test_an_alignment_names_the_words_that_were_copied(served):
    found = served.align("we dogs 4711 of")
    assert found.text == "paid 4711"
    assert found.source_tokens == ["we", "dogs", "4711", "of", "</s>"]
    assert found.target_tokens == ["paid", "4711", "</s>"]
    np.testing.assert_allclose(found.weights.sum(1), np.ones(3), atol=1e-4)
    assert found.weights[1].argmax() == 2


def test_an_answer_is_completed_with_words_of_the_source(served):
    found = served.complete("we 55555 dogs 4711", "paid 55555")
    assert found.text.startswith("paid 55555")
    assert found.target_tokens[:2] == ["paid", "55555"]
    np.testing.assert_allclose(found.score, found.token_log_probs.sum(), rtol=1e-4)
    found = served.complete("we 4711 dogs", "bought")  # neither has it
    assert found.text.startswith("⁇")
    # Behind `max_source_length` there is no place to copy from.
    found = served.complete("we 4711 " + "dogs " * 200 + "55555", "paid 55555")
    assert found.text.startswith("paid ⁇")


def test_other_engines_refuse_a_copier(model, tmp_path):
    for engine, write in (
        ("TensorFlow Lite", export.to_tflite), ("CTranslate2", export.to_ctranslate2),
    ):  # fmt: skip
        message = f"`model` must be without a copier for {engine}"
        with pytest.raises(ValueError, match=re.escape(message)):
            write(model, tmp_path / "model")
