"""Load on `kzoo serve` over loopback: requests a second and latency, beside a bare gRPC service.

    python -m benchmarks.serving saved_models/translation-en-de
    python -m benchmarks.serving saved_models/translation-en-de --peer CHECKOUT
    python -m benchmarks.serving saved_models/translation-en-de --texts sentences.txt

All servers of a table run at the same time and are asked in turns, so that what else the machine
does meets them alike; a row is the median of the rounds. Clients are threads of this process, each
with one connection, and each sends its next request, one text, when it has the answer to the last
one. Clients and servers share the machine: absolute figures mean little, ratios stand.

`--peer` is another checkout of kzoo, whose `kzoo serve` is asked over HTTP, too, in its own `.venv`
if it has one.
"""

import argparse
import contextlib
import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks import figures, servers
from kzoo.export.folder import of_saved_model

TEXTS = """Turn off the light.
The device is offline, try again in a minute.
A little girl climbing into a wooden playhouse.
Several men in hard hats are operating a giant pulley system.
Two young men are outside near many bushes.
Enter the address of the server and the port that it listens on.
No.
The update could not be installed because there is not enough space on the disk.""".splitlines()
SIGNATURES = ("serving_default", "serving_xla")
PEER = "peer, HTTP"
_COMPILING_SECONDS = 2.0  # a request that took so long was compiled for
_MOST_WARM = 20  # rounds that nobody measures


def main(arguments=None):
    """Runs the command line."""
    args = _parser().parse_args(arguments)
    path = of_saved_model(args.model).resolve()
    name, folder = path.parent.name, path.parent
    texts = Path(args.texts).read_text("utf-8").splitlines()[:256] if args.texts else TEXTS
    found = {"facts": figures.facts("serving", "kserve"), "texts": len(texts), "rows": []}
    if args.peer:
        head = ["git", "-C", args.peer, "rev-parse", "--short", "HEAD"]
        found["peer"] = subprocess.run(head, capture_output=True, text=True).stdout.strip()
    for size in (1, 32):
        flags = (f"--max_batch_size={size}", "--max_queue=256")
        kzoo, bare = servers.kzoo_serve(folder, *flags), servers.bare_grpc(path, size)
        asked = {"bare gRPC": (bare, servers.BareClient)}
        asked |= {"kzoo, HTTP": (kzoo, servers.HttpClient)}
        asked |= {"kzoo, gRPC": (kzoo, servers.GrpcClient)}
        if args.peer:
            peer = servers.kzoo_serve(folder, *flags, checkout=Path(args.peer).resolve())
            asked |= {PEER: (peer, servers.HttpClient)}
        with contextlib.ExitStack() as kept:
            several = list(dict.fromkeys(server for server, _ in asked.values()))
            for server in several:
                server.launch()
                kept.callback(server.end)
            for server in several:
                server.wait()
            for signature, clients in itertools.product(SIGNATURES, args.clients):
                row = {"signature": signature, "batch_size": size, "clients": clients}
                row["servers"] = _measured(asked, name, texts, signature, clients, args)
                found["rows"].append(row)
                figures.write(found, args.json, is_over=False)
                said = ", ".join(
                    f"{label} {each['requests_a_second']:.1f}/s"
                    for label, each in row["servers"].items()
                )
                print(f"{signature}, {size} rows, {clients}: {said}", file=sys.stderr, flush=True)
    figures.write(found, args.json)
    print(table(found))


def table(found):
    """The table of README.md, out of what `--json` has written."""
    labels = list(found["rows"][0]["servers"])
    own = [label for label in labels if label.startswith("kzoo")]
    rows = []
    for row in found["rows"]:
        servers_of = row["servers"]
        rates = {label: each["requests_a_second"] for label, each in servers_of.items()}
        cells = [f"`{row['signature']}`", "yes" if row["batch_size"] > 1 else "no", row["clients"]]
        for label, each in servers_of.items():
            times = f"{each['median_ms']:,.0f}, {each['ms_99']:,.0f}"
            cells.append(f"{rates[label]:.1f}; {times}")
        cells += [f"{rates[label] / rates['bare gRPC']:.2f}" for label in own]
        if PEER in rates:
            cells.append(f"{rates['kzoo, HTTP'] / rates[PEER]:.2f}")
        rows.append(cells)
    header = ["signature", "batches", ">clients", *(f">{label}" for label in labels)]
    header += [f">{label} / bare" for label in own]
    text = ""
    if PEER in labels:
        header.append(">kzoo, HTTP / peer")
        text = f" The peer is the checkout of {found['peer'] or 'no commit'}."
    return figures.table(header, rows, found["facts"]) + text


def _measured(asked, name, texts, signature, clients, args):
    """{server: medians of the rounds}"""
    found = {label: [] for label in asked}
    for label, (server, kind) in asked.items():
        for _ in range(_MOST_WARM):
            connections = [kind(server, name) for _ in range(clients)]
            slowest = max(load(connections, texts, signature, args.seconds))
            if signature != "serving_xla" or slowest < _COMPILING_SECONDS:
                break  # XLA has compiled what these clients ask
        else:
            said = f"{label}: a request still takes {_COMPILING_SECONDS} s"
            print(said, file=sys.stderr, flush=True)
    for _ in range(args.rounds):
        for label, (server, kind) in asked.items():
            connections = [kind(server, name) for _ in range(clients)]
            load(connections, texts[:1], signature, 0)  # connects
            start = time.perf_counter()
            seconds = load(connections, texts, signature, args.seconds)
            rate = len(seconds) / (time.perf_counter() - start)
            found[label].append((rate, *(1000 * np.percentile(seconds, [50, 99]))))
    names = ("requests_a_second", "median_ms", "ms_99")
    return {
        label: dict(zip(names, np.median(rounds, 0).tolist(), strict=True))
        for label, rounds in found.items()
    }


def load(connections, texts, signature, seconds):
    """Seconds that each request took, of so many clients in so many seconds; each sends one."""
    durations, end = [], time.perf_counter() + seconds

    def work(number):
        for text in itertools.islice(itertools.cycle(texts), number, None):
            start = time.perf_counter()
            connections[number].text(text, signature)
            durations.append(time.perf_counter() - start)
            if time.perf_counter() > end:
                return

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return durations


def _parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a SavedModel's folder, or that of its versions")
    parser.add_argument("--texts", help="file of sources, one a line")
    parser.add_argument("--peer", help="folder of another checkout of kzoo")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=4, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser


if __name__ == "__main__":
    main()
