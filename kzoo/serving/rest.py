"""The protocol over HTTP: KServe's server, with endpoints that know versions."""

import asyncio
from http import HTTPStatus

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from kserve import errors
from kserve.protocol.rest.server import RESTServer
from starlette.exceptions import HTTPException

from kzoo.serving import answers, connections, metrics, protocol, tracing
from kzoo.serving.errors import Refused, shown
from kzoo.serving.gate import Gate

_LENGTH_HEADER = "Inference-Header-Content-Length"


class Rest(RESTServer):
    """KServe's HTTP server with kzoo's endpoints before its own.

    Args:
        repository: SavedModels.
        options: dict of `host`, `port`, `api_key`, `metrics`, `max_body_mb`, `max_batch_size`,
            `deadline_seconds`, `grace_seconds`, `ssl_certfile` and `ssl_keyfile`.
        dataplane, extension: KServe's.
    """

    def __init__(self, repository, options, dataplane, extension):
        super().__init__(
            "kserve.model_server:app",
            dataplane,
            extension,
            options["port"],
            ssl_certfile=options["ssl_certfile"],
            ssl_keyfile=options["ssl_keyfile"],
        )
        self.config.host = options["host"]
        self.config.http = connections.Connection
        self.config.ws = "none"
        self.config.access_log = False
        self.config.server_header = False
        self.config.backlog = 2048
        self._repository, self._options = repository, options

    @property
    def server(self):
        """The uvicorn.Server."""
        return self._server

    async def start(self):
        """Serves until the uvicorn.Server shall exit."""
        if self._options["ssl_certfile"]:
            connections.limit_handshakes(asyncio.get_running_loop())
        await super().start()

    def _add_middlewares(self, app):
        tracing.instrument_app(app)
        app.add_middleware(
            Gate,
            api_key=self._options["api_key"],
            host=self._options["host"],
            max_body_mb=self._options["max_body_mb"],
            seconds=self._options["deadline_seconds"],
            metrics=self._options["metrics"],
        )

    def _register_endpoints(self, app):
        endpoints = _Endpoints(self._repository, self._options["max_batch_size"])
        v2, v1 = "/v2/models/{name}", "/v1/models/{name}"
        version = "/versions/{version}"
        for path in (f"{v2}/infer", f"{v2}{version}/infer"):
            app.add_api_route(path, endpoints.infer, methods=["POST"])
        for path in (f"{v1}:predict", *(f"{v1}/{kind}/{{version}}:predict" for kind in _KINDS)):
            app.add_api_route(path, endpoints.predict, methods=["POST"])
        app.add_api_route(v1, endpoints.ready, methods=["GET"])
        for path in (v2, f"{v2}{version}"):
            app.add_api_route(path, endpoints.metadata, methods=["GET"])
            app.add_api_route(f"{path}/ready", endpoints.ready, methods=["GET"])
        app.add_api_route("/v2/repository/index", endpoints.index, methods=["POST"])
        for what in (endpoints.load, endpoints.unload):
            path = f"/v2/repository/models/{{name}}/{what.__name__}"
            app.add_api_route(path, what, methods=["POST"])
        super()._register_endpoints(app)

    def _add_exception_handlers(self, app):
        super()._add_exception_handlers(app)
        for kind in (errors.ModelNotFound, errors.ModelNotReady, errors.ServerNotReady):
            app.add_exception_handler(kind, _not_there)  # KServe's log a traceback
        app.add_exception_handler(Refused, _refused)
        app.add_exception_handler(HTTPException, _no_route)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(Exception, _failed)


_KINDS = ("versions", "labels")


class _Endpoints:
    """What is answered under each path; versions may be labels."""

    def __init__(self, repository, most_rows):
        self._repository, self._most_rows = repository, most_rows

    async def infer(self, request: Request):
        """V2: tensors in, tensors out."""
        body = await request.body()
        length = request.headers.get(_LENGTH_HEADER)
        model, parsed, outputs = await self._answered(
            request, lambda model: protocol.v2_request(body, self._most_rows, length)
        )
        answer, json_length = answers.v2_answer(parsed, model.name, model.version, outputs)
        if json_length is None:
            return Response(answer, media_type="application/json")
        headers = {_LENGTH_HEADER: str(json_length)}
        return Response(answer, headers=headers, media_type="application/octet-stream")

    async def predict(self, request: Request):
        """V1: instances in, predictions out."""
        body = await request.body()
        _, _, outputs = await self._answered(
            request,
            lambda model: protocol.v1_request(body, model.runtime.arguments, self._most_rows),
        )
        return Response(answers.v1_answer(outputs), media_type="application/json")

    async def metadata(self, request: Request):
        """The inputs, outputs and versions of a model."""
        model = self._find(request)
        facts = {
            "name": model.name,
            "versions": self._repository.versions(model.name),
            "platform": "tensorflow_savedmodel",
            "inputs": model.get_input_types(),
            "outputs": model.get_output_types(),
        }
        return _json(facts)

    async def ready(self, request: Request):
        """Whether a model, or a version of it, answers."""
        return _json({"name": self._find(request).name, "ready": True})

    async def index(self):
        """The state of each version."""
        return _json(self._repository.index())

    async def load(self, name: str):
        """Takes the versions of a model that are in the folder now."""
        await self._repository.load(name)
        return _json({"name": name, "load": True})

    async def unload(self, name: str):
        """Lets go of a model."""
        await self._repository.unload(name)
        return _json({"name": name, "unload": True})

    def _find(self, request):
        return self._repository.find(**request.path_params)

    async def _answered(self, request, parse):
        try:
            model = self._find(request)
            parsed = parse(model)
        except Refused as refused:
            metrics.REFUSED.labels(refused.status.value).inc()
            raise
        outputs, _ = await model(parsed)
        return model, parsed, outputs


def _json(content, status=HTTPStatus.OK):
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _refused(request, refused):
    return _json({"error": str(refused)}, refused.status)


async def _no_route(request, error):
    """A path or a method that the protocol does not have."""
    message = f"{request.method} {shown(request.url.path)}: {error.detail}"
    return Response(
        orjson.dumps({"error": message}), error.status_code, error.headers,
        media_type="application/json",
    )  # fmt: skip


async def _not_there(request, error):
    is_unknown = isinstance(error, errors.ModelNotFound)
    status = HTTPStatus.NOT_FOUND if is_unknown else HTTPStatus.SERVICE_UNAVAILABLE
    return _json({"error": str(error)}, status)


async def _invalid(request, error):
    """400 with one line, where FastAPI has 422 and a tree."""
    where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors()[:5])
    return _json({"error": f"The request is not as the protocol has it: {where}"}, 400)


async def _failed(request, error):
    """A mistake of the server: its traceback is for the log."""
    return _json({"error": "the server failed, see its log"}, 500)
