"""The scores of pronunciations, against all that is listed of a word."""

from __future__ import annotations

import kzoo
from recipes.data.examples import Words
from recipes.runs.scoring import of_sources


def error_rates(answers: list[str], part: Words) -> dict[str, kzoo.metrics.Score]:
    """WER and PER of answers; where training data list held-out words too, also with all of it."""
    scores = {
        "WER": kzoo.metrics.pronunciation_error_rate(answers, part.references),
        "PER": kzoo.metrics.phoneme_error_rate(answers, part.references),
    }
    if part.elsewhere:
        more = part.all_references
        what = "what train lists is right too"
        scores[f"WER, {what}"] = kzoo.metrics.pronunciation_error_rate(answers, more)
        scores[f"PER, {what}"] = kzoo.metrics.phoneme_error_rate(answers, more)
    return scores


def rates_of_sources(answers: list[str], part: Words) -> dict[str, kzoo.metrics.Score]:
    """WER and PER of the words that each of several sources lists, by all that is listed."""
    listed = list(part.rows.items())

    def rates(rows):
        own = Words(dict(listed[row] for row in rows))
        return error_rates([answers[row] for row in rows], own)

    return of_sources(part.word_rows_by_place(), rates)
