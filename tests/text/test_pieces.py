"""Pieces: as transformers' MarianTokenizer gives and joins them, in the graph and in files."""

import io
import json

import keras
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.text import SPECIAL_TOKENS, UNKNOWN_ID, PieceTokenizer

TEXTS = [
    "Two young, white males are outside near many bushes.",
    "Several men in hard hats are operating a giant pulley system.",
    "A little girl climbing into a wooden playhouse.",
    "Ein Mann lächelt einen ausgestopften Löwen an, größer als er!",
    "Ⅳ naïve cafés\uff1aﬁne \uff11\uff12\uff13",
]
LANGUAGES = [">>fra<<", ">>deu<<"]


def proto_of(texts, size, **options):
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, vocab_size=size, minloglevel=2,
        hard_vocab_limit=False, **options,
    )  # fmt: skip
    return written.getvalue()


def pieces_of(proto):
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    return [model.id_to_piece(n) for n in range(3, model.vocab_size())]


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """A MarianTokenizer, the tokenizers of both sides, and Marian's id of each of ours."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("marian")
    protos = [proto_of(TEXTS, 131), proto_of(TEXTS[2:], 97)]
    pieces = sorted({*pieces_of(protos[0])[:-9], *pieces_of(protos[1])[:-7]})  # some are unknown
    names = ["</s>", "<unk>", *pieces, *LANGUAGES, "<pad>"]
    for name, proto in zip(("source.spm", "target.spm"), protos, strict=True):
        (folder / name).write_bytes(proto)
    (folder / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(names)}))
    with pytest.warns(UserWarning, match="sacremoses"):
        theirs = transformers.MarianTokenizer.from_pretrained(folder)
    vocabulary = [*SPECIAL_TOKENS, *pieces, *LANGUAGES]
    numbers = {name: n for n, name in enumerate(names)}
    ids = [numbers.get(name, numbers["<pad>"]) for name in vocabulary]
    return theirs, [PieceTokenizer(proto, vocabulary) for proto in protos], ids


CASES = [
    *TEXTS, "", " ", ">>fra<< Two men.", ">>xxx<< Two men.", " >>fra<< Two", ">>fra<<", ">><<a",
    ">>fra Two", ">>deu<<Two<<", ">>a\nb<<c", "Two >>fra<< men", "日本語 😀 Ω",
    "a\u200bb\u00adc\ufeff", "e\u0301 É", "\u3000wide\u00a0 \t\n ", "▁ ▁▁a", "\x00\x1f",
    "\ufffd", "¼ ﷺ",
]  # fmt: skip


def test_ids_of_all_kinds_of_texts_are_those_of_marian_tokenizer(marian):
    theirs, (source, target), ids = marian
    for text, row in zip(CASES, source.tokenize(CASES).to_list(), strict=True):
        expected = theirs(text)["input_ids"][:-1]
        assert [ids[n] for n in row] == expected, text
    for text, row in zip(CASES, target.tokenize(CASES).to_list(), strict=True):
        assert [ids[n] for n in row] == theirs(text_target=text)["input_ids"][:-1], text
    assert source.tokenize(">>xxx<< a").numpy()[0] == UNKNOWN_ID


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_ids_of_any_unicode_are_those_of_marian_tokenizer(marian, text):
    theirs, (source, _), ids = marian
    for special in ("</s>", "<unk>", "<pad>"):
        if special in text:
            return
    assert [ids[n] for n in source.tokenize(text).numpy()] == theirs(text)["input_ids"][:-1]


def test_texts_of_ids_are_those_of_marian_tokenizer(marian):
    theirs, (source, target), ids = marian
    size = source.vocabulary_size()
    rows = [
        [n for n in (7 * row + column * (row + 3) for column in range(11)) if n % size > UNKNOWN_ID]
        for row in range(20)
    ]
    rows = tf.ragged.constant([[n % size for n in row] for row in rows])
    for tokenizer in (source, target):
        for row, text in zip(rows.to_list(), tokenizer.detokenize(rows).numpy(), strict=True):
            expected = theirs.decode([ids[n] for n in row], skip_special_tokens=True)
            assert text.decode() == expected, tokenizer.tokens(row)
    assert target.detokenize([0, 1, UNKNOWN_ID, 2]).numpy().decode() == "⁇"
    assert target.tokens([[0, 1, 2, 3, size]]).numpy().tolist() == [
        [b"", b"<s>", b"</s>", b"<unk>", b"<unk>"]
    ]


def test_bytes_of_characters_without_a_piece_come_back_and_half_ones_are_replaced():
    proto = proto_of(TEXTS, 401, byte_fallback=True)
    tokenizer = PieceTokenizer(proto, [*SPECIAL_TOKENS, *pieces_of(proto)])
    ids = tokenizer.tokenize(["Two 日本 😀"])
    assert tokenizer.detokenize(ids).numpy()[0].decode() == "Two 日本 😀"
    assert tokenizer.detokenize(ids[:, :-1]).numpy()[0].decode().startswith("Two 日本 \ufffd")


def test_a_tokenizer_survives_its_configuration_a_keras_file_and_an_export(marian, tmp_path):
    _, (source, _), _ = marian
    before = source.tokenize(CASES).to_list()
    again = PieceTokenizer.from_config(json.loads(json.dumps(source.get_config())))
    assert again.tokenize(CASES).to_list() == before
    assert again.get_vocabulary() == source.get_vocabulary()

    texts = keras.Input((), dtype="string")
    model = keras.Model(texts, source(texts))
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").layers[1].tokenize(
        CASES
    ).to_list() == (before)

    archive = keras.export.ExportArchive()
    archive.track(source)
    archive.add_endpoint(
        "serve",
        lambda texts: source.detokenize(source.tokenize(texts)),
        [tf.TensorSpec([None], tf.string)],
    )
    archive.write_out(tmp_path / "saved", verbose=False)
    keras.utils.set_random_seed(2)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    expected = source.detokenize(source.tokenize(CASES)).numpy().tolist()
    assert served.serve(tf.constant(CASES)).numpy().tolist() == expected


def test_reading_ends_with_the_end_and_knows_what_is_empty(marian):
    _, (source, _), _ = marian
    ids, is_empty = source.read(["", ">>fra<< Two men", b"\xffa"], 3)
    assert ids.numpy()[0].tolist() == [2, 0, 0, 0]
    assert ids.numpy()[1, 3] == 2
    assert is_empty.numpy().tolist() == [True, False, False]
    assert source.step_names(ids, None, 1).numpy()[1, 0] == b">>fra<<"
    assert len(source.tokenize([]).to_list()) == 0


def test_what_is_no_vocabulary_or_model_is_refused(marian):
    _, (source, _), _ = marian
    for vocabulary, message in (
        (["a", "b"], r"must begin with .* got 2 entries beginning \('a', 'b'\)"),
        (SPECIAL_TOKENS, "and go on, got 4 entries"),
        ([*SPECIAL_TOKENS, "a", "a"], "must not repeat a piece, got 'a' twice"),
    ):
        with pytest.raises(ValueError, match=message):
            PieceTokenizer(source.proto, vocabulary)
    with pytest.raises(ValueError, match="must be a SentencePiece model, got 3 bytes"):
        PieceTokenizer(b"abc", [*SPECIAL_TOKENS, "a"])
    with pytest.raises(ValueError, match="got a PieceTokenizer"):
        source.detokenize([[3]], unknown=tf.constant([["x"]]))
