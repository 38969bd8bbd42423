"""Scores with their signatures: translation, speech, pronunciations, captions."""

from kzoo.metrics.captions import caption_bleu, cider, distinct_captions, novel_captions, rouge_l
from kzoo.metrics.pronunciations import (
    best_error_rate,
    phoneme_error_rate,
    pronunciation_error_rate,
)
from kzoo.metrics.score import Score, exact_match, reference_rows
from kzoo.metrics.speech import character_error_rate, word_error_rate
from kzoo.metrics.translation import bleu, chrf

__all__ = [
    "Score",
    "best_error_rate",
    "bleu",
    "caption_bleu",
    "character_error_rate",
    "chrf",
    "cider",
    "distinct_captions",
    "exact_match",
    "novel_captions",
    "phoneme_error_rate",
    "pronunciation_error_rate",
    "reference_rows",
    "rouge_l",
    "word_error_rate",
]
