"""A run's folder in the output folder: what an interrupted run goes on from with --resume."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kzoo
from kzoo.export.folder import remove_unfinished, try_lock
from recipes import cli

RESUME_HELP = (
    "go on with the interrupted run in the output folder; with more --minutes also with one that "
    "they ended while its score still rose"
)
# From one run to its resumption, beside the flags of the export alone.
MAY_CHANGE = {
    *("epochs", "minutes", "patience", "weights", "output", "resume"),
    *("save_minutes", "tensorboard", "profile"),
    *("workers", "worker", "dry_run"),
}
RUN_FOLDER = ".kzoo-run"  # in the output folder, while a run is unfinished
FIRST = "first"  # folder in that, of the run of a model that another one begins with
MEMBERS = "members"  # folder in that, of the runs 1, 2, ... of the models of an ensemble
RISING = "rising.txt"  # file in it, where minutes ended a training whose score still rose
DONE = "done"  # file in it, where the model was exported, too, and more minutes may be worth it
CHECKPOINTS = "checkpoints"  # folder in it, of `kzoo.training.Checkpoints`
BEST = "best.npz"  # file in it, the weights of the best epoch
RUN_FILES = (  # all that a run may leave in it; "part" is of a process killed while it wrote
    *("config.json", "config.json.part", "data.sha256", "fitted", RISING, DONE),
    *("journal.jsonl", "journal.jsonl.part", BEST, f"part.{BEST}", "last", CHECKPOINTS),
    *(FIRST, MEMBERS),
    *("best.weights.h5", "part.best.weights.h5", "backup"),  # of a run before version 0.2
)
SAVE_MINUTES_HELP = (
    "time between two checkpoints within an epoch, which --resume goes on from; every epoch ends "
    "with one, too"
)
_locks: dict[Path, int] = {}  # of the output folders whose runs this process is in


@contextlib.contextmanager
def opened_run(
    config: Any, folder: Path, digest: str, open_run: Callable[[Any, Path, str], Path]
) -> Iterator[Path]:
    """The folder of a run, from `open_run` to `close_run`; Ctrl-C in between says how to go on."""
    run = open_run(config, folder, digest)
    try:
        yield run
    except KeyboardInterrupt:
        if run.name == RUN_FOLDER:  # and not of a --dry_run, or of a worker that leaves nothing
            begun = [part for part in _all_parts(run) if position(part).batches]
            print(f"\nInterrupted. {what_is_left(begun[-1] if begun else run)}", flush=True)
        raise
    close_run(run, config)


def what_is_left(run: Path) -> str:
    """Sentences about the last checkpoint of a training, and how to go on."""
    found = position(run)
    if not found.batches:
        return "No checkpoint yet."
    return (
        f"The last checkpoint in {run} is of {found}: the same command with --resume goes on from "
        "there."
    )


def open_run(config: Any, folder: Path, digest: str) -> Path:
    """Makes the folder of the run's checkpoints in `folder`, or finds it again with --resume.

    A run that is done and was kept, or was ended while it exported, goes on with --resume and more
    --minutes; one that is done makes way else.
    `digest` is the `fingerprint` of the data, which must not change between the two. With
    --dry_run what would be refused is refused, but the folder is one that goes with the process,
    and nothing else is touched.
    """
    run = folder / RUN_FOLDER
    if config.dry_run:
        _check_folder(folder)
    else:
        _lock(folder)
    if config.resume:
        _check_recipe(config, run)
    was_done, is_longer = is_done(run), config.resume and has_more_minutes(config, run)
    is_over = was_done and not is_longer
    if is_over or not _is_begun(run):
        _check_removable(run)
        return _passing_folder() if config.dry_run else _new_run(config, run, digest)
    _check_goes_on(config, run, digest)
    if config.dry_run:
        return _passing_folder()
    if is_longer:
        cli.save(config, run / "config.json")
        for part in _parts(run):
            if was_done or (part / RISING).exists():
                for name in ("fitted", RISING):
                    (part / name).unlink(missing_ok=True)
        (run / DONE).unlink(missing_ok=True)
    return run


def _passing_folder() -> Path:
    """A new folder that goes with the process."""
    forgotten = tempfile.mkdtemp(prefix="kzoo-dry-run-")
    atexit.register(shutil.rmtree, forgotten, ignore_errors=True)
    return Path(forgotten)


def _is_begun(run: Path) -> bool:
    """Whether a run has got as far as a first checkpoint."""
    begun = ("journal.jsonl", f"{CHECKPOINTS}/checkpoint-*.npz")
    return any(any(part.glob(name)) for part in _all_parts(run) for name in begun)


def _new_run(config: Any, run: Path, digest: str) -> Path:
    """The folder, made anew."""
    if config.resume:
        had = " (its run has had all its minutes)" if is_done(run) else ""
        print(f"Nothing to resume in {run.parent}{had}: starting.")
    remove_run(run)
    run.mkdir(parents=True)
    (run / "data.sha256").write_text(digest, encoding="utf-8")
    cli.save(config, run / "config.json")
    return run


def _check_goes_on(config: Any, run: Path, digest: str) -> None:
    """Raises a ValueError unless an interrupted run is to be, and can be, gone on with."""
    if not config.resume:
        raise ValueError(
            f"`output` {run.parent} holds an interrupted run: go on with it by --resume, "
            f"or remove {run}."
        )
    before = dataclasses.asdict(cli.load(type(config), run / "config.json"))
    changed = {
        name: (before[name], value)
        for name, value in dataclasses.asdict(config).items()
        if name not in MAY_CHANGE | cli.of_export(config) and before[name] != value
    }
    if changed:
        raise ValueError(f"`resume` needs the flags of the run before; changed: {changed}.")
    if (run / "data.sha256").read_text(encoding="utf-8", errors="replace") != digest:
        raise ValueError("`resume` needs the data of the run before, but they have changed.")


def _check_recipe(config: Any, run: Path) -> None:
    """Raises a ValueError if a run is one of another recipe."""
    recipe, own = cli.recipe_in(run / "config.json"), cli.recipe_of(type(config))
    if recipe not in (None, own):
        raise ValueError(
            f"`resume` needs a run of {own}, but {run.parent} holds a run of {recipe}: choose "
            f"another --output, or remove {run}."
        )


def has_more_minutes(config: Any, run: Path) -> bool:
    """Whether a run is to have more minutes than it had.

    Raises:
        ValueError: it is done, and is to have less.
    """
    if not (run / "config.json").exists():
        return False
    before = cli.load(type(config), run / "config.json").minutes
    if config.minutes < before and is_done(run):
        raise ValueError(
            f"`minutes` must be above {before:g} with resume, which the run in {run.parent} has "
            f"had in all, got minutes={config.minutes:g}; a run without --resume begins anew."
        )
    return config.minutes > before


def check_places(config: Any) -> None:
    """Raises a ValueError if a folder that a run is to write to cannot be made or written to.

    Nothing is made: recipes ask before they read data.
    """
    check_writable("output", config.folder)
    if config.tensorboard is not None and "://" not in config.tensorboard:
        check_writable("tensorboard", Path(config.tensorboard))


def check_writable(flag: str, folder: Path) -> None:
    """Raises a ValueError unless a folder is there or can be made, and can be written to."""
    whole = [folder, *folder.absolute().parents]
    nearest = next(each for each in whole if os.path.lexists(each))
    if not nearest.is_dir():  # a file, or a link that leads nowhere
        raise _unwritable(flag, folder, os.strerror(errno.ENOTDIR))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(flag, folder, os.strerror(errno.EACCES))


def _unwritable(flag: str, folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"`{flag}` must be a folder that can be made and written to, got {folder}: {reason}."
    )


def _check_folder(folder: Path) -> None:
    """Raises a ValueError where `_lock` would, and neither makes nor locks anything."""
    check_writable("output", folder)
    if folder.exists() and folder.resolve() not in _locks:
        os.close(_taken_lock(folder))


def _taken_lock(folder: Path) -> int:
    """The lock of an output folder; raises a ValueError if another process has it."""
    lock = try_lock(folder)
    if lock is None:
        raise ValueError(
            f"`output` {folder} is in use by another run; wait for its end, or choose another "
            "--output. Nothing was changed."
        )
    return lock


def _lock(folder: Path) -> None:
    """Keeps other processes' runs out of an output folder until `close_run` or the process's end.

    Raises:
        ValueError: another process is in a run there, or the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise _unwritable("output", folder, error.strerror) from error
    if folder.resolve() in _locks:
        return
    _locks[folder.resolve()] = _taken_lock(folder)
    remove_unfinished(folder)


def _parts(run: Path) -> list[Path]:
    """The folders of all trainings of a run: its own, or those of the models of an ensemble."""
    members = run.glob(f"{MEMBERS}/*")
    return [run, *sorted(members, key=lambda path: (len(path.name), path.name))]  # 9 before 10


def _all_parts(run: Path) -> list[Path]:
    """The same, after that of the model that another one begins with."""
    return [run / FIRST, *_parts(run)]


def close_run(run: Path, config: Any) -> None:
    """Removes the folder of a run whose model is exported, but where minutes ended a training whose
    score still rose: then it says how to go on."""
    if any((part / RISING).exists() for part in _parts(run)):
        for part in _parts(run):
            if (part / RISING).exists():
                print((part / RISING).read_text(encoding="utf-8"), end="")
        cli.save(config, run / "config.json")  # with its minutes, which --resume may have changed
        (run / DONE).touch()
        print(
            f"The same command with --resume --minutes {2 * config.minutes:g} goes on from there "
            f"and writes the next version. {run} is kept for it until then, or until another run "
            "begins."
        )
    else:
        remove_run(run)
    if (lock := _locks.pop(run.parent.resolve(), None)) is not None:
        os.close(lock)


def fingerprint(*parts: Sequence[str]) -> str:
    """A hash of lists of texts."""
    digest = hashlib.sha256()
    for texts in parts:
        digest.update(f"{len(texts)}\n".encode())
        for text in texts:
            # One after the other: no second copy of all. The name of a file may be any bytes.
            digest.update(f"{text}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()


def remove_run(run: Path) -> None:
    """Removes the folder of a run, unless it holds what no run has written."""
    _check_removable(run)
    if run.exists():
        shutil.rmtree(run)


def _check_removable(run: Path) -> None:
    """Raises a ValueError if the folder of a run holds what no run has written."""
    foreign = sorted(path.name for path in run.glob("*") if path.name not in RUN_FILES)
    if foreign or (run.exists() and not run.is_dir()):
        raise ValueError(
            f"{run} must be a folder with nothing but the files of a run, as it is removed "
            f"after it; got {', '.join(foreign) or 'a file'}."
        )


def open_journal(run: Path) -> kzoo.training.Journal:
    """The journal of a run, with what its interrupted parts have written."""
    return kzoo.training.Journal(run / "journal.jsonl")


def position(run: Path) -> kzoo.training.checkpoints.Position:
    """How far the training of a run has come, in its newest whole checkpoint."""
    return kzoo.training.checkpoints.position(run / CHECKPOINTS)


def is_done(run: Path) -> bool:
    """Whether a run that is kept has exported its model."""
    return (run / DONE).exists()


def is_fitted(run: Path) -> bool:
    """Whether a run, interrupted since, has done all its training. One before version 0.2 has left
    no weights that can be gone on with."""
    return (run / "fitted").exists() and (run / BEST).exists()
