"""The rules of the layout, read from the source without importing it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    "sharing",
    "masking",
    "attention",
    "positions",
    "recurrent",
    "streaming",
    "transformer",
    "conformer",
    "speech",
    "regions",
    "candidates",
    "head",
    "length",
]
MODULES = [
    "protos",
    "text",
    "exif",
    "image",
    "torch_file",
    "backbones",
    "wav",
    "audio",
    "augment",
    "sources",
    "batching",
    "losses",
    "optimizers",
    "callbacks",
    "steps",
    "constraints",
    "beams",
    "search",
    "sampling",
    "ctc",
    "alignment",
    "joint",
    "seq2seq",
    "lexicon",
    "framewise",
    "ensemble",
    "splice",
    "zoo",
    "metrics",
    "caption_metrics",
    "plots",
    "picture_plots",
    "precision",
    "engines",
    "warmup",
    "signatures",
    "export",
    "serving",
    "__init__",
    "__main__",
]
ORDER = ["kzoo.layers", *(f"kzoo.layers.{name}" for name in LAYERS)]
ORDER += [f"kzoo.{name}" for name in MODULES]
BANNED = {"utils", "helpers", "common", "base", "registry", "config", "trainer"}
SHARED_BY_RECIPES = {
    "recipes.cli",
    "recipes.clips",
    "recipes.data",
    "recipes.drawings",
    "recipes.frames",
    "recipes.pictures",
    "recipes.regions",
    "recipes.runs",
    "recipes.scenes",
    "recipes.weights",
}


def files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return "kzoo.layers" if name == "kzoo.layers.__init__" else name


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
    assert name in ORDER, f"{name} has no place in the order of tests/test_layout.py"
    above = ORDER[: ORDER.index(name)]
    for imported in imports(path):
        if name == "kzoo.__main__" and imported == "kzoo":
            continue  # what a user imports
        assert imported in above, f"{name} imports {imported}"


def test_masking_imports_nothing_of_kzoo():
    assert list(imports(ROOT / "kzoo/layers/masking.py")) == []


@every_recipe
def test_a_recipe_imports_no_other_recipe(path):
    name = module_name(path)
    for imported in imports(path):
        shared = imported in SHARED_BY_RECIPES or imported == "recipes"
        assert not imported.startswith("recipes") or shared, f"{name} imports {imported}"


def test_no_file_is_named_after_nothing_in_particular():
    assert [path for path in files("kzoo", "recipes", "tests") if path.stem in BANNED] == []


@pytest.mark.parametrize("path", files("kzoo", "recipes", "benchmarks"), ids=relative)
def test_a_file_says_what_is_inside_and_leaves_nothing_to_do(path):
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)) or not source.strip()
    for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X"):
        assert word not in source


def definition(tree, name):
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    raise AssertionError(f"{name} is not defined")


def test_the_public_index_is_sorted_and_every_name_in_it_exists_and_is_documented():
    tree = ast.parse((ROOT / "kzoo/__init__.py").read_text(encoding="utf-8"))
    origin = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            origin |= {alias.asname or alias.name: node.module for alias in node.names}
    (index,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert index == sorted(index)
    assert len(index) == len(set(index))
    assert set(index) == set(origin)
    for name in index:
        inner = f"{origin[name]}.{name}"
        module = inner if is_module(inner) else origin[name]
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        node = ast.parse(path.read_text(encoding="utf-8"))
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
