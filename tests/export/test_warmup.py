"""The warm-up requests as TensorFlow Serving reads them, and what it would answer."""

from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops that a loaded model runs)
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2

from kzoo import contents, protos
from kzoo.export import warmup

SIGNATURES = ["serving_default", "n_best", "other"]  # and join, of two inputs


class Model(tf.Module):
    """Texts in, texts out under three names, and a signature with another kind of input."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def upper(self, text):
        return {"text": tf.strings.upper(text)}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name=name) for name in ("head", "text")]
    )
    def join(self, head, text):
        return {"text": tf.strings.upper(head + text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="audio")])
    def stream(self, audio):
        return {"sum": tf.reduce_sum(audio)}


@pytest.fixture
def path(tmp_path):
    model, path = Model(), tmp_path / "model"
    functions = {
        **dict.fromkeys(SIGNATURES, model.upper),
        "join": model.join,
        "stream": model.stream,
    }
    tf.saved_model.save(model, str(path), signatures=functions)
    return path


def records(file):
    return [record.numpy() for record in tf.data.TFRecordDataset(str(file))]


def parsed(message):
    return {number: protos.content(field) for number, field in protos.fields(message)}


def requests(file):
    """Yields signature and inputs, lists by name, of each request, by the published numbers."""
    for record in records(file):
        request = parsed(parsed(record)[6])[1]
        spec, *entries = [parsed(protos.content(field)) for _, field in protos.fields(request)]
        tensors = {e[1].decode(): tensor_pb2.TensorProto.FromString(e[2]) for e in entries}
        yield spec[3].decode(), {k: tf.make_ndarray(v).tolist() for k, v in tensors.items()}


def test_there_is_a_request_of_each_size_for_each_signature_that_takes_texts(path):
    file = warmup.write(path, ["a", "é", b"\xff"], batch_sizes=(1, 5))
    assert file == path / "assets.extra" / "tf_serving_warmup_requests"
    texts = [b"a", "é".encode(), b"\xff", b"a", "é".encode()]
    assert list(requests(file)) == [
        (signature, {"text": batch, **more(len(batch))})
        for signature, more in [
            ("serving_default", lambda count: {}),
            ("join", lambda count: {"head": [b""] * count}),
            ("n_best", lambda count: {}),
            ("other", lambda count: {}),
        ]
        for batch in (texts[:1], texts)
    ]


def test_without_examples_the_text_is_neutral(path):
    for examples in ((), ["a" * (1 << 20) + "b"]):  # or too long, as recordings can be
        for _, inputs in requests(warmup.write(path, examples)):
            assert set(inputs["text"]) == {contents.TEXT.neutral}


def test_requests_are_read_as_they_were_written(path, tmp_path):
    file = warmup.write(path, ["a"])
    assert warmup.read(path) == list(requests(file))
    assert warmup.read(tmp_path) == []


def test_the_model_answers_every_request(path):
    model = tf.saved_model.load(str(path))
    for signature, inputs in requests(warmup.write(path, ["a", "b"], batch_sizes=(3,))):
        inputs = {name: tf.constant(rows) for name, rows in inputs.items()}
        answers = model.signatures[signature](**inputs)["text"]
        assert answers.numpy().tolist() == [b"A", b"B", b"A"]


def test_tensorflow_servings_own_protos_read_the_records(path):
    protos = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = warmup.write(path, ["a", "b"], batch_sizes=(1, 2))
    for record, (signature, inputs) in zip(records(file), requests(file), strict=True):
        log = protos.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.signature_name == signature
        found = {name: tf.make_ndarray(tensor).tolist() for name, tensor in request.inputs.items()}
        assert found == inputs
        # Nothing in it that they do not know; the entries of a map have no order.
        assert sorted(log.SerializeToString(deterministic=True)) == sorted(record)


def test_a_batch_size_below_one_is_refused(path):
    with pytest.raises(ValueError, match=r"`batch_sizes` must be positive, got .*\(1, 0\)"):
        warmup.write(path, batch_sizes=(1, 0))


def test_tensorflow_servings_own_protos_read_the_model_config():
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    file = Path(__file__).parents[2] / "deploy" / "models.config"
    parsed = text_format.Parse(file.read_text(encoding="utf-8"), config.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.base_path, model.version_labels["stable"]) == ("/models/" + model.name, 1)
