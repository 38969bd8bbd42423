"""A recipe that is killed again and again ends with the weights of an undisturbed run."""

import dataclasses
import signal

import killed_runs
import numpy as np
import pytest
import tensorflow as tf

from recipes import translation


def weights_of(path):
    reader = tf.train.load_checkpoint(str(path / "variables/variables"))
    names = sorted(reader.get_variable_to_shape_map())
    return {name: reader.get_tensor(name) for name in names if "VARIABLE_VALUE" in name}


@pytest.mark.slow
def test_a_run_killed_at_six_moments_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    config = translation.Config(
        data=killed_runs.write_pairs(tmp_path / "pairs.tsv"),
        tokenizer="words",
        dropout=0.2,
        scheduled_sampling=0.4,
        sampling_steps=9,
        batch_tokens=256,
        epochs=3,
        validation_pairs=5,
        warmup_steps=5,
        beam_size=1,
        max_length=16,
        precision="float32",
        save_minutes=1e-9,  # after every batch
        output=str(tmp_path / "undisturbed"),
    )
    log = tmp_path / "log"
    assert killed_runs.run(config, log) == 0, log.read_text()
    config = dataclasses.replace(config, output=str(tmp_path / "killed"), resume=True)
    for moment in killed_runs.MOMENTS:
        code = killed_runs.run(config, log, moment)
        assert code == -signal.SIGKILL, (moment, log.read_text())
    hidden = [path.name for path in (tmp_path / "killed").iterdir()]
    assert len(hidden) == 2 and not (tmp_path / "killed/1").exists()
    assert killed_runs.run(config, log) == 0, log.read_text()
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["1"]
    weights = [weights_of(tmp_path / name / "1") for name in ("undisturbed", "killed")]
    assert weights[0].keys() == weights[1].keys() and len(weights[0]) > 9
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name])
