"""What is imported when: each proof needs a process that has imported nothing yet."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import kzoo

ROOT = Path(__file__).parent.parent


def fresh(code, *arguments):
    """Runs code in a fresh process; returns what it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


LIGHT = """
import contextlib, io, sys
import kzoo, kzoo.export, kzoo.serving, kzoo.text
from kzoo.__main__ import main

for arguments, code, said in (
    (["--help"], 0, "PATH"),
    (["--nonsense", "x"], 2, "--nonsense"),
    (["nowhere", "a"], 2, "nowhere"),
    (["."], 2, "holds no saved_model.pb"),
    ([], 2, "PATH"),
    (["serve", "--help"], 0, "FOLDER"),
    (["serve", "nowhere"], 2, "does not exist"),
    (["serve", ".", "--port", "x"], 2, "--port"),
    ([sys.argv[1], "no.txt"], 2, "no.txt"),
    ([sys.argv[1], "nosuch.TXT"], 2, "--text takes it as a text"),
    ([sys.argv[1], "-", "a", "-"], 2, "the standard input (-) can be read once"),
    ([sys.argv[1], "--live", "a"], 2, "`--live` reads"),
):
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            main(arguments)
    except SystemExit as end:
        assert end.code == code, (arguments, end.code)
    assert said in shown.getvalue(), (arguments, shown.getvalue())
assert "BahdanauAttention" in dir(kzoo) and "load" in dir(kzoo.export)
for misspelt in ("BahdanauAtention", "_private", "__wrapped__"):
    assert not hasattr(kzoo, misspelt)
assert not {"tensorflow", "keras", "kserve", "numpy"} & set(sys.modules)
"""


def test_help_mistakes_and_missing_paths_are_answered_without_tensorflow(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    fresh(LIGHT, tmp_path)


# A file with a layer of kzoo, read by a process that says nothing but `import kzoo`.
READS = """
{imports}
model = keras.saving.load_model(sys.argv[1])
assert type(model.layers[-1]).__module__ == "kzoo.layers.positions", type(model.layers[-1])
modules = set(sys.argv[2:])
assert modules <= set(sys.modules), modules - set(sys.modules)
assert not [finder for finder in sys.meta_path if type(finder).__module__ == "kzoo.imports"]
"""
ORDERS = {
    "kzoo, keras": "import sys, kzoo, keras",
    "keras, kzoo": "import sys, keras, kzoo",
    "kzoo, tensorflow": "import sys, kzoo, tensorflow; import keras",
    "a layer": "import sys; from kzoo.layers import masking; import keras",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    import keras

    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, kzoo.LearnedPositions(5)(inputs))
    path = tmp_path_factory.mktemp("files") / "model.keras"
    model.save(path)
    return path


@pytest.mark.parametrize("order", ORDERS)
def test_keras_finds_the_layers_of_a_file_whatever_is_imported_first(file, order):
    registered = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "kzoo").rglob("*.py")
        if re.search(r"^@.*register_keras_serializable", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(registered) > 20
    fresh(READS.format(imports=ORDERS[order]), file, *registered)


SPAWN = """
import multiprocessing, pickle
from kzoo import *
import kzoo

if __name__ == "__main__":
    assert not [name for name in kzoo.__all__ if name not in globals()]
    assert pickle.loads(pickle.dumps(kzoo.SearchResult)) is kzoo.SearchResult
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(getattr, [kzoo.SearchResult, "_fields"]) == kzoo.SearchResult._fields
"""


def test_every_name_can_be_imported_at_once_and_survives_pickling_and_spawning(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SPAWN, "utf-8")
    run = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    fresh(run, script)


@pytest.mark.parametrize(
    "name", ["text", "audio", "image", "search", "ctc", "metrics", "plots", "export", "batching",
             "training", "zoo", "masking", "serving"],
)  # fmt: skip
def test_modules_that_users_know_are_attributes(name):
    assert getattr(kzoo, name).__name__ in (f"kzoo.{name}", f"kzoo.layers.{name}")


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'kzoo' has no attribute 'BahdanauAtention'"):
        _ = kzoo.BahdanauAtention
