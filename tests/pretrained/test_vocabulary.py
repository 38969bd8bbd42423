"""A model with another vocabulary says of the words that stay what it said before."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.pretrained.vocabulary import with_vocabulary

OLD = ["two dogs run fast", "two cats sleep"]
NEW = ["run two dogs and hide"]


def ids(tokenizer, text):
    return kzoo.batching.tokenize(tokenizer, [text]).to_tensor()


@pytest.mark.parametrize("name", ["rnn_luong", "transformer_tiny"])
def test_words_that_stay_keep_their_rows(name):
    keras.utils.set_random_seed(1)
    old, new = kzoo.WordTokenizer.learn(OLD, 20), kzoo.WordTokenizer.learn(NEW, 20)
    model = getattr(kzoo.zoo, name)(old, old, num_layers=1)
    target = {tokenizer: tf.constant([[1]]) for tokenizer in (old, new)}
    before = model({"source": ids(old, "two dogs run"), "target": target[old]})["logits"]
    changed = with_vocabulary(model, new, new)
    after = changed({"source": ids(new, "two dogs run"), "target": target[new]})["logits"]
    assert after.shape[-1] == new.vocabulary_size() != old.vocabulary_size()
    for word in ["</s>", "<unk>", "two", "dogs", "run"]:
        places = [each.get_vocabulary().index(word) for each in (old, new)]
        np.testing.assert_allclose(after[0, 0, places[1]], before[0, 0, places[0]], rtol=1e-5)
    model.suppressed = (7,)
    with pytest.raises(ValueError, match="`model` must have no ids of words in its prompt"):
        with_vocabulary(model, new, new)
    assert changed.target_tokenizer is new and changed.count_params() != model.count_params()


@pytest.mark.parametrize("sampler", ["log_uniform", "learned_unigram"])
@pytest.mark.parametrize("num_sampled", [4, 10])
def test_a_sampled_softmax_begins_anew(num_sampled, sampler):
    old, new = kzoo.WordTokenizer.learn(OLD, 20), kzoo.WordTokenizer.learn(NEW, 20)
    assert (old.vocabulary_size(), new.vocabulary_size()) == (10, 9)
    full = kzoo.zoo.rnn_luong(old, old, units=8)
    head = kzoo.VocabularyHead(10, 8, num_sampled=num_sampled, sampler=sampler)
    model = kzoo.Seq2Seq(full.encoder, full.decoder, head, old, old)
    for before, after in ((old, new), (new, old)):
        inputs = {"source": ids(before, "two dogs run"), "target": ids(before, "two dogs")}
        expected = model(inputs)["logits"]
        model = with_vocabulary(model, after, after)
        inputs = {"source": ids(after, "two dogs run"), "target": ids(after, "two dogs")}
        assert model.head.num_sampled == min(num_sampled, 9)
        places = [each.get_vocabulary().index("dogs") for each in (before, after)]
        found = model(inputs)["logits"][:, :, places[1]]
        np.testing.assert_allclose(found, expected[:, :, places[0]], rtol=1e-5)
        labels = np.arange(40) % after.vocabulary_size()
        losses = model.head.loss(np.ones((40, 8), "float32"), labels, training=True)
        assert np.isfinite(losses).all()


def test_two_tokenizers_do_not_share_an_embedding():
    old, new, more = (kzoo.WordTokenizer.learn(each, 20) for each in (OLD, NEW, NEW))
    embedding = kzoo.TokenEmbedding(old.vocabulary_size(), 8)
    block = {"num_layers": 1, "num_heads": 2, "hidden_units": 16}
    model = kzoo.Seq2Seq(
        kzoo.TransformerEncoder(embedding, **block), kzoo.TransformerDecoder(embedding, **block),
        kzoo.VocabularyHead(old.vocabulary_size(), 8, tied=embedding), old, old,
    )  # fmt: skip
    source = ids(old, "two dogs run")
    before = model({"source": source, "target": source})["logits"]
    with pytest.raises(ValueError, match="must be one object for a model whose encoder and"):
        with_vocabulary(model, new, more)
    changed = with_vocabulary(model, new, new)
    assert changed.head.tied is changed.encoder.embedding is changed.decoder.embedding
    same = with_vocabulary(changed, old, old)  # back again: only "fast", "cats" and "sleep" are new
    after = same({"source": source, "target": source})["logits"]
    place = old.get_vocabulary().index("dogs")
    np.testing.assert_allclose(after[0, :, place], before[0, :, place], rtol=1e-5)


def test_a_model_of_sounds_has_no_source_vocabulary():
    letters = kzoo.CharacterTokenizer.learn(OLD, 40)
    more = kzoo.CharacterTokenizer.learn([*OLD, "xyz"], 40)
    source = kzoo.AudioSource(kzoo.LogMel(8_000, num_mels=8))
    model = kzoo.zoo.listen_attend_spell(source, letters, units=8)
    frames = tf.ones((1, 16, 8))
    model({"source": frames, "target": tf.constant([[1, 4]])})
    with pytest.raises(ValueError, match="must be None for a model that does not embed"):
        with_vocabulary(model, letters, letters)
    changed = with_vocabulary(model, target_tokenizer=more)
    out = changed({"source": frames, "target": tf.constant([[1, 4]])})
    assert out["logits"].shape[-1] == out["ctc_logits"].shape[-1] == more.vocabulary_size()
