"""Transformer blocks against torch, decoders step by step against the whole."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.attention import MultiHeadAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.positions import (
    AlibiPositions,
    LearnedPositions,
    RelativePositions,
    RotaryPositions,
)
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.layers.transformer_block import (
    FeedForward,
    Residual,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)

B, K, T, S, H, D, M, U, V = 2, 3, 4, 5, 2, 6, 7, 11, 13
LENGTHS = [5, 3]
MASK = np.arange(S) < np.array(LENGTHS)[:, None]
SOURCE = np.where(MASK, [[3, 4, 5, 6, 7], [8, 9, 10, 11, 12]], 0)
IDS = np.array([[1, 4, 5, 6], [1, 7, 8, 9]])

either_norm = pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
either_positions = pytest.mark.parametrize("learned", [False, True], ids=["sinusoidal", "learned"])


ATTENTION_POSITIONS = {
    "rotary": RotaryPositions,
    "relative": lambda: RelativePositions(8, max_distance=5),
    "relative to the past": lambda: RelativePositions(4, max_distance=3, bidirectional=False),
    "alibi": AlibiPositions,
}
every_scheme = pytest.mark.parametrize("scheme", ATTENTION_POSITIONS)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


MEMORY = random(B, S, M, seed=1)


def randomized(layer):
    """The layer with random weights, biases and norms too."""
    for index, variable in enumerate(layer.trainable_variables):
        variable.assign(variable + 0.3 * random(*variable.shape, seed=index))
    return layer


def make_encoder(**kwargs):
    encoder = TransformerEncoder(TokenEmbedding(V, D, scale=True), 2, H, U, **kwargs)
    encoder.build((B, S))
    return randomized(encoder)


def make_decoder(learned=False, **kwargs):
    positions = LearnedPositions(T + 2) if learned else None
    embedding = TokenEmbedding(V, D, scale=True)
    decoder = TransformerDecoder(embedding, 2, H, U, positions=positions, **kwargs)
    decoder.build((B, T), (B, S, M))
    return randomized(decoder)


def decode_stepwise(decoder, ids, prepared, state):
    hidden, weights = [], []
    for t in range(ids.shape[1]):
        h, w, state = decoder.step(ids[:, t], state, t, prepared)
        hidden.append(h)
        weights.append(w)
    return tf.stack(hidden, 1), tf.stack(weights, 1)


def assert_close(actual, expected, atol=1e-5):
    for a, b in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


# Against torch


def copy_attention(attention, theirs):
    torch = pytest.importorskip("torch")
    query, query_bias, key_value, key_value_bias, output, output_bias = map(
        np.array, attention.get_weights()
    )
    with torch.no_grad():
        # Theirs is W_q, W_k, W_v, each (out, in); ours holds W_k and W_v side by side.
        kernels = np.concatenate([query, key_value], axis=1).T
        theirs.in_proj_weight.copy_(torch.tensor(kernels))
        theirs.in_proj_bias.copy_(torch.tensor(np.concatenate([query_bias, key_value_bias])))
        theirs.out_proj.weight.copy_(torch.tensor(output.T.copy()))
        theirs.out_proj.bias.copy_(torch.tensor(output_bias))


def copy_affine(weights, theirs):
    torch = pytest.importorskip("torch")
    kernel, bias = map(np.array, weights)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(kernel.T.copy()))
        theirs.bias.copy_(torch.tensor(bias))


def copy_feed_forward(block, theirs):
    copy_affine(block.feed_forward.widen.get_weights(), theirs.linear1)
    copy_affine(block.feed_forward.narrow.get_weights(), theirs.linear2)


@either_norm
def test_an_encoder_block_is_that_of_torch(norm_first):
    torch = pytest.importorskip("torch")
    block = TransformerEncoderBlock(H, U, norm_first=norm_first)
    block.build((B, S, D))
    randomized(block)
    theirs = torch.nn.TransformerEncoderLayer(
        D, H, U, dropout=0.0, batch_first=True, norm_first=norm_first
    ).train()  # dropout is 0; eval would take a fast path of another form
    copy_attention(block.attention, theirs.self_attn)
    copy_feed_forward(block, theirs)
    copy_affine(block.attention_frame.norm.get_weights(), theirs.norm1)
    copy_affine(block.feed_forward_frame.norm.get_weights(), theirs.norm2)
    x = random(B, S, D)
    with torch.no_grad():
        expected = theirs(torch.tensor(x), src_key_padding_mask=torch.tensor(~MASK)).numpy()
    np.testing.assert_allclose(block(x, mask=MASK).numpy()[MASK], expected[MASK], atol=1e-5)


@either_norm
def test_a_decoder_block_is_that_of_torch(norm_first):
    torch = pytest.importorskip("torch")
    block = TransformerDecoderBlock(H, U, norm_first=norm_first)
    block.build((B, T, D), (B, S, D))
    randomized(block)
    theirs = torch.nn.TransformerDecoderLayer(
        D, H, U, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    copy_attention(block.self_attention, theirs.self_attn)
    copy_attention(block.cross_attention, theirs.multihead_attn)
    copy_feed_forward(block, theirs)
    copy_affine(block.self_frame.norm.get_weights(), theirs.norm1)
    copy_affine(block.cross_frame.norm.get_weights(), theirs.norm2)
    copy_affine(block.feed_forward_frame.norm.get_weights(), theirs.norm3)
    x, memory = random(B, T, D), random(B, S, D, seed=1)
    with torch.no_grad():
        expected = theirs(
            torch.tensor(x),
            torch.tensor(memory),
            tgt_mask=torch.nn.Transformer.generate_square_subsequent_mask(T),
            memory_key_padding_mask=torch.tensor(~MASK),
        ).numpy()
    y, weights = block(x, memory, memory_mask=MASK)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones((B, H, T)), atol=1e-5)
    np.testing.assert_array_equal(weights[1, :, :, 3:], np.zeros((H, T, 2)))


# Padding


@either_norm
def test_what_stands_in_the_padding_of_the_source_changes_no_memory(norm_first):
    encoder = make_encoder(norm_first=norm_first)
    memory, memory_mask = encoder(SOURCE)
    np.testing.assert_array_equal(memory_mask, MASK)
    garbage = np.where(MASK, SOURCE, 9)
    assert_close(encoder(garbage, source_mask=MASK)[0][MASK], memory[MASK])
    alone, _ = encoder(SOURCE[1:, :3])
    assert_close(alone[0], memory[1, :3])
    ragged, ragged_mask = encoder(tf.RaggedTensor.from_tensor(SOURCE, LENGTHS))
    np.testing.assert_array_equal(ragged_mask, MASK)
    assert_close(ragged[MASK], memory[MASK])


def test_nan_in_padded_features_reaches_neither_the_memory_nor_a_gradient():
    encoder = TransformerEncoder(keras.layers.Dense(D), 2, H, U)
    features = random(B, S, M)

    def run(x):
        with tf.GradientTape() as tape:
            memory, mask = encoder(x, source_mask=MASK)
            loss = tf.reduce_sum(tf.where(mask[:, :, None], memory, 0.0) ** 4)
        return memory[MASK], tape.gradient(loss, [v.value for v in encoder.trainable_variables])

    assert_close(run(np.where(MASK[:, :, None], features, np.nan)), run(features), atol=1e-3)


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_a_decoder_says_what_is_padding_whatever_embeds_its_ids(kind):
    embedding = keras.layers.Embedding(V, D)
    if kind == "rnn":
        decoder = AttentionDecoder(embedding, U, MultiHeadAttention(2, 3))
    else:
        decoder = TransformerDecoder(embedding, 1, H, U)
    ids = np.where(np.arange(T) < [[4], [2]], IDS, 0)
    hidden, _ = decoder(ids, MEMORY)
    np.testing.assert_array_equal(hidden._keras_mask, ids != 0)
    classify = keras.layers.Dense(V)
    inputs = keras.Input((None,), dtype="int32"), keras.Input((None, M))
    model = keras.Model(inputs, classify(decoder(*inputs)[0]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss)
    labels = np.roll(ids, -1, 1)
    losses = keras.ops.sparse_categorical_crossentropy(labels, classify(hidden), from_logits=True)
    expected = np.mean(losses.numpy()[ids != 0])
    assert model.evaluate([ids, MEMORY], labels, verbose=0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_residual_pads_what_is_ragged(norm_first):
    x, y = random(B, S, D), random(B, S, D, seed=1)
    layer = Residual(norm_first=norm_first)
    ragged = [tf.ragged.boolean_mask(each, MASK) for each in (x, y)]
    found, expected = layer(*ragged), layer(x, y)
    np.testing.assert_array_equal(found[MASK], expected[MASK])
    np.testing.assert_array_equal(found._keras_mask, MASK)


class Normalized(keras.layers.Layer):
    """An embedding as people write them: without `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rows, self.norm = keras.layers.Embedding(V, D), keras.layers.LayerNormalization()

    def call(self, ids):
        return self.norm(self.rows(ids))


def test_an_embedding_may_have_no_build_of_its_own(tmp_path):
    encoder = TransformerEncoder(Normalized(), 1, H, U)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory, mask = encoder(SOURCE)
        decoder = TransformerDecoder(Normalized(), 1, H, U)
        hidden, _ = decoder(IDS, memory, memory_mask=mask)
    assert hidden.shape == (B, T, D) and len(encoder.embedding.weights) == 3


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
@pytest.mark.parametrize(
    ("ids", "memory", "mask", "message"),
    [
        (IDS[0], MEMORY, None, "`ids` must have the axes (batch, steps) at least, got shape (4,)."),
        (IDS, MEMORY[0], None, "`memory` must have 3 axes (batch, steps, features), got (5, 7)."),
        (IDS, MEMORY, MASK[:, :4], "`memory_mask` must have the batch and steps of `memory`"),
        (IDS, MEMORY, MASK[:, :1], "`memory_mask` must have the batch and steps of `memory`"),
    ],
)
def test_a_decoder_names_what_has_other_axes(kind, ids, memory, mask, message):
    decoder = make_decoder()
    if kind == "rnn":
        decoder = AttentionDecoder(TokenEmbedding(V, D), U, MultiHeadAttention(2, 3))
    decoder(IDS, MEMORY)
    with pytest.raises(ValueError, match=re.escape(message)):
        decoder(ids, memory, memory_mask=mask)


def test_the_mask_of_keras_reaches_an_encoder_of_features():
    encoder = TransformerEncoder(keras.layers.Dense(D), 1, H, U)
    features = keras.layers.Masking()(np.where(MASK[:, :, None], random(B, S, M), 0))
    np.testing.assert_array_equal(encoder(features)[1], MASK)


@either_norm
def test_what_stands_in_the_padding_of_the_memory_changes_nothing(norm_first):
    decoder = make_decoder(norm_first=norm_first)
    expected = decoder(IDS, MEMORY, memory_mask=MASK)
    garbage = np.where(MASK[:, :, None], MEMORY, np.nan)
    assert_close(decoder(IDS, garbage, memory_mask=MASK), expected)
    prepared = decoder.prepare(garbage, MASK)
    found = decode_stepwise(decoder, IDS, prepared, decoder.initial_state(prepared, T))
    assert_close(found, expected)
    ragged = tf.RaggedTensor.from_tensor(MEMORY, LENGTHS)
    assert_close(decoder(IDS, ragged), expected)
    hidden, weights = decoder(IDS[1:], MEMORY[1:, :3], memory_mask=MASK[1:, :3])
    assert_close([hidden[0], weights[0]], [expected[0][1], expected[1][1, :, :3]])


def test_a_source_of_padding_alone_gives_weights_of_zero_and_no_nan():
    encoder, decoder = make_encoder(), make_decoder()
    memory, mask = encoder(np.zeros((B, S), int))
    assert np.isfinite(memory).all()
    assert not mask.numpy().any()
    hidden, weights = decoder(IDS, np.full((B, S, M), np.nan), memory_mask=mask)
    assert np.isfinite(hidden).all()
    np.testing.assert_array_equal(weights, np.zeros((B, T, S)))


def test_a_source_of_one_step_gets_all_the_attention():
    _, weights = make_decoder()(IDS, MEMORY[:, :1])
    assert_close(weights, np.ones((B, T, 1)))


# Step by step


@either_norm
@either_positions
def test_decoding_step_by_step_equals_the_whole(norm_first, learned):
    decoder = make_decoder(learned, norm_first=norm_first)
    prepared = decoder.prepare(MEMORY, MASK)
    state = decoder.initial_state(prepared, max_length=T + 3)  # more room than steps
    assert_close(
        decode_stepwise(decoder, IDS, prepared, state),
        decoder(IDS, MEMORY, memory_mask=MASK),
    )


@either_norm
@every_scheme
@pytest.mark.parametrize("learned", [False, True], ids=["attention only", "both"])
@pytest.mark.parametrize("num_heads, num_key_value_heads", [(3, None), (3, 1)])
def test_decoding_with_attention_positions_step_by_step_equals_the_whole(
    norm_first, scheme, learned, num_heads, num_key_value_heads
):
    decoder = TransformerDecoder(
        TokenEmbedding(V, D),
        2,
        num_heads,
        U,
        norm_first=norm_first,
        positions=LearnedPositions(T) if learned else None,
        num_key_value_heads=num_key_value_heads,
        attention_positions=ATTENTION_POSITIONS[scheme](),
    )
    decoder.build((B, T), (B, S, M))
    randomized(decoder)
    prepared = decoder.prepare(MEMORY, MASK)
    state = decoder.initial_state(prepared, max_length=T + 3)
    shape = (B, num_key_value_heads or num_heads, T + 3, D // num_heads)
    assert {tuple(x.shape) for x in tf.nest.flatten(state)} == {shape}
    expected = decoder(IDS, MEMORY, memory_mask=MASK)
    assert_close(decode_stepwise(decoder, IDS, prepared, state), expected)
    positions = decoder.attention_positions
    positions.rotate, positions.bias = lambda heads, at: heads, lambda here, there: None
    assert np.abs(decoder(IDS, MEMORY, memory_mask=MASK)[0] - expected[0]).max() > 1e-3


def test_the_beams_of_a_source_are_queries_to_one_memory():
    decoder = make_decoder()
    ids = np.random.default_rng(0).integers(1, V, (B * K, T))
    prepared = decoder.prepare(MEMORY, MASK)
    empty = decoder.initial_state(prepared, T)
    state = tf.nest.map_structure(lambda x: tf.repeat(x, K, axis=0), empty)
    hidden, weights = decode_stepwise(decoder, ids, prepared, state)
    for k in range(K):
        separate = decode_stepwise(decoder, ids[k::K], prepared, empty)
        assert_close([hidden[k::K], weights[k::K]], separate)


def test_the_state_has_a_row_for_each_source_and_the_memory_is_not_in_it():
    decoder = make_decoder()
    state = decoder.initial_state(decoder.prepare(MEMORY, MASK), max_length=19)
    shapes = {tuple(x.shape) for x in tf.nest.flatten(state)}
    assert shapes == {(B, H, 19, D // H)}


@either_norm
def test_a_later_id_never_changes_an_earlier_hidden(norm_first):
    decoder = make_decoder(norm_first=norm_first)
    hidden, _ = decoder(IDS, MEMORY)
    for t in range(1, T):
        later = IDS.copy()
        later[:, t:] = 12
        changed, _ = decoder(later, MEMORY)
        assert_close(changed[:, :t], hidden[:, :t], atol=1e-6)
        assert np.abs(changed[:, t:] - hidden[:, t:]).max() > 1e-3


# Positions inside the attention


def copy_by_name(layer, other):
    """Gives `other` the weights of `layer`, but for a table of positions, which it has not."""
    weights = [v for v in layer.weights if v.name != "E"]
    for mine, theirs in zip(weights, other.weights, strict=True):
        theirs.assign(mine)


def test_attention_positions_replace_those_added_to_the_input():
    embedding = TokenEmbedding(V, D)
    positions = RelativePositions()
    encoder = TransformerEncoder(embedding, 1, H, U, attention_positions=positions)
    assert encoder.positions is None
    memory, _ = encoder(SOURCE)
    # With a table of zeros there are no positions at all: the order of the source has no effect.
    backwards, _ = encoder(SOURCE[:, ::-1])
    assert_close(backwards[:, ::-1], memory)
    positions.table.assign(random(*positions.table.shape))
    backwards, _ = encoder(SOURCE[:, ::-1])
    assert np.abs(backwards[:, ::-1] - encoder(SOURCE)[0]).max() > 1e-2


def test_positions_can_be_added_to_the_input_beside_those_inside_attention():
    attention_positions = RelativePositions()
    encoder = TransformerEncoder(
        TokenEmbedding(V, D),
        1,
        H,
        U,
        positions=LearnedPositions(S),
        attention_positions=attention_positions,
    )
    encoder.build((B, S))
    plain = TransformerEncoder(TokenEmbedding(V, D), 1, H, U, positions=LearnedPositions(S))
    plain.build((B, S))
    copy_by_name(encoder, plain)
    assert_close(plain(SOURCE)[0], encoder(SOURCE)[0])


def test_all_blocks_of_a_stack_share_the_positions_inside_attention():
    decoder = make_decoder(attention_positions=RelativePositions(bidirectional=False))
    tables = {id(block.self_attention.positions.table) for block in decoder.blocks}
    assert tables == {id(decoder.attention_positions.table)}
    assert all(block.cross_attention.positions is None for block in decoder.blocks)
    assert [v.shape for v in decoder.weights if v.name == "E"] == [(H, 32)]


@every_scheme
def test_a_stack_with_attention_positions_keeps_them_in_a_file(scheme, tmp_path):
    positions = ATTENTION_POSITIONS[scheme]()
    encoder = TransformerEncoder(
        TokenEmbedding(V, D), 2, 3, U, num_key_value_heads=1, attention_positions=positions
    )
    source = keras.Input((None,), dtype="int32")
    model = keras.Model(source, encoder(source)[0])
    randomized(encoder)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    copy = loaded.layers[-1]
    assert {id(block.attention.positions) for block in copy.blocks} == {
        id(copy.attention_positions)
    }
    assert len(copy.weights) == len(encoder.weights)
    assert_close(loaded(SOURCE), model(SOURCE))


@either_norm
@pytest.mark.parametrize("steps, memory_steps", [(0, 0), (0, 5), (3, 0), (1, 1)])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_stacks_take_sequences_of_length_0_and_1_and_a_batch_of_1(
    norm_first, steps, memory_steps, policy
):
    keras.config.set_dtype_policy(policy)
    try:
        settings = {"norm_first": norm_first, "attention_positions": AlibiPositions()}
        encoder, decoder = make_encoder(**settings), make_decoder(**settings)
    finally:
        keras.config.set_dtype_policy("float32")

    def run(source, ids, memory):
        prepared = decoder.prepare(memory)
        step = decoder.step(
            tf.ones((1,), tf.int32), decoder.initial_state(prepared, 1), 0, prepared
        )
        return [encoder(source)[0], *decoder(ids, memory), *step[:2]]

    source, ids = tf.ones((1, memory_steps), tf.int32), tf.ones((1, steps), tf.int32)
    arguments = source, ids, MEMORY[:1, :memory_steps]
    shapes = [(1, memory_steps, D), (1, steps, D), (1, steps, memory_steps)]
    shapes += [(1, D), (1, memory_steps)]
    for outputs in (run(*arguments), tf.function(run)(*arguments)):
        assert [tuple(x.shape) for x in outputs] == shapes
        assert all(np.isfinite(tf.cast(x, tf.float32)).all() for x in outputs)


# Configuration


@either_norm
def test_a_stack_keeps_config_and_weights_in_a_file(norm_first, tmp_path):
    encoder = make_encoder(norm_first=norm_first, dropout=0.1, activation="gelu")
    decoder = make_decoder(learned=True, norm_first=norm_first)
    source, ids = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    memory = keras.Input((None, M))
    model = keras.Model([source, ids, memory], [*encoder(source), *decoder(ids, memory)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = [SOURCE, IDS, MEMORY]
    assert_close([tf.cast(x, tf.float32) for x in loaded(inputs)],
                 [tf.cast(x, tf.float32) for x in model(inputs)])  # fmt: skip


@pytest.mark.parametrize("make", [make_encoder, make_decoder])
def test_a_config_holds_the_arguments_of_the_constructor(make):
    config = make(norm_first=True, dropout=0.1, activation="gelu").get_config()
    expected = {
        "num_layers": 2,
        "num_heads": H,
        "hidden_units": U,
        "dropout": 0.1,
        "norm_first": True,
        "activation": "gelu",
    }
    assert {name: config[name] for name in expected} == expected
    rest = set(config) - set(expected)
    added = {"embedding", "positions", "num_key_value_heads", "attention_positions"}
    added |= {"weights_head", "alignment_heads"} if make is make_decoder else set()
    assert rest == added | {"name", "trainable", "dtype"}


@pytest.mark.parametrize("make", [make_encoder, make_decoder])
def test_a_config_from_before_attention_positions_still_loads(make):
    stack = make()
    config = stack.get_config()
    del config["num_key_value_heads"], config["attention_positions"]
    copy = type(stack).from_config(config)
    copy.build(*([(B, S)] if make is make_encoder else [(B, T), (B, S, M)]))
    assert [v.shape for v in copy.weights] == [v.shape for v in stack.weights]
    assert copy.attention_positions is None


def test_encoder_and_decoder_can_share_one_embedding():
    embedding = TokenEmbedding(V, D)
    encoder = TransformerEncoder(embedding, 1, H, U)
    decoder = TransformerDecoder(embedding, 1, H, U)
    memory, mask = encoder(SOURCE)
    decoder(IDS, memory, memory_mask=mask)
    shared = [v for v in encoder.weights if any(v is w for w in decoder.weights)]
    assert [v.shape for v in shared] == [(V, D)]


def test_dropout_acts_in_training_only():
    encoder = make_encoder(dropout=0.5)
    assert_close(encoder(SOURCE)[0], encoder(SOURCE)[0], atol=0)
    difference = encoder(SOURCE, training=True)[0] - encoder(SOURCE)[0]
    assert np.abs(difference).max() > 0.1


def test_a_pre_norm_stack_ends_with_a_norm():
    memory, _ = TransformerEncoder(TokenEmbedding(V, D), 1, H, U, norm_first=True)(SOURCE)
    np.testing.assert_allclose(tf.reduce_mean(memory, -1), np.zeros((B, S)), atol=1e-6)


# Errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TransformerEncoder(TokenEmbedding(V, D), 0, H, U),
            "`num_layers` must be at least 1, got num_layers=0.",
        ),
        (
            lambda: TransformerDecoder(TokenEmbedding(V, D), 0, H, U),
            "`num_layers` must be at least 1, got num_layers=0.",
        ),
        (
            lambda: TransformerEncoderBlock(4, U).build((B, S, D)),
            "The number of features must be a multiple of `num_heads`, "
            "got 6 features, num_heads=4.",
        ),
        (
            lambda: TransformerDecoderBlock(5, U).build((B, T, D), (B, S, M)),
            "The number of features must be a multiple of `num_heads`, "
            "got 6 features, num_heads=5.",
        ),
        (
            lambda: TransformerEncoder(TokenEmbedding(V, D), 1, H, U, positions=RotaryPositions()),
            "`positions` are added to the input; positions for use inside attention are "
            "`attention_positions`, got positions=<RotaryPositions",
        ),
        (
            lambda: TransformerDecoderBlock(H, U, num_key_value_heads=4).build((B, T, D)),
            "`num_heads` must be a multiple of `num_key_value_heads`, "
            "got num_heads=2, num_key_value_heads=4.",
        ),
        (lambda: FeedForward(0), "`hidden_units` must be at least 1, got hidden_units=0."),
    ],
)
def test_a_size_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
