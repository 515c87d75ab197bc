"""Intended differences from TensorFlow Serving are listed, have a decision record, and are few."""
import re
import tomllib
from pathlib import Path

import pytest
from contract_servers import cases

HERE = Path(__file__).parent
LISTED = tomllib.loads((HERE / "deviations.toml").read_text(encoding="utf-8"))
BEHAVIOURS, UNRECORDED = LISTED["behaviour"], LISTED["unrecorded"]
ROOT = HERE.parents[1]
DECISIONS = ROOT / "docs" / "decisions"
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


@pytest.mark.parametrize("entry", UNRECORDED, ids=[entry["original"] for entry in UNRECORDED])
def test_a_deviation_without_a_recorded_case_has_a_decision_and_a_test(entry: dict[str, str]) -> None:
    [record] = DECISIONS.glob(f"{entry['decision']}-*.md")
    assert re.search(r"^## Decision$", record.read_text(encoding="utf-8"), re.M)
    file, _, name = entry["test"].partition("::")
    assert re.search(rf"^def {re.escape(name)}\(", (ROOT / file).read_text(encoding="utf-8"), re.M)


def test_the_page_lists_the_same_deviations_without_a_recorded_case() -> None:
    page = (ROOT / "docs/contract.md").read_text(encoding="utf-8")
    table = page.partition("Read from the original's sources, not recorded:\n")[2].lstrip().partition("\n\n")[0]
    assert table.splitlines()[2:] == [
        f"| {entry['original']} | {entry['here']} | [{entry['decision']}] |" for entry in UNRECORDED]


def test_no_case_is_listed_twice() -> None:
    listed = [name for behaviour in BEHAVIOURS for name in behaviour["ids"]]
    assert len(listed) == len(set(listed))
