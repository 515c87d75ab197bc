"""Reduced precision on whole models, by class of CPU: make proof ONLY=precision.

A row has what `optimize --precision auto` tried and chose, the chosen version's ratios to the original in process and
over gRPC, the runtime's own mixed precision beside it, and its GFLOP/s as a share of the ceiling of this machine's
kernels, measured in the same run. A lower class than the machine's is forced by ONEDNN_MAX_CPU_ISA.
"""
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_session import seeded, session_run
from graph_strategies import SHAPE, seeded_graph
from int8_graphs import written
from proof import ROOT, Proof

import cpu_class
from benchmark.targets.in_process.model_work import gigaflop
from export import pipeline, saved_model
from export.freeze import freeze
from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.precision.alive import proven_alive
from export.precision.bfloat16 import to_bfloat16
from export.precision.guard import guarded
from export.precision.int8 import quantize, wanted_tensors
from export.precision.ranges import Histogram

ABOUT = ("export", "serving/client/answers.py", "serving/client/payloads.py", "benchmark/issuing/group.py",
         "benchmark/targets/in_process", "benchmark/verdicts", "cpu_class.py",
         "tests/support/session_turns.py")
# Batch 1 and a large one. All but the first have random weights: no budget is stated, since nothing is lost by them.
MODELS = [("mnist", (1, 100)), ("mobilenet_v2", (1, 32)), ("resnet50", (1, 8)), ("efficientnet_b0", (1, 8)),
          ("detector", (1, 8)), ("encoder", (1, 8))]
LOWER = ("AVX512_CORE_VNNI", "AVX512_CORE", "AVX2")
LOWERED = MODELS[:2]
_MEASURE_S = "40"  # for the candidates of a model, and for the comparison over gRPC
_RUNS = 30
_SHOWN = ("name", "precision", "bytes", "load_s", "error", "agreement", "accuracy", "alive", "ratios", "lost", "kept")


def run(*arguments: str, limit: str = "") -> str:
    """What a command prints. `limit`: the class of CPU that it is forced to."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, **({"ONEDNN_MAX_CPU_ISA": limit} if limit else {})})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def measured(name: str, batches: tuple[int, ...], limit: str, to: Path) -> dict[str, Any]:
    json.loads(run("-m", "export", "build", name, "--reuse", "--json", "-"))
    original = Path("models", name, "original")
    made = json.loads(run("-m", "export", "optimize", str(original), "--to", str(to / name / "fastest"), "--precision",
                          "auto", "--batch-of-interest", ",".join(map(str, batches)), "--max-time", _MEASURE_S,
                          "--json", "-", limit=limit))
    source = saved_model.read(ROOT / original)
    version, chosen = Path(made["path"]), next(one for one in made["candidates"] if one["name"] == made["chosen"])
    ceilings, one_core = (json.loads(run("-m", "benchmark.targets.in_process.ceilings", *threads, limit=limit))
                          for threads in ((), ("1",)))
    row: dict[str, Any] = {
        "cpu": made["cpu_class"], "load_average": round(os.getloadavg()[0], 2), "chosen": made["chosen"],
        "why": made["why"], "candidates": [{key: one[key] for key in _SHOWN} for one in made["candidates"]],
        "ceilings_gflop_per_s": ceilings, "ceilings_of_one_core": one_core, "batches": {}}
    # A class that is forced below AVX-512 cannot run the runtime's own bfloat16 at all.
    mixed = [f"mixed_precision={source.path},mixed"] if _forced(limit).runs_bf16 else []
    frozen = freeze(source)
    graph, _ = pipeline.run(frozen.graph, "default")
    for batch in batches:
        turns = json.loads(run(
            "tests/support/session_turns.py", str(batch), str(_RUNS), str(source.path / "assets.extra" / "samples.npz"),
            f"original={source.path}", *mixed, f"chosen={version}", limit=limit))
        speed = gigaflop(graph, batch) / turns["chosen"]["ms"] * 1e3
        ceiling = ceilings.get(chosen["precision"] if chosen["precision"] in ceilings else "int8")
        row["batches"][str(batch)] = {
            **turns, "gflop_per_s": round(speed, 1), "share_of_ceiling": ceiling and round(speed / ceiling, 3)}
    if not limit:
        served = json.loads(run(
            "-m", "benchmark", "compare", "original", "fastest", "--models", str(to), "--model", name, "--batch",
            ",".join(map(str, batches)), "--protocol", "grpc", "--max-time", _MEASURE_S, "--json",
            "-"))
        row["grpc"] = {str(each["batch"]): {key: each[key] for key in ("ratio", "ci95", "floor", "verdict")}
                       for each in served["comparisons"] if each["metric"] == "mean"}
    return row


@pytest.mark.proof
@pytest.mark.parametrize(("name", "batches"), MODELS, ids=[name for name, _ in MODELS])
def test_models_on_this_class(name: str, batches: tuple[int, ...], tmp_path: Path) -> None:
    row = Proof("precision", 0, ABOUT).row(f"{name} {cpu_class.current()}", lambda: measured(
        name, batches, "", _models(tmp_path, name)))
    for batch in map(str, batches):
        assert row["batches"][batch]["chosen"]["ci95"][0] > 1, row["why"]
        assert row["grpc"][batch]["verdict"] != "slower"
        assert row["batches"][batch]["chosen"]["ratio"] > row["batches"][batch]["mixed_precision"]["ratio"]


@pytest.mark.proof
@pytest.mark.parametrize("limit", LOWER)
@pytest.mark.parametrize(("name", "batches"), LOWERED, ids=[name for name, _ in LOWERED])
def test_models_on_lower_classes(name: str, batches: tuple[int, ...], limit: str, tmp_path: Path) -> None:
    lower = _forced(limit)
    if lower.forced_by is None:
        pytest.skip(f"this machine is no higher class than {limit}")
    row = Proof("precision", 0, ABOUT).row(f"{name} {lower} (forced on {cpu_class.current()})", lambda: measured(
        name, batches, limit, _models(tmp_path, name)))
    assert row["cpu"] == str(lower)
    # Nothing is published that this class cannot run, or that is slower than the original.
    for batch in map(str, batches):
        assert row["batches"][batch]["chosen"]["ci95"][1] > 0.97, row["why"]


@pytest.mark.proof
@pytest.mark.parametrize("first", range(0, 100, 10))
def test_a_hundred_generated_graphs(first: int, tmp_path: Path) -> None:
    row = Proof("precision", 0, ABOUT).row(f"graphs {first} to {first + 9} {cpu_class.current()}", lambda: _graphs(
        range(first, first + 10), tmp_path))
    assert row["alive"] == 20


def test_one_generated_graph(tmp_path: Path) -> None:
    assert _graphs([1000], tmp_path, batches=(0, 1, 2))["alive"] == 2


def _graphs(seeds: Iterable[int], folder: Path, batches: Iterable[int] = range(258)) -> dict[str, Any]:
    """Each graph in bfloat16 and in int8: the largest error, and how many versions lived through all batch sizes."""
    found: dict[str, Any] = {"alive": 0, "layers": 0, "bfloat16 error": 0.0, "int8 error": 0.0}
    for seed in seeds:
        plain = Graph.from_graph_def(seeded_graph(seed), ["x"], ["y"])
        plain, _ = pipeline.run(plain, "default")
        images = seeded((64, *SHAPE), seed)
        tensors = wanted_tensors(plain)
        values = session_run(as_graph_def(whole(plain)), [*tensors, "y"], {"x": images})
        ranges = {}
        for tensor in tensors:
            histogram = Histogram(tensor)
            histogram.add(values[tensor])
            ranges[tensor] = histogram.range("minmax")
        for name, (graph, layers), allowed in (("bfloat16", to_bfloat16(plain, least_work=0), 0.06),
                                               ("int8", quantize(plain, ranges), 0.25)):
            graph = guarded(graph)
            found["layers"] += sum(layer.precision == name for layer in layers)
            there = session_run(as_graph_def(whole(graph)), ["y"], {"x": images})["y"]
            error = float(np.abs(there - values["y"]).max() / np.abs(values["y"]).max())
            assert error <= allowed, (seed, name, error)
            found[f"{name} error"] = max(found[f"{name} error"], round(error, 4))
            version = written(graph, folder / f"{seed}-{name}" / "1")
            proven_alive(version, ["serve"], "serving_default", lambda batch: {"x": seeded((batch, *SHAPE), batch)},
                         batches)
            found["alive"] += 1
    return found


def _forced(limit: str) -> cpu_class.CpuClass:
    return cpu_class.of(cpu_class.flags(), "x86_64", {"ONEDNN_MAX_CPU_ISA": limit} if limit else {})


def _models(folder: Path, name: str) -> Path:
    """A folder with the model's original, for versions that are made beside it."""
    (folder / name).mkdir()
    run("-m", "export", "build", name, "--reuse")
    (folder / name / "original").symlink_to(ROOT / "models" / name / "original")
    return folder
