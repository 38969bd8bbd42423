"""The command line of `kzoo serve`, checked before anything large is imported."""

import argparse
import os
import re
import socket
from pathlib import Path

from kzoo import checks
from kzoo.serving.folder import find_models


def parsed(arguments=None):
    """The arguments of `kzoo serve`: dict.

    Args:
        arguments: list of str after "serve"; by default those of this process.

    Raises:
        SystemExit: with code 2 and a message if there is nothing to serve, an argument breaks its
            rule or a port is taken.
    """
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.api_key is None:
        args.api_key = os.environ.get("KZOO_API_KEY") or None
    try:
        _check(args)
        args.labels = dict(_label(each) for each in args.labels)
        if not find_models(args.folder, args.versions):
            raise ValueError(f"{args.folder!r} holds no <name>/<version>/saved_model.pb.")
        for port in (args.port, args.grpc_port):
            _check_free(args.host, port)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return vars(args)


def _check(args):
    checks.at_least(
        1,
        max_batch_size=args.max_batch_size,
        batch_threads=args.batch_threads,
        max_queue=args.max_queue,
        max_characters=args.max_characters,
    )
    checks.finite_positive(
        deadline_seconds=args.deadline_seconds,
        max_body_mb=args.max_body_mb,
        max_seconds=args.max_seconds,
        max_megapixels=args.max_megapixels,
    )
    checks.finite_not_negative(
        max_delay_ms=args.max_delay_ms,
        grace_seconds=args.grace_seconds,
        poll_seconds=args.poll_seconds,
    )
    if args.api_key is not None:
        is_key = args.api_key.isascii() and args.api_key.isprintable() and " " not in args.api_key
        rule = "must be 8 printable ASCII characters or more, without spaces"
        checks.require(is_key and len(args.api_key) >= 8, rule, api_key="(not shown)")
    pair = {"ssl_certfile": args.ssl_certfile, "ssl_keyfile": args.ssl_keyfile}
    checks.require(len({file is None for file in pair.values()}) == 1, "come together", **pair)
    for name, file in pair.items():
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f"`{name}` must be a file, but {file!r} does not exist.")


def _label(text):
    """((model, label), version) of "model/label=version"."""
    match = re.fullmatch(r"([^/=]+)/([^/=]*[^/=\d][^/=]*)=(\d+)", text)
    checks.require(match, "must be MODEL/LABEL=VERSION, and LABEL no number", label=text)
    model, label, version = match.groups()
    return (model, label), version


def _check_free(host, port):
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)


def _parser():
    parser = argparse.ArgumentParser(
        prog="kzoo serve",
        description="Serves the models <name>/<version>/ of a folder: the open inference protocol, "
        "V1 and V2, over HTTP and gRPC, by KServe's Python server.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="folder of <name>/<version>/, or of one model's versions")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all")
    add("--port", type=int, default=8080, help="of HTTP, also of /metrics")
    add("--grpc_port", type=int, default=8081, help="of gRPC")
    add(
        "--api_key",
        help="bearer token that every request needs but /v2/health; by default what the variable "
        "KZOO_API_KEY says, which other users of the machine cannot read",
    )
    add(
        "--metrics",
        choices=["key", "open"],
        default="key",
        help="open: /metrics is answered without the key, for a Prometheus that has none",
    )
    add("--ssl_certfile", metavar="FILE", help="certificate, for HTTPS and gRPC over TLS")
    add("--ssl_keyfile", metavar="FILE", help="private key of the certificate")
    add("--versions", choices=["latest", "all"], default="latest", help="which of each model")
    add(
        "--label",
        metavar="MODEL/LABEL=VERSION",
        dest="labels",
        action="append",
        default=[],
        help="another name of a version, as demo-en-de/stable=1; the version is served",
    )
    add("--poll_seconds", type=float, default=10, help="between looks for new versions; 0: never")
    add("--max_batch_size", type=int, default=32, help="most rows of a batch, and of a request")
    add("--max_delay_ms", type=float, default=5, help="longest wait for a batch to fill")
    add("--batch_threads", type=int, default=2, help="batches of a model computed at once")
    add(
        "--max_queue",
        type=int,
        default=128,
        help="requests of a model in flight, and inferences open over gRPC; more get 429",
    )
    add("--deadline_seconds", type=float, default=30, help="after that a request gets 504")
    add("--grace_seconds", type=float, default=30, help="from SIGTERM to the end, at most")
    add(
        "--max_body_mb",
        type=float,
        default=16,
        help="megabytes of a request; more get 413. All requests hold 8 times as many together, "
        "those over gRPC, whose size is known late, 18 times",
    )
    add("--max_characters", type=int, default=20_000, help="of a text; more get 400")
    add("--max_seconds", type=float, default=600, help="of a WAV file; more get 400")
    add("--max_megapixels", type=float, default=64, help="of a picture; more get 400")
    return parser
