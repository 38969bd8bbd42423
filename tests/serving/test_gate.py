"""The gate before the endpoints, in this process, with an app that says how long a body was."""

import asyncio
import json

import pytest

pytest.importorskip("kserve", reason="needs the extra serving")

from kzoo.serving.errors import Refused
from kzoo.serving.gate import Gate, Key


async def app(scope, receive, send):
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % len(message["body"])})


class Client:
    """A request whose body comes when `parts` says so."""

    def __init__(self, gate, path="/v2/models/a/infer", method="POST", **headers):
        pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        self.parts, self.sent = asyncio.Queue(), []
        self.done = asyncio.create_task(gate(scope, self.parts.get, self._send))

    async def _send(self, message):
        self.sent.append(message)

    def give(self, size, more=True):
        self.parts.put_nowait({"type": "http.request", "body": bytes(size), "more_body": more})

    async def answer(self):
        await self.done
        return self.sent[0]["status"], self.sent[1]["body"]


def test_all_bodies_together_have_a_limit_and_room_comes_back():
    async def use():
        gate = Gate(app, None, "127.0.0.1", max_body_mb=1, seconds=30)
        clients = [Client(gate) for _ in range(9)]
        for client in clients:
            client.give(900_000)
        await asyncio.sleep(0.1)
        assert [client.done.done() for client in clients] == 8 * [False] + [True]
        status, text = await clients[8].answer()
        assert status == 429 and "too many large requests" in json.loads(text)["error"]
        for client in clients[:8]:
            client.give(100_000, more=False)
        assert {await client.answer() for client in clients[:7]} == {(200, b"1000000")}
        late = Client(gate)
        late.give(1_000_001, more=False)
        assert (await late.answer())[0] == 413
        assert (await clients[7].answer())[0] == 200 and gate._bodies.held == 0

    asyncio.run(use())


def test_a_body_has_a_time_and_a_client_that_goes_leaves_nothing():
    async def use():
        gate = Gate(app, None, "127.0.0.1", max_body_mb=1, seconds=0.1)
        slow, gone = Client(gate), Client(gate)
        slow.give(5)
        gone.parts.put_nowait({"type": "http.disconnect"})
        assert (await slow.answer())[0] == 408
        await gone.done
        assert gone.sent == [] and gate._bodies.held == 0

    asyncio.run(use())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_type": "application/octet-stream"}, 200),
        ({"content_type": "multipart/form-data"}, 415),
        ({"content_encoding": "gzip"}, 415),
        ({"content_length": "1000001"}, 413),
        ({"content_length": "9" * 5000}, 413),
    ],
)
def test_kinds_and_lengths_are_looked_at_before_the_body(headers, status):
    async def use():
        client = Client(Gate(app, None, "127.0.0.1", max_body_mb=1, seconds=5), **headers)
        if status == 200:
            client.give(3, more=False)
        return await client.answer()

    assert asyncio.run(use())[0] == status


LOOPBACKS = ("127.0.0.1", "::1", "localhost", "Localhost", "::ffff:127.0.0.1")


def get(address="127.0.0.1", api_key=None, path="/v2/models", **headers):
    """Status and text of a GET."""

    async def use():
        gate = Gate(app, api_key, address, max_body_mb=1, seconds=5)
        client = Client(gate, path, "GET", **headers)
        client.give(0, more=False)
        return await client.answer()

    return asyncio.run(use())


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"sec_fetch_site": "cross-site"}, "`Sec-Fetch-Site` must be none or same-origin, got 'c"),
        ({"sec_fetch_site": "same-site"}, "`Sec-Fetch-Site` must be none or same-origin, got 's"),
        ({"origin": "https://a.b", "host": "localhost"}, "`Origin` must be the server's own, 'l"),
        ({"origin": "http://localhost:3000", "host": "localhost:8080"}, "got 'http://localhost:3"),
        ({"origin": "null", "host": "localhost:8080"}, "`Origin` must be the server's own"),
        ({"origin": "http://a.b:8080", "host": "a.b:8080"}, "`Host` must be localhost or a loop"),
        ({"host": "127.0.0.1.a.b"}, "`Host` must be localhost or a loopback address, got '127"),
        ({"host": "192.168.0.7:8080"}, "`Host` must be localhost or a loopback address, got '192"),
        ({"host": "["}, "`Host` must be localhost or a loopback address, got '['"),
        ({"host": ":8080"}, "`Host` must be localhost or a loopback address, got ':8080'"),
    ],
)
def test_without_a_key_pages_of_other_sites_are_refused_and_with_one_they_lack_it(headers, message):
    status, text = get(**headers)
    assert status == 403 and message in json.loads(text)["error"]
    assert "without --api_key" in json.loads(text)["error"]
    assert get(**headers, api_key="open-sesame", authorization="Bearer open-sesame")[0] == 200
    assert get(**headers, path="/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},  # HTTP/1.0
        {"host": "localhost:8080"},
        {"host": "LOCALHOST"},
        {"host": "localhost.:8080"},
        {"host": "[::ffff:127.0.0.1]:8080"},
        {"host": "127.0.0.2:8080"},
        {"host": "[::1]:8080"},
        {"host": "models.localhost"},
        {"host": "localhost:8080", "origin": "http://localhost:8080", "sec_fetch_site": "none"},
        {"host": "localhost", "origin": "https://Localhost", "sec_fetch_site": "same-origin"},
    ],
)
def test_programs_and_the_servers_own_pages_are_answered_by_every_name_of_this_machine(headers):
    assert {get(address, **headers)[0] for address in LOOPBACKS} == {200}


@pytest.mark.parametrize("address", LOOPBACKS)
def test_a_name_that_leads_to_a_loopback_address_is_refused_however_that_is_written(address):
    assert get(address, host="evil.example:8080")[0] == 403


def test_a_server_on_the_network_is_called_by_any_name():
    assert get("0.0.0.0", host="models.example:8080")[0] == 200
    assert get("0.0.0.0", host="models.example:8080", origin="http://a.b")[0] == 403


def test_metrics_need_the_key_unless_they_are_open():
    async def statuses(metrics, *keys):
        found = []
        for key in keys:
            gate = Gate(app, "open-sesame", "127.0.0.1", 1, seconds=5, metrics=metrics)
            client = Client(gate, "/metrics", "GET", authorization=key)
            client.give(0, more=False)
            found.append((await client.answer())[0])
        return found

    assert asyncio.run(statuses("key", "", "Bearer open-sesame")) == [401, 200]
    assert asyncio.run(statuses("open", "", "Bearer open-sesame")) == [200, 200]


def test_without_a_key_nobody_controls_the_repository_and_all_else_is_open():
    Key(None).check(b"", False)
    with pytest.raises(Refused) as refused:
        Key(None).check(b"Bearer anything", True)
    assert refused.value.status == 403
    Key("open-sesame").check(b"Bearer open-sesame", True)
    for authorization in (b"", b"open-sesame", b"Bearer open-sesame ", "Bearer é".encode()):
        with pytest.raises(Refused) as refused:
            Key("open-sesame").check(authorization, False)
        assert refused.value.status == 401
