"""Scores with their signatures: translation, speech, captions."""

__all__ = [
    "Score",
    "bleu",
    "caption_bleu",
    "character_error_rate",
    "chrf",
    "cider",
    "distinct_captions",
    "exact_match",
    "novel_captions",
    "reference_rows",
    "rouge_l",
    "word_error_rate",
]
