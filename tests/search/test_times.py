import math

import numpy as np
import pytest
import tensorflow as tf

from kzoo import search
from kzoo.search.times import Times, forbidden_by_times

END, FIRST, V = 10, 12, 23  # texts, the end, <|notimestamps|>, times


def histories(rng, rows, length):
    """Outputs as the rules allow them, drawn token by token, so that all states come about."""
    ids = np.zeros((rows, length + 1), np.int32)
    for position in range(length):
        yield position, ids
        logits = rng.normal(size=(rows, V)).astype("float32")
        none = np.zeros((rows, V), bool)
        forbidden = forbidden_by_times(
            Times(FIRST, 3), END, tf.constant(logits), tf.constant(ids), position, none
        ).numpy()
        forbidden[:, END] |= ~forbidden[:, :END].all(1)  # goes on where it can
        forbidden[forbidden.all(1), END] = False
        logits[:, FIRST + 5 :] -= 3  # early times, so that there is room for further ones
        ids[:, position] = np.where(forbidden, -math.inf, logits).argmax(1)


def test_they_are_the_rules_of_transformers():
    process = pytest.importorskip("transformers.generation.logits_process")
    torch = pytest.importorskip("torch")
    config = type("Config", (), {
        "no_timestamps_token_id": FIRST - 1, "eos_token_id": END, "bos_token_id": END,
        "max_initial_timestamp_index": 3, "_detect_timestamp_from_logprob": True,
    })()  # fmt: skip
    theirs = process.WhisperTimeStampLogitsProcessor(config, begin_index=1)
    rng = np.random.default_rng(5)
    seen = set()
    for position, ids in histories(rng, 60, 9):
        logits = rng.normal(size=(60, V)).astype("float32") * 2
        others = rng.random((60, V)) < 0.1
        masked = np.where(others, -math.inf, logits).astype("float32")
        given = torch.tensor(np.pad(ids[:, :position], [[0, 0], [1, 0]], constant_values=1))
        expected = np.isinf(theirs(given.long(), torch.tensor(masked)).numpy())
        found = forbidden_by_times(
            Times(FIRST, 3), END, tf.constant(logits), tf.constant(ids), position, others
        )
        is_open = ~(ids[:, :position] == END).any(1)
        np.testing.assert_array_equal((found | others).numpy()[is_open], expected[is_open])
        seen |= {tuple(row) for row in (ids[is_open, max(position - 2, 0) : position] >= FIRST)}
    assert {(True,), (True, True), (True, False), (False, True), (False, False)} <= seen


def test_beams_and_samples_obey_them():
    rng = np.random.default_rng(2)
    table = tf.constant(rng.normal(size=(V, V)).astype("float32"))

    def step(ids, state, position):
        return tf.gather(table, ids), state

    options = {"end_id": END, "max_length": 9, "times": Times(FIRST, 4)}
    start = tf.constant([1, 2, 3])
    found = search.beam_search(step, (), start, beam_size=4, **options)
    drawn = search.sample(step, (), start, num_samples=20, seed=1, **options)
    for row in [*found.ids.numpy().reshape(-1, 9), *drawn.ids.numpy().reshape(-1, 9)]:
        times = [id_ for id_ in row if id_ >= FIRST]
        assert FIRST <= row[0] <= FIRST + 4 and FIRST - 1 not in row
        assert times == sorted(times)
