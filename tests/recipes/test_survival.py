"""A recipe that is killed again and again ends with the weights of an undisturbed run."""

import dataclasses
import re
import shutil
import signal
import subprocess

import killed_runs
import numpy as np
import pytest
from loopback import ATTEMPTS, LOST, two_addresses

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
    assert_same_weights(tmp_path / "undisturbed/1", tmp_path / "killed/1")


def assert_same_weights(*models):
    weights, others = (kzoo.pretrained.load(path).get_weights() for path in models)
    assert len(weights) > 9
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def run_together(tmp_path):
    """A run of a chief and a worker, until the end or a moment of the worker's."""

    def run(config, codes, moment=None):
        """What both have said, when they have ended with these exit codes."""
        for _ in range(ATTEMPTS):
            logs = [tmp_path / f"worker-{index}.log" for index in (0, 1)]
            found = _ends(config, logs, moment)
            said = "".join(log.read_text() for log in logs)
            if found == codes:
                return said
            assert any(word in said for word in LOST), (found, said)
            for log in logs:
                log.unlink()
            if not config.resume:
                shutil.rmtree(config.output, ignore_errors=True)
        pytest.skip(f"the workers lost each other {ATTEMPTS} times; the machine is busy")

    return run


def _ends(config, logs, moment):
    """The exit codes of a chief and a worker."""
    addresses, processes = two_addresses(), []
    try:
        for index, log in enumerate(logs):
            each = dataclasses.replace(config, workers=addresses, worker=index)
            processes.append(killed_runs.start(each, log, moment if index else None))
        for process in processes:
            process.join(300)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_ends_after_a_resume_with_the_weights_of_an_undisturbed_one(
    config, run_together, tmp_path
):
    config = dataclasses.replace(config, epochs=2, scheduled_sampling=0.0)
    run_together(config, [0, 0])
    config = dataclasses.replace(config, output=str(tmp_path / "killed"))
    said = run_together(config, [1, -signal.SIGKILL], "in a batch of the second epoch")
    assert re.search(r"error: worker 1 \(127.0.0.1:\d+\) no longer answers, so this", said)
    assert "Start all of them again; a recipe with --resume goes on from the last" in said
    said = run_together(dataclasses.replace(config, resume=True), [0, 0])
    assert re.search(r"Going on from \S+: the begin of epoch 2, after", said)
    assert_same_weights(tmp_path / "undisturbed/1", tmp_path / "killed/1")


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
