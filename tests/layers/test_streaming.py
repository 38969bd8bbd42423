"""Streams in chunks: the chunks equal the whole, whoever keeps the state between them."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.batching import stream_chunks
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.layers.streaming import StatefulRNN, StreamingRNN

B, T, F, U = 3, 7, 2, 5
every_cell = pytest.mark.parametrize("cell", ["lstm", "gru", "simple"])
both_layers = pytest.mark.parametrize("make", [StreamingRNN, StatefulRNN])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_all_close(actual, expected, atol=1e-6):
    for a, b in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def assert_all_equal(actual, expected):
    for a, b in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def in_pieces(x, steps):
    return [x[:, i : i + steps] for i in range(0, x.shape[1], steps)]


def stored(layer, training=False):
    return layer.training_state if training else layer.inference_state


# State in, state out


@every_cell
def test_a_thousand_steps_in_chunks_of_seven_equal_one_pass(cell):
    x = random(5, 1000, F)
    layer = StreamingRNN(U, num_layers=2, cell=cell)
    step, state, parts = tf.function(layer, reduce_retracing=True), layer.initial_state(5), []
    whole, final = step(x, state)
    for chunk in in_pieces(x, 7):
        y, state = step(chunk, state)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)
    assert_all_close(state, final, atol=1e-5)


@every_cell
def test_a_streaming_rnn_computes_what_a_forward_encoder_does(cell):
    encoder = RecurrentEncoder(keras.layers.Identity(), U, 2, cell, direction="forward")
    layer = StreamingRNN(U, num_layers=2, cell=cell)
    x, mask = random(B, T, F), np.arange(T) < [[7], [4], [0]]
    memory, _, final_state = encoder(x, source_mask=mask)
    layer(x)
    layer.set_weights(encoder.get_weights())
    y, state = layer(x, mask=mask)
    assert_all_equal(y, memory)
    assert_all_equal(state, final_state)


def test_an_elman_network_is_its_equation():
    layer = StreamingRNN(U, cell="simple")
    x = random(B, T, F)
    layer(x)
    layer.set_weights([random(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    w, r, b = layer.get_weights()
    h = start = random(B, U, seed=9)
    expected = []
    for t in range(T):
        h = np.tanh(x[:, t] @ w + h @ r + b)
        expected.append(h)
    y, state = layer(x, ((start,),))
    np.testing.assert_allclose(y, np.stack(expected, 1), atol=1e-5)
    np.testing.assert_allclose(state[0][0], h, atol=1e-5)


@pytest.mark.parametrize("graph", [False, True])
def test_a_reset_row_begins_a_new_stream_and_leaves_the_others_alone(graph):
    layer = StreamingRNN(U, num_layers=2)
    run = tf.function(layer) if graph else layer
    first, second = random(B, T, F), random(B, T, F, seed=1)
    _, state = layer(first)
    y, new_state = run(second, state, reset=np.array([False, False, True]))
    on, on_state = run(second, state, reset=np.zeros(B, bool))
    anew, anew_state = run(second, layer.initial_state(B), reset=np.zeros(B, bool))
    for got, went_on, began in zip(
        tf.nest.flatten([y, new_state]),
        tf.nest.flatten([on, on_state]),
        tf.nest.flatten([anew, anew_state]),
        strict=True,
    ):
        np.testing.assert_array_equal(got[:2], went_on[:2])
        np.testing.assert_array_equal(got[2], began[2])
        assert np.abs(got[2] - went_on[2]).max() > 1e-3


def test_a_state_of_nan_is_forgotten_too():
    layer = StreamingRNN(U)
    bad = tf.nest.map_structure(lambda s: s * np.nan, layer.initial_state(B))
    x = random(B, T, F)
    assert_all_equal(layer(x, bad, reset=np.ones(B, bool)), layer(x))


@every_cell
def test_a_masked_step_keeps_the_state_and_gives_zeros(cell):
    layer = StreamingRNN(U, num_layers=2, cell=cell)
    x = random(B, T, F)
    _, state = layer(random(B, T, F, seed=3))
    mask = np.array([1, 0, 1, 1, 0, 0, 1], bool)
    dirty = np.where(mask[:, None], x, np.nan).astype("float32")
    y, new_state = layer(dirty, state, mask=np.tile(mask, (B, 1)))
    expected, expected_state = layer(x[:, mask], state)
    np.testing.assert_allclose(y.numpy()[:, mask], expected, atol=1e-6)
    np.testing.assert_array_equal(y.numpy()[:, ~mask], np.zeros((B, 3, U)))
    assert_all_close(new_state, expected_state)


def test_ragged_chunks_equal_padded_ones_and_the_whole_of_each_row():
    layer, lengths = StreamingRNN(U), [7, 3, 0]
    x = random(B, T, F)
    ragged = tf.RaggedTensor.from_tensor(x, lengths)
    mask = np.arange(T) < np.array(lengths)[:, None]
    expected = layer(x, mask=mask)
    assert_all_equal(layer(ragged), expected)
    following = random(B, 4, F, seed=1)
    y, _ = layer(following, layer(ragged)[1])
    for row, length in enumerate(lengths):
        whole, _ = layer(np.concatenate([x[row, :length], following[row]])[None])
        np.testing.assert_allclose(y[row], whole[0, length:], atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [1, B])
@every_cell
def test_a_chunk_without_steps_changes_nothing(cell, rows, masked):
    layer = StreamingRNN(U, num_layers=2, cell=cell)
    _, state = layer(random(rows, T, F))

    def run(x):
        return layer(x, state, mask=tf.ones(tf.shape(x)[:2], tf.bool) if masked else None)

    graph = tf.function(run, input_signature=[tf.TensorSpec((None, None, F))])
    x = tf.zeros((rows, 0, F))
    for y, new_state in (run(x), graph(x)):
        assert y.shape == (rows, 0, U)
        assert_all_equal(new_state, state)


def test_the_mask_that_keras_knows_is_taken_with_and_without_a_reset():
    layer = StreamingRNN(U)
    x, mask = random(B, T, F), np.arange(T) < [[7], [3], [1]]
    masked = keras.layers.Masking(9.0)(np.where(mask[:, :, None], x, np.float32(9)))
    expected = layer(x, mask=mask)
    assert_all_equal(layer(masked), expected)
    assert_all_equal(layer(masked, layer.initial_state(B), np.zeros(B, bool)), expected)


def test_dropout_works_in_training_only():
    layer, x = StreamingRNN(U, dropout=0.5), random(B, T, F)
    assert_all_equal(layer(x)[0], layer(x)[0])
    assert np.abs(layer(x, training=True)[0] - layer(x)[0]).max() > 1e-3


def streaming_model(layer):
    """x, reset and every state tensor in; y and every state tensor out, all of them named."""
    x = keras.Input((None, F), name="x")
    reset = keras.Input((), dtype="bool", name="reset")
    states = [
        keras.Input((U,), name=f"state_{i}")
        for i in range(len(tf.nest.flatten(layer.initial_state(1))))
    ]
    y, new_state = layer(x, tf.nest.pack_sequence_as(layer.initial_state(1), states), reset)
    outputs = {f"state_{i}": s for i, s in enumerate(tf.nest.flatten(new_state))}
    inputs = {tensor.name: tensor for tensor in (x, reset, *states)}
    return keras.Model(inputs, {"y": y, **outputs})


def test_two_clients_of_an_exported_layer_do_not_see_each_other(tmp_path):
    layer = StreamingRNN(U, num_layers=2)
    model = streaming_model(layer)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    path = str(tmp_path / "saved_model")
    archive = keras.export.ExportArchive()
    archive.track(loaded)
    specs = {
        name: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in loaded.input.items()
    }
    archive.add_endpoint("serving_default", loaded, [specs])
    archive.write_out(path, verbose=False)

    x = [random(1, 9, F, seed=1), random(2, 9, F, seed=2)]  # of the two clients
    zeros = [{f"state_{i}": np.zeros((len(one), U), "float32") for i in range(4)} for one in x]

    def interleaved(answer):
        states, parts = list(zeros), [[], []]
        for start in range(0, 9, 4):
            for client in (0, 1):
                chunk = x[client][:, start : start + 4]
                request = {"x": chunk, "reset": np.zeros(len(chunk), bool), **states[client]}
                outputs = answer(request)
                parts[client].append(outputs.pop("y"))
                states[client] = outputs
        return [np.concatenate(part, 1) for part in parts]

    expected = [layer(one)[0] for one in x]
    served = tf.saved_model.load(path)
    signature = served.signatures["serving_default"]
    assert_all_close(
        interleaved(lambda r: {k: v.numpy() for k, v in signature(**as_tensors(r)).items()}),
        expected,
    )

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], path)
        ends = meta.signature_def["serving_default"]
        fetches = {name: info.name for name, info in ends.outputs.items()}

        def answer(request):
            return session.run(fetches, {ends.inputs[k].name: v for k, v in request.items()})

        assert_all_close(interleaved(answer), expected)


def as_tensors(values):
    return {name: tf.constant(value) for name, value in values.items()}


# State kept for `fit`


@every_cell
def test_a_stateful_layer_goes_on_where_it_stopped_until_it_is_reset(cell):
    layer = StatefulRNN(U, num_layers=2, cell=cell)
    x = random(B, 9, F)
    whole = layer(x)
    layer.reset()
    np.testing.assert_allclose(
        np.concatenate([layer(c) for c in in_pieces(x, 4)], 1), whole, atol=1e-6
    )
    assert np.abs(layer(x) - whole).max() > 1e-3
    layer.reset()
    np.testing.assert_array_equal(layer(x), whole)


def test_a_stateful_layer_resets_single_rows():
    layer = StatefulRNN(U)
    x, reset = random(B, T, F), np.array([False, True, False])
    layer(x)
    state = layer.rnn(x)[1]
    np.testing.assert_array_equal(layer(x, reset=reset), layer.rnn(x, state, reset)[0])


def test_training_and_inference_have_a_state_each():
    layer = StatefulRNN(U)
    x = random(B, T, F)
    layer(x, training=True)
    layer(random(2, T, F), training=False)
    layer(random(2, T, F, seed=5), training=False)
    expected, _ = layer.rnn(x, layer.rnn(x)[1])
    np.testing.assert_array_equal(layer(x, training=True), expected)


@pytest.mark.parametrize("graph", [False, True])
def test_the_number_of_rows_may_change_only_where_all_start_anew(graph):
    layer = StatefulRNN(U)
    run = layer
    if graph:
        run = tf.function(
            lambda x, reset: layer(x, reset=reset),
            input_signature=[tf.TensorSpec((None, None, F)), tf.TensorSpec((None,), tf.bool)],
        )
    layer(random(B, T, F))
    for rows in (1, B, 5, 2):  # fewer and more
        x = random(rows, T, F, seed=rows)
        np.testing.assert_allclose(run(x, reset=tf.ones(rows, tf.bool)), layer.rnn(x)[0], atol=1e-6)
        assert all(variable.shape[0] is None for variable in stored(layer))
        assert [len(variable.numpy()) for variable in stored(layer)] == [rows, rows]
    message = (
        r"the number of rows may change only if all of them start anew, "
        r"by `reset` or after `reset\(\)`; rows stored and rows of `x`:.*\s*\[?2\]?\s+\[?3\]?"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(random(3, T, F), reset=tf.constant([True, True, False]))
    layer.reset()
    assert run(random(3, T, F), reset=tf.constant([True, True, False])).shape == (3, T, U)


def test_without_reset_flags_another_number_of_rows_is_refused():
    layer = StatefulRNN(U)
    layer(random(B, T, F))
    with pytest.raises(tf.errors.InvalidArgumentError, match="may change only if all"):
        layer(random(1, T, F))


def functional_model(layer, masking=False):
    x = keras.Input((None, F), name="x")
    reset = keras.Input((), dtype="bool", name="reset")
    hidden = layer(keras.layers.Masking(0.0)(x) if masking else x, reset=reset)
    return keras.Model({"x": x, "reset": reset}, keras.layers.Dense(1)(hidden))


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.head = keras.layers.Dense(1)

    def call(self, inputs, training=False):
        return self.head(self.layer(inputs["x"], reset=inputs["reset"], training=training))


every_model = pytest.mark.parametrize("make_model", [functional_model, Subclassed])


def chunks(x, steps=4):
    """A data set of chunks; all rows start anew at the first one."""

    def generate():
        for i, chunk in enumerate(in_pieces(x, steps)):
            reset = np.full(len(chunk), i == 0)
            yield {"x": chunk, "reset": reset}, chunk[..., :1]

    signature = (
        {"x": tf.TensorSpec((None, None, F)), "reset": tf.TensorSpec((None,), tf.bool)},
        tf.TensorSpec((None, None, 1)),
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(in_pieces(x, steps))))


@every_cell
@every_model
def test_predict_over_chunks_equals_one_pass(make_model, cell):
    layer = StatefulRNN(U, num_layers=2, cell=cell)
    model = make_model(layer)
    x = random(B, 12, F)
    for _ in range(2):  # the reset flags begin the second pass anew
        y = model.predict(chunks(x), verbose=0)
        expected = model.layers[-1](layer.rnn(x)[0])
        # `predict` puts the batches below each other.
        np.testing.assert_allclose(np.concatenate(np.split(y, 3), 1), expected, atol=1e-6)


@every_cell
@every_model
def test_fit_keeps_the_state_between_batches_and_evaluate_leaves_it_alone(make_model, cell):
    layer = StatefulRNN(U, cell=cell)
    model = make_model(layer)
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.0
    x = random(B, 12, F)
    other = chunks(random(2, 8, F, seed=4))
    history = model.fit(chunks(x), validation_data=other, epochs=2, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    final = tf.nest.flatten(layer.rnn(x)[1])
    assert_all_close(layer.training_state, final)
    model.evaluate(other, verbose=0)
    assert_all_close(layer.training_state, final)
    assert [len(variable.numpy()) for variable in layer.inference_state] == [2] * len(final)


def test_building_a_model_symbolically_stores_nothing():
    layer = StatefulRNN(U)
    model = functional_model(layer)
    model.summary(print_fn=lambda *_: None)
    for variable in (*layer.training_state, *layer.inference_state):
        assert variable.numpy().shape == (0, U)


def test_the_gradient_of_a_chunk_is_that_with_its_initial_state_a_constant():
    layer = StatefulRNN(U, num_layers=2)
    head = keras.layers.Dense(1)
    x = keras.Input((None, F), name="x")
    reset = keras.Input((), dtype="bool", name="reset")
    model = keras.Model({"x": x, "reset": reset}, head(layer(x, reset=reset)))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    source = random(B, 8, F)
    first, second = in_pieces(source, 4)
    _, state = layer.rnn(first)
    state = tf.nest.map_structure(lambda s: tf.constant(s.numpy()), state)
    variables = model.trainable_variables
    layer(first, training=True)
    with tf.GradientTape() as tape:
        y, _ = layer.rnn(second, state)
        loss = tf.reduce_mean((head(y) - second[..., :1]) ** 2)
    gradients = tape.gradient(loss, [v.value for v in variables])
    before = [v.numpy() for v in variables]
    data = {"x": second, "reset": np.zeros(B, bool)}
    model.fit(data, second[..., :1], batch_size=B, shuffle=False, verbose=0)
    steps = [b - v.numpy() for b, v in zip(before, variables, strict=True)]
    assert_all_close(steps, gradients)


def test_no_gradient_reaches_the_chunk_before():
    layer = StatefulRNN(U)
    first, second = tf.constant(random(B, 4, F)), tf.constant(random(B, 4, F, seed=1))
    with tf.GradientTape() as tape:
        tape.watch([first, second])
        layer(first)
        loss = tf.reduce_sum(layer(second) ** 2)
    past, present = tape.gradient(loss, [first, second])
    assert past is None
    assert np.abs(present).max() > 0


@both_layers
def test_every_weight_gets_a_gradient(make):
    layer = make(U, num_layers=2, dropout=0.1)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nest.flatten(layer(x, training=True))[0] ** 2)
        return tape.gradient(loss, [v.value for v in layer.trainable_variables])

    layer.build((B, T, F))
    for gradient in gradients(random(B, T, F)):
        assert np.abs(gradient).max() > 0


def test_a_stateful_layer_comes_back_from_its_config_and_its_file_without_state(tmp_path):
    layer = StatefulRNN(U, num_layers=2, cell="gru", dropout=0.1)
    config = keras.saving.serialize_keras_object(layer)
    assert {k: config["config"][k] for k in ("units", "num_layers", "cell", "dropout")} == {
        "units": U,
        "num_layers": 2,
        "cell": "gru",
        "dropout": 0.1,
    }
    copy = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(copy)["config"] == config["config"]

    model = functional_model(layer)
    values = {"x": random(B, T, F), "reset": np.zeros(B, bool)}
    first = model(values)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights) == 2 * 3 + 2
    np.testing.assert_array_equal(loaded(values), first)  # it starts from zeros
    np.testing.assert_array_equal(loaded(values), model(values))  # and both go on


@both_layers
@every_cell
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_finite_numbers_close_to_float32(dtype, cell, make):
    layer, exact = make(U, 2, cell, dtype=dtype), make(U, 2, cell)
    x = random(B, T, F)
    reset = np.array([True, False, False])
    exact.build(x.shape)
    layer.build(x.shape)
    layer.set_weights(exact.get_weights())
    for _ in range(2):
        y = tf.nest.flatten(layer(x, reset=reset))[0]
        expected = tf.nest.flatten(exact(x, reset=reset))[0]
        assert y.dtype.name == dtype.removeprefix("mixed_")
        np.testing.assert_allclose(tf.cast(y, tf.float32), expected, atol=0.05)


@every_cell
def test_fit_in_mixed_precision_keeps_a_state_of_the_compute_dtype(cell):
    layer = StatefulRNN(U, cell=cell, dtype="mixed_bfloat16")
    model = functional_model(layer)
    model.compile("adam", "mse")
    model.fit(chunks(random(B, 12, F)), shuffle=False, verbose=0)
    for variable in layer.training_state:
        assert variable.dtype == tf.bfloat16
        assert np.isfinite(tf.cast(variable, tf.float32)).all()


def test_a_stateful_layer_takes_ragged_chunks_masks_and_chunks_without_steps():
    layer, lengths = StatefulRNN(U), [7, 3, 0]
    x = random(B, T, F)
    mask = np.arange(T) < np.array(lengths)[:, None]
    expected, state = layer.rnn(x, mask=mask)
    np.testing.assert_array_equal(layer(tf.RaggedTensor.from_tensor(x, lengths)), expected)
    assert_all_equal(stored(layer), tf.nest.flatten(state))
    assert layer(tf.zeros((B, 0, F))).shape == (B, 0, U)
    assert_all_equal(stored(layer), tf.nest.flatten(state))
    np.testing.assert_array_equal(layer(x, mask=mask), layer.rnn(x, state, mask=mask)[0])


def test_a_stateful_layer_takes_the_mask_that_keras_knows_and_hands_it_on():
    layer = StatefulRNN(U)
    x, mask = random(B, T, F), np.arange(T) < [[7], [3], [1]]
    masked = keras.layers.Masking(0.0)(np.where(mask[:, :, None], x, np.float32(0)))
    y = layer(masked, reset=np.ones(B, bool))
    np.testing.assert_allclose(y, layer.rnn(x, mask=mask)[0], atol=1e-6)
    np.testing.assert_array_equal(y._keras_mask, mask)


@both_layers
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"units": 0},
            "`units` and `num_layers` must be at least 1, got units=0, num_layers=1.",
        ),
        (
            {"units": U, "cell": "rnn"},
            '`cell` must be "lstm", "gru" or "simple", got cell=\'rnn\'.',
        ),
        ({"units": U, "dropout": 1.0}, "`dropout` must lie in [0, 1), got dropout=1.0."),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(make, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**arguments)


def test_a_state_of_another_stack_is_refused():
    message = "`state` must have 2 layers of 1 tensors each, got layers of [2] tensors."
    state = StreamingRNN(U).initial_state(B)
    with pytest.raises(ValueError, match=re.escape(message)):
        StreamingRNN(U, num_layers=2, cell="gru")(random(B, T, F), state)


# Data, and what the state is good for


def test_chunks_in_order_give_every_stream_back_to_one_row():
    lengths = [5, 11, 1, 4, 6]
    streams = [(random(n, F, seed=n), np.arange(n) + 100 * n) for n in lengths]
    dataset = stream_chunks(streams, rows=2, steps=4)
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == dataset.cardinality()
    assert batches[0][0]["reset"].all()
    found, running = [], [None, None]
    for inputs, target, weights in batches:
        assert inputs["x"].shape == (2, 4, F) and target.shape == (2, 4)
        np.testing.assert_array_equal(weights, inputs["mask"].astype("float32"))
        assert not inputs["x"][~inputs["mask"]].any() and not target[~inputs["mask"]].any()
        for row in range(2):
            if inputs["reset"][row]:
                running[row] = []
                found.append(running[row])
            real = inputs["mask"][row]
            running[row] += list(zip(inputs["x"][row, real], target[row, real], strict=True))
    found = [stream for stream in found if stream]  # an idle row is reset, too
    assert sorted(len(stream) for stream in found) == sorted(lengths)
    for stream in found:
        x, target = streams[lengths.index(len(stream))]
        np.testing.assert_array_equal([step for step, _ in stream], x)
        np.testing.assert_array_equal([label for _, label in stream], target)


def test_streams_of_whole_numbers_and_of_others_are_chunks_of_one_type():
    streams = [([[1], [2]], [0, 1]), ([[0.5], [0.7]], [0.5, 0.25])]
    (first, *_), (second, target, _) = stream_chunks(streams, 1, 2).as_numpy_iterator()
    assert first["x"].ravel().tolist() == [1, 2]
    assert second["x"].ravel().tolist() == [0.5, 0.7] and target.tolist() == [[0.5, 0.25]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ([], 2, 3),
            "`streams` must not be empty, and `rows` and `steps` must be at least 1, "
            "got 0 streams, rows=2, steps=3.",
        ),
        (([(np.ones((5, F)), np.ones(5))], 0, 3), "got 1 streams, rows=0, steps=3."),
        (
            ([(np.ones((5, F)), np.ones(5)), (np.ones((5, F)), np.ones(4))], 2, 3),
            "`streams[1]` must have as many steps in x as in target, got 5 and 4.",
        ),
    ],
)
def test_bad_streams_are_named_with_their_rule_and_value(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        stream_chunks(*arguments)


@pytest.mark.slow
def test_what_was_seen_chunks_ago_is_known_to_the_stateful_layer_alone():
    """A key of -1 or 1 stands at the start of a stream of 20 steps; each step is to say it.

    In chunks of 5 steps three of four begin without it: the best stateless answer there is 0,
    with a mean squared error of 1.
    """
    random_keys = np.random.default_rng(0)

    def streams(count):
        made = []
        for _ in range(count):
            x = np.zeros((20, F), "float32")
            x[0, 0] = random_keys.choice([-1, 1])
            x[:, 1] = random_keys.normal(size=20) * 0.1
            made.append((x, np.full((20, 1), x[0, 0])))
        return made

    train, test = streams(640), streams(64)

    def error(layer, stateful):
        x, reset = keras.Input((None, F), name="x"), keras.Input((), dtype="bool", name="reset")
        mask = keras.Input((None,), dtype="bool", name="mask")
        hidden = layer(x, reset=reset, mask=mask)
        hidden = hidden if stateful else hidden[0]
        model = keras.Model({"x": x, "reset": reset, "mask": mask}, keras.layers.Dense(1)(hidden))
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.fit(stream_chunks(train, 16, 5), epochs=4, shuffle=False, verbose=0)
        return model.evaluate(stream_chunks(test, 16, 5), verbose=0)

    with_state = error(StatefulRNN(16, cell="gru"), True)
    without = error(StreamingRNN(16, cell="gru"), False)
    assert without > 0.6
    assert with_state < without / 2


def test_other_features_than_the_layer_was_built_for_are_refused():
    rnn = StreamingRNN(4)
    rnn(tf.ones((1, 2, 3)))
    with pytest.raises(ValueError, match="built for 3 features in a step, got 5"):
        rnn(tf.ones((1, 2, 5)))
