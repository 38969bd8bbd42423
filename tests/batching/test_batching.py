"""Batches: every example once, within the budget, with little padding."""

import concurrent.futures
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo import batching, export
from kzoo.batching import mixture
from kzoo.text import CharacterTokenizer, SubwordTokenizer, WordTokenizer

lengths = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60).map(
    lambda pairs: tuple(np.array(pairs, int).reshape(-1, 2).T)
)


def corpus(source, target):
    return batching.Corpus(
        tf.ragged.constant(source, dtype=tf.int32, ragged_rank=1),
        tf.ragged.constant(target, dtype=tf.int32, ragged_rank=1),
    )


def random_corpus(count, seed=0):
    """Example i begins with the id 10 + i on both sides, so that it can be told."""
    rng = np.random.default_rng(seed)
    rows = [[10 + i, *rng.integers(4, 10, rng.integers(0, 9))] for i in range(count)]
    return corpus(rows, [row[::-1] if len(row) == 1 else row[:2] for row in rows])


def epoch(dataset):
    return [tuple(inputs["source"].numpy()[:, 0]) for inputs, _ in dataset]


@given(lengths, st.integers(1, 100), st.integers(1, 9), st.none() | st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_every_example_is_in_one_batch_and_only_a_lone_one_exceeds_the_budget(
    sizes, batch_tokens, rows_multiple, seed
):
    source, target = sizes
    rng = None if seed is None else np.random.default_rng(seed)
    batches = batching.plan(source, target, batch_tokens, rng, pool=17, rows_multiple=rows_multiple)
    assert sorted(np.concatenate([[], *batches])) == list(range(len(source)))
    for batch in batches:
        longest = 1 + max(source[batch].max(), target[batch].max())
        assert len(batch) == 1 or len(batch) * longest <= batch_tokens


def test_no_batches_wait_for_a_tuner_at_their_end():
    batches = batching.token_batches(corpus([[4], [5, 6]], [[4], [5, 6]]), 9)
    assert batches.repeat().map(lambda *batch: batch).options().autotune.enabled is False


@given(lengths, st.integers(1, 100))
@settings(deadline=None, max_examples=50)
def test_every_order_has_as_many_batches(sizes, batch_tokens):
    numbers = {
        len(batching.plan(*sizes, batch_tokens, np.random.default_rng(seed), pool=17))
        for seed in range(5)
    }
    assert len(numbers) == 1


def test_a_pool_is_sorted_by_the_longer_side_then_the_other_and_cut_by_the_budget():
    #                          0  1  2  3  4  5
    source, target = np.array([[1, 6, 2, 3, 1, 9], [1, 3, 2, 1, 3, 4]])
    batches = batching.plan(source, target, batch_tokens=8, rows_multiple=1)
    # With the end id, the longer sides are 2, 7, 3, 4, 4, 10: two rows of 3 or 4 fill 8 tokens.
    assert [batch.tolist() for batch in batches] == [[0, 2], [3, 4], [1], [5]]


def test_rows_are_a_multiple_where_the_budget_allows():
    sizes = np.full(23, 4)  # 5 tokens with the end id: 11 rows in a budget of 57
    batches = batching.plan(sizes, sizes, batch_tokens=57, rows_multiple=8)
    assert [len(batch) for batch in batches] == [8, 8, 7]
    batches = batching.plan(sizes, sizes, batch_tokens=37, rows_multiple=8)  # 7 rows: no room for 8
    assert [len(batch) for batch in batches] == [7, 7, 7, 2]


def test_an_example_longer_than_the_budget_stands_alone():
    batches = batching.plan([2, 50, 2], [2, 2, 2], batch_tokens=7)
    assert [batch.tolist() for batch in batches] == [[0, 2], [1]]


def test_the_padding_share_counts_both_sides_with_the_end():
    # Sides of 2 and 4 tokens, then 6 and 3, ends included: 15 of 2 * 6 + 2 * 4 are real.
    share = batching.padding_share([1, 5], [3, 2], [np.array([0, 1])])
    np.testing.assert_allclose(share, 1 - 15 / 20)
    assert batching.padding_share([1, 5], [3, 2], [np.array([0]), np.array([1])]) == 0


def test_less_than_a_tenth_of_realistic_batches_is_padding():
    rng = np.random.default_rng(0)
    source = np.exp(rng.normal(2.7, 0.6, 5000)).astype(int) + 1
    target = np.maximum(source * rng.normal(1.05, 0.15, 5000), 1).astype(int)
    batches = batching.plan(source, target, 4096, rng)
    assert batching.padding_share(source, target, batches) < 0.1
    unsorted = np.array_split(rng.permutation(5000), len(batches))
    assert batching.padding_share(source, target, unsorted) > 0.5


def test_teacher_forcing_shifts_the_target_by_the_start_and_ends_the_labels():
    rows = corpus([[4, 5, 6], []], [[7, 8], [9]])
    inputs, labels = batching.teacher_forcing(rows.source, rows.target)
    assert inputs["source"].numpy().tolist() == [[4, 5, 6, 2], [2, 0, 0, 0]]
    assert inputs["target"].numpy().tolist() == [[1, 7, 8], [1, 9, 0]]
    assert labels.numpy().tolist() == [[7, 8, 2], [9, 2, 0]]
    assert {x.dtype for x in (*inputs.values(), labels)} == {tf.int32}


def test_batches_of_frames_are_padded_with_their_mask_and_hold_each_example_once():
    rng = np.random.default_rng(0)
    frames = [np.full((n, 3), i + 1, "float32") for i, n in enumerate(rng.integers(1, 30, 23))]
    target = tf.ragged.constant([[10 + i] * (i % 5) for i in range(23)], dtype=tf.int32)
    dataset = batching.frame_batches(frames, target, batch_frames=77, seed=5)
    found = {}
    for inputs, labels in dataset:
        source, mask = inputs["source"].numpy(), inputs["source_mask"].numpy()
        assert source.dtype == np.float32
        assert len(source) == 1 or len(source) * (source.shape[1] + 1) <= 77
        assert not source[~mask].any()
        for row, real, ids, label in zip(source, mask, inputs["target"], labels, strict=True):
            index = int(row[0, 0]) - 1
            found[index] = row[real]
            wanted = target[index].numpy().tolist()
            rest = [0] * (len(ids) - len(wanted) - 1)
            assert ids.numpy().tolist() == [1, *wanted, *rest]
            assert label.numpy().tolist() == [*wanted, 2, *rest]
    assert sorted(found) == list(range(23))
    for index, each in enumerate(frames):
        np.testing.assert_array_equal(found[index], each)
    assert dataset.element_spec[0]["source"].shape[2] == 3
    assert len(list(dataset)) == int(dataset.cardinality()) > 1


def test_no_frames_give_no_batches_and_unequal_sides_are_refused():
    nothing = tf.RaggedTensor.from_row_splits(tf.zeros(0, tf.int32), [0])
    assert list(batching.frame_batches([], nothing, batch_frames=7)) == []
    with pytest.raises(ValueError, match="must have as many rows, got 1 and 0"):
        batching.frame_batches([np.ones((5, 3))], nothing, batch_frames=7)


@pytest.mark.parametrize(("shape", "dtype"), [((2, 3, 3), "uint8"), ((5, 7), "float16")])
def test_batches_of_pictures_hold_each_caption_once_beside_its_picture(shape, dtype):
    pictures = np.stack([np.full(shape, i, dtype) for i in range(11)])
    rows = np.repeat(np.arange(11), 3)[:31]  # the last picture has but one caption
    target = tf.ragged.constant([[10 + i] * (i % 5) for i in range(31)], dtype=tf.int32)
    dataset = batching.picture_batches(pictures, rows, target, batch_size=7, seed=5)
    assert int(dataset.cardinality()) == 5
    assert dataset.element_spec[0]["source"] == tf.TensorSpec((None, *shape), tf.float32)

    def captions(dataset):
        for inputs, labels in dataset:
            for source, ids, label in zip(inputs["source"], inputs["target"], labels, strict=True):
                assert np.ptp(source) == 0
                rest = label.numpy().tolist()
                said = rest[: rest.index(2)]
                assert [1, *said] == ids.numpy().tolist()[: len(said) + 1]
                yield int(source.numpy().flat[0]), *said

    expected = sorted((int(row), *text) for row, text in zip(rows, target.to_list(), strict=True))
    first, second = list(captions(dataset)), list(captions(dataset))
    assert first != second
    assert sorted(first) == sorted(second) == expected
    again = batching.picture_batches(pictures, rows, target, batch_size=7, seed=5)
    assert [list(captions(again)), list(captions(again))] == [first, second]
    in_order = batching.picture_batches(pictures, rows, target, 7)
    assert [len(labels) for _, labels in in_order] == [7, 7, 7, 7, 3]
    by_length = sorted(range(31), key=lambda i: i % 5) if len(shape) == 2 else range(31)
    assert [row for row, *_ in captions(in_order)] == rows[by_length].tolist()


def test_batches_of_features_have_captions_of_like_length_at_random():
    features, rows = np.zeros((9, 4, 3), "float32"), np.repeat(np.arange(9), 7)
    target = tf.ragged.constant([[10] * (i % 7) for i in range(63)], dtype=tf.int32)
    dataset = batching.picture_batches(features, rows, target, batch_size=9, seed=0)
    widths = [labels.shape[1] for _, labels in dataset]
    assert sorted(widths) == [1, 2, 3, 4, 5, 6, 7] != widths
    assert {inputs["target"].shape for inputs, _ in dataset} == {(9, n) for n in range(1, 8)}


@pytest.mark.parametrize("shape", [(2, 3, 3), (5, 7)], ids=["pixels", "features"])
def test_batches_of_pictures_have_the_captions_that_a_pass_draws(shape):
    pictures = np.stack([np.full(shape, i, "uint8") for i in range(11)])
    rows = np.repeat(np.arange(11), 2)
    target = tf.ragged.constant([[10 + i] * (1 + i % 3) for i in range(22)], dtype=tf.int32)

    def batches(start=0):
        draw = mixture.mixed([16, 6], [1, 2.5])  # the last three pictures are read more often
        dataset = batching.picture_batches(
            pictures, rows, target, 7, seed=3, draw=draw, start=start
        )
        assert int(dataset.cardinality()) == 5  # of 16 + 15 captions
        return dataset

    def said(dataset):
        return [
            (int(source.numpy().flat[0]), int(label[0]) - 10)
            for inputs, labels in dataset
            for source, label in zip(inputs["source"], labels, strict=True)
        ]

    dataset = batches()
    first, second = said(dataset), said(dataset)
    assert all(picture == caption // 2 for picture, caption in first)
    for found in (first, second):
        times = np.bincount([caption for _, caption in found], minlength=22)
        assert times[:16].tolist() == [1] * 16 and sorted(times[16:]) == [2, 2, 2, 3, 3, 3]
    assert sorted(first) != sorted(second)
    assert said(batches(start=5)) == second


def test_no_captions_give_no_batches_and_unequal_numbers_are_refused():
    nothing = tf.RaggedTensor.from_row_splits(tf.zeros(0, tf.int32), [0])
    pictures = np.zeros((2, 3, 5))
    assert list(batching.picture_batches(pictures, [], nothing, 7)) == []
    with pytest.raises(ValueError, match="got batch_size=7, 2 rows and 0 texts"):
        batching.picture_batches(pictures, [0, 1], nothing, 7)
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1 .*got batch_size=0"):
        batching.picture_batches(pictures, [], nothing, 0)


def test_epochs_differ_and_the_seed_brings_them_back():
    pairs = random_corpus(53)
    dataset = batching.token_batches(pairs, batch_tokens=31, seed=5)
    first, second = epoch(dataset), epoch(dataset)
    assert first != second
    assert sorted(sum(first, ())) == sorted(sum(second, ())) == list(range(10, 63))
    again = batching.token_batches(pairs, batch_tokens=31, seed=5)
    assert [epoch(again), epoch(again)] == [first, second]
    assert epoch(batching.token_batches(pairs, batch_tokens=31, seed=7)) != first
    resumed = [
        epoch(batching.token_batches(pairs, batch_tokens=31, seed=[5, n])) for n in (0, 1, 1)
    ]
    assert resumed[0] != resumed[1] == resumed[2]


def test_without_a_seed_the_order_is_fixed_and_by_length():
    dataset = batching.token_batches(random_corpus(53), batch_tokens=31)
    assert epoch(dataset) == epoch(dataset)
    widths = [inputs["source"].shape[1] for inputs, _ in dataset]
    assert widths == sorted(widths)


def test_the_dataset_knows_its_number_of_batches_in_every_epoch_and_with_several_pools():
    dataset = batching.token_batches(random_corpus(97), batch_tokens=31, seed=0, pool=13)
    for _ in range(3):
        assert len(epoch(dataset)) == int(dataset.cardinality())


@pytest.mark.parametrize(
    "tokenizer",
    [CharacterTokenizer, WordTokenizer, SubwordTokenizer],
    ids=lambda each: each.__name__,
)
def test_no_texts_give_no_ids_and_no_batches(tokenizer):
    if tokenizer is SubwordTokenizer:
        pytest.importorskip("sentencepiece")
    learnt = tokenizer.learn(["two dogs run"], vocabulary_size=20)
    empty = batching.tokenize(learnt, [])
    assert (empty.dtype, empty.nrows()) == (tf.int32, 0)
    dataset = batching.token_batches(batching.Corpus(empty, empty), batch_tokens=31)
    assert int(dataset.cardinality()) == 0
    assert list(dataset) == []
    assert batching.plan([], [], 31) == []
    assert batching.padding_share([], [], []) == 0


def test_tokenizing_in_chunks_changes_nothing():
    texts = ["a cat", "", "two dogs", "cats", "a"]
    tokenizer = CharacterTokenizer.learn(texts, vocabulary_size=30)
    expected = tokenizer.tokenize(texts).to_list()
    assert batching.tokenize(tokenizer, texts, chunk=2).to_list() == expected


def test_a_budget_without_tokens_is_refused():
    message = "`batch_tokens` must be an integer of at least 1, got batch_tokens=0."
    with pytest.raises(ValueError, match=re.escape(message)):
        batching.plan([3], [5], batch_tokens=0)


def test_sides_with_different_numbers_of_rows_are_refused():
    message = "`source` and `target` must have as many rows, got 2 and 1."
    with pytest.raises(ValueError, match=re.escape(message)):
        batching.token_batches(corpus([[5], [7]], [[11]]), batch_tokens=31)


def test_calls_at_the_same_time_are_answered_in_one_batch_and_long_ones_are_cut():
    sizes = []

    def upper(rows):
        tf.py_function(lambda count: sizes.append(int(count)), [tf.size(rows)], [])
        return {"text": tf.strings.upper(rows), "length": tf.strings.length(rows)}

    answer = export.batch_requests(upper, max_batch_size=4, max_delay_ms=500.0)
    calls = [["a"], ["bb"], ["ccc", "d"], [f"x{i}" for i in range(9)], []]
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda rows: answer(tf.constant(rows, tf.string)), calls))
    for rows, found in zip(calls, answers, strict=True):
        assert [text.decode() for text in found["text"].numpy()] == [row.upper() for row in rows]
        assert found["length"].numpy().tolist() == [len(row) for row in rows]
    assert sum(sizes) == 13 and max(sizes) == 4


@pytest.mark.parametrize("name", ["max_batch_size", "batch_threads", "max_queue"])
def test_request_batching_refuses_sizes_below_one(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got {name}=0"):
        export.batch_requests(lambda rows: {}, **{name: 0})


def test_request_batching_refuses_a_negative_delay():
    with pytest.raises(ValueError, match=r"`max_delay_ms` must not be negative, got .*=-1"):
        export.batch_requests(lambda rows: {}, max_delay_ms=-1)


def test_one_text_is_not_taken_for_a_list_of_them():
    tokenizer = CharacterTokenizer.learn(["abc"], 10)
    with pytest.raises(ValueError, match="`texts` must be a list of texts, got 'abc'"):
        batching.tokenize(tokenizer, "abc")
