"""SampledSubwords: what is drawn, what is kept, and how batches read it."""

import re

import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching
from kzoo.text import CharacterTokenizer, PieceTokenizer, SampledSubwords, SubwordTokenizer

TEXTS = [
    "Two dogs run over the bridge.",
    "Two cats run.",
    "The dogs sleep under the table in the house.",
    "",
    "The cats sleep over there.",
]
ROWS = np.arange(len(TEXTS))


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request):
    return SubwordTokenizer.learn(TEXTS * 9, vocabulary_size=60, model=request.param)


def drawn(sampled, number=(0, 0), rows=ROWS):
    return tf.RaggedTensor.from_row_lengths(*sampled.draw(rows, number))


def test_every_draw_says_the_texts_in_other_subwords(tokenizer):
    ids = tokenizer.tokenize(TEXTS)
    sampled = SampledSubwords(tokenizer, ids, alpha=0.3)
    found = [drawn(sampled, (0, place)) for place in range(3)]
    for each in found:
        said = tokenizer.detokenize(each).numpy()
        assert [text.decode() for text in said] == TEXTS
    assert len({str(each.to_list()) for each in (ids, *found)}) == 4
    np.testing.assert_array_equal(sampled.row_lengths(), ids.row_lengths())
    assert int(sampled.nrows()) == len(TEXTS)


def test_a_draw_repeats_with_its_seed_and_number_alone(tokenizer):
    ids = tokenizer.tokenize(TEXTS)
    one, same, other = (SampledSubwords(tokenizer, ids, 0.3, seed=s) for s in ([1, 2], [1, 2], 3))
    first = drawn(one, (0, 1)).to_list()
    drawn(one, (0, 2))
    assert drawn(one, (0, 1)).to_list() == drawn(same, (0, 1)).to_list() == first
    assert drawn(one, (1, 1)).to_list() != first
    assert drawn(other, (0, 1)).to_list() != first


def test_texts_with_an_unknown_character_or_too_many_tokens_keep_their_ids(tokenizer):
    texts = [TEXTS[0], TEXTS[1] + " ж", TEXTS[2]]
    ids = tokenizer.tokenize(texts)
    longest = int(ids.row_lengths()[0])
    sampled = SampledSubwords(tokenizer, ids, 0.5, longest=longest)
    for place in range(5):
        found = drawn(sampled, (0, place), np.arange(3)).to_list()
        assert found[1:] == ids.to_list()[1:]
        assert len(found[0]) <= longest


def test_no_rows_have_no_ids(tokenizer):
    sampled = SampledSubwords(tokenizer, tokenizer.tokenize(TEXTS), 0.3)
    flat, lengths = sampled.draw(ROWS[:0], (0, 0))
    assert (flat.shape, flat.dtype, lengths.shape) == ((0,), np.int32, (0,))


def test_bytes_pairs_that_are_always_merged_are_those_of_the_tokenizer():
    tokenizer = SubwordTokenizer.learn(TEXTS * 9, vocabulary_size=60)
    ids = tokenizer.tokenize(TEXTS)
    sampled = SampledSubwords(tokenizer, ids, alpha=1e-9)
    assert drawn(sampled).to_list() == ids.to_list()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0}, "`alpha` must lie between 0 and 1, got alpha=0."),
        ({"alpha": 1.0}, "`alpha` must lie between 0 and 1, got alpha=1.0."),
        ({"nbest": 1}, "`nbest` must be -1 or at least 2, got nbest=1."),
        (
            {"tokenizer": CharacterTokenizer.learn(["ab"], 9)},
            "`tokenizer` must be a SubwordTokenizer, got tokenizer=<",
        ),
    ],
)
def test_what_cannot_be_sampled_is_named(tokenizer, arguments, message):
    arguments = {"tokenizer": tokenizer, "ids": tokenizer.tokenize(TEXTS), "alpha": 0.1} | arguments
    with pytest.raises(ValueError, match=re.escape(message)):
        SampledSubwords(**arguments)


def read(dataset, tokenizer):
    """Each pass over a dataset: what its batches say, and their ids."""
    passes = []
    for _ in range(2):
        batches = [(tokenizer.detokenize(labels).numpy().tolist(), labels) for _, labels in dataset]
        said = sorted(text.decode() for texts, _ in batches for text in texts)
        passes.append((said, [labels.numpy().tolist() for _, labels in batches]))
    return passes


def test_batches_say_the_texts_in_other_subwords_in_every_pass(tokenizer):
    ids = tokenizer.tokenize(TEXTS)
    corpus = [SampledSubwords(tokenizer, ids, 0.3, seed=seed) for seed in (1, 2)]
    dataset = batching.token_batches(batching.Corpus(*corpus), batch_tokens=60, seed=None)
    first, second = read(dataset, tokenizer)
    assert first[0] == second[0] == sorted(TEXTS)
    assert first[1] != second[1]
    inputs, labels = next(iter(dataset))
    assert inputs["source"].dtype == inputs["target"].dtype == labels.dtype == tf.int32
    np.testing.assert_array_equal(inputs["target"][:, 0], np.ones(len(labels)))

    again = [SampledSubwords(tokenizer, ids, 0.3, seed=seed) for seed in (1, 2)]
    repeated = batching.token_batches(batching.Corpus(*again), batch_tokens=60, seed=None)
    assert read(repeated, tokenizer)[0][1] == first[1]


def test_frames_and_pictures_have_sampled_texts(tokenizer):
    ids = tokenizer.tokenize(TEXTS)
    frames = [np.ones((length, 3), np.float32) for length in (5, 2, 7, 1, 4)]
    pictures = np.ones((2, 7, 3), np.float32)
    sampled = [SampledSubwords(tokenizer, ids, 0.3) for _ in range(2)]
    for dataset in (
        batching.frame_batches(frames, sampled[0], 14),
        batching.picture_batches(pictures, [0, 0, 1, 1, 1], sampled[1], 2),
    ):
        first, second = read(dataset, tokenizer)
        assert first[0] == second[0] == sorted(TEXTS)
        assert first[1] != second[1]


def test_pieces_with_ids_of_their_own_are_refused(tokenizer):
    pieces = PieceTokenizer(tokenizer.proto, tokenizer.get_vocabulary())
    with pytest.raises(ValueError, match="`tokenizer` must be a SubwordTokenizer"):
        SampledSubwords(pieces, pieces.tokenize(TEXTS), 0.3)
