"""`optimize --precision auto`: what it publishes, with real candidates and made-up figures; and one run with real ones,
which is killed half-way and run again."""
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import small_classifier
from made_up_times import MadeUpTimes, replaced
from waiting import until

import cpu_class
import export
from export import saved_model
from export.graph import Graph, make_const
from export.outcome import NotEqualError
from export.precision import auto, candidates
from export.precision.choice import FLOAT32, ORIGINAL, Ratio, choose
from export.precision.towers import Ends, two_towers
from other_engines import OtherEngine
from user_error import FailedError, UserError
from version_directory import TFLITE, versions

ROOT = Path(__file__).resolve().parents[3]
INT8_OP = "_FusedQuantizedConv2D"
# Two runs of the same candidates: one that all of them are good enough for, and one that only float32 is.
LOOSE: dict[str, Any] = {"max_accuracy_drop": 10}
TIGHT: dict[str, Any] = {"max_accuracy_drop": 100, "max_error": 1e-7, "atol": 0.125}
HIDDEN = ".fastest.candidates-1"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = small_classifier.write(tmp_path / "models/original/1")
    small_classifier.labelled(tmp_path / "x.npz", path)
    return path


class Run:
    """A run of `auto` up to its measurement, which was interrupted there: what it made is measured anew by `go_on`."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.options = folder, {"precision": "auto", "batch_of_interest": (1, 8), **options}
        self.model = small_classifier.write(folder / "models/original/1")
        self.options["samples"] = small_classifier.labelled(folder / "x.npz", self.model)
        with replaced(MadeUpTimes(KeyboardInterrupt())), pytest.raises(KeyboardInterrupt):
            export.optimize(self.model, to=folder / "models/fastest", **self.options)
        (folder / "models" / HIDDEN).rename(folder / "made")

    def go_on(self, to: Path, times: MadeUpTimes, anew: Sequence[str] = ()) -> export.Optimized:
        """anew: candidates that are made again."""
        to.mkdir()
        made = shutil.copytree(self.folder / "made", to / HIDDEN, symlinks=True)
        for name in anew:
            (made / f"{name}.json").unlink()
        with replaced(times):
            found = export.optimize(self.model, to=to / "fastest", **self.options)
        assert os.listdir(to) == ["fastest"]
        assert list(versions(to / "fastest")) == [1]
        return found


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("loose"), **LOOSE)


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("tight"), **TIGHT)


def tried(made: export.Optimized) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in made.manifest["candidates"]}


def lost(made: export.Optimized) -> dict[str, str]:
    return {name: one["lost"] for name, one in tried(made).items()}


def has_int8(made: export.Optimized) -> bool:
    return INT8_OP in {node.op for node in saved_model.read(made.path, ["serve"]).meta_graph.graph_def.node}


def test_the_fastest_is_published_and_all_others_say_why_they_lost(loose: Run, tmp_path: Path) -> None:
    times = MadeUpTimes({"int8": 3.0}, others=1.25)
    made = loose.go_on(tmp_path / "to", times)
    facts = made.manifest
    assert (facts["chosen"], facts["precision"], has_int8(made)) == ("int8", "int8", True)
    assert facts["why"] == "int8 is the fastest: 3.00 [2.94-3.06] at batch 1, 3.00 [2.94-3.06] at batch 8"
    assert [layer["precision"] for layer in facts["layers"]] == ["int8"] * 3
    assert facts["budget"]["max_accuracy_drop"] == 10
    (baseline, names, batches), = times.asked  # the towers were made for the likely best, and measured with the others
    assert (baseline, batches) == (ORIGINAL, (1, 8))
    assert {FLOAT32, "int8", "int8-towers"} <= set(names)
    reasons = lost(made)
    assert reasons.pop("int8") == ""
    assert {name: reasons.pop(name) for name in names if name != "int8"} == dict.fromkeys(
        (name for name in names if name != "int8"),
        "slower than int8: in the geometric mean of its ratios 1.25, not 3.00")
    assert reasons.pop("int8-rows") == "no int8 convolution is of one pixel"
    assert reasons.keys() <= {"bfloat16", "mixed"}  # by the class of CPU
    assert all(reasons.values())
    assert {name: set(one["ratios"]) for name, one in tried(made).items() if one["ratios"]} == {
        name: {"1", "8"} for name in names}
    assert made.made is not None
    assert made.made.lines[1] == f"Chosen on {facts['cpu_class']}: {facts['why']}"


@pytest.mark.usefixtures("converted_here")
def test_other_engines_are_candidates_only_if_asked_for_and_only_where_they_are_installed(
        model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "KINDS", ())  # those that other tests make
    missing = "the package openvino is not installed; install it with: pip install -e '.[openvino]'"
    monkeypatch.setattr(OtherEngine, "why_missing", lambda engine, int8=False: missing * (engine.name == "openvino"))
    times = MadeUpTimes({"litert-int8@litert": 5.0}, others=1.25)
    with replaced(times):
        made = export.optimize(model, to=tmp_path / "fastest", precision="auto", engines="all",
                               samples=tmp_path / "x.npz", batch_of_interest=(1, 8), **LOOSE)
    facts = made.manifest
    assert (facts["chosen"], facts["precision"], has_int8(made)) == ("litert-int8", "float32", False)
    assert facts["engines"]["litert"]["precision"] == "int8"
    assert facts["engines"]["litert"]["budget"]["max_accuracy_drop"] == 10
    assert (made.path / TFLITE).stat().st_size == tried(made)["litert-int8"]["bytes"]
    (_, names, _), = times.asked
    assert {"litert-float32@litert", "litert-int8@litert"} <= set(names)
    assert lost(made)["openvino-int8"] == missing
    assert made.made is not None
    assert any("run it with --prefer_tflite_model" in line for line in made.made.lines)
    assert tried(made)["litert-float32"]["written"]["checks_left_out"] == {}
    assert not any("leaves out" in line for line in made.made.lines)
    assert export.verify(model, made.path, samples=tmp_path / "x.npz", engine="litert").equal


def test_float32_is_published_if_nothing_is_faster(loose: Run, tmp_path: Path) -> None:
    times = MadeUpTimes({"int8": 1.01}, others=0.99)
    made = loose.go_on(tmp_path / "to", times)
    assert (made.manifest["chosen"], made.manifest["precision"], made.manifest["layers"]) == (FLOAT32, FLOAT32, [])
    assert made.manifest["why"] == (
        "no candidate is faster than the original at every batch size: float32 is not slower")
    assert [step["transform"] for step in made.manifest["steps_for_tensorflow"]] == [
        "fork_lstm", "fork_by_rows"]
    assert not has_int8(made)
    assert lost(made)["int8"] == (
        "not proven faster than the original: 1.01 [0.99-1.03] at batch 1, noise floor ±1.0%")
    # Another than the likely best was chosen, so its towers were measured beside it.
    assert [asked[1] for asked in times.asked[1:]] == [(FLOAT32, f"{FLOAT32}-towers")]
    assert lost(made)[f"{FLOAT32}-towers"].startswith("not proven faster than the original: 0.99 ")
    assert lost(made)[FLOAT32] == ""


def test_the_original_is_published_unchanged_if_float32_is_slower(loose: Run, tmp_path: Path) -> None:
    made = loose.go_on(tmp_path / "to", MadeUpTimes({FLOAT32: 0.9}, others=0.5))
    assert (made.manifest["chosen"], made.manifest["precision"], made.manifest["layers"]) == (ORIGINAL, FLOAT32, [])
    assert made.manifest["why"].endswith("the original is published unchanged")
    assert (made.path / "saved_model.pb").read_bytes() == (loose.model / "saved_model.pb").read_bytes()
    assert all(lost(made).values())
    assert lost(made)[FLOAT32] == "not proven faster than the original: 0.90 [0.88-0.92] at batch 1, noise floor ±1.0%"
    assert "budget" not in made.manifest


def test_float32_in_two_towers_is_published_if_it_is_the_fastest_and_equal(loose: Run, tmp_path: Path) -> None:
    times = MadeUpTimes({FLOAT32: 2.0, f"{FLOAT32}-towers": 2.5}, others=0.5)
    made = loose.go_on(tmp_path / "to", times)
    assert [asked[:2] for asked in times.asked[1:]] == [(ORIGINAL, (FLOAT32, f"{FLOAT32}-towers"))]
    assert (made.manifest["chosen"], made.manifest["precision"]) == (f"{FLOAT32}-towers", FLOAT32)
    assert lost(made)[FLOAT32] == "slower than float32-towers: in the geometric mean of its ratios 2.00, not 2.50"
    assert made.manifest["equality"]["serving_default"]["outputs"]["scores"]["row"].startswith("probabilities")


def test_float32_in_two_towers_loses_if_it_is_not_equal(
        loose: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the budget would allow that difference to a candidate in lower precision."""
    def inexact(graph: Graph, ends: Sequence[Ends]) -> Graph:
        return two_towers(_changed(graph), ends)
    monkeypatch.setattr(candidates, "two_towers", inexact)
    times = MadeUpTimes({FLOAT32: 2.0}, others=0.5)
    made = loose.go_on(tmp_path / "to", times)
    towers = tried(made)[f"{FLOAT32}-towers"]
    assert towers["lost"].startswith("signature 'serving_default': output 'scores' is out of its row (probabilities")
    assert (towers["ratios"], towers["alive"], towers["agreement"]) == ({}, "", 1.0)
    assert towers["bytes"] > 0
    assert 1e-4 < towers["error"] < tried(made)["int8"]["error"]
    assert len(times.asked) == 1
    assert (made.manifest["chosen"], lost(made)[FLOAT32]) == (FLOAT32, "")


def _changed(graph: Graph) -> Graph:
    """The graph with its largest constant a little larger."""
    item = max((one for one in graph.nodes.values() if one.op == "Const"), key=lambda one: one.value.size)
    return graph.with_nodes([*(one for one in graph.nodes.values() if one.name != item.name),
                             make_const(item.name, item.value * item.value.dtype.type(1.001))])


def test_a_float32_graph_that_is_not_equal_ends_the_run(
        model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "guarded", _changed)
    with replaced(MadeUpTimes()), pytest.raises(NotEqualError) as refused:
        export.optimize(model, to=tmp_path / "models/fastest", precision="auto", samples=tmp_path / "x.npz")
    assert str(refused.value).startswith(
        "nothing published, the result is not equal: signature 'serving_default': output 'scores' is out of its row")
    assert refused.value.report["reasons"]
    assert os.listdir(tmp_path / "models") == ["original"]


def test_what_is_outside_of_the_budget_is_not_timed_and_its_error_is_stated(tight: Run, tmp_path: Path) -> None:
    times = MadeUpTimes(others=1.0)
    made = tight.go_on(tmp_path / "to", times)
    assert [asked[1] for asked in times.asked] == [(FLOAT32, f"{FLOAT32}-towers")]
    assert made.manifest["chosen"] == FLOAT32
    int8 = tried(made)["int8"]
    assert int8["lost"] == (
        f"'scores' is off by {int8['error']:.2g} of max|a|, over 1e-07; with layers back in a higher precision, too")
    assert int8["error"] > 1e-3
    assert int8["load_s"] > 0
    assert 0 < int8["bytes"] < tried(made)[FLOAT32]["bytes"] / 2
    assert len(int8["search"]) > 1
    assert (int8["ratios"], int8["alive"], int8["budget"]) == ({}, "", None)
    assert all(lost(made)[name] for name in ("bfloat16", "mixed"))
    row = next(line for line in str(made.made and made.made.lines[0]).splitlines() if line.startswith("│ int8 "))
    assert f" {int8['bytes'] / 1e6:.2f} " in row
    assert f" {int8['error']:.2g} " in row
    # The bounds that --atol states are for float32.
    assert made.manifest["equality"]["serving_default"]["outputs"]["scores"]["row"] == (
        "stated budget, |a-b| <= 0.125")


def test_a_comparison_that_fails_publishes_nothing(loose: Run, tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="benchmark compare: no memory is left"):
        loose.go_on(tmp_path / "to", MadeUpTimes(FailedError("benchmark compare: no memory is left")))
    assert os.listdir(tmp_path / "to") == []


def test_seeds_for_random_numbers_are_refused(model: Path, tmp_path: Path) -> None:
    with replaced(MadeUpTimes()), pytest.raises(UserError) as refused:
        export.optimize(model, to=tmp_path / "models/fastest", precision="auto", allow_random=["serving_default"])
    assert str(refused.value) == ("--allow-random has no effect with --precision auto: leave that signature out with "
                                  "--signatures")
    assert os.listdir(tmp_path / "models") == ["original"]


def _stopped(model: Path, tmp_path: Path, at: str, number: signal.Signals) -> tuple[int, str]:
    """Starts the command, and ends it with a signal once a candidate is finished; its status and what it said."""
    run = subprocess.Popen(
        # A shell that runs the tests in the background has them ignore Ctrl-C, and so would this process.
        ["env", "--default-signal=INT", sys.executable, "-m", "export", "optimize", str(model),
         "--to", str(tmp_path / "models/fastest"), "--precision", "auto", "--samples", str(tmp_path / "x.npz"),
         "--max-accuracy-drop", "10", "--batch-of-interest", "8", "--max-time", "0.5"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
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
