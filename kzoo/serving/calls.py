"""Calls over gRPC: how many of a kind are open at once."""

import contextlib
from http import HTTPStatus

from kzoo.serving.errors import Refused


class Calls:
    """The open calls of one kind.

    Args:
        most: int, most calls that are open at once.
    """

    def __init__(self, most):
        self._open, self._most = 0, most

    @contextlib.contextmanager
    def place(self):
        """Holds a place while a call is open; raises Refused, status 429, if there is none."""
        if self._open >= self._most:
            message = f"{self._most} calls are open already, try again later."
            raise Refused(message, HTTPStatus.TOO_MANY_REQUESTS)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
