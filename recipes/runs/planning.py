"""`--dry_run`: what a run would take, found out by some of its steps; nothing is left on disk."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

DRY_RUN_HELP = (
    "read and check the data, build the model, train some steps for their time, print the plan, "
    "and leave nothing on disk"
)
BEGAN = time.monotonic()  # of the process, nearly: before data are read
STEPS = 40  # most steps that are timed
SECONDS = 20.0  # after so many no further one is timed
READ_BATCHES = 20  # most that are made without a step, for the time of making one
VALIDATION_BATCHES = 5  # of which the loss is timed
# Of an export: searches that are traced, each as long as that of the validation score; answers to a
# test set, a beam search of each, in times of those to the validation examples; and a last proof.
TRACED_SEARCHES, ANSWERED_SETS, PROOF_SECONDS = 3, 4, 20.0


def end_dry_run(
    model,
    stream,
    epoch_steps: int,
    valid_batches,
    score: Callable[[], float],
    config: Any,
    proof_seconds: float = PROOF_SECONDS,
) -> NoReturn:
    """Prints the plan of a training, with the times of some steps, and ends the program.

    Args:
        model: compiled, its weights made.
        stream: the batches as `fit` takes them.
        epoch_steps: of an epoch.
        valid_batches: those of validation, or None.
        score: the validation score.
        config: with `minutes` and `epochs`; with `ensemble`, of that many models.
        proof_seconds: what asking the SavedModel in a process of its own takes, and pictures.
    """
    reading = time.monotonic() - BEGAN
    print("\nDry run: some steps are trained, and forgotten", flush=True)
    first, step, batch = _step_seconds(model, stream)
    tracing, answering = (_timed(score) for _ in range(2))
    loss = 0.0 if valid_batches is None else _loss_seconds(model, valid_batches)
    models = getattr(config, "ensemble", 1)
    epoch = epoch_steps * step + loss + answering
    budget, needed = 60 * config.minutes, first + config.epochs * epoch
    training = models * min(budget, needed)
    tracing = max(tracing - answering, 0.0)
    rest = TRACED_SEARCHES * tracing + ANSWERED_SETS * answering + proof_seconds
    rest += models * 2 * (answering + loss)  # of the best weights and of the average
    of = "" if models == 1 else f" of each of {models} models"
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    print(
        f"\nThe plan{of}:\n"
        f"  parameters  {model.count_params():,}, of which {trained:,} are trained\n"
        f"  an epoch    {epoch_steps:,} steps of {1000 * step:,.0f} ms, and "
        f"{loss + answering:.1f} s of validation\n"
        f"  input       making a batch takes {1000 * batch:,.1f} ms, {batch / step:.0%} of a step, "
        "while the step before is computed\n"
        f"  training    {_training(config, first, epoch)}, unless --patience does before\n"
        f"  memory      {_peak_gigabytes():.1f} GB at most so far\n"
        f"  minutes     {_sum(reading=reading, training=training, export_and_scores=rest)}",
        flush=True,
    )
    sys.exit(0)


def _training(config: Any, first: float, epoch: float) -> str:
    """How long a training is and what ends it, by the seconds of the first step and of an epoch."""
    most = f"at most {config.epochs:,} epoch{'' if config.epochs == 1 else 's'}"
    budget = 60 * config.minutes
    if budget >= first + config.epochs * epoch:
        return f"{most}; --epochs ends it"
    last = min(config.epochs, 1 + int(max(budget - first, 0.0) // epoch))
    return f"{most}; --minutes {config.minutes:g} ends it in epoch {last:,}"


def _step_seconds(model, stream) -> tuple[float, float, float]:
    """Seconds of the first step, which is traced, the mean of those after it, and those that a
    batch takes to be made; the first batches are not counted, as they may be ready before.
    """
    model.make_train_function()
    batches = iter(stream)
    first = _timed(lambda: model.train_function(batches))
    seconds = []
    while len(seconds) < STEPS and sum(seconds) < SECONDS:
        seconds.append(_timed(lambda: model.train_function(batches)))
    made = []
    while len(made) < READ_BATCHES and sum(made) < SECONDS:
        made.append(_timed(lambda: next(batches)))
    return first, statistics.fmean(seconds), statistics.fmean(made[len(made) // 2 :])


def _timed(function: Callable) -> float:
    start = time.monotonic()
    function()
    return time.monotonic() - start


def _loss_seconds(model, batches) -> float:
    """Seconds of the loss of all validation batches, by some of them."""
    some = min(int(batches.cardinality()), VALIDATION_BATCHES)
    part = batches.take(some)
    _, seconds = (_timed(lambda: model.evaluate(part, verbose=0)) for _ in range(2))
    return seconds * int(batches.cardinality()) / some


def _peak_gigabytes() -> float:
    import resource  # which Windows lacks, as TensorFlow 2.21 lacks Windows

    unit = 1 if sys.platform == "darwin" else 2**10  # bytes of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _sum(**seconds: float) -> str:
    parts = [f"{name.replace('_', ' ')} {each / 60:.1f}" for name, each in seconds.items()]
    return f"{' + '.join(parts)} = {sum(seconds.values()) / 60:.1f}"
