"""`kzoo serve`, a process of its own: the same answers over HTTP and gRPC as `kzoo.load`."""

import concurrent.futures
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from exported import TEXTS
from served_folder import BAD, ROWS, Server, over_grpc, request, texts_of

from kzoo import serving
from kzoo.__main__ import main

pytest.importorskip("kserve", reason="needs the extra serving")

README = (Path(__file__).parents[2] / "deploy/README.md").read_text(encoding="utf-8")


def test_models_are_found_by_name_and_number(folder, tmp_path):
    found = [(name, version) for name, version, _ in serving.find_models(folder)]
    assert found == [("rnn", "2"), ("transformer", "10")]
    found = [(name, version) for name, version, _ in serving.find_models(folder, "all")]
    assert found == [("rnn", "1"), ("rnn", "2"), ("transformer", "10")]
    half = tmp_path / ".3.tmp" / "3"  # as `export.save` writes
    half.mkdir(parents=True)
    (half / "saved_model.pb").write_bytes(b"")
    ((name, version, path),) = serving.find_models(str(folder / "rnn"))
    assert (name, version, path) == ("rnn", "2", folder / "rnn" / "2")
    assert serving.find_models(tmp_path) == []
    with pytest.raises(FileNotFoundError, match=r"'.*nowhere' does not exist"):
        serving.find_models(tmp_path / "nowhere")


# The command line.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "does not exist"),
        (["."], "holds no <name>/<version>/saved_model.pb"),
        (["MODELS", "--max_queue", "0"], "`max_queue` and `max_characters` must be at least 1"),
        (["MODELS", "--max_body_mb", "nan"], "must be finite and positive, got"),
        (["MODELS", "--poll_seconds", "-1"], "must be finite and not negative"),
        (["MODELS", "--api_key", "sesame"], "`api_key` must be 8 printable ASCII characters"),
        (["MODELS", "--ssl_certfile", "a"], "`ssl_certfile` and `ssl_keyfile` come together"),
        (["MODELS", "--ssl_certfile", "a", "--ssl_keyfile", "b"], "'a' does not exist"),
        (["MODELS", "--label", "rnn=1"], "must be MODEL/LABEL=VERSION, and LABEL no number"),
        (["MODELS", "--label", "rnn/1=1"], "got label='rnn/1=1'"),
        (["MODELS", "--port", "TAKEN"], "in use"),
        ([], "FOLDER"),
    ],
)
def test_the_command_ends_with_a_message_and_code_2(
    arguments, message, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = {"MODELS": str(folder), "TAKEN": str(taken.getsockname()[1])}
        arguments = [words.get(word, word) for word in arguments]
        with pytest.raises(SystemExit) as stopped:
            main(["serve", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kzoo.serving", None)
    monkeypatch.delattr("kzoo.serving")
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "saved_models"])
    assert stopped.value.code == 2
    assert "pip install 'kzoo[serving]'" in capsys.readouterr().err


# The server.


@pytest.fixture(scope="module")
def server(folder):
    server = Server(folder, f"--max_batch_size={ROWS}", "--max_delay_ms=200", *LIMITS)
    with contextlib.closing(server):
        server.statuses = server.wait_until_ready()
        yield server


LIMITS = ("--max_characters=500",)


@pytest.mark.slow
def test_the_server_is_ready_when_its_models_are(server):
    assert set(server.statuses) <= {200, 503}
    counted = re.compile("^kzoo_re(?:quests|fused)_total.*", re.MULTILINE)
    before = counted.findall(server.http("/metrics")[1])
    assert server.http("/v2/health/live")[0] == 200
    for name, version in (("rnn", "2"), ("transformer", "10")):
        assert server.http(f"/v2/models/{name}/ready")[0] == 200
        assert server.http(f"/v1/models/{name}")[0] == 200
        status, text = server.http(f"/v2/models/{name}")
        assert status == 200 and json.loads(text)["versions"] == [version]
        assert json.loads(text)["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        assert server.http(f"/v2/models/{name}/versions/{version}/ready")[0] == 200
        assert server.http(f"/v2/models/{name}/versions/7/ready")[0] == 404
    assert counted.findall(server.http("/metrics")[1]) == before  # none of these is a request
    index = json.loads(server.http("/v2/repository/index", {})[1])
    assert {(row["name"], row["version"], row["state"]) for row in index} == {
        ("rnn", "2", "READY"),
        ("transformer", "10", "READY"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn", "transformer"])
def test_http_and_grpc_give_the_answers_of_load(server, served, name):
    texts = [*TEXTS, "", "😀"]
    best = [pairs[0] for pairs in served[name].n_best(texts)]
    for outputs in server.infer(name, request(texts)), over_grpc(server, name, texts):
        assert outputs["text"] == [text for text, _ in best]
        np.testing.assert_allclose(outputs["score"], [score for _, score in best], rtol=1e-5)
    http = server.infer(name, request(texts, "n_best"))
    assert over_grpc(server, name, texts, "n_best")["text"] == http["text"]
    status, text = server.http(f"/v1/models/{name}:predict", {"instances": texts})
    assert status == 200
    assert [row["text"] for row in json.loads(text)["predictions"]] == [text for text, _ in best]


@pytest.mark.slow
def test_grpc_names_what_is_bad_about_a_request(server):
    status, message = over_grpc(server, "rnn", ["a"], argument="txt")
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert message == "`inputs` must be one tensor named 'text', got ['txt']."
    assert over_grpc(server, "other", ["a"])[0] == "StatusCode.NOT_FOUND"
    assert over_grpc(server, "rnn", [])[0] == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.slow
def test_the_readmes_grpc_example_runs(server, served):
    (code,) = re.findall(r"```python\n(import numpy as np, tritonclient.*?)```", README, re.DOTALL)
    code = code.replace("localhost:8081", f"127.0.0.1:{server.grpc_port}")
    command = [sys.executable, "-c", code.replace("demo-en-de", "rnn")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert repr(served["rnn"]("Turn off the light.").encode()) in done.stdout


@pytest.mark.slow
def test_bad_requests_get_400_and_the_server_lives_on(server, served):
    bodies = [*BAD.values(), b"", b"{", b"\xff", b"[]", b"{}", request(datatype="TEXT")]
    bodies += [b"[" * 1000 + b"]" * 1000, b'{"inputs": ' + b"[" * 990 + b"]" * 990 + b"}"]
    bodies += [b'{"inputs": NaN}', b"[" * 100_000, b'{"id": "\\ud800", "inputs": []}']
    for body in bodies:
        status, text = server.http("/v2/models/rnn/infer", body)
        assert status == 400 and json.loads(text)["error"], (body, text)
    assert server.http("/v2/models/other/infer", request())[0] == 404
    for path in ("/v2/nothing", "/v2/models/rnn/config", "/v1/models/other"):
        status, text = server.http(path)
        assert status == 404 and path.rpartition("/")[2] in json.loads(text)["error"]
    assert server.http("/v2/models/rnn/infer")[0] == 405
    assert texts_of(server.infer("rnn", {**request(), "id": "naïve 😀"})) == served["rnn"](TEXTS)
    status, text = server.http("/metrics")
    counted = 'kzoo_requests_total{model="rnn",signature="serving_default",status="%d"}'
    assert status == 200 and counted % 400 in text and counted % 200 in text
    assert 'kzoo_requests_in_flight{model="rnn"} 0.0' in text
    assert 'kzoo_batch_rows_count{model="rnn",signature="serving_default"}' in text
    assert 'kzoo_model_ready{model="rnn",version="2"} 1.0' in text
    assert "Traceback" not in server.log()


@pytest.mark.slow
def test_names_that_are_asked_for_do_not_become_labels(server):
    size = len(server.http("/metrics")[1])
    for turn in range(50):
        assert server.http(f"/v2/models/unknown-{turn}/infer", request())[0] == 404
        assert server.http(f"/v2/models/rnn/versions/{turn + 50}/infer", request())[0] == 404
        assert server.http("/v2/models/rnn/infer", request(signature=f"s{turn}"))[0] == 400
    status, text = server.http("/metrics")
    assert status == 200 and "unknown-7" not in text and len(text) < size + 1000


@pytest.mark.slow
def test_the_readmes_curl_commands_are_answered(server):
    bodies = re.findall(r"""-d '(\{"inputs".*)'$""", README, re.MULTILINE)
    assert len(bodies) == 1 and sorted(server.infer("rnn", bodies[0].encode())) == ["score", "text"]
    instances = re.findall(r"""(:\d+)/v1/models/demo-en-de:predict.*\n.*-d '(.*)'$""", README, re.M)
    mine = [body for port, body in instances if port == ":8080"]
    assert len(mine) == 1
    status, text = server.http("/v1/models/rnn:predict", mine[0].encode())
    assert status == 200 and json.loads(text)["predictions"]


@pytest.mark.slow
def test_a_request_in_flight_is_answered_after_sigterm(server, served):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(server.infer, "rnn", request([text])) for text in TEXTS[:2]]
        time.sleep(0.1)  # it waits 0.2 s for its batch
        server.process.send_signal(signal.SIGTERM)
        for answer, text in zip(answers, TEXTS[:2], strict=False):
            assert texts_of(answer.result()) == [served["rnn"](text)]
    assert server.process.wait(timeout=60) == 0, server.log()
    assert "Traceback" not in server.log()


@pytest.mark.slow
def test_a_folder_of_broken_models_ends_the_server_with_code_1(tmp_path):
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"no model")
    server = Server(tmp_path)
    with contextlib.closing(server):
        assert server.process.wait(timeout=120) == 1, server.log()
        assert "Couldn't load model 'broken'" in server.log()
