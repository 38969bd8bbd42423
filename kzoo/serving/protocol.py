"""The open inference protocol's V1 and V2: what is asked, requests -> rows. N rows."""

import base64
import binascii
import gc
import struct
from typing import NamedTuple

import orjson

from kzoo.contents import LANGUAGE
from kzoo.serving import limits
from kzoo.serving.errors import Refused, shown

_MOST_TENSORS = 64  # of a request; a hostile one has a million, each without elements
LENGTH = struct.Struct("<I")  # before each element of a binary tensor


class Tensor(NamedTuple):
    """An input of a request: name str, datatype str, shape list of int, data list."""

    name: str
    datatype: str
    shape: list
    data: list
    content_type: str = "str"  # or "base64"


class Request(NamedTuple):
    """A request of either version of the protocol, over HTTP or gRPC."""

    signature: str
    inputs: list  # of Tensor
    outputs: list  # of names; empty for all
    id: str = ""
    binary: frozenset = frozenset()  # names of outputs wanted in binary; None for all


def from_json(body):
    """The JSON object of a request. Raises Refused, status 400."""
    was_enabled = gc.isenabled()
    gc.disable()  # for a million small objects it would look through the models ten times
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"The body must be JSON: {error}.") from None
    finally:
        if was_enabled:
            gc.enable()
    if not isinstance(parsed, dict):
        raise Refused(f"The body must be a JSON object, got {shown(parsed)}.")
    return parsed


def v2_request(body, most_rows, header_length=None):
    """The Request of a V2 body.

    Args:
        body: bytes, JSON, after which there may be binary tensors.
        most_rows: int, most elements of a binary tensor.
        header_length: str or None, of the header Inference-Header-Content-Length: bytes of JSON.

    Raises:
        Refused: status 400.
    """
    length = len(body)
    if header_length is not None:
        is_number = header_length.isascii() and header_length.isdigit() and len(header_length) < 12
        if not is_number or int(header_length) > length:
            raise Refused(
                f"Inference-Header-Content-Length must be at most {length}, the bytes of the body, "
                f"got {shown(header_length)}."
            )
        length = int(header_length)
    parsed, rest = from_json(body[:length]), memoryview(body)[length:]
    parameters = _typed(parsed, "parameters", dict, {})
    inputs = []
    for tensor in _few("inputs", _typed(parsed, "inputs", list)):
        tensor, rest = _v2_tensor(tensor, rest, most_rows)
        inputs.append(tensor)
    outputs = _few("outputs", _typed(parsed, "outputs", list, []))
    outputs = [_checked(output, "outputs", dict) for output in outputs]
    names = [_typed(output, "name", str) for output in outputs]
    are_binary = parameters.get("binary_data_output")  # unless an output says otherwise
    binary = {
        name
        for name, output in zip(names, outputs, strict=True)
        if _typed(output, "parameters", dict, {}).get("binary_data", are_binary)
    }
    signature = _typed(parameters, "signature", str, "serving_default")
    binary = None if are_binary and not outputs else frozenset(binary)
    return Request(signature, inputs, names, _typed(parsed, "id", str, ""), binary)


def _few(name, tensors):
    if len(tensors) > _MOST_TENSORS:
        raise Refused(f"`{name}` must have at most {_MOST_TENSORS} tensors, got {len(tensors)}.")
    return tensors


def _v2_tensor(tensor, rest, most_rows):
    """A Tensor, and what is left of the binary data."""
    tensor = _checked(tensor, "inputs", dict)
    name, datatype = _typed(tensor, "name", str), _typed(tensor, "datatype", str)
    shape = _typed(tensor, "shape", list)
    parameters = _typed(tensor, "parameters", dict, {})
    size = parameters.get("binary_data_size")
    if size is None:
        data = _typed(tensor, "data", list)
    elif isinstance(size, int) and 0 <= size <= len(rest):
        data, rest = _elements(name, bytes(rest[:size]), most_rows), rest[size:]
    else:
        raise Refused(
            f"`binary_data_size` of {shown(name)} must be at most {len(rest)}, the bytes that "
            f"follow, got {shown(size)}."
        )
    content_type = parameters.get("content_type", "str")
    return Tensor(name, datatype, shape, data, content_type), rest


def _elements(name, data, most_rows):
    """The elements of a binary tensor of BYTES."""
    found, at = [], 0
    while at < len(data):
        if len(found) == most_rows:
            raise Refused(f"{_shape_of(name, most_rows)}, got more.")
        start = at + LENGTH.size
        end = start + (LENGTH.unpack_from(data, at)[0] if start <= len(data) else 0)
        if start > len(data) or end > len(data):
            raise Refused(f"the binary data of {shown(name)} must end with an element.")
        found.append(data[start:end])
        at = end
    return found


def v1_request(body, arguments, most_rows):
    """The Request of a V1 body, as TensorFlow Serving takes it.

    Args:
        body: bytes, JSON: {"instances": [...], "signature_name": "..."}. An instance is a text,
            {"b64": "..."}, or an object of one of these by the name of each input.
        arguments: dict of lists of str, names of the inputs by signature, the content first.
        most_rows: int, most instances.

    Raises:
        Refused: status 400.
    """
    parsed = from_json(body)
    signature = _typed(parsed, "signature_name", str, "serving_default")
    instances = _typed(parsed, "instances", list)
    if len(instances) > most_rows:
        raise Refused(f"`instances` must have at most {most_rows} rows, got {len(instances)}.")
    first = arguments.get(signature, ["text"])[0]
    rows = [row if _is_row(row) else {first: row} for row in instances]
    names = _few("inputs", list(dict.fromkeys(name for row in rows for name in row)))
    if any(len(row) != max(len(names), 1) for row in rows):
        raise Refused("`instances` must all have the same inputs, got some without.")
    data = {name: [_plain(name, row[name]) for row in rows] for name in names or [first]}
    inputs = [Tensor(name, "BYTES", [len(rows)], of_one) for name, of_one in data.items()]
    return Request(signature, inputs, [])


def _is_row(row):
    return isinstance(row, dict) and "b64" not in row


def _plain(name, value):
    is_encoded = isinstance(value, dict) and set(value) == {"b64"}
    return _decoded(name, value["b64"], "base64") if is_encoded else value


def grpc_request(message, most_rows):
    """The Request of a ModelInferRequest proto of at most `most_rows` elements in each tensor.

    Raises:
        Refused: status 400.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise Refused(
            f"`raw_input_contents` must have as many elements as `inputs`, got {len(raw)} "
            f"and {len(message.inputs)}."
        )
    inputs = []
    for turn, tensor in enumerate(_few("inputs", message.inputs)):
        _check_most(tensor.name, len(tensor.contents.bytes_contents), most_rows)
        data = [*tensor.contents.bytes_contents]
        if raw and tensor.datatype == "BYTES":
            data = _elements(tensor.name, raw[turn], most_rows)
        content_type = tensor.parameters["content_type"].string_param or "str"
        shape = [*tensor.shape]
        inputs.append(Tensor(tensor.name, tensor.datatype, shape, data, content_type))
    signature = "serving_default"
    if "signature" in message.parameters:
        signature = message.parameters["signature"].string_param
    outputs = [output.name for output in _few("outputs", message.outputs)]
    return Request(signature, inputs, outputs, message.id)


def rows_of(request, arguments, options):
    """The rows of each input of a signature, checked.

    Args:
        request: Request.
        arguments: list of str, names of the signature's inputs, the content first.
        options: dict of `max_batch_size` and the limits of `limits.check`.

    Returns:
        dict of lists of bytes.

    Raises:
        Refused: status 400.
    """
    names = [tensor.name for tensor in request.inputs]
    is_left_out = LANGUAGE in arguments and LANGUAGE not in names
    if sorted([*names, *[LANGUAGE] * is_left_out]) != sorted(arguments):
        wanted = " and ".join(repr(argument) for argument in arguments)
        wanted = wanted.replace(f"and '{LANGUAGE}'", f"and perhaps '{LANGUAGE}'")
        kind = "one tensor" if len(arguments) == 1 else "tensors"
        raise Refused(f"`inputs` must be {kind} named {wanted}, got {shown(names)}.")
    rows = {tensor.name: _rows(tensor, options) for tensor in request.inputs}
    if LANGUAGE in arguments and len(languages := rows.get(LANGUAGE, [b""])) == 1:
        rows[LANGUAGE] = languages * len(rows[arguments[0]])
    counts = {argument: len(of_one) for argument, of_one in rows.items()}
    if len(set(counts.values())) > 1:
        raise Refused(f"`inputs` must have the same number of rows, got {counts}.")
    return rows


def _rows(tensor, options):
    name, data, most = tensor.name, tensor.data, options["max_batch_size"]
    if tensor.datatype != "BYTES":
        raise Refused(f"`datatype` of {name!r} must be BYTES, got {shown(tensor.datatype)}.")
    _check_most(name, len(data), most)
    if data and all(isinstance(row, list) and len(row) == 1 for row in data):
        data = [row[0] for row in data]  # the protocol allows a nested list
    if tensor.shape not in ([len(data)], [len(data), 1]):
        raise Refused(
            f"`shape` of {name!r} must be [N] for N={len(data)} elements, "
            f"got {shown(tensor.shape)}."
        )
    if not data:
        raise Refused(f"{_shape_of(name, most)}, got [0].")
    rows = [_decoded(name, row, tensor.content_type) for row in data]
    for row in rows:
        limits.check(name, row, options)
    return rows


def _check_most(name, count, most_rows):
    if count > most_rows:
        raise Refused(f"{_shape_of(name, most_rows)}, got [{count}].")


def _shape_of(name, most_rows):
    return f"`shape` of {name!r} must be [N] with N from 1 to {most_rows}"


def _decoded(name, row, content_type):
    if not isinstance(row, str | bytes):
        raise Refused(f"`data` of {name!r} must hold strings, got {shown(row)}.")
    row = row.encode() if isinstance(row, str) else row
    if content_type == "str":
        return row
    if content_type != "base64":
        raise Refused(f'`content_type` must be "str" or "base64", got {shown(content_type)}.')
    try:
        return base64.b64decode(row, validate=True)
    except binascii.Error as error:
        raise Refused(f"`data` of {name!r} must be valid base64: {error}.") from None


def _typed(holder, name, kind, default=None):
    """A member of a JSON object, of a type; raises Refused, status 400."""
    value = holder.get(name)
    if value is None and default is not None:
        return default
    return _checked(value, name, kind)


def _checked(value, name, kind):
    if not isinstance(value, kind):
        kinds = {dict: "an object", list: "a list", str: "a string"}
        of = " of objects" if kind is dict and name in ("inputs", "outputs") else ""
        wanted = "a list" + of if of else kinds[kind]
        raise Refused(f"`{name}` must be {wanted}, got {shown(value)}.")
    return value
