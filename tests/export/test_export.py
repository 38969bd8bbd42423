import collections
import concurrent.futures
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from exported import BEAMS, LONGEST, OPTIONS, TEXTS, built, python, rnn, saved_model, transformer
from hypothesis import given, settings
from hypothesis import strategies as st

import kzoo
from kzoo import export, metrics, text
from kzoo.__main__ import main
from kzoo.export import folder, warmup
from kzoo.layers.attention import LuongAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.models import Lexicon, Seq2Seq
from kzoo.serving import find_models

ODD_TEXTS = ["", " \t\n", "😀", "é" * 10_000, "a dog " * 2_000, b"\xff\xfe A \x00 girl", "<s>"]
SIGNATURES = {
    "serving_default": {"text": tf.string, "score": tf.float32},
    "serving_xla": {"text": tf.string, "score": tf.float32},
    "n_best": {"text": tf.string, "score": tf.float32, "log_prob": tf.float32},
    "align": {
        "text": tf.string,
        "source_tokens": tf.string,
        "target_tokens": tf.string,
        "alignment": tf.float32,
    },
    "complete": {
        "text": tf.string,
        "score": tf.float32,
        "target_tokens": tf.string,
        "token_log_prob": tf.float32,
    },
}

ONE = ["serving_default"]  # enough for a test that asks for no other: each is a graph to trace
TWO = [*ONE, "n_best"]
THREE = [*TWO, "serving_xla"]


@pytest.fixture(scope="module")
def models():
    return {"transformer": transformer(), "rnn": rnn()}


@pytest.fixture(scope="module")
def searches():
    """How often the export of a model traced its search, by name."""
    return collections.Counter()


@pytest.fixture(scope="module")
def paths(models, searches, tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("saved_models"), {}
    for name, model in models.items():

        def generate(*args, name=name, model=model, **kwargs):
            searches[name] += 1
            return type(model).generate(model, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "generate", generate)
            path = export.next_version(folder / name)
            found[name] = export.save(model, path, examples=TEXTS[:2], **OPTIONS).path
    return found


@pytest.fixture(scope="module")
def served(paths):
    """Both models in one process, one tokenizer of each kind among them."""
    return {name: export.load(path) for name, path in paths.items()}


each_family = pytest.mark.parametrize("name", ["transformer", "rnn"])


# What is in the folder.


@each_family
def test_signatures_have_exactly_the_promised_names(paths, name):
    signatures = dict(saved_model(paths[name]).meta_graphs[0].signature_def)
    signatures.pop("__saved_model_init_op")
    assert signatures.keys() == SIGNATURES.keys()
    for signature, outputs in SIGNATURES.items():
        inputs = signatures[signature].inputs
        assert set(inputs) == ({"text", "prefix"} if signature == "complete" else {"text"})
        for info in inputs.values():
            assert tf.as_dtype(info.dtype) == tf.string
            assert tf.TensorShape(info.tensor_shape).as_list() == [None]
        found = {k: tf.as_dtype(v.dtype) for k, v in signatures[signature].outputs.items()}
        assert found == outputs


@each_family
def test_no_op_needs_xla_or_python(paths, name):
    graph = saved_model(paths[name]).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    ops = {node.op for node in nodes}
    assert "While" in ops and "MatMul" in ops
    assert not [op for op in ops if op.startswith("Xla") or "PyFunc" in op or "Dataset" in op]


@each_family
def test_weights_are_stored_once_and_without_the_optimizer(paths, models, name):
    stored = tf.train.list_variables(str(paths[name] / "variables" / "variables"))
    shapes = [shape for key, shape in stored if key != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert sorted(shapes) == sorted(list(weight.shape) for weight in models[name].weights)


@each_family
def test_warm_up_requests_of_the_examples_lie_where_servers_look(paths, name):
    file = paths[name] / "assets.extra" / "tf_serving_warmup_requests"
    (records,) = tf.data.TFRecordDataset(str(file)).batch(100)
    assert len(records) >= 2 * len(SIGNATURES)  # batches of one and of more
    for signature in SIGNATURES:
        assert [r for r in records.numpy() if signature.encode() in r and TEXTS[0].encode() in r]


@each_family
def test_an_export_traces_each_search_once(paths, searches, name):
    assert searches[name] == len(SIGNATURES) - 1  # `serving_default` and `align` share theirs


# The same answers whoever loads it.

LOADERS = """
import json, os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import tensorflow as tf
import tensorflow_text

def plain(outputs):
    return {k: [t.decode() for t in v] if v.dtype == object else v.tolist()
            for k, v in outputs.items()}

texts, answers = json.loads(sys.argv[1]), []
for path in sys.argv[2:]:
    model = tf.saved_model.load(path)
    outputs = model.signatures["serving_default"](text=tf.constant(texts))
    v2 = plain({k: v.numpy() for k, v in outputs.items()})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
        signature = graph.signature_def["serving_default"]
        outputs = {k: v.name for k, v in signature.outputs.items()}
        v1 = plain(session.run(outputs, {signature.inputs["text"].name: texts}))
    answers.append([v2, v1])
assert not {"kzoo", "keras_nlp", "keras_hub"} & set(sys.modules)
print(json.dumps(answers))
"""


def test_a_fresh_process_and_a_session_answer_as_the_model_does(paths, served):
    texts = [*TEXTS, ""]
    for name, loaded in zip(
        paths, python(LOADERS, json.dumps(texts), *paths.values()), strict=True
    ):
        best = [pairs[0] for pairs in served[name].n_best(texts)]
        for outputs in loaded:
            assert outputs["text"] == [answer for answer, _ in best]
            np.testing.assert_allclose(outputs["score"], [score for _, score in best], rtol=1e-5)


def test_unknown_words_become_what_they_looked_at_in_every_signature(models, tmp_path):
    keras.utils.set_random_seed(6)
    words = text.WordTokenizer.learn(TEXTS, 71)
    encoder = RecurrentEncoder(TokenEmbedding(words.vocabulary_size(), 7), 5)
    embedding = TokenEmbedding(words.vocabulary_size(), 7)
    decoder = AttentionDecoder(embedding, 11, LuongAttention("concat"), cell="gru")
    head = VocabularyHead(words.vocabulary_size(), 11, num_sampled=5)
    model = built(Seq2Seq(encoder, decoder, head, words, words))
    head.bias.assign(4 * np.eye(words.vocabulary_size())[text.UNKNOWN_ID])
    translations = np.full((words.vocabulary_size(), 1), 7)
    lexicon = Lexicon(translations, 4, words.vocabulary_size())
    path = export.save(model, tmp_path / "1", replace_unknown=True, lexicon=lexicon, **OPTIONS)
    served = export.load(path)
    texts = ["Zoé saw Nürnberg .", "", "two men and Ødegård"]
    copied = []
    for source in texts:
        found = served.align(source)
        words_of = found.source_tokens[:-1]  # not the end
        assert words_of.count("<unk>") == sum(
            word not in words.get_vocabulary() for word in source.split()
        )
        answer = [
            source.split()[int(row[: len(words_of)].argmax())] if token == "<unk>" else token
            for token, row in zip(found.target_tokens, found.weights, strict=True)
            if token not in ("<s>", "</s>", "<pad>")
        ]
        assert set(found.target_tokens) <= {
            "<pad>",
            "<s>",
            "</s>",
            "<unk>",
            words.tokens([7])[0].numpy().decode(),
        }
        assert (
            found.text
            == text.join_words(tf.ragged.constant([answer], tf.string))[0].numpy().decode()
        )
        copied += answer
    assert {"Zoé", "Nürnberg", "Ødegård"} & set(copied)
    assert set(served._model.signatures) == set(SIGNATURES) - {"complete"}  # a list has no prefix
    everything = {
        name: function(text=tf.constant(texts))
        for name, function in served._model.signatures.items()
    }
    for name in ("serving_default", "serving_xla", "align"):
        assert [t.decode() for t in everything[name]["text"].numpy()] == served(texts)
    assert (
        everything["n_best"]["text"][:, 0].numpy().tolist()
        == everything["align"]["text"].numpy().tolist()
    )
    for outputs in python(LOADERS, json.dumps(texts), path)[0]:
        assert outputs["text"] == served(texts)


@each_family
def test_a_c_program_gets_the_same_answers(c_client, paths, served, name):
    ops = Path(tensorflow_text.__file__).parent / "python" / "ops"
    libraries = [ops / "_normalize_ops.so", ops / "_sentencepiece_tokenizer.so"]
    signature = saved_model(paths[name]).meta_graphs[0].signature_def["serving_default"]
    tensors = [signature.inputs["text"].name, signature.outputs["text"].name]
    texts = [*TEXTS, "", "😀"]
    command = [c_client, paths[name], *tensors, *libraries, "--", *texts]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{answer}\n" for answer in served[name](texts))


@each_family
def test_the_graph_computes_what_generate_and_detokenize_do(models, served, name):
    model, answers = models[name], served[name].n_best(TEXTS)
    for source, pairs in zip(TEXTS, answers, strict=True):
        ids = model.source_tokenizer.tokenize([source])[:, :13]
        ids = tf.concat([ids, [[text.END_ID]]], 1)
        found = model.generate(ids, beam_size=BEAMS, max_length=LONGEST, length_penalty=0.6)
        expected = model.target_tokenizer.detokenize(found.ids[0]).numpy()
        assert [answer for answer, _ in pairs] == [answer.decode() for answer in expected]
        scores = [score for _, score in pairs]
        np.testing.assert_allclose(scores, found.scores[0], rtol=1e-5)
    assert len({pairs[0][0] for pairs in answers}) == len(TEXTS)  # or this would show nothing


@each_family
@pytest.mark.parametrize("count", [0, 1, 7, 64])
def test_what_xla_compiles_gives_the_same_answers(served, name, count):
    texts = [(TEXTS + ODD_TEXTS)[i % 10] for i in range(count)]
    signatures = served[name]._model.signatures
    expected = signatures["serving_default"](text=tf.constant(texts, tf.string))
    answer = signatures["serving_xla"](text=tf.constant(texts, tf.string))
    assert answer["text"].numpy().tolist() == expected["text"].numpy().tolist()
    np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patience", [None, 3.0])
def test_what_xla_compiles_searches_on_for_better_ends(models, tmp_path, patience):
    search = {"finished_apart": True, "length_normalization": "length", "patience": patience}
    options = OPTIONS | {"max_length": 40, "length_penalty": 1.0, "search_options": search}
    signatures = ["serving_default", "serving_xla"]
    served = export.load(
        export.save(models["rnn"], tmp_path / "1", signatures=signatures, **options)
    )
    texts = tf.constant([*TEXTS, *ODD_TEXTS])
    expected, answer = (served._model.signatures[name](text=texts) for name in signatures)
    assert answer["text"].numpy().tolist() == expected["text"].numpy().tolist()
    np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-4, atol=1e-4)


def test_what_xla_compiles_does_not_end_for_want_of_room(models, tmp_path):
    search = {"length_deviation_penalty": 0.7, "expected_length": 24.0}
    options = OPTIONS | {"max_length": 40, "search_options": search}
    signatures = ["serving_default", "serving_xla"]
    saved = export.save(models["transformer"], tmp_path / "1", signatures=signatures, **options)
    texts = tf.constant([*TEXTS, *ODD_TEXTS])
    expected, answer = (saved.served._model.signatures[name](text=texts) for name in signatures)
    assert answer["text"].numpy().tolist() == expected["text"].numpy().tolist()
    np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-4, atol=1e-4)


@each_family
def test_neighbours_in_the_batch_change_nothing(served, name):
    together = served[name].n_best([*TEXTS, *ODD_TEXTS])
    for source, pairs in zip([*TEXTS, *ODD_TEXTS], together, strict=True):
        alone = served[name].n_best(source)
        assert [answer for answer, _ in alone] == [answer for answer, _ in pairs]
        np.testing.assert_allclose([s for _, s in alone], [s for _, s in pairs], rtol=1e-4)


def test_a_model_trained_in_bfloat16_answers_in_float32(models, served, tmp_path):
    for name, build in {"transformer": transformer, "rnn": rnn}.items():
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = build()
        finally:
            keras.config.set_dtype_policy("float32")
        for weight, value in zip(model.weights, models[name].get_weights(), strict=True):
            weight.assign(value)
        before = [layer.compute_dtype for layer in model._flatten_layers()]
        assert "bfloat16" in before
        path = export.save(model, tmp_path / name, signatures=TWO, **OPTIONS)
        assert [layer.compute_dtype for layer in model._flatten_layers()] == before
        assert export.load(path).n_best(TEXTS) == served[name].n_best(TEXTS)


# Whatever comes in.


@each_family
def test_a_bfloat16_export_has_half_the_size_and_nearly_the_scores(models, served, tmp_path, name):
    path = export.save(
        models[name], tmp_path / "1", signatures=THREE, precision="bfloat16", **OPTIONS
    )
    stored = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    kinds = stored.get_variable_to_dtype_map().values()
    assert tf.bfloat16 in kinds and tf.float32 not in kinds
    loaded = export.load(path)
    for found, exact in zip(loaded.n_best(TEXTS), served[name].n_best(TEXTS), strict=True):
        np.testing.assert_allclose(found[0][1], exact[0][1], rtol=0.05)
    (outputs,) = python(LOADERS, json.dumps(TEXTS), path)
    assert outputs[0]["text"] == outputs[1]["text"] == loaded(TEXTS)
    compiled = loaded._model.signatures["serving_xla"](text=tf.constant(TEXTS))
    np.testing.assert_allclose(compiled["score"], outputs[0]["score"], rtol=0.1)


@each_family
def test_an_empty_text_has_the_empty_text_as_its_only_answer(served, name):
    outputs = served[name]._model.signatures["n_best"](text=tf.constant(["", " \u200b\n"]))
    assert outputs["text"].numpy().tolist() == [[b""] * BEAMS] * 2
    for output in ("score", "log_prob"):
        lowest = float(np.finfo(np.float32).min)
        rows = outputs[output].numpy().tolist()
        assert rows == [[0.0] + [lowest] * (BEAMS - 1)] * 2
        written = json.dumps(rows, allow_nan=False)  # as a server writes it; of -inf there is none
        assert np.float32(json.loads(written)).tolist() == rows
    assert served[name](["", " "]) == ["", ""]
    assert served[name].n_best("") == [("", 0.0)]
    empty, other = served[name].align(["", TEXTS[0]])
    assert (empty.text, empty.source_tokens, empty.target_tokens) == ("", ["</s>"], [])
    assert empty.weights.shape == (0, 1) and other.weights.any()


@each_family
def test_odd_texts_get_an_answer_in_utf_8(served, name):
    answers = served[name](ODD_TEXTS)
    assert answers[:2] == ["", ""]
    assert all(isinstance(answer, str) for answer in answers)
    assert served[name]("a girl \ud800") == served[name]("a girl \udfff")  # lone surrogates


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text() | st.binary(), min_size=2, max_size=2))
def test_any_text_or_bytes_get_an_answer(served, texts):
    assert len([answer.encode() for answer in served["rnn"](texts)]) == 2


@each_family
def test_a_batch_without_texts_gets_no_answers(served, name):
    none = tf.constant([], tf.string)
    for signature in served[name]._model.signatures.values():
        _, arguments = signature.structured_input_signature
        outputs = signature(**dict.fromkeys(arguments, none))
        assert all(tensor.shape[0] == 0 for tensor in outputs.values())
    assert served[name]([]) == []


def test_a_long_source_is_cut(served):
    words = [*text.split_words(TEXTS[:2]).flat_values.numpy().astype(str)]
    assert len(words) == 15
    whole, cut, shorter = (" ".join(words[:count]) for count in (15, 13, 12))
    assert served["rnn"].n_best(whole) == served["rnn"].n_best(cut)
    assert served["rnn"].n_best(whole) != served["rnn"].n_best(shorter)
    assert served["rnn"].align(whole).source_tokens == [*words[:13], "</s>"]


@each_family
def test_alignment_rows_sum_to_one_and_its_tokens_make_the_answer(models, served, name):
    for source, found in zip(TEXTS, served[name].align(TEXTS), strict=True):
        assert found.text == served[name](source)
        assert found.source_tokens[-1] == "</s>" and len(found.source_tokens) <= 14
        assert found.weights.shape == (len(found.target_tokens), len(found.source_tokens))
        np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
        vocabulary = models[name].target_tokenizer.get_vocabulary()
        ids = [vocabulary.index(token) if token else 0 for token in found.target_tokens]
        assert models[name].target_tokenizer.detokenize(ids).numpy().decode() == found.text


def test_alignment_is_as_long_as_the_longest_of_the_batch(served):
    outputs = served["rnn"]._model.signatures["align"](text=tf.constant([TEXTS[0], "girl"]))
    rows, steps, sources = outputs["alignment"].shape
    assert (rows, sources) == (2, 7)  # Two young men are outside . </s>
    assert outputs["source_tokens"].numpy()[1].tolist() == [b"girl", b"</s>"] + 5 * [b""]
    assert outputs["target_tokens"].shape == (2, steps) and steps <= LONGEST
    assert not outputs["alignment"].numpy()[1, :, 2:].any()


# Writing.


# A prefix.


@each_family
def test_an_answer_begins_with_the_prefix_and_says_how_sure_each_token_is(models, served, name):
    tokenizer = models[name].target_tokenizer
    for prefix in ["", "men in", "😀"]:
        found = served[name].complete(TEXTS[1], prefix)
        ids = tokenizer.tokenize([prefix])[0].numpy()
        assert found.target_tokens[: len(ids)] == [
            token.decode() for token in tokenizer.tokens(ids[None])[0].numpy()
        ]
        assert len(found.token_log_probs) == len(found.target_tokens) <= LONGEST
        length = len(found.target_tokens) - (found.target_tokens[-1] == "</s>")
        score = found.token_log_probs.sum() / ((5 + length) / 6) ** 0.6
        np.testing.assert_allclose(found.score, score, rtol=1e-4)
    assert served[name].complete(TEXTS[1], "").text == served[name](TEXTS[1])


def test_each_row_has_a_prefix_of_its_own(served):
    run = served["rnn"]._model.signatures["complete"]
    texts, prefixes = [TEXTS[0], "", TEXTS[2]], ["a b", "a", ""]
    outputs = run(text=tf.constant(texts), prefix=tf.constant(prefixes))
    alone = [served["rnn"].complete(*pair) for pair in zip(texts, prefixes, strict=True)]
    assert [t.decode() for t in outputs["text"].numpy()] == [one.text for one in alone]
    np.testing.assert_allclose(outputs["score"], [one.score for one in alone], rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the same number of rows"):
        run(text=tf.constant(texts), prefix=tf.constant(["a"]))
    none = tf.constant([], tf.string)
    assert run(text=none, prefix=none)["text"].shape == [0]


# More options of the search, and requests in one batch.


def test_an_export_with_options_of_the_search_keeps_them_in_every_signature(models, tmp_path):
    vocabulary_size = models["rnn"].target_tokenizer.vocabulary_size()
    allowed = np.arange(vocabulary_size) % 3 != 1
    search = {"no_repeat_ngram": 2, "repetition_penalty": 1.3, "min_length": 4, "allowed": allowed}
    path = export.save(
        models["rnn"], tmp_path / "1", signatures=THREE, search_options=search, **OPTIONS
    )
    generate = models["rnn"].text_generator(**OPTIONS, **search)
    loaded, expected = export.load(path), generate(TEXTS)
    assert loaded(TEXTS) == [pairs[0][0] for pairs in loaded.n_best(TEXTS)] == expected
    assert expected != models["rnn"].text_generator(**OPTIONS)(TEXTS)
    outputs = loaded._model.signatures["serving_xla"](text=tf.constant(TEXTS))
    assert [answer.decode() for answer in outputs["text"].numpy()] == expected
    assert "no_repeat_ngram 2" in (path / "model_card.md").read_text(encoding="utf-8")


def test_a_model_that_forms_batches_answers_each_caller_with_its_own(models, served, tmp_path):
    path = export.save(
        models["rnn"], tmp_path / "1", signatures=THREE,
        request_batching={"max_batch_size": 5, "max_delay_ms": 100.0}, **OPTIONS,
    )  # fmt: skip
    loaded, texts = tf.saved_model.load(str(path)), [*TEXTS, ""]
    expected = served["rnn"](texts)

    def ask(row):
        count = 1 + row % 7  # also more than a batch
        rows = [(row + i) % len(texts) for i in range(count)]
        answers = loaded.signatures["serving_default"](text=tf.constant([texts[i] for i in rows]))
        return [answer.decode() for answer in answers["text"].numpy()] == [
            expected[i] for i in rows
        ]

    with concurrent.futures.ThreadPoolExecutor(13) as pool:
        assert all(pool.map(ask, range(26)))
    ((answers, session_answers),) = python(LOADERS, json.dumps(texts), path)
    assert answers["text"] == session_answers["text"] == expected


def test_an_interrupted_save_leaves_nothing(models, tmp_path):
    seen = []

    def interrupt(served):
        seen.append(served(TEXTS[0]))
        seen.extend(path.name for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.save(models["rnn"], tmp_path / "1", signatures=ONE, evaluate=interrupt, **OPTIONS)
    answer, folder = seen
    assert answer and folder.startswith(".1.")  # it was written, and not under its name
    assert not list(tmp_path.iterdir())


def test_save_refuses_what_it_cannot_export(models, tmp_path):
    model = models["rnn"]
    (tmp_path / "1").mkdir()
    with pytest.raises(FileExistsError, match=r"`path` must not exist yet, got '.*1'"):
        export.save(model, tmp_path / "1")
    with pytest.raises(ValueError, match=r"`max_source_length` must be an integer .* got .*=10.5"):
        export.save(model, tmp_path / "2", max_source_length=10.5)
    with pytest.raises(ValueError, match=r"`max_source_length` must be at least 1, got .*=0"):
        export.save(model, tmp_path / "2", max_source_length=0)
    with pytest.raises(ValueError, match="`texts` must be a str or a list of str, got"):
        export.save(model, tmp_path / "2", examples=(7,))
    with pytest.raises(ValueError, match="`beam_size` must be an integer of at least 1"):
        export.save(model, tmp_path / "2", beam_size=0)
    for wrong in (["serving_default", "stream"], "align", 3):
        message = r"`signatures` must be a list of names among serving_default, .*, complete, got "
        with pytest.raises(ValueError, match=message + re.escape(f"signatures={wrong!r}.")):
            export.save(model, tmp_path / "2", signatures=wrong)
    for wrong in (["align"], []):
        message = '`signatures` must hold "serving_default", .*, got ' + re.escape(
            f"signatures={wrong}."
        )
        with pytest.raises(ValueError, match=message):
            export.save(model, tmp_path / "2", signatures=wrong)
    parts = model.encoder, model.decoder, model.head
    with pytest.raises(ValueError, match="`model` must have a source_tokenizer"):
        export.save(Seq2Seq(*parts), tmp_path / "2")
    unbuilt = Seq2Seq(*parts[:2], VocabularyHead(11, 7), *2 * [model.target_tokenizer])
    with pytest.raises(ValueError, match="`model` must be built, but its head has no weights"):
        export.save(unbuilt, tmp_path / "2")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_next_version_is_above_the_highest(tmp_path):
    folder = tmp_path / "en-de"
    assert export.next_version(folder) == folder / "1"
    for name in ("2", "10", "9a", ".11.abc.tmp", "¹²"):
        (folder / name).mkdir(parents=True)
    assert export.next_version(str(folder)) == folder / "11"


def test_the_card_and_the_metrics_say_what_was_given_and_measured(models, tmp_path):
    saved = path = export.save(
        models["rnn"],
        tmp_path / "en-de" / "1",
        signatures=ONE,
        card={"description": "A test.", "data": "three | texts", "epochs": 7},
        metrics={"valid loss": np.float32(1.5)},
        examples=TEXTS[:2],
        evaluate=lambda served: {"test BLEU": metrics.Score("BLEU", 12.345, "nrefs:1")},
        **OPTIONS,
    )
    assert json.loads((path / "metrics.json").read_text("utf-8")) == {
        "valid loss": 1.5,
        "test BLEU": {"name": "BLEU", "value": 12.345, "signature": "nrefs:1"},
    }
    assert saved.metrics == {
        "valid loss": 1.5,
        "test BLEU": metrics.Score("BLEU", 12.345, "nrefs:1"),
    }
    assert saved.path == Path(saved) == Path(str(saved)) == tmp_path / "en-de" / "1"
    assert os.fspath(saved) == f"{saved}" and saved.served.path == saved.path
    assert saved.served(TEXTS) == export.Saved(saved.path, {}).served(TEXTS)
    card = (path / "model_card.md").read_text("utf-8")
    assert card.startswith("# en-de\n\nA test.\n\n")
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|")]
    assert ["data", r"three \| texts"] in rows and ["licence", "not stated"] in rows
    assert ["epochs", "7"] in rows
    assert ["parameters", f"{models['rnn'].count_params():,}"] in rows
    assert ["test BLEU", "12.35", "nrefs:1"] in rows
    answer = export.load(path)(TEXTS[1])
    assert f"| {TEXTS[1]} | {' '.join(answer.replace('|', chr(92) + '|').split())} |" in card
    # Only one signature was asked for.
    found = dict(saved_model(saved.path).meta_graphs[0].signature_def)
    assert found.keys() - {"__saved_model_init_op"} == set(ONE)
    assert {name for name, _ in warmup.read(path)} == set(ONE)
    assert [name for name in SIGNATURES if f"`{name}`" in card] == ONE
    for ask in (saved.served.n_best, saved.served.align):
        with pytest.raises(ValueError, match="needs a model that was exported with the signature"):
            ask(TEXTS[0])
    with pytest.raises(ValueError, match="exported with the signature `complete`"):
        saved.served.complete(TEXTS[0], "")


# Loading in Python.


def test_load_takes_the_highest_version_of_a_folder(paths, served, tmp_path):
    (tmp_path / "2").mkdir()
    (tmp_path / "10").symlink_to(paths["rnn"])
    assert kzoo.load(tmp_path).path == tmp_path / "10"
    assert kzoo.load(str(tmp_path / "10"))(TEXTS[0]) == served["rnn"](TEXTS[0])


def test_what_is_no_version_or_not_written_yet_is_passed_over(paths, tmp_path):
    tmp_path = tmp_path / "a model"
    tmp_path.mkdir()
    (tmp_path / "01").symlink_to(paths["rnn"])
    (tmp_path / "2").mkdir()
    (tmp_path / "3" / "variables").mkdir(parents=True)
    (tmp_path / "4" / "saved_model.pb").mkdir(parents=True)
    (tmp_path / "9").write_text("no folder")
    assert folder.of_saved_model(tmp_path) == tmp_path / "01"
    assert folder.next_version(tmp_path) == tmp_path / "10"
    assert find_models(tmp_path) == [("a model", "1", tmp_path / "01")]
    assert find_models(tmp_path.parent, "all") == [("a model", "1", tmp_path / "01")]
    (tmp_path / "4" / "saved_model.pb").rmdir()
    (tmp_path / "4" / "saved_model.pb").write_bytes(b"half")  # begun, and not to be missed
    with pytest.raises(ValueError, match=r"must be a whole SavedModel, but '.*4' cannot be loaded"):
        kzoo.load(tmp_path)


@pytest.mark.parametrize("file", ["variables/variables.data-00000-of-00001", "saved_model.pb"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_half_a_model_is_refused_by_its_path(file, kept, paths, tmp_path):
    shutil.copytree(paths["rnn"], tmp_path / "half")
    content = (tmp_path / "half" / file).read_bytes()
    (tmp_path / "half" / file).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"`path` must be a whole SavedModel, but '.*half' cannot"):
        export.load(tmp_path / "half")


class Foreign(tf.Module):
    """Has the names of kzoo's signatures, but takes and gives something else."""

    @tf.function
    def answer(self, **inputs):
        (given,) = list(inputs.values())[:1]
        return {"text": given, "score": tf.zeros(tf.shape(given)[:1])}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"words": ([None], tf.string)}, r"has the inputs .*words.* of serving_default, where it"),
        ({"text": ([None], tf.int32)}, r"has the inputs .*int32.* of serving_default"),
        ({"text": ([None, 2], tf.string)}, r"has the inputs .*None, 2.* of serving_default"),
        ({"text": ([None], tf.string), "more": ([], tf.int32)}, "has the inputs .*more"),
        ({"text": ([None], tf.string)}, "no output alignment, source_tokens, target_tokens of al"),
    ],
)
def test_a_model_of_others_is_refused_by_what_it_takes_or_gives(inputs, message, tmp_path):
    module = Foreign()
    specs = {name: tf.TensorSpec(*spec, name=name) for name, spec in inputs.items()}
    answer = module.answer.get_concrete_function(**specs)
    signatures = dict.fromkeys(("serving_default", "n_best", "align"), answer)
    tf.saved_model.save(module, str(tmp_path / "other"), signatures=signatures)
    with pytest.raises(ValueError, match=message) as error:
        export.load(tmp_path / "other")
    assert f"a SavedModel that kzoo exported, but {str(tmp_path / 'other')!r}" in str(error.value)


def test_load_says_why_it_cannot(paths, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*nowhere' does not exist"):
        export.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no saved_model\.pb"):
        export.load(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(ValueError, match="no signature align, n_best, serving_default"):
        export.load(tmp_path / "other")
    shutil.copytree(paths["rnn"], tmp_path / "half")
    (tmp_path / "half" / "variables" / "variables.index").unlink()
    with pytest.raises(ValueError, match=r"`path` must be a whole SavedModel, but '.*half' cannot"):
        export.load(tmp_path / "half")


def test_one_text_gives_one_answer_and_a_list_a_list_in_its_order(paths, served):
    model = export.ServedModel(paths["rnn"], batch_size=2)
    texts = [TEXTS[2], "", TEXTS[0], TEXTS[1], TEXTS[0]]
    assert model(texts) == [served["rnn"](source) for source in texts]
    answers = [answer for answer, _ in model.n_best(TEXTS[0])]
    assert [answer for answer, _ in model.n_best(texts)[2]] == answers
    assert isinstance(model.align(TEXTS[0]), export.Alignment)
    for wrong in (3, [3], {"a": "b"}, None):
        with pytest.raises(ValueError, match="`texts` must be a str or a list of str, got "):
            model(wrong)


# The command line.


@pytest.fixture
def standard_input(monkeypatch):
    def feed(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return feed


def test_the_command_answers_texts_files_and_standard_input(
    paths, served, tmp_path, capsys, standard_input
):
    file = tmp_path / "texts.txt"
    file.write_bytes(TEXTS[0].encode() + b"\r\n\nA \xff girl\n")
    standard_input(TEXTS[1].encode() + b"\n")
    main([str(paths["rnn"].parent), TEXTS[2], str(file), "-"])
    expected = served["rnn"]([TEXTS[2], TEXTS[0], "", b"A \xff girl", TEXTS[1]])
    assert capsys.readouterr().out.splitlines() == expected

    standard_input(b"")
    main([str(paths["rnn"])])
    assert capsys.readouterr().out == ""


def test_the_command_prints_hypotheses_and_alignments(paths, served, capsys):
    main([str(paths["rnn"]), "--n_best", TEXTS[0], ""])
    pairs = served["rnn"].n_best(TEXTS[0])
    lines = [f"{score:.4f}\t{answer}" for answer, score in pairs]
    assert capsys.readouterr().out.splitlines() == [*lines, "", "0.0000\t", ""]

    main([str(paths["rnn"]), TEXTS[0], "--align"])
    answer, first, *_ = capsys.readouterr().out.splitlines()
    found = served["rnn"].align(TEXTS[0])
    most = found.weights[0].argmax()
    assert answer == found.text
    assert first.split()[1:3] == [found.source_tokens[most], f"{found.weights[0].max():.0%}"]


def test_the_command_ends_with_a_message_and_code_2(paths, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, message in [
        (["nowhere", "a text"], "'nowhere' does not exist"),
        ([str(tmp_path), "a text"], "holds no saved_model.pb"),
        ([str(paths["rnn"]), "missing.txt"], "missing.txt"),
        ([str(paths["rnn"]), "--n_best", "--align", "a text"], "not allowed with"),
        ([str(paths["rnn"]), "--live"], "`--live` needs a model of live audio, as"),
        ([str(paths["rnn"]), "--srt", "a"], "`--srt` needs a model of speech that knows times, as"),
        ([], "PATH"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def load():
    return functools.cache(tf.saved_model.load)


@pytest.fixture
def loaded_once(load, monkeypatch):
    """For what the command does with its arguments: the same model is not loaded again."""
    monkeypatch.setattr(tf.saved_model, "load", load)


FILES = ("my texts.txt", "MY TEXTS.TXT", "texts", "texts of a list", "-x.txt")


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("name", FILES)
def test_an_argument_is_a_file_if_there_is_one_and_with_text_never(
    name, paths, served, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(TEXTS).encode())
    (tmp_path / "folder").mkdir()
    ask = served["rnn"]
    main([str(paths["rnn"]), "--", name, "folder", ""])
    assert capsys.readouterr().out.splitlines() == ask([*TEXTS, "folder", ""])
    main([str(paths["rnn"]), "--text", "--", name, "-"])
    assert capsys.readouterr().out.splitlines() == ask([name, "-"])


@pytest.mark.usefixtures("loaded_once")
def test_a_file_whose_name_is_no_utf_8_is_read(paths, served, tmp_path, monkeypatch, capsys):
    name = os.fsdecode(b"\xff texts")
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(TEXTS[0])
    main([str(paths["rnn"]), name])
    assert capsys.readouterr().out.splitlines() == [served["rnn"](TEXTS[0])]
    with pytest.raises(SystemExit):
        main([str(paths["rnn"]), os.fsdecode(b"\xff.txt")])
    assert "there is no such file; --text takes it as a text" in capsys.readouterr().err


@pytest.mark.usefixtures("loaded_once")
def test_a_sentence_may_end_in_txt_and_a_file_in_utf_16_is_named(
    paths, served, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    main([str(paths["rnn"]), "A man wrote a.txt"])
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [served["rnn"]("A man wrote a.txt")]
    assert "no file 'A man wrote a.txt', so it is taken as a text" in printed.err
    Path("texts.txt").write_text(TEXTS[0], encoding="utf-16")
    with pytest.raises(SystemExit):
        main([str(paths["rnn"]), "texts.txt"])
    assert "texts.txt:1: expected UTF-8, got UTF-16" in capsys.readouterr().err


@pytest.mark.usefixtures("loaded_once")
def test_a_file_and_the_standard_input_have_the_same_lines(
    paths, tmp_path, capsys, standard_input, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        export.ServedModel, "__call__", lambda self, texts, language: map(repr, texts)
    )
    for content, lines in [
        (b"\xef\xbb\xbfa\rb\r\n\n\xe2\x80\xa8c\x0cd\x85e", "a\rb||\xe2\x80\xa8c\x0cd\x85e"),
        (b"a\r\r\n\r", "a\r|"),
        (b"", None),
    ]:
        expected = [] if lines is None else lines.encode("latin-1").split(b"|")
        Path("texts.txt").write_bytes(content)
        standard_input(content)
        for argument in ("texts.txt", "-"):
            main([str(paths["rnn"]), argument])
            assert capsys.readouterr().out.splitlines() == list(map(repr, expected))
    for encoding in ("utf-16", "utf-32"):
        Path("texts.txt").write_text("a\n", encoding=encoding)
        standard_input("a\n".encode(encoding))
        for argument, name in (("texts.txt", "texts.txt"), ("-", "standard input")):
            with pytest.raises(SystemExit):
                main([str(paths["rnn"]), argument])
            message = f"{name}:1: expected UTF-8, got {encoding.upper()}\n"
            assert capsys.readouterr().err.endswith(message)


@pytest.mark.parametrize(
    ("stream", "arguments", "message"),
    [
        ("stdin", [], "there is no other input, and the standard input is closed"),
        ("stdin", ["a", "-"], "the standard input is closed"),
        ("stdin", ["--live"], "the standard input is closed"),
        ("stdout", ["a"], "the standard output, which is closed"),
    ],
)
def test_a_closed_stream_ends_the_command_with_a_message(
    stream, arguments, message, paths, monkeypatch, capsys
):
    monkeypatch.setattr(sys, stream, None)
    with pytest.raises(SystemExit) as stopped:
        main([str(paths["rnn"]), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("loaded_once")
def test_without_standard_input_a_text_is_answered(paths, served, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    main([str(paths["rnn"]), TEXTS[0]])
    assert capsys.readouterr().out == served["rnn"](TEXTS[0]) + "\n"


def test_help_shows_commands_to_copy(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert '\nkzoo saved_models/en-de "A dog runs."' in capsys.readouterr().out


def test_python_m_kzoo_runs(paths, served):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL")  # it is set by itself
    done = subprocess.run(
        [sys.executable, "-m", "kzoo", str(paths["transformer"]), TEXTS[0]],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == served["transformer"](TEXTS[0]) + "\n"
    assert "cpu_feature_guard" not in done.stderr  # TensorFlow's log, not its first lines
