"""The warm-up schedule against values worked out by hand; Adam and lazy Adam against references."""

import gc
import re
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.training import FusedAdam, InverseSquareRoot, LazyAdam


@pytest.mark.parametrize(
    ("step", "share_of_peak"),
    [
        (0, 1 / 4),
        (1, 2 / 4),
        (2, 3 / 4),
        (3, 1),  # n = 4, the end of the warm-up
        (4, (4 / 5) ** 0.5),
        (15, 1 / 2),  # four times as far: half the rate
        (63, 1 / 4),
    ],
)
def test_the_rate_rises_linearly_and_falls_with_the_square_root(step, share_of_peak):
    np.testing.assert_allclose(InverseSquareRoot(0.5, 4)(step), 0.5 * share_of_peak, rtol=1e-6)


def test_it_is_the_schedule_of_the_paper():
    units, warmup = 512, 4000
    schedule = InverseSquareRoot((units * warmup) ** -0.5, warmup)
    for n in (1, 100, 4000, 100_000):
        expected = units**-0.5 * min(n**-0.5, n * warmup**-1.5)  # Vaswani et al., equation 3
        np.testing.assert_allclose(schedule(n - 1), expected, rtol=1e-5)


def test_it_comes_back_from_its_config_and_with_its_optimizer():
    schedule = InverseSquareRoot(peak=0.3, warmup_steps=7)
    assert schedule.get_config() == {"peak": 0.3, "warmup_steps": 7}
    optimizer = keras.optimizers.deserialize(
        keras.optimizers.serialize(keras.optimizers.SGD(schedule))
    )
    optimizer.build([keras.Variable(1.0)])
    optimizer.iterations.assign(13)
    np.testing.assert_allclose(optimizer.learning_rate, schedule(13))


@pytest.mark.parametrize(("peak", "warmup_steps"), [(0, 7), (-0.1, 7), (0.3, 0)])
def test_a_peak_or_warm_up_that_is_not_positive_is_refused(peak, warmup_steps):
    message = (
        "`peak` must be positive and `warmup_steps` at least 1, "
        f"got peak={peak}, warmup_steps={warmup_steps}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        InverseSquareRoot(peak, warmup_steps)


def trained(optimizer, steps=4):
    """A variable after some steps on gradients that are the same for every optimizer."""
    variable = keras.Variable(np.linspace(-1, 1, 15, dtype="float32").reshape(3, 5))
    optimizer.build([variable])
    rng = np.random.default_rng(2)
    for _ in range(steps):
        optimizer.apply([tf.constant(rng.normal(size=(3, 5)), tf.float32)], [variable])
    return variable.numpy()


def test_fused_adam_takes_the_steps_of_adam():
    options = {"beta_2": 0.98, "epsilon": 1e-6, "global_clipnorm": 1.0}
    ours = trained(FusedAdam(InverseSquareRoot(0.1, 3), **options))
    keras_own = trained(keras.optimizers.Adam(InverseSquareRoot(0.1, 3), **options))
    np.testing.assert_allclose(ours, keras_own, atol=1e-6)
    assert np.abs(ours - trained(FusedAdam(0.01), steps=0)).max() > 0.1


def test_fused_adam_with_amsgrad_is_keras_own():
    ours = trained(FusedAdam(0.1, amsgrad=True))
    np.testing.assert_array_equal(ours, trained(keras.optimizers.Adam(0.1, amsgrad=True)))


@pytest.mark.parametrize("optimizer", [FusedAdam, LazyAdam])
def test_one_replica_takes_the_steps_of_none(optimizer):
    ids, labels = np.array([[1, 2], [2, 0]]), np.ones((2, 1))

    def trained():
        keras.utils.set_random_seed(2)
        layers = [keras.layers.Embedding(4, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile(optimizer(0.1), "mse")
        model.fit(ids, labels, epochs=3, verbose=0)
        return model.get_weights()

    alone = trained()
    for strategy in (tf.distribute.MirroredStrategy(), tf.distribute.OneDeviceStrategy("CPU:0")):
        with strategy.scope():
            found = trained()
        for weights, expected in zip(found, alone, strict=True):
            np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("optimizer", [FusedAdam, LazyAdam])
def test_the_graph_of_the_steps_goes_with_the_model(optimizer):
    graphs = []

    def loss(labels, outputs):
        if not tf.executing_eagerly():
            graphs.append(weakref.ref(outputs.graph))
        return tf.square(labels - outputs)

    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile(optimizer(0.1), loss)
    model.fit(tf.ones((5, 3)), tf.ones((5, 2)), verbose=0)
    assert graphs[-1]() is not None
    del model
    gc.collect()
    assert all(graph() is None for graph in graphs)


def test_fused_adam_comes_back_from_its_config():
    config = keras.saving.serialize_keras_object(FusedAdam(0.1, beta_1=0.7))
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, FusedAdam)
    assert again.beta_1 == 0.7


ROWS, UNITS = 7, 3


def slices(rows, seed=0):
    """A row-sparse gradient, rows in any order, some of them twice."""
    values = np.random.default_rng(seed).normal(size=(len(rows), UNITS)).astype("float32")
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant([ROWS, UNITS]))


def table():
    return keras.Variable(np.linspace(-1, 1, ROWS * UNITS, dtype="float32").reshape(ROWS, UNITS))


def steps_of(optimizer, gradients, make_dense=False):
    """A table and a dense variable after one step for each gradient of the table."""
    variables = [table(), keras.Variable([0.5, -0.5])]
    optimizer.build(variables)
    for number, gradient in enumerate(gradients):
        if make_dense:
            gradient = tf.convert_to_tensor(gradient)
        other = tf.constant([1.0, -2.0]) / (number + 1)
        optimizer.apply([gradient, other], variables)
    return [variable.numpy() for variable in variables]


EVERY_ROW = [slices(np.random.default_rng(seed).permutation([*range(ROWS), 2, 5]), seed)
             for seed in range(5)]  # fmt: skip
SOME_ROWS = [slices([1, 4, 1]), slices([4, 6], 1), slices([2, 2, 1, 2], 2), slices([6], 3)]
CLIPPING = [{}, {"clipnorm": 0.7}, {"global_clipnorm": 0.7}, {"clipvalue": 0.2}]


@pytest.mark.parametrize("options", [*CLIPPING, {"weight_decay": 0.1}, {"use_ema": True}])
def test_lazy_adam_is_adam_where_every_row_has_a_gradient(options):
    options = {"learning_rate": InverseSquareRoot(0.1, 3), "epsilon": 1e-6, **options}
    lazy = steps_of(LazyAdam(**options), EVERY_ROW)
    adam = steps_of(keras.optimizers.Adam(**options), EVERY_ROW, make_dense=True)
    for a, b in zip(lazy, adam, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)
    assert np.abs(lazy[0] - table().numpy()).max() > 0.1


def lazy_reference(gradients, rate=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-7, norm=None):
    """The equations of the docstring for the table, row by row, in float64."""
    w = table().numpy().astype("float64")
    m, v = np.zeros_like(w), np.zeros_like(w)
    for n, gradient in enumerate(gradients, start=1):
        summed = np.zeros_like(w)
        np.add.at(summed, gradient.indices.numpy(), gradient.values.numpy())
        if norm is not None:
            other = np.array([1.0, -2.0]) / n
            summed *= min(1, norm / np.sqrt((summed**2).sum() + (other**2).sum()))
        for r in set(gradient.indices.numpy()):
            m[r] += (1 - beta_1) * (summed[r] - m[r])
            v[r] += (1 - beta_2) * (summed[r] ** 2 - v[r])
            step = rate * np.sqrt(1 - beta_2**n) / (1 - beta_1**n)
            w[r] -= step * m[r] / (np.sqrt(v[r]) + epsilon)
    return w


@pytest.mark.parametrize("norm", [None, 0.7])
def test_lazy_adam_is_its_equations_where_some_rows_have_none(norm):
    ours, _ = steps_of(LazyAdam(0.1, global_clipnorm=norm), SOME_ROWS)
    np.testing.assert_allclose(ours, lazy_reference(SOME_ROWS, norm=norm), atol=2e-6)
    untouched = [0, 3, 5]
    np.testing.assert_array_equal(ours[untouched], table().numpy()[untouched])


def test_a_row_without_a_gradient_stays_where_adam_would_drift_on():
    gradients = [slices([1, 4]), slices([4], 1)]
    lazy, adam = (
        steps_of(optimizer, gradients, make_dense)[0]
        for optimizer, make_dense in ((LazyAdam(0.1), False), (keras.optimizers.Adam(0.1), True))
    )
    first, _ = steps_of(LazyAdam(0.1), gradients[:1])
    np.testing.assert_array_equal(lazy[1], first[1])
    assert np.abs(adam[1] - first[1]).max() > 0.05


def test_lazy_adam_takes_dense_gradients_as_adam_does():
    options = {"beta_2": 0.98, "epsilon": 1e-6, "global_clipnorm": 1.0}
    lazy = trained(LazyAdam(InverseSquareRoot(0.1, 3), **options))
    adam = trained(keras.optimizers.Adam(InverseSquareRoot(0.1, 3), **options))
    np.testing.assert_allclose(lazy, adam, atol=1e-6)


def test_lazy_adam_updates_the_rows_of_a_vector_as_those_of_a_matrix():
    variable = keras.Variable([1.0, 2.0, 3.0])
    LazyAdam(0.1).apply(
        [tf.IndexedSlices(tf.constant([0.3, 0.2]), tf.constant([2, 2]))], [variable]
    )
    np.testing.assert_allclose(variable, [1.0, 2.0, 2.9], atol=1e-5)


def test_in_a_graph_lazy_adam_makes_nothing_of_the_size_of_the_table():
    variables = [table(), keras.Variable([0.5, -0.5])]
    optimizer = LazyAdam(0.1, global_clipnorm=1.0)
    optimizer.build(variables)

    @tf.function
    def step():
        optimizer.apply([slices([1, 4, 1]), tf.constant([1.0, 2.0])], variables)

    operations = step.get_concrete_function().graph.get_operations()
    shapes = [t.shape for op in operations for t in op.outputs if op.type != "Const"]
    assert [s for s in shapes if s.rank == 2 and s[0] == ROWS] == []


def test_a_loss_scale_changes_nothing():
    inner = LazyAdam(0.1)
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    eightfold = [tf.IndexedSlices(8 * g.values, g.indices, g.dense_shape) for g in SOME_ROWS]
    variables = [table()]
    for gradient in eightfold:
        scaled.apply([gradient], variables)
    np.testing.assert_allclose(variables[0], lazy_reference(SOME_ROWS), atol=2e-6)
    np.testing.assert_array_equal(variables[0][0], table()[0])


def test_lazy_adam_comes_back_from_its_config():
    config = keras.saving.serialize_keras_object(LazyAdam(0.1, beta_1=0.7, global_clipnorm=2.0))
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, LazyAdam)
    assert (again.beta_1, again.global_clipnorm) == (0.7, 2.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("amsgrad", True), ("gradient_accumulation_steps", 2), ("loss_scale_factor", 8.0)],
)
def test_what_would_make_the_gradients_of_lazy_adam_dense_is_refused(name, value):
    message = (
        f"`{name}` must not be set: it makes the gradients of LazyAdam dense, got {name}={value}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        LazyAdam(**{name: value})
