import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from loopback import ATTEMPTS, LOST, two_addresses

from kzoo.training import distribution

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("workers", "index", "message"),
    [
        ("a:1,a:1", 0, "two or more different host:port, separated by commas, got workers='a:1,a"),
        ("a:1,b", 0, "`workers` must be two or more different host:port"),
        ("a:1,b:2", 2, "`worker` must be the number of this process in `workers`, 0 to 1, got wo"),
        ("a:1,b:2", None, "0 to 1, got worker=None"),
        (None, 1, "`worker` needs `workers`, got worker=1"),
    ],
)
def test_addresses_that_are_none_are_refused(workers, index, message):
    with pytest.raises(ValueError, match=message):
        distribution.addresses_of(workers, index, {})


def test_the_workers_of_a_cluster_are_those_of_its_tf_config():
    def found(**config):
        return distribution.addresses_of(environment={"TF_CONFIG": json.dumps(config)})

    assert distribution.addresses_of("a:1, b:2", 1, {}) == (["a:1", "b:2"], 1)
    assert distribution.addresses_of(environment={}) == ([], 0)
    assert found(cluster={"worker": ["a:1"]}, task={"type": "worker", "index": 0}) == ([], 0)
    both = {"chief": ["c:1"], "worker": ["a:1", "b:2"]}
    assert found(cluster=both, task={"type": "worker", "index": 1}) == (["c:1", "a:1", "b:2"], 2)
    assert found(cluster=both, task={"type": "chief", "index": 0}) == (["c:1", "a:1", "b:2"], 0)


@pytest.mark.parametrize(
    "text",
    [
        "{bad", "[]", '{"cluster": {"worker": "a:1"}}', '{"cluster": {"worker": [1, 2]}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 5}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"index": "x"}}', '{"cluster": []}x',
    ],
)  # fmt: skip
def test_a_tf_config_that_is_none_is_named(text):
    with pytest.raises(ValueError, match=r"`TF_CONFIG` must be JSON as .*, got TF_CONFIG='"):
        distribution.addresses_of(environment={"TF_CONFIG": text})


def test_a_tf_config_without_workers_is_of_one_process():
    for text in ("", "{}", '{"cluster": null}', '{"task": {"type": "evaluator"}}'):
        assert distribution.addresses_of(environment={"TF_CONFIG": text}) == ([], 0)


def start(addresses, index, *more):
    names = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}
    command = [sys.executable, ROOT / "tests" / "workers.py", addresses, str(index), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | names
    )


@contextlib.contextmanager
def ended(process):
    """A process that does not outlive the block."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def two_workers(*more):
    with contextlib.ExitStack() as stack:
        addresses = two_addresses()
        processes = [
            stack.enter_context(ended(start(addresses, index, *more))) for index in range(2)
        ]
        yield processes


def report_of(process):
    """The first line that is a report; "" if the process ends before."""
    return next((line for line in process.stdout if line.startswith("{")), "")


@pytest.fixture(scope="module")
def reports():
    """Of one process and of two workers; then one of the workers, in training, is killed."""
    with ended(start("", 0)) as alone:
        for _ in range(ATTEMPTS):
            with two_workers("until killed") as processes:
                lines = [report_of(process) for process in processes]
                if not all(lines):
                    said = processes[lines.index("")].communicate(timeout=120)[1]
                    continue
                killed, left = processes
                os.kill(killed.pid, signal.SIGKILL)
                end = left.communicate(timeout=120)[1]
                end = left.returncode, end
            break
        else:
            if any(word in said for word in LOST):
                pytest.skip(f"the workers lost each other {ATTEMPTS} times; the machine is busy")
            pytest.fail(said[-3000:])
        one, error = alone.communicate(timeout=120)
        assert alone.returncode == 0, error[-3000:]
    return json.loads(one), *map(json.loads, lines), end


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "sampled", "learned", "on disk"])
def test_two_workers_have_the_losses_of_one_process_batch_by_batch(reports, name):
    one, *workers, _ = reports
    assert len(one[name]["losses"]) > 5
    assert np.ptp(one[name]["losses"]) > 0.01
    for worker in workers:
        for part in ("losses", "valid", "weights"):
            np.testing.assert_allclose(worker[name][part], one[name][part], rtol=1e-5)


@pytest.mark.slow
def test_workers_are_told_what_the_chief_says(reports):
    assert [worker["said"] for worker in reports[1:3]] == ["the chief's"] * 2


@pytest.mark.slow
def test_keras_alone_still_fails_on_several_workers(reports):
    """When it no longer does, `models.distributed` has done its service: lower its KERAS_FAILS."""
    assert "PerReplica" in reports[1]["keras"]


@pytest.mark.slow
def test_a_worker_whose_chief_is_killed_says_so_and_ends(reports):
    code, error = reports[3]
    assert code == 1
    assert "rror: worker 0 (127.0.0.1:" in error
    assert "no longer answers, so this worker, 1, ends, too. Start all of them again" in error
