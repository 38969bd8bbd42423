"""SampledSubwords: what is drawn, what is kept, and how batches read it."""

import collections
import itertools
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import batching
from kzoo.text import CharacterTokenizer, PieceTokenizer, SampledSubwords, SubwordTokenizer
from kzoo.text.special_ids import UNKNOWN_ID
from kzoo.text.subword_sampling import BPEDropout, UnigramSampling, read_model

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


def test_a_draw_repeats_in_another_process(tokenizer, tmp_path):
    ids = tokenizer.tokenize(TEXTS)
    here = drawn(SampledSubwords(tokenizer, ids, 0.5, seed=7), (3, 11)).to_list()
    (tmp_path / "model").write_bytes(tokenizer.proto)
    code = f"""if True:
        import pathlib, numpy as np, tensorflow as tf
        from kzoo.text import SampledSubwords, SubwordTokenizer
        tokenizer = SubwordTokenizer(pathlib.Path("model").read_bytes())
        sampled = SampledSubwords(tokenizer, tokenizer.tokenize({TEXTS!r}), 0.5, seed=7)
        found = sampled.draw(np.arange({len(TEXTS)}), (3, 11))
        print(tf.RaggedTensor.from_row_lengths(*found).to_list())
    """
    path = {"PYTHONPATH": str(Path(kzoo.__file__).parents[1])}
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=os.environ | path, capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert there.stdout.strip() == str(here)


def test_bpe_dropout_is_that_of_the_paper():
    scores, alpha = {"a": -9, "b": -9, "c": -9, "ab": -1, "bc": -2, "abc": -3}, 0.3
    cut, rng = BPEDropout(scores, alpha), random.Random(5)
    counts = collections.Counter(tuple(cut("abc", rng)) for _ in range(20_000))
    kept = 1 - alpha
    expected = {
        ("a", "b", "c"): alpha**2,
        ("ab", "c"): kept * alpha,
        ("a", "bc"): alpha * kept * alpha,
        ("abc",): kept * kept + alpha * kept * kept,
    }
    assert sum(expected.values()) == pytest.approx(1)
    assert {k: v / 20_000 for k, v in counts.items()} == pytest.approx(expected, abs=0.01)


def test_segmentations_of_a_unigram_model_have_the_probabilities_of_the_paper():
    scores = {"a": -2.0, "b": -3.0, "ab": -4.0, "ba": -2.5, "aba": -5.0}
    cut, rng, alpha, word = UnigramSampling(scores, 0.4), random.Random(5), 0.4, "abab"
    all_of_it = []
    for ends in itertools.product([True, False], repeat=len(word) - 1):
        marked = "".join(c + " " * end for c, end in zip(word, [*ends, False], strict=True))
        if all(piece in scores for piece in marked.split()):
            all_of_it.append(tuple(marked.split()))
    weights = [math.exp(alpha * sum(map(scores.get, pieces))) for pieces in all_of_it]
    expected = {k: w / sum(weights) for k, w in zip(all_of_it, weights, strict=True)}
    counts = collections.Counter(tuple(cut(word, rng)) for _ in range(20_000))
    assert len(expected) == 6
    assert {k: v / 20_000 for k, v in counts.items()} == pytest.approx(expected, abs=0.01)
    assert cut("axb", rng) == ["axb"]  # which is no piece, so the ids stay
    assert "".join(cut("ab" * 5000, rng)) == "ab" * 5000  # p is far below the least float


def test_a_model_is_read_as_sentencepiece_reads_it(tokenizer):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
    kind, pieces = read_model(tokenizer.proto)
    assert [text for text, _, _ in pieces] == tokenizer.get_vocabulary()
    assert [score for _, score, _ in pieces] == [model.get_score(i) for i in range(len(model))]
    assert [each == 2 for _, _, each in pieces] == [model.is_unknown(i) for i in range(len(model))]
    assert [each == 3 for _, _, each in pieces] == [model.is_control(i) for i in range(len(model))]
    is_bpe = SampledSubwords(tokenizer, tokenizer.tokenize(["a"]), 1e-9)
    assert kind == (2 if isinstance(is_bpe._cut, BPEDropout) else 1)


def test_a_tag_is_never_cut():
    tokenizer = SubwordTokenizer.learn(TEXTS * 9, vocabulary_size=70, languages=["de", "fr"])
    texts = [f">>fr<< {TEXTS[0]}", f">>de<< {TEXTS[2]}"]
    ids = tokenizer.tokenize(texts)
    sampled = SampledSubwords(tokenizer, ids, 0.6)
    for place in range(4):
        found = drawn(sampled, (0, place), np.arange(2))
        assert [row[0] for row in found.to_list()] == [row[0] for row in ids.to_list()]
        assert [text.decode() for text in tokenizer.detokenize(found).numpy()] == texts


def test_an_unknown_character_and_a_text_of_too_many_tokens_keep_their_ids(tokenizer):
    texts = [TEXTS[0], TEXTS[1] + " ж", TEXTS[2]]
    ids = tokenizer.tokenize(texts)
    longest = int(ids.row_lengths()[0])
    sampled = SampledSubwords(tokenizer, ids, 0.5, longest=longest)
    for place in range(5):
        found = drawn(sampled, (0, place), np.arange(3)).to_list()
        assert found[2] == ids.to_list()[2]
        assert len(found[0]) <= longest
        assert found[1][-1] == ids.to_list()[1][-1] == UNKNOWN_ID


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
