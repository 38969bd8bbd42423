"""The sound of clips: files read as samples, or their headers alone."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

import kzoo
from recipes.data import files
from recipes.data.examples import Clip, Clips

_MP3_BEFORE = 11_520  # samples, ten frames: what is heard of a frame may be in those before
_MOST_FRAMES = 2**31  # of a file: 13 hours at 44,100 Hz
_MOST_FRAMES_A_BYTE = 8192  # silence in FLAC has up to 4,700
AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def read_audio(clip: Clip) -> tuple[np.ndarray, int]:
    """(samples (L,) float32, channels averaged; rate in Hz).

    A WAV file, whatever its name, is what `kzoo.audio.decode_wav` makes of it, as it is when it is
    served; other files are what libsndfile reads, MP3 included.

    Raises:
        ValueError: naming where the clip is listed, if the file is broken or has nothing there.
        ImportError: the soundfile package is missing.
    """
    samples, rate = _read(clip, _wav, _others)
    if not samples.size:
        raise ValueError(
            f"{clip.place}: expected sound in {clip.path} from second {clip.start}, got none"
        )
    return samples, rate


def seconds_of(clips: Clips) -> dict[str, float]:
    """{name of a clip: its seconds} by the headers of the files, without those that cannot be read,
    of which `read_all` says why."""
    found = {}
    both = zip(clips.names, clips.rows, strict=True)
    for name, clip in files.progress(both, "Looking at the length of clip"):
        with contextlib.suppress(ValueError):
            found[name] = _read(clip, _wav_seconds, _others_seconds)
    return found


def _read(clip: Clip, wav: Callable, others: Callable):
    """What one of two readers makes of the clip: that of WAV files or that of all others.

    Raises:
        ValueError: naming where the clip is listed, if the file is broken.
    """
    import soundfile  # 1 MB and a shared library: only those who train need it
    import tensorflow as tf

    try:
        with open(clip.path, "rb") as file:
            magic = file.read(4)
        return (wav if magic in kzoo.audio.wav.MAGIC else others)(clip)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"{clip.place}: expected an audio file in {clip.path}: {files.refusal(error)}"
        ) from None
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{clip.place}: expected an audio file in {clip.path}: {error}") from error


def _wav(clip: Clip) -> tuple[np.ndarray, int]:
    """Reads the header, then the bytes of the clip alone: a file may hold hours of them."""
    layout_of, decode_sound, _ = _decoders()
    with open(clip.path, "rb") as file:
        layout = _layout(file, layout_of)
        rate, block, begin, count = _piece(clip, layout)
        file.seek(int(layout.start) + begin * block)
        return decode_sound(file.read(count * block), layout).numpy(), rate


def _wav_seconds(clip: Clip) -> float:
    with open(clip.path, "rb") as file:
        rate, _, _, count = _piece(clip, _layout(file, _decoders()[0]))
    return count / rate


def _piece(clip: Clip, layout: kzoo.audio.wav.Layout) -> tuple[int, int, int, int]:
    """The rate, the bytes of a sample of all channels, and the first and number of the samples."""
    rate, block = int(layout.rate_hz), int(layout.channels * layout.width)
    return rate, block, *_range(clip, rate, int(layout.length) // block)


def _layout(file: BinaryIO, layout_of: Callable) -> kzoo.audio.wav.Layout:
    """What the header says. Most are short, but a picture of the singer may stand before a song."""
    import tensorflow as tf

    size = os.fstat(file.fileno()).st_size
    for most in (2**12, 2**20, size):
        file.seek(0)
        try:
            return layout_of(file.read(most), size)
        except tf.errors.InvalidArgumentError as error:
            if most >= size or "chunk" not in files.refusal(error):
                raise
    raise AssertionError("the last one is the whole file")


def _others(clip: Clip) -> tuple[np.ndarray, int]:
    import soundfile

    with soundfile.SoundFile(clip.path) as file:
        # libsndfile finds a WAV behind an ID3 tag, and goes by no suffix; a server does neither.
        if file.format in ("WAV", "WAVEX", "RF64") or clip.path.suffix.lower() == ".wav":
            raise OSError("a WAV file must begin with RIFF, as a server wants it")
        begin, count = _range(clip, file.samplerate, _frames(file, clip.path))
        # What a frame of MP3 means, it takes from frames before it.
        before = min(begin, _MP3_BEFORE) if file.format == "MP3" else 0
        file.seek(begin - before)
        samples = file.read(before + count, dtype="float32", always_2d=True)[before:]
        _, _, bounded_floats = _decoders()
        bounded = bounded_floats(samples.reshape(-1)).numpy().reshape(samples.shape)
        return bounded.mean(1), file.samplerate


def _others_seconds(clip: Clip) -> float:
    import soundfile

    with soundfile.SoundFile(clip.path) as file:
        return _range(clip, file.samplerate, _frames(file, clip.path))[1] / file.samplerate


def _frames(file, path: Path) -> int:
    """How many samples the header of a soundfile.SoundFile promises, if that can be."""
    if file.frames > min(_MOST_FRAMES, _MOST_FRAMES_A_BYTE * path.stat().st_size):
        raise OSError(
            f"its header says {file.frames:,} samples; write it anew, as with "
            f"ffmpeg -i {path.name} new.wav"
        )
    return file.frames


def _range(clip: Clip, rate: int, frames: int) -> tuple[int, int]:
    """(first, count) of the samples of the clip, among those of the file."""
    begin = min(round(clip.start * rate), frames)
    count = frames if clip.stop is None else round(clip.stop * rate) - round(clip.start * rate)
    return begin, max(min(count, frames - begin), 0)


@functools.cache
def _decoders() -> tuple[Callable, Callable, Callable]:
    """(bytes and size of a file -> Layout; bytes and Layout -> samples; floats -> samples)."""
    import tensorflow as tf

    content, number = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)
    layout = kzoo.audio.wav.Layout(*[number] * 8)._replace(is_big=tf.TensorSpec([], tf.bool))

    @tf.function(input_signature=[content, number], autograph=False)
    def layout_of(head, size):
        return kzoo.audio.wav.layout_of(tf.io.decode_raw(head, tf.uint8), size)

    @tf.function(input_signature=[content, layout], autograph=False)
    def decode_sound(sound, layout):
        return kzoo.audio.wav.decode_sound(tf.io.decode_raw(sound, tf.uint8), layout)

    floats = tf.function(
        kzoo.audio.samples.bounded_floats,
        input_signature=[tf.TensorSpec([None], tf.float32)],
        autograph=False,
    )
    return layout_of, decode_sound, floats


def read_all(clips: Clips) -> Iterator[tuple[Clip, tuple[np.ndarray, int] | None]]:
    """(clip, what `read_audio` finds, or None if it fails) of each; failures are said at the end.

    Raises:
        ValueError: at the end, if all fail.
    """
    failed = []
    for clip in clips.rows:
        try:
            found = read_audio(clip)
        except ValueError as error:
            found = None
            failed.append(str(error))
        yield clip, found
    if failed and len(failed) == len(clips):
        raise ValueError(f"None of {len(clips):,} clips is readable; the first: {failed[0]}")
    if failed:
        files.say(f"{len(failed):,} of {len(clips):,} clips unreadable; the first: {failed[0]}")


def as_sent(clip: Clip, samples: np.ndarray, rate_hz: int) -> bytes:
    """What a client sends to be answered: a WAV file as it is, what else there is as 16-bit WAV.

    `samples` and `rate_hz` are those of `read_audio`.
    """
    content = clip.path.read_bytes() if clip.start == 0 and clip.stop is None else b""
    return content if content[:4] in kzoo.audio.wav.MAGIC else wav_bytes(samples, rate_hz)


def wav_bytes(samples: np.ndarray, rate_hz: int) -> bytes:
    """16-bit WAV, one channel."""
    import tensorflow as tf

    return tf.audio.encode_wav(samples[:, None], rate_hz).numpy()
