"""Serves a folder of exported models over HTTP and gRPC: `kzoo serve saved_models`.

MLServer speaks the open inference protocol (KServe v2), with health, metrics and the model
repository; this module is the runtime that it calls for a SavedModel. Batches are formed by
TensorFlow's own scheduler, the one in TensorFlow Serving, since MLServer's counts requests instead
of rows, mixes signatures in a batch, and fails a batch whose first request was cancelled.

Needs the extra `serving`.
"""

import asyncio
import logging
from http import HTTPStatus

import grpc
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from mlserver import MLServer
from mlserver.errors import MLServerError, ModelNotFound, ModelNotReady
from mlserver.grpc.utils import STATUS_CODE_MAPPING
from mlserver.repository import ModelRepository
from mlserver.rest.responses import Response
from mlserver.settings import ModelParameters, ModelSettings, Settings

from kzoo.serving import command
from kzoo.serving.folder import find_models

STATUS_CODE_MAPPING |= {
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def main(arguments=None):
    """Runs the command line of `kzoo serve` until SIGTERM or SIGINT.

    Args:
        arguments: list of str after "serve"; by default those of this process.

    Raises:
        SystemExit: with code 2 and a message if there is nothing to serve or a port is taken, with
            code 1 if a model cannot be loaded.
    """
    run(**command.parsed(arguments))


def run(*, folder, host, port, grpc_port, metrics_port, **options):
    """Serves a folder until SIGTERM or SIGINT; the arguments are those of `kzoo serve`.

    Raises:
        SystemExit: with code 1 if a model cannot be loaded.
    """
    settings = Settings(
        debug=False,
        host=host,
        http_port=port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        grpc_max_message_length=64 << 20,  # bytes; pictures and sound are longer than texts
        parallel_workers=0,  # TensorFlow has threads of its own, and models share its memory
        model_repository_root=str(folder),
        model_repository_implementation=SavedModels,
        model_repository_implementation_args=options,
        server_name="kzoo",
    )
    if not asyncio.run(_serve(settings, options["deadline_seconds"])):
        raise SystemExit(1)


class SavedModels(ModelRepository):
    """MLServer's view of the folder; a new version is taken by the repository's `load`."""

    def __init__(self, root, **options):
        self._root, self._options = root, options

    async def list(self):
        """The settings of all models."""
        return [
            ModelSettings(
                name=name,
                platform="tensorflow_savedmodel",
                versions=[version],
                implementation="kzoo.serving.SavedModelRuntime",
                parameters=ModelParameters(uri=str(path), version=version, extra=self._options),
            )
            for name, version, path in find_models(self._root, self._options["versions"])
        ]

    async def find(self, name):
        """The settings of all versions of a model."""
        found = [settings for settings in await self.list() if settings.name == name]
        if not found:
            raise ModelNotFound(name)
        return found


class _Server(MLServer):
    """MLServer that answers what is in flight before it stops."""

    deadline_seconds = 30.0
    _is_stopping = False

    async def stop(self, sig=None):
        if self._is_stopping:  # uvicorn raises the signal again
            return
        self._is_stopping = True
        models = list(await self._model_registry.get_models())
        for model in models:
            model.is_draining = True
        for _ in range(int(20 * self.deadline_seconds)):
            if not any(getattr(model, "in_flight", 0) for model in models):
                break
            await asyncio.sleep(0.05)
        await super().stop(sig)


async def _serve(settings, deadline_seconds):
    """Runs the server; True if it was stopped by a signal."""
    logging.getLogger("mlserver.grpc").addFilter(_without_traceback)
    server = _Server(settings)
    server.deadline_seconds = deadline_seconds
    app: FastAPI = server._rest_server._app
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(ModelNotReady, _not_ready)
    models = await server._model_repository.list()
    await server.start(models)
    return len(list(await server._model_registry.get_models())) >= len(models)


async def _bad_request(request, error):
    """400 with one line, where FastAPI has 422 and a tree."""
    where = {".".join(map(str, e["loc"])): e["msg"] for e in error.errors()}
    text = "; ".join(f"`{place}`: {message}" for place, message in where.items())
    return Response({"error": f"The request is not as the protocol has it: {text}"}, 400)


async def _not_ready(request, error):
    """503, so that clients come back, where MLServer has 400."""
    return Response({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)


def _without_traceback(record):
    """A client's mistake is one line in the log."""
    if record.exc_info and isinstance(record.exc_info[1], MLServerError):
        record.exc_info = None
    return True
