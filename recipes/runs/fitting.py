"""Training: `fit` within a budget, checkpoints to go on from, and the better weights at the end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import kzoo
from recipes.data import files
from recipes.runs.folder import RISING, is_fitted, open_journal

TOLERANCE = 0.05  # share of the best epoch's score that the average of the last may lack
AVERAGE_HELP = "last checkpoints to average; the best is taken in their place if clearly better"
EPOCH_BATCHES = 1000  # most batches between checkpoints and validations
_READ_AHEAD = 64  # more than the batches that a dataset reads before they are trained on
_LAST = 3  # epochs that are looked at for whether a score still rises
_NAMED = 8  # most files of a batch that a message names


def fit(
    model,
    batches,
    valid_batches,
    score: Callable[[], float],
    run: Path,
    config: Any,
    monitor: str,
    callbacks: Sequence = (),
) -> None:
    """Trains within the budget and leaves the best weights in the model.

    `batches` know their number, of which an epoch has at most `EPOCH_BATCHES`. `score` is the
    validation score, more is better; the logs call it `monitor`. `callbacks` are further ones.
    """
    if not is_fitted(run):
        train(model, batches, valid_batches, score, run, config, monitor, callbacks)

    def judge():
        return score(), model.evaluate(valid_batches, verbose=0, return_dict=True)["loss"]

    last = kzoo.training.LastWeights(run / "last", config.average)
    choose_weights(model, run / "best.weights.h5", last, judge, monitor)


def train(
    model,
    batches,
    valid_batches,
    score: Callable[[], float],
    run: Path,
    config: Any,
    monitor: str,
    callbacks: Sequence = (),
) -> None:
    """Trains within the budget and leaves the last weights in the model.

    The rest as in `fit`. What an interrupted run has done is restored, and all of it if it had
    come to its end.
    """
    import keras

    journal = open_journal(run)
    epochs = journal.epochs if is_fitted(run) else config.epochs
    epoch_steps = min(int(batches.cardinality()), EPOCH_BATCHES)
    names, finite = NamesOfBatches(), kzoo.training.FiniteLoss()
    budget = kzoo.training.TimeBudget(config.minutes, spent=journal.minutes)
    try:
        model.fit(
            names.taken_from(batches.repeat()),
            steps_per_epoch=epoch_steps,
            validation_data=valid_batches,
            epochs=epochs,
            shuffle=False,  # the dataset shuffles itself
            callbacks=[
                *callbacks,
                budget,
                finite,
                kzoo.training.ValidationScore(monitor, score),
                kzoo.training.BestWeights(run / "best.weights.h5", monitor, journal.best(monitor)),
                kzoo.training.LastWeights(run / "last", config.average),
                journal,
                keras.callbacks.EarlyStopping(
                    monitor,
                    mode="max",
                    patience=config.patience,
                    baseline=journal.best(monitor),
                    start_from_epoch=math.ceil(config.warmup_steps / epoch_steps),
                ),
                keras.callbacks.BackupAndRestore(
                    run / "backup", delete_checkpoint=False, double_checkpoint=True
                ),
            ],
        )
    except KeyboardInterrupt:
        print("\nInterrupted. The same command with --resume goes on from the last epoch.")
        raise
    check_convergence(journal, run, names.of(finite.step))
    # A rate that falls to 0 with the budget would rise again.
    is_at_rest = any(isinstance(each, kzoo.training.BudgetDecay) for each in callbacks)
    if budget.is_over and not is_at_rest:
        say_if_rising(journal.history()[monitor], run, monitor, config.minutes)
    (run / "fitted").touch()


def say_if_rising(scores: list[float], run: Path, monitor: str, minutes: float) -> None:
    """Prints that more minutes may be worth it, if the best epoch is one of the last three and they
    rise on the whole, and notes it in the run's folder for `folder.close_run`.

    Args:
        scores: of each epoch, more is better.
    """
    before, last = scores[:-_LAST] or scores[:1], scores[-_LAST:]
    count = min(_LAST, len(scores) - 1)
    if max(last) <= max(before) or scores[-1] <= scores[-1 - count]:
        return
    figures = ", ".join(f"{score:.2f}" for score in last)
    rise = (scores[-1] - scores[-1 - count]) / count
    said = (
        f"The {minutes:g} minutes were over after {len(scores)} epochs, while {monitor} still "
        f"rose: {figures} in the last ones, {rise:+.2f} an epoch."
    )
    print(said, flush=True)
    (run / RISING).write_text(f"{said}\n", encoding="utf-8")


def check_convergence(journal: kzoo.training.Journal, run: Path, names: list[str]) -> None:
    """Raises a RuntimeError if the last epoch's loss is no number.

    `names` are those of the batch where it was none first, as far as they are known.
    """
    losses = journal.history()["loss"]
    if not math.isfinite(losses[-1]):
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        batch = f"first in the batch of {', '.join(names[:_NAMED])}{more}; " if names else ""
        raise RuntimeError(
            f"training diverged in epoch {len(losses)}: the loss is {losses[-1]}; {batch}"
            f"remove {run} and lower --learning_rate."
        )


class NamesOfBatches:
    """What the last batches of a `fit` are named, where their inputs hold a "name"."""

    def __init__(self):
        self._kept = deque(maxlen=_READ_AHEAD)

    def taken_from(self, batches):
        """The dataset without the names, which are kept as it is read."""
        import tensorflow as tf

        inputs, _ = batches.element_spec
        if not isinstance(inputs, dict) or "name" not in inputs:
            return batches

        def keep(step, names):
            self._kept.append((step, names))
            return step

        def without(step, batch):
            inputs, labels = batch
            kept = tf.numpy_function(keep, [step, inputs["name"]], tf.int64)
            with tf.control_dependencies([kept]):
                return {k: tf.identity(v) for k, v in inputs.items() if k != "name"}, labels

        return batches.enumerate().map(without)

    def of(self, step: int | None) -> list[str]:
        """Those of a batch, counted from 0; none if it is None, not named or long past."""
        names = dict(self._kept).get(step, ())
        return [name.decode(errors="replace") for name in names]


def choose_weights(
    model,
    best_path: Path,
    last: kzoo.training.LastWeights,
    judge: Callable[[], tuple[float, float]],
    name: str,
) -> None:
    """Leaves the average of the last epochs in the model, or the weights of the best epoch.

    `judge` gives a score and a validation loss. The highest of many scores is so in part by luck,
    which the loss, of every token, has less of: the average is taken for a better score, and for a
    better loss if its score is lower by at most `TOLERANCE`.
    """
    with files.parsing(best_path, "weights of this model"):
        model.load_weights(best_path)
    if not last.paths():
        return
    best, best_loss = judge()
    weights = model.get_weights()
    model.set_weights(last.average())
    average, average_loss = judge()
    print(
        f"{name}: best epoch {best:.2f} (loss {best_loss:.4f}), "
        f"average of the last epochs {average:.2f} (loss {average_loss:.4f})"
    )
    is_finite = math.isfinite(average) and math.isfinite(average_loss)
    is_near = average >= best - TOLERANCE * abs(best) and average_loss < best_loss
    if not (is_finite and (average > best or is_near)):
        model.set_weights(weights)
