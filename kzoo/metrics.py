"""Scores of texts against references: BLEU and chrF by sacrebleu, WER and CER by jiwer.

    print(bleu(["The cat sat down."], ["The cat sat down."]))
    # BLEU 100.00 (nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0)
    print(word_error_rate(["the cat sat"], ["the cat sat down"]))
    # WER 25.00 (words:4|sub:0|del:1|ins:0|version:jiwer 4.0.0)

Every score carries the signature that makes it comparable with another. Texts are passed as they
are read by people: detokenized, with their spaces and capitals.
"""

import importlib.metadata
import itertools
from typing import NamedTuple


class Score(NamedTuple):
    """A value with what is needed to compute it again.

    Args:
        name: str, as "BLEU", "chrF2++", "exact match" or "WER".
        value: float in percent; more is better, but of WER and CER, which may exceed 100, less.
        signature: str, the settings and the version of the program that counted.

    Example:
        >>> str(Score("BLEU", 35.1234, "nrefs:1|case:mixed"))
        "BLEU 35.12 (nrefs:1|case:mixed)"
    """

    name: str
    value: float
    signature: str

    def __str__(self):
        return f"{self.name} {self.value:.2f} ({self.signature})"


def bleu(hypotheses, references, lowercase=False, tokenize="13a", force=False, order=4):
    """BLEU of a whole corpus: BP * exp(mean_n log p_n), n = 1..order, BP = min(1, exp(1 - r / h)).

    Papineni et al. (2002), https://aclanthology.org/P02-1040; signatures: Post (2018),
    https://arxiv.org/abs/1804.08771. p_n is the share of the hypotheses' n-grams that the
    references hold, h and r the lengths of the hypotheses and the nearest references in tokens.
    A p_n of 0 is smoothed exponentially.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str: several references for a hypothesis, not
            necessarily equally many.
        lowercase: bool, compare in lower case.
        tokenize: str, sacrebleu's tokenizer: "13a" (its default), "intl", "char", "zh", "none".
        force: bool, do not warn in the log that the hypotheses look tokenized.
        order: int, the longest n-grams. The score is called BLEU if it is 4, else "BLEU-1", ...,
            as sacrebleu's signature does not tell.

    Returns:
        Score.

    Raises:
        ValueError: no texts, not as many references as hypotheses, a hypothesis without one, or an
            `order` below 1.
        ImportError: the sacrebleu package is missing.
    """
    if order < 1:
        raise ValueError(f"`order` must be at least 1, got order={order}.")
    scorer = _import_sacrebleu().BLEU(
        lowercase=lowercase, tokenize=tokenize, force=force, max_ngram_order=order
    )
    return _score("BLEU" if order == 4 else f"BLEU-{order}", scorer, hypotheses, references)


def chrf(hypotheses, references, word_order=0):
    """chrF2: the F-score, recall counted twice, of character n-grams, n = 1..6.

    Popović (2015), https://aclanthology.org/W15-3049. Spaces do not count.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str.
        word_order: int, also count word n-grams up to this n; 2 is chrF++.

    Returns:
        Score.

    Raises:
        ValueError: as `bleu`.
        ImportError: the sacrebleu package is missing.
    """
    scorer = _import_sacrebleu().CHRF(word_order=word_order)
    return _score("chrF2" + "+" * word_order, scorer, hypotheses, references)


def exact_match(hypotheses, references):
    """The share in percent of hypotheses that equal one of their references, as strings.

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
    rows = reference_rows(hypotheses, references)
    right = sum(text in row for text, row in zip(hypotheses, rows, strict=True))
    return Score("exact match", 100 * right / len(rows), f"nrefs:{_count(rows)}|case:mixed")


def word_error_rate(hypotheses, references):
    """WER: 100 (substitutions + deletions + insertions) / words of the references.

    The fewest edits that make each reference of its hypothesis, summed over all texts. Texts are
    compared as they are, split at white space: case and punctuation count.

    Args:
        hypotheses: list of N str.
        references: list of N str, one for each; at least one of them with a word.

    Returns:
        Score.

    Raises:
        ValueError: no texts, not equally many, several references for one text, or no word in any.
        ImportError: the jiwer package is missing.

    Example:
        >>> word_error_rate(["a b x", ""], ["a b c", "d"]).value
        50.0
    """
    return _error_rate("WER", "words", _import_jiwer().process_words, hypotheses, references)


def character_error_rate(hypotheses, references):
    """CER: as `word_error_rate`, of characters; a space is one.

    Args, Returns, Raises: as `word_error_rate`.
    """
    return _error_rate("CER", "chars", _import_jiwer().process_characters, hypotheses, references)


def _error_rate(name, unit, process, hypotheses, references):
    rows = reference_rows(hypotheses, references)
    if any(len(row) > 1 for row in rows):
        raise ValueError("`references` must hold one text for every hypothesis.")
    texts = [" ".join(row[0].split()) for row in rows]
    if not any(texts):
        raise ValueError("`references` must hold at least one word, got none.")
    found = process(texts, [" ".join(text.split()) for text in hypotheses])
    edits = found.substitutions + found.deletions + found.insertions
    count = found.hits + found.substitutions + found.deletions
    version = importlib.metadata.version("jiwer")
    signature = (
        f"{unit}:{count}|sub:{found.substitutions}|del:{found.deletions}|ins:{found.insertions}"
        f"|version:jiwer {version}"
    )
    return Score(name, 100 * edits / count, signature)


def _score(name, scorer, hypotheses, references):
    # sacrebleu wants the references by rank: the first of every hypothesis, then the second, ...
    streams = list(itertools.zip_longest(*reference_rows(hypotheses, references)))
    result = scorer.corpus_score(list(hypotheses), [list(stream) for stream in streams])
    return Score(name, float(result.score), str(scorer.get_signature()))


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


def _count(rows):
    counts = {len(row) for row in rows}
    return counts.pop() if len(counts) == 1 else "var"


def _import_sacrebleu():
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise ImportError(
            "This score needs the sacrebleu package: pip install kzoo[metrics]"
        ) from error
    return metrics


def _import_jiwer():
    try:
        import jiwer
    except ImportError as error:
        raise ImportError(
            "This score needs the jiwer package: pip install kzoo[metrics]"
        ) from error
    return jiwer
