"""Serves a folder of exported models over HTTP and gRPC: `kzoo serve saved_models`.

KServe's Python server speaks the open inference protocol, V1 and V2; kzoo adds the runtime for a
SavedModel, batches by TensorFlow's own scheduler, versions, and limits for whatever comes in.

Needs the extra `serving`.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading

from kzoo.serving import command, connections, tracing
from kzoo.serving.repository import SavedModels

with contextlib.ExitStack() as _kept:  # the import of ModelServer reads the command line
    _kept.callback(setattr, sys, "argv", sys.argv)
    sys.argv = sys.argv[:1]
    import kserve
    from kserve.protocol.dataplane import DataPlane

    from kzoo.serving import grpc_server
    from kzoo.serving.rest import Rest

_LOGGER = logging.getLogger("kzoo.serving")
_LAST_SECONDS = 2  # from the end of the grace time until the process is ended by force


def main(arguments=None):
    """Runs the command line of `kzoo serve` until SIGTERM or SIGINT.

    Args:
        arguments: list of str after "serve"; by default those of this process.

    Raises:
        SystemExit: with code 2 and a message if there is nothing to serve or a port is taken, with
            code 1 if no model can be loaded.
    """
    run(**command.parsed(arguments))


def run(**options):
    """Serves a folder until SIGTERM or SIGINT; the arguments are those of `kzoo serve`.

    Raises:
        SystemExit: with code 1 if no model can be loaded, or traces are asked for and their extra
            is missing.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    _LOGGER.setLevel(logging.INFO)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of what warm-up traces
    try:
        tracing.start()
    except ImportError as error:
        sys.exit(
            f"error: {' or '.join(tracing.ASKS)} asks for traces, which need the extra: "
            f"pip install 'kzoo[tracing]' ({error})"
        )
    connections.Connection.most = connections.raise_file_limit()
    gc.collect()
    gc.freeze()  # what is imported stays: collections after a new version need not look through it
    repository = SavedModels(options["folder"], options)
    server = Server(repository, options)
    server.start()
    code = 0 if repository.models or server.is_stopping else 1
    if repository.in_flight or repository.is_loading:  # threads that nothing can end
        logging.shutdown()
        os._exit(code)
    if code:
        raise SystemExit(code)


class Server(kserve.ModelServer):
    """KServe's server that answers from the start, and ends in order.

    While models are loaded it is alive and not ready; after a signal it refuses new requests,
    answers those in flight within its grace time, and stops.

    Args:
        repository: SavedModels.
        options: dict of the arguments of `kzoo serve`.
    """

    def __init__(self, repository, options):
        super().__init__(
            grpc_port=options["grpc_port"],
            registered_models=repository,
            enable_latency_logging=False,
            grace_period=options["grace_seconds"],
        )
        for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.dataplane = _DataPlane(repository)
        self.is_stopping = False
        self._repository, self._options = repository, options

    def start(self, models=()):
        """Serves until a signal comes, or no model can be loaded."""
        asyncio.run(self._serve())

    async def _serve(self):
        loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number)
        parts = (self._repository, self._options, self.dataplane, self.model_repository_extension)
        rest = Rest(*parts)
        rest.server.capture_signals = contextlib.nullcontext  # they are handled here
        http = asyncio.create_task(rest.start())
        grpc = await grpc_server.started(*parts)
        watching = asyncio.create_task(self._repository.watch(self._options["poll_seconds"]))
        watching.add_done_callback(self._watched)
        http.add_done_callback(lambda _: self._stopped.set())  # it could not listen
        await self._stopped.wait()
        self._repository.is_draining = True
        end = loop.time() + self._options["grace_seconds"]
        while self._repository.in_flight and loop.time() < end:
            await asyncio.sleep(0.02)
        if count := self._repository.in_flight:
            _LOGGER.warning("%d requests were not answered within the grace time.", count)
        rest.server.should_exit, rest.server.force_exit = True, bool(count)
        await grpc.stop(grace=None if count else 1)
        await asyncio.wait([http], timeout=1)
        watching.cancel()

    def stop(self, sig=None):
        """Begins to stop; a signal handler."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self._stopped.set()
        force = threading.Timer(self._options["grace_seconds"] + _LAST_SECONDS, lambda: os._exit(0))
        force.daemon = True
        force.start()

    def _watched(self, watching):
        if not watching.cancelled() and watching.exception():
            _LOGGER.error("The models are not watched any more.", exc_info=watching.exception())
        if not self._repository.models:
            self._stopped.set()


class _DataPlane(DataPlane):
    """KServe's, which says that the server is ready when it is."""

    def __init__(self, repository):
        super().__init__(model_registry=repository)
        self._repository = repository
        self._server_name = "kzoo"

    async def ready(self):
        """Whether each model has been tried, one answers, and the server does not shut down."""
        repository = self._repository
        return repository.is_complete and bool(repository.models) and not repository.is_draining
