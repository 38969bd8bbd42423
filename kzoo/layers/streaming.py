"""Recurrent networks over streams that come in chunks: state in, state out, or kept for `fit`.

Axis letters: B batch (one stream a row), T steps of a chunk, F features, U units.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking, recurrent
from kzoo.layers.dropout import Dropout

# Under a distribution strategy each replica keeps the states of its own rows of a batch.
_OF_A_REPLICA = {
    "synchronization": tf.VariableSynchronization.ON_READ,
    "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
}


@keras.saving.register_keras_serializable("kzoo")
class StreamingRNN(keras.layers.Layer):
    """A stack of RNNs that takes up a stream where the state says, and returns where it got to:

        x^1, state^1 = RNN^1(x, state^1),    x^l, state^l = x^(l-1) + RNN^l(x^(l-1), state^l)

    The stack of RecurrentEncoder, read forward; residuals as in Wu et al. (2016),
    https://arxiv.org/abs/1609.08144, section 3.1. A stream in chunks gives what it gives as a
    whole. Nothing is kept between calls, so this is what a server gets: an exported layer that
    kept its state would share it between all clients.

    Args:
        units: int, size U of the states and of `y`.
        num_layers: int, L.
        cell: "lstm", "gru" or "simple"; their equations stand at the top of `recurrent`.
        dropout: float in [0, 1), share of each layer's inputs dropped in training.

    Call arguments:
        x: (B, T, F) float, dense or ragged; T may be 0.
        state: for each layer a tuple of (B, U): h and, for LSTM, c; as this layer returned it,
            or None for `initial_state`.
        reset: (B,) bool; True means that the row's stream starts anew with this chunk.
        mask: (B, T) bool, True = real; None means all. Filled in by Keras if `x` is the only
            tensor argument and carries a mask.
        x_mask: the same, filled in by Keras when there are several tensor arguments.

    Returns:
        y: (B, T, U), zeros where `mask` is False, with the mask of `x` for Keras.
        state: like the argument; a masked step keeps the state before it.

    Raises:
        ValueError: if a size is not positive, `cell` is unknown, `dropout` is outside [0, 1), or
            `state` has other layers or tensors than this stack.

    Example:
        >>> rnn = kzoo.StreamingRNN(units=4)
        >>> y, state = rnn(tf.ones((2, 3, 5)))
        >>> y, state = rnn(tf.ones((2, 7, 5)), state, reset=tf.constant([False, True]))
        >>> y.shape
        TensorShape([2, 7, 4])
    """

    def __init__(self, units, num_layers=1, cell="lstm", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        recurrent.check_arguments(units, num_layers, cell, dropout)
        self.units = units
        self.num_layers = num_layers
        self.cell = cell
        self.dropout = dropout
        policy = self.dtype_policy
        self.rnns = [recurrent.make_rnn(cell, units, policy) for _ in range(num_layers)]
        self.input_dropout = Dropout(dropout, dtype=policy)
        self.supports_masking = True

    def build(self, x_shape):
        size = x_shape[-1]
        for rnn in self.rnns:
            rnn.build((x_shape[0], None, size))
            size = self.units

    def initial_state(self, batch_size):
        """Returns the state before a stream: for each layer a tuple of (batch_size, U) zeros."""
        count = recurrent.num_states(self.cell)
        zeros = tf.zeros((batch_size, self.units), self.compute_dtype)
        return ((zeros,) * count,) * self.num_layers

    def call(self, x, state=None, reset=None, mask=None, x_mask=None, training=False):
        mask = x_mask if mask is None else mask
        # Without a mask the loop has nothing to choose between.
        if mask is not None or isinstance(x, tf.RaggedTensor):
            x, mask = masking.to_dense(x, mask)
            x = masking.blank(x, mask)
        x = tf.cast(x, self.compute_dtype)
        if state is None:
            state = self.initial_state(tf.shape(x)[0])
        self._check(state)
        # A loop wants to know of all its tensors alike whether their rows are known.
        rows = x.shape[0] or tf.nest.flatten(state)[0].shape[0]
        x = tf.ensure_shape(x, (rows, None, None))
        if reset is not None:
            anew = tf.ensure_shape(tf.cast(reset, tf.bool), (rows,))[:, None]
            state = tf.nest.map_structure(lambda s: tf.where(anew, tf.zeros([], s.dtype), s), state)
        steps, known_steps = tf.shape(x)[1], x.shape[1]
        x, padded_mask = masking.at_least_one_step(x, mask)
        y, new_state = recurrent.run_stack(
            self.rnns, self.input_dropout, x, padded_mask, state, training=training
        )
        y = y[:, :steps] if mask is None else masking.blank(y[:, :steps], mask)
        if not known_steps and mask is None:  # the step that was added has no mask
            flat = zip(tf.nest.flatten(new_state), tf.nest.flatten(state), strict=True)
            flat = [tf.where(steps > 0, new, tf.cast(old, new.dtype)) for new, old in flat]
            new_state = tf.nest.pack_sequence_as(new_state, flat)
        return y, new_state

    def _check(self, state):
        count = recurrent.num_states(self.cell)
        found = [len(tf.nest.flatten(tensors)) for tensors in state]
        if found != [count] * self.num_layers:
            raise ValueError(
                f"`state` must have {self.num_layers} layers of {count} tensors each, "
                f"got layers of {found} tensors."
            )

    def compute_mask(self, x, previous_mask=None):
        return masking.carried_mask(x, previous_mask)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("kzoo")
class StatefulRNN(keras.layers.Layer):
    """StreamingRNN that keeps its state from one batch to the next, for `fit` on long streams:

        y, state = StreamingRNN(x, stop_gradient(state))

    No gradient goes back past the beginning of a chunk: that is truncated backpropagation through
    time with chunks that do not overlap, BPTT(T; T) of Williams & Peng (1990),
    https://doi.org/10.1162/neco.1990.2.4.490. Row b of a batch goes on where row b of the batch
    before ended, so the data set must not be shuffled. The number of rows is free. Under a
    distribution strategy each replica keeps the states of its own part of the rows.

    Training and inference have a state each, so that an `evaluate` in the middle of a `fit` leaves
    the training stream alone; `evaluate` and `predict` share the other one. The states are
    transient: they are no weights and do not go to a file. For a server, export `self.rnn`.
    As for dropout, the `call` of a subclassed model must take `training`, or Keras does not say
    when it trains.

    Args:
        units, num_layers, cell, dropout: as in StreamingRNN, which is `self.rnn`.

    Call arguments:
        x: (B, T, F) float, dense or ragged; T may be 0.
        reset: (B,) bool; True means that the row's stream starts anew with this chunk. Give it
            for the first chunk of every epoch, or what was last seen is taken up.
        mask: (B, T) bool, True = real; None means all. Filled in by Keras if `x` is the only
            tensor argument and carries a mask.
        x_mask: the same, filled in by Keras when there are several tensor arguments.

    Returns:
        y: (B, T, U), zeros where `mask` is False, with the mask of `x` for Keras.

    Raises:
        ValueError: as StreamingRNN.
        tf.errors.InvalidArgumentError: if B is not the number of rows that are stored and some
            row does not start anew.

    Example:
        >>> rnn = kzoo.StatefulRNN(units=4)
        >>> first = rnn(tf.ones((2, 3, 5)))
        >>> second = rnn(tf.ones((2, 3, 5)))
        >>> rnn.reset()
        >>> again = rnn(tf.ones((2, 3, 5)))
        >>> bool(np.allclose(first, again)), bool(np.allclose(first, second))
        (True, False)
    """

    def __init__(self, units, num_layers=1, cell="lstm", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.rnn = StreamingRNN(units, num_layers, cell, dropout, dtype=self.dtype_policy)
        self.training_state = self._nothing_stored()
        self.inference_state = self._nothing_stored()
        # Variables of their own: from `tf.shape(state)` Grappler (TensorFlow 2.21) makes the rows
        # that are going to be assigned.
        self.training_rows = tf.Variable(0, trainable=False, name="rows", **_OF_A_REPLICA)
        self.inference_rows = tf.Variable(0, trainable=False, name="rows", **_OF_A_REPLICA)
        self.supports_masking = True
        # XLA knows no variable whose shape changes; `fit` asks this.
        self.supports_jit = False

    def _nothing_stored(self):
        # Plain variables of TensorFlow: Keras's have a fixed shape and go to the file.
        return tuple(
            tf.Variable(
                zeros, trainable=False, shape=(None, self.rnn.units), name="state", **_OF_A_REPLICA
            )
            for zeros in tf.nest.flatten(self.rnn.initial_state(0))
        )

    def build(self, x_shape):
        if not self.rnn.built:
            self.rnn.build(x_shape)

    def reset(self):
        """Forgets the states of all rows, of training and of inference."""
        for variable in (*self.training_state, *self.inference_state):
            variable.assign(tf.zeros((0, self.rnn.units), variable.dtype))
        for variable in (self.training_rows, self.inference_rows):
            variable.assign(0)

    def call(self, x, reset=None, mask=None, x_mask=None, training=False):
        variables = self.training_state if training else self.inference_state
        stored_rows = self.training_rows if training else self.inference_rows
        mask = x_mask if mask is None else mask
        rows = x.nrows(tf.int32) if isinstance(x, tf.RaggedTensor) else tf.shape(x)[0]
        state = self._read(variables, stored_rows, rows, reset)
        y, new_state = self.rnn(x, state, reset=reset, mask=mask, training=training)
        for variable, new in zip(variables, tf.nest.flatten(new_state), strict=True):
            variable.assign(tf.stop_gradient(new))
        stored_rows.assign(rows)
        return y

    def _read(self, variables, stored_rows, rows, reset):
        """Returns the stored state, or zeros if it is that of another number of rows."""
        flat = [tf.stop_gradient(variable.read_value()) for variable in variables]
        stored = stored_rows.read_value()
        allowed = (stored == 0) | (stored == rows)
        if reset is not None:
            allowed |= tf.reduce_all(tf.cast(reset, tf.bool))
        rule = (
            "StatefulRNN: the number of rows may change only if all of them start anew, "
            "by `reset` or after `reset()`; rows stored and rows of `x`:"
        )
        check = tf.debugging.Assert(allowed, [rule, stored, rows])
        with tf.control_dependencies([] if check is None else [check]):  # None: it ran eagerly
            flat = [
                tf.cond(
                    tf.equal(stored, rows),
                    lambda s=s: s,
                    lambda s=s: tf.zeros((rows, s.shape[1]), s.dtype),
                )
                for s in flat
            ]
        return tf.nest.pack_sequence_as(self.rnn.initial_state(1), flat)

    def compute_mask(self, x, previous_mask=None):
        return masking.carried_mask(x, previous_mask)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.rnn.units,
            "num_layers": self.rnn.num_layers,
            "cell": self.rnn.cell,
            "dropout": self.rnn.dropout,
        }
