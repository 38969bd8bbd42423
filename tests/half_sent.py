"""Calls over gRPC whose messages come but for the last byte: HTTP/2 by hand."""

import asyncio
import contextlib
import struct

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _WINDOW = 0, 1, 3, 4, 6, 8
_ACK, _END_HEADERS = 1, 4
_INITIAL_WINDOW = 4  # the number of a setting
_FRAME = 1 << 14  # most bytes of a frame


def _frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class HalfSent:
    """Sends what the server's windows let it send.

    Args:
        port: int.
        path: str, of the method.
        size: int, bytes of each message.
        calls: int, how many on one connection.
        key: str.
    """

    def __init__(self, port, path, size, calls, key):
        self.sent, self.ended = 0, set()  # bytes, numbers of calls
        self._port, self._size, self._key, self._path = port, size, key, path
        self._numbers = range(1, 2 * calls, 2)
        self._left = dict.fromkeys(self._numbers, size - 1)  # bytes
        self._windows = dict.fromkeys([0, *self._numbers], (1 << 16) - 1)  # 0: the connection's
        self._initial = (1 << 16) - 1

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        fields = {":method": "POST", ":scheme": "http", ":path": self._path, ":authority": "a"}
        fields |= {"te": "trailers", "content-type": "application/grpc"}
        fields["authorization"] = f"Bearer {self._key}"
        block = b"".join(_field(*pair) for pair in fields.items())
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0))
        for number in self._numbers:
            self._writer.write(_frame(_HEADERS, _END_HEADERS, number, block))
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        self._reading.cancel()
        self._writer.close()

    async def settled(self):
        """Bytes that were sent, once the server has taken no more for half a second."""
        before = -1
        while before < self.sent:
            before = self.sent
            await asyncio.sleep(0.5)
        return self.sent

    async def _read(self):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
                self._send()
                await self._writer.drain()

    def _take(self, kind, flags, number, payload):
        if kind == _SETTINGS and not flags & _ACK:
            for setting, value in struct.iter_unpack(">HI", payload):
                if setting == _INITIAL_WINDOW:
                    for call in self._numbers:
                        self._windows[call] += value - self._initial
                    self._initial = value
            self._writer.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            self._windows[number] += int.from_bytes(payload, "big")
        elif kind in (_HEADERS, _RESET):  # a status, before the message is whole
            self.ended.add(number)
            self._left[number] = 0

    def _send(self):
        for number, left in self._left.items():
            while (count := min(left, self._windows[number], self._windows[0], _FRAME)) > 0:
                is_first = left == self._size - 1
                if is_first and count < 5:
                    break
                start = b"\0" + struct.pack(">I", self._size - 5) if is_first else b""
                data = start + bytes(count - len(start))
                self._writer.write(_frame(_DATA, 0, number, data))
                left -= count
                self._windows[number] -= count
                self._windows[0] -= count
                self.sent += count
            self._left[number] = left
