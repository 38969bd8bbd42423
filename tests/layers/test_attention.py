"""Every attention against its equation in numpy, from the layer's own weights."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers import masking
from kzoo.layers.attention import (
    BahdanauAttention,
    FixedContext,
    LocalAttention,
    LocationAwareAttention,
    LuongAttention,
    MonotonicAttention,
    MultiHeadAttention,
)
from kzoo.layers.positions import AlibiPositions, RelativePositions, RotaryPositions

B, T, S, DQ, DM, U = 2, 3, 5, 7, 11, 13
H, KEY = 2, 3
LENGTHS = [4, 2]
MASK = np.arange(S) < np.array(LENGTHS)[:, None]

LAYERS = {
    "bahdanau": lambda: BahdanauAttention(U),
    "bahdanau_normalized": lambda: BahdanauAttention(U, normalize=True),
    "luong_dot": lambda: LuongAttention("dot"),
    "luong_general": lambda: LuongAttention("general"),
    "luong_general_scaled": lambda: LuongAttention("general", scale=True),
    "luong_concat": lambda: LuongAttention("concat", units=U),
    "local_predictive": lambda: LocalAttention(2),
    "local_predictive_concat": lambda: LocalAttention(1, score="concat", units=U),
    "local_monotonic": lambda: LocalAttention(1, "monotonic", scale=True),
    "monotonic_parallel": lambda: MonotonicAttention(U),
    "monotonic_recursive": lambda: MonotonicAttention(U, "recursive"),
    "monotonic_hard": lambda: MonotonicAttention(U, "hard"),
    "location_aware": lambda: LocationAwareAttention(U, filters=2, width=3),
    "fixed_context": lambda: FixedContext(),
    "multi_head": lambda: MultiHeadAttention(H, KEY),
    "multi_head_grouped": lambda: MultiHeadAttention(4, KEY, num_key_value_heads=2),
    "multi_head_rotary": lambda: MultiHeadAttention(H, 4, positions=RotaryPositions()),
    "multi_head_relative": lambda: MultiHeadAttention(H, KEY, positions=RelativePositions()),
    "multi_query_alibi": lambda: MultiHeadAttention(
        3, KEY, num_key_value_heads=1, positions=AlibiPositions()
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make(name):
    """A layer with no weight at its initial value, a query and a memory."""
    layer = LAYERS[name]()
    query = random(B, T, DM if name == "luong_dot" else DQ)
    memory = random(B, S, DM, seed=1)
    layer.build(query.shape, memory.shape)
    for index, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=index + 2))
    return layer, query, memory


def values(layer):
    return {variable.name: variable.numpy() for variable in layer.weights}


def softmax(scores, mask=MASK[:, None, :]):
    e = np.where(mask, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    return e / e.sum(-1, keepdims=True)


def assert_attends_by(layer, query, memory, scores):
    context, weights = layer(query, memory, MASK)
    expected = softmax(scores)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    np.testing.assert_allclose(context, expected @ memory, atol=1e-5)


def additive_scores(query, memory, w_query, w_memory, bias, v):
    """v . tanh(W q + U k + b) for each pair, in loops."""
    scores = np.zeros((B, T, S))
    for b, t, s in np.ndindex(B, T, S):
        scores[b, t, s] = v @ np.tanh(query[b, t] @ w_query + memory[b, s] @ w_memory + bias)
    return scores


def test_bahdanau_is_v_tanh_of_wq_plus_uk():
    layer, query, memory = make("bahdanau")
    w = values(layer)
    scores = additive_scores(query, memory, w["W"], w["U"], w["b"], w["v"])
    assert_attends_by(layer, query, memory, scores)


def test_a_mask_may_be_a_list():
    query, memory = tf.ones((2, 3, 4)), tf.random.normal((2, 5, 7))
    mask = [[True] * 5, [True, True, False, False, False]]
    attention = BahdanauAttention(3)
    context, _ = attention(query, memory, memory_mask=mask)
    np.testing.assert_array_equal(context, attention(query, memory, np.array(mask))[0])


@pytest.mark.parametrize(
    "make_layer", [lambda: BahdanauAttention(3), lambda: MultiHeadAttention(2, 3)]
)
def test_a_query_mask_may_be_of_any_type(make_layer):
    query, memory = random(2, 3, 4), random(2, 5, 7)
    attention, mask = make_layer(), np.array([[True, True, False], [True, True, True]])
    expected, _ = attention(query, memory, query_mask=mask)
    for given in (mask.tolist(), mask.astype(int), mask.astype("float32")):
        context, _ = attention(query, memory, query_mask=given)
        np.testing.assert_array_equal(context, expected)


def test_the_dropout_of_a_step_is_that_of_its_training():
    attention, query, memory = (
        MultiHeadAttention(2, 3, dropout=0.5),
        random(2, 3, 4),
        random(2, 5, 7),
    )
    expected, _ = attention(query, memory)
    arguments = (query, memory, tf.ones((2, 5), tf.bool), attention.project(memory), ())

    class Training(keras.layers.Layer):
        def call(self, query, training=None):
            return attention.step(*arguments, training=False)[0]

    np.testing.assert_allclose(Training()(query, training=True), expected, rtol=1e-5)
    assert np.abs(attention.step(*arguments, training=True)[0] - expected).max() > 1e-3


def test_attention_to_nothing_is_named():
    with pytest.raises(ValueError, match="`memory` or `keys` must be given, got neither"):
        attention = MultiHeadAttention(2, 3)
        attention.build((2, 3, 4), (2, 5, 7))
        attention(random(2, 3, 4))


def test_normalized_bahdanau_has_a_v_of_length_g():
    layer, query, memory = make("bahdanau_normalized")
    w = values(layer)
    v = w["g"] * w["v"] / np.linalg.norm(w["v"])
    scores = additive_scores(query, memory, w["W"], w["U"], w["b"], v)
    assert_attends_by(layer, query, memory, scores)


@pytest.mark.parametrize("make_layer", [BahdanauAttention, lambda u: LuongAttention("concat", u)])
def test_one_query_with_four_memories_does_not_crash_in_onednn(make_layer):
    # (4, 1, 6, 16) times a vector: TensorFlow 2.21 writes beyond its memory in a broadcast product.
    layer, query, memory = make_layer(16), random(4, 1, DQ), random(4, 6, DM)
    context, weights = layer(query, memory)
    for row in range(4):
        alone, alone_weights = layer(query[row : row + 1], memory[row : row + 1])
        np.testing.assert_allclose(context[row], alone[0], atol=1e-5)
        np.testing.assert_allclose(weights[row], alone_weights[0], atol=1e-5)


def test_the_gain_of_normalized_bahdanau_starts_at_the_inverse_root_of_units():
    layer = BahdanauAttention(U, normalize=True)
    layer.build((B, T, DQ), (B, S, DM))
    np.testing.assert_allclose(layer.gain, U**-0.5, rtol=1e-6)


def test_luong_dot_is_q_dot_k():
    layer, query, memory = make("luong_dot")
    assert_attends_by(layer, query, memory, np.einsum("btd,bsd->bts", query, memory))


def test_luong_general_is_q_w_k():
    layer, query, memory = make("luong_general")
    scores = np.einsum("btq,mq,bsm->bts", query, values(layer)["W"], memory)
    assert_attends_by(layer, query, memory, scores)


def test_scaled_luong_has_a_learned_factor_that_starts_at_1():
    fresh = LuongAttention("general", scale=True)
    fresh.build((B, T, DQ), (B, S, DM))
    assert fresh.gain.numpy() == 1
    layer, query, memory = make("luong_general_scaled")
    w = values(layer)
    scores = w["g"] * np.einsum("btq,mq,bsm->bts", query, w["W"], memory)
    assert_attends_by(layer, query, memory, scores)


def test_luong_concat_is_v_tanh_of_w_on_query_and_key_side_by_side():
    layer, query, memory = make("luong_concat")
    w = values(layer)
    kernel = np.concatenate([w["W_q"], w["W_k"]])
    scores = np.zeros((B, T, S))
    for b, t, s in np.ndindex(B, T, S):
        scores[b, t, s] = w["v"] @ np.tanh(np.concatenate([query[b, t], memory[b, s]]) @ kernel)
    assert_attends_by(layer, query, memory, scores)


def test_luong_concat_is_as_wide_as_the_query_by_default():
    layer = LuongAttention("concat")
    layer.build((B, T, DQ), (B, S, DM))
    assert layer.score_vector.shape == (DQ,)


def luong_scores(layer, query, memory):
    return np.einsum("btq,mq,bsm->bts", query, values(layer)["W"], memory)


def test_local_m_is_luong_within_the_window_around_the_target_step():
    layer, query, memory = make("local_monotonic")
    scores = values(layer)["g"] * luong_scores(layer, query, memory)
    context, weights = layer(query, memory, MASK)
    for b, t in np.ndindex(B, T):
        inside = [s for s in range(LENGTHS[b]) if t - 1 <= s <= t + 1]
        expected = np.zeros(S)
        e = np.exp(scores[b, t, inside])
        expected[inside] = e / e.sum()
        np.testing.assert_allclose(weights[b, t], expected, atol=1e-5)
        np.testing.assert_allclose(context[b, t], expected @ memory[b], atol=1e-5)


def test_local_p_is_luong_times_a_gaussian_around_the_predicted_place():
    layer, query, memory = make("local_predictive")
    window = 2
    w = values(layer)
    scores = luong_scores(layer, query, memory)
    context, weights = layer(query, memory, MASK)
    for b, t in np.ndindex(B, T):
        share = w["v_p"][:, 0] @ np.tanh(query[b, t] @ w["W_p"])
        centre = LENGTHS[b] / (1 + np.exp(-share))
        inside = [s for s in range(LENGTHS[b]) if abs(s - centre) <= window]
        e = np.exp(scores[b, t, inside])
        expected = np.zeros(S)
        distance = np.array(inside) - centre
        expected[inside] = e / e.sum() * np.exp(-(distance**2) / (2 * (window / 2) ** 2))
        np.testing.assert_allclose(weights[b, t], expected, atol=1e-5)
        np.testing.assert_allclose(context[b, t], expected @ memory[b], atol=1e-5)


def test_a_window_of_local_m_behind_the_last_step_is_empty():
    layer = LocalAttention(1, "monotonic", score="dot")
    mask = np.array([[True, True, False, True, False]])
    context, weights = layer(random(1, 7, DM), random(1, S, DM), mask)
    np.testing.assert_array_equal(
        weights.numpy()[0] > 0,
        [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]]
        + [[0] * S] * 2,
    )
    np.testing.assert_array_equal(context[0, 5:], np.zeros((2, DM)))


def test_positions_of_local_attention_are_exact_in_bfloat16():
    layer = LocalAttention(1, "monotonic", score="dot", dtype="mixed_bfloat16")
    _, weights = layer(tf.zeros((1, 400, 2)), tf.zeros((1, 400, 2)))
    inside = np.abs(np.arange(400)[:, None] - np.arange(400)) <= 1
    np.testing.assert_array_equal(tf.cast(weights, tf.float32)[0] > 0, inside)


def walk(stop):
    """Raffel et al. (2017), section 2.2: the chance to stop at each step, by enumeration."""
    weights, before = np.zeros_like(stop), np.eye(stop.shape[1])[0]
    for t, p in enumerate(stop):
        for origin, j in np.ndindex(len(p), len(p)):
            if j >= origin:
                weights[t, j] += before[origin] * np.prod(1 - p[origin:j]) * p[j]
        before = weights[t]
    return weights


def monotonic_scores(layer, query, memory):
    w = values(layer)
    v = w["g"] * w["v"] / np.linalg.norm(w["v"])
    return additive_scores(query, memory, w["W"], w["U"], w["b"], v) + w["r"]


@pytest.mark.parametrize("name", ["monotonic_parallel", "monotonic_recursive", "monotonic_hard"])
def test_monotonic_attention_stops_where_a_walk_to_the_right_does(name):
    layer, query, memory = make(name)
    scores = monotonic_scores(layer, query, memory)
    stop = (scores > 0).astype(float) if name == "monotonic_hard" else 1 / (1 + np.exp(-scores))
    stop[~np.broadcast_to(MASK[:, None], stop.shape)] = 0
    expected = np.stack([walk(row) for row in stop])
    context, weights = layer(query, memory, MASK)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    np.testing.assert_allclose(context, expected @ memory, atol=1e-5)
    assert expected.max() > 0.1


@pytest.mark.parametrize("name", ["monotonic_parallel", "monotonic_recursive"])
def test_monotonic_attention_is_stable_where_the_formula_of_the_paper_divides_zero_by_zero(name):
    layer = LAYERS[name]()
    query, memory = random(1, 31, DQ), random(1, 61, DM)
    layer.build(query.shape, memory.shape)
    layer.gain.assign(300.0)  # p is 0 or 1 to the last digit of float32
    layer.score_vector.assign(random(U))
    stop = 1 / (1 + np.exp(-monotonic_scores_of(layer, query, memory).astype(float)))
    with tf.GradientTape() as tape:
        context, weights = layer(query, memory)
        loss = tf.reduce_sum(context)
    np.testing.assert_allclose(weights[0], walk(stop[0]), atol=1e-5)
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.isfinite(gradient).all()


def monotonic_scores_of(layer, query, memory):
    w = values(layer)
    v = w["g"] * w["v"] / np.linalg.norm(w["v"])
    compared = (query @ w["W"])[:, :, None] + (memory @ w["U"])[:, None] + w["b"]
    return np.tanh(compared) @ v + w["r"]


def test_monotonic_attention_decodes_hard_where_it_is_asked_to_and_keeps_its_own_mode():
    layer, query, memory = make("monotonic_parallel")
    soft = layer(query, memory)[1]
    assert np.unique(soft).size > 2
    hard = layer(query, memory, mode="hard")[1]
    assert set(np.unique(hard)) <= {0.0, 1.0} and layer.mode == "parallel"
    config = {**layer.get_config(), "inference_mode": "hard"}
    both = MonotonicAttention.from_config(config)
    both.build(query.shape, memory.shape)
    both.set_weights(layer.get_weights())
    np.testing.assert_array_equal(both(query, memory)[1], hard)
    np.testing.assert_array_equal(both(query, memory, training=True)[1], soft)
    np.testing.assert_array_equal(both(query, memory, mode="parallel")[1], soft)
    mask = tf.ones(memory.shape[:2], tf.bool)
    for mode, expected in (("hard", hard), (None, soft)):
        state = layer.initial_state(mask)[:, None]
        keys = layer.project(memory)
        for t in range(query.shape[1]):
            _, weights, state = layer.step(
                query[:, t : t + 1], memory, mask, keys, state, mode=mode
            )
            np.testing.assert_allclose(weights[:, 0], expected[:, t], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match='`mode` must be "parallel", "recursive" or "hard"'):
        layer(query, memory, mode="soft")
    with pytest.raises(ValueError, match=r"`inference_mode` must be .*got inference_mode='soft'"):
        MonotonicAttention(U, inference_mode="soft")


@pytest.mark.parametrize("name", LAYERS)
def test_all_arguments_after_the_keys_are_named(name):
    layer, query, memory = make(name)
    with pytest.raises(TypeError, match="positional argument"):
        layer(query, memory, None, None, tf.ones(query.shape[:2], tf.bool))


def test_noise_on_monotonic_scores_is_of_their_type():
    keras.config.set_floatx("float64")
    try:
        layer = MonotonicAttention(U, sigmoid_noise=2.0)
        context, _ = layer(np.ones((1, 2, 3)), np.ones((1, 4, 5)), training=True)
    finally:
        keras.config.set_floatx("float32")
    assert np.isfinite(context).all()


def test_noise_on_monotonic_scores_comes_in_training_only():
    layer = MonotonicAttention(U, sigmoid_noise=2.0, score_bias=0.0)
    query, memory = random(B, T, DQ), random(B, S, DM)
    _, weights = layer(query, memory, MASK)
    _, again = layer(query, memory, MASK)
    np.testing.assert_array_equal(weights, again)
    _, noisy = layer(query, memory, MASK, training=True)
    _, other = layer(query, memory, MASK, training=True)
    assert np.abs(noisy - weights).max() > 0.01
    assert np.abs(noisy - other).max() > 0.01


def test_location_aware_attention_convolves_the_weights_of_the_step_before():
    layer, query, memory = make("location_aware")
    w = values(layer)
    context, weights = layer(query, memory, MASK)
    before = np.zeros((B, S))
    for t in range(T):
        padded = np.pad(before, ((0, 0), (1, 1)))
        location = np.stack([padded[:, s : s + 3] @ w["F"][:, 0] for s in range(S)], 1)
        scores = np.zeros((B, 1, S))
        for b, s in np.ndindex(B, S):
            x = query[b, t] @ w["W"] + memory[b, s] @ w["U"] + location[b, s] @ w["V"] + w["b"]
            scores[b, 0, s] = w["v"] @ np.tanh(x)
        before = softmax(scores)[:, 0]
        np.testing.assert_allclose(weights[:, t], before, atol=1e-5)
        np.testing.assert_allclose(
            context[:, t], np.einsum("bs,bsm->bm", before, memory), atol=1e-5
        )


def test_attention_with_positions_refuses_steps_that_do_not_say_where_they_stand():
    layer = LAYERS["multi_head_rotary"]()
    with pytest.raises(ValueError, match="`positions` must be None in a decoder that asks step"):
        layer.initial_state(tf.constant(MASK))


@pytest.mark.parametrize(
    "name", [name for name in LAYERS if not re.search("rotary|relative|alibi", name)]
)
def test_stepwise_equals_the_whole(name):
    layer, query, memory = make(name)
    context, weights = layer(query, memory, MASK)
    memory = np.where(MASK[:, :, None], memory, 0)
    keys, state = layer.project(memory), layer.initial_state(tf.constant(MASK))
    state = tf.nest.map_structure(lambda x: x[:, None], state)  # one beam
    for t in range(T):
        now, now_weights, state = layer.step(query[:, t : t + 1], memory, MASK, keys, state)
        np.testing.assert_allclose(now[:, 0], context[:, t], atol=1e-5)
        np.testing.assert_allclose(now_weights[..., 0, :], weights[..., t, :], atol=1e-5)


@every_layer
@pytest.mark.parametrize(("steps", "places"), [(0, S), (T, 0), (0, 0), (1, 1)])
def test_no_step_and_one_step_are_lengths_too(name, steps, places):
    layer, query, memory = make(name)
    context, weights = layer(query[:, :steps], memory[:, :places], MASK[:, :places])
    assert context.shape[:2] == (B, steps)
    assert weights.shape[0] == B
    assert weights.shape[-2:] == (steps, places)
    assert np.isfinite(context).all()
    compiled = tf.function(layer, reduce_retracing=True)
    again, _ = compiled(query[:, :steps], memory[:, :places], MASK[:, :places])
    np.testing.assert_allclose(again, context, atol=1e-6)


def test_a_fixed_context_is_the_first_step_of_the_memory():
    layer, query, memory = make("fixed_context")
    context, weights = layer(query, memory, MASK)
    np.testing.assert_array_equal(context, np.stack([memory[:, 0]] * T, 1))
    np.testing.assert_array_equal(weights, np.stack([[np.arange(S) == 0] * T] * B))


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention_is_scaled_dot_product_in_each_head(causal):
    layer, query, memory = make("multi_head")
    w = values(layer)
    queries = (query @ w["W_q"] + w["b_q"]).reshape(B, T, H, KEY)
    keys, vals = np.split(memory @ w["W_kv"] + w["b_kv"], 2, axis=-1)
    keys, vals = keys.reshape(B, S, H, KEY), vals.reshape(B, S, H, KEY)
    scores = np.einsum("bthd,bshd->bhts", queries, keys) / np.sqrt(KEY)
    mask = MASK[:, None, None, :]
    if causal:
        mask = mask & np.tri(T, S, dtype=bool)
    expected = softmax(scores, mask)
    read = np.einsum("bhts,bshd->bthd", expected, vals).reshape(B, T, H * KEY)
    context, weights = layer(query, memory, MASK, causal=causal)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    np.testing.assert_allclose(context, read @ w["W_o"] + w["b_o"], atol=1e-4)


def test_multi_head_attention_takes_a_mask_for_each_query():
    layer, query, memory = make("multi_head")
    mask = np.random.default_rng(3).random((B, T, S)) < 0.5
    mask[:, :, 0] = True
    context, weights = layer(query, memory, attention_mask=mask)
    assert (weights.numpy()[~np.broadcast_to(mask[:, None], (B, H, T, S))] == 0).all()
    for t in range(T):
        alone, _ = layer(query[:, t : t + 1], memory, mask[:, t])
        np.testing.assert_allclose(context[:, t], alone[:, 0], atol=1e-5)


def test_causal_self_attention_does_not_see_the_future():
    layer = MultiHeadAttention(H, KEY)
    x = random(B, S, DQ)
    whole, _ = layer(x, x, causal=True)
    for t in range(1, S):
        past, _ = layer(x[:, :t], x[:, :t], causal=True)
        np.testing.assert_allclose(past, whole[:, :t], atol=1e-5)


def test_dropout_of_attention_weights_works_in_training_only():
    layer = MultiHeadAttention(H, KEY, dropout=0.5)
    query, memory = random(B, T, DQ), random(B, S, DM, seed=1)
    calm, _ = layer(query, memory)
    again, _ = layer(query, memory)
    dropped, weights = layer(query, memory, training=True)
    np.testing.assert_array_equal(calm, again)
    assert np.abs(dropped - calm).max() > 1e-3
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones((B, H, T)), rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention_equals_that_of_pytorch(causal):
    torch = pytest.importorskip("torch")
    size = H * KEY  # PyTorch joins the heads to the size of the query
    layer = MultiHeadAttention(H, KEY)
    query, memory = random(B, T, size), random(B, S, DM, seed=1)
    layer.build(query.shape, memory.shape)
    for index, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=index + 2))
    w = {name: torch.tensor(value) for name, value in values(layer).items()}
    peer = torch.nn.MultiheadAttention(size, H, kdim=DM, vdim=DM, batch_first=True)
    with torch.no_grad():
        peer.q_proj_weight.copy_(w["W_q"].T)
        peer.k_proj_weight.copy_(w["W_kv"][:, :size].T)
        peer.v_proj_weight.copy_(w["W_kv"][:, size:].T)
        peer.in_proj_bias.copy_(torch.cat([w["b_q"], w["b_kv"]]))
        peer.out_proj.weight.copy_(w["W_o"].T)
        peer.out_proj.bias.copy_(w["b_o"])
        expected, expected_weights = peer(
            *(torch.tensor(x) for x in (query, memory, memory)),
            key_padding_mask=torch.tensor(~MASK),
            attn_mask=torch.tensor(~np.tri(T, S, dtype=bool)) if causal else None,
            average_attn_weights=False,
        )
    context, weights = layer(query, memory, MASK, causal=causal)
    np.testing.assert_allclose(weights, expected_weights.numpy(), atol=1e-5)
    np.testing.assert_allclose(context, expected.numpy(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_key_value_heads", [1, 2, 3, 6])
def test_grouped_query_attention_gives_each_head_the_keys_of_its_group(num_key_value_heads):
    layer = MultiHeadAttention(6, KEY, num_key_value_heads=num_key_value_heads)
    query, memory = random(B, T, DQ), random(B, S, DM, seed=1)
    layer.build(query.shape, memory.shape)
    for index, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=index + 2))
    w = values(layer)
    keys, vals = np.split(memory @ w["W_kv"] + w["b_kv"], 2, axis=-1)
    queries = (query @ w["W_q"] + w["b_q"]).reshape(B, T, 6, KEY)
    keys = keys.reshape(B, S, num_key_value_heads, KEY)
    vals = vals.reshape(B, S, num_key_value_heads, KEY)
    context, weights = layer(query, memory, MASK)
    read = np.zeros((B, T, 6, KEY))
    for head in range(6):
        group = head * num_key_value_heads // 6
        scores = np.einsum("btd,bsd->bts", queries[:, :, head], keys[:, :, group]) / np.sqrt(KEY)
        np.testing.assert_allclose(weights[:, head], softmax(scores), atol=1e-5)
        read[:, :, head] = softmax(scores) @ vals[:, :, group]
    expected = read.reshape(B, T, -1) @ w["W_o"] + w["b_o"]
    np.testing.assert_allclose(context, expected, atol=1e-4)
    for projected in layer.project(memory):
        assert projected.shape == (B, num_key_value_heads, S, KEY)


def test_grouped_query_attention_equals_that_of_pytorch():
    torch = pytest.importorskip("torch")
    layer, query, memory = make("multi_head_grouped")
    w = values(layer)
    queries = (query @ w["W_q"] + w["b_q"]).reshape(B, T, 4, KEY).transpose(0, 2, 1, 3)
    read = torch.nn.functional.scaled_dot_product_attention(
        torch.tensor(queries),
        *(torch.tensor(x.numpy()) for x in layer.project(memory)),
        attn_mask=torch.tensor(MASK[:, None, None, :]),
        enable_gqa=True,
    )
    read = read.numpy().transpose(0, 2, 1, 3).reshape(B, T, 4 * KEY)
    context, _ = layer(query, memory, MASK)
    np.testing.assert_allclose(context, read @ w["W_o"] + w["b_o"], atol=1e-5, rtol=1e-5)


def test_causal_attention_from_a_start_sees_the_memory_up_to_each_query():
    layer, query, memory = make("multi_head")
    _, weights = layer(query, memory, causal=True, start=1)
    seen = np.arange(S) <= 1 + np.arange(T)[:, None]
    np.testing.assert_array_equal(weights.numpy() > 0, np.broadcast_to(seen, (B, H, T, S)))


@every_layer
def test_keys_made_ahead_change_nothing(name):
    layer, query, memory = make(name)
    context, weights = layer(query, memory, MASK)
    ahead = layer(query, memory, MASK, keys=layer.project(memory))
    np.testing.assert_allclose(ahead[0], context, atol=1e-6)
    np.testing.assert_allclose(ahead[1], weights, atol=1e-6)


def test_multi_head_attention_needs_no_memory_beside_its_keys():
    layer, query, memory = make("multi_head")
    context, _ = layer(query, memory, MASK)
    alone, _ = layer(query, memory_mask=MASK, keys=layer.project(memory))
    np.testing.assert_allclose(alone, context, atol=1e-6)


@every_layer
@pytest.mark.parametrize("garbage", [1e9, np.nan, np.inf])
def test_what_stands_in_the_padding_changes_neither_result_nor_gradient(name, garbage):
    layer, query, memory = make(name)

    def run(memory):
        with tf.GradientTape() as tape:
            context, weights = layer(query, memory, MASK)
            loss = tf.reduce_sum(context**2)
        gradients = tape.gradient(loss, layer.trainable_variables)
        return [context, weights, *(g for g in gradients if g is not None)]

    clean = run(memory)
    dirty = run(np.where(MASK[:, :, None], memory, np.float32(garbage)))
    for a, b in zip(clean, dirty, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@every_layer
def test_more_padding_changes_nothing(name):
    layer, query, memory = make(name)
    more = 6
    context, weights = layer(query, memory, MASK)
    longer = np.pad(memory, ((0, 0), (0, more), (0, 0)), constant_values=9)
    wide_context, wide_weights = layer(query, longer, np.pad(MASK, ((0, 0), (0, more))))
    np.testing.assert_allclose(wide_context, context, atol=1e-6)
    np.testing.assert_allclose(wide_weights[..., :S], weights, atol=1e-6)
    np.testing.assert_array_equal(wide_weights[..., S:], np.zeros_like(wide_weights[..., S:]))


@every_layer
def test_a_row_without_keys_gets_weights_of_zero_and_nothing_is_read(name):
    layer, query, memory = make(name)
    mask = np.stack([MASK[0], np.zeros(S, bool)])
    context, weights = layer(query, np.where(mask[:, :, None], memory, np.nan), mask)
    np.testing.assert_array_equal(weights[1], np.zeros_like(weights[1]))
    # What multi-head attention adds to a context of zeros is the bias of its output projection.
    bias = values(layer).get("b_o", 0)
    np.testing.assert_allclose(context[1] - bias, np.zeros_like(context[1]), atol=1e-6)
    expected, _ = layer(query[:1], memory[:1], mask[:1])
    np.testing.assert_allclose(context[0], expected[0], atol=1e-6)


@every_layer
def test_a_ragged_memory_equals_the_padded_one(name):
    layer, query, memory = make(name)
    ragged = tf.RaggedTensor.from_tensor(memory, LENGTHS)
    context, weights = layer(query, ragged)
    expected, expected_weights = layer(query, memory[:, : max(LENGTHS)], MASK[:, : max(LENGTHS)])
    np.testing.assert_allclose(context, expected, atol=1e-6)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)


def test_an_attention_mask_and_the_lengths_of_a_ragged_memory_both_count():
    layer, query, memory = make("multi_head")
    query = random(B, B, DQ)  # as many steps as rows: nothing tells the axes apart but the code
    ragged = tf.RaggedTensor.from_tensor(memory, LENGTHS)
    near = masking.window_mask(B, 1, memory_length=max(LENGTHS))
    _, weights = layer(query, ragged, attention_mask=near)
    allowed = MASK[:, None, : max(LENGTHS)] & near.numpy()
    np.testing.assert_array_equal(weights.numpy() > 0, np.stack([allowed] * H, 1))


@every_layer
def test_what_stands_in_the_padding_of_the_query_gets_into_no_gradient(name):
    layer, query, memory = make(name)
    mask = np.array([[True, True, False], [True, False, False]])
    dirty = np.where(mask[:, :, None], query, np.float32(np.nan))

    def run(query):
        with tf.GradientTape() as tape:
            context, _ = layer(query, memory, MASK, query_mask=mask)
            loss = tf.reduce_sum(tf.where(mask[:, :, None], context, 0.0) ** 2)
        gradients = tape.gradient(loss, layer.trainable_variables)
        return [context[mask], *(g for g in gradients if g is not None)]

    clean = np.where(mask[:, :, None], query, np.float32(0))
    for a, b in zip(run(dirty), run(clean), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"fixed_context"}))
def test_xla_compiles_a_layer_and_its_gradient(name, is_known):
    layer, query, memory = make(name)
    given = query, memory, tf.constant(MASK)
    signature = None
    if not is_known:  # how long they are
        signature = [
            tf.TensorSpec([None, None, *rest], each.dtype)
            for each, rest in zip(given, ([query.shape[2]], [memory.shape[2]], []), strict=True)
        ]

    def run(query, memory, mask):
        with tf.GradientTape() as tape:
            context, weights = layer(query, memory, mask)
            loss = tf.reduce_sum(context**2)
        gradients = tape.gradient(loss, layer.trainable_variables)
        return [context, weights, *(g for g in gradients if g is not None)]

    compiled = tf.function(run, jit_compile=True, input_signature=signature)
    for a, b in zip(compiled(*given), run(*given), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1, np.abs(b).max()))


@every_layer
def test_keras_fills_the_mask_in(name):
    layer, query, memory = make(name)
    masked = keras.layers.Masking(9.0)(np.where(MASK[:, :, None], memory, np.float32(9)))
    _, weights = layer(query, masked)
    _, expected = layer(query, memory, MASK)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("message", "make_layer"),
    [
        ("`units` must be at least 1, got units=0.", lambda: BahdanauAttention(0)),
        (
            '`score` must be "dot", "general" or "concat", got score=\'cosine\'.',
            lambda: LuongAttention("cosine"),
        ),
        (
            '`units` must be at least 1 and goes with score="concat" only, '
            "got units=3, score='dot'.",
            lambda: LuongAttention("dot", units=3),
        ),
        (
            '`units` must be at least 1 and goes with score="concat" only, '
            "got units=0, score='concat'.",
            lambda: LuongAttention("concat", units=0),
        ),
        (
            '`query` and `memory` must have the same number of features for score="dot", '
            "got 7 and 11.",
            lambda: LuongAttention("dot")(random(B, T, DQ), random(B, S, DM)),
        ),
        ("`units` must be at least 1, got units=-1.", lambda: MonotonicAttention(-1)),
        (
            "`memory_mask` must have 2 axes (batch, memory steps), got (2, 1, 5).",
            lambda: LuongAttention()(random(B, T, DQ), random(B, S, DM), MASK[:, None]),
        ),
        (
            "`memory_mask` must have the batch and steps of `memory`, (2, 5), got (2, 3).",
            lambda: MultiHeadAttention(H, KEY)(random(B, T, DQ), random(B, S, DM), MASK[:, :3]),
        ),
        (
            '`mode` must be "parallel", "recursive" or "hard", got mode=\'soft\'.',
            lambda: MonotonicAttention(U, "soft"),
        ),
        (
            "`sigmoid_noise` must not be negative, got sigmoid_noise=-1.",
            lambda: MonotonicAttention(U, sigmoid_noise=-1),
        ),
        (
            "`filters` and `width` must be at least 1, got filters=0, width=3.",
            lambda: LocationAwareAttention(U, 0, 3),
        ),
        ("`window` must be at least 1, got window=0.", lambda: LocalAttention(0)),
        (
            '`alignment` must be "predictive" or "monotonic", got alignment=\'diagonal\'.',
            lambda: LocalAttention(2, "diagonal"),
        ),
        (
            "`num_heads` and `key_dim` must be at least 1, got num_heads=0, key_dim=3.",
            lambda: MultiHeadAttention(0, KEY),
        ),
        (
            "`num_heads` and `key_dim` must be at least 1, got num_heads=2, key_dim=0.",
            lambda: MultiHeadAttention(H, 0),
        ),
        ("`dropout` must lie in [0, 1), got dropout=1.", lambda: MultiHeadAttention(H, KEY, 1)),
        (
            "`num_heads` must be a multiple of `num_key_value_heads`, "
            "got num_heads=5, num_key_value_heads=2.",
            lambda: MultiHeadAttention(5, KEY, num_key_value_heads=2),
        ),
        (
            "`num_heads` must be a multiple of `num_key_value_heads`, "
            "got num_heads=2, num_key_value_heads=0.",
            lambda: MultiHeadAttention(H, KEY, num_key_value_heads=0),
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(message, make_layer):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_layer()


@pytest.mark.parametrize("name", LAYERS)
def test_an_input_without_three_axes_is_named_with_its_shape(name):
    layer, query, memory = make(name)
    message = "`query` must have 3 axes (batch, steps, features), got "
    with pytest.raises(ValueError, match=re.escape(message + str(query[0].shape))):
        layer(query[0], memory)
    message = "`memory` must have 3 axes (batch, steps, features), got "
    with pytest.raises(ValueError, match=re.escape(message + str(memory[0].shape))):
        layer(query, memory[0])
