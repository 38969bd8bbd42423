"""Debian packages, as small as the readers take them."""

import io
import tarfile


def ar(path, members):
    """An `ar` archive of {name: content}, as a .deb is."""
    content = b"!<arch>\n"
    for name, member in members.items():
        header = f"{name:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(member):<10}`\n"
        content += header.encode() + member + b"\n" * (len(member) % 2)
    path.write_bytes(content)
    return path


def deb(path, files):
    """A package with a data.tar.xz of {name: content}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return ar(path, {"data.tar.xz/": buffer.getvalue()})
