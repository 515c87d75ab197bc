"""What a version must show against the one that production serves now, before production sees it."""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.client import answers
from serving.client.answers import Budget, Comparison
from serving.client.payloads import Arrays
from serving.client.protocol import DEFAULT_SIGNATURE, AnswerError
from serving.promotion.golden import Golden
from serving.promotion.settings import Accuracy, Cost, Latency, Parity
from version_directory import read_manifest

OLD, NEW = "production", "candidate"
# Whoever is measured answers as parity allows: that is a gate of its own.
_ANY_ANSWER = ("--atol", "1e30", "--disagreement", "1")
# A measurement goes on so many times as long while it is undecided.
LONGER = 3


@dataclass(frozen=True)
class Gate:
    """Whether a version passed, in words and figures. `passed` None: there was nothing to judge by."""

    name: str
    passed: bool | None
    words: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Agreement:
    """Answers of two versions, the old and the new one, to the same requests: all outputs within their tolerance, NaN
    at the same places, the same top class."""

    def __init__(self, versions: tuple[Path, Path], limits: Parity) -> None:
        self._versions, self._limits = versions, limits
        self._seen: list[Comparison] = []
        self._requests = self._same = self._classified = 0

    def add(self, signature: str, old: Arrays, new: Arrays) -> None:
        """Two answers to one request."""
        compared = answers.compare(old, new, _budget(self._versions, signature, self._limits))
        # The worst so far, and not all: a long record would not fit into memory.
        self._seen, self._requests = [answers.combine([*self._seen, compared])], self._requests + 1
        for key, array in old.items():
            if array.dtype.kind == "f" and array.ndim > 1 and array.shape[-1] > 1 and key in new and (
                    new[key].shape == array.shape):
                same = array.argmax(-1) == new[key].argmax(-1)
                self._same, self._classified = self._same + int(same.sum()), self._classified + same.size

    def gate(self, name: str) -> Gate:
        """Whether all agreed."""
        if not self._seen:
            return Gate(name, None, "there are no golden requests")
        found = self._seen[0]
        top1 = self._same / self._classified if self._classified else None
        figures = {"max_abs": max((one.max_abs for one in found.outputs.values()), default=0.0),
                   "max_rel": max((one.max_rel for one in found.outputs.values()), default=0.0),
                   "top1_agreement": top1, "requests": self._requests, "examples": found.examples}
        if found.equal and top1 is not None and top1 < self._limits.top1_agreement:
            return Gate(name, False, f"the top class is the same for {top1:.2%} of {self._classified} examples, and "
                        f"{self._limits.top1_agreement:.2%} are needed", figures)
        return Gate(name, found.equal, found.summary(), figures)


def parity(old: Sequence[Golden], new: Sequence[Golden], versions: tuple[Path, Path], limits: Parity) -> Gate:
    """Whether both versions' answers to the golden requests agree."""
    agreement = Agreement(versions, limits)
    for one, other in zip(old, new, strict=True):
        assert one.expected is not None
        assert other.expected is not None
        agreement.add(one.signature, one.expected, other.expected)
    return agreement.gate("parity")


def _budget(versions: tuple[Path, Path], signature: str, limits: Parity) -> Budget | None:
    if limits.relative or limits.absolute or limits.disagreement:
        return Budget(limits.relative, limits.absolute, limits.disagreement, name="gates.toml")
    stated = [budget for version in versions if (budget := Budget.of_manifest(
        read_manifest(version) or {}, signature or DEFAULT_SIGNATURE))]
    return None if not stated else stated[0] if len(stated) == 1 else stated[0] + stated[1]


def measured(model: str, old: Path, new: Path, limits: Latency, flags: Sequence[str] = ()) -> dict[str, Any]:
    """The result of `python -m benchmark compare` of both versions, each on servers of its own. Raises GateError."""
    with _variants(model, old, new) as models:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", "compare", OLD, NEW, "--model", model, "--models", str(models),
             "--batch", str(limits.batch), "--protocol", limits.protocol, "--processes", str(limits.processes),
             "--max-time", str(LONGER * limits.seconds), "--equal-within", f"{100 * (1 / limits.least_ratio - 1)}%",
             *_ANY_ANSWER, *(f"--server-flag={flag}" for flag in flags), "--json", "-"],
            capture_output=True, text=True, check=False)
    if done.returncode:
        raise AnswerError("", (done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def latency(result: Mapping[str, Any], limits: Latency) -> Gate:
    """Refused unless it is certain that the new version is not slower than allowed; a slow tail is refused if certain.
    """
    of = {each["metric"]: each for each in result["comparisons"]}
    typical, mean, p99 = (of[name] for name in ("typical", "mean", "p99"))
    figures = {name: {key: each[key] for key in ("ratio", "ci95", "verdict", "valid", "least_effect")}
               for name, each in (("typical", typical), ("mean", mean), ("p99", p99))}
    low, high = typical["ci95"]
    words = f"ratio {typical['ratio']:.3f} [{low or 0:.3f}-{high or float('inf'):.3f}], at least {limits.least_ratio:g}"
    if not typical["valid"]:
        return Gate("latency", False, f"it was not measured: {'; '.join(typical['reasons'])}", figures)
    for name, each in (("average", mean), ("p99", p99)):
        if each["valid"] and each["ci95"][1] is not None and each["ci95"][1] < limits.least_ratio:
            return Gate("latency", False, f"its {name} latency is worse: ratio {each['ratio']:.3f}, at most "
                        f"{each['ci95'][1]:.3f}", figures)
    return Gate("latency", low is not None and low > limits.least_ratio, words, figures)


def accuracy(result: Mapping[str, Any], limits: Accuracy) -> Gate:
    """Of the labelled samples that were sent, as many right as before."""
    found = next(iter(result.get("accuracy", {}).values()), None)
    if not found:
        return Gate("accuracy", None, "there are no labelled samples")
    shares = {name: one["right"] / one["examples"] for name, one in found.items()}
    lost = shares[OLD] - shares[NEW]
    return Gate("accuracy", lost <= limits.max_drop,
                f"{shares[NEW]:.2%} right, {shares[OLD]:.2%} in production; {limits.max_drop:.2%} may be lost", shares)


def cost(result: Mapping[str, Any], limits: Cost) -> Gate:
    """Size on disk, memory and time to load, new over old."""
    targets, versions = result["targets"], result["environment"]["models"]
    values = {"bytes": (limits.bytes, *(versions[name]["bytes"] for name in (NEW, OLD))),
              "resident_bytes": (limits.resident_bytes, *(targets[name]["resident_bytes"] for name in (NEW, OLD))),
              "load_seconds": (limits.load_seconds, *(targets[name]["load_s"] for name in (NEW, OLD)))}
    over = {name: new / old for name, (_, new, old) in values.items() if new and old}
    wrong = [f"{name} {ratio:.2f} times, at most {values[name][0]:g}" for name, ratio in over.items()
             if ratio > values[name][0]]
    said = ", ".join(f"{name} {ratio:.2f} times" for name, ratio in over.items())
    return Gate("cost", not wrong, "; ".join(wrong) or said, over)


@contextmanager
def _variants(model: str, old: Path, new: Path) -> Iterator[Path]:
    """A models folder with both versions as variants, by links."""
    with tempfile.TemporaryDirectory(prefix="promotion-") as name:
        for variant, version in ((OLD, old), (NEW, new)):
            place = Path(name, model, variant)
            place.mkdir(parents=True)
            (place / "1").symlink_to(version.resolve())
        yield Path(name)


