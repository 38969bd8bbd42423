"""The protocol over gRPC: KServe's service with versions, a key, TLS and limits."""

import logging
from http import HTTPStatus
from pathlib import Path

import grpc
from grpc import aio
from kserve.protocol.grpc import grpc_predict_v2_pb2 as protos
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from kserve.protocol.grpc.servicer import InferenceServicer

from kzoo.serving import answers, metrics, protocol, tracing
from kzoo.serving.errors import Refused
from kzoo.serving.gate import Key

_PREFIX = "/inference.GRPCInferenceService/"
_OPEN = {"ServerLive", "ServerReady"}  # for probes, which have no key
_CONTROL = {"RepositoryModelLoad", "RepositoryModelUnload"}
_NO_COMPRESSION = 1  # the bit of "identity": what is unpacked has no limit in gRPC
_LOGGER = logging.getLogger("kzoo.serving")


async def started(repository, options, dataplane, extension):
    """A gRPC server that runs.

    Args:
        repository: SavedModels.
        options: dict of `host`, `grpc_port`, `api_key`, `max_body_mb`, `max_queue`,
            `ssl_certfile` and `ssl_keyfile`.
        dataplane, extension: KServe's.
    """
    most = round(options["max_body_mb"] * 1e6)
    server = aio.server(
        interceptors=[*tracing.grpc_interceptors(), _Interceptor(options["api_key"])],
        options=[
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", -1),
            ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION),
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=options["max_queue"],
    )
    servicer = _Servicer(repository, dataplane, extension)
    service.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    host = f"[{options['host']}]" if ":" in options["host"] else options["host"]
    address = f"{host}:{options['grpc_port']}"
    if options["ssl_certfile"]:
        files = (options["ssl_keyfile"], options["ssl_certfile"])
        pair = tuple(Path(file).read_bytes() for file in files)
        server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        server.add_insecure_port(address)
    await server.start()
    return server


class _Interceptor(aio.ServerInterceptor):
    """Asks for the key; gives a Refused its status, and any other exception INTERNAL."""

    def __init__(self, api_key):
        self._key = Key(api_key)

    async def intercept_service(self, continuation, details):
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = details.method.removeprefix(_PREFIX)
        metadata = dict(details.invocation_metadata or ())

        async def answered(request, context):
            try:
                if method not in _OPEN:
                    authorization = metadata.get("authorization", "")
                    self._key.check(_bytes(authorization), method in _CONTROL)
                return await handler.unary_unary(request, context)
            except Refused as refused:
                status, message = refused.grpc_status, str(refused)
            except Exception:
                _LOGGER.exception("%s failed.", method)
                status, message = grpc.StatusCode.INTERNAL, "the server failed, see its log"
            await context.abort(status, message)

        return grpc.unary_unary_rpc_method_handler(
            answered,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class _Servicer(InferenceServicer):
    """KServe's service, where versions, and requests, are kzoo's."""

    def __init__(self, repository, dataplane, extension):
        super().__init__(dataplane, extension)
        self._repository = repository

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
        await self._repository.load(request.model_name)
        return protos.RepositoryModelLoadResponse(model_name=request.model_name, isLoaded=True)

    async def RepositoryModelUnload(self, request, context):
        await self._repository.unload(request.model_name)
        return protos.RepositoryModelUnloadResponse(model_name=request.model_name, isUnloaded=True)

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


def _bytes(value):
    return value if isinstance(value, bytes) else value.encode()
