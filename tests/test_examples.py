"""Everything public is documented, and every example in a docstring or the README runs."""

import doctest
import re
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo

NAMES = {"kzoo": kzoo, "tf": tf, "np": np, "keras": keras}
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", kzoo.__all__)
def test_the_examples_of_a_public_name_give_what_they_say(name):
    public = getattr(kzoo, name)
    is_module = isinstance(public, types.ModuleType)  # with functions that have examples too
    examples = doctest.DocTestFinder(recurse=is_module).find(public, name, globs=dict(NAMES))
    assert any(test.examples for test in examples), f"kzoo.{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report = []
    for test in examples:
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


SECTIONS = ("## Use the layers in your own model", "## Large vocabularies")
BLOCKS = [
    block
    for section in SECTIONS
    for block in re.findall(
        r"```python\n(.*?)```", README.split(section)[-1].split("\n## ")[0], re.DOTALL
    )
]


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_in_the_readme_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})  # what a reader would paste
