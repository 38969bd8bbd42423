"""The rules of the layout, read from the source without importing it."""

import ast
import configparser
from pathlib import Path

import pytest

import kzoo

ROOT = Path(__file__).parent.parent
# Who imports whom: a package imports those of the lines above it, and what it lists before itself.
LEVELS = (
    ("checks", "contents", "imports", "protos", "torch_file"),
    ("layers", "search", "image", "metrics", "plots"),
    ("text", "audio", "ctc"),
    ("batching",),
    ("models",),
    ("zoo", "training", "export"),
    ("pretrained",),
    ("serving", "listing"),
    ("__init__",),
    ("__main__",),
)
# The order inside a package; its face, `__init__`, stands last.
INSIDE = {
    "layers": """
        __init__ sharing replicas masking products recomputing dropout normalization
        attention.contract attention.additive attention.luong attention.monotonic
        attention.location attention.coverage attention.fixed attention.multi_head
        attention.__init__ positions embedding candidates vocabulary_loss head copying
        own_inputs scan recurrent recurrent_encoder attention_decoder streaming transformer_block
        transformer conformer speech regions length
    """,
    "search": """
        result steps options times constraints beams finished_pool beam sampling
    """,
    "image": "fields exif jpeg png gif bmp decoding augment source backbones",
    "metrics": "score translation speech pronunciations captions summaries",
    "plots": "figure attention curves pictures",
    "text": """
        special_ids truncation words languages tokenizer subwords pieces subword_sampling
        vocabulary bytes byte_files copying
    """,
    "audio": "resampling samples wav log_mel whisper_mel augment source",
    "batching": """
        corpus labels planning passes tokens frames pictures streams mixture on_disk buckets
        by_length
    """,
    "ctc": "loss hypotheses prefix_search joint alignment",
    "models": """
        copying texts prompts word_times windows transcription segmenting generator accumulation
        distributed trainable scheduled_sampling r_drop seq2seq ctc_model ensemble lexicon
    """,
    "pretrained": """
        weights safetensors_file hugging_face ctranslate2_file translator marian marian_npz
        ctranslate2_translator whisper_names whisper_vocabulary whisper exported vocabulary
        downloads loading command
    """,
    "training": """
        losses optimizers kept_weights checkpoints callbacks splice moving_average distribution
    """,
    "export": """
        folder manifest names ops preconditions precision requests recordings signatures warmup
        served subtitles card slimming keras_model saved_model engine_card ctranslate2 tflite
    """,
    "serving": """
        folder command errors limits calls metrics tracing protocol answers session runtime
        repository gate connections rest grpc_server server
    """,
}
NEVER_EACH_OTHER = ({"text", "audio", "image"}, {"training", "export"})
FOR_USERS_ALONE = {"metrics", "plots"}  # nothing in kzoo imports them
BANNED = {"utils", "helpers", "common", "base", "registry", "config", "trainer"}
SHARED_BY_RECIPES = ("recipes.cli", "recipes.runs", "recipes.data")


def place(name):
    """(level, package, place inside it) of a module of kzoo."""
    package, _, inner = name.removeprefix("kzoo.").partition(".")
    package = "__init__" if package == "kzoo" else package
    level = next((n for n, packages in enumerate(LEVELS) if package in packages), None)
    assert level is not None, f"{name} has no place in the order of tests/test_layout.py"
    if package not in INSIDE:
        return level, package, 0
    order = [*INSIDE[package].split(), "__init__"]
    inner = f"{inner}.__init__" if (ROOT / name.replace(".", "/")).is_dir() and inner else inner
    inner = inner or "__init__"
    assert inner in order, f"{name} has no place in the order of tests/test_layout.py"
    return level, package, order.index(inner)


def files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path):
    """`kzoo.search` for its `__init__.py`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(name):
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def imports(path):
    """The modules of this repository that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if is_module(name) else node.module for name in inner]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("kzoo", "recipes"))


def relative(path):
    return str(path.relative_to(ROOT))


every_module = pytest.mark.parametrize("path", files("kzoo"), ids=relative)
every_recipe = pytest.mark.parametrize("path", files("recipes"), ids=relative)


@every_module
def test_a_module_has_its_place_in_the_order_and_imports_only_what_stands_above_it(path):
    name = module_name(path)
    level, package, inside = place(name)
    for imported in imports(path):
        if name == "kzoo.__main__" and imported == "kzoo":
            continue  # what a user imports
        its_level, its_package, its_inside = place(imported)
        is_above = its_level < level or (its_package == package and its_inside < inside)
        assert is_above, f"{name} imports {imported}"
        for group in NEVER_EACH_OTHER:
            assert not {package, its_package} < group or package == its_package, (
                f"{name} imports {imported}"
            )
        assert its_package not in FOR_USERS_ALONE or its_package == package, (
            f"{name} imports {imported}"
        )


def test_every_module_in_the_order_exists():
    for package, order in INSIDE.items():
        there = {
            module_name(p).removeprefix(f"kzoo.{package}").removeprefix(".") or "__init__"
            for p in files(f"kzoo/{package}")
        }
        assert {m.removesuffix(".__init__") for m in order.split()} | {"__init__"} == there


LAZY = "__all__, __getattr__, __dir__ = imports.face(__name__)"  # of names under TYPE_CHECKING


def is_for_editors(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def re_exported(tree):
    """The imports of a face, those under TYPE_CHECKING included."""
    nodes = [each for node in tree.body for each in getattr(node, "body", [node])]
    return [node for node in nodes if isinstance(node, ast.ImportFrom)]


def test_a_face_re_exports_and_does_nothing_else():
    for path in files("kzoo"):
        if path.name == "__init__.py" and path.parent != ROOT / "kzoo":
            _, *rest = ast.parse(path.read_text(encoding="utf-8")).body  # its docstring
            for node in rest:
                for part in node.body if is_for_editors(node) else [node]:
                    is_index = ast.unparse(part).startswith(("__all__ =", LAZY))
                    assert isinstance(part, ast.ImportFrom) or is_index, f"{path}:{part.lineno}"


def test_no_file_bears_the_name_of_a_function_in_the_face_of_its_package():
    for path in files("kzoo"):
        if path.name == "__init__.py":
            there = {each.stem for each in path.parent.iterdir()}
            for node in re_exported(ast.parse(path.read_text(encoding="utf-8"))):
                modules = {
                    alias.name for alias in node.names if is_module(f"{node.module}.{alias.name}")
                }
                assert not {alias.name for alias in node.names} & there - modules, path


def test_masking_imports_nothing_of_kzoo():
    assert list(imports(ROOT / "kzoo/layers/masking.py")) == []


@every_recipe
def test_a_recipe_imports_no_other_recipe(path):
    name = module_name(path)
    for imported in imports(path):
        shared = imported == "recipes" or imported.startswith(SHARED_BY_RECIPES)
        assert not imported.startswith("recipes") or shared, f"{name} imports {imported}"


def test_no_file_is_named_after_nothing_in_particular():
    assert [path for path in files("kzoo", "recipes", "tests") if path.stem in BANNED] == []


@pytest.mark.parametrize("path", files("kzoo", "recipes", "benchmarks"), ids=relative)
def test_a_file_says_what_is_inside_and_leaves_nothing_to_do(path):
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)) or not source.strip()
    for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X"):
        assert word not in source


def tree_of(module):
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def definition(tree, name):
    """The class or function, or what a face re-exports it from."""
    for node in re_exported(tree):
        if name in [alias.name for alias in node.names]:
            return definition(tree_of(node.module), name)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    raise AssertionError(f"{name} is not defined")


def test_the_public_index_is_sorted_and_every_name_in_it_exists_and_is_documented():
    tree = ast.parse((ROOT / "kzoo/__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if is_for_editors(node))
    names = [(alias.name, node.module) for node in block.body for alias in node.names]
    origin = dict(names)
    assert len(names) == len(origin)
    assert kzoo.__all__ == sorted(origin)
    for name in origin:
        inner = f"{origin[name]}.{name}"
        module = inner if is_module(inner) else origin[name]
        node = tree_of(module)
        assert ast.get_docstring(node if module == inner else definition(node, name)), name


@every_module
def test_every_public_class_and_function_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


@every_module
def test_a_layer_keeps_nothing_on_itself_during_a_call(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name in ("call", "step", "prepare"):
            for part in ast.walk(node):
                stored = isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
                assert not stored, f"{node.name}, line {part.lineno}"


def test_readme_makefile_and_setup_agree_on_the_versions_of_python():
    setup, make, readme = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("setup.cfg", "Makefile", "README.md")
    )
    assert "python_requires = >=3.10,<3.14\n" in setup
    assert "(3, 10) <= sys.version_info < (3, 14)" in make
    assert "Python 3.10 to 3.13" in readme


def test_setup_lists_exactly_the_packages_there_are():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in files("kzoo", "recipes")}
    assert setup["options"]["packages"].split() == sorted(there)
    for package in there:  # a folder without a face would not be installed
        assert (ROOT / package.replace(".", "/") / "__init__.py").exists(), package
