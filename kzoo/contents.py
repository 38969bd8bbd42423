"""What a content is, text, sound or picture: how a model, a server and the command line take it."""

import codecs
from pathlib import Path
from typing import NamedTuple

UNICODE_MARKS = {  # at the beginning of files that are not UTF-8; the longer ones first
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class Content(NamedTuple):
    """A kind of what models read. The source of a model says which with its attribute `content`."""

    input_name: str  # of the signatures
    neutral: bytes  # the content where nobody gave an example
    longest: int  # in `unit`s, unless an export says otherwise
    unit: str
    usage: tuple  # how to write one in a shell and in Python
    expected: str  # what a ValueError says of other kinds
    is_file: bool  # whether a str names a file
    at_once: int  # most that the command line reads before it answers

    def as_bytes(self, contents):
        """The bytes of each content.

        Args:
            contents: list or tuple of bytes, taken as they are, and of str: a text, or else the
                path of a file, which may also be a pathlib.Path.

        Returns:
            list of bytes.

        Raises:
            ValueError: `contents` is no list, or holds something else, or an empty path.
            OSError: a file cannot be read.
        """
        kinds = (str, bytes, Path) if self.is_file else (str, bytes)
        is_list = isinstance(contents, list | tuple)
        if not is_list or not all(isinstance(content, kinds) for content in contents):
            raise ValueError(f"{self.expected}, got {contents!r}.")
        read = _file if self.is_file else _utf_8
        return [content if isinstance(content, bytes) else read(content) for content in contents]


def _file(path):
    if path == "":
        raise ValueError("The path of a file must not be empty.")
    return Path(path).read_bytes()


def _utf_8(text):
    # A lone surrogate becomes bytes that are not UTF-8, and so unknown characters.
    return text.encode("utf-8", "surrogatepass")


LANGUAGE_CODE = "[A-Za-z]{2,4}(?:[-_][A-Za-z0-9]+)*"  # fr, fra, pt_BR, zh-Hans
LANGUAGE = "language"  # an input that requests may leave out: of the answer, "" for the text's own
_HALF_A_SECOND = 16_000  # bytes: 16 bits, one channel, 16 kHz
_SILENCE = (
    b"RIFF" + (36 + _HALF_A_SECOND).to_bytes(4, "little")
    + b"WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0"
    + b"data" + _HALF_A_SECOND.to_bytes(4, "little") + bytes(_HALF_A_SECOND)
)  # fmt: skip
_GREY = b"BM" + b"".join(
    number.to_bytes(count, "little")
    for number, count in (
        *((58, 4), (0, 4), (54, 4), (40, 4), (1, 4), (1, 4), (1, 2), (24, 2)),
        *((0, 24), (0x7F7F7F, 4)),
    )
)  # a BMP of one pixel

TEXT = Content(
    input_name="text",
    neutral=b"1, 2, 3.",
    longest=256,
    unit="tokens",
    usage=('"text"', '"text"'),
    expected="`texts` must be a str or a list of str",
    is_file=False,
    at_once=1024,
)
SOUND = Content(
    input_name="audio_bytes",
    neutral=_SILENCE,
    longest=60,
    unit="seconds",
    usage=("file.wav", 'open("file.wav", "rb").read()'),
    expected="`contents` must be a path or bytes of a WAV file, or a list",
    is_file=True,
    at_once=32,
)
PICTURE = Content(
    input_name="image_bytes",
    neutral=_GREY,
    longest=64,
    unit="megapixels",
    usage=("picture.jpg", 'open("picture.jpg", "rb").read()'),
    expected="`contents` must be a path or bytes of a picture, or a list",
    is_file=True,
    at_once=32,
)
OF_INPUT = {content.input_name: content for content in (TEXT, SOUND, PICTURE)}
