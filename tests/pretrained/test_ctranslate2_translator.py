"""CTranslate2 and back: bit for bit; conversions of MarianMT in each precision; what is refused."""

import functools
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import pretrained
from kzoo.layers.positions import LearnedPositions, RotaryPositions, SinusoidalPositions
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.pretrained import ctranslate2_translator, marian

ctranslate2 = pytest.importorskip("ctranslate2")

HALVES = functools.partial(SinusoidalPositions, interleaved=False)
TEXTS = ["Two young men.", "A man in a blue shirt", "a"]


def own_model(is_tied, norm_first, positions=None, inside=None, activation="relu", bias=True):
    """An untrained model of ours, its weights all different."""
    source = kzoo.SubwordTokenizer.learn([*TEXTS, "Ein Mann in einem blauen Hemd"], 57)
    target = source if is_tied else kzoo.WordTokenizer.learn(TEXTS, 11)
    embedding = kzoo.TokenEmbedding(source.vocabulary_size(), 12, scale=is_tied)
    other = embedding if is_tied else kzoo.TokenEmbedding(target.vocabulary_size(), 12)
    options, made = {"norm_first": norm_first, "activation": activation}, {}
    for name, make in (("positions", positions), ("attention_positions", inside)):
        made[name] = [make() if make else None for _ in range(2)]
    encoder, decoder = ({name: each[n] for name, each in made.items()} for n in range(2))
    model = kzoo.Seq2Seq(
        TransformerEncoder(embedding, 2, 3, 17, **options, **encoder),
        TransformerDecoder(other, 3, 2, 19, **options, **decoder),
        kzoo.VocabularyHead(other.vocabulary_size, 12, other if is_tied else None, bias),
        source,
        target,
    )
    model.build({"source": (None, None), "target": (None, None)})
    dice = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype == "float32" and weight.shape:
            weight.assign(dice.normal(size=weight.shape, scale=0.3))
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"is_tied": True, "norm_first": False, "bias": False},
        {"is_tied": False, "norm_first": True, "activation": "gelu"},
        {"is_tied": True, "norm_first": True, "inside": lambda: RotaryPositions(base=500.0)},
        {"is_tied": False, "norm_first": False, "positions": lambda: LearnedPositions(31)},
        {
            "is_tied": True,
            "norm_first": False,
            "positions": lambda: SinusoidalPositions(interleaved=False),
        },
    ],
    ids=["post-norm", "pre-norm", "rotary", "learned", "halves"],
)
def test_a_model_of_ours_comes_back_bit_for_bit(options, tmp_path):
    model = own_model(**options)
    path = kzoo.export.to_ctranslate2(model, tmp_path / "model")
    again = pretrained.load(path)
    assert [tuple(w.shape) for w in again.weights] == [tuple(w.shape) for w in model.weights]
    for weight, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), other.numpy(), err_msg=weight.path)
    for side in ("source", "target"):
        ours, theirs = (getattr(each, f"{side}_tokenizer") for each in (model, again))
        assert theirs.get_config() | {"name": ""} == ours.get_config() | {"name": ""}
    inputs = {
        "source": model.source_tokenizer.read(tf.constant(TEXTS), 40)[0],
        "target": np.array([[1, 4, 5], [1, 6, 7], [1, 5, 8]]),
    }
    np.testing.assert_array_equal(model(inputs)["logits"], again(inputs)["logits"])


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A MarianMT model, and CTranslate2's own conversion of it in float32."""
    pytest.importorskip("transformers")
    marian_models = pytest.importorskip("marian_models")
    folder = tmp_path_factory.mktemp("marian")
    marian_models.write(folder, encoder_attention_heads=4)
    with pytest.warns(UserWarning, match="sacremoses"):
        converter = ctranslate2.converters.TransformersConverter(str(folder))
        converter.convert(str(folder / "ct2"))
    for name in ("source.spm", "target.spm"):
        shutil.copy(folder / name, folder / "ct2")
    return folder


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_conversions_of_marian_answer_as_in_ctranslate2(converted, tmp_path, kind):
    folder = converted / "ct2"
    model = pretrained.load(folder)
    if kind != "float32":  # from what was loaded, as its export must do the same
        folder = kzoo.export.to_ctranslate2(model, tmp_path / "ct2", kind)
        model = pretrained.load(folder)
    texts = ["Two young men.", ">>fra<< a shirt", "In the 日本"]
    source = model.source_tokenizer.read(tf.constant(texts), 40)[0]
    pieces = [
        [token.decode() for token in row if token not in (b"", b"</s>")]
        for row in model.source_tokenizer.tokens(source).numpy()
    ]
    engine = ctranslate2.Translator(str(folder), compute_type="float32", inter_threads=1)
    found = engine.translate_batch(
        pieces, beam_size=1, max_decoding_length=11, length_penalty=0, min_decoding_length=0,
        return_scores=True,
    )  # fmt: skip
    ours = model.generate(source, beam_size=1, max_length=11, length_penalty=0)
    tokens = model.target_tokenizer.tokens(ours.ids[:, 0]).numpy()
    for row, log_prob, theirs in zip(tokens, ours.log_probs.numpy()[:, 0], found, strict=True):
        assert [t.decode() for t in row if t not in (b"", b"</s>")] == theirs.hypotheses[0]
        # In float16 its sinusoids are rounded, and ours are not.
        within = 1e-3 if kind == "float16" else 1e-4
        np.testing.assert_allclose(log_prob, theirs.scores[0], rtol=within)


def test_the_conversion_has_the_logits_of_the_model_of_transformers(converted):
    whole, model = marian.from_hugging_face(converted), pretrained.load(converted / "ct2")
    assert model.source_tokenizer.get_vocabulary() == whole.source_tokenizer.get_vocabulary()
    inputs = {
        "source": whole.source_tokenizer.read(tf.constant(TEXTS), 40)[0],
        "target": np.array([[1, 4, 5], [1, 6, 7], [1, 5, 8]]),
    }
    ours, theirs = (each(inputs)["logits"].numpy()[..., 2:] for each in (model, whole))
    np.testing.assert_allclose(ours[:, 1:], theirs[:, 1:], atol=1e-4)


def test_what_does_not_fit_is_refused_by_name(converted, tmp_path):
    config = json.loads((converted / "ct2" / "config.json").read_text())
    pieces = json.loads((converted / "ct2" / "shared_vocabulary.json").read_text())
    for name, content, error, message in (
        ("config.json", {**config, "add_source_bos": True}, ValueError, "must be false, got true"),
        ("config.json", {**config, "layer_norm_epsilon": 0.1}, ValueError, "must be one of .* 0.1"),
        ("config.json", {**config, "eos_token": "?!"}, ValueError, r"must hold '\?!', got none"),
        ("shared_vocabulary.json", pieces[:-1], ValueError, r"must have the shape \("),
        ("shared_vocabulary.json", None, FileNotFoundError, "must hold source_vocabulary or"),
        ("source.spm", None, FileNotFoundError, "must hold source.spm or sentencepiece.model"),
        ("model.bin", None, ValueError, "model_type` must be 'marian' or 'whisper', got None"),
    ):
        bad = tmp_path / "bad"
        shutil.copytree(converted / "ct2", bad, dirs_exist_ok=True)
        if content is None:
            (bad / name).unlink()
        else:
            (bad / name).write_text(json.dumps(content))
        with pytest.raises(error, match=message):
            pretrained.load(bad)
    spec = ctranslate2.specs.transformer_spec.TransformerSpec.from_config((1, 1), 2)
    spec.encoder.scale_embeddings = 3.0
    assert tuple(ctranslate2.specs.Activation.__members__) == ctranslate2_translator._NAMES
