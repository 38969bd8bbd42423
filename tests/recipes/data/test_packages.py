"""Packages that mean harm, are cut off or have changed in the cache."""

import bz2
import gzip
import hashlib
import io
import lzma
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from debs import ar

from recipes.data import clips_asterisk, packages, pairs_packages
from recipes.data.packages import deb_files


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def package(path, members, pack=lzma.compress):
    """A .deb whose data.tar has such members: (name, content) or a TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return ar(path, {"debian-binary": b"2.0", "data.tar.xz": pack(buffer.getvalue())})


def special(name, kind, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


SOUNDS = "./usr/share/asterisk/sounds/en"
TEXTS = "./usr/share/doc/a/core-sounds-en.txt.gz"


def test_no_member_is_written_outside_of_the_folder_of_its_package(tmp_path, cache):
    evil = tmp_path / "outside/evil.wav"
    evil.parent.mkdir()
    names = [
        f"{SOUNDS}/{evil}",  # sounds/en//tmp/.../evil.wav
        *(f"{SOUNDS}/{dots}/evil.wav" for dots in ("..", "../..", "a/../../..", "./..", ".")),
        f"{SOUNDS}//evil.wav",
        f"/sounds/en/{evil}",
        "../sounds/en/../../evil.wav",
    ]
    links = [
        special(f"{SOUNDS}/link.wav", tarfile.SYMTYPE, str(evil)),
        special(f"{SOUNDS}/folder", tarfile.SYMTYPE, str(evil.parent)),
        special(f"{SOUNDS}/hard.wav", tarfile.LNKTYPE, "../../evil.wav"),
        special(f"{SOUNDS}/device.wav", tarfile.CHRTYPE),
        special(f"{SOUNDS}/pipe.wav", tarfile.FIFOTYPE),
        special(f"{SOUNDS}/folder.wav", tarfile.DIRTYPE),
    ]
    members = [*links, *((name, b"evil") for name in names)]
    members += [(f"{SOUNDS}/folder/evil.wav", b"kept"), (f"{SOUNDS}/hello.wav", b"kept")]
    sounds = package(tmp_path / "sounds.deb", members)
    texts = package(tmp_path / "texts.deb", [(TEXTS, gzip.compress(b"hello: Hello!\nlink: Link!"))])
    found = clips_asterisk.asterisk_clips(texts, sounds)
    assert found.texts == ["Hello!"]
    assert found.skipped == {"without a recording": 1}
    written = {path for path in tmp_path.rglob("*") if path.is_file() and path.suffix == ".wav"}
    folder = cache / "sounds"
    assert written == {folder / "hello.wav", folder / "folder/evil.wav"}
    assert {path.read_bytes() for path in written} == {b"kept"}


def test_links_in_place_of_the_files_that_are_read_are_named_not_followed(tmp_path):
    link = package(tmp_path / "a.deb", [special(TEXTS, tarfile.SYMTYPE, "/etc/passwd")])
    with pytest.raises(ValueError, match=r"a\.deb: expected a file core-sounds-\*\.txt\.gz"):
        clips_asterisk._asterisk_texts(link)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE):
        path = package(tmp_path / "b.deb", [special("./a/text/x.html", kind, "nowhere")])
        with pytest.raises(ValueError, match=r"b\.deb: expected at least one pair, got 0 pairs"):
            pairs_packages.libreoffice_help_pairs(path, path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_a_package_is_read_in_every_compression(tmp_path, pack):
    path = package(tmp_path / "a.deb", [("./b.txt", b"text"), ("./c", b"")], pack)
    assert list(deb_files(path, r"[.]txt$")) == [("./b.txt", b"text")]


def test_zstandard_is_refused_by_name(tmp_path):
    path = ar(tmp_path / "a.deb", {"data.tar.zst": packages.ZSTANDARD + b"x"})
    with pytest.raises(ValueError, match=r"a\.deb: expected data\.tar\.xz, .* got \.zst"):
        list(deb_files(path, ""))


def test_a_package_unpacks_to_no_more_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "MOST_PACKAGE_BYTES", 50_000)
    message = r"a\.deb: expected at most 50,000 bytes when unpacked"
    zeros = bytes(200_000)  # 160 bytes of xz
    for members in (
        [("./a", zeros), ("./b.txt", b"text")],  # passed over
        [("./b.txt", zeros)],
        [(f"./{n}", b"") for n in range(200)],
    ):
        path = package(tmp_path / "a.deb", members)
        with pytest.raises(ValueError, match=message):
            list(deb_files(path, r"b[.]txt$"))
    sparse = tarfile.TarInfo("./b.txt")
    sparse.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.map": "0,0",
        "GNU.sparse.name": "./b.txt",
    }
    path = package(tmp_path / "a.deb", [sparse])
    with pytest.raises(ValueError, match=message):
        list(deb_files(path, r"b[.]txt$"))


def test_a_package_with_any_byte_changed_or_cut_off_is_read_or_named(tmp_path):
    names = [f"{SOUNDS}/{name}.wav" for name in ("a", "b/c")]
    whole = package(tmp_path / "a.deb", [(name, bytes(700)) for name in names], bytes).read_bytes()
    packed = package(tmp_path / "a.deb", [(name, bytes(700)) for name in names]).read_bytes()
    chance, path = random.Random(3), tmp_path / "b.deb"
    for number in range(300):
        content = bytearray(whole if number % 2 else packed)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.randrange(len(content))] if number % 3 else content)
        try:
            list(deb_files(path, "[.]wav$"))
        except ValueError as error:
            assert str(error).startswith(str(path))


def fake_apt(tmp_path, monkeypatch):
    made = package(tmp_path / "made.deb", [("./a.txt", b"text")])
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def run(command, folder, capture=False):
        if command[1] == "download":
            shutil.copy(made, Path(folder, f"{command[2]}_1_all.deb"))
        return "found"

    monkeypatch.setattr(packages, "run", run)
    return made


def test_a_downloaded_package_is_checked_each_time_it_is_opened(tmp_path, monkeypatch, cache):
    made = fake_apt(tmp_path, monkeypatch)
    path = packages.debian_package("some-data")
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    assert Path(f"{path}.sha256").read_text() == f"{digest}\n"
    assert packages.debian_package("some-data") == path
    path.write_bytes(path.read_bytes() + b"x")
    message = rf"some-data_1_all\.deb: expected the SHA-256 {digest}, got .*; remove it"
    with pytest.raises(ValueError, match=message):
        packages.debian_package("some-data")
    path.unlink()
    assert packages.debian_package("some-data").read_bytes() == made.read_bytes()


def test_a_package_of_an_older_cache_gets_a_hash_when_it_is_opened(tmp_path, monkeypatch, cache):
    fake_apt(tmp_path, monkeypatch)
    path = packages.debian_package("some-data")
    Path(f"{path}.sha256").unlink()
    assert packages.debian_package("some-data") == path
    path.write_bytes(b"changed")
    with pytest.raises(ValueError, match="expected the SHA-256"):
        packages.debian_package("some-data")


def test_python_and_dpkg_read_the_same_of_a_package(tmp_path):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb")
    members = [("./usr/share/a.txt", b"text"), ("./usr/b", b"x")]
    data = package(tmp_path / "a.deb", members).read_bytes()
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w:xz") as archive:
        content = (
            b"Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a <a@a.a>\nDescription: a\n"
        )
        info = tarfile.TarInfo("./control")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    data = packages._data_tar(tmp_path / "a.deb").read()
    path = ar(
        tmp_path / "b.deb",
        {"debian-binary": b"2.0\n", "control.tar.xz": control.getvalue(), "data.tar": data},
    )
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(tar.stdout)) as archive:
        expected = [(m.name, archive.extractfile(m).read()) for m in archive if m.isreg()]
    assert list(deb_files(path, "")) == expected == members
