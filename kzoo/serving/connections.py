"""HTTP connections that cannot be held for nothing: limits of headers, of time and of number."""

import functools
import resource
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_HEADER_BYTES = 64 << 10
_HEADER_SECONDS = 10  # from the first byte, or the connection, to the last of the header
HANDSHAKE_SECONDS = 10  # of TLS
_LINGERING_SECONDS = 2  # in which the rest of a body is thrown away that is refused
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


class _Transport:
    """A transport that, asked to close while the client still sends a body, reads on for a while.

    A socket that is closed with bytes in it is reset, and many clients read no answer, as that a
    body is too large, before they have sent it.
    """

    def __init__(self, transport, connection):
        self.is_lingering = False
        self._transport, self._connection = transport, connection

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def is_closing(self):
        return self.is_lingering or self._transport.is_closing()

    def write(self, data):
        if not self.is_lingering:
            self._transport.write(data)

    def close(self):
        connection, transport = self._connection, self._transport
        is_whole = connection.cycle is None or not connection.cycle.more_body
        if is_whole or self.is_closing():
            transport.close()
            return
        self.is_lingering = True
        connection.flow.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        connection.loop.call_later(_LINGERING_SECONDS, transport.close)


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP connection, closed if its header is too long or takes too long.

    What stands around the parts of a chunked body, and the trailer after it, counts as a header.

    When there are `most` connections, the one goes that is idle, or waits for its header, longest.
    One that reads nothing of its answer is closed, too, but over TLS, where nobody knows of it.
    """

    most = 1024
    reading_seconds = 30  # in which some of an answer must be read
    _waiting: ClassVar[dict] = {}  # in the order in which they began to wait

    def connection_made(self, transport):
        self._timer = self._reading = None
        super().connection_made(_Transport(transport, self))
        if self.scheme == "http":
            transport.set_write_buffer_limits(high=0)  # `pause_writing` says that bytes wait
        self._wait()
        if len(self.connections) > Connection.most:
            oldest = next(iter(Connection._waiting))
            oldest._stop_waiting()  # so that the next one does not abort the same again
            oldest.transport.abort()

    def connection_lost(self, exc):
        self._stop_waiting()
        self._stop_reading()
        super().connection_lost(exc)

    def pause_writing(self):
        super().pause_writing()
        self._check_reading(None)

    def resume_writing(self):
        self._stop_reading()
        super().resume_writing()
        self._may_be_idle()

    def on_response_complete(self):
        super().on_response_complete()
        self._may_be_idle()

    def _may_be_idle(self):
        is_read = not self.transport.get_write_buffer_size()
        if is_read and self._is_between_requests() and not self.transport.is_closing():
            Connection._waiting.setdefault(self)

    def data_received(self, data):
        if self.transport.is_lingering:
            return
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

    def _check_reading(self, before):
        """Closes the connection if as much waits to be read as `before`; looks again later."""
        waiting = self.transport.get_write_buffer_size()
        if before is not None and waiting >= max(before, 1):
            self.transport.abort()
            return
        seconds = Connection.reading_seconds
        self._reading = self.loop.call_later(seconds, self._check_reading, waiting)

    def _stop_reading(self):
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _wait(self):
        Connection._waiting.pop(self, None)
        self._bytes = 0  # that have come since a header, a part of a body or a request ended
        self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.abort)
        Connection._waiting[self] = None

    def _stop_waiting(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        Connection._waiting.pop(self, None)
