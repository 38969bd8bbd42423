import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    INPUTS,
    LABELS,
    SOURCE,
    TARGET,
    B,
    V,
    built,
    make_rnn,
    make_transformer,
)

from kzoo.layers.copying import Copier
from kzoo.layers.head import VocabularyHead
from kzoo.models import Ensemble, ScheduledSampling, Seq2Seq

PROMPT = (5, 8)
OPTIONS = {"beam_size": 3, "length_penalty": 0.0}
both = pytest.mark.parametrize("make", [make_transformer, make_rnn])


def told(make, **attributes):
    """A built model with a prompt and ids that it never gives; the same weights every time."""
    keras.utils.set_random_seed(7)
    model = built(make())
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


@both
def test_the_decoder_reads_the_prompt_behind_the_start_and_its_outputs_are_dropped(make):
    plain, model = told(make), told(make, prompt=PROMPT)
    target = np.concatenate([TARGET[:, :1], [PROMPT] * B, TARGET[:, 1:]], 1)
    expected = plain({"source": SOURCE, "target": target})
    for given in (TARGET, tf.RaggedTensor.from_tensor(TARGET)):
        outputs = model({"source": SOURCE, "target": given})
        for name in ("logits", "hidden", "weights"):
            np.testing.assert_allclose(outputs[name], expected[name][:, 2:], atol=1e-5)


@both
def test_a_search_after_a_prompt_is_one_with_a_prefix_that_nothing_counts(make):
    plain, model = told(make), told(make, prompt=PROMPT)
    expected = plain.generate(SOURCE, max_length=7, prefix=PROMPT, **OPTIONS)
    steps = expected.step_log_probs[:, :, 2:]
    for is_static in (None, False, True):
        if is_static is None:
            found = model.generate(SOURCE, max_length=5, **OPTIONS)
        else:
            options = OPTIONS | {"static_shapes": is_static, "max_length": 5}
            found = tf.function(model.generate)(tf.constant(SOURCE), **options)
        np.testing.assert_array_equal(found.ids, expected.ids[:, :, 2:])
        np.testing.assert_array_equal(found.lengths, expected.lengths - 2)
        np.testing.assert_allclose(found.step_log_probs, steps, atol=1e-5)
        np.testing.assert_allclose(found.log_probs, tf.reduce_sum(steps, 2), atol=1e-5)
        np.testing.assert_allclose(found.weights, expected.weights[:, :, 2:], atol=1e-5)


@both
def test_each_row_may_have_a_prompt_of_its_own_and_a_search_one_of_another_length(make):
    model = told(make, prompt=PROMPT)
    rows = np.array([[3, 9, 4], [4, 4, 10], [6, 3, 8]])
    found = model.generate(SOURCE, max_length=4, prompt=rows, **OPTIONS)
    drawn = model.sample(SOURCE, max_length=4, num_samples=2, prompt=(), seed=1)
    model.prompt = ()
    expected = model.generate(SOURCE, max_length=7, prefix=rows, **OPTIONS)
    np.testing.assert_array_equal(found.ids, expected.ids[:, :, 3:])
    again = model.sample(SOURCE, max_length=4, num_samples=2, seed=1)
    np.testing.assert_array_equal(drawn.ids, again.ids)


def test_fit_has_the_batches_and_labels_of_a_model_without_a_prompt():
    for options in ({}, {"r_drop": 2.0}):
        model = told(make_transformer, prompt=PROMPT, **options)
        model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
        first, *_, last = model.fit(INPUTS, LABELS, epochs=6, verbose=0).history["loss"]
        assert last < first


@both
def test_suppressed_ids_are_what_is_not_allowed(make):
    plain = told(make)
    before = plain.generate(SOURCE, max_length=5, **OPTIONS).ids.numpy()
    often, first = int(np.bincount(before[before > 2]).argmax()), int(before[0, 0, 0])
    allowed = np.arange(V) != often
    model = told(make, suppressed=(often,))
    expected = plain.generate(SOURCE, max_length=5, allowed=allowed, **OPTIONS)
    found = model.generate(SOURCE, max_length=5, **OPTIONS)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.scores, expected.scores)
    drawn = model.sample(SOURCE, max_length=5, num_samples=9, seed=3).ids.numpy()
    assert often not in drawn
    model = told(make, suppressed_first=(first, 2))
    found = model.generate(SOURCE, max_length=5, beam_size=7).ids.numpy()
    drawn = model.sample(SOURCE, max_length=5, num_samples=40, seed=3).ids.numpy()
    for ids in (found, drawn):
        assert not np.isin(ids[:, :, 0], (first, 2)).any()
        assert np.isin(ids[:, :, 1:], (first, 2)).any()


def test_the_first_token_may_come_from_a_scripted_table():
    from kzoo import search

    logits = tf.math.log([[0.1, 0.1, 0.5, 0.3]] * 4)
    found = search.greedy_search(
        lambda ids, state, position: (tf.gather(logits, ids), state),
        (),
        tf.constant([1, 1]),
        end_id=2,
        max_length=3,
        allowed_first=tf.constant([[True, True, False, True], [True, True, False, False]]),
    )
    assert found.ids[:, 0].numpy().tolist() == [[3, 2, 0], [0, 2, 0]]
    np.testing.assert_allclose(tf.exp(found.log_probs[:, 0]), [0.15, 0.05], rtol=1e-5)


def test_configs_files_and_ensembles_keep_them(tmp_path):
    names = {"prompt": PROMPT, "suppressed": (3, 4), "suppressed_first": (2,)}
    model = told(make_transformer, **names)
    again = Seq2Seq.from_config(model.get_config())
    assert {name: getattr(again, name) for name in names} == names
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.generate(SOURCE, max_length=4, **OPTIONS)
    for other in (loaded, Ensemble([model, loaded])):
        found = other.generate(SOURCE, max_length=4, **OPTIONS)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-5)
    with pytest.raises(ValueError, match="`models` must have the same prompt"):
        Ensemble([model, built(make_transformer())])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompt": (11,)}, r"`prompt` must hold ids below 11, .*, got prompt=\(11,\)."),
        ({"suppressed": (0.5,)}, "`suppressed` must hold ids below 11"),
        ({"suppressed_first": (-1,)}, "`suppressed_first` must hold ids below 11"),
        ({"prompt": PROMPT, "scheduled_sampling": ScheduledSampling(0.5)}, "`scheduled_sampling`"),
        ({"prompt": PROMPT, "ctc_head": VocabularyHead(V, 6)}, "empty with a `ctc_head`"),
        ({"prompt": PROMPT, "copier": Copier()}, "empty with a `copier`"),
        ({"suppressed_first": (3,), "copier": Copier()}, "must be empty with a `copier`"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message):
    model = make_transformer()
    with pytest.raises(ValueError, match=message):
        Seq2Seq(model.encoder, model.decoder, model.head, **arguments)


def test_a_search_refuses_a_prompt_of_another_shape_or_with_ctc():
    model = built(make_transformer())
    with pytest.raises(ValueError, match="`prompt` must hold integer ids of shape"):
        model.generate(SOURCE, prompt=[0.5])
    parts = make_transformer()
    with_ctc = Seq2Seq(parts.encoder, parts.decoder, parts.head, ctc_head=VocabularyHead(V, 6))
    with pytest.raises(ValueError, match="must be empty in a search with CTC"):
        with_ctc.generate(SOURCE, prompt=[4])
