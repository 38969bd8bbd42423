"""The recurrent decoder that attends; `recurrent` has the equations of the cells.

Axis letters: B batch, T target steps, S source steps, D features, U units, N rows of one decoding
step (B, or B*K for K beams).
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking, own_inputs, sharing
from kzoo.layers.attention.contract import dense_memory
from kzoo.layers.dropout import Dropout
from kzoo.layers.embedding import build_embedding
from kzoo.layers.recurrent import (
    CELLS,
    cell_products,
    check_arguments,
    next_states,
    num_states,
    recurrent_initializers,
)
from kzoo.layers.scan import StepProducts, scan


class _Readout(keras.layers.Dense):
    """Weights that are read, never called; Keras would quantize those of a plain Dense."""


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
        cell: "lstm", "gru" or "simple"; their equations stand at the top of `recurrent`.
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
        super().__init__(autocast=False, **kwargs)  # float ids stay whole
        check_arguments(units, num_layers, cell, dropout)
        checks.one_of(("before", "after"), attend=attend)
        if input_feeding and attend == "before":
            raise ValueError(
                '`input_feeding` goes with attend="after": attend="before" feeds the context. '
                f"Got input_feeding={input_feeding}, attend={attend!r}."
            )
        checks.one_of(("mean", "first"), summary=summary)
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
            CELLS[cell](units, dtype=policy, **recurrent_initializers(policy))
            for _ in range(num_layers)
        ]
        self.bridges = [
            keras.layers.Dense(units * self.num_states, activation="tanh", dtype=policy)
            for _ in range(num_layers)
        ]
        self.readout = _Readout(units, dtype=policy)
        self.gate = None
        if gate_context:
            self.gate = keras.layers.Dense(1, activation="sigmoid", dtype=policy)
        self.embedding_dropout = Dropout(dropout, dtype=policy)
        self.hidden_dropout = Dropout(dropout, dtype=policy)
        self.supports_masking = True

    def build(self, ids_shape, memory_shape):
        embedding_size = build_embedding(self.embedding, ids_shape)
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
        checks.sequence(ids=ids)
        ids, mask = masking.to_dense(masking.as_ids(ids))
        prepared = self.prepare(memory, memory_mask)
        state = self.initial_state(prepared, tf.shape(ids)[1])
        embedded = tf.cast(self.embedding(ids), self.compute_dtype)
        embedded = self.embedding_dropout(embedded, training=training)
        # One step is run even for none: an empty TensorArray cannot be stacked.
        embedded, _ = masking.at_least_one_step(embedded, None)
        products = self._products(tf.transpose(embedded, (1, 0, 2)))

        def one_step(t, products, state):
            hidden, weights, state = self._step(products, state, prepared, training)
            return [hidden, weights], state

        (hidden, weights), _ = scan(one_step, products, state, 2, training=training)
        rows = embedded.shape[0]
        steps = tf.shape(ids)[1]
        hidden = tf.transpose(hidden, (1, 0, 2))[:, :steps]
        hidden = tf.ensure_shape(hidden, (rows, ids.shape[1], self.units))
        weights = tf.transpose(weights, (1, 0, 2))[:, :steps]
        weights = tf.ensure_shape(weights, (rows, ids.shape[1], prepared["memory_mask"].shape[1]))
        hidden = self.hidden_dropout(hidden, training=training)
        return masking.carry_mask(hidden, mask), weights

    def compute_mask(self, ids, previous_mask=None):
        return masking.carried_mask(ids, previous_mask)

    def prepare(self, memory, memory_mask=None):
        """Returns what every step reads: the memory, its mask, the projected keys; B rows."""
        memory, memory_mask = dense_memory(memory, memory_mask)
        memory = tf.cast(memory, self.compute_dtype)
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
        return self._step(self._products(embedded), state, prepared, training=False)

    def mixed_ids(self, ids, memory, memory_mask, choose):
        """What the decoder reads, own answers among it: see `own_inputs.step_by_step`."""
        return own_inputs.step_by_step(self, ids, memory, memory_mask, choose)

    def _products(self, embedded):
        """What cells and readout add up in a step, or in each step of embeddings (T, B, D)."""
        none, size = embedded[..., :0], embedded.shape[-1]
        of_cells = []
        for index, cell in enumerate(self.cells):
            of_cells += cell_products(cell, none if index else embedded)
        kernel, bias, units = self.readout.kernel, self.readout.bias, self.units
        if self.attend == "before":
            parts = [units, kernel.shape[0] - units - size, size]
            output, context, known = tf.split(kernel, parts)
            readout = StepProducts.from_known(embedded, known, bias, [output, context])
        else:
            context, output = tf.split(kernel, [kernel.shape[0] - units, units])
            readout = StepProducts.from_known(none, kernel[:0], bias, [context, output])
        return [*of_cells, readout]

    def _step(self, products, state, prepared, training):
        *of_cells, readout = products
        if self.attend == "before":
            # With residual connections the output of the stack is the sum of its layers' h.
            previous = tf.add_n([states[0] for states in state["cells"]])
            context, weights, attention = self._attend(
                previous, state["attention"], prepared, training
            )
            output, cells = self._run_cells(of_cells, [context], state["cells"])
            hidden = tf.tanh(readout(output, context))
        else:
            fed = [state["fed"]] if self.input_feeding else []
            output, cells = self._run_cells(of_cells, fed, state["cells"])
            context, weights, attention = self._attend(
                output, state["attention"], prepared, training
            )
            hidden = tf.tanh(readout(context, output))
        fed = hidden if self.input_feeding else state["fed"]
        new_state = {"cells": cells, "fed": fed, "attention": attention}
        tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), new_state, state)
        return hidden, weights, new_state

    def _run_cells(self, products, inputs, states):
        count = len(products) // len(self.cells)
        x, new_states = None, []
        for index, cell in enumerate(self.cells):
            of_cell = products[index * count : (index + 1) * count]
            new = next_states(cell, of_cell, inputs, states[index])
            x = x + new[0] if index else new[0]
            new_states.append(new)
            inputs = [x]
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

    @sharing.numbered
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
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "embedding", "attention"))
