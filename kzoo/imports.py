"""What is imported when: faces that import on demand, layers that Keras can find, no Keras at all.

TensorFlow takes seconds to import. `import kzoo` does not import it; a name of kzoo does, the first
time that it is used.
"""

import ast
import contextlib
import importlib
import importlib.util
import sys


def face(package):
    """The face of a package that imports what it re-exports on demand (PEP 562).

    The list of names stands once, in the face itself, where editors and linters see it too:

        if TYPE_CHECKING:
            from kzoo.export.served import load

        __all__, __getattr__, __dir__ = imports.face(__name__)

    Modules of the package are attributes of it as well, listed or not.

    Args:
        package: str, the face's `__name__`; its source is read.

    Returns:
        `__all__`, `__getattr__` and `__dir__` of the face.
    """
    origin = _origins(importlib.util.find_spec(package).loader.get_source(package))

    def __getattr__(name):
        module = origin.get(name)
        if module is None or module == package:
            value = _submodule(package, name)
        else:
            value = getattr(importlib.import_module(module), name, None)
            value = _submodule(module, name) if value is None else value
        setattr(sys.modules[package], name, value)  # the next time nobody has to ask
        return value

    def __dir__():
        return sorted({*vars(sys.modules[package]), *origin})

    return sorted(origin), __getattr__, __dir__


def _origins(source):
    """Name -> module of the imports under `if TYPE_CHECKING:`."""
    (block,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {alias.name: node.module for node in block.body for alias in node.names}


def _submodule(package, name):
    path = f"{package}.{name}"
    if name.startswith("_") or importlib.util.find_spec(path) is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return importlib.import_module(path)


def when_keras_is_there(load):
    """Calls `load` once Keras has been imported: at once if it has been already.

    `keras.saving.load_model` only finds classes that are registered, so a file with a layer of
    kzoo needs that layer's module imported, which `import kzoo` alone does not do. Where Keras
    comes later, a finder in `sys.meta_path` watches for the end of its import, and then goes.

    Args:
        load: function without arguments that imports modules of kzoo.
    """
    if sys.modules.get("keras"):
        load()
    else:
        sys.meta_path.insert(0, _Watch(load))


class _Watch:
    """Finds modules as the other finders do, and sees when their imports end.

    TensorFlow imports Keras, and Keras TensorFlow; and the import of Keras may have begun in a
    module of kzoo. `load` is called when none of the three is half imported.
    """

    def __init__(self, load):
        self._load = load
        self._begun = []  # modules whose imports have not ended

    def find_spec(self, name, path=None, target=None):
        """The spec that the other finders find; part of the protocol of `sys.meta_path`."""
        if name not in ("keras", "tensorflow") and not name.startswith("kzoo."):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._watch(name, spec.loader)
        return spec

    def _watch(self, name, loader):
        execute = loader.exec_module

        def exec_module(module):
            loader.exec_module = execute
            self._begun.append(name)
            try:
                execute(module)
            finally:
                self._begun.remove(name)
            if not self._begun and sys.modules.get("keras") and self in sys.meta_path:
                sys.meta_path.remove(self)
                self._load()

        loader.exec_module = exec_module


@contextlib.contextmanager
def without_keras():
    """Lets TensorFlow be imported alone; it imports Keras by itself, which takes as long again.

    For processes that only answer with SavedModels. Does nothing if either is there already.
    """
    if "keras" in sys.modules or "tensorflow" in sys.modules:
        yield
        return
    sys.modules["keras"] = None  # so its import is an ImportError, which TensorFlow expects
    try:
        yield
    finally:
        del sys.modules["keras"]
