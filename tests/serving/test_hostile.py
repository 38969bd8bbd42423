"""What comes in to do harm: it is refused, memory stays flat, and others are answered."""

import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from served_folder import KEY, Server, over_grpc, request, save_picky

pytest.importorskip("kserve", reason="needs the extra serving")

pytestmark = pytest.mark.slow
FLAGS = [
    f"--api_key={KEY}",
    "--max_body_mb=2",
    "--max_characters=500",
    "--deadline_seconds=4",
    "--grace_seconds=3",
    "--max_queue=4",
    "--max_delay_ms=1",
    "--batch_threads=1",
    "--poll_seconds=0.5",
]
GOOD = request(["1"], name="image_bytes")
INFER = "/v2/models/picky/infer"
MORE_MB = 120  # that memory may grow by, of 2 MB bodies and connections


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models")
    save_picky(folder / "picky" / "1")
    save_picky(folder / "texts" / "1", name="text")
    server = Server(folder, *FLAGS)
    server.key, server.folder = KEY, folder
    with contextlib.closing(server):
        server.wait_until_ready()
        yield server


def head(path, *lines, method="POST"):
    lines = (f"{method} {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {KEY}", *lines)
    return "\r\n".join([*lines, "", ""]).encode()


JSON = "Content-Type: application/json"


@pytest.fixture
def unharmed(server):
    """After the test the server answers, and has not grown."""
    server.infer("picky", GOOD)
    before = server.megabytes()
    yield
    assert server.infer("picky", GOOD)["text"] == ["1.0"]
    assert server.megabytes() < before + MORE_MB
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    "authorization", [None, "Bearer ", "Bearer open-sesam", f"Basic {KEY}", "é"]
)
def test_without_the_key_nobody_gets_in(server, authorization):
    lines = [] if authorization is None else [f"Authorization: {authorization}"]
    paths = [("GET", "/v2/models"), ("GET", "/metrics"), ("POST", INFER), ("GET", "/nowhere")]
    paths += [("POST", "/v2/repository/models/picky/unload"), ("POST", "/v2/repository/index")]
    for method, path in paths:
        data = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, JSON, "", ""])
        answer = server.raw(data.replace(JSON, JSON + "\r\nContent-Length: 0").encode())
        assert answer.startswith(b"HTTP/1.1 401"), (path, answer)
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert server.http(path, headers={"Authorization": ""})[0] == 200
    key = "" if authorization is None else "x"
    assert over_grpc(server, "picky", ["1"], key=key)[0] == "StatusCode.UNAUTHENTICATED"


def test_with_the_key_models_are_unloaded_and_loaded_and_others_answer(server, unharmed):
    assert over_grpc(server, "picky", ["1"], argument="image_bytes", key=KEY)["text"] == ["1.0"]
    for what, status in (("unload", 503), ("load", 200)):
        assert server.http(f"/v2/repository/models/texts/{what}", {})[0] == 200
        assert server.http("/v2/models/texts/infer", request(["1"]))[0] == status
        assert server.http(INFER, GOOD)[0] == 200
    for name in ("..%2f..%2fetc", "%2e%2e", "nobody"):
        assert server.http(f"/v2/repository/models/{name}/load", {})[0] == 404


def test_a_body_over_the_limit_is_refused_before_it_has_come(server, unharmed):
    for lines in (["Content-Length: 600000000"], ["Transfer-Encoding: chunked"]):
        data = head(INFER, JSON, *lines)
        if "chunked" in lines[0]:
            data += b"100000\r\n" + bytes(1 << 20) + b"\r\n" + b"100000\r\n" + bytes(1 << 20)
        answer = server.raw(data)
        assert answer.startswith(b"HTTP/1.1 413") and b"--max_body_mb 2, got " in answer, answer


def test_what_is_packed_is_not_unpacked(server, unharmed):
    bomb = gzip.compress(bytes(50 << 20))
    for encoding in ("gzip", "deflate", "br"):
        status, text = server.http(INFER, bomb, {"Content-Encoding": encoding})
        assert status == 415 and "`Content-Encoding` must be left out" in text
    assert server.http(INFER, gzip.compress(b"{}"))[0] == 400


# Messages of 3 MB, and of 160 MB that gzip makes 160 kB.
_GRPC_LARGE = """
import sys, grpc

for compression, size in ((None, 3), (grpc.Compression.Gzip, 160)):
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(sys.argv[1], compression=compression, options=options) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            metadata = [("authorization", "Bearer " + sys.argv[2])]
            call(bytes(size << 20), timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            print(error.code().name)
"""


def test_large_messages_over_grpc_are_refused_packed_or_not(server, unharmed):
    command = [sys.executable, "-c", _GRPC_LARGE, f"127.0.0.1:{server.grpc_port}", KEY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["RESOURCE_EXHAUSTED", "UNIMPLEMENTED"], done


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "text/xml"])
def test_what_a_page_of_another_site_may_send_is_refused(server, kind):
    status, text = server.http(INFER, GOOD, {"Content-Type": kind})
    assert status == 415 and "`Content-Type` must be one of" in text


def test_a_multipart_body_without_end_is_refused_at_its_beginning(server, unharmed):
    data = head(
        INFER, "Content-Type: multipart/form-data; boundary=x", "Transfer-Encoding: chunked"
    )
    assert server.raw(data + b"5\r\n--x\r\n\r\n").startswith(b"HTTP/1.1 415")


def test_headers_of_megabytes_end_the_connection(server, unharmed):
    long = "x" * (3 << 20)
    for data in (
        head(INFER, f"X-A: {long}"),
        head(INFER, *[f"X-{turn}: {'y' * 1000}" for turn in range(300)]),
        f"GET /{long} HTTP/1.1\r\n\r\n".encode(),
        b"\x16\x03\x01" + bytes(100),
        b"GET / HTTP/9\r\n\r\n",
    ):
        answer = server.raw(data)
        assert not answer or answer.startswith(b"HTTP/1.1 4"), answer[:100]


def test_a_body_that_comes_slowly_is_not_waited_for(server, unharmed):
    start = time.perf_counter()
    answer = server.raw(head(INFER, JSON, "Content-Length: 1000") + b'{"inputs"')
    assert answer.startswith(b"HTTP/1.1 408") and time.perf_counter() - start < 15


def test_a_thousand_half_open_connections_are_closed_and_others_answered(server, unharmed):
    with contextlib.ExitStack() as kept:
        half_open = []
        for turn in range(1000):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            kept.callback(connection.close)
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nX-" if turn % 2 else b"G")
            half_open.append(connection)
        start = time.perf_counter()
        assert server.infer("picky", GOOD)["text"] == ["1.0"]
        assert time.perf_counter() - start < 5
        for connection in half_open[:3] + half_open[-3:]:
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100) == b""  # after the time for a header


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc%2fpasswd", "%00", "picky%2f1", "%0a", "a" * 5000, "%ff", "picky%20"]
)
def test_names_that_lead_elsewhere_are_names_of_nothing(server, name):
    for path in (f"/v2/models/{name}/infer", f"/v2/models/picky/versions/{name}/infer"):
        assert server.http(path, GOOD)[0] == 404
    assert server.http(f"/v1/models/{name}:predict", {"instances": ["1"]})[0] == 404


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "nan"])
def test_floats_that_are_no_numbers_are_refused(server, number):
    body = (
        f'{{"inputs": [{{"name": "audio", "shape": [1], "datatype": "FP32", "data": [{number}]}}]}}'
    )
    status, text = server.http(INFER, body.encode())
    assert status == 400 and json.loads(text)["error"]
    assert server.http(INFER, {**GOOD, "parameters": {"signature": "stream"}})[0] == 400


def test_long_texts_are_refused_before_any_work(server, unharmed):
    for text in ("a" * 501, "\u0301" * 501, "a" * 1_900_000):
        start = time.perf_counter()
        status, answer = server.http("/v2/models/texts/infer", request([text]))
        assert status == 400 and "--max_characters 500" in answer
        assert time.perf_counter() - start < 5


def test_a_model_that_takes_long_holds_its_own_queue(server):
    """A request that is past its deadline keeps its place until it is computed."""
    slow = request(["-20000"], name="image_bytes")
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(server.http(INFER, slow)[0]))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert server.http("/v2/health/live")[0] == 200
    if len(os.sched_getaffinity(0)) > 1:  # models share TensorFlow's threads, one for each core
        assert server.http("/v2/models/texts/infer", request(["2"]))[0] == 200
    for thread in threads:
        thread.join()
    assert {429, 504} <= set(statuses) <= {200, 429, 504}
    for path, body in ((INFER, GOOD), ("/v2/models/texts/infer", request(["2"]))):
        end = time.time() + 120
        while server.http(path, body)[0] != 200:  # until what was too late is computed
            assert time.time() < end
            time.sleep(0.1)


def test_new_versions_under_load_lose_no_request_and_broken_ones_harm_nothing(server):
    texts, statuses, end = request(["3"]), [], time.time() + 8

    def ask():
        while time.time() < end:
            statuses.append(server.http("/v2/models/texts/infer", texts))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    save_picky(server.folder / ".new", name="text", prefix="new:")
    (server.folder / "texts" / "3").mkdir()
    (server.folder / "texts" / "3" / "saved_model.pb").write_bytes(b"broken")
    (server.folder / ".new").rename(server.folder / "texts" / "2")
    for thread in threads:
        thread.join()
    assert {status for status, _ in statuses} == {200}
    assert '"3.0"' in statuses[0][1] and '"new:3.0"' in statuses[-1][1]
    index = json.loads(server.http("/v2/repository/index", {})[1])
    states = {(row["name"], row["version"]): row["state"] for row in index}
    assert states == {
        ("picky", "1"): "READY",
        ("texts", "2"): "READY",
        ("texts", "3"): "UNAVAILABLE",
    }


def test_afterwards_the_server_rests(server):
    time.sleep(1)
    before = server.cpu_seconds()
    time.sleep(4)
    assert server.cpu_seconds() - before < 1  # it looks for new versions twice a second


def test_sigterm_ends_the_server_within_its_grace_time_whatever_runs(server):
    endless = request(["-9000000"], name="image_bytes")
    asked = threading.Thread(target=lambda: server.http(INFER, endless))
    asked.start()
    time.sleep(1)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with contextlib.suppress(OSError):  # refused, or gone already
        assert server.http("/v2/models/texts/infer", request(["1"]))[0] == 503
    start = time.perf_counter()
    assert server.process.wait(timeout=20) == 0, server.log()
    assert time.perf_counter() - start < 10
    asked.join()
