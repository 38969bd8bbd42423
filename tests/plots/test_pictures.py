import itertools
import math
import sys

import numpy as np
import pytest
from PIL import Image

from kzoo.plots import attention_overlay, contact_sheet

EVEN = np.full((2, 3, 4), 1 / 12)


def photograph(height=21, width=34, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3))


def shown(figure):
    """The pixels of each panel, in [0, 1]."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def texts(figure):
    return [label.get_text() for label in figure.texts if label.get_text()]


def boxes(figure):
    """Where the texts and the pictures lie when drawn, in inches."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    drawn = [label for label in figure.texts if label.get_text()] + [
        a.images[0] for a in figure.axes
    ]
    return [artist.get_window_extent(renderer) for artist in drawn]


def check_layout(figure):
    found = boxes(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for box in found:
        assert -1 <= box.x0 < box.x1 <= width + 1 and -1 <= box.y0 < box.y1 <= height + 1
    for one, other in itertools.combinations(found, 2):
        shared = min(one.x1, other.x1) - max(one.x0, other.x0)
        assert shared <= 0.5 or min(one.y1, other.y1) - max(one.y0, other.y0) <= 0.5


def test_an_overlay_is_the_picture_times_the_light_of_its_equation():
    pixels, weights = photograph(), np.random.default_rng(1).dirichlet(np.ones(12), 2)
    weights = weights.reshape(2, 3, 4)
    figure = attention_overlay(pixels, weights, ["a", "frog"])
    plain, *panels = shown(figure)
    np.testing.assert_allclose(plain, pixels / 255, atol=1e-6)
    smooth = np.zeros((2, 21, 34))
    for y, x in itertools.product(range(21), range(34)):
        place = np.array([(y + 0.5) * 3 / 21, (x + 0.5) * 4 / 34])
        bell = np.array(
            [[math.exp(-2 * ((place - [i + 0.5, j + 0.5]) ** 2).sum()) for j in range(4)]
             for i in range(3)]
        )  # fmt: skip
        smooth[:, y, x] = (weights * bell).sum((1, 2)) / bell.sum()
    light = 0.25 + 0.75 * smooth / smooth.max()
    for panel, shade in zip(panels, light, strict=True):
        np.testing.assert_allclose(panel, pixels / 255 * shade[:, :, None], atol=1e-5)
    assert texts(figure)[0].replace(
        "\n", " "
    ) == "bright: most attention, smoothed, of all words, dark: none; " + (
        f"the largest weight of a region is {weights.max():.2g}"
    )


def test_the_weight_that_is_named_is_that_of_a_drawn_word_and_not_smoothed():
    weights = np.zeros((3, 5, 7))
    weights[0, 2, 3], weights[1], weights[2, 1, 1] = 0.75, 1 / 35, 1.0
    (note,) = (t for t in texts(attention_overlay(photograph(), weights, ["a", "b", "</s>"])) if
               "bright" in t)  # fmt: skip
    assert note.replace("\n", " ").endswith("the largest weight of a region is 0.75")


def test_a_uniform_grid_is_bright_everywhere_and_one_of_zeros_dark():
    pixels = photograph()
    _, panel, _ = shown(attention_overlay(pixels, EVEN, ["a", "b"]))
    np.testing.assert_allclose(panel, pixels / 255, atol=1e-5)
    _, panel, _ = shown(attention_overlay(pixels, 0 * EVEN, ["a", "b"]))
    np.testing.assert_allclose(panel, pixels / 255 * 0.25, atol=1e-5)


def test_the_end_and_padding_have_no_panel():
    weights = np.full((4, 3, 4), 1 / 12)
    figure = attention_overlay(photograph(), weights, [b"frog", "", "mango", "</s>"])
    assert len(figure.axes) == 3
    assert [t for t in texts(figure) if "bright" not in t] == ["frog", "mango"]


LONG = "Donaudampfschifffahrtsgesellschaftskapitän"


def test_no_text_of_an_overlay_is_cut_or_overlaps(tmp_path):
    tokens = ["a", LONG, "$x$_", " ", *(f"word{n}" for n in range(9)), "WWWWWWWWWWWWWWWWW"]
    weights = np.full((len(tokens), 3, 4), 1 / 12)
    figure = attention_overlay(
        photograph(30, 30),
        weights,
        tokens,
        tmp_path / "overlay.png",
        title="a word " * 40,
        columns=5,
    )
    check_layout(figure)
    written = "".join(texts(figure))
    assert LONG in written.replace("\n", "") and "$x$_" in written and "␣" in written
    with Image.open(tmp_path / "overlay.png") as picture:
        assert min(picture.size) > 600


def test_no_text_of_a_sheet_is_cut_or_overlaps(tmp_path):
    sizes = [(30, 30), (20, 50), (50, 20), (7, 11), (1, 1)]
    pictures = [photograph(*size) for size in sizes]
    captions = ["a frog", "words and more of them " * 9, "", "x" * 99, "W" * 40]
    references = ["a frog", "b", "c d " * 30, "中文 \n👩‍👩‍👧", "y" * 60]
    figure = contact_sheet(
        pictures, captions, references, tmp_path / "sheet.png", title="All of them", columns=3
    )
    check_layout(figure)
    written = "".join(texts(figure)).replace("\n", "")
    assert "x" * 99 in written and "(no word)" in written and "reference: a frog" in written
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_right_and_wrong_differ_in_sign_and_colour():
    pictures = [photograph(), photograph(seed=1)]
    figure = contact_sheet(pictures, ["a frog", "a dog"], ["a frog", "a cat"], right=[True, False])
    marked = {label.get_text(): label.get_color() for label in figure.texts}
    assert marked["✓ a frog"] != marked["✗ a dog"]
    np.testing.assert_allclose(shown(figure)[1], pictures[1] / 255, atol=1e-6)
    without = contact_sheet(pictures, ["a frog", "a dog"], ["a frog", "a cat"])
    assert "a frog" in texts(without)


def test_an_overlay_refuses_what_does_not_fit():
    pixels = photograph()
    with pytest.raises(
        ValueError, match=r"`pixels` must be of shape \(H, W, 3\), got shape \(21, "
    ):
        attention_overlay(pixels[:, :, 0], EVEN, ["a", "b"])
    with pytest.raises(ValueError, match=r"grid for each token, got shape \(2, 3, 4\), 1 tokens"):
        attention_overlay(pixels, EVEN, ["a"])
    with pytest.raises(ValueError, match=r"got shape \(2, 12\), 2 tokens"):
        attention_overlay(pixels, EVEN.reshape(2, 12), ["a", "b"])
    for bad, came in ((-1.0, "from -1.0 to 1.0"), (math.nan, "from nan")):
        with pytest.raises(ValueError, match=f"must be finite and at least 0, got values {came}"):
            attention_overlay(pixels, [[[bad, 1.0]]], ["a"])
    with pytest.raises(ValueError, match=r"`tokens` must hold one beside .*, got \['', '</s>'\]"):
        attention_overlay(pixels, EVEN, ["", "</s>"])
    with pytest.raises(ValueError, match="`columns` must be at least 1, got columns=0"):
        attention_overlay(pixels, EVEN, ["a", "b"], columns=0)


def test_a_sheet_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="equally many and at least 1, got 0, 0, 0"):
        contact_sheet([], [], [])
    with pytest.raises(ValueError, match="equally many and at least 1, got 1, 2, 1"):
        contact_sheet([photograph()], ["a", "b"], ["c"])
    with pytest.raises(ValueError, match="equally many and at least 1, got 1, 1, 1, 2"):
        contact_sheet([photograph()], ["a"], ["c"], right=[True, False])
    with pytest.raises(ValueError, match=r"`pictures\[1\]` must be .*, got shape \(0, 7, 3\)"):
        contact_sheet([photograph(), np.zeros((0, 7, 3))], ["a", "b"], ["c", "d"])


def test_without_matplotlib_the_error_tells_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install kzoo\[plots\]"):
        contact_sheet([photograph()], ["a"], ["b"])
