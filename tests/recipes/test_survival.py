"""A recipe that is killed again and again ends with the weights of an undisturbed run."""

import dataclasses
import re
import shutil
import signal
import subprocess

import killed_runs
import numpy as np
import pytest

import kzoo
from recipes import translation


@pytest.fixture
def config(tmp_path):
    return translation.Config(
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


@pytest.mark.slow
def test_a_run_killed_at_six_moments_ends_with_the_weights_of_an_undisturbed_one(config, tmp_path):
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


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 11 MB, and a function that gives it more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=11m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    grow = ["mount", "-o", "remount,size=99m", str(disk)]
    yield disk, lambda: subprocess.run(grow, check=True)
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_a_run_with_a_message_and_its_last_checkpoint_goes_on(
    config, small_disk, tmp_path
):
    disk, grow = small_disk
    log = tmp_path / "log"
    config = dataclasses.replace(config, output=str(disk / "out"), save_minutes=9.0)
    assert killed_runs.run(config, log) == 1, log.read_text()
    said = log.read_text()
    assert "error: a file of the run could not be written or read: [Errno 28] No space left" in said
    assert re.search(r"The last checkpoint in \S+ is of the begin of epoch \d, after \d", said)
    names = [path.name for path in (disk / "out/.kzoo-run").rglob("*")]
    assert not [name for name in names if name.startswith("part.")]
    grow()
    assert killed_runs.run(dataclasses.replace(config, resume=True), log) == 0, log.read_text()
    assert [path.name for path in (disk / "out").iterdir()] == ["1"]
