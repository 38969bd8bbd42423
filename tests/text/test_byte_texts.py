import base64
import json
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.text import (
    SPECIAL_TOKENS,
    ByteTokenizer,
    byte_alphabet,
    byte_words,
    permutation,
    read_byte_vocabulary,
)

TEXTS = [
    "Hello there, this isn't the first of the texts; they're others' 2,000 words.",
    "  two  spaces\n\n\tand lines \r\n in it   ",
    "Die Käuferin möchte über ﬁne Straßen fahren. Ça va où? 日本語のテキスト、です。 🙂🙂🇩🇪 ١٢٣ ½",
    "aaaaaaa aaaa banananana I'LL don't's 'tis x' 's",
]
assigned = st.characters(exclude_categories=("Cs", "Cn")).filter(
    lambda sign: unicodedata.category(sign) != "Cn"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A tokenizer of the library `tokenizers`, learnt from TEXTS, and its files."""
    tokenizers = pytest.importorskip("tokenizers")
    learnt = tokenizers.ByteLevelBPETokenizer()
    learnt.train_from_iterator(TEXTS * 3, vocab_size=420, min_frequency=2)
    learnt.add_special_tokens(["<|endoftext|>", "<|start|>", "<|0.00|>"])
    folder = tmp_path_factory.mktemp("vocabulary")
    learnt.save(str(folder / "tokenizer.json"))
    (folder / "two").mkdir()
    learnt.save_model(str(folder / "two"))
    return learnt, folder


@pytest.fixture(scope="module")
def tokenizer(library):
    return made(read_byte_vocabulary(library[1]))


def made(vocabulary, **options):
    """A ByteTokenizer in kzoo's order, and the row of each of its ids."""
    names = {row: name for name, row in {**vocabulary.pieces, **vocabulary.specials}.items()}
    start, end = vocabulary.specials["<|start|>"], vocabulary.specials["<|endoftext|>"]
    rows, first_special = permutation(len(names), start, end, len(vocabulary.pieces))
    pieces = [*SPECIAL_TOKENS, *(names[row] for row in rows[4:])]
    return ByteTokenizer(pieces, vocabulary.merges, first_special, **options), rows


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(assigned, max_size=40) | st.text(" \n\ta's", max_size=12), max_size=8))
def test_ids_are_those_of_the_library_and_back_it_is_the_text(library, tokenizer, texts):
    learnt, _ = library
    texts = texts + TEXTS
    tokenizer, rows = tokenizer
    ids = tokenizer.tokenize(texts)
    expected = [row.ids for row in learnt.encode_batch(texts)]
    assert [rows[np.array(row, int)].tolist() for row in ids.to_list()] == expected
    assert [text.decode() for text in tokenizer.decode(ids).numpy()] == texts


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 10_000), max_size=20), min_size=1, max_size=20))
def test_any_ids_give_the_text_that_the_library_makes_of_them(library, tokenizer, drawn):
    learnt, _ = library
    tokenizer, rows = tokenizer
    ids = [[id_ % len(rows) for id_ in row] for row in drawn]
    expected = [learnt.decode([int(rows[i]) for i in row if rows[i] >= 0]) for row in ids]
    found = tokenizer.decode(tf.ragged.constant(ids, tf.int32, ragged_rank=1))
    assert [text.decode() for text in found.numpy()] == expected
    stripped = tokenizer.detokenize(tf.ragged.constant(ids, tf.int32, ragged_rank=1)).numpy()
    assert [text.decode() for text in stripped] == [text.strip(" \t\n\r\v\f") for text in expected]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=12), min_size=1, max_size=20))
def test_bytes_that_are_not_utf8_become_what_python_makes_of_them(tokenizer, data):
    tokenizer, _ = tokenizer
    found = tokenizer.decode(tokenizer.tokenize(data)).numpy()
    assert [text.decode() for text in found] == [each.decode(errors="replace") for each in data]


def test_words_are_cut_before_the_last_space_and_joined_they_are_the_text():
    found = byte_words(["we've  2 x\n\ny ", "a\u3000\u3000b'", ""]).to_list()
    found = [[word.decode() for word in row] for row in found]
    assert found == [
        ["we", "'ve", " ", " 2", " x", "\n", "\n", "y", " "],
        ["a", "\u3000", "\u3000", "b", "'"],
        [],
    ]


def test_all_files_of_a_vocabulary_give_the_same_ids(library, tmp_path):
    _, folder = library
    whole = read_byte_vocabulary(folder)
    two = read_byte_vocabulary(folder / "two" / "vocab.json")
    assert (two.pieces, two.merges, two.specials) == (whole.pieces, whole.merges, {})
    code = {sign: byte for byte, sign in enumerate(byte_alphabet())}
    lines = [
        base64.b64encode(bytes(code[sign] for sign in piece)) + b" %d\n" % rank
        for rank, piece in enumerate([*byte_alphabet(), *(m.replace(" ", "") for m in two.merges)])
    ]
    last = len(lines)
    (tmp_path / "x.tiktoken").write_bytes(b"".join([*lines, b"= %d\n" % last]))  # as OpenAI's ends
    ranks = read_byte_vocabulary(tmp_path / "x.tiktoken")
    assert ranks.pieces.pop("") == last
    assert set(ranks.pieces) == set(whole.pieces) and set(ranks.merges) >= set(whole.merges)
    one, _ = made(whole)
    other, _ = made(whole._replace(merges=ranks.merges))
    np.testing.assert_array_equal(
        other.tokenize(TEXTS).flat_values, one.tokenize(TEXTS).flat_values
    )


def test_merges_go_by_rank_and_from_the_left():
    vocabulary = [*SPECIAL_TOKENS, *byte_alphabet(), "aa", "aab", "bb"]
    tokenizer = ByteTokenizer(vocabulary, ["a a", "b b", "aa b"])
    tokens = tokenizer.tokens(tokenizer.tokenize(["aaa", "aaaab", "aabb", ""])).to_list()
    assert tokens == [[b"aa", b"a"], [b"aa", b"aab"], [b"aa", b"bb"], []]


def test_an_exported_function_tokenizes_and_a_config_makes_the_same(tokenizer, tmp_path):
    tokenizer, _ = tokenizer
    assert isinstance(tokenizer.get_config()["merges"], str)
    again = ByteTokenizer.from_config(tokenizer.get_config() | {"leading_space": True})
    assert again.get_vocabulary() == tokenizer.get_vocabulary()
    (spaced,) = again.tokenize(["Hello"]).to_list()
    assert spaced == tokenizer.tokenize(" Hello").numpy().tolist()
    archive = keras.export.ExportArchive()
    archive.track(again)
    spec = [tf.TensorSpec([None], tf.string)]
    archive.add_endpoint("there_and_back", lambda x: again.detokenize(again.tokenize(x)), spec)
    archive.write_out(tmp_path / "model", verbose=False)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        signature = loaded.signature_def["there_and_back"]
        (given_,), (out,) = signature.inputs.values(), signature.outputs.values()
        found = session.run(out.name, {given_.name: TEXTS})
    assert [text.decode() for text in found] == [text.strip() for text in TEXTS]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((["a"] * 9, []), "The first pieces of `vocabulary` must be"),
        (([*SPECIAL_TOKENS, "a", "a"], []), "must hold each piece once, got 'a' at 4 and 5."),
        (([*SPECIAL_TOKENS, "a b"], []), "must be in the signs of `byte_alphabet`"),
        (([*SPECIAL_TOKENS, "a"], ["a b"]), "`merges` must be of pieces of the vocabulary"),
        (([*SPECIAL_TOKENS, "a"], [], 9), "`first_special` and `size` must lie between"),
    ],
)
def test_a_bad_vocabulary_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ByteTokenizer(*arguments)


def test_bad_files_and_ids_are_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"needs tokenizer\.json, or vocab\.json"):
        read_byte_vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(ValueError, match="expected a JSON object, got a list"):
        read_byte_vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram"}}))
    with pytest.raises(ValueError, match="expected a BPE model with merges, got 'Unigram'"):
        read_byte_vocabulary(tmp_path)
    (tmp_path / "x.tiktoken").write_bytes(b"aGk= 1\n?? 2\n")
    with pytest.raises(ValueError, match="line 2: expected base64 and a rank"):
        read_byte_vocabulary(tmp_path / "x.tiktoken")
    with pytest.raises(ValueError, match="`start` and `end` must be different rows"):
        permutation(5, 3, 3)
    with pytest.raises(ValueError, match="must be in the vocabulary, got 'zzz'"):
        tokenizer[0].ids_of(["zzz"])
