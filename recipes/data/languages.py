"""Codes of languages: the one that is meant among those there are."""

from collections.abc import Iterable


def match(languages: Iterable[str], code: str) -> str | None:
    """The language that is `code`, else the first that only has a region more or less."""
    wanted = code.lower().replace("_", "-")
    names = {language.lower().replace("_", "-"): language for language in sorted(languages)}
    near = (n for n in names if n.startswith(f"{wanted}-") or wanted.startswith(f"{n}-"))
    return names.get(wanted if wanted in names else next(near, ""))


def resolve(languages: set[str], source_language: str, target_language: str) -> list[str]:
    """The two of `languages` that are meant."""
    codes = {"source_language": source_language, "target_language": target_language}
    for name, code in codes.items():
        if match(languages, code) is None:
            raise ValueError(f"`{name}` must be one of {sorted(languages)}, got {code!r}.")
    return [match(languages, code) for code in codes.values()]
