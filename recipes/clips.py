"""Transcribed audio: one function per source and format, for speech to text.

    named sources   asterisk, asterisk-es, -fr, -it, -ru       from Debian, kept in `cache_dir()`
    formats         nemo, common_voice, ljspeech, librispeech, audiofolder, kaldi, named_files
    front door      load_clips -> Splits(train, valid, test);   read_audio, read_all -> samples

Every reader returns `Clips` and follows the rules of `recipes.data`: what is skipped is counted,
what breaks its format is a `ValueError` with path and line. Nothing here imports TensorFlow.
"""

import gzip
import math
import re
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recipes import data as sources
from recipes.data import Splits

HELD_OUT_SHARE = 0.1  # of the clips, for valid and again for test: corpora of speech are small
AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")
MANIFESTS = ".jsonl or .json: NeMo; .tsv: Common Voice"
FOLDERS = (
    "metadata.csv and wavs/ (LJSpeech), *.trans.txt (LibriSpeech), wav.scp (Kaldi), metadata.csv "
    "or metadata.jsonl with file_name (audiofolder), or audio named as 7_jackson_32.wav (FSDD) or "
    "yes/0a7c_nohash_0.wav (Speech Commands)"
)
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEXT_KEYS = ("text", "transcription", "transcript", "sentence")
VARIATION_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # marks of emoji, never heard
SPEAKER_KEYS = ("speaker", "speaker_id", "client_id")


class Clip(NamedTuple):
    """A piece of an audio file, and what is said in it."""

    path: Path
    text: str
    group: str  # what a split must not tear apart: the speaker, where the source names one
    place: str  # where the clip is listed, for messages
    start: float = 0.0  # seconds
    stop: float | None = None  # seconds; None is the end
    speaker: str = ""  # "" where the source names none, or has one alone


@dataclass(frozen=True)
class Clips:
    """Transcribed clips; `len(clips)` is their number. `skipped` counts those left out."""

    rows: list[Clip] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return sources.with_reasons(f"{len(self):,} clips", self.skipped)

    @property
    def texts(self) -> list[str]:
        return [clip.text for clip in self.rows]

    def add(self, path, text, speaker, place, start=0.0, stop=None, group="") -> None:
        """Appends one clip, or counts why not. An empty `group` means the speaker, else the text.

        Raises:
            ValueError: if there is no such file.
        """
        text = sources.one_line(text)
        if not sources.is_utf8(text):
            self.skipped["invalid UTF-8"] += 1
        elif sources.BLANK.fullmatch(text):
            self.skipped["without a transcript"] += 1
        elif not Path(path).is_file():
            raise ValueError(f"{place}: expected an audio file, but there is no {path}")
        else:
            group = group or speaker or text
            self.rows.append(Clip(Path(path), text, group, place, start, stop, speaker))


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
            takes its place.
        train, valid, test: a manifest: .jsonl or .json (NeMo), .tsv (Common Voice); or a folder:
            metadata.csv with wavs/ (LJSpeech), *.trans.txt (LibriSpeech), wav.scp (Kaldi),
            metadata.csv or metadata.jsonl (audiofolder), or files named as those of FSDD or Speech
            Commands.
        transcripts: "spoken" takes them through `spoken`, "written" as they are.
        seed: picks the groups that are held out.

    Returns:
        data.Splits of Clips. What was not given is split off by speaker (by text where none is
        named), save that `train` with `valid` but without `test` leaves `test` None.
    """
    if train is not None and data != "asterisk":
        raise ValueError(
            f"`data` and `train` must not both be given, got data={data!r}, train={train!r}."
        )
    name, place = ("data", data) if train is None else ("train", train)
    read = {name: _read(name, place)} | {
        name: _read(name, place)
        for name, place in (("valid", valid), ("test", test))
        if place is not None
    }
    if transcripts == "spoken":
        read = {name: as_spoken(clips) for name, clips in read.items()}
    whole = read.pop(name)
    shares = {name: 0.0 if name in read else HELD_OUT_SHARE for name in ("valid", "test")}
    if train is not None and valid is not None:
        shares["test"] = 0.0
    splits = split(whole, **shares, seed=seed)._replace(**read)
    if not splits.test:
        splits = splits._replace(test=None)
    for name, clips in splits._asdict().items():
        sources.say(f"{name}: {'not given' if clips is None else clips}")
    return splits


def split(clips: Clips, *, valid: float, test: float, seed: int = 0) -> Splits:
    """Holds out whole groups, as `data.hold_out` does: shares of the clips."""
    home = sources.hold_out([clip.group for clip in clips.rows], valid=valid, test=test, seed=seed)
    parts = {"train": Clips(skipped=Counter(clips.skipped)), "valid": Clips(), "test": Clips()}
    for clip in clips.rows:
        parts[home.get(clip.group, "train")].rows.append(clip)
    for name, share in (("train", 1.0), ("valid", valid), ("test", test)):
        if share and not parts[name]:
            raise ValueError(
                f"Splitting must leave at least one clip in `{name}`, got none of {len(clips):,} "
                "clips; give `train`, `valid` and `test` yourself."
            )
    return Splits(**parts)


def spoken(text: str) -> str:
    """Lower case, without punctuation save the apostrophes within words: "Don't!" -> "don't".

    Letters keep their marks, as the vowels of Hindi and Thai are; characters that are not seen, as
    between the letters of Persian, go without a trace.
    """
    # Lower case of the Turkish dotted capital is two characters, of which the second is a dot.
    text = unicodedata.normalize("NFKC", text).replace("\u0130", "i").lower()
    words = "".join(map(_spoken, text.replace("\u2019", "'"))).split()
    words = (word.strip("'") for word in words)
    return " ".join(word for word in words if any(map(str.isalnum, word)))


def _spoken(character: str) -> str:
    """What stays of a character: itself, nothing or a space."""
    category = unicodedata.category(character)
    if category == "Cf" or character in VARIATION_SELECTORS:
        return ""
    return character if category[0] in "LMN" or character == "'" else " "


def as_spoken(clips: Clips) -> Clips:
    """The clips with `spoken` transcripts; one without a word is skipped and counted."""
    changed = Clips(skipped=Counter(clips.skipped))
    for clip in clips.rows:
        if text := spoken(clip.text):
            changed.rows.append(clip._replace(text=text))
        else:
            changed.skipped["without a word"] += 1
    return changed


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
        sources.say(f"{len(failed):,} of {len(clips):,} clips unreadable; the first: {failed[0]}")


# --- named sources -------------------------------------------------------------------------------


def asterisk(language: str = "en") -> Clips:
    """The prompts of the Asterisk telephone exchange, one voice, 8 kHz, CC-BY-SA-3.0.

    Debian packages `asterisk-core-sounds-*`; English has 560 clips, 25 minutes.
    """
    names = f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-wav"
    return asterisk_clips(*(sources.debian_package(name) for name in names))


def asterisk_clips(texts_package: str | Path, sounds_package: str | Path) -> Clips:
    """Joins the transcripts of one .deb with the recordings of another, which are unpacked into
    `data.cache_dir()`. A text in brackets describes a sound that is no speech."""
    folder = _unpacked(sounds_package)
    clips, listed = Clips(), _asterisk_texts(texts_package)
    for key, text in listed.items():
        path = folder / f"{key}.wav"
        if text.startswith("["):
            clips.skipped["not speech"] += 1
        elif not path.is_file():
            clips.skipped["without a recording"] += 1
        else:
            clips.add(path, text, "", f"{texts_package}, {key}", group=spoken(text))
    return _some(clips, texts_package)


def _asterisk_texts(package: str | Path) -> dict[str, str]:
    """{key: text} of the lines "key: text" in core-sounds-*.txt.gz."""
    try:
        with tarfile.open(fileobj=sources.deb_data(package), mode="r:*") as archive:
            names = [n for n in archive.getnames() if re.search(r"/core-sounds-\w+\.txt\.gz$", n)]
            if not names:
                raise ValueError(f"{package}: expected a file core-sounds-*.txt.gz")
            content = gzip.decompress(archive.extractfile(names[0]).read()).decode()
    except (tarfile.TarError, *sources.UNREADABLE, UnicodeDecodeError) as error:
        raise sources.unreadable(package, error) from error
    lines = (line for line in content.split("\n") if not line.startswith(";"))
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): text.strip() for key, colon, text in pairs if colon}


def _unpacked(package: str | Path) -> Path:
    """The folder in the cache with the .wav files of a package, below share/asterisk/sounds/*/."""

    def write(folder):
        sources.say(f"Unpacking {package}")
        try:
            with tarfile.open(fileobj=sources.deb_data(package), mode="r:*") as archive:
                for member in archive:
                    found = re.search(r"/sounds/[^/]+/([\w/-]+\.wav)$", member.name)
                    if found and member.isfile():
                        path = folder / found[1]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(archive.extractfile(member).read())
        except (tarfile.TarError, *sources.UNREADABLE) as error:
            raise sources.unreadable(package, error) from error

    return sources.make_folder(sources.cache_dir() / Path(package).stem, write)


# --- formats -------------------------------------------------------------------------------------


def nemo(path: str | Path) -> Clips:
    """NeMo's manifest: an object a line with "audio_filepath", "text" and, if there, "speaker",
    "offset" and "duration" (seconds). Paths are relative to the manifest."""
    clips = Clips()
    for place, row in sources.json_lines(path):
        start, seconds = row.get("offset"), row.get("duration")
        if not isinstance(row.get("audio_filepath"), str) or not isinstance(row.get("text"), str):
            raise ValueError(f'{place}: expected "audio_filepath" and "text", got {str(row)[:80]}')
        if not all(isinstance(n, int | float) for n in (start or 0, seconds or 0)):
            raise ValueError(f"{place}: expected seconds, got {start!r} and {seconds!r}")
        piece = (0.0, None)
        if start is not None:  # else the duration is a whole file's: if rounded, it would cut it
            piece = _piece(start, None if seconds is None else start + seconds, place)
        audio = Path(path).parent / row["audio_filepath"]
        clips.add(audio, row["text"], _first(row, SPEAKER_KEYS), place, *piece)
    return _some(clips, path)


def common_voice(path: str | Path) -> Clips:
    """Mozilla Common Voice: a .tsv with the columns client_id, path and sentence; the audio is in
    clips/ beside it, as .mp3 where the column has no ending."""
    clips = Clips()
    rows = (line.split("\t") for line in sources.lines(path))
    header = next(rows, [])
    if not {"client_id", "path", "sentence"} <= {*header}:
        raise ValueError(
            f"{path}:1: expected the columns client_id, path and sentence, got {header}"
        )
    for number, columns in enumerate(rows, start=2):
        if len(columns) != len(header):
            raise ValueError(f"{path}:{number}: expected {len(header)} columns, got {len(columns)}")
        row = dict(zip(header, columns, strict=True))
        audio = Path(path).parent / "clips" / row["path"]
        audio = audio if audio.suffix else audio.with_suffix(".mp3")
        clips.add(audio, row["sentence"], row["client_id"], f"{path}:{number}")
    return _some(clips, path)


def ljspeech(folder: str | Path) -> Clips:
    """LJ Speech: metadata.csv with lines id|text|text in full words, the latter taken; wavs/id.wav.
    One voice, grouped by book."""
    clips, path = Clips(), Path(folder, "metadata.csv")
    for number, line in enumerate(sources.lines(path), start=1):
        name, *texts = line.split("|")
        if len(texts) not in (1, 2):
            raise ValueError(f"{path}:{number}: expected id|text|text, got {line[:80]!r}")
        audio = Path(folder, "wavs", f"{name}.wav")
        clips.add(audio, texts[-1], "", f"{path}:{number}", group=name.rpartition("-")[0])
    return _some(clips, path)


def librispeech(folder: str | Path) -> Clips:
    """LibriSpeech: lines "speaker-chapter-number TEXT" in *.trans.txt, the audio beside them."""
    clips = Clips()
    for path in sorted(Path(folder).rglob("*.trans.txt")):
        for number, line in enumerate(sources.lines(path), start=1):
            name, _, text = line.partition(" ")
            found = (path.parent / f"{name}{ending}" for ending in AUDIO)
            audio = next((each for each in found if each.is_file()), path.parent / f"{name}.flac")
            clips.add(audio, text, name.partition("-")[0], f"{path}:{number}")
    return _some(clips, folder)


def kaldi(folder: str | Path) -> Clips:
    """Kaldi: wav.scp (id path), text (id words) and, if there, utt2spk (id speaker) and segments
    (id recording start stop; seconds, -1 is the end). Paths are relative to the working directory,
    as Kaldi's are, or to the folder."""
    audio = {key: value for _, key, value in _table(folder, "wav.scp")}
    speakers, segments = {}, {}
    if Path(folder, "utt2spk").exists():
        speakers = {key: value for _, key, value in _table(folder, "utt2spk")}
    if Path(folder, "segments").exists():
        segments = {key: (place, value.split()) for place, key, value in _table(folder, "segments")}
    clips = Clips()
    for place, key, text in _table(folder, "text"):
        recording, start, stop = key, 0.0, None
        if segments:
            origin, values = segments.get(key, (place, []))
            try:
                recording, start, stop = values[0], float(values[1]), float(values[2])
            except (IndexError, ValueError):
                raise ValueError(
                    f"{origin}: expected a segment {key} recording start stop, got {values}"
                ) from None
            start, stop = _piece(start, None if stop == -1 else stop, origin)
        if recording not in audio:
            raise ValueError(f"{place}: expected {recording} in {Path(folder, 'wav.scp')}")
        path = audio[recording]
        if path.endswith("|"):
            raise ValueError(f"{Path(folder, 'wav.scp')}: expected a file, got a command: {path}")
        path = Path(path) if Path(path).exists() else Path(folder, path)
        clips.add(path, text, speakers.get(key, ""), place, start, stop)
    return _some(clips, folder)


def audiofolder(folder: str | Path) -> Clips:
    """A folder with metadata.csv or metadata.jsonl (Hugging Face): "file_name", a text under one of
    `TEXT_KEYS` and perhaps a speaker under one of `SPEAKER_KEYS`."""
    path = Path(folder, "metadata.jsonl")
    rows = (
        sources.json_lines(path)
        if path.exists()
        else sources.csv_rows(path := Path(folder, "metadata.csv"))
    )
    clips = Clips()
    for place, row in rows:
        if "file_name" not in row or not {*TEXT_KEYS} & {*row}:
            raise ValueError(
                f'{place}: expected "file_name" and one of {", ".join(TEXT_KEYS)}, '
                f"got {sorted(map(str, row))}"
            )
        audio = Path(folder, str(row["file_name"]))
        clips.add(audio, _first(row, TEXT_KEYS), _first(row, SPEAKER_KEYS), place)
    return _some(clips, path)


def named_files(folder: str | Path) -> Clips:
    """Files that say in their names what is said in them, by one of two conventions.

    FSDD, `7_jackson_32.wav`: digit, speaker, number; grouped by number, as its own test part is
    (numbers 0 to 4). Speech Commands, `yes/0a7c2a8d_nohash_0.wav`: word, speaker, number.
    """
    clips = Clips()
    for path in _audio_files(folder):
        if said := _said_in_name(path):
            text, speaker, group = said
            clips.add(path, text, speaker, str(path), group=group)
        else:
            clips.skipped["named otherwise"] += 1
    return _some(clips, folder)


def _audio_files(folder: str | Path) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in AUDIO)


def _said_in_name(path: Path) -> tuple[str, str, str] | None:
    """(text, speaker, group) of a file that `named_files` knows."""
    if found := re.fullmatch(r"(\d)_([^_]+)_(\d+)", path.stem):
        return DIGITS[int(found[1])], found[2], f"recording {found[3]}"
    if found := re.fullmatch(r"([0-9a-f]+)_nohash_\d+", path.stem):
        return path.parent.name, found[1], found[1]
    return None


def _read(name: str, place: str) -> Clips:
    """Reads what the argument `name` = `place` means."""
    if name == "data" and re.fullmatch("asterisk(-[a-z]+)?", place) and not Path(place).exists():
        return asterisk(place.partition("-")[2] or "en")
    path = Path(place)
    if path.is_file() and path.suffix in (".jsonl", ".json"):
        return nemo(path)
    if path.is_file() and path.suffix == ".tsv":
        return common_voice(path)
    if path.is_dir():
        table = path / "metadata.csv"
        if table.exists() and (path / "wavs").is_dir() and not _has_file_names(table):
            return ljspeech(path)
        if table.exists() or (path / "metadata.jsonl").exists():
            return audiofolder(path)
        if (path / "wav.scp").exists():
            return kaldi(path)
        if any(path.rglob("*.trans.txt")):
            return librispeech(path)
        if any(map(_said_in_name, _audio_files(path))):
            return named_files(path)
    raise ValueError(
        f"`{name}` must be a manifest ({MANIFESTS}) or a folder with {FOLDERS}"
        + (", or asterisk" if name == "data" else "")
        + f"; got {place!r}"
        + (f" with {len(_audio_files(path)):,} audio files" if path.is_dir() else "")
    )


def _has_file_names(table: Path) -> bool:
    """Whether a metadata.csv is an audiofolder's: LJSpeech's has no header."""
    header = next(sources.lines(table), "")
    return "file_name" in (column.strip('" ') for column in header.split(","))


def _table(folder: str | Path, name: str) -> Iterator[tuple[str, str, str]]:
    """(place, first word, rest) of each line of a Kaldi table."""
    path = Path(folder, name)
    for number, line in enumerate(sources.lines(path), start=1):
        key, value, *_ = [*line.split(None, 1), "", ""]
        if key:
            yield f"{path}:{number}", key, value.strip()


def _piece(start: float, stop: float | None, place: str) -> tuple[float, float | None]:
    """The arguments, if they are seconds between which a clip can lie."""
    if not 0 <= start < math.inf or not (stop is None or start < stop < math.inf):
        raise ValueError(f"{place}: expected seconds 0 <= start < stop, got {start} and {stop}")
    return start, stop


def _first(row: dict, keys: tuple[str, ...]) -> str:
    return next((str(row[key]) for key in keys if row.get(key) is not None), "")


def _some(clips: Clips, place: object) -> Clips:
    if not clips:
        raise ValueError(f"{place}: expected at least one clip, got {clips}")
    return clips
