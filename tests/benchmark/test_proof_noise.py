"""What the noise of a block is made of, and recordings of it: make proof ONLY=noise (half an hour, on a machine that
does nothing else).

Each share is of the variance of the logarithm of a block's typical latency, of one process after another, where the
system puts them. What can be switched off is measured with and without in the same minutes; of what cannot, it is how
much of the variance goes along with it.
"""
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import busy_work
import numpy as np
import pytest
import recorded_noise
from noise_shares import explained, felt_by_all, logarithms, of_processes, of_requests, part, share, spread, within
from proof import ROOT, Proof
from recorded_noise import Condition, keep, record, waves
from tiny_saved_model import write_tiny_saved_model

import cores
import cpu_class
from benchmark.targets.target import find_target

CODE = ("tests/support/recorded_noise.py", "tests/support/noise_shares.py", "tests/support/busy_work.py",
        "benchmark/verdicts/block.py", "benchmark/targets/turns.py")
RECORDED = Path(__file__).parent / "recorded_noise"
PROCESSES, SECONDS = 4, 500.0
NO_GARBAGE = "import gc\ngc.disable()\n"


def _build() -> None:
    subprocess.run([sys.executable, "-m", "export", "build", "mnist", "--reuse"], cwd=ROOT, check=True)


def _conditions() -> dict[str, Condition]:
    return {"usual": Condition("usual"), "one core": Condition("usual", core=cores.usable()[-1]),
            "no lead": Condition("usual", lead_s=0.0), "paused": Condition("usual", pause_s=0.005),
            "garbage kept": Condition("garbage kept", collects=False), "one thread": Condition("one thread")}


def _recording(models: Path, model: str, batch: int, folder: Path, processes: int, seconds: float) -> dict[str, Any]:
    """Of models/MODEL/original on the embedded server, over gRPC."""
    (folder / "sitecustomize.py").write_text(NO_GARBAGE)
    usual = replace(find_target("original", models, model), name="usual")
    targets = [usual, replace(usual, name="garbage kept", env=(("PYTHONPATH", str(folder)),)),
               replace(usual, name="one thread", flags=("--tensorflow_intra_op_parallelism=1",
                                                        "--tensorflow_inter_op_parallelism=1"))]
    return record(targets, _conditions(), "grpc", batch, processes, seconds)


def _variance(recording: dict[str, Any], name: str) -> float:
    return spread(within(logarithms(recording, name))) ** 2


def _whole(recording: dict[str, Any]) -> float:
    return _variance(recording, "usual") + of_processes(logarithms(recording, "usual"))


def _without(name: str) -> Callable[[dict[str, Any]], float]:
    """What a block's variance loses in this condition."""
    return lambda recording: 1 - (_variance(recording, name) + of_processes(logarithms(recording, name))) / _whole(
        recording)


def _figure(recording: dict[str, Any], key: str) -> Any:
    return recording[key][:, list(recording["names"]).index("usual")]


def _along(key: str) -> Callable[[dict[str, Any]], float]:
    """What goes along with another figure of the blocks."""
    return lambda recording: explained(logarithms(recording, "usual"), _figure(recording, key)) * _variance(
        recording, "usual") / _whole(recording)


def _client(recording: dict[str, Any]) -> float:
    """The part of the client's CPU time, which is not the server's."""
    values = logarithms(recording, "usual")
    a_request = _figure(recording, "client") / recording["requests"] / np.exp(np.median(values))
    return part(values, a_request) * _variance(recording, "usual") / _whole(recording)


# Lost without it, goes along with it, or (of a pause, and of cold caches) what it would add.
SOURCES: dict[str, Callable[[dict[str, Any]], float]] = {
    "which core the scheduler chooses": _without("one core"),
    "TensorFlow's pools of threads": _without("one thread"),
    "garbage collection in client and server": _without("garbage kept"),
    "the client's own work": _client,
    "requests differ by themselves": lambda recording: of_requests(recording, "usual") / _whole(recording),
    "speed of the core just before (a fixed loop)": _along("host"),
    "time stolen by other virtual machines": _along("stolen"),
    "felt by all processes within a sweep": lambda recording: felt_by_all(logarithms(recording, "usual")) * _variance(
        recording, "usual") / _whole(recording),
    "which of the equal processes": lambda recording: of_processes(logarithms(recording, "usual")) / _whole(recording),
    "cold caches, if blocks had no lead": lambda recording: -_without("no lead")(recording),
    "waking up, if each request came 5 ms after the last": lambda recording: -_without("paused")(recording)}


def shares(recording: dict[str, Any]) -> dict[str, Any]:
    """The figures of a row: the spread of a block, and {source: [share, low, high]}."""
    return {"sweeps": int(recording["seconds"].shape[0]), "requests": int(recording["requests"]),
            "typical_ms": round(float(np.exp(np.median(logarithms(recording, "usual")))) * 1e3, 3),
            "spread": round(_whole(recording) ** 0.5, 5), "stolen_s": round(float(recording["stolen"].sum()), 2),
            "shares": {name: [round(value, 3) for value in share(recording, of)] for name, of in SOURCES.items()}}


@pytest.mark.proof
@pytest.mark.parametrize("load", [False, True], ids=["quiet", "waves"])
def test_noise_of_a_server_by_source(load: bool, tmp_path: Path) -> None:
    _build()

    def measured() -> dict[str, Any]:
        if not load:
            return shares(_recording(ROOT / "models", "mnist", 10, tmp_path, PROCESSES, SECONDS))
        with waves(0):
            return shares(_recording(ROOT / "models", "mnist", 10, tmp_path, PROCESSES, SECONDS))
    row = Proof("noise", 0, CODE).row(f"mnist gRPC batch 10{' beside waves of load' * load}", measured)
    assert row["spread"] > 0


@pytest.mark.proof
@pytest.mark.parametrize("case", ["busy work on one core beside waves", "busy work beside waves", "mnist over gRPC"])
def test_noise_is_recorded(case: str, tmp_path: Path) -> None:
    """Sixteen processes, of which the simulation draws those of both variants."""
    _build()
    busy_work.write(tmp_path / "busy/original/1")
    served = case.startswith("mnist")
    target = find_target("original", ROOT / "models", "mnist") if served else replace(
        find_target("session:original", tmp_path, "busy"), threads=1)
    condition = Condition(target.name, core=cores.usable()[-1] if "one core" in case else None)

    def recorded() -> dict[str, Any]:
        def run() -> dict[str, Any]:
            return record([target], {"usual": condition}, "grpc", 10 if served else 32, 16, 300.0)
        if "waves" in case:
            with waves(0):
                found = run()
        else:
            found = run()
        name = f"{cpu_class.current()}-{case}".replace(" ", "_")
        keep(RECORDED / f"{name}.npz", found)
        values = logarithms(found, "usual")
        return {"file": f"{name}.npz", "sweeps": int(values.shape[0]), "spread": round(spread(within(values)), 5),
                "processes": round(of_processes(values) ** 0.5, 5)}
    row = Proof("noise", 0, CODE).row(f"recorded: {case}", recorded)
    assert (RECORDED / row["file"]).exists()


@pytest.mark.slow
def test_noise_of_a_small_model_has_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_noise, "BLOCK_S", 0.005)
    write_tiny_saved_model(tmp_path / "tiny/original/1")
    found = _recording(tmp_path, "tiny", 2, tmp_path, 2, 2.0)
    row = shares(found)
    assert set(row["shares"]) == set(SOURCES)
    assert all(low <= high for _, low, high in row["shares"].values())
    keep(tmp_path / "kept.npz", found)
    assert (tmp_path / "kept.npz").stat().st_size > 0
