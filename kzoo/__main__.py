"""Answers texts, WAV files or pictures with an exported model, one answer a line.

kzoo saved_models/en-de "A dog runs." "A cat sleeps."
kzoo saved_models/en-de sentences.txt > answers.txt    # a file that exists is meant
kzoo saved_models/en-de --text sentences.txt           # the text, though there is such a file
echo "A dog runs." | kzoo saved_models/en-de
kzoo saved_models/en-de --n_best "A dog runs."
kzoo saved_models/en-de --align "A dog runs."
kzoo saved_models/en-many --language fr "A dog runs."    # of several target languages
kzoo saved_models/speech recording.wav another.wav
kzoo saved_models/whisper-tiny.en talk.wav --srt > talk.srt
kzoo saved_models/captions picture.jpg another.png
arecord -f S16_LE -c 1 -r 16000 -t raw | kzoo saved_models/live-speech --live
kzoo serve saved_models --port 8080    # see kzoo serve --help
kzoo import Helsinki-NLP/opus-mt-en-de    # see kzoo import --help
kzoo opus-mt-en-de "A dog runs."          # a model by its name
kzoo list                                 # the names, and what can be imported

`python -m kzoo` is the same.
"""

import argparse
import codecs
import itertools
import math
import os
import shutil
import sys
from pathlib import Path

from kzoo import contents, imports, listing
from kzoo.export import names

_LIVE_SECONDS = 0.1  # of audio that are read before they are answered
_BYTES_AT_ONCE = 4_000_000  # of recordings that are answered together, if they may be long
_NEEDED = {  # flag: the signature that it asks, and what has such
    "live": ("stream", "of live audio, as kzoo.zoo.streaming_ctc"),
    "n_best": ("n_best", "that was exported with the signature `n_best`"),
    "align": ("align", "that was exported with the signature `align`"),
    **dict.fromkeys(
        ("srt", "vtt", "json"),
        ("segments", "of speech that knows times, as those of kzoo import whisper-tiny.en"),
    ),
}
_SHOWN = 3  # source tokens that --align prints for a target token


def main(arguments=None):
    """Runs the command line.

    TensorFlow is imported when there is something to answer, and without Keras.

    Args:
        arguments: list of str; by default those of this process.

    Raises:
        SystemExit: with code 2 and a message if there is nothing to load, a file is missing or no
            WAV file or picture, or what is to be read from or written to is closed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # answers, no log
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    if arguments[:1] == ["serve"]:
        return _serve(parser, arguments[1:])
    if arguments[:1] == ["import"]:
        return _import(arguments[1:])
    if arguments[:1] == ["list"]:
        return listing.main(arguments[1:])
    args = parser.parse_intermixed_args(arguments)
    try:
        path = names.find(args.path)
        if args.live and args.texts:
            raise ValueError(f"`--live` reads the standard input, not {args.texts[0]}")
        if sys.stdout is None:  # `>&-`
            raise ValueError("the answers are written to the standard output, which is closed")
        parts = _parts(args.texts, args.text)
        with imports.without_keras():
            from kzoo.export.served import ServedModel
        model = ServedModel(path)
        if args.language is not None and not model.takes_language:
            raise ValueError(f"`--language` must be left out, as {path} has no input `language`")
        for flag, (signature, kind) in _NEEDED.items():
            if getattr(args, flag) and signature not in model.signatures:
                raise ValueError(f"`--{flag}` needs a model {kind}, and {path} is none")
        if args.live:
            _listen(model)
        else:
            _answer(model, parts, args)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        parser.error(str(error))


def _serve(parser, arguments):
    try:
        from kzoo.serving import command

        options = command.parsed(arguments)
        with imports.without_keras():
            from kzoo.serving import server
    except ImportError as error:
        parser.error(f"`serve` needs the extra: pip install 'kzoo[serving]' ({error})")
    server.run(**options)


def _import(arguments):
    from kzoo.pretrained import command

    args = command.parsed(arguments)
    try:
        command.run(args)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        print(f"kzoo import: error: {error}", file=sys.stderr)
        sys.exit(2)


def _answer(model, parts, args):
    """Prints the answers to `_parts`, whose texts may be names of files."""
    is_file = model.content.is_file
    if args.text and is_file:
        raise ValueError(f"`--text` is for models of texts, but {model.path} reads files")
    texts = itertools.chain.from_iterable(
        part if not isinstance(part, Path) else [part] if is_file else _lines_of(part)
        for part in parts
    )
    if is_file:
        texts = map(_file_name, texts)
    if args.srt or args.vtt:
        first_two = list(itertools.islice(texts, 2))
        if len(first_two) > 1:
            raise ValueError("`--srt` and `--vtt` take one recording at a time, got more")
        texts = iter(first_two)
    reads_input = not args.texts or ("-" in args.texts and not args.text)
    is_typed = reads_input and sys.stdin.isatty()
    takes_long = "segments" in model.signatures  # minutes for each recording
    one_by_one = is_typed or (takes_long and (reads_input or args.json))
    count = 1 if one_by_one else model.content.at_once
    for group in _groups(texts, count, _BYTES_AT_ONCE if takes_long else math.inf):
        for answer in _answers(model, group, args):
            print(answer, flush=takes_long or is_typed)


def _groups(texts, count, most_bytes):
    """Yields lists of up to `count` texts; if these are files, of `most_bytes` in all, or one."""
    group, total = [], 0
    for text in texts:
        size = 0
        if most_bytes < math.inf and os.path.exists(text):
            size = os.path.getsize(text)
        if group and total + size > most_bytes:
            yield group
            group, total = [], 0
        group.append(text)
        total += size
        if len(group) == count:
            yield group
            group, total = [], 0
    if group:
        yield group


def _file_name(text):
    """The name of a file, str; raises ValueError if it is empty, as a blank line is."""
    name = os.fsdecode(text)
    if not name.strip():
        raise ValueError(f"each TEXT must name a file, as the model reads files, got {text!r}")
    return name


def _listen(model):
    """Prints what is said at the end, or at Ctrl-C; on a terminal its last line as it is said."""
    import numpy as np  # by now it is there

    text, state = model.stream(np.zeros(0))
    if sys.stderr is not None:
        print(f"Listening: 16-bit samples, 1 channel, {model.rate_hz:,} Hz.", file=sys.stderr)
    size = 2 * round(_LIVE_SECONDS * model.rate_hz)  # bytes
    is_terminal = sys.stdout.isatty()
    try:
        while data := sys.stdin.buffer.read(size):
            samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2") / 2**15
            text, state = model.stream(samples, state)
            if is_terminal:
                end = text[-shutil.get_terminal_size().columns + 1 :]
                print(f"\r\033[K{end}", end="", flush=True)
    except KeyboardInterrupt:
        pass  # the usual way to end a recording
    print(f"\r\033[K{text}" if is_terminal else text)


def _parser():
    parser = argparse.ArgumentParser(
        prog="kzoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "path",
        metavar="PATH_OR_NAME",
        help="folder of a SavedModel, or of its versions 1, 2, ..., if there is such a folder; "
        "else the name of a model, as kzoo list shows them",
    )
    parser.add_argument(
        "texts",
        metavar="TEXT",
        nargs="*",
        help="a text, or for speech a WAV file, or a picture; or the name of a file of texts, for "
        "its lines, which is meant if there is such a file or the name ends in .txt; or - for the "
        "lines of the standard input, which is the default",
    )
    parser.add_argument(
        "--text",
        action="store_true",
        help="take every TEXT as it is, also if there is a file of that name",
    )
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="for a model of several target languages: the one to answer in, as fr; without, a "
        'text may begin with it, as ">>fr<< A dog runs.", else the first of the model is taken',
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--live",
        action="store_true",
        help="transcribe raw audio from the standard input as it comes: 16-bit little-endian "
        "samples of one channel at the rate of the model",
    )
    shown.add_argument(
        "--n_best",
        action="store_true",
        help="print all hypotheses of the search, best first, each after its score; "
        "an empty line follows",
    )
    shown.add_argument(
        "--align",
        action="store_true",
        help="print under each answer its tokens, each with the source tokens it looked at most; "
        "an empty line follows",
    )
    shown.add_argument(
        "--srt",
        action="store_true",
        help="print the subtitles of one recording, as SubRip; for models that know times, as "
        "those of kzoo import whisper-tiny.en",
    )
    shown.add_argument("--vtt", action="store_true", help="likewise, as WebVTT")
    shown.add_argument(
        "--json",
        action="store_true",
        help="print a line of JSON for each recording: its text and the segments with their "
        "seconds",
    )
    return parser


def _parts(arguments, is_text):
    """What each argument stands for.

    Args:
        arguments: list of str. is_text: bool, each is a text.

    Returns:
        list of iterables of texts, str or bytes that need not be UTF-8, and of pathlib.Paths of
        files, which for a model of texts hold lines.

    Raises:
        OSError: what ends in .txt cannot be read.
        ValueError: the standard input is closed, or to be read twice; a file is in UTF-16.
    """
    if is_text and arguments:
        return [[argument] for argument in arguments]
    if arguments.count("-") > 1:
        raise ValueError("the standard input (-) can be read once")
    parts = []
    for argument in arguments or ["-"]:
        if argument == "-":
            if sys.stdin is None:  # `<&-`
                raise ValueError("there is no other input, and the standard input is closed")
            parts.append(_lines(sys.stdin.buffer, "standard input"))
        elif argument.lower().endswith(".txt") and _is_name(argument):
            parts.append(_lines_of(argument))
        elif os.path.exists(argument) and not os.path.isdir(argument):
            parts.append(Path(argument))
        else:
            parts.append([argument])
    return parts


def _is_name(argument):
    """Whether what ends in .txt is a file's name; if it rather is a sentence, that is said."""
    if len(argument.split()) == 1 or os.path.exists(argument):
        return True
    print(f"kzoo: there is no file {argument!r}, so it is taken as a text", file=sys.stderr)
    return False


def _lines_of(path):
    """The lines of a file of texts: list of bytes."""
    try:
        with open(path, "rb") as file:
            return list(_lines(file, path))
    except FileNotFoundError:
        rule = f"{str(path)!r} ends in .txt, but there is no such file; --text takes it as a text"
        raise FileNotFoundError(rule) from None


def _lines(file, name):
    """Yields the lines of a binary file, bytes without the "\\n" or "\\r\\n" that ends them.

    Raises:
        ValueError: it is in UTF-16 or UTF-32; `name` says which.
    """
    for number, line in enumerate(file):
        if number == 0:
            for mark, encoding in contents.UNICODE_MARKS.items():
                if line.startswith(mark):
                    raise ValueError(f"{name}:1: expected UTF-8, got {encoding}")
            line = line.removeprefix(codecs.BOM_UTF8)
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _answers(model, texts, args):
    """Yields what to print, per text or hypothesis."""
    if args.n_best:
        for pairs in model.n_best(texts, args.language):
            yield "\n".join(f"{score:.4f}\t{text}" for text, score in pairs) + "\n"
    elif args.align:
        for alignment in model.align(texts, args.language):
            yield _table(alignment)
    elif args.srt or args.vtt or args.json:
        from kzoo.export import subtitles

        write = subtitles.srt if args.srt else subtitles.vtt
        for name, recording in zip(texts, model.recordings(texts), strict=True):
            if args.json:
                written = subtitles.as_json(os.fsencode(name).decode("utf-8", "replace"), recording)
            else:
                written = write(recording.segments)
            yield written.removesuffix("\n")
    else:
        yield from model(texts, args.language)


def _table(alignment):
    """The answer, and under it a line for each of its tokens."""
    width = max(map(len, alignment.target_tokens), default=0)
    lines = [alignment.text]
    for token, weights in zip(alignment.target_tokens, alignment.weights, strict=True):
        best = (-weights).argsort(kind="stable")[:_SHOWN]
        seen = [f"{alignment.source_tokens[s]} {weights[s]:.0%}" for s in best]
        lines.append(f"  {token:<{width}}  {'  '.join(seen)}")
    return "\n".join(lines) + "\n"


def command():
    """The console script `kzoo`: `main`, and how a process ends."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    command()
