"""How long a content is, read from its bytes before any work is done on it."""

import math

from kzoo.contents import PICTURE, SOUND
from kzoo.serving.errors import Refused

_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG's markers with the size of the frame
_BARE = {0x00, 0x01, *range(0xD0, 0xD9)}  # those without a length, and what is none
_CONTINUATIONS = bytes(range(0x80, 0xC0))  # of UTF-8, after the first byte of a character
_MOST_MARKERS = 1000  # of a JPEG, or chunks of a WAV; a hostile file has millions


def check(argument, content, limits):
    """Raises Refused, status 400, if a content is longer than the server takes.

    A file that this module cannot read passes: the model refuses it, as all others.

    Args:
        argument: str, name of the input.
        content: bytes.
        limits: dict of `max_characters`, `max_seconds` and `max_megapixels`.
    """
    if argument == SOUND.input_name:
        unit, measure = "seconds", seconds
    elif argument == PICTURE.input_name:
        unit, measure = "megapixels", megapixels
    else:
        unit, measure = "characters", characters
    name = f"max_{unit}"
    if unit == "characters" and len(content) <= limits[name]:
        return
    length = measure(content)
    if length is not None and length > limits[name]:
        raise Refused(
            f"an element of {argument!r} must have at most --{name} {limits[name]:g}, "
            f"got {length:,.6g}."
        )


def characters(text):
    """Characters of a text, bytes; each byte that is not UTF-8 counts as one or none."""
    return max(len(text.translate(None, _CONTINUATIONS)), len(text) // 4)


def seconds(wav):
    """Seconds of a WAV file, by its bytes and its format; None if it is none, inf
    if its format comes after more chunks than anyone writes."""
    order = {b"RIFF": "little", b"RF64": "little", b"BW64": "little", b"RIFX": "big"}.get(wav[:4])
    if order is None or wav[8:12] != b"WAVE":
        return None
    start = 12
    for _ in range(_MOST_MARKERS):
        name, size = wav[start : start + 4], int.from_bytes(wav[start + 4 : start + 8], order)
        if name == b"fmt ":
            form = wav[start + 8 : start + 24]
            channels, rate = int.from_bytes(form[2:4], order), int.from_bytes(form[4:8], order)
            width = max(-(-int.from_bytes(form[14:16], order) // 8), 1)
            return (len(wav) - start) / max(channels * rate * width, 1)
        if len(name) < 4:
            return None
        start += 8 + size + size % 2
    return math.inf


def megapixels(picture):
    """Millions of pixels of a JPEG, PNG, GIF or BMP, by its header; None if it is none."""
    if picture.startswith(b"\x89PNG"):
        size = _number(picture, 16, 4, "big"), _number(picture, 20, 4, "big")
    elif picture.startswith(b"GIF8"):
        size = _number(picture, 6, 2, "little"), _number(picture, 8, 2, "little")
    elif picture.startswith(b"BM") and _number(picture, 14, 4, "little") == 12:  # of OS/2
        size = _number(picture, 18, 2, "little"), _number(picture, 20, 2, "little")
    elif picture.startswith(b"BM"):
        size = tuple(
            abs(int.from_bytes(picture[at : at + 4], "little", signed=True)) for at in (18, 22)
        )
    elif picture.startswith(b"\xff\xd8"):
        size = _jpeg_size(picture)
    else:
        return None
    return size and size[0] * size[1] / 1e6


def _jpeg_size(picture):
    at = 2
    for _ in range(_MOST_MARKERS):
        at = picture.find(b"\xff", at)
        if at < 0 or at + 9 > len(picture):
            return None
        marker = picture[at + 1]
        if marker in _SOF:
            return _number(picture, at + 5, 2, "big"), _number(picture, at + 7, 2, "big")
        if marker == 0xFF or marker in _BARE:
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + _number(picture, at + 2, 2, "big")
    return math.inf, 1


def _number(data, start, size, order):
    return int.from_bytes(data[start : start + size], order)
