"""Captions of pictures: as they are written, or as one would say them, and what an exact one is.

as_spoken(part)                            # Pictures, lower case and without punctuation
exact_references(part.rows, is_spoken)     # the right answers, in the form that is learned
"""

import re
from collections import Counter
from collections.abc import Sequence

from recipes.data.examples import Picture, Pictures
from recipes.data.transcripts import spoken


def spoken_caption(caption: str) -> str:
    """The caption as one would say it, by `spoken`, but for hyphens within words, which stay."""
    return "-".join(map(spoken, re.split(r"(?<=[^\W_])-(?=[^\W_])", caption)))


def as_spoken(part: Pictures) -> Pictures:
    """The pictures with captions as one would say them: lower case, without punctuation.

    One without a word is skipped and counted, and so is a picture that has no other.
    """
    changed = Pictures(skipped=Counter(part.skipped))
    for row in part.rows:
        captions = tuple(filter(None, map(spoken_caption, row.captions)))
        if len(captions) < len(row.captions):
            changed.skipped["captions without a word"] += len(row.captions) - len(captions)
        if captions:
            changed.rows.append(row._replace(captions=captions))
        else:
            changed.skipped["pictures without a word"] += 1
    return changed


def exact_references(rows: Sequence[Picture], is_spoken: bool) -> list[list[str]]:
    """What is an exact answer: the captions in the form in which they are learned."""
    form = spoken_caption if is_spoken else str
    return [[form(caption) for caption in row.captions] for row in rows]
