"""Writes tables of README pages from the JSON files that runs have left, so that no number stands
there without its run.

    python -m benchmarks.report                                     the tables of all pages, anew
    python -m benchmarks.report --keep saved_models/x/1 --name an4  what a recipe wrote, for a table

A page has a table between two lines:

    <!-- table of studies/padding.json -->            what the study of that name makes of it
    <!-- table of layers.json -->                     in benchmarks/README.md, what layers.py makes
                                                      of it; of layers-small.json likewise
    <!-- table of results/an4.json: test WER -->      one row a run, the named scores behind it
    <!-- end of the table -->

Paths are those beside the page; several of results stand with commas between them, and so do
scores, or with semicolons if the name of one has a comma. `--keep` copies what model_card.md and
metrics.json of a version say to recipes/results/<name>.json.
"""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from recipes import cli, runs
from recipes.cli import flag
from recipes.runs import trials

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "recipes/README.md", "benchmarks/README.md", "deploy/README.md")
TABLE = re.compile(
    r"<!-- table of ([^\n:]+)(?:: ([^\n]+))? -->\n.*?<!-- end of the table -->\n", re.S
)
KEPT = ("data", "scored on", "parameters", "command", "time", "machine", "exported")


@dataclass(frozen=True)
class Config:
    """The flags; `--help` shows them."""

    keep: str | None = flag(None, "a version that a recipe wrote, whose card and scores are kept")
    name: str | None = flag(None, "of the kept file, as an4")

    def __post_init__(self):
        if (self.keep is None) != (self.name is None):
            raise ValueError(
                f"`keep` and `name` must be given together, got keep={self.keep}, name={self.name}."
            )


def main(config: Config) -> None:
    """Keeps a run if one is given, and writes the tables."""
    if config.keep is not None:
        path = ROOT / f"recipes/results/{config.name}.json"
        path.parent.mkdir(exist_ok=True)
        cli.write_json(kept(Path(config.keep)), path)
        print(f"{path.relative_to(ROOT)} is for git, and for a table: <!-- table of ... -->")
    for name in PAGES:
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        if (new := with_tables(text, page.parent)) != text:
            page.write_text(new, encoding="utf-8")
            print(f"{name} has changed")


def kept(version: Path) -> dict:
    """What the card and the scores of a version say."""
    from kzoo.export import card

    facts = card.facts_of((version / "model_card.md").read_text(encoding="utf-8"))
    metrics = json.loads((version / "metrics.json").read_text(encoding="utf-8"))
    return {"facts": {key: facts[key] for key in KEPT if key in facts}, "metrics": metrics}


def with_tables(text: str, folder: Path) -> str:
    """The text of a page in a folder, its tables written anew."""

    def written(found: re.Match) -> str:
        paths = [(folder / path.strip()).resolve() for path in found[1].split(",")]
        if paths[0].parent.name == "studies":
            study = importlib.import_module(f"recipes.studies.{paths[0].stem}")
            table = study.table(trials.read(paths[0]))
        elif paths[0].parent.name == "benchmarks":
            benchmark = importlib.import_module(f"benchmarks.{paths[0].stem.partition('-')[0]}")
            table = benchmark.table(json.loads(paths[0].read_text(encoding="utf-8")))
        else:
            scores = found[2] or ""
            table = table_of_runs(paths, scores.split("; " if ";" in scores else ", "))
        begin = found[0].partition("\n")[0]
        return f"{begin}\n\n{table}\n\n<!-- end of the table -->\n"

    return TABLE.sub(written, text)


def table_of_runs(paths: list[Path], scores: list[str]) -> str:
    """A row for each run: data, command, training and the named scores with their signatures."""
    from kzoo.export import card

    rows = []
    for path in paths:
        run = json.loads(path.read_text(encoding="utf-8"))
        facts, cells = run["facts"], []
        for name in scores:
            score = run["metrics"].get(name)
            cells.append("" if score is None else runs.in_table(score))
        training = f"{facts['time'].removesuffix(' of training')}, {facts['machine']}"
        rows.append((facts["scored on"], f"`{facts['command']}`", training, *cells))
    return card.table(("scored on", "made by", "training", *scores), rows)


if __name__ == "__main__":
    cli.run(main, Config, __doc__)
