"""Training runs: a folder to go on from, `fit` within a budget, the better weights, a last proof.

    run = open_run(config, folder, fingerprint(texts))     # or found again with --resume
    fit(model, batches, valid_batches, score, run, config, monitor="val_bleu")
    remove_run(run)

A recipe's config has the fields `epochs`, `minutes`, `patience`, `average`, `warmup_steps`,
`output` and `resume`.
"""

import dataclasses
import hashlib
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kzoo import training
from recipes import cli

MAY_CHANGE = {"epochs", "minutes", "patience", "output", "resume"}  # from one run to its resumption
TOLERANCE = 0.05  # share of the best epoch's score that the average of the last may lack
AVERAGE_HELP = "last checkpoints to average; the best is taken in their place if clearly better"
EPOCH_BATCHES = 1000  # most batches between checkpoints and validations
RUN_FOLDER = ".kzoo-run"  # in the output folder, while a run is unfinished
FIRST = "first"  # folder in that, of the run of a model that another one begins with
RUN_FILES = (  # all that a run may leave in it; "part" is of a process killed while it wrote
    *("config.json", "config.json.part", "data.sha256", "journal.jsonl", "fitted"),
    *("best.weights.h5", "part.best.weights.h5", "last", "backup", FIRST),
)


def open_run(config: Any, folder: Path, digest: str) -> Path:
    """Makes the folder of the run's checkpoints in `folder`, or finds it again with --resume.

    `digest` is the `fingerprint` of the data, which must not change between the two.
    """
    run = folder / RUN_FOLDER
    journals = run / "journal.jsonl", run / FIRST / "journal.jsonl"
    if not any(path.exists() for path in journals):  # no epoch is done
        if config.resume:
            print(f"Nothing to resume in {folder}: starting.")
        remove_run(run)
        run.mkdir(parents=True)
        (run / "data.sha256").write_text(digest, encoding="utf-8")
        cli.save(config, run / "config.json")
        return run
    if not config.resume:
        raise ValueError(
            f"`output` {folder} holds an interrupted run: go on with it by --resume, "
            f"or remove {run}."
        )
    before = dataclasses.asdict(cli.load(type(config), run / "config.json"))
    changed = {
        name: (before[name], value)
        for name, value in dataclasses.asdict(config).items()
        if name not in MAY_CHANGE and before[name] != value
    }
    if changed:
        raise ValueError(f"`resume` needs the flags of the run before; changed: {changed}.")
    if (run / "data.sha256").read_text(encoding="utf-8") != digest:
        raise ValueError("`resume` needs the data of the run before, but they have changed.")
    return run


def fingerprint(*parts: Sequence[str]) -> str:
    """A hash of lists of texts."""
    digest = hashlib.sha256()
    for texts in parts:
        digest.update(f"{len(texts)}\n".encode())
        for text in texts:
            digest.update(f"{text}\n".encode())  # one after the other: no second copy of all
    return digest.hexdigest()


def remove_run(run: Path) -> None:
    """Removes the folder of a run, unless it holds what no run has written."""
    foreign = sorted(path.name for path in run.glob("*") if path.name not in RUN_FILES)
    if foreign or (run.exists() and not run.is_dir()):
        raise ValueError(
            f"{run} must be a folder with nothing but the files of a run, as it is removed "
            f"after it; got {', '.join(foreign) or 'a file'}."
        )
    if run.exists():
        shutil.rmtree(run)


def open_journal(run: Path) -> training.Journal:
    """The journal of a run, with what its interrupted parts have written."""
    return training.Journal(run / "journal.jsonl")


def fit(
    model,
    batches,
    valid_batches,
    score: Callable[[], float],
    run: Path,
    config: Any,
    monitor: str,
) -> None:
    """Trains within the budget and leaves the best weights in the model.

    `batches` know their number, of which an epoch has at most `EPOCH_BATCHES`. `score` is the
    validation score, more is better; the logs call it `monitor`.
    """
    if not is_fitted(run):
        train(model, batches, valid_batches, score, run, config, monitor)

    def judge():
        return score(), model.evaluate(valid_batches, verbose=0, return_dict=True)["loss"]

    last = training.LastWeights(run / "last", config.average)
    choose_weights(model, run / "best.weights.h5", last, judge, monitor)


def is_fitted(run: Path) -> bool:
    """Whether a run, interrupted since, has done all its training."""
    return (run / "fitted").exists()


def train(
    model,
    batches,
    valid_batches,
    score: Callable[[], float],
    run: Path,
    config: Any,
    monitor: str,
) -> None:
    """Trains within the budget and leaves the last weights in the model.

    The rest as in `fit`. What an interrupted run has done is restored, and all of it if it had
    come to its end.
    """
    journal = open_journal(run)
    epochs = journal.epochs if is_fitted(run) else config.epochs
    epoch_steps = min(int(batches.cardinality()), EPOCH_BATCHES)
    try:
        model.fit(
            batches.repeat(),
            steps_per_epoch=epoch_steps,
            validation_data=valid_batches,
            epochs=epochs,
            shuffle=False,  # the dataset shuffles itself
            callbacks=[
                training.TimeBudget(config.minutes, spent=journal.minutes),
                keras.callbacks.TerminateOnNaN(),
                training.ValidationScore(monitor, score),
                training.BestWeights(run / "best.weights.h5", monitor, journal.best(monitor)),
                training.LastWeights(run / "last", config.average),
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
    check_convergence(journal, run)
    (run / "fitted").touch()


def check_convergence(journal: training.Journal, run: Path) -> None:
    """Raises a RuntimeError if the last epoch's loss is no number."""
    losses = journal.history()["loss"]
    if not math.isfinite(losses[-1]):
        raise RuntimeError(
            f"training diverged in epoch {len(losses)}: the loss is {losses[-1]}; "
            f"remove {run} and lower --learning_rate."
        )


def choose_weights(
    model,
    best_path: Path,
    last: training.LastWeights,
    judge: Callable[[], tuple[float, float]],
    name: str,
) -> None:
    """Leaves the average of the last epochs in the model, or the weights of the best epoch.

    `judge` gives a score and a validation loss. The highest of many scores is so in part by luck,
    which the loss, of every token, has less of: the average is taken for a better score, and for a
    better loss if its score is lower by at most `TOLERANCE`.
    """
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


FRESH_PROCESS = """
import sys, tensorflow as tf, tensorflow_text
path, name, *items = sys.argv[1:]
contents = items if name == "text" else [open(item, "rb").read() for item in items]
model = tf.saved_model.load(path)
answer = model.signatures["serving_default"](**{name: tf.constant(contents)})
for item, text, score in zip(items, answer["text"].numpy(), answer["score"].numpy()):
    print(f"{item}\\n    -> {text.decode()}   (score {score:.2f})")
"""


def show_answers(path: Path, items: list[str], input_name: str = "text") -> None:
    """Asks the SavedModel in a new process that knows TensorFlow and nothing of kzoo.

    `items` are texts or, for another input than "text", absolute paths of files.
    """
    print("\nA fresh process that imports only tensorflow and tensorflow_text answers:", flush=True)
    command = [sys.executable, "-c", FRESH_PROCESS, str(path.resolve()), input_name, *items]
    # From the model's folder, so that not even this checkout can be imported.
    done = subprocess.run(command, cwd=path, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{path} cannot be loaded in a fresh process:\n{done.stderr}")
    print(done.stdout)
