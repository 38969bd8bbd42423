"""Pairs of texts as a model is trained on them: the model, compiled, and its batches.

    model = build(source_tokenizer, target_tokenizer, config, length_head=True)
    train = tokenize(model, splits.train, "train", max_length=128)
    train = sampled_subwords(model, train, config)                            # of subwords
    batches, valid_batches = make_batches(model, train, valid, run, config)

A recipe's config has the fields `model`, `dropout`, `sampled`, `learning_rate`, `warmup_steps`,
`precision`, `norm_first`, `batch_tokens` and `seed`, and those of `runs.teaching`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import kzoo
from recipes import cli
from recipes.data.examples import Pairs
from recipes.runs.building import make_weights, rows_within_limits
from recipes.runs.folder import position
from recipes.runs.processor import computing_in
from recipes.runs.subword_sampling import segmented
from recipes.runs.teaching import compiled

RNNS = ("rnn_fixed", "rnn_bahdanau", "rnn_luong", "pointer_generator")
COPYING = ("pointer_generator", "copying_transformer")  # models with a Copier; none is sampled


def check_norm_first(config: Any) -> None:
    """Raises a ValueError if --no-norm_first meets a model without such blocks."""
    if config.init_from is None and config.model in RNNS and not config.norm_first:
        raise ValueError(
            f"`norm_first` must be left out for {config.model}, which is no transformer, got "
            "norm_first=False."
        )


def check_copying(config: Any) -> None:
    """Raises a ValueError if a flag meets a model that copies, or that does not, wrongly."""
    if config.model not in COPYING:
        if config.coverage_weight is not None:
            raise ValueError(
                f"`coverage_weight` needs a model that copies, {' or '.join(COPYING)}, got "
                f"coverage_weight={config.coverage_weight}, model={config.model}."
            )
        return
    if config.coverage_weight is not None:
        cli.check(config, "coverage_weight", least=0)
    for name in ("sampled", "scheduled_sampling", "r_drop", "subword_sampling"):
        if value := getattr(config, name):
            raise ValueError(f"`{name}` must be 0 with {config.model}, got {name}={value}.")


def build(
    source_tokenizer, target_tokenizer, config: Any, *, has_schedule: bool = True, **options
) -> kzoo.Seq2Seq:
    """Builds and compiles a model of the zoo in the precision asked for.

    `options` are further ones of the model. The rate, where the config has none, is 0.001 for RNNs
    and 0.5 / sqrt(units x warmup_steps) for transformers. Without a schedule it is constant, for a
    callback to change.
    """
    is_rnn = config.model in RNNS
    options |= {} if is_rnn else {"norm_first": config.norm_first}
    options |= {} if config.dropout is None else {"dropout": config.dropout}
    if config.model not in COPYING:
        options["num_sampled"] = min(config.sampled, target_tokenizer.vocabulary_size())
    with computing_in(config.precision):
        model = getattr(kzoo.zoo, config.model)(source_tokenizer, target_tokenizer, **options)
    rate = 1e-3 if is_rnn else 0.5 * (model.head.units * config.warmup_steps) ** -0.5
    return compiled(model, config, rate, has_schedule=has_schedule)


def tokenize(
    model,
    pairs: Pairs,
    name: str,
    *,
    max_length: int,
    max_source_tokens: int | None = None,
    file: str | None = None,
) -> kzoo.batching.Corpus:
    """Tokenizes pairs and leaves out, with a count, those longer than `max_length` tokens.

    With `max_source_tokens` that is about targets alone: sources are cut at so many tokens, as the
    exported model cuts them, and how many are is said. With the name of their `file`, the corpus
    has names, "file:line", "" of a pair whose line is not known.
    """
    import tensorflow as tf

    source = kzoo.batching.tokenize(model.source_tokenizer, pairs.source)
    lengths, also = source.row_lengths().numpy(), ""
    if max_source_tokens is not None:
        also = f", {(lengths > max_source_tokens).sum():,} cut at {max_source_tokens:,} tokens"
        source, lengths = source[:, :max_source_tokens], np.zeros_like(lengths)
    if model.copies:
        corpus = kzoo.batching.copying_corpus(
            model.source_tokenizer, model.target_tokenizer, pairs.source, pairs.target,
            longest=max_source_tokens,
        )  # fmt: skip
    else:
        target = kzoo.batching.tokenize(model.target_tokenizer, pairs.target)
        corpus = kzoo.batching.Corpus(source, target)
    if file is not None:
        lines = tf.constant(pairs.lines)
        names = tf.strings.join([f"{file}:", tf.strings.as_string(lines)])
        corpus = corpus._replace(names=tf.where(lines > 0, names, ""))
    counts = corpus.target.row_lengths().numpy()
    found = f"{len(pairs):,} pairs, {counts.sum():,} target tokens"
    limits = {"max_length": max_length}
    fits = rows_within_limits(np.maximum(lengths, counts), limits, name, found, "pair", also)
    sides = (None if side is None else tf.ragged.boolean_mask(side, fits) for side in corpus)
    return kzoo.batching.Corpus(*sides)


def sampled_subwords(
    model,
    train: kzoo.batching.Corpus,
    config: Any,
    max_source_tokens: int | None = None,
) -> kzoo.batching.Corpus:
    """The corpus cut anew for every batch, if `--subword_sampling` asks for it.

    `max_source_tokens` is as in `tokenize`: a source is cut into at most so many.
    """
    seeds = [config.seed, 0], [config.seed, 1]
    source = segmented(model.source_tokenizer, train.source, config, seeds[0], max_source_tokens)
    target = segmented(model.target_tokenizer, train.target, config, seeds[1])
    return train._replace(source=source, target=target)


def make_batches(
    model, train: kzoo.batching.Corpus, valid, run: Path, config: Any, draw: Callable | None = None
):
    """The training and validation batches; makes the weights of the model, too.

    A resumed run goes on in their order. `draw` is as in `kzoo.batching.token_batches`.
    """
    start = position(run).batches
    batch_tokens = config.batch_tokens * getattr(config, "accumulate", 1)
    dataset = functools.partial(
        kzoo.batching.token_batches, train, batch_tokens, seed=config.seed, draw=draw, start=start
    )
    batches = make_weights(model, dataset, getattr(config, "init_from", None) or config.model)
    lengths = train.source.row_lengths().numpy(), train.target.row_lengths().numpy()
    rng = kzoo.batching.pass_rng(config.seed, 0)
    if draw is not None:
        rows = draw(rng)
        lengths = tuple(side[rows] for side in lengths)
    planned = kzoo.batching.plan(*lengths, batch_tokens, rng)
    print(f"{kzoo.batching.padding_share(*lengths, planned):.1%} of the batches is padding")
    return batches, kzoo.batching.token_batches(valid, config.batch_tokens)
