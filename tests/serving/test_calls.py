"""Messages over gRPC come in a few at once, each in its turn."""

import asyncio
import time

import pytest

pytest.importorskip("kserve", reason="needs the extra serving")

from grpc import aio

from kzoo.serving import calls
from kzoo.serving.calls import Calls
from kzoo.serving.errors import Refused


class Context:
    """Of a call whose message comes when `give` says so."""

    def __init__(self, of):
        self.is_read, self._message = False, asyncio.get_running_loop().create_future()
        self.reading = asyncio.create_task(of.read(self))

    async def read(self):
        self.is_read = True
        return await self._message

    def give(self, message=b"a"):
        self._message.set_result(message)

    async def refused(self):
        with pytest.raises(Refused) as refused:
            await self.reading
        return refused.value.status, str(refused.value)


async def rest():
    await asyncio.sleep(0.05)


def test_a_few_messages_are_read_at_once_and_the_others_in_their_turn():
    async def use():
        of = Calls(most=11, read_at_once=2, seconds=30)
        contexts = [Context(of) for _ in range(5)]
        await rest()
        assert [context.is_read for context in contexts] == [True, True, False, False, False]
        contexts[1].give(b"b")
        assert await contexts[1].reading == b"b"
        await rest()
        assert [context.is_read for context in contexts] == [True, True, True, False, False]
        contexts[2].reading.cancel()  # its client has gone, and the next one's too
        contexts[3].reading.cancel()
        await rest()
        assert contexts[4].is_read and not contexts[3].is_read
        contexts[0].give(aio.EOF)
        assert await contexts[0].refused() == (400, "A call must have a message.")
        contexts[4].give()
        assert await contexts[4].reading == b"a"
        assert of._free == 2 and not of._waiting

    asyncio.run(use())


def test_a_slow_message_is_given_up_only_if_others_wait(monkeypatch):
    monkeypatch.setattr(calls, "_LEAST_SECONDS", 0.02)

    async def use():
        of = Calls(most=11, read_at_once=1, seconds=30)
        slow = Context(of)
        await asyncio.sleep(0.1)  # several times what it has if others wait
        assert not slow.reading.done()
        other = Context(of)
        status, message = await slow.refused()
        assert status == 429 and "came slowly while others waited" in message
        other.give()
        assert await other.reading == b"a"

    asyncio.run(use())


def test_one_that_waits_takes_the_turn_of_one_slow_message(monkeypatch):
    monkeypatch.setattr(calls, "_LEAST_SECONDS", 0.05)

    async def use():
        of = Calls(most=11, read_at_once=8, seconds=30)
        slow = [Context(of) for _ in range(8)]
        await asyncio.sleep(0)
        waits = Context(of)
        await asyncio.sleep(0.02)
        time.sleep(0.1)  # the loop is blocked, as by a large message: the time of all is over
        await rest()
        assert sum(context.reading.done() for context in slow) == 1
        waits.give()
        assert await waits.reading == b"a"
        for context in slow:
            if not context.reading.done():
                context.give()
        ends = await asyncio.gather(*(each.reading for each in slow), return_exceptions=True)
        assert ends.count(b"a") == 7
        assert of._free == 8

    asyncio.run(use())


def test_a_message_and_a_turn_have_a_time():
    async def use():
        of = Calls(most=11, read_at_once=1, seconds=0.1)
        late = Context(of)
        assert await late.refused() == (408, "The message must come within 0.1 seconds.")
        of._free = 0  # another call goes on
        message = "Too many messages are being read, try again later."
        assert await Context(of).refused() == (429, message)
        of._give_turn()
        last = Context(of)
        last.give()
        assert await last.reading == b"a"

    asyncio.run(use())


def test_places_are_given_back():
    async def use():
        of = Calls(most=1, read_at_once=1, seconds=30)
        for _ in range(2):
            with of.place():
                with (
                    pytest.raises(Refused, match="1 calls are open already") as refused,
                    of.place(),
                ):
                    pass
                assert refused.value.status == 429

    asyncio.run(use())
