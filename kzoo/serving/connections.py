"""HTTP connections that cannot be held for nothing: limits of headers, of time and of number."""

import resource
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_HEADER_BYTES = 64 << 10
_HEADER_SECONDS = 10  # from the first byte, or the connection, to the last of the header
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


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP connection, closed if its header is too long or takes too long.

    When there are `most` connections, the one goes that waits for its header longest.
    """

    most = 1024
    _waiting: ClassVar[dict] = {}  # in the order in which they began to wait

    def connection_made(self, transport):
        super().connection_made(transport)
        self._header_bytes, self._timer = 0, None
        self._wait()
        if len(self.connections) > Connection.most:
            next(iter(Connection._waiting)).transport.abort()

    def connection_lost(self, exc):
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data):
        if self._timer is None and self._is_between_requests():
            self._wait()
        if self._timer is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        # What has come with the end of the header may be a body.
        if self._timer is not None and self._header_bytes > _MOST_HEADER_BYTES:
            self.transport.abort()

    def on_headers_complete(self):
        self._stop_waiting()
        if sum(len(name) + len(value) for name, value in self.headers) > _MOST_HEADER_BYTES:
            self.transport.abort()
            return
        super().on_headers_complete()

    def _is_between_requests(self):
        return self.cycle is None or self.cycle.response_complete

    def _wait(self):
        self._header_bytes = 0
        self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.abort)
        Connection._waiting[self] = None

    def _stop_waiting(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        Connection._waiting.pop(self, None)
