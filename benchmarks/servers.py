"""Servers in processes of their own, and clients of theirs, for serving.py and soak.py."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc

from benchmarks.memory import resident_megabytes

ROOT = Path(__file__).parents[1]


class Process:
    """A server on free ports, ready when entered.

    Args:
        words: list of str, the command without its ports.
        checkout: path of the kzoo that is run.
    """

    def __init__(self, words, checkout=ROOT):
        self.port, self.grpc_port = free_ports(2)
        python = checkout / ".venv" / "bin" / "python"
        has_its_own = checkout != ROOT and python.exists()
        self._words = [python if has_its_own else sys.executable, "-m", *words]
        self._checkout = str(checkout)

    def __enter__(self):
        self.launch()
        self.wait()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Asks the process to end, and waits for it."""
        self.process.terminate()
        self.process.wait()

    def launch(self):
        """Starts the process."""
        words = [str(word).format(port=self.port, grpc=self.grpc_port) for word in self._words]
        environment = {**os.environ, "PYTHONPATH": self._checkout}
        self.process = subprocess.Popen(
            words,
            cwd=self._checkout,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self):
        """Waits until it is ready."""
        while self.process.poll() is None:
            if self._is_ready():
                return
            time.sleep(0.2)
        raise RuntimeError(f"{' '.join(map(str, self._words))} ended.")

    def _is_ready(self):
        try:
            if "benchmarks.bare_grpc" in self._words:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            client.request("GET", "/v2/health/ready")
            return client.getresponse().status == 200
        except OSError:
            return False

    def versions(self, name):
        """The versions of a model that answer."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(client):
            client.request("GET", f"/v2/models/{name}")
            return json.loads(client.getresponse().read())["versions"]

    def megabytes(self):
        """The memory that the process holds."""
        return resident_megabytes(self.process.pid)

    def cpu_seconds(self):
        """The time of cores that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kzoo_serve(folder, *flags, checkout=ROOT):
    """A Process of `kzoo serve`."""
    words = ["kzoo", "serve", folder, "--host=127.0.0.1", "--port={port}", "--grpc_port={grpc}"]
    return Process([*words, *flags], checkout)


def bare_grpc(path, max_batch_size):
    """A Process of benchmarks/bare_grpc.py."""
    return Process(["benchmarks.bare_grpc", Path(path).resolve(), "{port}", max_batch_size])


class HttpClient:
    """One connection of V2 over HTTP; asks again where there is none."""

    def __init__(self, server, name):
        self._path = f"/v2/models/{name}/infer"
        self._port, self._connection, self.retries = server.port, None, 0

    def text(self, text, signature):
        """The answer to a text."""
        status, answer = self.infer(request(text, signature))
        if status != 200:
            raise RuntimeError(f"{status}: {answer}")
        return next(output["data"][0] for output in answer["outputs"] if output["name"] == "text")

    def infer(self, body):
        """Status and answer, parsed."""
        while True:
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection("127.0.0.1", self._port)
                headers = {"Content-Type": "application/json"}
                self._connection.request("POST", self._path, json.dumps(body), headers)
                response = self._connection.getresponse()
                return response.status, json.loads(response.read())
            except (OSError, http.client.HTTPException):
                self._connection = None
                self.retries += 1
                time.sleep(0.1)

    def infer_once(self, body, cut_off):
        """As `infer`, on a connection of its own; `cut_off` is the status if it is closed early."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        headers = {"Content-Type": "application/json"}
        try:
            connection.request("POST", self._path, json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return cut_off, {}
        finally:
            connection.close()

    def infer_when_ready(self, body):
        """`infer`, again as long as the model is being loaded."""
        while True:
            status, answer = self.infer(body)
            if status != 503:
                return status, answer
            self.retries += 1
            time.sleep(0.1)


class GrpcClient:
    """V2 over gRPC."""

    def __init__(self, server, name):
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as protos

        self._protos, self._name = protos, name
        self._call = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}").unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=protos.ModelInferRequest.SerializeToString,
            response_deserializer=protos.ModelInferResponse.FromString,
        )

    def text(self, text, signature):
        """The answer to a text."""
        message = self._protos.ModelInferRequest(model_name=self._name)
        message.parameters["signature"].string_param = signature
        tensor = message.inputs.add(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(text.encode())
        return self._call(message).raw_output_contents[0]


class BareClient:
    """Bytes over gRPC, for bare_grpc.py."""

    def __init__(self, server, name):
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")

    def text(self, text, signature):
        """The answer to a text."""
        return self._channel.unary_unary(f"/bare/{signature}")(text.encode())


def request(text, signature="serving_default"):
    """A good request of one text."""
    return {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}],
        "parameters": {"signature": signature},
    }


def free_ports(count):
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports
