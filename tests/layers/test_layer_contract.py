"""What every public layer can do, one table for all of them.

Config round trip, `.keras` file, SavedModel for TensorFlow 2 and for a session, a gradient for
every weight, symbolic shape = eager shape, mixed precision, ragged = padded, nothing changed by
padding, zeros for rows without a real step, and batches and lengths of one and none.
"""

import dataclasses
from collections.abc import Callable

import keras
import keras_nlp
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.audio import SpecAugment, VocalTractPerturbation
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
from kzoo.layers.conformer import ConformerBlock, ConformerEncoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.length import LengthHead
from kzoo.layers.positions import (
    AlibiPositions,
    LearnedPositions,
    RelativePositions,
    RotaryPositions,
    SinusoidalPositions,
)
from kzoo.layers.recurrent_encoder import PyramidalEncoder, RecurrentEncoder
from kzoo.layers.speech import ConvSubsampling, StreamingEncoder, SubsampledEncoder
from kzoo.layers.streaming import StreamingRNN
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.layers.transformer_block import (
    FeedForward,
    Residual,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)

B, T, S, D, M, U, V = 2, 3, 5, 6, 7, 11, 13
LENGTHS = [5, 3]
MASK = np.arange(S) < np.array(LENGTHS)[:, None]

# The arguments of a layer: name -> steps and features; no features means ids.
QUERY, MEMORY = {"query": (T, D)}, {"memory": (S, M)}
ATTEND = QUERY | MEMORY
DECODE = {"ids": (T, None)} | MEMORY


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, what it is called with, and which of that has padding."""

    make: Callable
    arguments: dict
    padded: str  # name of the argument with padding
    mask: str | None = None  # name of the argument that says where; None: nothing to mask
    aligned: bool = False  # whether outputs have the steps of `padded`: only real ones count
    ragged: bool = True


def embed():
    return TokenEmbedding(V, D)


CASES = {
    "BahdanauAttention": Case(lambda: BahdanauAttention(U), ATTEND, "memory", "memory_mask"),
    "BahdanauAttention normalized": Case(
        lambda: BahdanauAttention(U, normalize=True), ATTEND, "memory", "memory_mask"
    ),
    "LuongAttention dot": Case(
        lambda: LuongAttention("dot"),
        {"query": (T, M), "memory": (S, M)},
        "memory",
        "memory_mask",
    ),
    "LuongAttention general": Case(
        lambda: LuongAttention("general", scale=True), ATTEND, "memory", "memory_mask"
    ),
    "LuongAttention concat": Case(
        lambda: LuongAttention("concat", units=U), ATTEND, "memory", "memory_mask"
    ),
    "LocalAttention predictive": Case(
        lambda: LocalAttention(2, scale=True), ATTEND, "memory", "memory_mask"
    ),
    "LocalAttention monotonic": Case(
        lambda: LocalAttention(2, "monotonic", "concat", units=U), ATTEND, "memory", "memory_mask"
    ),
    "MonotonicAttention parallel": Case(
        lambda: MonotonicAttention(U, score_bias=0.0), ATTEND, "memory", "memory_mask"
    ),
    "MonotonicAttention recursive": Case(
        lambda: MonotonicAttention(U, "recursive", score_bias=0.0), ATTEND, "memory", "memory_mask"
    ),
    "LocationAwareAttention": Case(
        lambda: LocationAwareAttention(U, filters=2, width=3), ATTEND, "memory", "memory_mask"
    ),
    "FixedContext": Case(FixedContext, ATTEND, "memory", "memory_mask"),
    "MultiHeadAttention": Case(
        lambda: MultiHeadAttention(2, 5, dropout=0.1), ATTEND, "memory", "memory_mask"
    ),
    "MultiHeadAttention rotary": Case(
        lambda: MultiHeadAttention(3, 4, positions=RotaryPositions()),
        ATTEND,
        "memory",
        "memory_mask",
    ),
    "MultiHeadAttention relative": Case(
        lambda: MultiHeadAttention(2, 5, positions=RelativePositions(8, max_distance=4)),
        ATTEND,
        "memory",
        "memory_mask",
    ),
    "MultiHeadAttention ALiBi, grouped": Case(
        lambda: MultiHeadAttention(6, 4, num_key_value_heads=2, positions=AlibiPositions()),
        ATTEND,
        "memory",
        "memory_mask",
    ),
    "SinusoidalPositions": Case(SinusoidalPositions, {"x": (S, M)}, "x", aligned=True),
    "LearnedPositions": Case(lambda: LearnedPositions(S), {"x": (S, M)}, "x", aligned=True),
    "TokenEmbedding": Case(
        lambda: TokenEmbedding(V, D, scale=True), {"ids": (S, None)}, "ids", aligned=True
    ),
    "VocabularyHead": Case(
        lambda: VocabularyHead(V, M), {"hidden": (S, M)}, "hidden", aligned=True, ragged=False
    ),
    "VocabularyHead tied": Case(
        lambda: VocabularyHead(V, D, tied=embed()),
        {"hidden": (S, D)},
        "hidden",
        aligned=True,
        ragged=False,
    ),
    "VocabularyHead sampled": Case(
        lambda: VocabularyHead(V, M, num_sampled=5),
        {"hidden": (S, M)},
        "hidden",
        aligned=True,
        ragged=False,
    ),
    "LengthHead": Case(LengthHead, MEMORY, "memory", "memory_mask"),
    "RecurrentEncoder of ids": Case(
        lambda: RecurrentEncoder(embed(), U, num_layers=2, dropout=0.1),
        {"source": (S, None)},
        "source",
        "source_mask",
    ),
    "RecurrentEncoder of features": Case(
        lambda: RecurrentEncoder(keras.layers.Dense(D), U, cell="gru", direction="backward"),
        {"source": (S, M)},
        "source",
        "source_mask",
    ),
    "RecurrentEncoder simple": Case(
        lambda: RecurrentEncoder(embed(), U, cell="simple", direction="forward"),
        {"source": (S, None)},
        "source",
        "source_mask",
    ),
    "PyramidalEncoder of ids": Case(
        lambda: PyramidalEncoder(embed(), U, num_layers=2, dropout=0.1),
        {"source": (S, None)},
        "source",
        "source_mask",
    ),
    "PyramidalEncoder of features": Case(
        lambda: PyramidalEncoder(keras.layers.Dense(D), U, num_layers=2, cell="gru", factor=3),
        {"source": (S, M)},
        "source",
        "source_mask",
    ),
    # StatefulRNN answers a second call otherwise than the first: it is in test_streaming.
    "StreamingRNN": Case(
        lambda: StreamingRNN(U, num_layers=2, dropout=0.1), {"x": (S, M)}, "x", "mask"
    ),
    "StreamingRNN simple": Case(lambda: StreamingRNN(U, cell="simple"), {"x": (S, M)}, "x", "mask"),
    "ConvSubsampling": Case(
        lambda: ConvSubsampling(U, filters=3), {"frames": (S, M)}, "frames", "mask"
    ),
    "ConvSubsampling by two": Case(
        lambda: ConvSubsampling(U, filters=3, factor=2), {"frames": (S, M)}, "frames", "mask"
    ),
    "SpecAugment": Case(SpecAugment, {"frames": (S, M)}, "frames", "mask", aligned=True),
    "VocalTractPerturbation": Case(
        VocalTractPerturbation, {"frames": (S, M)}, "frames", "mask", aligned=True
    ),
    "AttentionDecoder before": Case(
        lambda: AttentionDecoder(
            embed(), U, BahdanauAttention(5), num_layers=2, cell="gru", attend="before", dropout=0.1
        ),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder gated": Case(
        lambda: AttentionDecoder(
            embed(), U, BahdanauAttention(5), attend="before", gate_context=True
        ),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder after": Case(
        lambda: AttentionDecoder(embed(), U, LuongAttention()), DECODE, "memory", "memory_mask"
    ),
    "AttentionDecoder with location-aware attention": Case(
        lambda: AttentionDecoder(embed(), U, LocationAwareAttention(5, filters=2, width=3)),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder with monotonic attention": Case(
        lambda: AttentionDecoder(embed(), U, MonotonicAttention(5, score_bias=0.0)),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder simple": Case(
        lambda: AttentionDecoder(embed(), U, LuongAttention(), cell="simple"),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "AttentionDecoder without attention": Case(
        lambda: AttentionDecoder(embed(), U, FixedContext(), attend="before", summary="first"),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "Residual": Case(
        lambda: Residual(0.1), {"x": (S, D), "y": (S, D)}, "y", aligned=True, ragged=False
    ),
    "FeedForward": Case(lambda: FeedForward(U), {"x": (S, D)}, "x", aligned=True, ragged=False),
    "TransformerEncoderBlock": Case(
        lambda: TransformerEncoderBlock(2, U, dropout=0.1), {"x": (S, D)}, "x", "mask", aligned=True
    ),
    "TransformerDecoderBlock": Case(
        lambda: TransformerDecoderBlock(2, U, norm_first=True),
        {"x": (T, D)} | MEMORY,
        "memory",
        "memory_mask",
    ),
    "TransformerEncoderBlock rotary": Case(
        lambda: TransformerEncoderBlock(3, U, attention_positions=RotaryPositions()),
        {"x": (S, D)},
        "x",
        "mask",
        aligned=True,
    ),
    "TransformerDecoderBlock relative, grouped": Case(
        lambda: TransformerDecoderBlock(
            2,
            U,
            num_key_value_heads=1,
            attention_positions=RelativePositions(4, max_distance=5, bidirectional=False),
        ),
        {"x": (T, D)} | MEMORY,
        "memory",
        "memory_mask",
    ),
    "TransformerDecoderBlock with padded steps": Case(
        lambda: TransformerDecoderBlock(2, U),
        {"x": (S, D)} | MEMORY,
        "x",
        "x_mask",
        aligned=True,
    ),
    "TransformerEncoder": Case(
        lambda: TransformerEncoder(embed(), 2, 2, U, dropout=0.1, norm_first=True),
        {"source": (S, None)},
        "source",
        "source_mask",
        aligned=True,
    ),
    "TransformerEncoder relative, grouped": Case(
        lambda: TransformerEncoder(
            embed(),
            2,
            2,
            U,
            num_key_value_heads=1,
            attention_positions=RelativePositions(8, max_distance=5),
        ),
        {"source": (S, None)},
        "source",
        "source_mask",
        aligned=True,
    ),
    "ConformerBlock": Case(
        lambda: ConformerBlock(3, U, width=3, dropout=0.1, attention_positions=RotaryPositions()),
        {"x": (S, 2 * D)},
        "x",
        "mask",
        aligned=True,
    ),
    "ConformerEncoder": Case(
        lambda: ConformerEncoder(keras.layers.Dense(8), 2, 2, U, width=3, dropout=0.1),
        {"source": (S, M)},
        "source",
        "source_mask",
        aligned=True,
    ),
    "SubsampledEncoder": Case(
        lambda: SubsampledEncoder(
            ConvSubsampling(D, filters=3, factor=2),
            TransformerEncoder(keras.layers.Identity(), 1, 2, U, dropout=0.1),
        ),
        {"source": (S, M)},
        "source",
        "source_mask",
    ),
    "StreamingEncoder": Case(
        lambda: StreamingEncoder(U, num_layers=2, stride=2, dropout=0.1),
        {"source": (S, M)},
        "source",
        "source_mask",
    ),
    "TransformerDecoder": Case(
        lambda: TransformerDecoder(embed(), 2, 2, U), DECODE, "memory", "memory_mask"
    ),
    "TransformerDecoder rotary, grouped": Case(
        lambda: TransformerDecoder(
            embed(), 2, 3, U, num_key_value_heads=1, attention_positions=RotaryPositions()
        ),
        DECODE,
        "memory",
        "memory_mask",
    ),
    "TransformerDecoder relative": Case(
        lambda: TransformerDecoder(
            embed(),
            2,
            2,
            U,
            positions=LearnedPositions(T),
            attention_positions=RelativePositions(4, max_distance=5, bidirectional=False),
        ),
        DECODE,
        "memory",
        "memory_mask",
    ),
}
every_layer = pytest.mark.parametrize("name", CASES)
ELSEWHERE = {
    "AudioSource",  # has no weights and gives a ragged tensor: test_signatures
    "ImageAugment",  # take pictures, and have no steps: test_image, test_backbones
    "ImageSource",
    "RegionEncoder",
    "StatefulRNN",  # answers the same call differently the second time: test_streaming
    "LogMel",  # takes samples and lengths: test_audio
    "RotaryPositions",  # have no call of their own, and are in the cases of attention
    "RelativePositions",
    "AlibiPositions",
}


def inputs_of(case, seed=0):
    """Random arguments with zeros in the padding, and the mask if the layer takes one."""
    random = np.random.default_rng(seed)
    values = {}
    for name, (steps, features) in case.arguments.items():
        if features is None:
            values[name] = random.integers(1, V, (B, steps)).astype("int32")
        else:
            values[name] = random.normal(size=(B, steps, features)).astype("float32")
    values[case.padded] = blank(values[case.padded], 0)
    if case.mask:
        values[case.mask] = MASK
    return values


def blank(x, padding):
    mask = MASK if x.ndim == 2 else MASK[:, :, None]
    return np.where(mask, x, padding).astype(x.dtype)


def call(layer, values, **kwargs):
    return tf.nest.flatten(layer(**values, **kwargs))


def floats(outputs):
    return [tf.cast(x, tf.float32).numpy() for x in outputs]


def real_steps(case, outputs):
    """Outputs without the steps that are padding, where a layer leaves those as they fall."""
    return [x[MASK] if case.aligned and x.shape[:2] == (B, S) else x for x in floats(outputs)]


def assert_equal(actual, expected, atol=1e-5):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def symbolic_inputs(values):
    return {
        name: keras.Input((None, *x.shape[2:]), dtype=x.dtype.name, name=name)
        for name, x in values.items()
    }


def functional_model(layer, values):
    inputs = symbolic_inputs(values)
    outputs = tf.nest.flatten(layer(**inputs))
    return keras.Model(inputs, {f"output_{i}": x for i, x in enumerate(outputs)})


def stripped(config):
    """A config without the names that Keras counts up and the marks of shared layers."""
    if isinstance(config, dict):
        return {k: stripped(v) for k, v in config.items() if k != "shared_object_id"}
    return config


def test_every_public_layer_is_in_the_table():
    public = {name: getattr(kzoo, name) for name in kzoo.__all__}
    layers = {
        name
        for name, each in public.items()
        if isinstance(each, type)
        and issubclass(each, keras.layers.Layer)
        and not issubclass(each, keras.Model | keras_nlp.tokenizers.Tokenizer)
    }
    assert layers - ELSEWHERE == {name.split()[0] for name in CASES} - {"Residual", "FeedForward"}


@every_layer
def test_a_layer_comes_back_from_its_config(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    copy = type(layer).from_config(layer.get_config())
    assert stripped(copy.get_config()) == stripped(layer.get_config())
    through_keras = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert stripped(through_keras.get_config()) == stripped(layer.get_config())
    call(layer, values)
    call(copy, values)
    shapes = [variable.shape for variable in layer.weights]
    assert [variable.shape for variable in copy.weights] == shapes
    copy.set_weights(layer.get_weights())
    assert_equal(floats(call(copy, values)), floats(call(layer, values)))


@every_layer
def test_a_layer_given_a_dtype_policy_can_be_saved(name):
    layer = CASES[name].make()
    policy = keras.DTypePolicy("mixed_bfloat16")
    arguments = {**layer.get_config(), "dtype": policy}
    copy = type(layer).from_config(arguments)
    config = keras.saving.serialize_keras_object(copy)["config"]
    assert config["dtype"] == keras.saving.serialize_keras_object(policy)


@every_layer
def test_a_functional_model_survives_a_file_and_a_saved_model(name, tmp_path):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    model = functional_model(layer, values)
    expected = {key: np.array(x) for key, x in model(values).items()}
    assert_equal(floats(expected.values()), floats(call(layer, values)))

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(floats(loaded(values).values()), floats(expected.values()))

    archive = keras.export.ExportArchive()
    archive.track(model)
    specs = {
        key: tf.TensorSpec((None, None, *x.shape[2:]), x.dtype, name=key)
        for key, x in values.items()
    }
    archive.add_endpoint("serve", model, [specs])
    archive.write_out(str(tmp_path / "saved_model"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    answer = served.serve({key: tf.constant(x) for key, x in values.items()})
    assert_equal(floats(answer[key] for key in expected), floats(expected.values()))
    session = session_answer(tmp_path / "saved_model", values)
    assert_equal([session[key] for key in expected], floats(expected.values()))


def session_answer(path, values):
    """What a SavedModel answers to a TensorFlow 1 session, which is how servers load it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        signature = loaded.signature_def["serve"]
        names = {key: info.name for key, info in signature.outputs.items()}
        return session.run(names, {signature.inputs[k].name: values[k] for k in signature.inputs})


@every_layer
def test_every_weight_gets_a_gradient(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            outputs = call(layer, values, training=True) if layer.weights else call(layer, values)
            # Fourth powers: the squares of normalised outputs have a constant sum.
            loss = tf.add_n([tf.reduce_sum(x**4) for x in outputs if x.dtype.is_floating])
        return tape.gradient(loss, [variable.value for variable in layer.trainable_variables])

    call(layer, values)
    found = gradients()
    for variable, gradient in zip(layer.trainable_variables, found, strict=True):
        assert gradient is not None, variable.path
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


@every_layer
def test_symbolic_and_eager_shapes_agree(name):
    layer, values = CASES[name].make(), inputs_of(CASES[name])
    symbolic = tf.nest.flatten(layer(**symbolic_inputs(values)))
    eager = call(layer, values)
    sizes = {B, T, S}  # None in the symbolic shape
    for x, y in zip(symbolic, eager, strict=True):
        assert len(x.shape) == len(y.shape)
        assert x.dtype == y.dtype.name
        for unknown, known in zip(x.shape, y.shape, strict=True):
            assert unknown == known or (unknown is None and known in sizes)


@every_layer
@pytest.mark.parametrize("half_type", ["bfloat16", "float16"])
def test_mixed_precision_gives_numbers_close_to_float32(name, half_type):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    keras.config.set_dtype_policy(f"mixed_{half_type}")
    try:
        half = case.make()
        outputs = call(half, values)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(layer.get_weights())
    outputs = call(half, values)
    for x, y in zip(outputs, expected, strict=True):
        assert x.dtype == (tf.as_dtype(half_type) if y.dtype.is_floating else y.dtype)
    assert all(variable.dtype == "float32" for variable in half.trainable_variables)
    assert_equal(floats(outputs), floats(expected), atol=0.1)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.ragged])
def test_ragged_equals_padded(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    ragged = {key: x for key, x in values.items() if key != case.mask}
    ragged[case.padded] = tf.RaggedTensor.from_tensor(values[case.padded], LENGTHS)
    assert_equal(real_steps(case, call(layer, ragged)), real_steps(case, expected))


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.ragged and c.padded != "memory"])
def test_what_becomes_of_a_ragged_input_carries_its_mask_for_keras(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    ragged = {key: x for key, x in values.items() if key != case.mask}
    ragged[case.padded] = tf.RaggedTensor.from_tensor(values[case.padded], LENGTHS)
    first, *others = call(layer, ragged)
    masks = [x for x in others if x.dtype == tf.bool]  # an encoder returns the mask, too
    np.testing.assert_array_equal(first._keras_mask, masks[0] if masks else MASK)


def test_attention_finds_the_padding_of_ids_through_embedding_and_positions():
    embedding, positions, attention = embed(), SinusoidalPositions(), BahdanauAttention(U)
    ids = keras.Input((None,), dtype="int32", ragged=True)
    query = keras.Input((T, D))
    _, weights = attention(query, positions(embedding(ids)))
    model = keras.Model([query, ids], weights)
    sources = tf.ragged.constant([[4, 5, 6, 7, 8], [9, 3, 2]], dtype=tf.int32)
    found = model([tf.ones((B, T, D)), sources])
    np.testing.assert_array_equal(found[1, :, 3:], np.zeros((T, 2)))
    np.testing.assert_allclose(model([tf.ones((B, T, D)), sources.to_tensor()]), found, atol=1e-6)


@every_layer
def test_garbage_in_the_padding_changes_nothing(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    garbage = V - 1 if values[case.padded].ndim == 2 else np.nan
    dirty = values | {case.padded: blank(values[case.padded], garbage)}
    assert_equal(real_steps(case, call(layer, dirty)), real_steps(case, expected))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.ragged])
def test_a_functional_model_takes_a_ragged_input(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    given = {key: tf.constant(x) for key, x in values.items() if key != case.mask}
    inputs = {
        key: keras.Input(
            (None, *x.shape[2:]), dtype=x.dtype.name, name=key, ragged=key == case.padded
        )
        for key, x in given.items()
    }
    outputs = tf.nest.flatten(layer(**inputs))
    model = keras.Model(inputs, {f"output_{i}": x for i, x in enumerate(outputs)})
    given[case.padded] = tf.RaggedTensor.from_tensor(values[case.padded], LENGTHS)
    answer = tf.function(model)(given)
    assert_equal(real_steps(case, answer.values()), real_steps(case, expected))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.mask])
def test_a_row_without_a_real_step_gives_zeros_and_leaves_the_others_alone(name):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    expected = call(layer, values)
    values[case.mask] = np.stack([MASK[0], np.zeros(S, bool)])
    outputs = floats(call(layer, values))
    for x, y in zip(outputs, expected, strict=True):
        assert np.isfinite(x).all()
        np.testing.assert_allclose(x[0], floats([y])[0][0], atol=1e-5)
        # What has the steps of the padded argument on an axis: memory, masks, attention weights
        # over its steps. A padded query has weights too: its context is what is blanked.
        if S in x.shape[1:] and not (x.ndim == 4 and case.padded == "x"):
            np.testing.assert_array_equal(x[1], np.zeros_like(x[1]))


def cut(values, rows, steps):
    """The first rows and steps of every argument."""
    return {key: x[:rows, :steps] for key, x in values.items()}


@every_layer
@pytest.mark.parametrize(("rows", "steps"), [(1, S), (B, 1), (1, 1), (B, 0)])
def test_one_and_none_are_numbers_of_rows_and_steps_too(name, rows, steps):
    case = CASES[name]
    layer, values = case.make(), inputs_of(case)
    whole = call(layer, values)
    shapes = [x.shape for x in whole]
    small = cut(values, rows, steps)
    compiled = tf.function(lambda values: call(layer, values))
    for outputs in (call(layer, small), compiled(small)):
        for x, shape in zip(outputs, shapes, strict=True):
            assert len(x.shape) == len(shape)
            assert x.shape[0] == rows
            assert np.isfinite(floats([x])[0]).all()
    if steps == S:
        assert_equal(floats(call(layer, small)), [x[:rows] for x in floats(whole)])
