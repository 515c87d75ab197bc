"""How often the judge is right, and how soon: make proof ONLY=judge (about an hour; JUDGE_REAL=2 does less of it).

A thousand canaries of equal versions and four hundred of each fault, made of recorded trials; and twenty real ones of
each on the embedded server, whose trials follow one another without a pause.
"""
import itertools
import os
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import canary_models
import pytest
from canaries import Canary, recordings, trials
from promotions import MODEL, hosted
from proof import Proof

from serving.promotion import bake, files, settings
from serving.promotion.judge import Verdict, judge
from serving.promotion.plan import Kind, Stage
from serving.promotion.production import Production, new_operation
from serving.promotion.rollout import carry_out
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server
from serving.promotion.settings import DEFAULTS

REAL = int(os.environ.get("JUDGE_REAL", "20"))
LIMITS = settings.read(DEFAULTS.parent).bake
CODE = ("serving/promotion/judge.py", "serving/promotion/evidence.py", "confidence_sequence.py",
        "tests/support/canaries.py")
LONGEST = 3000
# {what is true of it: (the canary, of each recording so many)}
EQUALS = {"equal": (Canary(), 250), "equal, loaded last is 15 % slower": (Canary(fresh=1.15), 100),
          "equal, loaded last has a wider tail": (Canary(tail="fresh"), 100),
          "equal, the server fails 1 %": (Canary(all_fail=0.01), 100),
          "equal, the server fails 5 %": (Canary(all_fail=0.05), 100),
          "equal, 2 % of answers differ each time": (Canary(all_differ=0.02), 100),
          "equal, no control": (Canary(controlled=False), 100)}
WORSE = {"p50 10 % worse": Canary(slower=1.1), "p99 25 % worse: all above the middle": Canary(tail="wide"),
         "p99 25 % worse: the slowest twentieth": Canary(tail="top"),
         "p99 25 % worse: one request in fifty": Canary(tail="share"), "1 % errors": Canary(fails=0.01),
         "1 % other answers": Canary(differs=0.01)}
# Of a real one at most; trials follow one another.
SECONDS = 20.0


def _simulated(canary: Canary, each: int) -> dict[str, Any]:
    found = {name: [judge(trials(recorded, canary, LONGEST, 1000 * number + seed), LIMITS) for seed in range(each)]
             for number, (name, recorded) in enumerate(recordings().items())}
    return {"verdicts": Counter(one.verdict for judged in found.values() for one in judged),
            "median_requests_until_refused": {
                name: _median([one.figures["requests"] if one.verdict is Verdict.ABORT else LONGEST for one in judged])
                for name, judged in found.items()},
            "median_of_all": _median([one.figures["requests"] if one.verdict is Verdict.ABORT else LONGEST
                                      for judged in found.values() for one in judged])}


def _median(values: list[int]) -> float:
    return float(statistics.median(values))


@pytest.mark.proof
def test_judge_of_recorded_trials() -> None:
    proof = Proof("judge", seed=0, about=CODE)
    for name, (canary, each) in EQUALS.items():
        row = proof.row(name, lambda canary=canary, each=each: _simulated(canary, each))
        assert row["verdicts"].get("abort", 0) <= 0.01 * each * len(recordings()), name
    medians = {name: proof.row(name, lambda canary=canary: _simulated(canary, 100))["median_of_all"]
               for name, canary in WORSE.items()}
    assert medians["p50 10 % worse"] <= 1500
    tails = [median for name, median in medians.items() if name.startswith("p99")]
    assert statistics.median(tails) <= 1500
    assert medians["1 % errors"] <= 400


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator["_Stage"]:
    folder = tmp_path_factory.mktemp("judge")
    root = ProductionRoot.made(folder / "production")
    with hosted(root) as server:
        yield _Stage(folder, root, server)


class _Stage:
    """A real server on which canaries are brought in, watched and taken away."""

    def __init__(self, folder: Path, root: ProductionRoot, server: Server) -> None:
        self.folder, self.server, self.production = folder, server, Production(root, [server])
        self.stable = canary_models.save(folder / "stable" / "1")
        self._carried_out(Kind.PROMOTE, self.stable)

    def _carried_out(self, kind: Kind, source: Path | None = None) -> Any:
        root = self.production.root
        before = root.config().served(MODEL)
        version = max(root.versions(MODEL), default=0) + 1 if source else 0
        dropped = frozenset(before.versions - set(before.labels.values())) if kind is Kind.GC else frozenset()
        ended = carry_out(new_operation(
            kind, MODEL, version, before, dropped=dropped,
            **({"source": str(source), "digest": files.whole(files.digests(source))} if source else {})),
            self.production)
        assert ended.stage is Stage.RECORD, ended.why
        return ended

    def judged(self, source: Path, seed: int, longer: float = canary_models.LONGER, **more: float) -> dict[str, Any]:
        operation = self._carried_out(Kind.CANARY, source)
        limits = replace(LIMITS, **{"seconds": SECONDS, "requests_per_second": 1e6, **more})
        requests = itertools.cycle(canary_models.requests(1000, seed, longer))
        began = monotonic()
        with bake.control_of(self.stable, [self.server], limits, ()) as control:
            assert control is not None
            found = bake.watch(operation, [self.server], requests, limits,
                               lambda _, one, other: bool((one["y"] == other["y"]).all()), control)
        self._carried_out(Kind.ROLLBACK)
        self._carried_out(Kind.GC)
        return {"passed": found.passed, "words": found.words, "seconds": round(monotonic() - began, 1),
                **found.figures}

    def calibrated(self) -> dict[str, dict[str, Any]]:
        """{kind: what its version is made with}. A part of a request's time is not the model's: versions with twice the
        steps show how much of it is."""
        # Slower ones are not refused meanwhile, nor passed.
        to_the_end = {"least_ratio": 0.0, "certain_ratio": 1e-6, "seconds": 20.0}
        twice = self.judged(canary_models.save(self.folder / "always" / "1", more=1.0), 1000, **to_the_end)
        then = self.judged(canary_models.save(self.folder / "then" / "1", now_and_then=1.0), 1001, longer=1.0,
                           **to_the_end)
        equal = self.judged(self.stable, 1002, **to_the_end)
        wanted = 1.25 * equal["stable_p99_ms"] / equal["stable_p50_ms"] - 1
        return {"equal": {}, "p50 10 % worse": {"more": 0.1 / (1 / twice["ratio"] - 1)},
                "p99 25 % worse": {"now_and_then": wanted / (1 / then["ratio"] - 1)}, "1 % errors": {"fails": True}}


REAL_KINDS = ("equal", "p50 10 % worse", "p99 25 % worse", "1 % errors")


@pytest.mark.proof
def test_judge_of_real_canaries(stage: _Stage) -> None:
    proof = Proof("judge", seed=0, about=(*CODE[:3], "serving/promotion/bake.py", "tests/support/canary_models.py"))
    made: dict[str, Path] = {}

    def source(kind: str) -> Path:
        if not made:
            made.update({each: canary_models.save(stage.folder / each / "1", **how)
                         for each, how in stage.calibrated().items()})
        return made[kind]
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in REAL_KINDS}
    for number in range(REAL):
        for kind, found in rows.items():
            found.append(proof.row(f"real: {kind}: {number:02}",
                                   lambda kind=kind, number=number: stage.judged(source(kind), number)))
    refused = {kind: [row["requests"] if row["passed"] is False else 10**6 for row in found]
               for kind, found in rows.items()}
    assert sum(count < 10**6 for count in refused["equal"]) == 0
    assert statistics.median(refused["p50 10 % worse"]) <= 1500
    assert statistics.median(refused["p99 25 % worse"]) <= 1500
    assert statistics.median(refused["1 % errors"]) <= 400
