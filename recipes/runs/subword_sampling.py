"""Texts of a training that are cut into other subwords for every batch: --subword_sampling.

A recipe's config has the fields `subword_sampling`, `tokenizer` and `max_length`.
"""

from __future__ import annotations

import kzoo
from recipes import cli
from recipes.runs.building import spread_rows

SUBWORD_SAMPLING_HELP = (
    "subwords: probability, as 0.1, that a merge is left out when a training text is cut into "
    "subwords, which is done anew for every batch; 0: one way to cut a text"
)


def check_subword_sampling(config) -> None:
    """Raises a ValueError if the flag is out of range or in the wrong company."""
    cli.check_share(config, "subword_sampling")
    is_new = config.init_from in (None, "auto") or getattr(config, "new_vocabulary", False)
    if config.subword_sampling and is_new and config.tokenizer != "subwords":
        raise ValueError(
            "`subword_sampling` needs tokenizer=subwords, "
            f"got subword_sampling={config.subword_sampling}, tokenizer={config.tokenizer}."
        )


def segmented(tokenizer, ids, config, seed: list[int], longest: int | None = None):
    """What a training with `--subword_sampling` reads; else `ids`, the one way to cut the texts.

    Args:
        tokenizer: of `kzoo.text`.
        ids: (N, None) ragged int32, of the texts.
        config: of the recipe.
        seed: list of int; a resumed run has another one.
        longest: most tokens of a text; None for one less than `max_length`, with the end.

    Returns:
        What `kzoo.batching` takes for ids.
    """
    if not config.subword_sampling:
        return ids
    longest = config.max_length - 1 if longest is None else longest
    found = kzoo.text.SampledSubwords(
        tokenizer, ids, config.subword_sampling, longest=longest, seed=seed
    )
    lengths = ids.row_lengths().numpy()
    rows = spread_rows(1000, len(lengths))
    share = found.draw(rows, (0, 0))[1].sum() / max(lengths[rows].sum(), 1)
    print(f"Subwords are sampled: {share:.2f} times as many tokens as batches are planned for")
    return found
