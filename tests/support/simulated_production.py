"""A production root and its servers, simulated: with faults, delays, lost replies, restarts and crashes from a seed.

Servers behave as TensorFlow Serving does. A reload is refused as a whole if it moves a label to a version that is not
loaded; it is answered before new versions are loaded; and the configuration file is read again and again, so that what
a reload said is taken back unless the file says it too.
"""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from serving.promotion import plan
from serving.promotion.plan import CANARY, STABLE, Operation, Served, Stage
from serving.promotion.rollout import StageFailedError

MODEL = "mnist"


class Killed(BaseException):
    """The promoting process is gone, in the middle of what it did."""


@dataclass
class Server:
    """What a server has been told and what it has loaded."""

    told: Served = field(default_factory=Served)
    loaded: set[int] = field(default_factory=set)
    up: bool = True
    refused: int = 0

    def reload(self, wanted: Served) -> bool:
        """False if it is refused: then nothing changes."""
        for label, version in wanted.labels.items():
            # --allow_version_labels_for_unavailable_models: a new label may name what is not loaded.
            if version not in self.loaded and self.told.labels.get(label, version) != version:
                self.refused += 1
                return False
        self.told = wanted
        return True

    def look(self, files: set[int]) -> None:
        """Loads and unloads what it was told to, if the files are there."""
        self.loaded = (self.loaded & self.told.versions) | (self.told.versions & files)

    def start(self, wanted: Served, files: set[int]) -> None:
        self.told, self.loaded, self.up = wanted, set(wanted.versions & files), True


@dataclass
class Production:
    """The disk, the servers, and who holds the lock. After each change `check` holds."""

    random: Random
    servers: dict[str, Server]
    faults: float = 0.0  # of how many calls something goes wrong in
    file: Served = field(default_factory=Served)
    files: set[int] = field(default_factory=set)
    copies: set[int] = field(default_factory=set)
    journal: Operation | None = None
    history: list[tuple[str, Stage]] = field(default_factory=list)
    recorded: Operation | None = None  # the last of the history, as it ended
    holder: str = ""
    shared: bool = False  # the proxy sends the canary a share of the traffic
    may_be_stable: set[int | None] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def happen(self) -> None:
        """Something that nobody asked for: a server looks at its files, or at the configuration, or starts anew."""
        server = self.random.choice(list(self.servers.values()))
        match self.random.randrange(12):
            case 0 if self.faults:
                server.up = False
            case 1 | 2 | 3:
                if server.up:
                    server.reload(self.file)
                else:
                    server.start(self.file, self.files)
            case _:
                if server.up:
                    server.look(self.files)
        self.check()

    def check(self) -> None:
        """What must hold at every moment."""
        stable = self.file.labels.get(STABLE)
        if stable not in self.may_be_stable:
            self.broken.append(f"the file's stable is {stable}")
        if not set(self.file.labels.values()) <= self.file.versions:
            self.broken.append("the file has a label for a version that it does not name")
        if not self.file.versions <= self.files:
            self.broken.append("the file names a version that has no files")
        for server in self.servers.values():
            canary = server.told.labels.get(CANARY)
            if self.shared and server.up and canary not in server.loaded:
                self.broken.append(f"the proxy sends requests to a canary that a server has not loaded ({canary})")
            answered = server.told.labels.get(STABLE)
            if server.up and answered is not None and answered not in server.loaded:
                self.broken.append(f"a server has no version for its label stable ({answered})")
            if server.up and answered not in self.may_be_stable:
                self.broken.append(f"a server's stable is {answered}")

    def settle(self) -> None:
        """Everything is up, has read the file and loaded what it says."""
        for server in self.servers.values():
            if not server.up:
                server.start(self.file, self.files)
            for _ in range(2):
                server.reload(self.file)
                server.look(self.files)


@dataclass
class Promoter:
    """A process that promotes: a `rollout.World`. It may die in the middle of every call."""

    production: Production
    name: str = "one"
    bakes_well: bool = True
    pauses: bool = False
    deaths: bool = True

    @property
    def servers(self) -> Sequence[str]:
        return list(self.production.servers)

    def lock(self) -> bool:
        if self.production.holder not in ("", self.name):
            return False
        self.production.holder = self.name
        return True

    def unlock(self) -> None:
        if self.production.holder == self.name:
            self.production.holder = ""

    def _does(self, effect: Callable[[], None], *halves: Callable[[], None]) -> None:
        """An effect, or a part of it, or none; then perhaps an error, or the end of the process."""
        world = self.production
        assert world.holder == self.name, f"{self.name} acts without the lock"
        for _ in range(world.random.randrange(3)):
            world.happen()
        if world.random.random() >= world.faults:
            effect()
            world.check()
            return
        for part in world.random.choice([(), halves, (effect,)]):
            part()
        world.check()
        if self.deaths and world.random.random() < 0.5:
            raise Killed
        raise StageFailedError("something went wrong")

    def journal(self, operation: Operation | None) -> None:
        def keep() -> None:
            self.production.journal = operation
        try:
            self._does(keep)
        except StageFailedError:
            raise OSError("the journal cannot be written") from None

    def copy(self, operation: Operation) -> None:
        self._does(lambda: self.production.copies.add(operation.version))

    def place(self, operation: Operation) -> None:
        def rename() -> None:
            self.production.copies.discard(operation.version)
            self.production.files.add(operation.version)
        self._does(rename)

    def remove(self, model: str, versions: Sequence[int]) -> None:
        def remove() -> None:
            self.production.files -= set(versions)
            self.production.copies -= set(versions)
        self._does(remove, lambda: self.production.copies.difference_update(versions))

    def configure(self, operation: Operation) -> None:
        def write() -> None:
            self.production.file = plan.merged(self.production.file, operation)
        self._does(write)

    def reload(self, server: str) -> None:
        one = self.production.servers[server]

        def send() -> None:
            if not one.up or not one.reload(self.production.file):
                raise StageFailedError(f"{server} refuses")
        self._does(send)

    def await_available(self, server: str, model: str, version: int) -> None:
        for _ in range(40):
            self._does(lambda: None)
            one = self.production.servers[server]
            if one.up and version in one.loaded:
                return
            self.production.happen()
        raise StageFailedError(f"{server} does not load version {version}")

    def check(self, server: str, operation: Operation, label: str | None) -> None:
        self._does(lambda: None)
        one, version = self.production.servers[server], operation.version
        answered = version if label is None else one.told.labels.get(label)
        if not one.up or answered != version or version not in one.loaded:
            raise StageFailedError(f"{server} answers {answered}, not {version}")

    def bake(self, operation: Operation) -> Mapping[str, Any]:
        self._does(lambda: None)
        if not self.bakes_well:
            raise StageFailedError("the canary is slower")
        return {plan.PAUSED: "nothing is certain"} if self.pauses else {"watched": True}

    def share(self, operation: Operation, on: bool) -> None:
        def tell() -> None:
            self.production.shared = on
        self._does(tell)

    def record(self, operation: Operation) -> None:
        def append() -> None:
            if (operation.id, operation.stage) not in self.production.history:
                self.production.history.append((operation.id, operation.stage))
                self.production.recorded = operation
        self._does(append)
