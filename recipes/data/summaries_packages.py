"""Documents with summaries out of packages: docstrings of Python, descriptions of Debian.

A document is all but the first paragraph, the summary is the first paragraph, or the synopsis.
"""

import ast
import importlib.util
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from kzoo.metrics.score import normalized
from recipes.data import files
from recipes.data.examples import Pairs
from recipes.data.examples import some_pairs as some
from recipes.data.pairs_packages import debian_lists, debian_paragraphs

DOCSTRING_WORDS = (12, 200), (2, 16)  # fewest and most, of a document and of a summary
DEBIAN_WORDS = (15, 120), (2, 12)
SECTION = re.compile(  # headings, of Google's and NumPy's style, that end what a docstring tells
    r"(?:call |keyword |other )?(?:arg(?:ument)?s?|param(?:eter)?s?|returns?|yields?|raises?"
    r"|attributes?|input shape|output shape)(?::.*)?",
    re.IGNORECASE,
)
VERSION = re.compile(r"[-.]?v?\d[\d.]*$")  # at the end of a source package's name


def docstrings(packages: str) -> Pairs:
    """First paragraphs of the docstrings of Python packages, and what follows up to the arguments.

    The files are read as text: nothing of a package is imported. The group is the folder, so no
    file is on both sides of a split, nor is one of its neighbours; copies of Keras in other
    packages belong to Keras's folders.

    Args:
        packages: names of installed packages or paths of wheels, with commas between them.

    Raises:
        ValueError: one is neither installed nor a wheel, or there is no pair in any.
    """
    pairs, seen = Pairs(), set()
    for package in filter(None, map(str.strip, packages.split(","))):
        found = files.progress(_sources(package), f"Reading {package}, file")
        for name, source in found:
            try:
                tree = ast.parse(source)
            except (SyntaxError, ValueError, RecursionError):  # a template; with NULs; nested
                pairs.skipped["files that are no Python"] += 1
                continue
            group = folder_of(name)
            for text in _docstrings(tree):
                body, first = told(text)
                _add(pairs, seen, body, first, group, DOCSTRING_WORDS)
    return some(pairs, packages)


def folder_of(name: str) -> str:
    """The folder of a package's file; within Keras, the part after "keras", wherever it lies."""
    parts = name.split("/")[:-1]
    if "keras" in parts:
        start = len(parts) - 1 - parts[::-1].index("keras")
        parts = [part for part in parts[start:] if part != "src"]
    return "/".join(parts)


def told(docstring: str) -> tuple[str, str]:
    """What a docstring tells below its first paragraph, up to arguments and results; and that
    paragraph."""
    first, _, rest = docstring.partition("\n\n")
    body = []
    for line in rest.split("\n"):
        if SECTION.fullmatch(line.strip()):
            break
        if not re.fullmatch(r"\s*(?:```\w*|[-=~]{3,})\s*", line):  # fences and underlines
            body.append(line)
    return files.one_line("\n".join(body)), files.one_line(first)


def _sources(package: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the .py files of an installed package or a wheel."""
    if package.endswith(".whl"):
        with files.parsing(package, "a wheel"), zipfile.ZipFile(package) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".py"):
                    yield name, archive.read(name)
        return
    is_name = re.fullmatch(r"\w+", package)
    spec = importlib.util.find_spec(package) if is_name else None
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise ValueError(
            f"`packages` must be names of installed packages or paths of wheels, got {package!r}."
        )
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*.py")):
            with files.parsing(path, "a readable file"):
                yield path.relative_to(folder.parent).as_posix(), path.read_bytes()


def _docstrings(node: ast.AST) -> Iterator[str]:
    """The docstrings of a module and of the classes and functions in it, methods included."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield from filter(None, [ast.get_docstring(node)])
    for child in getattr(node, "body", ()):
        yield from _docstrings(child)


def debian_descriptions() -> Pairs:
    """Long descriptions of Debian's packages with their synopses, in English, grouped by source
    package.

    The lists come from the machine's own mirror, as in `pairs_packages.debian_descriptions`. The
    texts have the licences of their packages: train on them, but do not pass them on.
    """
    return debian_summaries(debian_lists({"data": "en"}))


def debian_summaries(folder: str | Path) -> Pairs:
    """Reads the files `*_i18n_Translation-en` and `*_Packages` of apt. Versions of one source
    package, as llvm-toolchain-15 and -16, are one group."""
    pairs, seen = Pairs(), set()
    for source, _, (synopsis, *paragraphs) in debian_paragraphs(folder, "en"):
        group = VERSION.sub("", source) or source
        _add(pairs, seen, "\n".join(paragraphs), synopsis, group, DEBIAN_WORDS)
    return some(pairs, folder)


def _add(pairs: Pairs, seen: set, document: str, summary: str, group: str, limits) -> None:
    """Appends one pair, or counts why not."""
    counts = len(document.split()), len(summary.split())
    sides = zip(("document", "summary"), counts, limits, strict=True)
    for name, count, (fewest, most) in sides:
        if not fewest <= count <= most:
            length = f"under {fewest}" if count < fewest else f"over {most}"
            pairs.skipped[f"{name} {length} words"] += 1
            return
    key = normalized(document)
    if key in seen:
        pairs.skipped["repeated"] += 1
        return
    seen.add(key)
    pairs.add(document, summary, group)
