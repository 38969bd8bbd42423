"""Transcribed clips out of Debian packages: Asterisk's telephone prompts."""

import gzip
import io
import re
from pathlib import Path

from recipes.data import files, packages
from recipes.data.clips_files import some
from recipes.data.examples import Clips
from recipes.data.transcripts import spoken

# The path below the folder of a language: parts of letters, digits and hyphens, so none is "..".
RECORDING = r"/sounds/[^/]+/((?:[\w-]+/)*[\w-]+\.wav)$"


def asterisk(language: str = "en") -> Clips:
    """The prompts of the Asterisk telephone exchange, one voice, 8 kHz, CC-BY-SA-3.0.

    Debian packages `asterisk-core-sounds-*`; English has 560 clips, 25 minutes.
    """
    names = f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-wav"
    return asterisk_clips(*(packages.debian_package(name) for name in names))


def asterisk_clips(texts_package: str | Path, sounds_package: str | Path) -> Clips:
    """Joins the transcripts of one .deb with the recordings of another, which are unpacked into
    `files.cache_dir()`. A text in brackets describes a sound that is no speech."""
    folder = _unpacked(sounds_package)
    clips, listed = Clips(), _asterisk_texts(texts_package)
    for key, text in listed.items():
        path = folder / f"{key}.wav"
        if text.startswith("["):
            clips.skipped["not speech"] += 1
        elif not path.is_file():
            clips.skipped["without a recording"] += 1
        else:
            clips.add(path, text, "", f"{texts_package}, {key}", group=spoken(text))
    return some(clips, texts_package)


def _asterisk_texts(package: str | Path) -> dict[str, str]:
    """{key: text} of the lines "key: text" in core-sounds-*.txt.gz."""
    found = next(packages.deb_files(package, r"/core-sounds-\w+\.txt\.gz$"), None)
    if found is None:
        raise ValueError(f"{package}: expected a file core-sounds-*.txt.gz")
    place, packed = f"{package}, {found[0]}", io.BytesIO(found[1])
    with files.parsing(place, "transcripts in UTF-8"), gzip.open(packed) as file:
        content = file.read(packages.MOST_PACKAGE_BYTES).decode()
    lines = (line for line in content.split("\n") if not line.startswith(";"))
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): text.strip() for key, colon, text in pairs if colon}


def _unpacked(package: str | Path) -> Path:
    """The folder in the cache with the .wav files of a package, below share/asterisk/sounds/*/."""

    def write(folder):
        files.say(f"Unpacking {package}")
        for name, content in packages.deb_files(package, RECORDING):
            path = folder / re.search(RECORDING, name)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return files.make_folder(files.cache_dir() / Path(package).stem, write)
