"""The sound of clips: files read as samples."""

from collections.abc import Iterator

import numpy as np

from recipes.data import files
from recipes.data.examples import Clip, Clips

AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def read_audio(clip: Clip) -> tuple[np.ndarray, int]:
    """(samples (L,) float32, channels averaged; rate in Hz): what libsndfile reads, MP3 included.

    Raises:
        ValueError: naming where the clip is listed, if the file is broken or has nothing there.
        ImportError: the soundfile package is missing.
    """
    import soundfile  # 1 MB and a shared library: only those who train need it

    try:
        with soundfile.SoundFile(clip.path) as file:
            rate = file.samplerate
            file.seek(min(round(clip.start * rate), file.frames))
            count = -1 if clip.stop is None else round(clip.stop * rate) - round(clip.start * rate)
            samples = file.read(count, dtype="float32", always_2d=True).mean(1)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{clip.place}: expected an audio file in {clip.path}: {error}") from error
    if not samples.size:
        raise ValueError(
            f"{clip.place}: expected sound in {clip.path} from second {clip.start}, got none"
        )
    return samples, rate


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


def wav_bytes(samples: np.ndarray, rate_hz: int) -> bytes:
    """16-bit WAV, one channel."""
    import tensorflow as tf

    return tf.audio.encode_wav(samples[:, None], rate_hz).numpy()
