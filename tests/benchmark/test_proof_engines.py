"""Engines on whole models, by class of CPU: make proof ONLY=engines.

A row is a model as one engine runs it in one precision, beside the original in TensorFlow. Four targets are measured in
turns in one run: original and engine in process, and both over gRPC on the embedded server. So each batch size has the
original's time over the engine's, in process and over gRPC, and the engine's time over gRPC over that in process.
"""
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_versions
import pytest
from proof import ROOT, Proof

import cpu_class
from benchmark.overhead import Goal, findings
from benchmark.reports.compare import compared
from benchmark.targets.engines import files
from benchmark.verdicts.block import Block
from version_directory import newest, read_manifest

ABOUT = ("export/engines", "serving/engines", "serving/grpc_service.py", "serving/heap.py", "serving/memory.py",
         "serving/predictor.py", "serving/tensor_proto.py", "serving/client/answers.py", "serving/client/grpc.py",
         "benchmark/issuing/group.py", "benchmark/targets/connections.py", "benchmark/targets/engines.py",
         "benchmark/targets/in_process", "benchmark/verdicts", "cpu_class.py")
MODELS = {"mnist": (1, 100), "mobilenet_v2": (1, 32), "resnet50": (1, 8), "efficientnet_b0": (1, 8),
          "detector": (1, 8)}
FORMS = [("litert", "float32"), ("litert", "int8"), ("openvino", "float32"), ("openvino", "bfloat16"),
         ("openvino", "int8")]
# A request served over gRPC is to take at most this many times what the engine takes alone.
GOAL = 1.1
_MEASURE_S = "40"
_KEPT = ("ratio", "ci95", "floor", "verdict", "valid", "reasons")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def made(name: str, engine: str, precision: str, models: Path) -> str:
    """Makes models/NAME/made with the engine's file. Returns why that is refused; "" if it is not."""
    built = run("export", "build", name, "--reuse")
    assert built.returncode == 0, built.stderr[-2000:]
    (models / name).mkdir()
    (models / name / "original").symlink_to(ROOT / "models" / name / "original")
    done = run("export", "optimize", str(models / name / "original"), "--to", str(models / name / "made"), "--engine",
               engine, "--precision", precision, "--unmeasured", "--batch", "1,3",
               "--signatures", "serving_default")  # LiteRT has no suppression, with which the detector's other one ends
    assert done.returncode in (0, 1), done.stderr[-2000:]
    return done.stderr.strip().splitlines()[-1].removeprefix("error: ") if done.returncode else ""


def measured(models: Path, name: str, engine: str, batches: tuple[int, ...], *options: str,
             original: str = "original") -> dict[str, Any]:
    """The figures of models/NAME/made as the engine runs it, beside those of `original`."""
    busy = round(os.getloadavg()[0], 2)
    alone, served = f"session:made@{engine}", f"made@{engine}"
    done = run("benchmark", "compare", f"session:{original}", alone, original, served, "--models", str(models),
               "--model", name, "--batch", ",".join(map(str, batches)), "--protocol", "grpc", "--design", "unpinned",
               *options, "--json", "-")
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert not result["first_wrong"], result["first_wrong"]
    blocks = [Block.from_json(block) for block in result["blocks"]]

    def pair(baseline: str, candidate: str) -> Any:
        return compared([baseline, candidate], [one for one in blocks if one.target in (baseline, candidate)])

    def speedup(baseline: str, candidate: str) -> dict[str, Any]:
        found = pair(baseline, candidate)
        means = {(each["target"], each["batch"]): round(each["mean_ms"], 6) for each in found["summaries"]}
        return {str(each["batch"]): {**{key: each[key] for key in _KEPT},
                                     "original_ms": means[baseline, each["batch"]],
                                     "engine_ms": means[candidate, each["batch"]]}
                for each in found["comparisons"] if each["metric"] == "mean"}

    version = newest(models / name / "made")
    assert version is not None
    entry = (read_manifest(version) or {}).get("engines", {}).get(engine, {})
    return {
        "cpu": str(cpu_class.current()), "load_average": busy, "steal_s": result["environment"]["steal_s"],
        "packages": result["environment"]["packages"], "inputs": result["inputs"],
        "answers": {title: words for title, words in result["answers"].items() if title.endswith(f" {served}")},
        "right": {title: {target: f"{own['right']} of {own['examples']}" for target, own in targets.items()
                          if target in (original, served)} for title, targets in result["accuracy"].items()},
        "precision": entry.get("precision"), "left": entry.get("left", {}),
        "bytes": result["environment"]["models"][alone]["bytes"],
        "resident_bytes": {target: result["targets"][target]["resident_bytes"] for target in (original, served)},
        "in_process": speedup(f"session:{original}", alone), "grpc": speedup(original, served),
        "served_over_alone": {str(each["batch"]): {key: each[key] for key in ("times", "ci95", "valid", "verdict")}
                              for each in findings("server", {**pair(alone, served), "metric": "mean"},
                                                   {("grpc", batch): Goal(most=GOAL) for batch in batches})}}


def row(name: str, engine: str, precision: str, models: Path) -> dict[str, Any]:
    refused = made(name, engine, precision, models)
    if refused:
        return {"cpu": str(cpu_class.current()), "refused": refused}
    return measured(models, name, engine, MODELS[name], "--max-time", _MEASURE_S)


def whole(found: dict[str, Any], batches: tuple[int, ...]) -> None:
    """Every batch size has its figures, and each is that of the same requests."""
    for batch in map(str, batches):
        for part in ("in_process", "grpc"):
            each = found[part][batch]
            assert each["ci95"][0] <= each["ratio"] <= each["ci95"][1]
            assert each["ratio"] == pytest.approx(each["original_ms"] / each["engine_ms"], rel=0.05)
        server = found["served_over_alone"][batch]
        assert server["times"] == pytest.approx(
            found["grpc"][batch]["engine_ms"] / found["in_process"][batch]["engine_ms"], rel=0.05)
        assert server["verdict"] in ("met", "missed", "cannot tell")


@pytest.mark.proof
@pytest.mark.parametrize(("engine", "precision"), FORMS, ids=["-".join(form) for form in FORMS])
@pytest.mark.parametrize("name", MODELS)
def test_models_by_engines(name: str, engine: str, precision: str, tmp_path: Path) -> None:
    found = Proof("engines", 0, ABOUT).row(f"{name} {engine} {precision} {cpu_class.current()}", lambda: row(
        name, engine, precision, tmp_path))
    if "refused" in found:
        # Every engine has float32; a CPU may be without bfloat16, and a model may lose too much in int8.
        assert precision != "float32", found["refused"]
        pytest.skip(found["refused"])
    assert found["precision"] == precision
    whole(found, MODELS[name])


@pytest.mark.parametrize(("engine", "write"), [
    ("litert", engine_versions.litert), ("openvino", engine_versions.openvino)])
def test_one_small_model_by_an_engine(engine: str, write: Callable[..., Path], tmp_path: Path) -> None:
    write(tmp_path / "tiny/original/1")
    version = write(tmp_path / "tiny/made/1", 1.01, {
        "precision": "int8", "left": {"other": "it has strings"},
        "budget": {"signatures": {"serving_default": {"y": 30}}}})
    # Beside the same engine, whose processes start without TensorFlow.
    found = measured(tmp_path, "tiny", engine, (1, 3), "--repeat", "8", "--processes", "1",
                     original=f"original@{engine}")
    whole(found, (1, 3))
    assert found["precision"] == "int8"
    assert found["left"] == {"other": "it has strings"}
    assert found["bytes"] == sum(path.stat().st_size for path in files(engine, version) or [])
    assert found["answers"][f"gRPC 3 made@{engine}"].startswith("equal")
    assert "int8 by its manifest" in found["answers"][f"gRPC 3 made@{engine}"]
