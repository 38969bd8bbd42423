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

    def __init__(self, gate, path="/v2/models/a/infer", **headers):
        pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": pairs}
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
        gate = Gate(app, None, max_body_mb=1, seconds=30)
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
        assert gate._held == 0 or (await clients[7].answer())[0] == 200

    asyncio.run(use())


def test_a_body_has_a_time_and_a_client_that_goes_leaves_nothing():
    async def use():
        gate = Gate(app, None, max_body_mb=1, seconds=0.1)
        slow, gone = Client(gate), Client(gate)
        slow.give(5)
        gone.parts.put_nowait({"type": "http.disconnect"})
        assert (await slow.answer())[0] == 408
        await gone.done
        assert gone.sent == [] and gate._held == 0

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
        client = Client(Gate(app, None, max_body_mb=1, seconds=5), **headers)
        if status == 200:
            client.give(3, more=False)
        return await client.answer()

    assert asyncio.run(use())[0] == status


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
