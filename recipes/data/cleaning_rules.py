"""The rules of cleaning: each says which pairs of a corpus are against it.

    lengths(pairs)                                  # [3, 17]: rows
    unlike_seconds({"a.wav": 2.5})(pairs)           # one that needs to know more than the texts

A word and a pronunciation, the name of a picture and a caption, and that of a clip and a text are
`Pairs` here, too.
"""

from __future__ import annotations

import functools
import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from kzoo.metrics.score import normalized
from recipes.data.examples import Pairs

Rule = Callable[[Pairs], list[int]]

LONGEST_RATIO = 3.0  # of lengths, in times of the corpus's median ratio
LEAST_CHARACTERS = 30  # of the longer side: the lengths of short texts say little
LEAST_WORDS = 3  # of a text that is not to be the same on both sides: names are, and short labels
LEAST_LETTERS = 10  # of a text whose script is looked at
LEAST_WORD_LETTERS = 2  # of a word whose script is: a letter alone may be a sign
COMMON_SCRIPT = 0.2  # the share of the texts of a side that makes a script one of that side
LEAST_RIGHT = 0.1  # the share of letters of such scripts: texts name products in other letters
LONG_WORD = 6  # letters of a word that is no abbreviation, whose phonemes are of other letters
LEAST_ENTRIES = 10_000  # of a dictionary in which a phoneme of one entry alone is likely a typo
LONGEST_CAPTION = 5.0  # in times of the usual number of characters
LEAST_LONG = 100  # characters of a caption that is too long: labels are short beside sentences
MOST_PICTURES = 0.01  # the share of pictures that a caption may have, where most have few
LEAST_SAME = 20  # pictures of a caption that has many, in times of those that most have
LEAST_SPOKEN = 10  # characters of a text that is too long for its clip
LEAST_SECONDS = 2.0  # of a clip whose text is too short: single words have silence around them
FEWEST_SPOKEN, MOST_SPOKEN = 0.1, 3.0  # characters a second, in times of what is usual

_TAG = re.compile(r"<(/?)([A-Za-z][\w:-]*)((?:\s+[\w:-]+=[^<>]*)?)\s*(/?)>")
_ALONE = frozenset({"br", "hr", "img", "p", "li"})  # tags that come without a second one
_PLACEHOLDER = re.compile(
    r"\{\{?\s*\w*\s*\}?\}"  # {}, {name}, {{ name }}
    r"|\$\{?[A-Z_]{2,}\}?"  # $NAME, ${NAME}
    r"|(?<!\d)%(?:\(\w+\)|\d+\$)?[-+0#]*\d*(?:\.\d+)?l{0,2}[sdifuxc@]"  # %s, %(name)s, %1$d, %.2f
)
_REFERENCE = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|[A-Za-z]\w+);")  # &amp;
_PLACE = re.compile(r"(?<=^%)\d+\$")  # of %1$s: an order of the language's own
_PLURAL = re.compile(r"\{\s*\w+\s*,\s*(plural|select|selectordinal)\s*,")  # its forms are words
_SPELLED_OUT = re.compile(r"[\d.]")  # numbers and abbreviations, by phonemes of other letters


def repeated(pairs: Pairs) -> list[int]:
    """The same pair as an earlier one."""
    seen, rows = set(), []
    sides = (map(normalized, side) for side in (pairs.source, pairs.target))
    for row, pair in enumerate(zip(*sides, strict=True)):
        if pair in seen:
            rows.append(row)
        seen.add(pair)
    return rows


def same(pairs: Pairs) -> list[int]:
    """Source and target the same, capitals aside, of several words: nobody translated it."""
    return [
        row
        for row, (source, target) in enumerate(zip(pairs.source, pairs.target, strict=True))
        if len(source.split()) >= LEAST_WORDS
        and normalized(source).casefold() == normalized(target).casefold()
    ]


def lengths(pairs: Pairs) -> list[int]:
    """One side far longer than the other, by what is usual here."""
    both = zip(pairs.source, pairs.target, strict=True)
    logs = _from_usual([len(target) / len(source) for source, target in both])
    return [
        row
        for row, ratio in enumerate(logs)
        if abs(ratio) > math.log(LONGEST_RATIO)
        and max(len(pairs.source[row]), len(pairs.target[row])) >= LEAST_CHARACTERS
    ]


def longer(pairs: Pairs) -> list[int]:
    """A summary that is longer than its document."""
    both = enumerate(zip(pairs.source, pairs.target, strict=True))
    return [row for row, (source, target) in both if len(target) > len(source)]


def scripts(pairs: Pairs) -> list[int]:
    """A side with hardly a letter of the scripts that are common on that side."""
    return sorted({*_in_rare_scripts(pairs.source), *_in_rare_scripts(pairs.target)})


def markup(pairs: Pairs) -> list[int]:
    """Tags or placeholders that only one side has, or has more of."""
    return [
        row
        for row, (source, target) in enumerate(zip(pairs.source, pairs.target, strict=True))
        if not (_PLURAL.search(source) or _PLURAL.search(target))
        and _marks(source) != _marks(target)
    ]


def phonemes(pairs: Pairs) -> list[int]:
    """Far more or fewer phonemes for the letters of a word than is usual here.

    Silent letters, as in "though", stay within that. Short words may be abbreviations, as "vs".
    """
    letters = [sum(map(str.isalpha, word)) for word in pairs.source]
    words = enumerate(pairs.source)
    rows = [row for row, word in words if letters[row] and not _SPELLED_OUT.search(word)]
    logs = _from_usual([len(pairs.target[row].split()) / letters[row] for row in rows])
    return [
        row
        for row, ratio in zip(rows, logs, strict=True)
        if abs(ratio) > math.log(LONGEST_RATIO) and letters[row] >= LONG_WORD
    ]


def lone_phonemes(pairs: Pairs) -> list[int]:
    """An entry of a large dictionary with a phoneme that no other entry has, of any source: a typo,
    or too rare to be learnt."""
    entries = {*zip(pairs.source, pairs.target, strict=True)}
    counts = Counter(phoneme for _, text in entries for phoneme in {*text.split()})
    sizes = Counter(pairs.places)
    return [
        row
        for row, (text, place) in enumerate(zip(pairs.target, pairs.places, strict=True))
        if sizes[place] >= LEAST_ENTRIES and any(counts[each] == 1 for each in text.split())
    ]


def word_scripts(pairs: Pairs) -> list[int]:
    """A word with hardly a letter of the scripts that are common here."""
    return _in_rare_scripts(pairs.source, LEAST_WORD_LETTERS)


def text_scripts(pairs: Pairs) -> list[int]:
    """A caption or transcript with hardly a letter of the scripts that are common here."""
    return _in_rare_scripts(pairs.target)


def wordless(pairs: Pairs) -> list[int]:
    """A caption without a letter or a digit."""
    return [row for row, text in enumerate(pairs.target) if not any(map(str.isalnum, text))]


def tags(pairs: Pairs) -> list[int]:
    """A caption with tags, or with characters that are written as "&amp;"."""
    texts = enumerate(pairs.target)
    return [row for row, text in texts if _marks(text)[0] or _REFERENCE.search(text)]


def long_captions(pairs: Pairs) -> list[int]:
    """A caption far longer than is usual here."""
    logs = _from_usual([len(text) for text in pairs.target])
    return [
        row
        for row, ratio in enumerate(logs)
        if ratio > math.log(LONGEST_CAPTION) and len(pairs.target[row]) >= LEAST_LONG
    ]


def of_many_pictures(pairs: Pairs) -> list[int]:
    """A caption of very many pictures, as "no caption", in a corpus whose captions are mostly of
    few pictures each. Where each is of many, as labels are, they stay."""
    texts = [normalized(text).casefold() for text in pairs.target]
    counts = Counter(text for _, text in {*zip(pairs.source, texts, strict=True)})
    usual = statistics.median(counts[text] for text in texts) if texts else 0
    most = max(LEAST_SAME * usual, MOST_PICTURES * len({*pairs.source}))
    return [row for row, text in enumerate(texts) if counts[text] > most]


def unlike_seconds(seconds: dict[str, float]) -> Rule:
    """The rule that a clip's text is about as long as what is said here in so many seconds.

    Args:
        seconds: {source of a pair: seconds of the clip that it names}; clips that are not there
            are not judged.
    """

    def rule(pairs: Pairs) -> list[int]:
        rows = [row for row, source in enumerate(pairs.source) if seconds.get(source)]
        spent = [seconds[pairs.source[row]] for row in rows]
        counts = [len(pairs.target[row]) for row in rows]
        logs = _from_usual([count / time for count, time in zip(counts, spent, strict=True)])
        return [
            row
            for row, rate, count, time in zip(rows, logs, counts, spent, strict=True)
            if (rate > math.log(MOST_SPOKEN) and count >= LEAST_SPOKEN)
            or (rate < math.log(FEWEST_SPOKEN) and time >= LEAST_SECONDS)
        ]

    return rule


def _from_usual(numbers: Sequence[float]) -> list[float]:
    """The logarithms of positive numbers, less their median."""
    logs = [math.log(each) for each in numbers]
    usual = statistics.median(logs) if logs else 0.0
    return [each - usual for each in logs]


def _in_rare_scripts(texts: Sequence[str], least: int = LEAST_LETTERS) -> list[int]:
    """The rows of texts of at least so many letters, hardly one of which is of a common script."""
    found = [Counter(filter(None, map(_script_of, text))) for text in texts]
    main = Counter(max(each, key=each.get) for each in found if each)
    common = [each for each, count in main.items() if count >= COMMON_SCRIPT * main.total()]
    common += [each for each, _ in main.most_common(1)]
    return [
        row
        for row, each in enumerate(found)
        if each.total() >= least
        and sum(each[script] for script in common) < LEAST_RIGHT * each.total()
    ]


def _marks(text: str) -> tuple[Counter[str], Counter[str]]:
    """The names of tags, of which translators may change what else is in them, and placeholders.

    <file> is a tag where something else says so, </file> or an attribute: usages of commands have
    such words, which are translated.
    """
    found = _TAG.findall(text)
    closed = {name for slash, name, _, _ in found if slash}
    tags = (
        f"{slash}{name}"
        for slash, name, attributes, end in found
        if slash or attributes or end or name in closed or name.lower() in _ALONE
    )
    return Counter(tags), Counter(map(_plain, _PLACEHOLDER.findall(text)))


def _plain(placeholder: str) -> str:
    """A placeholder without its place and blanks; %i is %d."""
    plain = _PLACE.sub("", re.sub(r"\s", "", placeholder))
    return plain[:-1] + "d" if plain.startswith("%") and plain.endswith("i") else plain


@functools.cache
def _script_of(character: str) -> str:
    """The script of a letter, "" of what is none; one script for Japanese and Chinese letters."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(unicodedata.normalize("NFKC", character)[0], "").split(" ")[0]
    return {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}.get(name, name)
