"""The loop over steps: what it gives and its gradients, beside those of a plain Python loop."""

import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.scan import Products, scan

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


def loop(x, start, bias, input_kernel, kernel, read_kernel, backward=False):
    """h_t = tanh(W x_t + b + R h_(t-1)), y_t = b + R' h_t + R h_t^2."""
    products = [
        Products.of(x, input_kernel, bias, [kernel]),
        Products.of(x[..., :0], input_kernel[:0], bias, [read_kernel, kernel]),
    ]
    (h, y), last = scan(lambda t, each, h: step(each, h), products, start, 2, backward)
    return h, y, last


def plain_loop(x, start, bias, input_kernel, kernel, read_kernel, backward=False):
    h, outputs = start, []
    for t in reversed(range(T)) if backward else range(T):
        h = tf.tanh(x[t] @ input_kernel + bias + h @ kernel)
        outputs.append((h, bias + h @ read_kernel + (h * h) @ kernel))
    outputs = outputs[::-1] if backward else outputs
    return *(tf.stack(each) for each in zip(*outputs, strict=True)), h


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


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_outputs_and_gradients_are_those_of_a_plain_loop(mode, backward):
    run = with_gradients
    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla", autograph=False)
    expected = with_gradients(plain_loop, VALUES, backward)
    for actual, wanted in zip(
        tf.nest.flatten(run(loop, VALUES, backward)), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


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
    first, second = (
        Products.of(tf.constant(X[0]), INPUT_KERNEL, BIAS, [KERNEL]),
        Products.of(tf.constant(X[0, :, :0]), INPUT_KERNEL[:0], BIAS, [READ_KERNEL, KERNEL]),
    )
    (h, y), last = step([first, second], tf.constant(START))
    expected = plain_loop(*(tf.convert_to_tensor(value) for value in VALUES))
    np.testing.assert_allclose(h, expected[0][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y, expected[1][0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(h, last)
