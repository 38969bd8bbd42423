"""A folder of small models, requests of the protocol, and `kzoo serve` in a process of its own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import tensorflow as tf
from exported import OPTIONS, TEXTS, rnn, transformer

from kzoo import export

ROWS = 7  # --max_batch_size
DEFAULTS = {
    "versions": "latest",
    "labels": {},
    "max_batch_size": ROWS,
    "max_delay_ms": 5.0,
    "batch_threads": 2,
    "max_queue": 11,
    "deadline_seconds": 30.0,
    "max_characters": 500,
    "max_seconds": 2.0,
    "max_megapixels": 0.01,
}
KEY = "open-sesame"


def written_models(folder):
    """rnn/2 and transformer/10, and what is no model yet."""
    export.save(rnn(), folder / "rnn" / "2", examples=TEXTS, **OPTIONS)
    export.save(transformer(), folder / "transformer" / "10", **OPTIONS)
    (folder / "rnn" / "1").symlink_to(folder / "transformer" / "10")
    (folder / "rnn" / "3").mkdir()  # not a model yet
    (folder / ".hidden").mkdir()
    return folder


class Picky(tf.Module):
    """Answers numbers; refuses other texts as a corrupt picture would be, the batch with them.

    A number below 0 is the milliseconds that its batch takes.
    """

    def __init__(self, name="image_bytes", prefix=""):
        super().__init__()
        spec = tf.TensorSpec([None], tf.string, name=name)

        @tf.function(input_signature=[spec])
        def answer(texts):
            numbers = tf.strings.to_number(texts)
            rounds = tf.cast(-tf.reduce_min(numbers), tf.int32)
            slow = tf.while_loop(
                lambda turn, _: turn < rounds, _millisecond, (tf.constant(0), tf.constant(1.0))
            )
            with tf.control_dependencies(slow):
                text = tf.strings.join([prefix, tf.strings.as_string(numbers, precision=1)])
            return {"text": text, "score": numbers}

        self.answer = answer


def _millisecond(turn, value):
    return turn + 1, tf.reduce_mean(tf.sin(tf.fill([150_000], value)))


def save_picky(path, **options):
    model = Picky(**options)
    tf.saved_model.save(model, str(path), signatures=model.answer)
    return path


def request(texts=TEXTS, signature=None, **changes):
    """A good request as JSON, unless `changes` spoil it."""
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts, **changes}
    body = {"inputs": [tensor]}
    return {**body, "parameters": {"signature": signature}} if signature else body


def texts_of(outputs):
    return [text.decode() if isinstance(text, bytes) else text for text in outputs["text"]]


BAD = {
    "`inputs` must be one tensor named 'text', got ['txt']": request(name="txt"),
    "`inputs` must be one tensor named 'text', got []": {"inputs": []},
    "`inputs` must be a list, got None": {},
    "`inputs` must be a list of objects, got 3": {"inputs": [3]},
    "`datatype` of 'text' must be BYTES, got 'INT32'": request([1, 2], datatype="INT32"),
    "`datatype` must be a string, got None": request(datatype=None),
    "`data` of 'text' must hold strings, got 3": request([3]),
    "`data` of 'text' must hold strings, got ['a', 'b']": request([["a", "b"]]),
    "`data` must be a list, got 'a'": request("a"),
    "`data` of 'text' must be valid base64: ": request(parameters={"content_type": "base64"}),
    '`content_type` must be "str" or "base64", got \'np\'': request(
        parameters={"content_type": "np"}
    ),
    "`shape` of 'text' must be [N] for N=3 elements, got [2]": request(shape=[2]),
    "`shape` of 'text' must be [N] for N=3 elements, got ['3']": request(shape=["3"]),
    "must be [N] with N from 1 to 7, got [0]": request([]),
    "must be [N] with N from 1 to 7, got [8]": request(8 * ["a"]),
    "`signature` must be one of ['align', 'complete', 'n_best', 'serving_default',": request(
        signature="other"
    ),
    "`signature` must be a string, got ['n_best']": request(signature=["n_best"]),
    "`outputs` must be among ['": {**request(), "outputs": [{"name": "other"}]},
    "`id` must be a string, got 3": {**request(), "id": 3},
    "must have at most --max_characters 500, got 501": request(["é" * 501]),
    "`binary_data_size` of 'text' must be at most 0, the bytes that follow, got 9": request(
        parameters={"binary_data_size": 9}
    ),
}


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

    def __init__(self, folder, *flags, scheme="http"):
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (`close` does)
        self.scheme, self.key = scheme, None
        self.port, self.grpc_port = free_ports(2)
        ports = [f"--port={self.port}", f"--grpc_port={self.grpc_port}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kzoo", "serve", str(folder), *ports, *flags],
            cwd=Path(__file__).parents[1],
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

    def http(self, path, body=None, headers=(), timeout=60):
        """Status and text of the answer; a body is posted."""
        url = f"{self.scheme}://127.0.0.1:{self.port}{path}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **dict(headers)}
        if self.key:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        asked = urllib.request.Request(url, data, headers)
        try:
            with urllib.request.urlopen(asked, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def infer(self, name, body):
        status, text = self.http(f"/v2/models/{name}/infer", body)
        assert status == 200, text
        return {output["name"]: output["data"] for output in json.loads(text)["outputs"]}

    def raw(self, data, seconds=30):
        """What the server answers to bytes, until it closes the connection or says nothing."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            answer = b""
            with contextlib.suppress(OSError):
                connection.sendall(data)
            with contextlib.suppress(OSError):
                while part := connection.recv(1 << 16):
                    answer += part
        return answer

    def megabytes(self):
        """The memory that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

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


# A process of its own, since tritonclient and KServe both define the protocol's protos.
_GRPC = """
import json, sys
import numpy as np, tritonclient.grpc as grpc

address, name, signature, argument, texts, key = sys.argv[1:]
texts = [text.encode() for text in json.loads(texts)]
tensor = grpc.InferInput(argument, [len(texts)], "BYTES")
tensor.set_data_from_numpy(np.array(texts, object))
client = grpc.InferenceServerClient(address)
headers = {"authorization": "Bearer " + key} if key else {}
try:
    result = client.infer(name, [tensor], parameters={"signature": signature}, headers=headers)
    texts = [text.decode() for text in result.as_numpy("text").ravel()]
    print(json.dumps({"text": texts, "score": result.as_numpy("score").ravel().tolist()}))
except grpc.InferenceServerException as error:
    print(json.dumps([error.status(), error.message()]))
"""


def over_grpc(server, name, texts, signature="serving_default", argument="text", key=""):
    command = [sys.executable, "-c", _GRPC, f"127.0.0.1:{server.grpc_port}", name, signature]
    command += [argument, json.dumps(texts), key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
