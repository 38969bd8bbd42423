"""Tags of target languages: one token each, written and chosen in the graph."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo import text
from kzoo.text import SubwordTokenizer, in_language, language_tag

TEXTS = ["Turn off the light.", "Schalte das Licht aus.", "Éteins la lumière.", "<2 or >3?"]
CODES = ("de", "fr", "zh-Hans")


@pytest.fixture(scope="module")
def tokenizer():
    return SubwordTokenizer.learn(TEXTS, 73, languages=CODES)


def pieces(tokenizer, content):
    return [piece.decode() for piece in tokenizer.tokens(tokenizer.tokenize(content)).numpy()]


@given(st.sampled_from(CODES), st.sampled_from(["", " ", "\u00a0", "\ufeff", "\t"]), st.text())
@settings(deadline=None, max_examples=50)
def test_a_tag_is_one_token_whatever_stands_around_it(tokenizer, code, before, rest):
    found = pieces(tokenizer, f"{before}>>{code}<<{rest}")
    assert found[0] == f"▁>>{code}<<"
    tagged = in_language(tf.constant([f"{before}>>{code}<<{rest}"]), "", CODES)[0].numpy()
    assert tagged == b"" or pieces(tokenizer, tagged)[1:] == pieces(tokenizer, rest)


@pytest.mark.parametrize("rest", ["<b>", "<", ">>", "«Turn»", "<<off", "日本", "...", ">>it<<"])
def test_odd_characters_after_a_tag_stay_as_they_are(tokenizer, rest):
    found = pieces(tokenizer, f">>fr<<{rest}")
    assert found[0] == "▁>>fr<<" and "▁>>it<<" not in found
    known = SubwordTokenizer.learn([*TEXTS, rest], 99, languages=CODES)
    assert known.detokenize(known.tokenize(f">>fr<< {rest}")).numpy().decode() == f">>fr<< {rest}"


def test_tags_are_the_last_entries_of_a_vocabulary_in_their_order(tokenizer):
    assert tokenizer.languages == CODES
    assert tokenizer.get_vocabulary()[-3:] == ["▁>>de<<", "▁>>fr<<", "▁>>zh-Hans<<"]
    often = SubwordTokenizer.learn([*TEXTS, *11 * [">>fr<< >>fr<< light"]], 73, languages=CODES)
    assert often.languages == CODES
    again = SubwordTokenizer.from_config(tokenizer.get_config())
    assert again.languages == CODES


def test_a_vocabulary_of_fewer_than_two_tags_has_no_languages_to_choose_from():
    assert SubwordTokenizer.learn(TEXTS, 73).languages == ()
    assert SubwordTokenizer.learn(TEXTS, 73, languages=["de"]).languages == ()
    subwords = SubwordTokenizer.learn(TEXTS, 73)
    vocabulary = [*subwords.get_vocabulary(), ">>fra<<", ">>pt_BR<<"]
    assert text.PieceTokenizer(subwords.proto, vocabulary).languages == ("fra", "pt_BR")
    none = text.PieceTokenizer(subwords.proto, vocabulary, has_languages=False)
    assert none.languages == ()
    assert text.WordTokenizer.learn([">>de<< a", ">>fr<< b"], 20).languages == ()


def test_tags_are_in_lower_case_where_texts_are():
    tokenizer = SubwordTokenizer.learn(TEXTS, 73, languages=["de", "pt_BR"], lowercase=True)
    assert tokenizer.languages == ("de", "pt_br")
    assert pieces(tokenizer, ">>pt_br<< Turn")[0] == "▁>>pt_br<<"


def test_subwords_are_sampled_and_the_tag_stays_whole(tokenizer):
    ids = tokenizer.tokenize([">>fr<< Turn off the light.", ">>de<<Turn"])
    sampled = text.SampledSubwords(tokenizer, ids, 0.5, seed=3)
    drawn = set()
    for number in range(20):
        flat, lengths = sampled.draw([0, 1], (0, number))
        first, second = np.split(tokenizer.tokens(flat).numpy(), [lengths[0]])
        assert first[0].decode() == "▁>>fr<<" and second[0].decode() == "▁>>de<<"
        drawn.add(tuple(first))
    assert len(drawn) > 1


CASES = {  # text, language -> as the model reads it
    ("Hello.", ""): ">>de<< Hello.",
    ("Hello.", "fr"): ">>fr<< Hello.",
    (">>fr<< Hello.", ""): ">>fr<< Hello.",
    (" \u00a0\ufeff>>fr<<\tHello.", ""): ">>fr<< Hello.",
    (">>fr<< Hello.", "zh-Hans"): ">>zh-Hans<< Hello.",
    (">>zh-Hans<<Hello.", ""): ">>zh-Hans<< Hello.",
    ("Write >>fr<< first.", ""): ">>de<< Write >>fr<< first.",
    (">>fr<< >>de<< Hello.", ""): ">>fr<< >>de<< Hello.",
    (">> fr << Hello.", ""): ">>de<< >> fr << Hello.",
    ("", "fr"): "",
    (" \n", ""): "",
    (">>fr<< \u200b", ""): "",
}


def test_a_language_is_that_asked_for_else_that_of_the_text_else_the_first():
    texts, languages = map(list, zip(*CASES, strict=True))
    found = in_language(tf.constant(texts), tf.constant(languages), CODES)
    assert [each.decode() for each in found.numpy()] == list(CASES.values())
    for (content, language), expected in CASES.items():
        assert in_language(tf.constant([content]), language, CODES)[0].numpy() == expected.encode()
    assert in_language(tf.constant([], tf.string), "fr", CODES).shape == (0,)


def test_bytes_that_are_no_text_keep_their_tag():
    found = in_language(tf.constant([b">>fr<<\xff\xfe a"]), "", CODES)
    assert found.numpy()[0] == b">>fr<< \xff\xfe a"


@pytest.mark.parametrize(
    ("texts", "language", "message"),
    [
        (["a", "b", "c"], "it", "`language` must be one of de, fr, zh-Hans, got it, it, it."),
        (["a", ">>it<< b"], "", "`language` must be one of de, fr, zh-Hans, got it."),
        (["a"], "FR", "`language` must be one of de, fr, zh-Hans, got FR."),
        (["a", "b", "c"], ["de", "fr"], "`language` must be one, or one for each text."),
    ],
)
def test_a_language_that_there_is_not_is_refused_with_those_there_are(texts, language, message):
    with pytest.raises(tf.errors.InvalidArgumentError) as refused:
        in_language(tf.constant(texts), tf.constant(language), CODES)
    assert message in refused.value.message


@pytest.mark.parametrize("code", ["", "f", "french", "fr ", "f-r", ">>fr<<", "日本", None])
def test_a_tag_is_of_a_code(code):
    with pytest.raises(ValueError, match=r"`code` must be a language's: .*, got"):
        language_tag(code)
    with pytest.raises(ValueError, match=r"`code` must be a language's: .*, got"):
        SubwordTokenizer.learn(TEXTS, 73, languages=["de", code])


def test_a_vocabulary_must_have_room_for_its_tags():
    with pytest.raises(ValueError, match=r"the tags of `languages` and .*languages=\('de', 'fr"):
        SubwordTokenizer.learn(TEXTS, 30, languages=CODES)
