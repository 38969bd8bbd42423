"""What recipes train on: parallel texts, words with phonemes, clips, captioned pictures.

All four have `len`, `str` with what was skipped, `pairs` (for cleaning), `chosen(rows, skipped)`,
`joined(parts)` and `of_source(name)`.
"""

from recipes.data.examples.clips import Clip, Clips
from recipes.data.examples.pairs import Pairs, some_pairs
from recipes.data.examples.pictures import Picture, Pictures
from recipes.data.examples.rows import rows_by
from recipes.data.examples.words import Words

__all__ = ["Clip", "Clips", "Pairs", "Picture", "Pictures", "Words", "rows_by", "some_pairs"]
