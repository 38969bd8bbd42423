"""HTTP connections that cannot be held for nothing: limits of headers, of time and of number."""

import functools
import resource
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_HEADER_BYTES = 64 << 10
_HEADER_SECONDS = 10  # from the first byte, or the connection, to the last of the header
HANDSHAKE_SECONDS = 10  # of TLS
_SPARE_FILES = 128  # descriptors for the models, gRPC and the log


def raise_file_limit():
    """Takes as many file descriptors as the system allows: each connection needs one.

    Returns:
        int, most HTTP connections that shall be open.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most // 2 - _SPARE_FILES, 16)


def limit_handshakes(loop):
    """Gives TLS handshakes ten seconds, in the servers that a loop creates from now on.

    uvicorn, which creates them, does not say how long; asyncio has 60 seconds.
    """
    loop.create_server = functools.partial(
        loop.create_server, ssl_handshake_timeout=HANDSHAKE_SECONDS
    )


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP connection, closed if its header is too long or takes too long.

    What stands around the parts of a chunked body, and the trailer after it, counts as a header.

    When there are `most` connections, the one goes that waits for its header longest.
    """

    most = 1024
    _waiting: ClassVar[dict] = {}  # in the order in which they began to wait

    def connection_made(self, transport):
        super().connection_made(transport)
        self._timer = None
        self._wait()
        if len(self.connections) > Connection.most:
            oldest = next(iter(Connection._waiting))
            oldest._stop_waiting()  # so that the next one does not abort the same again
            oldest.transport.abort()

    def connection_lost(self, exc):
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data):
        if self._timer is None and self._is_between_requests():
            self._wait()
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes > _MOST_HEADER_BYTES:
            self.transport.abort()

    def on_headers_complete(self):
        self._stop_waiting()
        self._bytes = 0  # what has come with the end of the header may be a body
        if sum(len(name) + len(value) for name, value in self.headers) > _MOST_HEADER_BYTES:
            self.transport.abort()
            return
        super().on_headers_complete()

    def on_body(self, body):
        self._bytes = 0
        super().on_body(body)

    def on_message_complete(self):
        self._bytes = 0
        super().on_message_complete()

    def _is_between_requests(self):
        return self.cycle is None or self.cycle.response_complete

    def _wait(self):
        self._bytes = 0  # that have come since a header, a part of a body or a request ended
        self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.abort)
        Connection._waiting[self] = None

    def _stop_waiting(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        Connection._waiting.pop(self, None)
