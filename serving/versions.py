"""Which versions of a model should be loaded, and what to do next. Pure functions.

The rules are TensorFlow Serving's (file system source, AvailabilityPreservingPolicy): the policy chooses versions among
those on disk; the newest chosen one is loaded first; an old one is unloaded only when a chosen one can answer.
"""
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Latest:
    """The `count` newest versions."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """Every version."""


@dataclass(frozen=True, slots=True)
class Specific:
    """These versions, if they exist."""

    versions: frozenset[int]


Policy: TypeAlias = Latest | All | Specific


class State(Enum):
    """The life of a version, as GetModelStatus names it."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, slots=True)
class Load:
    """Load this version next."""

    version: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload this version next."""

    version: int


Action: TypeAlias = Load | Unload


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one version, and whether the policy wants it."""

    state: State
    wanted: bool


def wanted(policy: Policy, on_disk: Collection[int]) -> set[int]:
    """The versions that the policy wants of those on disk."""
    match policy:
        case All():
            return set(on_disk)
        case Specific(versions):
            return set(versions & set(on_disk))
        case Latest(count):
            return set(sorted(on_disk, reverse=True)[:count])


def absent_versions(policy: Policy, on_disk: Collection[int]) -> frozenset[int]:
    """The versions that the policy names and that are not on disk."""
    return policy.versions.difference(on_disk) if isinstance(policy, Specific) else frozenset()


def next_action(versions: Mapping[int, Snapshot]) -> Action | None:
    """The next step for one model, or None when there is nothing to do now.

    Args:
        versions: every version that is wanted or loaded; START: it can be loaded now; END: its load failed.
    """
    serving = [v for v, s in versions.items() if s.state is State.AVAILABLE]
    surplus = [v for v in serving if not versions[v].wanted]
    any_wanted = any(s.wanted for s in versions.values())
    # An old version stays until a wanted one can answer; of several old ones only the newest stays.
    if surplus and (not any_wanted or len(surplus) < len(serving) or len(surplus) > 1):
        return Unload(min(surplus))
    waiting = [v for v, s in versions.items() if s.state is State.START and s.wanted]
    return Load(max(waiting)) if waiting else None
