"""The options of a search and of sampling, each written down and checked here alone.

Axes: B batch, K beams or samples, L = max_length, P prefix, S source steps, V vocabulary.
"""

import dataclasses
import numbers
from typing import Any

import tensorflow as tf

from kzoo import checks
from kzoo.search.steps import check_rows

NORMALIZATIONS = ("gnmt", "length")  # see `beams.normalized_scores`

# The options of a model's `generate` that are one value for all sources, and that an export has no
# argument of its own for. `ctc_weight` is for a model with a CTC head.
SHARED = (
    *("min_length", "length_normalization", "finished_apart", "patience", "coverage_penalty"),
    *("expected_length", "length_deviation_penalty"),
    *("no_repeat_ngram", "repetition_penalty", "allowed", "groups", "diversity_penalty"),
    *("ctc_weight", "prompt", "times", "renormalize"),
)


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What a search looks for. Ids and lengths count the end token unless it says otherwise.

    `min_length`, `allowed`, `allowed_first`, `times` and `no_repeat_ngram` take tokens away and
    leave the probabilities of the others as they are, unless `renormalize` says otherwise. What
    `prefix` forces is generated whatever those say, at the log-probability that the model gives it.
    A sentence for which the constraints leave nothing scores -inf.

    Attributes:
        end_id: int in [0, V).
        beam_size: int >= 1, K.
        max_length: int >= 1, L: most tokens generated, the end token included. Or an int scalar
            tensor; if it comes from a shape, XLA can compile it.
        min_length: int in [0, max_length): fewest tokens before the end token.
        length_penalty: float >= 0; larger favours longer hypotheses.
        length_normalization: "gnmt" or "length", what the penalty is the exponent of: see
            `beams.normalized_scores`.
        finished_apart: bool, whether finished hypotheses leave the K slots to others, see
            `apart.apart_step`. Then no group may be diverse.
        patience: float > 0, p: with `finished_apart`, the search of a sentence ends when round(K p)
            hypotheses have finished; None to go on while a better one is to be expected, see
            `apart.pooled`.
        coverage_penalty: float >= 0; larger favours hypotheses that looked at all of the source.
            The step must return weights.
        source_mask: (B, S) bool, True = real: the source steps to cover; None for all.
        expected_length: (B,) float, tokens without the end, or None; see `LengthHead`.
        length_deviation_penalty: float >= 0, per token of deviation from `expected_length`.
        no_repeat_ngram: int >= 0, n: no n-gram occurs twice in a hypothesis; 0 for no such rule.
        repetition_penalty: float > 0: logits of tokens already in the hypothesis are divided by it
            if positive and multiplied if negative, before the softmax. Keskar et al. (2019),
            https://arxiv.org/abs/1909.05858, section 4.1.
        prefix: (B, P) int, padded with 0 or ragged, or (P,) for all sentences: the tokens that a
            hypothesis begins with, part of the result. 0 leaves a place free.
        allowed: (V,) or (B, V) bool, False for tokens never to be generated; the end is a token.
        allowed_first: likewise, of the first token, beside `allowed`.
        times: `times.Times` among the tokens, and so their rules; or None.
        groups: int that divides K: diverse beam search (`beams.diverse_step`) in as many groups.
        diversity_penalty: float >= 0, between groups.
        best_only: bool, whether the first hypothesis is wanted alone. Then K = 1 in the result, and
            the search also ends when no unfinished hypothesis can become better than the best
            finished one: log-probabilities only fall, so it scores at most
            log p / ((5 + L) / 6) ** length_penalty.
        normalize: bool, whether to take the softmax of the step's logits. Without, they are
            log-probabilities as they are, even where these sum to less than 1: see
            `ctc.joint_step`.
        renormalize: bool, whether the softmax is taken over the tokens that the constraints leave,
            as in Whisper's published decoding, so that what is left alone has probability 1. What a
            `prefix` forces is left alone.

    Raises:
        ValueError: an option breaks its rule.
    """

    end_id: int
    max_length: Any
    beam_size: int = 1
    min_length: int = 0
    length_penalty: float = 0.0
    coverage_penalty: float = 0.0
    source_mask: Any = None
    expected_length: Any = None
    length_deviation_penalty: float = 0.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    prefix: Any = None
    allowed: Any = None
    allowed_first: Any = None
    times: Any = None
    groups: int = 1
    diversity_penalty: float = 0.0
    best_only: bool = False
    normalize: bool = True
    length_normalization: str = "gnmt"
    finished_apart: bool = False
    patience: float | None = None
    renormalize: bool = False

    def __post_init__(self):
        _set_integers(self, 0, "end_id", "min_length", "no_repeat_ngram")
        _set_integers(self, 1, "beam_size", "groups")
        for name in (
            *("length_penalty", "coverage_penalty", "length_deviation_penalty"),
            "diversity_penalty",
        ):
            checks.finite_not_negative(**{name: getattr(self, name)})
        checks.finite_positive(repetition_penalty=self.repetition_penalty)
        if tf.is_tensor(self.max_length):
            object.__setattr__(self, "max_length", tf.cast(self.max_length, tf.int32))
        else:
            _set_integers(self, 1, "max_length")
            if self.min_length >= self.max_length:
                raise ValueError(
                    "`min_length` must be less than max_length, "
                    f"got min_length={self.min_length}, max_length={self.max_length}."
                )
        checks.one_of(NORMALIZATIONS, length_normalization=self.length_normalization)
        if self.finished_apart and self.groups > 1:
            raise ValueError(f"`groups` must be 1 with finished_apart, got groups={self.groups}.")
        if self.patience is not None:
            checks.finite_positive(patience=self.patience)
            checks.require(
                self.finished_apart, "must be None without finished_apart", patience=self.patience
            )
        if self.beam_size % self.groups:
            raise ValueError(
                "`groups` must divide beam_size, "
                f"got groups={self.groups}, beam_size={self.beam_size}."
            )

    def of_batch(self, start_ids):
        """The options of one batch, with tensors that have a row for each start id.

        Args:
            start_ids: (B,) int32.

        Returns:
            `SearchOptions` with `expected_length` (B,) float32, `prefix` (B, L) int32, 0 = free,
            `allowed` and `allowed_first` (V,) or (B, V) bool, `source_mask` (B, S) bool, each if
            it was given.

        Raises:
            ValueError: one of these has another shape or type.
        """
        words = {1: "(V,)", 2: "(B, V)"}
        return dataclasses.replace(
            self,
            expected_length=_expected_length(self.expected_length, start_ids),
            prefix=_prefix(self.prefix, start_ids, self.max_length),
            allowed=_bools("allowed", self.allowed, start_ids, words),
            allowed_first=_bools("allowed_first", self.allowed_first, start_ids, words),
            source_mask=_bools("source_mask", self.source_mask, start_ids, {2: "(B, S)"}),
        )


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How samples are drawn; see `sampling.truncated_logits`.

    Attributes:
        num_samples: int >= 1, K, drawn with replacement: equal ones occur.
        temperature: float > 0, or such a scalar tensor; below 1 the probable tokens become more
            probable.
        top_k: int >= 0, most tokens to choose from; 0 for all.
        top_p: float in (0, 1], probability of the tokens to choose from.
        seed: int or int32 scalar: the same seed, the same samples, though others under XLA; None
            for others at every call.
        same_for_rows: bool, whether each row of a batch draws with the same random numbers, so that
            its samples do not depend on the others.

    Raises:
        ValueError: an option breaks its rule.
    """

    num_samples: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: Any = None
    same_for_rows: bool = False

    def __post_init__(self):
        _set_integers(self, 1, "num_samples")
        _set_integers(self, 0, "top_k")
        if not tf.is_tensor(self.temperature):
            checks.finite_positive(temperature=self.temperature)
        checks.require(0 < self.top_p <= 1, "must lie in (0, 1]", top_p=self.top_p)
        seed = self.seed
        is_seed = seed is None or isinstance(seed, numbers.Integral) or tf.is_tensor(seed)
        checks.require(is_seed, "must be None, an int or an int32 scalar", seed=seed)

    def seeded(self):
        """The seed, an int32 scalar; another one at every call if none was given."""
        if self.seed is None:
            return tf.random.uniform([], maxval=tf.int32.max, dtype=tf.int32)
        return tf.cast(self.seed, tf.int32)


def _set_integers(options, least, *names):
    """Makes options that are integers of any kind, as of NumPy, those of Python."""
    for name in names:
        value = getattr(options, name)
        checks.integer(least, **{name: value})
        object.__setattr__(options, name, int(value))  # the dataclass is frozen


def _expected_length(expected_length, start_ids):
    if expected_length is None:
        return None
    expected_length = tf.convert_to_tensor(expected_length)
    if expected_length.shape.rank != 1:
        raise ValueError(
            f"`expected_length` must have shape (B,), got shape {expected_length.shape}."
        )
    check_rows("expected_length", expected_length, start_ids)
    return tf.cast(expected_length, tf.float32)


def _bools(name, values, start_ids, shapes):
    """None, or a bool tensor of one of the shapes {rank: its axes}; B of them is that of the start
    ids."""
    if values is None:
        return None
    values = tf.convert_to_tensor(values)
    if values.dtype != tf.bool or values.shape.rank not in shapes:
        raise ValueError(
            f"`{name}` must be bool of shape {' or '.join(shapes.values())}, "
            f"got {values.dtype.name} of shape {values.shape}."
        )
    if values.shape.rank == 2:
        check_rows(name, values, start_ids)
    return values


def _prefix(prefix, start_ids, max_length):
    """(P,), (B, P) or ragged -> (B, L) int32, padded with 0."""
    if prefix is None:
        return None
    if isinstance(prefix, tf.RaggedTensor):
        prefix = prefix.to_tensor()
    prefix = tf.convert_to_tensor(prefix)
    if prefix.shape[-1:] == [0]:
        return None  # nothing is forced; an empty list is float
    if not prefix.dtype.is_integer or prefix.shape.rank not in (1, 2):
        raise ValueError(
            "`prefix` must hold integer ids of shape (P,) or (B, P), "
            f"got {prefix.dtype.name} of shape {prefix.shape}."
        )
    is_known = not tf.is_tensor(max_length) and prefix.shape[-1] is not None
    if is_known and prefix.shape[-1] > max_length:
        raise ValueError(
            "`prefix` must not be longer than max_length, "
            f"got shape {prefix.shape}, max_length={max_length}."
        )
    prefix = tf.cast(prefix, tf.int32)
    if prefix.shape.rank == 1:
        prefix = tf.repeat(prefix[None, :], tf.shape(start_ids)[0], axis=0)
    else:
        check_rows("prefix", prefix, start_ids)
    prefix = prefix[:, :max_length]
    prefix = tf.pad(prefix, [[0, 0], [0, max_length - tf.shape(prefix)[1]]])
    return tf.ensure_shape(prefix, [None, tf.get_static_value(max_length)])
