"""The learning curve of a training."""

import math
import re

from kzoo.plots.figure import INK, new_figure, written

_TRAIN = "#8fa3b5"
_VALID = "#1d6fb8"
_BEST = "#d1495b"
_NAMES = {
    "loss": "loss (nats per token)",
    "bleu": "BLEU",
    "chrf": "chrF",
    "wer": "WER",
    "cer": "CER",
    "cider": "CIDEr",
}
_LOWER_IS_BETTER = re.compile(  # how such a name ends
    r"(?:^|_)(?:loss|[wcp]er|perplexity|error(?:_rate)?|infeasible|r?mse|mae|crossentropy|divergence)$"
)


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
    pick = min if _LOWER_IS_BETTER.search(quantity) else max
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
