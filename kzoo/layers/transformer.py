"""Transformer: encoder, and decoder with a cache of keys and values.

Vaswani et al. (2017), https://arxiv.org/abs/1706.03762. Axis letters: B batch, T target steps,
S source steps, D features, H heads, N rows of a decoding step (B or B times beams), L length of
the cache.
"""

import functools

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking, own_inputs, sharing
from kzoo.layers.attention.contract import dense_memory
from kzoo.layers.dropout import Dropout
from kzoo.layers.embedding import build_embedding, read_source
from kzoo.layers.normalization import LayerNormalization
from kzoo.layers.positions import AttentionPositions, SinusoidalPositions
from kzoo.layers.recomputing import recomputed
from kzoo.layers.transformer_block import (
    TransformerDecoderBlock,
    TransformerEncoderBlock,
    block_config,
)


class _Stack(keras.layers.Layer):
    """What encoder and decoder have in common: embedding, positions, dropout, blocks, last norm.

    Its children say of which class the blocks are: `block_class`.

    Attributes:
        recompute: bool, whether a step of training keeps the inputs of blocks alone and computes
            them again for the gradients; to be set before `fit`. It is not saved.
    """

    recompute = False

    def __init__(
        self,
        embedding,
        num_layers,
        num_heads,
        hidden_units,
        dropout=0.0,
        norm_first=False,
        activation="relu",
        positions=None,
        num_key_value_heads=None,
        attention_positions=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)  # float ids stay whole
        self.supports_masking = True
        checks.at_least(1, num_layers=num_layers)
        if isinstance(positions, AttentionPositions):
            raise ValueError(
                f"`positions` are added to the input; positions for use inside attention are "
                f"`attention_positions`, got positions={positions}."
            )
        dtype = self.dtype_policy
        if positions is None and attention_positions is None:
            positions = SinusoidalPositions(dtype=dtype)
        self.embedding = embedding
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.norm_first = norm_first
        self.activation = activation
        self.positions = positions
        self.num_key_value_heads = num_key_value_heads
        self.attention_positions = attention_positions
        self.input_dropout = Dropout(dropout, dtype=dtype)
        self.blocks = [
            self.block_class(
                num_heads, hidden_units, dropout, norm_first, activation,
                num_key_value_heads, attention_positions, dtype=dtype,
            )
            for _ in range(num_layers)
        ]  # fmt: skip
        if norm_first:
            self.norm = LayerNormalization(epsilon=1e-5, dtype=dtype)

    def _build_input(self, source_shape):
        shape = (*source_shape[:2], build_embedding(self.embedding, source_shape))
        # Another owner, or Keras while it loads a model, may have built them.
        if self.positions is not None and not self.positions.built:
            self.positions.build(shape)
        if self.norm_first:
            self.norm.build(shape)
        return shape

    def _with_positions(self, x, start=0):
        """Adds the positions from `start` on to the embedded input (B, T, D)."""
        return x if self.positions is None else self.positions(x, start=start)

    def compute_mask(self, source, previous_mask=None):
        return masking.carried_mask(source, previous_mask)

    def _last_norm(self, x):
        return self.norm(x) if self.norm_first else x

    @sharing.numbered
    def get_config(self):
        return {
            **super().get_config(),
            "embedding": sharing.serialize(self.embedding),
            "num_layers": self.num_layers,
            **block_config(self),
            "positions": sharing.serialize(self.positions),
        }

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "embedding", "positions", "attention_positions"))


def _decoder_call(block, memory_mask, x_mask, training, x, keys, values):
    """A TransformerDecoderBlock as a function of all that has gradients."""
    return block(x, memory_mask=memory_mask, keys=(keys, values), x_mask=x_mask, training=training)


@keras.saving.register_keras_serializable("kzoo")
class TransformerEncoder(_Stack):
    """Embedding, positions, dropout, and a stack of TransformerEncoderBlocks.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762. A pre-norm stack ends with a layer
    normalisation.

    Args:
        embedding: layer, source (B, S) or (B, S, F) -> (B, S, D), such as TokenEmbedding.
        num_layers: int.
        num_heads, hidden_units, norm_first, activation, num_key_value_heads: of the blocks.
        dropout: float in [0, 1), on the embedded input and on each sublayer.
        positions: layer that adds positions to the embedded input; None means
            SinusoidalPositions, or nothing if there are `attention_positions`.
        attention_positions: positions of the self-attention, such as RotaryPositions, one object
            for all blocks; None for none.

    Call arguments:
        source: (B, S) int ids or (B, S, F) float, dense or ragged.
        source_mask: (B, S) bool; None means `source != 0` for ids and all True for features.
        mask: the same, filled in by Keras when `source` is the only tensor argument and carries
            a mask.

    Returns:
        memory: (B, S, D), zeros in the padding, with its mask for Keras. memory_mask: (B, S).

    Raises:
        ValueError: if `num_layers` is not positive, D is not a multiple of `num_heads`,
            `positions` are for use inside attention, or for what MultiHeadAttention refuses.

    Example:
        >>> embedding = kzoo.TokenEmbedding(13, 8)
        >>> encoder = kzoo.TransformerEncoder(embedding, 2, num_heads=2, hidden_units=16)
        >>> memory, memory_mask = encoder(tf.constant([[3, 4, 5], [6, 7, 0]]))
        >>> memory.shape
        TensorShape([2, 3, 8])
    """

    block_class = TransformerEncoderBlock
    stride = 1  # source steps from one memory step to the next
    can_stream = False  # whether there is a `step` for live audio

    def build(self, source_shape):
        shape = self._build_input(source_shape)
        for block in self.blocks:
            block.build(shape)

    def call(self, source, source_mask=None, mask=None, training=False):
        source_mask = mask if source_mask is None else source_mask
        x, mask = read_source(self.embedding, source, source_mask)
        x = self.input_dropout(self._with_positions(x), training=training)
        for block in self.blocks:
            call = functools.partial(block, mask=mask, training=training)
            x = recomputed(block, call, x) if training and self.recompute else call(x)
        memory = masking.blank(self._last_norm(x), mask)
        return masking.carry_mask(memory, mask), mask


@keras.saving.register_keras_serializable("kzoo")
class TransformerDecoder(_Stack):
    """Embedding, positions, dropout, and a stack of TransformerDecoderBlocks.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762. A pre-norm stack ends with a layer
    normalisation. The weights are the last block's cross-attention: the mean of its heads, or one.

    Args:
        embedding: layer, ids (B, T) -> (B, T, D).
        num_layers, num_heads, hidden_units, dropout, norm_first, activation, positions,
            num_key_value_heads: as in TransformerEncoder.
        attention_positions: as in TransformerEncoder; RelativePositions serve a decoder best with
            bidirectional=False. The cross-attention has none.
        weights_head: int, the head of the last block's cross-attention whose weights are returned:
            the copy distribution for a Copier. None for the mean of all heads.
        alignment_heads: list of (block, head) whose cross-attention tells where in the memory a
            token is, for `head_weights`; None for all heads of the upper half of the blocks.

    Call arguments:
        ids: (B, T) int, dense or ragged; teacher forcing: step t sees ids 0 ... t.
        memory: (B, S, Dm) float, dense or ragged.
        memory_mask: (B, S) bool, True = real.

    Returns:
        hidden: (B, T, D). weights: (B, T, S).

    Raises:
        ValueError: if `num_layers` is not positive, D is not a multiple of `num_heads`,
            `positions` are for use inside attention, there is no such `weights_head` or no such
            head among the `alignment_heads`, or for what MultiHeadAttention refuses.

    Example:
        >>> embedding = kzoo.TokenEmbedding(13, 8)
        >>> decoder = kzoo.TransformerDecoder(embedding, 2, num_heads=2, hidden_units=16)
        >>> hidden, weights = decoder(tf.constant([[1, 4, 5]]), tf.ones((1, 7, 8)))
        >>> weights.shape
        TensorShape([1, 3, 7])
    """

    block_class = TransformerDecoderBlock

    def __init__(
        self,
        embedding,
        num_layers,
        num_heads,
        hidden_units,
        dropout=0.0,
        norm_first=False,
        activation="relu",
        positions=None,
        num_key_value_heads=None,
        attention_positions=None,
        weights_head=None,
        alignment_heads=None,
        **kwargs,
    ):
        super().__init__(
            embedding, num_layers, num_heads, hidden_units, dropout, norm_first, activation,
            positions, num_key_value_heads, attention_positions, **kwargs,
        )  # fmt: skip
        checks.require(
            weights_head is None or 0 <= weights_head < self.num_heads,
            "must be None or one of the heads, 0 to num_heads - 1",
            weights_head=weights_head,
            num_heads=self.num_heads,
        )
        self.weights_head = weights_head
        checks.require(
            all(
                0 <= block < num_layers and 0 <= head < self.num_heads
                for block, head in alignment_heads or ()
            ),
            "must hold pairs of a block and one of its heads",
            alignment_heads=alignment_heads,
        )
        self.alignment_heads = alignment_heads

    def build(self, ids_shape, memory_shape):
        shape = self._build_input(ids_shape)
        for block in self.blocks:
            block.build(shape, memory_shape)

    def call(self, ids, memory, memory_mask=None, training=False):
        x, weights = self._blocks(ids, memory, memory_mask, training)
        return self._last_norm(x), self._of_heads(weights[-1])

    def _blocks(self, ids, memory, memory_mask, training=False):
        """What the last block gives, and the weights (B, H, T, S) of each block."""
        checks.sequence(ids=ids)
        x, mask = read_source(self.embedding, ids, None)
        if getattr(x, "_keras_mask", None) is None:  # not every embedding says what is padding
            x = masking.carry_mask(x, mask)
        prepared = self.prepare(memory, memory_mask)
        x = self.input_dropout(self._with_positions(x), training=training)
        weights = []
        for block, keys in zip(self.blocks, prepared["keys"], strict=True):
            call = functools.partial(
                _decoder_call, block, prepared["mask"], masking.carried_mask(x, None), training
            )
            if training and self.recompute:
                x_mask = getattr(x, "_keras_mask", None)  # which a gradient of its own loses
                x, of_block = recomputed(block, call, x, *keys)
                x = masking.carry_mask(x, x_mask)
            else:
                x, of_block = call(x, *keys)
            weights.append(of_block)
        return x, weights

    def head_weights(self, ids, memory, memory_mask=None):
        """The cross-attention of each of the `alignment_heads`.

        Args:
            ids, memory, memory_mask: as in a call.

        Returns:
            (B, N, T, S).
        """
        _, weights = self._blocks(ids, memory, memory_mask)
        if not self.alignment_heads:
            return tf.concat(weights[len(weights) // 2 :], 1)
        return tf.stack([weights[block][:, head] for block, head in self.alignment_heads], 1)

    def _of_heads(self, weights):
        """(B, H, ...) -> (B, ...)."""
        if self.weights_head is None:
            return tf.reduce_mean(weights, 1)
        return weights[:, self.weights_head]

    def prepare(self, memory, memory_mask=None):
        """Returns what all steps read: the memory's mask and each block's keys and values."""
        memory, memory_mask = dense_memory(memory, memory_mask)
        return {"mask": memory_mask, "keys": [block.project(memory) for block in self.blocks]}

    def initial_state(self, prepared, max_length):
        """Returns the empty cache of each block: of a fixed length for XLA, or one that grows.

        Args:
            prepared: from `prepare`.
            max_length: int or scalar tensor, or None for a GrowingCache.
        """
        rows = tf.shape(prepared["mask"])[0]
        return [block.empty_cache(rows, max_length, self.compute_dtype) for block in self.blocks]

    def step(self, ids, state, position, prepared):
        """One step of decoding.

        Args:
            ids: (N,) int, the token before; N = B or B times beams.
            state: from `initial_state` or the step before, N rows.
            position: scalar int32, from 0.
            prepared: from `prepare`, B rows.

        Returns:
            hidden: (N, D). weights: (N, S). state: the next.
        """
        x = self._with_positions(self.embedding(ids[:, None]), position)[:, 0]
        new_state = []
        for block, cache, keys in zip(self.blocks, state, prepared["keys"], strict=True):
            x, weights, cache = block.step(x, cache, position, keys, prepared["mask"])
            new_state.append(cache)
        return self._last_norm(x), self._of_heads(weights), new_state

    def mixed_ids(self, ids, memory, memory_mask, choose):
        """What the decoder reads, own answers among it: see `own_inputs.in_two_passes`."""
        return own_inputs.in_two_passes(self, ids, memory, memory_mask, choose)

    def get_config(self):
        names = "weights_head", "alignment_heads"
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
