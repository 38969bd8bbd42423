"""Ships a model that a recipe wrote: with a name, a manifest, and a line in the zoo's table.

    python -m recipes.ship --folder saved_models/x/1 --name pronunciation-en --languages en \
        --ask "colonel | kzoo"
    python -m recipes.ship                     the table of saved_models/README.md alone, anew

What a user needs of the version is copied to saved_models/<name>/1; pictures stay behind. The copy
must answer in a process that knows only tensorflow and tensorflow_text. Its manifest.json holds
what model_card.md and metrics.json say, the answers to --ask, the milliseconds of one that was
asked alone, and the SHA-256 of every file. No weight is changed (export a smaller model with
--weights int8); what is computed twice and names of nodes go, which spares more than half of
saved_model.pb.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import kzoo
from kzoo.export import folder, manifest, names, slimming
from recipes import cli, runs
from recipes.cli import flag

# Of a version, what servers, `kzoo.load` and `--init_from` read, and what says what it is.
KEPT = (
    *("saved_model.pb", "variables", "assets", "assets.extra"),
    *("model.json", "model_card.md", "metrics.json"),
)
ROUNDS = 5  # of asking, after a first one that prepares
BEGIN = "<!-- Written by python -m recipes.ship. -->\n"
END = "<!-- The end of what it wrote. -->\n"
NONE = "No model is shipped yet.\n"
HEADER = (
    *("model", "task", "data", "licence", "parameters", "size", "score"),
    *("training", "an item alone", "made by"),
)


@dataclass(frozen=True)
class Config:
    """The flags; `--help` shows them."""

    folder: str | None = flag(None, "what to ship: a version or the folder of versions")
    name: str | None = flag(None, "that the model is asked for by, as pronunciation-en")
    languages: str = flag("", "codes with commas between them, as en or en,de")
    ask: str | None = flag(
        None, "texts, or files, whose answers are known from now on; ' | ' between them"
    )
    score: str | None = flag(
        None, "metric that the table shows, a key of metrics.json; none: the first with a signature"
    )
    data: str | None = flag(None, "what the card is to say of the data; none: what it says")
    licence: str | None = flag(None, "what the card is to say of the licence; none: what it says")
    models: str = flag("saved_models", "folder of the zoo, with its README.md")

    def __post_init__(self):
        if self.folder is not None:
            for field in ("name", "ask"):
                if not (value := getattr(self, field)):
                    raise ValueError(f"`{field}` must be given with --folder, got {value!r}.")
            if not names.is_name(self.name):
                raise ValueError(
                    f"`name` must be letters, digits, . _ or -, the first a letter, a digit or _, "
                    f"and no command of kzoo, got {self.name!r}."
                )

    @property
    def items(self) -> list[str]:
        return [item for each in self.ask.split(" | ") if (item := each.strip())]


def main(config: Config) -> None:
    """Ships the model if one is given, and writes the table."""
    readme = Path(config.models, "README.md")
    # A folder of your own has no table.
    is_zoo = readme.exists() and BEGIN in readme.read_text(encoding="utf-8")
    if config.folder is not None:
        path = ship(config)
        print(f"The licence, which must permit it: {manifest.read(path).licence}")
        if is_zoo:
            permit(Path(config.models).parent / ".gitignore", config)
            print(f"To commit: git add .gitignore '{path}' '{readme}'")
    if config.folder is None or is_zoo:
        text = with_table(readme.read_text(encoding="utf-8"), shipped(config.models))
        readme.write_text(text, encoding="utf-8")


def ship(config: Config) -> Path:
    """Copies a version, asks the copy, and writes its manifest; the folder of the copy."""
    from kzoo.export import card

    source = folder.of_saved_model(config.folder)
    path = folder.next_version(Path(config.models, config.name))
    given = {key: value for key in ("data", "licence") if (value := getattr(config, key))}
    facts_of(source, config.score)  # refused before anything is written
    with folder.written_at_once(path) as part:
        part.mkdir(parents=True)
        for name in KEPT:
            if (source / name).is_dir():
                shutil.copytree(source / name, part / name)
            elif (source / name).exists():
                shutil.copyfile(source / name, part / name)
        slimming.slim(part)
        text = (part / "model_card.md").read_text(encoding="utf-8")
        text = card.revised(text, path.as_posix(), given)
        (part / "model_card.md").write_text(text, encoding="utf-8")
        served = kzoo.export.ServedModel(part)
        items = contents = config.items
        if served.content.is_file:
            items = [Path(item).name for item in items]
            if len(set(items)) < len(items):
                raise ValueError(f"`ask` must be files of different names, got {items}.")
            contents = [
                shutil.copyfile(item, part.resolve() / Path(item).name) for item in contents
            ]
        answers, milliseconds = asked(served, contents)
        fresh = runs.show_answers(part, [str(each) for each in contents], served.input_name)
        if fresh != answers:
            raise RuntimeError(
                f"{source} answers {answers} here and {fresh} in a fresh process, all at once."
            )
        manifest.write(
            part,
            manifest.Manifest(
                name=config.name,
                languages=[code for code in config.languages.split(",") if code],
                milliseconds=round(milliseconds, 1),
                machine=runs.machine(),
                answers=dict(zip(items, answers, strict=True)),
                **facts_of(part, config.score),
            ),
        )
    return path


def asked(served: Callable, contents: list) -> tuple[list[str], float]:
    """The answers to texts or files, and the median milliseconds of one that is asked alone."""
    answers, times = [served(content) for content in contents], []
    for content in contents * ROUNDS:
        start = time.perf_counter()
        served(content)
        times.append(1e3 * (time.perf_counter() - start))
    return answers, statistics.median(times)


def facts_of(path: Path, metric: str | None) -> dict:
    """What model_card.md and metrics.json say that a manifest holds too."""
    from kzoo.export import card

    said = card.facts_of((path / "model_card.md").read_text(encoding="utf-8"))
    metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    scores = {key: value for key, value in metrics.items() if isinstance(value, dict)}
    metric = metric or next(iter(scores), None)
    if metric not in scores:
        raise ValueError(f"`score` must be one of {', '.join(scores)}, got {metric!r}.")
    task = re.match(r"python -m recipes\.(\w+)", said["command"])
    if not task:
        raise ValueError(
            f"{path / 'model_card.md'}: `command` must be that of a recipe, got {said['command']!r}"
        )
    return {
        "task": task[1],
        **{key: said[key] for key in ("data", "licence", "command", "time")},
        "parameters": int(said["parameters"].replace(",", "")),
        "score": {"metric": metric, **scores[metric]},
    }


def permit(gitignore: Path, config: Config) -> None:
    """Lets git see a shipped model, where saved_models/* is ignored."""
    line = f"!{Path(config.models).name}/{config.name}/"
    if gitignore.exists() and line not in (lines := gitignore.read_text("utf-8").splitlines()):
        gitignore.write_text("\n".join([*lines, line]) + "\n", encoding="utf-8")


def shipped(models: str | Path) -> list[Path]:
    """The version of each model of a folder that its name stands for; what was imported into it has
    no score and is left out."""
    paths = names.named_in(Path(models)).values()
    return [path for path in paths if manifest.read(path).score]


def with_table(text: str, paths: Iterable[Path]) -> str:
    """The text of the README with the table of these models between its two marks."""
    from kzoo.export import card

    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md must hold the lines {BEGIN.strip()} and {END.strip()}.")
    rows = [row(path) for path in paths]
    written = f"{card.table(HEADER, rows)}\n" if rows else NONE
    return f"{before}{begin}\n{written}\n{end}{after}"


def row(path: Path) -> tuple[str, ...]:
    """A model's line in the table."""
    facts = manifest.read(path)
    return (
        f"`{facts.name}`",
        ", ".join([facts.task, *facts.languages]),
        facts.data,
        facts.licence,
        f"{facts.parameters:,}",
        f"{manifest.size_bytes(path) / 1e6:.1f} MB",
        f"{facts.score['metric']} {runs.in_table(facts.score)}",
        facts.time.removesuffix(" of training"),
        f"{facts.milliseconds} ms ({facts.machine})",
        f"`{facts.command}`",
    )


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
