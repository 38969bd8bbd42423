"""The models in a folder of `<name>/<version>/`."""

from pathlib import Path


def find_models(folder, versions="latest"):
    """The models in a folder of `<name>/<version>/`, or of one model's versions.

    Args:
        folder: str or path.
        versions: "latest", the highest of each model, or "all".

    Returns:
        list of (name, version, path), sorted.

    Raises:
        FileNotFoundError: `folder` does not exist.
    """
    folder = Path(folder).resolve()
    found = {}
    for file in [*folder.glob("*/saved_model.pb"), *folder.glob("*/*/saved_model.pb")]:
        path = file.parent
        if path.name.isascii() and path.name.isdigit():
            found.setdefault(path.parent.name, []).append((int(path.name), path))
    if not folder.exists():
        raise FileNotFoundError(f"`folder` must hold models, but {str(folder)!r} does not exist.")
    kept = {
        name: sorted(of_one)[-1 if versions == "latest" else 0 :] for name, of_one in found.items()
    }
    return [(name, str(number), path) for name in sorted(kept) for number, path in kept[name]]
