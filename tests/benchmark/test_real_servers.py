"""The commands on the embedded server and on TensorFlow in process, with a tiny model."""
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import engine_versions
import psutil
import pytest
import saved_models
from tiny_saved_model import write_tiny_saved_model
from waiting import until

import cores
from benchmark import compare
from benchmark.issuing import group

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    engine_versions.litert(folder / "tiny/original/1")
    engine_versions.litert(folder / "tiny/twin/3")
    write_tiny_saved_model(folder / "tiny/other/1", scale=2)
    (folder / "tiny/broken/1").mkdir(parents=True)
    (folder / "tiny/broken/1/saved_model.pb").write_bytes(b"\xff not a SavedModel")
    return folder


def _benchmark(models: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "benchmark", *arguments, "--model", "tiny", "--models", str(models)],
                          capture_output=True, text=True, timeout=400)
    assert "Traceback" not in done.stderr, done.stderr
    left = [process for process in psutil.process_iter(["cmdline"]) if str(models) in str(process.info["cmdline"])]
    assert left == []
    return done


def _json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_compare_starts_variants_and_measures_them(models: Path) -> None:
    result = _json(_benchmark(models, "compare", "original", "twin", "--batch", "3", "--repeat", "12", "--processes",
                              "1", "--json", "-"))
    assert {(c["protocol"], c["baseline"], c["candidate"]) for c in result["comparisons"]} == {
        ("rest", "original", "twin"), ("grpc", "original", "twin")}
    code = "import psutil; print(psutil.Process().memory_info().rss)"
    bare = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    for name, version in (("original", "1"), ("twin", "3")):
        facts = result["targets"][name]
        assert facts["load_s"] > 0
        assert facts["first_request_s"] > 0
        assert facts["resident_bytes"] > 3 * bare  # of the process with TensorFlow, not of a script that started it
        assert facts["ops"] == {"Placeholder": 1, "Const": 1, "MatMul": 1}
        assert result["environment"]["models"][name]["version"] == version
    assert "random inputs" in result["inputs"]


@pytest.mark.skipif(len(cores.usable()) < 2, reason="a duet needs two cores")
@pytest.mark.parametrize(("backend", "design", "words"), [
    ("session:", "duet", "duet: each on core"), ("", "duet", "duet: each on core"), ("session:", "auto", ""),
    ("session:", "interleaved", "interleaved: all on core"),
    ("session:", "unpinned", "interleaved: where the system puts")])
def test_compare_measures_by_the_design_that_is_asked_for(backend: str, design: str, words: str, models: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    # Requests of so small a model take more than a core now and then, as threads are woken for each.
    monkeypatch.setattr(group, "ONE_CORE", float("inf"))
    result = compare(f"{backend}original", f"{backend}twin", model="tiny", models=models, batch=3, repeat=12,
                     processes=1, design=design, protocol=None if backend else "grpc").result
    how, = result["design"].values()
    assert how.startswith(words)
    assert {block["round"] for block in result["blocks"]} == set(range(6))
    assert {c["metric"] for c in result["comparisons"]} == {"typical", "mean", "p50", "p90", "p99", "throughput"}


@pytest.mark.skipif(len(cores.usable()) < 2, reason="a duet needs two cores")
@pytest.mark.parametrize(("variant", "design"), [
    ("session:twin", "duet"), ("session:twin", "interleaved"), ("twin", "duet")])
def test_a_variant_that_dies_in_the_middle_ends_the_run_in_one_line_and_its_rounds_are_kept(
        variant: str, design: str, models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmark", "compare", variant, variant, "--model", "tiny", "--models",
               str(models), "--processes", "1", "--batch", "3", *([] if ":" in variant else ["--protocol", "grpc"]),
               "--design", design, "--repeat", "1000000", "--json", str(tmp_path / "r.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        journal = tmp_path / ".r.json.rounds"
        until(lambda: process.poll() is not None or (
            journal.exists() and journal.read_text().count("\n") > 2), 120)
        assert process.poll() is None, process.stderr and process.stderr.read()
        victim = next(child for child in psutil.Process(process.pid).children(recursive=True)
                      if str(models) in " ".join(child.cmdline()) and "python" in child.name())
        victim.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith("error: ")
    assert "finished blocks are kept: python -m benchmark report" in errors
    assert not (tmp_path / "r.json").exists()


@pytest.mark.skipif(len(cores.usable()) < 2, reason="with one core nothing is pinned")
@pytest.mark.parametrize("design", ["auto", "duet", "interleaved"])
def test_where_pinning_is_forbidden_variants_take_turns_unpinned_and_the_result_says_why(
        design: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "pin", lambda pid, chosen: False)
    monkeypatch.setattr(group, "ONE_CORE", float("inf"))
    found = compare("session:original", "session:twin", model="tiny", models=models, batch=3, repeat=12, processes=1,
                    design=design)
    how, = found.result["design"].values()
    left = "; --design duet cannot be" if design == "duet" else ""
    assert how == f"interleaved: pinning processes is forbidden here{left}"
    assert len(found.result["blocks"]) == 24


def test_compare_makes_inputs_from_the_graph_where_metadata_is_not_enough(models: Path) -> None:
    saved_models.text_vectorization(models / "tiny/text/1")
    done = _benchmark(models, "compare", "session:text", "session:text", "--batch", "2", "--repeat", "8",
                      "--processes", "1", "--json", "-")
    assert _json(done)["inputs"] == "inputs made by python -m export samples, seed 0"
    told = [line for line in done.stderr.splitlines() if "make them with" in line]
    assert len(told) == 1
    assert told[0].startswith("✓ session:text takes strings as 'text', and its metadata does not say which: make them")


def test_compare_refuses_a_variant_with_different_answers(models: Path) -> None:
    done = _benchmark(models, "compare", "session:original", "session:other", "--repeat", "4", "--processes", "1")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "session:other gives other answers than session:original" in last
    assert "output 'y'" in last


def test_compare_names_the_inputs_of_variants_that_take_different_ones(models: Path) -> None:
    saved_models.text_vectorization(models / "tiny/words/1")
    done = _benchmark(models, "compare", "session:original", "session:words", "--repeat", "4", "--processes", "1")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: session:words takes 'text' string")
    assert "and session:original takes 'x' float32" in last


def test_a_model_that_does_not_load_is_a_one_line_error(models: Path) -> None:
    done = _benchmark(models, "compare", "original", "broken")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "broken/1/saved_model.pb cannot be parsed" in done.stderr


def test_the_article_prints_its_three_lines(models: Path) -> None:
    done = _benchmark(models, "run", "article", "--signature", "serving_default", "--grappler", "off")
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.startswith("Total elapsed time: ")
    assert second == "Batch size 100, repeated 100 times"
    total, mean = float(first.split()[3]), float(third.split()[4])
    assert mean == pytest.approx(total * 1e3 / 100, abs=0.01)


def test_a_model_server_on_path_is_started_through_the_script(models: Path, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """A script named tensorflow_model_server runs the embedded server: this tests how the command is started."""
    script = tmp_path / "tensorflow_model_server"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m serving serve "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    result = _json(_benchmark(models, "split", "binary:original", "--batch", "1", "--repeat", "5", "--json", "-"))
    assert result["target"] == "binary:original"
    assert [each["protocol"] for each in result["splits"]] == ["rest", "grpc"]
    for each in result["splits"]:
        parts = each["milliseconds"]
        assert list(parts) == ["serialise", "wire", "parse", "queue", "run", "render", "decode"]
        assert all(value > 0 for value in parts.values())
        assert each["by"] == "server-timing"


@pytest.mark.parametrize(("command", "options"), [
    ("run", ["closed", "--clients", "4", "--repeat", "1"]),
    # Ten and twenty seconds; sweeps and searches of a server are in test_load_commands.py.
    pytest.param("sweep", ["--clients", "1,4"], marks=pytest.mark.proof),
    pytest.param("search", ["--slo", "p50=1000ms", "--start", "500", "--tolerance", "1", "--seconds", "1"],
                 marks=pytest.mark.proof)])
def test_several_clients_share_a_model_in_process(command: str, options: list[str], models: Path) -> None:
    """Each worker has its own channel. Every answer is checked, so one that reaches the wrong worker is noticed."""
    name, options = (options[0], options[1:]) if command == "run" else (None, options)
    times = {"run": ["--warmup-seconds", "0.1", "--seconds", "0.5"], "sweep": ["--seconds", "0.5"], "search": []}
    done = _benchmark(models, command, *([name] if name else []), "session:original", *options, *times[command],
                      "--grappler", "off", "--json", "-")
    assert done.stderr.count("error:") == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["scenario"]["protocol"] == "in-process"
    runs = result.get("runs") or [run for curve in result.get("curves", []) for run in curve["runs"]]
    assert all(run["requests"] > 0 and not run["wrong"] and not run["errors"] for run in runs)
    if command == "search":
        assert result["searches"][0]["met"] > 20


def test_a_sweep_alternates_between_its_targets(models: Path) -> None:
    targets = ["session:original@litert", "session:twin@litert"]  # their processes start without TensorFlow
    result = _json(_benchmark(models, "sweep", *targets, "--clients", "1,2", "--seconds", "0.4", "--json", "-"))
    assert [curve["target"] for curve in result["curves"]] == targets
    for curve in result["curves"]:
        assert [run["scenario"]["arrivals"]["clients"] for run in curve["runs"]] == [1, 2]
        # Two periods of 0.2 s, added up.
        assert all(run["wall_s"] > 0.35 for run in curve["runs"])
