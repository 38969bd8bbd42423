"""The loop over the steps of a recurrent layer, and the matrix products in it.

Axis letters: B batch, T steps, D features, V outputs.
"""

import tensorflow as tf

from kzoo.layers.products import product, sizes


class Products:
    """y = a + sum_k x^k W^k

    Args:
        a: (B, V) float, or (T, B, V) for the steps of a `scan`: what is known before it.
        kernels: list of the W^k, (D_k, V) each.

    Call arguments:
        *inputs: the x^k, (B, D_k) each.
    """

    def __init__(self, a, kernels):
        self.a, self.kernels = a, [tf.cast(kernel, a.dtype) for kernel in kernels]

    @classmethod
    def of(cls, known, kernel, bias, kernels):
        """The Products for a = W x + b, where x, (..., D), is `known`; D may be 0."""
        if kernel.shape[0] == 0:  # oneDNN ends the process if a product with a bias sums nothing
            rows = tf.zeros((*sizes(known)[:-1], kernel.shape[1]), known.dtype)
            return cls(rows + tf.cast(bias, known.dtype), kernels)
        return cls(product(known, kernel, bias), kernels)

    def __call__(self, *inputs):
        self.inputs = inputs
        parts = [tf.matmul(x, w) for x, w in zip(inputs, self.kernels, strict=True)]
        return tf.add_n([self.a, *parts]) if parts else self.a


def scan(one_step, products, state, num_outputs, backward=False):
    """outputs_t, state_t = one_step(t, products_t, state_(t-1)) for t = 0 ... T - 1, one by one.

    The gradient of a kernel is dW = sum_t x_t^T dy_t: one product for all steps, after the loop.
    TensorFlow would cast W and sum its gradient, both as large as W, in every step, which takes
    longer than the products where batches are small.

    Args:
        one_step: function of t, of a list of Products, to be called once each, and of a state.
        products: list of Products with `a` (T, B, V), T at least 1.
        state: nested float tensors, what step 0 begins from.
        num_outputs: int, length of the list `outputs_t`, of tensors of the products' dtype.
        backward: bool, whether the steps go from T - 1 to 0.

    Returns:
        outputs: list of (T, ...). state: after the last step.
    """
    dtype, steps = products[0].a.dtype, tf.shape(products[0].a)[0]
    loops = [_LoopProducts(each) for each in products]

    def body(step, outputs, inputs, state):
        t = steps - 1 - step if backward else step
        at_t = [each.at(t) for each in loops]
        new, state = one_step(t, at_t, state)
        multiplied = [tf.stop_gradient(x) for each in at_t for x in each.inputs]
        return step + 1, _written(outputs, t, new), _written(inputs, t, multiplied), state

    num_inputs = [len(each.kernels) for each in products]
    arrays = [tf.TensorArray(dtype, steps) for _ in range(num_outputs + sum(num_inputs))]
    _, outputs, inputs, state = tf.while_loop(
        lambda step, *_: step < steps,
        body,
        (0, arrays[:num_outputs], arrays[num_outputs:], state),
        maximum_iterations=steps,
    )
    known_steps = products[0].a.shape[:1]

    def stacked(array):
        x = array.stack()
        return tf.ensure_shape(x, known_steps + x.shape[1:])

    inputs = iter([stacked(array) for array in inputs])
    for each, count in zip(loops, num_inputs, strict=True):
        each.inputs = [tf.stop_gradient(next(inputs)) for _ in range(count)]
    return [stacked(array) for array in outputs], state


def _written(arrays, t, tensors):
    return [array.write(t, x) for array, x in zip(arrays, tensors, strict=True)]


class _LoopProducts:
    """Products of every step, of which the kernels have their gradient from `inputs`.

    Attributes:
        inputs: list of (T, B, D_k), what the kernels were multiplied with, known after the loop.
    """

    def __init__(self, products):
        @tf.custom_gradient
        def with_gradients_of_kernels(a, *kernels):
            def gradients(dy):
                rows = tf.reshape(dy, (-1, dy.shape[-1]))
                return dy, *(
                    tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), rows, transpose_a=True)
                    for x, kernel in zip(self.inputs, kernels, strict=True)
                )

            return tf.identity(a), gradients

        a = with_gradients_of_kernels(products.a, *products.kernels)
        self._shape = a.shape[1:]
        self._a = tf.TensorArray(a.dtype, tf.shape(a)[0]).unstack(a)
        self._kernels = products.kernels

    def at(self, t):
        # Stopped in the loop: what is stopped before it has its gradient summed all the same.
        kernels = [tf.stop_gradient(kernel) for kernel in self._kernels]
        return Products(tf.ensure_shape(self._a.read(t), self._shape), kernels)
