"""A SavedModel that answers requests of many clients: batches, deadlines, refusals. N rows."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import tensorflow as tf

from kzoo.contents import LANGUAGE
from kzoo.export import ops, warmup
from kzoo.serving import answers, metrics, protocol
from kzoo.serving.errors import Refused, shown
from kzoo.serving.session import BATCH_ROWS, SavedModelSession

_QUEUE_OPTIONS = ("max_batch_size", "max_delay_ms", "batch_threads", "max_queue")
_LIBRARIES = ctypes.CDLL(None)  # of the process, glibc among them on most Linux
_LOGGER = logging.getLogger("kzoo.serving")


class SavedModelRuntime:
    """A SavedModel whose signatures take `string` [N], mostly one.

    Loading it answers its warm-up requests, so that it is warm when the constructor returns.

    Args:
        name: str, version: str, as metrics and answers call it.
        path: str or path of the SavedModel.
        options: dict, `max_batch_size`, `max_delay_ms`, `batch_threads`, `max_queue`,
            `deadline_seconds` and the limits of `limits.check`.

    Raises:
        ValueError: there is no signature serving_default of strings [N].
        Exception: whatever TensorFlow raises for what is no SavedModel.
    """

    def __init__(self, name, version, path, options):
        self.name, self.version, self.in_flight = name, version, 0
        self._options, self._is_closed = options, False
        self._lock = threading.Lock()  # held while requests are counted: `close` has its own thread
        self._turns = threading.Semaphore(options["batch_threads"])
        self._threads = ThreadPoolExecutor(options["max_queue"], thread_name_prefix=name)
        path = Path(path)
        self.arguments = dict(warmup.string_signatures(path))
        if len({*self.arguments.get("serving_default", [])} - {LANGUAGE}) != 1:
            raise ValueError(f"{str(path)!r} has no signature serving_default of one string [N].")
        queue = {key: options[key] for key in _QUEUE_OPTIONS}
        self._session = SavedModelSession(path, self.arguments, **queue)
        try:
            self._warm_up(path)
        except BaseException:
            self.close()
            raise

    def _warm_up(self, path):
        for signature, inputs in warmup.read(path):
            if signature in self.arguments:
                most = self._options["max_batch_size"]
                self._run(signature, {key: rows[:most] for key, rows in inputs.items()})

    @property
    def inputs(self):
        """What the protocol says of the inputs of serving_default: list of dict."""
        return [_described(name, tf.string) for name in self.arguments["serving_default"]]

    @property
    def outputs(self):
        """What the protocol says of the outputs of serving_default: list of dict."""
        specs = self._session.outputs["serving_default"]
        return [_described(name, spec.dtype) for name, spec in specs.items()]

    def close(self):
        """Refuses new requests, and lets go of the model once those in flight are answered."""
        with self._lock:
            self._is_closed = True
            self._let_go_if_over()

    def _let_go_if_over(self):  # with the lock
        if self._is_closed and not self.in_flight and self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
            # In a thread of its own: who waits for an answer of another model waits in this one.
            threading.Thread(target=self._let_go, daemon=True).start()

    def _let_go(self):
        """Gives the model's memory back to the machine: graphs are cycles of objects, and glibc
        keeps what several threads have freed."""
        self._session.close()
        gc.collect()
        if hasattr(_LIBRARIES, "malloc_trim"):
            _LIBRARIES.malloc_trim(0)

    async def answer(self, request):
        """Answers a `protocol.Request`.

        A request takes a place in the queue until it is computed, also when nobody waits for it any
        more. One that is not batched, and whose turn has not come at its deadline, is not computed.

        Returns:
            dict of arrays with N rows, such as JSON can write.

        Raises:
            Refused: status 400, 429, 503, 504 or 500.
        """
        start, label = time.perf_counter(), "unknown"
        try:
            if request.signature not in self.arguments:
                raise Refused(
                    f"`signature` must be one of {sorted(self.arguments)}, "
                    f"got {shown(request.signature)}."
                )
            label = request.signature
            rows = protocol.rows_of(request, self.arguments[label], self._options)
            outputs = await self._in_a_thread(label, rows)
            batch = outputs.pop(BATCH_ROWS, None)
            answer = answers.chosen(request, outputs)
        except Refused as refused:
            metrics.REQUESTS.labels(self.name, label, refused.status.value).inc()
            raise
        metrics.SECONDS.labels(self.name, label).observe(time.perf_counter() - start)
        count = len(next(iter(rows.values())))
        metrics.ROWS.labels(self.name, label).inc(count)
        metrics.BATCH_ROWS.labels(self.name, label).observe(count if batch is None else batch[0])
        metrics.REQUESTS.labels(self.name, label, 200).inc()
        return {name: answers.writable(values) for name, values in answer.items()}

    async def _in_a_thread(self, signature, rows):
        if self.in_flight >= self._options["max_queue"]:
            message = f"{self._options['max_queue']} requests are waiting already, try again later"
            raise self._refusal(message, HTTPStatus.TOO_MANY_REQUESTS)
        loop = asyncio.get_running_loop()
        self._begin()
        end = time.monotonic() + self._options["deadline_seconds"]
        try:
            future = self._threads.submit(self._run, signature, rows, end)
        except RuntimeError as error:  # no further thread may be started
            self._end()
            raise self._refusal(str(error), HTTPStatus.TOO_MANY_REQUESTS) from None
        future.add_done_callback(lambda _: _call_soon(loop, self._end))
        seconds = self._options["deadline_seconds"]
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            message = f"no answer within {seconds} seconds"
            raise self._refusal(message, HTTPStatus.GATEWAY_TIMEOUT) from None
        except ops.REFUSALS as error:
            raise Refused(f"The model refuses this input: {_said(error)}") from None
        except (tf.errors.UnavailableError, tf.errors.ResourceExhaustedError) as error:
            raise self._refusal(_said(error), HTTPStatus.TOO_MANY_REQUESTS) from None
        except Exception as error:  # whatever an op throws: one request fails, and that is logged
            _LOGGER.exception("Model %r failed.", self.name)
            message = f"the model failed ({type(error).__name__})"
            raise self._refusal(message, HTTPStatus.INTERNAL_SERVER_ERROR) from None

    def _run(self, signature, inputs, end=math.inf):
        """Outputs by name, arrays, computed in one of the threads; nothing once it is `end`, a
        time of `time.monotonic`."""
        if signature in self._session.batched:
            try:
                return self._session.run(signature, inputs, in_batch=True)
            except (tf.errors.UnavailableError, tf.errors.ResourceExhaustedError):
                raise  # of the queue, so alone it would not fare better
            except Exception:
                pass  # of a neighbour in the batch, perhaps; if not, it comes again
        left = end - time.monotonic()
        if left <= 0 or not self._turns.acquire(timeout=min(left, threading.TIMEOUT_MAX)):
            raise TimeoutError  # its client was refused by then
        try:
            return self._session.run(signature, inputs)
        finally:
            self._turns.release()

    def _begin(self):
        with self._lock:
            if self._is_closed:
                message = "this version is not served any more, try again"
                raise self._refusal(message, HTTPStatus.SERVICE_UNAVAILABLE)
            self.in_flight += 1
        metrics.IN_FLIGHT.labels(self.name).inc()  # other versions count there, too

    def _end(self):
        with self._lock:
            self.in_flight -= 1
            self._let_go_if_over()
        metrics.IN_FLIGHT.labels(self.name).dec()

    def _refusal(self, message, status):
        return Refused(f"Model {self.name!r}: {message}.", status)


def _said(error):
    """What an op has said, without TensorFlow's words before it and the nodes after it."""
    message = getattr(error, "message", "it is not what the model reads")
    return message.removeprefix("Graph execution error:").strip().partition("\n\t [[")[0]


def _call_soon(loop, function):
    """`function` in the loop's thread, if the loop still runs."""
    with contextlib.suppress(RuntimeError):  # the server has ended before the thread did
        loop.call_soon_threadsafe(function)


def _described(name, dtype):
    datatype = answers.DATATYPES["object" if dtype == tf.string else dtype.name]
    return {"name": name, "datatype": datatype, "shape": [-1]}
