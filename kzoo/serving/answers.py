"""The open inference protocol's V1 and V2: what is answered, arrays -> bodies. N rows."""

import uuid

import numpy as np
import orjson

from kzoo.serving import protocol
from kzoo.serving.errors import Refused, shown

DATATYPES = {"object": "BYTES", "float32": "FP32", "int32": "INT32", "int64": "INT64"}


def chosen(request, outputs):
    """The outputs that a request asks for. Raises Refused, status 400."""
    if unknown := set(request.outputs) - set(outputs):
        names = shown(sorted(unknown))
        raise Refused(f"`outputs` must be among {[*outputs]}, got {names}.")
    return {name: outputs[name] for name in request.outputs or outputs}


def writable(values):
    """An array as JSON can write it: UTF-8, and no infinities.

    A piece may be a part of a character, and the score of a hypothesis that there is not is -inf.
    """
    if values.dtype == object:
        flat = [value.decode(errors="replace").encode() for value in values.ravel()]
        return np.array(flat, object).reshape(values.shape)
    return np.maximum(values, np.finfo(np.float32).min) if values.dtype == np.float32 else values


def v2_answer(request, name, version, outputs):
    """The body of a V2 answer over HTTP.

    Returns:
        body: bytes. json_length: int, if binary tensors follow the JSON, else None.
    """
    tensors, binary = [], []
    for output, values in outputs.items():
        tensor = {
            "name": output,
            "shape": [*values.shape],
            "datatype": DATATYPES[values.dtype.name],
        }
        if request.binary is None or output in request.binary:
            binary.append(as_binary(values))
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        elif values.dtype == object:
            tensor["data"] = [value.decode() for value in values.ravel()]
        else:
            tensor["data"] = values.ravel().tolist()
        tensors.append(tensor)
    identity = {"id": request.id or str(uuid.uuid4()), "model_name": name, "model_version": version}
    body = orjson.dumps({**identity, "outputs": tensors})
    return b"".join([body, *binary]), len(body) if binary else None


def v1_answer(outputs):
    """The body of a V1 answer: an object for each row, or its value if there is one output."""
    lists = {
        name: _as_text(values.tolist()) if values.dtype == object else values.tolist()
        for name, values in outputs.items()
    }
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    if len(lists) == 1:
        (rows,) = lists.values()
    return orjson.dumps({"predictions": rows})


def _as_text(values):
    return [v.decode() if isinstance(v, bytes) else _as_text(v) for v in values]


def as_binary(values):
    """The bytes of an array in the protocol's binary form."""
    if values.dtype != object:
        return values.astype(values.dtype.newbyteorder("<")).tobytes()
    return b"".join(protocol.LENGTH.pack(len(value)) + value for value in values.ravel())
