"""A SavedModel in a TensorFlow session: all that it takes ends with the session. N rows."""

import threading

import numpy as np
import tensorflow as tf

from kzoo.export import batch_requests, ops

BATCH_ROWS = "kzoo_batch_rows"  # an output of batched functions beside the model's own


class SavedModelSession:
    """The signatures of a SavedModel, alone and in batches.

    TensorFlow's eager runtime keeps what XLA has compiled, the graphs of batches and the threads
    of their queues until the process ends: 81 MB of a translation model for each new version. A
    session has devices of its own, and they go with it.

    Args:
        path: str or path of the SavedModel.
        arguments: dict, the names of a signature's inputs by its name, each `string` [N].
        max_batch_size: int, most rows of a batch; 1 for none.
        options: of `export.batch_requests`.

    Attributes:
        outputs: dict, by signature a dict of tf.TensorSpec by name.
        batched: set of the signatures that answer in batches: rows are put together, so that what
            else is in a batch must not show in the outputs' shapes.

    Raises:
        Exception: whatever TensorFlow raises for what is no SavedModel.
    """

    def __init__(self, path, arguments, *, max_batch_size, **options):
        ops.register()
        self._arguments, self.outputs = arguments, {}
        self._signatures = {}  # (name, whether in batches) -> placeholders, outputs by name
        self._built, self._building = set(), threading.Lock()  # of the same keys
        with tf.Graph().as_default() as graph:
            signatures = tf.saved_model.load(str(path)).signatures
            for name, inputs in arguments.items():
                rows = [tf.compat.v1.placeholder(tf.string, [None]) for _ in inputs]
                function = _by_position(signatures[name], inputs)
                outputs = function(*rows)
                self._signatures[name, False] = rows, outputs
                self.outputs[name] = {
                    output: tf.TensorSpec(tensor.shape, tensor.dtype)
                    for output, tensor in outputs.items()
                }
                is_fixed = all(each.shape[1:].is_fully_defined() for each in outputs.values())
                if max_batch_size > 1 and is_fixed:
                    size = {"inputs": len(inputs), "max_batch_size": max_batch_size}
                    batched = batch_requests(_counted(function), **size, **options)
                    self._signatures[name, True] = rows, batched(*rows)
            self._session = tf.compat.v1.Session(graph=graph, config=_config())
            initial = tf.compat.v1.global_variables_initializer()
            self._session.run([initial, tf.compat.v1.tables_initializer()])
        graph.finalize()  # tables that Python collects would add an op that destroys them
        self.batched = {name for name, in_batch in self._signatures if in_batch}

    def run(self, signature, inputs, in_batch=False):
        """Computes a signature.

        Args:
            signature: str. inputs: dict of lists of N bytes by name.
            in_batch: bool, whether it waits for rows of other threads.

        Returns:
            dict of arrays with N rows; in a batch also `BATCH_ROWS`, the batch's rows, N times.

        Raises:
            tf.errors.OpError: an op has refused its input, or the queue is full.
        """
        rows, outputs = self._signatures[signature, in_batch]
        names = self._arguments[signature]
        feeds = {
            placeholder: np.atleast_1d(np.array(inputs[name], object))
            for placeholder, name in zip(rows, names, strict=True)
        }
        if (signature, in_batch) in self._built:
            return self._session.run(outputs, feeds)
        with self._building:  # its graph takes a second, and each thread would build one
            try:
                return self._session.run(outputs, feeds)
            finally:
                self._built.add((signature, in_batch))

    def close(self):
        """Lets go of all that it holds. Nothing may be computed then or later."""
        session, self._session = self._session, None
        self._signatures = {}
        if session is not None:
            session.close()


def _config():
    """Without the graph optimizer: with it, warming translation-en-de up takes 18.4 s in place of
    13.6, and answers of three shipped models take 0.97 to 1.09 times as long."""
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def _by_position(signature, names):
    return lambda *rows: signature(**dict(zip(names, rows, strict=True)))


def _counted(function):
    def counted(*rows):
        count = tf.shape(rows[0])[0]
        return {**function(*rows), BATCH_ROWS: tf.fill([count], count)}

    return counted
