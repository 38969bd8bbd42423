"""Transcribed clips out of files: NeMo, Common Voice, LJSpeech, LibriSpeech, Kaldi."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from recipes.data import files
from recipes.data.clips_audio import AUDIO
from recipes.data.examples import Clips

FOLDERS = (
    "metadata.csv and wavs/ (LJSpeech), *.trans.txt (LibriSpeech), wav.scp (Kaldi), metadata.csv "
    "or metadata.jsonl with file_name (audiofolder), or audio named as 7_jackson_32.wav (FSDD) or "
    "yes/0a7c_nohash_0.wav (Speech Commands)"
)
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEXT_KEYS = ("text", "transcription", "transcript", "sentence")
SPEAKER_KEYS = ("speaker", "speaker_id", "client_id")


def nemo(path: str | Path) -> Clips:
    """NeMo's manifest: an object a line with "audio_filepath", "text" and, if there, "speaker",
    "offset" and "duration" (seconds). Paths are relative to the manifest."""
    clips = Clips()
    for place, row in files.json_lines(path):
        start, seconds = row.get("offset"), row.get("duration")
        if not isinstance(row.get("audio_filepath"), str) or not isinstance(row.get("text"), str):
            raise ValueError(f'{place}: expected "audio_filepath" and "text", got {str(row)[:80]}')
        if not all(isinstance(n, int | float | None) for n in (start, seconds)):
            raise ValueError(f"{place}: expected seconds, got {start!r} and {seconds!r}")
        piece = (0.0, None)
        if start is not None:  # else the duration is a whole file's: if rounded, it would cut it
            piece = _piece(start, None if seconds is None else start + seconds, place)
        audio = Path(path).parent / row["audio_filepath"]
        clips.add(audio, row["text"], _speaker(row, place), place, *piece)
    return some(clips, path)


def common_voice(path: str | Path) -> Clips:
    """Mozilla Common Voice: a .tsv with the columns client_id, path and sentence; the audio is in
    clips/ beside it, as .mp3 where the column has no ending."""
    clips, header = Clips(), None
    for place, line in files.rows(path):
        columns = line.split("\t")
        if header is None:
            header = columns
            if not {"client_id", "path", "sentence"} <= {*header}:
                raise ValueError(
                    f"{place}: expected the columns client_id, path and sentence, got {header}"
                )
            continue
        if len(columns) != len(header):
            raise ValueError(f"{place}: expected {len(header)} columns, got {len(columns)}")
        row = dict(zip(header, columns, strict=True))
        audio = Path(path).parent / "clips" / row["path"]
        audio = audio if audio.suffix else Path(f"{audio}.mp3")
        clips.add(audio, row["sentence"], row["client_id"], place)
    return some(clips, path)


def ljspeech(folder: str | Path) -> Clips:
    """LJ Speech: metadata.csv with lines id|text|text in full words, the latter taken if there is
    one; wavs/id.wav. One voice, grouped by book."""
    clips, path = Clips(), Path(folder, "metadata.csv")
    for place, line in files.rows(path):
        name, *texts = line.split("|")
        if len(texts) not in (1, 2):
            raise ValueError(f"{place}: expected id|text|text, got {line[:80]!r}")
        text = texts[0] if files.BLANK.fullmatch(texts[-1]) else texts[-1]
        audio = Path(folder, "wavs", f"{name.strip()}.wav")
        clips.add(audio, text, "", place, group=name.rpartition("-")[0])
    return some(clips, path)


def librispeech(folder: str | Path) -> Clips:
    """LibriSpeech: lines "speaker-chapter-number TEXT" in *.trans.txt, the audio beside them."""
    clips = Clips()
    for path in sorted(Path(folder).rglob("*.trans.txt")):
        for place, line in files.rows(path):
            name, _, text = line.partition(" ")
            found = (path.parent / f"{name}{ending}" for ending in AUDIO)
            audio = next(filter(files.is_file, found), path.parent / f"{name}.flac")
            clips.add(audio, text, name.partition("-")[0], place)
    return some(clips, folder)


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
        path = Path(path) if files.is_file(path) else Path(folder, path)
        clips.add(path, text, speakers.get(key, ""), place, start, stop)
    return some(clips, folder)


def audiofolder(folder: str | Path) -> Clips:
    """A folder with metadata.csv or metadata.jsonl (Hugging Face): "file_name", a text under one of
    `TEXT_KEYS` and perhaps a speaker under one of `SPEAKER_KEYS`."""
    path = files.metadata_of(folder) or Path(folder, "metadata.csv")
    clips = Clips()
    for place, row in files.metadata_rows(path):
        if "file_name" not in row or not {*TEXT_KEYS} & {*row}:
            raise ValueError(
                f'{place}: expected "file_name" and one of {", ".join(TEXT_KEYS)}, '
                f"got {sorted(map(str, row))}"
            )
        audio = Path(folder, files.text_in(row, ["file_name"], place))
        clips.add(audio, files.text_in(row, TEXT_KEYS, place), _speaker(row, place), place)
    return some(clips, path)


def named_files(folder: str | Path) -> Clips:
    """Files that say in their names what is said in them, by one of two conventions.

    FSDD, `7_jackson_32.wav`: digit, speaker, number; grouped by number, as its own test part is
    (numbers 0 to 4). Speech Commands, `yes/0a7c2a8d_nohash_0.wav`: word, speaker, number.
    """
    clips = Clips()
    for path in audio_files(folder):
        if said := said_in_name(path):
            text, speaker, group = said
            clips.add(path, text, speaker, str(path), group=group)
        else:
            clips.skipped["named otherwise"] += 1
    return some(clips, folder)


def audio_files(folder: str | Path) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in AUDIO)


def said_in_name(path: Path) -> tuple[str, str, str] | None:
    """(text, speaker, group) of a file that `named_files` knows."""
    if found := re.fullmatch(r"(\d)_([^_]+)_(\d+)", path.stem):
        return DIGITS[int(found[1])], found[2], f"recording {found[3]}"
    if found := re.fullmatch(r"([0-9a-f]+)_nohash_\d+", path.stem):
        return path.parent.name, found[1], found[1]
    return None


def has_file_names(table: Path) -> bool:
    """Whether a metadata.csv is an audiofolder's: LJSpeech's has no header."""
    header = next(files.lines(table), "")
    return "file_name" in (column.strip('" ') for column in header.split(","))


def _table(folder: str | Path, name: str) -> Iterator[tuple[str, str, str]]:
    """(place, first word, rest) of each line of a Kaldi table."""
    for place, line in files.rows(Path(folder, name)):
        key, value, *_ = [*line.split(None, 1), ""]
        yield place, key, value.strip()


def _piece(start: float, stop: float | None, place: str) -> tuple[float, float | None]:
    """The arguments, if they are seconds between which a clip can lie."""
    if not 0 <= start < math.inf or not (stop is None or start < stop < math.inf):
        raise ValueError(f"{place}: expected seconds 0 <= start < stop, got {start} and {stop}")
    return start, stop


def _speaker(row: dict, place: str) -> str:
    return files.text_in(row, SPEAKER_KEYS, place, kinds=(str, int))


def some(clips: Clips, place: object) -> Clips:
    """The clips, if there is at least one; a file that is missing is an error where all are."""
    if not clips:
        first = f"; the first: {clips.missing[0]}" if clips.missing else ""
        raise ValueError(f"{place}: expected at least one clip, got {clips}{first}")
    return clips
