"""Refusals: what a client gets in place of an answer, over HTTP and over gRPC."""

from http import HTTPStatus

import grpc

_GRPC = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_LONGEST = 1000  # characters of a message; what a client sent may be quoted in it


class Refused(Exception):
    """A request that is not answered.

    Args:
        message: str, names the argument, its rule and what came.
        status: int or HTTPStatus, 400 by default.
    """

    def __init__(self, message, status=HTTPStatus.BAD_REQUEST):
        message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} ..."
        super().__init__(message.encode("utf-8", "backslashreplace").decode())
        self.status = HTTPStatus(status)

    @property
    def grpc_status(self):
        """The grpc.StatusCode that says the same as the HTTP status."""
        return _GRPC.get(self.status, grpc.StatusCode.INTERNAL)


def shown(value):
    """`repr` of what a client sent, short enough for a message."""
    try:
        text = repr(value) if not isinstance(value, str | bytes) else repr(value[:200])
    except RecursionError:  # JSON may be nested deeper than Python shows
        text = f"a {type(value).__name__} that is nested too deep to be shown"
    return text if len(text) <= 200 else f"{text[:200]}..."
