"""A SavedModel behind gRPC and nothing else: what benchmarks/serving.py compares `kzoo serve` with.

    python -m benchmarks.bare_grpc saved_models/translation-en-de/1 PORT MAX_BATCH_SIZE

One text in, one text out, as bytes, at /bare/<signature>. No limits, checks, metrics or versions.
The batches are those of `kzoo.export.batch_requests`, as in `kzoo serve`.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import tensorflow as tf

from kzoo import export
from kzoo.export import ops, warmup


def main(path, port, max_batch_size):
    """Serves until it is ended."""
    ops.register()
    model = tf.saved_model.load(path)
    functions = {}
    for name in ("serving_default", "serving_xla"):
        function = model.signatures[name]
        if max_batch_size > 1:
            functions[name] = export.batch_requests(
                lambda text, function=function: function(text=text), max_batch_size=max_batch_size
            )
        else:
            functions[name] = lambda text, function=function: function(text=text)
    for name, inputs in warmup.read(path):
        if name in functions:
            functions[name](tf.constant(inputs["text"]))

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            answer = functions[details.method.removeprefix("/bare/")]
            return grpc.unary_unary_rpc_method_handler(
                lambda text, context: answer(tf.constant([text]))["text"].numpy()[0]
            )

    server = grpc.server(ThreadPoolExecutor(128), handlers=[Handler()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
