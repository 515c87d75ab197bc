"""Which versions are wanted, and the order in which they are loaded and unloaded."""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.versions import (
    All,
    Latest,
    Load,
    Policy,
    Snapshot,
    Specific,
    State,
    Unload,
    next_action,
    wanted,
)


@pytest.mark.parametrize(("policy", "versions"), [
    (Latest(), {5}), (Latest(2), {3, 5}), (Latest(9), {1, 3, 5}), (All(), {1, 3, 5}),
    (Specific(frozenset({3, 4})), {3}),
])
def test_policies(policy: Policy, versions: set[int]) -> None:
    assert wanted(policy, [3, 5, 1]) == versions


def test_a_new_version_is_loaded_before_the_old_one_is_unloaded() -> None:
    old, new = Snapshot(State.AVAILABLE, False), Snapshot(State.START, True)
    assert next_action({1: old, 2: new}) == Load(2)
    assert next_action({1: old, 2: Snapshot(State.LOADING, True)}) is None
    assert next_action({1: old, 2: Snapshot(State.AVAILABLE, True)}) == Unload(1)


def test_an_old_version_stays_when_the_new_one_failed() -> None:
    assert next_action({1: Snapshot(State.AVAILABLE, False), 2: Snapshot(State.END, True)}) is None


def test_of_several_old_versions_only_the_newest_is_kept() -> None:
    old = Snapshot(State.AVAILABLE, False)
    assert next_action({1: old, 2: old, 3: Snapshot(State.LOADING, True)}) == Unload(1)


def test_the_newest_wanted_version_is_loaded_first() -> None:
    waiting = Snapshot(State.START, True)
    assert next_action({1: waiting, 3: waiting, 2: waiting}) == Load(3)


def test_unwanted_versions_are_not_loaded() -> None:
    assert next_action({1: Snapshot(State.START, False)}) is None


def test_all_versions_are_unloaded_if_none_is_wanted() -> None:
    assert next_action({1: Snapshot(State.AVAILABLE, False)}) == Unload(1)


@settings(derandomize=True, max_examples=300)
@given(st.dictionaries(st.integers(1, 6), st.booleans(), max_size=6), st.sets(st.integers(1, 6)))
def test_after_all_actions_exactly_the_wanted_versions_are_loaded(loaded: dict[int, bool], broken: set[int]) -> None:
    """If a version is available at first, one always is; in the end only wanted ones or the last working one."""
    versions = {v: Snapshot(State.AVAILABLE, w) for v, w in loaded.items()}
    for version in range(1, 7):
        versions.setdefault(version, Snapshot(State.START, version % 2 == 0))
    answering = any(s.state is State.AVAILABLE for s in versions.values()) and any(s.wanted for s in versions.values())
    for _ in range(50):
        action = next_action(versions)
        if action is None:
            break
        wants = versions[action.version].wanted
        if isinstance(action, Load):
            state = State.END if action.version in broken else State.AVAILABLE
            versions[action.version] = Snapshot(state, wants)
        else:
            versions[action.version] = Snapshot(State.END, wants)
        if answering:
            assert any(s.state is State.AVAILABLE for s in versions.values())
    else:
        pytest.fail("no end")
    serving = {v for v, s in versions.items() if s.state is State.AVAILABLE}
    wants = {v for v, s in versions.items() if s.wanted}
    assert serving >= {v for v in wants if v not in broken and v not in loaded}
    assert len(serving - wants) <= (0 if serving & wants or not wants else 1)
