"""Training on several machines: `--workers` and `--worker`, or TF_CONFIG.

    workers_of(config)                          # joins the others, before TensorFlow computes
    run = open_run(config, folder, digest)      # the chief's; the others' goes with them
    twin = replica(model, batches, workers)     # what is trained, under the strategy
    workers_leave(config, run)                  # the others end when the chief does

Each process runs the same recipe on the same data. What a run leaves is the chief's: it alone
scores, saves, exports. Its model is an ordinary one; its twin under the strategy is trained.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import kzoo
from recipes.runs import folder as folders
from recipes.runs.building import train_alike

WORKERS_HELP = (
    "train on several machines: host:port of each, the chief first, separated by commas; none: the "
    "workers of TF_CONFIG, or this process alone"
)
WORKER_HELP = "which of --workers this process is, counted from 0, the chief"
_FILES = ("journal.jsonl", "fitted")  # that all workers look at


def check_workers(config: Any) -> None:
    """Raises a ValueError if the flags do not say who the workers are, or meet one that is for one
    process."""
    addresses = addresses_of(config)
    if addresses and config.dry_run:
        raise ValueError(f"`dry_run` is for one worker, got {len(addresses)} workers.")


def addresses_of(config: Any) -> list[str]:
    """host:port of each worker, none for one process; TensorFlow is not imported to look where
    there can be none.

    Raises:
        ValueError: the flags do not say who the workers are.
    """
    if not _may_have_workers(config):
        return []
    return kzoo.training.distribution.addresses_of(config.workers, config.worker)[0]


@functools.cache
def _joined(workers: str | None, index: int | None):
    return kzoo.training.distribution.join(workers, index)


def _may_have_workers(config: Any) -> bool:
    """Whether it is worth importing TensorFlow, which takes seconds, to look."""
    return not (config.workers is None and config.worker is None and "TF_CONFIG" not in os.environ)


def workers_of(config: Any):
    """The workers of a run, joined by the first call; None for one process, and for recipes that
    have no such flags."""
    if not (hasattr(config, "workers") and _may_have_workers(config)):
        return None
    return _joined(config.workers, config.worker)


def opened_run(config: Any, folder: Path, digest: str) -> contextlib.AbstractContextManager[Path]:
    """`folder.opened_run` with the `open_run` of this module."""
    return folders.opened_run(config, folder, digest, open_run)


def check_places(config: Any) -> None:
    """`folder.check_places` of the chief, which alone writes."""
    workers = workers_of(config)
    if workers is None or workers.is_chief:
        folders.check_places(config)


def open_run(config: Any, folder: Path, digest: str) -> Path:
    """`folder.open_run` of the chief; of the others a folder that goes with the process, and says
    how far the chief's run has come.

    Raises:
        ValueError: as that; or a worker has read other data than the chief.
    """
    workers = workers_of(config)
    if workers is None:
        return folders.open_run(config, folder, digest)
    state = b""
    if workers.is_chief:
        run = folders.open_run(config, folder, digest)
        files = {name: (run / name).read_text() for name in _FILES if (run / name).exists()}
        state = {"digest": digest, "files": files, "position": folders.position(run)}
        state["is_fitted"] = folders.is_fitted(run)
        state = json.dumps(state).encode()
    state = json.loads(workers.bytes_from_chief(state))
    if workers.is_chief:
        return run
    if state["digest"] != digest:
        raise ValueError(
            f"`worker` {workers.index} must read the data that the chief reads, and they differ."
        )
    run = Path(tempfile.mkdtemp(prefix="kzoo-worker-"))
    atexit.register(shutil.rmtree, run, ignore_errors=True)
    for name, content in state["files"].items():
        (run / name).write_text(content)
    if state["is_fitted"]:
        (run / folders.BEST).touch()  # it ends here, and never reads them
    position = kzoo.training.checkpoints.Position(*state["position"])
    kzoo.training.checkpoints.write_position(run / folders.CHECKPOINTS, position)
    return run


def replica(model: Any, batches: Any, workers: Any) -> Any:
    """A model with the architecture, weights and optimizer of another, under the strategy."""
    shapes = {name: tuple(spec.shape) for name, spec in batches.element_spec[0].items()}
    shapes.pop("name", None)
    optimizer = model.optimizer
    with workers.together(), workers.strategy.scope():
        twin = type(model).from_config(model.get_config())
        twin.compile(type(optimizer).from_config(optimizer.get_config()))
        twin.build(shapes)
        train_alike(twin, model)
        twin.optimizer.build(twin.trainable_variables)
    mine = [np.array(weight) for weight in model.get_weights()]
    if [w.shape for w in mine] != [tuple(w.shape) for w in twin.weights]:
        raise ValueError("`workers` needs a model whose config makes all of its weights.")
    twin.set_weights(mine)
    return twin


def scored_after(model: Any, twin: Any, score: Callable[[], float]) -> Callable[[], float]:
    """The score of a model, which first takes the weights of its twin."""

    def scored():
        model.set_weights(twin.get_weights())
        return score()

    return scored


def workers_leave(config: Any, run: Path) -> None:
    """After training: all workers but the chief end here, when the chief has ended."""
    workers = workers_of(config)
    if workers is None:
        return
    if not workers.is_chief:
        shutil.rmtree(run, ignore_errors=True)
    workers.leave()
