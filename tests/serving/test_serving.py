"""The server: the same answers over HTTP and gRPC as `kzoo.load`, whatever else comes in."""

import asyncio
import base64
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exported import OPTIONS, TEXTS, multilingual, rnn, transformer

from kzoo import export, serving
from kzoo.__main__ import main

pytest.importorskip("mlserver", reason="needs the extra serving")

from mlserver.errors import MLServerError, ModelNotFound
from mlserver.types import InferenceRequest

README = (Path(__file__).parents[2] / "deploy/README.md").read_text(encoding="utf-8")
ROWS = 7  # --max_batch_size
DEFAULTS = {
    "versions": "latest",
    "max_batch_size": ROWS,
    "max_delay_ms": 5.0,
    "batch_threads": 2,
    "max_queue": 11,
    "deadline_seconds": 30.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models")
    export.save(rnn(), folder / "rnn" / "2", examples=TEXTS, **OPTIONS)
    export.save(transformer(), folder / "transformer" / "10", **OPTIONS)
    (folder / "rnn" / "1").symlink_to(folder / "transformer" / "10")
    (folder / "rnn" / "3").mkdir()  # not a model yet
    (folder / ".hidden").mkdir()
    return folder


@pytest.fixture(scope="module")
def served(folder):
    return {
        "rnn": export.load(folder / "rnn" / "2"),
        "transformer": export.load(folder / "transformer"),
    }


def request(texts=TEXTS, signature=None, **changes):
    """A good request as JSON, unless `changes` spoil it."""
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts, **changes}
    body = {"inputs": [tensor]}
    return {**body, "parameters": {"signature": signature}} if signature else body


def texts_of(outputs):
    return [text.decode() if isinstance(text, bytes) else text for text in outputs["text"]]


# The runtime, in this process.


@pytest.fixture(scope="module")
def runtime(folder):
    """Gives a function from a coroutine function of a loaded model to what that returns."""
    loop, models = asyncio.new_event_loop(), {}

    async def loaded(options):
        (settings,) = await serving.SavedModels(folder, **{**DEFAULTS, **options}).find("rnn")
        model = serving.SavedModelRuntime(settings)
        model.ready = await model.load()
        return model

    def run(use, **options):
        key = tuple(options.items())
        if key not in models:  # tracing takes seconds
            models[key] = loop.run_until_complete(loaded(options))
        return loop.run_until_complete(use(models[key]))

    yield run
    for model in models.values():
        loop.run_until_complete(model.unload())
    loop.close()


def predict(body):
    async def use(model):
        response = await model.predict(InferenceRequest.model_validate(body))
        return {output.name: output for output in response.outputs}

    return use


def test_models_are_found_by_name_and_number(folder, tmp_path):
    found = [(name, version) for name, version, _ in serving.find_models(folder)]
    assert found == [("rnn", "2"), ("transformer", "10")]
    found = [(name, version) for name, version, _ in serving.find_models(folder, "all")]
    assert found == [("rnn", "1"), ("rnn", "2"), ("transformer", "10")]
    ((name, version, path),) = serving.find_models(str(folder / "rnn"))
    assert (name, version, path) == ("rnn", "2", folder / "rnn" / "2")
    assert serving.find_models(tmp_path) == []
    with pytest.raises(FileNotFoundError, match=r"'.*nowhere' does not exist"):
        serving.find_models(tmp_path / "nowhere")


def test_the_repository_finds_what_is_there_only(folder):
    with pytest.raises(ModelNotFound):
        asyncio.run(serving.SavedModels(folder, **DEFAULTS).find("other"))


def test_every_signature_answers_as_load_does(runtime, served):
    outputs = runtime(predict(request()))
    assert texts_of({"text": outputs["text"].data}) == served["rnn"](TEXTS)
    assert outputs["score"].shape == [len(TEXTS)]

    outputs = runtime(predict(request(signature="n_best")))
    pairs = served["rnn"].n_best(TEXTS)
    assert outputs["text"].shape == [len(TEXTS), 3]
    assert texts_of({"text": outputs["text"].data}) == [text for row in pairs for text, _ in row]
    np.testing.assert_allclose(outputs["score"].data, [s for row in pairs for _, s in row], 1e-5)

    outputs = runtime(predict(request(TEXTS[:1], signature="align")))
    expected = served["rnn"].align(TEXTS[0])
    assert [t.decode() for t in outputs["target_tokens"].data] == expected.target_tokens
    assert outputs["alignment"].shape == [1, *expected.weights.shape]
    np.testing.assert_allclose(outputs["alignment"].data, expected.weights.ravel(), 1e-4, 1e-6)


def test_a_signature_of_two_inputs_is_answered_and_wants_both(runtime, served):
    body = request(signature="complete")
    prefixes = {"name": "prefix", "shape": [3], "datatype": "BYTES", "data": ["a", "", "b"]}
    body["inputs"].insert(0, prefixes)
    outputs = runtime(predict(body))
    expected = [served["rnn"].complete(*pair) for pair in zip(TEXTS, ["a", "", "b"], strict=True)]
    assert texts_of({"text": outputs["text"].data}) == [answer.text for answer in expected]

    prefixes |= {"shape": [2], "data": ["a", ""]}
    for message, spoilt in {
        "`inputs` must be tensors named 'text' and 'prefix', got ['text']": request(
            signature="complete"
        ),
        "`inputs` must have the same number of rows, got {'prefix': 2, 'text': 3}": body,
    }.items():
        with pytest.raises(MLServerError, match=re.escape(message)):
            runtime(predict(spoilt))


def test_a_language_may_be_left_out_or_be_one_for_all_texts_or_one_for_each(tmp_path):
    names = ["serving_default", "n_best", "align"]
    export.save(multilingual(), tmp_path / "many" / "1", signatures=names, **OPTIONS)
    served = export.load(tmp_path / "many")

    def asked(languages=None, texts=TEXTS, signature=None):
        body = request(texts, signature)
        if languages is not None:
            tensor = {"name": "language", "shape": [len(languages)], "datatype": "BYTES"}
            body["inputs"].insert(0, {**tensor, "data": languages})
        return body

    async def use():
        (settings,) = await serving.SavedModels(tmp_path, **DEFAULTS).find("many")
        model = serving.SavedModelRuntime(settings)
        await model.load()
        assert [tensor.name for tensor in model.inputs] == ["text", "language"]
        for languages in (None, ["fr"], ["fr", "", "pt_BR"]):
            found = texts_of({"text": (await predict(asked(languages))(model))["text"].data})
            codes = (languages or [""]) * (3 // len(languages or [""]))
            assert found == served(TEXTS, language=codes)
        found = await predict(asked(["fr"], TEXTS[:1], "align"))(model)
        assert found["source_tokens"].data[0].decode() == "▁>>fr<<"
        answers = await asyncio.gather(
            *(predict(asked([code]))(model) for code in ("de", "it", "fr")), return_exceptions=True
        )
        assert texts_of({"text": answers[0]["text"].data}) == served(TEXTS, language="de")
        assert texts_of({"text": answers[2]["text"].data}) == served(TEXTS, language="fr")
        assert answers[1].status_code == 400
        assert "`language` must be one of de, fr, pt_BR, got it, it, it." in str(answers[1])
        for message, body in {
            "rows, got {'language': 2, 'text': 3}": asked(["de", "fr"]),
            "tensors named 'text' and perhaps 'language', got ['txt']": request(name="txt"),
        }.items():
            with pytest.raises(MLServerError, match=re.escape(message)):
                await predict(body)(model)
        await model.unload()

    asyncio.run(use())


def test_a_hypothesis_that_there_is_not_has_the_lowest_score_that_json_can_write(runtime):
    outputs = runtime(predict(request([""], signature="n_best")))
    assert outputs["score"].data.root == [0.0] + 2 * [float(np.finfo(np.float32).min)]


def test_base64_and_nested_rows_are_taken_and_outputs_chosen(runtime, served):
    encoded = [base64.b64encode(text.encode()).decode() for text in TEXTS]
    body = request(encoded, parameters={"content_type": "base64"})
    body["outputs"] = [{"name": "text"}]
    outputs = runtime(predict(body))
    assert list(outputs) == ["text"]
    assert texts_of({"text": outputs["text"].data}) == served["rnn"](TEXTS)
    nested = request([[text] for text in TEXTS], shape=[len(TEXTS), 1])
    assert runtime(predict(nested))["text"].data == outputs["text"].data


BAD = {
    "`inputs` must be one tensor named 'text', got ['txt']": request(name="txt"),
    "`inputs` must be one tensor named 'text', got []": {"inputs": []},
    "`datatype` of 'text' must be BYTES, got 'INT32'": request([1, 2], datatype="INT32"),
    "`data` of 'text' must hold strings, got 3": request([3]),
    "`data` of 'text' must hold strings, got ['a', 'b']": request([["a", "b"]]),
    "`data` must be a list, got 'a'": request("a"),
    "`data` of 'text' must be valid base64: ": request(parameters={"content_type": "base64"}),
    '`content_type` must be "str" or "base64", got \'np\'': request(
        parameters={"content_type": "np"}
    ),
    "`shape` of 'text' must be [N] for N=3 elements, got [2]": request(shape=[2]),
    "must be [N] with N from 1 to 7, got [0]": request([]),
    "must be [N] with N from 1 to 7, got [8]": request(8 * ["a"]),
    "`signature` must be one of ['align', 'complete', 'n_best', 'serving_default',": request(
        signature="other"
    ),
    "`outputs` must be among ['": {**request(), "outputs": [{"name": "other"}]},
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_request_is_named_with_status_400_and_the_next_is_answered(runtime, served, message):
    async def use(model):
        with pytest.raises(MLServerError) as refused:
            await predict(BAD[message])(model)
        return refused.value, await predict(request())(model)

    error, outputs = runtime(use)
    assert message in str(error) and error.status_code == 400
    assert texts_of({"text": outputs["text"].data}) == served["rnn"](TEXTS)


def test_requests_at_the_same_time_share_batches_and_get_their_own_rows(runtime, served):
    bodies = [request([TEXTS[i % 3], TEXTS[(i + 1) % 3]][: 1 + i % 2]) for i in range(11)]

    async def use(model):
        start = time.perf_counter()
        answers = await asyncio.gather(*(predict(body)(model) for body in bodies))
        return answers, time.perf_counter() - start

    answers, seconds = runtime(use, max_delay_ms=1000.0)
    for body, outputs in zip(bodies, answers, strict=True):
        expected = served["rnn"](body["inputs"][0]["data"])
        assert texts_of({"text": outputs["text"].data}) == expected
    assert seconds < 11  # one after the other they would wait a second each


def test_two_models_at_the_same_time_do_not_share_batches(runtime, served, folder):
    async def use(model):
        (settings,) = await serving.SavedModels(folder, **DEFAULTS).find("transformer")
        other = serving.SavedModelRuntime(settings)
        await other.load()
        bodies = [request(TEXTS[:1]) for _ in range(6)]
        pairs = zip(bodies, 3 * [model, other], strict=True)
        return await asyncio.gather(*(predict(body)(each) for body, each in pairs))

    for turn, outputs in enumerate(runtime(use)):
        expected = served["transformer" if turn % 2 else "rnn"](TEXTS[0])
        assert texts_of({"text": outputs["text"].data}) == [expected]


def test_a_batch_size_of_one_answers_without_batches(runtime, served):
    outputs = runtime(predict(request(TEXTS[:1])), max_batch_size=1)
    assert texts_of({"text": outputs["text"].data}) == [served["rnn"](TEXTS[0])]


def test_more_requests_than_the_queue_holds_get_429_and_late_ones_504(runtime):
    async def use(model):
        bodies = [request(TEXTS[:1]) for _ in range(4)]
        tasks = [predict(body)(model) for body in bodies]
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        held = model.in_flight
        while model.in_flight:
            await asyncio.sleep(0.05)
        return errors, held

    errors, held = runtime(use, max_queue=3, max_delay_ms=1500.0, deadline_seconds=0.2)
    assert [error.status_code for error in errors] == [504, 504, 504, 429]
    assert "no answer within 0.2 seconds" in str(errors[0])
    assert "3 requests are waiting already" in str(errors[3])
    assert held == 3  # they take their places until they are computed


def test_a_draining_model_refuses_with_503(runtime):
    async def use(model):
        model.is_draining = True
        try:
            await predict(request())(model)
        finally:
            model.is_draining = False

    with pytest.raises(MLServerError, match="the server is shutting down") as refused:
        runtime(use)
    assert refused.value.status_code == 503


class Picky(tf.Module):
    """Refuses the text "bad" as a corrupt picture would be, its whole batch with it."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def answer(self, image_bytes):
        numbers = tf.strings.to_number(image_bytes)
        return {"text": tf.strings.as_string(numbers, precision=1), "score": numbers}


def test_a_corrupt_input_fails_alone_though_it_shares_a_batch(tmp_path):
    model = Picky()
    tf.saved_model.save(model, str(tmp_path / "picky" / "1"), signatures=model.answer)

    async def use():
        options = {**DEFAULTS, "max_delay_ms": 300.0}
        (settings,) = await serving.SavedModels(tmp_path, **options).list()
        runtime = serving.SavedModelRuntime(settings)
        await runtime.load()
        bodies = [request([text], name="image_bytes") for text in ("1", "bad", "2")]
        return await asyncio.gather(
            *(predict(body)(runtime) for body in bodies), return_exceptions=True
        )

    one, bad, two = asyncio.run(use())
    assert (texts_of({"text": one["text"].data}), two["score"].data.root) == (["1.0"], [2.0])
    assert bad.status_code == 400 and "The model refuses this input" in str(bad)


# The command line.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "does not exist"),
        (["."], "holds no <name>/<version>/saved_model.pb"),
        (["MODELS", "--max_queue", "0"], "`max_queue` must be at least 1, got max_queue=0"),
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


# The server, a process of its own.


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for taken in sockets:
        taken.bind(("127.0.0.1", 0))
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


class Server:
    """`python -m kzoo serve` on free ports."""

    def __init__(self, folder, *flags):
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (`close` does)
        self.port, self.grpc_port, self.metrics_port = free_ports(3)
        ports = [f"--port={self.port}", f"--grpc_port={self.grpc_port}"]
        ports += [f"--metrics_port={self.metrics_port}", "--host=127.0.0.1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kzoo", "serve", str(folder), *ports, *flags],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def log(self):
        self._log.seek(0)
        return self._log.read().decode()

    def close(self):
        self.process.kill()
        self.process.wait()
        self._log.close()

    def http(self, path, body=None, port=None):
        """Status and text of the answer; a body is posted."""
        url = f"http://127.0.0.1:{port or self.port}{path}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers), timeout=60
            ) as a:
                return a.status, a.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def infer(self, name, body):
        status, text = self.http(f"/v2/models/{name}/infer", body)
        assert status == 200, text
        return {output["name"]: output["data"] for output in json.loads(text)["outputs"]}

    def wait_until_ready(self):
        statuses = []
        for _ in range(3000):  # 5 minutes: beside other work
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(OSError):
                statuses.append(self.http("/v2/health/ready")[0])
            if statuses[-1:] == [200]:
                return statuses
            time.sleep(0.1)
        raise AssertionError("never ready")


@pytest.fixture(scope="module")
def server(folder):
    server = Server(folder, f"--max_batch_size={ROWS}", "--max_delay_ms=200")
    with contextlib.closing(server):
        server.statuses = server.wait_until_ready()
        yield server


@pytest.mark.slow
def test_the_server_is_ready_when_its_models_are(server):
    assert set(server.statuses) <= {200, 400}
    assert server.http("/v2/health/live")[0] == 200
    for name, version in (("rnn", "2"), ("transformer", "10")):
        assert server.http(f"/v2/models/{name}/ready")[0] == 200
        status, text = server.http(f"/v2/models/{name}")
        assert status == 200 and json.loads(text)["versions"] == [version]
        assert json.loads(text)["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    index = json.loads(server.http("/v2/repository/index", {})[1])
    assert {(row["name"], row["version"], row["state"]) for row in index} == {
        ("rnn", "2", "READY"),
        ("transformer", "10", "READY"),
    }


# A process of its own, since tritonclient and MLServer both define the protocol's protos.
GRPC = """
import json, sys
import numpy as np, tritonclient.grpc as grpc

address, name, signature, argument, texts = sys.argv[1:]
texts = [text.encode() for text in json.loads(texts)]
tensor = grpc.InferInput(argument, [len(texts)], "BYTES")
tensor.set_data_from_numpy(np.array(texts, object))
client = grpc.InferenceServerClient(address)
try:
    result = client.infer(name, [tensor], parameters={"signature": signature})
    texts = [text.decode() for text in result.as_numpy("text").ravel()]
    print(json.dumps({"text": texts, "score": result.as_numpy("score").ravel().tolist()}))
except grpc.InferenceServerException as error:
    print(json.dumps([error.status(), error.message()]))
"""


def over_grpc(server, name, texts, signature="serving_default", argument="text"):
    command = [sys.executable, "-c", GRPC, f"127.0.0.1:{server.grpc_port}", name, signature]
    command += [argument, json.dumps(texts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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
    for body in bodies:
        status, text = server.http("/v2/models/rnn/infer", body)
        assert status == 400 and json.loads(text)["error"], (body, text)
    assert server.http("/v2/models/other/infer", request())[0] == 404
    assert texts_of(server.infer("rnn", request())) == served["rnn"](TEXTS)
    status, text = server.http("/metrics", port=server.metrics_port)
    assert status == 200 and 'model_infer_request_failure_total{model="rnn"' in text
    assert 'kzoo_requests_in_flight{model="rnn"} 0.0' in text


@pytest.mark.slow
def test_the_readmes_curl_command_is_answered(server, served):
    (body,) = re.findall(r"""-d '(\{"inputs".*)'$""", README, re.MULTILINE)
    assert sorted(server.infer("rnn", body.encode())) == ["score", "text"]


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
def test_a_model_that_cannot_be_loaded_ends_the_server_with_code_1(tmp_path):
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"no model")
    server = Server(tmp_path)
    with contextlib.closing(server):
        assert server.process.wait(timeout=120) == 1, server.log()
        assert "Couldn't load model 'broken'" in server.log()
