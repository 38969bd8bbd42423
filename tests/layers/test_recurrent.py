"""Encoders against Keras's own layers, decoders step by step against the whole."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers import recurrent
from kzoo.layers.attention import (
    BahdanauAttention,
    FixedContext,
    LocalAttention,
    LocationAwareAttention,
    LuongAttention,
    MonotonicAttention,
    MultiHeadAttention,
)
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.recurrent_encoder import PyramidalEncoder, RecurrentEncoder

B, K, T, S, D, U, M, V = 2, 3, 4, 5, 7, 11, 13, 17
LENGTHS = [5, 3]
MASK = np.arange(S) < np.array(LENGTHS)[:, None]
SOURCE = np.where(MASK, [[3, 4, 5, 6, 7], [8, 9, 10, 11, 12]], 0)
IDS = np.array([[1, 4, 5, 6], [1, 7, 8, 9]])

ATTENTIONS = {
    "bahdanau": lambda: BahdanauAttention(5),
    "luong_general": lambda: LuongAttention("general"),
    "luong_concat": lambda: LuongAttention("concat", units=5),
    "multi_head": lambda: MultiHeadAttention(2, 3),
    "local_p": lambda: LocalAttention(2),
    "local_m": lambda: LocalAttention(1, "monotonic"),
    "monotonic": lambda: MonotonicAttention(5, score_bias=0.0),
    "location_aware": lambda: LocationAwareAttention(5, filters=2, width=3),
    "fixed_context": lambda: FixedContext(),
}
every_direction = pytest.mark.parametrize("direction", ["forward", "backward", "bidirectional"])
every_cell = pytest.mark.parametrize("cell", ["lstm", "gru", "simple"])
every_style = pytest.mark.parametrize(
    ("attend", "input_feeding"), [("before", False), ("after", True), ("after", False)]
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make_encoder(**kwargs):
    return RecurrentEncoder(TokenEmbedding(V, D), U, **kwargs)


def make_decoder(attention="bahdanau", **kwargs):
    """A decoder whose weights are all random, biases too."""
    decoder = AttentionDecoder(TokenEmbedding(V, D), U, ATTENTIONS[attention](), **kwargs)
    decoder.build(IDS.shape, (B, S, M))
    for index, variable in enumerate(decoder.trainable_variables):
        variable.assign(0.5 * random(*variable.shape, seed=index))
    return decoder


def decode_stepwise(decoder, ids, prepared, state):
    hidden, weights = [], []
    for t in range(ids.shape[1]):
        h, w, state = decoder.step(ids[:, t], state, t, prepared)
        hidden.append(h)
        weights.append(w)
    return tf.stack(hidden, 1), tf.stack(weights, 1), state


def assert_all_close(actual, expected, atol=1e-5):
    for a, b in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


# Encoder


@every_cell
@every_direction
def test_an_encoder_of_one_layer_is_that_of_keras_on_each_row_without_its_padding(cell, direction):
    encoder = make_encoder(cell=cell, direction=direction)
    memory, memory_mask, final_state = encoder(SOURCE)
    np.testing.assert_array_equal(memory_mask, MASK)
    for row, length in enumerate(LENGTHS):
        x = encoder.embedding(SOURCE[row : row + 1, :length])
        expected, *states = encoder.rnns[0](x)
        if direction == "backward":
            expected = expected[:, ::-1]
        np.testing.assert_allclose(memory[row, :length], expected[0], atol=1e-5)
        np.testing.assert_array_equal(memory[row, length:], np.zeros((S - length, memory.shape[2])))
        assert_all_close([state[row] for state in final_state[0]], [state[0] for state in states])


@every_cell
def test_the_first_memory_of_a_backward_encoder_is_its_final_state(cell):
    memory, _, final_state = make_encoder(cell=cell, direction="backward")(SOURCE)
    np.testing.assert_allclose(memory[:, 0], final_state[0][0], atol=1e-6)


def test_a_bidirectional_memory_holds_forward_and_backward_side_by_side():
    memory, _, final_state = make_encoder(cell="gru")(SOURCE)
    last = np.array(LENGTHS) - 1
    np.testing.assert_allclose(memory.numpy()[np.arange(B), last, :U], final_state[0][0], atol=1e-6)
    np.testing.assert_allclose(memory[:, 0, U:], final_state[0][1], atol=1e-6)


@every_direction
def test_layers_from_the_second_on_add_to_what_they_are_given(direction):
    encoder = make_encoder(num_layers=2, direction=direction)
    memory, _, final_state = encoder(SOURCE[:1])
    backward = direction == "backward"
    first = encoder.rnns[0](encoder.embedding(SOURCE[:1]))[0]
    first = first[:, ::-1] if backward else first
    second = encoder.rnns[1](first)[0]
    second = second[:, ::-1] if backward else second
    np.testing.assert_allclose(memory, first + second, atol=1e-5)
    assert len(final_state) == 2


@every_direction
def test_source_padding_changes_neither_memory_nor_final_state_nor_gradient(direction):
    encoder = RecurrentEncoder(keras.layers.Dense(D), U, num_layers=2, direction=direction)
    features = random(B, S, 3)

    def run(source, mask):
        with tf.GradientTape() as tape:
            memory, _, final_state = encoder(source, source_mask=mask)
            loss = tf.reduce_sum(memory**2)
        gradients = tape.gradient(loss, encoder.trainable_variables)
        return memory[:, :S], final_state, gradients

    garbage = np.where(MASK[:, :, None], features, np.nan).astype("float32")
    wider = np.pad(garbage, ((0, 0), (0, 2), (0, 0)), constant_values=np.nan)
    clean = run(features, MASK)
    assert_all_close(run(garbage, MASK), clean)
    assert_all_close(run(wider, np.pad(MASK, ((0, 0), (0, 2)))), clean)


@every_cell
@every_direction
def test_layers_of_keras_as_on_a_gpu_give_the_same_and_the_same_gradients(
    direction, cell, monkeypatch
):
    encoder = RecurrentEncoder(
        keras.layers.Dense(D), U, num_layers=2, cell=cell, direction=direction
    )

    def run():
        with tf.GradientTape() as tape:
            memory, _, final_state = encoder(random(B, S, 3), source_mask=MASK, training=True)
            states = tf.nest.flatten(final_state)
            loss = sum(tf.reduce_sum(x**3) for x in [memory, *states])
        return memory, states, tape.gradient(loss, encoder.trainable_variables)

    own = run()
    monkeypatch.setattr(recurrent, "_has_gpu", lambda: True)
    assert_all_close(run(), own)


def test_masks_that_cudnn_cannot_do_with_and_all_but_training_have_no_op_of_it(monkeypatch):
    encoder, asked = make_encoder(num_layers=2), []
    masks = np.array([[[0, 1, 1, 1, 1], [1, 1, 1, 0, 0]], [[0] * S, [1] * S]], bool)
    train = tf.function(lambda ids, mask: encoder(ids, source_mask=mask, training=True)[0])
    ids = np.arange(1, 1 + B * S).reshape(B, S)
    expected = [train(ids, tf.constant(mask)) for mask in masks]

    def in_keras(rnn, x, mask, states, training):
        asked.append(training)
        result = recurrent.run_rnn(rnn, x, mask, states, training)
        with tf.control_dependencies([tf.debugging.Assert(False, ["cuDNN has met its rule"])]):
            return tf.nest.map_structure(tf.identity, result)

    monkeypatch.setattr(recurrent, "_has_gpu", lambda: True)
    monkeypatch.setattr(recurrent, "_run_in_keras", in_keras)
    train = tf.function(lambda ids, mask: encoder(ids, source_mask=mask, training=True)[0])
    assert_all_close([train(ids, tf.constant(mask)) for mask in masks], expected)
    assert asked == [True, True]  # traced
    with pytest.raises(tf.errors.InvalidArgumentError):
        train(ids, tf.constant(MASK))
    encoder(ids)
    assert asked == [True, True]


def test_ids_in_the_padding_change_nothing_under_an_explicit_mask():
    encoder = make_encoder()
    assert_all_close(encoder(np.where(MASK, SOURCE, 15), source_mask=MASK), encoder(SOURCE))


def test_a_ragged_source_equals_the_padded_one():
    encoder = make_encoder(num_layers=2)
    assert_all_close(encoder(tf.RaggedTensor.from_tensor(SOURCE, LENGTHS)), encoder(SOURCE))


def test_the_encoder_takes_the_mask_that_keras_knows():
    encoder = RecurrentEncoder(keras.layers.Dense(D), U)
    features = random(B, S, 3)
    masked = keras.layers.Masking(9.0)(np.where(MASK[:, :, None], features, np.float32(9)))
    assert_all_close(encoder(masked), encoder(features, source_mask=MASK))


def test_a_row_without_steps_has_zeros_for_memory_and_state():
    memory, _, final_state = make_encoder(num_layers=2)(np.stack([SOURCE[0], np.zeros(S, int)]))
    for x in [memory, *tf.nest.flatten(final_state)]:
        np.testing.assert_array_equal(x[1], np.zeros_like(x[1]))


def test_encoder_dropout_works_in_training_only():
    encoder = make_encoder(dropout=0.5)
    calm, again = encoder(SOURCE)[0], encoder(SOURCE)[0]
    np.testing.assert_array_equal(calm, again)
    assert np.abs(encoder(SOURCE, training=True)[0] - calm).max() > 1e-3


# Pyramid


def numpy_rnn(x, w, r, b):
    h, outputs = np.zeros(r.shape[0]), []
    for step in x:
        h = np.tanh(step @ w + h @ r + b)
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize(("factor", "length"), [(2, 8), (2, 5), (3, 7), (2, 1)])
def test_a_pyramid_joins_steps_before_every_layer_after_the_first(factor, length):
    encoder = PyramidalEncoder(
        keras.layers.Identity(), U, num_layers=3, cell="simple", factor=factor
    )
    source = random(1, length, 3)
    memory, memory_mask, final_state = encoder(source)
    x = source[0]
    for index, rnn in enumerate(encoder.rnns):
        if index:
            x = np.pad(x, ((0, -len(x) % factor), (0, 0)))
            x = np.stack([np.concatenate(x[i : i + factor]) for i in range(0, len(x), factor)])
        weights = rnn.get_weights()
        forward = numpy_rnn(x, *weights[:3])
        backward = numpy_rnn(x[::-1], *weights[3:])[::-1]
        assert_all_close(final_state[index], [forward[-1:], backward[:1]])
        x = np.concatenate([forward, backward], 1)
    assert memory.shape[1] == -(-length // factor**2)
    np.testing.assert_allclose(memory[0], x, atol=1e-5)
    assert np.all(memory_mask)


@every_cell
def test_padding_changes_nothing_in_a_pyramid(cell):
    encoder = PyramidalEncoder(keras.layers.Dense(D), U, num_layers=3, cell=cell)
    features, lengths = random(4, 9, 3), [9, 6, 1, 0]
    mask = np.arange(9) < np.array(lengths)[:, None]
    garbage = np.where(mask[:, :, None], features, np.nan).astype("float32")
    memory, memory_mask, final_state = encoder(garbage, source_mask=mask)
    assert memory.shape == (4, 3, 2 * U)
    np.testing.assert_array_equal(memory_mask, np.arange(3) < [[3], [2], [1], [0]])
    wider = np.pad(garbage, ((0, 0), (0, 4), (0, 0)), constant_values=np.nan)
    more, more_mask, more_final = encoder(wider, source_mask=np.pad(mask, ((0, 0), (0, 4))))
    assert_all_close((more[:, :3], more_final), (memory, final_state))
    assert not more_mask[:, 3:].numpy().any() and not more[:, 3:].numpy().any()
    ragged = tf.RaggedTensor.from_tensor(features, lengths)
    assert_all_close(encoder(ragged)[::2], (memory, final_state))
    for row, length in enumerate(lengths):
        alone, _, alone_final = encoder(features[row : row + 1, :length])
        steps = alone.shape[1]
        assert steps == -(-length // 4)
        np.testing.assert_allclose(memory[row, :steps], alone[0], atol=1e-5)
        np.testing.assert_array_equal(memory[row, steps:], np.zeros((3 - steps, 2 * U)))
        flat = [state[row : row + 1] for state in tf.nest.flatten(final_state)]
        assert_all_close(flat, alone_final)


def test_a_joined_step_is_real_if_any_of_its_parts_is():
    encoder = PyramidalEncoder(keras.layers.Dense(D), U, num_layers=2)
    mask = np.array([[False, True, False, False, True]])
    _, memory_mask, _ = encoder(random(1, 5, 3), source_mask=mask)
    np.testing.assert_array_equal(memory_mask, [[True, False, True]])


# The edges of encoders and decoders


def encoders(cell):
    return [
        *(make_encoder(num_layers=2, cell=cell, direction=d) for d in ("forward", "backward")),
        make_encoder(num_layers=2, cell=cell),
        PyramidalEncoder(TokenEmbedding(V, D), U, num_layers=2, cell=cell),
    ]


def graph_of(layer, *specs):
    return tf.function(lambda *inputs: layer(*inputs), input_signature=specs)


@every_cell
def test_an_encoder_of_no_step_has_no_memory_and_a_state_of_zeros(cell):
    for encoder in encoders(cell):
        graph = graph_of(encoder, tf.TensorSpec((None, None), tf.int32))
        for rows in (1, B):
            source = tf.zeros((rows, 0), tf.int32)
            for memory, memory_mask, final_state in (encoder(source), graph(source)):
                assert memory.shape[:2] == memory_mask.shape == (rows, 0)
                for state in tf.nest.flatten(final_state):
                    np.testing.assert_array_equal(state, np.zeros((rows, U)))


@every_cell
def test_one_row_of_one_step_is_the_first_of_a_longer_batch(cell):
    for encoder in encoders(cell):
        graph = graph_of(encoder, tf.TensorSpec((None, None), tf.int32))
        source = tf.constant([[3]])
        batch = encoder(np.array([[3, 0, 0], [4, 5, 6]]))
        expected = (batch[0][:1, :1], [state[:1] for state in tf.nest.flatten(batch[2])])
        for memory, _, final_state in (encoder(source), graph(source)):
            assert_all_close((memory, final_state), expected)


@every_style
@every_cell
def test_a_decoder_of_no_step_returns_none_and_of_one_step_the_first(cell, attend, input_feeding):
    decoder = make_decoder(cell=cell, attend=attend, input_feeding=input_feeding)
    graph = graph_of(decoder, tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None, M)))
    memory = tf.constant(random(B, S, M))
    expected = decoder(IDS, memory)
    for run in (decoder, graph):
        hidden, weights = run(tf.zeros((B, 0), tf.int32), memory)
        assert hidden.shape == (B, 0, U) and weights.shape == (B, 0, S)
        hidden, weights = run(tf.constant(IDS[:1, :1], tf.int32), memory[:1])
        assert_all_close((hidden, weights), [x[:1, :1] for x in expected])
        hidden, weights = run(tf.constant(IDS, tf.int32), memory[:, :0])
        assert np.isfinite(hidden).all() and weights.shape == (B, T, 0)


@every_cell
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_finite_numbers(dtype, cell):
    embedding = TokenEmbedding(V, D, dtype=dtype)
    layers = [
        RecurrentEncoder(embedding, U, 2, cell, dtype=dtype),
        PyramidalEncoder(embedding, U, 2, cell, dtype=dtype),
    ]
    for encoder in layers:
        memory, memory_mask, final_state = encoder(SOURCE)
        for x in (memory, *tf.nest.flatten(final_state)):
            assert x.dtype.name == dtype.removeprefix("mixed_")
            assert np.isfinite(tf.cast(x, tf.float32)).all()
        attention = BahdanauAttention(5, dtype=dtype)
        decoder = AttentionDecoder(embedding, U, attention, 2, cell, dtype=dtype)
        hidden, weights = decoder(IDS, memory, memory_mask=memory_mask)
        assert np.isfinite(tf.cast(hidden, tf.float32)).all()
        assert np.isfinite(tf.cast(weights, tf.float32)).all()


# Decoder


@every_style
@every_cell
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_stepwise_equals_the_whole(attention, cell, attend, input_feeding):
    decoder = make_decoder(
        attention, num_layers=2, cell=cell, attend=attend, input_feeding=input_feeding
    )
    memory = random(B, S, M)
    hidden, weights = decoder(IDS, memory, memory_mask=MASK)
    prepared = decoder.prepare(memory, MASK)
    state = decoder.initial_state(prepared, T)
    step_hidden, step_weights, _ = decode_stepwise(decoder, IDS, prepared, state)
    assert hidden.shape == (B, T, U) and weights.shape == (B, T, S)
    np.testing.assert_allclose(step_hidden, hidden, atol=1e-5)
    np.testing.assert_allclose(step_weights, weights, atol=1e-5)


@every_style
@every_cell
def test_gradients_of_the_whole_are_those_of_its_steps(cell, attend, input_feeding):
    """One product for all steps, and TensorFlow's sum of one for each."""
    decoder = make_decoder(
        num_layers=2, cell=cell, attend=attend, input_feeding=input_feeding, gate_context=True
    )
    memory = tf.constant(random(B, S, M))
    read = [memory, *decoder.trainable_variables]

    def gradients(run):
        with tf.GradientTape() as tape:
            tape.watch(memory)
            hidden, weights = run()
            loss = tf.reduce_sum(hidden * random(B, T, U)) + tf.reduce_sum(weights**2)
        return [tf.convert_to_tensor(x) for x in tape.gradient(loss, read)]

    def step_by_step():
        prepared = decoder.prepare(memory, MASK)
        return decode_stepwise(decoder, IDS, prepared, decoder.initial_state(prepared, T))[:2]

    assert_all_close(
        gradients(lambda: decoder(IDS, memory, memory_mask=MASK, training=True)),
        gradients(step_by_step),
    )


@every_style
@pytest.mark.parametrize("policies", [("float32", "mixed_bfloat16"), ("mixed_bfloat16", "float32")])
@pytest.mark.parametrize(
    ("attention", "argument"),
    [(LuongAttention, "general"), (BahdanauAttention, 5), (LocalAttention, 2)],
)
def test_an_attention_may_compute_in_another_dtype(
    attention, argument, policies, attend, input_feeding
):
    decoder = AttentionDecoder(
        TokenEmbedding(V, D),
        U,
        attention(argument, dtype=policies[0]),
        attend=attend,
        input_feeding=input_feeding,
        dtype=policies[1],
    )
    memory = random(B, S, M)
    with tf.GradientTape() as tape:
        hidden, weights = decoder(IDS, memory, memory_mask=MASK, training=True)
        loss = tf.reduce_sum(tf.cast(hidden, "float32") ** 2)
    assert hidden.dtype == weights.dtype == decoder.compute_dtype
    assert all(np.isfinite(x).all() for x in tape.gradient(loss, decoder.cells[0].weights))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize")
def test_a_quantized_model_has_the_same_decoder():
    decoder = make_decoder()
    model = keras.Model(
        (ids := keras.Input((None,), dtype="int32"), memory := keras.Input((None, M))),
        decoder(ids, memory)[0],
    )
    inputs = [IDS, random(B, S, M)]
    before = model(inputs)
    model.quantize("int8")
    after = model(inputs)
    np.testing.assert_allclose(after, before, atol=0.1 * np.abs(before).max())


@every_style
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_k_beams_folded_onto_one_memory_equal_k_separate_calls(attention, attend, input_feeding):
    decoder = make_decoder(attention, attend=attend, input_feeding=input_feeding)
    memory = random(B, S, M)
    prepared = decoder.prepare(memory, MASK)
    state = decoder.initial_state(prepared, T)
    ids = np.random.default_rng(1).integers(1, V, (B, K, T))
    tiled = tf.nest.map_structure(lambda x: tf.repeat(x, K, 0), state)
    hidden, weights, _ = decode_stepwise(decoder, ids.reshape(B * K, T), prepared, tiled)
    for k in range(K):
        expected, expected_weights, _ = decode_stepwise(decoder, ids[:, k], prepared, state)
        np.testing.assert_allclose(hidden[k::K], expected, atol=1e-5)
        np.testing.assert_allclose(weights[k::K], expected_weights, atol=1e-5)


@every_style
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_memory_padding_changes_no_output(attention, attend, input_feeding):
    decoder = make_decoder(attention, attend=attend, input_feeding=input_feeding)
    memory = random(B, S, M)
    hidden, weights = decoder(IDS, memory, memory_mask=MASK)
    more = ((0, 0), (0, 2))
    garbage = np.where(MASK[:, :, None], memory, np.nan)
    garbage = np.pad(garbage, (*more, (0, 0)), constant_values=np.nan).astype("float32")
    with tf.GradientTape() as tape:
        dirty, dirty_weights = decoder(IDS, garbage, memory_mask=np.pad(MASK, more))
        loss = tf.reduce_sum(dirty**2)
    np.testing.assert_allclose(dirty, hidden, atol=1e-5)
    np.testing.assert_allclose(dirty_weights[..., :S], weights, atol=1e-5)
    for gradient in tape.gradient(loss, decoder.trainable_variables):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_target_padding_changes_no_earlier_step():
    decoder = make_decoder()
    memory = random(B, S, M)
    hidden, weights = decoder(IDS, memory, memory_mask=MASK)
    longer, longer_weights = decoder(np.pad(IDS, ((0, 0), (0, 2))), memory, memory_mask=MASK)
    np.testing.assert_allclose(longer[:, :T], hidden, atol=1e-6)
    np.testing.assert_allclose(longer_weights[:, :T], weights, atol=1e-6)


def test_a_sentence_without_source_is_decoded_from_zeros():
    decoder = make_decoder()
    hidden, weights = decoder(
        IDS, random(B, S, M), memory_mask=np.stack([MASK[0], MASK[0] & False])
    )
    assert np.isfinite(hidden).all()
    np.testing.assert_array_equal(weights[1], np.zeros((T, S)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(x, h, c, w):
    """Hochreiter & Schmidhuber (1997) with a forget gate, in the gate order of Keras."""
    z = x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]
    i, f, g, o = np.split(z, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def lstm_bridge(decoder, summary):
    dense = {variable.name: variable.numpy() for variable in decoder.bridges[0].weights}
    return np.split(np.tanh(summary @ dense["kernel"] + dense["bias"]), 2, axis=-1)


def numpy_weights(decoder):
    names = ("kernel", "recurrent_kernel", "bias")
    cell = {name: getattr(decoder.cells[0], name).numpy() for name in names}
    return cell, decoder.readout.kernel.numpy(), decoder.readout.bias.numpy()


def attend(decoder, query, memory):
    """Attention of one query for each row; its own equation is tested in test_attention."""
    context, weights = decoder.attention(query[:, None].astype("float32"), memory, MASK)
    return context[:, 0].numpy(), weights[:, 0].numpy()


def test_a_bahdanau_decoder_asks_with_the_previous_state_and_feeds_the_context():
    decoder = make_decoder(attend="before")
    memory = random(B, S, M)
    hidden, weights = decoder(IDS, memory, memory_mask=MASK)
    cell, readout_kernel, readout_bias = numpy_weights(decoder)
    summary = np.stack([row[:length].mean(0) for row, length in zip(memory, LENGTHS, strict=True)])
    h, c = lstm_bridge(decoder, summary)
    for t in range(T):
        embedded = decoder.embedding.embeddings.numpy()[IDS[:, t]]
        context, expected_weights = attend(decoder, h, memory)
        h, c = lstm_step(np.concatenate([embedded, context], 1), h, c, cell)
        read = np.concatenate([h, context, embedded], 1) @ readout_kernel + readout_bias
        np.testing.assert_allclose(hidden[:, t], np.tanh(read), atol=1e-5)
        np.testing.assert_allclose(weights[:, t], expected_weights, atol=1e-5)


@pytest.mark.parametrize("attend_when", ["before", "after"])
def test_a_gate_scales_the_context_by_what_the_asking_state_says(attend_when):
    decoder = make_decoder(attend=attend_when, gate_context=True)
    memory = random(B, S, M)
    hidden, weights = decoder(IDS, memory, memory_mask=MASK)
    gate = decoder.gate.kernel.numpy(), decoder.gate.bias.numpy()
    cell, readout_kernel, readout_bias = numpy_weights(decoder)
    summary = np.stack([row[:length].mean(0) for row, length in zip(memory, LENGTHS, strict=True)])
    h, c = lstm_bridge(decoder, summary)
    fed = np.zeros((B, U))
    for t in range(T):
        embedded = decoder.embedding.embeddings.numpy()[IDS[:, t]]
        if attend_when == "after":
            h, c = lstm_step(np.concatenate([embedded, fed], 1), h, c, cell)
        context, expected_weights = attend(decoder, h, memory)
        context = context / (1 + np.exp(-(h @ gate[0] + gate[1])))
        if attend_when == "before":
            h, c = lstm_step(np.concatenate([embedded, context], 1), h, c, cell)
            read = np.concatenate([h, context, embedded], 1)
        else:
            read = np.concatenate([context, h], 1)
        fed = np.tanh(read @ readout_kernel + readout_bias)
        np.testing.assert_allclose(hidden[:, t], fed, atol=1e-5)
        np.testing.assert_allclose(weights[:, t], expected_weights, atol=1e-5)


@pytest.mark.parametrize("input_feeding", [True, False])
def test_a_luong_decoder_asks_with_the_current_state_and_feeds_its_output(input_feeding):
    decoder = make_decoder("luong_general", attend="after", input_feeding=input_feeding)
    memory = random(B, S, M)
    hidden, weights = decoder(IDS, memory, memory_mask=MASK)
    cell, readout_kernel, readout_bias = numpy_weights(decoder)
    summary = np.stack([row[:length].mean(0) for row, length in zip(memory, LENGTHS, strict=True)])
    h, c = lstm_bridge(decoder, summary)
    fed = np.zeros((B, U))
    for t in range(T):
        embedded = decoder.embedding.embeddings.numpy()[IDS[:, t]]
        x = np.concatenate([embedded, fed], 1) if input_feeding else embedded
        h, c = lstm_step(x, h, c, cell)
        context, expected_weights = attend(decoder, h, memory)
        fed = np.tanh(np.concatenate([context, h], 1) @ readout_kernel + readout_bias)
        np.testing.assert_allclose(hidden[:, t], fed, atol=1e-5)
        np.testing.assert_allclose(weights[:, t], expected_weights, atol=1e-5)


@every_cell
def test_the_cells_of_the_decoder_equal_those_of_pytorch(cell):
    torch = pytest.importorskip("torch")
    decoder = make_decoder("luong_general", cell=cell, input_feeding=False)
    prepared = decoder.prepare(random(B, S, M), MASK)
    state = decoder.initial_state(prepared, T)
    _, _, new_state = decoder.step(IDS[:, 1], state, 0, prepared)

    w = {name: value.numpy() for name, value in vars_of(decoder.cells[0]).items()}
    if cell == "lstm":  # both have the order i, f, g, o, but PyTorch has two biases
        peer, order = torch.nn.LSTMCell(D, U), [0, 1, 2, 3]
        biases = (w["bias"], np.zeros_like(w["bias"]))
    elif cell == "simple":
        peer, order = torch.nn.RNNCell(D, U), [0]
        biases = (w["bias"], np.zeros_like(w["bias"]))
    else:  # Keras has the order update, reset, new; PyTorch has reset, update, new
        peer, order = torch.nn.GRUCell(D, U), [1, 0, 2]
        biases = w["bias"]

    def gates(x):
        parts = np.split(x, len(order), axis=-1)
        return torch.tensor(np.concatenate([parts[i] for i in order], -1).T)

    with torch.no_grad():
        peer.weight_ih.copy_(gates(w["kernel"]))
        peer.weight_hh.copy_(gates(w["recurrent_kernel"]))
        peer.bias_ih.copy_(gates(biases[0]))
        peer.bias_hh.copy_(gates(biases[1]))
        x = torch.tensor(decoder.embedding(IDS[:, 1:2])[:, 0].numpy())
        states = [torch.tensor(s.numpy()) for s in state["cells"][0]]
        expected = peer(x, tuple(states)) if cell == "lstm" else [peer(x, states[0])]
    assert_all_close(new_state["cells"][0], [e.numpy() for e in expected])


def vars_of(cell):
    return {name: getattr(cell, name) for name in ("kernel", "recurrent_kernel", "bias")}


@pytest.mark.parametrize("summary", ["mean", "first"])
def test_the_initial_state_is_a_bridge_from_the_mean_or_the_first_step_of_the_memory(summary):
    decoder = make_decoder(summary=summary)
    memory = random(B, S, M)
    mean = np.stack([row[:length].mean(0) for row, length in zip(memory, LENGTHS, strict=True)])
    state = decoder.initial_state(decoder.prepare(memory, MASK), T)
    expected = lstm_bridge(decoder, mean if summary == "mean" else memory[:, 0])
    assert_all_close(state["cells"], [expected])
    np.testing.assert_array_equal(state["fed"], np.zeros((B, U)))


def test_without_attention_nothing_but_the_first_memory_is_read():
    decoder = make_decoder("fixed_context", attend="before", summary="first")
    memory = random(B, S, M)
    other = np.concatenate([memory[:, :1], random(B, S - 1, M, seed=5)], 1)
    assert_all_close(decoder(IDS, memory, memory_mask=MASK), decoder(IDS, other, memory_mask=MASK))


@every_style
@every_cell
def test_every_weight_of_a_decoder_gets_a_gradient(cell, attend, input_feeding):
    decoder = make_decoder(num_layers=2, cell=cell, attend=attend, input_feeding=input_feeding)

    @tf.function
    def gradients(ids, memory):
        with tf.GradientTape() as tape:
            hidden, _ = decoder(ids, memory, memory_mask=MASK)
            loss = tf.reduce_sum(hidden**2)
        return tape.gradient(loss, decoder.trainable_variables)

    for variable, gradient in zip(
        decoder.trainable_variables, gradients(IDS, random(B, S, M)), strict=True
    ):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


@every_style
def test_a_step_compiled_by_xla_equals_one_that_is_not(attend, input_feeding):
    decoder = make_decoder(num_layers=2, attend=attend, input_feeding=input_feeding)
    prepared = decoder.prepare(random(B, S, M), MASK)
    state = decoder.initial_state(prepared, T)
    compiled = tf.function(decoder.step, jit_compile=True)
    assert_all_close(
        compiled(IDS[:, 0], state, 0, prepared), decoder.step(IDS[:, 0], state, 0, prepared)
    )


def test_decoder_dropout_works_in_training_only():
    decoder = make_decoder(dropout=0.5)
    memory = random(B, S, M)
    calm, again = (decoder(IDS, memory, memory_mask=MASK)[0] for _ in range(2))
    np.testing.assert_array_equal(calm, again)
    dropped = decoder(IDS, memory, memory_mask=MASK, training=True)[0].numpy()
    assert 0.2 < (dropped == 0).mean() < 0.8


def test_an_embedding_shared_by_encoder_and_decoder_is_one_in_a_loaded_model(tmp_path):
    embedding = TokenEmbedding(V, D)
    source, ids = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    memory, memory_mask, _ = RecurrentEncoder(embedding, U)(source)
    decoder = AttentionDecoder(embedding, U, BahdanauAttention(5), attend="before")
    hidden, _ = decoder(ids, memory, memory_mask=memory_mask)
    model = keras.Model([source, ids], hidden)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    one, other = (layer.embedding for layer in loaded.layers if hasattr(layer, "embedding"))
    assert one is other
    np.testing.assert_allclose(loaded([SOURCE, IDS]), model([SOURCE, IDS]), atol=1e-6)


@pytest.mark.parametrize(
    ("message", "make_layer"),
    [
        (
            "`units` and `num_layers` must be at least 1, got units=0, num_layers=1.",
            lambda: RecurrentEncoder(TokenEmbedding(V, D), 0),
        ),
        (
            "`units` and `num_layers` must be at least 1, got units=11, num_layers=0.",
            lambda: make_decoder(num_layers=0),
        ),
        (
            '`cell` must be "lstm", "gru" or "simple", got cell=\'rnn\'.',
            lambda: make_encoder(cell="rnn"),
        ),
        (
            "`factor` must be at least 2, got factor=1.",
            lambda: PyramidalEncoder(TokenEmbedding(V, D), U, num_layers=2, factor=1),
        ),
        (
            "`units` and `num_layers` must be at least 1, got units=11, num_layers=0.",
            lambda: PyramidalEncoder(TokenEmbedding(V, D), U, num_layers=0),
        ),
        ("`dropout` must lie in [0, 1), got dropout=1.0.", lambda: make_encoder(dropout=1.0)),
        (
            '`direction` must be "forward", "backward" or "bidirectional", got direction=\'up\'.',
            lambda: make_encoder(direction="up"),
        ),
        (
            '`attend` must be "before" or "after", got attend=\'now\'.',
            lambda: make_decoder(attend="now"),
        ),
        (
            '`input_feeding` goes with attend="after": attend="before" feeds the context. '
            "Got input_feeding=True, attend='before'.",
            lambda: make_decoder(attend="before", input_feeding=True),
        ),
        (
            '`summary` must be "mean" or "first", got summary=\'last\'.',
            lambda: make_decoder(summary="last"),
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(message, make_layer):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_layer()


# The numbers of tfa.seq2seq


TFA = {  # means that its attention_wrapper_test.py asserts: output, last h, c and output, weights
    "bahdanau": (-0.003204414, 0.40868404, 0.89017969, 0.041453815, 0.125),
    "bahdanau_normalized": (-0.008089137, 0.49166861, 1.01068615, 0.042427111, 0.125),
    "luong": (-0.06124732, 0.52021580, 1.0964939, -0.0318060, 0.125),
    "monotonic": (0.007140680, 0.47012400, 1.0249618, 0.068432882, 0.07909643),
}
TFA_ATTENTIONS = {
    "bahdanau": lambda: BahdanauAttention(3),
    "bahdanau_normalized": lambda: BahdanauAttention(3, normalize=True),
    "luong": lambda: LuongAttention("general"),
    "monotonic": lambda: MonotonicAttention(3, score_bias=0.0),
}


def tfa_data():
    """The random numbers of its set-up, in its order: inputs, memory, mask, attention layer."""
    numbers = np.random.RandomState(87654321)
    numbers.randn(64, 10, 256)
    numbers.randint(1, high=10, size=64)
    numbers.randn(64, 12, 128)
    numbers.randint(12, size=64)
    inputs = numbers.randn(5, 4, 7).astype("float32")
    memory = numbers.randn(5, 8, 10).astype("float32")
    mask = np.arange(8) < np.array([3, 2, 3, 1, 1])[:, None]
    tf.random.set_seed(87654321)
    limit = np.sqrt(6 / (19 + 6))  # Glorot
    return inputs, memory, mask, tf.random.uniform((19, 6), -limit, limit, seed=1337).numpy()


@pytest.mark.parametrize("name", TFA)
def test_a_decoder_gives_the_numbers_that_tfa_seq2seq_published(name):
    inputs, memory, mask, layer = tfa_data()
    attention = TFA_ATTENTIONS[name]()
    decoder = AttentionDecoder(TokenEmbedding(20, 7), 9, attention)
    ids = np.arange(20).reshape(5, 4)
    decoder.build(ids.shape, memory.shape)
    decoder.embedding.set_weights([inputs.reshape(20, 7)])
    for variable in attention.weights:
        if variable.name in ("W", "U", "v"):
            variable.assign(np.ones(variable.shape))
    decoder.bridges[0].kernel.assign(np.zeros((10, 18)))  # its cells start from zeros
    # Its output, six wide, has no tanh. A thousandth of it is as good as linear, and the cell
    # reads it a thousand times as loud.
    tiny = 1e-3
    readout = np.zeros((19, 9))
    readout[:, :6] = tiny * np.concatenate([layer[9:], layer[:9]])  # [context; output] here
    decoder.readout.kernel.assign(readout)
    kernel = np.ones((16, 36))
    kernel[7:] = 1 / tiny
    decoder.cells[0].kernel.assign(kernel)
    decoder.cells[0].recurrent_kernel.assign(np.ones((9, 36)))

    prepared = decoder.prepare(memory, mask)
    state = decoder.initial_state(prepared, 3)
    hidden, weights, state = decode_stepwise(decoder, ids[:, :3], prepared, state)
    output = hidden.numpy()[..., :6] / tiny
    h, c = state["cells"][0]
    means = [np.mean(x) for x in (output, h, c, output[:, -1], weights)]
    np.testing.assert_allclose(means, TFA[name], atol=1e-5)
