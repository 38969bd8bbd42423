"""What examples of several kinds do with their rows."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def rows_by(names: Iterable[str]) -> dict[str, list[int]]:
    """{name: the rows where it stands}, in the order in which the names come."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return rows


def joined_rows(kind: type, parts: Iterable[Any]) -> Any:
    """One of `kind`, which has `rows`, `skipped` and `missing`, with those of all parts."""
    whole = kind()
    for part in parts:
        whole.rows.extend(part.rows)
        whole.skipped.update(part.skipped)
        whole.missing.extend(part.missing)
    return whole


def below_all(paths: list[Path]) -> list[str]:
    """Each path below the folder that all are in."""
    paths = [path.absolute() for path in paths]
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [path.relative_to(root).as_posix() for path in paths]
