"""Names of models: where they are looked for, and what they stand for.

    saved_models/            of the checkout that kzoo is run from: what the project ships
    $KZOO_MODELS             a folder of your own
    models/ in the cache     what `kzoo import NAME` writes

Each holds `<name>/<version>/`, and the first that has a name wins. A version counts if it has a
`manifest.json`: one that a recipe has just written has a path alone. A wheel of kzoo brings no
models, so where kzoo is installed from one, the first folder is left out.
"""

import difflib
import os
import re
from pathlib import Path

from kzoo.export import manifest
from kzoo.export.folder import cache_path, of_saved_model, versions

CHECKOUT = Path(__file__).parents[2]  # unless kzoo was installed without `-e`
_NAME = re.compile(r"\w[\w.-]*")
_COMMANDS = ("import", "list", "serve")  # of `kzoo`, so no names


def find(path_or_name):
    """The folder of a SavedModel: a path that exists is meant; what does not exist may be a name.

    Args:
        path_or_name: str or path of a SavedModel, or of a folder of versions, of which the highest
            is taken; or the name of a model, whose files must be those of its manifest.

    Returns:
        pathlib.Path.

    Raises:
        FileNotFoundError: there is neither such a path nor such a name.
        ValueError: a path is not a SavedModel; a file of a named one is missing, has changed or is
            not listed.
    """
    name = os.fspath(path_or_name)
    if Path(name).exists() or not is_name(name):
        return of_saved_model(path_or_name)
    there = named()
    if name not in there:
        raise FileNotFoundError(_missing(name, there))
    manifest.check(there[name])
    return there[name]


def is_name(text):
    """Whether a str can be a model's name.

    It has letters, digits, "_", "." and "-", begins with neither of the last two, and is no command
    of `kzoo`.
    """
    return _NAME.fullmatch(text) is not None and text not in _COMMANDS


def named():
    """The models that have a name: dict from the name to the pathlib.Path of its version."""
    there = {}
    for place in reversed(places()):
        there |= named_in(place)
    return there


def named_in(place):
    """The same of one folder of `<name>/<version>/`, sorted; it need not exist."""
    folders = sorted(place.iterdir()) if place.is_dir() else []
    found = ((each.name, _version(each)) for each in folders if is_name(each.name))
    return {name: path for name, path in found if path}


def places():
    """The folders in which names are looked for, whether they exist or not: list of pathlib.Paths,
    absolute."""
    found = [CHECKOUT / "saved_models"] if (CHECKOUT / "setup.cfg").is_file() else []
    if own := os.environ.get("KZOO_MODELS"):
        found.append(Path(own).absolute())
    return [*found, imported()]


def imported():
    """The folder that `kzoo import` writes to: pathlib.Path, which need not exist."""
    return cache_path() / "models"


def _version(folder):
    """The highest version with a manifest, or None."""
    paths = (folder / str(number) for number in sorted(versions(folder), reverse=True))
    return next((path for path in paths if (path / manifest.FILE).is_file()), None)


def _missing(name, there):
    said = f"{name!r} does not exist, neither as a path nor as a name in "
    said += ", ".join(map(str, places())) + "."
    if unlisted := [str(place / name) for place in places() if (place / name).is_dir()]:
        said += f" {unlisted[0]} has no {manifest.FILE}, so it is asked by its path."
    if near := difflib.get_close_matches(name, there):
        said += f" Did you mean {' or '.join(near)}?"
    return f"{said} `kzoo list` shows all names, and what `kzoo import` brings."
