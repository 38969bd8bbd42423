"""Encoders of speech; what every layer can do is in layers/contract."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.conformer import ConformerEncoder
from kzoo.layers.recurrent_encoder import PyramidalEncoder
from kzoo.layers.speech import ConvSubsampling, StreamingEncoder, SubsampledEncoder

B, S, F, U = 2, 23, 5, 7


def frames(seed=0):
    return np.random.default_rng(seed).normal(size=(B, S, F)).astype("float32")


@pytest.mark.parametrize("stride", [1, 3])
def test_a_stream_in_chunks_gives_the_memory_of_the_whole(stride):
    encoder, x = StreamingEncoder(U, num_layers=2, stride=stride), frames()
    whole, mask = encoder(x)
    state, parts = encoder.initial_state(B), []
    for chunk in np.split(x, [1, 2, 2, 9, 17], axis=1):
        memory, state = encoder.step(chunk, state)
        parts.append(memory)
    assert whole.shape == (B, S // stride, U) and mask.numpy().all()
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-6)
    assert state["frames"].shape == (B, S % stride, F)


def test_a_stream_cannot_begin_before_the_number_of_features_is_known():
    with pytest.raises(ValueError, match="`initial_state` needs a layer that is built"):
        StreamingEncoder(U).initial_state(B)


def test_a_group_counts_when_all_its_frames_are_real():
    encoder, x = StreamingEncoder(U, stride=3), frames()
    _, mask = encoder(x, source_mask=tf.sequence_mask([23, 11], S))
    assert mask.numpy().sum(1).tolist() == [7, 3]


def test_subsampled_is_one_layer_after_the_other_with_the_shorter_mask():
    subsampling = ConvSubsampling(6, filters=2)
    inner = ConformerEncoder(keras.layers.Dense(8), 1, 2, 11)
    encoder, mask = SubsampledEncoder(subsampling, inner), tf.sequence_mask([23, 11], S)
    memory, memory_mask = encoder(frames(), source_mask=mask)
    expected, _ = inner(*subsampling(frames(), mask=mask))
    np.testing.assert_array_equal(memory, expected)
    assert memory_mask.numpy().sum(1).tolist() == [6, 3]


def test_strides_say_how_many_frames_a_memory_step_is_apart():
    inner = ConformerEncoder(keras.layers.Dense(8), 1, 2, 11)
    assert SubsampledEncoder(ConvSubsampling(6, factor=2), inner).stride == 2
    assert PyramidalEncoder(keras.layers.Dense(8), 3, num_layers=4).stride == 8
    with pytest.raises(ValueError, match="`stride` must be at least 1, got stride=0"):
        StreamingEncoder(U, stride=0)
