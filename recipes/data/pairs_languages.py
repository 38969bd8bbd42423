"""Pairs of texts of one source language and several target languages, held out alike.

load_languages("homeassistant", source_language="en", target_languages=["de", "fr"])
# {"de": Splits, "fr": Splits}
"""

from collections.abc import Sequence

from kzoo.metrics.score import normalized
from recipes.data.examples import Pairs
from recipes.data.files import say
from recipes.data.languages import is_same
from recipes.data.pairs import HOLE, at_home, completed, read_pairs, trained_sources, with_given
from recipes.data.splits import Splits, hold_out, missing_shares


def load_languages(
    data: str = "homeassistant",
    *,
    source_language: str,
    target_languages: Sequence[str],
    train: str | None = None,
    valid: str | None = None,
    test: str | None = None,
    columns: str | None = None,
    seed: int = 0,
) -> dict[str, Splits]:
    """Reads train, valid and test pairs of each target language; says how many.

    A group, as a component of a program, is held out in all languages or in none, and a source that
    training has in any language is in no held-out part. The first language is held out as it is
    alone, by `pairs.load_pairs`; groups that only later ones have are held out by the same shares,
    but at least one for each part. Parts that are given are taken as they are, and what of their
    sources some language trains on is counted.

    Args:
        data, source_language, train, valid, test, columns, seed: as in `pairs.load_pairs`. A path
            with "{language}" stands for one of each target language; a path without is one that
            holds all of them, as TMX does, JSONL, a table whose first line names languages, and a
            Moses prefix.
        target_languages: codes, none twice.

    Returns:
        {code: Splits}, in the order of the codes.

    Raises:
        ValueError: a code comes twice; or two languages have the same pairs, as a file of one
            language alone gives for any; or what `pairs.load_pairs` refuses.
    """
    for place, code in enumerate(target_languages):
        if any(is_same(code, other) for other in target_languages[:place]):
            raise ValueError(f"`target_language` must not name a language twice, got {code!r}.")
    places = {"train": train, "valid": valid, "test": test}
    wholes, givens = {}, {}
    for code in target_languages:
        if len(target_languages) > 1:
            say(f"{source_language} to {code}:")
        codes = source_language, code
        wholes[code], givens[code] = read_pairs(data, codes, places, columns)
        _check_differs(code, wholes, data if train is None else train)
        for name in givens[code]:
            parts = {each: given[name] for each, given in givens.items()}
            _check_differs(code, parts, {"valid": valid, "test": test}[name])
    if len(target_languages) == 1:
        whole, given = wholes[code], givens[code]
        return {code: completed(whole, given, is_train=train is not None, seed=seed)}

    shares = missing_shares(givens[code], is_closed=train is not None and "valid" in givens[code])
    home = held_out_alike(wholes.values(), **shares, seed=seed)
    trained = set().union(*(trained_sources(whole, home) for whole in wholes.values()))
    found = {}
    for code, whole in wholes.items():
        if any(shares.values()):
            splits = at_home(whole, home, trained, **shares)
        else:
            splits = Splits(whole, Pairs(), None)
        found[code] = splits
    read = (text for splits in found.values() for text in splits.train.source)
    trained = set(map(normalized, read)) if any(givens.values()) else set()
    for code, splits in found.items():
        say(f"{source_language} to {code}:")
        found[code] = with_given(splits, givens[code], trained)
    return found


def held_out_alike(wholes, *, valid: float, test: float, seed: int) -> dict[str, str]:
    """{group: "valid" or "test"} for the groups that are held out of pairs of several languages.

    The first ones decide as `splits.hold_out` does; each further one about groups of its own.
    """
    home, known = {}, set()
    for whole in wholes:
        new = [group for group in whole.groups if group not in known]
        home |= hold_out(new, valid=valid, test=test, seed=seed)
        known.update(new)
    return home


def _check_differs(code: str, parts: dict[str, Pairs], place: str | None) -> None:
    """Raises a ValueError if the pairs of a language are those of another one."""
    for other, pairs in parts.items():
        if other != code and pairs.target == parts[code].target:
            raise ValueError(
                f"`target_language` must name languages that the data have, but {place} has the "
                f"same {len(pairs):,} pairs for {other!r} and for {code!r}; for one file a "
                f"language, write {HOLE} in its path, where the code stands."
            )
