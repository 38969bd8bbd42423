"""MarianMT beside transformers: tokens, logits, greedy and beam search; files, fit, SavedModel."""

import json
import random
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.pretrained import marian

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytest.importorskip("sentencepiece")
pytest.importorskip("safetensors")
import marian_models  # noqa: E402 (needs them)

OWN = {"own_target": True, "share_encoder_decoder_embeddings": False}
CONFIGS = {
    "all tied, swish": {},
    "a head of its own, relu": {"tie_word_embeddings": False, "activation_function": "relu"},
    "two vocabularies, gelu, no scale": {
        **OWN, "activation_function": "gelu", "scale_embedding": False,
    },
    "three tables": {**OWN, "tie_word_embeddings": False},
}  # fmt: skip


def sentences(count):
    """Texts of words of the corpus, letters that no piece has, and languages, known or not."""
    dice = random.Random(0)
    words = [word for text in marian_models.TEXTS for word in text.split()]
    texts = [
        " ".join(dice.choices([*words, "日本", "İ"], k=dice.randint(1, 9))) for _ in range(count)
    ]
    return [dice.choice(["", "", ">>fra<< ", ">>xxx<<"]) + text for text in texts]


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, tmp_path_factory):
    """A folder, the model and tokenizer of transformers, and ours."""
    folder = tmp_path_factory.mktemp("marian")
    config = CONFIGS[request.param]
    theirs = marian_models.write(folder, **config)
    with pytest.warns(UserWarning, match="sacremoses"):
        tokenizer = transformers.MarianTokenizer.from_pretrained(
            folder, separate_vocabs="own_target" in config
        )
    return folder, theirs, tokenizer, marian.from_hugging_face(folder)


def rows_of(tokenizer, model, is_target):
    """The id in transformers of each of kzoo's ids."""
    names = tokenizer.encoder
    if is_target and tokenizer.separate_vocabs:
        names = tokenizer.target_encoder
    ours = (model.target_tokenizer if is_target else model.source_tokenizer).get_vocabulary()
    return np.array([names.get(name, names["<pad>"]) for name in ours])


def of_transformers(tokenizer, texts):
    return tokenizer(texts, return_tensors="pt", padding=True)


def test_logits_are_those_of_transformers(pair):
    _, theirs, tokenizer, model = pair
    texts = [*sentences(20), ""]
    batch = of_transformers(tokenizer, texts)
    rows = rows_of(tokenizer, model, True)
    source = model.source_tokenizer.read(tf.constant(texts), 99)[0]
    np.testing.assert_array_equal(
        rows_of(tokenizer, model, False)[source.numpy()], batch["input_ids"].numpy()
    )
    target = np.random.default_rng(0).integers(2, len(rows), (len(texts), 13))
    target[:, 0] = 1
    with torch.no_grad():
        expected = theirs(**batch, decoder_input_ids=torch.tensor(rows[target])).logits.numpy()
    logits = model({"source": source, "target": target})["logits"].numpy()
    np.testing.assert_allclose(
        np.delete(logits, 1, 2), expected[..., np.delete(rows, 1)], atol=1e-4
    )
    assert (tf.nn.softmax(logits)[..., 1] == 0).numpy().all()


def in_theirs(rows, ids, end=2):
    """Our ids (L,) as theirs, up to the end; zeros behind it are no output."""
    ids = ids.tolist()
    return rows[ids[: ids.index(end) + 1] if end in ids else ids].tolist()


def without_padding(ids, padding):
    return [n for n in ids[1:].tolist() if n != padding]


def test_greedy_outputs_and_of_one_model_beams_are_those_of_transformers(pair):
    _, theirs, tokenizer, model = pair
    is_first = theirs.config.activation_function == "swish" and model.head.tied is not None
    searches = ((1, 0.0), (3, 0.0), (3, 1.0)) if is_first else ((1, 0.0),)
    texts = sentences(200 if is_first else 20)
    batch = of_transformers(tokenizer, texts)
    source = model.source_tokenizer.read(tf.constant(texts), 99)[0]
    rows = rows_of(tokenizer, model, True)
    generate = tf.function(model.generate)
    for beams, penalty in searches:
        with torch.no_grad():
            expected = theirs.generate(
                **batch, num_beams=beams, max_length=16, do_sample=False, early_stopping=False,
                length_penalty=penalty,
            )  # fmt: skip
        found = generate(
            source, beam_size=beams, max_length=15, length_penalty=penalty,
            length_normalization="length" if beams > 1 else "gnmt", finished_apart=beams > 1,
        )  # fmt: skip
        for ids, row in zip(found.ids.numpy()[:, 0], expected.numpy(), strict=True):
            padding = theirs.config.pad_token_id
            assert in_theirs(rows, ids) == without_padding(row, padding), (beams, penalty)
    answers = tokenizer.batch_decode(expected, skip_special_tokens=True)
    unknown = tokenizer.unk_token_id
    for text, answer, row in zip(
        model.target_texts(found.ids[:, 0]).numpy(), answers, expected.tolist(), strict=True
    ):
        if unknown not in row:  # ours writes a sign for it, theirs nothing
            assert text.decode() == answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    marian_models.write(folder)
    return folder


def test_the_padding_keeps_its_share_of_the_softmax_and_is_never_an_output(folder):
    model = marian.from_hugging_face(folder)
    source = model.source_tokenizer.read(tf.constant(["Two men", "a"]), 9)[0]
    before = model({"source": source, "target": np.full((2, 1), 1)})["logits"].numpy()[:, 0]
    bias = model.head.bias.numpy()
    bias[0] += 50
    model.head.bias.assign(bias)
    found = model.generate(source, beam_size=2, max_length=1)
    assert (found.ids.numpy() > 1).all()
    expected = np.sort(before, 1)[:, ::-1][:, :1] - before[:, 0:1] - 50
    np.testing.assert_allclose(found.log_probs.numpy()[:, :1], expected, atol=1e-3)


def test_a_start_among_the_pieces_keeps_its_row_and_is_no_text(tmp_path):
    theirs = marian_models.write(tmp_path, more=["<s>"], encoder_layers=1, decoder_layers=1)
    model = marian.from_hugging_face(tmp_path)
    tokenizer = model.target_tokenizer
    ours = tokenizer.get_vocabulary().index("<<s>>")
    places = json.loads((tmp_path / "vocab.json").read_text())
    assert tokenizer.detokenize([[ours, 2]]).numpy() == [b""]
    source = model.source_tokenizer.read(tf.constant(["Two men"]), 9)[0]
    logits = model({"source": source, "target": np.array([[1]])})["logits"].numpy()[0, 0]
    names = [model.source_tokenizer.get_vocabulary()[n] for n in source[0].numpy()]
    start = theirs.config.decoder_start_token_id
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor([[places[name] for name in names]]),
            decoder_input_ids=torch.tensor([[start]]),
        ).logits.numpy()[0, 0]
    np.testing.assert_allclose(logits[ours], expected[places["<s>"]], atol=1e-4)


def test_a_model_survives_a_keras_file_answers_from_a_saved_model_and_learns(folder, tmp_path):
    model = marian.from_hugging_face(folder)
    texts = [">>deu<< Two men", ">>fra<< a shirt", ""]
    expected = model.text_generator(beam_size=2, max_length=9)(texts)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.suppressed == model.suppressed
    assert again.text_generator(beam_size=2, max_length=9)(texts) == expected

    signatures = ("serving_default",)
    kzoo.export.save(model, tmp_path / "1", signatures=signatures, beam_size=2, max_length=9)
    served = kzoo.load(tmp_path / "1")
    assert served(texts) == [*expected[:2], ""]
    assert served(["Two men", "a shirt", ""], ["deu", "fra", "deu"]) == [*expected[:2], ""]
    assert served("a shirt") == expected[1]  # in the first language of the vocabulary

    source, labels = (
        tokenizer.read(tf.constant(["Two men", ">>fra<< a shirt"]), 9)[0]
        for tokenizer in (model.source_tokenizer, model.target_tokenizer)
    )
    target = np.pad(labels, [[0, 0], [1, 0]], constant_values=1)[:, :-1]
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    inputs = {"source": source, "target": target}
    before = model.evaluate(inputs, labels, verbose=0)
    model.fit(inputs, labels, epochs=3, verbose=0)
    assert model.evaluate(inputs, labels, verbose=0) < before


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_tensorflow_lite_searches_as_the_model_does(folder, tmp_path):
    model, options = marian.from_hugging_face(folder), {"beam_size": 2, "max_length": 6}
    path = kzoo.export.to_tflite(model, tmp_path / "lite", max_source_length=8, **options)
    search = tf.lite.Interpreter(str(path / "model.tflite")).get_signature_runner()
    for text in ("Two men", ">>fra<< a shirt"):
        ids = model.source_ids(tf.constant([text]), 8)
        expected = model.generate(ids, **options)
        found = search(ids=np.pad(ids, ((0, 0), (0, 9 - ids.shape[1]))))
        np.testing.assert_array_equal(found["ids"], expected.ids)
        np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-4)


def test_files_that_do_not_fit_are_refused_by_name(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    vocabulary = json.loads((folder / "vocab.json").read_text())
    size = len(vocabulary)
    for name, change, error, message in (
        ("config.json", {"model_type": "bart"}, ValueError, "must be 'marian', got 'bart'"),
        ("config.json", {"d_model": None}, ValueError, "must have 'd_model', got"),
        ("config.json", {"normalize_before": True}, ValueError, "must be false, as transf"),
        ("config.json", {"activation_function": "gelu_new"}, ValueError, "one of swish, silu"),
        ("config.json", {"vocab_size": 5}, ValueError, f"config.json says, 5, got {size}"),
        ("config.json", {"d_model": 24}, ValueError, r"must have the shape \(.*, 24\), got"),
        ("config.json", {"encoder_layers": 1}, ValueError, "alone, got also 'model.encoder.l"),
        ("config.json", {"decoder_layers": 4}, ValueError, "must hold the weight 'model.decoder"),
        ("config.json", {"eos_token_id": 2}, ValueError, "must be the id of '</s>'"),
        ("config.json", {"decoder_start_token_id": 0}, ValueError, "in no text, got 0"),
        ("vocab.json", {"</s>": 1}, ValueError, "none of them twice"),
        ("vocab.json", {"<pad>": None, "x": size - 1}, ValueError, "must have the piece '<pad>'"),
        ("source.spm", None, FileNotFoundError, "source.spm"),
        ("model.safetensors", None, FileNotFoundError, "must hold model.safetensors or"),
    ):
        bad = tmp_path / "bad"
        shutil.copytree(folder, bad, dirs_exist_ok=True)
        if change is None:
            (bad / name).unlink()
        else:
            whole = {**(config if name == "config.json" else vocabulary), **change}
            whole = {key: value for key, value in whole.items() if value is not None}
            (bad / name).write_text(json.dumps(whole))
        with pytest.raises(error, match=message):
            marian.from_hugging_face(bad)
