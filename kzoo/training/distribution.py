"""Training on several machines: who they are, what the chief tells the others, who has stopped.

    workers = join("10.0.0.1:2222,10.0.0.2:2222", 0)      # first of all, in each process
    with workers.strategy.scope():
        model = ...
    with workers.together():
        model.fit(batches, callbacks=[OneDecision(workers)])
    workers.leave()                                       # the chief goes on alone

`models.distributed` says what Keras's `fit` needs beside this. Worker 0 is the chief.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time

import keras
import numpy as np
import tensorflow as tf

from kzoo import checks

CHECK_SECONDS = 3.0
FAILED_CHECKS = 4  # in a row, until a worker counts as stopped


def addresses_of(workers=None, index=None, environment=None):
    """The addresses of all workers, and which of them this process is.

    Args:
        workers: str, "host:port,host:port", the chief first; None for those of TF_CONFIG, as
            Kubernetes and Slurm set it.
        index: int, of this process in `workers`; None with TF_CONFIG.
        environment: dict, by default that of the process.

    Returns:
        list of str, int. No addresses where there is one worker only.

    Raises:
        ValueError: an address has no port or is there twice, or `index` is none of them.
    """
    if workers is None:
        checks.require(index is None, "needs `workers`", worker=index)
        environment = os.environ if environment is None else environment
        addresses, index = _of_tf_config(environment.get("TF_CONFIG") or "{}")
        return (addresses, index) if len(addresses) > 1 else ([], 0)
    addresses = [address.strip() for address in workers.split(",")]
    ports = [address.rpartition(":") for address in addresses]
    is_whole = all(host and port.isdigit() for host, _, port in ports)
    checks.require(
        is_whole and len({*addresses}) == len(addresses) > 1,
        "must be two or more different host:port, separated by commas",
        workers=workers,
    )
    checks.require(
        index is not None and 0 <= index < len(addresses),
        f"must be the number of this process in `workers`, 0 to {len(addresses) - 1}",
        worker=index,
    )
    return addresses, index


def _of_tf_config(text):
    """The addresses of the workers that a TF_CONFIG names, and which of them it is for."""
    try:
        found = json.loads(text)
        cluster, task = (found.get(name) or {} for name in ("cluster", "task"))
        chiefs, workers = (cluster.get(name) or [] for name in ("chief", "worker"))
        addresses = [*chiefs, *workers]
        is_whole = all(isinstance(each, list) for each in (chiefs, workers))
        is_whole &= all(isinstance(each, str) for each in addresses)
        index = int(task.get("index", 0)) + (len(chiefs) if task.get("type") == "worker" else 0)
        is_whole &= not addresses or 0 <= index < len(addresses)
    except (ValueError, TypeError, AttributeError):
        is_whole = False
    checks.require(
        is_whole,
        'must be JSON as {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", '
        '"index": 0}}, with the index of one of them',
        TF_CONFIG=text,
    )
    return addresses, index


def join(workers=None, index=None):
    """Joins the other workers, waiting until all are there; call it before TensorFlow computes.

    Args:
        workers, index: as in `addresses_of`.

    Returns:
        `Workers`, or None where there is one worker only.

    Raises:
        ValueError: as `addresses_of`.
    """
    addresses, index = addresses_of(workers, index)
    if not addresses:
        return None
    if workers is not None:
        os.environ["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        )
    print(f"Worker {index} of {len(addresses)} waits for the others", flush=True)
    return Workers(addresses, index)


class Workers:
    """All processes of a training under tf.distribute.MultiWorkerMirroredStrategy.

    A worker that is killed leaves the others waiting for its gradients, for a minute or for ever. A
    thread asks each port every few seconds; if one no longer answers, it says so and ends the
    process.

    Args:
        addresses: list of str, host:port.
        index: int, of this process.

    Attributes:
        strategy: tf.distribute.MultiWorkerMirroredStrategy.
        is_chief: bool.
    """

    def __init__(self, addresses, index):
        self.addresses = addresses
        self.index = index
        self.is_chief = index == 0
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        self._is_over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def from_chief(self, x):
        """The chief's tensor or array of numbers, of the same shape on all workers; numpy."""
        x = np.asarray(x)
        sent = tf.constant(x, tf.int64 if x.dtype.kind in "biu" else x.dtype)

        def value(replica):
            is_first = replica.replica_id_in_sync_group == 0
            return sent if is_first else tf.zeros_like(sent)

        values = self.strategy.experimental_distribute_values_from_function(value)
        with self.together():
            return self.strategy.reduce("SUM", values, axis=None).numpy().astype(x.dtype)

    def bytes_from_chief(self, content=b""):
        """The chief's bytes, on all workers."""
        size = int(self.from_chief(np.int64(len(content))))
        mine = np.frombuffer(content, np.uint8) if self.is_chief else np.zeros(size, np.uint8)
        return self.from_chief(mine).tobytes() if size else b""

    @contextlib.contextmanager
    def together(self):
        """Around `fit`: the error that TensorFlow raises where another worker is gone says so.

        Raises:
            RuntimeError: in place of a tf.errors.OpError, if a worker does not answer, or the
                workers have lost each other.
        """
        try:
            yield
        except tf.errors.OpError as error:
            self._is_over.set()
            if gone := self._gone():
                raise RuntimeError(self._without(gone)) from error
            if isinstance(error, tf.errors.AbortedError | tf.errors.UnavailableError):
                raise RuntimeError(
                    "the workers have lost each other. Start all of them again; a recipe with "
                    f"--resume goes on from the last checkpoint. {error.message.strip()}"
                ) from error
            raise

    def leave(self):
        """Ends the watch after training; all others but the chief end when the chief does."""
        self.from_chief(np.int64(0))  # until all are here
        self._is_over.set()
        if not self.is_chief:
            print(f"Worker {self.index} is done; the chief goes on alone.", flush=True)
            while self._answers(self.addresses[0]):
                time.sleep(1)
            _end_at_once(0)

    def _watch(self):
        failed = dict.fromkeys((a for a in self.addresses if a != self.addresses[self.index]), 0)
        while not self._is_over.wait(CHECK_SECONDS):
            for address in failed:
                failed[address] = 0 if self._answers(address) else failed[address] + 1
                if failed[address] >= FAILED_CHECKS and not self._is_over.is_set():
                    print(f"\nerror: {self._without(address)}", file=sys.stderr, flush=True)
                    _end_at_once(1)

    def _gone(self):
        """The address of a worker that is gone or, as it ends, soon will be; None if none is."""
        for _ in range(10):
            for address in self.addresses:
                if not self._answers(address):
                    return address
            time.sleep(CHECK_SECONDS / 5)
        return None

    def _without(self, address):
        """The sentence about a worker that is gone."""
        return (
            f"worker {self.addresses.index(address)} ({address}) no longer answers, so this "
            f"worker, {self.index}, ends, too. Start all of them again; a recipe with --resume "
            "goes on from the last checkpoint."
        )

    @staticmethod
    def _answers(address):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CHECK_SECONDS).close()
        except OSError:
            return False
        return True


def _end_at_once(code):
    """Ends the process while another thread may wait in TensorFlow, or hold what it would close."""
    sys.stdout.flush()
    os._exit(code)


class OneDecision(keras.callbacks.Callback):
    """Has all workers do as the chief does: begin with its weights and epoch, and end with it.

    Put it last: callbacks that stop a training, restore a backup or write files are the chief's.

    Args:
        workers: Workers.
    """

    def __init__(self, workers):
        super().__init__()
        self.workers = workers

    def on_train_begin(self, logs=None):
        first = self.workers.from_chief(np.int64(self.model._initial_epoch or 0))
        self.model._initial_epoch = int(first) or None
        for variable in [*self.model.variables, *self.model.optimizer.variables]:
            variable.assign(self.workers.from_chief(keras.ops.convert_to_numpy(variable)))

    def on_train_batch_end(self, batch, logs=None):
        self._agree()

    def on_epoch_end(self, epoch, logs=None):
        self._agree()

    def _agree(self):
        """The chief's own value stays, as it may say more than that the epoch ends here."""
        is_over = bool(self.workers.from_chief(np.int64(bool(self.model.stop_training))))
        if not self.workers.is_chief:
            self.model.stop_training = is_over
