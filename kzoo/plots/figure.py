"""What all pictures share: figures, fonts that have the characters, files."""

import functools
import unicodedata

_FONT = "DejaVu Sans"  # comes with matplotlib
INK = "#22303c"
_DPI = 150  # dots per inch of a written picture


def new_figure(width, height, layout):
    """A Figure of so many inches; raises an ImportError if the matplotlib package is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots need the matplotlib package: pip install kzoo[plots]") from error
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def written(figure, path):
    """The figure, also written to `path` unless that is None."""
    if path is not None:
        figure.savefig(path, dpi=_DPI, bbox_inches="tight", pad_inches=0.12)
    return figure


def texts_of(tokens):
    """Tokens, an array or tensor of bytes or a list of either kind, as a list of str."""
    tokens = tokens.numpy() if hasattr(tokens, "numpy") else tokens
    return [
        token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)
        for token in tokens
    ]


def drawable_text(text):
    """(the text with a glyph for every character, the font families that have them)."""
    families, characters = [_FONT], []
    for character in text:
        family = _family_with(character)
        if family is not None:
            families.append(family)
            characters.append(character)
        elif unicodedata.category(character) not in ("Mn", "Me", "Cc", "Cf"):  # invisible by itself
            characters.append("□")
    return "".join(characters), list(dict.fromkeys(families))


@functools.cache
def _family_with(character):
    from matplotlib import font_manager

    if unicodedata.category(character) == "Cc":
        return None  # a line break or a tabulator would tear the label apart
    if ord(character) in _code_points(font_manager.findfont(_FONT)):
        return _FONT
    for font in font_manager.fontManager.ttflist:
        # The last resort font has a glyph for everything, but only that of its block.
        if "Last Resort" not in font.name and ord(character) in _code_points(font.fname):
            return font.name
    return None


@functools.cache
def _code_points(path):
    from matplotlib import ft2font

    try:
        font = ft2font.FT2Font(path)
    except (OSError, RuntimeError):
        return frozenset()
    if not font.face_flags & ft2font.FaceFlags.SCALABLE:
        return frozenset()  # bitmaps, as of coloured emoji, which Agg cannot draw
    return frozenset(font.get_charmap())
