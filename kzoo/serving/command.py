"""The command line of `kzoo serve`, checked before anything large is imported."""

import argparse
import socket

from kzoo import checks
from kzoo.serving.folder import find_models


def parsed(arguments=None):
    """The arguments of `kzoo serve`: dict.

    Args:
        arguments: list of str after "serve"; by default those of this process.

    Raises:
        SystemExit: with code 2 and a message if there is nothing to serve or a port is taken.
    """
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        if not find_models(args.folder, args.versions):
            raise ValueError(f"{args.folder!r} holds no <name>/<version>/saved_model.pb.")
        checks.at_least(1, max_batch_size=args.max_batch_size)
        checks.at_least(1, max_queue=args.max_queue)
        checks.at_least(1, batch_threads=args.batch_threads)
        for port in (args.port, args.grpc_port, args.metrics_port):
            with socket.socket() as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind((args.host, port))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return vars(args)


def _parser():
    parser = argparse.ArgumentParser(
        prog="kzoo serve",
        description="Serves the models <name>/<version>/ of a folder: the open inference protocol "
        "(KServe v2) over HTTP and gRPC, by MLServer.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="folder of <name>/<version>/, or of one model's versions")
    add("--host", default="0.0.0.0", help="address to listen on")
    add("--port", type=int, default=8080, help="of HTTP")
    add("--grpc_port", type=int, default=8081, help="of gRPC")
    add("--metrics_port", type=int, default=8082, help="of /metrics, for Prometheus")
    add("--versions", choices=["latest", "all"], default="latest", help="which of each model")
    add("--max_batch_size", type=int, default=32, help="most rows of a batch, and of a request")
    add("--max_delay_ms", type=float, default=5, help="longest wait for a batch to fill")
    add("--batch_threads", type=int, default=2, help="batches of a model computed at once")
    add("--max_queue", type=int, default=128, help="requests of a model in flight; more get 429")
    add("--deadline_seconds", type=float, default=30, help="after that a request gets 504")
    return parser
