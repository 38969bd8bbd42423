"""Folders of versions, and folders that are written whole or not at all."""

import contextlib
import shutil
import uuid
from pathlib import Path


@contextlib.contextmanager
def written_at_once(path):
    """Yields a hidden folder beside `path`, and renames it to `path` unless an exception came.

    Args:
        path: pathlib.Path.

    Raises:
        FileExistsError: `path` exists.
    """
    if path.exists():
        raise FileExistsError(f"`path` must not exist yet, got {str(path)!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield folder
        folder.rename(path)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(folder, ignore_errors=True)
        raise


def of_saved_model(path):
    """The folder of a SavedModel.

    Args:
        path: str or path of a SavedModel, or of a folder of versions: the highest is taken.

    Returns:
        pathlib.Path.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: `path` is not a SavedModel.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` must be a SavedModel, but {str(path)!r} does not exist.")
    if not _holds_saved_model(path) and versions(path):
        path = path / str(max(versions(path)))
    if not _holds_saved_model(path):
        raise ValueError(
            "`path` must be the folder of a SavedModel or of its versions 1, 2, ..., "
            f"but {str(path)!r} holds no saved_model.pb."
        )
    return path


def _holds_saved_model(path):
    return any((path / f"saved_model.{kind}").exists() for kind in ("pb", "pbtxt"))


def next_version(folder):
    """The first free `<folder>/<version>`: servers load the highest version of `<name>/<version>/`.

    Args:
        folder: str or path; need not exist.

    Returns:
        pathlib.Path `<folder>/1`, or one above the highest number there is.
    """
    return Path(folder) / str(max(versions(folder), default=0) + 1)


def versions(folder):
    """The numbers among the names in a folder."""
    folder = Path(folder)
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return [int(name) for name in names if name.isascii() and name.isdigit()]
