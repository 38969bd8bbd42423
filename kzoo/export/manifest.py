"""manifest.json in a model's version: what it is, how well it does, the SHA-256 of every file.

A model with a manifest can be asked by its name (`names`). The manifest is written last, when the
model has answered: `kzoo import` and `python -m recipes.ship` do so.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

FILE = "manifest.json"


class Manifest(NamedTuple):
    """What is known of a model.

    Args:
        name: str, what the model is asked for by.
        task: str, as "translation" or "speech_to_text".
        languages: list of str, their codes; empty where nobody said.
        data, licence, command, time: str, as `model_card.md` says them.
        parameters: int.
        score: dict of `metric`, the key in `metrics.json`, and of what a `metrics.Score` has:
            `name`, `value`, `signature`, perhaps `interval`. None for a model without a score.
        milliseconds: float, of a content that is asked alone, the median; None if not measured.
        machine: str, what `milliseconds` were measured on.
        answers: dict of str, known answers by text, or by the name of a file in the folder.
        files: dict of str, SHA-256 by the path in the folder, "/" between folders.
    """

    name: str
    task: str
    languages: list
    data: str
    licence: str
    command: str
    time: str
    parameters: int
    score: dict = None
    milliseconds: float = None
    machine: str = None
    answers: dict = {}  # noqa: RUF012 (nobody writes into it)
    files: dict = {}  # noqa: RUF012


def write(folder, manifest):
    """Writes `manifest.json` with the SHA-256 of every file that is in the folder.

    Args:
        folder: pathlib.Path of a SavedModel.
        manifest: Manifest; its `files` are filled in.
    """
    files = {name: sha256_of(folder / name) for name in _files(folder)}
    text = json.dumps(manifest._replace(files=files)._asdict(), indent=2, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read(folder):
    """The Manifest of a folder, whose files are not looked at.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = Path(folder, FILE)
    try:
        content = json.loads(path.read_bytes())
        # A newer kzoo may have written more.
        manifest = Manifest(**{key: content[key] for key in Manifest._fields if key in content})
        if not isinstance(manifest.files, dict) or not isinstance(manifest.languages, list):
            raise TypeError(f"files={manifest.files!r}, languages={manifest.languages!r}")
        if manifest.score is not None and not {"metric", "name", "value"} <= set(manifest.score):
            raise TypeError(f"score={manifest.score!r}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected what kzoo wrote there, got {error}") from error
    return manifest


def check(folder):
    """Reads every file of a model and compares it with the manifest.

    Args:
        folder: pathlib.Path.

    Returns:
        Manifest.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: a file has changed, is missing, or is not listed; or the manifest is damaged.
    """
    manifest = read(folder)
    there = _files(folder)
    for name in sorted({*manifest.files, *there}):
        if name not in there:
            raise ValueError(f"{folder / name} is missing, but {FILE} lists it.")
        if name not in manifest.files:
            raise ValueError(f"{folder / name} is not listed in {FILE}, so it must go.")
        if (found := sha256_of(folder / name)) != (expected := manifest.files[name]):
            raise ValueError(
                f"{folder / name} has changed: {FILE} has the SHA-256 {expected}, got {found}."
            )
    return manifest


def size_bytes(folder):
    """The bytes of all files of a model."""
    return sum((folder / name).stat().st_size for name in [*_files(folder), FILE])


def sha256_of(path):
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _files(folder):
    """The paths of all files in a folder but the manifest, in their order.

    Hidden ones, which desktops leave and TensorFlow does not read, are passed over, and so are
    those in hidden folders.
    """
    entries = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    paths = (path.relative_to(folder) for path in entries)
    seen = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    return sorted(path.as_posix() for path in seen if path.as_posix() != FILE)
