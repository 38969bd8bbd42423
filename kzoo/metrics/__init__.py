"""Scores with their signatures: translation, speech, pronunciations, captions, summaries."""

from kzoo.metrics.captions import caption_bleu, cider, distinct_captions, novel_captions, rouge_l
from kzoo.metrics.pronunciations import (
    best_error_rate,
    phoneme_error_rate,
    pronunciation_error_rate,
)
from kzoo.metrics.score import Score, exact_match, reference_rows
from kzoo.metrics.speech import character_error_rate, word_error_rate
from kzoo.metrics.summaries import (
    bootstrap_interval,
    copied_share,
    first_sentences,
    lead_words,
    novel_bigrams,
    random_sentences,
    rouge,
    rouge_tokenizer,
    rouge_values,
    split_sentences,
)
from kzoo.metrics.translation import bleu, chrf

__all__ = [
    "Score",
    "best_error_rate",
    "bleu",
    "bootstrap_interval",
    "caption_bleu",
    "character_error_rate",
    "chrf",
    "cider",
    "copied_share",
    "distinct_captions",
    "exact_match",
    "first_sentences",
    "lead_words",
    "novel_bigrams",
    "novel_captions",
    "phoneme_error_rate",
    "pronunciation_error_rate",
    "random_sentences",
    "reference_rows",
    "rouge",
    "rouge_l",
    "rouge_tokenizer",
    "rouge_values",
    "split_sentences",
    "word_error_rate",
]
