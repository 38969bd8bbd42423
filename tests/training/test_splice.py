"""Splicing: where clips are cut, what is drawn from their words, and the batches of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import batching
from kzoo.audio import AudioSource, LogMel
from kzoo.text import CharacterTokenizer, SubwordTokenizer
from kzoo.training import splice
from kzoo.training.splice import Piece

TEXTS = ["one two three", "two", "three one", "two two one"]


def clip(text, quiet=6, loud=24, seed=0):
    """Frames with silence before, between and after words; a word's features tell it."""
    rng, parts = np.random.default_rng(seed), [np.full((quiet, 5), -2.0)]
    for word in text.split():
        parts += [np.eye(5)[[len(word) - 1] * loud] * 4 + 1, np.full((quiet, 5), -2.0)]
    frames = np.concatenate(parts)
    return (frames + rng.normal(size=frames.shape) / 100).astype("float32")


# The tokens of words


@pytest.mark.parametrize("learn", [CharacterTokenizer.learn, SubwordTokenizer.learn])
def test_tokens_know_their_words(learn):
    texts = [*TEXTS, "a b", "", "seventy"]
    tokenizer = learn(texts * 3, 40)
    ids = batching.tokenize(tokenizer, texts)
    numbers = splice.word_numbers(tokenizer.tokens(ids).to_list())
    for text, row, words in zip(texts, ids, numbers, strict=True):
        assert len(row) == len(words)
        for number, word in enumerate(text.split()):
            own = tf.boolean_mask(row, words == number)
            found = tokenizer.detokenize(own[None])[0].numpy().decode()
            assert found.strip() == word
        assert words.max(initial=-1) == len(text.split()) - 1


def test_a_space_of_its_own_belongs_to_no_word():
    rows = [["▁", "q", "▁e"], [" ", "a", " ", " ", "b"], ["你", "好"]]
    found = [words.tolist() for words in splice.word_numbers(rows)]
    assert found == [[-1, 0, 1], [-1, 0, -1, -1, 1], [0, 0]]


# Cutting


@pytest.fixture(scope="module")
def model():
    """A model whose CTC names each frame: a network of one hidden layer, trained."""
    keras.utils.set_random_seed(0)
    tokenizer = SubwordTokenizer.learn(TEXTS * 9, 12)
    made = kzoo.zoo.streaming_ctc(
        AudioSource(LogMel(8000, num_mels=5, normalize=None)), tokenizer, 16, 1, 3, dropout=0.0
    )
    frames = [clip(text, seed=row) for row, text in enumerate(TEXTS)]
    made.compile(keras.optimizers.Adam(0.02))
    batches = batching.frame_batches(frames, batching.tokenize(tokenizer, TEXTS), 1000)
    made.fit(batches.repeat(150), shuffle=False, verbose=0)
    return made


def test_clips_are_cut_in_the_silence_between_words(model):
    frames = [clip(text, seed=row) for row, text in enumerate(TEXTS)]
    target = batching.tokenize(model.target_tokenizer, TEXTS)
    pieces = splice.word_pieces(model, frames, target, TEXTS)
    for own, whole, text in zip(pieces, frames, TEXTS, strict=True):
        np.testing.assert_array_equal(np.concatenate([one.frames for one in own]), whole)
        assert " ".join(one.text for one in own) == text
        assert len(own) == len(text.split())
        for one in own:
            loud = one.frames.mean(1) > 0
            np.testing.assert_array_equal(one.frames[loud].argmax(1), len(one.text) - 1)


def test_clips_that_cannot_be_cut_stay_whole(model):
    frames = [clip("one two")[:4], clip("one two"), clip("one")]
    texts = ["one two three", "one two", "one"]
    target = batching.tokenize(model.target_tokenizer, ["one two three", "one two three", "one"])
    pieces = splice.word_pieces(model, frames, target, texts)
    assert [len(own) for own in pieces] == [1, 1, 1]  # too short; other words; one word
    for own, whole, text in zip(pieces, frames, texts, strict=True):
        np.testing.assert_array_equal(own[0].frames, whole)
        assert own[0].text == text


def test_what_does_not_fit_together_is_refused(model):
    frames, target = [clip("one")], tf.ragged.constant([[5]])
    with pytest.raises(ValueError, match="must be as many, and at least one, got 1, 1 and 0"):
        splice.word_pieces(model, frames, target, [])
    with pytest.raises(ValueError, match="`batch_frames` must be an integer of at least 1"):
        splice.word_pieces(model, frames, target, ["one"], batch_frames=0)
    tokenizer = CharacterTokenizer.learn(TEXTS, 30)
    source = AudioSource(LogMel(8000, num_mels=5))
    without = kzoo.zoo.speech_transformer(source, tokenizer, 8, 1, 1, 2, 16, ctc_weight=0)
    with pytest.raises(ValueError, match=r"`model` must have CTC, .* got ctc_head=None"):
        splice.word_pieces(without, frames, target, ["one"])
    pieces = labelled([2, 1])
    for wrong, groups, size, message in (
        ([], [], 9, "`pieces` must be at least one clip, each of at least one frame"),
        ([*pieces, []], list("abc"), 9, "each of at least one frame"),
        (pieces, ["a"], 9, "`pieces` and `groups` must be as many, got 2 and 1"),
        (pieces, list("ab"), 0, "`batch_frames` must be an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            splice.spliced_batches(wrong, groups, tokenizer, size)


def test_a_model_with_a_decoder_aligns_too():
    tokenizer = CharacterTokenizer.learn(TEXTS, 30)
    source = AudioSource(LogMel(8000, num_mels=5))
    joint = kzoo.zoo.speech_transformer(source, tokenizer, 8, 1, 1, 2, 16)
    frames = [clip(text) for text in TEXTS]
    pieces = splice.word_pieces(joint, frames, batching.tokenize(tokenizer, TEXTS), TEXTS)
    for own, whole, text in zip(pieces, frames, TEXTS, strict=True):  # untrained: cut anywhere
        np.testing.assert_array_equal(np.concatenate([one.frames for one in own]), whole)
        assert " ".join(one.text for one in own) == text


# Drawing


def labelled(counts, length=9):
    """Pieces whose frames hold the number of their clip, and its words."""
    return [
        [Piece(np.full((length, 2), row, "float32"), f"{row}.{n}") for n in range(count)]
        for row, count in enumerate(counts)
    ]


def test_drawn_clips_are_whole_or_of_any_words_or_of_one_group():
    pieces = labelled([3, 4, 2, 5])
    groups = ["a", "a", "b", "b"]
    rng = np.random.default_rng(0)
    whole = one_group = total = 0
    lengths = set()
    for _ in range(300):
        for row, drawn in enumerate(splice.draw_clips(pieces, groups, rng)):
            total += 1
            if drawn is pieces[row]:
                whole += 1
                continue
            rows = {int(one.frames[0, 0]) for one in drawn}
            one_group += {groups[each] for each in rows} == {groups[row]}
            lengths.add(len(drawn) - len(pieces[row]))
            assert all(one.text.startswith(f"{int(one.frames[0, 0])}.") for one in drawn)
    assert lengths == {-1, 0, 1}
    assert abs(whole / total - 0.3) < 0.05
    assert 0.35 < one_group / total < 0.5  # half of 70 %, and by chance


def test_a_drawn_clip_is_no_longer_than_the_longest_and_of_no_scraps():
    pieces = [*labelled([4]), [Piece(np.ones((splice.MIN_FRAMES - 1, 2), "float32"), "scrap")]]
    for seed in range(50):
        first, second = splice.draw_clips(pieces, ["a", "b"], np.random.default_rng(seed))
        assert sum(len(one.frames) for one in first) <= 36
        assert "scrap" not in [one.text for one in first]
        assert len(second) >= 1  # its group has nothing to draw from: itself, or another's words


def test_batches_hold_what_was_drawn_and_differ_from_pass_to_pass():
    tokenizer = CharacterTokenizer.learn(["0.1 2.3 4.5"], 30)
    pieces = labelled([3, 4, 2, 4, 3, 4])
    make = lambda seed: splice.spliced_batches(  # noqa: E731
        pieces, list("aabbcc"), tokenizer, 60, normalize=False, seed=seed
    )
    batches = make(1)
    passes = [list(batches), list(batches.repeat(2))]
    count = int(batches.cardinality())
    assert [len(each) for each in passes] == [count, 2 * count]
    texts = []
    for inputs, labels in passes[1]:
        source, mask = inputs["source"].numpy(), inputs["source_mask"].numpy()
        assert source.shape[0] == 1 or source.shape[0] * source.shape[1] <= 60
        assert not source[~mask].any()
        np.testing.assert_array_equal(
            inputs["target"][:, 1:][labels[:, :-1] > 2], labels[labels > 2]
        )
        for row, text in enumerate(tokenizer.detokenize(labels).numpy()):
            words = text.decode().split()
            said = source[row][mask[row]][::9, 0]
            assert [int(word.split(".")[0]) for word in words] == said.tolist()
            texts.append(text)
    assert len(set(texts)) > len(pieces)
    again = [inputs["source"].numpy() for inputs, _ in make(1)]
    for (inputs, _), other in zip(passes[0], again, strict=True):
        np.testing.assert_array_equal(inputs["source"], other)


def test_spliced_clips_are_normalised_as_a_whole():
    tokenizer = CharacterTokenizer.learn(TEXTS, 30)
    rng = np.random.default_rng(0)
    pieces = [[Piece(rng.normal(3, 2, (20, 4)).astype("float32"), "one")] for _ in range(6)]
    for inputs, _ in splice.spliced_batches(pieces, list("abcdef"), tokenizer, 60, seed=1):
        for row, mask in zip(inputs["source"].numpy(), inputs["source_mask"].numpy(), strict=True):
            np.testing.assert_allclose(row[mask].mean(0), 0, atol=1e-5)
            np.testing.assert_allclose(row[mask].var(0), 1, atol=1e-3)
