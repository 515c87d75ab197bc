"""`optimize --precision auto` with real candidates and a real measurement: killed half-way, and run again."""
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import small_classifier
from waiting import until

import cpu_class
import export
from export.precision.choice import FLOAT32, ORIGINAL, Ratio, choose
from version_directory import versions

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = small_classifier.write(tmp_path / "models/original/1")
    small_classifier.labelled(tmp_path / "x.npz", path)
    return path


def _stopped(model: Path, tmp_path: Path, at: str, number: signal.Signals) -> tuple[int, str]:
    """Starts the command, and ends it with a signal once a candidate is finished; its status and what it said."""
    run = subprocess.Popen(
        [sys.executable, "-m", "export", "optimize", str(model), "--to", str(tmp_path / "models/fastest"),
         "--precision", "auto", "--samples", str(tmp_path / "x.npz"), "--max-accuracy-drop", "10",
         "--batch-of-interest", "8", "--max-time", "0.5"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C, and so would this process.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
    try:
        until(lambda: run.poll() is not None or (tmp_path / f"models/.fastest.candidates-1/{at}.json").exists(), 300)
        if run.poll() is None:
            os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
        said = run.communicate(timeout=120)[1]
    finally:
        if run.poll() is None:
            run.kill()
            run.communicate()
    return run.returncode, said


@pytest.mark.proof  # a minute, three times as long as any other; `make demo`, which CI runs, publishes what it chooses
def test_runs_that_are_interrupted_publish_nothing_and_the_next_goes_on_from_there(
        model: Path, tmp_path: Path) -> None:
    base = tmp_path / "models/fastest"
    options: dict[str, Any] = {"precision": "auto", "samples": tmp_path / "x.npz", "max_accuracy_drop": 10,
                               "batch_of_interest": (8,), "max_time": 0.5}
    status, said = _stopped(model, tmp_path, FLOAT32, signal.SIGINT)
    assert status == 130, said
    assert said.splitlines()[-1] == "error: interrupted; nothing half-written is left behind"
    assert "/.fastest.candidates-1: the same command goes on from there" in said
    assert sorted(os.listdir(tmp_path / "models")) == [".fastest.candidates-1", "original"]
    status, said = _stopped(model, tmp_path, "int8", signal.SIGKILL)
    assert status == -signal.SIGKILL, said
    assert sorted(os.listdir(tmp_path / "models")) == [".fastest.candidates-1", "original"]

    made = export.optimize(model, to=base, **options)
    assert sorted(os.listdir(tmp_path / "models")) == ["fastest", "original"]
    assert list(versions(base)) == [1]
    facts = made.manifest
    assert not {FLOAT32, "bfloat16", "int8"} & facts["seconds"].keys(), "the interrupted runs had made them"
    _check(facts, made)
    again = export.optimize(model, to=base, **options, reuse=True)
    assert again.made is None


def _check(facts: Any, made: export.Optimized) -> None:
    """The manifest names every candidate, and the one that was chosen is what the rule says of its own figures."""
    assert facts["cpu_class"] == str(cpu_class.current())
    candidates = {one["name"]: one for one in facts["candidates"]}
    assert list(candidates)[:4] == [FLOAT32, "bfloat16", "int8", "mixed"]
    figures = {name: {int(batch): Ratio(each["ratio"], *each["ci95"], each["noise_floor"], each["verdict"])
                      for batch, each in one["ratios"].items()}
               for name, one in candidates.items() if one["ratios"]}
    assert all(list(ratios) == [8] for ratios in figures.values())
    chosen = choose(figures).name
    assert facts["chosen"] == chosen
    assert facts["precision"] == (candidates[chosen]["precision"] if chosen != ORIGINAL else "float32")
    for name, one in candidates.items():
        assert bool(one["lost"]) == (name != chosen), name
        if name in figures:
            assert one["bytes"] > 0
            assert one["alive"]
            assert one["accuracy"]["examples"] == small_classifier.EXAMPLES
    assert made.made is not None
    assert all(name in made.made.lines[0] for name in candidates)
    assert made.made.lines[1] == f"Chosen on {facts['cpu_class']}: {facts['why']}"
