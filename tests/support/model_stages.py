"""A model store with fake servables, whose loads a test holds up or fails."""
import threading
from pathlib import Path

from fake_servable import FakeServable

from serving.config import Model
from serving.errors import Code, ServingError
from serving.model_store import ModelStore
from serving.servable import ModelSpec


class Loader:
    """Loads fake servables; versions in `broken` fail, and every load waits for `gate`."""

    def __init__(self) -> None:
        self.broken: set[tuple[str, int]] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.loaded: list[FakeServable] = []
        self.attempts: list[tuple[str, int]] = []

    def __call__(self, name: str, number: int, path: Path) -> FakeServable:
        assert path.is_dir()
        self.attempts.append((name, number))
        assert self.gate.wait(60)
        if (name, number) in self.broken:
            raise ServingError(Code.DATA_LOSS, "broken")
        self.loaded.append(FakeServable(name, number))
        return self.loaded[-1]

    def one(self, name: str, number: int) -> FakeServable:
        return next(s for s in reversed(self.loaded) if (s.name, s.version) == (name, number))


class Stage:
    """A store, its loader, and a directory of model versions."""

    def __init__(self, root: Path, store: ModelStore, loader: Loader) -> None:
        self.root, self.store, self.loader = root, store, loader

    def add(self, name: str, *versions: int) -> Model:
        for version in versions:
            (self.root / name / str(version)).mkdir(parents=True)
        return Model(name, str(self.root / name))

    def states(self, name: str) -> dict[int, str]:
        return {status.version: status.state for status in self.store.status(ModelSpec(name))}

    def missing(self, name: str = "m") -> tuple[bool, list[str]]:
        model = self.store.readiness().models[name]
        return model.answers, [str(each) for each in model.missing]

    def answering(self, name: str = "m", version: int | None = None) -> int:
        with self.store.pin(ModelSpec(name, version)) as servable:
            return servable.version
