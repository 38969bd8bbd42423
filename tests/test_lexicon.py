"""Candidate lists: learnt from alignments, and what they allow."""

import re

import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching, text
from kzoo.layers.attention import LuongAttention
from kzoo.layers.head import TokenEmbedding, VocabularyHead
from kzoo.layers.recurrent import AttentionDecoder, RecurrentEncoder
from kzoo.lexicon import Lexicon
from kzoo.seq2seq import Seq2Seq

V = 11
TRANSLATIONS = np.array([[0, 0], [0, 0], [0, 0], [0, 0], [8, 0], [9, 7], [0, 0]])
SOURCES, TARGETS = ["a b", "b", "c a b"], ["A B", "B B", "C A B"]


def test_allowed_are_frequent_words_and_translations_of_the_words_of_each_source():
    lexicon = Lexicon(TRANSLATIONS, frequent=5, vocabulary_size=V)
    allowed = lexicon.allowed(np.array([[4, 2, 0], [6, 5, 2], [3, 2, 0]])).numpy()
    assert allowed.dtype == bool
    expected = [{0, 1, 2, 3, 4, 8}, {0, 1, 2, 3, 4, 7, 9}, {0, 1, 2, 3, 4}]
    assert [set(np.flatnonzero(row)) for row in allowed] == expected


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


def test_a_search_answers_with_allowed_words_only():
    model = make_model()
    source = model.source_ids(tf.constant(SOURCES), 7)
    model.generate(source, max_length=2)  # makes the weights
    model.head.bias.assign([0, 0, 0, 0, 0, 9, 8])  # 5 is the best word
    lexicon = Lexicon(np.array([[0]] * 4 + [[6]] * 3), 4, 7)
    best = [
        set(model.generate(source, max_length=3, beam_size=1, allowed=allowed).ids.numpy().ravel())
        for allowed in (None, lexicon.allowed(source))
    ]
    assert best == [{5}, {6}]


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
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(message, arguments):
    with pytest.raises(ValueError, match=re.escape(message)):
        Lexicon(*arguments)
