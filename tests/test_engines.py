"""Models in the formats of other engines answer as kzoo does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import export, text
from kzoo.layers.attention import FixedContext
from kzoo.layers.head import TokenEmbedding, VocabularyHead
from kzoo.layers.positions import LearnedPositions, RotaryPositions
from kzoo.layers.recurrent import AttentionDecoder, RecurrentEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.seq2seq import Seq2Seq

ctranslate2 = pytest.importorskip("ctranslate2")

TEXTS = [
    "Two young men are outside.",
    "A little girl climbing into a wooden playhouse.",
    "Several men in hard hats are operating a giant pulley system.",
    "Girl, girl, girl!",
    "A hat 😀",
]
UNITS, HEADS, HIDDEN, LONGEST, BEAMS = 16, 4, 23, 13, 5
# Of CTranslate2's search: the one that is nearest to kzoo's with length_penalty=0.
SEARCH = {"length_penalty": 0, "min_decoding_length": 0}

KINDS = {
    "post-norm, one vocabulary, all tied": {},
    "pre-norm": {"norm_first": True, "activation": "gelu"},
    "two vocabularies, own head with bias": {"tied": False, "shared": False, "scale": False},
    "pre-norm, two vocabularies, tied head": {"norm_first": True, "shared": False},
    "learned positions": {"positions": 5, "activation": "swish", "norm_first": True},
    "rotary positions": {"rotary": True, "norm_first": True},
    "grouped queries": {"num_key_value_heads": 2},
    "multi-query, rotary": {"num_key_value_heads": 1, "rotary": True},
}


def transformer(
    tied=True, shared=True, scale=True, positions=None, rotary=False, noise=1, **options
):
    """A transformer with random weights, biases and norms."""
    target_tokenizer = text.SubwordTokenizer.learn(TEXTS, 71)
    source_tokenizer = target_tokenizer if shared else text.WordTokenizer.learn(TEXTS[:4], 71)
    target = TokenEmbedding(target_tokenizer.vocabulary_size(), UNITS, scale)
    source = target if shared else TokenEmbedding(source_tokenizer.vocabulary_size(), UNITS, scale)
    if rotary:
        options["attention_positions"] = RotaryPositions(base=500.0)

    def stack(make, embedding, num_layers):
        own = LearnedPositions(positions) if positions else None
        return make(embedding, num_layers, HEADS, HIDDEN, dropout=0.1, positions=own, **options)

    head = VocabularyHead(
        target.vocabulary_size, UNITS, target if tied else None, use_bias=not tied
    )
    encoder, decoder = stack(TransformerEncoder, source, 3), stack(TransformerDecoder, target, 2)
    model = Seq2Seq(encoder, decoder, head, source_tokenizer, target_tokenizer)
    return randomized(model, noise)


def randomized(model, scale=1):
    """Built, with weights far enough from their initial values that a mix-up would show."""
    model({"source": tf.constant([[4, 5, 2]]), "target": tf.constant([[1, 5]])})
    random = np.random.default_rng(3)
    for weight in model.weights:
        noise = random.normal(size=weight.shape).astype("float32")
        noise *= 0.3 if weight.shape.rank == 1 else 0.1
        weight.assign(weight + scale * (0.5 * weight + noise))
    return model


def rnn():
    tokenizer = text.CharacterTokenizer.learn(TEXTS, 71)
    embedding = TokenEmbedding(tokenizer.vocabulary_size(), 7)
    decoder = AttentionDecoder(embedding, 7, FixedContext(), attend="before", summary="first")
    head = VocabularyHead(tokenizer.vocabulary_size(), 7)
    return randomized(Seq2Seq(RecurrentEncoder(embedding, 7), decoder, head, tokenizer, tokenizer))


def pieces(tokenizer, ids):
    return [[piece.decode() for piece in row] for row in tokenizer.tokens(ids).to_list()]


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """A model of each kind, and CTranslate2 with the same."""
    keras.utils.set_random_seed(6)
    model = transformer(**KINDS[request.param])
    path = export.to_ctranslate2(model, tmp_path_factory.mktemp("ctranslate2") / "model")
    return model, ctranslate2.Translator(str(path), inter_threads=1, intra_threads=1)


def searched(model, beam_size):
    """For each text the tokens of all hypotheses of kzoo and their log-probabilities."""
    source = model.source_ids(tf.constant(TEXTS), 256)
    found = model.generate(source, beam_size=beam_size, max_length=LONGEST, length_penalty=0)
    ids = tf.RaggedTensor.from_tensor(
        tf.reshape(found.ids, (-1, LONGEST)), tf.reshape(found.lengths, [-1])
    )
    hypotheses = pieces(model.target_tokenizer, ids)
    rows = range(0, len(hypotheses), beam_size)
    return [hypotheses[row : row + beam_size] for row in rows], found.log_probs.numpy()


def source_tokens(model):
    return pieces(model.source_tokenizer, model.source_tokenizer.tokenize(TEXTS))


@pytest.mark.parametrize("beam_size", [1, BEAMS])
def test_ctranslate2_finds_the_tokens_that_kzoo_finds(both, beam_size):
    model, translator = both
    expected, _ = searched(model, beam_size)
    found = translator.translate_batch(
        source_tokens(model), beam_size=beam_size, **SEARCH, max_decoding_length=LONGEST
    )
    assert [result.hypotheses[0] for result in found] == [rows[0] for rows in expected]
    assert len({tuple(rows[0]) for rows in expected}) > 1  # or this would show nothing


def test_ctranslate2_gives_every_target_the_probability_that_kzoo_gives_it(both):
    model, translator = both
    size = model.target_tokenizer.vocabulary_size()
    ids = np.random.default_rng(5).integers(text.UNKNOWN_ID, size, (len(TEXTS), 7))
    outputs = model(
        {
            "source": model.source_ids(tf.constant(TEXTS), 256),
            "target": np.pad(ids, ((0, 0), (1, 0)), constant_values=text.START_ID),
        }
    )
    labels = np.pad(ids, ((0, 0), (0, 1)), constant_values=text.END_ID)
    expected = tf.gather(tf.nn.log_softmax(outputs["logits"]), labels, batch_dims=2)
    scored = translator.score_batch(
        source_tokens(model), pieces(model.target_tokenizer, tf.RaggedTensor.from_tensor(ids))
    )
    np.testing.assert_allclose([row.log_probs for row in scored], expected, atol=1e-4)


def test_the_alignment_is_kzoos(both):
    model, translator = both
    found = model.generate(
        model.source_ids(tf.constant(TEXTS[:1]), 256), beam_size=1, max_length=7, length_penalty=0
    )
    (result,) = translator.translate_batch(
        source_tokens(model)[:1],
        beam_size=1,
        **SEARCH,
        max_decoding_length=7,
        return_attention=True,
    )
    attention = np.array(result.attention[0])
    steps, length = attention.shape  # without the end token on either side
    np.testing.assert_allclose(attention, found.weights[0, 0, :steps, :length], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_a_trained_model_ends_its_hypotheses_where_kzoo_ends_them(norm_first, tmp_path):
    keras.utils.set_random_seed(6)
    model = transformer(norm_first=norm_first, noise=0)
    words = [source.split() for source in TEXTS[:4]]
    labels = model.source_ids(tf.constant([" ".join(row[::-1]) for row in words]), 256)
    inputs = {
        "source": model.source_ids(tf.constant(TEXTS[:4]), 256),
        "target": np.pad(labels, ((0, 0), (1, 0)), constant_values=text.START_ID)[:, :-1],
    }
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(inputs, labels, batch_size=4, epochs=120, verbose=0)
    found = model.generate(inputs["source"], beam_size=BEAMS, max_length=60, length_penalty=0)
    expected = tf.RaggedTensor.from_tensor(found.ids[:, 0], found.lengths[:, 0])
    translator = ctranslate2.Translator(str(export.to_ctranslate2(model, tmp_path / "model")))
    results = translator.translate_batch(
        source_tokens(model)[:4], beam_size=BEAMS, **SEARCH, return_scores=True
    )
    assert [row.hypotheses[0] for row in results] == pieces(model.target_tokenizer, expected)
    assert max(found.lengths[:, 0]) < 59
    np.testing.assert_allclose([row.scores[0] for row in results], found.log_probs[:, 0], atol=1e-3)
