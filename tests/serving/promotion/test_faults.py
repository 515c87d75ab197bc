"""A promotion that is killed, or whose disk or network fails, at any of its steps: under load, on a real server.

In full: make proof ONLY=promotion_faults (every step with every fault, in turns, 300 of them; half an hour).
"""
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from promotion_rig import ANSWERS, FAULTS, Rig
from promotions import MODEL, Hosting
from proof import Proof

from serving.promotion import files, rollout
from serving.promotion.plan import STABLE, Kind, Stage
from serving.promotion.production import Production, new_operation
from serving.promotion.root import ProductionRoot

COUNT = int(os.environ.get("PROMOTION_FAULTS", "300"))
CODE = (*(f"serving/promotion/{name}.py" for name in (
    "plan", "rollout", "production", "root", "config_file", "files", "servers", "history")), "durable.py")


@contextmanager
def _rig(folder: Path) -> Iterator[Rig]:
    root = ProductionRoot.made(folder / "production")
    hosting = Hosting(root)

    def start_again() -> None:
        hosting.process.wait(120)
        hosting.start()
    try:
        rig = Rig(folder, hosting.server, root, lambda: f"kill -9 {hosting.process.pid}", start_again)
        with rig.traffic:
            yield rig
    finally:
        hosting.stop()


def test_a_fault_at_some_step_leaves_exactly_one_version_stable_and_no_request_fails(tmp_path: Path) -> None:
    random = Random(0)
    with _rig(tmp_path) as rig:
        steps = rig.steps()
        assert steps > 20
        for fault in FAULTS:
            rig.broken_at(random.randrange(1, steps + 1), fault)


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_ends_with_one_version_stable(tmp_path: Path) -> None:
    with _rig(tmp_path) as rig:
        for at in sorted(Random(1).sample(range(1, rig.steps() + 1), 3)):
            rig.server_killed_at(at)


def cycles(folder: Path, count: int) -> dict[str, Any]:
    """So many promotions, each with a rollback, under load: what was answered, and the server's memory."""
    with _rig(folder) as rig:
        production = Production(rig.root, [rig.server])
        memory = []
        for number in range(count):
            source = folder / ("b" if rig.stable() == "a" else "a") / "1"
            before = rig.root.config().served(MODEL)
            version = max(rig.root.versions(MODEL)) + 1
            promoted = rollout.carry_out(new_operation(
                Kind.PROMOTE, MODEL, version, before, source=str(source),
                digest=files.whole(files.digests(source))), production)
            assert promoted.stage is Stage.RECORD, promoted.why
            served = rig.root.config().served(MODEL)
            back = rollout.carry_out(new_operation(
                Kind.ROLLBACK, MODEL, before.labels[STABLE], served), production)
            assert back.stage is Stage.RECORD, back.why
            # The version that was taken back goes.
            rollout.carry_out(new_operation(Kind.GC, MODEL, 0, rig.root.config().served(MODEL),
                                            dropped=frozenset({version})), production)
            if number % max(1, count // 10) == 0:
                memory.append(round(rig.server_rss() / 1e6))
        return {"cycles": count, "answers": {words.split(": ")[1]: sum(
            seen for said, seen in rig.traffic.seen.items() if said.endswith(words.split(": ")[1]))
            for words in rig.traffic.seen}, "resident_mb": memory}


def _all_answered(found: dict[str, Any]) -> None:
    assert set(found["answers"]) <= set(ANSWERS.values())
    assert found["resident_mb"][-1] < found["resident_mb"][0] * 1.3 + 50


@pytest.mark.slow
def test_promotions_and_rollbacks_under_load_answer_every_request(tmp_path: Path) -> None:
    _all_answered(cycles(tmp_path, 4))


@pytest.mark.proof
def test_promotion_cycles(tmp_path: Path) -> None:
    """make proof ONLY=promotion_cycles: a hundred promotions and rollbacks."""
    _all_answered(Proof("promotion_cycles", 0, CODE).row("100 cycles", lambda: cycles(tmp_path, 100)))


def _traffic(seen: Mapping[str, int]) -> dict[str, int]:
    """What the client was answered; each version gave one answer."""
    answered = {words: count for words, count in seen.items() if words.startswith("version ")}
    versions = {words.partition(":")[0] for words in answered}
    assert len(versions) == len(answered), sorted(answered)
    return {"requests": sum(seen.values()), "answered": sum(answered.values()), "versions": len(versions),
            "refused_while_the_server_was_gone": sum(seen.values()) - sum(answered.values())}


@pytest.mark.proof
def test_promotion_faults_at_every_step(tmp_path: Path) -> None:
    proof = Proof("promotion_faults", seed=0, about=CODE)
    with _rig(tmp_path) as rig:
        steps = rig.steps()
        cases = [(at, fault) for at in range(1, steps + 1) for fault in FAULTS]
        Random(0).shuffle(cases)
        for number in range(COUNT):
            at, fault = cases[number % len(cases)]
            proof.row(f"{number:03} {fault} at step {at} of {steps}",
                      lambda at=at, fault=fault: rig.broken_at(at, fault))
        for at in range(1, steps + 1):
            proof.row(f"server killed at step {at} of {steps}", lambda at=at: rig.server_killed_at(at))
        proof.save("traffic", _traffic(rig.traffic.seen))
