"""Large models are measured in one process each where memory does not hold two."""
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmark.measured import planned
from benchmark.targets import room
from benchmark.targets.inputs import Inputs
from benchmark.targets.target import Target
from benchmark.verdicts.demands import Demands

GIB = 1 << 30


@pytest.fixture
def targets(tmp_path: Path) -> list[Target]:
    """Two versions of a gigabyte each, of which the files take no room here."""
    found = []
    for name in ("a", "b"):
        version = tmp_path / name / "1"
        (version / "variables").mkdir(parents=True)
        (version / "saved_model.pb").write_bytes(b"x")
        with (version / "variables" / "variables.data-00000-of-00001").open("wb") as file:
            file.truncate(GIB)
        found.append(Target(name, "m", "session", tmp_path / name))
    return found


def test_what_is_free_decides(targets: list[Target]) -> None:
    assert 2 * 4 * GIB < room.needed_bytes(targets) < 2 * 5 * GIB
    assert room.processes(targets, 2, free_bytes=24 * GIB) == 2
    assert room.processes(targets, 2, free_bytes=20 * GIB) == 1
    assert room.processes(targets, 1, free_bytes=1 * GIB) == 1


def test_the_file_of_another_engine_is_what_is_read(targets: list[Target], tmp_path: Path) -> None:
    (tmp_path / "a" / "1" / "model.tflite").write_bytes(b"x")
    other = replace(targets[0], engine="litert")
    assert room.needed_bytes([targets[0]]) - room.needed_bytes([other]) == 4 * GIB


def test_servers_that_run_already_take_no_memory_of_ours() -> None:
    assert room.needed_bytes([Target("there", "m", "address", None)]) == 0


def test_the_plan_says_so(targets: list[Target], monkeypatch: pytest.MonkeyPatch,
                          capsys: pytest.CaptureFixture[str]) -> None:
    def plan() -> int:
        return planned(targets, Inputs(), None, (1,), None, 10, 2, None, None, Demands()).processes
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 64 * GIB}))
    assert plan() == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 16 * GIB}))
    assert plan() == 1
    assert "1 of each, not 2: the others would take more memory than is free, 9.8 GB for each more" in (
        capsys.readouterr().err.replace("\n", " "))
