"""Transcribed clips out of Debian packages: Asterisk's telephone prompts."""

import gzip
import re
import tarfile
from pathlib import Path

from recipes.data import files, packages
from recipes.data.clips_files import some
from recipes.data.examples import Clips
from recipes.data.transcripts import spoken


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
    try:
        with tarfile.open(fileobj=packages.deb_data(package), mode="r:*") as archive:
            names = [n for n in archive.getnames() if re.search(r"/core-sounds-\w+\.txt\.gz$", n)]
            if not names:
                raise ValueError(f"{package}: expected a file core-sounds-*.txt.gz")
            content = gzip.decompress(archive.extractfile(names[0]).read()).decode()
    except (tarfile.TarError, *files.UNREADABLE, UnicodeDecodeError) as error:
        raise files.unreadable(package, error) from error
    lines = (line for line in content.split("\n") if not line.startswith(";"))
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): text.strip() for key, colon, text in pairs if colon}


def _unpacked(package: str | Path) -> Path:
    """The folder in the cache with the .wav files of a package, below share/asterisk/sounds/*/."""

    def write(folder):
        files.say(f"Unpacking {package}")
        try:
            with tarfile.open(fileobj=packages.deb_data(package), mode="r:*") as archive:
                for member in archive:
                    found = re.search(r"/sounds/[^/]+/([\w/-]+\.wav)$", member.name)
                    if found and member.isfile():
                        path = folder / found[1]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(archive.extractfile(member).read())
        except (tarfile.TarError, *files.UNREADABLE) as error:
            raise files.unreadable(package, error) from error

    return files.make_folder(files.cache_dir() / Path(package).stem, write)
