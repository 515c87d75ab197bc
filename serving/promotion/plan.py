"""The steps of moving a version into production, as values: what the configuration names at each, and what undoes it.

An operation is journalled with the stage that begins, before anything of it is done. So after a crash the journal says
how far it can have come at most, and each stage can be done again: whether it was done, half done, or not at all.

A label moves only in a request of its own, to a version that every server already answers with: TensorFlow Serving
checks labels against what is loaded before it looks for new versions, and answers a reload before those are loaded.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

STABLE, CANARY = "stable", "canary"
# Of an operation's facts, why the bake leaves it to people whether the canary becomes stable.
PAUSED = "paused"


class Kind(StrEnum):
    """What was asked for."""

    PROMOTE = "promote"  # a new version becomes stable
    CANARY = "canary"  # a new version becomes canary
    SHARE = "share"  # the canary's share of the traffic changes
    FINISH = "finish"  # the canary becomes stable
    ROLLBACK = "rollback"  # the canary is taken away, or stable moves back
    GC = "gc"  # versions that nothing needs are dropped


class Stage(StrEnum):
    """A step. Its name in the journal means that it has begun."""

    COPY = "copy"  # the version's files, under a name that servers skip
    PLACE = "place"  # their rename to the version's number
    LOAD = "load"  # the servers load it, beside the versions that they have
    CANARY = "canary"  # the label canary names it
    BAKE = "bake"  # it is watched
    SHARE = "share"  # the proxy, if one is named, sends it a share of the traffic
    STABLE = "stable"  # the label stable names what it should
    DROP = "drop"  # the servers unload what is not needed, and its files are removed
    RECORD = "record"  # the history says what was done
    # The way back, each after those that it can begin with.
    RESTORE = "restore"  # the labels of before
    UNLOAD = "unload"  # the versions of before
    DISCARD = "discard"  # the files of the new version are removed
    UNDONE = "undone"  # the history says why


_FORWARD: dict[Kind, tuple[Stage, ...]] = {
    Kind.PROMOTE: (Stage.COPY, Stage.PLACE, Stage.LOAD, Stage.CANARY, Stage.BAKE, Stage.STABLE, Stage.RECORD),
    Kind.CANARY: (Stage.COPY, Stage.PLACE, Stage.LOAD, Stage.CANARY, Stage.BAKE, Stage.SHARE, Stage.RECORD),
    Kind.SHARE: (Stage.SHARE, Stage.RECORD),
    Kind.FINISH: (Stage.STABLE, Stage.RECORD),
    Kind.ROLLBACK: (Stage.STABLE, Stage.RECORD),
    Kind.GC: (Stage.DROP, Stage.RECORD)}
_BACK = (Stage.RESTORE, Stage.UNLOAD, Stage.DISCARD, Stage.UNDONE)
# Before these nothing of a stage has to be undone.
_FIRST_BACK = {Stage.COPY: Stage.DISCARD, Stage.PLACE: Stage.DISCARD, Stage.LOAD: Stage.UNLOAD}


@dataclass(frozen=True)
class Served:
    """What the configuration names of a model: its versions, and the version of each label."""

    versions: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)

    def labelled(self, label: str, version: int | None) -> "Served":
        """With the label on that version; None: without the label."""
        others = {name: number for name, number in self.labels.items() if name != label}
        return replace(self, labels=others | ({} if version is None else {label: version}))


@dataclass(frozen=True)
class Operation:
    """One change of production, as far as it has come.

    version: the new one, or of a rollback or finish the one that becomes stable; 0 where no version does: of a gc, and
    of a rollback that only takes the canary away. before: what the configuration named. dropped: the versions that a gc
    removes. why: of an operation that is undone, the reason.
    """

    id: str
    kind: Kind
    model: str
    version: int
    before: Served
    stage: Stage
    source: str = ""
    digest: str = ""
    dropped: frozenset[int] = frozenset()
    why: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "kind": self.kind, "model": self.model, "version": self.version,
                "before": {"versions": sorted(self.before.versions), "labels": dict(self.before.labels)},
                "stage": self.stage, "source": self.source, "digest": self.digest, "dropped": sorted(self.dropped),
                "why": self.why, "facts": dict(self.facts)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        before = Served(frozenset(value["before"]["versions"]), dict(value["before"]["labels"]))
        return cls(value["id"], Kind(value["kind"]), value["model"], value["version"], before, Stage(value["stage"]),
                   value["source"], value["digest"], frozenset(value["dropped"]), value["why"], value["facts"])

    @property
    def undoing(self) -> bool:
        return self.stage in _BACK


def first(kind: Kind) -> Stage:
    """The stage that an operation of this kind begins with."""
    return _FORWARD[kind][0]


def following(operation: Operation) -> Operation | None:
    """The operation at its next stage; None after the last. A promotion that was paused goes on as a canary."""
    if operation.stage is Stage.BAKE and PAUSED in operation.facts:
        operation = replace(operation, kind=Kind.CANARY)
    course = _BACK if operation.undoing else _FORWARD[operation.kind]
    place = course.index(operation.stage) + 1
    return replace(operation, stage=course[place]) if place < len(course) else None


def with_facts(operation: Operation, facts: Mapping[str, Any]) -> Operation:
    """The operation with more that the history is to say: what JSON has no number for is None."""
    return replace(operation, facts=finite({**operation.facts, **facts}))


def finite(value: Any) -> Any:
    """The value with None for each number that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def undone(operation: Operation, why: str) -> Operation:
    """The operation on its way back, from whatever of its stage may have been done."""
    assert not operation.undoing
    back = Stage.RESTORE if operation.kind in (Kind.SHARE, Kind.FINISH, Kind.ROLLBACK) else _FIRST_BACK.get(
        operation.stage, Stage.RESTORE)
    return replace(with_facts(operation, {"failed_at": operation.stage}), stage=back, why=why)


def was_in_production(operation: Operation) -> bool:
    """Whether an operation that was undone had come as far as the servers."""
    return operation.facts.get("failed_at") not in (Stage.COPY, Stage.PLACE)


def may_be_undone(operation: Operation) -> bool:
    """Whether a failure undoes it. Files that a gc has removed do not come back, and what is recorded has happened."""
    return operation.kind is not Kind.GC and operation.stage is not Stage.RECORD and not operation.undoing


def goes_on(operation: Operation) -> bool:
    """Whether an operation that was interrupted is finished, as far as the servers allow: the alternative is undoing.

    Clients may have had answers of the new version through `stable` once that stage has begun, and a gc has nothing to
    go back to.
    """
    return operation.undoing or operation.stage in (Stage.STABLE, Stage.DROP, Stage.RECORD)


def served(operation: Operation) -> Served:
    """What the configuration names of the model once the stage is done, if nobody else changes it."""
    before, version = operation.before, operation.version
    if operation.kind is Kind.GC:
        return replace(before, versions=before.versions - operation.dropped)
    if operation.stage in (Stage.COPY, Stage.PLACE, Stage.UNLOAD, Stage.DISCARD, Stage.UNDONE):
        return before
    loaded = replace(before, versions=before.versions | ({version} if version else set()))
    if operation.stage in (Stage.LOAD, Stage.RESTORE):
        return loaded
    if operation.stage in (Stage.CANARY, Stage.BAKE) or operation.kind in (Kind.CANARY, Kind.SHARE):
        return loaded.labelled(CANARY, version)
    return (loaded.labelled(STABLE, version) if version else loaded).labelled(CANARY, None)


def merged(there: Served, operation: Operation) -> Served:
    """What the file shall name, given what it names now, which somebody may have changed by hand: labels other than
    stable and canary stay, and so do versions that are not this operation's."""
    wanted = served(operation)
    others = {name: number for name, number in there.labels.items() if name not in (STABLE, CANARY)}
    own = {name: number for name, number in wanted.labels.items() if name in (STABLE, CANARY)}
    gone = (operation.dropped | {operation.version}) - wanted.versions
    return Served(frozenset((there.versions | wanted.versions) - gone | set(others.values())), others | own)


def needed(served: Served, previous: int | None) -> frozenset[int]:
    """The versions that gc keeps: those with a label, and the one that a rollback would go back to."""
    return frozenset(served.labels.values()) | (frozenset() if previous is None else {previous})
