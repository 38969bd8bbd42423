"""Calls of several threads answered in one batch, in the graph. N contents."""

import uuid

import tensorflow as tf

MAX_REQUEST = 1 << 20  # rows; TensorFlow wants to know


def batch_requests(
    function,
    *,
    max_batch_size=32,
    max_delay_ms=5.0,
    batch_threads=2,
    max_queue=128,
    inputs=1,
):
    """A function that answers calls from several threads in one batch, in the graph.

    The scheduler is TensorFlow's own (BatchFunction), the one of TensorFlow Serving. Rows of
    several calls are put together, so nothing else in a batch may show in the shapes of an answer,
    and a row that `function` refuses fails its neighbours too. Called eagerly, TensorFlow 2.21
    keeps the graph that computed a batch, and the threads of the queue, until the process ends;
    those of a session end with it.

    Args:
        function: from an (N,) string tensor, or several, to a dict of tensors with N rows, their
            other axes of fixed size.
        max_batch_size: int, most rows of a batch; a call with more is cut.
        max_delay_ms: float, longest wait for a batch to fill, in milliseconds.
        batch_threads: int, batches computed at once.
        max_queue: int, batches that may wait; further calls fail with UnavailableError.
        inputs: int, how many tensors `function` takes.

    Returns:
        A function from as many (N,) string to such a dict; for no rows, with no rows.

    Raises:
        ValueError: `max_batch_size`, `batch_threads` or `max_queue` is not positive, or
            `max_delay_ms` is negative.

    Example:

    >>> answer = kzoo.export.batch_requests(lambda text: {"text": tf.strings.upper(text)})
    >>> answer(tf.constant(["a", "b"]))["text"].numpy()
    array([b'A', b'B'], dtype=object)
    """
    sizes = {"max_batch_size": max_batch_size, "batch_threads": batch_threads}
    for name, value in {**sizes, "max_queue": max_queue}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {name}={value}.")
    if max_delay_ms < 0:
        raise ValueError(f"`max_delay_ms` must not be negative, got max_delay_ms={max_delay_ms}.")
    queue = f"queue_{uuid.uuid4().hex}"  # functions of one name would share it and its options
    names = []  # of the outputs, known once `function` was traced

    @tf.nondifferentiable_batch_function(
        num_batch_threads=batch_threads,
        max_batch_size=MAX_REQUEST,
        allowed_batch_sizes=list(range(1, max_batch_size + 1)),
        batch_timeout_micros=int(1000 * max_delay_ms),
        max_enqueued_batches=max_queue,
        autograph=False,
    )
    def batch(*rows):
        answers = function(*rows)
        names[:] = answers
        return list(answers.values())

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * inputs, autograph=False)
    def batched(*rows):
        with tf.name_scope(queue):
            outputs = batch(*rows)
        return dict(zip(names, outputs, strict=True))

    return batched
