"""Models in the formats of other engines answer as kzoo does."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import export, text
from kzoo.layers.attention import FixedContext
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.positions import AlibiPositions, LearnedPositions, RotaryPositions
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import Ensemble, Seq2Seq
from recipes.runs.processor import cpu_values

ctranslate2 = pytest.importorskip("ctranslate2")

TEXTS = [
    "Two young men are outside.",
    "A little girl climbing into a wooden playhouse.",
    "Several men in hard hats are operating a giant pulley system.",
    "Girl, girl, girl!",
    "A hat 😀",
]
UNITS, HEADS, HIDDEN, LONGEST, BEAMS = 16, 4, 23, 13, 5
# Of CTranslate2's search: the one that is nearest to kzoo's with length_penalty=0.
SEARCH = {"length_penalty": 0, "min_decoding_length": 0}

KINDS = {
    "post-norm, one vocabulary, all tied": {},
    "pre-norm": {"norm_first": True, "activation": "gelu"},
    "two vocabularies, own head with bias": {"tied": False, "shared": False, "scale": False},
    "pre-norm, two vocabularies, tied head": {"norm_first": True, "shared": False},
    "learned positions": {"positions": 5, "activation": "swish", "norm_first": True},
    "rotary positions": {"rotary": True, "norm_first": True},
    "grouped queries": {"num_key_value_heads": 2},
    "multi-query, rotary": {"num_key_value_heads": 1, "rotary": True},
}


def transformer(
    tied=True, shared=True, scale=True, positions=None, rotary=False, noise=1, texts=(), **options
):
    """A transformer with random weights, biases and norms."""
    target_tokenizer = text.SubwordTokenizer.learn(TEXTS, 71)
    source_tokenizer = (
        target_tokenizer if shared else text.WordTokenizer.learn([*TEXTS[:4], *texts], 71)
    )
    target = TokenEmbedding(target_tokenizer.vocabulary_size(), UNITS, scale)
    source = target if shared else TokenEmbedding(source_tokenizer.vocabulary_size(), UNITS, scale)
    if rotary:
        options["attention_positions"] = RotaryPositions(base=500.0)

    def stack(make, embedding, num_layers):
        own = LearnedPositions(positions) if positions else None
        return make(embedding, num_layers, HEADS, HIDDEN, dropout=0.1, positions=own, **options)

    head = VocabularyHead(
        target.vocabulary_size, UNITS, target if tied else None, use_bias=not tied
    )
    encoder, decoder = stack(TransformerEncoder, source, 3), stack(TransformerDecoder, target, 2)
    model = Seq2Seq(encoder, decoder, head, source_tokenizer, target_tokenizer)
    return randomized(model, noise)


def randomized(model, scale=1):
    """Built, with weights far enough from their initial values that a mix-up would show."""
    model({"source": tf.constant([[4, 5, 2]]), "target": tf.constant([[1, 5]])})
    random = np.random.default_rng(3)
    for weight in model.weights:
        noise = random.normal(size=weight.shape).astype("float32")
        noise *= 0.3 if weight.shape.rank == 1 else 0.1
        weight.assign(weight + scale * (0.5 * weight + noise))
    return model


def rnn(units=7):
    tokenizer = text.CharacterTokenizer.learn(TEXTS, 71)
    embedding = TokenEmbedding(tokenizer.vocabulary_size(), units)
    decoder = AttentionDecoder(embedding, units, FixedContext(), attend="before", summary="first")
    head = VocabularyHead(tokenizer.vocabulary_size(), units)
    return randomized(
        Seq2Seq(RecurrentEncoder(embedding, units), decoder, head, tokenizer, tokenizer)
    )


def in_two_precisions(make):
    """A model in float32, and one of the same weights in mixed_bfloat16."""
    plain = make()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = make()
    finally:
        keras.config.set_dtype_policy("float32")
    for weight, value in zip(mixed.weights, plain.get_weights(), strict=True):
        weight.assign(value)
    return plain, mixed


def pieces(tokenizer, ids):
    return [[piece.decode() for piece in row] for row in tokenizer.tokens(ids).to_list()]


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """A model of each kind, and CTranslate2 with the same."""
    keras.utils.set_random_seed(6)
    model = transformer(**KINDS[request.param])
    path = export.to_ctranslate2(model, tmp_path_factory.mktemp("ctranslate2") / "model")
    return model, ctranslate2.Translator(str(path), inter_threads=1, intra_threads=1)


def searched(model, beam_size):
    """For each text the tokens of all hypotheses of kzoo and their log-probabilities."""
    source = model.source_ids(tf.constant(TEXTS), 256)
    found = model.generate(source, beam_size=beam_size, max_length=LONGEST, length_penalty=0)
    ids = tf.RaggedTensor.from_tensor(
        tf.reshape(found.ids, (-1, LONGEST)), tf.reshape(found.lengths, [-1])
    )
    hypotheses = pieces(model.target_tokenizer, ids)
    rows = range(0, len(hypotheses), beam_size)
    return [hypotheses[row : row + beam_size] for row in rows], found.log_probs.numpy()


def source_tokens(model):
    return pieces(model.source_tokenizer, model.source_tokenizer.tokenize(TEXTS))


@pytest.mark.parametrize("beam_size", [1, BEAMS])
def test_ctranslate2_finds_the_tokens_that_kzoo_finds(both, beam_size):
    model, translator = both
    expected, _ = searched(model, beam_size)
    found = translator.translate_batch(
        source_tokens(model), beam_size=beam_size, **SEARCH, max_decoding_length=LONGEST
    )
    assert [result.hypotheses[0] for result in found] == [rows[0] for rows in expected]
    assert len({tuple(rows[0]) for rows in expected}) > 1  # or this would show nothing


def test_ctranslate2_gives_every_target_the_probability_that_kzoo_gives_it(both):
    model, translator = both
    size = model.target_tokenizer.vocabulary_size()
    ids = np.random.default_rng(5).integers(text.UNKNOWN_ID, size, (len(TEXTS), 7))
    outputs = model(
        {
            "source": model.source_ids(tf.constant(TEXTS), 256),
            "target": np.pad(ids, ((0, 0), (1, 0)), constant_values=text.START_ID),
        }
    )
    labels = np.pad(ids, ((0, 0), (0, 1)), constant_values=text.END_ID)
    expected = tf.gather(tf.nn.log_softmax(outputs["logits"]), labels, batch_dims=2)
    scored = translator.score_batch(
        source_tokens(model), pieces(model.target_tokenizer, tf.RaggedTensor.from_tensor(ids))
    )
    np.testing.assert_allclose([row.log_probs for row in scored], expected, atol=1e-4)


def test_the_alignment_is_kzoos(both):
    model, translator = both
    found = model.generate(
        model.source_ids(tf.constant(TEXTS[:1]), 256), beam_size=1, max_length=7, length_penalty=0
    )
    (result,) = translator.translate_batch(
        source_tokens(model)[:1],
        beam_size=1,
        **SEARCH,
        max_decoding_length=7,
        return_attention=True,
    )
    attention = np.array(result.attention[0])
    steps, length = attention.shape  # without the end token on either side
    np.testing.assert_allclose(attention, found.weights[0, 0, :steps, :length], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_a_trained_model_ends_its_hypotheses_where_kzoo_ends_them(norm_first, tmp_path):
    keras.utils.set_random_seed(6)
    model = transformer(norm_first=norm_first, noise=0)
    words = [source.split() for source in TEXTS[:4]]
    labels = model.source_ids(tf.constant([" ".join(row[::-1]) for row in words]), 256)
    inputs = {
        "source": model.source_ids(tf.constant(TEXTS[:4]), 256),
        "target": np.pad(labels, ((0, 0), (1, 0)), constant_values=text.START_ID)[:, :-1],
    }
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(inputs, labels, batch_size=4, epochs=120, verbose=0)
    found = model.generate(inputs["source"], beam_size=BEAMS, max_length=60, length_penalty=0)
    expected = tf.RaggedTensor.from_tensor(found.ids[:, 0], found.lengths[:, 0])
    translator = ctranslate2.Translator(str(export.to_ctranslate2(model, tmp_path / "model")))
    results = translator.translate_batch(
        source_tokens(model)[:4], beam_size=BEAMS, **SEARCH, return_scores=True
    )
    assert [row.hypotheses[0] for row in results] == pieces(model.target_tokenizer, expected)
    assert max(found.lengths[:, 0]) < 59
    np.testing.assert_allclose([row.scores[0] for row in results], found.log_probs[:, 0], atol=1e-3)


# The folder.


def run_readme(path, source, capsys):
    """Runs the lines of Python in the README.md of an export; returns what they print."""
    lines = (path / "README.md").read_text("utf-8").splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    "))
    code = code.replace(
        "from ai_edge_litert.interpreter import Interpreter",
        "import tensorflow; Interpreter = tensorflow.lite.Interpreter",
    )
    exec(code.replace('"text"', repr(source)), {})
    return capsys.readouterr().out.strip()


def generated(model, source, **options):
    ids = model.generate(model.source_ids(tf.constant([source]), 256), **options).ids[0, 0]
    return model.target_tokenizer.detokenize(ids).numpy().decode()


def test_the_readme_of_a_ctranslate2_model_takes_letters_of_all_kinds(tmp_path, capsys):
    model = transformer(shared=False, texts=["Tür auf", "Tür zu"])
    path = export.to_ctranslate2(model, tmp_path / "en-de")
    assert run_readme(path, "Tür zu", capsys)


@pytest.mark.parametrize("shared", [True, False], ids=["subwords", "words and subwords"])
def test_the_readme_of_a_ctranslate2_model_says_how_to_translate(shared, tmp_path, capsys):
    model = transformer(shared=shared)
    path = export.to_ctranslate2(model, tmp_path / "en-de")
    kind = "spm" if shared else "json"
    assert {"model.bin", "config.json", f"source.{kind}", "target.spm"} <= {
        file.name for file in path.iterdir()
    }
    (found,) = ctranslate2.Translator(str(path)).translate_batch(
        source_tokens(model)[:1], beam_size=4, **SEARCH
    )
    names = model.target_tokenizer.get_vocabulary()
    ids = [names.index(token) for token in found.hypotheses[0]]
    expected = model.target_tokenizer.detokenize(ids).numpy().decode()
    assert run_readme(path, TEXTS[0], capsys) == expected
    assert "# en-de" in (path / "README.md").read_text("utf-8")


@pytest.mark.parametrize("quantization", ["int8", "int16", "float16"])
def test_a_quantized_model_is_smaller_and_almost_as_probable(quantization, tmp_path):
    model = transformer()
    paths = [export.to_ctranslate2(model, tmp_path / str(q), q) for q in (None, quantization)]
    sizes = [(path / "model.bin").stat().st_size for path in paths]
    assert sizes[1] < sizes[0]
    warned = ["CT2_USE_MKL=1" in (path / "README.md").read_text("utf-8") for path in paths]
    assert warned == [False, "int" in quantization]
    targets = pieces(model.target_tokenizer, model.target_tokenizer.tokenize(TEXTS))
    bounds = {"float32": 0.5}
    if any("vnni" in flags for flags in cpu_values("flags")):  # else an AMD CPU's sums saturate
        bounds["default"] = 1.0
    for kind, bound in bounds.items():
        exact, other = (
            ctranslate2.Translator(str(path), compute_type=kind).score_batch(
                source_tokens(model), targets
            )
            for path in paths
        )
        for a, b in zip(exact, other, strict=True):
            np.testing.assert_allclose(a.log_probs, b.log_probs, atol=bound)
            assert a.log_probs != b.log_probs


# TensorFlow Lite.

OPTIONS = {"beam_size": 3, "max_length": 7, "length_penalty": 0.6}
deprecated = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")


def lite_ids(model, source, longest):
    ids = model.source_ids(tf.constant([source]), longest)
    return np.pad(ids, ((0, 0), (0, longest + 1 - ids.shape[1])))


@deprecated
@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_tensorflow_lite_runs_the_whole_search_with_equal_ids(name, tmp_path, capsys):
    model = transformer(norm_first=True) if name == "transformer" else rnn()
    path = export.to_tflite(model, tmp_path / name, max_source_length=70, **OPTIONS)
    interpreter = tf.lite.Interpreter(str(path / "model.tflite"))
    assert not [op for op in interpreter._get_ops_details() if op["op_name"].startswith("Flex")]
    search = interpreter.get_signature_runner()
    for source in TEXTS:
        expected = model.generate(model.source_ids(tf.constant([source]), 70), **OPTIONS)
        found = search(ids=lite_ids(model, source, 70))
        np.testing.assert_array_equal(found["ids"], expected.ids)
        np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-4)
    assert run_readme(path, TEXTS[0], capsys) == generated(model, TEXTS[0], **OPTIONS)


@deprecated
@pytest.mark.parametrize("quantization", ["float16", "int8"])
def test_a_quantized_tensorflow_lite_model_is_smaller(quantization, tmp_path):
    model = rnn(units=41)
    paths = [
        export.to_tflite(model, tmp_path / str(q), q, max_source_length=11, **OPTIONS)
        for q in (None, quantization)
    ]
    sizes = [(path / "model.tflite").stat().st_size for path in paths]
    assert sizes[1] < sizes[0]
    found = [
        tf.lite.Interpreter(str(path / "model.tflite")).get_signature_runner()(
            ids=lite_ids(model, "girl", 11)
        )["scores"]
        for path in paths
    ]
    np.testing.assert_allclose(found[0][0, 0], found[1][0, 0], atol=0.5)


@deprecated
def test_a_model_trained_in_bfloat16_becomes_one_of_float32(tmp_path):
    model, mixed = in_two_precisions(rnn)
    path = export.to_tflite(mixed, tmp_path / "mixed", max_source_length=11, **OPTIONS)
    assert mixed.head.compute_dtype == "bfloat16"
    search = tf.lite.Interpreter(str(path / "model.tflite")).get_signature_runner()
    expected = model.generate(model.source_ids(tf.constant(["girl"]), 11), **OPTIONS)
    np.testing.assert_array_equal(search(ids=lite_ids(model, "girl", 11))["ids"], expected.ids)


def test_ctranslate2_gets_the_positions_of_a_model_in_bfloat16_as_they_are(tmp_path):
    plain, mixed = in_two_precisions(transformer)
    files = [
        export.to_ctranslate2(model, tmp_path / name) / "model.bin"
        for name, model in (("plain", plain), ("mixed", mixed))
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert mixed.encoder.compute_dtype == "bfloat16"


# What cannot be exported.


def test_ctranslate2_refuses_what_it_cannot_express(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(ValueError, match="its encoder must be a TransformerEncoder, got Recurrent"):
        export.to_ctranslate2(rnn(), path)
    model = transformer()
    tokenizer = model.source_tokenizer

    def changed(stack, **config):
        make = TransformerDecoder if stack == "decoder" else TransformerEncoder
        parts = {"encoder": model.encoder, "decoder": model.decoder}
        parts[stack] = make(
            **{"embedding": model.encoder.embedding, "num_layers": 1, "num_heads": 2} | config,
            hidden_units=7,
        )
        return randomized(Seq2Seq(*parts.values(), model.head, tokenizer, tokenizer))

    for name in ("prompt", "suppressed_first"):
        told = Seq2Seq(
            model.encoder, model.decoder, model.head, tokenizer, tokenizer, **{name: (7,)}
        )
        with pytest.raises(ValueError, match=rf"`{name}` must be empty for CTranslate2, got .*7"):
            export.to_ctranslate2(told, path)

    for stack, config, message in (
        ("encoder", {"activation": "elu"}, "The encoder's `activation` must be one of .*'elu'"),
        (
            "decoder",
            {"attention_positions": AlibiPositions()},
            "The decoder must have sinusoidal, learned or rotary positions, one kind",
        ),
        (
            "encoder",
            {"attention_positions": RotaryPositions(), "positions": LearnedPositions(5)},
            "The encoder must have sinusoidal, learned or rotary positions, one kind",
        ),
        (
            "encoder",
            {"embedding": keras.layers.Embedding(100, UNITS)},
            "The encoder's `embedding` must be a TokenEmbedding for CTranslate2, got Embedding",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            export.to_ctranslate2(changed(stack, **config), path)
    with pytest.raises(ValueError, match=r"`quantization` must be None or one of .* got 'int4'"):
        export.to_ctranslate2(model, path, "int4")
    with pytest.raises(ValueError, match="`model` must be a Seq2Seq, got Ensemble"):
        export.to_ctranslate2(Ensemble([model, changed("encoder")]), path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to_engine", [export.to_ctranslate2, export.to_tflite])
def test_an_export_needs_tokenizers_weights_and_a_free_path(to_engine, tmp_path):
    model = transformer()
    tokenizers = 2 * [model.target_tokenizer]
    with pytest.raises(ValueError, match="`model` must have a source_tokenizer"):
        to_engine(Seq2Seq(model.encoder, model.decoder, model.head), tmp_path / "1")
    unbuilt = Seq2Seq(model.encoder, model.decoder, VocabularyHead(71, UNITS), *tokenizers)
    with pytest.raises(ValueError, match="`model` must be built, but its head has no weights"):
        to_engine(unbuilt, tmp_path / "1")
    (tmp_path / "2").mkdir()
    with pytest.raises(FileExistsError, match=r"`path` must not exist yet, got '.*2'"):
        to_engine(model, tmp_path / "2")
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_tensorflow_lite_refuses_options_that_make_no_sense(tmp_path):
    model = rnn()
    with pytest.raises(ValueError, match=r"`quantization` must be None, .* got 'int16'"):
        export.to_tflite(model, tmp_path / "1", "int16")
    with pytest.raises(ValueError, match=r"`max_source_length` must be at least 1, got .*=0"):
        export.to_tflite(model, tmp_path / "1", max_source_length=0)
    with pytest.raises(ValueError, match="`beam_size` must be an integer of at least 1"):
        export.to_tflite(model, tmp_path / "1", beam_size=0)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kzoo.export.ctranslate2.write_tokenizers", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export.to_ctranslate2(transformer(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ImportError, match=r"pip install kzoo\[ctranslate2\]"):
        export.to_ctranslate2(transformer(), tmp_path / "model")
