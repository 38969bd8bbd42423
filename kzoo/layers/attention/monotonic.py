"""Monotonic attention: Raffel et al. (2017).

Axis letters: B batch, T target steps, S source steps, D features, U units, K beams.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers.attention.additive import AdditiveAttention
from kzoo.layers.attention.contract import dense_inputs

MODES = ("parallel", "recursive", "hard")


@keras.saving.register_keras_serializable("kzoo")
class MonotonicAttention(AdditiveAttention):
    """Attention that moves over the memory from left to right and never back.

    At each target step the model walks on from where it stopped; at memory step j it stops with
    the probability p_j, and what it reads is where it stops:

        p_tj = sigmoid(g v / |v| . tanh(W q_t + U k_j + b) + r)
        weights_tj = p_tj c_tj,    c_tj = (1 - p_t,j-1) c_t,j-1 + weights_t-1,j

    where c_tj is the probability to get to j, and weights_-1 = (1, 0, 0, ...). Raffel et al.
    (2017), https://arxiv.org/abs/1704.00784, equations 8, 9 and 16. Train with "parallel" (or its
    sequential twin "recursive", equal to it) and some `sigmoid_noise`, which drives p to 0 and 1;
    then decode with "hard", where p is 1 if it is over one half and 0 otherwise: as
    `inference_mode`, or as `mode` of a single call or step. The weights are the same.

    Args:
        units: int, size U of the space where query and memory are compared.
        mode: "parallel" computes c in log2(S) vectorised steps, which `fit` runs without XLA;
            "recursive" in S steps; "hard" makes every decision with probability 0 or 1 and has no
            gradient for the scores.
        sigmoid_noise: float, standard deviation of the noise on the scores in training.
        score_bias: float, where r starts. The walk makes about 1 + exp(-r) steps at first.
        inference_mode: the mode where training is False: in `evaluate`, and in a search; None for
            `mode`.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: (B, S, U) from `project(memory)`, if it was called before.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.
        mode: one of the three, for this call; None for that of the layer.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to at most 1, the rest is the
        probability to walk past the end, and padding gets exactly 0. The context carries the
        query's mask.

    Raises:
        ValueError: if `units` is not positive, a mode is unknown, `sigmoid_noise` is negative, or
            an input does not have three axes.

    Example:

    >>> attention = kzoo.MonotonicAttention(units=4, score_bias=0.0)
    >>> context, weights = attention(tf.zeros((1, 2, 3)), tf.zeros((1, 4, 5)))
    >>> weights[0].numpy()  # p = 1/2 everywhere
    array([[0.5   , 0.25  , 0.125 , 0.0625],
           [0.25  , 0.25  , 0.1875, 0.125 ]], dtype=float32)
    """

    def __init__(
        self,
        units,
        mode="parallel",
        sigmoid_noise=0.0,
        score_bias=-4.0,
        inference_mode=None,
        **kwargs,
    ):
        super().__init__(units, normalize=True, **kwargs)
        checks.one_of(MODES, mode=mode)
        checks.one_of((*MODES, None), inference_mode=inference_mode)
        checks.not_negative(sigmoid_noise=sigmoid_noise)
        self.mode = mode
        self.inference_mode = inference_mode
        self.sigmoid_noise = sigmoid_noise
        self.score_bias = score_bias
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, query_shape, memory_shape):
        super().build(query_shape, memory_shape)
        bias = keras.initializers.Constant(self.score_bias)
        self.offset = self.add_weight(shape=(), initializer=bias, name="r")

    def call(
        self,
        query,
        memory,
        memory_mask=None,
        keys=None,
        *,
        query_mask=None,
        mode=None,
        training=False,
    ):
        query, memory, memory_mask = dense_inputs(query, query_mask, memory, memory_mask)
        mode = self._mode(mode, training)
        stop = self._stop(query, memory, memory_mask, keys, mode, training)  # (B, T, S)
        weights = tf.scan(
            lambda before, now: _walk(now, before, mode),
            tf.transpose(stop, (1, 0, 2)),
            self.initial_state(memory_mask),
        )
        weights = tf.cast(tf.transpose(weights, (1, 0, 2)), memory.dtype)
        return tf.matmul(weights, memory), weights

    def initial_state(self, memory_mask):
        """Returns (B, S) float32: all the weight on memory step 0."""
        first = tf.range(tf.shape(memory_mask)[1])[None, :] == 0
        return tf.cast(first & tf.ones_like(memory_mask), tf.float32)

    def step(self, query, memory, memory_mask, keys, state, training=False, mode=None):
        """As `Attention.step`; the state is (B, K, S), the weights of the step before."""
        mode = self._mode(mode, training)
        state = _walk(self._stop(query, memory, memory_mask, keys, mode, training), state, mode)
        weights = tf.cast(state, memory.dtype)
        return tf.matmul(weights, memory), weights, state

    def _mode(self, mode, training):
        """The mode of a call or step that was asked for `mode`."""
        if mode is not None:
            checks.one_of(MODES, mode=mode)
            return mode
        return self.mode if training or self.inference_mode is None else self.inference_mode

    def _stop(self, query, memory, memory_mask, keys, mode, training):
        """p: (B, T, S) float32, 0 in the padding."""
        keys = self.project(memory) if keys is None else keys
        scores = tf.cast(self._score(self._project_query(query), keys), tf.float32)
        scores += tf.cast(self.offset, tf.float32)
        if training and self.sigmoid_noise:
            noise = keras.random.normal(
                tf.shape(scores), dtype=scores.dtype, seed=self.seed_generator
            )
            scores += self.sigmoid_noise * noise
        stop = tf.cast(scores > 0, tf.float32) if mode == "hard" else tf.sigmoid(scores)
        return tf.where(memory_mask[:, None, :], stop, 0.0)

    def get_config(self):
        config = {
            "units": self.units,
            "mode": self.mode,
            "sigmoid_noise": self.sigmoid_noise,
            "score_bias": self.score_bias,
            "inference_mode": self.inference_mode,
        }
        return {**super().get_config(), **config}


def _walk(stop, before, mode):
    """p c, where c_j = (1 - p_j-1) c_j-1 + before_j. All of one shape (..., S)."""
    go_on = _shift(1.0 - stop, 1)
    if mode == "recursive":
        return stop * _recurrence_step_by_step(go_on, before)
    return stop * _recurrence(go_on, before)


def _shift(x, steps):
    """x_(j - steps) at place j of the last axis, and 0 before."""
    if isinstance(steps, int):
        empty = [[0, 0]] * (x.shape.rank - 1)
        return tf.pad(x, [*empty, [steps, 0]])[..., : tf.shape(x)[-1]]
    # XLA has no slice of a length that is found out.
    return tf.where(tf.range(tf.shape(x)[-1]) < steps, 0.0, tf.roll(x, steps, -1))


def _recurrence(a, b):
    """c_j = a_j c_j-1 + b_j over the last axis, in log2(S) steps.

    Each step doubles the span that c_j has summed up: c_j = b_j + a_j b_j-1 + a_j a_j-1 b_j-2 ...
    The quotient of cumulative products in the paper is the same, but for p near 1 it divides 0
    by 0.
    """

    def double(span, a, c):
        return 2 * span, a * _shift(a, span), c + a * _shift(c, span)

    if b.shape[-1] is None:
        steps = tf.reduce_sum(tf.cast(2 ** tf.range(31) < tf.shape(b)[-1], tf.int32))  # log2 S
        loop = (1, a, b)  # of a known number of steps, or XLA finds no gradient
        return tf.while_loop(lambda *_: True, double, loop, maximum_iterations=steps)[2]
    span, c = 1, b
    while span < b.shape[-1]:
        span, a, c = double(span, a, c)
    return c


def _recurrence_step_by_step(a, b):
    """c_j = a_j c_j-1 + b_j over the last axis, as it is written."""
    last_first = [b.shape.rank - 1, *range(b.shape.rank - 1)]
    pairs = (tf.transpose(a, last_first), tf.transpose(b, last_first))  # (S, ...)
    zero = tf.zeros_like(tf.reduce_sum(b, -1))
    c = tf.scan(lambda c, pair: pair[0] * c + pair[1], pairs, zero)
    return tf.transpose(c, [*range(1, b.shape.rank), 0])
