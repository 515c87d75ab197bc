"""The history: records follow from each other, and nothing in it changes unnoticed."""
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from serving.promotion import history, plan, upkeep
from serving.promotion import production as production_module
from serving.promotion.history import BEGINNING, BrokenHistoryError
from serving.promotion.plan import STABLE, Kind, Served, Stage
from serving.promotion.production import Production, new_operation
from serving.promotion.root import ProductionRoot
from serving.promotion.upkeep import previous


def _written(path: Path, count: int = 3) -> list[bytes]:
    for number in range(count):
        history.append(path, {"id": f"{number}", "what": "promote", "note": "é\n"})
    return path.read_bytes().splitlines(keepends=True)


def test_records_are_read_as_they_were_written_and_each_names_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert history.read(path).head == BEGINNING
    _written(path)
    found = history.read(path)
    assert [one["id"] for one in found.records] == ["0", "1", "2"]
    assert found.records[0]["previous"] == BEGINNING
    assert len({one["previous"] for one in found.records} | {found.head}) == 4


def test_an_operation_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    _written(path)
    history.append(path, {"id": "2", "what": "promote"})
    assert len(history.read(path).records) == 3


def test_a_line_that_was_not_written_to_its_end_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    lines = _written(path)
    path.write_bytes(b"".join(lines) + b'{"id": "3", "what')
    assert len(history.read(path).records) == 3
    history.append(path, {"id": "3"})
    assert [one["id"] for one in history.read(path).records] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("change", "line"), [
    (lambda lines: lines[1:], 1), (lambda lines: [lines[0], lines[2]], 2), (lambda lines: [lines[1], lines[0]], 1),
    (lambda lines: [*lines, lines[2]], 4), (lambda lines: [lines[0].replace(b"promote", b"rollback"), *lines[1:]], 2),
    (lambda lines: [b"not JSON\n", *lines], 1), (lambda lines: [b"[1]\n", *lines], 1)])
def test_lines_that_are_altered_removed_or_moved_break_it(change: object, line: int, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(change(_written(path))))  # type: ignore[operator]
    with pytest.raises(BrokenHistoryError) as caught:
        history.read(path)
    assert caught.value.line == line


@given(st.data())
def test_whatever_byte_changes_before_the_last_line_is_noticed(data: st.DataObject) -> None:
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "history.jsonl")
        lines = _written(path)
        content = bytearray(b"".join(lines))
        place = data.draw(st.integers(0, len(content) - len(lines[-1]) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(bytes(content))
        with pytest.raises(BrokenHistoryError):
            history.read(path)


def _record(what: str, stable: int | None, outcome: str = "done", model: str = "m") -> dict[str, object]:
    return {"id": "x", "what": what, "outcome": outcome, "model": model,
            "after": {} if stable is None else {"stable": stable}}


@pytest.mark.parametrize(("records", "expected"), [
    ([], None), ([("promote", 1)], None), ([("promote", 1), ("promote", 2)], 1),
    ([("promote", 1), ("canary", 1), ("finish", 2)], 1),
    ([("promote", 1), ("promote", 2), ("rollback", 1)], None),
    ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2)], 1),
    ([("promote", 1), ("promote", 2), ("rollback", 1), ("promote", 3)], 1),
    ([("promote", 1), ("promote", 2), ("gc", 2)], 1)])
def test_the_version_before_is_that_which_a_rollback_would_go_back_to(
        records: list[tuple[str, int]], expected: int | None) -> None:
    made = tuple(_record(what, stable) for what, stable in records)
    others = (_record("promote", 9, "undone"), _record("promote", 8, model="other"), _record("canary", None))
    assert previous(history.History((*made, *others)), "m") == expected
    assert json.dumps(made)


def test_a_clock_that_jumps_back_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    production = Production(root, [])

    class Clock(datetime):
        """Each look is a day earlier."""

        looks = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.looks += 1
            return datetime(2026, 11, 30, tzinfo=tz) - timedelta(days=cls.looks)
    monkeypatch.setattr(production_module, "datetime", Clock)
    for version in (1, 2, 3):
        before = Served(frozenset({1, 2, 3}), {STABLE: version - 1} if version > 1 else {})
        made = new_operation(Kind.PROMOTE, "m", version, before)
        production.record(replace(made, stage=Stage.RECORD))
        production.record(replace(made, stage=Stage.RECORD))  # taken up after a crash
    found = history.read(root.history_path)
    assert [one["version"] for one in found.records] == [1, 2, 3]
    assert len({one["id"] for one in found.records}) == 3
    assert found.records[0]["when"] > found.records[2]["when"]
    assert previous(found, "m") == 2


@pytest.mark.parametrize("damage", [b"not JSON\n", b"[1]\n", b"{}\n"])
def test_a_broken_history_says_what_it_can_and_goes_on(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    whole = {"version": 0, "digest": "", "before": {}, "dropped": [], "why": "", "when": ""}
    for number in (1, 2, 3):
        history.append(path, {**_record("promote", number), **whole, "id": f"{number}"})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], damage, lines[2]]))
    found = history.readable(path)
    assert found.broken is not None
    assert found.broken.line == 2
    assert [one["id"] for one in found.records] == ["1", "3"]
    assert previous(found, "m") == 1
    history.append(path, {**_record("rollback", 1), **whole, "id": "4"})
    assert [one["id"] for one in history.readable(path).records] == ["1", "3", "4"]
    with pytest.raises(BrokenHistoryError, match="line 2"):
        history.read(path)


def test_what_gc_dropped_is_nothing_to_go_back_to() -> None:
    records = tuple(_record("promote", version) for version in (1, 2, 3))
    dropped = {**_record("gc", 3), "dropped": [1]}
    assert previous(history.History((*records, dropped, _record("rollback", 2))), "m") is None


def test_numbers_that_json_does_not_have_are_nothing() -> None:
    assert plan.finite({"a": [1.0, float("inf"), (float("nan"), "x")], "b": True}) == {
        "a": [1.0, None, [None, "x"]], "b": True}


def test_a_reason_is_shown_as_it_was_written(tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    history.append(root.history_path, {
        **_record("promote", 1), "id": "1", "version": 1, "when": "now", "why": "", "forced": "[jira-12] [/docs/x]"})
    shown = CliRunner().invoke(upkeep.history_command, ["--root", str(root.path)], terminal_width=300)
    assert shown.exit_code == 0, shown.output
    assert "[jira-12]" in shown.output
