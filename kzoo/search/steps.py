"""Step functions: what a search asks of one, and how several become one.

    step(ids (N,), state, position) -> (logits (N, V), state)
                                    or (logits (N, V), weights (N, S), state)

`ids` are the tokens of the step before (`start_ids` at first), `position` is an int32 scalar, 0
for the first generated token. The first call has N = B rows, every later one N = B*K, with beam k
of sentence b in row b*K + k. `state` is any structure of tensors with N rows, `()` included; it
must keep its structure, dtypes and shapes; in a graph an axis of unknown size may grow, as that of
a cache does. The search repeats its rows and reorders them when
beams change places, so a step should close over whatever it only reads.

Axes: B batch, K beams, N rows of a step call, S source steps, V vocabulary.
"""

import math

import tensorflow as tf


def call_step(step, ids, state, position, end_id):
    """Calls a step function and checks what it returns.

    Args:
        step: function, see the top of this module.
        ids: (N,) int32.
        state: nested structure of tensors with N rows.
        position: int32 scalar.
        end_id: int.

    Returns:
        logits: (N, V). weights: (N, S) float32, S = 0 for a step without them. state: built like
        the one given.

    Raises:
        ValueError: `step` returns something else, or `end_id` is no token.
    """
    result = step(ids, state, position)
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        raise ValueError(
            f"`step` must return (logits, state) or (logits, weights, state), got {result!r}."
        )
    logits, *weights, new_state = result
    logits = tf.convert_to_tensor(logits)
    if logits.shape.rank != 2 or logits.shape[1] is None:
        raise ValueError(
            f"`step` must return logits (N, V) with a static V, got shape {logits.shape}."
        )
    if end_id >= logits.shape[1]:
        raise ValueError(
            "`end_id` must be less than the vocabulary size, "
            f"got end_id={end_id}, vocabulary size {logits.shape[1]}."
        )
    try:
        tf.nest.assert_same_structure(state, new_state, check_types=False)
    except ValueError as error:
        raise ValueError(f"`step` must return a state built like the one it got. {error}") from None
    new_state = [tf.convert_to_tensor(tensor) for tensor in tf.nest.flatten(new_state)]
    for old, new in zip(tf.nest.flatten(state), new_state, strict=True):
        if new.dtype != old.dtype or not new.shape.is_compatible_with(old.shape):
            raise ValueError(
                "`step` must return a state of the shapes and dtypes it got, "
                f"got {new.shape} {new.dtype.name} for {old.shape} {old.dtype.name}."
            )
        new.set_shape(old.shape)  # a step may lose static shapes, the loop may not
    new_state = tf.nest.pack_sequence_as(state, new_state)
    weights = tf.cast(weights[0], tf.float32) if weights else tf.zeros([tf.shape(ids)[0], 0])
    if weights.shape.rank != 2:
        raise ValueError(f"`step` must return weights (N, S), got shape {weights.shape}.")
    return logits, weights, new_state


def traced_once(step):
    """`step` for a graph that calls it at several places, as before a loop and in it: it is traced
    once, as long as nothing is known of the number of rows.

    A trace of a deep decoder takes about a second, and its part of every file that the graph is
    written to. A search that runs eagerly gets `step` itself.

    Args:
        step: function, see the top of this module; it is not told that a position is known.

    Returns:
        A step function.
    """
    if tf.executing_eagerly():
        return step
    # What a caller's AutoGraph would have rewritten, an `if` of a decoder of one's own, still is.
    caller = tf.__internal__.autograph.control_status_ctx().status
    return tf.function(step, autograph=caller.name == "ENABLED")


def ensemble_step(steps, normalize=None):
    """One step function from several: the mean of their probabilities.

        p(v) = 1/n sum_i softmax(logits_i)[v]

    The state is the tuple of the steps' states. The weights are the mean of the steps' weights, or
    none when a step has none or their numbers of source steps are known to differ.

    Args:
        steps: list of n step functions with one vocabulary.
        normalize: list of n bool, whether to take the softmax of a step's logits; None for all.
            Others are log-probabilities.

    Returns:
        A step function; its logits are log p.

    Raises:
        ValueError: there are no steps, or their vocabularies differ.

    Example:

    >>> steps = [
    ...     lambda ids, state, position: (tf.math.log([[0.2, 0.8]]), state),
    ...     lambda ids, state, position: (tf.math.log([[0.6, 0.4]]), state),
    ... ]
    >>> logits, state = kzoo.ensemble_step(steps)([1], ((), ()), 0)
    >>> tf.exp(logits).numpy().round(3)
    array([[0.4, 0.6]], dtype=float32)
    """
    steps = list(steps)
    if not steps:
        raise ValueError("`steps` must hold at least one step function, got [].")
    normalize = [True] * len(steps) if normalize is None else normalize

    def step(ids, states, position):
        logits, weights, new_states = [], [], []
        for one, state in zip(steps, states, strict=True):
            row_logits, *row_weights, state = one(ids, state, position)
            logits.append(tf.cast(row_logits, tf.float32))
            weights += row_weights
            new_states.append(state)
        sizes = [x.shape[-1] for x in logits]
        if len(set(sizes)) > 1:
            raise ValueError(f"`steps` must have one vocabulary, got the sizes {sizes}.")
        logits = [
            _log_softmax(x) if is_free else x for x, is_free in zip(logits, normalize, strict=True)
        ]
        log_p = tf.reduce_logsumexp(logits, axis=0)
        log_p -= math.log(len(steps))
        agree = all(x.shape.is_compatible_with(weights[0].shape) for x in weights)
        if len(weights) < len(steps) or not agree:
            return log_p, tuple(new_states)
        mean = tf.add_n([tf.cast(x, tf.float32) for x in weights]) / len(steps)
        return log_p, mean, tuple(new_states)

    return step


def _log_softmax(logits):
    return tf.where(logits == -math.inf, -math.inf, tf.nn.log_softmax(logits))  # all -inf: no NaN


def checked_start(start_ids, state):
    """Returns start ids (B,) and state as tensors.

    Raises:
        ValueError: they are not of one batch, or the ids are no integers.
    """
    start_ids = tf.convert_to_tensor(start_ids)
    if not start_ids.dtype.is_integer and start_ids.shape != [0]:  # an empty list is float
        raise ValueError(f"`start_ids` must be integers, got {start_ids.dtype.name}.")
    start_ids = tf.cast(start_ids, tf.int32)
    if start_ids.shape.rank != 1:
        raise ValueError(f"`start_ids` must have shape (B,), got shape {start_ids.shape}.")
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    for tensor in tf.nest.flatten(state):
        if tensor.shape.rank == 0 or not tensor.shape[:1].is_compatible_with(start_ids.shape):
            raise ValueError(
                "`state` must hold tensors with one row per start id, "
                f"got shape {tensor.shape} for start_ids of shape {start_ids.shape}."
            )
    return start_ids, state


def check_rows(name, tensor, start_ids):
    """Raises ValueError unless `tensor` has, as far as is known, one row per start id."""
    if not tensor.shape[:1].is_compatible_with(start_ids.shape):
        raise ValueError(
            f"`{name}` must have one row per start id, "
            f"got shape {tensor.shape} for start_ids of shape {start_ids.shape}."
        )


def repeat_rows(tensor, times):
    """(B, ...) -> (B*times, ...), row b in rows b*times to b*times + times - 1."""
    if times == 1:
        return tensor
    rows = tensor.shape[0]
    repeated = tf.repeat(tensor, times, axis=0)
    repeated.set_shape([None if rows is None else rows * times, *tensor.shape[1:]])
    return repeated
