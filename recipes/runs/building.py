"""Between data and training: seed, vocabulary, examples that fit, optimizer, first weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import kzoo


def seed(number: int) -> None:
    """Seeds Python, numpy and TensorFlow, right before the model is built."""
    import keras

    keras.utils.set_random_seed(number)


def learn_tokenizer(
    kind: str, texts: Sequence[str], vocabulary_size: int, **options
) -> kzoo.text.Tokenizer:
    """The tokenizer of "words", "subwords", "characters" or "phonemes" that suits the texts."""
    print(f"Learning a vocabulary of {kind} from {len(texts):,} texts", flush=True)
    learn = {
        "words": kzoo.text.WordTokenizer.learn,
        "subwords": kzoo.text.SubwordTokenizer.learn,
        "characters": kzoo.text.CharacterTokenizer.learn,
        "phonemes": kzoo.text.SpaceTokenizer.learn,
    }
    return learn[kind](texts, vocabulary_size, **options)


def rows_within_limits(
    lengths: np.ndarray, limits: dict[str, float], name: str, found: str, kind: str, also: str = ""
) -> np.ndarray:
    """Which examples have less than `max_length` tokens; how many are left out is said.

    Args:
        lengths: (M,) int, tokens of each example.
        limits: {flag: value} of all flags that leave examples out, `max_length` among them.
        name: the part, as "train". found: what it has. kind: one of it, as "pair".
        also: what is said after the count.

    Returns:
        (M,) bool.

    Raises:
        ValueError: none is left.
    """
    most = limits["max_length"]
    fits = lengths < most
    print(f"{name}: {found}; {(~fits).sum():,} over {most} tokens left out{also}")
    if not fits.any():
        flags = " and ".join(f"`{flag}`" for flag in limits)
        got = ", ".join(f"{flag}={value}" for flag, value in limits.items())
        raise ValueError(f"{flags} must leave at least one {kind} in {name}, got {got}; {found}.")
    return fits


def left_out(counts: dict[str, int]) -> str:
    """What a card says, after the training examples, of those that were left out: {why: how many}.
    "" if there are none."""
    said = ", ".join(f"{count:,} {why}" for why, count in counts.items() if count)
    return f"; of them left out: {said}" if said else ""


def spread_rows(count: int, total: int) -> np.ndarray:
    """At most `count` of `total` rows, evenly spaced: what belongs together stands together."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)


def draw_anew(layer, number) -> None:
    """Has a layer that draws at random draw what its seed and the number of a batch decide.

    `number` is a tensor, int64. A layer may draw 16 times for a batch.
    """
    import tensorflow as tf

    state = layer.seed_generator.state
    state.assign(tf.cast(tf.stack([tf.constant(layer.seed, tf.int64), 16 * number]), state.dtype))


PARTS = ("encoder", "decoder", "head", "length_head", "ctc_head", "copier")


def train_alike(model, other) -> None:
    """Has the same layers of a built model trained, and recomputed, as of another one of its
    architecture: no config says either."""
    for name in PARTS:
        parts = [getattr(each, name, None) for each in (model, other)]
        if None in parts:
            continue
        if hasattr(parts[0], "recompute"):
            parts[0].recompute = parts[1].recompute
        for one, same in zip(*(part._flatten_layers() for part in parts), strict=True):
            if one.trainable != same.trainable:
                one.trainable = same.trainable


def compile_model(
    model,
    learning_rate: float,
    warmup_steps: int | None,
    *,
    sampled: int = 0,
    epsilon: float = 1e-9,
    accumulate: int = 1,
    ema: float = 0.0,
) -> None:
    """Compiles with Adam as Vaswani et al. (2017) had it, gradients clipped to norm 1.

    Args:
        model: keras.Model.
        learning_rate: the peak, after `warmup_steps`; it then falls with 1 / sqrt(step). The
            constant rate where `warmup_steps` is None.
        sampled: classes of the sampled softmax; with any, only the rows that a step used change.
        epsilon: of Adam.
        accumulate: parts of a batch, as in `Trainable.compile`.
        ema: momentum of the moving average of the weights; 0 for none.
    """
    rate = learning_rate
    if warmup_steps is not None:
        rate = kzoo.training.InverseSquareRoot(learning_rate, warmup_steps)
    adam = kzoo.training.LazyAdam if sampled else kzoo.training.FusedAdam
    averaged = {"use_ema": True, "ema_momentum": ema} if ema else {}
    optimizer = adam(rate, beta_2=0.98, epsilon=epsilon, global_clipnorm=1.0, **averaged)
    model.compile(optimizer, accumulate=accumulate)


def make_weights(model, dataset: Callable, name: str):
    """Makes the weights of the model and its optimizer, which a checkpoint is restored into.

    Returns what `dataset()` makes. The weights need a batch, which another one gives: what an
    iterator has read ahead, perhaps a whole pass, is not read again.
    """
    inputs, _ = next(iter(dataset()))
    # Of one row: logits of all may be gigabytes.
    model({key: value[:1] for key, value in inputs.items() if key != "name"})
    model.optimizer.build(model.trainable_variables)
    batches = dataset()
    print(f"{name}: {model.count_params():,} parameters; {int(batches.cardinality()):,} batches")
    return batches
