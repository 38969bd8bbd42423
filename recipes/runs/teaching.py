"""How a decoder is taught: the flags in place of plain teacher forcing, and what they turn on.

A recipe's config has the fields `scheduled_sampling`, `sampling_decay`, `sampling_steps`, `r_drop`,
`seed` and `sampled`.
"""

from __future__ import annotations

import kzoo
from recipes import cli
from recipes.runs.building import PARTS, compile_model, train_alike

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


def taught(model, config):
    """A model that is not compiled yet, to be trained as the flags say: the same, or a copy where
    its weights are there already and sampling comes or goes. One without a decoder stays as it is.
    """
    if not hasattr(model, "scheduled_sampling"):
        if config.scheduled_sampling or config.r_drop:
            raise ValueError(
                "`scheduled_sampling` and `r_drop` need a model with a decoder, got "
                f"scheduled_sampling={config.scheduled_sampling}, r_drop={config.r_drop} and a "
                f"{type(model).__name__}."
            )
        return model
    sampling = None
    if config.scheduled_sampling:
        sampling = kzoo.ScheduledSampling(
            config.scheduled_sampling, config.sampling_decay, config.sampling_steps,
            seed=config.seed,
        )  # fmt: skip
    if not model.built:
        model.scheduled_sampling = sampling
    elif sampling is not None or model.scheduled_sampling is not None:
        model = _copied(model, sampling)
    model.r_drop = config.r_drop
    return model


def _copied(model, sampling):
    """A copy of a model that has weights, with other scheduled sampling."""
    tokenizers = {name: getattr(model, name) for name in ("source_tokenizer", "target_tokenizer")}
    again = type(model).from_config(
        model.get_config() | dict.fromkeys(tokenizers) | {"scheduled_sampling": None, "r_drop": 0.0}
    )
    for name, tokenizer in tokenizers.items():
        setattr(again, name, tokenizer)
    again.scheduled_sampling = sampling
    again.build_from_config(model.get_build_config())
    for name in PARTS:
        if (part := getattr(model, name)) is not None:
            getattr(again, name).set_weights(part.get_weights())
    train_alike(again, model)
    return again


def compiled(model, config, rate: float, *, has_schedule: bool = True):
    """Compiles a model, taught as the config says, at its rate or else at the one given.

    Without a schedule the rate is constant, for a callback to change.
    """
    model = taught(model, config)
    rate = rate if config.learning_rate is None else config.learning_rate
    warmup_steps = config.warmup_steps if has_schedule else None
    compile_model(
        model, rate, warmup_steps, sampled=getattr(model.head, "num_sampled", 0),
        accumulate=getattr(config, "accumulate", 1), ema=getattr(config, "ema", 0.0),
    )  # fmt: skip
    if getattr(config, "recompute", False):
        for part in (model.encoder, model.decoder):
            if not hasattr(part, "recompute"):
                raise ValueError(
                    f"`recompute` needs a transformer, got recompute=True and a {part.name}."
                )
            part.recompute = True
    return model
