import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CASES = (
    *("Seq2Seq", "sampled, with LazyAdam", "every term of the loss", "CTCModel"),
    *("clipped", "clipped, of rows"),
    *("SequenceCrossEntropy", "scheduled sampling", "StatefulRNN"),
)


@pytest.fixture(scope="module")
def compared():
    command = [sys.executable, ROOT / "tests" / "replicas.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    rows = map(json.loads, done.stdout.splitlines())
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_train_and_report_as_one_device_with_the_whole_batch(compared, name):
    found = compared[name]
    assert found["moved"] > 0.01
    assert found["apart"] < 1e-5
    for one, two in zip(found["expected"], found["found"], strict=True):
        assert one.keys() == two.keys()
        np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-5)
