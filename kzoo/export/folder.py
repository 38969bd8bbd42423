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
