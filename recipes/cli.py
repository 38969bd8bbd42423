"""Command line: one flat frozen dataclass becomes the flags of a recipe, and a JSON file.

    @dataclass(frozen=True)
    class Config:
        epochs: int = flag(10, "passes over the training pairs")

    config = parse(Config, description=__doc__)      # --epochs 20; --help shows it all
    save(config, "run/config.json");  load(Config, "run/config.json") == config

A field's type decides what its flag takes: bool (`--name` / `--no-name`), int, float, str or
`Literal` (choices); the last four with `| None` also take the word "none".
"""

import argparse
import ctypes
import dataclasses
import difflib
import importlib.util
import json
import math
import os
import re
import shlex
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")
# Bad input, disk full, no network, a number that does not fit.
EXPECTED = (ValueError, OSError, ImportError, RuntimeError, OverflowError)
_IN_DATA = re.compile(r"Error in user-defined function .* iterator: \S+ (.*)")
_AROUND = re.compile(r"Graph execution error|Detected at|<stack|File |\{\{")
RECIPE = "recipe"  # key of a saved config, beside those of its flags
OF_EXPORT = "of_export"  # key of a field's metadata
INT_LIMIT = 2**31  # TensorFlow counts in int32
_MALLOC = {  # option of glibc's mallopt and its value
    "M_ARENA_MAX": (-8, 1),
    "M_MMAP_THRESHOLD": (-3, 1 << 30),
    "M_TRIM_THRESHOLD": (-1, INT_LIMIT - 1),
    "M_TOP_PAD": (-2, 64 << 20),
}
_FEW_CORES = 8  # more would wait for each other at one heap
MOST_BEAMS = 1000  # each is a copy of the model's state
Scalar = str | int | float | bool | None


def flag(default: Any, help: str, *, of_export: bool = False) -> Any:
    """A dataclass field with its default value and the text that `--help` shows.

    `of_export`: nothing reads it before the export, so that --resume may change it.
    """
    return dataclasses.field(default=default, metadata={"help": help, OF_EXPORT: of_export})


def of_export(config: Any) -> set[str]:
    """The names of the flags that nothing reads before the export."""
    return {field.name for field in dataclasses.fields(config) if field.metadata.get(OF_EXPORT)}


def parse(
    config_class: type[Config], argv: Sequence[str] | None = None, description: str | None = None
) -> Config:
    """Turns the command line into a config; a bad flag or value ends the program with a message.

    Args:
        config_class: flat frozen dataclass; a `ValueError` of its `__post_init__` is shown too.
        argv: the words after the command; by default those of this process.
        description: shown by `--help` as it stands: the recipe's docstring, with its examples.

    Returns:
        config_class. Flags are its field names; `--batch-tokens` means `--batch_tokens`.
    """
    parser = argparse.ArgumentParser(
        prog=_command(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # an abbreviation would change its meaning with the next new flag
    )
    fields = _fields(config_class)
    for field, (kind, choices, takes_none) in fields.items():
        parser.add_argument(f"--{field.name}", **_argument(field, kind, choices, takes_none))
    kinds = {field.name: kind for field, (kind, _, _) in fields.items()}
    words = sys.argv[1:] if argv is None else argv
    values, unknown = parser.parse_known_args([_underscored(word, kinds) for word in words])
    if unknown:
        parser.error(f"unknown argument {unknown[0]!r}; {_hint(unknown[0], kinds)}")
    try:
        return config_class(**vars(values))
    except ValueError as error:
        parser.error(str(error))


def run(main: Callable[[Any], Any], config_class: type, description: str) -> None:
    """The `__main__` of a recipe: bad input ends with one line, not with a traceback."""
    config = parse(config_class, description=description)
    keep_freed_memory()
    try:
        main(config)
    except KeyboardInterrupt:
        sys.exit(130)
    except (*EXPECTED, *tensorflow_errors()) as error:  # looked up when there is one to match
        if os.environ.get("KZOO_TRACEBACK"):
            raise
        said = cause(error.message) if isinstance(error, tensorflow_errors()) else error
        sys.exit(f"error: {said}\n(KZOO_TRACEBACK=1 shows where it was raised.)")


def keep_freed_memory() -> None:
    """Has glibc keep what is freed, in one heap, where few cores share it.

    A step of training frees its large buffers; by default they go back to the kernel, which clears
    others for the next step: a sixth of the processor's time for a small model. What the
    environment says of malloc, as MALLOC_ARENA_MAX, is left alone.
    """
    names = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if sys.platform != "linux" or any(name.startswith(names) for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version") and (os.cpu_count() or 1) <= _FEW_CORES:
        for option, value in _MALLOC.values():
            library.mallopt(option, value)


def tensorflow_errors() -> tuple[type, ...]:
    """What TensorFlow raises beside Python's errors; nothing where it was never imported."""
    found = getattr(sys.modules.get("tensorflow"), "errors", None)
    return () if found is None else (found.OpError,)


def cause(message: str) -> str:
    """The line of an error of TensorFlow's that says what it is about."""
    for line in map(str.strip, message.split("\n")):
        if found := _IN_DATA.fullmatch(line):
            return found[1].rstrip(".")
        if line and not _AROUND.match(line):
            return line.rstrip(".")
    return message.strip()


def changed(config: Any) -> list[str]:
    """The words that make this config from the defaults, quoted as a shell wants them."""
    words = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{field.name}" if value else f"--no-{field.name}")
        else:
            words += [f"--{field.name}", "none" if value is None else shlex.quote(str(value))]
    return words


def check(config: Any, name: str, least: float) -> None:
    """Raises a ValueError if a number of the config is too small; None is left to the recipe."""
    value = getattr(config, name)
    if value is not None and value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {name}={value}.")


def check_beam_size(config: Any) -> None:
    """Raises a ValueError if beam search would keep none, or more than there is room for."""
    check(config, "beam_size", least=1)
    if config.beam_size > MOST_BEAMS:
        raise ValueError(
            f"`beam_size` must be at most {MOST_BEAMS:,}, got beam_size={config.beam_size}."
        )


def check_seed(config: Any) -> None:
    """Raises a ValueError if `seed` is none that numpy takes; an ensemble adds to it."""
    if not 0 <= config.seed < INT_LIMIT:
        raise ValueError(f"`seed` must lie in [0, 2**31), got seed={config.seed}.")


def check_positive(config: Any, name: str) -> None:
    """Raises a ValueError if a number of the config is 0 or less; None is left to the recipe."""
    value = getattr(config, name)
    if value is not None and value <= 0:
        raise ValueError(f"`{name}` must be positive, got {name}={value}.")


def check_share(config: Any, name: str) -> None:
    """Raises a ValueError if a number of the config is outside [0, 1); None is left to it."""
    value = getattr(config, name)
    if value is not None and not 0 <= value < 1:
        raise ValueError(f"`{name}` must lie in [0, 1), got {name}={value}.")


def check_training(config: Any) -> None:
    """Raises a ValueError if a flag that all recipes with `runs.fit` have is out of range."""
    for name in ("vocabulary_size", "epochs", "warmup_steps", "max_length", "patience"):
        check(config, name, least=1)
    check_beam_size(config)
    check_seed(config)
    for name in ("minutes", "average", "length_penalty", "sampled"):
        check(config, name, least=0)
    check_share(config, "dropout")
    for name in ("learning_rate", "save_minutes"):
        check_positive(config, name)
    if config.profile and config.tensorboard is None:
        raise ValueError("`profile` needs tensorboard, got profile=True, tensorboard=None.")
    if config.sampled > config.vocabulary_size:
        raise ValueError(
            "`sampled` must not be above vocabulary_size, "
            f"got sampled={config.sampled}, vocabulary_size={config.vocabulary_size}."
        )


def require(*packages: str, extra: str) -> None:
    """Raises an ImportError if a package is missing that a recipe needs only at its end."""
    for package in packages:
        if importlib.util.find_spec(package) is None:  # does not import it, which takes its time
            raise ImportError(f"This recipe needs the {package} package: pip install kzoo[{extra}]")


def save(config: Any, path: str | Path) -> None:
    """Writes the config and whose it is as JSON, whole or not at all."""
    write_json({RECIPE: recipe_of(type(config))} | dataclasses.asdict(config), path)


def recipe_of(config_class: type) -> str:
    """The name of the module that a config is of, also where that is the program: "recipes.ship".
    A script without such a name has that of its file."""
    module = sys.modules.get(config_class.__module__)
    if (spec := getattr(module, "__spec__", None)) is not None:
        return spec.name.removesuffix(".__main__")
    return Path(getattr(module, "__file__", config_class.__module__)).stem


def write_json(value: Any, path: str | Path) -> None:
    """Writes what JSON can hold, whole or not at all."""
    part = Path(f"{path}.part")
    part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)


def load(config_class: type[Config], path: str | Path) -> Config:
    """Reads what `save` wrote; a flag that is newer than the file has its default.

    Raises:
        ValueError: if the file is not JSON, is of another recipe, or its names or types are not
            those of the fields.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON or no UTF-8; nested too deep
        place = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else path
        raise ValueError(f"{place}: expected JSON, got: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object of flags, got {str(values)[:80]}")
    recipe, own = values.pop(RECIPE, None), recipe_of(config_class)  # None: before there were names
    if recipe not in (None, own):
        raise ValueError(f"{path}: expected flags of {own}, got those of {recipe}")
    fields = _fields(config_class)
    if unknown := sorted(set(values) - {field.name for field in fields}):
        raise ValueError(f"{path}: expected flags of {own}, got also {', '.join(unknown)}")
    for field, (kind, choices, takes_none) in fields.items():
        if field.name not in values:
            continue
        value = values[field.name]
        fits = type(value) is kind or (kind is float and type(value) is int)
        if value is None and takes_none:
            continue
        if not fits or not _is_in_range(value) or (choices and value not in choices):
            rule = _rule(kind, choices, value)
            raise ValueError(f"{path}: `{field.name}` must be {rule}, got {value!r}.")
    return config_class(**values)


def recipe_in(path: str | Path) -> str | None:
    """The recipe whose config a file holds; None of an older file, or of one that is no config."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values.get(RECIPE) if isinstance(values, dict) else None


def _fields(config_class: type) -> dict[dataclasses.Field, tuple[type, tuple, bool]]:
    """{field: (type, choices, takes None)} of every field that the constructor takes."""
    hints = get_type_hints(config_class)
    return {
        field: _kind(field.name, hints[field.name])
        for field in dataclasses.fields(config_class)
        if field.init
    }


def _kind(name: str, hint: Any) -> tuple[type, tuple, bool]:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    kinds = [option for option in options if option is not type(None)]
    choices = get_args(kinds[0]) if get_origin(kinds[0]) is Literal else ()
    kind = type(choices[0]) if choices else kinds[0]
    takes_none = len(options) > len(kinds)
    if len(kinds) != 1 or kind not in (int, float, str, bool) or (kind is bool and takes_none):
        raise TypeError(
            f"Field `{name}` must be bool, int, float, str or Literal; the last four may be "
            f"joined with None; got {hint!r}."
        )
    return kind, choices, takes_none


def _argument(field: dataclasses.Field, kind: type, choices: tuple, takes_none: bool) -> dict:
    """The keyword arguments of `add_argument`."""
    required = field.default is dataclasses.MISSING
    shown = "none" if field.default is None else field.default
    note = "(required)" if required else f"(default: {shown})" if shown != "" else ""
    text = f"{field.metadata.get('help', '')} {note}".strip().replace("%", "%%")
    common = {"required": required, "default": field.default, "help": text}
    if kind is bool:
        return common | {"action": argparse.BooleanOptionalAction}
    metavar = "{" + ",".join(map(str, choices)) + "}" if choices else kind.__name__.upper()
    return common | {"metavar": metavar, "type": _reader(kind, choices, takes_none)}


def _reader(kind: type, choices: tuple, takes_none: bool) -> Callable[[str], Scalar]:
    """A function from the word on the command line to the value."""

    def read(word: str) -> Scalar:
        if takes_none and word.lower() == "none":
            return None
        try:
            value = kind(word)
        except ValueError:
            value = math.nan
        if kind is str and any(map(_is_half, value)):
            raise argparse.ArgumentTypeError(
                f"must be UTF-8, as a card and a run's folder quote it, got {os.fsencode(word)!r}"
            )
        if not _is_in_range(value) or (choices and value not in choices):
            none = " or none" if takes_none else ""
            raise argparse.ArgumentTypeError(
                f"must be {_rule(kind, choices, value)}{none}, got {word!r}"
            )
        return value

    return read


def _is_half(letter: str) -> bool:
    """Whether it is half of a surrogate pair, which stands for a byte that is not UTF-8."""
    return "\ud800" <= letter <= "\udfff"


def _is_in_range(value: Scalar) -> bool:
    if isinstance(value, int):
        return -INT_LIMIT <= value < INT_LIMIT
    return not isinstance(value, float) or math.isfinite(value)


def _rule(kind: type, choices: tuple, value: Any = None) -> str:
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    if kind is int and isinstance(value, int) and not _is_in_range(value):
        return "between -2**31 and 2**31 - 1"
    return f"of type {kind.__name__}" + (" and finite" if kind is float else "")


def _underscored(word: str, kinds: dict[str, type]) -> str:
    """`--batch-tokens=1` -> `--batch_tokens=1`; argparse writes a refusal `--no-name`."""
    name, equals, value = word.partition("=")
    plain = name.removeprefix("--").replace("-", "_")
    if name.startswith("--") and plain in kinds:
        return f"--{plain}{equals}{value}"
    if name.startswith("--no") and kinds.get(plain.removeprefix("no_")) is bool:
        return f"--no-{plain.removeprefix('no_')}{equals}{value}"
    return word


def _hint(word: str, names: Iterable[str]) -> str:
    name = word.partition("=")[0].removeprefix("--").replace("-", "_")
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean --{near[0]}?" if near else "see --help"


def _command() -> str | None:
    """`python -m recipes.translation` where that is what the user typed; else argparse's guess."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else None
