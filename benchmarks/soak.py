"""Ten minutes of good and bad requests at `kzoo serve`, kill -9 half-way, new versions under load.

    python -m benchmarks.soak saved_models/translation-en-de --minutes 10

One request in four is bad, in ways that take turns. Twice in each half a new version, a copy of the
model, comes into the folder, and once a broken one. The script fails unless every good request got
the answer of `kzoo.load`, every bad one its status, and no request but those that the kill cut off
was lost. Then it waits, and measures what the idle server takes.

    python -m benchmarks.soak saved_models/translation-en-de --reloads 100

brings so many new versions instead, one after the other, while one client asks ten times a second,
and prints the memory after every ten. What it grows by is what the server keeps of versions that
are gone.
"""

import argparse
import itertools
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import kzoo
from benchmarks import figures, servers
from benchmarks.serving import TEXTS
from kzoo.export.folder import next_version, of_saved_model

_IDLE_SECONDS = 30
_RELOADS = 10  # between two measurements of memory
_COMES_SECONDS = 120  # in which a new version answers
_CLOSED_SECONDS = 3  # after which the server has let go of a version that was replaced


def _spoilt(**changes):
    body = servers.request("a")
    body["inputs"][0].update(changes)
    return body


BAD = [  # body, status
    (_spoilt(name="txt"), 400),
    (_spoilt(datatype="INT32", data=[1]), 400),
    (_spoilt(shape=[0], data=[]), 400),
    (_spoilt(shape=[99], data=99 * ["a"]), 400),
    (_spoilt(data=["no base64"], parameters={"content_type": "base64"}), 400),
    (_spoilt(data=["\u0301" * 30_000]), 400),
    (_spoilt(data=["x" * 2_000_000]), 400),
    ({"inputs": "x" * 100_000}, 400),
    ({**servers.request("a"), "parameters": {"signature": ["n_best"]}}, 400),
    (_spoilt(data=["x" * 17_000_000]), 413),
]


class Counts:
    """What the clients saw."""

    def __init__(self):
        self.good, self.bad, self.wrong, self.clients = 0, 0, [], []
        self._lock = threading.Lock()

    def retries(self):
        """How often the clients had to ask again until now."""
        return sum(client.retries for client in self.clients)

    def add(self, is_bad, fault):
        """Notes a request; `fault` is None or what was wrong."""
        with self._lock:
            self.bad, self.good = self.bad + is_bad, self.good + (not is_bad)
            if fault:
                self.wrong.append(fault)


def main(arguments=None):
    """Runs the command line; exit code 1 if something was answered wrongly or lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a SavedModel's folder, or that of its versions")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--reloads", type=int, help="only bring so many new versions")
    parser.add_argument("--max_batch_size", type=int, default=32, help="of the server")
    parser.add_argument("--json", type=Path, help="file for the memory of --reloads")
    args = parser.parse_args(arguments)
    if args.json and args.reloads is None:
        parser.error("--json keeps the memory of --reloads; give that, too")
    facts = figures.facts("soak", "kserve")
    with tempfile.TemporaryDirectory() as folder:
        source, models = of_saved_model(args.model), Path(folder) / "model"
        shutil.copytree(source, models / "1")
        expected = dict(zip(TEXTS, kzoo.load(source)(TEXTS), strict=True))
        if args.reloads is None:
            is_good = _soaked(models, source, expected, args)
        else:
            is_good = _reloaded(models, source, expected, args, facts)
        if not is_good:
            raise SystemExit(1)


def _soaked(models, source, expected, args):
    counts, memory, lost = Counts(), [], []
    flags = ("--poll_seconds=2", f"--max_batch_size={args.max_batch_size}")
    with servers.kzoo_serve(models, *flags) as server:
        end = time.perf_counter() + 60 * args.minutes
        threads = [
            threading.Thread(target=_ask, args=(server, turn, expected, end, counts))
            for turn in range(args.clients)
        ]
        for thread in threads:
            thread.start()
        for half in range(2):
            for quarter in range(2):
                time.sleep(10 * args.minutes)  # a sixth
                memory.append(server.megabytes())
                _add_version(models, source, is_broken=quarter == 1 and half == 0)
            time.sleep(10 * args.minutes)
            memory.append(server.megabytes())
            if half == 0:
                lost.append(counts.retries())
                server.process.kill()
                server.process.wait()
                server.launch()
                server.wait()
                time.sleep(2)
                lost.append(counts.retries())
        for thread in threads:
            thread.join()
        memory.append(server.megabytes())
        time.sleep(_IDLE_SECONDS / 3)
        before = server.cpu_seconds()
        time.sleep(_IDLE_SECONDS)
        idle = (server.cpu_seconds() - before) / _IDLE_SECONDS
        versions = sorted(path.name for path in models.iterdir())
    by_reload = lost[0] + counts.retries() - lost[1]
    print(
        f"soak of {args.minutes:g} min, {args.clients} clients, {os.cpu_count()} cores: "
        f"{counts.good} good and {counts.bad} bad requests, {len(counts.wrong)} answered wrongly; "
        f"versions {versions}; {lost[1] - lost[0]} requests again because of kill -9, {by_reload} "
        f"for other reasons. Memory, MB: {', '.join(f'{mb:.0f}' for mb in memory)}. "
        f"Idle afterwards: {idle:.1%} of a core."
    )
    for fault in counts.wrong[:5]:
        print(f"wrong: {fault}")
    return not counts.wrong and not by_reload


def _reloaded(models, source, expected, args, facts):
    counts, memory, is_over = Counts(), [], threading.Event()
    found = {"facts": facts, "rows": []}
    flags = ("--poll_seconds=0.5", f"--max_batch_size={args.max_batch_size}")
    with servers.kzoo_serve(models, *flags) as server:
        asking = threading.Thread(target=_ask_gently, args=(server, expected, is_over, counts))
        asking.start()
        start = time.perf_counter()
        try:
            for reloads in range(args.reloads + 1):
                if reloads:
                    _replace(models, source, server)
                if reloads % _RELOADS == 0:
                    time.sleep(_CLOSED_SECONDS)
                    memory.append(server.megabytes())
                    seconds = time.perf_counter() - start
                    print(f"{reloads} reloads, {seconds:.0f} s: {memory[-1]:.0f} MB", flush=True)
                    row = {"reloads": reloads, "megabytes": memory[-1], "requests": counts.good}
                    found["rows"].append({**row, "wrong": len(counts.wrong)})
                    figures.write(found, args.json, is_over=False)
        finally:
            is_over.set()
            asking.join()
    figures.write(found, args.json)
    for fault in counts.wrong[:5]:
        print(f"wrong: {fault}")
    print(
        f"{args.reloads} reloads, {counts.good} requests, {len(counts.wrong)} answered wrongly, "
        f"{counts.retries()} again. Memory, MB: {', '.join(f'{mb:.0f}' for mb in memory)}."
    )
    return not counts.wrong and not counts.retries()


def table(found):
    """The table of README.md, out of what `--json` has written with --reloads."""
    reloads, megabytes, requests, wrong = (
        [f"{row[key]:,.0f}" for row in found["rows"]]
        for key in ("reloads", "megabytes", "requests", "wrong")
    )
    rows = [["resident MB", *megabytes], ["requests", *requests], ["answered wrongly", *wrong]]
    return figures.table(["reloads", *(f">{count}" for count in reloads)], rows, found["facts"])


def _replace(models, source, server):
    """Brings a new version, waits until it answers, and removes the one before."""
    before = [path for path in models.iterdir() if path.name.isdigit()]
    new = _add_version(models, source, is_broken=False)
    end = time.monotonic() + _COMES_SECONDS
    while server.versions("model") != [new]:
        if time.monotonic() > end:
            raise RuntimeError(f"Version {new} did not come within {_COMES_SECONDS} s.")
        time.sleep(0.05)
    for path in before:
        shutil.rmtree(path)


def _ask_gently(server, expected, is_over, counts):
    client = servers.HttpClient(server, "model")
    counts.clients.append(client)
    for text, answer in itertools.cycle(expected.items()):
        if is_over.wait(0.1):
            return
        status, got = client.infer_when_ready(servers.request(text))
        is_right = status == 200 and _text(got) == answer
        counts.add(False, None if is_right else (text, status, str(got)[:200]))


def _ask(server, number, expected, end, counts):
    client, texts = servers.HttpClient(server, "model"), [*expected]
    counts.clients.append(client)
    for turn in itertools.count(number):
        if time.perf_counter() > end:
            return
        text, is_bad = texts[turn % len(texts)], turn % 4 == 3
        body, status = BAD[turn // 4 % len(BAD)] if is_bad else (servers.request(text), 200)
        if status == 413:
            got, answer = client.infer_once(body, cut_off=413)
        else:
            got, answer = client.infer_when_ready(body)
        fault = None if got == status else (str(body)[:100], got, str(answer)[:200])
        if not fault and not is_bad and _text(answer) != expected[text]:
            fault = (text, got, str(answer)[:200])
        counts.add(is_bad, fault)


def _text(answer):
    (text,) = (output["data"] for output in answer["outputs"] if output["name"] == "text")
    return text[0]


def _add_version(models, source, is_broken):
    """A new version, whole from one moment to the next; its name."""
    path = next_version(models)
    hidden = path.with_name(f".{path.name}")
    shutil.copytree(source, hidden)
    if is_broken:
        (hidden / "saved_model.pb").write_bytes(b"broken")
    hidden.rename(path)
    return path.name


if __name__ == "__main__":
    main()
