"""The command line of `kzoo import`, checked before anything large is imported.

A model that others have trained -> a SavedModel of raw texts or sounds with its card, which has
answered in a process of its own.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

from kzoo.export import manifest, names

_EXAMPLES = """\
kzoo import Helsinki-NLP/opus-mt-en-de
kzoo opus-mt-en-de "Two dogs run."

kzoo import whisper-tiny.en
kzoo whisper-tiny.en recording.wav
kzoo import whisper-tiny.en saved_models/bold --temperatures    # never draws an answer anew

kzoo import my_marian_model saved_models/mine

Also a folder of Hugging Face's transformers (MarianMT, Whisper) or of CTranslate2, a package of
Argos Translate (.argosmodel), OpenAI's .pt of Whisper, and kzoo's own .keras files. Names are those
of the Hugging Face hub; whisper-tiny.en comes through pip. Nothing in these files is run.

Of several target languages a request names one, else the first of the card is taken:
kzoo NAME --language fra "Two dogs run.", or kzoo NAME ">>fra<< Two dogs run."
To train such a model on your own data: python -m recipes.translation --init_from NAME_OR_PATH
"""
_SIGNATURES = ("serving_default", "n_best", "align", "segments", "complete")
_DOUBTS = {  # the attributes of models.Doubts
    "no_speech_threshold": {
        "metavar": "P",
        "help": "a window is silent if nobody speaks there with a higher probability and the mean "
        "log p of its tokens is below --log_prob_threshold; higher keeps more doubtful words; "
        "default: 0.6",
    },
    "surely_no_speech_threshold": {
        "metavar": "P",
        "help": "it is also silent if nobody speaks with a higher probability than this, whatever "
        "its tokens; 1 for never; default: 0.9",
    },
    "log_prob_threshold": {
        "metavar": "LOG_P",
        "help": "an answer whose tokens have a lower mean log p is drawn anew; =-inf for never; "
        "default: -1.0",
    },
    "repetition_threshold": {
        "metavar": "TIMES",
        "help": "so is one whose pairs of tokens come more often than this on average; inf for "
        "never; default: 2.4",
    },
    "temperatures": {
        "nargs": "*",
        "metavar": "T",
        "help": "of what is drawn, one after the other until an answer is believed; without any, "
        "the first answer stays; default: 0.2 0.4 0.6 0.8 1.0",
    },
}
_TOLD = ("language", "task")
_LONGEST = 3600  # seconds of a recording, for models that hear window by window
_SAMPLE = "Hello!"
# The search that these models were published with; kzoo's own divides otherwise.
_OF_TRANSLATORS = {"finished_apart": True, "length_normalization": "length"}
_OF_SPEECH = {**_OF_TRANSLATORS, "patience": 1.0}


def parsed(arguments=None):
    """The arguments of `kzoo import`.

    Args:
        arguments: list of str after "import"; by default those of this process.

    Raises:
        SystemExit: with code 2 and a message if they are wrong.
    """
    parser = argparse.ArgumentParser(
        prog="kzoo import",
        description="Makes a SavedModel of a model that others have trained: raw texts or WAV "
        "files in, text out.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="NAME_OR_PATH", help="of the model: see below")
    add(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="where to write the next version: FOLDER/1; default for a NAME: a folder of that name "
        "in the cache, where kzoo finds it by its name",
    )
    add("--beam_size", type=int, help="default: 4 for texts, 1 for speech")
    add("--max_length", type=int, default=256, help="most tokens of an answer; default: 256")
    add(
        "--precision",
        choices=["float32", "bfloat16_weights", "int8_weights", "bfloat16"],
        default="float32",
        help="bfloat16_weights take half the room, int8_weights a quarter, and are computed with "
        "in float32; bfloat16 "
        "computes in it too, and is for texts; default: float32",
    )
    speech = parser.add_argument_group(
        "for speech",
        "A window of 30 s is taken for silence, or drawn anew at a temperature, where its answer "
        "is not believed. The card says what was chosen.",
    )
    speech.add_argument(
        "--language",
        metavar="CODE",
        help="what is spoken, as de, for a Whisper of many languages; default: en",
    )
    speech.add_argument(
        "--task",
        choices=["transcribe", "translate"],
        help="translate writes English, whatever is spoken; default: transcribe",
    )
    for flag, options in _DOUBTS.items():
        speech.add_argument(f"--{flag}", type=float, **options)
    add("--sample", metavar="TEXT", help="what the SavedModel is to answer; a WAV file for speech")
    args = parser.parse_args(arguments)
    for name in ("beam_size", "max_length"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"`--{name}` must be at least 1, got {value}")
    if args.folder is None:
        if os.path.exists(args.model):
            parser.error(f"FOLDER must be given for what is no name: {args.model} is a path")
        name = args.model.rpartition("/")[2]
        if not names.is_name(name):
            parser.error(f"FOLDER must be given, as {args.model!r} ends in no name of a model")
        args.folder = str(names.imported() / name)
    return args


def run(args):
    """Downloads, converts, exports, and asks the SavedModel in a fresh process.

    Args:
        args: from `parsed`.

    Returns:
        pathlib.Path of the SavedModel.

    Raises:
        OSError, ValueError, ImportError: what `pretrained.load` or `export.save` refuses; or the
            folder in the cache would not be found by its name.
        RuntimeError: the SavedModel was written, but does not answer.
    """
    from kzoo import export
    from kzoo.export import slimming
    from kzoo.export.signatures import all_names
    from kzoo.pretrained.downloads import fetch
    from kzoo.pretrained.loading import is_own, load

    _check_is_free(args)
    doubts = _doubts(args)
    _say(1, f"Looking for {args.model}")
    found = fetch(args.model)
    _say(2, f"Reading {found.path}")
    model = load(found.path, args.language, args.task)
    told = _told(model)
    if told and args.language is None:
        other = "" if is_own(found.path) else " --language CODE says another."
        print(
            "This model knows many languages, and does not find out which is spoken: it will take "
            f"it for {told[0]}.{other}",
            file=sys.stderr,
        )
    is_file = model.source_tokenizer.content.is_file
    path = export.next_version(args.folder)
    _say(3, f"Writing {path}: {model.count_params():,} parameters")
    possible = all_names(model)
    translates = not is_file and not model.copies and getattr(model, "suppressed", ())
    published = _OF_TRANSLATORS if translates else _OF_SPEECH if "segments" in possible else None
    sample = args.sample or (None if is_file else _text_for(model))
    facts = _card(args, found)
    if told:
        facts["hears"] = ", to ".join(told)
    if doubts is not None and "segments" not in possible:
        given = ", ".join(f"--{name}" for name in _DOUBTS if getattr(args, name) is not None)
        raise ValueError(
            f"`{given}` must be left out for {args.model}, which does not hear windows of speech "
            "as Whisper does."
        )
    export.save(
        model,
        path,
        signatures=[s for s in _SIGNATURES if s in possible] if hasattr(model, "decoder") else None,
        max_source_length=_LONGEST if "segments" in possible else None,
        beam_size=args.beam_size or (1 if is_file else 4),
        max_length=args.max_length,
        **({"length_penalty": 1.0, "search_options": published} if published else {}),
        precision=args.precision,
        doubts=doubts,
        card=facts,
        examples=[sample] if sample else (),
    )
    slimming.slim(path)  # is loaded sooner
    _say(4, "Asking it in a fresh process")
    with tempfile.TemporaryDirectory() as folder:
        answer = _answer(path, sample or _second_of_silence(Path(folder, "silence.wav")))
    print(f"{sample or 'A second of silence'} -> {answer}")
    task = "speech_to_text" if is_file else "translation" if translates else "text"
    answers = {sample: answer} if sample and not is_file else {}
    manifest.write(path, _manifest(facts, task, model.count_params(), answers))
    print(f"Written: {path}, with model_card.md", file=sys.stderr)
    if _is_by_name(args):
        asked = "recording.wav" if is_file else '"text"'
        print(f"Ask it: kzoo {facts['name']} {asked}", file=sys.stderr)
    return path


def _told(model):
    """The language and the task of a Whisper of many languages, or None."""
    if len(getattr(model, "prompt", ())) < 3 or not model.source_tokenizer.content.is_file:
        return None
    names = model.target_tokenizer.get_vocabulary()
    return [names[id_].strip("<|>") for id_ in model.prompt[:2]]


def _doubts(args):
    """What `export.save` is to be told; None where the defaults are good."""
    from kzoo.models import Doubts

    given = {name: getattr(args, name) for name in _DOUBTS}
    given = {name: value for name, value in given.items() if value is not None}
    if "temperatures" in given:
        given["temperatures"] = tuple(given["temperatures"])
    return Doubts(**given) if given else None


def _is_by_name(args):
    return Path(args.folder).parent == names.imported()


def _check_is_free(args):
    """Raises ValueError if a name would go on to stand for another model than this one."""
    name = Path(args.folder).name
    taken = names.named().get(name) if _is_by_name(args) else None
    if taken is None:
        return
    is_elsewhere = taken.parents[1] != names.imported()
    if is_elsewhere or manifest.read(taken).data != _data_of(args.model):
        raise ValueError(
            f"FOLDER must be given, as the name {name} stands for {taken}, got {args.model} alone."
        )


def _manifest(facts, task, parameters, answers):
    return manifest.Manifest(
        name=facts["name"],
        task=task,
        languages=[],
        data=facts["data"],
        licence=facts.get("licence", "not stated"),
        command=facts["command"],
        time="not trained here",
        parameters=parameters,
        answers=answers,
    )


def _data_of(source):
    return f"see {source}"


def _say(step, text):
    print(f"[{'#' * step}{'.' * (4 - step)}] {text}", file=sys.stderr, flush=True)


def _card(args, found):
    """What is known of where the model came from."""
    card = {
        "name": Path(args.folder).name,
        "description": f"{found.source}, imported by kzoo.",
        "data": _data_of(found.source),
        "imported from": found.source,
        "command": shlex.join(
            ["kzoo", "import", args.model, *([] if _is_by_name(args) else [args.folder])]
        )
        + "".join(f" --{name} {told}" for name in _TOLD if (told := getattr(args, name))),
    }
    if found.revision:
        card["revision"] = found.revision
    return card | ({"licence": found.licence} if found.licence else {})


def _text_for(model):
    """A text, with a language before it if the model wants one."""
    pieces = model.source_tokenizer.get_vocabulary()
    languages = [piece for piece in pieces if piece.startswith(">>") and piece.endswith("<<")]
    return f"{languages[0]} {_SAMPLE}" if languages else _SAMPLE


def _second_of_silence(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000))
    return path


def _answer(path, sample):
    """What `kzoo PATH SAMPLE` prints in a process of its own."""
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "kzoo", str(path), str(sample)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise RuntimeError(f"{path} was written, but does not answer {sample}: {done.stderr}")
    return done.stdout.removesuffix("\n")
