"""The scores of transcripts, and those of the searches that a joint model could do."""

from __future__ import annotations

import math
from typing import Any

import kzoo
from recipes.data.examples import Clips, rows_by
from recipes.data.frames import extract
from recipes.runs.answering import transcriber
from recipes.runs.scoring import of_sources, said


def transcript_scores(answers: list[str], part: Clips) -> dict[str, kzoo.metrics.Score]:
    """WER, CER and exact match of the answers to the clips, and WER of each of several sources."""

    def word_error_rate(rows):
        said = [part.rows[row].text for row in rows]
        return {"WER": kzoo.metrics.word_error_rate([answers[row] for row in rows], said)}

    return {
        **word_error_rate(range(len(part))),
        "CER": kzoo.metrics.character_error_rate(answers, part.texts),
        "exact match": kzoo.metrics.exact_match(answers, part.texts),
        **of_sources(rows_by(clip.source for clip in part.rows), word_error_rate),
    }


def clips_at_once(longest: float, usual: float) -> int:
    """How many clips are searched at once: fewer where the longest has more seconds than those of
    the training, as attention needs memory by their square."""
    return max(1, int(32 * min(1.0, usual / max(longest, usual)) ** 2))


def compare_searches(model, name: str, part: Clips, config: Any) -> dict[str, kzoo.metrics.Score]:
    """WER of a joint model by its attention alone, by CTC alone and by both: {label: Score}.

    In the precision of the training, while the SavedModel computes in float32.
    """
    if not model.has_ctc:
        return {}
    found = extract(part, model.source_tokenizer.features, max_seconds=math.inf)
    longest = max(map(len, found.arrays), default=0) * model.source_tokenizer.features.hop_seconds
    scores = {}
    for label, weight in (("attention alone", 0.0), ("CTC alone", 1.0), ("joint", None)):
        print(f"{name}, {label}", flush=True)
        search = transcriber(
            model, config.max_length, config.beam_size, weight,
            batch_size=clips_at_once(longest, config.max_seconds), verbose=1,
        )  # fmt: skip
        answers = dict(zip(found.rows, search(found.arrays), strict=True))
        texts = [answers.get(row, "") for row in range(len(part))]  # "" for less than a frame
        score = kzoo.metrics.word_error_rate(texts, part.texts)
        scores |= said({f"{name} WER, {label}": score})
    return scores
