"""Connections over loopback, in this process, with an app that says how long a body was."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess

import pytest
import uvicorn

pytest.importorskip("kserve", reason="needs the extra serving")

from uvicorn.server import ServerState

from kzoo.serving import connections
from kzoo.serving.connections import Connection

HEADER = b"POST / HTTP/1.1\r\nHost: a\r\n"
LAST = HEADER + b"Connection: close\r\n"


async def app(scope, receive, send):
    size, message = 0, {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        size += len(message.get("body", b""))
    length = (b"content-length", b"%d" % len(b"%d" % size))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": b"%d" % size})


@contextlib.asynccontextmanager
async def listening(app=app, **options):
    """The address of a server, and the set of its connections."""
    config, state = uvicorn.Config(app, http=Connection, lifespan="off"), ServerState()
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(config, state, {}), "127.0.0.1", 0, backlog=2048, **options
    )
    async with server:
        yield server.sockets[0].getsockname(), state.connections
        for connection in [*state.connections]:
            connection.transport.abort()


async def answered(*parts):
    """What comes back for parts of requests, sent one after the other, until the server closes."""
    async with listening() as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        answer = b""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        return answer


def test_a_burst_of_connections_does_not_pass_their_number(monkeypatch):
    monkeypatch.setattr(Connection, "most", 16)

    async def use():
        async with listening() as (address, open_now):
            clients = [socket.create_connection(address) for _ in range(1000)]  # none is accepted
            for _ in range(20):
                await asyncio.sleep(0.05)
            count = len(open_now)
            is_open = [_is_open(client) for client in clients]
            for client in clients:
                client.close()
            return count, is_open

    count, is_open = asyncio.run(use())
    assert count == sum(is_open) == 16 and all(is_open[-16:])  # the last ones stay


def _is_open(client):
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        with contextlib.suppress(ConnectionError):
            client.recv(1)
        return False
    return True


def test_an_idle_connection_makes_room_before_a_new_one(monkeypatch):
    monkeypatch.setattr(Connection, "most", 2)

    async def use():
        async with listening() as (address, _):
            clients = [await asyncio.open_connection(*address) for _ in range(2)]
            for reader, writer in clients:
                writer.write(HEADER + b"Content-Length: 1\r\n\r\na")
                await reader.readuntil(b"\r\n\r\n1")
            reader, writer = await asyncio.open_connection(*address)
            writer.write(LAST + b"Content-Length: 2\r\n\r\nab")
            new = await asyncio.wait_for(reader.read(), 10)
            old = await asyncio.wait_for(clients[0][0].read(), 10)
            clients[1][1].write(LAST + b"Content-Length: 3\r\n\r\nabc")
            last = await asyncio.wait_for(clients[1][0].read(), 10)
            for each in (writer, *(own for _, own in clients)):
                each.close()
            return new[-1:], old, last[-1:]

    assert asyncio.run(use()) == (b"2", b"", b"3")


async def early(scope, receive, send):
    """Answers before the body has come."""
    length = (b"content-length", b"%d" % len(ANSWER))
    headers = [length, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


ANSWER = b"it is too large"


def test_a_client_that_sends_all_of_a_refused_body_reads_why(monkeypatch):
    size = 20_000_000

    def ask(address):
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(HEADER + b"Content-Length: %d\r\n\r\n" % size)
            for _ in range(20):
                client.sendall(bytes(size // 20))
            return client.makefile("rb").read()

    async def use():
        async with listening(early) as (address, open_now):
            found = await asyncio.to_thread(ask, address)
            for _ in range(40):
                await asyncio.sleep(0.05)
            return found, len(open_now)

    found, count = asyncio.run(use())
    assert found.startswith(b"HTTP/1.1 413") and found.endswith(ANSWER) and count == 0


async def large(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(30_000_000)})


def test_over_tls_large_answers_come_and_refused_bodies_end(tmp_path):
    pair = tmp_path / "key.pem", tmp_path / "certificate.pem"
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs openssl")
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    words += ["-keyout", pair[0], "-out", pair[1]]
    subprocess.run([openssl, *words], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*reversed(pair))
    trusting = ssl.create_default_context(cafile=pair[1])

    async def ask(app, request):
        async with listening(app, ssl=context) as (address, _):
            reader, writer = await asyncio.open_connection(
                *address, ssl=trusting, server_hostname="localhost"
            )
            writer.write(request)
            found = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return found

    answer = asyncio.run(ask(app, LAST + b"Content-Length: 3\r\n\r\nabc"))
    assert answer.endswith(b"\r\n\r\n3")
    assert len(asyncio.run(ask(large, LAST + b"Content-Length: 0\r\n\r\n"))) > 30_000_000
    answer = asyncio.run(ask(early, HEADER + b"Content-Length: 9\r\n\r\nabc"))
    assert answer.startswith(b"HTTP/1.1 413") and answer.endswith(ANSWER)


def test_what_is_still_to_be_said_when_a_connection_lingers_is_dropped(caplog):
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + HEADER + b"Transfer-Encoding: chunked\r\n\r\n"
    asyncio.run(answered(request + b"ZZ\r\n"))
    assert "Exception in ASGI application" not in caplog.text


def test_an_answer_that_nobody_reads_is_given_up_and_a_slow_reader_gets_it(monkeypatch):
    monkeypatch.setattr(Connection, "reading_seconds", 0.4)

    async def use(pause, most):
        async with listening(large) as (address, open_now):
            reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
            writer.write(LAST + b"Content-Length: 0\r\n\r\n")
            size = 0
            with contextlib.suppress(ConnectionError):
                for _ in range(most):
                    await asyncio.sleep(pause)
                    size += len(await reader.read(2_000_000))
                    if not open_now:
                        break
            count = len(open_now)
            writer.close()
            return size, count

    _, count = asyncio.run(use(2.0, 1))
    assert count == 0
    size, _ = asyncio.run(use(0.02, 1000))
    assert size > 20_000_000


def test_the_trailer_of_a_chunked_body_has_the_limit_of_a_header():
    begin = LAST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
    fields = 100 * b"X-Trailer: y\r\n"
    assert asyncio.run(answered(begin, fields, b"\r\n")).endswith(b"\r\n\r\n3")
    for endless in (fields, b"X-Trailer: " + 1400 * b"y"):
        parts = [endless] + 1000 * [endless[-1400:]]
        assert asyncio.run(answered(begin, *parts, b"\r\n\r\n")) == b""


def test_bodies_in_many_chunks_and_many_requests_at_once_are_no_headers():
    chunks = 40_000 * b"1\r\na\r\n"
    begin = LAST + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = asyncio.run(answered(begin, chunks[:100_000], chunks[100_000:], b"0\r\n\r\n"))
    assert answer.endswith(b"\r\n\r\n40000")
    body = b"Content-Length: 3\r\n\r\nabc"
    answer = asyncio.run(answered(1500 * (HEADER + body) + LAST + body))
    assert answer.count(b"HTTP/1.1 200") == 1501


def test_a_tls_handshake_that_does_not_begin_ends(monkeypatch):
    monkeypatch.setattr(connections, "HANDSHAKE_SECONDS", 0.1)

    async def use():
        loop = asyncio.get_running_loop()
        connections.limit_handshakes(loop)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(use())
