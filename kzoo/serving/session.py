"""A SavedModel in a TensorFlow session: all that it takes ends with the session. N rows."""

import numpy as np
import tensorflow as tf

from kzoo.export import batch_requests, ops

BATCH_ROWS = "kzoo_batch_rows"  # an output of batched functions beside the model's own


class SavedModelSession:
    """The signatures of a SavedModel, alone and in batches.

    TensorFlow's eager runtime keeps what XLA has compiled, the graphs of batches and the threads
    of their queues until the process ends: 77 MB of a translation model for each new version. A
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
        with tf.Graph().as_default() as graph:
            signatures = tf.saved_model.load(str(path)).signatures
            alone, batched = {}, {}
            for name, inputs in arguments.items():
                rows = [tf.compat.v1.placeholder(tf.string, [None]) for _ in inputs]
                function = _by_position(signatures[name], inputs)
                alone[name] = rows, function(*rows)
                self.outputs[name] = {
                    output: tf.TensorSpec(tensor.shape, tensor.dtype)
                    for output, tensor in alone[name][1].items()
                }
                is_fixed = all(
                    spec.shape[1:].is_fully_defined() for spec in self.outputs[name].values()
                )
                if max_batch_size > 1 and is_fixed:
                    together = batch_requests(
                        _counted(function),
                        inputs=len(inputs),
                        max_batch_size=max_batch_size,
                        **options,
                    )
                    batched[name] = rows, together(*rows)
            self._session = tf.compat.v1.Session(graph=graph)
            initial = tf.compat.v1.global_variables_initializer()
            self._session.run([initial, tf.compat.v1.tables_initializer()])
        self.batched = {*batched}
        self._alone, self._batched = (
            {name: self._callable(*ends) for name, ends in functions.items()}
            for functions in (alone, batched)
        )

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
        rows = [np.array(inputs[name], object) for name in self._arguments[signature]]
        functions = self._batched if in_batch else self._alone
        return functions[signature](rows)

    def close(self):
        """Lets go of all that it holds. Nothing may be computed then or later."""
        self._alone, self._batched = {}, {}
        self._session.close()

    def _callable(self, rows, outputs):
        run = self._session.make_callable([*outputs.values()], feed_list=rows)
        return lambda arrays: dict(zip(outputs, run(*arrays), strict=True))


def _by_position(signature, names):
    return lambda *rows: signature(**dict(zip(names, rows, strict=True)))


def _counted(function):
    def counted(*rows):
        count = tf.shape(rows[0])[0]
        return {**function(*rows), BATCH_ROWS: tf.fill([count], count)}

    return counted
