"""The warm-up requests as TensorFlow Serving reads them, and what it would answer."""

from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops that a loaded model runs)
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2

from kzoo import protos, warmup

SIGNATURES = ["serving_default", "n_best", "other"]


class Model(tf.Module):
    """Texts in, texts out under three names, and a signature with another kind of input."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def upper(self, text):
        return {"text": tf.strings.upper(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="audio")])
    def stream(self, audio):
        return {"sum": tf.reduce_sum(audio)}


@pytest.fixture
def path(tmp_path):
    model, path = Model(), tmp_path / "model"
    functions = {**dict.fromkeys(SIGNATURES, model.upper), "stream": model.stream}
    tf.saved_model.save(model, str(path), signatures=functions)
    return path


def records(file):
    return [record.numpy() for record in tf.data.TFRecordDataset(str(file))]


def parsed(message):
    return {number: protos.content(field) for number, field in protos.fields(message)}


def requests(file):
    """Yields signature, input's name and tensor of each request, by the published numbers."""
    for record in records(file):
        request = parsed(parsed(parsed(record)[6])[1])
        entry = parsed(request[2])
        tensor = tensor_pb2.TensorProto.FromString(entry[2])
        yield parsed(request[1])[3].decode(), entry[1].decode(), tf.make_ndarray(tensor).tolist()


def test_there_is_a_request_of_each_size_for_each_signature_that_takes_texts(path):
    file = warmup.write(path, ["a", "é", b"\xff"], batch_sizes=(1, 5))
    assert file == path / "assets.extra" / "tf_serving_warmup_requests"
    texts = [b"a", "é".encode(), b"\xff", b"a", "é".encode()]
    assert list(requests(file)) == [
        (signature, "text", batch)
        for signature in ["serving_default", "n_best", "other"]
        for batch in (texts[:1], texts)
    ]


def test_without_examples_the_text_is_neutral(path):
    for _, _, batch in requests(warmup.write(path)):
        assert set(batch) == {warmup.NEUTRAL_TEXT.encode()}


def test_requests_are_read_as_they_were_written(path, tmp_path):
    expected = [(signature, batch) for signature, _, batch in requests(warmup.write(path, ["a"]))]
    assert warmup.read(path) == expected
    assert warmup.read(tmp_path) == []


def test_the_model_answers_every_request(path):
    model = tf.saved_model.load(str(path))
    for signature, argument, batch in requests(warmup.write(path, ["a", "b"], batch_sizes=(3,))):
        answers = model.signatures[signature](**{argument: tf.constant(batch)})["text"]
        assert answers.numpy().tolist() == [b"A", b"B", b"A"]


def test_tensorflow_servings_own_protos_read_the_records(path):
    protos = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = warmup.write(path, ["a", "b"], batch_sizes=(1, 2))
    for record, (signature, argument, batch) in zip(records(file), requests(file), strict=True):
        log = protos.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.signature_name == signature
        assert list(request.inputs) == [argument]
        assert tf.make_ndarray(request.inputs[argument]).tolist() == batch
        assert log.SerializeToString() == record  # nothing in it that they do not know


def test_a_batch_size_below_one_is_refused(path):
    with pytest.raises(ValueError, match=r"`batch_sizes` must be positive, got .*\(1, 0\)"):
        warmup.write(path, batch_sizes=(1, 0))


def test_tensorflow_servings_own_protos_read_the_model_config():
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    file = Path(__file__).parents[1] / "deploy" / "models.config"
    parsed = text_format.Parse(file.read_text(encoding="utf-8"), config.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.base_path, model.version_labels["stable"]) == ("/models/" + model.name, 1)
