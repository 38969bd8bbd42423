"""Transcribed audio: one function per source and format, for speech to text.

    named sources   asterisk, asterisk-es, -fr, -it, -ru       from Debian, kept in `cache_dir()`
    formats         nemo, common_voice, ljspeech, librispeech, audiofolder, kaldi, named_files
    front door      load_clips -> Splits(train, valid, test);   read_audio, read_all -> samples

Every reader returns `Clips` and follows the rules of `recipes.data`: what is skipped is counted,
what breaks its format is a `ValueError` with path and line. Nothing here imports TensorFlow.
"""

import functools
import os
import re
from collections import Counter
from pathlib import Path

from recipes.data import files, sources
from recipes.data.clips_asterisk import asterisk
from recipes.data.clips_files import (
    FOLDERS,
    audio_files,
    audiofolder,
    common_voice,
    has_file_names,
    kaldi,
    librispeech,
    ljspeech,
    named_files,
    nemo,
    said_in_name,
)
from recipes.data.examples import Clips
from recipes.data.splits import Splits, chosen_place, missing_shares, split_rows
from recipes.data.transcripts import as_spoken

HELD_OUT_CLIPS = 0.1  # of the clips, for valid and again for test: corpora of speech are small
MANIFESTS = ".jsonl or .json: NeMo; .tsv: Common Voice"


def load_clips(
    data: str = "asterisk",
    *,
    train: str | None = None,
    valid: str | None = None,
    test: str | None = None,
    transcripts: str = "spoken",
    seed: int = 0,
) -> Splits:
    """Reads train, valid and test clips; prints to stderr how many came and were skipped.

    Args:
        data: "asterisk", "asterisk-es", "-fr", "-it" or "-ru", or a path as for `train`, which
            takes its place. Either may name several, with weights: "asterisk:1,mine.jsonl:2".
        train, valid, test: a manifest, also compressed: .jsonl or .json (NeMo), .tsv (Common
            Voice); or a folder:
            metadata.csv with wavs/ (LJSpeech), *.trans.txt (LibriSpeech), wav.scp (Kaldi),
            metadata.csv or metadata.jsonl (audiofolder), or files named as those of FSDD or Speech
            Commands. An audiofolder may have train/, validation/ and test/ with one each; then
            `valid` and `test` are those, if not given.
        transcripts: "spoken" takes them through `spoken`, "written" as they are.
        seed: picks the groups that are held out.

    Returns:
        Splits of Clips. What was not given is split off by speaker (by text where none is
        named), save that `train` with `valid` but without `test` leaves `test` None.
    """
    name, place = chosen_place(data, train, "asterisk")
    parts = _parts(Path(place))
    place, valid, test = (
        parts.get("train", place),
        valid or parts.get("valid"),
        test or parts.get("test"),
    )
    is_closed = (train is not None or bool(parts)) and valid is not None
    read = {name: sources.read_each(place, functools.partial(_read, name))} | {
        name: _read(name, place)
        for name, place in (("valid", valid), ("test", test))
        if place is not None
    }
    if transcripts == "spoken":
        read = {name: as_spoken(clips) for name, clips in read.items()}
    whole = read.pop(name)
    shares = missing_shares(read, HELD_OUT_CLIPS, is_closed=is_closed)
    splits = split(whole, **shares, seed=seed)._replace(**read)
    trained = {*_sounds(splits.train)} if read else set()
    known = {part: sum(each in trained for each in _sounds(read[part])) for part in read}
    if not splits.test:
        splits = splits._replace(test=None)
    splits.say(known, "clips")
    return splits


def split(clips: Clips, *, valid: float, test: float, seed: int = 0) -> Splits:
    """Holds out whole groups, as `splits.hold_out` does: shares of the clips. What is held out of
    one source is in no other part of another, which may name other speakers."""
    groups = [clip.group for clip in clips.rows]
    splits = split_rows(clips, groups, valid=valid, test=test, seed=seed, one="clip")
    taken, parts = {}, {}  # {sound: the sources that hold it out}
    for name in reversed(Splits._fields):
        part = getattr(splits, name)
        both = [*zip(_sounds(part), (clip.source for clip in part.rows), strict=True)]
        rows = [row for row, (sound, own) in enumerate(both) if not taken.get(sound, {own}) - {own}]
        left_out = Counter({"that are held out": len(part) - len(rows)})
        parts[name] = part.chosen(rows, part.skipped + left_out)
        for sound, own in both:
            taken.setdefault(sound, set()).add(own)
    return Splits(**parts)


def _sounds(clips: Clips) -> list[tuple]:
    """What is heard in each clip: which piece of which file, whatever path leads to its folder."""
    real = functools.cache(os.path.realpath)
    return [(real(c.path.parent), c.path.name, c.start, c.stop) for c in clips.rows]


def _parts(folder: Path) -> dict[str, str]:
    """The folders of an audiofolder's parts, where there is one for training and none of all."""
    if files.metadata_of(folder):
        return {}
    found = files.metadata_of_parts(folder)
    return {part: str(path.parent) for part, path in found.items()} if "train" in found else {}


def _read(name: str, place: str) -> Clips:
    """Reads what the argument `name` = `place` means."""
    if name == "data" and re.fullmatch("asterisk(-[a-z]+)?", place) and not Path(place).exists():
        return asterisk(place.partition("-")[2] or "en")
    path = Path(place)
    if files.is_file(path) and files.plain_suffix(path) in (".jsonl", ".json"):
        return nemo(path)
    if files.is_file(path) and files.plain_suffix(path) == ".tsv":
        return common_voice(path)
    if path.is_dir():
        table = path / "metadata.csv"
        if table.exists() and (path / "wavs").is_dir() and not has_file_names(table):
            return ljspeech(path)
        if files.metadata_of(path):
            return audiofolder(path)
        if (path / "wav.scp").exists():
            return kaldi(path)
        if any(path.rglob("*.trans.txt")):
            return librispeech(path)
        if any(map(said_in_name, audio_files(path))):
            return named_files(path)
    raise ValueError(
        f"`{name}` must be a manifest ({MANIFESTS}) or a folder with {FOLDERS}"
        + (", or asterisk" if name == "data" else "")
        + f"; got {place!r}"
        + (f" with {len(audio_files(path)):,} audio files" if path.is_dir() else "")
    )
