"""Whisper's vocabulary: what its special tokens are called, and what it should not say.

V rows of the published table.
"""

from typing import NamedTuple

import numpy as np

from kzoo.models.windows import NO_TIMES
from kzoo.text import SPECIAL_TOKENS, ByteTokenizer, permutation

START, END = "<|startoftranscript|>", "<|endoftext|>"
TASKS = ("translate", "transcribe")
# In the order of their tokens; Cantonese came with large-v3.
LANGUAGES = (
    *("en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv"),
    *("it", "id", "hi", "fi", "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no"),
    *("th", "ur", "hr", "bg", "lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr"),
    *("az", "sl", "kn", "et", "mk", "br", "eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw"),
    *("gl", "mr", "pa", "si", "km", "sn", "yo", "so", "af", "oc", "ka", "be", "tg", "sd", "gu"),
    *("am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt", "sa", "lb", "my", "bo", "tl"),
    *("mg", "as", "tt", "haw", "ln", "ha", "ba", "jw", "su", "yue"),
)
WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")  # texts do not begin with a space
# Signs that stand for no speech in subtitles, as Whisper's own decoding has them.
_SIGNS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))"),
    *("[[", "]]", "{{", "}}", "♪♪", "♪♪♪"),
)
_NOTES = tuple("♩♪♫♬♭♮♯")


class WhisperVocabulary(NamedTuple):
    """A tokenizer in kzoo's order of ids.

    Args:
        tokenizer: ByteTokenizer.
        rows: (V + 2,) int, the published row of each id, -1 for padding and unknown.
    """

    tokenizer: ByteTokenizer
    rows: np.ndarray

    def ids(self, rows):
        """The ids of published rows: sequence of int -> tuple of int."""
        id_of = {int(row): id_ for id_, row in enumerate(self.rows)}
        return tuple(id_of[row] for row in rows if row in id_of and row >= 0)

    def ids_of(self, names):
        """The ids of special tokens: sequence of str -> tuple of int."""
        return tuple(self.tokenizer.ids_of(names))


def whisper_vocabulary(vocabulary, size, source, language="en"):
    """The tokenizer of a published vocabulary.

    Args:
        vocabulary: ByteVocabulary. Special tokens that its files do not name are named by their
            places: times behind `<|notimestamps|>`, and those of tiktoken's files all.
        size: int, V. source: path or str, what an error calls it.
        language: str, as "en": whether texts begin with a space.

    Returns:
        WhisperVocabulary.

    Raises:
        ValueError: it is of another size, or lacks start and end.
    """
    specials = dict(vocabulary.specials) or _specials_of(len(vocabulary.pieces), size)
    names = {row: name for name, row in {**vocabulary.pieces, **specials}.items()}
    if NO_TIMES in specials:
        first = specials[NO_TIMES] + 1
        names |= {row: f"<|{(row - first) / 50:.2f}|>" for row in range(first, size)}
    if {START, END} - specials.keys() or sorted(names) != list(range(size)):
        raise ValueError(
            f"{source} must name the {size:,} tokens of the model, {START} and {END} among them, "
            f"got {len(names):,}."
        )
    rows, first_special = permutation(size, specials[START], specials[END], specials[END])
    pieces = [*SPECIAL_TOKENS, *(names[row] for row in rows[len(SPECIAL_TOKENS) :])]
    tokenizer = ByteTokenizer(
        pieces, vocabulary.merges, first_special, leading_space=language not in WITHOUT_SPACES
    )
    return WhisperVocabulary(tokenizer, rows)


def is_multilingual(vocabulary):
    """Whether there are languages and tasks to choose from.

    The table of an English-only model has tokens for them, too, but one piece less.
    """
    return int(vocabulary.rows[2]) != 50256 and "<|en|>" in vocabulary.tokenizer.get_vocabulary()


def prompt_names(vocabulary, language, task):
    """What stands between the start and a text without times: list of str.

    Raises:
        ValueError: the model does not know the language or the task.
    """
    if not is_multilingual(vocabulary):
        if (language, task) != ("en", "transcribe"):
            raise ValueError(
                "`language` and `task` must be 'en' and 'transcribe' for an English-only model, "
                f"got language={language!r}, task={task!r}."
            )
        return [NO_TIMES]
    known = set(vocabulary.tokenizer.get_vocabulary())
    if f"<|{language}|>" not in known or task not in TASKS:
        raise ValueError(
            f"`language` must be one that the model knows and `task` one of {TASKS}, "
            f"got language={language!r}, task={task!r}."
        )
    return [f"<|{language}|>", f"<|{task}|>", NO_TIMES]


def not_speech(vocabulary):
    """What Whisper's decoding never says: signs that only subtitles have, and special tokens.

    Returns:
        suppressed, suppressed_first: tuples of ids.
    """
    tokenizer = ByteTokenizer.from_config(
        vocabulary.tokenizer.get_config() | {"leading_space": False}
    )
    texts = [text for sign in (*_SIGNS, *_NOTES) for text in (sign, f" {sign}")]
    found = {int(ids[0]) for ids in tokenizer.tokenize([" -", " '"]).to_list()}
    for text, ids in zip(texts, tokenizer.tokenize(texts).to_list(), strict=True):
        if len(ids) == 1 or text.strip() in _NOTES:
            found.add(ids[0])
    known = {*vocabulary.tokenizer.get_vocabulary()}
    names = ("startoflm", "startofprev", "nospeech", "nocaptions", *TASKS)
    names = [name for name in (f"<|{name}|>" for name in names) if name in known]
    blank = tokenizer.tokenize(" ").numpy().tolist()
    return (1, *sorted({*found, *tokenizer.ids_of(names)})), (*blank, 2)


def _specials_of(texts, size):
    """Name -> row of a vocabulary that names none: what stands behind the texts."""
    languages = LANGUAGES[: size - 51_765 - (size >= 51_865)]
    names = (
        *("endoftext", "startoftranscript", *languages, *TASKS),
        *("startoflm", "startofprev", "nospeech", "notimestamps"),
    )
    return {f"<|{name}|>": texts + place for place, name in enumerate(names)}
