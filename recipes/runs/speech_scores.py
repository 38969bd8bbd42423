"""The scores of transcripts, and those of the searches that a joint model could do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import kzoo
from recipes.data.examples import Clips, rows_by
from recipes.data.frames import extract
from recipes.runs.answering import transcriber
from recipes.runs.scoring import answers_to, of_sources, said


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


def clips_at_once(seconds: Sequence[float], usual: float) -> list[list[int]]:
    """The rows of clips that are searched at once, shortest first: up to 32, and fewer where the
    longest of them has more seconds than those of the training, as attention needs memory by their
    square."""
    batches = []
    for row in sorted(range(len(seconds)), key=seconds.__getitem__):
        most = 32 * (usual / max(seconds[row], usual)) ** 2
        if not batches or len(batches[-1]) + 1 > most:
            batches.append([])
        batches[-1].append(row)
    return batches


def transcripts(
    transcribe: Callable[[list], list[str]],
    clips: Sequence,
    seconds: Sequence[float],
    usual: float,
) -> tuple[list[str], float]:
    """What `transcribe` hears in each clip, under a progress bar, and the seconds that it took,
    without those in which `clips` were read that are not in memory."""
    batches = clips_at_once(seconds, usual)
    contents = ([clips[row] for row in rows] for rows in batches)
    found, spent = answers_to(transcribe, contents, "clip", len(clips))
    rows = itertools.chain.from_iterable(batches)
    return [answer for _, answer in sorted(zip(rows, found, strict=True))], spent


def compare_searches(model, name: str, part: Clips, config: Any) -> dict[str, kzoo.metrics.Score]:
    """WER of a joint model by its attention alone, by CTC alone and by both: {label: Score}.

    In the precision of the training, while the SavedModel computes in float32.
    """
    if not model.has_ctc:
        return {}
    found = extract(part, model.source_tokenizer.features, max_seconds=math.inf)
    hop = model.source_tokenizer.features.hop_seconds
    seconds = [len(frames) * hop for frames in found.arrays]
    scores = {}
    for label, weight in (("attention alone", 0.0), ("CTC alone", 1.0), ("joint", None)):
        print(f"{name}, {label}", flush=True)
        search = transcriber(model, config.max_length, config.beam_size, weight)
        heard, _ = transcripts(search, found.arrays, seconds, config.max_seconds)
        answers = dict(zip(found.rows, heard, strict=True))
        texts = [answers.get(row, "") for row in range(len(part))]  # "" for less than a frame
        score = kzoo.metrics.word_error_rate(texts, part.texts)
        scores |= said({f"{name} WER, {label}": score})
    return scores
