"""The models of a folder `<name>/<version>/`: which versions answer, and how new ones come."""

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import kserve

from kzoo.serving import metrics
from kzoo.serving.errors import Refused, shown
from kzoo.serving.folder import find_models
from kzoo.serving.runtime import SavedModelRuntime

_LAST_SECONDS = 1  # between the last time that a model is found and the end of its threads
_LOGGER = logging.getLogger("kzoo.serving")


class ServedModel(kserve.Model):
    """A version of a model as KServe's server knows it; `runtime` answers, and `stamp` changes with
    its files."""

    def __init__(self, runtime, stamp):
        super().__init__(runtime.name)
        self.runtime, self.version, self.ready = runtime, runtime.version, True
        self.stamp = stamp

    async def predict(self, payload, headers=None, response_headers=None):
        """The answer of the model to a `protocol.Request`: dict of arrays."""
        return await self.runtime.answer(payload)

    def get_input_types(self):
        """What the protocol says of the inputs."""
        return self.runtime.inputs

    def get_output_types(self):
        """What the protocol says of the outputs."""
        return self.runtime.outputs


class SavedModels(kserve.ModelRepository):
    """The models of a folder. Nothing but `refresh`, in a thread of its own, loads any.

    A version answers until the one after it is warm. A version that cannot be loaded is reported,
    in the log, the index and the metrics, and the newest whole version below it answers.

    Args:
        folder: str or path.
        options: dict, those of `SavedModelRuntime`; `versions`, "latest" or "all"; `labels`, dict
            of a version by (model, label).
    """

    def __init__(self, folder, options):
        super().__init__(str(folder))
        self.is_draining = False
        self.is_complete = False  # whether each model has been tried once
        self._options, self._labels = options, options["labels"]
        self._served = {}  # name -> version -> ServedModel; `models` has the newest of each name
        self._broken = {}  # (name, version) -> reason
        self._stamps = {}  # (name, version) -> `_stamp` of what is broken
        self._unloaded = set()  # names
        self._leaving = weakref.WeakSet()  # SavedModelRuntimes that were replaced
        self._wanted = {}  # name -> versions that shall answer; each that does not gets 503
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._lock = threading.Lock()  # held while a model is loaded
        self._look()

    def find(self, name, version=None):
        """The ServedModel of a name, and of a version or label of it.

        Raises:
            Refused: status 404, or 503 while it is not loaded or the server shuts down.
        """
        version = self._labels.get((name, version), version)
        served = self._served.get(name, {})
        model = served.get(version) if version else self.models.get(name)
        if model is not None and not self.is_draining:
            return model
        if model is not None:
            message, status = "the server is shutting down", HTTPStatus.SERVICE_UNAVAILABLE
        elif self._is_known(name, version):
            message, status = "it is not loaded", HTTPStatus.SERVICE_UNAVAILABLE
        else:
            message, status = "there is no such model", HTTPStatus.NOT_FOUND
        of_version = f", version {shown(version)}" if version else ""
        raise Refused(f"Model {shown(name)}{of_version}: {message}.", status)

    def versions(self, name):
        """The versions of a model that answer, the highest last."""
        return sorted(self._served.get(name, ()), key=int)

    def index(self):
        """What the protocol's repository index says: list of dict."""
        rows = [
            {"name": name, "version": version, "state": "READY", "reason": ""}
            for name, of_one in sorted(self._served.items())
            for version in sorted(of_one, key=int)
        ]
        known = {(row["name"], row["version"]) for row in rows}
        broken = {key: reason for key, reason in self._broken.copy().items() if key not in known}
        for (name, version), reason in sorted(broken.items()):
            row = {"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason}
            rows.append(row)
        return rows

    @property
    def in_flight(self):
        """Requests of all models that wait or are computed, also of versions that were replaced."""
        runtimes = [*(model.runtime for model in self._all()), *self._leaving]
        return sum(runtime.in_flight for runtime in runtimes)

    @property
    def is_loading(self):
        """Whether a thread loads a model."""
        return self._lock.locked()

    async def load(self, name):
        """Takes the versions of a model that are there now, those anew whose files have changed;
        tries broken ones again.

        Raises:
            Refused: status 404 if there is none, 503 if none, or a changed one, can be loaded.
        """
        self._unloaded.discard(name)
        for key in [key for key in list(self._stamps) if key[0] == name]:
            self._stamps.pop(key, None)
        await asyncio.wrap_future(self._loader.submit(self.refresh, name))
        if name not in self._wanted:
            message = f"Model {shown(name)}: there is no such model."
            raise Refused(message, HTTPStatus.NOT_FOUND)
        broken = {key[1]: why for key, why in list(self._broken.items()) if key[0] == name}
        if name not in self.models:
            message = f"Model {shown(name)}: no version can be loaded: {'; '.join(broken.values())}"
            raise Refused(message, HTTPStatus.SERVICE_UNAVAILABLE)
        for version in set(broken) & set(self._served[name]):
            message = (
                f"Model {shown(name)}, version {version}: its files have changed and cannot be "
                f"loaded, so those before still answer: {broken[version]}"
            )
            raise Refused(message, HTTPStatus.SERVICE_UNAVAILABLE)

    async def unload(self, name):
        """Lets go of a model, until it is loaded again. Raises Refused, status 404."""
        if name not in self.models:
            raise Refused(f"Model {shown(name)}: there is no such model.", HTTPStatus.NOT_FOUND)
        self._unloaded.add(name)
        del self.models[name]
        await asyncio.wrap_future(self._loader.submit(self._drop, name))

    def _drop(self, name):
        """In the loader's thread, so after a refresh that runs, which may have brought it back."""
        self.models.pop(name, None)
        for model in self._served.pop(name, {}).values():
            self._let_go(model)

    async def watch(self, poll_seconds):
        """Loads all models, and then what is new, every so many seconds; 0 for once."""
        while not self.is_draining:
            await asyncio.wrap_future(self._loader.submit(self.refresh))
            self.is_complete = True
            if not poll_seconds or not (self.models or self._unloaded):
                return
            await asyncio.sleep(poll_seconds)

    def refresh(self, only=None):
        """Brings what is served in line with the folder; slow, for a thread. A model whose folder
        is gone, as where a volume is away, answers until it is unloaded.

        Args:
            only: str or None, the one model to look at.
        """
        for name, versions in self._look().items():
            if name not in self._unloaded and only in (None, name):
                with self._lock:
                    self._refresh(name, versions, is_asked=only is not None)

    def _look(self):
        """The folder: name -> path by version, the highest last; empty if it cannot be read."""
        try:
            listed = find_models(self.models_dir, "all")
        except OSError as error:
            _LOGGER.warning("The folder of the models cannot be read: %s", error)
            return {}
        found = {}
        for name, version, path in listed:
            found.setdefault(name, {})[version] = path
        self._wanted = {name: self._chosen(name, versions) for name, versions in found.items()}
        for name, version in set(self._broken) - {(name, version) for name, version, _ in listed}:
            del self._broken[name, version]
            self._stamps.pop((name, version), None)
            metrics.VERSIONS.remove(name, version)
        return found

    def _chosen(self, name, versions):
        """Those of a model's versions that shall answer if none is broken."""
        labelled = {version for (model, _), version in self._labels.items() if model == name}
        newest = [*versions][-1]
        is_all = self._options["versions"] == "all"
        return {each for each in versions if is_all or each == newest or each in labelled}

    def _refresh(self, name, versions, is_asked):
        wanted = self._wanted[name]
        served, kept = self._served.setdefault(name, {}), set()
        for version, path in reversed(versions.items()):  # the highest first
            if not kept:  # those above it are broken
                wanted.add(version)
            is_there = version in served
            if is_there and is_asked:
                is_there = served[version].stamp == _stamp(path)
            if version not in wanted:
                continue
            # What cannot be loaded anew still answers.
            if is_there or self._loads(name, version, path) or version in served:
                kept.add(version)
                newest = max(served, key=int)
                if newest in kept:
                    self.models[name] = served[newest]
        if not kept:
            return  # nothing new can answer, so what there is goes on
        self.models[name] = served[max(kept, key=int)]
        for version in set(served) - kept:
            self._let_go(served.pop(version))

    def _loads(self, name, version, path):
        """Whether a version could be loaded; what could not is tried again when its files change,
        as where they were still being copied."""
        stamp = _stamp(path)
        is_known = (name, version) in self._broken and self._stamps.get((name, version)) == stamp
        if self.is_draining or is_known:
            return False
        try:
            runtime = SavedModelRuntime(name, version, path, self._options)
        except Exception as error:  # a broken file may raise anything
            self._broken[name, version] = f"{type(error).__name__}: {error}"[:500]
            self._stamps[name, version] = stamp
            if version not in self._served[name]:
                metrics.VERSIONS.labels(name, version).set(0)
            _LOGGER.error("Couldn't load model %r, version %s: %s", name, version, error)
            return False
        self._broken.pop((name, version), None)
        before = self._served[name].get(version)
        self._served[name][version] = ServedModel(runtime, stamp)
        if before is not None:
            self._let_go(before)
        metrics.VERSIONS.labels(name, version).set(1)
        _LOGGER.info("Model %r, version %s is ready.", name, version)
        return True

    def _let_go(self, model):
        model.ready = False
        # A new set, as others may go through the one before.
        self._leaving = weakref.WeakSet([*self._leaving, model.runtime])
        # Who has found the model a moment ago is still answered.
        closing = threading.Timer(_LAST_SECONDS, model.runtime.close)
        closing.daemon = True
        closing.start()
        metrics.VERSIONS.remove(model.name, model.version)

    def _all(self):
        return [model for of_one in [*self._served.values()] for model in [*of_one.values()]]

    def _is_known(self, name, version):
        if not version:
            return name in self._wanted
        return version in self._wanted.get(name, ()) or (name, version) in self._broken


def _stamp(path):
    """What changes where a file below a folder does: how many there are, their bytes, the time."""
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):  # a temporary file, which is gone again
                found.append(os.stat(os.path.join(folder, name)))
    return len(found), sum(s.st_size for s in found), max((s.st_mtime_ns for s in found), default=0)
