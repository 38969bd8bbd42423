"""Figures of a benchmark: where and when they were measured, the file that keeps them, their table.

A script writes {"facts": ..., ...} with `--json FILE`, and has `table(found)`, which makes a table
of such a file. `python -m benchmarks.report` puts it into README pages.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

from recipes import cli, runs
from recipes.runs.processor import cpu_values

VECTOR_UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
SETTINGS = ("OMP_", "KMP_", "MKL_", "TF_ENABLE", "TF_NUM", "XLA_", "MALLOC_", "LD_PRELOAD")
QUIET = 0.5  # load average above which something else was running


def facts(name: str, *packages: str) -> dict[str, str]:
    """What the figures of a script depend on; call it before the measurement.

    Args:
        name: the script, as "layers".
        packages: the peers', beside TensorFlow and Keras; without those that are not installed.
    """
    versions = [f"Python {platform.python_version()}"]
    for package in ("tensorflow", "keras", *packages):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    flags = (cpu_values("flags") or [""])[0].split()
    units = [unit for unit in VECTOR_UNITS if unit in flags]
    set_here = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(SETTINGS)]
    load = os.getloadavg()[0]
    busy = " (other programs are running: measure again on a quiet machine)" if load > QUIET else ""
    return {
        "command": " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]]),
        "machine": ", ".join([runs.machine(), *units]),
        "versions": ", ".join(versions),
        "environment": ", ".join(set_here) or "nothing set",
        "load average at the start": f"{load:.1f}{busy}",
        "date": datetime.date.today().isoformat(),
    }


def write(found: dict, path: Path | None) -> None:
    """Writes the figures if a file is named; after every row, for a run that is interrupted."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cli.write_json(found, path)


def table(header: Iterable[str], rows: Iterable[Iterable[str]], facts: dict | None = None) -> str:
    """A table in Markdown, with the facts below it.

    Args:
        header: names of the columns; one that begins with ">" is set to the right.
        facts: what `facts` returned.
    """
    header = list(header)
    marks = ["--:" if name.startswith(">") else "---" for name in header]
    lines = [[name.removeprefix(">") for name in header], marks, *rows]
    text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return text if facts is None else f"{text}\n\n{made(facts)}"


def made(facts: dict[str, str]) -> str:
    """A sentence that says by which command, where and when figures were made."""
    named = [facts[key] for key in ("machine", "versions", "date") if key in facts]
    if load := facts.get("load average at the start"):
        named.append(f"load average at the start {load.split()[0]}")
    return f"`{facts['command']}`, {', '.join(named)}."
