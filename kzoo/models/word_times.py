"""When each token was said: the path of the attention through the memory, by dynamic time warping.

As in the published code of Radford et al. (2022), https://arxiv.org/abs/2212.04356: some heads of a
speech model look where the next token is heard.

Axis letters: B rows, N heads, T tokens, S memory steps.
"""

import math

import tensorflow as tf

_WIDTH = 7  # memory steps, of the median filter


def token_steps(weights, counts, steps):
    """The memory step at which each token begins.

        a = (w - mean over T of w) / std over T of w,  smoothed over S, mean over N

    and the path is the one through the cells (t, s), from the first to the last, each step to
    (t + 1, s), (t, s + 1) or (t + 1, s + 1), with the largest sum of a.

    Args:
        weights: (B, N, T, S) float, attention of the heads at the steps that predict the tokens.
        counts: (B,) int32, the real tokens of each row, at least 1. steps: (B,) int32, its real
            memory steps, at least 1.

    Returns:
        (B, T) int32; 0 for padding.
    """
    # Memory steps that all tokens look at alike have a variance of rounding errors in float32.
    weights = tf.cast(weights, tf.float64)
    is_step = tf.range(tf.shape(weights)[3]) < steps[:, None]  # (B, S)
    is_token = tf.range(tf.shape(weights)[2]) < counts[:, None]  # (B, T)
    weights = tf.where(is_step[:, None, None], weights, 0.0)
    weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, 3, keepdims=True))
    real = tf.cast(is_token, tf.float64)[:, None, :, None]
    count = tf.cast(counts, tf.float64)[:, None, None, None]
    mean = tf.reduce_sum(weights * real, 2, keepdims=True) / count
    variance = tf.reduce_sum((weights - mean) ** 2 * real, 2, keepdims=True) / count
    scaled = tf.math.divide_no_nan(weights - mean, tf.sqrt(variance))
    # The filter holds `_WIDTH` such tensors at once.
    smooth = median_filtered(tf.cast(scaled, tf.float32), steps)
    return warped(-tf.cast(tf.reduce_mean(smooth, 1), tf.float64), counts, steps)


def median_filtered(x, steps, width=_WIDTH):
    """The median of `width` neighbours, the row mirrored at both ends.

    Args:
        x: (B, N, T, S) float. steps: (B,) int32, the real ones of S. width: int, odd.

    Returns:
        (B, N, T, S).
    """
    reach = width // 2
    size = tf.shape(x)[3]
    last = tf.maximum(steps - 1, 0)[:, None]
    places = tf.abs(tf.range(-reach, size + reach))[None]
    places = tf.where(places > last, 2 * last - places, places)
    mirrored = tf.gather(x, tf.clip_by_value(places, 0, last), axis=3, batch_dims=1)
    rows = [mirrored[..., shift : shift + size] for shift in range(width)]
    for end in range(width - 1, reach - 1, -1):  # until the largest ones are sorted
        for n in range(end):
            low, high = tf.minimum(rows[n], rows[n + 1]), tf.maximum(rows[n], rows[n + 1])
            rows[n], rows[n + 1] = low, high
    return rows[reach]


def warped(costs, counts, steps):
    """Dynamic time warping, the first memory step of each token on the cheapest path.

    A row of sums is made at once: from where the path enters a row it stays for a run of steps,

        D_s = C_s + min over k <= s of (min(D'_k-1, D'_k) - C_k-1),    C_s = c_0 + ... + c_s

    where D' is the row of the token before.

    Args:
        costs: (B, T, S) float64. counts, steps: (B,) int32, real tokens and memory steps, >= 1.

    Returns:
        (B, T) int32; 0 for padding.
    """
    rows, size = tf.shape(costs)[0], tf.shape(costs)[2]
    tokens = tf.shape(costs)[1]
    infinite = tf.fill([rows, 1], tf.constant(math.inf, tf.float64))
    # Before the first token the path is left of the first step, at no cost.
    before = tf.concat([tf.zeros([rows, 1], tf.float64), tf.tile(infinite, [1, size])], 1)

    def forward(token, before, entries, diagonals):
        here = tf.gather(costs, token, axis=1)
        sums = tf.cumsum(here, axis=1)
        is_diagonal = before[:, :-1] <= before[:, 1:]
        entry = tf.where(is_diagonal, before[:, :-1], before[:, 1:]) - (sums - here)
        least, places = _running_minimum(entry)
        after = tf.concat([infinite, sums + least], 1)
        return token + 1, after, entries.write(token, places), diagonals.write(token, is_diagonal)

    arrays = [tf.TensorArray(dtype, tokens) for dtype in (tf.int32, tf.bool)]
    _, _, entries, diagonals = tf.while_loop(
        lambda token, *_: token < tokens, forward, (tf.constant(0), before, *arrays)
    )
    entries, diagonals = entries.stack(), diagonals.stack()  # (T, B, S)

    def backward(back, place, firsts):
        token = tokens - 1 - back
        is_real = token < counts
        entered = tf.gather(entries[token], place, batch_dims=1)
        is_diagonal = tf.gather(diagonals[token], entered, batch_dims=1)
        firsts = firsts.write(token, tf.where(is_real, entered, 0))
        came = tf.maximum(entered - tf.cast(is_diagonal, tf.int32), 0)
        return back + 1, tf.where(is_real, came, place), firsts

    _, _, firsts = tf.while_loop(
        lambda back, *_: back < tokens,
        backward,
        (tf.constant(0), steps - 1, tf.TensorArray(tf.int32, tokens)),
    )
    return tf.transpose(firsts.stack())


def _running_minimum(x):
    """The least value up to each place of x (B, S), and where it is: (B, S) float, (B, S) int32."""
    places = tf.broadcast_to(tf.range(tf.shape(x)[1]), tf.shape(x))

    def widen(shift, least, where):
        missing = [[0, 0], [shift, 0]]
        earlier = tf.pad(least[:, :-shift], missing, constant_values=math.inf)
        from_ = tf.pad(where[:, :-shift], missing)
        is_less = earlier < least
        return 2 * shift, tf.where(is_less, earlier, least), tf.where(is_less, from_, where)

    _, least, where = tf.while_loop(
        lambda shift, *_: shift < tf.shape(x)[1], widen, (tf.constant(1), x, places)
    )
    return least, where
