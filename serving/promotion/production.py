"""A production root and its servers, as `rollout.World`: what each step of an operation does to files and servers."""
from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import durable
from serving.promotion import files, golden, history, plan, proxy
from serving.promotion.golden import Golden
from serving.promotion.plan import Kind, Operation, Served, Stage
from serving.promotion.proxy import Share
from serving.promotion.rollout import DiskFailedError, StageFailedError
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server
from user_error import UserError
from whole_file import remedied

if TYPE_CHECKING:  # it needs packages that only who signs has
    from serving.signing import Signer

LOAD_S, ANSWER_S = 300.0, 30.0


@dataclass
class Production:
    """`golden`: the file of requests and answers that a new version was proven with, to be kept beside its files.
    `signer` signs versions that are placed, with what was `proven` of them, and records of the history.
    `watch(operation)` bakes: it returns what was seen, for the history, and raises StageFailedError that says why the
    canary is refused."""

    root: ProductionRoot
    hosts: Sequence[Server]
    golden: bytes = b""
    signer: Signer | None = None
    proven: Mapping[str, Any] = field(default_factory=dict)
    load_s: float = LOAD_S
    answer_s: float = ANSWER_S
    watch: Callable[[Operation], Mapping[str, Any]] = lambda operation: {}
    told: Callable[[str], None] = lambda line: None
    servers: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        self._of = {host.name: host for host in self.hosts}
        self._sign = None if self.signer is None else self.signer.signature
        self.servers = list(self._of)

    def journal(self, operation: Operation | None) -> None:
        try:
            self.root.write_journal(operation)
        except OSError as error:
            raise UserError(f"{self.root.journal_path}: {remedied(error)}; the next command on this root takes up what "
                            "was under way") from error
        if operation is not None:
            self.told(f"{operation.kind} {operation.model}: {operation.stage}")

    def copy(self, operation: Operation) -> None:
        target = self.root.copy_path(operation.model, operation.version)
        with _failing(f"copying {operation.source}"):
            found = files.copy(Path(operation.source), target)
        if operation.digest and found != operation.digest:
            raise StageFailedError(f"{operation.source} was changed while it was promoted")
        if self.golden:
            path = self.root.golden_path(operation.model, operation.version)
            with _failing(f"writing {path}"):
                durable.write(path, self.golden)

    def place(self, operation: Operation) -> None:
        target = self.root.version_path(operation.model, operation.version)
        with _failing(f"placing {target}"):
            durable.rename(self.root.copy_path(operation.model, operation.version), target)
            if self.signer is not None:
                if files.whole(self.signer.sign_version(target)) != operation.digest:
                    raise StageFailedError(f"{target} was changed while it was promoted")
                self.signer.state(target, operation.model, self.proven)

    def remove(self, model: str, versions: Sequence[int]) -> None:
        file = self.root.config()
        named = file.served(model)
        needed = {*named.versions, *named.labels.values(),
                  *file.named_by_others(model, self.root.base_path(model), versions)}
        for version in versions:
            path, hidden = self.root.version_path(model, version), self.root.copy_path(model, version)
            with _failing(f"removing version {version} of {model}"):
                durable.remove(hidden)
                if version in needed:
                    continue  # somebody has named it by hand meanwhile
                # Under a name that servers skip first: a version with half of its files is never seen.
                if path.exists():
                    durable.rename(path, hidden)
                durable.remove(hidden)
                for beside in self.root.beside(model, version):
                    durable.sweep(beside)
                    durable.remove(beside)

    def configure(self, operation: Operation) -> None:
        model, file = operation.model, self.root.config()
        wanted = plan.merged(file.served(model), operation)
        text = file.with_served(model, self.root.base_path(model), wanted)
        if text != file.text:
            with _failing(f"writing {file.path}"):
                durable.write(file.path, text.encode())

    def reload(self, server: str) -> None:
        host, file = self._of[server], self.root.config()
        host.reload(file.message, self.answer_s, self.load_s)
        if host.grpc is None:
            # It was not told: nothing goes on, and no file goes away, before it has read the file.
            for model in file.models:
                for label, version in file.served(model).labels.items():
                    if label in (plan.STABLE, plan.CANARY):
                        host.await_label(model, label, version, self.answer_s)

    def await_available(self, server: str, model: str, version: int) -> None:
        self._of[server].await_available(model, version, self.load_s)

    def check(self, server: str, operation: Operation, label: str | None) -> None:
        model, version = operation.model, operation.version
        if label is not None:
            self._of[server].await_label(model, label, version, self.answer_s)
        # Going back must be quick, and nothing must stand in its way.
        requests = () if operation.kind is Kind.ROLLBACK else self._proven_with(model, version)
        self._of[server].check(model, version, label, requests)

    def _proven_with(self, model: str, version: int) -> Sequence[Golden]:  # decision 243
        try:
            return golden.kept(self.root.golden_path(model, version))
        except (UserError, OSError) as error:
            self.told(f"{error}; answers are not compared")
            return ()

    def bake(self, operation: Operation) -> Mapping[str, Any]:
        return self.watch(operation)

    def share(self, operation: Operation, on: bool) -> None:
        share = Share.of(operation)
        proxy.tell(operation.model, share if on else replace(share, percent=0, mirror=0))

    def record(self, operation: Operation) -> None:
        self._append(operation, "done" if operation.stage is Stage.RECORD else "undone", plan.served(operation))

    def refuse(self, operation: Operation) -> None:
        """Writes down an operation that a gate kept from beginning."""
        self._append(operation, "refused", operation.before)

    def _append(self, operation: Operation, outcome: str, after: Served) -> None:
        with _failing(f"writing {self.root.history_path}"):
            history.append(self.root.history_path, {
                "id": operation.id, "what": operation.kind, "outcome": outcome,
                "model": operation.model, "version": operation.version, "source": operation.source,
                "digest": operation.digest, "before": dict(operation.before.labels), "after": dict(after.labels),
                "dropped": sorted(operation.dropped), "why": operation.why,
                "when": datetime.now(UTC).isoformat(timespec="seconds"), **operation.facts}, self._sign)


@contextmanager
def _failing(doing: str) -> Iterator[None]:
    """Turns an OSError into a DiskFailedError that says what was being done."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise DiskFailedError(f"{doing}{where}: {remedied(error)}") from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


def new_operation(kind: Kind, model: str, version: int, before: Served, facts: Mapping[str, Any] | None = None,
                  **more: Any) -> Operation:
    """An operation of the user who runs this process, with an id of its own, before its first stage."""
    who = f"{_user()} on {socket.gethostname()}"
    # In the order of time, as long as clocks go on.
    made = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{time.monotonic_ns():x}"
    return plan.with_facts(Operation(made, kind, model, version, before, plan.first(kind), **more),
                           {"who": who, **(facts or {})})
