"""Encoders of speech frames: fewer steps than frames, whole clips or streams.

    samples, lengths = audio.decode_batch(wav_bytes, rate_hz=16_000)    # in the graph
    frames, mask = audio.LogMel(16_000)(samples, lengths)               # 100 a second
    memory, mask = ConvSubsampling(256)(frames, mask)                   # 25 a second

Axis letters: B batch, S frames, F features of a frame, D features after subsampling, U units.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking, sharing
from kzoo.layers.streaming import StreamingRNN


@keras.saving.register_keras_serializable("kzoo")
class ConvSubsampling(keras.layers.Layer):
    """Two convolutions over frames and features that make one step of four, or of two:

        y = W reshape(relu(conv^2(relu(conv^1(frames))))) + b

    with 3 x 3 kernels, stride 2 (in `factor=2` the second has stride 1 in time), zeros around the
    frames. Dong et al. (2018), Speech-Transformer, https://doi.org/10.1109/ICASSP.2018.8462506,
    section 3.2; padded as here, step t is about frames 4 t - 3 ... 4 t + 3.

    Args:
        units: int, D.
        filters: int, channels of each convolution.
        factor: 4 or 2.

    Call arguments:
        frames: (B, S, F) float, dense or ragged.
        mask: (B, S) bool; None means all. Filled in by Keras if `frames` carries one.

    Returns:
        features: (B, S', D), S' = ceil(S / factor); zeros in the padding.
        mask: (B, S') bool; a row of n real frames has ceil(n / factor) real steps, which do not
            depend on the padding.

    Raises:
        ValueError: if a size is not positive or `factor` is neither 2 nor 4.

    Example:

    >>> features, mask = kzoo.ConvSubsampling(units=8)(tf.ones((2, 9, 80)))
    >>> features.shape
    TensorShape([2, 3, 8])
    """

    def __init__(self, units, filters=32, factor=4, **kwargs):
        super().__init__(**kwargs)
        checks.at_least(1, units=units, filters=filters)
        checks.one_of((2, 4), factor=factor)
        self.units = units
        self.filters = filters
        self.factor = factor
        self.steps = (2, factor // 2)  # strides in time
        policy = self.dtype_policy
        self.convolutions = [
            keras.layers.Conv2D(filters, 3, (step, 2), activation="relu", dtype=policy)
            for step in self.steps
        ]
        self.projection = keras.layers.Dense(units, dtype=policy)
        self.supports_masking = True

    def build(self, frames_shape):
        features, channels = frames_shape[-1], 1
        for convolution in self.convolutions:
            convolution.build((None, None, features + 2, channels))
            features, channels = -(-features // 2), self.filters
        self.projection.build((None, None, features * channels))

    def call(self, frames, mask=None):
        frames, mask = masking.to_dense(frames, mask)
        frames = tf.cast(frames, self.compute_dtype)
        # Convolutions may write a step where there is none, which is cut off at the end.
        x, real = masking.at_least_one_step(frames, mask)
        x = masking.blank(x, real)[:, :, :, None]
        for convolution, step in zip(self.convolutions, self.steps, strict=True):
            # Not padding="same", which pads at the end only if the batch's longest is even.
            x = convolution(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]))
            mask, real = mask[:, ::step], real[:, ::step]
            x = tf.where(real[:, :, None, None], x, tf.zeros([], x.dtype))
        steps = tf.shape(mask)[1]
        size = x.shape[2] * self.filters
        x = self.projection(tf.reshape(x, (tf.shape(x)[0], tf.shape(x)[1], size)))[:, :steps]
        return masking.carry_mask(masking.blank(x, mask), mask), mask

    def compute_mask(self, frames, previous_mask=None):
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "filters": self.filters,
            "factor": self.factor,
        }


@keras.saving.register_keras_serializable("kzoo")
class ConvStem(keras.layers.Layer):
    """Two convolutions over frames that make one step of two, Whisper's front end:

        y = gelu(conv^2(gelu(conv^1(frames))))

    with kernels of 3 frames, strides 1 and 2, zeros around the frames. Radford et al. (2022),
    https://arxiv.org/abs/2212.04356, section 2.2.

    Args:
        units: int, D, channels of both.

    Call arguments:
        frames: (B, S, F) float, dense or ragged.
        mask: (B, S) bool; None means all. Filled in by Keras if `frames` carries one.

    Returns:
        features: (B, S', D), S' = ceil(S / 2); zeros in the padding.
        mask: (B, S') bool; a row of n real frames has ceil(n / 2) real steps, which do not depend
            on the padding.

    Raises:
        ValueError: if `units` is not positive.

    Example:

    >>> features, mask = kzoo.ConvStem(units=8)(tf.ones((2, 9, 80)))
    >>> features.shape
    TensorShape([2, 5, 8])
    """

    factor = 2

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        checks.at_least(1, units=units)
        self.units = units
        self.convolutions = [
            keras.layers.Conv1D(units, 3, strides=step, activation="gelu", dtype=self.dtype_policy)
            for step in (1, 2)
        ]
        self.supports_masking = True

    def build(self, frames_shape):
        for layer, size in zip(self.convolutions, (frames_shape[-1], self.units), strict=True):
            layer.build((None, None, size))

    def call(self, frames, mask=None):
        frames, mask = masking.to_dense(frames, mask)
        frames = tf.cast(frames, self.compute_dtype)
        # Convolutions may write a step where there is none, which is cut off at the end.
        x, real = masking.at_least_one_step(frames, mask)
        x = masking.blank(x, real)
        for convolution in self.convolutions:
            x = convolution(tf.pad(x, [[0, 0], [1, 1], [0, 0]]))
            if convolution.strides == (2,):
                mask, real = mask[:, ::2], real[:, ::2]
            x = masking.blank(x, real)
        x = x[:, : tf.shape(mask)[1]]
        return masking.carry_mask(x, mask), mask

    def compute_mask(self, frames, previous_mask=None):
        return None

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("kzoo")
class SubsampledEncoder(keras.layers.Layer):
    """memory = encoder(subsampling(source)): an encoder of fewer steps than the source has.

    Args:
        subsampling: layer, (source, mask) -> (features, mask), such as ConvSubsampling.
        encoder: layer, encoder(features, source_mask) -> (memory, memory_mask, ...).

    Call arguments:
        source: (B, S, F) float, dense or ragged.
        source_mask: (B, S) bool; None means all True.
        mask: the same, filled in by Keras when `source` is the only tensor argument and carries
            a mask.

    Returns:
        What `encoder` returns.

    Example:

    >>> encoder = kzoo.ConformerEncoder(keras.layers.Dense(8), 1, num_heads=2, hidden_units=16)
    >>> encoder = kzoo.SubsampledEncoder(kzoo.ConvSubsampling(units=8), encoder)
    >>> memory, memory_mask = encoder(tf.ones((2, 9, 80)))
    >>> memory.shape
    TensorShape([2, 3, 8])
    """

    can_stream = False  # whether there is a `step` for live audio

    def __init__(self, subsampling, encoder, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.subsampling = subsampling
        self.encoder = encoder

    @property
    def stride(self):
        """Frames from the beginning of one memory step to that of the next."""
        return self.subsampling.factor * self.encoder.stride

    def build(self, source_shape):
        if not self.subsampling.built:
            self.subsampling.build(source_shape)
        features = self.subsampling.units
        if not self.encoder.built:
            self.encoder.build((*source_shape[:2], features))

    def call(self, source, source_mask=None, mask=None, training=False):
        source, mask = masking.to_dense(source, mask if source_mask is None else source_mask)
        features, mask = self.subsampling(masking.blank(source, mask), mask=mask)
        return self.encoder(features, source_mask=mask, training=training)

    def compute_mask(self, source, previous_mask=None):
        return None

    @sharing.numbered
    def get_config(self):
        return {
            **super().get_config(),
            "subsampling": sharing.serialize(self.subsampling),
            "encoder": sharing.serialize(self.encoder),
        }

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "subsampling", "encoder"))


@keras.saving.register_keras_serializable("kzoo")
class StreamingEncoder(keras.layers.Layer):
    """StreamingRNN over groups of frames, for speech that is still being spoken:

        memory_t = RNN(relu(W [frame_(f t); ...; frame_(f t + f - 1)] + b)),    f = stride

    Nothing looks ahead, and frames that do not make up a whole group wait for the next chunk: a
    stream in chunks gives what it gives as a whole. Sak et al. (2015),
    https://arxiv.org/abs/1507.06947, section 3, stack frames so for CTC.

    Args:
        units: int, size U of the states and of `memory`.
        num_layers: int.
        stride: int, f.
        cell: "lstm", "gru" or "simple".
        dropout: float in [0, 1), share of each layer's inputs dropped in training.

    Call arguments:
        source: (B, S, F) float, dense or ragged.
        source_mask: (B, S) bool; None means all True.
        mask: the same, filled in by Keras when `source` is the only tensor argument and carries
            a mask.

    Returns:
        memory: (B, S', U), S' = S // stride; zeros in the padding, with its mask for Keras.
        memory_mask: (B, S') bool; a row of n real frames has n // stride steps.

    Raises:
        ValueError: if `stride` is not positive, or as StreamingRNN.

    Example:

    >>> encoder = kzoo.StreamingEncoder(units=4, stride=3)
    >>> memory, memory_mask = encoder(tf.ones((2, 11, 5)))
    >>> memory.shape
    TensorShape([2, 3, 4])
    """

    can_stream = True  # `step` takes live audio up where it stopped

    def __init__(self, units, num_layers=1, stride=3, cell="lstm", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        checks.at_least(1, stride=stride)
        self.supports_masking = True
        self.stride = stride
        policy = self.dtype_policy
        self.projection = keras.layers.Dense(units, "relu", dtype=policy)
        self.rnn = StreamingRNN(units, num_layers, cell, dropout, dtype=policy)

    def build(self, source_shape):
        self.features = source_shape[-1]
        self.projection.build((None, None, self.stride * self.features))
        self.rnn.build((None, None, self.rnn.units))

    def call(self, source, source_mask=None, mask=None, training=False):
        source, mask = masking.to_dense(source, mask if source_mask is None else source_mask)
        steps = tf.shape(source)[1] // self.stride
        # The last step of a group says whether the group is whole.
        mask = mask[:, self.stride - 1 :: self.stride]
        size = self.stride * source.shape[2]
        x = tf.reshape(source[:, : steps * self.stride], (tf.shape(source)[0], steps, size))
        x = masking.blank(x, mask)
        memory, _ = self.rnn(self.projection(x), mask=mask, training=training)
        return masking.carry_mask(memory, mask), mask

    def initial_state(self, batch_size):
        """Returns the state before a stream: "frames" that wait, "rnn" of StreamingRNN.

        Raises:
            ValueError: the layer is not built, and so does not know how many features come.
        """
        if not self.built:
            raise ValueError("`initial_state` needs a layer that is built: call it or `build` it.")
        frames = tf.zeros((batch_size, 0, self.features), self.compute_dtype)
        return {"frames": frames, "rnn": self.rnn.initial_state(batch_size)}

    def step(self, frames, state):
        """Takes up streams where the state says.

        Args:
            frames: (B, S, F) float, the next of streams that have had equally many; S may be 0.
            state: as `initial_state` or `step` returned it.

        Returns:
            memory: (B, S', U), of the groups that are whole now. state: for the next chunk.
        """
        frames = tf.concat([state["frames"], tf.cast(frames, self.compute_dtype)], 1)
        steps = tf.shape(frames)[1] // self.stride
        whole = steps * self.stride
        size = self.stride * self.features
        x = tf.reshape(frames[:, :whole], (tf.shape(frames)[0], steps, size))
        memory, rnn = self.rnn(self.projection(x), state["rnn"])
        return memory, {"frames": frames[:, whole:], "rnn": rnn}

    def compute_mask(self, source, previous_mask=None):
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.rnn.units,
            "num_layers": self.rnn.num_layers,
            "stride": self.stride,
            "cell": self.rnn.cell,
            "dropout": self.rnn.dropout,
        }
