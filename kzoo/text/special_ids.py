"""The ids that are no part of a text."""

PADDING_ID = 0
START_ID = 1
END_ID = 2
UNKNOWN_ID = 3
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")  # of ids 0..3; SentencePiece's names
UNKNOWN_TEXT = "⁇"  # what `detokenize` writes for UNKNOWN_ID; SentencePiece's default
