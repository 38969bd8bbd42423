"""How long a content is, by its bytes, against the libraries that wrote it."""

import io
import math
import re

import numpy as np
import picture_files
import PIL.Image
import pytest
import wav_files

pytest.importorskip("kserve", reason="needs the extra serving")

from kzoo.serving import limits
from kzoo.serving.errors import Refused

LIMITS = {"max_characters": 5, "max_seconds": 0.5, "max_megapixels": 0.002}


@pytest.mark.parametrize("container", ["WAV", "RF64", "WAVEX"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW"])
def test_seconds_are_those_of_the_sound(container, subtype):
    wav = wav_files.written(np.zeros((4000, 2)), 8000, subtype, container)
    assert limits.seconds(wav) == pytest.approx(0.5, abs=0.02)


def test_seconds_do_not_believe_what_a_header_says_of_the_size():
    wav = wav_files.written(np.zeros(8000), 8000)
    liar = wav.replace(len(wav[44:]).to_bytes(4, "little"), (2).to_bytes(4, "little"))
    assert liar != wav and limits.seconds(liar) == pytest.approx(1, abs=0.01)
    chunks = b"RIFF\0\0\0\0WAVE" + 2000 * b"junk\0\0\0\0"
    assert limits.seconds(chunks) == math.inf  # it ends


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_megapixels_are_those_of_the_picture(kind):
    picture = picture_files.smooth(30, 70)
    content = picture_files.encoded(picture, kind)
    assert limits.megapixels(content) == pytest.approx(30 * 70 / 1e6)


@pytest.mark.parametrize(
    "name", sorted(set(picture_files.VARIANTS) - {"GIF larger than its canvas"})
)
def test_megapixels_of_all_that_a_model_reads_are_those_that_pillow_finds(name):
    content = picture_files.VARIANTS[name]
    with PIL.Image.open(io.BytesIO(content)) as picture:
        width, height = picture.size
    assert limits.megapixels(content) == pytest.approx(width * height / 1e6)


@pytest.mark.parametrize("start", [b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b""])
def test_what_breaks_off_is_left_to_the_model(start):
    for rest in (b"", b"\xff\xd0" * 300 * (start == b"\xff\xd8"), b"\0" * 40):
        assert not limits.megapixels(start + rest)
        assert limits.seconds(start + rest) is None
    assert limits.megapixels(b"\x89PNG" + b"\xff" * 40) > 1e12  # what it says it is


def test_characters_are_counted_in_utf_8():
    for text in ("", "a", "é", "日本", "😀😀"):
        assert limits.characters(text.encode()) == len(text)
    assert limits.characters(b"\xff" * 9) == 9
    assert limits.characters(b"\x80" * 8) == 2  # of such there are at least so many


def test_a_content_above_a_limit_is_refused_by_its_name_and_one_at_it_is_not():
    wav = wav_files.written(np.zeros(8000), 8000)
    picture = picture_files.encoded(picture_files.smooth(30, 70), "PNG")
    for argument, content, message in (
        ("text", b"123456", "'text' must have at most --max_characters 5, got 6."),
        ("audio_bytes", wav, "'audio_bytes' must have at most --max_seconds 0.5, got 1.00"),
        ("image_bytes", picture, "'image_bytes' must have at most --max_megapixels 0.002, got 0.0"),
    ):
        with pytest.raises(Refused, match=re.escape(message)):
            limits.check(argument, content, LIMITS)
    limits.check("text", b"12345", LIMITS)
    limits.check("text", "ééééé".encode(), LIMITS)
    limits.check("image_bytes", b"no picture", LIMITS)


def test_a_header_that_hides_the_size_of_a_picture_counts_as_too_large():
    frame = b"\xff\xc0\x00\x11\x08\x75\x30\x75\x30\x03" + bytes(20)  # 30,000 x 30,000
    comment = b"\xff\xfe\x00\x02"
    assert limits.megapixels(b"\xff\xd8" + comment + frame) == 900
    assert limits.megapixels(b"\xff\xd8" + 1001 * comment + frame) == math.inf
    assert limits.megapixels(b"\xff\xd8\xff\x00\xff\xf0\x00\x02" + frame) == 900
