"""Scores of texts against references: BLEU and chrF by sacrebleu, WER and CER by jiwer.

    print(bleu(["The cat sat down."], ["The cat sat down."]))
    # BLEU 100.00 (nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0|norm:nfc)
    print(word_error_rate(["the cat sat"], ["the cat sat down"]))
    # WER 25.00 (words:4|sub:0|del:1|ins:0|version:jiwer 4.0.0|norm:nfc)

Every score carries the signature that makes it comparable with another. Texts are passed as they
are read by people: detokenized, with their spaces and capitals. Hypotheses and references both go
through `normalized` first, which `norm:nfc` in a signature says: a model answers normalized texts,
and a reference that is written with other bytes and looks the same is no other text.
"""

import itertools
import re
import unicodedata
from typing import NamedTuple

NORMALIZATION = "norm:nfc"  # in every signature
IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff"  # and kana, for a pattern: each is a word
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_SPACES = re.compile("[ \u2028\u2029\x00-\x1f\x7f-\x9f]+")
_EVERY_SPACE = " \u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


class Score(NamedTuple):
    """A value with what is needed to compute it again.

    Args:
        name: str, as "BLEU", "chrF2++", "exact match" or "WER".
        value: float in percent; more is better, but of WER and CER, which may exceed 100, less.
        signature: str, the settings and the version of the program that counted.
        interval: (low, high), floats that hold the value of other texts of the kind with a
            probability of 95 %, or None where none was computed.

    Example:
        >>> str(Score("BLEU", 35.1234, "nrefs:1|case:mixed"))
        "BLEU 35.12 (nrefs:1|case:mixed)"
        >>> str(Score("ROUGE-1", 35.1234, "nrefs:1", (34.0, 36.321)))
        "ROUGE-1 35.12 [34.00, 36.32] (nrefs:1)"
    """

    name: str
    value: float
    signature: str
    interval: tuple = None

    def __str__(self):
        return f"{self.name} {self.figure} ({self.signature})"

    @property
    def figure(self):
        """str: the value, and its interval if there is one, as in `str`."""
        between = "" if self.interval is None else " [{:.2f}, {:.2f}]".format(*self.interval)
        return f"{self.value:.2f}{between}"


def normalized(text):
    """A text as `kzoo.text.normalize` makes it in the graph: NFC, single spaces, none at the ends.

    Args:
        text: str.

    Returns:
        str without the invisible characters that a word is the same without: soft hyphen,
        zero-width space, direction marks, byte-order mark.

    Example:
        >>> normalized(" cafe\u0301\u200b  noir")
        'café noir'
    """
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return _SPACES.sub(" ", text).strip(_EVERY_SPACE)


def compared(hypotheses, references):
    """Both sides as they are compared: a list of N str, and one of N lists of str, normalized.

    Args, Raises: as `reference_rows`.
    """
    rows = reference_rows(hypotheses, references)
    return [normalized(text) for text in hypotheses], [
        [normalized(text) for text in row] for row in rows
    ]


def exact_match(hypotheses, references):
    """The share in percent of hypotheses that equal one of their references, both normalized.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str.

    Returns:
        Score.

    Raises:
        ValueError: as `bleu`.

    Example:
        >>> exact_match(["a b", "c"], ["a b", ["d", "e"]]).value
        50.0
    """
    hypotheses, rows = compared(hypotheses, references)
    right = sum(text in row for text, row in zip(hypotheses, rows, strict=True))
    signature = f"nrefs:{reference_count(rows)}|case:mixed|{NORMALIZATION}"
    return Score("exact match", 100 * right / len(rows), signature)


def sacrebleu_score(name, scorer, hypotheses, references):
    """Returns the `Score` of one of sacrebleu's scorers."""
    # sacrebleu wants the references by rank: the first of every hypothesis, then the second, ...
    hypotheses, rows = compared(hypotheses, references)
    streams = [list(stream) for stream in itertools.zip_longest(*rows)]
    result = scorer.corpus_score(hypotheses, streams)
    return Score(name, float(result.score), f"{scorer.get_signature()}|{NORMALIZATION}")


def reference_rows(hypotheses, references):
    """One list of references for each hypothesis, however they are given.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str.

    Returns:
        list of N lists of str.

    Raises:
        ValueError: no texts, not as many references as hypotheses, or a hypothesis without one.
    """
    for name, texts in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(texts, str):
            raise ValueError(f"`{name}` must be a list of strings, got one string: {texts!r}.")
    if not len(hypotheses) == len(references) > 0:
        raise ValueError(
            "`hypotheses` and `references` must be equally many and at least one, "
            f"got {len(hypotheses)} hypotheses, {len(references)} references."
        )
    rows = [[row] if isinstance(row, str) else list(row) for row in references]
    for index, row in enumerate(rows):
        if not row:
            raise ValueError(
                "`references` must hold at least one text for every hypothesis, "
                f"got none for number {index} of {len(rows)}."
            )
    return rows


def reference_count(rows):
    """How many references each hypothesis has; var if not all have as many."""
    counts = {len(row) for row in rows}
    return counts.pop() if len(counts) == 1 else "var"
