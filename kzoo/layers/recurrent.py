"""Recurrent networks: encoders, flat and pyramidal, and a decoder that attends.

Axis letters: B batch, T target steps, S source steps, D features, U units, N rows of one decoding
step (B, or B*K for K beams). The recurrences themselves are those of Keras, for x_t and h_(t-1):

    simple: h_t = tanh(W x_t + R h_(t-1) + b), Elman (1990),
        https://doi.org/10.1207/s15516709cog1402_1
    lstm: i, f, o = sigmoid(W x_t + R h_(t-1) + b), g = tanh(W x_t + R h_(t-1) + b), each with
        its own W, R, b; c_t = f * c_(t-1) + i * g, h_t = o * tanh(c_t). Hochreiter & Schmidhuber
        (1997), https://doi.org/10.1162/neco.1997.9.8.1735, with the forget gate f of Gers et al.
        (2000), https://doi.org/10.1162/089976600300015015
    gru: z, r = sigmoid(W x_t + R h_(t-1) + b), n = tanh(W x_t + b + r * (R h_(t-1) + b')),
        h_t = z * h_(t-1) + (1 - z) * n. Cho et al. (2014), https://arxiv.org/abs/1406.1078, with
        the reset gate after the product.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking, sharing

_RNNS = {
    "lstm": keras.layers.LSTM,
    "gru": keras.layers.GRU,
    "simple": keras.layers.SimpleRNN,
}
_CELLS = {
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
    "simple": keras.layers.SimpleRNNCell,
}


def num_states(cell):
    """Returns how many tensors the state of a cell has: h, and c for "lstm"."""
    return 2 if cell == "lstm" else 1


def check_arguments(units, num_layers, cell, dropout):
    """Raises a ValueError that names what is wrong with the size of a stack."""
    if units < 1 or num_layers < 1:
        raise ValueError(
            f"`units` and `num_layers` must be at least 1, "
            f"got units={units}, num_layers={num_layers}."
        )
    if cell not in _CELLS:
        raise ValueError(f'`cell` must be "lstm", "gru" or "simple", got cell={cell!r}.')
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must lie in [0, 1), got dropout={dropout}.")


def _build_embedding(embedding, shape):
    """Builds the embedding, unless its other owner did; returns its number of features D."""
    if not embedding.built:
        embedding.build(shape)
    dtype = "int32" if len(shape) == 2 else "float32"  # ids, or features
    return embedding.compute_output_spec(keras.KerasTensor(shape, dtype)).shape[-1]


@keras.saving.register_keras_serializable("kzoo")
class Float32Orthogonal(keras.initializers.Orthogonal):
    """Orthogonal matrices for weights of a dtype which TensorFlow cannot factorize in: bfloat16."""

    def __call__(self, shape, dtype=None):
        return tf.cast(super().__call__(shape, "float32"), dtype)


def _initializers(policy):
    if policy.variable_dtype == "bfloat16":
        return {"recurrent_initializer": Float32Orthogonal()}
    return {}


def make_rnn(cell, units, policy, direction="forward"):
    """Returns Keras's layer of a cell, which gives (y, *states)."""
    rnn = _RNNS[cell](
        units,
        return_sequences=True,
        return_state=True,
        go_backwards=direction == "backward",
        dtype=policy,
        **_initializers(policy),
    )
    if direction == "bidirectional":
        return keras.layers.Bidirectional(rnn, dtype=policy)
    return rnn


def at_least_one_step(x, mask):
    """Gives a sequence without any step a masked one: Keras's RNNs cannot run over none.

    Args:
        x: (B, S, D). mask: (B, S) bool, or None, which stays None.

    Returns:
        x: (B, max(S, 1), D). mask: (B, max(S, 1)), False in a step that was added.
    """
    if mask is not None:
        mask = tf.ensure_shape(mask, x.shape[:2])
    if x.shape[1]:
        return x, mask
    missing = tf.maximum(1 - tf.shape(x)[1], 0)
    steps = None if x.shape[1] is None else 1
    x = tf.ensure_shape(tf.pad(x, [[0, 0], [0, missing], [0, 0]]), (x.shape[0], steps, x.shape[2]))
    if mask is not None:
        mask = tf.ensure_shape(tf.pad(mask, [[0, 0], [0, missing]]), x.shape[:2])
    return x, mask


def run_stack(rnns, dropout, x, mask, states=None, backward=False, training=False):
    """x^1 = RNN^1(x), x^l = x^(l-1) + RNN^l(x^(l-1)): a residual stack, each input with dropout.

    Args:
        rnns: list of L layers from `make_rnn`. dropout: keras.layers.Dropout.
        x: (B, S, D) with at least one step. mask: (B, S) bool, or None if all steps are real.
        states: for each layer a tuple of (B, U), or None for zeros.
        backward: bool, whether the layers read from the end; x^l stands in source order.

    Returns:
        x^L: (B, S, U). final_states: like `states`; a masked step keeps what was before it.
    """
    final_states = []
    for index, rnn in enumerate(rnns):
        y, *final = rnn(
            dropout(x, training=training),
            initial_state=None if states is None else list(states[index]),
            mask=mask,
            training=training,
        )
        if backward:
            y = tf.reverse(y, [1])
        x = x + y if index else y
        final_states.append(tuple(final))
    return x, tuple(final_states)


def _read_source(embedding, source, source_mask):
    """Returns the embedded source (B, S, D) and its mask, for a source of any kind."""
    source, source_mask = masking.to_dense(source, source_mask)
    if source.dtype.is_floating:
        # A NaN in the padding would get into the gradient of the embedding.
        source = masking.blank(source, source_mask)
    return embedding(source), source_mask


@keras.saving.register_keras_serializable("kzoo")
class RecurrentEncoder(keras.layers.Layer):
    """A stack of RNNs over the source, with residual connections from layer 2 on:

        x^1 = RNN^1(embedding(source)),    x^l = x^(l-1) + RNN^l(x^(l-1)),    memory = x^L

    Bidirectional as in Bahdanau et al. (2015), https://arxiv.org/abs/1409.0473, section 3.2:
    each step holds both directions side by side. "backward" reads the source from its end, as
    Sutskever et al. (2014), https://arxiv.org/abs/1409.3215, section 3.3, do; its memory stands in
    source order all the same, so that step 0 has seen everything. Residuals as in Wu et al.
    (2016), https://arxiv.org/abs/1609.08144, section 3.1.

    Args:
        embedding: layer that takes the source to (B, S, D), e.g. TokenEmbedding for ids or
            keras.layers.Dense for features.
        units: int, size U of each direction's state.
        num_layers: int, L.
        cell: "lstm", "gru" or "simple"; their equations stand at the top of this module.
        direction: "forward", "backward" or "bidirectional".
        dropout: float in [0, 1), share of each layer's inputs dropped in training.

    Call arguments:
        source: (B, S) int ids or (B, S, F) float features, dense or ragged.
        source_mask: (B, S) bool; None means `source != 0` for ids and all True for features.
        mask: the same, filled in by Keras when `source` is the only tensor argument and carries
            a mask.

    Returns:
        memory: (B, S, U), or (B, S, 2U) if bidirectional; zeros in the padding, with its mask
            for Keras.
        memory_mask: (B, S) bool.
        final_state: for each layer a tuple of (B, U) tensors: h and, for LSTM, c; forward
            before backward. A row without any step has zeros.

    Raises:
        ValueError: if a size is not positive, `cell` or `direction` is unknown, or `dropout` is
            outside [0, 1).

    Example:
        >>> encoder = kzoo.RecurrentEncoder(kzoo.TokenEmbedding(100, 8), units=4)
        >>> memory, memory_mask, final_state = encoder(tf.constant([[5, 6, 2, 0]]))
        >>> memory.shape
        TensorShape([1, 4, 8])
        >>> memory_mask.numpy().tolist()
        [[True, True, True, False]]
    """

    def __init__(
        self,
        embedding,
        units,
        num_layers=1,
        cell="lstm",
        direction="bidirectional",
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_arguments(units, num_layers, cell, dropout)
        if direction not in ("forward", "backward", "bidirectional"):
            raise ValueError(
                f'`direction` must be "forward", "backward" or "bidirectional", '
                f"got direction={direction!r}."
            )
        self.embedding = embedding
        self.units = units
        self.num_layers = num_layers
        self.cell = cell
        self.direction = direction
        self.dropout = dropout
        policy = self.dtype_policy
        self.rnns = [make_rnn(cell, units, policy, direction) for _ in range(num_layers)]
        self.input_dropout = keras.layers.Dropout(dropout, dtype=policy)
        # The mask is an output; this keeps Keras from warning that the one of `source` is lost.
        self.supports_masking = True

    def build(self, source_shape):
        size = _build_embedding(self.embedding, source_shape)
        for rnn in self.rnns:
            rnn.build((*source_shape[:2], size))
            size = 2 * self.units if self.direction == "bidirectional" else self.units

    def call(self, source, source_mask=None, mask=None, training=False):
        source_mask = mask if source_mask is None else source_mask
        x, source_mask = _read_source(self.embedding, source, source_mask)
        x, padded_mask = at_least_one_step(x, source_mask)
        x, final_state = run_stack(
            self.rnns,
            self.input_dropout,
            x,
            padded_mask,
            backward=self.direction == "backward",
            training=training,
        )
        steps = tf.shape(source_mask)[1]
        memory = masking.blank(x[:, :steps], source_mask)  # a masked step repeats the state
        return masking.carry_mask(memory, source_mask), source_mask, final_state

    def compute_mask(self, source, previous_mask):
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "embedding": sharing.serialize(self.embedding),
            "units": self.units,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "direction": self.direction,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config):
        embedding = keras.saving.deserialize_keras_object(config["embedding"])
        return cls(**{**config, "embedding": embedding})


def join_steps(x, mask, factor):
    """Puts `factor` consecutive steps side by side; what is missing or masked is zeros.

    Args:
        x: (B, S, D). mask: (B, S) bool. factor: int.

    Returns:
        x: (B, ceil(S / factor), factor * D). mask: True where any of the joined steps is real.
    """
    x = masking.blank(x, mask)
    batch, size = tf.shape(x)[0], x.shape[2]
    steps = -(-tf.shape(x)[1] // factor)
    missing = steps * factor - tf.shape(x)[1]
    x = tf.pad(x, [[0, 0], [0, missing], [0, 0]])
    mask = tf.pad(mask, [[0, 0], [0, missing]])
    mask = tf.reduce_any(tf.reshape(mask, (batch, steps, factor)), -1)
    return tf.reshape(x, (batch, steps, factor * size)), mask


@keras.saving.register_keras_serializable("kzoo")
class PyramidalEncoder(keras.layers.Layer):
    """A bidirectional stack in which each layer after the first reads several steps as one:

        x^1 = BiRNN^1(embedding(source)),
        x^l_s = BiRNN^l([x^(l-1)_(f s); ...; x^(l-1)_(f s + f - 1)]),    memory = x^L

    Chan et al. (2016), Listen, Attend and Spell, https://arxiv.org/abs/1508.01211, section 3.1,
    with f = 2 and a plain layer followed by three such: an attention over 100 speech frames a
    second would not learn where to look. There are no residual connections, for the sizes differ.

    Args:
        embedding: layer that takes the source to (B, S, D), e.g. keras.layers.Dense.
        units: int, size U of each direction's state.
        num_layers: int, L, the first layer included.
        cell: "lstm", "gru" or "simple"; their equations stand at the top of this module.
        dropout: float in [0, 1), share of each layer's inputs dropped in training.
        factor: int of at least 2, f, how many steps are read as one.

    Call arguments:
        source: (B, S) int ids or (B, S, F) float features, dense or ragged.
        source_mask: (B, S) bool; None means `source != 0` for ids and all True for features.
        mask: the same, filled in by Keras when `source` is the only tensor argument and carries
            a mask.

    Returns:
        memory: (B, S', 2U) with S' = ceil(S / f^(L-1)); zeros in the padding.
        memory_mask: (B, S') bool; a step is real if any step of the source in it is. Parts that
            are missing are read as zeros.
        final_state: for each layer a tuple of (B, U) tensors: h and, for LSTM, c; forward
            before backward. A row without any step has zeros.

    Raises:
        ValueError: if a size is not positive, `cell` is unknown, `dropout` is outside [0, 1), or
            `factor` is less than 2.

    Example:
        >>> encoder = kzoo.PyramidalEncoder(keras.layers.Dense(8), units=4, num_layers=3)
        >>> memory, memory_mask, final_state = encoder(tf.ones((1, 9, 5)))
        >>> memory.shape
        TensorShape([1, 3, 8])
    """

    def __init__(self, embedding, units, num_layers, cell="lstm", dropout=0.0, factor=2, **kwargs):
        super().__init__(**kwargs)
        check_arguments(units, num_layers, cell, dropout)
        if factor < 2:
            raise ValueError(f"`factor` must be at least 2, got factor={factor}.")
        self.embedding = embedding
        self.units = units
        self.num_layers = num_layers
        self.cell = cell
        self.dropout = dropout
        self.factor = factor
        policy = self.dtype_policy
        self.rnns = [make_rnn(cell, units, policy, "bidirectional") for _ in range(num_layers)]
        self.input_dropout = keras.layers.Dropout(dropout, dtype=policy)
        # The mask is an output; this keeps Keras from warning that the one of `source` is lost.
        self.supports_masking = True

    @property
    def stride(self):
        """Source steps from the beginning of one memory step to that of the next."""
        return self.factor ** (self.num_layers - 1)

    def build(self, source_shape):
        size = _build_embedding(self.embedding, source_shape)
        for rnn in self.rnns:
            rnn.build((source_shape[0], None, size))
            size = self.factor * 2 * self.units

    def call(self, source, source_mask=None, mask=None, training=False):
        source_mask = mask if source_mask is None else source_mask
        x, source_mask = _read_source(self.embedding, source, source_mask)
        steps = tf.shape(source_mask)[1]
        x, mask = at_least_one_step(x, source_mask)
        final_state = []
        for index, rnn in enumerate(self.rnns):
            if index:
                x, mask = join_steps(x, mask, self.factor)
                steps = -(-steps // self.factor)
            x, states = run_stack([rnn], self.input_dropout, x, mask, training=training)
            final_state += states
        memory_mask = mask[:, :steps]
        memory = masking.carry_mask(masking.blank(x[:, :steps], memory_mask), memory_mask)
        return memory, memory_mask, tuple(final_state)

    def compute_mask(self, source, previous_mask):
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "embedding": sharing.serialize(self.embedding),
            "units": self.units,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "dropout": self.dropout,
            "factor": self.factor,
        }

    @classmethod
    def from_config(cls, config):
        embedding = keras.saving.deserialize_keras_object(config["embedding"])
        return cls(**{**config, "embedding": embedding})


@keras.saving.register_keras_serializable("kzoo")
class AttentionDecoder(keras.layers.Layer):
    """A stack of recurrent cells that reads the memory through an attention layer.

    With attend="before" the previous state asks, and the context is an input of the cells:

        context_t = attention(s_(t-1), memory),    s_t = RNN([e_t; context_t], s_(t-1)),
        hidden_t = tanh(W [s_t; context_t; e_t] + b)

    Bahdanau et al. (2015), https://arxiv.org/abs/1409.0473, appendix A.2, with the tanh output
    of Sennrich et al. (2017), https://arxiv.org/abs/1703.04357, in place of maxout. With
    attend="after" the current state asks, and the answer is fed to the next step:

        s_t = RNN([e_t; hidden_(t-1)], s_(t-1)),    context_t = attention(s_t, memory),
        hidden_t = tanh(W [context_t; s_t] + b)

    Luong et al. (2015), https://arxiv.org/abs/1508.04025, sections 3 and 3.3; hidden_(-1) = 0.
    e_t is the embedding of ids_t, and s_t the output of the stack, whose layers have residual
    connections from layer 2 on. Every layer starts from a bridge (Sennrich et al. 2017),

        s_(-1) = tanh(W m + b),    m = the mean of the memory's real steps, or its first step.

    With FixedContext as attention and summary="first", this is the decoder without attention. With
    gate_context, how much of the context is read at all depends on the state q_t that asked for it:

        context_t = sigmoid(v . q_t + b) attention(q_t, memory)

    Xu et al. (2015), https://arxiv.org/abs/1502.03044, section 4.2.1.

    Args:
        embedding: layer that takes ids (B, T) to (B, T, D), e.g. TokenEmbedding.
        units: int, size U of the states and of `hidden`.
        attention: attention layer; of several heads the mean of the weights is returned.
        num_layers: int, number of cells.
        cell: "lstm", "gru" or "simple"; their equations stand at the top of this module.
        attend: "before" or "after" the cells are run.
        input_feeding: bool, whether `hidden` is fed to the next step; attend="after" only.
        summary: "mean" or "first", what the initial state is made from.
        dropout: float in [0, 1), share of embedding features and of `hidden` dropped in training.
        gate_context: bool, whether a learned gate in (0, 1) scales each context.

    Call arguments:
        ids: (B, T) int, dense or ragged, the target shifted right.
        memory: (B, S, Dm) float, dense or ragged.
        memory_mask: (B, S) bool, True = real. Keras fills it in from `memory`.

    Returns:
        hidden: (B, T, U), with the mask of `ids` if Keras knows one. weights: (B, T, S).

    Raises:
        ValueError: if a size is not positive, `cell`, `attend` or `summary` is unknown, `dropout`
            is outside [0, 1), or attend="before" meets input_feeding=True.

    Example:
        >>> attention = kzoo.LuongAttention("general")
        >>> decoder = kzoo.AttentionDecoder(kzoo.TokenEmbedding(100, 8), 4, attention)
        >>> hidden, weights = decoder(tf.constant([[1, 7, 9]]), tf.ones((1, 5, 6)))
        >>> hidden.shape, weights.shape
        (TensorShape([1, 3, 4]), TensorShape([1, 3, 5]))
    """

    def __init__(
        self,
        embedding,
        units,
        attention,
        num_layers=1,
        cell="lstm",
        attend="after",
        input_feeding=None,
        summary="mean",
        dropout=0.0,
        gate_context=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_arguments(units, num_layers, cell, dropout)
        if attend not in ("before", "after"):
            raise ValueError(f'`attend` must be "before" or "after", got attend={attend!r}.')
        if input_feeding and attend == "before":
            raise ValueError(
                '`input_feeding` goes with attend="after": attend="before" feeds the context. '
                f"Got input_feeding={input_feeding}, attend={attend!r}."
            )
        if summary not in ("mean", "first"):
            raise ValueError(f'`summary` must be "mean" or "first", got summary={summary!r}.')
        self.embedding = embedding
        self.units = units
        self.attention = attention
        self.num_layers = num_layers
        self.cell = cell
        self.attend = attend
        self.input_feeding = attend == "after" if input_feeding is None else input_feeding
        self.summary = summary
        self.dropout = dropout
        self.gate_context = gate_context
        policy = self.dtype_policy
        self.num_states = num_states(cell)
        self.cells = [
            _CELLS[cell](units, dtype=policy, **_initializers(policy)) for _ in range(num_layers)
        ]
        self.bridges = [
            keras.layers.Dense(units * self.num_states, activation="tanh", dtype=policy)
            for _ in range(num_layers)
        ]
        self.readout = keras.layers.Dense(units, activation="tanh", dtype=policy)
        self.gate = None
        if gate_context:
            self.gate = keras.layers.Dense(1, activation="sigmoid", dtype=policy)
        self.embedding_dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.hidden_dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.supports_masking = True

    def build(self, ids_shape, memory_shape):
        embedding_size = _build_embedding(self.embedding, ids_shape)
        query_shape = (memory_shape[0], None, self.units)
        if not self.attention.built:
            self.attention.build(query_shape, memory_shape)
        dtype = self.attention.compute_dtype
        context, _ = self.attention.compute_output_spec(
            keras.KerasTensor(query_shape, dtype), keras.KerasTensor(memory_shape, dtype)
        )
        context_size = context.shape[-1]
        if self.attend == "before":
            fed_size, read_size = context_size, embedding_size + context_size + self.units
        else:
            fed_size = self.units if self.input_feeding else 0
            read_size = context_size + self.units
        size = embedding_size + fed_size
        for cell, bridge in zip(self.cells, self.bridges, strict=True):
            cell.build((None, size))
            bridge.build((None, memory_shape[-1]))
            size = self.units
        self.readout.build((None, read_size))
        if self.gate is not None:
            self.gate.build((None, self.units))

    def call(self, ids, memory, memory_mask=None, training=False):
        ids, _ = masking.to_dense(ids)
        prepared = self.prepare(memory, memory_mask)
        state = self.initial_state(prepared, tf.shape(ids)[1])
        embedded = tf.cast(self.embedding(ids), self.compute_dtype)
        embedded = self.embedding_dropout(embedded, training=training)
        # One step is run even for none: an empty TensorArray cannot be stacked.
        embedded, _ = at_least_one_step(embedded, None)
        length = tf.shape(embedded)[1]
        # A TensorArray hands out single steps without an O(T) gradient for each of them.
        inputs = tf.TensorArray(self.compute_dtype, length)
        inputs = inputs.unstack(tf.transpose(embedded, (1, 0, 2)))
        rows = embedded.shape[0]

        def one_step(t, hiddens, alignments, state):
            x = tf.ensure_shape(inputs.read(t), (rows, embedded.shape[-1]))
            hidden, weights, state = self._step(x, state, prepared, training)
            return t + 1, hiddens.write(t, hidden), alignments.write(t, weights), state

        outputs = tf.TensorArray(self.compute_dtype, length)
        _, hiddens, alignments, _ = tf.while_loop(
            lambda t, *_: t < length,
            one_step,
            (0, outputs, tf.TensorArray(self.compute_dtype, length), state),
            maximum_iterations=length,
        )
        steps = tf.shape(ids)[1]
        hidden = tf.transpose(hiddens.stack(), (1, 0, 2))[:, :steps]
        hidden = tf.ensure_shape(hidden, (rows, ids.shape[1], self.units))
        weights = tf.transpose(alignments.stack(), (1, 0, 2))[:, :steps]
        weights = tf.ensure_shape(weights, (rows, ids.shape[1], prepared["memory_mask"].shape[1]))
        return self.hidden_dropout(hidden, training=training), weights

    def compute_mask(self, ids, previous_mask=None):
        return masking.carried_mask(ids, previous_mask)

    def prepare(self, memory, memory_mask=None):
        """Returns what every step reads: the memory, its mask, the projected keys; B rows."""
        memory, memory_mask = masking.to_dense(memory, memory_mask)
        memory = masking.blank(tf.cast(memory, self.compute_dtype), memory_mask)
        keys = self.attention.project(memory)
        return {"memory": memory, "memory_mask": memory_mask, "keys": keys}

    def initial_state(self, prepared, max_length):
        """Returns the state before step 0: the cells' states and what is fed to it; B rows.

        Args:
            prepared: from `prepare`.
            max_length: int or None, taken for the contract; a recurrent state has no length.

        Returns:
            {"cells": for each layer a tuple of (B, U), "fed": (B, U), or (B, 0) if nothing is,
            "attention": the attention's own state}.
        """
        memory, mask = prepared["memory"], prepared["memory_mask"]
        if self.summary == "first":
            memory, mask = memory[:, :1], mask[:, :1]
        summary = masking.masked_mean(memory, mask)
        cells = tuple(
            tuple(tf.split(bridge(summary), self.num_states, axis=-1)) for bridge in self.bridges
        )
        fed = cells[0][0] if self.input_feeding else cells[0][0][:, :0]
        attention = self.attention.initial_state(prepared["memory_mask"])
        return {"cells": cells, "fed": tf.zeros_like(fed), "attention": attention}

    def step(self, ids, state, position, prepared):
        """Decodes one step of N = B rows, or of N = B*K with the K beams of a row side by side.

        Args:
            ids: (N,) int.
            state: from `initial_state` or from the step before, N rows.
            position: int, taken for the contract; a recurrent state knows what came before.
            prepared: from `prepare`, B rows.

        Returns:
            hidden: (N, U). weights: (N, S). state: for the next step.
        """
        embedded = tf.cast(self.embedding(ids[:, None])[:, 0], self.compute_dtype)
        return self._step(embedded, state, prepared, training=False)

    def _step(self, embedded, state, prepared, training):
        if self.attend == "before":
            # With residual connections the output of the stack is the sum of its layers' h.
            previous = tf.add_n([states[0] for states in state["cells"]])
            context, weights, attention = self._attend(
                previous, state["attention"], prepared, training
            )
            output, cells = self._run_cells([embedded, context], state["cells"])
            hidden = self.readout(tf.concat([output, context, embedded], -1))
        else:
            output, cells = self._run_cells([embedded, state["fed"]], state["cells"])
            context, weights, attention = self._attend(
                output, state["attention"], prepared, training
            )
            hidden = self.readout(tf.concat([context, output], -1))
        fed = hidden if self.input_feeding else state["fed"]
        new_state = {"cells": cells, "fed": fed, "attention": attention}
        tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), new_state, state)
        return hidden, weights, new_state

    def _run_cells(self, inputs, states):
        x = tf.concat(inputs, -1)
        new_states = []
        for index, cell in enumerate(self.cells):
            y, new = cell(x, list(states[index]))
            x = x + y if index else y
            new_states.append(tuple(new))
        return x, tuple(new_states)

    def _attend(self, query, state, prepared, training):
        """Attends from N rows to B memories: context (N, Dm), weights (N, S), new state."""
        mask = prepared["memory_mask"]
        rows, steps = tf.shape(mask)[0], tf.shape(mask)[1]
        beams = tf.shape(query)[0] // tf.maximum(rows, 1)

        def fold(x):
            return tf.reshape(x, tf.concat([[rows, beams], tf.shape(x)[1:]], 0))

        def unfold(x):
            return tf.reshape(x, tf.concat([[rows * beams], tf.shape(x)[2:]], 0))

        context, weights, state = self.attention.step(
            tf.ensure_shape(fold(query), (None, None, self.units)),
            prepared["memory"],
            mask,
            prepared["keys"],
            tf.nest.map_structure(fold, state),
            training=training,
        )
        if weights.shape.rank == 4:  # (B, H, K, S)
            weights = tf.reduce_mean(weights, 1)
        context = tf.reshape(context, (rows * beams, context.shape[-1]))
        weights = tf.reshape(weights, (rows * beams, steps))
        context = tf.cast(context, self.compute_dtype)
        if self.gate is not None:
            context *= self.gate(query)
        weights = tf.cast(weights, self.compute_dtype)
        return context, weights, tf.nest.map_structure(unfold, state)

    def get_config(self):
        return {
            **super().get_config(),
            "embedding": sharing.serialize(self.embedding),
            "units": self.units,
            "attention": sharing.serialize(self.attention),
            "num_layers": self.num_layers,
            "cell": self.cell,
            "attend": self.attend,
            "input_feeding": self.input_feeding,
            "summary": self.summary,
            "dropout": self.dropout,
            "gate_context": self.gate_context,
        }

    @classmethod
    def from_config(cls, config):
        nested = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("embedding", "attention")
        }
        return cls(**{**config, **nested})
