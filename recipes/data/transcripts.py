"""Transcripts as one would say them."""

import unicodedata
from collections import Counter

from kzoo.metrics.score import normalized
from recipes.data.examples import Clips

VARIATION_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # marks of emoji, never heard


def spoken(text: str) -> str:
    """Lower case, without punctuation save the apostrophes within words: "Don't!" -> "don't".

    Letters keep their marks, as the vowels of Hindi and Thai are; characters that are not seen, as
    between the letters of Persian, go without a trace.
    """
    # Lower case of the Turkish dotted capital is two characters, of which the second is a dot.
    text = unicodedata.normalize("NFKC", text).replace("\u0130", "i").lower()
    words = "".join(map(_spoken, text.replace("\u2019", "'"))).split()
    words = (word.strip("'") for word in words)
    return " ".join(word for word in words if any(map(str.isalnum, word)))


def _spoken(character: str) -> str:
    """What stays of a character: itself, nothing or a space."""
    category = unicodedata.category(character)
    if category == "Cf" or character in VARIATION_SELECTORS:
        return ""
    return character if category[0] in "LMN" or character == "'" else " "


def as_spoken(clips: Clips) -> Clips:
    """The clips with `spoken` transcripts, which are also the groups of those that had none but
    their text; one without a word is skipped and counted."""
    changed = Clips(skipped=Counter(clips.skipped))
    for clip in clips.rows:
        if text := spoken(clip.text):
            group = text if clip.group == normalized(clip.text) else clip.group
            changed.rows.append(clip._replace(text=text, group=group))
        else:
            changed.skipped["without a word"] += 1
    return changed
