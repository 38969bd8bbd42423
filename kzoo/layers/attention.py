"""Attention: Bahdanau, Luong, local, monotonic, location-aware, multi-head, and none at all.

Axis letters: B batch, T target steps, S source steps, D features, U units, H heads, K beams. Every
layer is called as `layer(query, memory, memory_mask) -> (context, weights)`. What depends on the
memory alone is computed once with `keys = layer.project(memory)` and given back as `keys=`. A
decoder runs any of them one step at a time with `initial_state` and `step`.
"""

import functools

import keras
import tensorflow as tf

from kzoo.layers import masking, sharing


def _check_rank(name, x):
    if x.shape.rank != 3:
        raise ValueError(f"`{name}` must have 3 axes (batch, steps, features), got {x.shape}.")


def _dense_query(query, query_mask):
    """Returns the query, dense and checked, with zeros where it is known to be padding."""
    mask = masking.carried_mask(query, query_mask)
    query, _ = masking.to_dense(query)
    _check_rank("query", query)
    return query if mask is None else masking.blank(query, mask)


def _dense_memory(memory, memory_mask):
    """Returns the memory, dense and checked, with zeros in the padding, and its mask."""
    if memory_mask is not None and memory_mask.shape.rank != 2:
        raise ValueError(
            f"`memory_mask` must have 2 axes (batch, memory steps), got {memory_mask.shape}."
        )
    memory, memory_mask = masking.to_dense(memory, memory_mask)
    _check_rank("memory", memory)
    if not memory_mask.shape.is_compatible_with(memory.shape[:2]):
        raise ValueError(
            f"`memory_mask` must have the batch and steps of `memory`, {memory.shape[:2]}, "
            f"got {memory_mask.shape}."
        )
    return masking.blank(memory, memory_mask), memory_mask


def _dense(query, query_mask, memory, memory_mask):
    return _dense_query(query, query_mask), *_dense_memory(memory, memory_mask)


def sizes(x):
    """The shape of x as a list: ints where a graph knows them, scalar tensors elsewhere."""
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(x.shape)]


def reshape(x, shape):
    """`tf.reshape` to a list like that of `sizes`, without ops that compute one unknown size.

    A step of decoding is so small that such ops took a good part of its time.
    """
    shape = list(shape)
    unknown = [axis for axis, size in enumerate(shape) if tf.is_tensor(size)]
    if len(unknown) == 1 and 0 not in [size for size in shape if not tf.is_tensor(size)]:
        shape[unknown[0]] = -1
    return tf.reshape(x, shape)


def _product(x, kernel, bias=None):
    """x W + b as one (B T, D) product: TensorFlow fuses the bias only into a 2-D MatMul.

    The weights are cast here, since `project` may be called outside Keras's autocast scope.
    """
    return reshape(_rows(x, kernel, bias), [*sizes(x)[:-1], kernel.shape[1]])


def _rows(x, kernel, bias=None):
    """x W + b for every step: (B, T, D) -> (B T, U)."""
    y = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), tf.cast(kernel, x.dtype))
    return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, x.dtype))


def _scores(compared, v):
    """v . x for every x of `compared`: (B, T, S, U) -> (B, T, S).

    tensordot makes it one 2-D product. matvec would broadcast v over the batch, where oneDNN in
    TensorFlow 2.21 writes beyond its memory: wrong numbers or a segmentation fault, by shape.
    """
    return tf.tensordot(compared, v, 1)


class Attention(keras.layers.Layer):
    """What a decoder that goes step by step needs of every attention layer.

    This is the whole of it for a layer that answers each query by itself. One whose answer
    depends on the step before overrides `initial_state` and `step`.
    """

    def compute_mask(self, query, previous_mask=None):
        """The context carries the query's mask."""
        return masking.carried_mask(query, previous_mask)

    def initial_state(self, memory_mask):
        """Returns the state before step 0: nested tensors with B rows, or () for none.

        Args:
            memory_mask: (B, S) bool.
        """
        return ()

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """Answers the next query of each of K beams.

        Args:
            query: (B, K, Dq) float.
            memory: (B, S, Dm) float, dense.
            memory_mask: (B, S) bool.
            keys: from `project(memory)`.
            state: what `initial_state` or the step before returned, as (B, K, ...).
            training: bool; of use to a layer with noise or dropout.

        Returns:
            context: (B, K, Dm). weights: (B, K, S) or (B, H, K, S). state: for the next step.
        """
        context, weights = self(query, memory, memory_mask=memory_mask, keys=keys)
        return context, weights, state


class _AdditiveAttention(Attention):
    """score(q, k) = v . tanh(W q + U k + b), and the weights it takes."""

    def __init__(self, units, normalize, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        if units < 1:
            raise ValueError(f"`units` must be at least 1, got units={units}.")
        self.units = units
        self.normalize = normalize

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_weight(shape=(query_shape[-1], self.units), name="W")
        self.memory_kernel = self.add_weight(shape=(memory_shape[-1], self.units), name="U")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="b")
        self.score_vector = self.add_weight(
            shape=(self.units,),
            initializer=keras.initializers.VarianceScaling(1.0, "fan_avg", "uniform"),
            name="v",
        )
        if self.normalize:
            gain = keras.initializers.Constant(self.units**-0.5)
            self.gain = self.add_weight(shape=(), initializer=gain, name="g")

    def project(self, memory):
        """Returns the keys U k, (B, S, U), for `keys=`."""
        memory, _ = masking.to_dense(memory)
        return _product(tf.cast(memory, self.compute_dtype), self.memory_kernel)

    def _project_query(self, query):
        query = tf.cast(query, self.compute_dtype)
        return _product(query, self.query_kernel, self.bias)  # (B, T, U)

    def _score(self, queries, keys, more=0.0):
        """v . tanh(queries + keys + more): (B, T, U), (B, S, U), (B, T, S, U) -> (B, T, S)."""
        v = tf.cast(self.score_vector, keys.dtype)
        if self.normalize:
            v *= tf.cast(self.gain, v.dtype) / tf.norm(v)
        compared = tf.tanh(queries[:, :, None, :] + keys[:, None, :, :] + more)
        return _scores(compared, v)


@keras.saving.register_keras_serializable("kzoo")
class BahdanauAttention(_AdditiveAttention):
    """Additive attention: score(q, k) = v . tanh(W q + U k + b).

    Bahdanau et al. (2015), https://arxiv.org/abs/1409.0473, appendix A.1.2. With `normalize`, v is
    replaced by g v / |v| (weight normalisation, Salimans & Kingma 2016,
    https://arxiv.org/abs/1602.07868), where the scalar g starts at sqrt(1 / units).

    Args:
        units: int, size U of the space where query and memory are compared.
        normalize: bool, whether v is weight-normalised.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: (B, S, U) from `project(memory)`, if it was called before.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to 1, padding gets exactly 0, a row
        without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: if `units` is not positive or an input does not have three axes.

    Example:

    >>> attention = kzoo.BahdanauAttention(units=4)
    >>> memory = tf.ragged.constant([[[1.0, 2.0]] * 3, [[3.0, 4.0]]], ragged_rank=1)
    >>> context, weights = attention(tf.ones((2, 5, 6)), memory)
    >>> context.shape, weights[1, 0].numpy()
    (TensorShape([2, 5, 2]), array([1., 0., 0.], dtype=float32))
    """

    def __init__(self, units, normalize=False, **kwargs):
        super().__init__(units, normalize, **kwargs)

    def call(self, query, memory, memory_mask=None, keys=None, query_mask=None):
        query, memory, memory_mask = _dense(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        scores = self._score(self._project_query(query), keys)
        weights = masking.masked_softmax(scores, memory_mask[:, None, :])
        return tf.matmul(weights, memory), weights

    def get_config(self):
        return {**super().get_config(), "units": self.units, "normalize": self.normalize}


@keras.saving.register_keras_serializable("kzoo")
class MonotonicAttention(_AdditiveAttention):
    """Attention that moves over the memory from left to right and never back.

    At each target step the model walks on from where it stopped; at memory step j it stops with
    the probability p_j, and what it reads is where it stops:

        p_tj = sigmoid(g v / |v| . tanh(W q_t + U k_j + b) + r)
        weights_tj = p_tj c_tj,    c_tj = (1 - p_t,j-1) c_t,j-1 + weights_t-1,j

    where c_tj is the probability to get to j, and weights_-1 = (1, 0, 0, ...). Raffel et al.
    (2017), https://arxiv.org/abs/1704.00784, equations 8, 9 and 16. Train with "parallel" (or its
    sequential twin "recursive", equal to it) and some `sigmoid_noise`, which drives p to 0 and 1;
    then decode with "hard", where p is 1 if it is over one half and 0 otherwise. Set
    `layer.mode = "hard"` before the first trace; the weights are the same.

    Args:
        units: int, size U of the space where query and memory are compared.
        mode: "parallel" computes c in log2(S) vectorised steps, "recursive" in S steps, "hard"
            makes every decision with probability 0 or 1 and has no gradient for the scores.
        sigmoid_noise: float, standard deviation of the noise on the scores in training.
        score_bias: float, where r starts. The walk makes about 1 + exp(-r) steps at first.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: (B, S, U) from `project(memory)`, if it was called before.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to at most 1, the rest is the
        probability to walk past the end, and padding gets exactly 0. The context carries the
        query's mask.

    Raises:
        ValueError: if `units` is not positive, `mode` is unknown, `sigmoid_noise` is negative, or
            an input does not have three axes.

    Example:

    >>> attention = kzoo.MonotonicAttention(units=4, score_bias=0.0)
    >>> context, weights = attention(tf.zeros((1, 2, 3)), tf.zeros((1, 4, 5)))
    >>> weights[0].numpy()  # p = 1/2 everywhere
    array([[0.5   , 0.25  , 0.125 , 0.0625],
           [0.25  , 0.25  , 0.1875, 0.125 ]], dtype=float32)
    """

    def __init__(self, units, mode="parallel", sigmoid_noise=0.0, score_bias=-4.0, **kwargs):
        super().__init__(units, normalize=True, **kwargs)
        if mode not in ("parallel", "recursive", "hard"):
            raise ValueError(
                f'`mode` must be "parallel", "recursive" or "hard", got mode={mode!r}.'
            )
        if sigmoid_noise < 0:
            raise ValueError(
                f"`sigmoid_noise` must not be negative, got sigmoid_noise={sigmoid_noise}."
            )
        self.mode = mode
        self.sigmoid_noise = sigmoid_noise
        self.score_bias = score_bias
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, query_shape, memory_shape):
        super().build(query_shape, memory_shape)
        bias = keras.initializers.Constant(self.score_bias)
        self.offset = self.add_weight(shape=(), initializer=bias, name="r")

    def call(self, query, memory, memory_mask=None, keys=None, query_mask=None, training=False):
        query, memory, memory_mask = _dense(query, query_mask, memory, memory_mask)
        stop = self._stop(query, memory, memory_mask, keys, training)  # (B, T, S)
        weights = tf.scan(
            lambda before, now: self._walk(now, before),
            tf.transpose(stop, (1, 0, 2)),
            self.initial_state(memory_mask),
        )
        weights = tf.cast(tf.transpose(weights, (1, 0, 2)), memory.dtype)
        return tf.matmul(weights, memory), weights

    def initial_state(self, memory_mask):
        """Returns (B, S) float32: all the weight on memory step 0."""
        first = tf.range(tf.shape(memory_mask)[1])[None, :] == 0
        return tf.cast(first & tf.ones_like(memory_mask), tf.float32)

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """As `Attention.step`; the state is (B, K, S), the weights of the step before."""
        state = self._walk(self._stop(query, memory, memory_mask, keys, training), state)
        weights = tf.cast(state, memory.dtype)
        return tf.matmul(weights, memory), weights, state

    def _stop(self, query, memory, memory_mask, keys, training):
        """p: (B, T, S) float32, 0 in the padding."""
        keys = self.project(memory) if keys is None else keys
        scores = tf.cast(self._score(self._project_query(query), keys), tf.float32)
        scores += tf.cast(self.offset, tf.float32)
        if training and self.sigmoid_noise:
            noise = keras.random.normal(tf.shape(scores), seed=self.seed_generator)
            scores += self.sigmoid_noise * noise
        stop = tf.cast(scores > 0, tf.float32) if self.mode == "hard" else tf.sigmoid(scores)
        return tf.where(memory_mask[:, None, :], stop, 0.0)

    def _walk(self, stop, before):
        """p c, where c_j = (1 - p_j-1) c_j-1 + before_j. All of one shape (..., S)."""
        go_on = _shift(1.0 - stop, 1)
        if self.mode == "recursive":
            return stop * _recurrence_step_by_step(go_on, before)
        return stop * _recurrence(go_on, before)

    def get_config(self):
        config = {
            "units": self.units,
            "mode": self.mode,
            "sigmoid_noise": self.sigmoid_noise,
            "score_bias": self.score_bias,
        }
        return {**super().get_config(), **config}


def _shift(x, steps):
    """x_(j - steps) at place j of the last axis, and 0 before."""
    steps = tf.minimum(steps, tf.shape(x)[-1])
    shifted = tf.concat([tf.zeros_like(x[..., :steps]), x[..., : tf.shape(x)[-1] - steps]], -1)
    return tf.ensure_shape(shifted, x.shape)


def _recurrence(a, b):
    """c_j = a_j c_j-1 + b_j over the last axis, in log2(S) steps.

    Each step doubles the span that c_j has summed up: c_j = b_j + a_j b_j-1 + a_j a_j-1 b_j-2 ...
    The quotient of cumulative products in the paper is the same, but for p near 1 it divides 0
    by 0.
    """

    def double(span, a, c):
        return 2 * span, a * _shift(a, span), c + a * _shift(c, span)

    loop = (tf.constant(1), a, b)
    if b.shape[-1] is None:
        return tf.while_loop(lambda span, *_: span < tf.shape(b)[-1], double, loop)[2]
    for _ in range(max(b.shape[-1] - 1, 0).bit_length()):  # XLA finds no gradient of that loop
        loop = double(*loop)
    return loop[2]


def _recurrence_step_by_step(a, b):
    """c_j = a_j c_j-1 + b_j over the last axis, as it is written."""
    last_first = [b.shape.rank - 1, *range(b.shape.rank - 1)]
    pairs = (tf.transpose(a, last_first), tf.transpose(b, last_first))  # (S, ...)
    zero = tf.zeros_like(tf.reduce_sum(b, -1))
    c = tf.scan(lambda c, pair: pair[0] * c + pair[1], pairs, zero)
    return tf.transpose(c, [*range(1, b.shape.rank), 0])


@keras.saving.register_keras_serializable("kzoo")
class LocationAwareAttention(_AdditiveAttention):
    """Additive attention that knows where it looked at the step before:

        f_t = F * weights_t-1                      (convolution over the memory steps, zero-padded)
        score_tj = v . tanh(W q_t + U k_j + V f_tj + b),    weights_t = softmax(score_t)

    Chorowski et al. (2015), https://arxiv.org/abs/1506.07503, equations 8 and 9. Before the first
    step it looked nowhere: weights_-1 = 0.

    Args:
        units: int, size U of the space where query, memory and location are compared.
        filters: int, number of features of f.
        width: int, memory steps that one filter spans.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: (B, S, U) from `project(memory)`, if it was called before.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to 1, padding gets exactly 0, a row
        without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: if a size is not positive or an input does not have three axes.

    Example:

    >>> attention = kzoo.LocationAwareAttention(units=4, filters=2, width=5)
    >>> context, weights = attention(tf.ones((2, 3, 6)), tf.ones((2, 7, 5)))
    >>> context.shape, weights.shape
    (TensorShape([2, 3, 5]), TensorShape([2, 3, 7]))
    """

    def __init__(self, units, filters, width, **kwargs):
        super().__init__(units, normalize=False, **kwargs)
        if filters < 1 or width < 1:
            raise ValueError(
                f"`filters` and `width` must be at least 1, got filters={filters}, width={width}."
            )
        self.filters = filters
        self.width = width

    def build(self, query_shape, memory_shape):
        super().build(query_shape, memory_shape)
        self.location_filters = self.add_weight(shape=(self.width, 1, self.filters), name="F")
        self.location_kernel = self.add_weight(shape=(self.filters, self.units), name="V")

    def call(self, query, memory, memory_mask=None, keys=None, query_mask=None):
        query, memory, memory_mask = _dense(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        queries = tf.transpose(self._project_query(query), (1, 0, 2))  # (T, B, U)
        weights = tf.scan(
            lambda before, now: self._weigh(now[:, None, :], keys, memory_mask, before[:, None, :])[
                :, 0
            ],
            queries,
            self.initial_state(memory_mask),
        )
        weights = tf.cast(tf.transpose(weights, (1, 0, 2)), memory.dtype)
        return tf.matmul(weights, memory), weights

    def initial_state(self, memory_mask):
        """Returns (B, S) float32 zeros: it has looked nowhere."""
        return tf.zeros(tf.shape(memory_mask), tf.float32)

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """As `Attention.step`; the state is (B, K, S), the weights of the step before."""
        state = self._weigh(self._project_query(query), keys, memory_mask, state)
        weights = tf.cast(state, memory.dtype)
        return tf.matmul(weights, memory), weights, state

    def _weigh(self, queries, keys, memory_mask, before):
        """(B, K, U) projected queries, (B, K, S) weights before -> (B, K, S) float32."""
        steps = tf.shape(before)[-1]
        rows = tf.reshape(tf.cast(before, keys.dtype), (-1, steps, 1))
        filters = tf.cast(self.location_filters, keys.dtype)
        location = tf.nn.conv1d(rows, filters, 1, "SAME")  # (B K, S, filters)
        location = _product(location, self.location_kernel)
        shape = tf.concat([tf.shape(before), [self.units]], 0)
        scores = self._score(queries, keys, tf.reshape(location, shape))
        return masking.masked_softmax(tf.cast(scores, tf.float32), memory_mask[:, None, :])

    def get_config(self):
        config = {"units": self.units, "filters": self.filters, "width": self.width}
        return {**super().get_config(), **config}


class _MultiplicativeAttention(Attention):
    """Luong's three scores, and the weights they take."""

    def __init__(self, score, units, scale, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        if score not in ("dot", "general", "concat"):
            raise ValueError(f'`score` must be "dot", "general" or "concat", got score={score!r}.')
        if units is not None and (score != "concat" or units < 1):
            raise ValueError(
                f'`units` must be at least 1 and goes with score="concat" only, '
                f"got units={units}, score={score!r}."
            )
        self.score = score
        self.units = units
        self.scale = scale

    def build(self, query_shape, memory_shape):
        query_size, memory_size = query_shape[-1], memory_shape[-1]
        if self.score == "dot" and query_size != memory_size:
            raise ValueError(
                f'`query` and `memory` must have the same number of features for score="dot", '
                f"got {query_size} and {memory_size}."
            )
        if self.score == "general":
            self.memory_kernel = self.add_weight(shape=(memory_size, query_size), name="W")
        elif self.score == "concat":
            units = self.units or query_size
            # W [q; k] = W_q q + W_k k: the memory's part is computed once.
            self.query_kernel = self.add_weight(shape=(query_size, units), name="W_q")
            self.memory_kernel = self.add_weight(shape=(memory_size, units), name="W_k")
            self.score_vector = self.add_weight(
                shape=(units,),
                initializer=keras.initializers.VarianceScaling(1.0, "fan_avg", "uniform"),
                name="v",
            )
        if self.scale:
            self.gain = self.add_weight(shape=(), initializer="ones", name="g")

    def project(self, memory):
        """Returns the keys, (B, S, Dq) or (B, S, U), for `keys=`."""
        memory, _ = masking.to_dense(memory)
        memory = tf.cast(memory, self.compute_dtype)
        return memory if self.score == "dot" else _product(memory, self.memory_kernel)

    def _score(self, query, keys):
        """(B, T, Dq), keys -> (B, T, S)."""
        if self.score == "concat":
            queries = _product(query, self.query_kernel)
            compared = tf.tanh(queries[:, :, None, :] + keys[:, None, :, :])  # (B, T, S, U)
            scores = _scores(compared, tf.cast(self.score_vector, keys.dtype))
        else:
            scores = tf.matmul(query, keys, transpose_b=True)
        if self.scale:
            scores *= tf.cast(self.gain, scores.dtype)
        return scores

    def get_config(self):
        config = {"score": self.score, "units": self.units, "scale": self.scale}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("kzoo")
class LuongAttention(_MultiplicativeAttention):
    """Multiplicative attention, global. The score is one of

        dot:      score(q, k) = q . k
        general:  score(q, k) = q . W k
        concat:   score(q, k) = v . tanh(W [q; k])

    Luong et al. (2015), https://arxiv.org/abs/1508.04025, section 3.1. With `scale`, the score is
    multiplied by a learned scalar g that starts at 1.

    Args:
        score: "dot", "general" or "concat".
        units: int, size U of the hidden layer of "concat"; None means the size of the query.
        scale: bool, whether the score has a learned factor.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged; "dot" needs Dq = Dm.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: from `project(memory)`, if it was called before.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows sum to 1, padding gets exactly 0, a row
        without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: for an unknown score, for `units` with another score than "concat", for sizes
            that "dot" cannot compare, for inputs without three axes.

    Example:

    >>> attention = kzoo.LuongAttention("general", scale=True)
    >>> mask = tf.constant([[True, True, False]])
    >>> context, weights = attention(tf.ones((1, 4, 5)), tf.ones((1, 3, 2)), memory_mask=mask)
    >>> weights[0, 0].numpy()
    array([0.5, 0.5, 0. ], dtype=float32)
    """

    def __init__(self, score="general", units=None, scale=False, **kwargs):
        super().__init__(score, units, scale, **kwargs)

    def call(self, query, memory, memory_mask=None, keys=None, query_mask=None):
        query, memory, memory_mask = _dense(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        weights = masking.masked_softmax(self._score(query, keys), memory_mask[:, None, :])
        return tf.matmul(weights, memory), weights


@keras.saving.register_keras_serializable("kzoo")
class LocalAttention(_MultiplicativeAttention):
    """Multiplicative attention to a window of the memory around a place p_t:

        align_tj = softmax(score(q_t, k_j)) over the real steps j with |j - p_t| <= D
        monotonic (local-m):   p_t = t,    weights = align
        predictive (local-p):  p_t = S sigmoid(v_p . tanh(W_p q_t)),
                               weights_tj = align_tj exp(-(j - p_t)^2 / (2 (D / 2)^2))

    Luong et al. (2015), https://arxiv.org/abs/1508.04025, section 3.2, equations 7 to 10. S is
    the row's own length, up to its last real step. As in the paper, the part of a window beyond the
    ends is ignored; a window of "monotonic" that lies wholly behind the last real step is empty.

    Args:
        window: int, D, memory steps on either side of p_t.
        alignment: "predictive" or "monotonic".
        score, units, scale: as in LuongAttention.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged; "dot" needs Dq = Dm.
        memory: (B, S, Dm) float, dense or ragged; both keys and values.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: from `project(memory)`, if it was called before.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S); rows of "monotonic" sum to 1, those of
        "predictive" to less, outside the window and in the padding they are exactly 0, and a row
        without a real step in its window has zeros. The context carries the query's mask.

    Raises:
        ValueError: if `window` is not positive, `alignment` is unknown, or as in LuongAttention.

    Example:

    >>> attention = kzoo.LocalAttention(window=1, alignment="monotonic", score="dot")
    >>> context, weights = attention(tf.zeros((1, 3, 2)), tf.zeros((1, 4, 2)))
    >>> weights[0].numpy().round(2)
    array([[0.5 , 0.5 , 0.  , 0.  ],
           [0.33, 0.33, 0.33, 0.  ],
           [0.  , 0.33, 0.33, 0.33]], dtype=float32)
    """

    def __init__(
        self,
        window=10,
        alignment="predictive",
        score="general",
        units=None,
        scale=False,
        **kwargs,
    ):
        super().__init__(score, units, scale, **kwargs)
        if window < 1:
            raise ValueError(f"`window` must be at least 1, got window={window}.")
        if alignment not in ("predictive", "monotonic"):
            raise ValueError(
                f'`alignment` must be "predictive" or "monotonic", got alignment={alignment!r}.'
            )
        self.window = window
        self.alignment = alignment

    def build(self, query_shape, memory_shape):
        super().build(query_shape, memory_shape)
        size = query_shape[-1]
        if self.alignment == "predictive":
            self.place_kernel = self.add_weight(shape=(size, size), name="W_p")
            self.place_vector = self.add_weight(
                shape=(size, 1), initializer="glorot_uniform", name="v_p"
            )

    def call(self, query, memory, memory_mask=None, keys=None, query_mask=None):
        query, memory, memory_mask = _dense(query, query_mask, memory, memory_mask)
        keys = self.project(memory) if keys is None else keys
        return self._attend(query, memory, memory_mask, keys, tf.range(tf.shape(query)[1])[None, :])

    def initial_state(self, memory_mask):
        """Returns (B,) int32 zeros: the number of the target step."""
        return tf.zeros(tf.shape(memory_mask)[:1], tf.int32)

    def step(self, query, memory, memory_mask, keys, state, training=False):
        """As `Attention.step`; the state is (B, K), the number of the target step."""
        query = tf.cast(query, self.compute_dtype)
        context, weights = self._attend(query, memory, memory_mask, keys, state)
        return context, weights, state + 1

    def _attend(self, query, memory, memory_mask, keys, target_steps):
        places = tf.range(tf.shape(memory)[1])
        # Positions stay in float32: bfloat16 cannot tell step 257 from 256.
        if self.alignment == "monotonic":
            centre = tf.cast(target_steps, tf.float32)[:, :, None]  # (B or 1, T, 1)
        else:
            lengths = tf.reduce_max(tf.where(memory_mask, places + 1, 0), 1)  # 0 for no steps
            lengths = tf.cast(tf.maximum(lengths, 0), tf.float32)[:, None, None]
            share = _product(tf.tanh(_product(query, self.place_kernel)), self.place_vector)
            centre = lengths * tf.sigmoid(tf.cast(share, tf.float32))  # (B, T, 1)
        distance = tf.cast(places, tf.float32) - centre  # (B or 1, T, S)
        inside = memory_mask[:, None, :] & (tf.abs(distance) <= self.window)
        weights = masking.masked_softmax(self._score(query, keys), inside)
        if self.alignment == "predictive":
            gaussian = tf.exp(-2.0 * tf.square(distance / self.window))
            weights *= tf.cast(gaussian, weights.dtype)
        return tf.matmul(weights, memory), weights

    def get_config(self):
        return {**super().get_config(), "window": self.window, "alignment": self.alignment}


@keras.saving.register_keras_serializable("kzoo")
class FixedContext(Attention):
    """No attention: the context is the memory's first step, whatever the query.

    Over an encoder that reads the source backwards, the first step is its final state: the fixed
    vector of Sutskever et al. (2014), https://arxiv.org/abs/1409.3215, fed to every step as in
    Cho et al. (2014), https://arxiv.org/abs/1406.1078. It has no weights.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged; only its number of steps matters.
        memory: (B, S, Dm) float, dense or ragged.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: ignored; taken so that all attention layers are called alike.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.

    Returns:
        context: (B, T, Dm). weights: (B, T, S), 1 at step 0 and 0 elsewhere; zeros for a row
        whose step 0 is padding. The context carries the query's mask.

    Example:

    >>> context, weights = kzoo.FixedContext()(tf.ones((1, 2, 3)), tf.constant([[[4.0], [5.0]]]))
    >>> context.numpy().ravel()
    array([4., 4.], dtype=float32)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, query_shape, memory_shape):
        pass

    def project(self, memory):
        """Returns the memory: there is nothing to compute ahead."""
        return masking.to_dense(memory)[0]

    def call(self, query, memory, memory_mask=None, keys=None, query_mask=None):
        query, memory, memory_mask = _dense(query, query_mask, memory, memory_mask)
        first = tf.range(tf.shape(memory)[1])[None, :] == 0
        weights = tf.cast(first & memory_mask, memory.dtype)[:, None, :]  # (B, 1, S)
        weights = tf.repeat(weights, tf.shape(query)[1], axis=1)
        return tf.matmul(weights, memory), weights

    def get_config(self):
        # Without an own get_config, Keras refuses to save a layer that was given a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("kzoo")
class MultiHeadAttention(Attention):
    """Scaled dot-product attention in H heads, joined by an output projection:

        head_h = softmax(q_h k_h^T / sqrt(key_dim)) v_h,    context = [head_1; ...; head_H] W_o

    with q_h = query W_q, k_h = memory W_k, v_h = memory W_v, all with biases. Vaswani et al.
    (2017), https://arxiv.org/abs/1706.03762, section 3.2. Self-attention is `layer(x, x)`,
    causal self-attention `layer(x, x, causal=True)`, cross-attention `layer(x, memory)`.

    With fewer `num_key_value_heads` than `num_heads`, neighbouring heads form groups that read the
    same keys and values: grouped-query attention, Ainslie et al. (2023),
    https://arxiv.org/abs/2305.13245; with 1 it is the multi-query attention of Shazeer (2019),
    https://arxiv.org/abs/1911.02150. The cache shrinks by H / Hkv; nothing is copied to H heads.

    With `positions`, queries and keys are rotated by their positions or the scores get a bias.
    The memory stands at positions 0 ... S - 1, the query at start ... start + T - 1.

    Args:
        num_heads: int, H.
        key_dim: int, size of each head's queries, keys and values.
        dropout: float in [0, 1), share of attention weights dropped in training.
        num_key_value_heads: int, Hkv, a divisor of `num_heads`; None means `num_heads`.
        positions: RotaryPositions, RelativePositions or AlibiPositions; None for none. Attentions
            that are given the same object share its weights.

    Call arguments:
        query: (B, T, Dq) float, dense or ragged.
        memory: (B, S, Dm) float, dense or ragged; None if `keys` are given.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.
        keys: the pair from `project(memory)`, if it was called before, of a memory without NaN in
            its padding: such as `masking.blank` leaves none.
        query_mask: (B, T) bool, True = real. Keras fills it in from `query`.
        attention_mask: (T, S) or (B, T, S) bool, which query may see which memory step, such as
            `masking.window_mask`; both masks must allow it.
        causal: bool, whether step t sees memory steps 0 ... start + t only.
        start: int or scalar tensor, position of query step 0. It counts for `causal` and
            `positions`.

    Returns:
        context: (B, T, Dq). weights: (B, H, T, S), before dropout; rows sum to 1, padding gets
        exactly 0, a row without a valid key gets zeros. The context carries the query's mask.

    Raises:
        ValueError: if `num_heads` or `key_dim` is not positive, `dropout` is outside [0, 1),
            `num_key_value_heads` does not divide `num_heads`, `positions` are not for attention or
            do not suit the heads, or an input does not have three axes.

    Example:
        >>> layer = kzoo.MultiHeadAttention(num_heads=2, key_dim=4)
        >>> context, weights = layer(tf.ones((2, 3, 8)), tf.ones((2, 5, 8)))
        >>> context.shape
        TensorShape([2, 3, 8])
        >>> weights.shape
        TensorShape([2, 2, 3, 5])
        >>> near = kzoo.masking.window_mask(3, window=1, memory_length=5)
        >>> _, weights = layer(tf.ones((2, 3, 8)), tf.ones((2, 5, 8)), attention_mask=near)
        >>> weights[0, 0].numpy().round(2)
        array([[0.5 , 0.5 , 0.  , 0.  , 0.  ],
               [0.33, 0.33, 0.33, 0.  , 0.  ],
               [0.  , 0.33, 0.33, 0.33, 0.  ]], dtype=float32)
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        dropout=0.0,
        num_key_value_heads=None,
        positions=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        if num_heads < 1 or key_dim < 1:
            raise ValueError(
                f"`num_heads` and `key_dim` must be at least 1, "
                f"got num_heads={num_heads}, key_dim={key_dim}."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1), got dropout={dropout}.")
        if num_key_value_heads is None:
            num_key_value_heads = num_heads
        if num_key_value_heads < 1 or num_heads % num_key_value_heads:
            raise ValueError(
                f"`num_heads` must be a multiple of `num_key_value_heads`, "
                f"got num_heads={num_heads}, num_key_value_heads={num_key_value_heads}."
            )
        if positions is not None and not hasattr(positions, "rotate"):
            raise ValueError(
                f"`positions` must be for use inside attention, such as RotaryPositions, "
                f"got positions={positions}."
            )
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.dropout = dropout
        self.num_key_value_heads = num_key_value_heads
        self.positions = positions
        self.weights_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, query_shape, memory_shape=None):
        query_size = query_shape[-1]
        memory_size = query_size if memory_shape is None else memory_shape[-1]
        size = self.num_heads * self.key_dim
        both = 2 * self.num_key_value_heads * self.key_dim
        self.query_kernel = self.add_weight(shape=(query_size, size), name="W_q")
        self.query_bias = self.add_weight(shape=(size,), initializer="zeros", name="b_q")
        # W_k and W_v side by side: one matrix product makes both.
        self.key_value_kernel = self.add_weight(shape=(memory_size, both), name="W_kv")
        self.key_value_bias = self.add_weight(shape=(both,), initializer="zeros", name="b_kv")
        self.output_kernel = self.add_weight(shape=(size, query_size), name="W_o")
        self.output_bias = self.add_weight(shape=(query_size,), initializer="zeros", name="b_o")
        if self.positions is not None:
            self.positions.attach((None, self.num_heads, None, self.key_dim))

    def initial_state(self, memory_mask):
        """Returns ().

        Raises:
            ValueError: with `positions`: a step of `Attention.step` does not say where it stands.
        """
        if self.positions is not None:
            raise ValueError(
                f"`positions` must be None in a decoder that asks step by step, "
                f"got positions={self.positions}."
            )
        return ()

    def project(self, memory, start=0):
        """Returns keys and values, a pair of (B, Hkv, S, key_dim), for `keys=`.

        `start` is the position of memory step 0, for a decoder that projects step by step: keys
        are rotated here, once.
        """
        memory, _ = masking.to_dense(memory)
        memory = tf.cast(memory, self.compute_dtype)
        both = _rows(memory, self.key_value_kernel, self.key_value_bias)
        keys, values = tf.split(both, 2, axis=-1)
        keys = self._split_heads(keys, memory, self.num_key_value_heads)
        if self.positions is not None:
            keys = self.positions.rotate(keys, start + tf.range(tf.shape(memory)[1]))
        return keys, self._split_heads(values, memory, self.num_key_value_heads)

    def call(
        self,
        query,
        memory=None,
        memory_mask=None,
        keys=None,
        causal=False,
        start=0,
        query_mask=None,
        attention_mask=None,
        training=False,
    ):
        query = _dense_query(query, query_mask)
        if keys is None:
            memory, memory_mask = _dense_memory(memory, memory_mask)
            keys = self.project(memory)
        key_heads, value_heads = keys
        queries = _rows(query, self.query_kernel, self.query_bias)
        query_heads = self._split_heads(queries, query, self.num_heads)
        scores = self._scores(query_heads, key_heads, start)

        masks = [] if memory_mask is None else [tf.cast(memory_mask, tf.bool)[:, None, None, :]]
        if attention_mask is not None:
            masks.append(tf.cast(attention_mask, tf.bool)[..., None, :, :])
        if causal:
            masks.append(masking.causal_mask(tf.shape(query)[1], tf.shape(key_heads)[2], start))
        mask = functools.reduce(tf.logical_and, masks) if masks else None
        weights = tf.cast(masking.masked_softmax(scores, mask), value_heads.dtype)
        read = self._times(self.weights_dropout(weights, training=training), value_heads)
        read = tf.transpose(read, (0, 2, 1, 3))  # (B, T, H, key_dim)
        context = _rows(read, self.output_kernel, self.output_bias)
        return reshape(context, [*sizes(query)[:2], context.shape[-1]]), weights

    def _scores(self, query_heads, key_heads, start):
        """q k^T / sqrt(key_dim) with positions: (B, H, T, S), in float32 if these add a bias."""
        bias = None
        if self.positions is not None:
            query_positions = start + tf.range(tf.shape(query_heads)[2])
            query_heads = self.positions.rotate(query_heads, query_positions)
            bias = self.positions.bias(query_positions, tf.range(tf.shape(key_heads)[2]))
        query_heads *= tf.cast(self.key_dim**-0.5, query_heads.dtype)
        scores = self._times(query_heads, key_heads, transpose_b=True)
        return scores if bias is None else tf.cast(scores, tf.float32) + bias

    def _times(self, heads, shared, transpose_b=False):
        """Products of H heads with the Hkv that their groups share.

        (B, H, T, X) times (B, Hkv, X, Y) -> (B, H, T, Y). The heads of a group are further rows of
        one product, so that nothing of `shared` is copied.
        """
        if self.num_key_value_heads == self.num_heads:
            return tf.matmul(heads, shared, transpose_b=transpose_b)
        batch, _, steps, size = tf.unstack(tf.shape(heads))
        rows = self.num_heads // self.num_key_value_heads * steps
        folded = tf.reshape(heads, (batch, self.num_key_value_heads, rows, size))
        product = tf.matmul(folded, shared, transpose_b=transpose_b)
        return tf.reshape(product, (batch, self.num_heads, steps, tf.shape(product)[-1]))

    def _split_heads(self, rows, x, num_heads):
        """(B T, H key_dim), made from x (B, T, D) -> (B, H, T, key_dim)."""
        heads = reshape(rows, [*sizes(x)[:2], num_heads, self.key_dim])
        return tf.transpose(heads, (0, 2, 1, 3))

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "dropout": self.dropout,
            "num_key_value_heads": self.num_key_value_heads,
            "positions": sharing.serialize(self.positions),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "positions"))
