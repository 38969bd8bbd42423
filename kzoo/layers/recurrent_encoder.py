"""Recurrent encoders, flat and pyramidal; `recurrent` has the equations of the cells.

Axis letters: B batch, S source steps, D features, U units.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking, sharing
from kzoo.layers.dropout import Dropout
from kzoo.layers.embedding import build_embedding, read_source
from kzoo.layers.recurrent import check_arguments, make_rnn, run_stack


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
        cell: "lstm", "gru" or "simple"; their equations stand at the top of `recurrent`.
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

    stride = 1  # source steps from one memory step to the next
    can_stream = False  # whether there is a `step` for live audio

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
        super().__init__(autocast=False, **kwargs)  # float ids stay whole
        check_arguments(units, num_layers, cell, dropout)
        checks.one_of(("forward", "backward", "bidirectional"), direction=direction)
        self.embedding = embedding
        self.units = units
        self.num_layers = num_layers
        self.cell = cell
        self.direction = direction
        self.dropout = dropout
        policy = self.dtype_policy
        self.rnns = [make_rnn(cell, units, policy, direction) for _ in range(num_layers)]
        self.input_dropout = Dropout(dropout, dtype=policy)
        # The mask is an output; this keeps Keras from warning that the one of `source` is lost.
        self.supports_masking = True

    def build(self, source_shape):
        size = build_embedding(self.embedding, source_shape)
        for rnn in self.rnns:
            rnn.build((*source_shape[:2], size))
            size = 2 * self.units if self.direction == "bidirectional" else self.units

    def call(self, source, source_mask=None, mask=None, training=False):
        source_mask = mask if source_mask is None else source_mask
        x, source_mask = read_source(self.embedding, source, source_mask)
        x, padded_mask = masking.at_least_one_step(x, source_mask)
        x, final_state = run_stack(
            self.rnns,
            self.input_dropout,
            x,
            padded_mask,
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
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "embedding"))


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
        cell: "lstm", "gru" or "simple"; their equations stand at the top of `recurrent`.
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

    can_stream = False  # whether there is a `step` for live audio

    def __init__(self, embedding, units, num_layers, cell="lstm", dropout=0.0, factor=2, **kwargs):
        super().__init__(autocast=False, **kwargs)  # float ids stay whole
        check_arguments(units, num_layers, cell, dropout)
        checks.at_least(2, factor=factor)
        self.embedding = embedding
        self.units = units
        self.num_layers = num_layers
        self.cell = cell
        self.dropout = dropout
        self.factor = factor
        policy = self.dtype_policy
        self.rnns = [make_rnn(cell, units, policy, "bidirectional") for _ in range(num_layers)]
        self.input_dropout = Dropout(dropout, dtype=policy)
        # The mask is an output; this keeps Keras from warning that the one of `source` is lost.
        self.supports_masking = True

    @property
    def stride(self):
        """Source steps from the beginning of one memory step to that of the next."""
        return self.factor ** (self.num_layers - 1)

    def build(self, source_shape):
        size = build_embedding(self.embedding, source_shape)
        for rnn in self.rnns:
            rnn.build((source_shape[0], None, size))
            size = self.factor * 2 * self.units

    def call(self, source, source_mask=None, mask=None, training=False):
        source_mask = mask if source_mask is None else source_mask
        x, source_mask = read_source(self.embedding, source, source_mask)
        steps = tf.shape(source_mask)[1]
        x, mask = masking.at_least_one_step(x, source_mask)
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
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "embedding"))
