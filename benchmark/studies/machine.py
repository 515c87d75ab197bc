"""What a model's speed is a share of: the most that this machine's kernels reach, and how much a model computes."""
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmark.studies.environments import finish
from benchmark.targets.child import python_module
from commandline import step
from serving.client.protocol import DEFAULT_SIGNATURE


def ceilings(threads: int = 0, env: Mapping[str, str] | None = None) -> dict[str, float]:  # decision 228
    """{"float32": GFLOP/s, ...} of each precision that this CPU has instructions for, in about 10 s.

    threads: of one operation; 0: as many as there are CPUs. env: variables, such as ONEDNN_MAX_CPU_ISA.
    """
    with step("Measure this machine's ceilings"):
        return _said("ceilings", *([str(threads)] if threads else ()), env=env)


def work(version: Path, signature: str = DEFAULT_SIGNATURE) -> float:
    """The 1e9 multiplications and additions that a version's contractions compute for one example.

    The body of a loop counts once. Raises FailedError where a size depends on more than the batch.
    """
    return _said("model_work", str(version), "--signature", signature)["gflop"]


def _said(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, float]:
    """The JSON that a child process prints."""
    with tempfile.TemporaryFile() as out:
        finish(module.replace("_", " "), python_module(f"benchmark.targets.in_process.{module}", *arguments),
               dict(env or {}), stdout=out)
        out.seek(0)
        said: dict[str, float] = json.loads(out.read())
    return said
