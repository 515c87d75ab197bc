"""A promotion that is killed, or whose disk or network fails, at any of its steps: under load, on a real server.

In full: make proof ONLY=promotion_faults (every step with every fault, in turns, 300 of them; half an hour).
"""
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import half_model
import psutil
import pytest
from promotions import MODEL, Traffic, hosted
from proof import ROOT, Proof
from waiting import until

from serving.promotion import files, history, rollout
from serving.promotion.plan import STABLE, Kind, Stage
from serving.promotion.production import Production, new_operation
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server

FAULTS = ("kill", "after", "ENOSPC", "EIO", "unanswered")
ANSWERS = {"a": "[1.5, 3.0]", "b": "[2.5, 4.0]"}
COUNT = int(os.environ.get("PROMOTION_FAULTS", "300"))
CODE = ("serving/promotion",)


class Rig:
    """A root whose stable version changes between a and b, its server, and a client that goes on all the time."""

    def __init__(self, folder: Path, server: Server, root: ProductionRoot, traffic: Traffic) -> None:
        self.folder, self.server, self.root, self.traffic = folder, server, root, traffic

    def run(self, variant: str, at: int = 0, fault: str = "") -> tuple[int, str]:
        """(exit status, what it printed)."""
        command = [sys.executable, str(ROOT / "tests/support/faulty_promotion.py"), str(self.root.path),
                   str(self.server.rest), str(self.server.grpc), str(self.folder / variant / "1")]
        done = subprocess.run([*command, "--at", str(at), "--fault", fault], capture_output=True, text=True,
                              timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
        return done.returncode, done.stdout + done.stderr

    def server_rss(self) -> int:
        port = int(str(self.server.grpc).rpartition(":")[2])
        return next(process.memory_info().rss for process in psutil.process_iter(["cmdline"])
                    if f"--port={port}" in (process.info["cmdline"] or []))

    def stable(self) -> str:
        """Which variant is stable by the file."""
        number = self.root.config().served(MODEL).labels[STABLE]
        source = next(one["source"] for one in history.read(self.root.history_path).records
                      if one["version"] == number and one["outcome"] == "done")
        return Path(source).parent.name

    def broken_at(self, at: int, fault: str) -> dict[str, Any]:
        """Promotes the other variant with a fault, then again without, and checks what must hold."""
        old = self.stable()
        new = "b" if old == "a" else "a"
        status, said = self.run(new, at, fault)
        assert status in (0, 1, -signal.SIGKILL), said
        # Whatever was left is taken up by the next command, which is asked to promote the old one: nothing to do, if
        # the promotion was undone.
        again, words = self.run(old)
        assert again == 0, words
        assert self.stable() == old
        assert self.root.journal() is None
        served = self.root.config().served(MODEL)
        assert set(self.root.versions(MODEL)) == served.versions
        assert not list(self.root.base_path(MODEL).glob(".*"))
        until(lambda: self.server.labelled(MODEL, STABLE) == served.labels[STABLE])
        history.read(self.root.history_path)
        wrong = {words: count for words, count in self.traffic.seen.items()
                 if not any(words.endswith(f": {answer}") for answer in ANSWERS.values())}
        assert wrong == {}, wrong
        return {"status": status, "ended": said.split("\n")[0][:80], "taken_up": words.split("\n")[0][:120]}


@contextmanager
def _rig(folder: Path) -> Iterator[Rig]:
    for variant, offset in (("a", 1.0), ("b", 2.0)):
        half_model.save(folder / variant / "1", offset)
    root = ProductionRoot.made(folder / "production")
    with hosted(root) as server:
        first = Rig(folder, server, root, Traffic(server))
        assert first.run("a")[0] == 0
        with first.traffic:
            yield first


def _steps(rig: Rig) -> int:
    """How many steps a promotion has; two of them leave the first variant stable again."""
    old = rig.stable()
    status, said = rig.run("b" if old == "a" else "a")
    assert status == 0, said
    assert rig.run(old)[0] == 0
    return int(said.split()[0])


@pytest.mark.slow
def test_a_fault_at_some_steps_leaves_exactly_one_version_stable_and_no_request_fails(tmp_path: Path) -> None:
    random = Random(0)
    with _rig(tmp_path) as rig:
        steps = _steps(rig)
        assert steps > 20
        for fault in FAULTS:
            for at in sorted(random.sample(range(1, steps + 1), 2)):
                rig.broken_at(at, fault)


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


@pytest.mark.proof
def test_promotion_faults_at_every_step(tmp_path: Path) -> None:
    proof = Proof("promotion_faults", seed=0, about=CODE)
    with _rig(tmp_path) as rig:
        steps = _steps(rig)
        cases = [(at, fault) for at in range(1, steps + 1) for fault in FAULTS]
        Random(0).shuffle(cases)
        for number in range(COUNT):
            at, fault = cases[number % len(cases)]
            proof.row(f"{number:03} {fault} at step {at} of {steps}",
                      lambda at=at, fault=fault: rig.broken_at(at, fault))
        sent = sum(rig.traffic.seen.values())
        proof.save("traffic", {"requests": sent, "answers": dict(rig.traffic.seen)})
        assert sent > 0
