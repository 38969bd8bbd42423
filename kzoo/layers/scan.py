"""The loop over the steps of a recurrent layer, and the matrix products in it.

Axis letters: B batch, T steps, D features, V outputs.
"""

import functools

import tensorflow as tf

from kzoo.layers.products import product, sizes


class StepProducts:
    """y = a + sum_k x^k W^k, in one step or in each step of a `scan`.

    Args:
        a: (B, V) float, or (T, B, V) for a `scan`: what is known before the loop.
        kernels: list of the W^k, (D_k, V) each.

    Call arguments:
        *inputs: the x^k, (B, D_k) each.

    Attributes:
        inputs: those of the last call.
    """

    def __init__(self, a, kernels):
        self.a, self.kernels = a, [tf.cast(kernel, a.dtype) for kernel in kernels]

    @classmethod
    def from_known(cls, known, kernel, bias, kernels):
        """Those with a = W x + b, where x, (..., D), is `known`; D may be 0."""
        if kernel.shape[0] == 0:  # oneDNN ends the process if a product with a bias sums nothing
            rows = tf.zeros((*sizes(known)[:-1], kernel.shape[1]), known.dtype)
            return cls(rows + tf.cast(bias, known.dtype), kernels)
        return cls(product(known, kernel, bias), kernels)

    def __call__(self, *inputs):
        self.inputs = inputs
        parts = [tf.matmul(x, w) for x, w in zip(inputs, self.kernels, strict=True)]
        return tf.add_n([self.a, *parts]) if parts else self.a


def scan(one_step, products, state, num_outputs, backward=False, training=False):
    """outputs_t, state_t = one_step(t, products_t, state_(t-1)) for t = 0 ... T - 1, one by one.

    In training, the gradient of a kernel is dW = sum_t x_t^T dy_t: one product for all steps, after
    the loop back. TensorFlow would sum it in every step, reading and writing as much as W has.

    Two identities bring x_t, which is known after the loop, and dy_t together. `_before_loop` hands
    on `a` and zeros beside it, one tensor for each kernel; `_after_loop` hands on the outputs, and
    says that the gradient of these zeros is what the kernels were multiplied with. So the gradient
    of `_before_loop` gets both. Second derivatives are right outside of training only.

    Args:
        one_step: function of t, of a list of StepProducts, to be called once each, and of a state.
        products: list of StepProducts with `a` (T, B, V), T at least 1.
        state: nested float tensors, what the first step begins from.
        num_outputs: int, length of the list `outputs_t`, of tensors of the products' dtype.
        backward: bool, whether the steps go from T - 1 to 0.
        training: bool, whether kernels get their gradients as above.

    Returns:
        outputs: list of (T, ...). state: after the last step.
    """
    dtype, steps = products[0].a.dtype, tf.shape(products[0].a)[0]
    given, zeros = _with_gradients(products) if training else ([each.a for each in products], [])
    given = [tf.TensorArray(dtype, steps).unstack(a) for a in given]

    def at(t, each, array):
        a = array.read(t)
        a.set_shape(each.a.shape[1:])  # TensorFlow Lite has no op that ensures it
        # Stopped before the loop, they would have their gradients summed in it all the same.
        return StepProducts(a, map(tf.stop_gradient, each.kernels) if training else each.kernels)

    def body(step, outputs, inputs, state):
        t = steps - 1 - step if backward else step
        at_t = [at(t, each, array) for each, array in zip(products, given, strict=True)]
        new, state = one_step(t, at_t, state)
        if training:
            multiplied = [tf.stop_gradient(x) for each in at_t for x in each.inputs]
            inputs = _written(inputs, t, multiplied)
        return step + 1, _written(outputs, t, new), inputs, state

    _, outputs, inputs, state = tf.while_loop(
        lambda step, *_: step < steps,
        body,
        (0, _arrays(dtype, steps, num_outputs), _arrays(dtype, steps, len(zeros)), state),
        maximum_iterations=steps,
    )
    outputs = [_stacked(array, products[0].a.shape[:1]) for array in outputs]
    if not training:
        return outputs, state
    inputs = [tf.stop_gradient(array.stack()) for array in inputs]
    return _after_loop(zeros, inputs, (outputs, state))


def _arrays(dtype, steps, count):
    return [tf.TensorArray(dtype, steps) for _ in range(count)]


def _written(arrays, t, tensors):
    return [array.write(t, x) for array, x in zip(arrays, tensors, strict=True)]


def _stacked(array, known_steps):
    x = array.stack()
    x.set_shape(known_steps + x.shape[1:])
    return x


def _with_gradients(products):
    """The `a` of all products, and for all kernels the zeros of `scan`."""
    given, zeros = [], []
    for each in products:
        rows = tuple(kernel.shape[0] for kernel in each.kernels)
        steps = sizes(each.a)[:2]
        before = _before_loop(each.a.dtype, rows, each.a.shape[-1])
        beside = [tf.zeros((*steps, size), each.a.dtype) for size in rows]
        a, *beside = before(each.a, *beside, *each.kernels)
        a.set_shape(each.a.shape)
        given.append(a)
        zeros += beside
    return given, zeros


# Both are traced once for all shapes, and kept: TensorFlow keeps every custom gradient with the
# graph around it, which would be that of the whole model.
@functools.cache
def _before_loop(dtype, rows, outputs):
    """The function (a, *zeros, *kernels) -> (a, *zeros) of `scan`; a kernel is (rows, outputs)."""

    def handed_on(a, *rest):
        zeros = rest[: len(rows)]

        def gradients(dy, *inputs):
            dy_rows = tf.reshape(dy, (-1, outputs))
            of_kernels = [
                tf.matmul(tf.reshape(x, (-1, size)), dy_rows, transpose_a=True)
                for x, size in zip(inputs, rows, strict=True)
            ]
            return dy, *(None for _ in zeros), *of_kernels

        return (tf.identity(a), *map(tf.identity, zeros)), gradients

    of_steps = [tf.TensorSpec((None, None, size), dtype) for size in (outputs, *rows)]
    of_kernels = [tf.TensorSpec((size, outputs), dtype) for size in rows]
    return tf.function(tf.custom_gradient(handed_on), [*of_steps, *of_kernels], autograph=False)


def _after_loop(zeros, inputs, outputs):
    """Hands on nested outputs; see `scan`."""
    flat = tf.nest.flatten(outputs)
    ranks = tuple((x.dtype, x.shape.rank) for x in flat)
    handed_on = _of_inputs(inputs[0].dtype, len(inputs), ranks)(*zeros, *inputs, *flat)
    for new, old in zip(handed_on, flat, strict=True):
        new.set_shape(old.shape)
    return tf.nest.pack_sequence_as(outputs, handed_on)


@functools.cache
def _of_inputs(dtype, count, ranks):
    """The function (*zeros, *inputs, *outputs) -> outputs of `scan`."""

    def handed_on(*tensors):
        inputs, outputs = tensors[count : 2 * count], tensors[2 * count :]

        def gradients(*dy):
            return *map(tf.identity, inputs), *(None for _ in inputs), *dy

        return tuple(map(tf.identity, outputs)), gradients

    of_steps = 2 * count * [tf.TensorSpec((None, None, None), dtype)]
    of_outputs = [tf.TensorSpec([None] * rank, kind) for kind, rank in ranks]
    return tf.function(tf.custom_gradient(handed_on), [*of_steps, *of_outputs], autograph=False)
