"""Readers of transcribed audio: every format, what they skip and count, what they refuse."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from debs import deb

from recipes.data import (
    clips,
    clips_asterisk,
    clips_audio,
    clips_files,
    examples,
    files,
    packages,
    transcripts,
)
from recipes.data.clips import load_clips
from recipes.data.clips_audio import read_audio
from recipes.data.transcripts import spoken


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def sound(path, frames=80, rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.linspace(-0.5, 0.5, frames * channels).reshape(frames, channels)
    soundfile.write(path, samples, rate)
    return path


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows(found, folder):
    return [(str(c.path.relative_to(folder)), c.text, c.group) for c in found.rows]


def test_reading_clips_needs_no_tensorflow():
    code = "import recipes.data.clips, sys; sys.exit('tensorflow' in sys.modules)"
    root = Path(clips.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


# --- formats -------------------------------------------------------------------------------------


def test_nemo_manifests_have_speakers_and_pieces_of_files(tmp_path):
    for name in ("a.flac", "sub/b.wav"):
        sound(tmp_path / name, 8000)
    lines = [
        {"audio_filepath": "a.flac", "text": "one", "duration": 0.9, "speaker": "ann"},
        {"audio_filepath": "sub/b.wav", "text": "two", "offset": 0.25, "duration": 0.5},
        {"audio_filepath": "a.flac", "text": "  "},
    ]
    path = write(tmp_path / "m.jsonl", *map(json.dumps, lines), "")
    found = clips_files.nemo(path)
    assert rows(found, tmp_path) == [("a.flac", "one", "ann"), ("sub/b.wav", "two", "two")]
    assert [clip.speaker for clip in found.rows] == ["ann", ""]
    assert found.skipped == {"without a transcript": 1}
    assert str(found) == "2 clips (skipped: 1 without a transcript)"
    assert len(read_audio(found.rows[0])[0]) == 8000  # a rounded duration cuts nothing
    samples, rate = read_audio(found.rows[1])
    assert (len(samples), rate) == (4000, 8000)
    whole, _ = soundfile.read(tmp_path / "sub/b.wav", dtype="float32")
    np.testing.assert_array_equal(samples, whole[2000:6000])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"m\.jsonl:2: expected a JSON object, got"),
        ("[]", r"m\.jsonl:2: expected a JSON object, got '\[\]'"),
        ('{"text": "x"}', r'm\.jsonl:2: expected "audio_filepath" and "text"'),
        (
            '{"audio_filepath": "a.wav", "text": "x", "offset": "1"}',
            r"m\.jsonl:2: expected seconds",
        ),
        (
            '{"audio_filepath": "a.wav", "text": "x", "offset": "", "duration": 1.5}',
            r"m\.jsonl:2: expected seconds, got '' and 1\.5",
        ),
        (100_000 * '{"text":', r"m\.jsonl:2: expected a JSON object, got: nested too deep"),
    ],
)
def test_a_manifest_that_breaks_its_format_is_named_with_the_line(line, message, tmp_path):
    sound(tmp_path / "a.wav")
    path = write(tmp_path / "m.jsonl", '{"audio_filepath": "a.wav", "text": "one"}', line)
    with pytest.raises(ValueError, match=message):
        clips_files.nemo(path)


def test_a_clip_without_a_file_is_counted_unless_all_are(tmp_path):
    path = write(
        tmp_path / "m.jsonl",
        '{"audio_filepath": "a.wav", "text": "one"}',
        '{"audio_filepath": "b.wav", "text": "x"}',
        json.dumps({"audio_filepath": 300 * "b", "text": "x"}),
        json.dumps({"audio_filepath": "a\0.wav", "text": "x"}),
        json.dumps({"audio_filepath": "\ud800.wav", "text": "x"}),
    )
    with pytest.raises(
        ValueError, match=r"5 without a file\); the first: .*m\.jsonl:1: expected an"
    ):
        clips_files.nemo(path)
    sound(tmp_path / "a.wav")
    found = clips_files.nemo(path)
    assert found.texts == ["one"]
    assert found.skipped == {"without a file": 4}
    assert (
        found.missing[0] == f"{path}:2: expected an audio file, but there is no {path.parent}/b.wav"
    )


def every_shape(folder):
    """(table, reader of its folder or file) for a table of each format with one clip."""
    for name in ("n/a.wav", "c/clips/a.wav", "l/wavs/a.wav", "s/1/a.wav", "k/a.wav", "f/a.wav"):
        sound(folder / name)
    write(folder / "k/wav.scp", "a a.wav")
    return (
        ("n/m.jsonl", '{"audio_filepath": "a.wav", "text": "one"}', "n/m.jsonl"),
        ("n/m.json", '{"audio_filepath": "a.wav", "text": "one"}', "n/m.json"),
        ("c/a.tsv", "path\tclient_id\tsentence\na.wav\tu\tone", "c/a.tsv"),
        ("l/metadata.csv", "a|one|", "l"),
        ("s/1/1.trans.txt", "a one", "s"),
        ("k/text", "a one", "k"),
        ("f/metadata.jsonl", '{"file_name": "a.wav", "text": "one"}', "f"),
        ("f/metadata.csv", "file_name,text\na.wav,one", "f"),
    )


@pytest.mark.parametrize("wrap", ["{}", "\ufeff{}\n", "{}\r\n", "{}\n\n", "\ufeff{}\n \n\n"])
def test_every_reader_takes_a_mark_and_blank_lines_at_the_end(wrap, tmp_path):
    for table, text, place in every_shape(tmp_path):
        (tmp_path / table).write_text(wrap.replace("{}", text), encoding="utf-8", newline="")
        found = clips._read("train", str(tmp_path / place))
        assert found.texts == ["one"], table
        assert not found.skipped, table
        (tmp_path / table).unlink()


def test_every_reader_refuses_utf16_by_name_and_manifests_may_be_compressed(tmp_path):
    for table, text, place in every_shape(tmp_path):
        (tmp_path / table).write_text(text, encoding="utf-16")
        with pytest.raises(ValueError, match=r":1: expected UTF-8, got UTF-16\."):
            clips._read("train", str(tmp_path / place))
        (tmp_path / table).unlink()
        if table == place:
            path = tmp_path / f"{table}.gz"
            path.write_bytes(gzip.compress(text.encode()))
            assert clips._read("train", str(path)).texts == ["one"]


@pytest.mark.parametrize(
    ("offset", "duration", "got"),
    [
        ("-0.5", "2.0", "-0.5 and 1.5"),
        ("3.0", "-1.0", "3.0 and 2.0"),
        ("3.0", "0", "3.0 and 3.0"),
        ("NaN", "null", "nan and None"),
        ("0", "Infinity", "0 and inf"),
    ],
)
def test_a_piece_of_a_file_must_end_after_it_starts(offset, duration, got, tmp_path):
    sound(tmp_path / "a.wav")
    line = f'{{"audio_filepath": "a.wav", "text": "x", "offset": {offset}, "duration": {duration}}}'
    path = write(tmp_path / "m.jsonl", "", line)
    message = rf"m\.jsonl:2: expected seconds 0 <= start < stop, got {got}"
    with pytest.raises(ValueError, match=message):
        clips_files.nemo(path)


def test_an_offset_of_nothing_has_a_duration_too(tmp_path):
    sound(tmp_path / "a.wav", 8000)
    line = {"audio_filepath": "a.wav", "text": "one", "offset": 0, "duration": 0.25}
    found = clips_files.nemo(write(tmp_path / "m.jsonl", json.dumps(line)))
    assert len(read_audio(found.rows[0])[0]) == 2000


def test_common_voice_has_clips_beside_its_table(tmp_path):
    sound(tmp_path / "clips/x.mp3", 4000)
    sound(tmp_path / "clips/y.mp3", 4000)
    path = write(
        tmp_path / "train.tsv",
        "client_id\tpath\tsentence\tage",
        "u1\tx.mp3\tOne.\t",
        'u2\ty\tTwo "quoted\t30',
    )
    expected = [("clips/x.mp3", "One.", "u1"), ("clips/y.mp3", 'Two "quoted', "u2")]
    assert rows(clips_files.common_voice(path), tmp_path) == expected
    with pytest.raises(ValueError, match=r"train\.tsv:2: expected 4 columns, got 1"):
        clips_files.common_voice(write(path, "client_id\tpath\tsentence\tage", "u1"))
    with pytest.raises(ValueError, match=r"train\.tsv:1: expected the columns client_id, path and"):
        clips_files.common_voice(write(path, "path\ttext", "x.mp3\tOne."))


def test_ljspeech_takes_the_text_in_full_words_and_the_book_as_group(tmp_path):
    sound(tmp_path / "wavs/LJ001-0007.wav")
    sound(tmp_path / "wavs/LJ002-0001.wav")
    path = write(tmp_path / "metadata.csv", "LJ001-0007|No. 7|number seven", "LJ002-0001|x, y")
    expected = [
        ("wavs/LJ001-0007.wav", "number seven", "LJ001"),
        ("wavs/LJ002-0001.wav", "x, y", "LJ002"),
    ]
    found = clips_files.ljspeech(tmp_path)
    assert rows(found, tmp_path) == expected
    assert [clip.speaker for clip in found.rows] == ["", ""]  # one voice
    write(path, "LJ001-0007")
    with pytest.raises(ValueError, match=r"metadata\.csv:1: expected id\|text\|text"):
        clips_files.ljspeech(tmp_path)


def test_ljspeech_takes_the_first_text_where_the_second_is_empty(tmp_path):
    sound(tmp_path / "wavs/LJ001-0007.wav")
    write(
        tmp_path / "metadata.csv",
        *(f"LJ001-0007|{texts}" for texts in ("a|", "b| ", "|c", "|", "d")),
    )
    found = clips_files.ljspeech(tmp_path)
    assert found.texts == ["a", "b", "c", "d"]
    assert found.skipped == {"without a transcript": 1}


def test_librispeech_is_a_tree_of_speakers_and_chapters(tmp_path):
    folder = tmp_path / "LibriSpeech/dev/84/121"
    sound(folder / "84-121-0000.flac")
    sound(folder / "84-121-0001.wav")
    write(folder / "84-121.trans.txt", "84-121-0000 GO ON", "84-121-0001 STOP")
    found = rows(clips_files.librispeech(tmp_path), folder)
    assert found == [("84-121-0000.flac", "GO ON", "84"), ("84-121-0001.wav", "STOP", "84")]
    write(folder / "84-121.trans.txt", "84-121-0007 GO ON")
    with pytest.raises(ValueError, match=r"84-121\.trans\.txt:1: expected an audio file.*0007"):
        clips_files.librispeech(tmp_path)


def test_kaldi_tables_with_and_without_segments(tmp_path):
    sound(tmp_path / "rec1.wav", 8000)
    write(tmp_path / "wav.scp", f"u1 {tmp_path / 'rec1.wav'}", "rec1 rec1.wav")
    write(tmp_path / "text", "u1 one two")
    assert rows(clips_files.kaldi(tmp_path), tmp_path) == [("rec1.wav", "one two", "one two")]
    write(tmp_path / "utt2spk", "u1 ann")
    write(tmp_path / "segments", "u1 rec1 0.5 0.75")
    found = clips_files.kaldi(tmp_path)
    assert rows(found, tmp_path) == [("rec1.wav", "one two", "ann")]
    assert len(read_audio(found.rows[0])[0]) == 2000
    write(tmp_path / "segments", "u1 rec1 0.75 -1")  # the end, as Kaldi writes it
    assert len(read_audio(clips_files.kaldi(tmp_path).rows[0])[0]) == 2000
    for name, line, message in (
        ("segments", "u1 rec1 0.5 0.25", r"segments:1: expected seconds 0 <= start < stop, got"),
        ("segments", "u1 rec1 nan -1", r"segments:1: expected seconds .* got nan and None"),
        ("segments", "u1 rec1 0.5", r"segments:1: expected a segment u1 recording start stop"),
        ("segments", "u1 rec2 0 1", r"text:1: expected rec2 in .*wav\.scp"),
        ("segments", "u2 rec1 0 1", r"text:1: expected a segment u1"),
        ("wav.scp", "rec1 sph2pipe x |", r"wav\.scp: expected a file, got a command: sph2pipe"),
    ):
        write(tmp_path / "segments", "u1 rec1 0.5 0.75")
        write(tmp_path / name, line)
        with pytest.raises(ValueError, match=message):
            clips_files.kaldi(tmp_path)


def test_kaldi_tables_are_separated_by_any_white_space(tmp_path):
    sound(tmp_path / "rec 1.wav", 8000)
    write(tmp_path / "wav.scp", "rec1\trec 1.wav")
    write(tmp_path / "text", "u1  \tone two ", "", " u2\t ")
    write(tmp_path / "utt2spk", "u1\t ann", "u2   bob")
    write(tmp_path / "segments", "u1\trec1\t0.5\t0.75", "u2 \t rec1 0 -1")
    found = clips_files.kaldi(tmp_path)
    assert rows(found, tmp_path) == [("rec 1.wav", "one two", "ann")]
    assert found.skipped == {"without a transcript": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ["one"]}, r"expected a text for 'text', got \['one'\]$"),
        ({"text": {"raw": "one"}}, "expected a text for 'text', got {'raw': 'one'}$"),
        ({"text": True}, "expected a text for 'text', got True$"),
        ({"text": 7}, "expected a text for 'text', got 7$"),
        ({"file_name": ["a.wav"]}, r"expected a text for 'file_name', got \['a.wav'\]$"),
        ({"speaker": True}, "expected a text or a whole number for 'speaker', got True$"),
        ({"speaker": 1.5}, "expected a text or a whole number for 'speaker', got 1.5$"),
    ],
)
def test_what_is_no_text_becomes_no_transcript_and_no_speaker(change, message, tmp_path):
    row = {"file_name": "a.wav", "text": "one", "speaker": 7}
    write(tmp_path / "metadata.jsonl", json.dumps(row | change))
    with pytest.raises(ValueError, match=rf"metadata\.jsonl:1: {message}"):
        clips_files.audiofolder(tmp_path)
    if "speaker" in change:
        row = {"audio_filepath": "a.wav", "text": "one"} | change
        write(tmp_path / "manifest.jsonl", json.dumps(row))
        with pytest.raises(ValueError, match=rf"manifest\.jsonl:1: {message}"):
            clips_files.nemo(tmp_path / "manifest.jsonl")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_audiofolder_has_a_table_of_texts(kind, tmp_path):
    sound(tmp_path / "data/a.ogg", 4000)
    sound(tmp_path / "b.wav")
    if kind == "csv":
        lines = ["file_name,transcription,speaker_id", 'data/a.ogg,"One, two",7', "b.wav,three,9"]
    else:
        lines = [
            '{"file_name": "data/a.ogg", "sentence": "One, two", "speaker": 7}',
            '{"file_name": "b.wav", "text": "three", "client_id": "9"}',
        ]
    path = write(tmp_path / f"metadata.{kind}", *lines)
    expected = [("data/a.ogg", "One, two", "7"), ("b.wav", "three", "9")]
    assert rows(clips_files.audiofolder(tmp_path), tmp_path) == expected
    write(path, *(["name,text", "x,y"] if kind == "csv" else ['{"name": "x", "text": "y"}']))
    with pytest.raises(ValueError, match=rf'metadata\.{kind}:\d: expected "file_name" and one of'):
        clips_files.audiofolder(tmp_path)


def test_an_audiofolder_may_have_its_parts(tmp_path):
    for part, count in (("train", 4), ("validation", 2), ("test", 3)):
        for row in range(count):
            sound(tmp_path / part / f"{row}.wav")
        lines = [f"{row}.wav,{part} {row}" for row in range(count)]
        write(tmp_path / part / "metadata.csv", "file_name,transcription", *lines)
    splits = load_clips(str(tmp_path))
    assert [part.texts[0].split()[0] for part in splits] == ["train", "validation", "test"]
    assert [len(part) for part in splits] == [4, 2, 3]
    many = ",".join(f"nowhere/{number}:1" for number in range(40))  # longer than a name can be
    with pytest.raises(ValueError, match="`data` must be a manifest"):
        load_clips(many)
    shutil.rmtree(tmp_path / "test")
    assert load_clips(train=str(tmp_path)).test is None
    given = load_clips(str(tmp_path), test=str(tmp_path / "validation"))
    assert given.test.texts == given.valid.texts == ["validation 0", "validation 1"]


def test_a_row_of_csv_with_too_few_columns_is_named(tmp_path):
    write(tmp_path / "metadata.csv", "file_name,text", "x")
    with pytest.raises(ValueError, match=r"metadata\.csv:2: expected 2 columns"):
        clips_files.audiofolder(tmp_path)


def test_a_line_within_quotes_goes_on_as_a_space(tmp_path):
    sound(tmp_path / "a.wav")
    lines = "file_name,text", "", 'a.wav,"hello\nworld"', 'a.wav,"one, ""two"""'
    write(tmp_path / "metadata.csv", *lines)
    found = clips_files.audiofolder(tmp_path)
    assert found.texts == ["hello world", 'one, "two"']
    assert [clip.place.rpartition(":")[2] for clip in found.rows] == ["3", "5"]


@pytest.mark.parametrize(
    "lines", [['a.wav,"x', "a.wav,y"], ['a.wav,"x" y'], ["a.wav," + 1001 * "x"]]
)
def test_what_is_no_csv_is_named_with_the_line_where_it_begins(lines, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_FIELD", 1000)
    sound(tmp_path / "a.wav")
    write(tmp_path / "metadata.csv", "file_name,text", "a.wav,one", *lines)
    with pytest.raises(ValueError, match=r"metadata\.csv:3: expected a row of CSV, got: "):
        clips_files.audiofolder(tmp_path)


def test_names_of_files_say_digits_and_commands(tmp_path):
    names = "7_jackson_32.flac", "0_theo_5.wav", "yes/0a7c_nohash_1.WAV", "noise/hum.ogg"
    for name in names:
        sound(tmp_path / name, 4000)
    write(tmp_path / "7_jackson_33.txt")
    found = clips_files.named_files(tmp_path)
    assert {clip.speaker for clip in found.rows} == {"theo", "jackson", "0a7c"}
    assert sorted(rows(found, tmp_path)) == [
        ("0_theo_5.wav", "zero", "recording 5"),
        ("7_jackson_32.flac", "seven", "recording 32"),
        ("yes/0a7c_nohash_1.WAV", "yes", "0a7c"),
    ]
    assert found.skipped == {"named otherwise": 1}


def test_bytes_that_are_no_utf8_are_skipped_and_counted(tmp_path):
    sound(tmp_path / "wavs/A-1.wav")
    (tmp_path / "metadata.csv").write_bytes(b"A-1|gr\xfc\xdfe\nA-1|hello\n")
    found = clips_files.ljspeech(tmp_path)
    assert found.texts == ["hello"]
    assert found.skipped == {"invalid UTF-8": 1}


# --- Asterisk ------------------------------------------------------------------------------------


def prompts(folder):
    texts = (
        "; Sounds\n\nhello: Hello!\ndigits/1: one\nbeep: [a beep]\ngone: gone: away\nme2: Hello."
    )
    wav = sound(folder / "x.wav").read_bytes()
    share = "./usr/share/asterisk/sounds/en_US_f_Allison"
    return (
        deb(
            folder / "asterisk-core-sounds-en_1_all.deb",
            {"./usr/share/doc/a/core-sounds-en.txt.gz": gzip.compress(texts.encode())},
        ),
        deb(
            folder / "asterisk-core-sounds-en-wav_1_all.deb",
            {f"{share}/{name}.wav": wav for name in ("hello", "digits/1", "me2", "../../evil")},
        ),
    )


def test_prompts_of_asterisk_are_unpacked_once_and_joined_with_their_texts(tmp_path, cache):
    packages = prompts(tmp_path)
    found = clips_asterisk.asterisk_clips(*packages)
    assert found.texts == ["Hello!", "one", "Hello."]
    assert [clip.group for clip in found.rows] == ["hello", "one", "hello"]  # never torn apart
    assert [clip.speaker for clip in found.rows] == ["", "", ""]  # one voice
    assert found.skipped == {"not speech": 1, "without a recording": 1}
    unpacked = {str(p.relative_to(cache)) for p in cache.rglob("*.wav")}
    folder = "asterisk-core-sounds-en-wav_1_all"
    assert unpacked == {f"{folder}/{name}.wav" for name in ("hello", "digits/1", "me2")}
    assert not list(tmp_path.rglob("evil*"))
    assert len(read_audio(found.rows[0])[0]) == 80
    packages[1].unlink()
    assert clips_asterisk.asterisk_clips(*packages) == found


def test_asterisk_comes_through_apt(tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, folder, capture=False):
        commands.append(command[:3])
        if command[1] == "download":
            for package in prompts(tmp_path):
                if package.name.startswith(f"{command[2]}_"):
                    package.rename(Path(folder, package.name))
        return "found"

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(packages, "run", run)
    found = clips_asterisk.asterisk()
    assert len(found) == 3
    assert clips_asterisk.asterisk() == found
    assert [c[2] for c in commands if c[1] == "download"] == [
        "asterisk-core-sounds-en",
        "asterisk-core-sounds-en-wav",
    ]


def test_without_apt_the_default_data_says_what_else_there_is(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"needs `apt-get` .*use another source or files"):
        load_clips()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(packages, "run", lambda command, folder, capture=False: "")
    with pytest.raises(RuntimeError, match="knows no package asterisk-core-sounds-xx"):
        load_clips("asterisk-xx")


def test_packages_that_are_none_are_named(tmp_path):
    texts, sounds = prompts(tmp_path)
    sounds.write_bytes(sounds.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"en-wav_1_all\.deb: expected a readable file"):
        clips_asterisk.asterisk_clips(texts, sounds)
    with pytest.raises(ValueError, match=r"b\.deb: expected a file core-sounds"):
        clips_asterisk._asterisk_texts(deb(tmp_path / "b.deb", {"a": b""}))


# --- front door ----------------------------------------------------------------------------------


def manifest(folder, speakers, each=7):
    sound(folder / "a.wav")
    rows = [
        {"audio_filepath": "a.wav", "text": f"Text {n}, please!", "speaker": f"s{speaker}"}
        for speaker in range(speakers)
        for n in range(each)
    ]
    return str(write(folder / "all.jsonl", *map(json.dumps, rows)))


def test_whole_speakers_are_held_out(tmp_path, capsys):
    splits = load_clips(manifest(tmp_path, 30), seed=3)
    groups = [{clip.group for clip in part.rows} for part in splits]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 30
    assert [len(part) for part in splits] == [24 * 7, 21, 21]
    assert splits.train.texts[0] == "text 0 please"
    assert "train: 168 clips" in capsys.readouterr().err
    other = load_clips(manifest(tmp_path, 30), seed=4)
    assert {clip.group for clip in other.test.rows} != groups[2]
    assert load_clips(manifest(tmp_path, 30), seed=3) == splits


def test_given_parts_are_used_as_they_are(tmp_path):
    train, valid = manifest(tmp_path, 2), manifest(tmp_path / "valid", 3)
    splits = load_clips(train=train, valid=valid)
    assert [len(part or ()) for part in splits] == [14, 21, 0]
    assert splits.test is None
    splits = load_clips(train=train, valid=valid, test=valid, transcripts="written")
    assert [len(part) for part in splits] == [14, 21, 21]
    assert splits.train.texts[0] == "Text 0, please!"
    splits = load_clips(manifest(tmp_path, 30), test=valid)
    assert [len(part) for part in splits] == [27 * 7, 21, 21]


def test_clips_of_a_given_part_that_are_also_trained_on_are_counted(tmp_path, capsys):
    for number in range(3):
        sound(tmp_path / f"{number}.wav")
    listed = [json.dumps({"audio_filepath": f"{n}.wav", "text": f"{n}"}) for n in range(3)]
    train = write(tmp_path / "train.jsonl", *listed)
    (tmp_path / "link").symlink_to(tmp_path)
    write(tmp_path / "test.jsonl", listed[0], listed[2])
    load_clips(train=str(train), valid=str(train), test=str(tmp_path / "link/test.jsonl"))
    said = capsys.readouterr().err
    assert "valid: 3 clips; 3 of the clips are also in train\n" in said
    assert "test: 2 clips; 2 of the clips are also in train\n" in said
    parts = [json.dumps(json.loads(listed[0]) | {"offset": n, "duration": 0.1}) for n in (0, 0.2)]
    train, test = (write(tmp_path / f"{n}.jsonl", part) for n, part in enumerate(parts))
    load_clips(train=str(train), valid=str(test))
    assert "valid: 1 clips\n" in capsys.readouterr().err


def test_what_is_held_out_of_one_source_is_in_no_part_of_another(tmp_path):
    for number in range(60):
        sound(tmp_path / f"{number}.wav")
    named = [{"audio_filepath": f"{n}.wav", "text": f"{n}", "speaker": f"s{n}"} for n in range(60)]
    unnamed = [{"audio_filepath": f"{n}.wav", "text": f"it is {n}"} for n in range(60)]
    for name, rows in (("named", named), ("unnamed", unnamed)):
        write(tmp_path / f"{name}.jsonl", *map(json.dumps, rows))
    splits = load_clips(f"{tmp_path / 'named.jsonl'}:1,{tmp_path / 'unnamed.jsonl'}:1")
    paths = [{clip.path for clip in part.rows} for part in splits]
    assert all(paths) and sum(map(len, paths)) == len(set().union(*paths)) == 60
    assert splits.train.skipped["that are held out"] > 5


def test_clips_without_a_speaker_are_held_out_by_what_is_learned_of_them(tmp_path):
    texts = [f"{text}{n}{sign}" for n in range(30) for text, sign in (("Yes ", "!"), ("yes  ", ""))]
    sound(tmp_path / "a.wav")
    rows = [json.dumps({"audio_filepath": "a.wav", "text": text}) for text in texts]
    path = str(write(tmp_path / "all.jsonl", *rows))
    parts = [set(part.texts) for part in load_clips(path)]
    assert all(parts) and sum(map(len, parts)) == 30


def test_a_speaker_in_bytes_that_are_no_utf8_is_one_as_others_are(tmp_path):
    sound(tmp_path / "a.wav")
    lines = [b"a.wav,hello,J\xfcrgen%d\n" % n for n in range(30)]
    (tmp_path / "metadata.csv").write_bytes(b"file_name,text,speaker\n" + b"".join(lines))
    assert sum(map(len, load_clips(str(tmp_path)))) == 30


def test_the_front_door_knows_every_shape_of_folder(tmp_path):
    sound(tmp_path / "f/7_jackson_32.wav")
    sound(tmp_path / "l/wavs/A-1.wav")
    write(tmp_path / "l/metadata.csv", "A-1|x")
    sound(tmp_path / "h/a.wav")
    write(tmp_path / "h/metadata.csv", "file_name,text", "a.wav,y")
    sound(tmp_path / "w/wavs/a.wav")
    write(tmp_path / "w/metadata.csv", '"file_name",text', "wavs/a.wav,u")
    sound(tmp_path / "k/a.wav")
    write(tmp_path / "k/wav.scp", "u a.wav")
    write(tmp_path / "k/text", "u z")
    sound(tmp_path / "s/1/2/1-2-3.flac")
    write(tmp_path / "s/1/2/1-2.trans.txt", "1-2-3 W")
    sound(tmp_path / "c/clips/a.mp3", 4000)
    write(tmp_path / "c/dev.tsv", "client_id\tpath\tsentence", "u\ta.mp3\tv")
    names = {"f": "seven", "l": "x", "h": "y", "w": "u", "k": "z", "s": "W", "c/dev.tsv": "v"}
    for name, text in names.items():
        assert clips._read("train", str(tmp_path / name)).texts == [text]


def test_what_cannot_be_read_or_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`train` must be a manifest .* got 'nothing'"):
        load_clips(train="nothing")
    for number in range(3):
        sound(tmp_path / f"songs/{number}.mp3", 4000)
    message = r"a folder with metadata\.csv and wavs/ .* got '.*songs' with 3 audio files"
    with pytest.raises(ValueError, match=message):
        load_clips(str(tmp_path / "songs"))
    with pytest.raises(ValueError, match="`data` and `train` must not both be given"):
        load_clips("a", train="b")
    with pytest.raises(ValueError, match="expected at least one clip, got 0 clips"):
        load_clips(str(write(tmp_path / "e.jsonl")))
    message = "at least one clip in `train`, got none of 7 clips in 1 groups; as whole groups are"
    with pytest.raises(ValueError, match=message):
        load_clips(manifest(tmp_path, 1))


def test_spoken_texts_are_lower_case_words():
    assert (
        spoken("Don\u2019t stop - it's 'ten' O'Clock_now…  №5!")
        == "don't stop it's ten o'clock now no5"
    )
    assert spoken("Über-Größe, naïve?") == "über größe naïve"
    found = examples.Clips()
    found.rows.append(examples.Clip(Path("x"), "...", "g", "p"))
    assert transcripts.as_spoken(found).skipped == {"without a word": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी, है!", "हिन्दी है"),
        ("ที่นี่ 5.", "ที่นี่ 5"),
        ("İSTANBUL\u2019da I\u0307yi?", "istanbul'da iyi"),
        ("می\u200cروم", "میروم"),
        ("\u00adco\u00adop \u2764\ufe0f 'n' '", "coop n"),
    ],
    ids=["Hindi", "Thai", "Turkish", "Persian", "soft hyphens and a heart"],
)
def test_spoken_texts_keep_the_marks_of_every_script(text, expected):
    assert spoken(text) == expected


# --- audio ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", clips_audio.AUDIO)
def test_every_kind_of_audio_is_read_with_its_channels_averaged(ending, tmp_path):
    t = np.arange(16_000) / 16_000
    tones = np.stack([np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], 1) / 2
    form = {"format": "OGG", "subtype": "OPUS"} if ending == ".opus" else {}
    soundfile.write(tmp_path / f"a{ending}", tones, 16_000, **form)
    samples, rate = read_audio(examples.Clip(tmp_path / f"a{ending}", "x", "x", "p"))
    assert samples.dtype == np.float32
    assert rate >= 16_000
    assert len(samples) / rate == pytest.approx(1, abs=0.1)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * rate / len(samples) == pytest.approx(440, abs=2)


def test_broken_audio_is_named_with_the_place_it_is_listed_at(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF, but no more")
    with pytest.raises(ValueError, match=r"m\.jsonl:7: expected an audio file in .*a\.wav"):
        read_audio(examples.Clip(tmp_path / "a.wav", "x", "x", "m.jsonl:7"))
    path = sound(tmp_path / "b.wav", 8000)
    with pytest.raises(
        ValueError, match=r"m:7: expected sound in .*b\.wav from second 5.0, got none"
    ):
        read_audio(examples.Clip(path, "x", "x", "m:7", 5.0, 6.0))
