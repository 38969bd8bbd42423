"""Training: `fit` within a budget, checkpoints to go on from, and the better weights at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kzoo
from recipes import cli
from recipes.runs.folder import (
    BEST,
    CHECKPOINTS,
    RISING,
    RUN_FOLDER,
    has_more_minutes,
    is_done,
    is_fitted,
    open_journal,
    position,
    what_is_left,
)
from recipes.runs.planning import end_dry_run
from recipes.runs.workers import replica, scored_after, workers_leave, workers_of

TOLERANCE = 0.05  # share of the best epoch's score that the average of the last may lack
AVERAGE_HELP = "last checkpoints to average; the best is taken in their place if clearly better"
TENSORBOARD_HELP = (
    "folder for TensorBoard: losses, scores and rate of each epoch, and answers to a fixed sample "
    "with their attention"
)
PROFILE_HELP = "with --tensorboard: where the time of ten batches goes"
EPOCH_BATCHES = 1000  # most batches between checkpoints and validations
_READ_AHEAD = 64  # more than the batches that a dataset reads before they are trained on
_LAST = 3  # epochs that are looked at for whether a score still rises
_MOST_LOSS = 1e4  # nats a token, where any guess among a million words has 14; CTC's may be 100s
_NAMED = 8  # most files or texts of a batch that a message names
_SHOWN = 60  # most characters of each of these texts


def fit(
    model,
    batches,
    valid_batches,
    score: Callable[[], float],
    run: Path,
    config: Any,
    monitor: str,
    callbacks: Sequence = (),
    change: Callable | None = None,
) -> None:
    """Trains within the budget and leaves the best weights in the model.

    `batches` know their number, of which an epoch has at most `EPOCH_BATCHES`, and begin at
    `position(run).batches`. `score` is the validation score, more is better; the logs call it
    `monitor`. `callbacks` are further ones. `change` makes other inputs of the number of a batch,
    through all epochs, and its inputs, and must be decided by these two.
    """
    if not is_fitted(run):
        train(model, batches, valid_batches, score, run, config, monitor, callbacks, change)
    workers_leave(config, run)

    def judge():
        return score(), model.evaluate(valid_batches, verbose=0, return_dict=True)["loss"]

    last = kzoo.training.LastWeights(run / "last", config.average)
    choose_weights(model, kzoo.training.BestWeights(run / BEST, monitor), last, judge)


def what_a_run_has_left(config: Any) -> Any:
    """The flags of a --dry_run, with --resume those of what the run before has left to do."""
    run = config.folder / RUN_FOLDER
    done = position(run) if getattr(config, "resume", False) else None
    if not done or not done.batches or (is_done(run) and not has_more_minutes(config, run)):
        return config
    print(f"The plan is of what is left behind {done}.")
    left = max(config.minutes - done.minutes, 0.1), max(config.epochs - done.epoch, 1)
    return dataclasses.replace(config, minutes=left[0], epochs=left[1])


def train(
    model,
    batches,
    valid_batches,
    score: Callable[[], float],
    run: Path,
    config: Any,
    monitor: str,
    callbacks: Sequence = (),
    change: Callable | None = None,
) -> None:
    """Trains within the budget and leaves the last weights in the model.

    The rest as in `fit`. What an interrupted run has done is restored, and all of it if it had
    come to its end.
    """
    import keras

    begin, journal = position(run), open_journal(run)
    epochs = journal.epochs if is_fitted(run) else config.epochs
    epoch_steps = min(int(batches.cardinality()), EPOCH_BATCHES)
    if journal.epochs and not begin.batches:
        print(f"There is no whole checkpoint in {run}: the training begins anew.")
    journal.rewind(begin.epoch, begin.minutes)
    last = kzoo.training.LastWeights(run / "last", config.average)
    last.rewind(begin.epoch)
    names = NamesOfBatches(getattr(model, "source_tokenizer", None))
    finite = kzoo.training.FiniteLoss()
    budget = kzoo.training.TimeBudget(config.minutes, spent=begin.minutes)
    stopping = keras.callbacks.EarlyStopping(
        monitor,
        mode="max",
        patience=config.patience,
        start_from_epoch=math.ceil(config.warmup_steps / epoch_steps),
    )

    def finish(logs):  # before the last checkpoint: whichever is there says that it is all done
        check_convergence(journal, run, finite, names.of(finite.step), epoch_steps)
        # A rate that falls to 0 with the budget would rise again.
        is_at_rest = any(isinstance(each, kzoo.training.BudgetDecay) for each in callbacks)
        if budget.is_over and not is_at_rest:
            say_if_rising(journal.history()[monitor], run, monitor, config.minutes)
        (run / "fitted").touch()

    stream = numbered(batches, begin.batches, names, change)
    if config.dry_run:
        end_dry_run(model, stream, epoch_steps, valid_batches, score, what_a_run_has_left(config))
    workers, trained, save_minutes = workers_of(config), model, config.save_minutes
    if workers is not None:
        trained, save_minutes = replica(model, batches, workers), math.inf
        score = scored_after(model, trained, score)
    is_chief = workers is None or workers.is_chief
    average, back = averaging(config)
    callbacks = [
        keras.callbacks.LambdaCallback(on_train_end=finish),
        kzoo.training.Checkpoints(
            run / CHECKPOINTS,
            epoch_steps,
            save_minutes,
            keep=[(stopping, ["wait", "best"]), (finite, ["skipped"])],
        ),
        *callbacks,
        budget,
        finite,
        *average,
        kzoo.training.ValidationScore(monitor, score),
        kzoo.training.BestWeights(run / BEST, monitor, journal.best(monitor)),
        last,
        *watching(config, valid_batches, run),  # what is scored
        *back,
        journal,
        stopping,
    ]
    with explained(run), contextlib.nullcontext() if workers is None else workers.together():
        trained.fit(
            stream,
            steps_per_epoch=epoch_steps,
            validation_data=valid_batches,
            epochs=epochs,
            shuffle=False,  # the dataset shuffles itself
            verbose="auto" if is_chief else 0,
            callbacks=[
                *(callbacks if is_chief else [*average, *back]),
                *([] if workers is None else [kzoo.training.OneDecision(workers)]),
            ],
        )
    if trained is not model:
        model.set_weights(trained.get_weights())


def averaging(config: Any) -> tuple[list, list]:
    """The callbacks that put the moving average of --ema in the place of the weights, and back."""
    if not getattr(config, "ema", 0.0):
        return [], []
    average = kzoo.training.MovingAverage()
    return [average], [average.back]


def watching(config: Any, valid_batches, run: Path = Path()) -> list:
    """The callbacks that write for TensorBoard, if `config` asks for them: each training of a run
    of several in a folder of its own."""
    if config.tensorboard is None:
        return []
    from recipes.runs.watching import Board, Profile

    inner = run.parts[run.parts.index(RUN_FOLDER) + 1 :] if RUN_FOLDER in run.parts else ()
    is_one = getattr(config, "ensemble", 0) == 1
    folder = Path(config.tensorboard, *([] if is_one else inner))
    board = Board(folder, valid_batches, config.max_length)
    return [board, Profile(folder)] if config.profile else [board]


@contextlib.contextmanager
def explained(run: Path) -> Iterator[None]:
    """Says of whatever ends a training inside, but for Ctrl-C, what is left and how to go on.

    Raises:
        RuntimeError: in place of an OSError, as of a full disk, or of an error of TensorFlow's,
            as of an example that cannot be read.
    """
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if isinstance(error, OSError):
            what = f"a file of the run could not be written or read: {error}"
        else:
            what = f"a batch could not be computed: {cli.cause(error.message)}"
        raise RuntimeError(f"{what}. {what_is_left(run)}") from error


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


def check_convergence(
    journal: kzoo.training.Journal,
    run: Path,
    finite: kzoo.training.FiniteLoss,
    names: list[str],
    epoch_steps: int,
) -> None:
    """Raises a RuntimeError if a loss is no number, or none that a model can have, or if too many
    steps in a row were left out, or as many as an epoch has; says how many were.

    `names` are those of the batch that ended it, as far as they are known.
    """
    history = journal.history()
    epoch, loss, valid_loss = len(history["loss"]), history["loss"][-1], history["val_loss"][-1]
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif finite.step is not None or finite.in_a_row >= epoch_steps:
        what = f"{finite.in_a_row:,} steps in a row had gradients that are no numbers"
    elif not valid_loss < _MOST_LOSS:
        what = f"the validation loss is {valid_loss:.3g}"
    else:
        if finite.skipped:
            print(f"{finite.skipped:,} steps were left out: their gradients were no numbers.")
        return
    more = ""
    if len(names) > _NAMED:
        print("The batch:", *names, sep="\n  ", flush=True)
        more = f" and {len(names) - _NAMED:,} more, listed above"
    batch = f"first in the batch of {', '.join(names[:_NAMED])}{more}; " if names else ""
    raise RuntimeError(
        f"training diverged in epoch {epoch}: {what}; {batch}"
        f"remove {run} and lower --learning_rate."
    )


def numbered(batches, first: int, names: NamesOfBatches, change: Callable | None):
    """The stream of batches without the names, which are kept, and with what `change` makes.

    Batches are read in passes, and counted from `first` on through all of them.
    """
    import tensorflow as tf

    def changed(number, inputs, labels):
        if not isinstance(inputs, dict):
            return inputs, labels
        source = inputs["source"]
        is_text = source.dtype == tf.int32 and source.shape.rank == 2
        if is_text or "name" in inputs:
            said = [inputs["name"]] if "name" in inputs else []
            said += [source] if is_text else []
            kept = tf.numpy_function(names.keep, [number - first, *said], tf.int64)
            with tf.control_dependencies([kept]):
                inputs = {k: tf.identity(v) for k, v in inputs.items() if k != "name"}
        return inputs if change is None else change(number, inputs), labels

    stream = batches.repeat().enumerate(first).map(lambda n, batch: changed(n, *batch))
    return stream if change is None else stream.prefetch(2)


class NamesOfBatches:
    """What the last batches of a `fit` are named, where their inputs hold a "name", and the texts
    that they hold the ids of.

    Args:
        tokenizer: of the ids; None if there are none.
    """

    def __init__(self, tokenizer=None):
        self._tokenizer = tokenizer
        self._kept = deque(maxlen=_READ_AHEAD)

    def keep(self, step, *said):
        """Keeps the names or ids, or both, of a batch, counted from 0; returns the step."""
        self._kept.append((step, said))
        return step

    def of(self, step: int | None) -> list[str]:
        """Those of a batch, counted from 0; none if it is None, not named or long past."""
        columns = [self._texts(each) for each in dict(self._kept).get(step, ())]
        return [" ".join(filter(None, row)) for row in zip(*columns, strict=True)]

    def _texts(self, said):
        if said.ndim == 1:
            return [name.decode(errors="replace") for name in said]
        texts = self._tokenizer.detokenize(said).numpy()
        return [repr(text.decode(errors="replace")[:_SHOWN]) for text in texts]


def choose_weights(
    model,
    best: kzoo.training.BestWeights,
    last: kzoo.training.LastWeights,
    judge: Callable[[], tuple[float, float]],
) -> None:
    """Leaves the average of the last epochs in the model, or the weights of the best epoch.

    `judge` gives a score and a validation loss. The highest of many scores is so in part by luck,
    which the loss, of every token, has less of: the average is taken for a better score, and for a
    better loss if its score is lower by at most `TOLERANCE`.
    """
    best.restore(model)
    if not last.paths():
        return
    score, loss = judge()
    weights = model.get_weights()
    model.set_weights(last.average())
    average, average_loss = judge()
    print(
        f"{best.monitor}: best epoch {score:.2f} (loss {loss:.4f}), "
        f"average of the last epochs {average:.2f} (loss {average_loss:.4f})"
    )
    is_finite = math.isfinite(average) and math.isfinite(average_loss)
    is_near = average >= score - TOLERANCE * abs(score) and average_loss < loss
    if not (is_finite and (average > score or is_near)):
        model.set_weights(weights)
