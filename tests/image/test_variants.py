"""Every kind of picture file beside Pillow, decoded in one graph as the SavedModel has it."""

import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from picture_files import (
    REFUSED,
    VARIANTS,
    encoded,
    gif_of,
    png_with,
    scans,
    shown,
    smooth,
    too_large,
)

from kzoo import image


@pytest.fixture(scope="module")
def decode():
    """`image.decode` in a graph."""
    spec = tf.TensorSpec([], tf.string)
    run = tf.function(image.decode, input_signature=[spec], autograph=False)
    return lambda content: run(tf.constant(content)).numpy().astype(int)


def ended(name, content):
    """With the end mark that Pillow asks for."""
    if name.startswith("JPEG") and name.endswith("an end"):
        return content.rstrip(b"\xff") + b"\xff\xd9"
    return content


@pytest.mark.parametrize("name", VARIANTS)
def test_a_picture_has_the_pixels_that_pillow_shows_on_white(name, decode):
    found, expected = decode(VARIANTS[name]), shown(ended(name, VARIANTS[name]))
    assert found.shape == expected.shape
    at_most = 0 if name.startswith(("BMP", "GIF")) else 1 if name.startswith("PNG") else 4
    assert np.abs(found - expected).max() <= at_most


def test_pillow_writes_the_kinds_that_the_table_is_to_have():
    kinds = {name.split()[0] for name in VARIANTS}
    assert kinds == {"BMP", "GIF", "JPEG", "PNG"} and len(VARIANTS) > 120
    assert {"PNG I;16", "PNG 1", "GIF RGBA", "JPEG CMYK", "BMP 1", "BMP P"} <= set(VARIANTS)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_by_a_rule(name, decode):
    content, rule = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=rule):
        decode(content)


@pytest.mark.parametrize("name", too_large())
def test_what_says_that_it_is_larger_is_refused_by_that_alone(name, decode):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must have 1 to 64,000,000 pixels"):
        decode(too_large()[name])


def test_what_follows_the_first_frame_of_a_gif_is_not_looked_at(decode):
    """Neither sizes, which TensorFlow would make the picture's, nor whether it is whole."""
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    expected = decode(gif_of(numbers, canvas=(1, 1)))
    large = b"," + bytes(4) + struct.pack("<HHB", 6000, 6000, 0) + b"\x08\x03abc"
    for after in (large, large * 9, large[:5], b"\0", b"?", b"!\xf9\x04\x01\0\0\x03\0" + large):
        np.testing.assert_array_equal(decode(gif_of(numbers, canvas=(1, 1), after=after)), expected)
    assert expected.shape == (3, 4, 3)


@pytest.mark.parametrize("sizes", [[255], [254], [1], [1, 255], [128, 3, 200], [255] * 40 + [7]])
def test_the_data_of_a_gif_may_come_in_parts_of_any_length(sizes, decode):
    numbers = np.random.default_rng(0).integers(0, 256, (120, 700)).astype(np.uint8)
    content = gif_of(numbers)
    place = content.index(b"," + bytes(4)) + 11
    data, rest, turn = b"", content[place:], 0
    while rest[0]:
        data, rest = data + rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
    parts = b""
    while data:
        part, turn = data[: sizes[turn % len(sizes)]], turn + 1
        parts, data = parts + bytes([len(part)]) + part, data[len(part) :]
    assert len(parts) > 70_000  # more than is searched at once
    np.testing.assert_array_equal(decode(content[:place] + parts + rest)[:, :, 0], numbers)


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 2}, {"optimize": True}])
def test_a_jpeg_that_lacks_more_than_its_end_is_refused(options, decode):
    """Wherever it breaks off, unless its pixels are all there."""
    pixels = smooth(61, 83) // 2 + np.random.default_rng(0).integers(0, 60, (61, 83, 3))
    for picture in (pixels.astype(np.uint8), smooth(61, 83)):
        content = encoded(picture, "JPEG", **options)
        whole, begin = decode(content), content.index(b"\xff\xda")
        taken = []
        for end in [*range(begin, len(content), 37), *range(len(content) - 30, len(content))]:
            for rest in (b"", bytes(99)):
                try:
                    found = decode(content[:end] + rest)
                except tf.errors.InvalidArgumentError:
                    continue
                np.testing.assert_array_equal(found, whole)
                taken.append(end)
        assert set(taken) == {len(content) - 2, len(content) - 1}


def test_a_jpeg_has_as_many_scans_as_encoders_write_and_no_more(decode):
    assert decode(scans(60)).shape == (61, 83, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 100 scans"):
        decode(scans(5000))
    # What looks like the mark of a scan in other segments and behind the end is none.
    content, like = encoded(smooth(), "JPEG"), b"\xff\xda" * 200
    segment = b"\xff\xe4" + struct.pack(">H", 2 + len(like)) + like
    found = decode(content[:2] + segment + content[2:] + like)
    np.testing.assert_array_equal(found, decode(content))


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_compressed_texts_in_a_png_are_not_unpacked(before, decode):
    """Each 8 kB would become 8 MB and stay in memory: 2 MB took 11 s and 3 GB."""
    packed = zlib.compress(bytes(7_900_000), 9)
    texts = [(b"zTXt", b"a\0\0" + packed), (b"iTXt", b"a\0\1\0\0\0" + packed)]
    content = png_with(encoded(smooth(), "PNG"), *texts * 10, before=before)
    # A single one that is unpacked takes longer than all of this: the limit is far from both.
    assert len(re.findall(b"zTXt|iTXt", content)) == 20
    peak = _peak()
    np.testing.assert_array_equal(decode(content), smooth())
    assert _peak() - peak < 80_000_000


def _peak():
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_png_of_many_chunks_is_refused(decode):
    content = png_with(encoded(smooth(), "PNG"), *[(b"tEXt", b"")] * 31_000)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at most 30,000 chunks"):
        decode(content)


def test_a_png_is_of_the_size_that_was_checked(decode):
    """Apple's PNGs begin with another chunk, so that the size would be read at the wrong place."""
    content = encoded(smooth(), "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError, match="must begin with IHDR"):
        decode(png_with(content, (b"CgBI", b"\x50\0\x20\x02"), before=b"IHDR"))
