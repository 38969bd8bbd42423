"""Segments of a recording as subtitles: SubRip (.srt), WebVTT (.vtt), JSON."""

import json


def srt(segments):
    """SubRip: numbered parts, hours:minutes:seconds,milliseconds.

    Args:
        segments: list of `served.Segment`.

    Returns:
        str; "" without segments.

    Example:

    >>> from kzoo.export.served import Segment
    >>> print(srt([Segment(0.0, 1.5, "Good morning.", 0.01, [])]), end="")
    1
    00:00:00,000 --> 00:00:01,500
    Good morning.
    <BLANKLINE>
    """
    return "".join(
        f"{number}\n{_clock(part.begin, ',')} --> {_clock(part.end, ',')}\n{_line(part.text)}\n\n"
        for number, part in enumerate(segments, start=1)
    )


def vtt(segments):
    """WebVTT, https://www.w3.org/TR/webvtt1/: as SubRip with a head and full stops; what would be
    taken for markup is escaped.

    Args:
        segments: list of `served.Segment`.

    Returns:
        str.
    """
    escaped = (
        part._replace(
            text=part.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        )
        for part in segments
    )
    return "WEBVTT\n\n" + "".join(
        f"{_clock(part.begin, '.')} --> {_clock(part.end, '.')}\n{_line(part.text)}\n\n"
        for part in escaped
    )


def as_json(name, recording):
    """One line of JSON.

        {"file", "text", "segments": [{"begin", "end", "text", "no_speech",
                                       "words": [{"begin", "end", "text"}]}]}

    Args:
        name: str. recording: `served.Recording`.

    Returns:
        str.
    """
    parts = [
        {
            **_times(part), "text": part.text, "no_speech": round(part.no_speech, 4),
            "words": [{**_times(word), "text": word.text} for word in part.words],
        }
        for part in recording.segments
    ]  # fmt: skip
    found = {"file": name, "text": recording.text, "segments": parts}
    return json.dumps(found, ensure_ascii=False) + "\n"


def _times(part):
    return {"begin": round(part.begin, 2), "end": round(part.end, 2)}


def _clock(seconds, point):
    """Seconds -> "01:02:03,450"."""
    milliseconds = round(1000 * seconds)
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


def _line(text):
    """A text without what would end a part early, an empty line."""
    return " ".join(text.split())
