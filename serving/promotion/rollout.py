"""Carries an operation out, stage by stage, on files and servers; and takes up one that was interrupted.

What is done is in `World`, so that the same code runs on a real production root and, in the tests, on one that loses
replies, fills its disk, restarts its servers and dies at any moment.
"""
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from serving.promotion import plan
from serving.promotion.plan import CANARY, STABLE, Kind, Operation, Stage
from user_error import UserError


class StageFailedError(Exception):
    """A stage cannot be done: the reason, for people, and what was seen, for the history. What was done of the
    operation is undone."""

    def __init__(self, reason: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.facts = facts or {}


class DiskFailedError(StageFailedError):
    """Not because of a server: files cannot be read or written."""


class World(Protocol):
    """A production root and the servers that host it. Every method may be called again after it failed half-way."""

    servers: Sequence[str]

    def journal(self, operation: Operation | None) -> None:
        """Keeps the operation, on disk, before its stage begins; None: there is none any more."""

    def copy(self, operation: Operation) -> None:
        """Copies the version's files to a name that servers skip, and checks them."""

    def place(self, operation: Operation) -> None:
        """Renames the copy to the version's number."""

    def remove(self, model: str, versions: Sequence[int]) -> None:
        """Removes the files of versions, and copies that were not placed."""

    def configure(self, operation: Operation) -> None:
        """Writes the configuration file as `plan.merged` says; other models in it stay as they are."""

    def reload(self, server: str) -> None:
        """Sends the whole configuration to a server. Raises StageFailedError if it refuses it, or does not answer."""

    def await_available(self, server: str, model: str, version: int) -> None:
        """Returns once the server reports the version AVAILABLE. Raises StageFailedError if it does not in time."""

    def check(self, server: str, operation: Operation, label: str | None) -> None:
        """Sends golden requests, through the label or to the operation's version. Raises StageFailedError unless that
        version answers all of them as it should."""

    def bake(self, operation: Operation) -> Mapping[str, Any]:
        """Watches the canary, and returns what was seen, for the history. Raises StageFailedError if it does worse
        than stable."""

    def share(self, operation: Operation, on: bool) -> None:
        """Lets the proxy that the operation names, if it names one, send the canary its share of the traffic, or none
        of it. Raises StageFailedError if the proxy does not take it."""

    def record(self, operation: Operation) -> None:
        """Appends what was done to the history, once."""


# Whatever goes wrong, with a file that cannot be read or an input that cannot be sent, production is put right.
_FAILURES = (StageFailedError, UserError, OSError, ValueError, ArithmeticError)


def carry_out(operation: Operation, world: World) -> Operation:  # decision 239
    """Does an operation from its stage on, and returns it as it ended: at RECORD, or undone, at UNDONE, with `why`."""
    at: Operation | None = operation
    while at is not None:
        operation = at
        world.journal(operation)
        try:
            found = STAGES[operation.stage](operation, world)
        except _FAILURES as error:
            if not plan.may_be_undone(operation):
                raise
            facts = error.facts if isinstance(error, StageFailedError) else {}
            at = plan.undone(plan.with_facts(operation, facts), str(error))
        else:
            at = plan.following(plan.with_facts(operation, found or {}))
    world.journal(None)
    return operation


def take_up(operation: Operation, world: World) -> Operation:
    """Finishes an operation that was interrupted, or undoes it; returns it as it ended."""
    if plan.goes_on(operation):
        return carry_out(operation, world)
    return carry_out(plan.undone(operation, "it was interrupted"), world)


def _configure(operation: Operation, world: World) -> None:
    """The file first, since it is the truth: a server that polls it would take a newer reload back."""
    world.configure(operation)
    for server in world.servers:
        world.reload(server)


def _load(operation: Operation, world: World) -> None:
    _configure(operation, world)
    for server in world.servers:
        world.await_available(server, operation.model, operation.version)
        world.check(server, operation, None)


def _move_labels(operation: Operation, world: World) -> None:
    """No request is sent to a canary while its label moves, or after it is gone."""
    world.share(operation, on=False)
    _configure(operation, world)


def _canary(operation: Operation, world: World) -> None:
    _move_labels(operation, world)
    for server in world.servers:
        world.check(server, operation, CANARY)


def _stable(operation: Operation, world: World) -> None:
    # The barrier: no label moves before every server has the version.
    moved = world.servers if operation.version else ()
    for server in moved:
        world.await_available(server, operation.model, operation.version)
    _move_labels(operation, world)
    for server in moved:
        world.check(server, operation, STABLE)


def _drop(operation: Operation, world: World) -> None:
    _configure(operation, world)
    world.remove(operation.model, sorted(operation.dropped))


def _unload(operation: Operation, world: World) -> None:
    if operation.kind in (Kind.PROMOTE, Kind.CANARY):
        _configure(operation, world)


def _discard(operation: Operation, world: World) -> None:
    if operation.kind in (Kind.PROMOTE, Kind.CANARY):
        world.remove(operation.model, [operation.version])


# Each returns what the history is to say of it, if anything.
STAGES: dict[Stage, Callable[[Operation, World], Mapping[str, Any] | None]] = {
    Stage.COPY: lambda operation, world: world.copy(operation),
    Stage.PLACE: lambda operation, world: world.place(operation),
    Stage.LOAD: _load, Stage.CANARY: _canary, Stage.BAKE: lambda operation, world: world.bake(operation),
    Stage.SHARE: lambda operation, world: world.share(operation, on=True), Stage.STABLE: _stable, Stage.DROP: _drop,
    Stage.RECORD: lambda operation, world: world.record(operation), Stage.RESTORE: _move_labels, Stage.UNLOAD: _unload,
    Stage.DISCARD: _discard, Stage.UNDONE: lambda operation, world: world.record(operation)}
