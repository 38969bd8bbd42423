"""Load on `python -m kzoo serve` over loopback: throughput, latency, and whether it stays up.

    python -m benchmarks.serving                                   # with and without batching
    python -m benchmarks.serving --minutes 10                      # then a soak
    python -m benchmarks.serving --model saved_models/demo-en-de --texts sentences.txt

Clients are threads of this process, each with one HTTP connection, and each sends its next request
when it has the answer to the last one; a request is one text. Without `--model` the model is a
`transformer_tiny` with random weights, which writes 32 tokens for any text: more than most answers
have. Client and server share the machine, so that absolute figures mean little.

The soak sends good requests and, one in four, bad ones; kills the server with SIGKILL half-way and
starts it again; and fails unless every good request got the answer that `kzoo.load` gives, and
every bad one status 400. Clients try again while there is no server or it answers 503.
"""

import argparse
import http.client
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

TEXTS = """Turn off the light.
The device is offline, try again in a minute.
A little girl climbing into a wooden playhouse.
Several men in hard hats are operating a giant pulley system.
Two young men are outside near many bushes.
Enter the address of the server and the port that it listens on.
No.
The update could not be installed because there is not enough space on the disk.""".splitlines()

BAD = [
    {"inputs": [{"name": "txt", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
    {"inputs": [{"name": "text", "shape": [1], "datatype": "INT32", "data": [1]}]},
    {"inputs": [{"name": "text", "shape": [0], "datatype": "BYTES", "data": []}]},
    {"inputs": [{"name": "text", "shape": [99], "datatype": "BYTES", "data": 99 * ["a"]}]},
    {
        "inputs": [
            {
                "name": "text",
                "shape": [1],
                "datatype": "BYTES",
                "data": ["no base64"],
                "parameters": {"content_type": "base64"},
            }
        ]
    },
    {"inputs": "x" * 100_000},
]


def main(arguments=None):
    """Runs the command line; exit code 1 if the soak found a wrong answer."""
    args = _parser().parse_args(arguments)
    texts = Path(args.texts).read_text("utf-8").splitlines()[:256] if args.texts else TEXTS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(args.model) if args.model else random_model(Path(folder) / "random" / "1")
        models = path.parent.parent if path.name.isdigit() else path.parent
        name = path.parent.name if path.name.isdigit() else path.name
        print(f"model {name}, {len(texts)} texts, {os.cpu_count()} cores")
        print("| batching | clients | requests/s | p50 ms | p99 ms |\n|---|---|---|---|---|")
        for size, clients in itertools.product((1, 32), args.clients):
            with Server(models, f"--max_batch_size={size}", "--max_queue=256") as server:
                load(server, name, texts, clients, 3)  # nobody's first request
                start = time.perf_counter()
                seconds = load(server, name, texts, clients, args.seconds)
                rate = len(seconds) / (time.perf_counter() - start)
            p50, p99 = 1000 * np.percentile(seconds, [50, 99])
            label = "yes" if size > 1 else "no"
            print(f"| {label} | {clients} | {rate:.1f} | {p50:.1f} | {p99:.1f} |", flush=True)
        if args.minutes and not soak(models, name, path, texts, args.minutes):
            raise SystemExit(1)


def random_model(path):
    """Exports an untrained transformer_tiny; returns its path."""
    import keras
    import tensorflow as tf

    from kzoo import SubwordTokenizer, export, zoo

    keras.utils.set_random_seed(1)
    words = Path(__file__).parents[1].joinpath("recipes/README.md").read_text("utf-8").splitlines()
    tokenizer = SubwordTokenizer.learn([*words, *TEXTS], vocabulary_size=1500)
    model = zoo.transformer_tiny(tokenizer, tokenizer)
    model({"source": tf.constant([[4, 5, 2]]), "target": tf.constant([[1, 5]])})
    return export.save(model, path, max_length=32, examples=TEXTS)


class Server:
    """`python -m kzoo serve` in a process of its own, ready when entered."""

    def __init__(self, models, *flags):
        self.port, *others = _free_ports(3)
        ports = zip(("port", "grpc_port", "metrics_port"), (self.port, *others), strict=True)
        flags = [*flags, "--host=127.0.0.1", *(f"--{name}={port}" for name, port in ports)]
        self._command = [sys.executable, "-m", "kzoo", "serve", str(models), *flags]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def start(self):
        """Starts it and waits until it is ready."""
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{' '.join(self._command)} ended.")
            try:
                client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                client.request("GET", "/v2/health/ready")
                if client.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.2)

    def megabytes(self):
        """The memory that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


class Client:
    """One connection; asks again where there is none."""

    def __init__(self, port, name):
        self._path = f"/v2/models/{name}/infer"
        self._port, self._connection, self.retries = port, None, 0

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

    def infer_when_ready(self, body):
        """`infer`, again as long as the model is being loaded."""
        while True:
            status, answer = self.infer(body)
            if status != 503:
                return status, answer
            self.retries += 1
            time.sleep(0.1)


def load(server, name, texts, clients, seconds):
    """Seconds that each request took, of so many clients in so many seconds."""
    durations, end = [], time.perf_counter() + seconds

    def work(number):
        client = Client(server.port, name)
        for text in itertools.islice(itertools.cycle(texts), number, None):
            start = time.perf_counter()
            if start > end:
                return
            status, answer = client.infer(request(text))
            if status != 200:
                raise RuntimeError(f"{status}: {answer}")
            durations.append(time.perf_counter() - start)

    _in_threads(work, clients)
    return durations


def soak(models, name, path, texts, minutes, clients=8):
    """Good and bad requests, a kill half-way; True if every answer was right."""
    import kzoo

    expected = dict(zip(texts, kzoo.load(path)(texts), strict=True))
    counts, wrong, lock = {"good": 0, "bad": 0, "retries": 0}, [], threading.Lock()
    end = time.perf_counter() + 60 * minutes

    def work(number):
        client = Client(server.port, name)
        for turn in itertools.count(number):
            if time.perf_counter() > end:
                break
            text, is_bad = texts[turn % len(texts)], turn % 4 == 3
            body = BAD[turn // 4 % len(BAD)] if is_bad else request(text)
            status, answer = client.infer_when_ready(body)
            is_right = status == (400 if is_bad else 200)
            if is_right and not is_bad:
                outputs = {output["name"]: output["data"] for output in answer["outputs"]}
                is_right = outputs["text"] == [expected[text]]
            with lock:
                counts["bad" if is_bad else "good"] += 1
                if not is_right:
                    wrong.append((body, status, answer))
        with lock:
            counts["retries"] += client.retries

    with Server(models) as server:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(15 * minutes)
        memory = [server.megabytes()]
        time.sleep(15 * minutes)
        memory.append(server.megabytes())
        server.process.kill()
        server.process.wait()
        start = time.perf_counter()
        server.start()
        restart_seconds = time.perf_counter() - start
        left = end - time.perf_counter()
        time.sleep(max(left / 2, 0))
        memory.append(server.megabytes())
        for thread in threads:
            thread.join()
        memory.append(server.megabytes())
    print(
        f"soak of {minutes:g} min, {clients} clients: {counts['good']} good and {counts['bad']} "
        f"bad requests, {len(wrong)} wrong; kill -9 half-way, ready again after "
        f"{restart_seconds:.1f} s ({counts['retries']} retries). Memory, MB: "
        f"{memory[0]:.0f} -> {memory[1]:.0f}, after the restart {memory[2]:.0f} -> {memory[3]:.0f}"
    )
    for body, status, answer in wrong[:5]:
        print(f"wrong: {str(body)[:100]} -> {status} {str(answer)[:200]}")
    return not wrong


def request(text):
    """A good request of one text."""
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}


def _in_threads(work, count):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports


def _parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a SavedModel's folder, or that of its versions")
    parser.add_argument("--texts", help="file of sources, one a line")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=15, help="of each row of the table")
    parser.add_argument("--minutes", type=float, default=0, help="of the soak; 0 for none")
    return parser


if __name__ == "__main__":
    main()
