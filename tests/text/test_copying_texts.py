"""Which words of a source can be copied: texts to ids of words and places, and back."""

import re

import numpy as np
import pytest
import tensorflow as tf

from kzoo import batching, text
from kzoo.text import copying

WORDS = text.WordTokenizer([*text.SPECIAL_TOKENS, "the", "bill", "paid"])  # V = 7
SOURCES = ["the bill 42 of 42 dogs", "", "x </s> x"]
TARGETS = ["bill dogs 42 cats", "a", "x x the"]


def test_known_words_have_their_id_and_others_the_first_place_where_they_stand():
    copied, ids = copying.copyable(WORDS, SOURCES, TARGETS)
    assert copied.to_list() == [[4, 5, 9, 10, 9, 12], [], [7, 8, 9, 10, 11, 7]]  # x < / s > x
    assert ids.to_list() == [[5, 12, 9, 3], [3], [7, 7, 4]]
    assert copied.dtype == ids.dtype == tf.int32


def test_it_is_the_same_in_a_graph_and_one_word_at_a_time():
    random = np.random.default_rng(0)
    pool = ["the", "bill", "paid", *"abcdefg"]
    sides = [[" ".join(random.choice(pool, n)) for n in random.integers(0, 9, 50)] for _ in "st"]
    specs = [tf.TensorSpec([None], tf.string)] * 2
    copied, ids = tf.function(lambda *sides: copying.copyable(WORDS, *sides), specs)(*sides)
    known = WORDS.get_vocabulary()
    for source, target, row, labels in zip(*sides, copied.to_list(), ids.to_list(), strict=True):
        words = source.split()

        def expected(word, words=words):
            if word in known:
                return known.index(word)
            return 7 + words.index(word) if word in words else 3

        assert row == [expected(word) for word in words]
        assert labels == [expected(word) for word in target.split()]


def test_the_words_come_back():
    ids, sources = copying.copyable(WORDS, SOURCES, TARGETS)[1].to_tensor(), tf.constant(SOURCES)
    words = copying.copied_words(WORDS, ids, sources)
    texts = WORDS.detokenize(ids, unknown=words)
    assert [t.decode() for t in texts.numpy()] == ["bill dogs 42 ⁇", "⁇", "x x the"]
    assert WORDS.detokenize(ids[0], words[0]).numpy() == texts[0].numpy()
    other = copying.copied_words(WORDS, ids, sources, WORDS.tokens(ids))
    assert [t.decode() for t in other.numpy()[0]] == ["bill", "dogs", "42", "<unk>"]
    # An id of no place of this source, as a user may give, is unknown.
    assert copying.copied_words(WORDS, [[7, 70]], ["a"]).numpy().tolist() == [[b"a", "⁇".encode()]]


def test_words_behind_those_that_are_named_take_no_room():
    texts = ["a b c", "d " + 500 * "e "]
    words = copying.padded_words(WORDS, texts, tf.constant([[1, -3], [0, 2]]))
    assert words.numpy().tolist() == [[b"a", b"b", b"c", b""], [b"d", b"e", b"e", b""]]
    assert copying.padded_words(WORDS, texts, tf.constant([[-7]])).numpy().tolist() == 2 * [[b""]]
    assert copying.padded_words(WORDS, [], tf.zeros([0, 3], tf.int32)).shape[0] == 0


def test_what_is_cut_off_cannot_be_copied():
    copied, ids = copying.copyable(WORDS, ["the bill 42 of"], ["of 42"], longest=3)
    assert copied.to_list() == [[4, 5, 9]]
    assert ids.to_list() == [[3, 9]]
    assert copying.copyable(WORDS, tf.zeros([0], tf.string))[0].to_list() == []


def test_characters_are_copied_like_words():
    letters = text.CharacterTokenizer([*text.SPECIAL_TOKENS, "a", "b"])
    copied, ids = copying.copyable(letters, ["aßcß"], ["ßax"])
    assert copied.to_list() == [[4, 7, 8, 7]]
    assert ids.to_list() == [[7, 4, 3]]


def test_subwords_are_copied_as_they_are_and_unknown_ones_not_at_all():
    tokenizer = text.SubwordTokenizer.learn(["two young men are outside", "a dog"] * 3, 40)
    copied, ids = copying.copyable(tokenizer, ["two dogs 語"], ["a dog"])
    expected = tokenizer.tokenize(["two dogs 語"]).to_list()[0]
    assert 3 in expected
    assert copied.to_list() == [[id if id != 3 else 0 for id in expected]]
    assert ids.to_list() == tokenizer.tokenize(["a dog"]).to_list()


def test_the_places_of_a_search_are_enough_and_make_a_regular_number_of_ids():
    for longest, size in ((1, 7), (62, 1), (63, 1), (256, 20_000)):
        places = copying.room(longest, size)
        assert longest < places <= longest + 64
        assert (size + places) % 64 == 0


def test_tokenizers_that_do_not_go_together_are_refused():
    letters = text.CharacterTokenizer([*text.SPECIAL_TOKENS, "a"])
    lower = text.WordTokenizer([*text.SPECIAL_TOKENS, "a"], lowercase=True)
    copying.check_copying(WORDS, text.WordTokenizer([*text.SPECIAL_TOKENS, "b"]))
    subwords = [text.SubwordTokenizer.learn(["two young men", each] * 3, 30) for each in "ab"]
    same = text.SubwordTokenizer.from_config(subwords[0].get_config())
    copying.check_copying(same, subwords[0])
    for pair, message in (
        (subwords, "got a SubwordTokenizer and a SubwordTokenizer."),
        ((letters, WORDS), "got a CharacterTokenizer and a WordTokenizer."),
        ((WORDS, lower), "got lowercase=False of the source and lowercase=True of the target."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            copying.check_copying(*pair)


def test_batches_of_texts_have_copy_ids_and_labels_of_places():
    source_words = text.WordTokenizer([*text.SPECIAL_TOKENS, "the", "dogs"])
    corpus = batching.copying_corpus(source_words, WORDS, SOURCES, TARGETS, longest=5, chunk=2)
    assert corpus.source.to_list() == [[4, 3, 3, 3, 3], [], [3, 3, 3, 3, 3]]
    assert corpus.copy_ids.to_list() == [[4, 5, 9, 10, 9], [], [7, 8, 9, 10, 11]]
    assert corpus.target.to_list() == [[5, 3, 9, 3], [3], [7, 7, 4]]
    ((inputs, labels),) = batching.token_batches(corpus, batch_tokens=100)
    order = inputs["source"][:, 0].numpy().argsort()  # 2, 3 and 4 begin the rows
    gathered = {name: x.numpy()[order].tolist() for name, x in inputs.items()}
    assert gathered == {
        "source": [[2, 0, 0, 0, 0, 0], [3, 3, 3, 3, 3, 2], [4, 3, 3, 3, 3, 2]],
        "target": [[1, 3, 0, 0, 0], [1, 7, 7, 4, 0], [1, 5, 3, 9, 3]],
        "copy_ids": [[0] * 6, [7, 8, 9, 10, 11, 0], [4, 5, 9, 10, 9, 0]],
    }
    assert labels.numpy()[order].tolist() == [[3, 2, 0, 0, 0], [7, 7, 4, 2, 0], [5, 3, 9, 3, 2]]
    assert batching.copying_corpus(WORDS, WORDS, [], []).copy_ids.to_list() == []
    with pytest.raises(ValueError, match="must be equally many, got 1 and 0"):
        batching.copying_corpus(WORDS, WORDS, ["a"], [])
