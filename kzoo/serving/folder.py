"""The models in a folder of `<name>/<version>/`."""

import os
from pathlib import Path

from kzoo.export.folder import saved_versions


def find_models(folder, versions="latest"):
    """The models in a folder of `<name>/<version>/`, or of one model's versions.

    Versions are those of `export.folder.saved_versions`. A folder whose name begins with a dot is
    no model: an export is written to one before it gets its name.

    Args:
        folder: str or path.
        versions: "latest", the highest of each model, or "all".

    Returns:
        list of (name, version, path), sorted.

    Raises:
        FileNotFoundError: `folder` does not exist.
    """
    folder = Path(folder).resolve()
    if not folder.exists():
        raise FileNotFoundError(f"`folder` must hold models, but {str(folder)!r} does not exist.")
    inner = [path for path in folder.glob("[!.]*") if os.access(path, os.R_OK | os.X_OK)]
    found = {path.name: of_one for path in [folder, *inner] if (of_one := saved_versions(path))}
    first = -1 if versions == "latest" else 0
    kept = [(name, of_one[first:]) for name, of_one in sorted(found.items())]
    return [(name, str(number), path) for name, of_one in kept for number, path in of_one]
