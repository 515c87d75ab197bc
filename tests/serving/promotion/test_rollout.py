"""A promotion on a simulated production root, with faults everywhere: what must hold always, and at its end."""
from collections import Counter
from random import Random
from typing import Any

import pytest
from proof import Proof
from simulated_production import MODEL, Killed, Production, Promoter, Server

from serving.promotion import plan
from serving.promotion.plan import CANARY, STABLE, Kind, Operation, Served, Stage
from serving.promotion.rollout import STAGES, StageFailedError, carry_out, take_up

OLD, NEW = 2, 3


def _production(seed: int, faults: float = 0.0, servers: int = 2, canary: bool = False) -> Production:
    """`canary`: NEW is canary, and a proxy sends it a share of the traffic."""
    before = Served(frozenset({1, OLD}), {STABLE: OLD})
    if canary:
        before = Served(frozenset({1, OLD, NEW}), {STABLE: OLD, CANARY: NEW})
    made = Production(Random(seed), {f"server {number}": Server(before, set(before.versions))
                                     for number in range(servers)}, faults, before, set(before.versions),
                      shared=canary, may_be_stable={OLD, NEW})
    made.check()
    return made


def begun(kind: Kind, model: str, version: int, before: Served, id: str, **more: Any) -> Operation:
    return Operation(id, kind, model, version, before, plan.first(kind), **more)


def _operation(kind: Kind, world: Production, id: str = "a") -> Operation:
    version = {Kind.PROMOTE: NEW, Kind.CANARY: NEW, Kind.ROLLBACK: 0 if CANARY in world.file.labels else 1,
               Kind.FINISH: NEW, Kind.GC: 0}[kind]
    return begun(kind, MODEL, version, world.file, id, dropped=frozenset({1}) if kind is Kind.GC else frozenset())


def test_a_promotion_ends_with_the_new_version_stable_and_the_old_one_loaded() -> None:
    world = _production(0)
    promoter = Promoter(world)
    assert promoter.lock()
    assert carry_out(_operation(Kind.PROMOTE, world), promoter).stage is Stage.RECORD
    assert world.file == Served(frozenset({1, OLD, NEW}), {STABLE: NEW})
    assert world.journal is None
    assert world.history == [("a", Stage.RECORD)]
    assert all(server.loaded >= {OLD, NEW} and server.told.labels == {STABLE: NEW} for server in world.servers.values())
    assert not world.broken


def test_a_canary_that_does_worse_is_undone() -> None:
    world = _production(0)
    promoter = Promoter(world, bakes_well=False)
    assert promoter.lock()
    ended = carry_out(_operation(Kind.PROMOTE, world), promoter)
    assert (ended.stage, ended.why) == (Stage.UNDONE, "the canary is slower")
    assert world.file == Served(frozenset({1, OLD}), {STABLE: OLD})
    assert world.files == {1, OLD}
    assert world.history == [("a", Stage.UNDONE)]


@pytest.mark.parametrize("kind", [Kind.PROMOTE, Kind.CANARY])
def test_a_promotion_that_is_paused_ends_as_a_canary(kind: Kind) -> None:
    world = _production(0)
    promoter = Promoter(world, pauses=True)
    assert promoter.lock()
    ended = carry_out(_operation(kind, world), promoter)
    assert (ended.kind, ended.stage, ended.facts[plan.PAUSED]) == (Kind.CANARY, Stage.RECORD, "nothing is certain")
    assert world.file == Served(frozenset({1, OLD, NEW}), {STABLE: OLD, CANARY: NEW})
    assert plan.served(ended) == world.file
    carry_out(_operation(Kind.FINISH, world, "b"), promoter)
    assert world.file.labels == {STABLE: NEW}


@pytest.mark.parametrize("error", [ValueError("no such number"), OSError("no such file"), ZeroDivisionError("zero")])
def test_whatever_goes_wrong_in_a_step_undoes_it(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _production(0)
    promoter = Promoter(world)
    assert promoter.lock()

    def bake(operation: Operation) -> Any:
        raise error
    monkeypatch.setattr(promoter, "bake", bake)
    ended = carry_out(_operation(Kind.PROMOTE, world), promoter)
    assert (ended.stage, ended.why) == (Stage.UNDONE, str(error))
    assert world.file == Served(frozenset({1, OLD}), {STABLE: OLD})


def test_a_canary_is_finished_or_taken_away() -> None:
    world = _production(0)
    promoter = Promoter(world)
    assert promoter.lock()
    carry_out(_operation(Kind.CANARY, world), promoter)
    assert world.file.labels == {STABLE: OLD, CANARY: NEW}
    carry_out(begun(Kind.ROLLBACK, MODEL, 0, world.file, "b"), promoter)
    assert world.file.labels == {STABLE: OLD}
    carry_out(begun(Kind.CANARY, MODEL, NEW, world.file, "c"), promoter)
    carry_out(_operation(Kind.FINISH, world, "d"), promoter)
    assert world.file == Served(frozenset({1, OLD, NEW}), {STABLE: NEW})


def test_the_first_version_of_a_model_and_its_undoing() -> None:
    for bakes_well in (True, False):
        world = Production(Random(0), {"one": Server()}, may_be_stable={None, NEW})
        promoter = Promoter(world, bakes_well=bakes_well)
        assert promoter.lock()
        carry_out(begun(Kind.PROMOTE, MODEL, NEW, Served(), "a"), promoter)
        assert world.file == (Served(frozenset({NEW}), {STABLE: NEW}) if bakes_well else Served())
        assert not world.broken


def test_no_label_moves_before_every_server_has_the_version() -> None:
    """A server that has started anew loads its newest version first."""
    for seed in range(20):
        world = _production(seed)
        world.servers["server 1"].loaded = {OLD}
        promoter = Promoter(world)
        assert promoter.lock()
        assert carry_out(_operation(Kind.ROLLBACK, world), promoter).stage is Stage.RECORD
        assert world.servers["server 1"].refused == 0


@pytest.mark.parametrize(("stage", "ends"), [
    *((stage, Stage.UNDONE) for stage in (Stage.COPY, Stage.PLACE, Stage.LOAD, Stage.CANARY, Stage.BAKE)),
    *((stage, Stage.RECORD) for stage in (Stage.STABLE, Stage.RECORD))])
def test_an_interrupted_promotion_is_undone_until_its_version_may_have_been_stable(stage: Stage, ends: Stage) -> None:
    world = _production(0)
    promoter = Promoter(world)
    assert promoter.lock()
    operation = _operation(Kind.PROMOTE, world)
    while operation.stage is not stage:  # all that was done before
        STAGES[operation.stage](operation, promoter)
        following = plan.following(operation)
        assert following is not None
        operation = following
    ended = take_up(operation, promoter)
    assert (ended.stage, ended.why) == (ends, "it was interrupted" if ends is Stage.UNDONE else "")
    assert world.file.labels == {STABLE: OLD if ends is Stage.UNDONE else NEW}


def simulated(seed: int) -> str:
    """One run: a promotion, canary, rollback or gc with faults, another promoter beside, and recovery after each
    death. Returns how the first operation ended; raises AssertionError if something did not hold."""
    random = Random(seed)
    kind, canary = random.choice([(Kind.PROMOTE, False), (Kind.PROMOTE, False), (Kind.CANARY, False),
                                  (Kind.ROLLBACK, False), (Kind.ROLLBACK, True), (Kind.FINISH, True), (Kind.GC, False)])
    world = _production(seed, random.choice([0.0, 0.02, 0.1, 0.3]), random.choice([1, 2, 3]), canary)
    world.may_be_stable |= {1}
    ended: Operation | None = None
    before, operation = world.file, _operation(kind, world)
    for attempt in range(200):
        promoter = Promoter(world, f"process {attempt}", random.random() < 0.8, random.random() < 0.3)
        other = Promoter(world, "another")
        assert promoter.lock()
        assert not other.lock(), "two hold the lock"
        try:
            if world.journal is not None:
                ended = take_up(world.journal, promoter)
                break
            if world.history:
                ended = world.recorded
                break  # it was done, but for its last word
            if attempt and random.random() < 0.5:
                break  # it died before anything was journalled, and nobody asks again
            ended = carry_out(operation, promoter)
            break
        except (Killed, StageFailedError, OSError):
            if attempt > 20:
                world.faults = 0.0  # the disk has room again, and the network works
                world.settle()
        finally:
            promoter.unlock()
    assert world.journal is None, "it was never finished"
    world.faults = 0.0
    world.settle()
    world.check()
    assert not world.broken, world.broken
    assert all(server.told == world.file and server.loaded == world.file.versions for server in world.servers.values())
    assert not world.copies, "a copy was left behind"
    assert world.files == world.file.versions, "files and configuration differ"
    assert len({id for id, _ in world.history}) == len(world.history), "an operation is recorded twice"
    if ended is None:
        assert world.file == before
        return "nothing"
    assert not world.shared or CANARY in world.file.labels
    assert world.history[-1] == ("a", ended.stage)
    assert world.file == (plan.served(ended))
    paused = ended.kind is not kind and ended.stage is Stage.RECORD
    return f"{kind} {'paused' if paused else 'done' if ended.stage is Stage.RECORD else 'undone'}"


ENDS = {f"{kind} {how}" for kind in ("promote", "canary", "rollback", "finish") for how in ("done", "undone")} | {
    "promote paused", "gc done"}


@pytest.mark.parametrize("start", range(0, 2000, 500))
def test_with_faults_exactly_the_old_or_the_new_version_is_stable(start: int) -> None:
    assert set(Counter(simulated(seed) for seed in range(start, start + 500))) >= ENDS


@pytest.mark.proof
def test_promotion_simulation() -> None:
    """make proof ONLY=promotion_simulation: ten thousand runs."""
    row = Proof("promotion_simulation", 0, ("serving/promotion/plan.py", "serving/promotion/rollout.py")).row(
        "runs 0 to 9999", lambda: dict(Counter(simulated(seed) for seed in range(10_000))))
    assert sum(count for count in row.values() if isinstance(count, int)) == 10_000
    assert set(row) >= ENDS
