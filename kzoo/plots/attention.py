"""Attention weights as a map: source tokens below, target tokens at the side."""

import math

import numpy as np

from kzoo.plots.figure import INK, drawable_text, new_figure, texts_of, written

_CELL_INCHES = 0.27  # room for a label
_MOST_INCHES = 18.0  # of a side; the cells of more tokens are narrower, and not all are labelled


def attention_map(weights, source_tokens, target_tokens, path=None, title=None):
    """Draws attention weights: a row for each target token, a column for each source token.

    The darkest cell is the largest weight of the picture, white is 0; the bar at the side tells.
    Padding, that is tokens "" at the end, is left out with its weights. A space shows as "␣"; a
    character that no installed font has, as "□". Of many tokens, such as the 0.02 s of a recording,
    every second one or fewer is labelled.

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

    width, height = (
        min(_CELL_INCHES * max(len(tokens), 4), _MOST_INCHES) for tokens in (source, target)
    )
    figure = new_figure(width + 2.4, height + 1.9, layout="compressed")
    axes = figure.add_subplot()
    is_narrow = _MOST_INCHES in (width, height)
    image = axes.imshow(
        weights,
        cmap=_white_to_blue(),
        vmin=0,
        vmax=weights.max() or 1,
        aspect="auto" if is_narrow else "equal",
    )
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
    if not is_narrow:
        axes.set_xticks([step - 0.5 for step in range(1, len(source))], minor=True)
        axes.set_yticks([step - 0.5 for step in range(1, len(target))], minor=True)
        axes.grid(which="minor", color="#e9edf1", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color("#c5ced6")
    if title:
        text, families = drawable_text(title)
        figure.suptitle(text, color=INK, size=11, family=families, parse_math=False)
    return written(figure, path)


def _white_to_blue():
    """Matplotlib's "Blues" starts a little off white, so that zeros would look like weights."""
    from matplotlib import colors

    return colors.LinearSegmentedColormap.from_list(
        "white_to_blue", ["#ffffff", "#c3d9ee", "#6baed6", "#2171b5", "#08306b"]
    )


def _without_padding(tokens):
    while tokens and not tokens[-1]:
        tokens = tokens[:-1]
    return tokens


def _label_steps(axis, tokens, **placement):
    stride = math.ceil(_CELL_INCHES * len(tokens) / _MOST_INCHES)
    tokens = tokens[::stride]
    drawn = [drawable_text("␣" * len(token) if token.isspace() else token) for token in tokens]
    axis.set_ticks([stride * place for place in range(len(tokens))])
    labels = axis.set_ticklabels([text for text, _ in drawn], fontsize=9, **placement)
    for label, (_, families) in zip(labels, drawn, strict=True):
        label.set(family=families, parse_math=False)  # "$" in a token is no formula
