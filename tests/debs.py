"""Debian packages, as small as the readers take them."""

import io
import tarfile


def deb(path, files):
    """An `ar` archive with a data.tar.xz, as a .deb is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    content = buffer.getvalue()
    header = f"{'data.tar.xz/':<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(content):<10}`\n"
    path.write_bytes(b"!<arch>\n" + header.encode() + content)
    return path
