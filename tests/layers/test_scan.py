"""The loop over steps: what it gives and its gradients, beside those of a plain Python loop."""

import functools
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.scan import StepProducts, scan

T, B, D, U = 5, 3, 4, 6


def random(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


X, START = random(T, B, D, seed=1), random(B, U, seed=2)
INPUT_KERNEL, KERNEL = random(D, U, seed=3), 0.3 * random(U, U, seed=4)
BIAS, READ_KERNEL = random(U, seed=5), random(U, U, seed=6)


def step(products, h):
    first, second = products
    h = tf.tanh(first(h))
    return [h, second(h, h * h)], h


def loop(x, start, bias, input_kernel, kernel, read_kernel, backward=False, training=True):
    """h_t = tanh(W x_t + b + R h_(t-1)), y_t = b + R' h_t + R h_t^2."""
    products = [
        StepProducts.from_known(x, input_kernel, bias, [kernel]),
        StepProducts.from_known(x[..., :0], input_kernel[:0], bias, [read_kernel, kernel]),
    ]
    (h, y), last = scan(lambda t, each, h: step(each, h), products, start, 2, backward, training)
    return h, y, last


def plain_loop(x, start, bias, input_kernel, kernel, read_kernel, backward=False):
    h, outputs = start, []
    for t in reversed(range(T)) if backward else range(T):
        h = tf.tanh(x[t] @ input_kernel + bias + h @ kernel)
        outputs.append((h, bias + h @ read_kernel + (h * h) @ kernel))
    outputs = outputs[::-1] if backward else outputs
    return *(tf.stack(each) for each in zip(*outputs, strict=True)), h


in_training = pytest.mark.parametrize("training", [False, True])
VALUES = (X, START, BIAS, INPUT_KERNEL, KERNEL, READ_KERNEL)


def with_gradients(run, values, backward):
    values = [tf.convert_to_tensor(value) for value in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = run(*values, backward=backward)
        loss = sum(
            tf.reduce_sum(tf.cast(x, tf.float32) * random(*x.shape, seed=8)) for x in outputs
        )
    return outputs, tape.gradient(loss, values)


def assert_all_close(actual, expected):
    for one, other in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@in_training
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_outputs_and_gradients_are_those_of_a_plain_loop(mode, backward, training):
    run = functools.partial(with_gradients, functools.partial(loop, training=training))
    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla", autograph=False)
    assert_all_close(run(VALUES, backward), with_gradients(plain_loop, VALUES, backward))


def test_sizes_are_known_at_the_call_alone():
    shapes = [(None, None, D), (None, U), *(value.shape for value in VALUES[2:])]

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape) for shape in shapes])
    def gradients(*values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = sum(tf.reduce_sum(x**2) for x in loop(*values))
        return tape.gradient(loss, values)

    for rows, steps in ((0, 2), (1, 1), (B, T)):
        values = [X[:steps, :rows], START[:rows], *VALUES[2:]]
        with tf.GradientTape() as tape:
            values = [tf.constant(value) for value in values]
            tape.watch(values)
            loss = sum(tf.reduce_sum(x**2) for x in loop(*values, training=False))
        assert_all_close(gradients(*values), tape.gradient(loss, values))


@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_loss_of_one_output_or_of_the_last_state_has_all_gradients(of):
    def one(run):
        return lambda *values, backward: run(*values)[of : of + 1]

    expected = with_gradients(one(plain_loop), VALUES, False)
    outputs, gradients = with_gradients(one(loop), VALUES, False)
    assert_all_close(outputs, expected[0])
    for actual, wanted in zip(gradients, expected[1], strict=True):
        actual = tf.zeros_like(wanted) if wanted is not None and actual is None else actual
        assert_all_close(actual, wanted if wanted is not None else tf.zeros_like(actual))


def test_gradients_are_asked_for_twice_and_from_outside_a_function():
    expected = with_gradients(plain_loop, VALUES, False)[1]
    inside = tf.function(loop, autograph=False)
    for run in (loop, inside):
        values = [tf.constant(value) for value in VALUES]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)
            loss = sum(tf.reduce_sum(x * random(*x.shape, seed=8)) for x in run(*values))
        for _ in range(2):
            assert_all_close(tape.gradient(loss, values), expected)


def test_a_graph_goes_when_nobody_holds_it():
    def traced():
        run = tf.function(lambda *values: with_gradients(loop, values, False)[1], autograph=False)
        return weakref.ref(run.get_concrete_function(*VALUES).graph)

    traced()
    graph = traced()
    gc.collect()
    assert graph() is None


def test_the_gradient_of_a_kernel_is_one_product_and_no_sum_in_the_loop():
    def gradients(*values):
        return with_gradients(loop, values, False)[1]

    graph = tf.function(gradients, autograph=False).get_concrete_function(*VALUES).graph
    loops = [op for op in graph.get_operations() if op.type in ("While", "StatelessWhile")]
    assert len(loops) == 2  # there and back
    bodies = {op.get_attr("body").name for op in loops}
    functions = graph.as_graph_def().library.function
    products = [used(each).count("MatMul") for each in functions if each.signature.name in bodies]
    assert products == [3, 3]  # there, and back to the inputs alone


def used(function):
    """The kinds of ops on which what a function returns depends."""
    nodes = {node.name: node for node in function.node_def}
    wanted, found = [name.split(":")[0] for name in function.ret.values()], set()
    while wanted:
        name = wanted.pop()
        if name in nodes and name not in found:
            found.add(name)
            wanted += [each.split(":")[0].lstrip("^") for each in nodes[name].input]
    return [nodes[name].op for name in found]


def test_in_bfloat16_a_gradient_is_rounded_once():
    values = [tf.cast(value, "bfloat16") for value in VALUES]
    many = [tf.repeat(values[0], 40, 0), *values[1:]]
    _, gradients = with_gradients(loop, many, False)
    _, precise = with_gradients(loop, [tf.cast(value, "float32") for value in many], False)
    for actual, wanted in zip(gradients[3:], precise[3:], strict=True):
        error = tf.reduce_max(tf.abs(tf.cast(actual, "float32") - wanted))
        assert error < 0.03 * tf.reduce_max(tf.abs(wanted))


def test_a_single_step_needs_no_loop():
    from_known = StepProducts.from_known
    first = from_known(tf.constant(X[0]), INPUT_KERNEL, BIAS, [KERNEL])
    nothing = tf.constant(X[0, :, :0])
    second = from_known(nothing, INPUT_KERNEL[:0], BIAS, [READ_KERNEL, KERNEL])
    (h, y), last = step([first, second], tf.constant(START))
    expected = plain_loop(*(tf.convert_to_tensor(value) for value in VALUES))
    np.testing.assert_allclose(h, expected[0][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y, expected[1][0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(h, last)
