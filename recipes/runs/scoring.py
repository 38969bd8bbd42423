"""The end of a run: answers of the SavedModel, their scores, its card, pictures, a last proof."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kzoo
from recipes import cli
from recipes.data.splits import Splits
from recipes.runs.processor import choose_precision, machine
from recipes.runs.starting import BEGUN_FROM, begun_from

WEIGHTS_HELP = (
    "of the exported model: bfloat16 takes half the room on disk, int8 a quarter; sums are in "
    "float32 in any case"
)
MAPS = 3  # attention maps beside a model
MOST_LOOKED_AT = 20  # examples, of which the first with an answer are drawn


def scored_split(splits: Splits) -> tuple[str, Any]:
    """The name and the examples that are scored: "test", else "valid"."""
    return ("valid", splits.valid) if splits.test is None else ("test", splits.test)


def answers_of(
    served: Callable, contents: Sequence, unit: str, chunk: int
) -> tuple[list[str], float]:
    """The answers of a SavedModel, `chunk` at a time under a progress bar, and the seconds that
    they took."""
    batches = (contents[start : start + chunk] for start in range(0, len(contents), chunk))
    return answers_to(served, batches, unit, len(contents))


def answers_to(
    served: Callable, batches: Iterable[Sequence], unit: str, count: int
) -> tuple[list[str], float]:
    """The answers of a SavedModel to `count` contents under a progress bar, and the seconds that
    they took, without those in which `batches` were read that are not in memory."""
    import keras

    bar = keras.utils.Progbar(count, unit_name=unit)
    seconds, answers = 0.0, []
    for some in batches:
        start = time.monotonic()
        answers += served(some)
        seconds += time.monotonic() - start
        bar.update(len(answers))
    return answers, seconds


def said(scores: dict[str, kzoo.metrics.Score]) -> dict[str, kzoo.metrics.Score]:
    """The scores, which are printed on the way."""
    for label, score in scores.items():
        print(f"{label}: {score.figure} ({score.signature})", flush=True)
    return scores


def of_sources(
    rows_of: dict[str, Sequence[int]], scores: Callable[[Sequence[int]], dict]
) -> dict[str, kzoo.metrics.Score]:
    """{label and source: Score} of each source's rows, where a part is out of several sources."""
    return {
        f"{label} {source}": score
        for source, rows in (rows_of.items() if len(rows_of) > 1 else ())
        for label, score in scores(rows).items()
    }


def scores_of(saved: kzoo.export.Saved) -> dict[str, float]:
    """{label: value} of the scores among the metrics that a model was saved with."""
    return {
        label: metric.value
        for label, metric in saved.metrics.items()
        if isinstance(metric, kzoo.metrics.Score)
    }


def export_precision(weights: str) -> str:
    """What `export.save` calls a `--weights`."""
    return weights if weights == "float32" else f"{weights}_weights"


def provenance(recipe: str, config: Any, minutes: float) -> dict[str, str]:
    """What a card says of how a model came to be."""
    init_from = getattr(config, "init_from", None)
    begun = {} if init_from is None else {BEGUN_FROM: begun_from(init_from)}
    return begun | {
        "command": " ".join([f"python -m recipes.{recipe}", *cli.changed(config)]),
        "time": f"{minutes:.1f} minutes of training",
        "machine": machine(),
        "precision": f"trained in {choose_precision(config.precision)}",
    }


@contextlib.contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Turns what fails inside into a warning: a picture is not worth a finished training."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"{path} is whole, but lacks a picture: {error!r}", stacklevel=3)


def draw_attention(served, examples: Iterable[tuple[Any, str]]) -> None:
    """Draws up to `MAPS` attention maps beside the model, of examples (content, reference)."""
    number = 0
    for (content, reference), _ in zip(examples, range(MOST_LOOKED_AT), strict=False):
        drawn = served.align(content)
        if not any(drawn.source_tokens) or not any(drawn.target_tokens):
            continue  # nothing was read or said
        number += 1
        kzoo.plots.attention_map(
            drawn.weights,
            drawn.source_tokens,
            drawn.target_tokens,
            served.path / f"attention-{number}.png",
            title=f"reference: {reference}",
        )
        if number == MAPS:
            return


FRESH_PROCESS = """
import json, sys, tensorflow as tf, tensorflow_text
path, name, *items = sys.argv[1:]
contents = items if name == "text" else [open(item, "rb").read() for item in items]
model = tf.saved_model.load(path)
serve = model.signatures["serving_default"]
inputs = dict.fromkeys(serve.structured_input_signature[1], tf.constant(""))  # of the language
answer = serve(**inputs | {name: tf.constant(contents)})
print(json.dumps([[t.decode() for t in answer["text"].numpy()], answer["score"].numpy().tolist()]))
"""


def in_table(score: dict) -> str:
    """What a table shows of a score that metrics.json or a manifest holds."""
    score = kzoo.metrics.Score(**{key: value for key, value in score.items() if key != "metric"})
    return f"{score.figure} `{score.signature}`"


def show_answers(path: Path, items: list[str], input_name: str = "text") -> list[str]:
    """Asks the SavedModel in a new process that knows TensorFlow and nothing of kzoo; its answers.

    `items` are texts or, for another input than "text", absolute paths of files.
    """
    print("\nA fresh process that imports only tensorflow and tensorflow_text answers:", flush=True)
    command = [sys.executable, "-c", FRESH_PROCESS, str(path.resolve()), input_name, *items]
    # From the model's folder, so that not even this checkout can be imported.
    done = subprocess.run(command, cwd=path, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{path} cannot be loaded in a fresh process:\n{done.stderr}")
    answers, scores = json.loads(done.stdout.splitlines()[-1])
    for item, answer, score in zip(items, answers, scores, strict=True):
        print(f"{item}\n    -> {answer}   (score {score:.2f})")
    print(flush=True)
    return answers


def say_how_to_ask(path: Path, example: str) -> None:
    """Prints the command that asks a SavedModel, quoted as a shell wants it."""
    command = shlex.join(["python", "-m", "kzoo", str(path), example])
    print(f"{path} is a SavedModel; ask it with: {command}")


def show_files(path: Path, examples: Iterable[tuple[str, bytes, str]], input_name: str) -> None:
    """Asks about examples (suffix, content, what it is) as `show_answers` does: files example-1 ...
    beside the model."""
    names = []
    for number, (suffix, content, origin) in enumerate(examples, start=1):
        file = path / f"example-{number}{suffix}"
        file.write_bytes(content)
        print(f"{file.name} is {origin}")
        names.append(str(file.resolve()))
    show_answers(path, names, input_name)
