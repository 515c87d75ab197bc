"""Intended differences from TensorFlow Serving are listed, have a decision record, and are few."""
import re
import tomllib
from pathlib import Path

import pytest
from contract_servers import cases

HERE = Path(__file__).parent
BEHAVIOURS = tomllib.loads((HERE / "deviations.toml").read_text(encoding="utf-8"))["behaviour"]
DECISIONS = HERE.parents[1] / "docs" / "decisions"
KNOWN = {case["id"] for name in ("rest", "grpc", "lifecycle", "startup") for case in cases(f"{name}.jsonl")}


def test_few_behaviours_differ() -> None:
    assert len(BEHAVIOURS) <= 15


def test_no_recorded_case_is_missing() -> None:
    counts = {name: len(cases(f"{name}.jsonl")) for name in ("rest", "grpc", "lifecycle", "startup")}
    assert counts == {"rest": 722, "grpc": 157, "lifecycle": 73, "startup": 66}


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=[behaviour["name"] for behaviour in BEHAVIOURS])
def test_a_deviation_names_recorded_cases_and_a_decision(behaviour: dict[str, object]) -> None:
    ids = behaviour["ids"]
    assert isinstance(ids, list)
    assert ids
    assert set(ids) <= KNOWN
    assert behaviour["answer"]
    [record] = DECISIONS.glob(f"{behaviour['decision']}-*.md")
    assert re.search(r"^## Decision$", record.read_text(encoding="utf-8"), re.M)


def test_no_case_is_listed_twice() -> None:
    listed = [name for behaviour in BEHAVIOURS for name in behaviour["ids"]]
    assert len(listed) == len(set(listed))
