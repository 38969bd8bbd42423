"""MarianMT beside transformers: tokens, logits, greedy and beam search; files, fit, SavedModel."""

import random

import numpy as np
import pytest
import tensorflow as tf

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
    """Our ids (L,) as theirs, up to the end."""
    ids = ids.tolist()
    return rows[ids[: ids.index(end) + 1] if end in ids else ids].tolist()


def without_padding(ids, padding):
    return [n for n in ids[1:].tolist() if n != padding]


def test_greedy_and_beam_outputs_are_those_of_transformers(pair):
    _, theirs, tokenizer, model = pair
    texts = sentences(200)
    batch = of_transformers(tokenizer, texts)
    source = model.source_tokenizer.read(tf.constant(texts), 99)[0]
    rows = rows_of(tokenizer, model, True)
    generate = tf.function(model.generate)
    for beams, penalty in ((1, 0.0), (3, 0.0), (3, 1.0)):
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
            assert in_theirs(rows, ids[ids != 0]) == without_padding(row, padding), (beams, penalty)
    answers = tokenizer.batch_decode(expected, skip_special_tokens=True)
    unknown = tokenizer.unk_token_id
    for text, answer, row in zip(
        model.target_texts(found.ids[:, 0]).numpy(), answers, expected.tolist(), strict=True
    ):
        if unknown not in row:  # ours writes a sign for it, theirs nothing
            assert text.decode() == answer
