"""Error rates of transcripts: words and characters, by jiwer."""

import importlib.metadata

from kzoo.metrics.score import NORMALIZATION, Score, compared


def word_error_rate(hypotheses, references):
    """WER: 100 (substitutions + deletions + insertions) / words of the references.

    The fewest edits that make each reference of its hypothesis, summed over all texts. Texts are
    normalized, as for every score, and split at white space: case and punctuation count.

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
    return _error_rate("WER", "words", import_jiwer().process_words, hypotheses, references)


def character_error_rate(hypotheses, references):
    """CER: as `word_error_rate`, of characters; a space is one.

    Args, Returns, Raises: as `word_error_rate`.
    """
    return _error_rate("CER", "chars", import_jiwer().process_characters, hypotheses, references)


def _error_rate(name, unit, process, hypotheses, references):
    hypotheses, rows = compared(hypotheses, references)
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
        f"|version:jiwer {version}|{NORMALIZATION}"
    )
    return Score(name, 100 * edits / count, signature)


def import_jiwer():
    """The package jiwer, or an ImportError that says how to get it."""
    try:
        import jiwer
    except ImportError as error:
        raise ImportError(
            "This score needs the jiwer package: pip install kzoo[metrics]"
        ) from error
    return jiwer
