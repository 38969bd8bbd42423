"""Calls over gRPC: how many of a kind are open at once, and how many messages come in at once."""

import asyncio
import collections
import contextlib
from http import HTTPStatus

from grpc import aio

from kzoo.serving.errors import Refused

# Of a message that nobody reads yet gRPC keeps so many bytes, whatever its size.
WINDOW_BYTES = 1 << 16
_LEAST_SECONDS = 2  # that a message has once it is read, also if others wait for their turn


class Calls:
    """The open calls of one kind.

    gRPC says how large a message is only when all of it has come, and holds up to --max_body_mb of
    it by then. So a few messages are read at once, and the others wait for their turn, in the order
    in which they came. A message that has been read for two seconds is given up if others wait.

    Args:
        most: int, most calls that are open at once.
        read_at_once: int, most messages that are read at once.
        seconds: float, longest wait for a turn, and then for the message.
    """

    def __init__(self, most, read_at_once, seconds):
        self._open, self._most, self._seconds = 0, most, seconds
        self._free, self._waiting = read_at_once, collections.deque()  # futures of turns

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

    async def read(self, context):
        """The message of a call: bytes.

        Args:
            context: grpc.aio.ServicerContext.

        Raises:
            Refused: status 408 if the message does not come in time, 429 if its turn does not or
                others wait for it too long, 400 if there is no message.
        """
        await self._turn()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        reading = asyncio.ensure_future(context.read())
        try:
            while not reading.done():
                left = max(end - loop.time(), 0)
                await asyncio.wait([reading], timeout=min(left, _LEAST_SECONDS))
                if not reading.done():
                    self._refuse_if_late(end - loop.time())
            message = reading.result()
        finally:
            reading.cancel()
            self._give_turn()
        if message is aio.EOF:
            raise Refused("A call must have a message.")
        return message

    async def _turn(self):
        if self._free:
            self._free -= 1
            return
        turn, is_mine = asyncio.get_running_loop().create_future(), False
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=self._seconds)
            is_mine = turn.done()
        finally:
            if turn.done() and not is_mine:  # given to a call that was cancelled meanwhile
                self._give_turn()
            elif not is_mine:
                self._waiting.remove(turn)
        if not is_mine:
            text = "Too many messages are being read, try again later."
            raise Refused(text, HTTPStatus.TOO_MANY_REQUESTS)

    def _give_turn(self):
        """Hands a turn over at once, so that nobody else is given up for the call that gets it."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1

    def _refuse_if_late(self, left):
        """With `left` seconds, whether a message that is not whole may go on."""
        if left <= 0:
            text = f"The message must come within {self._seconds:g} seconds."
            raise Refused(text, HTTPStatus.REQUEST_TIMEOUT)
        if self._waiting:
            text = "The message came slowly while others waited, try again later."
            raise Refused(text, HTTPStatus.TOO_MANY_REQUESTS)
