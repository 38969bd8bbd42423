"""Files that kzoo wrote when it was forty flat modules load, and the models answer as they did.

`written_before_packages` was made at commit e4a121f: models with random weights, and the ids and
scores of their beam search on the sources below.
"""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo  # noqa: F401  (registers what the files hold)

FOLDER = Path(__file__).with_name("written_before_packages")
LETTERS = tf.ragged.constant([[4, 5, 6], [7]], dtype=tf.int32)  # "abc", "d"
FRAMES = tf.random.stateless_normal((2, 40, 10), (1, 2))


@pytest.mark.parametrize(
    ("name", "source", "options"),
    [("rnn_luong", LETTERS, {"max_length": 5}), ("streaming_ctc", FRAMES, {})],
)
def test_a_model_written_before_the_packages_answers_as_it_did(name, source, options):
    model = keras.saving.load_model(FOLDER / f"{name}.keras")
    found = model.generate(source, beam_size=2, **options)
    expected = np.load(FOLDER / f"{name}.npz")
    assert found.ids.numpy().tolist() == expected["ids"].tolist()
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-5)
