"""Every position scheme against its equation in numpy, alone and inside attention."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.attention import MultiHeadAttention
from kzoo.layers.positions import (
    AlibiPositions,
    AttentionPositions,
    LearnedPositions,
    RelativePositions,
    RotaryPositions,
    SinusoidalPositions,
    alibi_slopes,
    relative_buckets,
    rotate,
    sinusoidal,
)

B, T, D = 2, 5, 7
S, H, KEY, DM = 6, 3, 4, 11

INSIDE_ATTENTION = {
    "rotary": lambda: RotaryPositions(base=20.0),
    "relative": lambda: RelativePositions(num_buckets=8, max_distance=5),
    "relative to the past": lambda: RelativePositions(4, max_distance=5, bidirectional=False),
    "alibi": AlibiPositions,
}
every_scheme = pytest.mark.parametrize("name", INSIDE_ATTENTION)
either_grouping = pytest.mark.parametrize("groups", [None, 1], ids=["all", "one"])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make_attention(name, num_key_value_heads=None):
    """Attention with no weight at its initial value."""
    layer = MultiHeadAttention(
        H, KEY, num_key_value_heads=num_key_value_heads, positions=INSIDE_ATTENTION[name]()
    )
    layer.build((B, T, D), (B, S, DM))
    for index, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=index + 2))
    return layer


def test_sinusoidal_has_the_known_values_at_positions_0_and_3():
    encoding = sinusoidal([0, 3], 6)
    known = [[0, 1, 0, 1, 0, 1], [0.14112, -0.98999, 0.13880, 0.99032, 0.00646, 0.99998]]
    np.testing.assert_allclose(encoding, known, atol=1e-5)


@pytest.mark.parametrize("depth", [6, 7])
def test_sinusoidal_equals_its_equation_at_even_and_odd_depth(depth):
    positions = np.array([0, 2, 11])
    expected = np.zeros((3, depth))
    for feature in range(depth):
        angle = positions / 10000 ** ((feature - feature % 2) / depth)
        expected[:, feature] = np.cos(angle) if feature % 2 else np.sin(angle)
    np.testing.assert_allclose(sinusoidal(positions, depth), expected, atol=1e-6)


def test_sinusoidal_positions_are_added_to_the_input():
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    y = SinusoidalPositions()(x)
    np.testing.assert_allclose(y - x, np.stack([sinusoidal(np.arange(T), D)] * B), atol=1e-6)


def test_learned_positions_are_the_rows_of_the_table():
    layer = LearnedPositions(11)
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    y = layer(x, start=3)
    np.testing.assert_allclose(y - x, np.stack([layer.table[3 : 3 + T]] * B), atol=1e-6)


def test_learned_positions_past_the_table_get_its_last_row():
    layer = LearnedPositions(3)
    y = layer(np.zeros((B, T, D), "float32"))
    np.testing.assert_array_equal(y[0], layer.table.numpy()[[0, 1, 2, 2, 2]])


@pytest.mark.parametrize("layer", [SinusoidalPositions(), LearnedPositions(11)])
def test_single_steps_with_start_equal_the_whole(layer):
    x = tf.random.normal((B, T, D))
    whole = layer(x)
    steps = [layer(x[:, t : t + 1], start=tf.constant(t)) for t in range(T)]
    np.testing.assert_allclose(tf.concat(steps, 1), whole, atol=1e-6)


def test_a_table_without_rows_is_refused():
    with pytest.raises(
        ValueError, match=re.escape("`max_length` must be at least 1, got max_length=0.")
    ):
        LearnedPositions(0)


# Inside attention, the functions


def numpy_rotate(x, positions, base):
    """As complex numbers: x_2i + x_2i+1 sqrt(-1), times e^(sqrt(-1) p r_i)."""
    depth = x.shape[-1]
    rates = base ** (-2 * np.arange(depth // 2) / depth)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * np.outer(positions, rates))
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


@pytest.mark.parametrize("depth", [2, 6])
def test_a_rotation_is_a_product_of_complex_numbers(depth):
    x, positions = random(B, H, T, depth), np.array([0, 1, 5, 100, 3])
    np.testing.assert_allclose(rotate(x, positions), numpy_rotate(x, positions, 10000.0), atol=1e-5)
    np.testing.assert_allclose(
        rotate(x, positions, base=7.0), numpy_rotate(x, positions, 7.0), atol=1e-4
    )


def test_a_rotation_at_position_0_changes_nothing_and_at_1_turns_the_first_pair_by_1_radian():
    x = np.array([[1.0, 0, 1, 0]], "float32")
    np.testing.assert_array_equal(rotate(x, [0]), x)
    known = [[np.cos(1), np.sin(1), np.cos(0.01), np.sin(0.01)]]
    np.testing.assert_allclose(rotate(x, [1]), known, atol=1e-6)


def test_the_product_of_two_rotated_vectors_depends_on_their_distance_alone():
    query, key = random(1, 6), random(1, 6, seed=1)

    def product(i, j):
        return np.sum(rotate(query, [i]).numpy() * rotate(key, [j]).numpy())

    for shift in (1, 10, 300):
        np.testing.assert_allclose(product(3 + shift, 1 + shift), product(3, 1), atol=1e-4)
    assert abs(product(3, 1) - product(1, 3)) > 0.01


def t5_bucket(relative_position, bidirectional, num_buckets, max_distance):
    """`_relative_position_bucket` of T5, in numpy, one float32 operation after the other."""
    relative_buckets = np.zeros_like(relative_position)
    if bidirectional:
        num_buckets //= 2
        relative_buckets += (relative_position > 0).astype(int) * num_buckets
        relative_position = np.abs(relative_position)
    else:
        relative_position = -np.minimum(relative_position, 0)
    max_exact = num_buckets // 2
    is_small = relative_position < max_exact
    ratio = np.maximum(relative_position, 1).astype("float32") / np.float32(max_exact)
    log = np.log(ratio) / np.float32(np.log(max_distance / max_exact))
    large = max_exact + (log * np.float32(num_buckets - max_exact)).astype(int)
    large = np.minimum(large, num_buckets - 1)
    return relative_buckets + np.where(is_small, relative_position, large)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20), (6, 20), (4, 3)])
def test_buckets_are_those_of_t5(bidirectional, num_buckets, max_distance):
    distances = np.arange(-300, 301)
    np.testing.assert_array_equal(
        relative_buckets(distances, num_buckets, max_distance, bidirectional),
        t5_bucket(distances, bidirectional, num_buckets, max_distance),
    )


def test_buckets_have_the_known_values_of_t5():
    distances = [0, -1, 1, -7, -8, -15, -16, -32, -64, -127, -128, -1000, 8, 1000]
    known = [0, 1, 17, 7, 8, 9, 10, 12, 14, 15, 15, 15, 24, 31]
    np.testing.assert_array_equal(relative_buckets(tf.constant(distances)), known)


def test_alibi_slopes_of_8_heads_are_the_powers_of_a_half():
    np.testing.assert_allclose(alibi_slopes(8), 2.0 ** -np.arange(1, 9), rtol=1e-6)


def test_alibi_slopes_of_12_heads_are_those_of_8_and_every_second_of_16():
    rest = 2.0 ** -np.array([0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(alibi_slopes(12), [*alibi_slopes(8), *rest], rtol=1e-6)


def test_alibi_slopes_of_1_2_and_3_heads_are_known():
    np.testing.assert_allclose(alibi_slopes(1), [2.0**-8])
    np.testing.assert_allclose(alibi_slopes(2), [2.0**-4, 2.0**-8])
    np.testing.assert_allclose(alibi_slopes(3), [2.0**-4, 2.0**-8, 2.0**-2])


# Inside attention, the layers


def numpy_bias(layer, start):
    """The bias of each scheme in loops, (H, T, S)."""
    bias = np.zeros((H, T, S))
    for h, t, s in np.ndindex(H, T, S):
        distance = s - (start + t)
        if isinstance(layer, AlibiPositions):
            bias[h, t, s] = -alibi_slopes(H)[h] * abs(distance)
        elif isinstance(layer, RelativePositions):
            bucket = t5_bucket(
                np.array(distance), layer.bidirectional, layer.num_buckets, layer.max_distance
            )
            bias[h, t, s] = layer.table.numpy()[h, bucket]
    return bias


@every_scheme
@either_grouping
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("start", [0, 2])
def test_attention_with_positions_is_its_equation(name, groups, causal, start):
    layer = make_attention(name, groups)
    w = {variable.name: variable.numpy() for variable in layer.weights}
    query, memory = random(B, T, D), random(B, S, DM, seed=1)
    shared = layer.num_key_value_heads
    queries = (query @ w["W_q"] + w["b_q"]).reshape(B, T, H, KEY).transpose(0, 2, 1, 3)
    keys, values = np.split(memory @ w["W_kv"] + w["b_kv"], 2, axis=-1)
    # Each head has the keys and values of its group.
    keys, values = (
        np.repeat(x.reshape(B, S, shared, KEY).transpose(0, 2, 1, 3), H // shared, axis=1)
        for x in (keys, values)
    )
    if name == "rotary":
        queries = numpy_rotate(queries, start + np.arange(T), 20.0)
        keys = numpy_rotate(keys, np.arange(S), 20.0)
    scores = np.einsum("bhtd,bhsd->bhts", queries, keys) / np.sqrt(KEY)
    e = np.exp(scores + numpy_bias(layer.positions, start))
    if causal:
        e *= np.arange(S) <= start + np.arange(T)[:, None]
    expected = e / e.sum(-1, keepdims=True)
    read = np.einsum("bhts,bhsd->bthd", expected, values).reshape(B, T, H * KEY)
    for at in (start, tf.constant(start)):
        context, weights = layer(query, memory, causal=causal, start=at)
        np.testing.assert_allclose(weights, expected, atol=1e-5)
        np.testing.assert_allclose(context, read @ w["W_o"] + w["b_o"], atol=1e-4)


@every_scheme
def test_keys_projected_step_by_step_equal_those_of_the_whole(name):
    layer, memory = make_attention(name), random(B, S, DM)
    steps = [layer.project(memory[:, s : s + 1], start=tf.constant(s)) for s in range(S)]
    for single, whole in zip(zip(*steps, strict=True), layer.project(memory), strict=True):
        np.testing.assert_allclose(tf.concat(single, 2), whole, atol=1e-5)


@every_scheme
def test_single_queries_with_start_equal_the_whole(name):
    layer, query, memory = make_attention(name), random(B, T, D), random(B, S, DM, seed=1)
    context, weights = layer(query, memory, causal=True)
    for t in range(T):
        step = layer(query[:, t : t + 1], memory, causal=True, start=tf.constant(t))
        np.testing.assert_allclose(step[0][:, 0], context[:, t], atol=1e-5)
        np.testing.assert_allclose(step[1][:, :, 0], weights[:, :, t], atol=1e-5)


@every_scheme
def test_what_attends_with_positions_knows_the_order_of_the_memory(name):
    layer, query, memory = make_attention(name), random(B, T, D), random(B, S, DM, seed=1)
    backwards, _ = layer(query, memory[:, ::-1])
    assert np.abs(backwards - layer(query, memory)[0]).max() > 1e-2


def test_the_base_of_positions_in_attention_changes_nothing():
    with_base = MultiHeadAttention(H, KEY, positions=AttentionPositions())
    without = MultiHeadAttention(H, KEY)
    query, memory = random(B, T, D), random(B, S, DM, seed=1)
    without(query, memory)
    with_base(query, memory)
    with_base.set_weights(without.get_weights())
    for x, y in zip(with_base(query, memory), without(query, memory), strict=True):
        np.testing.assert_array_equal(x, y)


def test_two_attentions_can_share_one_table_of_positions():
    positions = RelativePositions()
    layers = [MultiHeadAttention(H, KEY, positions=positions) for _ in range(2)]
    for layer in layers:
        layer(random(B, T, D), random(B, S, DM))
    assert layers[0].positions.table is layers[1].positions.table
    assert positions.table.shape == (H, 32)


def test_relative_positions_start_without_preference_and_learn_from_every_bucket_in_use():
    positions = RelativePositions(num_buckets=8, max_distance=5)
    layer = MultiHeadAttention(H, KEY, positions=positions)
    x = random(B, S, D)
    with tf.GradientTape() as tape:
        context, _ = layer(x, x)
        loss = tf.reduce_sum(context**2)
    np.testing.assert_array_equal(positions.table, np.zeros((H, 8)))
    gradient = tape.gradient(loss, positions.table.value)
    assert isinstance(gradient, tf.Tensor)  # not IndexedSlices, which optimizers scatter
    # Distances of -5 ... 5 reach all buckets but 4, which stands for a later step at distance 0.
    np.testing.assert_array_equal(np.abs(gradient).max(0) > 0, np.arange(8) != 4)


def test_the_bias_of_a_long_memory_fits_into_float16_scores():
    keras.config.set_dtype_policy("float16")
    try:
        layer = MultiHeadAttention(1, 2, positions=AlibiPositions())
        far, length = 30_000_000, 3  # slope 2^-8: a bias of -117187, beyond float16's 65504
        context, weights = layer(tf.ones((1, 1, D)), tf.ones((1, length, DM)), start=far)
    finally:
        keras.config.set_dtype_policy("float32")
    assert context.dtype == weights.dtype == tf.float16
    assert np.isfinite(context).all()
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), [[[1.0]]], atol=1e-3)


@every_scheme
@either_grouping
@pytest.mark.parametrize(("steps", "memory_steps"), [(0, 0), (0, 5), (3, 0), (1, 1)])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_sequences_of_length_0_and_1_and_a_batch_of_1_are_attended(
    name, groups, steps, memory_steps, policy
):
    keras.config.set_dtype_policy(policy)
    try:
        layer = make_attention(name, groups)
    finally:
        keras.config.set_dtype_policy("float32")
    query, memory = random(1, steps, D), random(1, memory_steps, DM)
    graph = tf.function(
        layer, input_signature=[tf.TensorSpec((None, None, D)), tf.TensorSpec((None, None, DM))]
    )
    for context, weights in (layer(query, memory), graph(query, memory)):
        assert context.shape == (1, steps, D)
        assert weights.shape == (1, H, steps, memory_steps)
        assert np.isfinite(tf.cast(context, tf.float32)).all()
        total = tf.reduce_sum(tf.cast(weights, tf.float32), -1)
        np.testing.assert_allclose(total, np.full((1, H, steps), min(memory_steps, 1)), atol=1e-2)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("`base` must be greater than 0, got base=0.", lambda: RotaryPositions(0)),
        (
            "`key_dim` must be even for RotaryPositions, which turn pairs of features, "
            "got key_dim=5.",
            lambda: MultiHeadAttention(2, 5, positions=RotaryPositions()).build((B, T, D)),
        ),
        (
            "`num_buckets` must be at least 2, and even and at least 4 if bidirectional, "
            "got num_buckets=2, bidirectional=True.",
            lambda: RelativePositions(2),
        ),
        (
            "`num_buckets` must be at least 2, and even and at least 4 if bidirectional, "
            "got num_buckets=7, bidirectional=True.",
            lambda: RelativePositions(7),
        ),
        (
            "`num_buckets` must be at least 2, and even and at least 4 if bidirectional, "
            "got num_buckets=1, bidirectional=False.",
            lambda: RelativePositions(1, bidirectional=False),
        ),
        (
            "`max_distance` must be greater than the 8 distances of each direction "
            "that have a bucket of their own, got max_distance=8.",
            lambda: RelativePositions(32, max_distance=8),
        ),
        (
            "`positions` serve one number of heads, got num_heads=3 after num_heads=2.",
            lambda: share_among_heads(AlibiPositions(), 2, 3),
        ),
        (
            "`positions` must be for use inside attention, such as RotaryPositions, "
            "got positions=<LearnedPositions",
            lambda: MultiHeadAttention(2, 4, positions=LearnedPositions(5)),
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(message, make):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def share_among_heads(positions, *head_counts):
    for num_heads in head_counts:
        MultiHeadAttention(num_heads, KEY, positions=positions).build((B, T, D))


@pytest.mark.parametrize("depth", [6, 7])
def test_sinusoids_in_halves_are_the_same_features_in_another_order(depth):
    order = [*range(0, depth, 2), *range(1, depth, 2)]
    halves = sinusoidal(np.arange(5), depth, interleaved=False)
    np.testing.assert_array_equal(halves, sinusoidal(np.arange(5), depth).numpy()[:, order])
    layer = SinusoidalPositions(interleaved=False)
    again = SinusoidalPositions.from_config(layer.get_config())
    np.testing.assert_array_equal(again(np.zeros((1, 5, depth)))[0], halves)


def test_every_kind_of_positions_survives_its_configuration():
    for layer in (RotaryPositions(base=5.0), RelativePositions(), AlibiPositions()):
        config = layer.get_config()
        assert type(layer).from_config(config).get_config() == config
