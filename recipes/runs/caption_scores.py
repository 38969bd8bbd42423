"""The scores of captions: one to choose weights by, and all of them for the card."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import kzoo
from recipes.data import captions
from recipes.data.examples import Picture, Pictures, rows_by
from recipes.runs.scoring import of_sources


def validation_score(
    rows: Sequence[Picture], is_exact: bool, is_spoken: bool
) -> tuple[str, Callable]:
    """The name of a score and what computes it of answers: the share of exact ones where captions
    are exact, else CIDEr."""
    if is_exact:
        references = captions.exact_references(rows, is_spoken)
        name, measure = "val_exact_match", kzoo.metrics.exact_match
    else:
        references = [row.captions for row in rows]
        name, measure = "val_cider", kzoo.metrics.cider
    return name, lambda answers: measure(answers, references)


def caption_scores(
    answers: list[str], part: Pictures, trained: set[str], is_spoken: bool
) -> dict[str, kzoo.metrics.Score]:
    """Scores of the captions that a model gave the pictures; `trained` are those it saw.

    They are compared with the captions as they were read, but for exact matches. Where a run mixes
    several sources, the pictures of each have a score of their own, too.
    """
    references, exact = part.references, captions.exact_references(part.rows, is_spoken)
    scores = {f"BLEU-{n}": kzoo.metrics.caption_bleu(answers, references, n) for n in (1, 2, 3, 4)}
    scores["CIDEr"] = kzoo.metrics.cider(answers, references)
    scores["ROUGE-L"] = kzoo.metrics.rouge_l(answers, references)
    scores["exact match"] = kzoo.metrics.exact_match(answers, exact)
    for kind, rows in sorted(rows_by(row.kind for row in part.rows).items()):
        if kind:
            scores[f"exact match, {kind}"] = kzoo.metrics.exact_match(
                [answers[row] for row in rows], [exact[row] for row in rows]
            )
    scores |= of_sources(
        rows_by(row.source for row in part.rows),
        lambda rows: {
            "CIDEr": kzoo.metrics.cider(
                [answers[row] for row in rows], [references[row] for row in rows]
            )
        },
    )
    scores["distinct"] = kzoo.metrics.distinct_captions(answers)
    scores["novel"] = kzoo.metrics.novel_captions(answers, trained)
    return scores
