"""Figures of a benchmark: where and when they were measured, the file that keeps them, their table.

A script writes {"facts": ..., ...} with `--json FILE`, and has `table(found)`, which makes a table
of such a file. `python -m benchmarks.report` puts it into README pages.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

VECTOR_UNITS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
SETTINGS = ("OMP_", "KMP_", "MKL_", "CT2_", "TF_ENABLE", "TF_NUM", "TF_XLA", "XLA_", "MALLOC_")
QUIET = 0.5  # load average above which something else was running
NOTHING = "nothing set"


def facts(name: str, *packages: str, threads: int | None = None) -> dict[str, str]:
    """What the figures of a script depend on; call it before all work of its own.

    kzoo is imported here alone: a script's processes for its peers shall not have it.

    Args:
        name: the script, as "layers".
        packages: the peers', beside TensorFlow and Keras; without those that are not installed.
        threads: how many compute, if they are other than the machine's cores.
    """
    from recipes import runs
    from recipes.runs.processor import cpu_values

    versions = [f"Python {platform.python_version()}"]
    for package in ("tensorflow", "keras", *packages):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    flags = (cpu_values("flags") or [""])[0].split()
    units = [unit for unit in VECTOR_UNITS if unit in flags]
    used = [] if threads is None else [f"threads used: {threads}"]
    settings = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(SETTINGS)]
    load = os.getloadavg()[0]
    busy = " (other programs are running: measure again on a quiet machine)" if load > QUIET else ""
    return {
        "command": f"python -m benchmarks.{name} {shlex.join(sys.argv[1:])}".strip(),
        "machine": ", ".join([runs.machine(), *units, *used]),
        "versions": ", ".join(versions),
        "environment": ", ".join(settings) or NOTHING,
        "load average at the start": f"{load:.1f}{busy}",
        "date": datetime.date.today().isoformat(),
    }


def write(found: dict, path: Path | None, *, is_over: bool = True) -> None:
    """Writes the figures if a file is named.

    Those of a run that is not over go to FILE.unfinished, and leave FILE as it was.
    """
    from recipes import cli

    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.unfinished")
    cli.write_json(found, part)
    if is_over:
        os.replace(part, path)


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
    if facts.get("environment", NOTHING) != NOTHING:
        named.append(facts["environment"])
    if load := facts.get("load average at the start"):
        named.append(f"load average at the start {load.split()[0]}")
    return f"`{facts['command']}`, {', '.join(named)}."
