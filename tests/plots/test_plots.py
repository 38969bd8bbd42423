import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kzoo import plots
from kzoo.plots import attention_map, learning_curve

ROOT = Path(__file__).parents[2]


def drawn_weights(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_an_attention_map_shows_every_weight_under_its_source_beside_its_target():
    weights = np.array([[0.7, 0.2, 0.1], [0.0, 0.4, 0.6]], "float32")
    figure = attention_map(weights, ["ein", "Hund", "."], ["a", "dog"])
    np.testing.assert_array_equal(drawn_weights(figure), weights)
    axes = figure.axes[0]
    assert labels(axes.xaxis) == ["ein", "Hund", "."]
    assert labels(axes.yaxis) == ["a", "dog"]
    assert axes.yaxis_inverted()  # the first target stands on top


def test_an_attention_map_is_written_as_a_picture_that_grows_with_the_tokens(tmp_path):
    sizes = []
    for steps in (5, 40):
        tokens = [f"▁token{step}" for step in range(steps)]
        path = tmp_path / f"{steps}.png"
        attention_map(np.eye(steps), tokens, tokens, path, title="A title")
        sizes.append(size_of(path))
    assert sizes[1][0] > sizes[0][0] + 1000 and sizes[1][1] > sizes[0][1] + 1000


def test_the_labels_of_forty_long_tokens_and_the_title_do_not_overlap():
    tokens = ["▁" + "Wörterbuch"[: 2 + step % 9] for step in range(40)]
    figure = attention_map(np.eye(40), tokens, tokens, title="Forty tokens")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    rows = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert not any(upper.overlaps(lower) for upper, lower in itertools.pairwise(rows))
    name = axes.xaxis.label.get_window_extent(renderer)
    assert not any(name.overlaps(x.get_window_extent(renderer)) for x in axes.get_xticklabels())
    assert figure._suptitle.get_window_extent(renderer).y0 >= name.y1


def test_a_map_of_many_steps_is_bounded_and_labels_every_second_or_fewer():
    weights, steps = np.eye(4, 200), [f"{0.02 * step:.2f}" for step in range(200)]
    figure = plots.attention_map(weights, steps, list("abcd"))
    assert figure.get_size_inches()[0] < 21
    figure.canvas.draw()
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == steps[::3]
    boxes = [label.get_window_extent() for label in labels]
    assert all(a.x0 + 12 < b.x0 for a, b in itertools.pairwise(boxes))


def test_padding_at_the_end_is_left_out_of_the_map():
    weights = np.array([[0.5, 0.5, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    figure = attention_map(weights, [b"a", "é".encode(), b""], [b"b", b"c", b"", b""])
    assert drawn_weights(figure).shape == (2, 2)
    assert labels(figure.axes[0].xaxis) == ["a", "é"]


@pytest.mark.parametrize(
    ("token", "label"),
    [("\U000f0000", "□"), (" ", "␣"), ("\n", "␣"), ("$x$", "$x$"), ("a\x00\ufe0f", "a\ufe0f")],
)
def test_a_token_that_cannot_be_drawn_as_it_is_gets_a_label_without_warning(token, label, tmp_path):
    figure = attention_map([[1.0]], [token], ["$5_"], tmp_path / "map.png", title="$ {token}")
    assert labels(figure.axes[0].xaxis) == [label]


@pytest.mark.parametrize("token", ["中文", "👩‍👩‍👧", "かな", "हिन्दी", "ﷺ", "\ud800"])
def test_scripts_and_emoji_are_drawn_or_boxed_without_warning(token, tmp_path):
    attention_map([[1.0]], [token], [token], tmp_path / "map.png", title=token)
    assert (tmp_path / "map.png").stat().st_size > 0


def test_weights_of_zero_are_drawn_without_warning():
    figure = attention_map(np.zeros((2, 3)), list("abc"), list("de"))
    assert drawn_weights(figure).max() == 0


def test_an_attention_map_refuses_weights_that_do_not_fit_the_tokens():
    with pytest.raises(ValueError, match=r"shape \(3, 2\), 2 target tokens, 3 source tokens"):
        attention_map(np.ones((3, 2)), list("abc"), list("de"))
    with pytest.raises(ValueError, match=r"finite and at least 0, got values from -1.0 to 1.0"):
        attention_map([[-1.0, 1.0]], list("ab"), ["c"])
    with pytest.raises(ValueError, match="finite and at least 0, got values from nan"):
        attention_map([[math.nan, 1.0]], list("ab"), ["c"])
    with pytest.raises(ValueError, match="a token that is not padding, got 0 and 1"):
        attention_map(np.ones((1, 2)), ["", ""], ["a"])


def test_a_learning_curve_has_the_loss_on_top_and_a_panel_for_each_other_metric():
    figure = learning_curve(
        {"val_bleu": [1.0, 2.0], "loss": [3.0, 2.0], "val_loss": [3.5, 3.0], "accuracy": [0.1, 0.2]}
    )
    names = [axes.get_ylabel() for axes in figure.axes]
    assert names == ["loss (nats per token)", "BLEU", "accuracy"]
    assert figure.axes[-1].get_xlabel() == "epoch"


def test_an_epoch_that_was_not_measured_is_skipped_and_the_line_goes_on():
    figure = learning_curve({"loss": [5, 4, 3, 2], "val_bleu": [math.nan, 7.5, None, 11]})
    line = figure.axes[1].lines[0]
    assert list(line.get_xdata()) == [2, 4]
    assert list(line.get_ydata()) == [7.5, 11]


def test_lists_of_different_length_all_begin_at_epoch_1():
    figure = learning_curve({"loss": [5, 4, 3], "val_loss": [5]})
    training, validation = figure.axes[0].lines[:2]
    assert list(training.get_xdata()) == [1, 2, 3]
    assert list(validation.get_xdata()) == [1]


@pytest.mark.parametrize(
    ("history", "best"),
    [
        ({"loss": [3, 2, 1], "val_loss": [3, 2.25, 2.5]}, "best: 2.25 in epoch 2"),
        ({"val_bleu": [3, 7.5, 5]}, "best: 7.5 in epoch 2"),
        ({"val_wer": [math.nan, 30, 20]}, "best: 20 in epoch 3"),
        ({"loss": [2, 3]}, "best: 2 in epoch 1"),
        ({"val_infeasible": [5, 2, 0]}, "best: 0 in epoch 3"),
        ({"val_word_error_rate": [0.5, 0.3, 0.4]}, "best: 0.3 in epoch 2"),
        ({"val_sparse_categorical_crossentropy": [3, 2]}, "best: 2 in epoch 2"),
    ],
)
def test_the_best_epoch_is_the_lowest_loss_or_error_and_the_highest_score(history, best):
    legend = learning_curve(history).axes[0].get_legend()
    assert legend.get_texts()[-1].get_text() == best


def test_a_learning_curve_of_one_epoch_is_written(tmp_path):
    learning_curve({"loss": [3.0], "val_loss": [3.0]}, tmp_path / "curve.png")
    assert size_of(tmp_path / "curve.png")[0] > 500


def test_a_history_without_a_number_is_refused():
    for history in ({}, {"loss": []}, {"loss": [math.nan, None]}):
        with pytest.raises(ValueError, match="`history` must hold at least one number"):
            learning_curve(history)


def test_without_matplotlib_the_error_tells_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install kzoo\[plots\]"):
        learning_curve({"loss": [1.0]})


def test_plots_are_imported_without_matplotlib_and_never_use_pyplot():
    code = "import sys; sys.modules['matplotlib'] = None; import kzoo.plots"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for path in Path(plots.__file__).parent.glob("*.py"):
        assert "import matplotlib.pyplot" not in path.read_text(encoding="utf-8"), path
