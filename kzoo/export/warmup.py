"""Requests that a server sends to a model before its first user does.

TensorFlow Serving replays `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLog
protos, when it loads a model, and calls the model available after that. Tracing, table look-ups
and XLA's compilation are over by then.

The protos are those of tensorflow_serving/apis: prediction_log.proto, predict.proto, model.proto.
They are written here by their field numbers, since the package `tensorflow-serving-api` is for
clients and need not be installed where models are made; a test reads them with that package.
"""

from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2

from kzoo import contents, protos

MAX_EXAMPLES = 16  # of a batch; TensorFlow Serving replays at most 1,000 records
MAX_BYTES = 1 << 20  # of an example: each signature has it nine times


def write(path, examples=(), batch_sizes=(1, 8), neutral=contents.TEXT.neutral):
    """Writes warm-up requests for all signatures of a SavedModel into its folder.

    For each signature whose inputs are all `string` [N] there is a request of each batch size; its
    inputs beside the content are empty strings.

    Args:
        path: str or path of the SavedModel.
        examples: contents, str or bytes; the requests take turns with the first of those that have
            at most 1 MB.
        batch_sizes: ints, N of the requests.
        neutral: str or bytes, the content of the requests if there are no such examples.

    Returns:
        pathlib.Path of the file written.

    Raises:
        ValueError: a batch size is not positive.
    """
    if any(size < 1 for size in batch_sizes):
        raise ValueError(f"`batch_sizes` must be positive, got batch_sizes={batch_sizes}.")
    path = Path(path)
    examples = [each for each in examples if len(each) <= MAX_BYTES]
    texts = examples[:MAX_EXAMPLES] or [neutral]
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, (first, *others) in string_signatures(path):
            for size in batch_sizes:
                rows = {first: [texts[row % len(texts)] for row in range(size)]}
                rows |= {argument: [""] * size for argument in others}
                writer.write(_prediction_log(signature, rows))
    return file


def string_signatures(path):
    """The signatures of a SavedModel whose inputs are all `string` [N].

    Args:
        path: str or path of the SavedModel.

    Returns:
        list of (name of the signature, names of its inputs), "serving_default" and the content
        first, and last `language`, of which there may be one for all.
    """
    model = saved_model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())
    signatures = model.meta_graphs[0].signature_def
    main = [*signatures["serving_default"].inputs] if "serving_default" in signatures else []
    found = []
    for name, signature in signatures.items():
        if signature.inputs and all(
            info.dtype == tf.string.as_datatype_enum
            and (len(info.tensor_shape.dim) == 1 or argument == contents.LANGUAGE)
            for argument, info in signature.inputs.items()
        ):
            arguments = sorted(
                signature.inputs,
                key=lambda name: (name == contents.LANGUAGE, name not in main, name),
            )
            found.append((name, arguments))
    return sorted(found, key=lambda pair: (pair[0] != "serving_default", pair))


def _prediction_log(signature, rows):
    # signature_name; the server knows the model's name
    request = protos.field(1, protos.field(3, signature.encode()))
    for argument, texts in rows.items():
        tensor = tf.make_tensor_proto([tf.compat.as_bytes(text) for text in texts])
        entry = protos.field(1, argument.encode()) + protos.field(2, tensor.SerializeToString())
        request += protos.field(2, entry)  # of a map
    return protos.field(6, protos.field(1, request))  # PredictionLog.predict_log.request


def read(path):
    """The warm-up requests of a SavedModel that `write` wrote.

    Args:
        path: str or path of the SavedModel.

    Returns:
        list of (name of the signature, dict of lists of bytes by input); empty if there are none.
    """
    file = Path(path) / "assets.extra" / "tf_serving_warmup_requests"
    if not file.exists():
        return []
    return [_request(record.numpy()) for record in tf.data.TFRecordDataset(str(file))]


def _request(prediction_log):
    request = _parsed(_parsed(prediction_log)[6])[1]
    signature, rows = "", {}
    for number, field in protos.fields(request):
        message = _parsed(protos.content(field))
        if number == 1:
            signature = message[3].decode()
        else:  # 2, an entry of the map of inputs
            tensor = tensor_pb2.TensorProto.FromString(message[2])
            rows[message[1].decode()] = tf.make_ndarray(tensor).tolist()
    return signature, rows


def _parsed(message):
    return {number: protos.content(field) for number, field in protos.fields(message)}
