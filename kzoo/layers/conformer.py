"""Conformer: self-attention for what is far, convolution for what is near.

Gulati et al. (2020), https://arxiv.org/abs/2005.08100. Axis letters: B batch, S source steps,
D features.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking, sharing
from kzoo.layers.attention import MultiHeadAttention
from kzoo.layers.dropout import Dropout
from kzoo.layers.embedding import build_embedding, read_source
from kzoo.layers.normalization import LayerNormalization
from kzoo.layers.positions import RotaryPositions
from kzoo.layers.transformer_block import FeedForward, Residual


def convolve_features(x, kernel):
    """Convolves each feature over the steps with a kernel of its own: y_t = sum_k K_k x_(t+k-W//2).

    As products of matrices, over blocks of steps. oneDNN (TensorFlow 2.21) takes minutes to make
    the code of `tf.nn.depthwise_conv2d` in bfloat16 for some lengths, (5, 290, 144) for one.

    Args:
        x: (B, S, D). kernel: (W, D), W odd.

    Returns:
        (B, S, D); zeros stand before and after the steps.
    """
    width, size = kernel.shape
    rows, steps = tf.shape(x)[0], tf.shape(x)[1]
    half, block = width // 2, max(width - 1, 1)
    count = -(-steps // block)
    after = (count + 1) * block - steps - half
    blocks = tf.reshape(tf.pad(x, [[0, 0], [half, after], [0, 0]]), (rows, count + 1, block, size))
    # What is written in a block is read from it and from the next one.
    offset = tf.range(2 * block)[:, None] - tf.range(block)  # (read, written)
    weights = tf.gather(kernel, tf.clip_by_value(offset, 0, width - 1))
    inside = (offset >= 0) & (offset < width)
    weights = tf.where(inside[:, :, None], weights, tf.zeros([], kernel.dtype))
    y = tf.einsum("bnsd,std->bntd", blocks[:, :-1], weights[:block])
    y += tf.einsum("bnsd,std->bntd", blocks[:, 1:], weights[block:])
    return tf.reshape(y, (rows, count * block, size))[:, :steps]


@keras.saving.register_keras_serializable("kzoo")
class ConvolutionModule(keras.layers.Layer):
    """A gate, a convolution of each feature over the steps, and a mixture of features:

        y = W_2 swish(norm(K * (a sigmoid(b)))),    [a; b] = W_1 x

    Gulati et al. (2020), section 2.2, with layer normalisation in place of batch normalisation,
    which would mix a clip with its neighbours and with the padding.

    Args:
        width: int, odd, steps that the kernel K spans.

    Call arguments:
        x: (B, S, D) float, dense.
        mask: (B, S) bool, True = real; None means all.

    Returns:
        (B, S, D). What is padding is read as zeros.

    Raises:
        ValueError: if `width` is not odd and positive.
    """

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        if width < 1 or width % 2 == 0:
            raise ValueError(f"`width` must be odd and positive, got width={width}.")
        self.width = width
        self.supports_masking = True
        self.norm = LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy)

    def build(self, x_shape):
        size = x_shape[-1]
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}  # as it was set before
        self.gate = keras.layers.Dense(2 * size, **options)
        self.mixture = keras.layers.Dense(size, **options)
        for layer in (self.gate, self.norm, self.mixture):
            layer.build((None, None, size))
        self.kernel = self.add_weight(
            shape=(self.width, size),
            initializer=keras.initializers.RandomUniform(-(self.width**-0.5), self.width**-0.5),
            name="K",
        )

    def call(self, x, mask=None):
        values, gates = tf.split(self.gate(x), 2, axis=-1)
        y = values * tf.sigmoid(gates)
        if mask is not None:
            y = masking.blank(y, mask)
        y = convolve_features(y, tf.cast(self.kernel, y.dtype))
        return self.mixture(tf.nn.silu(self.norm(y)))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable("kzoo")
class ConformerBlock(keras.layers.Layer):
    """Half a feed-forward network, self-attention, convolution, the other half:

        x += FF(norm(x)) / 2,  x += attention(norm(x)),  x += convolution(norm(x)),
        y = norm(x + FF(norm(x)) / 2)

    Gulati et al. (2020), section 2.4; see `ConvolutionModule`.

    Args:
        num_heads: int; the size of the heads is D / num_heads.
        hidden_units: int, size of the feed-forward networks' hidden layers.
        width: int, odd, steps that the convolution spans.
        dropout: float in [0, 1), on the output of each part.
        attention_positions: positions of the self-attention; None for none.

    Call arguments:
        x: (B, S, D) float, dense or ragged.
        mask: (B, S) bool, True = real.

    Returns:
        (B, S, D), dense, zeros in the padding. The mask passes through.

    Raises:
        ValueError: if D is not a multiple of `num_heads`, or `width` is not odd and positive.

    Example:

    >>> block = kzoo.ConformerBlock(num_heads=2, hidden_units=16, width=3)
    >>> block(tf.ones((2, 5, 8))).shape
    TensorShape([2, 5, 8])
    """

    def __init__(
        self, num_heads, hidden_units, width=15, dropout=0.0, attention_positions=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = num_heads
        self.hidden_units = hidden_units
        self.width = width
        self.dropout = dropout
        self.attention_positions = attention_positions
        dtype = self.dtype_policy
        self.feed_forwards = [FeedForward(hidden_units, "silu", dtype=dtype) for _ in range(2)]
        self.convolution = ConvolutionModule(width, dtype=dtype)
        self.residuals = [Residual(dropout, norm_first=True, dtype=dtype) for _ in range(4)]
        self.norm = LayerNormalization(epsilon=1e-5, dtype=dtype)

    def build(self, x_shape):
        size = x_shape[-1]
        if size % self.num_heads:
            raise ValueError(
                f"The number of features must be a multiple of `num_heads`, "
                f"got {size} features, num_heads={self.num_heads}."
            )
        self.attention = MultiHeadAttention(
            self.num_heads,
            size // self.num_heads,
            positions=self.attention_positions,
            dtype=self.dtype_policy,
            trainable=self.trainable,
        )
        self.attention.build(x_shape, x_shape)
        for layer in (*self.feed_forwards, self.convolution, *self.residuals, self.norm):
            layer.build(x_shape)

    def call(self, x, mask=None, training=False):
        x, mask = masking.to_dense(x, mask)
        x = masking.blank(x, mask)
        first, attending, convolving, last = self.residuals
        x = first(x, 0.5 * self.feed_forwards[0](first.enter(x)), training=training)
        y = attending.enter(x)
        y, _ = self.attention(y, memory_mask=mask, keys=self.attention.project(y))
        x = attending(x, y, training=training)
        x = convolving(x, self.convolution(convolving.enter(x), mask=mask), training=training)
        x = last(x, 0.5 * self.feed_forwards[1](last.enter(x)), training=training)
        return masking.blank(self.norm(x), mask)

    def compute_output_shape(self, x_shape):
        return x_shape

    def compute_mask(self, x, previous_mask=None):
        return masking.carried_mask(x, previous_mask)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "hidden_units": self.hidden_units,
            "width": self.width,
            "dropout": self.dropout,
            "attention_positions": sharing.serialize(self.attention_positions),
        }

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "attention_positions"))


@keras.saving.register_keras_serializable("kzoo")
class ConformerEncoder(keras.layers.Layer):
    """Embedding, dropout, and a stack of ConformerBlocks with rotary positions.

    Gulati et al. (2020), with the rotary positions of Su et al. (2021),
    https://arxiv.org/abs/2104.09864, in place of those of Transformer-XL.

    Args:
        embedding: layer, source (B, S) or (B, S, F) -> (B, S, D), such as keras.layers.Dense.
        num_layers: int.
        num_heads, hidden_units, width: of the blocks.
        dropout: float in [0, 1), on the embedded input and on each part of a block.

    Call arguments:
        source: (B, S) int ids or (B, S, F) float, dense or ragged.
        source_mask: (B, S) bool; None means `source != 0` for ids and all True for features.
        mask: the same, filled in by Keras when `source` is the only tensor argument and carries
            a mask.

    Returns:
        memory: (B, S, D), zeros in the padding, with its mask for Keras. memory_mask: (B, S).

    Raises:
        ValueError: if `num_layers` is not positive, or as ConformerBlock.

    Example:

    >>> encoder = kzoo.ConformerEncoder(keras.layers.Dense(8), 2, num_heads=2, hidden_units=16)
    >>> memory, memory_mask = encoder(tf.ones((2, 5, 7)))
    >>> memory.shape
    TensorShape([2, 5, 8])
    """

    stride = 1  # source steps from one memory step to the next
    can_stream = False  # whether there is a `step` for live audio

    def __init__(
        self, embedding, num_layers, num_heads, hidden_units, width=15, dropout=0.0, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)  # float ids stay whole
        checks.at_least(1, num_layers=num_layers)
        self.supports_masking = True
        self.embedding = embedding
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_units = hidden_units
        self.width = width
        self.dropout = dropout
        dtype = self.dtype_policy
        self.input_dropout = Dropout(dropout, dtype=dtype)
        positions = RotaryPositions(dtype=dtype)
        self.blocks = [
            ConformerBlock(num_heads, hidden_units, width, dropout, positions, dtype=dtype)
            for _ in range(num_layers)
        ]

    def build(self, source_shape):
        shape = (*source_shape[:2], build_embedding(self.embedding, source_shape))
        for block in self.blocks:
            block.build(shape)

    def call(self, source, source_mask=None, mask=None, training=False):
        source_mask = mask if source_mask is None else source_mask
        x, mask = read_source(self.embedding, source, source_mask)
        x = self.input_dropout(x, training=training)
        for block in self.blocks:
            x = block(x, mask=mask, training=training)
        memory = masking.blank(x, mask)
        return masking.carry_mask(memory, mask), mask

    def compute_mask(self, source, previous_mask=None):
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "embedding": sharing.serialize(self.embedding),
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "hidden_units": self.hidden_units,
            "width": self.width,
            "dropout": self.dropout,
        }

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "embedding"))
