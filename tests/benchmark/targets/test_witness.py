"""What a process used is told beside its time: CPU time always, instructions and cycles where perf can count them."""
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.targets import witness
from benchmark.targets.child import Child
from benchmark.targets.witness import Witness, counted, per_request, why_not_counted

SPINS_S = 0.3
# What perf 6.1 printed: in a virtual machine without counters, and on a machine that has them.
WITHOUT = "<not supported>,,instructions:u,0,100.00,,\n<not supported>,,cycles:u,0,100.00,,\n"
WITH = "8123456789,,instructions:u,1503322781,100.00,2.41,insn per cycle\n3370521490,,cycles:u,1503322781,100.00,,\n"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    why_not_counted.cache_clear()
    yield
    why_not_counted.cache_clear()


def perf_that_says(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> None:
    """A `perf` that prints `text` when it is interrupted, and at once if it has a command to run."""
    script = folder / "perf"
    script.write_text(f"""#!/bin/sh
say() {{ cat <<'END' >&2
{text}END
exit {status}; }}
trap say INT
case "$*" in *true) say ;; esac
touch {folder}/attached
while :; do sleep 0.02; done
""")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def spinning(folder: Path, in_thread: bool) -> Child:
    """A process that uses SPINS_S of CPU time once `go` is there, and touches `done`."""
    return Child("test child", [sys.executable, "-c", f"""
import pathlib, threading, time
folder = pathlib.Path({str(folder)!r})
def spin():
    began = time.process_time()
    while time.process_time() - began < {SPINS_S}: pass
(folder / "ready").touch()
while not (folder / "go").exists(): time.sleep(0.01)
thread = threading.Thread(target=spin)
thread.start() if {in_thread} else spin()
thread.join() if {in_thread} else None
(folder / "done").touch()
time.sleep(60)
"""])


@pytest.mark.parametrize("in_thread", [False, True])
def test_the_cpu_time_of_a_process_is_counted_also_of_threads_that_have_ended(in_thread: bool, tmp_path: Path,
                                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with spinning(tmp_path, in_thread) as child:
        child.wait_until((tmp_path / "ready").exists, 30, "while it started")
        with Witness(child) as seen:
            (tmp_path / "go").touch()
            child.wait_until((tmp_path / "done").exists, 60, "while it used CPU time")
        used = seen.used()
    assert used.keys() == {"cpu_s"}
    assert SPINS_S <= used["cpu_s"] < 2 * SPINS_S


def test_of_a_process_that_has_ended_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with Child("test child", [sys.executable, "-c", ""]) as child:
        with Witness(child) as seen:
            child.process.wait(30)
        assert seen.used() == {}


def test_instructions_and_cycles_are_counted_where_perf_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perf_that_says(WITH, tmp_path, monkeypatch)
    monkeypatch.setattr(witness, "_ATTACHED_S", 0.0)
    assert why_not_counted() == ""
    with Child("test child", [sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        with Witness(child) as seen:
            child.wait_until((tmp_path / "attached").exists, 30, "while perf started")
        used = seen.used()
    assert used["instructions"] == 8123456789
    assert used["cycles"] == 3370521490


@pytest.mark.parametrize(("text", "status", "words"), [
    (WITHOUT, 0, "this machine, mostly a virtual one, has no counters"),
    ("Error:\nNo permission to enable instructions:u event.\n", 255,
     "perf may not count here: No permission to enable instructions:u event.")])
def test_why_there_are_no_counts_is_said(text: str, status: int, words: str, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    perf_that_says(text, tmp_path, monkeypatch, status)
    assert why_not_counted() == words


def test_a_machine_without_perf_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_not_counted() == "perf is not installed"


def test_counts_are_read_from_what_perf_prints() -> None:
    assert counted(WITH) == {"instructions": 8123456789.0, "cycles": 3370521490.0}
    assert counted(WITHOUT) == counted("") == counted("Error: no such process\n") == {}


def test_a_request_has_its_share_of_what_all_processes_of_a_target_used() -> None:
    found = per_request([{"cpu_s": 1.5, "instructions": 3e9}, {"cpu_s": 0.5, "instructions": 1e9}], 1000)
    assert found == {"requests": 1000, "cpu_ms": 2.0, "instructions": 4e6, "cycles": None}
    assert per_request([{"cpu_s": 1.0}, {}], 10)["cpu_ms"] is None
    assert per_request([{"cpu_s": 1.0}], 0)["cpu_ms"] is None
