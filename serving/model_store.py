"""Loads and unloads the versions that versions.py decides on, and lends loaded versions to requests.

One thread looks at the directories, a few load, and requests pin versions. One lock guards all state; it is never held
while a model is loaded, unloaded or run. An error affects only its own model: the others are loaded and served.
"""
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType

from serving.config import Model, check_no_platform_changes, check_platforms
from serving.errors import Code, ServingError, invalid, not_found
from serving.known_model import KnownModel, Version
from serving.readiness import Readiness
from serving.remote_path import RemotePath
from serving.servable import Loaded, ModelSpec, Servable, VersionStatus
from serving.version_files import Failure, Place, directory, no_answer, on_disk, place
from serving.versions import Load, State, next_action

log = logging.getLogger("serving")


LoadFunction = Callable[[str, int, Path], Loaded]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and after how many seconds, a failed load is tried again."""

    count: int = 5
    interval_s: float = 60.0


class ModelStore:
    """The models of one server. `configure`, then `start`; `stop` unloads everything."""

    def __init__(self, load: LoadFunction, poll_s: float = 1.0, retries: Retries | None = None, threads: int = 0,
                 any_label_when_new: bool = False, any_label: bool = False, look_s: float = 30.0) -> None:
        """`look_s`: how long `configure` waits for a remote storage's answer before it goes on without it."""
        self._load = load
        self._poll_s = poll_s
        self._retries = retries or Retries()
        self._any_label_when_new = any_label_when_new
        self._any_label = any_label
        self._look_s = look_s
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._reload = threading.Lock()
        self._models: dict[str, KnownModel] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._serving: dict[str, dict[int, Version]] = {}
        self._stopping = threading.Event()
        self._workers = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="load")
        self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)

    def start(self) -> None:
        """Begins to look for new versions."""
        if self._poll_s > 0:
            self._poller.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Unloads every version, each when its last request has ended."""
        self._stopping.set()
        with self._changed:
            for model in self._models.values():
                model.want(())
            self._advance()
            ended = self._changed.wait_for(lambda: all(v.state is State.END for m in self._models.values()
                                                       for v in m.versions.values()), timeout_s)
        if ended:
            # Otherwise a request still runs, and its version needs a worker to be unloaded later.
            self._workers.shutdown(wait=False)

    # -- requests

    def pin(self, spec: ModelSpec) -> "_Pin":
        """A context that gives the servable of `spec` and keeps it loaded."""
        return _Pin(self, spec)

    def lend(self, spec: ModelSpec) -> Version:
        """Finds a version and increases its count of users. Raises ServingError."""
        with self._lock:
            number = spec.version
            if spec.label is not None:
                number = self._labels.get(spec.name, {}).get(spec.label)
                if number is None:
                    raise invalid(f"Unrecognized servable version label: {spec.label}")
            serving = self._serving.get(spec.name)
            if serving:
                version = serving.get(max(serving) if number is None else number)
                if version is not None:
                    version.pins += 1
                    return version
        raise not_found(f"Servable not found for request: {ModelSpec(spec.name, number)}")

    def give_back(self, version: Version) -> None:
        """Decreases the count of users that `lend` increased; the last user lets an unwanted version be unloaded."""
        with self._lock:
            version.pins -= 1
            if version.pins == 0 and version.state is State.UNLOADING:
                with suppress(RuntimeError):  # Python ends, has closed all its pools, and takes the version with it
                    self._workers.submit(self._take_down, version)

    def status(self, spec: ModelSpec) -> list[VersionStatus]:
        """The known versions of a model, newest first; a label is ignored, as in the original."""
        with self._lock:
            model = self._models.get(spec.name)
            versions = dict(model.versions) if model else {}
            if spec.version is not None:
                if spec.version not in versions:
                    raise not_found(f"Could not find version {spec.version} of model {spec.name}")
                versions = {spec.version: versions[spec.version]}
            if not versions:
                raise not_found(f"Could not find any versions of model {spec.name}")
            return [version.status(number) for number, version in sorted(versions.items(), reverse=True)]

    def models(self) -> list[str]:
        """The names of the models that are configured, sorted."""
        with self._lock:
            return sorted(name for name, model in self._models.items() if not model.removed)

    def labels(self) -> dict[str, dict[str, int]]:
        """{model: {label: version}}."""
        with self._lock:
            return {name: dict(labels) for name, labels in self._labels.items()}

    def readiness(self) -> Readiness:
        """Which of the configured models can answer, and which wanted versions cannot."""
        with self._lock:
            return Readiness({name: model.readiness() for name, model in self._models.items() if not model.removed})

    # -- configuration

    def configure(self, models: Iterable[Model], timeout_s: float | None = None) -> dict[str, Failure]:  # decision 31
        """Replaces the configuration, and waits until each new model has been loaded or has failed to load.

        The order is TensorFlow Serving's: first the labels are checked against the versions that are loaded now, and if
        one of them names another version, nothing is changed; then models are added and removed.

        Returns:
            Why new models have no version that answers: name -> reasons, with the original's text. The configuration
            is in force even so, and later versions will be found.

        Raises:
            ServingError: FAILED_PRECONDITION for a label, INVALID_ARGUMENT for a platform.
        """
        with self._reload:
            configured = {model.name: model for model in models}
            with self._lock:
                check_no_platform_changes(
                    [name for name, known in self._models.items() if not known.removed], configured.values())
                labels = {name: self._checked_labels(model) for name, model in configured.items()}
                check_platforms(configured.values())
                self._labels = labels
                new = [name for name in configured if name not in self._models or self._models[name].removed]
                for name, model in configured.items():
                    known = self._models.get(name)
                    if known is None or known.removed:
                        # The cause of an earlier failure may be gone: a model that is added again starts anew.
                        usable = {n: v for n, v in known.versions.items() if not v.error} if known else {}
                        self._models[name] = KnownModel(model, usable)
                    else:
                        known.config = model
                for name, known in self._models.items():
                    if name not in configured:
                        known.removed = True
                        known.want(())
            # If the files are looked at only once, a new configuration is no reason to look at known models again.
            self.look(None if self._poll_s > 0 else new)
            with self._changed:
                self._changed.wait_for(lambda: self._stopping.is_set() or not any(
                    self._models[name].looking for name in new), self._look_s)
                for name in new:
                    if self._models[name].looking:
                        self._models[name].note_seen(no_answer(configured[name], self._look_s))
                self._changed.wait_for(lambda: self._stopping.is_set() or all(
                    self._serving.get(name) or self._models[name].settled() for name in new), timeout_s)
                return {name: self._models[name].failures() for name in new if not self._serving.get(name)}

    def await_any(self) -> dict[str, Failure]:  # decision 80
        """Waits until a model can answer, or until no load will be tried again; returns the same as `configure`."""
        with self._changed:
            def over() -> bool:
                polled = self._poll_s > 0 and self._retries.count > 0
                return self._stopping.is_set() or any(self._serving.values()) or not any(
                    model.may_answer_later(polled) for model in self._models.values())

            if not over():
                log.warning("nothing can be served yet, trying again: %s",
                            Failure.joined(model.failures() for model in self._models.values()))
            self._changed.wait_for(over)
            return {name: model.failures() for name, model in self._models.items() if not self._serving.get(name)}

    def _checked_labels(self, model: Model) -> dict[str, int]:
        for label, number in model.labels.items():
            current = self._labels.get(model.name, {}).get(label)
            free = self._any_label or (self._any_label_when_new and current in (None, number))
            if not free and number not in self._serving.get(model.name, {}):
                raise ServingError(Code.FAILED_PRECONDITION, f"Request to assign label to version {number} of model "
                                   f"{model.name}, which is not currently available for inference",
                                   "--allow_version_labels_for_unavailable_models=true lets a new label name a "
                                   "version that is not loaded yet.")
        return dict(model.labels)

    # -- versions

    def look(self, only: Collection[str] | None = None) -> None:
        """Looks once at the directories of all models, or of those in `only`, and starts the loads and unloads due."""
        with self._lock:
            configs = {name: model.config for name, model in self._models.items()
                       if not model.removed and (only is None or name in only)}
        for name, config in configs.items():
            if isinstance(directory(config), RemotePath):
                self._look_in_a_thread(name, config)
            else:
                before = place(config)
                seen = on_disk(config)
                self._note_seen(name, config, seen, before if before == place(config) else None)
        with self._lock:
            self._advance()

    def _note_seen(self, name: str, config: Model, seen: Mapping[int, str] | ServingError,
                   found_in: Place | None = None) -> None:
        with self._lock:
            model = self._models[name]
            if model.config.base_path == config.base_path and not model.removed and not self._stopping.is_set():
                model.note_seen(seen, found_in)

    def _look_in_a_thread(self, name: str, config: Model) -> None:  # decision 143
        """A storage may take minutes to answer, or to fail: nothing else waits for that."""
        with self._lock:
            model = self._models[name]
            if model.looking == config.base_path:
                return
            model.looking = config.base_path

        def look() -> None:
            try:
                self._note_seen(name, config, on_disk(config))
            except Exception:
                # Whatever the error is: the next look may succeed.
                log.exception("looking for versions of model %s failed", name)
            finally:
                with self._lock:
                    if model.looking == config.base_path:
                        model.looking = None
                    self._advance()

        threading.Thread(target=look, name=f"look-{name}", daemon=True).start()

    def _advance(self) -> None:
        """Begins every action that is due now. The lock is held."""
        for name, model in self._models.items():
            while (action := next_action(model.snapshots())) is not None:
                version = model.versions[action.version]
                if isinstance(action, Load):
                    version.state = State.LOADING
                    self._workers.submit(self._bring_up, name, action.version, version)
                else:
                    version.state = State.UNLOADING
                    del self._serving[name][action.version]
                    if version.pins == 0:
                        self._workers.submit(self._take_down, version)
                    # Otherwise the last request to end hands it to a worker.
        self._changed.notify_all()

    def _bring_up(self, name: str, number: int, version: Version) -> None:
        began = perf_counter()
        try:
            servable = self._load(name, number, version.path)
        except ServingError as error:
            self._load_failed(name, number, version, error, perf_counter() - began)
        except Exception as error:
            log.exception("version %s of model %s: internal error", number, name)
            self._load_failed(name, number, version, ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}"),
                              perf_counter() - began)
        else:
            # Logged before the version can answer, so that the line precedes every answer.
            log.info("version %s of model %s is loaded from %s, in %.1f s, and run by %s", number, name, version.path,
                     perf_counter() - began, servable.engine)
            with self._lock:
                version.error = None
                version.servable = servable
                version.state = State.AVAILABLE
                self._serving.setdefault(name, {})[number] = version
                self._advance()

    def _load_failed(self, name: str, number: int, version: Version, error: ServingError, seconds: float) -> None:
        with self._lock:
            version.error = error
            version.tries += 1
            again = version.wanted and version.tries <= self._retries.count and not self._stopping.is_set()
            log.error("version %s of model %s cannot be loaded from %s (after %.1f s; %s): %s: %s", number, name,
                      version.path, seconds, f"tried again in {max(self._retries.interval_s, 0):g} s" if again
                      else "not tried again", error.code.name, f"{error} {error.advice}".rstrip())
            if again:
                version.retry = threading.Timer(self._retries.interval_s, self._try_again, (name, number, version))
                version.retry.daemon = True
                version.retry.start()
            else:
                version.state = State.END
            self._advance()

    def _try_again(self, name: str, number: int, version: Version) -> None:
        with self._lock:
            if version.retry is not None:
                version.retry = None
                self._workers.submit(self._bring_up, name, number, version)

    def _take_down(self, version: Version) -> None:
        began = perf_counter()
        servable, version.servable = version.servable, None
        if servable is not None:
            servable.close()
            log.info("version %s of model %s is unloaded, from %s, in %.1f s", servable.version, servable.name,
                     version.path, perf_counter() - began)
        with self._lock:
            # If it was wanted again while its last request ran, it is loaded again.
            version.state = State.START if version.wanted else State.END
            self._advance()

    def _poll(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                self.look()
            except Exception:
                # Whatever the error is: the next look may succeed, and loaded versions answer meanwhile.
                log.exception("looking for versions failed")


class _Pin:
    """A servable in use."""

    __slots__ = ("_spec", "_store", "_version")

    def __init__(self, store: ModelStore, spec: ModelSpec) -> None:
        self._store = store
        self._spec = spec

    def __enter__(self) -> Servable:
        self._version = self._store.lend(self._spec)
        assert self._version.servable is not None
        return self._version.servable

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._store.give_back(self._version)
