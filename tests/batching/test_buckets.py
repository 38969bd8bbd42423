import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.batching import bucketed_batches

RNG = np.random.default_rng(7)
TEXTS = [" ".join(RNG.choice(list("abcdefg"), n)) for n in RNG.integers(1, 60, 3000)]
OTHERS = [" ".join(RNG.choice(list("ABCDEFG"), n)) for n in RNG.integers(1, 60, 3000)]
PAIRS = list(zip(TEXTS, OTHERS, strict=True))
ALIKE = [(text, text.upper()) for text in TEXTS]


@pytest.fixture(scope="module")
def words():
    return [kzoo.WordTokenizer.learn(side, vocabulary_size=20) for side in zip(*PAIRS, strict=True)]


def dataset(pairs=PAIRS):
    return tf.data.Dataset.from_tensor_slices(tuple(map(list, zip(*pairs, strict=True))))


def read(batches, words):
    """The pairs of batches, in their order."""
    found = []
    for inputs, labels in batches:
        sides = zip(words, (inputs["source"], labels), strict=True)
        found += zip(*(t.detokenize(ids).numpy().astype(str) for t, ids in sides), strict=True)
    return found


@pytest.mark.parametrize(("pairs", "padding"), [(ALIKE, 0.1), (PAIRS, 0.3)])
def test_each_pair_comes_once_within_the_budget_with_little_padding(words, pairs, padding):
    batches = list(bucketed_batches(dataset(pairs), *words, batch_tokens=600, max_length=64))
    assert sorted(read(batches, words)) == sorted(pairs)
    sides = [side.numpy() for inputs, labels in batches for side in (inputs["source"], labels)]
    assert max(side.size for side in sides) <= 600
    assert 1 - sum((side > 0).sum() for side in sides) / sum(side.size for side in sides) < padding


def test_a_batch_is_one_of_teacher_forcing(words):
    (inputs, labels), *rest = bucketed_batches(
        dataset([("a b c", "C B A"), ("d", "D")]), *words, batch_tokens=32, max_length=9
    )
    assert not rest
    ids = [t.tokenize([a, b]) for t, a, b in zip(words, ("a b c", "C B A"), "dD", strict=True)]
    expected, expected_labels = kzoo.batching.teacher_forcing(ids[0], ids[1])
    tf.nest.map_structure(np.testing.assert_array_equal, inputs, expected)
    np.testing.assert_array_equal(labels, expected_labels)


def test_a_long_pair_is_cut_and_one_above_the_budget_stands_alone(words):
    pairs = [("a " * 30, "B"), ("a " * 30, "C"), ("c", "D")]
    found = list(bucketed_batches(dataset(pairs), *words, batch_tokens=16, max_length=20))
    assert sorted(inputs["source"].shape.as_list() for inputs, _ in found) == [
        [1, 2],
        [1, 21],
        [1, 21],
    ]
    assert {source for source, _ in read(found, words)} == {" ".join("a" * 20), "c"}


def test_pairs_with_a_side_without_a_token_are_left_out(words):
    pairs = [(" ", "A"), ("a", ""), ("b", "B"), ("", "")]
    found = bucketed_batches(dataset(pairs), *words, batch_tokens=64, max_length=9)
    assert read(found, words) == [("b", "B")]
    assert not list(bucketed_batches(dataset(pairs[:2]), *words, batch_tokens=64, max_length=9))


@pytest.mark.parametrize("pairs", [tf.data.Dataset.range(3), dataset().batch(2), PAIRS])
def test_what_is_no_dataset_of_pairs_is_refused(words, pairs):
    message = r"`pairs` must be a dataset of \(source, target\), one string each, got pairs="
    with pytest.raises(ValueError, match=message):
        bucketed_batches(pairs, *words, batch_tokens=64, max_length=9)


@pytest.mark.parametrize("name", ["batch_tokens", "max_length"])
def test_a_number_below_1_is_refused(words, name):
    numbers = {"batch_tokens": 64, "max_length": 9} | {name: 0}
    with pytest.raises(ValueError, match=f"must be an integer of at least 1, got .*{name}=0"):
        bucketed_batches(dataset(), *words, **numbers)


WORKER = """
import sys, time
import tensorflow_text
from tensorflow.data.experimental import service

dispatcher = service.DispatchServer()
config = service.WorkerConfig(dispatcher.target.split("://")[1])
workers = [service.WorkerServer(config) for _ in range(2)]
print(dispatcher.target, flush=True)
sys.stdin.read()
"""


def test_another_process_of_a_tf_data_service_makes_the_batches(words):
    batches = bucketed_batches(dataset(PAIRS[:200]), *words, batch_tokens=200, max_length=64)
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-3, text=True) as process:
        service = tf.data.experimental.service.distribute(
            "distributed_epoch", process.stdout.readline().strip()
        )
        assert sorted(read(batches.apply(service), words)) == sorted(PAIRS[:200])
        model = kzoo.zoo.rnn_luong(*words, units=4)
        model.compile(kzoo.FusedAdam(0.01))
        history = model.fit(
            batches.apply(service).repeat(), steps_per_epoch=8, epochs=3, shuffle=False, verbose=0
        ).history
        process.stdin.close()
    assert history["loss"] == sorted(history["loss"], reverse=True)
