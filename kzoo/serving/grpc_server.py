"""The protocol over gRPC: KServe's service with versions, a key, TLS and limits."""

import functools
import logging
import ssl
from http import HTTPStatus
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc import aio
from kserve.protocol.grpc import grpc_predict_v2_pb2 as protos
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from kserve.protocol.grpc.servicer import InferenceServicer

from kzoo.serving import answers, connections, metrics, protocol, tracing
from kzoo.serving.calls import WINDOW_BYTES, Calls
from kzoo.serving.errors import Refused
from kzoo.serving.gate import Bodies, Key

_PREFIX = "/inference.GRPCInferenceService/"
_HEALTH = "grpc.health.v1.Health"  # what probes of Kubernetes and others call, with Check
_CHECK = f"/{_HEALTH}/Check"
_OPEN = {"ServerLive", "ServerReady", _CHECK}  # for probes, which have no key
_TRITONS_NAME = (2, 2)  # field, and wire type of strings; KServe's is field 1
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"  # HealthCheckResponse
_EMPTY = {*_OPEN, "ServerMetadata"}  # their messages say nothing, so they are not read
_CONTROL = {"RepositoryModelLoad", "RepositoryModelUnload"}
_MOST_OTHERS = 32  # open calls that are no inferences: of metadata, and those that load
_INFERENCES_READ, _OTHERS_READ = 8, 2  # at once: each may take --max_body_mb before it is whole
_SPARE_CALLS = 100  # of one connection, that get 429; any more the client holds back
_READING_SECONDS = 60  # of an answer, after the connection has reached its age
_NO_COMPRESSION = 1  # the bit of "identity": what is unpacked has no limit in gRPC
_CONNECTIONS = {  # times in milliseconds
    "server_handshake_timeout_ms": 1000 * connections.HANDSHAKE_SECONDS,  # without TLS, too
    "keepalive_time_ms": 60_000,  # after so long without a byte the client is asked
    "keepalive_timeout_ms": 10_000,  # for its answer
    "max_connection_idle_ms": 300_000,  # clients connect again by themselves
    "max_connection_age_ms": 3_600_000,
    "http2.bdp_probe": 0,  # with it the window of each message grows, to 16 MB and more
    "http2.lookahead_bytes": WINDOW_BYTES,
}
_LOGGER = logging.getLogger("kzoo.serving")


async def started(repository, options, dataplane, extension):
    """A gRPC server that runs.

    gRPC for Python has no limit of all memory. What bounds it: of a message that is not read a
    window of 64 KiB is kept, eight messages of inferences and two others are read at once, each of
    `max_body_mb` at most, and those that have been read have eight times as much together. So bytes
    that came in are 18 times `max_body_mb` at most, and 64 KiB for each further open call.

    Args:
        repository: SavedModels.
        options: dict of `host`, `grpc_port`, `api_key`, `max_body_mb`, `max_batch_size`,
            `max_queue`, `deadline_seconds`, `ssl_certfile` and `ssl_keyfile`.
        dataplane, extension: KServe's.
    """
    most, seconds = round(options["max_body_mb"] * 1e6), options["deadline_seconds"]
    server = aio.server(
        interceptors=[
            _Interceptor(options["api_key"], Bodies(most), options["max_queue"], seconds),
            *tracing.grpc_interceptors(),
        ],
        options=[
            *((f"grpc.{name}", value) for name, value in _CONNECTIONS.items()),
            # For answers that nobody reads.
            ("grpc.max_connection_age_grace_ms", round(1000 * (seconds + _READING_SECONDS))),
            ("grpc.max_allowed_incoming_connections", connections.Connection.most),
            ("grpc.max_concurrent_streams", options["max_queue"] + _SPARE_CALLS),
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", -1),
            ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION),
            ("grpc.so_reuseport", 0),
        ],
    )
    servicer = _Servicer(repository, dataplane, extension, options["max_batch_size"])
    service.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    checked = grpc.unary_unary_rpc_method_handler(
        functools.partial(_health, dataplane), bytes, bytes
    )
    health = grpc.method_handlers_generic_handler(_HEALTH, {"Check": checked})
    server.add_generic_rpc_handlers([health])
    host = f"[{options['host']}]" if ":" in options["host"] else options["host"]
    address = f"{host}:{options['grpc_port']}"
    if options["ssl_certfile"]:
        certificate = _Certificate(options["ssl_keyfile"], options["ssl_certfile"])
        first = certificate()
        server.add_secure_port(address, grpc.dynamic_ssl_server_credentials(first, certificate))
    else:
        server.add_insecure_port(address)
    await server.start()
    return server


async def _health(dataplane, request, context):
    """The health of the server as a whole, whatever service is asked for."""
    return _SERVING if await dataplane.ready() else _NOT_SERVING


class _Certificate:
    """What gRPC asks at each handshake: the certificate and its key where the files have changed,
    as where they are renewed, else None. Files that are not a pair yet are not taken.

    Args:
        key, certificate: paths.
    """

    def __init__(self, key, certificate):
        self._files, self._taken, self._said = (key, certificate), None, ""

    def __call__(self):
        try:
            pair = tuple(Path(file).read_bytes() for file in self._files)
            if pair == self._taken:
                return None
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*reversed(self._files))
        except OSError as error:  # an SSLError among them
            if self._taken is None:
                raise
            if str(error) != self._said:
                self._said = str(error)
                _LOGGER.warning("The certificate for gRPC stays as it was: %s", error)
            return None
        self._taken = pair
        return grpc.ssl_server_certificate_configuration([pair])


class _Interceptor(aio.ServerInterceptor):
    """Asks for the key before a message is read, and bounds the time and room that one takes.

    A Refused gets its status, and any other exception INTERNAL. Calls of health and metadata take
    no place of an inference, and those of health are always answered.

    Args:
        api_key: str or None, see `Key`.
        bodies: Bodies.
        max_queue: int, most inferences that are open at once.
        seconds: float, longest wait for a message.
    """

    def __init__(self, api_key, bodies, max_queue, seconds):
        self._key, self._bodies = Key(api_key), bodies
        self._inferences = Calls(max_queue, _INFERENCES_READ, seconds)
        self._others = Calls(_MOST_OTHERS, _OTHERS_READ, seconds)

    async def intercept_service(self, continuation, details):
        method = details.method.removeprefix(_PREFIX)
        metadata = dict(details.invocation_metadata or ())
        try:
            if method not in _OPEN:
                self._key.check(_bytes(metadata.get("authorization", "")), method in _CONTROL)
        except Refused as refused:
            return _refusing(refused)
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def answered(_, context):
            size, request = 0, None
            try:
                if method in _EMPTY:
                    request = handler.request_deserializer(b"")
                    return await handler.unary_unary(request, context)
                calls = self._inferences if method == "ModelInfer" else self._others
                with calls.place():
                    message = await calls.read(context)
                    size = len(message)
                    self._bodies.take(size)
                    request = _parsed(handler.request_deserializer, message)
                    del message  # the request has a copy of it
                    return await handler.unary_unary(request, context)
            except Refused as refused:
                status, text = refused.grpc_status, str(refused)
                if request is None:
                    metrics.REFUSED.labels(refused.status.value).inc()
            except Exception:
                _LOGGER.exception("%s failed.", method)
                status, text = grpc.StatusCode.INTERNAL, "the server failed, see its log"
            finally:
                self._bodies.held -= size
            await context.abort(status, text)

        # With a handler of one message gRPC would read it, however long that takes.
        return grpc.stream_unary_rpc_method_handler(
            answered, response_serializer=handler.response_serializer
        )


def _refusing(refused):
    """A handler that reads nothing."""
    metrics.REFUSED.labels(refused.status.value).inc()

    async def answered(_, context):
        await context.abort(refused.grpc_status, str(refused))

    return grpc.stream_unary_rpc_method_handler(answered)


def _parsed(deserializer, message):
    try:
        return deserializer(message)
    except DecodeError:
        raise Refused("The message must be as the protocol's protos have it.") from None


class _Servicer(InferenceServicer):
    """KServe's service, where versions, and requests, are kzoo's."""

    def __init__(self, repository, dataplane, extension, most_rows):
        super().__init__(dataplane, extension)
        self._repository, self._most_rows = repository, most_rows

    async def ModelReady(self, request, context):
        try:
            self._repository.find(request.name, request.version)
        except Refused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                raise
            return protos.ModelReadyResponse(ready=False)
        return protos.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request, context):
        model = self._repository.find(request.name, request.version)
        return protos.ModelMetadataResponse(
            name=model.name,
            versions=self._repository.versions(model.name),
            platform="tensorflow_savedmodel",
            inputs=model.get_input_types(),
            outputs=model.get_output_types(),
        )

    async def RepositoryModelLoad(self, request, context):
        name = _model_name(request)
        await self._repository.load(name)
        return protos.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def RepositoryModelUnload(self, request, context):
        name = _model_name(request)
        await self._repository.unload(name)
        return protos.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    async def ModelInfer(self, request, context):
        try:
            model = self._repository.find(request.model_name, request.model_version)
            parsed = protocol.grpc_request(request, self._most_rows)
        except Refused as refused:
            metrics.REFUSED.labels(refused.status.value).inc()
            raise
        outputs, _ = await model(parsed)
        answer = protos.ModelInferResponse(
            model_name=model.name, model_version=model.version, id=parsed.id
        )
        for name, values in outputs.items():
            datatype = answers.DATATYPES[values.dtype.name]
            answer.outputs.add(name=name, datatype=datatype, shape=values.shape)
            answer.raw_output_contents.append(answers.as_binary(values))
        return answer


def _model_name(request):
    """The model of a message that loads or unloads one; Triton's clients have it in field 2."""
    for field in UnknownFieldSet(request):
        if (field.field_number, field.wire_type) == _TRITONS_NAME and not request.model_name:
            return field.data.decode("utf-8", "replace")
    return request.model_name


def _bytes(value):
    return value if isinstance(value, bytes) else value.encode()
