"""The runtime that MLServer calls for a SavedModel: checks, batches, deadlines, refusals."""

import asyncio
import base64
import binascii
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import numpy as np
import tensorflow as tf
from mlserver import MLModel
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse, MetadataTensor, Parameters, ResponseOutput
from prometheus_client import Counter, Gauge

from kzoo.contents import LANGUAGE
from kzoo.export import batch_requests, ops, warmup

_DATATYPES = {tf.string: "BYTES", tf.float32: "FP32", tf.int32: "INT32", tf.int64: "INT64"}
_IN_FLIGHT = Gauge("kzoo_requests_in_flight", "Requests waiting or computed", ["model"])
_REFUSED = Counter("kzoo_requests_refused", "Requests not answered", ["model", "reason"])


class SavedModelRuntime(MLModel):
    """A SavedModel whose signatures take `string` [N], mostly one, as MLServer runs it.

    The request's parameter "signature" picks the signature; "content_type": "base64" of the input
    says that its elements are base64. Texts are also taken as they are, str or bytes. The input
    `language`, of a model of several, may be left out, or be one for all texts of a request.
    """

    async def load(self):
        """Loads the model and answers its warm-up requests; other models go on meanwhile."""
        options = self.settings.parameters.extra
        self.is_draining, self.in_flight = False, 0
        self._max_rows, self._max_queue = options["max_batch_size"], options["max_queue"]
        self._deadline_seconds = options["deadline_seconds"]
        self._turns = threading.Semaphore(options["batch_threads"])
        self._threads = ThreadPoolExecutor(self._max_queue, thread_name_prefix=self.name)
        loop = asyncio.get_running_loop()
        path = Path(self.settings.parameters.uri)
        self._signatures = await loop.run_in_executor(self._threads, self._load, path, options)
        _, arguments, _ = self._signatures["serving_default"]
        self.inputs = [
            MetadataTensor(name=name, datatype="BYTES", shape=[-1]) for name in arguments
        ]
        self.outputs = [
            MetadataTensor(name=name, datatype=_DATATYPES[spec.dtype], shape=[-1])
            for name, spec in self._model.signatures["serving_default"].structured_outputs.items()
        ]
        return True

    def _load(self, path, options):
        ops.register()
        self._model = tf.saved_model.load(str(path))  # the signatures do not keep it alive
        signatures = dict(warmup.string_signatures(path))
        if len({*signatures.get("serving_default", [])} - {LANGUAGE}) != 1:
            raise ValueError(f"{str(path)!r} has no signature serving_default of one string [N].")
        functions = {}
        for name, arguments in signatures.items():
            alone = self._model.signatures[name]
            functions[name] = alone, arguments, _batched(alone, arguments, options)
        for name, inputs in warmup.read(path):
            if name in functions:
                rows = {argument: rows[: self._max_rows] for argument, rows in inputs.items()}
                self._run(functions[name], rows)
        return functions

    async def unload(self):
        """Lets go of the model; requests in flight are still answered."""
        self._threads.shutdown(wait=False)
        return True

    async def predict(self, payload):
        """Answers a request, or raises an MLServerError with its HTTP status."""
        name, rows = self._checked(payload)
        if self.is_draining:
            raise self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server is shutting down")
        if self.in_flight >= self._max_queue:
            message = f"{self._max_queue} requests are waiting already, try again later"
            raise self._refusal(HTTPStatus.TOO_MANY_REQUESTS, message)
        loop = asyncio.get_running_loop()
        self._count(1)
        future = self._threads.submit(self._run, self._signatures[name], rows)
        # Also when nobody waits for it any more: until then it takes a place in the queue.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._count, -1))
        try:
            waiting = asyncio.wrap_future(future)
            outputs = await asyncio.wait_for(waiting, self._deadline_seconds)
        except (TimeoutError, asyncio.TimeoutError):
            message = f"no answer within {self._deadline_seconds} seconds"
            raise self._refusal(HTTPStatus.GATEWAY_TIMEOUT, message) from None
        except tf.errors.InvalidArgumentError as error:
            raise MLServerError(f"The model refuses this input: {error.message}") from error
        wanted = [output.name for output in payload.outputs or []] or outputs
        if unknown := set(wanted) - set(outputs):
            raise MLServerError(f"`outputs` must be among {[*outputs]}, got {sorted(unknown)}.")
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[_encoded(output, outputs[output]) for output in wanted],
        )

    def _run(self, functions, inputs):
        """Outputs by name, arrays, computed in one of the threads."""
        alone, arguments, batched = functions
        inputs = {argument: tf.constant(inputs[argument], tf.string) for argument in arguments}
        if batched is not None:
            try:
                outputs = batched(*inputs.values())
                return {name: tensor.numpy() for name, tensor in outputs.items()}
            except tf.errors.InvalidArgumentError:
                pass  # of a neighbour in the batch, perhaps
        with self._turns:
            return {name: tensor.numpy() for name, tensor in alone(**inputs).items()}

    def _checked(self, payload):
        """The name of the signature and the rows of each input; raises status 400."""
        parameters = payload.parameters.model_extra if payload.parameters else {}
        signature = parameters.get("signature", "serving_default")
        if signature not in self._signatures:
            raise MLServerError(
                f"`signature` must be one of {sorted(self._signatures)}, got {signature!r}."
            )
        arguments = self._signatures[signature][1]
        names = [tensor.name for tensor in payload.inputs]
        is_left_out = LANGUAGE in arguments and LANGUAGE not in names
        if sorted([*names, *[LANGUAGE] * is_left_out]) != sorted(arguments):
            wanted = " and ".join(repr(argument) for argument in arguments)
            wanted = wanted.replace(f"and '{LANGUAGE}'", f"and perhaps '{LANGUAGE}'")
            kind = "one tensor" if len(arguments) == 1 else "tensors"
            raise MLServerError(f"`inputs` must be {kind} named {wanted}, got {names}.")
        rows = {tensor.name: self._rows(tensor) for tensor in payload.inputs}
        if LANGUAGE in arguments and len(languages := rows.get(LANGUAGE, [b""])) == 1:
            rows[LANGUAGE] = languages * len(rows[arguments[0]])
        counts = {argument: len(of_one) for argument, of_one in rows.items()}
        if len(set(counts.values())) > 1:
            raise MLServerError(f"`inputs` must have the same number of rows, got {counts}.")
        return signature, rows

    def _rows(self, tensor):
        """The elements of a tensor [N], a list of bytes; raises status 400."""
        argument = tensor.name
        datatype = getattr(tensor.datatype, "value", tensor.datatype)  # an Enum over HTTP
        if datatype != "BYTES":
            raise MLServerError(f"`datatype` of {argument!r} must be BYTES, got {datatype!r}.")
        rows = _flat(tensor.data.root)
        if tensor.shape not in ([len(rows)], [len(rows), 1]):
            raise MLServerError(
                f"`shape` of {argument!r} must be [N] for N={len(rows)} elements, "
                f"got {tensor.shape}."
            )
        if not 1 <= len(rows) <= self._max_rows:
            raise MLServerError(
                f"`shape` of {argument!r} must be [N] with N from 1 to {self._max_rows}, "
                f"got {tensor.shape}."
            )
        content_type = (tensor.parameters and tensor.parameters.content_type) or "str"
        return [_decoded(argument, row, content_type) for row in rows]

    def _count(self, change):
        self.in_flight += change
        _IN_FLIGHT.labels(self.name).set(self.in_flight)

    def _refusal(self, status, message):
        _REFUSED.labels(self.name, status.phrase).inc()
        return MLServerError(f"Model {self.name!r}: {message}.", status)


def _batched(function, arguments, options):
    """A signature that answers requests together, or None if it cannot or shall not.

    Rows are put together, so that what else is in the batch must not show in the outputs' shapes.
    """
    outputs = function.structured_outputs
    is_fixed = all(spec.shape[1:].is_fully_defined() for spec in outputs.values())
    if options["max_batch_size"] == 1 or not is_fixed:
        return None
    names = ("max_batch_size", "max_delay_ms", "batch_threads", "max_queue")
    return batch_requests(
        lambda *rows: function(**dict(zip(arguments, rows, strict=True))),
        inputs=len(arguments),
        **{name: options[name] for name in names},
    )


def _flat(data):
    """The elements of a list, which the protocol allows to be nested."""
    if not isinstance(data, list):
        raise MLServerError(f"`data` must be a list, got {data!r}.")
    if data and all(isinstance(row, list) and len(row) == 1 for row in data):
        data = [row[0] for row in data]
    return data


def _decoded(argument, row, content_type):
    if not isinstance(row, str | bytes):
        raise MLServerError(f"`data` of {argument!r} must hold strings, got {row!r}.")
    row = row.encode() if isinstance(row, str) else row
    if content_type == "str":
        return row
    if content_type != "base64":
        raise MLServerError(f'`content_type` must be "str" or "base64", got {content_type!r}.')
    try:
        return base64.b64decode(row, validate=True)
    except binascii.Error as error:
        raise MLServerError(f"`data` of {argument!r} must be valid base64: {error}.") from error


def _encoded(name, values):
    flat = values.ravel()
    if values.dtype == object:  # bytes; not UTF-8 perhaps, where a token is part of a character
        flat = [value.decode(errors="replace").encode() for value in flat]
        datatype, parameters = "BYTES", Parameters(content_type="str")
    else:
        datatype, parameters = _DATATYPES[tf.as_dtype(values.dtype)], None
        if datatype == "FP32":  # JSON has no -inf, the score of a hypothesis that there is not
            flat = np.maximum(flat, np.finfo(np.float32).min)
        flat = flat.tolist()
    return ResponseOutput(
        name=name, shape=list(values.shape), datatype=datatype, data=flat, parameters=parameters
    )
