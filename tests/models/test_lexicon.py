"""Candidate lists: learnt from alignments, and what they allow."""

import re

import numpy as np
import pytest
import tensorflow as tf

from kzoo import audio, batching, text
from kzoo.layers.attention import LuongAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import CandidateLists, VocabularyHead
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.models import Ensemble, Lexicon, Seq2Seq

V = 11
TRANSLATIONS = np.array([[0, 0], [0, 0], [0, 0], [0, 0], [8, 0], [9, 7], [0, 0]])
SOURCES, TARGETS = ["a b", "b", "c a b"], ["A B", "B B", "C A B"]


def lists(lexicon, source):
    found = lexicon.lists(np.array(source))
    assert found.frequent == lexicon.frequent
    assert found.rare.shape == (len(source), lexicon.room)
    rows = [ids[ids > 0].tolist() for ids in found.ids.numpy()]
    for row in rows:
        assert len(set(row)) == len(row)
    return [{0, *row} for row in rows]


def test_a_list_has_the_frequent_words_and_the_translations_of_the_words_of_its_source():
    lexicon = Lexicon(TRANSLATIONS, frequent=5, vocabulary_size=V)
    source = [[4, 2, 0], [6, 5, 2], [3, 2, 0]]
    assert lists(lexicon, source) == [{0, 1, 2, 3, 4, 8}, {0, 1, 2, 3, 4, 7, 9}, {0, 1, 2, 3, 4}]


def test_a_translation_that_is_a_frequent_word_is_on_the_list_once():
    lexicon = Lexicon(TRANSLATIONS, frequent=9, vocabulary_size=V)
    assert lists(lexicon, [[4, 5, 2]]) == [{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}]
    assert lists(Lexicon(TRANSLATIONS, V, V), [[4, 5, 2]]) == [set(range(V))]


def test_without_room_the_least_frequent_translations_go_first():
    lexicon = Lexicon(TRANSLATIONS, frequent=4, vocabulary_size=V, room=2)
    # 7 is the second one of 5; a sentence beside it changes nothing.
    assert lists(lexicon, [[5, 4, 2], [5, 0, 0]]) == [{0, 1, 2, 3, 8, 9}, {0, 1, 2, 3, 7, 9}]


def test_a_word_that_several_source_words_mean_has_its_best_rank_and_one_place():
    translations = np.array([[0, 0]] * 4 + [[8, 7], [7, 8], [9, 7]])
    lexicon = Lexicon(translations, frequent=4, vocabulary_size=V, room=3)
    assert lists(lexicon, [[4, 5, 6, 2]]) == [{0, 1, 2, 3, 7, 8, 9}]
    lexicon = Lexicon(translations, frequent=4, vocabulary_size=V, room=1)
    assert lists(lexicon, [[6, 5, 2], [4, 4, 4]]) == [{0, 1, 2, 3, 7}, {0, 1, 2, 3, 8}]


def make_model():
    source, target = (text.WordTokenizer.learn(side, 20) for side in (SOURCES, TARGETS))
    embedding = TokenEmbedding(target.vocabulary_size(), 7)
    decoder = AttentionDecoder(embedding, 6, LuongAttention("general"), cell="gru")
    head = VocabularyHead(target.vocabulary_size(), 6)
    encoder = RecurrentEncoder(TokenEmbedding(source.vocabulary_size(), 7), 5, cell="gru")
    return Seq2Seq(encoder, decoder, head, source, target)


def batches_of(model):
    corpus = batching.Corpus(
        batching.tokenize(model.source_tokenizer, SOURCES),
        batching.tokenize(model.target_tokenizer, TARGETS),
    )
    return batching.token_batches(corpus, 12)


@pytest.mark.parametrize("translations", [1, 2])
def test_the_translations_of_a_word_are_those_it_is_most_often_aligned_with(translations):
    model = make_model()
    lexicon = Lexicon.learn(model, batches_of(model), 4, translations)
    counts = np.zeros((model.source_tokenizer.vocabulary_size(), 20), int)
    for inputs, labels in batches_of(model):
        weights = model(inputs)["weights"].numpy()
        for source, row, row_labels in zip(inputs["source"].numpy(), weights, labels, strict=True):
            words = np.flatnonzero(source >= 3)
            for step, label in enumerate(row_labels.numpy()):
                if label >= 4:
                    counts[source[words[row[step, words].argmax()]], label] += 1
    assert counts.sum() == 7
    for word, row in enumerate(counts):
        ranked = sorted(np.flatnonzero(row), key=lambda t: (-row[t], t))[:translations]
        assert list(lexicon.translations[word][: len(ranked)]) == ranked
        assert not lexicon.translations[word][len(ranked) :].any()
    assert lexicon.vocabulary_size == model.head.vocabulary_size


def test_a_search_answers_with_words_of_the_list_only():
    model = make_model()
    source = model.source_ids(tf.constant(SOURCES), 7)
    model.generate(source, max_length=2)  # makes the weights
    model.head.bias.assign([0, 0, 0, 0, 0, 9, 8])  # 5 is the best word
    lexicon = Lexicon(np.array([[0]] * 4 + [[6]] * 3), 4, 7)
    best = [
        set(model.generate(source, max_length=3, beam_size=1, lexicon=lexicon).ids.numpy().ravel())
        for lexicon in (None, lexicon)
    ]
    assert best == [{5}, {6}]


@pytest.mark.parametrize("in_graph", [False, True])
def test_with_lists_of_all_words_the_search_is_the_full_one(in_graph):
    model = make_model()
    source = model.source_ids(tf.constant(SOURCES), 7)
    size = model.head.vocabulary_size
    everything = Lexicon(np.tile(np.arange(size), (size, 1)), 4, size, room=9)
    options = {"max_length": 5, "beam_size": 3}
    run = tf.function(model.generate) if in_graph else model.generate
    full, listed = (run(source, lexicon=lexicon, **options) for lexicon in (None, everything))
    np.testing.assert_array_equal(listed.ids, full.ids)
    np.testing.assert_allclose(listed.log_probs, full.log_probs, rtol=1e-5)
    np.testing.assert_allclose(listed.weights, full.weights, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_the_ids_of_a_source_may_be_of_any_type_of_number(dtype):
    lexicon = Lexicon(np.array([[0]] * 4 + [[6], [5], [4]]), 4, 7)
    source = np.array([[4, 5, 2], [6, 2, 0]])
    found, expected = lexicon.lists(source.astype(dtype)), lexicon.lists(source)
    np.testing.assert_array_equal(found.rare, expected.rare)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_a_list_is_in_the_precision_of_its_head(dtype):
    head = VocabularyHead(7, 3, dtype=dtype)
    head.build((None, 3))
    head.bias.assign(np.arange(7))
    logits = head.restricted(CandidateLists(4, tf.constant([[5, 0]])))(tf.ones((2, 3), dtype))
    assert logits.dtype == dtype and np.isneginf(logits[:, 5]).all()
    np.testing.assert_allclose(
        tf.cast(logits[:, :5], "float32"),
        tf.cast(tf.gather(head(tf.ones((2, 3), dtype)), [0, 1, 2, 3, 5], axis=1), "float32"),
        rtol=0.02,
    )


def test_a_list_is_a_softmax_of_its_own_whatever_the_neighbours():
    model = make_model()
    source = model.source_ids(tf.constant(SOURCES), 7)
    translations = np.array([[0]] * 4 + [[6], [5], [4]])
    lexicon = Lexicon(translations, 4, model.head.vocabulary_size)
    options = {"max_length": 1, "beam_size": 7, "length_penalty": 0.0, "lexicon": lexicon}
    together = model.generate(source, **options)
    np.testing.assert_allclose(np.exp(together.log_probs).sum(1), 1, rtol=1e-5)
    for row in range(len(SOURCES)):
        alone = model.generate(source[row : row + 1], **options)
        np.testing.assert_allclose(alone.log_probs[0], together.log_probs[row], rtol=1e-5)
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])


def test_two_models_search_the_same_lists():
    model = make_model()
    source = model.source_ids(tf.constant(SOURCES), 7)
    lexicon = Lexicon(np.array([[0]] * 4 + [[6], [5], [4]]), 4, model.head.vocabulary_size)
    one, two = (
        m.generate(source, max_length=4, lexicon=lexicon) for m in (model, Ensemble([model] * 2))
    )
    np.testing.assert_array_equal(one.ids, two.ids)


def test_allowed_words_are_still_about_the_whole_vocabulary():
    model = make_model()
    source = model.source_ids(tf.constant(SOURCES), 7)
    size = model.head.vocabulary_size
    lexicon = Lexicon(np.array([[6]] * size), 4, size)
    allowed = np.isin(np.arange(size), [2, 5, 6])
    found = model.generate(source, max_length=3, lexicon=lexicon, allowed=allowed)
    assert set(found.ids.numpy().ravel()) <= {0, 2, 6}


def test_padding_and_the_end_have_no_translations():
    lexicon = Lexicon(np.full((7, 1), 9), frequent=4, vocabulary_size=V)
    assert lists(lexicon, [[2, 0, 3], [4, 2, 0]]) == [{0, 1, 2, 3}, {0, 1, 2, 3, 9}]


@pytest.mark.parametrize(("rows", "size"), [(7, 8), (6, 7)])
def test_a_lexicon_for_other_vocabularies_is_refused(rows, size):
    lexicon = Lexicon(np.zeros((rows, 1)), 4, size)
    message = (
        "`lexicon` must be for the vocabularies of the model, got a lexicon for "
        f"{rows} source and {size} target ids, but the model has 7 and 7."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        make_model().generate(np.array([[4, 2]]), lexicon=lexicon)


def test_a_lexicon_for_a_model_that_hears_is_refused():
    lexicon = Lexicon(np.zeros((7, 1)), 4, 7)
    message = "`lexicon` needs a model that reads texts, got one that reads audio_bytes."
    with pytest.raises(ValueError, match=re.escape(message)):
        lexicon.check(audio.AudioSource(audio.LogMel(8000)), make_model().head)


def test_a_prefix_and_a_lexicon_do_not_go_together():
    model = make_model()
    lexicon = Lexicon(np.zeros((7, 1)), 4, model.head.vocabulary_size)
    with pytest.raises(
        ValueError, match=re.escape("`prefix` must be None with a lexicon, got [5].")
    ):
        model.generate(np.array([[4, 2]]), prefix=[5], lexicon=lexicon)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (
            "`frequent` must lie between 4 and vocabulary_size, got frequent=3, vocabulary_size=11",
            (TRANSLATIONS, 3, V),
        ),
        (
            "`frequent` must lie between 4 and vocabulary_size, "
            "got frequent=12, vocabulary_size=11.",
            (TRANSLATIONS, 12, V),
        ),
        (
            "`translations` must be a matrix of ids below vocabulary_size, "
            "got shape (7, 2), vocabulary_size=9.",
            (TRANSLATIONS, 4, 9),
        ),
        (
            "`translations` must be a matrix of ids below vocabulary_size, "
            "got shape (2,), vocabulary_size=11.",
            ([1, 2], 4, V),
        ),
        ("`room` must be at least 1, got room=0.", (TRANSLATIONS, 4, V, 0)),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(message, arguments):
    with pytest.raises(ValueError, match=re.escape(message)):
        Lexicon(*arguments)
