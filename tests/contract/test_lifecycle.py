"""Recorded scenarios: versions, labels, reloads, warm-up, batching, metrics; each on a server started for it."""
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_servers import START, cases, configurations, running
from contract_steps import run

CASES = {case["id"]: case for case in cases("lifecycle.jsonl")}
BEHAVIOURS = tomllib.loads((Path(__file__).parent / "deviations.toml").read_text(encoding="utf-8"))["behaviour"]
DEVIATIONS = {name: behaviour for behaviour in BEHAVIOURS for name in behaviour["ids"]}

# A short scenario of each kind; `make proof` runs all of them.
SAMPLE = ("versions.latest_removed_falls_back", "no_gap.specific_by_reload", "broken.at_reload", "reload.to_specific",
          "reload.no_platform_new_model", "reload.odd_names", "labels.one_bad_keeps_all_old",
          "warmup.unknown_signature", "batching.third_does_not_fit", "batching.padded_inner_size",
          "batching.per_model_file",
          "monitoring.grpc_traffic", "config_poll.adds_model")


Grade = Callable[[str, str], None]


@pytest.mark.contract
@pytest.mark.parametrize("name", SAMPLE)
def test_sample_of_scenarios(name: str, contract_models: Path, tmp_path: Path, grade: Grade) -> None:
    check(CASES[name], contract_models, tmp_path, grade)


@pytest.mark.proof
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", sorted(CASES.keys() - set(SAMPLE)))
def test_lifecycle(name: str, contract_models: Path, tmp_path: Path, grade: Grade) -> None:
    check(CASES[name], contract_models, tmp_path, grade)


def check(case: dict[str, Any], models: Path, work: Path, grade: Grade) -> None:
    config = configurations()[case["server"]] | case.get("config", {})
    with running(config, models, work) as server:
        found = run(case["steps"], server)
    deviation = DEVIATIONS.get(case["id"])
    if deviation is None or (START and not any(found)):
        steps = case["steps"]
        assert not any(found), [f"step {n} ({steps[n]['do']}): {wrong}" for n, wrong in enumerate(found) if wrong]
        grade(case["id"], "exact")
        return
    assert [n for n, wrong in enumerate(found) if wrong] == [deviation["step"]], found
    assert deviation["instead"] in found[deviation["step"]][0]
    grade(case["id"], "deviation")
