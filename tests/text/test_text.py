import collections
import io
import json
import subprocess
import sys
import unicodedata

import keras
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.text import (
    END_ID,
    PADDING_ID,
    SPECIAL_TOKENS,
    START_ID,
    UNKNOWN_ID,
    CharacterTokenizer,
    SpaceTokenizer,
    SubwordTokenizer,
    WordTokenizer,
    join_words,
    normalize,
    split_words,
)

TEXTS = [
    "Two young, white males are outside near many bushes.",
    "Several men in hard hats are operating a giant pulley system.",
    "A little girl climbing into a wooden playhouse.",
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Two men are at the stove preparing food.",
    "Ein Mann lächelt einen ausgestopften Löwen an, größer als er!",
]
CLASSES = [SubwordTokenizer, CharacterTokenizer, WordTokenizer, SpaceTokenizer]
KINDS = ("subwords", "characters", "words", "spaces")
SIZE = 113
# One of each for all tests: tokenizers have no state.
TOKENIZERS = [cls.learn(TEXTS, SIZE) for cls in CLASSES]

every_class = pytest.mark.parametrize("cls", CLASSES)
every_tokenizer = pytest.mark.parametrize(
    "tokenizer", TOKENIZERS, ids=[cls.__name__ for cls in CLASSES]
)


def strings(tensor):
    return [text.decode() for text in tensor.numpy()]


# What all do alike.


@every_tokenizer
def test_what_was_learnt_comes_back_from_its_ids(tokenizer):
    ids = tokenizer.tokenize(TEXTS)
    assert ids.dtype == tf.int32 and ids.shape.as_list() == [6, None]
    assert strings(tokenizer.detokenize(ids)) == TEXTS
    assert strings(tokenizer.detokenize(ids.to_tensor())) == TEXTS


@every_tokenizer
def test_tokenize_adds_neither_padding_nor_start_nor_end(tokenizer):
    assert int(tf.reduce_min(tokenizer.tokenize(TEXTS).flat_values)) > UNKNOWN_ID


@every_tokenizer
def test_the_special_tokens_have_ids_0_to_3(tokenizer):
    assert (PADDING_ID, START_ID, END_ID, UNKNOWN_ID) == (0, 1, 2, 3)
    assert tuple(tokenizer.get_vocabulary()[:4]) == SPECIAL_TOKENS


@every_tokenizer
def test_the_vocabulary_is_sorted_by_falling_frequency(tokenizer):
    counts = collections.Counter(tokenizer.tokenize(TEXTS).flat_values.numpy().tolist())
    in_order = [counts[id_] for id_ in range(4, tokenizer.vocabulary_size())]
    assert in_order == sorted(in_order, reverse=True)
    assert in_order[0] > 3


@every_tokenizer
def test_the_vocabulary_size_is_the_length_of_a_vocabulary_without_repetition(tokenizer):
    vocabulary = tokenizer.get_vocabulary()
    assert tokenizer.vocabulary_size() == len(vocabulary) == len(set(vocabulary)) <= SIZE


@every_tokenizer
def test_one_text_gives_one_row_of_ids_and_one_row_gives_one_text(tokenizer):
    ids = tokenizer.tokenize(TEXTS[2])
    assert ids.shape.rank == 1
    assert ids.numpy().tolist() == tokenizer.tokenize(TEXTS).to_list()[2]
    assert tokenizer.detokenize(ids).numpy().decode() == TEXTS[2]
    assert tokenizer.detokenize(ids.numpy().tolist()).numpy().decode() == TEXTS[2]


@every_tokenizer
def test_calling_the_layer_is_tokenizing(tokenizer):
    assert tokenizer(TEXTS[:2]).to_list() == tokenizer.tokenize(TEXTS[:2]).to_list()


@every_tokenizer
def test_eager_tf_data_and_tf_function_give_the_same_ids(tokenizer):
    eager = tokenizer.tokenize(TEXTS).to_list()
    texts = tf.data.Dataset.from_tensor_slices(TEXTS)
    assert [ids.numpy().tolist() for ids in texts.map(tokenizer.tokenize)] == eager
    assert next(iter(texts.batch(6).map(tokenizer))).to_list() == eager
    assert tf.function(tokenizer.tokenize)(tf.constant(TEXTS)).to_list() == eager
    signature = [tf.TensorSpec([None, None], tf.int32)]
    detokenize = tf.function(tokenizer.detokenize, input_signature=signature)
    assert strings(detokenize(tokenizer.tokenize(TEXTS).to_tensor())) == TEXTS


@every_class
def test_setting_the_seed_does_not_break_tokenizers_functions_or_datasets_made_before(cls):
    tokenizer = cls.learn(TEXTS[::-1], SIZE - 2)
    function = tf.function(tokenizer.tokenize)
    texts = tf.data.Dataset.from_tensors(TEXTS).map(tokenizer.tokenize)
    before = function(tf.constant(TEXTS)).to_list()
    keras.utils.set_random_seed(2)
    assert tokenizer.tokenize(TEXTS).to_list() == before
    assert function(tf.constant(TEXTS)).to_list() == before
    assert next(iter(texts)).to_list() == before


@every_class
def test_a_tokenizer_outlives_an_equal_one(cls):
    tokenizer, other = (cls.learn(TEXTS[:3], SIZE - 3) for _ in range(2))
    before = other.tokenize(TEXTS).to_list()
    del other
    keras.utils.set_random_seed(2)
    assert tokenizer.tokenize(TEXTS).to_list() == before


@every_tokenizer
def test_no_texts_give_no_rows_and_empty_texts_empty_rows(tokenizer):
    assert tokenizer.tokenize([]).to_list() == []
    assert tokenizer.tokenize(["", " \t\n"]).to_list() == [[], []]
    assert strings(tokenizer.detokenize(tf.zeros([2, 0], tf.int32))) == ["", ""]
    assert strings(tokenizer.detokenize(tf.zeros([0, 3], tf.int32))) == []


@every_tokenizer
def test_detokenizing_drops_padding_start_and_end_and_writes_a_sign_for_unknown(tokenizer):
    ids = tokenizer.tokenize(TEXTS[4]).numpy().tolist()
    framed = [START_ID, *ids, END_ID, PADDING_ID, PADDING_ID]
    assert strings(tokenizer.detokenize([framed])) == [TEXTS[4]]
    outside = tokenizer.vocabulary_size()
    for unknown in (UNKNOWN_ID, outside, -1):
        assert strings(tokenizer.detokenize([[*ids, unknown]]))[0].rstrip(" ⁇") == TEXTS[4]
        assert strings(tokenizer.detokenize([[unknown]])) == ["⁇"]


@every_tokenizer
def test_detokenize_takes_every_integer_type_and_ragged_lists(tokenizer):
    ids = tokenizer.tokenize(TEXTS)
    assert strings(tokenizer.detokenize(tf.cast(ids, tf.int64))) == TEXTS
    assert strings(tokenizer.detokenize(ids.to_list())) == TEXTS


@every_tokenizer
def test_tokens_have_the_shape_of_their_ids_and_padding_is_the_empty_string(tokenizer):
    vocabulary = [piece.encode() for piece in tokenizer.get_vocabulary()]
    outside = len(vocabulary)
    ids = [[[4, 5, 0], [1, 2, 3]], [[6, -1, outside], [0, 0, 7]]]
    tokens = tokenizer.tokens(ids).numpy().tolist()
    assert tokens == [
        [[vocabulary[4], vocabulary[5], b""], [b"<s>", b"</s>", b"<unk>"]],
        [[vocabulary[6], b"<unk>", b"<unk>"], [b"", b"", vocabulary[7]]],
    ]
    assert tokenizer.tokens(5).numpy() == vocabulary[5]


@every_tokenizer
def test_tokens_of_ragged_ids_are_ragged_alike(tokenizer):
    ids = tf.ragged.constant([[[4], []], [[5, 0, 6], [7, 4]]], dtype=tf.int32)
    vocabulary = [piece.encode() for piece in tokenizer.get_vocabulary()]
    expected = [[[vocabulary[4]], []], [[vocabulary[5], b"", vocabulary[6]], None]]
    expected[1][1] = [vocabulary[7], vocabulary[4]]
    assert tokenizer.tokens(ids).to_list() == expected


@every_tokenizer
def test_a_text_that_spells_a_special_token_does_not_become_one(tokenizer):
    ids = tokenizer.tokenize(["<s> </s> <pad>"]).flat_values.numpy()
    assert ids.min() >= UNKNOWN_ID


@every_tokenizer
def test_bytes_that_are_not_utf8_are_unknown(tokenizer):
    ids = tokenizer.tokenize([b"men \xff\xfe", "men \ufffd"]).to_list()
    assert ids[0][-1] == ids[1][-1] == UNKNOWN_ID
    assert ids[0][0] == tokenizer.tokenize("men").numpy()[0]


@pytest.mark.parametrize(
    "emoji",
    [
        "🇩🇪",
        "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
        "👩🏽‍🚀",
        "👨‍👩‍👧",
        "❤️",
        "#️⃣",
        "1️⃣",
    ],
)
def test_an_emoji_of_several_characters_is_one_word(emoji):
    split = split_words(normalize([f"Hi {emoji}{'🇫🇷' * 2}!"]))
    assert [word.decode() for word in split.to_list()[0]] == ["Hi", emoji, "🇫🇷", "🇫🇷", "!"]


@every_tokenizer
def test_emoji_and_control_characters_are_harmless(tokenizer):
    texts = ["👩‍👩‍👧 😀", "men\x00\x1b", "e\u0301\u0301\u0301", "\u2581men\u2585", "\ue000"]
    assert tokenizer.tokenize(texts).shape[0] == 5
    assert len(strings(tokenizer.detokenize(tokenizer.tokenize(texts)))) == 5


@every_tokenizer
@pytest.mark.parametrize("text", ["x" * 10_000, "men are " * 1_250, "'-" * 5_000, '" a' * 3_333])
def test_texts_of_ten_thousand_characters_go_there_and_back(tokenizer, text):
    ids = tokenizer.tokenize([text])
    assert ids.flat_values.shape[0] >= 1
    assert strings(tokenizer.detokenize(ids))[0]


@every_tokenizer
@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.binary(max_size=60) | st.text(max_size=40), max_size=5))
def test_no_bytes_whatever_stop_a_tokenizer(tokenizer, texts):
    texts = [text.encode() if isinstance(text, str) else text for text in texts]
    ids = tokenizer.tokenize(texts)
    assert ids.shape[0] == len(texts)
    assert tokenizer.detokenize(ids).shape == [len(texts)]
    assert tokenizer.tokens(ids).flat_values.shape == ids.flat_values.shape


@every_tokenizer
def test_texts_and_ids_of_a_wrong_rank_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"`texts` must be one string or a vector.*\(1, 2\)"):
        tokenizer.tokenize([["a", "b"]])
    with pytest.raises(ValueError, match=r"`ids` must be a vector or a matrix.*\(1, 1, 2\)"):
        tokenizer.detokenize([[[4, 5]]])


# Learning.


@every_class
def test_learning_twice_gives_the_same_tokenizer(cls):
    configs = [cls.learn(TEXTS, SIZE).get_config() for _ in range(2)]
    assert {**configs[0], "name": ""} == {**configs[1], "name": ""}


@every_class
def test_texts_may_be_an_iterator_that_is_read_once(cls):
    tokenizer = cls.learn((text for text in TEXTS for _ in range(300)), SIZE)  # several batches
    assert strings(tokenizer.detokenize(tokenizer.tokenize(TEXTS))) == TEXTS


@every_class
def test_a_text_longer_than_sentencepiece_likes_is_not_skipped(cls):
    tokenizer = cls.learn([f"{TEXTS[0]} " * 200], SIZE)
    assert UNKNOWN_ID not in tokenizer.tokenize(TEXTS[0]).numpy()


@every_class
def test_lower_case_holds_for_learning_and_for_tokenizing(cls):
    tokenizer = cls.learn(TEXTS, SIZE, lowercase=True)
    assert all(piece == piece.lower() for piece in tokenizer.get_vocabulary())
    shouted = tokenizer.tokenize(["TWO MEN ARE AT THE STOVE PREPARING FOOD.", "GRÖßER"])
    assert strings(tokenizer.detokenize(shouted)) == [TEXTS[4].lower(), "größer"]


@every_class
def test_texts_with_less_than_vocabulary_size_to_offer_give_a_smaller_vocabulary(cls):
    tokenizer = cls.learn(["ab ab"], 1_000)
    assert 4 < tokenizer.vocabulary_size() < 20
    assert strings(tokenizer.detokenize(tokenizer.tokenize(["ab ab"]))) == ["ab ab"]


@every_class
def test_learning_from_nothing_is_refused(cls):
    for texts in ([], ["", "  "], ["\ufffd", b"\xff"]):
        with pytest.raises(ValueError, match="`texts` must hold at least one character, got none"):
            cls.learn(texts, SIZE)
    with pytest.raises(ValueError, match="`texts` must be an iterable of strings, got one string"):
        cls.learn("a text", SIZE)


@every_class
def test_a_vocabulary_without_room_beside_the_special_ids_is_refused(cls):
    with pytest.raises(ValueError, match=r"`vocabulary_size` must be above 4.*got 4"):
        cls.learn(TEXTS, 4)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no such line")])
def test_what_ends_the_texts_of_a_subword_vocabulary_is_what_learn_raises(error):
    def texts():
        yield from TEXTS
        raise error

    with pytest.raises(type(error)) as caught:
        SubwordTokenizer.learn(texts(), SIZE)
    assert caught.value is error


def test_a_subword_vocabulary_must_have_room_for_every_character():
    with pytest.raises(ValueError, match=r"room for the 4 special ids.*vocabulary_size=17"):
        SubwordTokenizer.learn(TEXTS, 17)


def test_the_rarest_characters_are_unknown_when_not_all_are_covered():
    texts = ["abc abd " * 50, "q"]
    ids = SubwordTokenizer.learn(texts, 50, character_coverage=0.99).tokenize(["q"])
    assert ids.flat_values.numpy()[-1] == UNKNOWN_ID
    ids = SubwordTokenizer.learn(texts, 50).tokenize(["q"])
    assert UNKNOWN_ID not in ids.flat_values.numpy()


@pytest.mark.parametrize("model", ["bpe", "unigram"])
@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_special_token_in_the_texts_is_learnt_as_the_signs_it_is_written_with(token, model):
    texts = [f"a {token} of bread", f"x{token * 2}y", f"the {token}", "a loaf and more"] * 3
    tokenizer = SubwordTokenizer.learn(texts, 60, model=model)
    ids = tokenizer.tokenize(texts)
    assert UNKNOWN_ID not in ids.flat_values.numpy()
    assert not {PADDING_ID, START_ID, END_ID} & set(ids.flat_values.numpy())
    assert strings(tokenizer.detokenize(ids)) == texts


def test_an_unknown_character_inside_a_word_stays_inside():
    tokenizer = TOKENIZERS[0]
    assert strings(tokenizer.detokenize(tokenizer.tokenize(["mΩn Ω men"]))) == ["m⁇n ⁇ men"]


def test_subword_pieces_show_where_a_word_begins():
    tokenizer = TOKENIZERS[0]
    tokens = strings(tokenizer.tokens(tokenizer.tokenize("men are")))
    assert "".join(tokens) == "▁men▁are"


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_renumbering_by_frequency_splits_texts_as_sentencepiece_itself_does(model):
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=written,
        model_type=model,
        vocab_size=83,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    reference = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    tokenizer = SubwordTokenizer.learn(TEXTS, 84, model=model)  # one special id more
    tokens = tokenizer.tokens(tokenizer.tokenize(TEXTS)).to_list()
    assert [[piece.decode() for piece in row] for row in tokens] == [
        reference.encode(text, out_type=str) for text in TEXTS
    ]


def test_an_unknown_subword_model_is_refused():
    with pytest.raises(ValueError, match='`model` must be "bpe" or "unigram", got \'wordpiece\''):
        SubwordTokenizer.learn(TEXTS, SIZE, model="wordpiece")


def test_learning_subwords_without_sentencepiece_tells_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"pip install kzoo\[recipes\]"):
        SubwordTokenizer.learn(TEXTS, SIZE)


# Normalizing, words, characters.


def test_normalizing_makes_one_text_of_what_looks_alike():
    texts = ["  a \t\r\n b  c ", "five e\u0301", "A\x00\u2028B", b"a\xffb"]
    assert strings(normalize(texts)) == ["a b c", "five é", "A B", "a\ufffdb"]
    assert strings(normalize(["\u3000 a\u00a0", "\u00a0"])) == ["a", ""]
    assert strings(normalize(["\ufeffDo\u00adnau\u200b"])) == ["Donau"]
    assert strings(normalize(["ÀÉ GRÖẞE Ж"], lowercase=True)) == ["àé größe ж"]


APART = [
    "20 m² & ½ l",
    "你好\uff0c世界\uff01\uff08好\uff09",
    "10\u00a0% of 5\u202f000 ﬁles™…",
    "\uff21\u3000B",
]


def test_normalizing_keeps_apart_what_looks_different():
    assert strings(normalize(APART)) == APART


@pytest.mark.parametrize("model", ["bpe", "unigram"])
@pytest.mark.parametrize("size", [113, 70])
def test_subwords_give_back_signs_and_wide_spaces_as_they_were_learnt(model, size, capfd):
    tokenizer = SubwordTokenizer.learn([*TEXTS, *APART] * 3, size, model=model)
    ids = tokenizer.tokenize(APART)
    assert not tf.reduce_any(ids.flat_values == UNKNOWN_ID)
    assert strings(tokenizer.detokenize(ids)) == APART
    assert "normalizer" not in capfd.readouterr().err  # SentencePiece's log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't run, dogs!", ["Don't", "run", ",", "dogs", "!"]),
        ("l\u2019homme s\u2019en va", ["l\u2019homme", "s\u2019en", "va"]),
        ("It's 10:30, $1,000.50...", ["It's", "10:30", ",", "$", "1,000.50", ".", ".", "."]),
        ("well-known Kaffee- oder", ["well-known", "Kaffee-", "oder"]),
        ("R&B (live) a/b x_1", ["R&B", "(", "live", ")", "a", "/", "b", "x_1"]),
        ("see example.com.", ["see", "example.com", "."]),
        ("👩‍👩‍👧👍🏽!", ["👩‍👩‍👧", "👍🏽", "!"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
    ],
)
def test_words_and_signs_are_taken_apart(text, words):
    assert [word.decode() for word in split_words([text]).to_list()[0]] == words


@pytest.mark.parametrize(
    "text",
    [
        "Don't run, dogs! Why? (Because.)",
        'He said "stop it", then left; I (too) stayed.',
        "Er sagt „Halt“, “stop” [sic] und/oder 5% von $10.",
        "¿Qué? ¡No! 50°: a - b",
        "« Bonjour » 5 € -",
        "日本語。 中文、 \uff08好\uff09\uff01 Laden… m²",
    ],
)
def test_words_are_joined_as_they_are_usually_spaced(text):
    assert strings(join_words(split_words(normalize([text])))) == strings(normalize([text]))


def test_joining_words_guesses_wrong_where_the_spacing_is_unusual():
    assert strings(join_words(split_words(["a / b , 'c' »d«"]))) == ["a/b, ' c ' » d «"]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_splitting_words_loses_nothing_but_spaces(text):
    (clean,) = strings(normalize([text]))
    words = [word.decode() for word in split_words([clean]).to_list()[0]]
    visible = "".join(sign for sign in clean if unicodedata.category(sign)[0] != "Z")
    assert "".join(words) == visible
    (joined,) = strings(join_words(split_words([clean])))
    assert joined.replace(" ", "") == visible


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"]), max_size=30))
def test_characters_give_back_every_normalized_text_they_were_learnt_from(text):
    (clean,) = strings(normalize([text]))
    if clean:
        tokenizer = CharacterTokenizer.learn([text], 100)
        assert tokenizer.detokenize(tokenizer.tokenize(text)).numpy().decode() == clean
        assert tokenizer.tokenize(text).shape[0] == len(clean)


def test_equally_frequent_words_stand_in_alphabetical_order():
    tokenizer = WordTokenizer.learn(["b a c", "c d"], 7)
    assert tokenizer.get_vocabulary() == [*SPECIAL_TOKENS, "c", "a", "b"]
    assert tokenizer.tokenize("d c").numpy().tolist() == [UNKNOWN_ID, 4]


def test_phonemes_of_any_notation_are_the_pieces_between_spaces():
    texts = ["d͡ʒ aː ˥˩ .", "tʰ ɚ ( ˈa ) ˥˩"]  # noqa: RUF001
    tokenizer = SpaceTokenizer.learn(texts, 20)
    assert tokenizer.get_vocabulary()[4:6] == ["˥˩", "("]
    assert tokenizer.tokenize(texts).row_lengths().numpy().tolist() == [4, 6]
    assert strings(tokenizer.detokenize(tokenizer.tokenize(texts))) == texts
    assert tokenizer.tokenize(["", " "]).to_list() == [[], []]


def test_names_of_special_ids_in_a_text_are_unknown_words():
    tokenizer = SpaceTokenizer.learn(["a <unk> <s> </s> <pad>"], 20)
    assert tokenizer.get_vocabulary() == [*SPECIAL_TOKENS, "a"]
    assert tokenizer.tokenize("<pad> <s> a </s>").numpy().tolist() == [3, 3, 4, 3]


@pytest.mark.parametrize("cls", [CharacterTokenizer, WordTokenizer])
def test_a_vocabulary_that_is_no_vocabulary_is_refused(cls):
    with pytest.raises(ValueError, match=r"`vocabulary` must begin with \('<pad>'.*got \('a',\)"):
        cls(["a"])
    with pytest.raises(ValueError, match=r"`vocabulary` must begin with .* and hold more"):
        cls(SPECIAL_TOKENS)
    with pytest.raises(ValueError, match="`vocabulary` must hold every piece once, got 'a' again"):
        cls([*SPECIAL_TOKENS, "a", "b", "a"])


# Saving.


@every_tokenizer
def test_a_tokenizer_comes_back_from_json(tokenizer):
    written = json.dumps(keras.saving.serialize_keras_object(tokenizer))
    again = keras.saving.deserialize_keras_object(json.loads(written))
    assert type(again) is type(tokenizer)
    assert again.get_config() == tokenizer.get_config()
    assert again.tokenize(TEXTS).to_list() == tokenizer.tokenize(TEXTS).to_list()


@every_tokenizer
def test_a_keras_file_holds_the_tokenizer_of_its_model(tokenizer, tmp_path):
    texts = keras.Input((), dtype="string")
    model = keras.Model(texts, tokenizer(texts))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again(tf.constant(TEXTS)).to_list() == tokenizer.tokenize(TEXTS).to_list()


@every_tokenizer
def test_the_symbolic_shape_is_the_eager_shape(tokenizer):
    ids = tokenizer(keras.Input((), batch_size=5, dtype="string"))
    assert ids.shape == (5, None) and ids.dtype == "int32" and ids.ragged


def test_a_proto_that_is_no_subword_model_of_ours_is_refused():
    import sentencepiece

    with pytest.raises(ValueError, match="`proto` must be a SentencePiece model, got 3 bytes"):
        SubwordTokenizer(b"abc")
    with pytest.raises(ValueError, match="`proto` must be bytes or their base64 text, got '§'"):
        SubwordTokenizer("§")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=written, vocab_size=53, minloglevel=2
    )
    with pytest.raises(ValueError, match=r"first pieces of `proto` must be .*got \('<unk>', '<s>"):
        SubwordTokenizer(written.getvalue())


SERVE = """
import json, sys, warnings
import tensorflow as tf, tensorflow_text
path, texts = sys.argv[1], json.loads(sys.argv[2])
answers = {"v2": {}, "v1": {}}
loaded = tf.saved_model.load(path)
for name, serve in loaded.signatures.items():
    answers["v2"][name] = [x.decode() for x in serve(tf.constant(texts))["text"].numpy()]
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
    for name, signature in graph.signature_def.items():
        if name in answers["v2"]:
            (given,) = signature.inputs.values()
            text = session.run(signature.outputs["text"].name, {given.name: texts})
            answers["v1"][name] = [x.decode() for x in text]
assert not {"keras_nlp", "kzoo", "sentencepiece"} & set(sys.modules), "TensorFlow alone"
print(json.dumps(answers))
"""


def test_an_exported_tokenizer_serves_with_tensorflow_alone_in_version_2_and_in_a_session(tmp_path):
    class Echo(keras.layers.Layer):
        """Holds a tokenizer as an encoder-decoder would."""

        def __init__(self, tokenizer):
            super().__init__()
            self.tokenizer = tokenizer

        def call(self, texts):
            tokens = self.tokenizer.tokens(self.tokenizer.tokenize(texts))
            text = self.tokenizer.detokenize(self.tokenizer.tokenize(texts).to_tensor())
            return {"text": text, "tokens": tokens.to_tensor()}

    texts = [*TEXTS, "", "unseen Ω"]
    archive = keras.export.ExportArchive()
    expected = {}
    for name, tokenizer in zip(KINDS, TOKENIZERS, strict=True):
        echo = Echo(tokenizer)
        expected[name] = strings(echo(tf.constant(texts))["text"])
        archive.track(echo)
        archive.add_endpoint(name, echo.__call__, [tf.TensorSpec([None], tf.string)])
    module = tf.Module()
    module.trackables = [resource for t in TOKENIZERS for resource in t.trackables]
    module.serve = tf.function(
        lambda texts: {"text": tf.strings.join([t.detokenize(t(texts)) for t in TOKENIZERS], "|")},
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    archive.write_out(tmp_path / "archive", verbose=False)
    tf.saved_model.save(module, tmp_path / "module", signatures={"all": module.serve})

    def served(name):
        command = [sys.executable, "-c", SERVE, str(tmp_path / name), json.dumps(texts)]
        process = subprocess.run(command, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    answers = served("archive")
    for name in expected:
        assert answers["v2"][name] == answers["v1"][name] == expected[name]
    together = ["|".join(row) for row in zip(*expected.values(), strict=True)]
    loaded = tf.saved_model.load(tmp_path / "module")
    keras.utils.set_random_seed(2)
    assert strings(loaded.signatures["all"](tf.constant(texts))["text"]) == together


def test_a_tokenizer_loads_and_runs_where_sentencepiece_is_not_installed(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(keras.saving.serialize_keras_object(TOKENIZERS[0])))
    code = (
        "import sys, json; sys.modules['sentencepiece'] = None; import kzoo.text, keras;"
        "tokenizer = keras.saving.deserialize_keras_object(json.load(open(sys.argv[1])));"
        "print(tokenizer.detokenize(tokenizer.tokenize(['Two men'])).numpy()[0].decode())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True
    )
    assert process.stdout == "Two men\n", process.stderr


def test_a_source_is_cut_before_anything_is_done_with_it():
    """What is read of 400 kB is what is read of its beginning, and takes no longer."""
    tokenizer = CharacterTokenizer.learn(["ab c"], 9)
    for unit in ("ab ", "\u0301\u0323", "a"):
        long = unit.encode() * 200_000
        ids, is_empty = tokenizer.read([long, b"", b"\xff" * 400_000], 5)
        short, _ = tokenizer.read([long[:900], b"", b"\xff" * 900], 5)
        assert ids.numpy().tolist() == short.numpy().tolist()
        assert is_empty.numpy().tolist()[1] and ids.shape[1] == 6
    whole = tokenizer.tokenize(["ab c" * 100]).to_tensor()
    read, _ = tokenizer.read(["ab c" * 100], 400)
    assert read[:, :-1].numpy().tolist() == whole.numpy().tolist()
