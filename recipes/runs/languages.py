"""Runs of one source language and several target languages: {code: Splits} where others have one.

    splits = asked_for(model, splits)                    # sources begin with ">>fr<<"
    train = parts_of(splits, "train")                    # {"fr": pairs, "de": pairs}

With a single language, and a model that knows no tags, all is as without these functions.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import kzoo
from recipes.data.examples import Pairs
from recipes.data.splits import Splits


def asked_for(model, splits: dict[str, Splits]) -> dict[str, Splits]:
    """The splits as the model reads them: if it knows several languages, sources begin with a tag.

    Raises:
        ValueError: there are several languages or the model has tags, and it lacks one of them.
    """
    known = model.source_tokenizer.languages
    if not known and len(splits) == 1:
        return splits
    if missing := [code for code in splits if code not in known]:
        raise ValueError(
            f"`target_language` must be among those of the model, {', '.join(known) or 'one alone'}"
            f", got {', '.join(missing)}."
        )
    return {
        code: Splits(*(None if part is None else _tagged(part, code) for part in each))
        for code, each in splits.items()
    }


def _tagged(pairs: Pairs, code: str) -> Pairs:
    tag = kzoo.text.language_tag(code)
    return dataclasses.replace(pairs, source=[f"{tag} {text}" for text in pairs.source])


def parts_of(splits: dict[str, Splits], name: str) -> dict[str, Pairs]:
    """The part `name` of each language."""
    return {code: getattr(each, name) for code, each in splits.items()}


def listed(parts: dict[str, Pairs]) -> str:
    """What a card says of the pairs of each language."""
    if len(parts) == 1:
        return "".join(map(str, parts.values()))
    return "; ".join(f"{code} {pairs}" for code, pairs in parts.items())


def in_turn(lists: Iterable[Sequence]) -> list:
    """The items of several lists, one of each in turn."""
    rows = itertools.zip_longest(*lists)
    return [item for row in rows for item in row if item is not None]
