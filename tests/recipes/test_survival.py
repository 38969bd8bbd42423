"""A recipe that is killed again and again ends with the weights of an undisturbed run."""

import dataclasses
import signal

import killed_runs
import numpy as np
import pytest

import kzoo
from recipes import translation


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
    models = [kzoo.pretrained.load(tmp_path / name / "1") for name in ("undisturbed", "killed")]
    weights, others = (model.get_weights() for model in models)
    assert len(weights) > 9
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)
