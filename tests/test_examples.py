"""Everything public is documented, and every example in a docstring or a README runs."""

import ast
import doctest
import functools
import re
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import INPUTS, make_transformer

import kzoo
from kzoo import batching, export, metrics, zoo
from recipes.data import weights

ROOT = Path(__file__).parent.parent
FRONT_DOORS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT, *(each for each in ROOT.iterdir() if each.is_dir()))
    for path in path.glob("README.md")
    if not path.parent.name.startswith(".")
)
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in FRONT_DOORS}
NAMES = {"kzoo": kzoo, "tf": tf, "np": np, "keras": keras}

each_page = pytest.mark.parametrize("page", FRONT_DOORS)


@pytest.mark.parametrize("name", kzoo.__all__)
def test_the_examples_of_a_public_name_give_what_they_say(name):
    public = getattr(kzoo, name)
    is_module = isinstance(public, types.ModuleType)  # with functions that have examples too
    finder = doctest.DocTestFinder(recurse=is_module)
    examples = finder.find(public, name, globs=dict(NAMES))
    if hasattr(public, "__path__"):  # a face: what it re-exports is defined elsewhere
        for inner in public.__all__:
            if inner not in kzoo.__all__ and callable(getattr(public, inner)):
                examples += finder.find(getattr(public, inner), inner, globs=dict(NAMES))
    assert any(test.examples for test in examples), f"kzoo.{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report = []
    for test in examples:
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


# What the text around a block says that there is, as small as it can be.


def text_names(monkeypatch):
    """README.md: the model of the first block stands where `make demo` would write one."""
    Path("saved_models").mkdir()
    Path("saved_models/demo-en-de").symlink_to("mine")
    small = functools.partial(zoo.transformer_tiny, num_layers=1)
    monkeypatch.setattr(zoo, "transformer_tiny", small)
    return {}


def model_names(monkeypatch):
    """kzoo/README.md: a tokenizer, clips and pictures."""
    letters = kzoo.CharacterTokenizer.learn(["abc"], vocabulary_size=20)
    ids = letters.tokenize(["ab", "c"])
    wav = tf.audio.encode_wav(tf.random.normal((8_000, 1)) / 9, 16_000).numpy()
    Path("recording.wav").write_bytes(wav)
    frames = tf.RaggedTensor.from_row_lengths(tf.random.normal((60, 80)), [29, 31])
    inputs, labels = batching.decoder_ids(ids)
    picture = tf.io.encode_jpeg(tf.zeros((20, 31, 3), tf.uint8)).numpy()
    Path("picture.jpg").write_bytes(picture)
    shape = {"units": 8, "num_layers": 1, "decoder_layers": 1, "num_heads": 2, "hidden_units": 11}
    shape |= {"conformer": False, "ctc_weight": 0.0}  # joint search takes a minute to trace
    small = functools.partial
    monkeypatch.setattr(zoo, "speech_transformer", small(zoo.speech_transformer, **shape))
    monkeypatch.setattr(zoo, "show_attend_tell", small(zoo.show_attend_tell, units=13))
    monkeypatch.setattr(weights, "efficientnet_lite0_weights", lambda: None)  # no download

    def small_backbone(size, weights):
        return kzoo.backbones.small_resnet(size, widths=(3, 5, 7))

    monkeypatch.setattr(kzoo.backbones, "efficientnet_lite0", small_backbone)
    return {
        "keras": keras, "tf": tf, "kzoo": kzoo, "zoo": zoo, "export": export,
        "letters": letters, "words": letters, "wav_bytes": [wav],
        "batches": tf.data.Dataset.from_tensors(({"source": frames, "target": inputs}, labels)),
        "pixels": kzoo.image.decode_batch([picture] * 2, 224),
        "inputs": inputs, "labels": labels,
    }  # fmt: skip


def engine_names(monkeypatch):
    """deploy/README.md: a model to export, and an export for live audio with its microphone."""
    letters = kzoo.CharacterTokenizer.learn(["abcdefg"], vocabulary_size=11)
    model = make_transformer(tokenizer=letters)
    model(INPUTS)
    export.save(model, "saved_models/demo-en-de/1", max_length=7)
    source = kzoo.AudioSource(kzoo.LogMel(rate_hz=8_000, num_mels=5, normalize="fixed"))
    live = zoo.streaming_ctc(source, letters, units=7, num_layers=1)
    live({"source": tf.zeros((1, 9, 5))})
    export.save(live, "saved_models/live/1", max_length=7)
    return {"kzoo": kzoo, "model": model, "microphone": [np.zeros(80), np.zeros(800)]}


def recipe_names(monkeypatch):
    """recipes/README.md: answers and references; a stand-in for the package sacremoses."""

    class MosesTokenizer:
        def __init__(self, language):
            self.language = language

        def tokenize(self, text, escape, return_str):
            return text.replace(".", " .")

    sides = [["Ein Hund rennt nun."], ["Ein Hund rennt nun."]]
    moses = types.SimpleNamespace(MosesTokenizer=MosesTokenizer)
    return {"sacremoses": moses, "metrics": metrics, "sides": sides}


SETUP = {
    "README.md": text_names,
    "deploy/README.md": engine_names,
    "kzoo/README.md": model_names,
    "recipes/README.md": recipe_names,
}
NEEDS_A_SERVER = "import numpy as np, tritonclient"  # tests/serving runs it


def python_blocks(page):
    """(line, code) of each block of Python."""
    text = PAGES[page]
    for found in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        yield text[: found.start(1)].count("\n"), found.group(1)


@pytest.mark.slow
@pytest.mark.parametrize("page", SETUP)
def test_the_code_of_a_readme_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = SETUP[page](monkeypatch)
    for line, code in python_blocks(page):
        if code.startswith(NEEDS_A_SERVER):
            continue
        # A block with imports is what a reader would paste: it has all that it needs.
        names = {} if code.startswith("import ") else shared
        exec(compile("\n" * line + code, page, "exec"), names)


def test_no_other_readme_has_code():
    assert {page for page in FRONT_DOORS if list(python_blocks(page))} == set(SETUP)


def test_the_front_door_can_be_read_in_one_sitting():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 210
    first_screen = lines[:30]
    assert any("make demo" in line for line in first_screen)
    assert any("make test" in line for line in first_screen)
    assert max(len(line) for line in lines) <= 120


def anchors(text):
    """The names of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@each_page
def test_links_and_pictures_of_a_readme_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in set(anchors(target.read_text(encoding="utf-8"))), link


def code_of(text):
    """What stands between backticks or indented, with continued lines joined."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = text.replace("\\\n", " ")
    yield from re.findall(r"^(?:    |\t)\s*(\S.*)$", text, re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", paragraph))


def commands(page):
    """(module, words) of each command of this repository that a page names."""
    start = r"(?:^|[|&;] *)(?:\.venv/bin/)?(?:python -m ((?:kzoo|recipes|benchmarks)[\w.]*)|(kzoo))"
    for code in code_of(PAGES[page]):
        for found in re.finditer(rf"{start}(?= |$)([^|;]*)", code):
            module, words = found[1] or found[2], found[3].split("#")[0].split()
            yield ("kzoo.serving", words[1:]) if words[:1] == ["serve"] else (module, words)


def parsed(*patterns):
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert paths, patterns
    return [ast.parse(path.read_text(encoding="utf-8")) for path in paths]


def parser_flags(trees):
    """The first arguments of `add_argument`, which may be called `add`."""
    for tree in trees:
        for node in ast.walk(tree):
            name = node.func if isinstance(node, ast.Call) else None
            name = getattr(name, "attr", getattr(name, "id", None))
            if name in ("add_argument", "add"):
                yield from (a.value for a in node.args if isinstance(a, ast.Constant))


def config_flags(module):
    """The fields of a recipe's Config and of the classes that it inherits from."""
    classes = {
        node.name: node
        for tree in parsed("recipes/**/*.py", module.replace(".", "/") + ".py")  # its own come last
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    names = ["Config"]
    for name in names:
        for node in classes[name].body:
            if isinstance(node, ast.AnnAssign):
                yield f"--{node.target.id}"
                if ast.unparse(node.annotation) == "bool":
                    yield f"--no-{node.target.id}"
        bases = [ast.unparse(base).split(".")[-1] for base in classes[name].bases]
        names += [base for base in bases if base in classes]


@functools.cache
def flags_of(module):
    if module == "kzoo":
        return set(parser_flags(parsed("kzoo/*.py")))
    if module == "kzoo.serving":
        return set(parser_flags(parsed("kzoo/serving/*.py")))
    path = ROOT / (module.replace(".", "/") + ".py")
    assert path.exists(), f"there is no {module}"
    if module.startswith("recipes"):
        return set(config_flags(module))
    return set(parser_flags([ast.parse(path.read_text(encoding="utf-8"))]))


@each_page
def test_the_commands_of_a_readme_name_modules_and_flags_that_exist(page):
    for module, words in commands(page):
        there = flags_of(module) | {"--help"}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in there, f"{module} has no {word}"


def test_commands_are_found_in_all_places_where_a_readme_has_them():
    count = {page: len(list(commands(page))) for page in FRONT_DOORS}
    assert count["README.md"] >= 6
    assert count["recipes/README.md"] >= 25
    assert count["benchmarks/README.md"] >= 4
    assert count["deploy/README.md"] >= 7


def mapped(text):
    """The paths in a map: names of files and folders, indented by two spaces a level."""
    folders = []
    for line in re.findall(r"^    ( *[\w/]+(?:\.py|/)(?: |$))", text, re.MULTILINE):
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [line.strip()]
        yield "".join(folders)


def test_the_maps_show_the_tree_as_it_is():
    modules = {path.relative_to(ROOT / "kzoo").as_posix() for path in (ROOT / "kzoo").rglob("*.py")}
    modules = {module for module in modules if not module.endswith("__init__.py")}
    inner = PAGES["kzoo/README.md"].split("## Map")[1]
    found = list(mapped(inner))
    assert sorted(path for path in found if path.endswith(".py")) == sorted(modules)

    outer = set(mapped(PAGES["README.md"].split("## Map")[1]))
    assert {path for path in outer if not (ROOT / path).exists()} == set()
    packages = {f"kzoo/{module.split('/')[0]}" for module in modules if "/" in module}
    alone = {f"kzoo/{module}" for module in modules if "/" not in module} - {"kzoo/__main__.py"}
    assert {path.rstrip("/") for path in outer} >= packages | alone
