"""Plots that show photographs: where a caption's words looked, and a sheet of captioned pictures.

As in `plots`, each function returns a `matplotlib.figure.Figure` and, given a `path`, writes it.

Axis letters: N pictures, H, W pixels, h rows of regions, w columns, T tokens.
"""

from typing import NamedTuple

import numpy as np

from kzoo import checks
from kzoo.plots.figure import INK, drawable_text, new_figure, texts_of, written

END_TOKEN = "</s>"  # as `ServedModel.align` names it
_REFERENCE = "#5b6b79"
_RIGHT = "#1a7f4b"
_WRONG = "#b3213c"
_WORD_INCHES = 1.5  # side of a picture
_SHEET_INCHES = 2.1
_GAP_INCHES = 0.14
_DARKEST = 0.25  # what is left of the light where nothing looked
_WIDTH_REGIONS = 0.5  # standard deviation of the bell that smooths the grid


class _Text(NamedTuple):
    text: str
    color: str
    size: float = 9.0


class _Panel(NamedTuple):
    pixels: np.ndarray  # (H, W, 3) float in [0, 1]
    above: _Text
    below: _Text


def attention_overlay(pixels, weights, tokens, path=None, title=None, columns=6):
    """Draws a picture, then a panel for each token with its attention laid over the picture.

    Xu et al. (2015), https://arxiv.org/abs/1502.03044, figures 2 and 3. The light of the pixel at
    place y, x, in regions from the corner, is

        light(y, x) = 0.25 + 0.75 s(y, x) / max s
        s(y, x) = sum_ij weights_ij exp(-2 |(y, x) - (i + 0.5, j + 0.5)|^2) / sum_ij exp(...)

    The maximum is that of all tokens, so that panels can be compared; a line below names the
    largest weight of a region, which is not smoothed. The end token and padding, tokens "", are
    left out: they describe nothing.

    Args:
        pixels: (H, W, 3) numbers in [0, 255]: the square that the model saw, not the file, as the
            grid lies on it.
        weights: (T, h, w) float, each at least 0.
        tokens: T str or bytes.
        path: str or path, where to write the plot; None writes nothing.
        title: str, a line above.
        columns: int, panels side by side.

    Returns:
        matplotlib.figure.Figure.

    Raises:
        ValueError: `pixels` is no picture, `weights` has not T rows or a weight is negative or not
            finite, `columns` is not positive, or no token is left.
        ImportError: the matplotlib package is missing.

    Example:
        >>> weights = found.weights.reshape(-1, 6, 6)
        >>> attention_overlay(pixels, weights, found.target_tokens, "overlay.png")
    """
    pixels = _checked_picture("pixels", pixels)
    weights = np.asarray(weights, np.float64)
    tokens = texts_of(tokens)
    if weights.ndim != 3 or len(weights) != len(tokens):
        raise ValueError(
            "`weights` must be of shape (T, h, w) with a grid for each token, got shape "
            f"{weights.shape}, {len(tokens)} tokens."
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            "`weights` must be finite and at least 0, got values from "
            f"{weights.min()} to {weights.max()}."
        )
    said = [row for row, token in enumerate(tokens) if token not in ("", END_TOKEN)]
    if not said:
        raise ValueError(f"`tokens` must hold one beside the end and padding, got {tokens}.")
    smooth = _smoothed(weights[said], *pixels.shape[:2])  # (T, H, W)
    most = smooth.max() or 1.0
    light = _DARKEST + (1 - _DARKEST) * smooth / most
    panels = [_Panel(pixels, _Text("", INK), _Text("", INK))]
    for row, shade in zip(said, light, strict=True):
        token = "␣" * len(tokens[row]) if tokens[row].isspace() else tokens[row]
        panels.append(_Panel(pixels * shade[:, :, None], _Text(token, INK), _Text("", INK)))
    note = (
        "bright: most attention, smoothed, of all words, dark: none; "
        f"the largest weight of a region is {weights[said].max():.2g}"
    )
    return _drawn(panels, columns, _WORD_INCHES, title, note, path)


def contact_sheet(pictures, captions, references, path=None, right=None, title=None, columns=4):
    """Draws pictures side by side, the caption that a model gave above and a reference below.

    Args:
        pictures: N arrays (H, W, 3) of numbers in [0, 255]; the sizes may differ.
        captions: N str.
        references: N str.
        path: str or path, where to write the plot; None writes nothing.
        right: N bools, which captions are marked with a green tick and which with a red cross; or
            None for no marks, where there is more than one right answer.
        title: str, a line above.
        columns: int, pictures side by side.

    Returns:
        matplotlib.figure.Figure.

    Raises:
        ValueError: there is no picture, or one is none; there are not N of each; `columns` is not
            positive.
        ImportError: the matplotlib package is missing.

    Example:
        >>> contact_sheet([pixels], ["a frog"], ["a frog above a mango"], right=[False])
    """
    counts = [len(pictures), len(captions), len(references)]
    counts += [] if right is None else [len(right)]
    if len({*counts}) != 1 or not counts[0]:
        raise ValueError(
            "`pictures`, `captions`, `references` and `right` must be equally many and at least 1, "
            f"got {', '.join(map(str, counts))}."
        )
    panels = []
    for row, (caption, reference) in enumerate(zip(captions, references, strict=True)):
        above = _Text(caption or "(no word)", INK)
        if right is not None:
            sign, color = ("✓", _RIGHT) if right[row] else ("✗", _WRONG)
            above = _Text(f"{sign} {above.text}", color)
        pixels = _checked_picture(f"pictures[{row}]", pictures[row])
        panels.append(_Panel(pixels, above, _Text(f"reference: {reference}", _REFERENCE, 8.0)))
    return _drawn(panels, columns, _SHEET_INCHES, title, None, path)


def _checked_picture(name, pixels):
    """(H, W, 3) in [0, 1]."""
    pixels = np.asarray(pixels)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"`{name}` must be of shape (H, W, 3), got shape {pixels.shape}.")
    return np.clip(pixels.astype(np.float32) / 255, 0, 1)


def _smoothed(grids, height, width):
    """(T, h, w) -> (T, height, width), see `attention_overlay`; the bell is separable."""

    def bells(pixels, regions):
        places = (np.arange(pixels)[:, None] + 0.5) * regions / pixels
        distance = (places - np.arange(regions) - 0.5) / _WIDTH_REGIONS
        bell = np.exp(-0.5 * distance**2)
        return bell / bell.sum(1, keepdims=True)

    rows, columns = bells(height, grids.shape[1]), bells(width, grids.shape[2])
    return rows @ grids @ columns.T


def _drawn(panels, columns, side, title, note, path):
    """The panels in rows, each as high as its texts need; every length here is in inches."""
    checks.at_least(1, columns=columns)
    figure = new_figure(1, 1, layout=None)
    columns = min(columns, len(panels))
    width = columns * (side + _GAP_INCHES) - _GAP_INCHES
    top = _label(figure, _Text(title or "", INK, 11.0), width)
    foot = _label(figure, _Text(note or "", _REFERENCE, 8.0), width)
    above = [_label(figure, panel.above, side) for panel in panels]
    below = [_label(figure, panel.below, side) for panel in panels]
    starts = range(0, len(panels), columns)
    heights = [
        [max(_inches(label)[1] for label in labels[start : start + columns])
         for labels in (above, below)]
        for start in starts
    ]  # fmt: skip
    total = sum(up + side + down + 2 * _GAP_INCHES for up, down in heights)
    total += _inches(top)[1] + _inches(foot)[1] + _GAP_INCHES
    figure.set_size_inches(width, total)

    y = total - _inches(top)[1]
    _place(top, 0, total, "top")
    y -= _GAP_INCHES if title else 0
    for start, (up, down) in zip(starts, heights, strict=True):
        y -= up + side
        for place, row in enumerate(range(start, min(start + columns, len(panels)))):
            x = place * (side + _GAP_INCHES)
            pixels = panels[row].pixels
            axes = figure.add_axes((x / width, y / total, side / width, side / total), anchor="SW")
            axes.imshow(pixels, vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            shown = side * pixels.shape[0] / max(pixels.shape[:2])  # of a wide one, less than side
            _place(above[row], x, y + shown + _GAP_INCHES / 3, "bottom")
            _place(below[row], x, y - _GAP_INCHES / 3, "top")
        y -= down + 2 * _GAP_INCHES
    _place(foot, 0, y, "top")
    return written(figure, path)


def _label(figure, text, width):
    """An artist with lines of at most `width`; `_place` puts it where it belongs."""
    drawable, families = drawable_text(" ".join(text.text.split()))
    label = figure.text(
        0, 0, drawable, color=text.color, size=text.size, family=families, parse_math=False,
        linespacing=1.15,
    )  # fmt: skip
    lines = [""]
    for word in drawable.split():
        while word:
            longer = f"{lines[-1]} {word}".strip()
            if _width(label, longer) <= width:
                lines[-1], word = longer, ""
            elif lines[-1]:
                lines.append("")
            else:  # a word that is wider than a line
                fits = 1
                while fits < len(word) and _width(label, word[: fits + 1]) <= width:
                    fits += 1
                lines[-1], word = word[:fits], word[fits:]
                lines += [""] if word else []
    label.set_text("\n".join(lines))
    return label


def _width(label, text):
    label.set_text(text)
    return _inches(label)[0]


def _inches(label):
    """(width, height) of a text as it is drawn; nothing for no text."""
    if not label.get_text():
        return 0.0, 0.0
    extent = label.get_window_extent(label.figure.canvas.get_renderer())
    return extent.width / label.figure.dpi, extent.height / label.figure.dpi


def _place(label, x, y, anchor):
    width, height = label.figure.get_size_inches()
    label.set(x=x / width, y=y / height, va=anchor)
