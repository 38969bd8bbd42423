"""The flags of scheduled sampling, R-Drop and subword sampling, the same in all recipes."""

import dataclasses
import re

import numpy as np
import pytest

from kzoo.text import SubwordTokenizer
from recipes import image_captioning, runs, speech_to_text, summarization, translation
from recipes.runs import building

RECIPES = (translation, speech_to_text, image_captioning)
TEXTS = ["two dogs run", "a cat sleeps", "two cats run"] * 5


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"scheduled_sampling": 1.5},
            "`scheduled_sampling` must lie in [0, 1], got scheduled_sampling=1.5.",
        ),
        ({"sampling_steps": -1}, "`sampling_steps` must be at least 0, got sampling_steps=-1."),
        (
            {"sampling_decay": "inverse_sigmoid", "sampling_steps": 4},
            "`sampling_steps` must be 0 or at least 5 with inverse_sigmoid, got sampling_steps=4.",
        ),
        ({"r_drop": -1.0}, "`r_drop` must be at least 0, got r_drop=-1.0."),
        (
            {"r_drop": 5.0, "sampled": 64},
            "`r_drop` must be 0 with `scheduled_sampling` and with `sampled`, got r_drop=5.0, "
            "scheduled_sampling=0.0, sampled=64.",
        ),
        (
            {"subword_sampling": 0.1, "tokenizer": "characters"},
            "`subword_sampling` needs tokenizer=subwords, got subword_sampling=0.1, "
            "tokenizer=characters.",
        ),
        ({"subword_sampling": 1.0}, "`subword_sampling` must lie in [0, 1), got"),
    ],
)
def test_a_flag_out_of_range_is_refused_before_anything_is_loaded(recipe, values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe.Config(**values)


@pytest.mark.parametrize("recipe", [speech_to_text, summarization])
def test_subwords_are_sampled_of_a_model_that_brings_them(recipe):
    config = recipe.Config(subword_sampling=0.1, init_from="saved_models/mine")
    assert config.tokenizer != "subwords"  # the default, which the model's own replaces


def test_a_model_without_a_decoder_and_spliced_clips_have_no_use_for_them():
    message = "`scheduled_sampling` and `r_drop` need a model with a decoder, got"
    with pytest.raises(ValueError, match=message):
        speech_to_text.Config(model="streaming_ctc", r_drop=1.0)
    message = "`subword_sampling` must be 0 with splice_after, got subword_sampling=0.1."
    with pytest.raises(ValueError, match=re.escape(message)):
        speech_to_text.Config(subword_sampling=0.1, tokenizer="subwords", splice_after=3)


def test_a_built_model_is_taught_as_the_flags_say():
    tokenizer = SubwordTokenizer.learn(TEXTS, 40)
    config = translation.Config(
        scheduled_sampling=0.25, sampling_decay="exponential", sampling_steps=77, seed=4,
        precision="float32",
    )  # fmt: skip
    sampling = translation.build(tokenizer, tokenizer, config).scheduled_sampling
    found = [sampling.rate, sampling.decay, sampling.steps, sampling.seed]
    assert found == [0.25, "exponential", 77, 4]
    config = translation.Config(r_drop=5.0, precision="float32")
    model = translation.build(tokenizer, tokenizer, config)
    assert (model.r_drop, model.scheduled_sampling) == (5.0, None)


def test_another_model_of_the_same_kind_recomputes_what_the_first_one_does():
    tokenizer = SubwordTokenizer.learn(TEXTS, 40)
    config = translation.Config(recompute=True, precision="float32")
    model = translation.build(tokenizer, tokenizer, config)
    twin = type(model).from_config(model.get_config())
    assert not twin.decoder.recompute
    building.train_alike(twin, model)
    assert twin.encoder.recompute and twin.decoder.recompute


def test_a_model_that_has_weights_is_taught_as_the_flags_say_and_says_the_same():
    tokenizer = SubwordTokenizer.learn(TEXTS, 40)
    inputs = {"source": np.array([[5, 6, 2]]), "target": np.array([[1, 7, 8]])}
    config = translation.Config(precision="float32", model="rnn_luong")
    model = translation.build(tokenizer, tokenizer, config)
    before = model(inputs)["logits"].numpy()
    model.encoder.trainable = False
    sampling = dataclasses.replace(config, scheduled_sampling=0.5)
    taught = runs.compiled(model, sampling, 0.1)
    assert taught.scheduled_sampling.rate == 0.5 and taught.target_tokenizer is tokenizer
    again = runs.compiled(taught, dataclasses.replace(config, r_drop=2.0), 0.1)
    assert (again.scheduled_sampling, again.r_drop) == (None, 2.0)
    assert runs.compiled(again, config, 0.1) is again and again.r_drop == 0
    for each in (taught, again):
        np.testing.assert_array_equal(each(inputs)["logits"], before)
        assert not each.encoder.trainable_weights and each.decoder.trainable_weights
    with pytest.raises(ValueError, match="`recompute` needs a transformer, got recompute=True an"):
        runs.compiled(
            again, dataclasses.replace(config, model="transformer_tiny", recompute=True), 0.1
        )


def test_subwords_are_sampled_within_the_longest_text_and_only_if_asked(capsys):
    tokenizer = SubwordTokenizer.learn(TEXTS, 40)
    ids = tokenizer.tokenize(TEXTS)
    config = translation.Config(subword_sampling=0.5, max_length=10)
    found = runs.segmented(tokenizer, ids, config, [0, 1])
    _, lengths = found.draw(np.arange(len(TEXTS)), (0, 1))
    assert ids.row_lengths().numpy().sum() < lengths.sum() <= 9 * len(TEXTS)
    assert "times as many tokens as batches are planned for" in capsys.readouterr().out
    plain = dataclasses.replace(config, subword_sampling=0.0)
    assert runs.segmented(tokenizer, ids, plain, [0, 1]) is ids
