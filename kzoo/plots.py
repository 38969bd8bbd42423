"""Plots of attention weights and of learning curves. S source steps, T target steps.

Each function returns a `matplotlib.figure.Figure` and, given a `path`, writes it too (PNG, PDF, SVG
by the suffix). Figures are made without pyplot: no global state, no window, safe in threads.
Those that show photographs are in `picture_plots`.
"""

import functools
import math
import unicodedata

import numpy as np

_FONT = "DejaVu Sans"  # comes with matplotlib
INK = "#22303c"
_TRAIN = "#8fa3b5"
_VALID = "#1d6fb8"
_BEST = "#d1495b"
_DPI = 150  # dots per inch of a written picture
_CELL_INCHES = 0.27
_NAMES = {
    "loss": "loss (nats per token)",
    "bleu": "BLEU",
    "chrf": "chrF",
    "wer": "WER",
    "cer": "CER",
    "cider": "CIDEr",
}
_LOWER_IS_BETTER = ("loss", "wer", "cer", "per", "perplexity", "error")


def attention_map(weights, source_tokens, target_tokens, path=None, title=None):
    """Draws attention weights: a row for each target token, a column for each source token.

    The darkest cell is the largest weight of the picture, white is 0; the bar at the side tells.
    Padding, that is tokens "" at the end, is left out with its weights. A space shows as "␣"; a
    character that no installed font has, as "□".

    Args:
        weights: (T, S) float, each at least 0, array or tensor.
        source_tokens: S str or bytes, such as `tokenizer.tokens(ids)` gives.
        target_tokens: T str or bytes.
        path: str or path, where to write the picture; None writes nothing.
        title: str, a line above.

    Returns:
        matplotlib.figure.Figure.

    Raises:
        ValueError: the shape of `weights` is not (T, S), a weight is negative or not finite, or
            nothing but padding is left.
        ImportError: the matplotlib package is missing.

    Example:
        >>> attention_map([[0.9, 0.1], [0.2, 0.8]], ["ein", "Hund"], ["a", "dog"], "map.png")
    """
    weights = np.asarray(weights, dtype=np.float32)
    source, target = texts_of(source_tokens), texts_of(target_tokens)
    if weights.shape != (len(target), len(source)):
        raise ValueError(
            "`weights` must have a row for each target and a column for each source token, got "
            f"shape {weights.shape}, {len(target)} target tokens, {len(source)} source tokens."
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            "`weights` must be finite and at least 0, got values from "
            f"{weights.min()} to {weights.max()}."
        )
    source, target = _without_padding(source), _without_padding(target)
    if not source or not target:
        raise ValueError(
            "`source_tokens` and `target_tokens` must hold a token that is not padding, got "
            f"{len(source)} and {len(target)} of them."
        )
    weights = weights[: len(target), : len(source)]  # (T, S)

    width, height = (_CELL_INCHES * max(len(tokens), 4) for tokens in (source, target))
    figure = new_figure(width + 2.4, height + 1.9, layout="compressed")
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap=_white_to_blue(), vmin=0, vmax=weights.max() or 1)
    bar = figure.colorbar(image, ax=axes, shrink=min(1, 2.5 / height), aspect=14, pad=0.02)
    bar.set_label("attention weight", color=INK, size=9)
    bar.ax.tick_params(labelsize=8, color=INK, labelcolor=INK)
    bar.outline.set_visible(False)

    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    _label_steps(axes.xaxis, source, rotation=55, ha="left", va="bottom", rotation_mode="anchor")
    _label_steps(axes.yaxis, target)
    axes.set_xlabel("source", color=INK, size=9, labelpad=8)
    axes.set_ylabel("target", color=INK, size=9, labelpad=8)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xticks([step - 0.5 for step in range(1, len(source))], minor=True)
    axes.set_yticks([step - 0.5 for step in range(1, len(target))], minor=True)
    axes.grid(which="minor", color="#e9edf1", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color("#c5ced6")
    if title:
        text, families = drawable(title)
        figure.suptitle(text, color=INK, size=11, family=families, parse_math=False)
    return written(figure, path)


def learning_curve(history, path=None):
    """Draws what training measured at each epoch: the loss, then each other metric below it.

    A quantity and its "val_" twin share a panel. The best epoch of the validated (else of the
    only) series is marked: the lowest for losses and error rates, the highest for the rest.

    Args:
        history: dict of name to list of float, one value for each epoch from 1 on, as the
            `history` of what `fit` returns. NaN or None where an epoch was not measured; lists may
            be of different length. "loss" and "val_loss" are in nats per token.
        path: str or path, where to write the picture; None writes nothing.

    Returns:
        matplotlib.figure.Figure.

    Raises:
        ValueError: `history` holds no number.
        ImportError: the matplotlib package is missing.

    Example:
        >>> learning_curve({"loss": [5.1, 3.2], "val_loss": [4.0, 3.1], "val_bleu": [None, 12.5]})
    """
    series = {name: _measured(values) for name, values in history.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        raise ValueError(f"`history` must hold at least one number, got {dict(history)}.")
    quantities = list(dict.fromkeys(name.removeprefix("val_") for name in series))
    quantities.sort(key=lambda name: name != "loss")  # the loss first, the others as they came
    last_epoch = max(points[-1][0] for points in series.values())

    heights = [3.0] + [2.1] * (len(quantities) - 1)
    figure = new_figure(7.0, sum(heights) + 0.4, layout="constrained")
    panels = figure.subplots(
        len(quantities), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for axes, quantity in zip(panels, quantities, strict=True):
        _draw_quantity(axes, quantity, series, last_epoch)
    panels[-1].set_xlabel("epoch", color=INK, size=10)
    return written(figure, path)


def _draw_quantity(axes, quantity, series, last_epoch):
    from matplotlib.ticker import MaxNLocator

    drawn = [
        (name, label, color)
        for name, label, color in (
            (quantity, "training", _TRAIN),
            (f"val_{quantity}", "validation", _VALID),
        )
        if name in series
    ]
    for name, label, color in drawn:
        epochs, values = zip(*series[name], strict=True)
        marker = "o" if len(epochs) <= 40 else None  # a few isolated points must be seen
        axes.plot(epochs, values, color=color, marker=marker, markersize=3.5, lw=1.8, label=label)
    if quantity != "learning_rate":
        _mark_best(axes, quantity, series[drawn[-1][0]])
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    axes.set_ylabel(
        _NAMES.get(quantity, quantity.replace("_", " ")), color=INK, size=10, parse_math=False
    )
    axes.set_xlim(0.5, last_epoch + 0.5)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(color="#c5ced6", labelcolor=INK, labelsize=9)
    axes.grid(color="#e9edf1", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color("#c5ced6")


def _mark_best(axes, quantity, points):
    pick = min if quantity.split("_")[-1] in _LOWER_IS_BETTER else max
    epoch, value = pick(points, key=lambda point: point[1])
    axes.axvline(epoch, color=_BEST, lw=0.9, ls=(0, (3, 3)), zorder=1.5)
    axes.plot(
        [epoch],
        [value],
        color=_BEST,
        marker="o",
        markersize=7,
        markerfacecolor="white",
        markeredgewidth=1.8,
        ls="none",
        label=f"best: {value:.4g} in epoch {epoch}",
    )


def _measured(values):
    """[(epoch, value)] of the finite values; epochs count from 1."""
    values = (math.nan if value is None else float(value) for value in values)
    return [(epoch, value) for epoch, value in enumerate(values, start=1) if math.isfinite(value)]


def _white_to_blue():
    """Matplotlib's "Blues" starts a little off white, so that zeros would look like weights."""
    from matplotlib import colors

    return colors.LinearSegmentedColormap.from_list(
        "white_to_blue", ["#ffffff", "#c3d9ee", "#6baed6", "#2171b5", "#08306b"]
    )


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


def _without_padding(tokens):
    while tokens and not tokens[-1]:
        tokens = tokens[:-1]
    return tokens


def _label_steps(axis, tokens, **placement):
    drawn = [drawable("␣" * len(token) if token.isspace() else token) for token in tokens]
    axis.set_ticks(range(len(tokens)))
    labels = axis.set_ticklabels([text for text, _ in drawn], fontsize=9, **placement)
    for label, (_, families) in zip(labels, drawn, strict=True):
        label.set(family=families, parse_math=False)  # "$" in a token is no formula


def drawable(text):
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
