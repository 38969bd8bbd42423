"""The gRPC server before the models, in this process: the key, slow senders, many bytes."""

import asyncio
import contextlib

import grpc
import pytest

pytest.importorskip("kserve", reason="needs the extra serving")

from grpc import aio
from half_sent import HalfSent
from kserve.protocol.grpc import grpc_predict_v2_pb2 as protos
from served_folder import DEFAULTS, KEY, free_ports

from kzoo.serving import calls, gate, grpc_server, metrics, server

SERVICE = "/inference.GRPCInferenceService/"
PROBES = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata")
GOOD = protos.ModelReadyRequest(name="a").SerializeToString()


class Model:
    """Answers nothing, once it may."""

    name, version = "a", "1"

    def __init__(self):
        self.may_answer, self.waiting = asyncio.Event(), 0

    def get_input_types(self):
        return []

    get_output_types = get_input_types

    async def __call__(self, request):
        self.waiting += 1
        await self.may_answer.wait()
        return {}, None


class Repository:
    """Has one model under each name but one."""

    def __init__(self):
        self.model = Model()
        self.models, self.is_complete, self.is_draining = {"a": self.model}, True, False
        self.asked = []  # names of models to be loaded or unloaded

    def versions(self, name):
        return ["1"]

    async def load(self, name):
        self.asked.append(name)

    unload = load

    def find(self, name, version):
        if name == "broken":
            raise RuntimeError("secret of the machine")
        return self.model


@contextlib.asynccontextmanager
async def channel(**options):
    """A channel to a server, and the server's model."""
    (port,) = free_ports(1)
    options = {**DEFAULTS, "api_key": KEY, "max_body_mb": 1, **options}
    options |= {"host": "127.0.0.1", "grpc_port": port, "ssl_certfile": None}
    repository = Repository()
    dataplane = server._DataPlane(repository)
    started = await grpc_server.started(repository, options, dataplane, None)
    async with aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        opened.port, opened.repository, opened.model = port, repository, repository.model
        yield opened
    await started.stop(grace=None)


def call(opened, method="ModelReady", key=KEY):
    """A call that sends nothing yet."""
    return opened.stream_unary(SERVICE + method)(metadata=[("authorization", f"Bearer {key}")])


async def status(called):
    """Status and message of a call's answer."""
    return await asyncio.wait_for(called.code(), 10), await called.details()


async def asked(opened, method="ModelReady", message=GOOD, key=KEY):
    """Status and message of a call with one message, as clients make it. In a stream the message
    may find the call answered already, which grpc.aio makes an internal error."""
    send = opened.unary_unary(SERVICE + method)
    return await status(send(message, metadata=[("authorization", f"Bearer {key}")]))


async def until(holds):
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("It does not hold within 10 seconds.")


@pytest.mark.parametrize("method", ["ModelReady", "ModelInfer", "RepositoryModelLoad", "Nothing"])
def test_without_the_key_no_message_is_waited_for(method):
    async def use():
        async with channel() as opened:
            return await status(call(opened, method, "open-sesam"))

    code, message = asyncio.run(use())
    assert code == grpc.StatusCode.UNAUTHENTICATED and "the key of the server" in message


def test_without_a_key_models_are_not_loaded_and_their_state_is_told():
    async def use():
        async with channel(api_key=None) as opened:
            code, message = await status(call(opened, "RepositoryModelUnload"))
            assert code == grpc.StatusCode.PERMISSION_DENIED and "only at servers with" in message
            return await asked(opened, key="")

    assert asyncio.run(use())[0] == grpc.StatusCode.OK


def test_a_message_has_a_time():
    async def use():
        async with channel(deadline_seconds=0.2) as opened:
            return await status(call(opened))

    code, message = asyncio.run(use())
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert message == "The message must come within 0.2 seconds."


def test_what_is_no_message_is_refused_and_a_fault_of_the_server_tells_nothing(caplog):
    async def use():
        async with channel() as opened:
            without = call(opened)
            await without.done_writing()
            gone = call(opened)
            await gone.write(GOOD)
            gone.cancel()
            broken = protos.ModelReadyRequest(name="broken").SerializeToString()
            return [
                await status(without),
                await asked(opened, message=b"\xff\xff"),
                await asked(opened, message=bytes(1_000_001)),
                await asked(opened, message=broken),
                await asked(opened),
            ]

    codes, messages = zip(*asyncio.run(use()), strict=True)
    names = ["INVALID_ARGUMENT", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "OK"]
    assert [code.name for code in codes] == names
    assert messages[0] == "A call must have a message."
    assert messages[1] == "The message must be as the protocol's protos have it."
    assert messages[3] == "the server failed, see its log" and "secret of the" in caplog.text
    assert [record.getMessage() for record in caplog.records] == ["ModelReady failed."]


def test_all_messages_together_have_a_limit_and_room_comes_back(monkeypatch):
    monkeypatch.setattr(gate, "_BODIES", 1)
    large = protos.ModelInferRequest(model_name="a", id="x" * 900_000).SerializeToString()

    async def use():
        async with channel() as opened:
            held = call(opened, "ModelInfer")
            await held.write(large)
            await until(lambda: opened.model.waiting)
            refused = await asked(opened, "ModelInfer", large)
            await held.done_writing()
            opened.model.may_answer.set()
            return refused, await status(held), await asked(opened, "ModelInfer", large)

    (code, message), *others = asyncio.run(use())
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "too many large requests" in message
    assert [other[0] for other in others] == 2 * [grpc.StatusCode.OK]


def test_of_many_large_messages_some_are_refused_and_others_are_answered():
    large = protos.ModelInferRequest(model_name="a", id="x" * 900_000).SerializeToString()

    async def use():
        async with channel(max_queue=64) as opened:
            sent = [asyncio.create_task(asked(opened, "ModelInfer", large)) for _ in range(40)]
            await until(lambda: sum(each.done() for each in sent) == 32)
            assert opened.model.waiting == 8
            others = [(await asked(opened, method))[0] for method in PROBES]
            opened.model.may_answer.set()
            answers = [code for code, _ in await asyncio.gather(*sent)]
            others.append((await asked(opened, "ModelInfer", large))[0])
            return answers, others

    answers, others = asyncio.run(use())
    assert answers.count(grpc.StatusCode.OK) == 8  # times --max_body_mb, and each has 0.9 of it
    assert answers.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 32
    assert set(others) == {grpc.StatusCode.OK}


@pytest.mark.parametrize(("key", "most"), [(KEY, 8), ("no key at all", 0)])
def test_of_half_sent_messages_eight_are_taken_and_a_window_of_each_other(key, most, monkeypatch):
    monkeypatch.setattr(calls, "_LEAST_SECONDS", 1000)
    window, count, size = 66_000, 40, 1_000_000  # 64 KiB and a few bytes

    async def use():
        async with channel(max_queue=64) as opened:
            path = SERVICE + "ModelInfer"
            async with HalfSent(opened.port, path, size, count, key) as half_sent:
                sent = await half_sent.settled()
                assert most * (size - 1) <= sent <= most * size + (count - most) * window
                assert len(half_sent.ended) == (0 if most else count)
                codes = [(await asked(opened, method))[0] for method in PROBES]
                return codes

    assert set(asyncio.run(use())) == {grpc.StatusCode.OK}


def test_slow_messages_make_room_for_others(monkeypatch):
    monkeypatch.setattr(calls, "_LEAST_SECONDS", 0.05)
    infer = protos.ModelInferRequest(model_name="a").SerializeToString()

    async def use():
        async with channel(max_queue=64) as opened:
            opened.model.may_answer.set()
            path = SERVICE + "ModelInfer"
            async with HalfSent(opened.port, path, 1_000_000, 40, KEY) as half_sent:
                await until(lambda: half_sent.ended)
                code, _ = await asked(opened, "ModelInfer", infer)
                assert len(half_sent.ended) >= 32  # those that came before
                return code

    assert asyncio.run(use()) == grpc.StatusCode.OK


def counted():
    """What the metrics of requests say."""
    samples = [*metrics.REQUESTS.collect(), *metrics.REFUSED.collect()]
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in samples
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_health_and_metadata_take_no_place_of_an_inference_and_count_as_no_requests():
    infer = protos.ModelInferRequest(model_name="a").SerializeToString()

    async def use():
        async with channel(max_queue=1) as opened:
            held = call(opened, "ModelInfer")
            await held.write(infer)
            await until(lambda: opened.model.waiting)
            before, codes = counted(), []
            for method in ("ServerLive", "ServerReady", "ServerMetadata", "ModelMetadata"):
                for _ in range(2):
                    codes.append((await asked(opened, method))[0])
            for method in ("ServerLive", "ServerReady"):  # without a message, and without the key
                codes.append((await status(call(opened, method, "")))[0])
            for _ in range(2):
                codes.append((await asked(opened))[0])
            assert counted() == before
            refused = await asked(opened, "ModelInfer", infer)
            name = ("kzoo_refused_total", "429")
            assert counted() == {**before, name: before.get(name, 0) + 1}
            await held.done_writing()
            opened.model.may_answer.set()
            return (
                codes,
                refused,
                await status(held),
                await asked(opened, "ModelInfer", infer),
            )

    codes, (code, message), *others = asyncio.run(use())
    assert set(codes) == {grpc.StatusCode.OK}
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert message == "1 calls are open already, try again later."
    assert [other[0] for other in others] == 2 * [grpc.StatusCode.OK]


def test_health_is_answered_as_other_probes_ask():
    async def use():
        async with channel() as opened:
            check = opened.unary_unary("/grpc.health.v1.Health/Check")
            found = [await check(b""), await check(b"\x0a\x01x")]
            opened.repository.is_draining = True
            return [*found, await check(b"")]

    assert asyncio.run(use()) == [b"\x08\x01", b"\x08\x01", b"\x08\x02"]


def test_models_are_loaded_by_the_field_of_kserve_and_of_triton():
    async def use():
        async with channel() as opened:
            load = protos.RepositoryModelLoadRequest(model_name="a").SerializeToString()
            for message in (load, b"\x12\x01b"):  # field 2
                assert (await asked(opened, "RepositoryModelLoad", message))[0].name == "OK"
            assert (await asked(opened, "RepositoryModelUnload", b"\x12\x01b"))[0].name == "OK"
            return opened.repository.asked

    assert asyncio.run(use()) == ["a", "b", "b"]


def test_calls_of_metadata_have_places_of_their_own(monkeypatch):
    monkeypatch.setattr(grpc_server, "_MOST_OTHERS", 1)

    async def use():
        async with channel() as opened:
            held = call(opened)  # its message does not come
            await held.wait_for_connection()
            codes, end = [], asyncio.get_running_loop().time() + 10
            while asyncio.get_running_loop().time() < end and "RESOURCE_EXHAUSTED" not in codes:
                codes.append((await asked(opened))[0].name)
            codes = codes[-1:]
            for method in ("ServerReady", "ServerMetadata"):
                codes.append((await status(call(opened, method)))[0].name)
            await held.write(GOOD)
            await held.done_writing()
            codes.append((await status(held))[0].name)
            return [*codes, (await asked(opened))[0].name]

    assert asyncio.run(use()) == ["RESOURCE_EXHAUSTED", *4 * ["OK"]]


def test_a_connection_that_says_nothing_is_closed(monkeypatch):
    monkeypatch.setitem(grpc_server._CONNECTIONS, "server_handshake_timeout_ms", 200)

    async def use():
        async with channel() as opened:
            reader, writer = await asyncio.open_connection("127.0.0.1", opened.port)
            await asyncio.wait_for(reader.read(), 10)  # to its end
            writer.close()

    asyncio.run(use())
