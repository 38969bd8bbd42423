"""AudioSource: WAV bytes, or samples as they come, -> frames.

Axis letters: N contents, B streams, C samples of a chunk, S frames, S' memory steps, F features.
"""

import math

import keras
import tensorflow as tf

from kzoo import contents
from kzoo.audio import wav
from kzoo.audio.samples import bounded_chunk
from kzoo.layers import sharing


@keras.saving.register_keras_serializable("kzoo")
class AudioSource(keras.layers.Layer):
    """WAV bytes -> frames, in the graph: `features(decode_batch(contents))`.

    Args:
        features: LogMel, or a layer with its `call`, `rate_hz`, `hop`, `num_mels`, `normalize`
            and, for live audio, `initial_state` and `step`. If it has `clip_seconds`, as WhisperMel
            does, longer sounds are refused.

    Call arguments:
        samples: (N, L) float. lengths: (N,) int, the real samples of each row.

    Returns:
        (N, S, F) RaggedTensor of frames.

    Example:

    >>> source = kzoo.AudioSource(kzoo.LogMel(rate_hz=8_000))
    >>> silence = tf.audio.encode_wav(tf.zeros((4000, 1)), sample_rate=8_000)
    >>> frames, is_empty = source.read([silence], longest=60)
    >>> frames.bounding_shape().numpy(), is_empty.numpy()
    (array([ 1, 48, 80]), array([False]))
    """

    content = contents.SOUND
    is_static = False  # XLA has no ragged frames
    languages = ()  # of answers among which the content chooses

    def __init__(self, features, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.features = features
        self.built = True  # there are no weights

    def call(self, samples, lengths=None):
        frames, mask = self.features(samples, lengths=lengths)
        lengths = tf.reduce_sum(tf.cast(mask, tf.int64), 1)
        return tf.RaggedTensor.from_tensor(frames, lengths)

    def read(self, contents, longest):
        """Decodes WAV files; a file without sound, or less than a frame of it, is empty.

        Args:
            contents: (N,) string.
            longest: number, most seconds of a file.

        Returns:
            (N, S, F) ragged float32. is_empty: (N,) bool.

        Raises:
            tf.errors.InvalidArgumentError: one is no WAV file, or longer.
        """
        frames = self(*self.decode(contents, min(float(longest), self.clip_seconds)))
        return frames, tf.equal(frames.row_lengths(), 0)

    def decode(self, contents, longest):
        """WAV files (N,) -> samples (N, L) at `rate_hz`, lengths (N,); see `decode_batch`."""
        return wav.decode_batch(contents, self.features.rate_hz, float(longest))

    @property
    def clip_seconds(self):
        """Most seconds of a file that the features take: float, infinite but for a window's."""
        return getattr(self.features, "clip_seconds", math.inf)

    def step_names(self, source, steps, stride):
        """When each memory step begins, in seconds: "0.12"; "" for padding.

        Args:
            source: (N, S, F) ragged, from `read`.
            steps: int tensor, S'.
            stride: int, frames from one memory step to the next.

        Returns:
            (N, S') string.
        """
        begins = tf.range(steps) * stride
        seconds = tf.cast(begins * self.features.hop, tf.float32) / self.features.rate_hz
        is_real = tf.cast(begins, tf.int64) < source.row_lengths()[:, None]
        return tf.where(is_real, tf.strings.as_string(seconds, precision=2), "")

    @property
    def can_stream(self):
        """Whether `step` can be used: normalisation must not need the whole clip."""
        return self.features.normalize != "utterance"

    def initial_state(self, rows):
        """Returns the state of streams before the first sample; see `features.initial_state`."""
        return self.features.initial_state(rows)

    def step(self, samples, state):
        """The frames (B, S, F) that samples (B, C) complete, and the next state.

        As in files, samples that are no number count as 0, those outside [-1, 1] are clipped, and
        chunks of floats of the size of integers are refused.
        """
        return self.features.step(bounded_chunk(tf.cast(samples, tf.float32)), state)

    def facts(self, longest, in_windows=False):
        """What a model card says of the input: dict.

        Args:
            longest: number, most seconds of a file.
            in_windows: bool, whether some signatures take a file window by window.
        """
        hop = 1000 * self.features.hop / self.features.rate_hz  # a whole number of samples
        clip = min(longest, self.clip_seconds)
        limit = f"at most {clip:g} seconds"
        if in_windows and longest > clip:
            limit = f"at most {longest:g} seconds in serving_default and segments, which hear one "
            limit += f"window of {clip:g} after the other, and {clip:g} in the others"
        return {
            "source": f"WAV files of any rate, {limit}, as "
            f"{self.features.num_mels} log-mel features every {hop:g} ms at "
            f"{self.features.rate_hz:,} Hz; a file without sound is answered with an empty text",
        }

    def get_config(self):
        return {**super().get_config(), "features": sharing.serialize(self.features)}

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "features"))
