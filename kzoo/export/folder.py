"""Folders of versions, folders that are written whole or not at all, and the cache."""

import contextlib
import os
import re
import shutil
import uuid
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HIDDEN = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # names of folders that are being written


@contextlib.contextmanager
def written_at_once(path):
    """Yields a path in a hidden folder beside `path`, and renames what is written there to `path`
    unless an exception came. Hidden folders of processes that were killed are removed.

    Args:
        path: pathlib.Path.

    Raises:
        FileExistsError: `path` exists.
    """
    if path.exists():
        raise FileExistsError(f"`path` must not exist yet, got {str(path)!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    hidden, lock = _locked_folder(path)
    try:
        yield hidden / path.name
        (hidden / path.name).rename(path)
    finally:  # Ctrl-C too
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(lock)


def _locked_folder(path):
    """A new hidden folder beside `path`, and its lock, which says that it is being written."""
    while True:
        hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        hidden.mkdir()
        lock = try_lock(hidden)
        if lock is not None and hidden.exists():
            return hidden, lock
        if lock is not None:  # another process has taken it for a forgotten one
            os.close(lock)


def remove_unfinished(folder):
    """Removes what processes that were killed have left of `written_at_once` in a folder."""
    for hidden in Path(folder).glob(".*.tmp"):
        if HIDDEN.fullmatch(hidden.name) and hidden.is_dir():
            lock = try_lock(hidden, else_given=False)
            if lock is not None:
                shutil.rmtree(hidden, ignore_errors=True)
                os.close(lock)


def try_lock(folder, else_given=True):
    """Locks a folder for this process, until that ends in any way or closes the file number.

    Nothing is written for it.

    Args:
        folder: str or path.
        else_given: bool, whether one is given where a system, or one of a network, has no locks.

    Returns:
        int, a file number, or None if somebody has the lock.
    """
    if fcntl is None:  # Windows, which opens no folders either
        return os.open(os.devnull, os.O_RDONLY) if else_given else None
    try:
        number = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # another process has just removed it
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if else_given and not isinstance(error, BlockingIOError):
            return number
        os.close(number)
        return None
    return number


def of_saved_model(path):
    """The folder of a SavedModel.

    Args:
        path: str or path of a SavedModel, or of a folder of versions: of those of `saved_versions`
            the highest is taken.

    Returns:
        pathlib.Path.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: `path` is not a SavedModel.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` must be a SavedModel, but {str(path)!r} does not exist.")
    if not _holds_saved_model(path) and (found := saved_versions(path)):
        _, path = found[-1]
    if not _holds_saved_model(path):
        raise ValueError(
            "`path` must be the folder of a SavedModel or of its versions 1, 2, ..., "
            f"but {str(path)!r} holds no saved_model.pb."
        )
    return path


def saved_versions(folder):
    """The versions in a folder that can be served: folders 1, 2, ... that hold a saved_model.pb.

    A folder without one is not written yet, as servers copy them file by file, and a file is no
    version; both are passed over. A version that has one and is broken all the same is not: the
    answers of an older model would go unnoticed.

    Args:
        folder: str or path.

    Returns:
        list of (number, pathlib.Path), the highest number last.
    """
    folder = Path(folder)
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [(int(entry.name), entry) for entry in entries if _is_version(entry.name)]
    return sorted((number, path) for number, path in found if _holds_saved_model(path))


def _is_version(name):
    return name.isascii() and name.isdigit()


def _holds_saved_model(path):
    return any((path / f"saved_model.{kind}").is_file() for kind in ("pb", "pbtxt"))


def next_version(folder):
    """The first free `<folder>/<version>`: servers load the highest version of `<name>/<version>/`.

    Args:
        folder: str or path; need not exist.

    Returns:
        pathlib.Path `<folder>/1`, or one above the highest number there is.
    """
    return Path(folder) / str(max(versions(folder), default=0) + 1)


def versions(folder):
    """The numbers among the names in a folder, whatever they are of."""
    folder = Path(folder)
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return [int(name) for name in names if _is_version(name)]


def cache_path():
    """$KZOO_CACHE, else $XDG_CACHE_HOME/kzoo, else ~/.cache/kzoo; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("KZOO_CACHE") or Path(base, "kzoo")).absolute()


def cache_dir():
    """`cache_path()`, made if it is missing."""
    path = cache_path()
    path.mkdir(parents=True, exist_ok=True)
    return path
