"""The named architectures: all train, decode and count as many weights as they should."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching, zoo
from kzoo.text import SPECIAL_TOKENS, CharacterTokenizer

TEXTS = ["cab", "a bad face", "dead", "beef"]
TARGETS = ["bac", "ecaf dab a", "daed", "feeb"]
K, L = 2, 3
SHAPES = {  # layers of each side, units, hidden units
    "transformer_tiny": (4, 128, 256),
    "transformer_small": (4, 256, 1024),
    "transformer_base": (6, 512, 2048),
    "pronunciation_transformer": (3, 256, 512),
}
SPEECH = ["listen_attend_spell", "speech_transformer", "streaming_ctc"]  # models/test_ctc_model.py
PICTURES = ["captioning_transformer", "show_attend_tell"]  # test_captioning
every_model = pytest.mark.parametrize(
    "name", sorted(set(zoo.__all__) - set(SPEECH) - set(PICTURES))
)


class Size:
    """A tokenizer that has a vocabulary size and nothing else but what copying asks for."""

    can_split, lowercase = True, False

    def __init__(self, size):
        self.size = size

    def vocabulary_size(self):
        return self.size


@pytest.fixture(scope="module")
def tokenizer():
    return CharacterTokenizer.learn(TEXTS, vocabulary_size=11)


def make(name, *tokenizers, **options):
    options |= {"units": 13} if name.startswith(("rnn", "pointer")) else {}
    return getattr(zoo, name)(*tokenizers, **options)


def teacher_forcing(tokenizer, copies):
    if copies:
        return batching.teacher_forcing(
            *batching.copying_corpus(tokenizer, tokenizer, TEXTS, TARGETS)
        )
    return batching.teacher_forcing(tokenizer.tokenize(TEXTS), tokenizer.tokenize(TARGETS))


@every_model
def test_a_model_trains_and_decodes_and_its_steps_equal_the_whole(name, tokenizer):
    model = make(name, tokenizer, tokenizer, dropout=0.0)
    inputs, labels = teacher_forcing(tokenizer, model.copies)
    model.compile(keras.optimizers.SGD(0.02))  # as Adam it would keep 3 copies of the largest
    assert np.isfinite(model.fit(inputs, labels, batch_size=4, verbose=0).history["loss"]).all()

    rows = tf.constant([0, 3])
    inputs = {name: tf.gather(x, rows) for name, x in inputs.items()}
    source, target = inputs["source"], inputs["target"][:, :L]
    outputs = model(inputs | {"target": target})
    prepared = model.prepare(source)
    state = model.decoder.initial_state(prepared, max_length=target.shape[1])
    for t in range(target.shape[1]):
        hidden, weights, state = model.decoder.step(target[:, t], state, t, prepared)
        np.testing.assert_allclose(hidden, outputs["hidden"][:, t], atol=1e-4)
        np.testing.assert_allclose(weights, outputs["weights"][:, t], atol=1e-4)

    copying = {"copy_ids": inputs["copy_ids"]} if model.copies else {}
    result = model.generate(source, beam_size=K, max_length=L, **copying)
    assert result.ids.shape == (2, K, L)
    assert np.isfinite(result.scores).all()
    assert (result.scores[:, 0] >= result.scores[:, 1]).numpy().all()
    pieces = ["", "", "", "⁇", *tokenizer.get_vocabulary()[4:]]
    for ids, answer in zip(
        result.ids[:, 0].numpy(), tokenizer.detokenize(result.ids[:, 0]).numpy(), strict=True
    ):
        assert answer.decode() == "".join(pieces[i] for i in ids).strip()


def transformer_parameters(num_layers, units, hidden_units, *vocabulary_sizes):
    attention = 4 * (units * units + units)  # W_q, W_k, W_v, W_o, each with its bias
    feed_forward = units * hidden_units + hidden_units + hidden_units * units + units
    norm = 2 * units
    encoder_block = attention + feed_forward + 2 * norm
    decoder_block = 2 * attention + feed_forward + 3 * norm
    return num_layers * (encoder_block + decoder_block) + units * sum(vocabulary_sizes)


def built(model):
    """The model built on ids of any batch and length, without a calculation."""
    ids = keras.Input((None,), dtype="int32")
    model(dict.fromkeys(model.needed_inputs, ids))
    return model


@pytest.mark.parametrize(
    ("name", "vocabulary_size", "expected"),
    [("transformer_tiny", 9_700, 2_566_656), ("transformer_small", 101, None),
     ("transformer_base", 103, None), ("pronunciation_transformer", 67, None)],
)  # fmt: skip
def test_a_transformer_has_as_many_parameters_as_its_equations(name, vocabulary_size, expected):
    size = Size(vocabulary_size)
    # A pre-norm stack ends with a normalization of its own, which the equations do not have.
    counted = built(make(name, size, size, norm_first=False)).count_params()
    assert counted == transformer_parameters(*SHAPES[name], vocabulary_size)
    assert counted == expected or expected is None


def test_a_copying_transformer_is_a_transformer_with_a_gate():
    size = Size(101)
    gate = 3 * 128 + 1
    counted = [built(make(name, size, size)).count_params() for name in (
        "copying_transformer", "transformer_tiny",
    )]  # fmt: skip
    assert counted[0] - counted[1] == gate


@pytest.mark.parametrize("name", ["pointer_generator", "copying_transformer"])
def test_a_model_that_copies_never_answers_with_the_unknown_token(name):
    assert make(name, Size(19), Size(19)).suppressed == (3,)


def embeddings(model):
    weights = (model.encoder.embedding.embeddings, model.decoder.embedding.embeddings)
    return {id(weight): tuple(weight.shape) for weight in weights}


@pytest.mark.parametrize(
    "name",
    ["pointer_generator", "rnn_fixed", "rnn_bahdanau", "rnn_luong", "transformer_tiny"],
)
def test_one_tokenizer_makes_one_embedding_and_two_make_two(name):
    source, target = Size(17), Size(19)
    units = 128 if name == "transformer_tiny" else 13
    shared = built(make(name, target, target))
    assert list(embeddings(shared).values()) == [(19, units)]
    separate = built(make(name, source, target))
    assert list(embeddings(separate).values()) == [(17, units), (19, units)]
    assert separate.count_params() == shared.count_params() + 17 * units
    is_tied = separate.head.weight is separate.decoder.embedding.embeddings
    assert is_tied == (name == "transformer_tiny")


@every_model
def test_a_length_head_is_there_if_it_is_asked_for_and_learns_in_float32(name):
    size = Size(19)
    assert make(name, size, size).length_head is None
    assert make(name, size, size, length_head=True).length_head.compute_dtype == "float32"


@every_model
def test_a_model_is_documented_and_takes_what_all_take(name):
    function = getattr(zoo, name)
    assert function.__doc__
    parameters = list(inspect.signature(function).parameters)
    assert parameters[:2] == ["source_tokenizer", "target_tokenizer"]
    assert {"dropout", "label_smoothing"} <= set(parameters)


@pytest.mark.parametrize("name", SPEECH)
def test_a_model_of_speech_is_documented_and_takes_what_all_take(name):
    function = getattr(zoo, name)
    assert function.__doc__
    parameters = list(inspect.signature(function).parameters)
    assert parameters[:2] == ["source", "target_tokenizer"]
    assert {"dropout", "units", "num_layers"} <= set(parameters)


@pytest.mark.parametrize("name", PICTURES)
def test_a_model_of_pictures_is_documented_and_takes_what_all_take(name):
    function = getattr(zoo, name)
    assert function.__doc__
    parameters = list(inspect.signature(function).parameters)
    assert parameters[:3] == ["source", "target_tokenizer", "backbone"]
    assert {"dropout", "units", "label_smoothing", "num_sampled"} <= set(parameters)


def test_the_special_ids_are_the_same_in_every_vocabulary(tokenizer):
    assert tuple(tokenizer.get_vocabulary()[:4]) == SPECIAL_TOKENS
