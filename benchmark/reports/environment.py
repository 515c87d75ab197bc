"""The machine and software that a result was measured with: without them, results cannot be compared."""
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Required, TypedDict

import psutil

import cpu_class
from cores import cpu_quota
from version_directory import EXTRA, model_bytes

PACKAGES = ("tensorflow", "ai-edge-litert", "openvino", "numpy", "grpcio", "protobuf", "urllib3", "hdrhistogram")
VARIABLES = (*cpu_class.LIMITS, "OMP_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS",
             "TF_NUM_INTEROP_THREADS", "CUDA_VISIBLE_DEVICES", "MALLOC_ARENA_MAX", "LD_PRELOAD")


class Version(TypedDict):
    """A model version that was measured."""

    digest: str
    bytes: int
    version: str


class Environment(TypedDict, total=False):
    """The conditions of a measurement. Older results may lack some of them."""

    time: Required[str]
    command: str
    seed: int | None
    revision: str | None
    cpu: Required[str]
    cpus: int | None
    cpu_quota: Required[float]
    cpu_flags: list[str]
    cpu_class: str  # str(CpuClass); in older results the name alone
    cpu_class_forced_by: str | None
    governor: str | None
    memory_bytes: int
    load_average: float
    kernel: str
    python: str
    packages: dict[str, str]
    variables: dict[str, str]
    models: dict[str, Version]
    steal_s: float


def environment(models: Mapping[str, tuple[Path, Sequence[Path] | None]] | None = None, seed: int | None = None
                ) -> Environment:
    """Machine, versions, command and the digests of the model versions measured.

    Args:
        models: by name the version directory, and the files in it that another engine than TensorFlow runs.
    """
    kind, flags = cpu_class.current(), cpu_class.flags()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *_as_typed()]),
        "seed": seed,
        "revision": git_revision(),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "cpu_quota": cpu_quota(),
        "cpu_flags": [flag for flag in cpu_class.FLAGS if flag in flags],
        "cpu_class": str(kind),
        "cpu_class_forced_by": kind.forced_by,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "models": {name: {"digest": digest(path, files), "version": path.name, "bytes": model_bytes(
            path) if files is None else sum(file.stat().st_size for file in files)}
                   for name, (path, files) in (models or {}).items()},
    }


def steal_s() -> float:
    """CPU seconds that other virtual machines on the host have taken from this one since it started (steal time)."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def cpu_model() -> str:
    """The CPU's name, with its family and model where the system tells them: a cloud calls several CPUs "AMD EPYC"."""
    name = cpu_class.cpuinfo("model name") or platform.processor() or platform.machine()
    numbers = [f"{key.removeprefix('cpu ')} {value}" for key in ("cpu family", "model")
               if (value := cpu_class.cpuinfo(key))]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def class_of(conditions: Environment) -> str | None:
    """The class of CPU that a result was measured on; None for an older result that does not record it.

    An older result has the class's name without "with bf16"; its flags tell the rest.
    """
    recorded, flags = conditions.get("cpu_class"), conditions.get("cpu_flags")
    if not flags:
        return recorded
    found = cpu_class.of(flags, platform.machine(), conditions.get("variables", {}))
    return str(found) if recorded in (None, found.name) else recorded


def described_class(conditions: Environment) -> str:
    """The class of CPU in words: "avx2, forced by ONEDNN_MAX_CPU_ISA=AVX2"; "" where it is not known."""
    forced = conditions.get("cpu_class_forced_by")
    return (class_of(conditions) or "") + (f", forced by {forced}" if forced else "")


def git_revision() -> str | None:
    """The commit of this checkout, with "+changes" if files differ from it; None outside a git checkout."""
    here = Path(__file__).parent
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10,
                              check=True).stdout.strip()
    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def digest(directory: Path, files: Sequence[Path] | None = None) -> str:
    """The first 16 hex digits of the SHA-256 over names and contents of all files of a model version, or of `files`.

    assets.extra is left out: it describes the version, and TensorFlow does not use it.
    """
    total = hashlib.sha256()
    for path in files if files is not None else sorted(
            path for path in directory.rglob("*")
            if path.is_file() and EXTRA not in path.relative_to(directory).parts):
        total.update(f"{path.relative_to(directory)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                total.update(part)
    return total.hexdigest()[:16]


def _as_typed() -> list[str]:
    # For `python -m benchmark`, sys.argv[0] is the path of benchmark/__main__.py.
    main = Path(sys.argv[0])
    return ["-m", main.parent.name, *sys.argv[1:]] if main.name == "__main__.py" else sys.argv


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
