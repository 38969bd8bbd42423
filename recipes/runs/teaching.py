"""How a decoder is taught: the flags in place of plain teacher forcing, and what they turn on.

A recipe's config has the fields `scheduled_sampling`, `sampling_decay`, `sampling_steps`, `r_drop`,
`seed` and `sampled`; one with subwords also `subword_sampling` and `tokenizer`; one that
scales also `accumulate`, `ema` and `recompute`.
"""

from __future__ import annotations

import kzoo
from recipes import cli
from recipes.runs.building import compile_model, spread_rows

SCHEDULED_SAMPLING_HELP = (
    "probability in the end that the decoder reads its own answer in training in place of the "
    "right word; 0: never, teacher forcing"
)
SAMPLING_DECAY_HELP = "how that of the right word falls until then"
SAMPLING_STEPS_HELP = "steps of training until then; 0: from the first on"
R_DROP_HELP = (
    "weight, as 5, of the difference between two passes with two dropouts, which double the time "
    "of a step; 0: one pass"
)
SUBWORD_SAMPLING_HELP = (
    "subwords: probability, as 0.1, that a merge is left out when a training text is cut into "
    "subwords, which is done anew for every batch; 0: one way to cut a text"
)

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
    if (
        config.accumulate > 1
        and kzoo.training.distribution.addresses_of(config.workers, config.worker)[0]
    ):
        raise ValueError(
            "`accumulate` must be 1 with several workers, each of which has a part of the batch, "
            f"got accumulate={config.accumulate}."
        )


def check_teaching(config, has_decoder: bool = True) -> None:
    """Raises a ValueError if one of these flags is out of range or in the wrong company."""
    if not 0 <= config.scheduled_sampling <= 1:
        raise ValueError(
            "`scheduled_sampling` must lie in [0, 1], "
            f"got scheduled_sampling={config.scheduled_sampling}."
        )
    cli.check(config, "sampling_steps", least=0)
    cli.check(config, "r_drop", least=0)
    if config.sampling_decay == "inverse_sigmoid" and 0 < config.sampling_steps < 5:
        raise ValueError(
            "`sampling_steps` must be 0 or at least 5 with inverse_sigmoid, "
            f"got sampling_steps={config.sampling_steps}."
        )
    if config.r_drop and (config.scheduled_sampling or config.sampled):
        raise ValueError(
            "`r_drop` must be 0 with `scheduled_sampling` and with `sampled`, "
            f"got r_drop={config.r_drop}, scheduled_sampling={config.scheduled_sampling}, "
            f"sampled={config.sampled}."
        )
    if not has_decoder and (config.scheduled_sampling or config.r_drop):
        raise ValueError(
            "`scheduled_sampling` and `r_drop` need a model with a decoder, "
            f"got scheduled_sampling={config.scheduled_sampling}, r_drop={config.r_drop}, "
            f"model={config.model}."
        )


def check_subword_sampling(config) -> None:
    """Raises a ValueError if the flag is out of range or in the wrong company."""
    cli.check_share(config, "subword_sampling")
    if config.subword_sampling and config.tokenizer != "subwords":
        raise ValueError(
            "`subword_sampling` needs tokenizer=subwords, "
            f"got subword_sampling={config.subword_sampling}, tokenizer={config.tokenizer}."
        )


def teach(model, config) -> None:
    """Has a model that is not compiled yet trained as the flags say."""
    if config.scheduled_sampling:
        model.scheduled_sampling = kzoo.ScheduledSampling(
            config.scheduled_sampling, config.sampling_decay, config.sampling_steps,
            seed=config.seed,
        )  # fmt: skip
    if config.r_drop:
        model.r_drop = config.r_drop


def compiled(model, config, rate: float, *, has_schedule: bool = True):
    """Compiles a model, taught as the config says, at its rate or else at the one given.

    Without a schedule the rate is constant, for a callback to change.
    """
    teach(model, config)
    rate = rate if config.learning_rate is None else config.learning_rate
    warmup_steps = config.warmup_steps if has_schedule else None
    compile_model(
        model, rate, warmup_steps, sampled=config.sampled,
        accumulate=getattr(config, "accumulate", 1), ema=getattr(config, "ema", 0.0),
    )  # fmt: skip
    if getattr(config, "recompute", False):
        for part in (model.encoder, model.decoder):
            part.recompute = True
    return model


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
