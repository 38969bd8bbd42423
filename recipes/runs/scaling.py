"""Trainings larger than a step's memory: --accumulate, --ema, --recompute.

A recipe's config has the fields `accumulate`, `ema`, `recompute`, `model`, `workers` and `worker`;
`teaching.compiled` does what they say.
"""

from __future__ import annotations

from recipes import cli
from recipes.runs.workers import addresses_of

ACCUMULATE_HELP = (
    "times as large batches: the gradients of so many parts of a batch, each of --batch_tokens, "
    "are computed one after the other and added up"
)
EMA_HELP = (
    "momentum, as 0.999, of a moving average of the weights, which is what is scored, saved and "
    "exported; 0: the weights themselves"
)
RECOMPUTE_HELP = (
    "transformers: compute the activations of blocks again for the gradients in place of keeping "
    "them, for long inputs: less memory, more time"
)


def check_scaling(config) -> None:
    """Raises a ValueError if `accumulate`, `ema` or `recompute` is out of range or in the wrong
    company."""
    cli.check(config, "accumulate", least=1)
    cli.check_share(config, "ema")
    if config.recompute and "transformer" not in config.model:
        raise ValueError(
            f"`recompute` needs a transformer, got recompute=True, model={config.model}."
        )
    if config.accumulate > 1 and addresses_of(config):
        raise ValueError(
            "`accumulate` must be 1 with several workers, each of which has a part of the batch, "
            f"got accumulate={config.accumulate}."
        )
