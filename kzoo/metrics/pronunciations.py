"""Error rates of pronunciations: words and phonemes, each against several references.

    print(pronunciation_error_rate(["R EH D", "K AE T"], [["R IY D", "R EH D"], "K AH T"]))
    # WER 50.00 (words:2|nrefs:var|best:1|case:mixed|norm:nfc)

A pronunciation is a text of phonemes with spaces between them.
"""

import importlib.metadata

from kzoo import checks
from kzoo.metrics.score import NORMALIZATION, Score, compared, reference_count, reference_rows
from kzoo.metrics.speech import import_jiwer


def pronunciation_error_rate(hypotheses, references):
    """WER of pronunciations: the share in percent of words with none of their references.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str, all of which are right.

    Returns:
        Score.

    Raises:
        ValueError: no texts, not as many references as hypotheses, or a hypothesis without one.

    Example:
        >>> pronunciation_error_rate(["R EH D", "K AE T"], [["R IY D", "R EH D"], "K AH T"]).value
        50.0
    """
    reference_rows(hypotheses, references)  # tells one string from a list of them
    return best_error_rate([[text] for text in hypotheses], references, 1)


def best_error_rate(hypotheses, references, best):
    """WER of an oracle that chooses among the best hypotheses: the share in percent of words that
    have no reference among their first `best`.

    Args:
        hypotheses: list of N lists of str, best first.
        references: list of N str, or of N lists of str, all of which are right.
        best: int, how many hypotheses of a word count.

    Returns:
        Score.

    Raises:
        ValueError: as `pronunciation_error_rate`, or `best` is below 1.
    """
    checks.at_least(1, best=best)
    rows = reference_rows(hypotheses, references)
    wrong = 0
    for found, row in zip(hypotheses, rows, strict=True):
        found = found[:best] or [""]
        (texts,), (right,) = compared([""], [found])[1], compared([""], [row])[1]
        wrong += not set(texts) & set(right)
    signature = f"words:{len(rows)}|nrefs:{reference_count(rows)}|best:{best}|case:mixed"
    return Score("WER", 100 * wrong / len(rows), f"{signature}|{NORMALIZATION}")


def phoneme_error_rate(hypotheses, references):
    """PER: 100 (substitutions + deletions + insertions) / phonemes of the nearest references.

    The nearest reference of a word is the one that fewest edits make of the hypothesis, of equally
    near ones the longest.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str.

    Returns:
        Score.

    Raises:
        ValueError: as `pronunciation_error_rate`, or a reference is empty.
        ImportError: the jiwer package is missing.

    Example:
        >>> phoneme_error_rate(["R EH D", "K AE"], [["R IY D", "R EH D"], "K AH T"]).value
        33.33333333333333
    """
    hypotheses, rows = compared(hypotheses, references)
    if not all(text for row in rows for text in row):
        raise ValueError("`references` must hold at least one phoneme each, got an empty one.")
    flat = [text for row in rows for text in row]
    spread = [text for text, row in zip(hypotheses, rows, strict=True) for _ in row]
    found = import_jiwer().process_words(flat, spread)
    counted = iter(map(_edits, found.alignments))
    total = dict.fromkeys(("equal", "substitute", "delete", "insert"), 0)
    for row in rows:
        candidates = [next(counted) for _ in row]
        nearest = min(candidates, key=lambda edits: (_errors(edits), -_length(edits)))
        total = {name: count + nearest[name] for name, count in total.items()}
    signature = (
        f"phonemes:{_length(total)}|sub:{total['substitute']}|del:{total['delete']}"
        f"|ins:{total['insert']}|nrefs:{reference_count(rows)}|ref:nearest"
        f"|version:jiwer {importlib.metadata.version('jiwer')}|{NORMALIZATION}"
    )
    return Score("PER", 100 * _errors(total) / _length(total), signature)


def _edits(alignment):
    """{kind: number of phonemes} of one pair of texts."""
    counts = dict.fromkeys(("equal", "substitute", "delete", "insert"), 0)
    for chunk in alignment:
        is_insert = chunk.type == "insert"
        start, stop = (
            (chunk.hyp_start_idx, chunk.hyp_end_idx)
            if is_insert
            else (chunk.ref_start_idx, chunk.ref_end_idx)
        )
        counts[chunk.type] += stop - start
    return counts


def _errors(edits):
    return edits["substitute"] + edits["delete"] + edits["insert"]


def _length(edits):
    """Phonemes of the reference."""
    return edits["equal"] + edits["substitute"] + edits["delete"]
